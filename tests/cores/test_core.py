"""The laws of a step: learn the fact, decide, learn the decision at once; and who may have a row for what."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from tapeline_common.core import Core, Stamp, confirm, learn, step
from tapeline_common.events import Event, HaltRequested, LimitBreached, RunStarted, TradingHalted, TradingResumed
from tapeline_common.values import HaltReason, Realm

HALT = HaltRequested("mara", "storm")
HALTED = TradingHalted(HaltReason.OPERATOR, "storm")
STARTED = RunStarted("r", "t", Realm.LIVE, 7, "USDT", "1")
STAMP = Stamp(4, 40)


@dataclass(slots=True)
class Diary:
    lines: list[tuple[str, int]] = field(default_factory=list)


def write(state: Diary, event: Event, stamp: Stamp) -> None:
    state.lines.append((type(event).__name__, stamp.pos))


def halt(state: Diary, event: HaltRequested, stamp: Stamp) -> Sequence[Event]:
    assert state.lines[-1] == ("HaltRequested", stamp.pos)  # the fact is learnt before it is decided on
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


def test_step_acts() -> None:
    """A heard fact is learnt, decided on, and the decision is learnt with the stamp of its cause."""
    state = Diary()
    assert step(CORE, state, HALT, STAMP) == [HALTED]
    assert state.lines == [("HaltRequested", 4), ("TradingHalted", 4)]


def test_step_stays_quiet() -> None:
    """A fact without a decider is only learnt; a fact without any row changes nothing."""
    state = Diary()
    assert step(CORE, state, TradingResumed("x"), STAMP) == ()
    assert step(CORE, state, STARTED, STAMP) == ()
    assert state.lines == [("TradingResumed", 4)]


def test_confirm_asks_without_learning_again() -> None:
    """An own recorded fact is known already: it is only asked about, and the answer is learnt."""
    state = Diary()
    assert confirm(CORE, state, HALTED, STAMP) == [TradingResumed("storm")]
    assert state.lines == [("TradingResumed", 4)]


def test_confirm_stays_quiet() -> None:
    """An own fact that nobody asks about is passed over."""
    state = Diary()
    assert confirm(CORE, state, TradingResumed("x"), STAMP) == ()
    assert state.lines == []


def test_learn_without_a_row() -> None:
    """Learning what the core has no row for leaves the state as it is."""
    state = Diary()
    learn(CORE, state, STARTED, STAMP)
    assert state == Diary()


def test_hears_and_says() -> None:
    """The tables tell what a core hears, each type once and in table order, and its name what it may say."""
    assert CORE.hears == (HaltRequested, TradingHalted, TradingResumed)
    assert LimitBreached in CORE.says
    assert HaltRequested not in CORE.says


def test_no_author() -> None:
    """A core must bear the name of an author."""
    with pytest.raises(ValueError, match="'riks' is no author"):
        Core("riks", Diary, {}, {})


def test_confirms_only_own_facts() -> None:
    """A core can be asked to confirm only what it says itself."""
    with pytest.raises(ValueError, match="confirms facts of others: HaltRequested"):
        Core("risk", Diary, {}, {}, {HaltRequested: halt})
