"""Walk-forward: search on a training period, trade the best setting on the test period after it, go on.

The tests one after the other are the result of record; no part of them was seen by the search that chose for them
(R. Pardo, "The Evaluation and Optimization of Trading Strategies", 2008). A test begins in cash. Its strategy has heard
the bars before it, but trades only within it, and what it still holds at the end is valued at the last close.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from tapeline_backtest.report import TRADING_DAYS, daily_ratios, max_drawdown
from tapeline_common.events import Parameters, StudyGround, TrialFinished
from tapeline_common.values import TrialPart
from tapeline_lab.search.bench import DAY_NS, Ground, Task
from tapeline_lab.search.conduct import Plan
from tapeline_lab.search.objectives import Objective, best_of, value_of
from tapeline_lab.search.record import Trial
from tapeline_lab.search.searching import Search, searched

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TRAINING_TESTS = 2
"""How many tests long a training is at least, where only the number of folds is given."""


class FoldsInvalid(ValueError):
    """The data do not hold such folds. The message says how long they are, and what would fit."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long the parts of a fold are.

    Attributes:
        train_days, test_days: UTC days; a fold begins at midnight, so that no day belongs to two tests.
        is_anchored: every training begins with the data, instead of moving along with its length.
        purge_bars: bars left out between training and test.
        warm_up_bars: bars heard before a training and before a test, if there are so many.
        hears_training: before a test all since its training began are heard, if that is more.
    """

    train_days: int
    test_days: int
    is_anchored: bool
    purge_bars: int
    warm_up_bars: int
    hears_training: bool = True


def even_schedule(open_ns: Ints, folds: int) -> tuple[int, int]:
    """Days of training and of test for so many tests; days that are left over are trained on.

    Raises ``FoldsInvalid``.
    """
    days = _last_day(open_ns) - _first_day(open_ns)
    test = days // (folds + TRAINING_TESTS)
    if test < 1:
        raise FoldsInvalid(f"{folds} folds need at least {folds + TRAINING_TESTS} days, the bars span {days}")
    return days - folds * test, test


def folds_of(open_ns: Ints, schedule: Schedule, file: int) -> list[Ground]:
    """Training and test of every fold, in turns. Raises ``FoldsInvalid`` if there is none."""
    origin, end = _first_day(open_ns), _last_day(open_ns)
    found: list[Ground] = []
    train_from, test_from = origin, origin + schedule.train_days
    while test_from + schedule.test_days <= end:
        days = np.array([train_from, test_from, test_from + schedule.test_days], dtype=np.int64) * DAY_NS
        start, middle, stop = np.searchsorted(open_ns, days).tolist()
        trained = middle - schedule.purge_bars
        if start < trained and middle < stop:
            least = schedule.warm_up_bars
            heard = min(max(least, middle - start) if schedule.hears_training else least, middle)
            fold = len(found) // 2
            found.append(Ground(file, start, trained, min(least, start), TrialPart.IN_SAMPLE, fold))
            found.append(Ground(file, middle, stop, heard, TrialPart.OUT_OF_SAMPLE, fold))
        test_from += schedule.test_days
        train_from = origin if schedule.is_anchored else test_from - schedule.train_days
    if not found:
        raise FoldsInvalid(
            f"{schedule.train_days} days of training and {schedule.test_days} of test do not fit into the "
            f"{end - origin} days of the bars: make them shorter"
        )
    return found


def _first_day(open_ns: Ints) -> int:
    """The first UTC day that is there from its beginning."""
    return -(-int(open_ns[0]) // DAY_NS)


def _last_day(open_ns: Ints) -> int:
    """The UTC day after the last bar's."""
    return int(open_ns[-1]) // DAY_NS + 1


# ---- the plan ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tested:
    """One fold of one strategy: the best of its training, and its test; ``None`` where there was nothing to choose."""

    train: int
    test: int
    best: TrialFinished | None
    tested: TrialFinished | None
    trained: Sequence[Trial]


def walked(searches: Sequence[Search], grounds: Sequence[StudyGround]) -> Plan[list[list[Tested]]]:
    """For each strategy, its folds in the order of the grounds, training and test in turns."""
    found = []
    for search in searches:
        found.append((yield from _walked(search, grounds)))
    return found


def _walked(search: Search, grounds: Sequence[StudyGround]) -> Plan[list[Tested]]:
    trains = [index for index, ground in enumerate(grounds) if ground.part is TrialPart.IN_SAMPLE]
    done: list[Trial] = []
    if search.settings is None:
        for train in trains:  # A sampler learns on one training at a time.
            done += yield from searched(search, [train])
    else:
        done = yield from searched(search, trains)
    trained = {train: [trial for trial in done if trial.ground == train] for train in trains}
    best = {train: _best(trained[train], search.objective) for train in trains}
    chosen = [(train, trial) for train, trial in best.items() if trial is not None]
    tests = yield [Task(train + 1, search.strategy, trial.parameters, keeps_returns=True) for train, trial in chosen]
    tested = {trial.ground: trial for trial in tests if isinstance(trial, TrialFinished)}
    return [Tested(train, train + 1, best[train], tested.get(train + 1), trained[train]) for train in trains]


def _best(trials: Sequence[Trial], objective: Objective) -> TrialFinished | None:
    finished = [trial for trial in trials if isinstance(trial, TrialFinished)]
    return best_of(finished, lambda trial: trial.figures, objective)


# ---- what came of it ---------------------------------------------------------------------------------------------


class FoldResult(msgspec.Struct, frozen=True):
    """One fold. Times are UTC ns, ratios are fractions; ``None`` where something is not defined.

    Attributes:
        degradation: one less out-of-sample over in-sample Sharpe ratio, where the latter is above zero.
    """

    fold: int
    train_from_ns: int
    train_to_ns: int
    test_from_ns: int
    test_to_ns: int
    parameters: Parameters | None
    in_sample_objective: float | None
    in_sample_sharpe: float | None
    out_of_sample_sharpe: float | None
    in_sample_return: float | None
    out_of_sample_return: float
    out_of_sample_drawdown: float
    trades: int
    market_change: float
    degradation: float | None


class Walk(msgspec.Struct, frozen=True):
    """A strategy walked over an instrument: the stitched tests are the result of record.

    Attributes:
        returns: daily, of all tests one after the other.
        annual_return: compound, like ``total_return``.
        t_statistic: mean daily return over its standard error.
        efficiency: net profit a day out of sample over that in sample (walk-forward efficiency); absent where nothing
            was earned in sample.
        degradation: one less mean out-of-sample over mean in-sample Sharpe ratio, where the latter is above zero.
        profitable_folds: share of the tests that earned something.
        rank_stability: mean rank correlation (Spearman) of the settings' objectives between neighbouring trainings;
            absent where a sampler chose different ones in each.
        market_change: what holding the instrument over the tests would have changed, before costs.
    """

    strategy: str
    instrument: str
    timeframe: str
    folds: list[FoldResult]
    days: int
    total_return: float
    annual_return: float | None
    sharpe: float | None
    sortino: float | None
    max_drawdown: float
    t_statistic: float | None
    efficiency: float | None
    degradation: float | None
    profitable_folds: float
    rank_stability: float | None
    market_change: float
    returns: list[float]


def walk_of(
    folds: Sequence[Tested],
    objective: Objective,
    calendar: str,
    returns: Callable[[Tested], Floats],
    fold_of: Callable[[Tested], FoldResult],
    name: tuple[str, str, str],
) -> Walk:
    """The stitched result. returns: daily, of a fold's test; zeros where it had nothing to trade."""
    year = TRADING_DAYS.get(calendar, 365)
    stitched = np.concatenate([returns(each) for each in folds])
    curve = np.concatenate([[1.0], np.cumprod(1.0 + stitched)])
    sharpe, sortino = daily_ratios(stitched, year)
    results = [fold_of(each) for each in folds]
    markets = np.array([1.0 + each.market_change for each in results])
    strategy, instrument, timeframe = name
    return Walk(
        strategy=strategy,
        instrument=instrument,
        timeframe=timeframe,
        folds=results,
        days=len(stitched),
        total_return=float(curve[-1] - 1.0),
        annual_return=float(curve[-1] ** (year / len(stitched)) - 1.0) if curve[-1] > 0 else None,
        sharpe=sharpe,
        sortino=sortino,
        max_drawdown=max_drawdown(curve)[0],
        t_statistic=t_statistic(stitched),
        efficiency=efficiency(folds),
        degradation=_degradation(
            _mean([each.in_sample_sharpe for each in results]), _mean([each.out_of_sample_sharpe for each in results])
        ),
        profitable_folds=float(np.mean([each.out_of_sample_return > 0.0 for each in results])),
        rank_stability=rank_stability(folds, objective),
        market_change=float(np.prod(markets) - 1.0),
        returns=stitched.tolist(),
    )


def t_statistic(returns: Floats) -> float | None:
    """Student's t of the mean; absent with fewer than two returns, or if they are all the same."""
    if len(returns) < 2:
        return None
    error = float(np.std(returns, ddof=1)) / math.sqrt(len(returns))
    return float(np.mean(returns)) / error if error > 0.0 else None


def efficiency(folds: Sequence[Tested]) -> float | None:
    """Walk-forward efficiency (Pardo, 2008): profit a day out of sample over profit a day in sample."""
    pairs = [(each.best.figures, each.tested.figures) for each in folds if each.best and each.tested]
    inside = sum(float(best.net_profit) for best, _ in pairs) / max(1, sum(best.days for best, _ in pairs))
    outside = sum(float(test.net_profit) for _, test in pairs) / max(1, sum(test.days for _, test in pairs))
    return outside / inside if inside > 0.0 else None


def fold_result(each: Tested, objective: Objective, times: Sequence[int], market_change: float) -> FoldResult:
    """times: of training and test, from and to each."""
    best = None if each.best is None else each.best.figures
    tested = None if each.tested is None else each.tested.figures
    value = None if best is None else value_of(best, objective)
    inside, outside = (None if figures is None else figures.sharpe for figures in (best, tested))
    train_from, train_to, test_from, test_to = times
    return FoldResult(
        fold=each.test // 2,
        train_from_ns=train_from,
        train_to_ns=train_to,
        test_from_ns=test_from,
        test_to_ns=test_to,
        parameters=None if each.best is None else each.best.parameters,
        in_sample_objective=None if value is None else float(value),
        in_sample_sharpe=inside,
        out_of_sample_sharpe=outside,
        in_sample_return=None if best is None else best.total_return,
        out_of_sample_return=0.0 if tested is None else tested.total_return,
        out_of_sample_drawdown=0.0 if tested is None else tested.max_drawdown,
        trades=0 if tested is None else tested.trades,
        market_change=market_change,
        degradation=_degradation(inside, outside),
    )


def _degradation(inside: float | None, outside: float | None) -> float | None:
    return None if inside is None or outside is None or inside <= 0.0 else 1.0 - outside / inside


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def rank_stability(folds: Sequence[Tested], objective: Objective) -> float | None:
    """Mean Spearman correlation of the settings' objectives between neighbouring trainings."""
    columns = [_objectives(each.trained, objective) for each in folds]
    if len(columns) < 2 or any(column.keys() != columns[0].keys() for column in columns) or len(columns[0]) < 3:
        return None
    from scipy.stats import rankdata

    ranks = [rankdata(np.array(list(column.values()))) for column in columns]
    pairs = [
        float(np.corrcoef(one, other)[0, 1]) for one, other in pairwise(ranks) if np.ptp(one) > 0 and np.ptp(other) > 0
    ]
    return sum(pairs) / len(pairs) if pairs else None


def _objectives(trials: Sequence[Trial], objective: Objective) -> dict[str, float]:
    """Objective by setting; the worst there can be where it is not defined."""
    found = {}
    for trial in trials:
        value = value_of(trial.figures, objective) if isinstance(trial, TrialFinished) else None
        found[repr(sorted(trial.parameters.items()))] = -math.inf if value is None else float(value)
    return found
