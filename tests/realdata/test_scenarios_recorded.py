"""The days that are remembered, as they were recorded: every strategy keeps every rule in them. Never profit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.scenarios.runs import settings
from tests.strategy_runs import ALONE

from tapeline_lab.bias.tables import Table, table_of
from tapeline_lab.scenarios.markets import MARKETS, Market, recorded_part
from tapeline_lab.scenarios.suite import judged
from tapeline_marketdata.files import read_bars

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
HOURS = DATA / "crypto" / "binance" / "1h" / "BTCUSDT_2017-08_2022-12.parquet"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not HOURS.is_file(), reason=f"no recorded hours at {HOURS} (set TAPELINE_DATA)"),
]

DATED = [market for market in MARKETS if market.first is not None]


@pytest.fixture(scope="module")
def hours() -> Table:
    return table_of(read_bars(HOURS))


def part(hours: Table, market: Market) -> Table:
    found = recorded_part(market, hours)
    assert found is not None, f"{HOURS} covers {market.name}"
    return found


@pytest.mark.parametrize(
    "market",
    [pytest.param(each, marks=() if each.name == "covid" else pytest.mark.slow, id=each.name) for each in DATED],
)
@pytest.mark.parametrize("kind", ALONE)
def test_every_strategy_holds_every_rule(kind: str, market: Market, hours: Table) -> None:
    assert judged(settings(kind), market, [part(hours, market)], is_recorded=True).broken == {}


def test_a_holder_is_stopped_in_march_2020(hours: Table) -> None:
    """Fifty coins at about 9,600: the breaker fires in the crash, and the fall ends near its limit."""
    (market,) = (market for market in DATED if market.name == "covid")
    outcome = judged(settings("buy_and_hold"), market, [part(hours, market)], is_recorded=True)
    assert outcome.breakers
    assert outcome.drawdown_limit is not None
    assert outcome.drawdown < 2 * outcome.drawdown_limit
