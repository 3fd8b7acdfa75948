"""What the rest of the laboratory says about a run: the verdict on the evidence, the fan of other histories, a study.

The only place of reports that asks other parts. What a run has too few days for is left out of the report. A study is
counted: its trials are how often luck had a chance.
"""

from __future__ import annotations

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


def judge(session: Session, by_day: Daily, study: Path | None, *, is_drawn: bool) -> Judgement:
    """is_drawn: whether a page is made, for which alone histories are resampled. Raises ``StudyUnusable``."""
    fan = _fan(session, by_day) if is_drawn else None
    known = None if study is None else _study(study)
    best = None if known is None else known.best()
    if known is None or best is None:
        folds = None if known is None else folds_of(known)
        return Judgement(_verdict(session, by_day), Extras(folds=folds, fan=fan))
    return Judgement(
        verdict=_verdict(session, by_day, known.returns(best.ground), known.trial_count),
        extras=Extras(surface=surface_of(known, best), folds=folds_of(known), fan=fan),
        grid=grid_of(known, best),
    )


def _verdict(session: Session, by_day: Daily, matrix: Any = None, trials: int | None = None) -> Verdict | None:
    if len(by_day.returns) < FEWEST_DAYS or not np.ptp(by_day.returns):
        return None
    evidence = weigh(
        by_day.returns,
        seed=session.started.seed,
        periods_per_year=float(year_of(session)),
        trades=np.array([float(trade.net) for trade in session.trades]),
        matrix=matrix,
        trials=trials,
    )
    return verdict(evidence)


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


def folds_of(study: Any) -> Folds | None:
    """Sharpe ratios of a walk-forward: of each fold's best trial in training, and of what was tested after it."""
    found = []
    numbers = sorted({ground.fold for ground in study.grounds if ground.fold >= 0})
    for number in numbers:
        sides: dict[str, float] = {}
        for index, ground in enumerate(study.grounds):
            best = study.best(index) if ground.fold == number else None
            if best is not None and best.figures.sharpe is not None:
                sides[str(ground.part)] = float(best.figures.sharpe)
        if len(sides) == 2:
            found.append(Fold(f"fold {number + 1}", sides["IN_SAMPLE"], sides["OUT_OF_SAMPLE"]))
    return Folds("Sharpe ratio", found) if found else None
