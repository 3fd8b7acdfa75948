"""Figures of an equity curve, worked out a part at a time, are those of the whole curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_backtest import report
from tapeline_backtest.report import DAY_NS, Curve, Floats, Ints, daily_returns, max_drawdown, returns_of


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
        patch.setattr(report, "PART_BARS", part)
        assert max_drawdown(equity) == drawdown_of_the_whole(equity)


@settings(deadline=None)
@given(curves, st.data())
def test_days_end_where_the_next_begins(equity: Floats, data: st.DataObject) -> None:
    """Bars that close at midnight belong to the day before; days without bars have no return."""
    hours = data.draw(st.lists(st.integers(1, 60), min_size=len(equity), max_size=len(equity)))
    time_ns = DAY_NS * 19_000 + np.cumsum(hours) * (DAY_NS // 24)
    found = daily_returns(Curve(time_ns, equity, np.zeros(len(equity), dtype=bool)))
    assert found.tolist() == daily_of_the_whole(time_ns, equity).tolist()
