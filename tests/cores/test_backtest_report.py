"""The report's numbers against cases that can be worked out by hand, and the replay script's order."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from tests.backtesting import write_bars

from tapeline_backtest.feed import Source, script, source
from tapeline_backtest.kept import Flow, flows_by_instrument, kept_fills
from tapeline_backtest.report import DAY_NS, Curve, Run, daily_returns, equity_curve, max_drawdown
from tapeline_common.events import BarClosed, DataRejected, OrderFilled
from tapeline_common.values import InstrumentId, Liquidity, OrderId, Side, StrategyId
from tapeline_marketdata.files import read_bars

GOOSE, SWAN = InstrumentId("GOOSE"), InstrumentId("SWAN")
MINUTE_MS, START_MS = 60_000, 1_700_000_040_000
MINUTE_NS = MINUTE_MS * 1_000_000


def bars(folder: Path, instrument: InstrumentId, closes: dict[int, float]) -> Source:
    """Bars at these minutes, open equal to close."""
    rows = [(START_MS + minute * MINUTE_MS, close, close, close, close, 1.0) for minute, close in closes.items()]
    path = write_bars(folder / f"{instrument}.parquet", rows)
    return source(instrument, str(path), read_bars(path, timeframe="1m"))


def fill(minute: int, side: Side, price: int, fee: str = "1") -> tuple[int, OrderFilled]:
    """A fill of one unit, stamped with the close of the bar in which it happened."""
    event = OrderFilled(
        order=OrderId(f"o{minute}"),
        client_order_id="c",
        strategy=StrategyId("s"),
        instrument=GOOSE,
        trade_id="t",
        side=side,
        quantity=Decimal(1),
        price=Decimal(price),
        fee=Decimal(fee),
        fee_currency="USD",
        liquidity=Liquidity.TAKER,
        slippage=Decimal(0),
    )
    return START_MS * 1_000_000 + (minute + 1) * MINUTE_NS, event


def flows(*fills: tuple[int, OrderFilled]) -> dict[InstrumentId, Flow]:
    kept = kept_fills()
    for each in fills:
        kept.append(each)
    return flows_by_instrument(kept.sums())


def run_of(*sources: Source) -> Run:
    return Run("s", {}, {}, {}, Decimal(1000), sources, 0, "", "loop", 1.0)


def test_the_equity_curve_is_cash_and_position_at_each_close(tmp_path: Path) -> None:
    """Bought at 100 in the second bar for a fee of 1, marked at 110, sold at 120 in the fourth."""
    one = bars(tmp_path, GOOSE, {0: 100.0, 1: 100.0, 2: 110.0, 3: 120.0, 4: 50.0})
    curve = equity_curve(run_of(one), flows(fill(1, Side.BUY, 100), fill(3, Side.SELL, 120)), [])

    assert curve.equity.tolist() == [1000.0, 999.0, 1009.0, 1018.0, 1018.0]
    assert curve.invested.tolist() == [False, True, True, False, False]


def test_two_instruments_share_one_curve(tmp_path: Path) -> None:
    """A missing bar keeps the last price; before its first bar an instrument is worth nothing."""
    goose = bars(tmp_path, GOOSE, {0: 100.0, 2: 130.0})
    swan = bars(tmp_path, SWAN, {1: 5.0})
    curve = equity_curve(run_of(goose, swan), flows(fill(0, Side.BUY, 100, fee="0")), [])

    assert curve.equity.tolist() == [1000.0, 1000.0, 1030.0]


def test_drawdown_is_the_largest_fall_from_a_high() -> None:
    """As a share of the high, with the amount and where it began and ended; none on a rise."""
    assert max_drawdown(np.array([100.0, 120.0, 90.0, 130.0, 117.0])) == (0.25, 30.0, 1, 2)
    assert max_drawdown(np.array([100.0, 110.0, 120.0])) == (0.0, 0.0, 0, 0)


def test_daily_returns_are_of_the_last_equity_of_each_day() -> None:
    """A bar that closes at midnight belongs to the day that ends."""
    times = np.array([DAY_NS // 2, DAY_NS, DAY_NS + 1, 2 * DAY_NS, 2 * DAY_NS + 5])
    curve = Curve(times, np.array([100.0, 110.0, 105.0, 121.0, 133.1]), np.zeros(5, dtype=bool))

    assert daily_returns(curve).tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert math.isclose(float(np.prod(1 + daily_returns(curve))), 1.331)


def test_the_script_merges_files_by_closing_time_and_says_gaps(tmp_path: Path) -> None:
    """Bars that close together follow the order of the files; a gap is said before the bar that ends it."""
    goose = bars(tmp_path, GOOSE, {0: 1.0, 1: 1.0, 4: 1.0})
    swan = bars(tmp_path, SWAN, {1: 2.0, 4: 2.0})

    said = [outside for outside in script([], [goose, swan]) if isinstance(outside.event, BarClosed | DataRejected)]
    minutes = [
        (type(each.event).__name__, each.event.instrument, (each.time_ns - START_MS * 1_000_000) // MINUTE_NS)
        for each in said
    ]

    assert minutes == [
        ("BarClosed", GOOSE, 1),
        ("BarClosed", GOOSE, 2),
        ("BarClosed", SWAN, 2),
        ("DataRejected", GOOSE, 5),
        ("BarClosed", GOOSE, 5),
        ("DataRejected", SWAN, 5),
        ("BarClosed", SWAN, 5),
    ]
    assert len({each.id for each in said}) == len(said)
    assert [each.time_ns for each in said] == sorted(each.time_ns for each in said)
