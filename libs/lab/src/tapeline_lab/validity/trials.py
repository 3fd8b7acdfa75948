"""How many independent trials a search was worth, when its trials resemble each other.

Neighbours on a grid trade alike, so a thousand of them are not a thousand chances. Two ways of counting:

- ``EIGENVALUES``, the default: the participation ratio (sum λ)²/sum λ² of the covariance of the standardised series
  *after their common part is taken out of each period*. The Deflated Sharpe Ratio scales the expected maximum by the
  variance *between* the trials' ratios. What all trials share does not vary between them, so it must not count as
  resemblance either: fifty variants that are 95 % alike still differ in fifty ways by the little that is left, and the
  variance already says how little.
- ``CLUSTERS``: groups of an average-linkage tree, cut where trials correlate by half (after Lopez de Prado and Lewis
  2019). Easier to explain (so many ideas were tried), but it takes one tight group for one trial, whose best is then
  paid for with nothing. ``python -m bench.validity`` shows the size of both.

The estimate is only about resemblance. Trials that were run and not recorded are missing from both.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from tapeline_lab.validity.series import Floats, trial_matrix
from tapeline_lab.validity.sharpe import FLAT

CLUSTER_CORRELATION = 0.5
"""Trials whose groups correlate by less are different ideas."""


class Counting(StrEnum):
    """How independent trials are counted."""

    EIGENVALUES = "EIGENVALUES"
    CLUSTERS = "CLUSTERS"


def effective_trials(matrix: ArrayLike, counting: Counting = Counting.EIGENVALUES) -> float:
    """How many independent trials the columns are worth, from 1 to their number.

    Columns that stand still (trials that never traded) are one trial together.
    """
    columns, still = _standardised(trial_matrix(matrix))
    if columns.shape[1] == 0:
        return 1.0
    found = _participation(columns) if counting is Counting.EIGENVALUES else float(_groups(columns))
    return min(found + still, float(columns.shape[1] + still))


def _standardised(matrix: Floats) -> tuple[Floats, int]:
    """Columns that move, each with mean zero and length one, and 1 if there are others."""
    centred = matrix - np.mean(matrix, axis=0)
    squares = np.sum(centred**2, axis=0)
    moves = squares > FLAT * np.sum(matrix**2, axis=0)
    columns: Floats = centred[:, moves] / np.sqrt(squares[moves])
    return columns, int(not moves.all())


def _participation(columns: Floats) -> float:
    """Participation ratio of what tells the columns apart, plus one for the degree of freedom their mean takes.

    tr(C)² / tr(C²), where C is the smaller of the two Gram matrices, which have the same eigenvalues but for zeros.
    Sampling alone makes columns resemble each other: tr(C)²/T of tr(C²) is that (Srivastava 2005), and is taken off.
    """
    periods, count = columns.shape
    if count == 1:
        return 1.0
    apart = columns - np.mean(columns, axis=1, keepdims=True)
    gram = apart.T @ apart if count <= periods else apart @ apart.T
    trace = float(np.trace(gram))
    # The columns have length one, so a trace of rounding size means that all are the same.
    if trace < FLAT * count:
        return 1.0
    squares = float(np.sum(gram**2)) - trace**2 / periods
    return float(trace**2 / max(squares, trace**2 / (count - 1))) + 1.0


def _groups(columns: Floats) -> int:
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if columns.shape[1] == 1:
        return 1
    distance = 1.0 - np.clip(columns.T @ columns, -1.0, 1.0)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average")
    return len(np.unique(fcluster(tree, 1.0 - CLUSTER_CORRELATION, criterion="distance")))
