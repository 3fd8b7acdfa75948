"""Bars built from recorded trades and quotes equal the bars that others made of the same data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from tests.backtesting import backtest

from tapeline_common.events import BarClosed
from tapeline_common.values import InstrumentId
from tapeline_marketdata.bar_building import bar_builder
from tapeline_marketdata.bar_rules import parse_rule
from tapeline_marketdata.bars import decimal_text
from tapeline_marketdata.built_bars import build_bars, write_bars
from tapeline_marketdata.files import read_bars
from tapeline_marketdata.trade_files import read_trades
from tapeline_marketdata.trades import Trade

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
TRADES = DATA / "ticks" / "binance_usdm" / "BTCUSDT_PERP_20240808_trades.parquet"
SPOT = DATA / "ticks" / "misc" / "BTCUSDT_2021-01-08_trades.parquet"
QUOTES = DATA / "ticks" / "oanda" / "EURUSD_20140506_quotes.parquet"
HOURS = DATA / "forex" / "oanda" / "1h" / "EURUSD_2013_2018.parquet"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not TRADES.is_file(), reason=f"no recorded trades at {TRADES} (set TAPELINE_DATA)"),
]

HOUR_NS = 3_600 * 10**9
X = InstrumentId("X")
RULES = ["time:1s", "time:1m", "tick:50", "volume:5", "value:250000", "imbalance:100", "renko:2"]


def columns(path: Path) -> dict[str, Any]:
    return {name: np.array(column) for name, column in pyarrow.parquet.read_table(path).to_pydict().items()}


def floats(bars: Sequence[BarClosed]) -> list[tuple[float, ...]]:
    return [tuple(map(float, (one.open, one.high, one.low, one.close))) for one in bars]


@pytest.mark.parametrize(("path", "unit_ns"), [(TRADES, 1), (SPOT, 10**6)], ids=lambda value: str(value)[-25:])
def test_seconds_equal_a_computation_with_arrays(path: Path, unit_ns: int) -> None:
    """Open, high, low and close of every second, and the exact volume, are those of numpy over the file's columns."""
    file = columns(path)
    second = file["ts"] * unit_ns // 10**9
    starts = np.flatnonzero(np.r_[True, second[1:] != second[:-1]])
    ends = np.r_[starts[1:], len(second)] - 1
    price = file["price"]
    expected = zip(
        price[starts], np.maximum.reduceat(price, starts), np.minimum.reduceat(price, starts), price[ends], strict=True
    )
    bars = list(build_bars(path, parse_rule("time:1s")).bars(X))

    assert floats(bars) == [tuple(map(float, one)) for one in expected][:-1]
    assert [one.open_ns for one in bars] == (second[starts][:-1] * 10**9).tolist()
    sizes = [Decimal(decimal_text(size)) for size in file["size"].tolist()]
    for start, stop, one in zip(starts[:-1], starts[1:], bars, strict=True):
        assert Decimal(one.volume) == sum(sizes[start:stop], Decimal(0))


def test_hundreds_of_trades_equal_a_computation_with_arrays() -> None:
    """Tick bars are the file's trades, reshaped."""
    price = columns(TRADES)["price"]
    blocks = price[: len(price) // 100 * 100].reshape(-1, 100)
    expected = zip(blocks[:, 0], blocks.max(axis=1), blocks.min(axis=1), blocks[:, -1], strict=True)
    built = build_bars(TRADES, parse_rule("tick:100"))

    assert floats(list(built.bars(X))) == [tuple(map(float, one)) for one in expected]
    assert (len(built), built.left_over) == (213, 13)


@pytest.mark.parametrize("rule", RULES)
def test_every_recorded_trade_is_in_one_bar(rule: str) -> None:
    """21,313 trades without a fault: the volume of bars and of what is left over is all volume, by every rule."""
    trades = list(read_trades(TRADES).trades())
    built = build_bars(TRADES, parse_rule(rule))
    bars = list(built.bars(X))
    sizes = [one.size for one in trades if isinstance(one, Trade)]
    assert len(sizes) == 21_313
    volume = sum((Decimal(one.volume) for one in bars), Decimal(0))
    assert volume == sum(sizes[: len(sizes) - built.left_over], Decimal(0))
    assert all(one.open_ns < one.close_ns <= after.open_ns for one, after in pairwise(bars))


def test_hours_of_quotes_equal_the_recorded_hours() -> None:
    """44,864 OANDA quotes of a day make the hours that another engine recorded, to the last digit.

    Its hours are the middle of hours of bids and hours of asks, each opening at the close before it; so the first hour
    of the recording, whose close before is not known, is compared without its open.
    """
    file = columns(QUOTES)
    sides = []
    for name in ("bid", "ask"):
        builder = bar_builder(parse_rule("time:1h"), X)
        prices = map(decimal_text, file[name].tolist())
        quotes = [
            Trade(ts * 10**6, Decimal(price), Decimal(1)) for ts, price in zip(file["ts"].tolist(), prices, strict=True)
        ]
        closing = Trade(quotes[-1].time_ns // HOUR_NS * HOUR_NS + HOUR_NS, Decimal(1), Decimal(1))
        sides.append([bar for quote in [*quotes, closing] for bar in builder.push(quote)])
    recorded = {bar.open_ns: bar for bar in read_bars(HOURS, timeframe="1h").bars(X)}
    before: tuple[Decimal, ...] | None = None
    compared = 0
    for pair in zip(*sides, strict=True):
        closes = tuple(Decimal(one.close) for one in pair)
        opens = before or tuple(Decimal(one.open) for one in pair)
        highs = [max(Decimal(one.high), opened) for one, opened in zip(pair, opens, strict=True)]
        lows = [min(Decimal(one.low), opened) for one, opened in zip(pair, opens, strict=True)]
        theirs = recorded[pair[0].open_ns]
        ours = [sum(each, Decimal(0)) / 2 for each in (highs, lows, closes)]
        assert ours == [near(text) for text in (theirs.high, theirs.low, theirs.close)]
        if before is not None:
            assert sum(opens) / 2 == near(theirs.open)
        before = closes
        compared += 1
    assert compared == 24


def near(text: str) -> Decimal:
    """The recorded binary float is a half pip; the float's last bits are not."""
    return round(Decimal(text), 7)


@pytest.mark.parametrize("rule", ["tick:50", "renko:2"])
def test_a_backtest_on_trades_is_one_on_the_bars_they_make(tmp_path: Path, rule: str) -> None:
    """Built on the way or written to a file first: the same fills and equity; in blocks or bar by bar the same tape."""
    path = tmp_path / "BTCUSDT.parquet"
    write_bars(build_bars(TRADES, parse_rule(rule)), path)
    call = ("--strategy", "ema_cross", "--param", "fast=3", "--param", "slow=8", "--fee", "0.0005")
    built = backtest(*call, "--data", str(TRADES), "--bars", rule, "--no-blocks")
    read = backtest(*call, "--data", str(path), "--no-blocks")
    blocks = backtest(*call, "--data", str(TRADES), "--bars", rule, "--blocks")

    ignored = {"tape_hash", "elapsed_s", "bars_per_s"}
    assert {name: built[name] for name in built.keys() - ignored} == {
        name: read[name] for name in read.keys() - ignored
    }
    assert built["fills"] > 20
    assert built["tape_hash"] == blocks["tape_hash"] != read["tape_hash"]
