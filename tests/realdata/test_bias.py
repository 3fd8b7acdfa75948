"""On recorded hours every installed strategy is free of look-ahead, alone and as a whole run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.gears import settings_of
from tests.strategy_runs import ALONE

from tapeline_lab.bias.leaks import fills_on_tape
from tapeline_lab.bias.lookahead import lookahead_analysis
from tapeline_lab.bias.tables import Table, table_of
from tapeline_lab.bias.tapes import facts_of, tape_subject
from tapeline_lab.bias.traces import strategy_subject
from tapeline_marketdata.files import read_bars
from tapeline_strategy.catalogue import find
from tapeline_strategy.sdk import validate

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
HOURS = DATA / "crypto" / "binance" / "1h" / "BTCUSDT_2017-08_2022-12.parquet"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not HOURS.is_file(), reason=f"no recorded hours at {HOURS} (set TAPELINE_DATA)"),
]

BARS = 1200


def some(kinds: list[str]) -> list[Any]:
    """Every kind; those that are not named here among the slow tests."""
    return [pytest.param(kind, marks=() if kind in kinds else pytest.mark.slow) for kind in ALONE]


@pytest.fixture(scope="module")
def hours() -> Table:
    return table_of(read_bars(HOURS), BARS)


@pytest.mark.parametrize("kind", some(["ema_cross", "trend_follow", "kumo_breaker", "rsi_reversion"]))
def test_installed_strategies_are_clean_on_recorded_hours(kind: str, hours: Table) -> None:
    """Every place of memory and the exposure, at 64 cuts and where the exposure changes."""
    strategy = find(kind)
    analysis = lookahead_analysis(strategy_subject(strategy, validate(strategy, {})), hours)
    assert analysis.findings == ()
    assert analysis.cuts >= 64


@pytest.mark.parametrize("kind", some(["ema_cross"]))
def test_tapes_are_clean_on_recorded_hours(kind: str, hours: Table) -> None:
    """Every fact that follows from the last 600 bars, at 64 cuts, and every fill at a price that was traded."""
    settings, table = settings_of(kind, {}, timeframe="1h"), {name: column[-600:] for name, column in hours.items()}
    assert lookahead_analysis(tape_subject(settings), table, event_cuts=8).findings == ()
    assert fills_on_tape([recorded.fact for recorded in facts_of(settings, table)]) == []
