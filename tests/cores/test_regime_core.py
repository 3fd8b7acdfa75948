"""The regime core: UNKNOWN once without a model, training when the window is full, promotion between bars."""

from __future__ import annotations

import math

import msgspec

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
from tapeline_common.loop import Loop
from tapeline_common.sequencer import Recorded
from tapeline_common.testing import History, given
from tapeline_common.values import (
    DecimalText,
    InstrumentId,
    ModelId,
    PromotionRefusal,
    Realm,
    Regime,
    TrainingFault,
)
from tapeline_regime.core import CORE, REGIMES, State
from tapeline_regime.features import feature_rows
from tapeline_regime.filtering import filter_series
from tapeline_regime.model import RegimeModel, model_hash
from tapeline_regime.trainer import WORKER
from tapeline_regime.training import Training, fit

LLAMA, CAMEL = InstrumentId("LLAMA"), InstrumentId("CAMEL")
STARTED = RunStarted("run", "tape", Realm.LIVE, 7, "USDT", "1")
WINDOW, REFIT = 260, 40


def closes(count: int) -> list[float]:
    """A price with a calm and a wild stretch, the same every time."""
    price, found = 100.0, []
    for index in range(count):
        width = 0.002 if (index // 60) % 2 else 0.02
        price *= 1.0 + width * math.sin(index * 12.9898)
        found.append(price)
    return found


def configured(promote_first: bool = True) -> RegimeConfigured:
    return RegimeConfigured(LLAMA, WINDOW, REFIT, promote_first)


def bar(index: int, close: float, instrument: InstrumentId = LLAMA) -> BarClosed:
    text = DecimalText(repr(close))
    return BarClosed(instrument, "1m", index, index + 1, text, text, text, text, DecimalText("1"))


def registered(seed: int = 1) -> ModelRegistered:
    """A model of the window, as the trainer registers it."""
    trained = fit(closes(WINDOW), seed=seed, restarts=2)
    assert isinstance(trained, Training)
    return of(trained.model)


def of(model: RegimeModel) -> ModelRegistered:
    arrays = msgspec.to_builtins(model)
    return ModelRegistered(ModelId(model_hash(model)), LLAMA, arrays, WINDOW, 0, WINDOW - 1, -1.0, 2)


MODEL = registered()
UNKNOWN = RegimeUpdated(LLAMA, 0, Regime.UNKNOWN, (), None, None)
REQUEST = PromotionRequested(MODEL.model, "operator", "", 1, "signature")


def history(*more: Event, promote_first: bool = True) -> History[State]:
    return given(CORE, STARTED, configured(promote_first), *more)


def other_model() -> ModelRegistered:
    """Another valid model: the same one, a little more restless."""
    model = msgspec.convert(MODEL.arrays, RegimeModel)
    return of(msgspec.structs.replace(model, start=model.start[1:] + model.start[:1]))


def test_without_a_model_the_regime_is_unknown_and_said_once() -> None:
    """The first bar says UNKNOWN; the next ones are quiet."""
    history().when(bar(0, 100.0)).then(UNKNOWN).when(bar(1, 101.0)).then_nothing()


def test_an_instrument_that_is_not_configured_is_quiet() -> None:
    """Nothing is said of it, and nothing of it is kept."""
    history().when(bar(0, 100.0, CAMEL)).then_nothing()


def test_training_is_asked_for_when_the_window_is_full_and_after_the_refit_interval() -> None:
    """Once when full; never while a request is out; again after so many bars."""
    prices = closes(WINDOW + 2 * REFIT)
    bars = [bar(index, price) for index, price in enumerate(prices)]
    asked = TrainingRequested(LLAMA, WINDOW)
    full = history(UNKNOWN, *bars[: WINDOW - 1]).when(bars[WINDOW - 1]).then(asked)
    for each in bars[WINDOW : WINDOW + REFIT]:
        full.when(each).then_nothing()

    failed = full.when(TrainingFailed(LLAMA, TrainingFault.NO_USABLE_FIT, "")).then_nothing()
    failed.when(bars[WINDOW + REFIT]).then(asked)


def test_the_first_model_is_promoted_by_itself_if_so_configured() -> None:
    """The second one waits for the operator."""
    promoted = ModelPromoted(MODEL.model, LLAMA, None, "first model")
    history().when(MODEL).then(promoted).when(other_model()).then_nothing()
    history(promote_first=False).when(MODEL).then_nothing()


def test_a_model_that_is_not_what_its_hash_says_is_refused() -> None:
    """Neither other numbers under its name, nor numbers that are no model, ever run."""
    arrays = dict(MODEL.arrays)
    arrays["start"] = [0.5, 0.25, 0.25]
    history().when(msgspec.structs.replace(MODEL, arrays=arrays)).then(
        PromotionRefused(MODEL.model, PromotionRefusal.HASH_MISMATCH, "hash_mismatch")
    )
    (refused,) = history().when(msgspec.structs.replace(MODEL, arrays={})).decisions
    assert isinstance(refused, PromotionRefused)
    assert refused.reason is PromotionRefusal.MODEL_INVALID


def test_the_operator_promotes_a_registered_model() -> None:
    """Registered: promoted. Unknown or already promoted: refused with the reason."""
    known = history(MODEL, promote_first=False)
    promoted = known.when(REQUEST).then(ModelPromoted(MODEL.model, LLAMA, None, "operator"))
    promoted.when(REQUEST).then(
        PromotionRefused(MODEL.model, PromotionRefusal.ALREADY_PROMOTED, "it is LLAMA's model now")
    )
    unknown = msgspec.structs.replace(REQUEST, model=ModelId("nobody"))
    history().when(unknown).then(
        PromotionRefused("nobody", PromotionRefusal.MODEL_UNKNOWN, "no registered model has this hash")
    )


def test_a_rollback_goes_to_the_model_before() -> None:
    """And is refused when there is none."""
    second = other_model()
    first_promoted = ModelPromoted(MODEL.model, LLAMA, None, "first model")
    then_second = ModelPromoted(second.model, LLAMA, MODEL.model, "operator")
    wanted = RollbackRequested(LLAMA, "operator", "worse", 2, "signature")
    rolled = history(MODEL, first_promoted, second, then_second).when(wanted)

    back = rolled.then(ModelRolledBack(MODEL.model, LLAMA, second.model, "worse"))
    (refused,) = back.when(wanted).decisions
    assert isinstance(refused, PromotionRefused)
    assert refused.reason is PromotionRefusal.NOTHING_TO_ROLL_BACK_TO


def test_each_bar_is_filtered_as_the_whole_series_would_be() -> None:
    """After a promotion the next bar's probabilities are those of the causal filter over the window and the bar."""
    prices = closes(WINDOW)
    bars = [bar(index, price) for index, price in enumerate(prices)]
    model = msgspec.convert(MODEL.arrays, RegimeModel)
    rows = feature_rows(prices)
    beliefs, likelihoods = filter_series(model, rows[~(rows != rows).any(axis=1)])
    promoted = ModelPromoted(MODEL.model, LLAMA, None, "first model")

    told = history(UNKNOWN, *bars[:-1], MODEL, promoted)
    said = told.when(bars[-1]).decisions[0]

    assert isinstance(said, RegimeUpdated)
    assert said.probabilities == tuple(beliefs[-1].tolist())
    assert said.log_likelihood == likelihoods[-1]
    assert said.regime is REGIMES[max(range(3), key=lambda state: said.probabilities[state])]
    assert said.model == MODEL.model


def run(seed: int) -> list[Recorded]:
    kept: list[Recorded] = []
    loop = Loop([CORE], [WORKER], kept.append)
    loop.say("operator", msgspec.structs.replace(STARTED, realm=Realm.REPLAY, seed=seed), "run#1", 0)
    loop.say("operator", configured(), "regime#1", 0)
    for index, price in enumerate(closes(WINDOW + 20)):
        loop.say("marketdata", bar(index, price), f"bar:{index}", index + 1)
    return kept


def test_the_trainer_answers_and_the_same_run_gives_the_same_tape() -> None:
    """Asked, registered, promoted, and a regime for every bar after it; twice the same bytes."""
    first, again = run(3), run(3)
    names = [type(recorded.fact.event).__name__ for recorded in first]

    chain = names.index("TrainingRequested")
    assert names[chain : chain + 3] == ["TrainingRequested", "ModelRegistered", "ModelPromoted"]
    assert names[chain + 3 :] == ["BarClosed", "RegimeUpdated"] * 20
    assert [recorded.payload for recorded in first] == [recorded.payload for recorded in again]
