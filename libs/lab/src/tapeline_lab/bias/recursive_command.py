"""``tapeline recursive-analysis``: does anything said of a bar depend on where the data begins?

Exit code 0: everything has settled at the declared warm-up. 1: something has not. 2: the call is wrong. 4: the data or
the configuration is.
"""

from __future__ import annotations

from typing import Any

import click

from tapeline_lab.bias.call import asked, called, conclude, of_a_subject, pipeline_of
from tapeline_lab.bias.recursive import STARTUPS, TOLERANCE, RecursiveAnalysis, recursive_analysis
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.tables import Table, table_of
from tapeline_lab.progress import time_left
from tapeline_strategy.sdk import settles_after

BARS = 5_000
"""Bars of the long run unless said otherwise; twice the warm-up where that is more."""


@click.command("recursive-analysis")
@of_a_subject
@click.option(
    "--startup-candle", "startups", type=click.IntRange(min=1), multiple=True, default=STARTUPS, show_default=True,
    help="Bars before the moment at which a run begins; repeatable.",
)  # fmt: skip
@click.option(
    "--warm-up", type=click.IntRange(min=0), help="Bars it is said to need; a strategy says so itself unless given."
)
@click.option(
    "--bars", type=click.IntRange(min=3),
    help=f"Only the last so many bars; {BARS:,} unless given, or twice the warm-up where that is more.",
)  # fmt: skip
@click.option("--tolerance", type=click.FloatRange(min=0.0), default=TOLERANCE, show_default=True)
def recursive_command(to_json: bool, **call: Any) -> None:
    """Look for indicators that have not settled: start later, and compare every column at the same bar."""
    from tapeline_lab.bias.printing import print_recursive

    conclude(lambda: _pipeline(call) if call["pipeline"] else _strategy(call), print_recursive, to_json=to_json)


def _pipeline(call: dict[str, Any]) -> list[RecursiveAnalysis]:
    subject, files = pipeline_of(call)
    bars = _bars(call, call["warm_up"])
    return [_examined(subject, table_of(file, bars), call["warm_up"], call) for file in files.values()]


def _strategy(call: dict[str, Any]) -> list[RecursiveAnalysis]:
    found = []
    for each in asked(called(call)):
        declared = settles_after(each.strategy, each.parameters) if call["warm_up"] is None else call["warm_up"]
        found.append(_examined(each.subject, each.table(_bars(call, declared)), declared, call))
    return found


def _bars(call: dict[str, Any], declared: int | None) -> int:
    bars: int = call["bars"] or max(BARS, 2 * (declared or 0))
    return bars


def _examined(subject: Subject, table: Table, declared: int | None, call: dict[str, Any]) -> RecursiveAnalysis:
    return recursive_analysis(
        subject,
        table,
        declared=declared,
        startups=call["startups"],
        tolerance=call["tolerance"],
        seed=call["seed"],
        progress=time_left(title=f"{subject.name}:"),
    )
