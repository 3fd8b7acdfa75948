"""On recorded minutes indicators have TA-Lib's values, and compiled ones are the interpreted ones to the last bit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tests.indicators.bars import Columns
from tests.indicators.test_indicator_values import BEGINS_LATER, TALIB, assert_same, talib_values

from tapeline_backtest.indicator_columns import over
from tapeline_marketdata.files import read_bars
from tapeline_strategy.indicators import CATALOGUE, bar_by_bar

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
FILE = DATA / "crypto" / "bitfinex" / "1m" / "BTCUSD_2018-01_2019-07.parquet"
BARS = 5000
DAY_NS = 86_400_000_000_000
ONE_OF_EACH_KIND = ("rsi", "bollinger", "yang_zhang", "aroon", "session_vwap", "fisher", "median")

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not FILE.is_file(), reason=f"no recorded minutes at {FILE} (set TAPELINE_DATA)"),
]


@pytest.fixture(scope="module")
def recorded() -> Columns:
    """The first minutes of 2018, when something traded in every one of them."""
    columns = read_bars(FILE).columns
    names = ("open", "high", "low", "close", "volume")
    bars = {name: np.array(getattr(columns, name)[:BARS], dtype=np.float64) for name in names}
    return {**bars, "other": bars["volume"], "session": columns.open_ns[:BARS] // DAY_NS * 1.0}


@pytest.mark.parametrize("name", TALIB)
def test_recorded_minutes_give_the_values_of_ta_lib(recorded: Columns, name: str) -> None:
    """From the first bar on, at our defaults."""
    ours = bar_by_bar(name, {each: column.tolist() for each, column in recorded.items()})
    for (output, mine), theirs in zip(ours.items(), talib_values(name, recorded), strict=False):
        assert_same(f"{name}.{output}", np.array(mine), theirs, is_later=name in BEGINS_LATER)


@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
def test_recorded_minutes_give_the_same_bits_compiled(recorded: Columns, name: str) -> None:
    """Every output of every bar."""
    assert name in CATALOGUE
    interpreted = bar_by_bar(name, {each: column.tolist() for each, column in recorded.items()})
    for output, column in over(name, recorded).items():
        np.testing.assert_array_equal(column, np.array(interpreted[output]))
