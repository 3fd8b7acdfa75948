"""How fast something grows, and how sure that is.

Memory is a staircase: a process takes pages in steps and keeps them, so what differs from a straight line is not only
noise around it but a random walk along it. How sure one can be of a walk's growth follows from how far its increments
scatter: the window is cut into ``PIECES``, each contributes how much it grew, and Student's interval is as wide as
their scatter makes it. One step in the whole window is then no proof of anything, step after step is.

The slope itself is that of the line fitted by least squares. The mean of the increments would be the best for a pure
walk, but it is the last level less the first one, whatever lies between: buffers that come and go beside the steps make
two levels out of seventy wrong by as much as a slope is large. For a walk least squares scatters more, by the square
root of 6/5 (the parabola of weights that it gives to increments), and the interval is wider by that.

Only the error of least squares is not to be had from the line: even with that of Newey and West, its 95 % interval held
the truth for a third of simulated random walks and staircases; the median slope of Theil and Sen has no error for them
at all. The interval used here holds it for 95 % of those, and for more where values only scatter around a level
(``tests/cores/test_soak.py``).

Pure: nothing is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PIECES = 14
BLOCKS_PER_PIECE = 5
"""A level is the mean of a fifth of a piece, so that what one sample happens to show does not count."""

LEVELS = PIECES * BLOCKS_PER_PIECE + 1

_T_975 = 2.160
"""Student's t, 97.5 %, 13 degrees of freedom."""


class Slope(msgspec.Struct, frozen=True):
    """Growth for each unit of time, with its 95 % interval. NaN where nothing is known."""

    value: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        return not math.isnan(self.value)

    @property
    def margin(self) -> float:
        return (self.high - self.low) / 2


UNKNOWN = Slope(math.nan, math.nan, math.nan)


def levels(times: Sequence[float], values: Sequence[float] | Floats) -> tuple[Floats, Floats]:
    """Mean time and mean value of each block; shapes (LEVELS,). Empty if a block has no sample."""
    at, value = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    empty: Floats = np.empty(0)
    if len(at) < 2:
        return empty, empty
    block = np.minimum(((at - at[0]) / (at[-1] - at[0]) * LEVELS).astype(np.int64), LEVELS - 1)
    members = np.bincount(block, minlength=LEVELS)
    if not members.all():
        return empty, empty
    mean_times, mean_values = (np.bincount(block, each, minlength=LEVELS) / members for each in (at, value))
    return mean_times, mean_values


def fit(at: Floats, level: Floats) -> Slope:
    """The growth of levels, shapes (LEVELS,); ``UNKNOWN`` for others."""
    if len(at) != LEVELS:
        return UNKNOWN
    centred = at - at.mean()
    value = float(centred @ level / (centred @ centred))
    rates = np.diff(level[::BLOCKS_PER_PIECE]) / np.diff(at[::BLOCKS_PER_PIECE])
    margin = _T_975 * float(rates.std(ddof=1)) / math.sqrt(PIECES) * math.sqrt(6 / 5)
    return Slope(value, value - margin, value + margin)
