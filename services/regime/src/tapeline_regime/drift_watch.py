"""Drift as it is measured in the running regime service: one set of detectors per instrument, fed by the tape.

The watch folds the regime core's own tables over the facts it is shown, in a state of its own, so it knows the belief
*before* each bar and there is one text of what a bar, a promotion or a rollback means. It hears the past that the
service restores from, so after a restart it shows what it would have shown without. It says no fact: nothing on the
tape rests on what it shows.

It learns a promotion where it lies on the tape, the core where it was decided: a bar in between is still scored against
the model before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tapeline_common.core import Stamp, learn
from tapeline_common.events import BarClosed, Event, ModelPromoted, ModelRegistered, ModelRolledBack
from tapeline_common.measures import Kind, Labels, Measure, Watched
from tapeline_common.values import InstrumentId, ModelId
from tapeline_regime import core
from tapeline_regime.core import CORE, State
from tapeline_regime.drift import DETECTORS, Drift, Reference, reference
from tapeline_regime.filtering import prepare

APPEARS = "once a model is promoted for the instrument"

SCORE = Measure(
    name="tapeline_drift_score",
    kind=Kind.GAUGE,
    text="How far bars are from what the promoted model foresees, by one detector",
    labels=("instrument", "detector"),
    values={"detector": DETECTORS},
    appears=APPEARS,
)
THRESHOLD = Measure(
    name="tapeline_drift_threshold",
    kind=Kind.GAUGE,
    text="Score above which the detector says drift",
    labels=("instrument", "detector"),
    values={"detector": DETECTORS},
    appears=APPEARS,
)
DETECTED = Measure(
    name="tapeline_drift_detected",
    kind=Kind.GAUGE,
    text="1 while any detector's score is above its threshold",
    labels=("instrument",),
    appears=APPEARS,
)


@dataclass(slots=True)
class DriftWatch:
    """Detectors of every instrument that has a promoted model.

    Attributes:
        references: of the models that can still be promoted or rolled back to.
        drifts: of the promoted models; none before the first promotion.
    """

    state: State = field(default_factory=CORE.initial)
    references: dict[InstrumentId, dict[ModelId, Reference | None]] = field(default_factory=dict)
    drifts: dict[InstrumentId, Drift] = field(default_factory=dict)

    def heard(self, event: Event, stamp: Stamp) -> None:
        """Take in one fact the regime service hears or says, in the order of the tape."""
        if isinstance(event, BarClosed):
            self._bar(event, stamp)
            return
        learn(CORE, self.state, event, stamp)
        if isinstance(event, ModelRegistered):
            self._registered(event)
        elif isinstance(event, ModelPromoted | ModelRolledBack):
            known = self.references.get(event.instrument, {})
            self.drifts[event.instrument] = Drift(known.get(event.model))

    def _bar(self, event: BarClosed, stamp: Stamp) -> None:
        watched, drift = self.state.instruments.get(event.instrument), self.drifts.get(event.instrument)
        if watched is None or drift is None or watched.prepared is None:
            learn(CORE, self.state, event, stamp)
            return
        belief = watched.belief
        before = watched.observations[-1] if watched.observations else None
        learn(CORE, self.state, event, stamp)
        observation = watched.observations[-1] if watched.observations else None
        if observation is not None and observation is not before:
            drift.push(watched.prepared, belief, observation)

    def _registered(self, event: ModelRegistered) -> None:
        """Keep what the model's training bars were to it, while they are at hand."""
        watched = self.state.instruments.get(event.instrument)
        if watched is None or event.model not in watched.models:
            return
        known = self.references.setdefault(event.instrument, {})
        known[event.model] = _reference_of(watched, event)
        for model in [model for model in known if model not in watched.models]:
            del known[model]

    def samples(self, now_ns: int) -> Iterator[tuple[str, Labels, float]]:
        """(Name, label values, number) of each metric; nothing of an instrument without a promoted model.

        Args:
            now_ns: not looked at: between two bars nothing drifts.
        """
        for instrument, drift in self.drifts.items():
            for detector, statistic, threshold in drift.scores():
                yield SCORE.name, (instrument, detector), statistic
                yield THRESHOLD.name, (instrument, detector), threshold
            yield DETECTED.name, (instrument,), float(drift.detected)


def _reference_of(watched: core.Watched, event: ModelRegistered) -> Reference | None:
    """The training bars are the last ones, without those that closed while the model was being fitted."""
    since = sum(1 for open_ns in watched.opens_ns if open_ns > event.last_open_ns)
    observations = list(watched.observations)[: len(watched.observations) - since]
    return reference(prepare(watched.models[event.model]), observations[-event.bars :])


WATCHED = Watched(
    measures=(SCORE, THRESHOLD, DETECTED),
    hears=tuple(CORE.evolves),
    make=lambda states, clock: DriftWatch(),
    restores=True,
)
