"""What the statistics take: series of returns and matrices of trials, checked once at the door.

A return series is a float array of shape (n,): simple returns of equal periods, usually UTC days. A matrix of trials
has shape (n, trials): the same periods for all, one column for each trial. Nothing here computes a statistic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class SeriesInvalid(ValueError):
    """A series that no statistic can be computed from. The message names what is wrong and what is needed."""


def series(values: ArrayLike, least: int = 2, what: str = "returns") -> Floats:
    """A checked series, shape (n,). Raises ``SeriesInvalid`` if it is too short or has values that are no numbers."""
    found = _numbers(values, what)
    if found.ndim != 1:
        raise SeriesInvalid(f"{what} have {found.ndim} dimensions: give one series, an array of shape (n,)")
    if len(found) < least:
        raise SeriesInvalid(f"{what}: {len(found)} values, at least {least} are needed")
    return found


def trial_matrix(values: ArrayLike, least_rows: int = 2, least_trials: int = 1) -> Floats:
    """A checked matrix of trials, shape (periods, trials). Raises ``SeriesInvalid``."""
    found = _numbers(values, "the matrix of trials")
    if found.ndim != 2:
        raise SeriesInvalid(f"the matrix of trials has {found.ndim} dimensions: give an array of shape (days, trials)")
    if len(found) < least_rows or found.shape[1] < least_trials:
        rows, trials = found.shape
        raise SeriesInvalid(
            f"the matrix of trials has {rows} periods and {trials} trials: "
            f"at least {least_rows} and {least_trials} are needed"
        )
    return found


def between(value: float, low: float, high: float, what: str) -> float:
    """``value`` if it lies strictly between. Raises ``SeriesInvalid``."""
    if not low < value < high:
        raise SeriesInvalid(f"{what} is {value}: it must lie between {low} and {high}, both excluded")
    return value


def _numbers(values: Any, what: str) -> Floats:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as trouble:
        raise SeriesInvalid(f"{what}: not an array of numbers ({trouble})") from trouble
    bad = ~np.isfinite(found)
    if bad.any():
        first = tuple(int(place) for place in np.argwhere(bad)[0])
        where = first[0] if len(first) == 1 else first
        raise SeriesInvalid(f"{what}: {int(bad.sum())} values are no finite numbers, the first at index {where}")
    return found
