"""What the rest of the laboratory says about a run: the verdict on the evidence, the fan of other histories, a study.

The only place of reports that asks other parts. Each is asked if it is installed and if the run has days enough for
it; what is missing is left out of the report. A study is counted: its trials are how often luck had a chance.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.session import Session
from tapeline_common.commands_shared import time_text
from tapeline_common.events import Parameters, ParameterValue
from tapeline_lab.reports.checks import FEWEST_TRADES, Grid
from tapeline_lab.reports.extras import Extras, Fan, Fold, Folds, Surface
from tapeline_lab.reports.metrics import Daily, year_of
from tapeline_lab.reports.view import Span

Floats = NDArray[np.float64]

VALIDITY, SEARCH = "tapeline_lab.validity", "tapeline_lab.search"

IN_SAMPLE = "IN_SAMPLE"

SECOND_NS = 1_000_000_000

FAN_RUNS = 1_000
FEWEST_DAYS = 20
"""Below it neither an interval nor a resampled history says anything."""


class StudyUnusable(Exception):
    """The study cannot be read, is not this run's, or studies are not installed; the message names the folder."""


class Judgement(msgspec.Struct, frozen=True):
    """What is handed to a report. ``verdict`` has ``level``, ``words`` and ``findings``."""

    verdict: Any = None
    extras: Extras = Extras()
    grid: Grid | None = None
    intervals: dict[str, Span] = {}


def judge(session: Session, by_day: Daily, study: Path | None, *, is_drawn: bool) -> Judgement:
    """is_drawn: whether a page is made, for which alone histories are resampled. Raises ``StudyUnusable``."""
    can_weigh = find_spec(VALIDITY) is not None and len(by_day.returns) >= FEWEST_DAYS and np.ptp(by_day.returns) > 0
    fan = _fan(session, by_day) if can_weigh and is_drawn else None
    intervals = _intervals(session, by_day) if can_weigh and is_drawn else {}
    if study is None:
        return Judgement(_verdict(session, by_day) if can_weigh else None, Extras(fan=fan), None, intervals)
    known = _study(study)
    run = run_of(known, session)
    ground = ground_of(known, run)
    verdict = None
    if can_weigh:
        inside, outside = walked_returns(known, run)
        matrix = known.returns(ground)
        verdict = _verdict(session, by_day, matrix=matrix, trials=known.trial_count, inside=inside, outside=outside)
    return Judgement(
        verdict=verdict,
        extras=Extras(surface=surface_of(known, run, ground), folds=folds_of(known, run), fan=fan),
        grid=grid_of(known, run, ground),
        intervals=intervals,
    )


class StudiedRun(msgspec.Struct, frozen=True):
    """What of a run its study knows: the strategy's kind, its parameters, the instrument's name and the period."""

    strategy: str
    parameters: Parameters
    instrument: str
    first_open_ns: int
    last_close_ns: int


def run_of(study: Any, session: Session) -> StudiedRun:
    """The run's strategy that the study searched. Raises ``StudyUnusable`` if it searched another one or elsewhere."""
    tried = {(trial.strategy, trial.instrument) for trial in study.trials}
    traded = [(one, session.name(each)) for one in session.strategies.values() for each in one.instruments]
    for one, name in traded:
        if (one.kind, name) in tried:
            report = session.report
            return StudiedRun(one.kind, one.parameters, name, report.first_open_ns, report.last_close_ns)
    own = dict.fromkeys(f"{one.kind} on {name}" for one, name in traded)
    theirs = sorted(f"{strategy} on {name}" for strategy, name in tried)
    raise StudyUnusable(
        f"--study {study.folder} tried {', '.join(theirs) or 'nothing'}, this run is {', '.join(own)}: "
        "name the study that it came from"
    )


def ground_of(study: Any, run: StudiedRun) -> int:
    """The ground that settings such as the run's were chosen on: the last training of a walk-forward, else the run's
    own period where the study has it, else the first."""
    there: list[int] = sorted({trial.ground for trial in study.trials if _is_of(trial, run)})
    trainings = [index for index in there if study.grounds[index].part == IN_SAMPLE]
    if trainings:
        return trainings[-1]
    spans = {index: (study.grounds[index].first_open_ns, study.grounds[index].last_close_ns) for index in there}
    return next((index for index in there if spans[index] == (run.first_open_ns, run.last_close_ns)), there[0])


def _is_of(trial: Any, run: StudiedRun) -> bool:
    return (trial.strategy, trial.instrument) == (run.strategy, run.instrument)


def _verdict(session: Session, by_day: Daily, **searched: Any) -> Any:
    validity = importlib.import_module(VALIDITY)
    evidence = validity.weigh(
        by_day.returns,
        seed=session.started.seed,
        periods_per_year=float(year_of(session)),
        trades=_results(session),
        **searched,
    )
    return validity.verdict(evidence)


def _results(session: Session) -> Floats:
    return np.array([float(trade.net) for trade in session.trades])


def _intervals(session: Session, by_day: Daily) -> dict[str, Span]:
    """95 % intervals of the headline figures, in their own units; those of trades from thirty on."""
    validity = importlib.import_module(VALIDITY)
    asked: dict[str, tuple[str, Floats, dict[str, Any], float]] = {
        "net_profit": ("total_return", by_day.returns, {}, float(session.report.start_cash)),
        **{name: (name, by_day.returns, {}, 1.0) for name in ("annual_return", "sharpe", "max_drawdown")},
    }
    results = _results(session)
    if len(results) >= FEWEST_TRADES:
        asked |= {name: (name, results, {"block": 1.0}, 1.0) for name in ("win_rate", "profit_factor")}
    found = {}
    for key, (name, values, how, unit) in asked.items():
        span = validity.bootstrap_interval(
            values, name, seed=session.started.seed, periods_per_year=float(year_of(session)), **how
        )
        found[key] = Span(span.low * unit, span.high * unit)
    return found


def _fan(session: Session, by_day: Daily) -> Fan:
    validity = importlib.import_module(VALIDITY)
    year = float(year_of(session))
    found = validity.monte_carlo(by_day.returns, seed=session.started.seed, runs=FAN_RUNS, periods_per_year=year)
    levels = importlib.import_module(f"{VALIDITY}.fan").LEVELS
    return Fan(dict(zip(levels, found.bands, strict=True)), found.steps, found.observed)


def _study(folder: Path) -> Any:
    if find_spec(SEARCH) is None:
        raise StudyUnusable(f"--study {folder}: studies are not installed here")
    search = importlib.import_module(SEARCH)
    try:
        return search.load(folder)
    except search.StudyUnreadable as trouble:
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
        ground="In the last training." if study.grounds[ground].part == IN_SAMPLE else "",
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
        if ground.fold >= 0 and ground.instrument == run.instrument:
            sides.setdefault(ground.fold, {})[str(ground.part)] = index
    found = []
    for _, grounds in sorted(sides.items()):
        if len(grounds) < 2:
            continue
        training, test = grounds[IN_SAMPLE], grounds["OUT_OF_SAMPLE"]
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


def walked_returns(study: Any, run: StudiedRun) -> tuple[Floats | None, Floats | None]:
    """Daily returns of what a walk-forward chose: in all trainings, and in all tests; None of other studies.

    A test without a choice was spent in cash.
    """
    steps = steps_of(study, run)
    inside = [_returns_of(study, step.training, step.trained) for step in steps if step.trained is not None]
    outside = [
        np.zeros(study.grounds[step.test].days) if step.tested is None else _returns_of(study, step.test, step.tested)
        for step in steps
    ]
    return np.concatenate(inside) if inside else None, np.concatenate(outside) if outside else None


def _returns_of(study: Any, ground: int, trial: Any) -> Floats:
    column = [one.number for one in study.on(ground)].index(trial.number)
    found: Floats = study.returns(ground)[:, column]
    return found
