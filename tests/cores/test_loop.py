"""The loop gear: breadth first, authors in their fixed order, own facts confirmed, workers inline."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from tapeline_common.core import Core, Stamp
from tapeline_common.events import (
    EquityMarked,
    Event,
    HaltRequested,
    TradingHalted,
    TradingResumed,
    TrainingFailed,
    TrainingRequested,
)
from tapeline_common.loop import Loop
from tapeline_common.sequencer import Recorded
from tapeline_common.values import HaltReason, InstrumentId, TrainingFault
from tapeline_common.wire import chain_naive
from tapeline_common.wiring import Worker

HALT = HaltRequested("mara", "storm")


@dataclass(slots=True)
class Heard:
    names: list[str] = field(default_factory=list)


def learn(state: Heard, event: Event, _stamp: Stamp) -> None:
    state.names.append(type(event).__name__)


def answer_with(*said: Event) -> Any:
    def decide(_state: Heard, _event: Event, _stamp: Stamp) -> Sequence[Event]:
        return said

    return decide


def row(kept: list[Recorded]) -> list[tuple[int, str, int]]:
    return [(one.fact.pos, type(one.fact.event).__name__, one.fact.cause) for one in kept]


HALTED = TradingHalted(HaltReason.OPERATOR, "")
MARKED = EquityMarked(1, Decimal(1), Decimal(1), Decimal(0))
RISK = Core(
    "risk",
    Heard,
    dict.fromkeys((HaltRequested, TradingHalted), learn),
    {HaltRequested: answer_with(HALTED)},
    {TradingHalted: answer_with(TradingResumed(""))},
)
LEDGER = Core("ledger", Heard, {}, {HaltRequested: answer_with(MARKED), TradingHalted: answer_with(MARKED)})


def test_breadth_first_in_author_order() -> None:
    """Answers to one fact are recorded in the order of authors, whatever order the cores came in; then theirs."""
    kept: list[Recorded] = []
    Loop([RISK, LEDGER], keep=kept.append).say("operator", HALT, "h1", 5)
    assert row(kept) == [
        (1, "HaltRequested", 0),
        (2, "EquityMarked", 1),
        (3, "TradingHalted", 1),
        (4, "EquityMarked", 3),
        (5, "TradingResumed", 3),
    ]
    assert {one.fact.time_ns for one in kept} == {5}
    assert kept[-1].hash == chain_naive([one.payload for one in kept])


def test_own_fact_is_learnt_once() -> None:
    """A decision is learnt right after its cause, and not again when it is reached."""
    loop = Loop([RISK])
    loop.say("operator", HALT, "h1", 5)
    assert loop.states["risk"].names == ["HaltRequested", "TradingHalted"]


def test_outside_fact_under_own_name() -> None:
    """What an adapter says under a core's name is learnt, and not asked about."""
    kept: list[Recorded] = []
    loop = Loop([RISK], keep=kept.append)
    loop.say("risk", HALTED, "adapter-1", 5)
    assert loop.states["risk"].names == ["TradingHalted"]
    assert row(kept) == [(1, "TradingHalted", 0)]


def test_quiet_fact() -> None:
    """A fact that nobody hears is recorded and followed by nothing."""
    kept: list[Recorded] = []
    loop = Loop([RISK, LEDGER], keep=kept.append)
    loop.say("risk", TradingResumed(""), "adapter-1", 5)
    assert row(kept) == [(1, "TradingResumed", 0)]


def test_worker_runs_inline() -> None:
    """A worker answers the fact that asks for it, as an author of its own, with what its core knew there."""

    def prepare(state: Heard, event: TrainingRequested) -> Any:
        return event.instrument, tuple(state.names)

    def run(job: Any) -> Sequence[Event]:
        return [TrainingFailed(job[0], TrainingFault.TOO_FEW_BARS, ",".join(job[1]))]

    asks = answer_with(TrainingRequested(InstrumentId("BTC"), 3))
    regime = Core("regime", Heard, {HaltRequested: learn}, {HaltRequested: asks})
    kept: list[Recorded] = []
    loop = Loop([regime], [Worker("trainer", TrainingRequested, "regime", prepare, run)], keep=kept.append)
    loop.say("operator", HALT, "h1", 5)
    assert row(kept) == [(1, "HaltRequested", 0), (2, "TrainingRequested", 1), (3, "TrainingFailed", 2)]
    assert kept[2].fact.event == TrainingFailed(InstrumentId("BTC"), TrainingFault.TOO_FEW_BARS, "HaltRequested")
    assert kept[2].fact.author == "trainer"


def test_replay_clock_does_not_go_back() -> None:
    """The replay clock stands or goes on; going back is a bug of whoever drives the loop."""
    loop = Loop([RISK])
    loop.say("operator", HALT, "h1", 5)
    loop.say("operator", HALT, "h2", 5)
    with pytest.raises(AssertionError, match="replay clock went back: 4 < 5"):
        loop.say("operator", HALT, "h3", 4)
