"""``tapeline recursive-analysis``: does anything said of a bar depend on where the data begins?

Exit code 0: everything has settled at the declared warm-up. 1: something has not. 2: the call is wrong. 4: the data or
the configuration is.
"""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_OK
from tapeline_common.settings import ConfigurationInvalid
from tapeline_lab.bias.call import called, of_a_strategy, progress_of
from tapeline_lab.bias.recursive import STARTUPS, TOLERANCE, RecursiveAnalysis, recursive_analysis
from tapeline_lab.bias.subjects import PipelineUnknown, Subject, find_pipeline, strategy_subject
from tapeline_lab.bias.tables import BadOutput, Frame, table_of
from tapeline_marketdata.columns import BadFile
from tapeline_marketdata.files import BarFile, read_bars
from tapeline_marketdata.timeframe import UnknownTimeframe
from tapeline_strategy.catalogue import StrategyUnknown, find
from tapeline_strategy.commands import strategy_path
from tapeline_strategy.sdk import ParameterInvalid, validate

BARS = 5_000
"""Bars of the long run unless said otherwise."""


@click.command("recursive-analysis")
@strategy_path
@of_a_strategy
@click.option(
    "--pipeline", metavar="PLACE", help="Instead of a strategy: FILE.py:NAME or module:NAME, a function of bars."
)
@click.option(
    "--frame", type=click.Choice([each.value for each in Frame]), default="polars", show_default=True,
    help="What the pipeline takes.",
)  # fmt: skip
@click.option(
    "--startup-candle", "startups", type=click.IntRange(min=1), multiple=True, default=STARTUPS, show_default=True,
    help="Bars before the moment at which a run begins; repeatable.",
)  # fmt: skip
@click.option(
    "--warm-up", type=click.IntRange(min=0), help="Bars it is said to need; a strategy says so itself unless given."
)
@click.option("--bars", type=click.IntRange(min=3), default=BARS, show_default=True, help="Only the last so many bars.")
@click.option("--tolerance", type=click.FloatRange(min=0.0), default=TOLERANCE, show_default=True)
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object, for programs.")
def recursive_command(to_json: bool, **call: Any) -> None:
    """Look for indicators that have not settled: start later, and compare every column at the same bar."""
    try:
        found = _pipeline(call) if call["pipeline"] else _strategy(call)
    except (StrategyUnknown, ParameterInvalid, PipelineUnknown) as trouble:
        raise click.UsageError(str(trouble)) from trouble
    except (BadFile, UnknownTimeframe, ConfigurationInvalid, BadOutput, ValueError) as trouble:
        click.echo(str(trouble), err=True)
        sys.exit(EXIT_CONFIGURATION)
    is_clean = all(one.is_clean for one in found)
    if to_json:
        click.echo(msgspec.json.encode({"is_clean": is_clean, "analyses": found}))
    else:
        from tapeline_lab.bias.printing import print_recursive

        print_recursive(found)
    sys.exit(EXIT_OK if is_clean else EXIT_ERROR)


def _pipeline(call: dict[str, Any]) -> list[RecursiveAnalysis]:
    if call["strategy"] or call["config"]:
        raise click.UsageError("--pipeline takes the place of --strategy and --config: leave them away")
    if not call["data"]:
        raise click.UsageError("name at least one file of bars with --data")
    subject = find_pipeline(call["pipeline"], Frame(call["frame"]))
    files = [read_bars(path, timeframe=call["timeframe"]) for path in call["data"]]
    return [_examined(subject, file, call["warm_up"], call) for file in files]


def _strategy(call: dict[str, Any]) -> list[RecursiveAnalysis]:
    run = called(call)
    found = []
    for one in run.settings.strategy:
        strategy = find(one.kind)
        parameters = validate(strategy, one.parameters)
        declared = strategy.warm_up(parameters) if call["warm_up"] is None else call["warm_up"]
        for name in one.instruments:
            found.append(_examined(strategy_subject(strategy, parameters), run.files[name], declared, call))
    return found


def _examined(subject: Subject, file: BarFile, declared: int | None, call: dict[str, Any]) -> RecursiveAnalysis:
    return recursive_analysis(
        subject,
        table_of(file, call["bars"]),
        declared=declared,
        startups=call["startups"],
        tolerance=call["tolerance"],
        seed=call["seed"],
        progress=progress_of(subject.name),
    )
