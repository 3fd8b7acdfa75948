"""What else could have happened: many histories made of the days, or the trades, of one.

- ``monte_carlo``: days in blocks (``blocks``), with regimes if they are given, of one series or of a portfolio's
  columns drawn together (the same days for all, so that what falls together falls together).
- ``reshuffle_trades``: the same trades in another order, or drawn with replacement. It answers one question, the luck
  of their order; trades lose their dates, so regimes and what lies between trades are gone.

A ``Fan`` is a law, not a forecast: it says what days *like these* allow. Whoever chose the strategy by looking at these
days gets a fan that is too friendly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from tapeline_lab.validity import figures
from tapeline_lab.validity.blocks import block_length, generator, longest_run, matched, stationary
from tapeline_lab.validity.series import Floats, Ints, SeriesInvalid, series, trial_matrix

RUNS = 10_000
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
POINTS = 260
"""Moments at which the bands are kept, evenly spread: as many as a picture can show."""

CELLS = 1_000_000
"""Numbers drawn at once. A part of the runs has its own generator, so this is part of what a seed means."""

Progress = Callable[[int, int], None]
"""Told the runs done and the runs in all."""


class Way(StrEnum):
    """What histories are made of."""

    BLOCK = "block"
    JOINT = "joint"
    SHUFFLE = "shuffle"
    TRADES = "trades"


@dataclass(frozen=True, slots=True)
class Law:
    """How one figure is distributed over the histories. ``values`` are sorted, shape (runs,).

    Attributes:
        quantiles: at ``LEVELS``.
        observed: the figure of the history that was; ``None`` where it is of another length and does not compare.
        rank: share of the histories whose figure is at most the observed one.
    """

    values: Floats
    quantiles: tuple[float, ...]
    observed: float | None
    rank: float | None


@dataclass(frozen=True, slots=True)
class Fan:
    """Quantiles of many histories.

    Attributes:
        steps: which step each column of ``bands`` is at, from 0; days, or trades where those are reordered.
        bands: equity for one unit at the start, shape (5, len(steps)), one row for each of ``LEVELS``.
        observed: equity of the history that was, at the same steps; shorter or longer if there is a horizon.
        total_return, max_drawdown, time_under_water: laws; the last is the longest stretch, in steps.
        sharpe: annualised; absent where steps are trades.
        ruin_threshold: the loss, as a fraction of the start, that counts as ruin.
        ruin: share of histories that reached it at any step.
        ruin_error: half the width of the 95 % interval of ``ruin`` that the number of runs leaves.
        loss: share of histories that ended below their start.
        block: mean length of a block in days; 1 for trades.
        regimes: for each label of the days, share of the days, in the histories on average and in what was.
    """

    way: Way
    runs: int
    seed: int
    horizon: int
    block: float
    steps: Ints
    bands: Floats
    observed: Floats
    total_return: Law
    max_drawdown: Law
    time_under_water: Law
    sharpe: Law | None
    ruin_threshold: float
    ruin: float
    ruin_error: float
    loss: float
    regimes: dict[str, tuple[float, float]]


def monte_carlo(
    returns: ArrayLike,
    regimes: ArrayLike | None = None,
    *,
    seed: int,
    runs: int = RUNS,
    horizon: int | None = None,
    block: float | None = None,
    weights: ArrayLike | None = None,
    periods_per_year: float = 365.0,
    ruin: float = 0.5,
    progress: Progress | None = None,
) -> Fan:
    """Histories of resampled days.

    Args:
        returns: shape (n,), or (n, accounts) for a portfolio of accounts that each keep what they earn.
        regimes: a label for each day, shape (n,); blocks then follow each other as regimes did.
        horizon: days of a history; n unless given.
        block: mean length of a block; estimated from the (portfolio's) returns unless given.
        weights: shares of the accounts at the start, equal unless given; they add up to one.
        ruin: loss as a fraction of the start.
    """
    columns, shares = _accounts(returns, weights)
    days, labels = len(columns), None if regimes is None else _labels(regimes, len(columns))
    observed = _portfolio(columns[None, :, :], shares)
    length = block_length(_returns(observed)[0]) if block is None else float(block)
    steps = days if horizon is None else horizon

    def histories(number: int, count: int) -> tuple[Floats, Ints]:
        chance = generator(seed, number)
        if labels is None:
            drawn = stationary(chance, days, length, count, steps)
        else:
            drawn = matched(chance, labels[1], length, count, steps)
        return _portfolio(columns[drawn], shares), drawn

    work = _Work(runs, steps, ruin, seed, periods_per_year)
    times = np.zeros(0 if labels is None else len(labels[0]))
    for number, first, count in work.parts(columns.shape[1]):
        curves, drawn = histories(number, count)
        work.take(curves)
        if labels is not None:
            times += np.bincount(labels[1][drawn].ravel(), minlength=len(times))
        if progress is not None:
            progress(first + count, runs)
    seen = {}
    if labels is not None:
        were = np.bincount(labels[1], minlength=len(times)) / days
        drawn_shares = times / (runs * steps)
        seen = {str(name): (float(a), float(b)) for name, a, b in zip(labels[0], drawn_shares, were, strict=True)}
    return work.fan(Way.BLOCK if labels is None else Way.JOINT, observed[0], length, seen)


def reshuffle_trades(
    results: ArrayLike,
    start_equity: float,
    *,
    seed: int,
    runs: int = RUNS,
    replace: bool = False,
    ruin: float = 0.5,
    progress: Progress | None = None,
) -> Fan:
    """Histories of reordered trades, one after the other.

    Each trade counts as what it earned on the equity before it, so that histories compound and each order of the same
    trades ends where the history did.

    Args:
        results: of each trade after costs, in account currency and order of closing.
        start_equity: what the account had before the first.
        replace: draw with replacement instead, so that the end varies too.
    """
    earned = series(results, 1, "results of trades")
    if not start_equity > 0.0:
        raise SeriesInvalid(f"start_equity is {start_equity}: it must be above zero")
    before = start_equity + np.concatenate([[0.0], np.cumsum(earned)[:-1]])
    if (before <= 0.0).any():
        raise SeriesInvalid("the account was ruined before its last trade: there is nothing to reorder")
    rows = (earned / before)[None, :]
    work = _Work(runs, len(earned), ruin, seed, None)
    for number, first, count in work.parts(1):
        chance = generator(seed, number)
        if replace:
            drawn = chance.integers(0, len(earned), (count, len(earned)))
        else:
            drawn = chance.permuted(np.broadcast_to(np.arange(len(earned)), (count, len(earned))), axis=1)
        work.take(figures.equity(rows[0][drawn]))
        if progress is not None:
            progress(first + count, runs)
    return work.fan(Way.TRADES if replace else Way.SHUFFLE, figures.equity(rows)[0], 1.0, {})


class _Work:
    """Histories come in parts; kept of each is what the fan shows."""

    def __init__(self, runs: int, steps: int, ruin: float, seed: int, year: float | None) -> None:
        if runs < 1:
            raise SeriesInvalid(f"runs is {runs}: at least one is needed")
        if not 0.0 < ruin <= 1.0:
            raise SeriesInvalid(f"ruin is {ruin}: use the loss that counts as ruin, a fraction of the start up to 1")
        if steps < 1:
            raise SeriesInvalid(f"horizon is {steps}: it must be at least one day")
        self._runs, self._horizon, self._ruin, self._seed, self._year = runs, steps, ruin, seed, year
        self._steps = np.unique(np.linspace(0, steps, min(POINTS, steps + 1)).round().astype(np.int64))
        self._curves = np.empty((runs, len(self._steps)))
        self._done = 0
        self._ruined = 0
        self._found: dict[str, list[Floats]] = {"total": [], "drawdown": [], "under": [], "sharpe": []}

    def parts(self, accounts: int) -> list[tuple[int, int, int]]:
        """(number, first run, runs) of each part."""
        size = max(1, CELLS // (self._horizon * accounts))
        return [
            (number, first, min(size, self._runs - first)) for number, first in enumerate(range(0, self._runs, size))
        ]

    def take(self, curves: Floats) -> None:
        count = len(curves)
        self._curves[self._done : self._done + count] = curves[:, self._steps]
        self._done += count
        self._ruined += int(np.sum(np.min(curves, axis=1) <= 1.0 - self._ruin))
        for name, values in self._measured(curves).items():
            self._found[name].append(values)

    def fan(self, way: Way, observed: Floats, block: float, regimes: dict[str, tuple[float, float]]) -> Fan:
        was = self._measured(observed[None, :])
        # Only a ratio compares between histories of different lengths.
        compares = {name for name in was if name == "sharpe" or len(observed) == self._horizon + 1}
        laws = {
            name: _law(np.concatenate(parts), float(was[name][0]) if name in compares else None)
            for name, parts in self._found.items()
            if parts
        }
        share = self._ruined / self._runs
        at = self._steps[self._steps < len(observed)]
        return Fan(
            way=way,
            runs=self._runs,
            seed=self._seed,
            horizon=self._horizon,
            block=block,
            steps=self._steps,
            bands=np.quantile(self._curves, LEVELS, axis=0),
            observed=observed[at],
            total_return=laws["total"],
            max_drawdown=laws["drawdown"],
            time_under_water=laws["under"],
            sharpe=laws.get("sharpe"),
            ruin_threshold=self._ruin,
            ruin=share,
            ruin_error=_share_error(share, self._runs),
            loss=float(np.mean(laws["total"].values < 0.0)),
            regimes=regimes,
        )

    def _measured(self, curves: Floats) -> dict[str, Floats]:
        falls = figures.drawdowns(curves)
        found = {
            "total": curves[:, -1] - 1.0,
            "drawdown": np.max(falls, axis=1),
            "under": longest_run(falls[:, 1:] > 0.0),
        }
        if self._year is not None and curves.shape[1] > 2:
            found["sharpe"] = figures.sharpe(_returns(curves), self._year)
        return found


def _law(values: Floats, observed: float | None) -> Law:
    ordered = np.sort(values)
    quantiles = tuple(float(one) for one in np.quantile(ordered, LEVELS))
    if observed is None:
        return Law(ordered, quantiles, None, None)
    rank = float(np.searchsorted(ordered, observed + 1e-12 * (1.0 + abs(observed)), side="right")) / len(ordered)
    return Law(ordered, quantiles, observed, rank)


def _share_error(share: float, runs: int) -> float:
    """Half the width of Wilson's 95 % interval, which is not zero at a share of zero."""
    z = 1.959963984540054
    return z / (1.0 + z**2 / runs) * float(np.sqrt(share * (1.0 - share) / runs + z**2 / (4.0 * runs**2)))


def _accounts(returns: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    """Columns (n, accounts) and their shares of the start."""
    found = np.asarray(returns)
    columns = trial_matrix(found) if found.ndim == 2 else series(found)[:, None]
    if weights is None:
        return columns, np.full(columns.shape[1], 1.0 / columns.shape[1])
    shares = series(weights, 1, "weights")
    if len(shares) != columns.shape[1]:
        raise SeriesInvalid(f"{len(shares)} weights for {columns.shape[1]} accounts: give one for each")
    if (shares < 0.0).any() or abs(float(np.sum(shares)) - 1.0) > 1e-9:
        raise SeriesInvalid(f"weights are {shares.tolist()}: they must be zero or more and add up to one")
    return columns, shares


def _labels(regimes: ArrayLike, days: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.str_]], Ints]:
    """Names of the labels, and the number of each day's."""
    found = np.asarray(regimes).astype(np.str_)
    if found.shape != (days,):
        raise SeriesInvalid(f"regimes have the shape {found.shape}: give one label for each of the {days} days")
    names, numbers = np.unique(found, return_inverse=True)
    return names, numbers.astype(np.int64)


def _portfolio(columns: Floats, shares: Floats) -> Floats:
    """Equity of accounts that each keep what they earn, for returns (runs, days, accounts): (runs, days + 1)."""
    if columns.shape[2] == 1:
        return figures.equity(columns[:, :, 0])
    total = np.zeros((columns.shape[0], columns.shape[1] + 1))
    for account, share in enumerate(shares):
        total += share * figures.equity(columns[:, :, account])
    return total


def _returns(curves: Floats) -> Floats:
    before = curves[:, :-1]
    found: Floats = np.divide(np.diff(curves, axis=1), before, out=np.zeros_like(before), where=before > 0.0)
    return found
