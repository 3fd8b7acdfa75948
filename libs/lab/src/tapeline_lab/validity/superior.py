"""Is any trial better than the benchmark, when all that were tried are taken into account?

White's Reality Check (2000), Hansen's test for Superior Predictive Ability (2005) and the StepM procedure of Romano and
Wolf (2005), computed by ``arch`` on *losses*: minus the returns. Series keep their order within blocks and all trials
are resampled by the same days, so dependence in time and between trials is kept.

The benchmark is what one could have done instead: nothing (zeros), or buy-and-hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tapeline_lab.validity.blocks import block_length
from tapeline_lab.validity.series import Floats, SeriesInvalid, between, series, trial_matrix
from tapeline_lab.validity.sharpe import FLAT

RUNS = 1_000


@dataclass(frozen=True, slots=True)
class Superiority:
    """p-values of "no trial beats the benchmark"; small ones speak against it.

    Attributes:
        consistent: Hansen's SPA, the one to quote. ``lower`` and ``upper`` are its liberal and conservative bounds.
        reality_check: White's, not studentised and with every trial taken into account, however bad.
        best: number of the trial with the highest mean excess return.
        block, runs, seed: of the stationary bootstrap.
    """

    consistent: float
    lower: float
    upper: float
    reality_check: float
    best: int
    block: int
    runs: int
    seed: int


def superior_predictive_ability(
    matrix: ArrayLike, benchmark: ArrayLike | None = None, *, seed: int, block: int | None = None, runs: int = RUNS
) -> Superiority:
    """White's and Hansen's tests.

    Args:
        matrix: returns of every trial, shape (periods, trials).
        benchmark: its returns, shape (periods,); earning nothing unless given.
        block: mean length of a block; from the trials' excess returns unless given.
    """
    from arch.bootstrap import SPA

    losses, base, length, moving = _losses(matrix, benchmark, block)
    kept = losses[:, moving]
    best = int(np.argmin(np.mean(losses, axis=0)))
    if kept.shape[1] == 0:
        return Superiority(1.0, 1.0, 1.0, 1.0, best, length, runs, seed)
    hansen = SPA(base, kept, block_size=length, reps=runs, bootstrap="stationary", seed=seed)
    white = SPA(base, kept, block_size=length, reps=runs, bootstrap="stationary", studentize=False, seed=seed)
    hansen.compute()
    white.compute()
    lower, consistent, upper = (float(hansen.pvalues[name]) for name in ("lower", "consistent", "upper"))
    return Superiority(consistent, lower, upper, float(white.pvalues["upper"]), best, length, runs, seed)


def superior_trials(
    matrix: ArrayLike,
    benchmark: ArrayLike | None = None,
    *,
    seed: int,
    size: float = 0.05,
    block: int | None = None,
    runs: int = RUNS,
) -> tuple[int, ...]:
    """Numbers of the trials that beat the benchmark, by StepM; one is wrong with probability ``size`` at most."""
    from arch.bootstrap import StepM

    between(size, 0.0, 1.0, "size")
    losses, base, length, moving = _losses(matrix, benchmark, block)
    numbers = np.flatnonzero(moving)
    if len(numbers) == 0:
        return ()
    steps = StepM(base, losses[:, moving], size=size, block_size=length, reps=runs, bootstrap="stationary", seed=seed)
    steps.compute()
    return tuple(numbers[np.sort(np.array(steps.superior_models, dtype=np.int64))].tolist())


def _losses(
    matrix: ArrayLike, benchmark: ArrayLike | None, block: int | None
) -> tuple[Floats, Floats, int, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Losses of trials and benchmark, the length of a block, and which trials differ from the benchmark at all."""
    found = trial_matrix(matrix, least_rows=10)
    base = np.zeros(len(found)) if benchmark is None else series(benchmark, len(found), "benchmark")
    if len(base) != len(found):
        raise SeriesInvalid(f"benchmark has {len(base)} periods, the trials have {len(found)}: give the same days")
    excess = found - base[:, None]
    moving = np.var(excess, axis=0) > FLAT * np.mean(excess**2, axis=0)
    if block is None:
        # The median: one trial with a long memory should not leave too few blocks for all the others.
        lengths = [block_length(excess[:, number]) for number in np.flatnonzero(moving)]
        block = max(1, math.ceil(float(np.median(lengths)))) if lengths else 1
    if not 1 <= block <= len(found):
        raise SeriesInvalid(f"block is {block}: it must be from 1 to the {len(found)} periods")
    return -found, -base, block, moving
