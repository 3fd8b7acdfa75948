"""``tapeline lookahead-analysis``: does anything said of a bar change with the bars after it?

Exit code 0: nothing was found. 1: bias was found, or too little could be run. 2: the call is wrong. 4: the data or the
configuration is.
"""

from __future__ import annotations

from typing import Any

import click
import msgspec

from tapeline_common.settings import Settings
from tapeline_lab.bias.call import Called, asked, called, conclude, of_a_subject, pipeline_of
from tapeline_lab.bias.findings import Analysis
from tapeline_lab.bias.lookahead import CUTS, EVENT_CUTS, lookahead_analysis
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.suite import examine
from tapeline_lab.bias.tables import Table, panel_of, table_of, with_features
from tapeline_lab.progress import time_left

BARS = 5_000
"""Bars that are looked at unless said otherwise: a leak shows in any of them."""

TAPE_BARS = 1_000
"""The same for whole tapes, which cost a hundred times as much a bar."""


@click.command("lookahead-analysis")
@of_a_subject
@click.option("--at-open", multiple=True, metavar="COLUMN", help="An output known at its bar's open; repeatable.")
@click.option("--cuts", type=click.IntRange(min=1), default=CUTS, show_default=True, help="Cuts drawn by the seed.")
@click.option(
    "--trade-cuts", type=click.IntRange(min=0), default=EVENT_CUTS, show_default=True,
    help="Cuts at bars where a signal or a trade is.",
)  # fmt: skip
@click.option("--bars", type=click.IntRange(min=3), default=BARS, show_default=True, help="Only the last so many bars.")
@click.option(
    "--tape/--no-tape",
    default=True,
    show_default=True,
    help="Whole tapes too, on the last 1,000 bars, or as many as two regime models take.",
)
@click.option(
    "--tolerance", type=click.FloatRange(min=0.0), default=0.0, show_default=True,
    help="Relative difference let pass; 0 compares bits.",
)  # fmt: skip
def lookahead_command(to_json: bool, **call: Any) -> None:
    """Look for look-ahead: run on all bars and with another future, and compare every column to the last bit."""
    from tapeline_lab.bias.printing import print_lookahead

    conclude(lambda: _pipeline(call) if call["pipeline"] else _strategy(call), print_lookahead, to_json=to_json)


def _pipeline(call: dict[str, Any]) -> list[Analysis]:
    subject, files = pipeline_of(call)
    tables = {name: with_features(table_of(file, call["bars"]), file.facts.path) for name, file in files.items()}
    table = next(iter(tables.values())) if len(tables) == 1 else panel_of(tables)
    return [examine(subject, table, **_how(subject, call))]


def _strategy(call: dict[str, Any]) -> list[Analysis]:
    run = called(call)
    found = [_examined(each.subject, each.table(call["bars"]), call) for each in asked(run)]
    if call["tape"]:
        found.append(_tape(run, call))
    return found


def tape_bars(settings: Settings) -> int:
    """Bars of a whole tape: with regimes so many that a second model is trained on it."""
    regime = settings.regime
    return max(TAPE_BARS, regime.train_bars + 2 * regime.refit_bars) if regime.enabled else TAPE_BARS


def _tape(run: Called, call: dict[str, Any]) -> Analysis:
    from tapeline_lab.bias.leaks import fills_on_tape
    from tapeline_lab.bias.tapes import facts_of, tape_subject

    table = run.table(min(call["bars"], tape_bars(run.settings)))
    subject = tape_subject(run.settings)
    analysis = _examined(subject, table, call)
    facts = [recorded.fact for recorded in facts_of(run.settings, table)]
    return msgspec.structs.replace(
        analysis, findings=(*analysis.findings, *fills_on_tape(facts, subject.name)), runs=analysis.runs + 1
    )


def _examined(subject: Subject, table: Table, call: dict[str, Any]) -> Analysis:
    return lookahead_analysis(subject, table, **_how(subject, call))


def _how(subject: Subject, call: dict[str, Any]) -> dict[str, Any]:
    return {
        "cuts": call["cuts"],
        "event_cuts": call["trade_cuts"],
        "seed": call["seed"],
        "tolerance": call["tolerance"],
        "progress": time_left(title=f"{subject.name}:"),
    }
