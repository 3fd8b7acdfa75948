"""Which days a resample is made of: the stationary bootstrap, and one that keeps the order of regimes.

Politis and Romano (1994): blocks of consecutive days, each begun at a random day and of a geometrically distributed
length, the series taken as a circle. What follows a day mostly still follows it, so dependence is kept; resampling
single days (a block of one) makes intervals too narrow.

With regimes, a block that ends is followed by one that begins on a day of the *same regime* as the day that would
have come next (a matched-block bootstrap, after Carlstein et al. 1998, with the regime as what is matched). So
regimes follow each other, and last, as they did, and returns stay with theirs.

This module only chooses indices. The same generator gives the same indices.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from tapeline_lab.validity.series import Floats, Ints, SeriesInvalid, series

FEWEST_FOR_LENGTH = 20
"""With fewer days there is nothing to estimate a memory from; the cube root of their number is taken."""

STILL = 5
"""So many autocorrelations in a row within chance end the memory (Politis and White's K)."""


def block_length(returns: ArrayLike) -> float:
    """Mean block length for the stationary bootstrap (Politis and White 2004; Patton, Politis and White 2009).

    (2·G²/D)^(1/3)·n^(1/3) with G = sum of λ(k/M)·|k|·R(k) and D = 2·(sum of λ(k/M)·R(k))², over lags -M to M, R the
    autocovariances and λ a flat top that falls to zero from M/2 on. M is twice the lag after which autocorrelations
    stay within chance. Equal to arch's ``optimal_block_length``, whose import takes longer than all of this.

    At least one, and a third of the series or 3·sqrt(n) at most.
    """
    found = series(returns, 1)
    count = len(found)
    if count < FEWEST_FOR_LENGTH or np.ptp(found) == 0.0:
        return min(max(1.0, count / 3.0), float(np.cbrt(count)))
    most_lags = math.ceil(math.sqrt(count)) + STILL
    deviations = found - np.mean(found)
    products = np.array([deviations[lag:] @ deviations[: count - lag] for lag in range(most_lags + 1)])
    lags = min(2 * max(_last_lag(deviations, products), 1), most_lags)
    shares = np.arange(1, lags + 1) / lags
    weighted = 2.0 * np.minimum(1.0, 2.0 * (1.0 - shares)) * products[1 : lags + 1] / count
    slope = float(np.sum(weighted * np.arange(1, lags + 1)))
    spread = 2.0 * float(products[0] / count + np.sum(weighted)) ** 2
    if spread == 0.0:
        return 1.0
    length = float(np.cbrt(2.0 * slope**2 / spread * count))
    return min(max(1.0, length), math.ceil(min(3.0 * math.sqrt(count), count / 3.0)))


def _last_lag(deviations: Floats, products: Floats) -> int:
    """The lag after which ``STILL`` autocorrelations in a row are within chance; all lags if there is none."""
    count = len(deviations)
    squares = np.cumsum(deviations**2)
    lags = np.arange(len(products))
    # Each product is compared with the deviations that are left on either side of the gap.
    after, before = squares[-1] - squares[lags], squares[count - lags - 2]
    scale = np.sqrt(after * before)
    correlations = np.divide(np.abs(products), scale, out=np.zeros(len(products)), where=scale > 0.0)
    is_chance = correlations < 2.0 * math.sqrt(math.log10(count) / count)
    for lag in range(STILL, len(products)):
        if is_chance[lag - STILL : lag].all():
            return lag - STILL
    return len(products)


def generator(seed: int, part: int = 0) -> np.random.Generator:
    """A counter-based generator for one part of a piece of work; parts do not overlap and need no order."""
    if seed < 0:
        raise SeriesInvalid(f"seed is {seed}: it must be zero or more")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, part])))


def stationary(chance: np.random.Generator, count: int, length: float, runs: int, horizon: int | None = None) -> Ints:
    """Indices of days, shape (runs, horizon).

    Args:
        count: days there are.
        length: mean length of a block; 1 resamples single days.
        horizon: days of a resample; as many as there are unless given.
    """
    days = _checked(count, length, horizon)
    begins = chance.random((runs, days)) < 1.0 / length
    begins[:, 0] = True
    starts = chance.integers(0, count, (runs, days))
    place = np.arange(days)
    # Where the block that holds each day began, then how far into it the day is.
    began = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    found: Ints = (np.take_along_axis(starts, began, axis=1) + place - began) % count
    return found


def matched(
    chance: np.random.Generator, labels: ArrayLike, length: float, runs: int, horizon: int | None = None
) -> Ints:
    """``stationary``, in which a new block begins on a day whose label is that of the day that would have come next.

    Args:
        labels: what is matched, one whole number for each day, such as the regime's.
    """
    kinds = np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
    count = len(kinds)
    days = _checked(count, length, horizon)
    by_kind = np.argsort(kinds, kind="stable")
    sizes = np.bincount(kinds)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    found = np.empty((runs, days), dtype=np.int64)
    found[:, 0] = chance.integers(0, count, runs)
    for day in range(1, days):
        follows = (found[:, day - 1] + 1) % count
        kind = kinds[follows]
        jump = by_kind[first[kind] + (chance.random(runs) * sizes[kind]).astype(np.int64)]
        found[:, day] = np.where(chance.random(runs) < 1.0 / length, jump, follows)
    return found


def _checked(count: int, length: float, horizon: int | None) -> int:
    if count < 1:
        raise SeriesInvalid("there is no day to resample")
    if not 1.0 <= length <= count:
        raise SeriesInvalid(f"block is {length}: it must be from 1 to the {count} days there are")
    days = count if horizon is None else horizon
    if days < 1:
        raise SeriesInvalid(f"horizon is {days}: it must be at least one day")
    return days


def longest_run(is_so: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Floats:
    """Longest unbroken stretch of true values in each row, shape (runs,)."""
    place = np.arange(1, is_so.shape[1] + 1)
    last_false = np.maximum.accumulate(np.where(is_so, 0, place), axis=1)
    longest: Floats = np.max(place - last_false, axis=1).astype(np.float64)
    return longest
