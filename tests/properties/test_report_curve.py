"""Figures of an equity curve, worked out a part at a time, are those of the whole curve."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.gears import MINUTE_NS, file_of

from tapeline_backtest.feed import Source
from tapeline_backtest.kept import Flow
from tapeline_backtest.report import (
    DAY_NS,
    Curve,
    Floats,
    Ints,
    Run,
    daily_returns,
    equity_curve,
    max_drawdown,
    returns_of,
)
from tapeline_common.money import ZERO
from tapeline_common.values import InstrumentId
from tapeline_marketdata import shelf


def drawdown_of_the_whole(equity: Floats) -> tuple[float, float, int, int]:
    """The naive twin of ``max_drawdown``."""
    highs = np.maximum.accumulate(equity)
    fall = np.divide(highs - equity, highs, out=np.zeros_like(equity), where=highs > 0)
    low = int(np.argmax(fall))
    return float(fall[low]), float(highs[low] - equity[low]), int(np.argmax(equity[: low + 1])), low


def daily_of_the_whole(time_ns: Ints, equity: Floats) -> Floats:
    """The naive twin of ``daily_returns``."""
    day = (time_ns - 1) // DAY_NS
    ends = np.flatnonzero(np.diff(day, append=day[-1] + 1))
    return returns_of(np.concatenate([equity[:1], equity[ends]]))


curves = st.lists(st.integers(-3, 6).map(float) | st.floats(-1e6, 1e6), min_size=1, max_size=40).map(np.array)


@settings(deadline=None)
@given(curves, st.integers(1, 12))
def test_the_deepest_fall_is_that_of_the_whole(equity: Floats, part: int) -> None:
    """Also where the high lies in an earlier part, among equal falls, below zero and without any fall."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "PART_ROWS", part)
        assert max_drawdown(equity) == drawdown_of_the_whole(equity)


@settings(deadline=None)
@given(curves, st.integers(1, 12), st.data())
def test_days_end_where_the_next_begins(equity: Floats, part: int, data: st.DataObject) -> None:
    """Bars that close at midnight belong to the day before; days without bars have no return."""
    hours = data.draw(st.lists(st.integers(1, 60), min_size=len(equity), max_size=len(equity)))
    time_ns = DAY_NS * 19_000 + np.cumsum(hours) * (DAY_NS // 24)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "PART_ROWS", part)
        found = daily_returns(Curve(time_ns, equity, np.zeros(len(equity), dtype=bool)))
    assert found.tolist() == daily_of_the_whole(time_ns, equity).tolist()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.data())
def test_a_curve_found_in_parts_is_that_of_the_whole(part: int, data: st.DataObject) -> None:
    """Two instruments with bars of their own, fills anywhere, several in one bar: equal to the last bit."""
    minutes = st.sets(st.integers(1, 60), min_size=1, max_size=30).map(sorted)
    price, quantity = st.floats(1, 1e5), st.floats(-10, 10)
    sources, flows = [], {}
    for name in (InstrumentId("GOOSE"), InstrumentId("SWAN")):
        times = data.draw(minutes)
        closes = data.draw(st.lists(price, min_size=len(times), max_size=len(times)))
        sources.append(
            Source(name, "", file_of([(at, *[close] * 4, 1.0) for at, close in zip(times, closes, strict=True)], 0), "")
        )
        fills = data.draw(st.lists(st.tuples(st.sampled_from(times), quantity, price), max_size=20))
        close_ns = np.array([(at + 1) * MINUTE_NS for at, _, _ in fills], dtype=np.int64)
        moved, paid = np.array([each for _, each, _ in fills]), np.array([each for _, _, each in fills])
        flows[name] = Flow(name, close_ns, moved, paid, ZERO, ZERO, ZERO)
    run = Run("s", {}, {}, {}, Decimal(1000), sources, 0, "", "loop", 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "PART_ROWS", part)
        found = equity_curve(run, flows, [])

    equity, invested = curve_of_the_whole(run, flows, found.time_ns)
    assert found.equity.tolist() == equity.tolist()
    assert found.invested.tolist() == invested.tolist()


def curve_of_the_whole(run: Run, flows: dict[InstrumentId, Flow], time_ns: Ints) -> tuple[Floats, NDArray[np.bool_]]:
    """Cash and positions as whole columns."""
    cash, value = np.zeros(len(time_ns)), np.zeros(len(time_ns))
    invested = np.zeros(len(time_ns), dtype=bool)
    for one in run.sources:
        flow, held = flows[one.instrument], np.zeros(len(time_ns))
        at = np.searchsorted(time_ns, flow.time_ns)
        np.add.at(held, at, flow.moved)
        np.subtract.at(cash, at, flow.paid)
        held = np.cumsum(held)
        held[np.abs(held) < 1e-12] = 0.0
        invested |= held != 0.0
        last = np.searchsorted(one.file.close_ns, time_ns, side="right") - 1
        value += held * np.where(last >= 0, one.file.columns.close[last], 0.0)
    return np.cumsum(cash) + float(run.start_cash) + value, invested
