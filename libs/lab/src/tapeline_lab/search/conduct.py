"""Carries a study out: a plan asks for trials, a fleet runs those that are not on the record, the record keeps them.

A plan is a generator that yields tasks and is sent what became of them; it knows nothing of records or fleets. A study
that goes on is the same plan, answered from the record as far as that reaches. So a search that learns from its results
makes the same choices again, and no trial is run twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from tapeline_common.events import StudyFinished, StudyOpened, TrialFinished, TrialRefused
from tapeline_lab.progress import Progress
from tapeline_lab.search.bench import NotRun, Ran, Result, Task
from tapeline_lab.search.figures import returns_digest
from tapeline_lab.search.fleet import Fleet
from tapeline_lab.search.record import Record, Trial

T = TypeVar("T")

Plan: TypeAlias = Generator[Sequence[Task], list[Trial], T]
"""Yields tasks, is sent their trials in the same order, and returns what came of it."""


@dataclass(slots=True)
class Conducted(Generic[T]):
    """What came of a study.

    Attributes:
        trials: in the order of their numbers; those of the record included.
        repeated: how many of them the record knew.
        outcome: what the plan returned; ``None`` if it was interrupted.
    """

    trials: list[Trial] = field(default_factory=list)
    repeated: int = 0
    outcome: T | None = None
    is_interrupted: bool = False

    @property
    def finished(self) -> list[TrialFinished]:
        return [trial for trial in self.trials if isinstance(trial, TrialFinished)]


class RecordDiffers(Exception):
    """A recorded trial is not the one that the plan asks for: the record was made by other code."""


def conduct(
    opened: StudyOpened,
    plan: Plan[T],
    record: Record,
    fleet: Fleet,
    best: Callable[[list[Trial]], int],
    progress: Progress | None = None,
) -> Conducted[T]:
    """Run a plan to its end. An interrupt (Ctrl-C) ends it early and keeps what is done.

    best: number of the best of all trials, for ``StudyFinished``. Raises ``FleetFailed`` and ``RecordDiffers``.
    """
    done: Conducted[T] = Conducted(repeated=len(record.known))
    try:
        tasks = next(plan)
        while True:
            start = len(done.trials)
            for trial in _trials(opened, tasks, start, record, fleet):
                done.trials.append(trial)
                if progress is not None:
                    progress(len(done.trials), opened.total)
            tasks = plan.send(done.trials[start:])
    except StopIteration as end:
        done.outcome = end.value
    except KeyboardInterrupt:
        done.is_interrupted = True
        return done
    finished = len(done.finished)
    record.finish(StudyFinished(opened.study, finished, len(done.trials) - finished, best(done.trials)))
    return done


def _trials(opened: StudyOpened, tasks: Sequence[Task], start: int, record: Record, fleet: Fleet) -> Iterator[Trial]:
    """A trial for each task: recorded ones first, then those that are run now."""
    known = record.known[start : start + len(tasks)]
    for task, trial in zip(tasks, known, strict=False):
        asked = (task.ground, task.strategy, task.parameters)
        if asked != (trial.ground, trial.strategy, trial.parameters):
            raise RecordDiffers(f"trial {trial.number} is {trial.strategy} {trial.parameters}, now {asked} is wanted")
        yield trial
    left = tasks[len(known) :]
    for number, (task, result) in enumerate(zip(left, fleet.results(left), strict=True), start + len(known)):
        trial = trial_of(opened, number, task, result)
        record.take(trial, result.returns if isinstance(result, Ran) else None)
        if task.keeps_returns and isinstance(result, Ran):
            record.keep(number, result.returns)
        yield trial


def trial_of(opened: StudyOpened, number: int, task: Task, result: Result) -> Trial:
    """The fact about a trial."""
    if isinstance(result, NotRun):
        return TrialRefused(
            opened.study, number, task.strategy, task.parameters, task.ground, result.reason, result.detail
        )
    ground = opened.grounds[task.ground]
    return TrialFinished(
        study=opened.study,
        number=number,
        strategy=task.strategy,
        parameters=task.parameters,
        instrument=ground.instrument,
        timeframe=ground.timeframe,
        ground=task.ground,
        first_open_ns=ground.first_open_ns,
        last_close_ns=ground.last_close_ns,
        seed=opened.seed,
        figures=result.figures,
        returns=returns_digest(result.returns),
    )
