"""How fast something grows, and how sure that is.

Memory is a staircase: a process takes pages in steps and keeps them, so what differs from a straight line is not noise
around it but a random walk along it. The growth of such a walk is the mean of its increments, and how far they scatter
is the error: the window is cut into ``PIECES``, each contributes how much it grew, and Student's interval of their mean
is the answer. One step in the whole window is then no proof of anything, step after step is.

A line fitted by least squares would claim far too much: with the error of Newey and West, its 95 % interval held the
truth for a third of simulated random walks and staircases; the median slope of Theil and Sen has no error for them at
all. The interval used here holds it for 95 % of those, and for more where values only scatter around a level
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
    """Mean time and mean value of the first block of each piece and of the last block; shapes (PIECES + 1,).

    Empty if a block has no sample.
    """
    at, value = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    empty: Floats = np.empty(0)
    if len(at) < 2:
        return empty, empty
    count = PIECES * BLOCKS_PER_PIECE + 1
    block = np.minimum(((at - at[0]) / (at[-1] - at[0]) * count).astype(np.int64), count - 1)
    members = np.bincount(block, minlength=count)[::BLOCKS_PER_PIECE]
    if not members.all():
        return empty, empty
    sums = (np.bincount(block, each, minlength=count)[::BLOCKS_PER_PIECE] for each in (at, value))
    mean_times, mean_values = (each / members for each in sums)
    return mean_times, mean_values


def fit(at: Floats, level: Floats) -> Slope:
    """The growth of levels, shapes (PIECES + 1,); ``UNKNOWN`` for others."""
    if len(at) != PIECES + 1:
        return UNKNOWN
    rates = np.diff(level) / np.diff(at)
    value = float(rates.mean())
    margin = _T_975 * float(rates.std(ddof=1)) / math.sqrt(PIECES)
    return Slope(value, value - margin, value + margin)
