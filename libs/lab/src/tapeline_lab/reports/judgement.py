"""What the rest of the laboratory says about a run: the verdict on the evidence, the fan of other histories, a study.

The only place of reports that asks other parts. What a run has too few days for is left out of the report. A study is
counted: its trials are how often luck had a chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tapeline_backtest.session import Session
from tapeline_common.events import ParameterValue
from tapeline_lab.reports.checks import Grid
from tapeline_lab.reports.extras import Extras, Fan, Fold, Folds, Surface
from tapeline_lab.reports.metrics import Daily, year_of
from tapeline_lab.search import Study, StudyUnreadable, load
from tapeline_lab.validity import Verdict, monte_carlo, verdict, weigh
from tapeline_lab.validity.fan import LEVELS

FAN_RUNS = 1_000
FEWEST_DAYS = 20
"""Below it neither an interval nor a resampled history says anything."""


class StudyUnusable(Exception):
    """The study cannot be read; the message names the folder."""


class Judgement(msgspec.Struct, frozen=True):
    """What is handed to a report."""

    verdict: Verdict | None = None
    extras: Extras = Extras()
    grid: Grid | None = None


def judge(session: Session, by_day: Daily, studies: Sequence[Path] = (), *, is_drawn: bool) -> Judgement:
    """is_drawn: whether a page is made, for which alone histories are resampled. Raises ``StudyUnusable``."""
    fan = _fan(session, by_day) if is_drawn else None
    known = [_origin(session, folder) for folder in studies]
    searched = [one for one in known if one.ground is not None]
    walked = [one for one in known if one.ground is None]
    surface = grid = None
    for one in searched[:1]:
        surface, grid = surface_of(one.study, one.chosen), grid_of(one.study, one.chosen)
    folds = next((folds_of(one.study, one.grounds) for one in walked), None)
    return Judgement(_verdict(session, by_day, searched, walked), Extras(surface=surface, folds=folds, fan=fan), grid)


class _Origin(msgspec.Struct, frozen=True):
    """A study that a run came from.

    Attributes:
        grounds: those of the run's instrument and bars; ``ground`` is the one that a search was on, ``None`` of a
            walk-forward.
        chosen: the trial with the run's own parameters, else the best one.
        is_same_days: whether the search saw any of the run's days.
    """

    study: Any
    grounds: tuple[int, ...]
    ground: int | None
    chosen: Any
    is_same_days: bool


def _origin(session: Session, folder: Path) -> _Origin:
    """Raises ``StudyUnusable`` if the study is of other strategies or instruments."""
    study = _study(folder)
    configured = {one.kind: one.parameters for one in session.strategies.values()}
    traded = {(session.name(instrument), bars.timeframe) for instrument, bars in session.bars.items()}
    there = tuple(index for index, one in enumerate(study.grounds) if (one.instrument, one.timeframe) in traded)
    kinds = [kind for kind in study.opened.strategies if kind in configured]
    if not there or not kinds:
        tried = ", ".join(sorted({f"{one.instrument} {one.timeframe}" for one in study.grounds}))
        ran = ", ".join(sorted(f"{name} {timeframe}" for name, timeframe in traded))
        raise StudyUnusable(
            f"--study {folder} is of {', '.join(study.opened.strategies)} on {tried}, "
            f"the run of {', '.join(configured)} on {ran}: name the study it came from"
        )
    whole = [index for index in there if study.grounds[index].fold < 0]
    if not whole:
        return _Origin(study, there, None, None, is_same_days=True)
    own = [trial for trial in study.on(whole[0]) if trial.parameters == configured.get(trial.strategy)]
    best = [trial for trial in [study.best(whole[0])] if trial is not None]
    if not own and not best:
        raise StudyUnusable(f"--study {folder}: none of its trials on these bars has a result")
    where, bars = study.grounds[whole[0]], list(session.bars.values())
    is_same_days = any(
        int(one.open_ns[0]) < where.last_close_ns and int(one.close_ns[-1]) > where.first_open_ns for one in bars
    )
    return _Origin(study, there, whole[0], (own or best)[0], is_same_days)


def _verdict(session: Session, by_day: Daily, searched: Sequence[_Origin], walked: Sequence[_Origin]) -> Verdict | None:
    if len(by_day.returns) < FEWEST_DAYS or not np.ptp(by_day.returns):
        return None
    evidence = weigh(
        by_day.returns,
        seed=session.started.seed,
        periods_per_year=float(year_of(session)),
        trades=np.array([float(trade.net) for trade in session.trades]),
        **{**_walk(walked), **_searches(by_day, searched)},
    )
    return verdict(evidence)


def _searches(by_day: Daily, searched: Sequence[_Origin]) -> dict[str, Any]:
    """What ``weigh`` is told of the searches that a run came from: every trial of all of them counts.

    A run on days that no search saw was not chosen by them: it is the only one there, and outside.
    """
    if not searched:
        return {}
    first = searched[0]
    matrix = first.study.returns(first.ground)
    if not any(one.is_same_days for one in searched):
        column = first.study.on(first.ground).index(first.chosen)
        return {"trials": 1, "inside": matrix[:, column], "outside": by_day.returns}
    return {"matrix": matrix, "trials": sum(one.study.trial_count for one in searched)}


def _walk(walked: Sequence[_Origin]) -> dict[str, Any]:
    """The tests of a walk-forward are days that were not searched, its trainings' best are what was found."""
    for one in walked:
        ground = one.study.grounds[one.grounds[0]]
        strategy = one.study.opened.strategies[0]
        inside, outside = one.study.walked(ground.instrument, ground.timeframe, strategy)
        if len(inside) > 1 and len(outside) > 1:
            return {"inside": inside, "outside": outside}
    return {}


def _fan(session: Session, by_day: Daily) -> Fan | None:
    if len(by_day.returns) < FEWEST_DAYS or not np.ptp(by_day.returns):
        return None
    year = float(year_of(session))
    found = monte_carlo(by_day.returns, seed=session.started.seed, runs=FAN_RUNS, periods_per_year=year)
    return Fan(dict(zip(LEVELS, found.bands, strict=True)), found.steps, found.observed)


def _study(folder: Path) -> Study:
    try:
        return load(folder)
    except StudyUnreadable as trouble:
        raise StudyUnusable(str(trouble)) from trouble


def grid_of(study: Any, best: Any) -> Grid:
    """Values that were tried of each parameter, and the best trial's."""
    tried: dict[str, list[ParameterValue]] = {}
    for trial in study.on(best.ground):
        if trial.strategy == best.strategy:
            for name, value in trial.parameters.items():
                tried.setdefault(name, []).append(value)
    return Grid({name: sorted(set(values)) for name, values in tried.items()}, dict(best.parameters))


def surface_of(study: Any, best: Any) -> Surface | None:
    """The objective over the two parameters with the most values; the best of the others where there are more."""
    grid = grid_of(study, best)
    widest = sorted(grid.values, key=lambda name: -len(grid.values[name]))[:2]
    if len(widest) < 2 or len(grid.values[widest[1]]) < 2:
        return None
    x_name, y_name = widest
    x, y = (list(grid.values[name]) for name in widest)
    values = np.full((len(y), len(x)), np.nan)
    figure = str(study.objective)
    for trial in study.on(best.ground):
        score = getattr(trial.figures, figure)
        if trial.strategy != best.strategy or score is None:
            continue
        at = y.index(trial.parameters[y_name]), x.index(trial.parameters[x_name])
        better = min if figure == "max_drawdown" else max
        values[at] = float(score) if np.isnan(values[at]) else better(values[at], float(score))
    chosen = float(best.parameters[x_name]), float(best.parameters[y_name])
    return Surface(figure, x_name, [float(one) for one in x], y_name, [float(one) for one in y], values, chosen)


def folds_of(study: Any, grounds: Sequence[int] | None = None) -> Folds | None:
    """Sharpe ratios of a walk-forward: of each fold's best trial in training, and of what was tested after it.

    grounds: numbers of those that are meant; all of them unless given.
    """
    found = []
    meant = range(len(study.grounds)) if grounds is None else grounds
    numbers = sorted({study.grounds[index].fold for index in meant if study.grounds[index].fold >= 0})
    for number in numbers:
        sides: dict[str, float] = {}
        for index in meant:
            ground = study.grounds[index]
            best = study.best(index) if ground.fold == number else None
            if best is not None and best.figures.sharpe is not None:
                sides[str(ground.part)] = float(best.figures.sharpe)
        if len(sides) == 2:
            found.append(Fold(f"fold {number + 1}", sides["IN_SAMPLE"], sides["OUT_OF_SAMPLE"]))
    return Folds("Sharpe ratio", found) if found else None
