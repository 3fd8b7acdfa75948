"""``tapeline sweep``: one strategy with many parameters, on many files and periods, in the kernel gear.

Bad input ends with one message and exit code 2 (the call is wrong) or 4 (the data or configuration is, or the kernel
gear cannot run it). An interrupted sweep prints what is done and ends with 130, as a shell has it for Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from tapeline_backtest.command import (
    ONE,
    ZERO,
    Amount,
    deciding_on,
    end,
    settings_of_call,
    settings_of_config,
    source_of,
)
from tapeline_backtest.sweep import GridInvalid, Progress, Rank, Row, Stretch, Swept, grid_of, ranked, sweep, values_of
from tapeline_common.events import Parameters
from tapeline_common.exits import EXIT_CONFIGURATION
from tapeline_common.opening import opening_facts
from tapeline_common.settings import ConfigurationInvalid, Settings
from tapeline_common.values import Realm
from tapeline_common.wiring import checked
from tapeline_marketdata.columns import BadFile
from tapeline_marketdata.files import read_bars
from tapeline_marketdata.timeframe import UnknownTimeframe
from tapeline_strategy.catalogue import StrategyUnknown, find
from tapeline_strategy.sdk import ParameterInvalid, Strategy

EXIT_INTERRUPTED = 130

NS_PER_S = 1_000_000_000


class Sweep(msgspec.Struct, frozen=True):
    """What ``--json`` prints. ``results`` are ranked; they are the same however many workers there were."""

    strategy: str
    rank_by: str
    runs: int
    done: int
    skipped: int
    is_interrupted: bool
    results: list[Row]
    workers: int
    elapsed_s: float
    bars_per_s: float


@dataclass(frozen=True, slots=True)
class Period:
    """From the first bar that opens at ``from_ns`` or later to the last that opens before ``to_ns``."""

    from_ns: int
    to_ns: int


class PeriodType(click.ParamType):  # type: ignore[type-arg]
    """``FROM..TO`` in UTC: dates or ISO times, FROM included, TO not; one of them may be left out."""

    name = "from..to"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Period:
        low, separator, high = str(value).partition("..")
        try:
            if not separator or not (low or high):
                raise ValueError
            period = Period(_ns(low) if low else 0, _ns(high) if high else 2**63 - 1)
        except ValueError:
            self.fail(f"{value!r} is no period such as 2019-01-01..2019-02-01", param, ctx)
        if period.from_ns >= period.to_ns:
            self.fail(f"{value!r} ends before it begins", param, ctx)
        return period


def _ns(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * NS_PER_S + moment.microsecond * 1000


@click.command("sweep")
@click.option("-s", "--strategy", help="Strategy kind, such as ema_cross; `tapeline list-strategies` names them all.")
@click.option(
    "-p",
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUES",
    help="Values of a parameter: fast=5..14, slow=20..65:5 or fast=5,8,13; repeatable.",
)
@click.option("--data", "data", multiple=True, help="Parquet or CSV file of bars; each file is an account of its own.")
@click.option("--instrument", "names", multiple=True, help="Name such as BTC/USD for each --data, in order.")
@click.option("--period", "periods", type=PeriodType(), multiple=True, help="Only these bars, in UTC; repeatable.")
@click.option("-i", "--timeframe", help="Length of the files' bars, where it cannot be told from them.")
@click.option("--size", type=Amount(above=ZERO), default=ONE, show_default=True, help="Quantity at full exposure.")
@click.option("--cash", type=Amount(least=ZERO), default=Decimal(1_000_000), show_default=True)
@click.option("--fee", type=Amount(least=ZERO), default=ZERO, show_default=True, help="Maker and taker fee, fraction.")
@click.option("--slippage-bps", type=Amount(least=ZERO), default=ZERO, show_default=True, help="On taker fills.")
@click.option("--participation", type=Amount(above=ZERO), help="Most of a bar's volume our fills may take.")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="A tapeline.toml: the same file as live.")
@click.option("--rank-by", type=click.Choice([each.value for each in Rank]), default="net_profit", show_default=True)
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Rows of the table.")
@click.option("--workers", type=click.IntRange(min=1), help="Threads; one for each core unless given.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object with every result, for programs.")
def sweep_command(to_json: bool, rank_by: str, top: int, workers: int | None, **call: Any) -> None:
    """Run a strategy with many parameters, each run as `tapeline backtest --gear kernel` would, and rank them."""
    # Only here: numba costs as much to import as everything else together.
    from tapeline_backtest.batch import prepare
    from tapeline_backtest.kernel import KernelRefused

    try:
        settings, files = _call(call)
        strategy = find(settings.strategy[0].kind)
        grid, skipped = grid_of(strategy, _values(settings, strategy, call["params"]))
        stretches = _stretches(settings, files, call)
        prepare(strategy)
    except (GridInvalid, ParameterInvalid, StrategyUnknown) as trouble:
        raise click.UsageError(str(trouble)) from trouble
    except (BadFile, UnknownTimeframe, ConfigurationInvalid, KernelRefused) as trouble:
        end(str(trouble), EXIT_CONFIGURATION)
    if not grid:
        raise click.UsageError(f"none of the {skipped:,} combinations of parameters go together")
    workers = workers or os.cpu_count() or 1
    started = time.perf_counter()
    try:
        swept = sweep(stretches, grid, workers, _progress())
    except KernelRefused as trouble:
        end(str(trouble), EXIT_CONFIGURATION)
    result = _result(settings, swept, skipped, Rank(rank_by), workers, time.perf_counter() - started)
    if to_json:
        click.echo(msgspec.json.encode(result))
    else:
        from tapeline_backtest.tables import print_sweep

        print_sweep(result, top)
    if swept.is_interrupted:
        sys.exit(EXIT_INTERRUPTED)


def _call(call: dict[str, Any]) -> tuple[Settings, dict[str, str]]:
    """Settings with the strategy's own parameters; those to sweep come on top."""
    if call["config"] is None:
        settings, files = settings_of_call({**call, "params": ()})
    else:
        settings, files = settings_of_config(call["config"], call)
    if len(settings.strategy) != 1:
        raise ConfigurationInvalid(f"a sweep runs one [[strategy]], not {len(settings.strategy)}")
    return settings, files


def _values(settings: Settings, strategy: Strategy, params: Sequence[str]) -> dict[str, list[str]]:
    """Values to try by parameter; what is not swept keeps the configuration's value."""
    own: Parameters = settings.strategy[0].parameters
    given = {name: [str(value)] for name, value in own.items()}
    for text in params:
        name, separator, values = text.partition("=")
        if not separator or not name or not values:
            raise click.UsageError(f"--param {text!r}: write NAME=VALUES, such as fast=5..14 or slow=20,30,50")
        given[name] = values_of(values)
    order = [parameter.name for parameter in strategy.parameters]
    return dict(sorted(given.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def _stretches(settings: Settings, files: dict[str, str], call: dict[str, Any]) -> list[Stretch]:
    """Every instrument in every period, in the order of the call. Bars are read once for all of an instrument's."""
    from tapeline_backtest.kernel import market_of, plan_of

    found = []
    for table in settings.instrument:
        alone = msgspec.structs.replace(
            settings,
            instrument=(table,),
            strategy=(msgspec.structs.replace(settings.strategy[0], instruments=(table.name,), parameters={}),),
        )
        source = source_of(table, files[table.name], partial(read_bars, timeframe=call["timeframe"]))
        alone = deciding_on(alone, source.file, call["config"])
        opening = opening_facts(checked(alone), realm=Realm.REPLAY, code_version="")
        plan = plan_of([each.event for each in opening])
        market = market_of(source, plan)
        for period in call["periods"] or (Period(0, 2**63 - 1),):
            start, stop = np.searchsorted(market.open_ns, (period.from_ns, period.to_ns)).tolist()
            if start == stop:
                raise ConfigurationInvalid(f"{files[table.name]}: no bar opens in that --period")
            found.append(Stretch(table.name, table.calendar, plan, market.part(start, stop)))
    return found


def _progress() -> Progress | None:
    """A line that is overwritten on a terminal; nothing where a program or a file takes standard error."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, runs: int) -> None:
        click.echo(f"\r{done:>12,} of {runs:,} runs", nl=done == runs, err=True)

    return show


def _result(settings: Settings, swept: Swept, skipped: int, rank: Rank, workers: int, elapsed_s: float) -> Sweep:
    bars = sum(row.bars for row in swept.rows)
    return Sweep(
        strategy=settings.strategy[0].kind,
        rank_by=rank.value,
        runs=swept.runs,
        done=len(swept.rows),
        skipped=skipped,
        is_interrupted=swept.is_interrupted,
        results=ranked(swept.rows, rank),
        workers=workers,
        elapsed_s=round(elapsed_s, 6),
        bars_per_s=round(bars / elapsed_s, 1),
    )
