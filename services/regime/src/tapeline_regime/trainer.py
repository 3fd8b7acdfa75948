"""The trainer: author of models. Takes the training window out of the regime core's state and fits it elsewhere.

Deterministic for the same window and seed, so a replay that trains inline registers the same model. The fit itself is
in ``training``; promotion is none of its business.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tapeline_common.events import Event, ModelRegistered, TrainingFailed, TrainingRequested
from tapeline_common.values import InstrumentId, ModelId
from tapeline_common.wiring import Worker
from tapeline_regime.core import State

RESTARTS = 10
"""Ten starts find the best optimum of twenty in 93 to 98 of 100 fits of this size."""


class Job(msgspec.Struct, frozen=True):
    """A training window: closes oldest first, and the open times of its first and last bar."""

    instrument: InstrumentId
    closes: tuple[float, ...]
    first_open_ns: int
    last_open_ns: int
    seed: int


def prepare(state: State, event: TrainingRequested) -> Job:
    watched = state.instruments[event.instrument]
    return Job(event.instrument, tuple(watched.closes), watched.opens_ns[0], watched.opens_ns[-1], state.seed)


def load() -> None:
    """Load what fitting needs, for those who measure what comes after."""
    from tapeline_regime.training import load_libraries

    load_libraries()


def run(job: Job) -> Sequence[Event]:
    from tapeline_regime.training import TrainingFailure, fit  # its libraries are loaded only where it is used

    outcome = fit(job.closes, seed=job.seed, restarts=RESTARTS)
    if isinstance(outcome, TrainingFailure):
        return (TrainingFailed(job.instrument, outcome.reason, outcome.detail),)
    return (
        ModelRegistered(
            model=ModelId(outcome.model_hash),
            instrument=job.instrument,
            arrays=msgspec.to_builtins(outcome.model),
            bars=outcome.bars,
            first_open_ns=job.first_open_ns,
            last_open_ns=job.last_open_ns,
            log_likelihood=outcome.log_likelihood,
            restarts=len(outcome.restarts),
        ),
    )


WORKER = Worker(
    author="trainer",
    asked_by=TrainingRequested,
    core="regime",
    prepare=prepare,
    run=run,
    timed_as="tapeline_training_seconds",
)
