"""Probability of backtest overfitting: how often the best of a search is below its peers on days it was not chosen by.

Combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de Prado and Zhu, "The Probability of Backtest
Overfitting", 2017): the days are cut into S blocks; each half of them chooses the trial with the best Sharpe ratio, the
other half ranks it. All C(S, S/2) halves are taken, so nothing here is drawn by chance.

Sums and sums of squares of each block are enough for every half, so one matrix product replaces the splits;
``backtest_overfitting_naive`` is the same written out, and a test holds them together. It judges the *choosing*, not
the chosen trial: a search with nothing in it gives about one half.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from tapeline_lab.validity.series import Floats, Ints, SeriesInvalid, trial_matrix
from tapeline_lab.validity.sharpe import FLAT, sharpe_ratios

MOST_SPLITS = 20
"""C(20, 10) is 184,756 halves; more blocks say no more and take minutes."""

CELLS = 4_000_000
"""Numbers of one working matrix: halves are taken in parts, so that many trials do not need much memory."""


@dataclass(frozen=True, slots=True)
class Overfitting:
    """What the halves found. Ratios are Sharpe ratios per period; shapes (halves,).

    Attributes:
        probability: PBO, the share of halves whose choice ranked at the median or below on the other half.
        logits: of the choice's relative rank on the other half; below zero is worse than the median trial.
        chosen: number of the trial that each half chose.
        inside, outside: its Sharpe ratio on the half that chose it and on the other one.
        slope: of ``outside`` over ``inside`` by least squares (performance degradation).
        probability_loss: share of halves whose choice lost on the other half.
    """

    probability: float
    logits: Floats
    chosen: Ints
    inside: Floats
    outside: Floats
    slope: float
    probability_loss: float


def backtest_overfitting(matrix: ArrayLike, splits: int = 16) -> Overfitting:
    """PBO of a search.

    Args:
        matrix: returns of every trial, shape (periods, trials); two trials at least.
        splits: how many blocks the periods are cut into; even. Each needs two periods.
    """
    found, edges = _blocks(matrix, splits)
    # Sums of squares lose digits where the mean is large beside the deviation; the mean of all days is put back below.
    mean = np.mean(found, axis=0)
    centred = found - mean
    sums = np.add.reduceat(centred, edges[:-1], axis=0)
    squares = np.add.reduceat(centred**2, edges[:-1], axis=0)
    halves, sizes = _halves(splits), np.diff(edges)
    ranks, chosen, inside, outside = [], [], [], []
    part = max(1, CELLS // found.shape[1])
    for first in range(0, len(halves), part):
        took = halves[first : first + part]
        on = _ratios(took, sums, squares, sizes, mean)
        off = _ratios(1.0 - took, sums, squares, sizes, mean)
        best, rows = np.argmax(on, axis=1), np.arange(len(took))
        theirs = off[rows, best]
        # The middle rank of equals: a trial that many others equal is neither above nor below them.
        below, equal = np.sum(off < theirs[:, None], axis=1), np.sum(off == theirs[:, None], axis=1)
        ranks.append(below + (equal + 1) / 2.0)
        chosen.append(best)
        inside.append(on[rows, best])
        outside.append(theirs)
    return _judged(
        np.concatenate(ranks) / (found.shape[1] + 1),
        np.concatenate(chosen),
        np.concatenate(inside),
        np.concatenate(outside),
    )


def backtest_overfitting_naive(matrix: ArrayLike, splits: int = 16) -> Overfitting:
    """``backtest_overfitting`` split by split, as the paper tells it. Slow; for tests."""
    found, edges = _blocks(matrix, splits)
    ranks, chosen, inside, outside = [], [], [], []
    blocks = np.split(found, edges[1:-1])
    for half in itertools.combinations(range(splits), splits // 2):
        on = sharpe_ratios(np.concatenate([blocks[number] for number in half]))
        off = sharpe_ratios(np.concatenate([blocks[number] for number in range(splits) if number not in half]))
        best = int(np.argmax(on))
        ranks.append(float(np.sum(off < off[best])) + (float(np.sum(off == off[best])) + 1) / 2)
        chosen.append(best)
        inside.append(float(on[best]))
        outside.append(float(off[best]))
    trials = found.shape[1]
    return _judged(np.array(ranks) / (trials + 1), np.array(chosen), np.array(inside), np.array(outside))


def _blocks(matrix: ArrayLike, splits: int) -> tuple[Floats, Ints]:
    """The checked matrix and the edges of its blocks, whose lengths differ by one at most."""
    if splits % 2 or not 2 <= splits <= MOST_SPLITS:
        raise SeriesInvalid(f"splits is {splits}: use an even number from 2 to {MOST_SPLITS}")
    found = trial_matrix(matrix, least_rows=2 * splits, least_trials=2)
    return found, np.array([len(found) * number // splits for number in range(splits + 1)])


@lru_cache(maxsize=4)
def _halves(splits: int) -> Floats:
    """One row for each way to take half of the blocks: 1 for those taken."""
    taken = np.array(list(itertools.combinations(range(splits), splits // 2)))
    halves = np.zeros((len(taken), splits))
    halves[np.arange(len(taken))[:, None], taken] = 1.0
    halves.flags.writeable = False
    return halves


def _ratios(took: Floats, sums: Floats, squares: Floats, sizes: Ints, mean: Floats) -> Floats:
    """Sharpe ratios of all trials on the blocks taken, shape (halves, trials); zero where a trial stands still."""
    count = (took @ sizes)[:, None]
    offset = (took @ sums) / count
    spread = took @ squares
    variance = (spread - count * offset**2) / (count - 1)
    level = offset + mean
    moves = variance > FLAT * (spread / count + level**2)
    deviation = np.sqrt(np.where(moves, variance, 1.0))
    ratios: Floats = np.where(moves, level / deviation, 0.0)
    return ratios


def _judged(relative_ranks: Floats, chosen: Ints, inside: Floats, outside: Floats) -> Overfitting:
    logits = np.log(relative_ranks / (1.0 - relative_ranks))
    spread = inside - np.mean(inside)
    squares = float(spread @ spread)
    slope = float(spread @ (outside - np.mean(outside))) / squares if squares > 0.0 else 0.0
    # A middle rank is zero but for rounding.
    lost = float(np.mean(logits <= 1e-12))
    return Overfitting(lost, logits, chosen, inside, outside, slope, float(np.mean(outside < 0.0)))
