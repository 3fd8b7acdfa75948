"""Every built-in strategy gets through every market with its limits on: breakers, halts, limits, drawdown, books.

Never profit: what a strategy earns in a generated market says nothing.
"""

from __future__ import annotations

import json
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.scenarios.runs import CASH, PRICE, settings, tape_of
from tests.strategy_runs import ALONE

from tapeline_common.events import FlattenRequested, LimitBreached, OrderFilled, TradingHalted
from tapeline_common.settings import RiskTable
from tapeline_lab.scenarios.command import scenarios
from tapeline_lab.scenarios.markets import MARKETS, find_market
from tapeline_lab.scenarios.running import OnHalt
from tapeline_lab.scenarios.suite import judged, stand_ins

SHORT = ("flash", "gaps", "dead", "delisting")
LONG = tuple(market.name for market in MARKETS if market.name not in (*SHORT, "covid"))


def outcomes_of(kind: str, names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    told = settings(kind)
    found = {}
    for name in names:
        market = find_market(name)
        outcome = judged(told, market, stand_ins(told, market, 0, PRICE))
        found[name] = {rule.value: words for rule, words in outcome.broken.items()}
    return found


@pytest.mark.parametrize("kind", ALONE)
def test_every_strategy_holds_every_rule_in_short_markets(kind: str) -> None:
    """Flash crash, outages, silence, delisting."""
    assert outcomes_of(kind, SHORT) == {name: {} for name in SHORT}


@pytest.mark.parametrize("kind", ALONE)
def test_every_strategy_holds_every_rule_in_the_crash(kind: str) -> None:
    assert outcomes_of(kind, ("covid",)) == {"covid": {}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALONE)
def test_every_strategy_holds_every_rule_in_long_markets(kind: str) -> None:
    """Bull and bear markets of months."""
    assert outcomes_of(kind, LONG) == {name: {} for name in LONG}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALONE)
def test_every_strategy_holds_every_rule_when_trading_resumes_each_day(kind: str) -> None:
    """Breakers are tried again and again: after each halt for the day's loss trading goes on tomorrow."""
    told, market = settings(kind), find_market("covid")
    assert judged(told, market, stand_ins(told, market, 1, PRICE), OnHalt.RESUME).broken == {}


def test_breakers_fire_more_than_once_if_trading_resumes() -> None:
    """A holder whose drawdown is not limited loses, is sold out, and buys again, several times."""
    told = settings("buy_and_hold", RiskTable(max_drawdown=CASH * 10))
    market = find_market("bear")
    outcome = judged(told, market, stand_ins(told, market, 0, PRICE), OnHalt.RESUME)
    assert (outcome.broken, set(outcome.breakers)) == ({}, {"DAILY_LOSS"})
    assert len(outcome.breakers) >= 3
    assert outcome.fills >= 6


@pytest.mark.parametrize("market", ["covid", "delisting"])
def test_a_holder_is_stopped_in_a_crash_and_sold_out(market: str) -> None:
    """The breaker fires, the operator flattens, and after that nothing is held and nothing more is lost."""
    tape = tape_of("buy_and_hold", market)
    events = [fact.event for fact in tape.facts]
    assert any(isinstance(event, LimitBreached) for event in events)
    halted = next(at for at, event in enumerate(events) if isinstance(event, TradingHalted))
    asked = next(at for at, event in enumerate(events) if isinstance(event, FlattenRequested))
    assert halted < asked
    after = [event for event in events[asked:] if isinstance(event, OrderFilled)]
    assert sum(event.side.sign * event.quantity for event in after) == -sum(
        event.side.sign * event.quantity for event in events[:asked] if isinstance(event, OrderFilled)
    )


def test_in_a_calm_rise_no_breaker_fires() -> None:
    """The first weeks of the bull market, held without leverage: breakers stay quiet where nothing is lost."""
    told = settings("buy_and_hold")
    market = find_market("dead")
    tables = [{name: column[240:540] for name, column in table.items()} for table in stand_ins(told, market, 0, PRICE)]
    outcome = judged(told, market, tables)
    assert (outcome.breakers, outcome.broken) == ([], {})


def test_who_holds_on_after_a_halt_falls_with_the_market() -> None:
    """Without the operator a halted account keeps its position: the rules hold, the loss does not end."""
    told = settings("buy_and_hold")
    market = find_market("delisting")
    tables = stand_ins(told, market, 0, PRICE)
    sold, kept = judged(told, market, tables), judged(told, market, tables, on_halt=OnHalt.HOLD)
    assert (sold.broken, kept.broken) == ({}, {})
    assert kept.drawdown > 4 * sold.drawdown
    assert sold.drawdown < CASH * Decimal("0.3")


def test_the_command_prints_every_scenario_and_ends_with_0() -> None:
    result = CliRunner().invoke(scenarios, ["-s", "ema_cross", "--only", "flash", "--only", "dead", "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [one["scenario"] for one in told["outcomes"]] == ["flash", "dead"]
    assert (told["broken"], told["strategies"]) == (0, ["ema_cross"])
    shown = CliRunner().invoke(scenarios, ["-s", "ema_cross", "--only", "flash"])
    assert "every rule held" in shown.output


def test_the_command_takes_a_configuration(tmp_path: Path) -> None:
    """As live, with its own limits; a pair trades two generated instruments."""
    config = tmp_path / "tapeline.toml"
    config.write_bytes(files("tapeline_common").joinpath("default.toml").read_bytes())
    result = CliRunner().invoke(scenarios, ["-c", str(config), "--only", "flash", "--json"])
    assert result.exit_code == 0, result.output
    pair = CliRunner().invoke(scenarios, ["-s", "pairs_reversion", "--only", "flash", "--json"])
    assert pair.exit_code == 0, pair.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["-s", "ema_cross", "-c", "x.toml"], 2),
        (["-s", "no_such"], 4),
        (["-s", "ema_cross", "-p", "fast=-1"], 4),
        (["-s", "ema_cross", "-p", "fast"], 2),
        (["-s", "ema_cross", "--only", "tulips"], 2),
        (["-c", "nowhere.toml"], 4),
        (["-s", "ema_cross", "--data", "nowhere.csv"], 4),
    ],
)
def test_wrong_calls_end_with_one_message(arguments: list[str], code: int) -> None:
    assert CliRunner().invoke(scenarios, arguments).exit_code == code
