"""``tapeline scenarios``: a strategy or a whole configuration through markets that break things.

Exit code 0: every rule held in every scenario; 1: one did not; 2: the call is wrong; 4: the configuration or data is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from tapeline_backtest.command import REFUSALS, ZERO, Amount
from tapeline_common.commands_shared import as_json, fail, write_json
from tapeline_common.events import Parameters
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR
from tapeline_common.settings import (
    FeedTable,
    InstrumentTable,
    RegimeTable,
    RiskTable,
    RunTable,
    Settings,
    StrategyTable,
    VenueTable,
    load,
)
from tapeline_common.wiring import checked
from tapeline_lab.bias.tables import Table, table_of
from tapeline_lab.data.printing import Lines, progress
from tapeline_lab.scenarios.markets import MARKETS, Market, find_market, recorded_part
from tapeline_lab.scenarios.running import OnHalt
from tapeline_lab.scenarios.suite import Outcome, judged, stand_ins
from tapeline_marketdata.files import read_bars
from tapeline_marketdata.timeframe import format_timeframe, parse_timeframe
from tapeline_strategy.catalogue import StrategyClash, StrategyUnknown, find
from tapeline_strategy.commands import strategy_path
from tapeline_strategy.configuration import on_their_bars

NAMES = ("BASE/USD", "SECOND/USD")
"""Instruments of a strategy without a configuration; the second one for kinds that trade two as one."""

FEE, SLIPPAGE_BPS = Decimal("0.0005"), Decimal(1)
CENT = Decimal("0.01")


class Suite(msgspec.Struct, frozen=True):
    """What ``--json`` prints."""

    strategies: list[str]
    timeframe: str
    seed: int
    outcomes: list[Outcome]
    broken: int


@click.command("scenarios")
@click.option("-s", "--strategy", help="Strategy kind, such as ema_cross; all of the money is its full exposure.")
@strategy_path
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A strategy parameter; repeatable.")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="A tapeline.toml: the same file as live.")
@click.option("--only", multiple=True, type=click.Choice([market.name for market in MARKETS]), help="Only these.")
@click.option("--data", type=click.Path(path_type=Path), help="Recorded bars: real days instead of stand-ins.")
@click.option("-i", "--timeframe", default="1h", show_default=True, help="Of the stand-ins' bars, for --strategy.")
@click.option("--price", type=Amount(above=ZERO), default=Decimal(20_000), show_default=True, help="Of the first bar.")
@click.option("--cash", type=Amount(above=ZERO), default=Decimal(1_000_000), show_default=True, help="For --strategy.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the stand-ins.")
@click.option(
    "--on-halt",
    type=click.Choice([each.value for each in OnHalt]),
    default="flatten",
    show_default=True,
    help="What the operator does when a breaker has halted trading.",
)
@as_json
def scenarios(to_json: bool, **call: Any) -> None:
    """Run a strategy through crashes, gaps and dead markets, and judge what must hold in each. Never profit."""
    markets = [find_market(name) for name in call["only"]] or list(MARKETS)
    try:
        settings = _settings(call)
        runs = list(_runs(settings, markets, call))
    except (*REFUSALS, StrategyUnknown, StrategyClash) as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    shown, outcomes = progress(len(runs), "scenarios", quiet=to_json), []
    for done, (market, tables, is_recorded) in enumerate(runs, start=1):
        outcomes.append(judged(settings, market, tables, OnHalt(call["on_halt"]), is_recorded=is_recorded))
        shown(done)
    names = [table.name for table in settings.strategy]
    count = sum(len(outcome.broken) for outcome in outcomes)
    suite = Suite(names, settings.feed.timeframe, call["seed"], outcomes, count)
    if to_json:
        write_json(suite)
    else:
        _print(suite)
    if suite.broken:
        sys.exit(EXIT_ERROR)


def _settings(call: dict[str, Any]) -> Settings:
    if (call["strategy"] is None) == (call["config"] is None):
        raise click.UsageError("name a strategy with --strategy, or a configuration with --config")
    settings = _of_strategy(call) if call["config"] is None else load(call["config"])
    settings = replace(settings, feed=replace(settings.feed, kind="files"))
    return on_their_bars(checked(settings))


def _of_strategy(call: dict[str, Any]) -> Settings:
    """One strategy with all of the money, and costs as they are usual; limits are put in by the suite."""
    parse_timeframe(call["timeframe"])
    given: Parameters = dict(_parameter(text) for text in call["params"])
    names = NAMES if find(call["strategy"]).both is not None else NAMES[:1]
    size = (call["cash"] / call["price"] / len(names)).quantize(CENT) or CENT
    return Settings(
        run=RunTable(name="scenarios", seed=0, currency="USD", cash=call["cash"]),
        feed=FeedTable(kind="files", timeframe=call["timeframe"]),
        venue=VenueTable(FEE, FEE, SLIPPAGE_BPS, None),
        risk=RiskTable(),
        regime=RegimeTable(enabled=False),
        instrument=tuple(InstrumentTable(name) for name in names),
        strategy=(StrategyTable(call["strategy"], call["strategy"], names, size, given),),
    )


def _parameter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.UsageError(f"--param {text!r}: write NAME=VALUE, such as fast=10")
    return name, value


def _runs(
    settings: Settings, markets: list[Market], call: dict[str, Any]
) -> Iterator[tuple[Market, list[Table], bool]]:
    """Each market with its bars, and whether they are recorded ones."""
    if call["data"] is None:
        for market in markets:
            yield market, stand_ins(settings, market, call["seed"], float(call["price"])), False
        return
    if len(settings.instrument) > 1:
        raise click.UsageError("--data is for one instrument, the configuration has several: leave --data away")
    file = read_bars(call["data"])
    found = format_timeframe(file.facts.timeframe_ns) if file.facts.timeframe_ns else file.facts.timeframe
    if found != settings.feed.timeframe:
        raise click.UsageError(f"{call['data']} has bars of {found}, the strategy decides on {settings.feed.timeframe}")
    whole = table_of(file)
    parts = [(market, recorded_part(market, whole)) for market in markets]
    covered = [(market, [part], True) for market, part in parts if part is not None]
    if not covered:
        dated = ", ".join(f"{market.name} ({market.first} to {market.last})" for market in markets if market.first)
        raise click.UsageError(f"{call['data']} covers none of the scenarios with days of their own: {dated or 'none'}")
    yield from covered


def _print(suite: Suite) -> None:
    lines = Lines(
        "Scenario", "-Bars", "-Market", "-Lowest", "-Fills", "-Refused", "Breakers", "-Drawdown", "-Limit", "Rules"
    )
    for one in suite.outcomes:
        lines.add(
            one.scenario + (" (recorded)" if one.is_recorded else ""),
            f"{one.bars:,}",
            f"{one.market_change:+.1%}",
            f"{one.market_low:+.1%}",
            f"{one.fills:,}",
            f"{sum(one.refused.values()):,}",
            ", ".join(dict.fromkeys(one.breakers)) or "none",
            f"{one.drawdown:,.0f}",
            "" if one.drawdown_limit is None else f"{one.drawdown_limit:,.0f}",
            "all held" if not one.broken else f"{len(one.broken)} broken",
        )
    click.echo(lines.text())
    for one in suite.outcomes:
        for rule, words in one.broken.items():
            click.echo(f"BROKEN  {one.scenario}, {rule}: {words}")
    told = "every rule held" if not suite.broken else f"{suite.broken} rules broken"
    click.echo(f"{', '.join(suite.strategies)} on {suite.timeframe}: {told}; nothing here says whether it earns money")
