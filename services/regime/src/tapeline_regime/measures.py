"""What the regime service measures: its belief, the model it comes from, and how training and promotions went."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tapeline_common.core import Stamp
from tapeline_common.events import ModelPromoted, ModelRegistered, ModelRolledBack, PromotionRefused, TrainingFailed
from tapeline_common.measures import NS_PER_S, Kind, Labels, Measure, Measures, Number, Reading, Watched, one_hot
from tapeline_common.values import InstrumentId, ModelId, PromotionRefusal, Regime, TrainingFault
from tapeline_regime.core import REGIMES, State
from tapeline_regime.drift_watch import WATCHED

HASH_DIGITS = 12
"""Of a model's hash, in labels."""

TRAINING_EDGES = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
TRAINING_SECONDS = "tapeline_training_seconds"

REGIME = "regime"
PROMOTED = "once a model was promoted"


def _probabilities(state: State, _now_ns: int) -> Reading:
    return [
        ((instrument, regime), probability)
        for instrument, watched in state.instruments.items()
        if watched.current is not None and watched.belief is not None
        for regime, probability in zip(REGIMES, watched.belief, strict=True)
    ]


def _regimes(state: State, _now_ns: int) -> Reading:
    found: list[tuple[Labels, Number]] = []
    for instrument, watched in state.instruments.items():
        regime = Regime.UNKNOWN
        if watched.current is not None and watched.belief is not None:
            regime = REGIMES[max(range(len(REGIMES)), key=watched.belief.__getitem__)]
        found += one_hot((instrument,), regime, Regime)
    return found


def _models(state: State, _now_ns: int) -> Reading:
    return [
        ((instrument, watched.current[:HASH_DIGITS]), 1.0)
        for instrument, watched in state.instruments.items()
        if watched.current is not None
    ]


TRAINED = Measure(
    name="tapeline_model_trained_time_seconds",
    kind=Kind.GAUGE,
    text="When the current model was registered",
    labels=("instrument",),
    appears=PROMOTED,
)
PROMOTED_AT = Measure(
    name="tapeline_model_promoted_time_seconds",
    kind=Kind.GAUGE,
    text="When the current model became it, by promotion or rollback",
    labels=("instrument",),
    appears=PROMOTED,
)


class ModelTimes:
    """When models were registered, and when the current one of each instrument became it."""

    def __init__(self) -> None:
        self._registered_ns: dict[ModelId, int] = {}
        self._current: dict[InstrumentId, tuple[ModelId, int]] = {}

    def heard(self, event: Any, stamp: Stamp) -> None:
        match event:
            case ModelRegistered():
                self._registered_ns[event.model] = stamp.time_ns
            case ModelPromoted() | ModelRolledBack():
                self._current[event.instrument] = event.model, stamp.time_ns

    def samples(self, _now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        for instrument, (model, promoted_ns) in self._current.items():
            yield PROMOTED_AT.name, (instrument,), promoted_ns / NS_PER_S
            if model in self._registered_ns:
                yield TRAINED.name, (instrument,), self._registered_ns[model] / NS_PER_S


def _make_times(_states: Mapping[str, Any], _clock: Callable[[], int]) -> ModelTimes:
    return ModelTimes()


MEASURES = Measures(
    tables=(
        Measure(
            name="tapeline_regime_probability",
            kind=Kind.GAUGE,
            text="Filtered probability of a regime after the last bar",
            labels=("instrument", "regime"),
            values={"regime": tuple(REGIMES)},
            unit="probability",
            of=REGIME,
            read=_probabilities,
            appears=PROMOTED,
        ),
        Measure(
            name="tapeline_regime",
            kind=Kind.GAUGE,
            text="1 for the regime after the last bar, 0 for the others; UNKNOWN without a model",
            labels=("instrument", "regime"),
            values={"regime": tuple(Regime)},
            of=REGIME,
            read=_regimes,
            appears="where regimes are learnt, once restored",
        ),
        Measure(
            name="tapeline_model_info",
            kind=Kind.GAUGE,
            text="1, with the first digits of the current model's hash",
            labels=("instrument", "model"),
            of=REGIME,
            read=_models,
            appears=PROMOTED,
        ),
        Measure(
            name="tapeline_models_registered_total",
            kind=Kind.COUNTER,
            text="Models that came of training",
            labels=("instrument",),
            unit="models",
            count={ModelRegistered: lambda seen: (seen.event.instrument,)},
        ),
        Measure(
            name="tapeline_promotions_total",
            kind=Kind.COUNTER,
            text="Models promoted",
            labels=("instrument",),
            unit="promotions",
            count={ModelPromoted: lambda seen: (seen.event.instrument,)},
        ),
        Measure(
            name="tapeline_rollbacks_total",
            kind=Kind.COUNTER,
            text="Returns to the model before",
            labels=("instrument",),
            unit="rollbacks",
            count={ModelRolledBack: lambda seen: (seen.event.instrument,)},
        ),
        Measure(
            name="tapeline_promotions_refused_total",
            kind=Kind.COUNTER,
            text="Promotions and rollbacks refused",
            labels=("reason",),
            values={"reason": tuple(PromotionRefusal)},
            unit="refusals",
            count={PromotionRefused: lambda seen: (seen.event.reason,)},
        ),
        Measure(
            name=TRAINING_SECONDS,
            kind=Kind.HISTOGRAM,
            text="Time of a training run, the start of its process included",
            edges=TRAINING_EDGES,
        ),
        Measure(
            name="tapeline_training_failures_total",
            kind=Kind.COUNTER,
            text="Training runs that gave no model",
            labels=("reason",),
            values={"reason": tuple(TrainingFault)},
            unit="runs",
            count={TrainingFailed: lambda seen: (seen.event.reason,)},
        ),
    ),
    watches=(
        Watched(
            measures=(PROMOTED_AT, TRAINED),
            hears=(ModelRegistered, ModelPromoted, ModelRolledBack),
            make=_make_times,
        ),
        WATCHED,
    ),
)
