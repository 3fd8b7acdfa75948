"""given/when/then: whole decisions are compared, own facts are asked about, and a decider that writes is caught."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from tapeline_common.core import Core, Stamp
from tapeline_common.events import Event, HaltRequested, RunStarted, TradingHalted, TradingResumed
from tapeline_common.testing import StateWritten, at, fingerprint, given
from tapeline_common.values import HaltReason, Realm

HALT = HaltRequested("mara", "storm")
HALTED = TradingHalted(HaltReason.OPERATOR, "storm")
STARTED = RunStarted("r", "t", Realm.LIVE, 7, "USDT", "1")


@dataclass(slots=True)
class Diary:
    lines: list[tuple[str, int, int]] = field(default_factory=list)


def write(state: Diary, event: Event, stamp: Stamp) -> None:
    state.lines.append((type(event).__name__, stamp.pos, stamp.time_ns))


def halt(_state: Diary, event: HaltRequested, _stamp: Stamp) -> Sequence[Event]:
    return [TradingHalted(HaltReason.OPERATOR, event.reason)]


def resume(_state: Diary, event: TradingHalted, _stamp: Stamp) -> Sequence[Event]:
    return [TradingResumed(event.detail)]


CORE = Core(
    "risk",
    Diary,
    dict.fromkeys((HaltRequested, TradingHalted, TradingResumed), write),
    {HaltRequested: halt},
    {TradingHalted: resume},
)


def test_history_goes_on() -> None:
    """Then compares whole decisions and hands back the history, in which the decision is learnt."""
    history = given(CORE, at(2), HALT).when(HALT, seconds=3).then(HALTED)
    assert [line[:2] for line in history.state.lines] == [
        ("HaltRequested", 1),
        ("HaltRequested", 2),
        ("TradingHalted", 2),
    ]
    assert history.state.lines[-1][2] == 3_000_000_000


def test_nothing_follows() -> None:
    """A fact that is not decided on is followed by nothing."""
    given(CORE).when(STARTED).then_nothing()


def test_own_fact_is_confirmed() -> None:
    """An own fact with a row in ``confirms`` is asked about and not learnt a second time."""
    history = given(CORE, HALT, HALTED).when(HALTED).then(TradingResumed("storm"))
    assert [line[0] for line in history.state.lines] == ["HaltRequested", "TradingHalted", "TradingResumed"]


@pytest.mark.parametrize("expected", [(), (HALTED, HALTED), (TradingResumed("storm"),)])
def test_other_decisions_fail(expected: tuple[Event, ...]) -> None:
    """Too few, too many or other facts fail the test."""
    with pytest.raises(AssertionError, match="expected"):
        given(CORE).when(HALT).then(*expected)


def test_decider_that_writes() -> None:
    """A decider that changes the state is caught, whatever it returns."""

    def scribble(state: Diary, _event: Event, stamp: Stamp) -> Sequence[Event]:
        state.lines.append(("scribble", stamp.pos, 0))
        return ()

    core = replace(CORE, decides={HaltRequested: scribble})
    with pytest.raises(StateWritten, match="risk wrote its state while deciding on HaltRequested"):
        given(core).when(HALT)


def test_clock_of_a_history_does_not_go_back() -> None:
    """``at`` and ``seconds`` move the clock forward only."""
    history = given(CORE, at(5), at(3), HALT).when(HALT, seconds=4).then(HALTED)
    assert {line[2] for line in history.state.lines} == {5_000_000_000}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1], ["1"]),
        (deque([1], 2), deque([1], 3)),
        (np.array([1.0]), np.array([1.0], dtype=np.float32)),
        (Diary([("x", 1, 2)]), Diary([("x", 1, 3)])),
        (0.0, -0.0),
    ],
)
def test_fingerprints_differ(one: Any, other: Any) -> None:
    """Whatever can lead to another decision gives another fingerprint, the order of a dict included."""
    assert fingerprint(one) != fingerprint(other)


def test_fingerprint_of_what_cannot_be_compared() -> None:
    """State that cannot be compared is refused, not passed over."""
    with pytest.raises(TypeError, match="which cannot be compared"):
        fingerprint({"generator": iter([])})
