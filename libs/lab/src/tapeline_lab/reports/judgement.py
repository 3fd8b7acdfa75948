"""What the rest of the laboratory says about a run: the verdict on the evidence, the fan of other histories, studies.

The only place of reports that asks other parts. What a run has too few days for is left out of the report. Studies are
counted: their trials are how often luck had a chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.session import Session
from tapeline_common.commands_shared import time_text
from tapeline_common.events import Parameters, ParameterValue
from tapeline_common.values import TrialPart
from tapeline_lab.reports.checks import FEWEST_TRADES, Grid
from tapeline_lab.reports.extras import Extras, Fan, Fold, Folds, Surface
from tapeline_lab.reports.metrics import Daily, year_of
from tapeline_lab.reports.view import Span
from tapeline_lab.search import Study, StudyUnreadable, load
from tapeline_lab.validity import Verdict, bootstrap_interval, monte_carlo, verdict, weigh
from tapeline_lab.validity.fan import LEVELS

Floats = NDArray[np.float64]

SECOND_NS = 1_000_000_000

FAN_RUNS = 1_000
FEWEST_DAYS = 20
"""Below it neither an interval nor a resampled history says anything."""


class StudyUnusable(Exception):
    """The study cannot be read or is not this run's; the message names the folder."""


class Judgement(msgspec.Struct, frozen=True):
    """What is handed to a report."""

    verdict: Verdict | None = None
    extras: Extras = Extras()
    grid: Grid | None = None
    intervals: dict[str, Span] = {}


def judge(session: Session, by_day: Daily, studies: Sequence[Path] = (), *, is_drawn: bool) -> Judgement:
    """is_drawn: whether a page is made, for which alone histories are resampled. Raises ``StudyUnusable``."""
    can_weigh = len(by_day.returns) >= FEWEST_DAYS and bool(np.ptp(by_day.returns) > 0)
    fan = _fan(session, by_day) if can_weigh and is_drawn else None
    intervals = _intervals(session, by_day) if can_weigh and is_drawn else {}
    known = [_origin(session, folder) for folder in studies]
    walked = [one for one in known if one.is_walk]
    # Where nothing else was searched, the last training of a walk-forward is what a setting such as this comes from.
    searched = [one for one in known if not one.is_walk] or walked[:1]
    surface = grid = folds = None
    if searched:
        first = searched[0]
        surface = surface_of(first.study, first.run, first.ground)
        grid = grid_of(first.study, first.run, first.ground)
    if walked:
        folds = folds_of(walked[0].study, walked[0].run)
    found = _verdict(session, by_day, {**_walked(walked), **_searches(by_day, searched)}) if can_weigh else None
    return Judgement(found, Extras(surface=surface, folds=folds, fan=fan), grid, intervals)


class StudiedRun(msgspec.Struct, frozen=True):
    """What of a run its study knows: the strategy's kind and parameters, the instrument's name, bars and the period."""

    strategy: str
    parameters: Parameters
    instrument: str
    timeframe: str
    first_open_ns: int
    last_close_ns: int


class _Origin(msgspec.Struct, frozen=True):
    """A study that a run came from.

    Attributes:
        ground: the one that settings such as the run's were chosen on.
        is_walk: whether that is the last training of a walk-forward.
        is_same_days: whether the search saw any of the run's days.
    """

    study: Any
    run: StudiedRun
    ground: int
    is_walk: bool
    is_same_days: bool


def _origin(session: Session, folder: Path) -> _Origin:
    """Raises ``StudyUnusable`` if the study is of other strategies or bars, or came to nothing on these."""
    study = _study(folder)
    run = run_of(study, session)
    ground = ground_of(study, run)
    where = study.grounds[ground]
    is_same_days = run.first_open_ns < where.last_close_ns and run.last_close_ns > where.first_open_ns
    return _Origin(study, run, ground, where.part == TrialPart.IN_SAMPLE, is_same_days)


def run_of(study: Any, session: Session) -> StudiedRun:
    """The run's strategy that the study searched. Raises ``StudyUnusable`` if it searched another one or elsewhere."""
    tried = {(trial.strategy, trial.instrument, trial.timeframe) for trial in study.trials}
    frames = {session.name(instrument): bars.timeframe for instrument, bars in session.bars.items()}
    traded = [
        (one, name, frames[name])
        for one in session.strategies.values()
        for name in map(session.name, one.instruments)
        if name in frames
    ]
    for one, name, timeframe in traded:
        if (one.kind, name, timeframe) in tried:
            report = session.report
            return StudiedRun(one.kind, one.parameters, name, timeframe, report.first_open_ns, report.last_close_ns)
    own = dict.fromkeys(f"{one.kind} on {name} {timeframe}" for one, name, timeframe in traded)
    theirs = sorted(f"{strategy} on {name} {timeframe}" for strategy, name, timeframe in tried)
    raise StudyUnusable(
        f"--study {study.folder} has results of {', '.join(theirs) or 'nothing'}, this run is {', '.join(own)}: "
        "name the study that it came from"
    )


def ground_of(study: Any, run: StudiedRun) -> int:
    """The ground that settings such as the run's were chosen on: the last training of a walk-forward, else the run's
    own period where the study has it, else the first."""
    there: list[int] = sorted({trial.ground for trial in study.trials if _is_of(trial, run)})
    trainings = [index for index in there if study.grounds[index].part == TrialPart.IN_SAMPLE]
    if trainings:
        return trainings[-1]
    spans = {index: (study.grounds[index].first_open_ns, study.grounds[index].last_close_ns) for index in there}
    return next((index for index in there if spans[index] == (run.first_open_ns, run.last_close_ns)), there[0])


def _is_of(trial: Any, run: StudiedRun) -> bool:
    of_trial = trial.strategy, trial.instrument, trial.timeframe
    return bool(of_trial == (run.strategy, run.instrument, run.timeframe))


def _verdict(session: Session, by_day: Daily, searched: dict[str, Any]) -> Verdict:
    evidence = weigh(
        by_day.returns,
        seed=session.started.seed,
        periods_per_year=float(year_of(session)),
        trades=_results(session),
        **searched,
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
    if first.is_walk or any(one.is_same_days for one in searched):
        return {"matrix": matrix, "trials": sum(one.study.trial_count for one in searched)}
    trials = first.study.on(first.ground)
    own = [trial for trial in trials if _is_of(trial, first.run) and trial.parameters == first.run.parameters]
    column = trials.index(own[0] if own else first.study.best(first.ground))
    return {"trials": 1, "inside": matrix[:, column], "outside": by_day.returns}


def _walked(walked: Sequence[_Origin]) -> dict[str, Any]:
    """The tests of a walk-forward are days that were not searched, its trainings' best are what was found."""
    for one in walked:
        inside, outside = one.study.walked(one.run.instrument, one.run.timeframe, one.run.strategy)
        if len(inside) > 1 and len(outside) > 1:
            return {"inside": inside, "outside": outside}
    return {}


def _results(session: Session) -> Floats:
    return np.array([float(trade.net) for trade in session.trades])


def _intervals(session: Session, by_day: Daily) -> dict[str, Span]:
    """95 % intervals of the headline figures, in their own units; those of trades from thirty on."""
    asked: dict[str, tuple[str, Floats, dict[str, Any], float]] = {
        "net_profit": ("total_return", by_day.returns, {}, float(session.report.start_cash)),
        **{name: (name, by_day.returns, {}, 1.0) for name in ("annual_return", "sharpe", "max_drawdown")},
    }
    results = _results(session)
    if len(results) >= FEWEST_TRADES:
        asked |= {name: (name, results, {"block": 1.0}, 1.0) for name in ("win_rate", "profit_factor")}
    found = {}
    for key, (name, values, how, unit) in asked.items():
        span = bootstrap_interval(
            values, name, seed=session.started.seed, periods_per_year=float(year_of(session)), **how
        )
        found[key] = Span(span.low * unit, span.high * unit)
    return found


def _fan(session: Session, by_day: Daily) -> Fan:
    year = float(year_of(session))
    found = monte_carlo(by_day.returns, seed=session.started.seed, runs=FAN_RUNS, periods_per_year=year)
    return Fan(dict(zip(LEVELS, found.bands, strict=True)), found.steps, found.observed)


def _study(folder: Path) -> Study:
    try:
        return load(folder)
    except StudyUnreadable as trouble:
        raise StudyUnusable(str(trouble)) from trouble


def grid_of(study: Any, run: StudiedRun, ground: int) -> Grid:
    """Values that were tried of each parameter on a ground, and the run's."""
    tried: dict[str, list[ParameterValue]] = {}
    trials = [trial for trial in study.on(ground) if _is_of(trial, run)]
    for trial in trials:
        for name, value in trial.parameters.items():
            tried.setdefault(name, []).append(value)
    values = {name: sorted(set(values)) for name, values in tried.items()}
    return Grid(values, dict(run.parameters), any(trial.parameters == run.parameters for trial in trials))


def surface_of(study: Any, run: StudiedRun, ground: int) -> Surface | None:
    """The objective over the two parameters with the most values; the best of the others where there are more."""
    tried = grid_of(study, run, ground).values
    widest = sorted(filter(lambda name: not isinstance(tried[name][0], str), tried), key=lambda name: -len(tried[name]))
    if len(widest) < 2 or len(tried[widest[1]]) < 2:
        return None
    x_name, y_name = widest[:2]
    x, y = list(tried[x_name]), list(tried[y_name])
    values = np.full((len(y), len(x)), np.nan)
    figure = str(study.objective)
    better = min if figure == "max_drawdown" else max
    for trial in study.on(ground):
        score = getattr(trial.figures, figure)
        if not _is_of(trial, run) or score is None:
            continue
        at = y.index(trial.parameters[y_name]), x.index(trial.parameters[x_name])
        values[at] = float(score) if np.isnan(values[at]) else better(values[at], float(score))
    own = run.parameters.get(x_name), run.parameters.get(y_name)
    return Surface(
        figure=figure.replace("_", " "),
        x_name=x_name,
        x=[float(one) for one in x],
        y_name=y_name,
        y=[float(one) for one in y],
        values=values,
        chosen=(float(own[0]), float(own[1])) if own[0] in x and own[1] in y else None,
        ground="In the last training." if study.grounds[ground].part == TrialPart.IN_SAMPLE else "",
    )


class Step(msgspec.Struct, frozen=True):
    """A fold of a walk-forward: grounds of training and test, and on each the trial that was chosen, if one was."""

    training: int
    test: int
    trained: Any = None
    tested: Any = None


def steps_of(study: Any, run: StudiedRun) -> list[Step]:
    """The folds of the run's strategy and instrument, in order; none of a study that is no walk-forward."""
    sides: dict[int, dict[str, int]] = {}
    for index, ground in enumerate(study.grounds):
        if ground.fold >= 0 and (ground.instrument, ground.timeframe) == (run.instrument, run.timeframe):
            sides.setdefault(ground.fold, {})[str(ground.part)] = index
    found = []
    for _, grounds in sorted(sides.items()):
        if len(grounds) < 2:
            continue
        training, test = grounds[TrialPart.IN_SAMPLE], grounds[TrialPart.OUT_OF_SAMPLE]
        tested = next((trial for trial in study.on(test) if _is_of(trial, run)), None)
        trained = next(
            (
                trial
                for trial in study.on(training)
                if tested is not None and _is_of(trial, run) and trial.parameters == tested.parameters
            ),
            None,
        )
        found.append(Step(training, test, trained, tested))
    return found


def folds_of(study: Any, run: StudiedRun) -> Folds | None:
    """Sharpe ratios of a walk-forward: of what was chosen in each training, there and in the test after it."""
    found = []
    for step in steps_of(study, run):
        pair = [None if one is None else one.figures.sharpe for one in (step.trained, step.tested)]
        if pair[0] is not None and pair[1] is not None:
            ground = study.grounds[step.test]
            ends = ground.first_open_ns, ground.last_close_ns - SECOND_NS
            first, last = (time_text(time_ns)[:10] for time_ns in ends)
            found.append(Fold(f"{first} to {last}", float(pair[0]), float(pair[1])))
    return Folds("Sharpe ratio", found) if found else None
