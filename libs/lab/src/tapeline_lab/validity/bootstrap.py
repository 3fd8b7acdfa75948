"""Intervals for any figure of a series: how far it may be off by the luck of the days.

The series is resampled in blocks (``blocks``), the figure computed on each resample. ``PERCENTILE`` takes the
resamples' quantiles; ``BCA`` shifts them for bias and skewness (Efron 1987), its acceleration from a jackknife that
leaves out whole blocks. An interval says how much the figure varies *if the days to come are like those seen*; it
knows nothing of regimes that have not occurred, nor of how many strategies were tried.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from tapeline_lab.validity.blocks import block_length, generator, stationary
from tapeline_lab.validity.figures import Figure, Name, figure
from tapeline_lab.validity.normal import quantile, share_below
from tapeline_lab.validity.series import Floats, Ints, SeriesInvalid, between, series

RUNS = 2_000
CELLS = 2_000_000
"""Numbers resampled at once. A part of the runs has its own generator, so this is part of what a seed means."""

MOST_LEFT_OUT = 200
"""Groups of the jackknife."""


class Method(StrEnum):
    """How an interval is read off the resamples."""

    PERCENTILE = "PERCENTILE"
    BCA = "BCA"


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval of a figure.

    Attributes:
        low, high: its ends; between them lies the figure's true value with probability ``confidence``, about.
        middle: median of the resamples. Far from ``estimate``, the figure is biased on samples of this length.
        estimate: the figure of the series itself.
        block: mean length of a block, in periods.
    """

    low: float
    middle: float
    high: float
    estimate: float
    confidence: float
    method: Method
    block: float
    runs: int
    seed: int

    def contains(self, value: float) -> bool:
        return self.low <= value <= self.high


def bootstrap_interval(
    returns: ArrayLike,
    statistic: Name | str | Figure = Name.SHARPE,
    *,
    seed: int,
    confidence: float = 0.95,
    periods_per_year: float = 365.0,
    block: float | None = None,
    runs: int = RUNS,
    method: Method = Method.PERCENTILE,
) -> Interval:
    """Interval of one figure by the stationary bootstrap.

    Args:
        returns: shape (n,); results of trades for figures of trades, then with ``block=1`` if they are independent.
        statistic: name of a figure, or a function of rows (runs, n) and periods per year that returns (runs,).
        block: mean length of a block; estimated from the series unless given.
    """
    found = bootstrap_intervals(
        returns,
        {"asked": figure(statistic) if isinstance(statistic, str) else statistic},
        seed=seed,
        confidence=confidence,
        periods_per_year=periods_per_year,
        block=block,
        runs=runs,
        method=method,
    )
    return found["asked"]


def bootstrap_intervals(
    returns: ArrayLike,
    statistics: Sequence[Name] | Mapping[str, Figure],
    *,
    seed: int,
    confidence: float = 0.95,
    periods_per_year: float = 365.0,
    block: float | None = None,
    runs: int = RUNS,
    method: Method = Method.PERCENTILE,
) -> Mapping[str, Interval]:
    """Intervals of several figures of the same resamples, by name."""
    found = series(returns)
    between(confidence, 0.0, 1.0, "confidence")
    _enough(runs)
    wanted = statistics if isinstance(statistics, Mapping) else {str(name): figure(name) for name in statistics}
    length = block_length(found) if block is None else float(block)
    values = _resampled(found, wanted, periods_per_year, length, runs, seed)
    intervals = {}
    for name, compute in wanted.items():
        estimate = float(compute(found[None, :], periods_per_year)[0])
        shares = _shares(confidence)
        if method is Method.BCA:
            left_out = _leaving_out(found, compute, periods_per_year, length)
            shares = _corrected(values[name], estimate, left_out, confidence)
        low, high = _quantiles(values[name], shares)
        middle = _quantiles(values[name], (0.5,))[0]
        intervals[name] = Interval(low, middle, high, estimate, confidence, method, length, runs, seed)
    return MappingProxyType(intervals)


def bootstrap_difference(
    first: ArrayLike,
    second: ArrayLike,
    statistic: Name | str | Figure = Name.SHARPE,
    *,
    seed: int,
    confidence: float = 0.95,
    periods_per_year: float = 365.0,
    block: float | None = None,
    runs: int = RUNS,
) -> Interval:
    """Interval of first's figure minus second's, both resampled by the same days, so that what they share cancels."""
    one, other = series(first, what="first"), series(second, what="second")
    if len(one) != len(other):
        raise SeriesInvalid(f"first has {len(one)} periods, second {len(other)}: give the same days")
    between(confidence, 0.0, 1.0, "confidence")
    _enough(runs)
    compute = figure(statistic) if isinstance(statistic, str) else statistic
    length = max(block_length(one), block_length(other)) if block is None else float(block)
    values = np.concatenate(
        [
            compute(one[days], periods_per_year) - compute(other[days], periods_per_year)
            for days in _days(len(one), length, runs, seed)
        ]
    )
    estimate = float((compute(one[None, :], periods_per_year) - compute(other[None, :], periods_per_year))[0])
    low, middle, high = _quantiles(values, (_shares(confidence)[0], 0.5, _shares(confidence)[1]))
    return Interval(low, middle, high, estimate, confidence, Method.PERCENTILE, length, runs, seed)


def _resampled(
    returns: Floats, wanted: Mapping[str, Figure], year: float, length: float, runs: int, seed: int
) -> dict[str, Floats]:
    """Every figure on every resample, shape (runs,)."""
    found: dict[str, list[Floats]] = {name: [] for name in wanted}
    for days in _days(len(returns), length, runs, seed):
        rows = returns[days]
        for name, compute in wanted.items():
            found[name].append(compute(rows, year))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _days(count: int, length: float, runs: int, seed: int) -> Iterator[Ints]:
    """Indices of all resamples, in parts of bounded size."""
    part = max(1, min(runs, CELLS // count))
    for number, first in enumerate(range(0, runs, part)):
        yield stationary(generator(seed, number), count, length, min(part, runs - first))


def _shares(confidence: float) -> tuple[float, float]:
    return (1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0


def _corrected(values: Floats, estimate: float, left_out: Floats, confidence: float) -> tuple[float, float]:
    """Shares of the resamples at which a BCa interval ends."""
    below = (float(np.mean(values < estimate)) + float(np.mean(values <= estimate))) / 2.0
    if not 0.0 < below < 1.0:
        return _shares(confidence)
    shift = quantile(below)
    apart = np.mean(left_out) - left_out
    spread = float(np.sum(apart**2)) ** 1.5
    acceleration = float(np.sum(apart**3)) / (6.0 * spread) if spread > 0.0 else 0.0
    ends = []
    for share in _shares(confidence):
        reach = shift + quantile(share)
        ends.append(share_below(shift + reach / (1.0 - acceleration * reach)))
    return ends[0], ends[1]


def _leaving_out(returns: Floats, compute: Figure, year: float, length: float) -> Floats:
    """The figure without each of consecutive blocks of days, all of the same length."""
    size = max(math.ceil(length), math.ceil(len(returns) / MOST_LEFT_OUT))
    size = min(size, len(returns) // 2)
    groups = len(returns) // size
    kept = np.ones((groups, len(returns)), dtype=bool)
    for number in range(groups):
        kept[number, number * size : (number + 1) * size] = False
    rows = np.broadcast_to(returns, kept.shape)[kept].reshape(groups, len(returns) - size)
    found = compute(rows, year)
    return found if np.isfinite(found).all() else np.zeros(groups)


def _quantiles(values: Floats, shares: Sequence[float]) -> list[float]:
    """Quantiles of values that may be infinite, where interpolating gives no number."""
    if np.isfinite(values).all():
        return [float(one) for one in np.quantile(values, shares)]
    ordered = np.sort(values)
    return [float(ordered[min(int(share * len(ordered)), len(ordered) - 1)]) for share in shares]


def _enough(runs: int) -> None:
    if runs < 1:
        raise SeriesInvalid(f"runs is {runs}: at least one resample is needed")
