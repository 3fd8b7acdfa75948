"""``tapeline lookahead-analysis``: does anything said of a bar change with the bars after it?

Exit code 0: nothing was found. 1: bias was found, or too little could be run. 2: the call is wrong. 4: the data or the
configuration is.
"""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_OK
from tapeline_common.settings import ConfigurationInvalid
from tapeline_lab.bias.call import Called, called, of_a_strategy, progress_of
from tapeline_lab.bias.findings import Analysis
from tapeline_lab.bias.lookahead import CUTS, EVENT_CUTS, lookahead_analysis
from tapeline_lab.bias.subjects import PipelineUnknown, Subject, find_pipeline, strategy_subject
from tapeline_lab.bias.suite import examine
from tapeline_lab.bias.tables import BadOutput, Frame, Table, panel_of, table_of, with_features
from tapeline_marketdata.columns import BadFile
from tapeline_marketdata.files import read_bars
from tapeline_marketdata.timeframe import UnknownTimeframe
from tapeline_strategy.catalogue import StrategyUnknown, find
from tapeline_strategy.commands import strategy_path
from tapeline_strategy.sdk import ParameterInvalid, validate

BARS = 5_000
"""Bars that are looked at unless said otherwise: a leak shows in any of them."""

TAPE_BARS = 1_000
"""The same for whole tapes, which cost a hundred times as much a bar."""


@click.command("lookahead-analysis")
@strategy_path
@of_a_strategy
@click.option(
    "--pipeline", metavar="PLACE", help="Instead of a strategy: FILE.py:NAME or module:NAME, a function of bars."
)
@click.option(
    "--frame", type=click.Choice([each.value for each in Frame]), default="polars", show_default=True,
    help="What the pipeline takes.",
)  # fmt: skip
@click.option("--at-open", multiple=True, metavar="COLUMN", help="An output known at its bar's open; repeatable.")
@click.option("--cuts", type=click.IntRange(min=1), default=CUTS, show_default=True, help="Cuts drawn by the seed.")
@click.option(
    "--trade-cuts", type=click.IntRange(min=0), default=EVENT_CUTS, show_default=True,
    help="Cuts at bars where a signal or a trade is.",
)  # fmt: skip
@click.option("--bars", type=click.IntRange(min=3), default=BARS, show_default=True, help="Only the last so many bars.")
@click.option("--tape/--no-tape", default=True, show_default=True, help="Whole tapes too, on the last 1,000 bars.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0.0), default=0.0, show_default=True,
    help="Relative difference let pass; 0 compares bits.",
)  # fmt: skip
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object, for programs.")
def lookahead_command(to_json: bool, **call: Any) -> None:
    """Look for look-ahead: run on all bars and with another future, and compare every column to the last bit."""
    try:
        found = _pipeline(call) if call["pipeline"] else _strategy(call)
    except (StrategyUnknown, ParameterInvalid, PipelineUnknown) as trouble:
        raise click.UsageError(str(trouble)) from trouble
    except (BadFile, UnknownTimeframe, ConfigurationInvalid, BadOutput) as trouble:
        click.echo(str(trouble), err=True)
        sys.exit(EXIT_CONFIGURATION)
    is_clean = all(one.is_clean for one in found)
    if to_json:
        click.echo(msgspec.json.encode({"is_clean": is_clean, "analyses": found}))
    else:
        from tapeline_lab.bias.printing import print_lookahead

        print_lookahead(found)
    sys.exit(EXIT_OK if is_clean else EXIT_ERROR)


def _pipeline(call: dict[str, Any]) -> list[Analysis]:
    if call["strategy"] or call["config"]:
        raise click.UsageError("--pipeline takes the place of --strategy and --config: leave them away")
    if not call["data"]:
        raise click.UsageError("name at least one file of bars with --data")
    tables = {
        name: with_features(table_of(read_bars(path, timeframe=call["timeframe"]), call["bars"]), path)
        for name, path in zip(call["names"] or call["data"], call["data"], strict=False)
    }
    table = next(iter(tables.values())) if len(tables) == 1 else panel_of(tables)
    subject = find_pipeline(call["pipeline"], Frame(call["frame"]), call["at_open"])
    return [examine(subject, table, **_how(subject, call))]


def _strategy(call: dict[str, Any]) -> list[Analysis]:
    run = called(call)
    found = []
    for one in run.settings.strategy:
        strategy = find(one.kind)
        for name in one.instruments:
            subject = strategy_subject(strategy, validate(strategy, one.parameters))
            found.append(_examined(subject, table_of(run.files[name], call["bars"]), call))
    if call["tape"]:
        found.append(_tape(run, call))
    return found


def _tape(run: Called, call: dict[str, Any]) -> Analysis:
    from tapeline_lab.bias.leaks import fills_on_tape
    from tapeline_lab.bias.tapes import facts_of, tape_subject

    table = run.table(min(call["bars"], TAPE_BARS))
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
        "progress": progress_of(subject.name),
    }
