"""Drift in the running service: each promoted model has detectors of its own, fed by the tape and by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest

from tapeline_common.core import Stamp
from tapeline_common.events import (
    BarClosed,
    Event,
    ModelPromoted,
    ModelRegistered,
    ModelRolledBack,
    RegimeConfigured,
    RunStarted,
)
from tapeline_common.loop import Loop
from tapeline_common.sequencer import Recorded
from tapeline_common.values import DecimalText, InstrumentId, ModelId, Realm
from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec, bars_from
from tapeline_regime import drift_watch
from tapeline_regime.core import CORE, KEPT_MODELS
from tapeline_regime.drift import DETECTORS, Drift, reference
from tapeline_regime.drift_watch import WATCHED, DriftWatch
from tapeline_regime.features import FeatureState
from tapeline_regime.filtering import prepare, step
from tapeline_regime.model import RegimeModel, model_hash
from tapeline_regime.trainer import WORKER
from tapeline_regime.training import Training, fit

LLAMA, CAMEL = InstrumentId("LLAMA"), InstrumentId("CAMEL")
TRAIN = 1_500


def bars(count: int, *, break_bar: int = 0, times: float = 1.0) -> list[BarClosed]:
    spec = SyntheticSpec(
        instrument=LLAMA,
        start_price=Decimal(60_000),
        tick_size=Decimal("0.01"),
        break_bar=break_bar,
        break_volatility=times,
    )
    market = SyntheticMarket(3, [spec])
    return list(bars_from(market, market.start(), count))


QUIET = bars(TRAIN + 1_000)
CLOSES = [float(bar.close) for bar in QUIET]


def registered(model: RegimeModel) -> ModelRegistered:
    arrays = msgspec.to_builtins(model)
    first, last = QUIET[0].open_ns, QUIET[TRAIN - 1].open_ns
    return ModelRegistered(ModelId(model_hash(model)), LLAMA, arrays, TRAIN - 20, first, last, -1.0, 2)


def trained() -> RegimeModel:
    found = fit(CLOSES[:TRAIN], seed=1, restarts=2)
    assert isinstance(found, Training)
    return found.model


MODEL = trained()
FIRST = registered(MODEL)
SECOND = registered(msgspec.structs.replace(MODEL, start=MODEL.start[1:] + MODEL.start[:1]))
CONFIGURED = RegimeConfigured(LLAMA, TRAIN, 10_000, True)


def told(events: Sequence[Event]) -> DriftWatch:
    watch = DriftWatch()
    for pos, event in enumerate(events, start=1):
        watch.heard(event, Stamp(pos, pos))
    return watch


def promoted(model: ModelRegistered, before: ModelRegistered | None = None) -> ModelPromoted:
    return ModelPromoted(model.model, LLAMA, before.model if before else None, "first model")


LEARNT: tuple[Event, ...] = (CONFIGURED, *QUIET[:TRAIN], FIRST)


def test_without_a_promoted_model_nothing_is_told() -> None:
    """Neither before a model is there nor while it waits for its promotion, nor of an instrument nobody configured."""
    other = msgspec.structs.replace(QUIET[0], instrument=CAMEL)
    assert list(told([*LEARNT, *QUIET[TRAIN:], other]).samples(0)) == []


def test_a_promoted_model_has_every_metric() -> None:
    """Golden: names and labels, all at rest just after the promotion."""
    watch = told([*LEARNT, promoted(FIRST)])
    wanted = [
        sample
        for detector, threshold in zip(DETECTORS, [row[2] for row in Drift().scores()], strict=True)
        for sample in (
            ("tapeline_drift_score", (LLAMA, detector), 0.0),
            ("tapeline_drift_threshold", (LLAMA, detector), threshold),
        )
    ]
    assert list(watch.samples(0)) == [*wanted, ("tapeline_drift_detected", (LLAMA,), 0.0)]


def test_it_scores_each_bar_against_the_belief_before_it() -> None:
    """The same as folding features, filter and detectors by hand."""
    watch = told([*LEARNT, promoted(FIRST), *QUIET[TRAIN:]])
    features, prepared = FeatureState(), prepare(MODEL)
    rows = [features.push(close) for close in CLOSES]
    seen, later = [row for row in rows[:TRAIN] if row is not None], [row for row in rows[TRAIN:] if row is not None]
    by_hand, belief = Drift(reference(prepared, seen)), None
    for row in seen:
        belief, _ = step(prepared, belief, row)
    for row in later:
        by_hand.push(prepared, belief, row)
        belief, _ = step(prepared, belief, row)
    assert watch.drifts == {LLAMA: by_hand}
    assert by_hand.bars == len(later) == 1_000


def test_bars_that_closed_during_the_fit_are_no_reference() -> None:
    """A model registered fifty bars late has the reference it would have had at once, though its window rolled on."""
    at_once = told(LEARNT).references[LLAMA][FIRST.model]
    late = told([CONFIGURED, *QUIET[: TRAIN + 50], FIRST]).references[LLAMA][FIRST.model]
    assert at_once is not None
    assert late is not None
    assert len(at_once.pits) == TRAIN - 20
    assert len(late.pits) == TRAIN - 50
    assert at_once.pits[0] == pytest.approx(late.pits[0], abs=0.01)


def test_a_promotion_and_a_rollback_begin_anew() -> None:
    """Nothing of what one model failed to foresee is held against another; each has its own reference."""
    running = [*LEARNT, promoted(FIRST), *QUIET[TRAIN : TRAIN + 300], SECOND]
    watch = told(running)
    assert watch.drifts[LLAMA].bars == 300
    watch.heard(promoted(SECOND, FIRST), Stamp(9_000, 9_000))
    assert watch.drifts[LLAMA] == Drift(watch.references[LLAMA][SECOND.model])
    watch.heard(ModelRolledBack(FIRST.model, LLAMA, SECOND.model, "operator"), Stamp(9_001, 9_001))
    assert watch.drifts[LLAMA] == Drift(watch.references[LLAMA][FIRST.model])


def test_what_is_no_bar_of_the_model_changes_nothing() -> None:
    """Another timeframe, another instrument, a price that is none."""
    settings = msgspec.structs.replace(CONFIGURED, timeframe="1m")
    watch = told([settings, *QUIET[:TRAIN], FIRST, promoted(FIRST), *QUIET[TRAIN : TRAIN + 5]])
    before = list(watch.samples(0))
    bar = QUIET[TRAIN + 5]
    for pos, odd in enumerate(
        (
            msgspec.structs.replace(bar, timeframe="5m"),
            msgspec.structs.replace(bar, instrument=CAMEL),
            msgspec.structs.replace(bar, close=DecimalText("0")),
        ),
        start=5_000,
    ):
        watch.heard(odd, Stamp(pos, pos))
    assert list(watch.samples(0)) == before
    assert watch.drifts[LLAMA].bars == 5


def test_references_of_forgotten_models_are_forgotten() -> None:
    """As many as the core keeps models."""
    watch = told(LEARNT)
    for number in range(30):
        start = (0.5 + number / 1_000, 0.3, 0.2 - number / 1_000)
        watch.heard(registered(msgspec.structs.replace(MODEL, start=start)), Stamp(9_000 + number, 9_000))
    assert set(watch.references[LLAMA]) == set(watch.state.instruments[LLAMA].models)
    assert len(watch.references[LLAMA]) <= KEPT_MODELS


def recorded(market: Sequence[BarClosed]) -> list[Event]:
    """What the regime service hears and says on a tape of these bars, its trainer included."""
    kept: list[Recorded] = []
    loop = Loop([CORE], [WORKER], kept.append)
    loop.say("operator", RunStarted("run", "tape", Realm.REPLAY, 7, "USDT", "1"), "run#1", 0)
    loop.say("operator", CONFIGURED, "regime#1", 0)
    for bar in market:
        loop.say("marketdata", bar, f"bar:{bar.open_ns}", bar.close_ns)
    return [one.fact.event for one in kept if type(one.fact.event) in WATCHED.hears]


def test_a_break_of_the_market_is_told_and_no_break_is_not() -> None:
    """End to end on the synthetic market: bars to tape, training, promotion, and drift within 300 bars of the break."""
    at = TRAIN + 1_000
    quiet, broken = (recorded(bars(at + 300, break_bar=at, times=times)) for times in (1.0, 2.0))
    assert detected(told(quiet)) == 0.0
    assert detected(told(broken)) == 1.0


def detected(watch: DriftWatch) -> float:
    return {name: value for name, _, value in watch.samples(0)}["tapeline_drift_detected"]


def test_it_is_part_of_the_service() -> None:
    """The service that runs tells these names, and lets the watch hear what it restores from."""
    from tapeline_regime.service import SERVICE

    assert WATCHED in SERVICE.measures.watches
    assert WATCHED.restores
    assert {measure.name for measure in WATCHED.measures} == {
        drift_watch.SCORE.name,
        drift_watch.THRESHOLD.name,
        drift_watch.DETECTED.name,
    }
