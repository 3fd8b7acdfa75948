"""Following the tape: own decisions are learnt once, the clock never goes back, recorded beats recomputed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_common.core import Core, Stamp
from tapeline_common.events import AUTHOR_OF, Event, HaltRequested, RunStarted, TradingHalted, TradingResumed
from tapeline_common.follower import Follower, answers_of
from tapeline_common.restore import continue_from, restore
from tapeline_common.values import HaltReason, Realm
from tapeline_common.wire import Fact, encode, heard_decoder

HALT = HaltRequested("mara", "storm")
STARTED = RunStarted("r", "t", Realm.LIVE, 7, "USDT", "1")


@dataclass(slots=True)
class Diary:
    lines: list[tuple[str, int, int]] = field(default_factory=list)


def write(state: Diary, event: Event, stamp: Stamp) -> None:
    state.lines.append((type(event).__name__, stamp.pos, stamp.time_ns))


def halt(state: Diary, _event: HaltRequested, _stamp: Stamp) -> Sequence[Event]:
    return [TradingHalted(HaltReason.OPERATOR, str(len(state.lines)))]


def resume(_state: Diary, event: TradingHalted, _stamp: Stamp) -> Sequence[Event]:
    return [TradingResumed(event.detail)] if event.detail == "3" else ()


CORE = Core(
    "risk",
    Diary,
    dict.fromkeys((HaltRequested, TradingHalted, TradingResumed), write),
    {HaltRequested: halt},
    {TradingHalted: resume},
)


def fact(pos: int, event: Event, *, time_ns: int = 0, cause: int = 0) -> Fact:
    author = AUTHOR_OF[type(event)]
    identity = f"{author}:{cause}:0" if cause else f"x{pos}"
    return Fact(pos, time_ns, identity, author, "run", 1, cause, cause or pos, 1, event)


def halted(detail: str) -> TradingHalted:
    return TradingHalted(HaltReason.OPERATOR, detail)


TAPE = [
    fact(1, HALT, time_ns=10),
    fact(2, halted("1"), time_ns=10, cause=1),
    fact(3, STARTED, time_ns=99),
    fact(4, HALT, time_ns=20),
    fact(5, halted("3"), time_ns=20, cause=4),
    fact(6, TradingResumed("3"), time_ns=20, cause=5),
]


def test_hears_and_answers() -> None:
    """Facts in order give the recorded decisions, and own facts are not learnt again where they lie."""
    follower = Follower(CORE)
    assert [list(follower.hear(item)) for item in TAPE] == [
        [halted("1")],
        [],
        [],
        [halted("3")],
        [TradingResumed("3")],
        [],
    ]
    assert [line[:2] for line in follower.state.lines] == [
        ("HaltRequested", 1),
        ("TradingHalted", 1),
        ("HaltRequested", 4),
        ("TradingHalted", 4),
        ("TradingResumed", 5),
    ]
    assert (follower.heard, follower.answered) == (6, 5)


def test_clock_is_the_running_maximum_of_what_reached_the_core() -> None:
    """A fact that the core has no row for does not move its clock; an earlier stamp does not move it back."""
    follower = Follower(CORE)
    follower.hear(fact(1, HALT, time_ns=50))
    follower.hear(fact(2, STARTED, time_ns=99))
    follower.hear(fact(3, HALT, time_ns=20))
    assert follower.clock_ns == 50
    assert {line[2] for line in follower.state.lines} == {50}


def test_outside_fact_under_own_name_is_heard_like_others() -> None:
    """What an adapter says under the core's name has no cause, and was never learnt before."""
    follower = Follower(CORE)
    assert follower.hear(fact(1, halted("3"))) == ()
    assert follower.state.lines == [("TradingHalted", 1, 0)]


def test_out_of_order_is_a_bug() -> None:
    """A position handed in twice stops the service."""
    follower = Follower(CORE)
    follower.skip(3)
    with pytest.raises(AssertionError, match="facts come in order"):
        follower.hear(fact(3, HALT))


def test_recall_learns_what_was_recorded() -> None:
    """Recorded beats recomputed: the state takes in the recorded answer, not what would be decided now."""
    follower = Follower(CORE)
    follower.recall(fact(1, HALT), [halted("as recorded"), TradingResumed("too")])
    assert [line[0] for line in follower.state.lines] == ["HaltRequested", "TradingHalted", "TradingResumed"]
    assert follower.answered == 1


def test_recalled_silence() -> None:
    """A recorded silence is learnt as silence, and a fact without a row is passed over."""
    follower = Follower(CORE)
    follower.recall(fact(1, HALT), [])
    follower.recall(fact(2, STARTED), [])
    assert [line[0] for line in follower.state.lines] == ["HaltRequested"]
    assert (follower.heard, follower.answered) == (2, 0)


def test_answers_of() -> None:
    """An author's consequences by cause; others' and outside facts are no answers."""
    facts = [*TAPE, fact(7, halted("outside"))]
    assert answers_of("risk", facts) == {1: [halted("1")], 4: [halted("3")], 5: [TradingResumed("3")]}


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 6])
def test_restore_owes_what_was_not_recorded(length: int) -> None:
    """Cut anywhere, restore gives the state that hearing gives, and owes exactly the answers that are missing."""
    clean = Follower(CORE)
    decided = [(item.pos, list(clean.hear(item))) for item in TAPE[:length]]
    known = answers_of("risk", TAPE[:length])
    follower, owed = restore(CORE, TAPE[:length])
    assert follower.state == clean.state
    assert [(pos, list(answer)) for pos, answer in owed] == [
        (pos, answer) for pos, answer in decided if answer and pos not in known
    ]


def test_silence_before_the_last_answer_stays_silence() -> None:
    """An older build said nothing to position 1; what it said later shows that it had nothing to say."""
    facts = [fact(1, HALT), fact(2, HALT), fact(3, halted("x"), cause=2)]
    assert list(continue_from(Follower(CORE), answers_of("risk", facts), facts)) == []


@given(st.data())
def test_recalling_many_is_recalling_each(data: st.DataObject) -> None:
    """Whatever was said and left unsaid, in pieces of any length, from whole facts or only what is heard of them."""
    events = data.draw(st.lists(st.sampled_from([HALT, STARTED, halted("3"), TradingResumed("x")]), max_size=12))
    facts = [
        Fact(pos, data.draw(st.integers(0, 9)), str(pos), AUTHOR_OF[type(event)], "run", pos, cause, 1, 1, event)
        for pos, event in enumerate(events, start=1)
        for cause in [data.draw(st.integers(0, pos - 1))]
    ]
    answers = {pos: [halted(str(pos))] for pos in data.draw(st.sets(st.integers(1, 12))) if pos <= len(facts)}
    heard = heard_decoder({event.__name__ for event in CORE.hears})(map(encode, facts))
    cut = data.draw(st.integers(0, len(facts)))
    each, many = Follower(CORE), Follower(CORE)

    for fact in facts:
        each.recall(fact, answers.get(fact.pos, ()))
    for part in (heard[:cut], heard[cut:]):
        many.recall_all(part, answers)

    assert many.state == each.state
    assert (many.heard, many.clock_ns, many.answered) == (each.heard, each.clock_ns, each.answered)


def test_recalling_many_out_of_order_is_a_bug() -> None:
    """As with one: a position handed in twice stops the service."""
    facts = heard_decoder({"HaltRequested"})([encode(fact(3, HALT)), encode(fact(3, HALT))])
    with pytest.raises(AssertionError, match="facts come in order"):
        Follower(CORE).recall_all(facts, {})
