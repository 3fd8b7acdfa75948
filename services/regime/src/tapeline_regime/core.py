"""The regime core: BULL, BEAR or CHOP for each bar, and which model says so.

Runs the causal forward filter of the promoted model over bars, asks for training when enough bars have come, and
changes the model between bars when a promotion is recorded. It fits nothing (that is the trainer's work, in a child
process) and it never looks at a bar twice: what a bar's regime was is what was said then.

Without a promoted model the regime is UNKNOWN, and that is said once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from tapeline_common.bar_block import BarBlock, Echo, Passing
from tapeline_common.core import Core, Stamp
from tapeline_common.events import (
    BarClosed,
    Event,
    ModelPromoted,
    ModelRegistered,
    ModelRolledBack,
    PromotionRefused,
    PromotionRequested,
    RegimeConfigured,
    RegimeUpdated,
    RollbackRequested,
    RunStarted,
    TrainingFailed,
    TrainingRequested,
)
from tapeline_common.values import InstrumentId, ModelId, PromotionRefusal, Regime
from tapeline_regime.features import SEED_RETURNS, FeatureState
from tapeline_regime.filtering import Prepared, prepare, step
from tapeline_regime.model import ModelFault, RegimeModel, check

REGIMES = (Regime.BULL, Regime.BEAR, Regime.CHOP)
"""In the order of a model's states."""

KEPT_MODELS = 20
"""Registered models that can still be promoted, per instrument; older ones are on the tape."""

Observation = tuple[float, ...]


@dataclass(slots=True)
class Watched:
    """One instrument: its settings, what training needs, and the filter of its promoted model.

    Attributes:
        closes: the training window, with the bars the features need to warm up.
        observations: features of the same bars, to bring a newly promoted model up to now.
        since_request: bars since training was last asked for.
        in_training: a request is out and neither a model nor a failure has come back.
        promoted: models in order of promotion, the current one last.
        latest: what the last bar means, decided when it was learnt.
    """

    settings: RegimeConfigured
    closes: deque[float]
    opens_ns: deque[int]
    observations: deque[Observation]
    features: FeatureState = field(default_factory=FeatureState)
    since_request: int = 0
    asked: bool = False
    in_training: bool = False
    models: dict[ModelId, RegimeModel] = field(default_factory=dict)
    promoted: list[ModelId] = field(default_factory=list)
    prepared: Prepared | None = None
    belief: tuple[float, float, float] | None = None
    log_likelihood: float = 0.0
    said_unknown: bool = False

    @property
    def current(self) -> ModelId | None:
        return self.promoted[-1] if self.promoted else None


@dataclass(slots=True)
class State:
    seed: int = 0
    instruments: dict[InstrumentId, Watched] = field(default_factory=dict)


# ---- learn -------------------------------------------------------------------------------------------------------


def learn_run(state: State, event: RunStarted, stamp: Stamp) -> None:
    state.seed = event.seed


def learn_settings(state: State, event: RegimeConfigured, stamp: Stamp) -> None:
    known = state.instruments.get(event.instrument)
    if known is None:
        state.instruments[event.instrument] = Watched(
            settings=event,
            closes=deque(maxlen=event.train_bars),
            opens_ns=deque(maxlen=event.train_bars),
            observations=deque(maxlen=event.train_bars),
        )
        return
    known.settings = event
    known.closes = deque(known.closes, maxlen=event.train_bars)
    known.opens_ns = deque(known.opens_ns, maxlen=event.train_bars)
    known.observations = deque(known.observations, maxlen=event.train_bars)


def learn_bar(state: State, event: BarClosed, stamp: Stamp) -> None:
    watched = state.instruments.get(event.instrument)
    if watched is None or _is_other(watched, event):
        return
    _take_close(watched, float(event.close), event.open_ns)


def _take_close(watched: Watched, close: float, open_ns: int) -> None:
    watched.closes.append(close)
    watched.opens_ns.append(open_ns)
    watched.since_request += 1
    observation = watched.features.push(close)
    if observation is not None:
        watched.observations.append(observation)
        if watched.prepared is not None:
            watched.belief, watched.log_likelihood = step(watched.prepared, watched.belief, observation)


def silent_until(state: State, block: BarBlock, start: int, stop: int) -> int:
    """Until enough bars have come to train a model: silence once it was said that there is none, or an echo."""
    watched = state.instruments.get(block.instrument)
    if watched is None:
        return stop
    if watched.current is None:
        if not watched.said_unknown:
            return start
    elif watched.belief is None or block.bar_filter() is None:
        return start
    else:
        block.is_echoed = True
    if watched.in_training:
        return stop
    settings = watched.settings
    bars_left = settings.train_bars - len(watched.closes)
    if watched.asked:
        bars_left = max(bars_left, settings.refit_bars - watched.since_request)
    return max(start, min(stop, start + bars_left - 1))


def take_bars(state: State, block: BarBlock, start: int, stop: int, _last: Stamp) -> Echo | None:
    watched = state.instruments.get(block.instrument)
    if watched is None:
        return None
    if watched.current is not None:
        return _echo(watched, block, start, stop)
    is_warm = watched.prepared is None and watched.features.returns >= SEED_RETURNS
    if is_warm and block.bar_filter() is not None:
        _observe(watched, block, start, stop)
        return None
    for row, close in enumerate(block.closes[start:stop].tolist(), start):
        _take_close(watched, close, block.open_ns[row])
    return None


def _observe(watched: Watched, block: BarBlock, start: int, stop: int) -> tuple[Any, Any]:
    """Take the bars' closes; returns their beliefs and log likelihoods, of which there are none without a model."""
    bar_filter = block.bar_filter()
    assert bar_filter is not None, "the caller has asked"
    observations, beliefs, log_likelihoods = bar_filter(watched.features, watched.prepared, watched.belief, start, stop)
    kept = slice(max(start, stop - watched.settings.train_bars), stop)
    watched.closes.extend(block.closes[kept].tolist())
    watched.opens_ns.extend(block.open_ns[kept])
    watched.observations.extend(zip(*observations[kept.start - start :].T.tolist(), strict=True))
    watched.since_request += stop - start
    return beliefs, log_likelihoods


def _echo(watched: Watched, block: BarBlock, start: int, stop: int) -> Echo:
    """Filter the bars, and say to each what its regime is."""
    beliefs, log_likelihoods = _observe(watched, block, start, stop)
    bull, bear, chop = beliefs[-1].tolist()
    watched.belief, watched.log_likelihood = (bull, bear, chop), float(log_likelihoods[-1])
    watched.said_unknown = False
    best = beliefs.argmax(axis=1)
    last = RegimeUpdated(
        block.instrument,
        block.open_ns[stop - 1],
        REGIMES[best[-1]],
        watched.belief,
        watched.current,
        watched.log_likelihood,
    )
    return Echo("regime", last, best, np.column_stack([beliefs, log_likelihoods]))


def learn_regime(state: State, event: RegimeUpdated, stamp: Stamp) -> None:
    state.instruments[event.instrument].said_unknown = event.regime is Regime.UNKNOWN


def learn_request(state: State, event: TrainingRequested, stamp: Stamp) -> None:
    watched = state.instruments[event.instrument]
    watched.since_request = 0
    watched.asked = True
    watched.in_training = True


def learn_model(state: State, event: ModelRegistered, stamp: Stamp) -> None:
    watched = state.instruments.get(event.instrument)
    if watched is None:
        return
    watched.in_training = False
    model = readable(event)
    if isinstance(model, RegimeModel):
        watched.models[event.model] = model
        expendable = [known for known in watched.models if known not in watched.promoted]
        for known in expendable[:-KEPT_MODELS]:
            del watched.models[known]


def learn_failure(state: State, event: TrainingFailed, stamp: Stamp) -> None:
    watched = state.instruments.get(event.instrument)
    if watched is not None:
        watched.in_training = False


def learn_promotion(state: State, event: ModelPromoted, stamp: Stamp) -> None:
    watched = state.instruments[event.instrument]
    watched.promoted.append(event.model)
    _take_up(watched, event.model)


def learn_rollback(state: State, event: ModelRolledBack, stamp: Stamp) -> None:
    watched = state.instruments[event.instrument]
    watched.promoted.pop()
    _take_up(watched, event.model)


def _take_up(watched: Watched, model: ModelId) -> None:
    """Start the filter of a model as if it had been there for the whole window: the next bar needs no warm-up."""
    watched.prepared = prepare(watched.models[model])
    watched.belief = None
    for observation in watched.observations:
        watched.belief, watched.log_likelihood = step(watched.prepared, watched.belief, observation)


def readable(event: ModelRegistered) -> RegimeModel | str:
    """The model in a fact, or what is wrong with it. Its hash is computed from its numbers, never believed."""
    try:
        model = msgspec.convert(event.arrays, RegimeModel)
    except msgspec.ValidationError as trouble:
        return f"not a regime model: {trouble}"
    fault = check(model, event.model)
    return model if fault is None else fault.value


# ---- decide ------------------------------------------------------------------------------------------------------


def _is_other(watched: Watched, bar: BarClosed) -> bool:
    """A bar of another timeframe than the one that counts, where one is named."""
    return watched.settings.timeframe != "" and bar.timeframe != watched.settings.timeframe


def on_bar(state: State, event: BarClosed, stamp: Stamp) -> Sequence[Event]:
    watched = state.instruments.get(event.instrument)
    if watched is None or _is_other(watched, event):
        return ()
    said: list[Event] = []
    model = watched.current
    if model is not None and watched.belief is not None:
        best = max(range(len(REGIMES)), key=watched.belief.__getitem__)
        said.append(
            RegimeUpdated(event.instrument, event.open_ns, REGIMES[best], watched.belief, model, watched.log_likelihood)
        )
    elif not watched.said_unknown:
        said.append(RegimeUpdated(event.instrument, event.open_ns, Regime.UNKNOWN, (), None, None))
    if _training_due(watched):
        said.append(TrainingRequested(event.instrument, len(watched.closes)))
    return said


def _training_due(watched: Watched) -> bool:
    if watched.in_training or len(watched.closes) < watched.settings.train_bars:
        return False
    return not watched.asked or watched.since_request >= watched.settings.refit_bars


def on_model(state: State, event: ModelRegistered, stamp: Stamp) -> Sequence[Event]:
    watched = state.instruments.get(event.instrument)
    if watched is None:
        return ()
    model = readable(event)
    if isinstance(model, str):
        mismatch = model == ModelFault.HASH_MISMATCH.value
        reason = PromotionRefusal.HASH_MISMATCH if mismatch else PromotionRefusal.MODEL_INVALID
        return (PromotionRefused(event.model, reason, model),)
    if watched.settings.promote_first and watched.current is None:
        return (ModelPromoted(event.model, event.instrument, None, "first model"),)
    return ()


def on_promotion_requested(state: State, event: PromotionRequested, stamp: Stamp) -> Sequence[Event]:
    for instrument, watched in state.instruments.items():
        if event.model in watched.models:
            if watched.current == event.model:
                return (_refused(event.model, PromotionRefusal.ALREADY_PROMOTED, f"it is {instrument}'s model now"),)
            return (ModelPromoted(event.model, instrument, watched.current, event.reason or "operator"),)
    return (_refused(event.model, PromotionRefusal.MODEL_UNKNOWN, "no registered model has this hash"),)


def on_rollback_requested(state: State, event: RollbackRequested, stamp: Stamp) -> Sequence[Event]:
    watched = state.instruments.get(event.instrument)
    if watched is None or len(watched.promoted) < 2:
        detail = "no model was promoted before the current one"
        return (_refused(event.instrument, PromotionRefusal.NOTHING_TO_ROLL_BACK_TO, detail),)
    current, before = watched.promoted[-1], watched.promoted[-2]
    return (ModelRolledBack(before, event.instrument, current, event.reason or "operator"),)


def _refused(subject: str, reason: PromotionRefusal, detail: str) -> PromotionRefused:
    return PromotionRefused(subject, reason, detail)


CORE = Core(
    name="regime",
    initial=State,
    evolves={
        RunStarted: learn_run,
        RegimeConfigured: learn_settings,
        BarClosed: learn_bar,
        RegimeUpdated: learn_regime,
        TrainingRequested: learn_request,
        ModelRegistered: learn_model,
        TrainingFailed: learn_failure,
        ModelPromoted: learn_promotion,
        ModelRolledBack: learn_rollback,
    },
    decides={
        BarClosed: on_bar,
        ModelRegistered: on_model,
        PromotionRequested: on_promotion_requested,
        RollbackRequested: on_rollback_requested,
    },
    passing=Passing(silent_until, take_bars),
    reads_position=False,
)
