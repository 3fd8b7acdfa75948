"""The rules of admission: every refusal by name, nothing changed by it; what is said again is a success."""

import pytest

from tapeline_common.events import Event, HaltRequested, StrategyDisableRequested, TradingHalted, TradingResumed
from tapeline_common.sequencer import MAX_ID_LENGTH, Needs, Sequencer
from tapeline_common.tape import Receipt
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.values import AppendRefusal, HaltReason, Realm, StrategyId
from tapeline_common.wire import Answer, Draft

HALT = HaltRequested("mara", "storm")
CALM = HaltRequested("mara", "calm")
HALTED = TradingHalted(HaltReason.OPERATOR, "storm")
RESUMED = TradingResumed("calm")


def outside(*facts: tuple[str, Event], time_ns: int | None = None) -> Answer:
    return Answer(0, tuple(Draft(event, identity) for identity, event in facts), time_ns=time_ns)


def answer(cause: int, *events: Event, after: int | None = None) -> Answer:
    return Answer(cause, tuple(map(Draft, events)), after=after)


def tape_with_answer() -> MemoryTape:
    """Halts at 1 and 2; risk answered 1 with two facts, at 3 and 4."""
    tape = MemoryTape(now_ns=100)
    assert tape.record("operator", outside(("h1", HALT), ("h2", CALM))).positions == (1, 2)
    assert tape.record("risk", answer(1, HALTED, RESUMED, after=0)).positions == (3, 4)
    return tape


@pytest.mark.parametrize(
    ("author", "asked", "reason"),
    [
        ("nobody", outside(("x", HALT)), AppendRefusal.AUTHOR_UNKNOWN),
        ("risk", outside(("x", HALT)), AppendRefusal.NOT_YOUR_EVENT),
        ("operator", outside(("h1", CALM)), AppendRefusal.ID_CONFLICT),
        ("operator", outside(("x", HALT), ("x", CALM)), AppendRefusal.ID_CONFLICT),
        ("operator", outside(("", HALT)), AppendRefusal.ID_MISSING),
        ("operator", outside(("x" * (MAX_ID_LENGTH + 1), HALT)), AppendRefusal.ID_MISSING),
        ("operator", outside(("x", HALT), time_ns=5), AppendRefusal.TIME_NOT_ALLOWED),
        (
            "operator",
            outside(("x", StrategyDisableRequested(StrategyId("a.b"), "mara", ""))),
            AppendRefusal.STREAM_INVALID,
        ),
        ("operator", Answer(0, (Draft(HALT, "x"),), expected={"run": 3}), AppendRefusal.VERSION_CONFLICT),
        ("risk", answer(5, HALTED), AppendRefusal.CAUSE_UNKNOWN),
        ("risk", Answer(2, (Draft(HALTED),), time_ns=5), AppendRefusal.TIME_NOT_ALLOWED),
        ("risk", Answer(2, (Draft(HALTED, "mine"),)), AppendRefusal.ID_CONFLICT),
        ("risk", answer(1, RESUMED, HALTED), AppendRefusal.ID_CONFLICT),
        ("risk", answer(1, HALTED, RESUMED, HALTED), AppendRefusal.ID_CONFLICT),
        ("risk", answer(1, HALTED), AppendRefusal.ID_CONFLICT),
        ("risk", answer(2, HALTED, after=0), AppendRefusal.OUT_OF_ORDER),
        ("risk", answer(2, HALTED, after=2), AppendRefusal.OUT_OF_ORDER),
    ],
)
def test_refused(author: str, asked: Answer, reason: AppendRefusal) -> None:
    """Each rule refuses by its own name, and the tape is as before."""
    tape = tape_with_answer()
    before = (tape.head, tape.head_hash)
    assert tape.record(author, asked).refusal is reason
    assert (tape.head, tape.head_hash) == before


def test_answer_to_an_earlier_fact_is_out_of_order() -> None:
    """A core that has answered 2 has said all it had to say to 1: a second copy cannot add to it."""
    tape = MemoryTape()
    tape.record("operator", outside(("h1", HALT), ("h2", CALM)))
    assert tape.record("risk", answer(2, HALTED, after=0)).ok
    assert tape.record("risk", answer(1, HALTED, after=2)).refusal is AppendRefusal.OUT_OF_ORDER


@pytest.mark.parametrize(
    ("author", "again", "positions"),
    [
        ("operator", outside(("h1", HALT)), (1,)),
        ("operator", outside(("h2", CALM), ("h1", HALT)), (2, 1)),
        ("risk", answer(1, HALTED, RESUMED, after=0), (3, 4)),
    ],
)
def test_repeated(author: str, again: Answer, positions: tuple[int, ...]) -> None:
    """The same again is a success with the old positions, and records nothing."""
    tape = tape_with_answer()
    assert tape.record(author, again) == Receipt(positions)
    assert tape.head == 4


def test_partly_new_outside_facts() -> None:
    """Of outside facts only the new ones are recorded, also when one is named twice in a request."""
    tape = tape_with_answer()
    assert tape.record("operator", outside(("h3", HALT), ("h1", HALT), ("h3", HALT))).positions == (5, 1, 5)
    assert tape.head == 5


def test_expected_version_holds() -> None:
    """The right expected version admits; versions are counted per stream."""
    tape = tape_with_answer()
    asked = Answer(0, (Draft(HALT, "x"),), expected={"run": 4, "unheard": 0})
    assert tape.record("operator", asked).positions == (5,)
    assert [fact.version for fact in tape.facts] == [1, 2, 3, 4, 5]


def test_clock_does_not_go_back() -> None:
    """A wall clock set back stamps with the tape's clock; a consequence inherits its cause's stamp."""
    tape = tape_with_answer()
    tape.now_ns = 90
    tape.record("operator", outside(("h3", HALT)))
    tape.now_ns = 200
    tape.record("operator", outside(("h4", HALT)))
    tape.record("risk", answer(2, HALTED, after=1))
    assert [fact.time_ns for fact in tape.facts] == [100, 100, 100, 100, 100, 200, 100]


@pytest.mark.parametrize(("time_ns", "is_admitted"), [(None, False), (49, False), (50, True), (51, True)])
def test_replay_clock(time_ns: int | None, is_admitted: bool) -> None:
    """The replay realm needs a stamp, and one that does not lie before the tape's clock."""
    tape = MemoryTape(Realm.REPLAY)
    assert tape.record("operator", outside(("h1", HALT), time_ns=50)).ok
    receipt = tape.record("operator", outside(("h2", HALT), time_ns=time_ns))
    assert receipt.refusal is (None if is_admitted else AppendRefusal.TIME_NOT_ALLOWED)


def test_needs() -> None:
    """What is surely new is not looked up; a repetition asks for one id more, to see a longer answer."""
    sequencer = Sequencer(Realm.LIVE, pos=9, answered={"risk": 4})
    assert sequencer.needs("operator", outside(("h1", HALT))) == Needs(("h1",), None)
    assert sequencer.needs("risk", answer(5, HALTED)) == Needs((), 5)
    assert sequencer.needs("risk", answer(4, HALTED)) == Needs(("risk:4:0", "risk:4:1"), 4)


@pytest.mark.parametrize("events", [(), (HALTED,), (HALTED, RESUMED, HALTED)], ids=len)
@pytest.mark.parametrize("cause", [1, 2])
def test_an_answer_is_recorded_as_its_facts_are_one_by_one(events: tuple[Event, ...], cause: int) -> None:
    """Same facts, same bytes, same hashes, same head; an empty answer changes nothing."""
    at_once, one_by_one = Sequencer(Realm.REPLAY), Sequencer(Realm.REPLAY)
    for sequencer in (at_once, one_by_one):
        facts = [sequencer.record("operator", event, f"h{n}", 0, 0, n) for n, event in enumerate((HALT, CALM))]
        sequencer.record("risk", RESUMED, "risk:2:0", 2, 2, 1)
    asked = facts[cause - 1].fact

    recorded = at_once.record_answer("risk", events, asked)

    assert recorded == [
        one_by_one.record("risk", event, f"risk:{cause}:{index}", cause, asked.correlation, asked.time_ns)
        for index, event in enumerate(events)
    ]
    assert at_once == one_by_one


@pytest.mark.parametrize("count", [0, 1, 5])
def test_outside_facts_are_recorded_together_as_they_are_one_by_one(count: int) -> None:
    """Same facts, same bytes, same hashes, same head, whether many are admitted at once or each by itself."""
    at_once, one_by_one = Sequencer(Realm.LIVE, clock_ns=50), Sequencer(Realm.LIVE, clock_ns=50)
    drafts = [Draft(StrategyDisableRequested(StrategyId(f"s{n % 2}"), "mara", ""), f"d{n}") for n in range(count)]

    recorded = at_once.record_outside("operator", drafts, 60)

    assert recorded == [one_by_one.record("operator", draft.event, draft.id, 0, 0, 60) for draft in drafts]
    assert at_once.pos == one_by_one.pos == count
    assert (at_once.hash, at_once.versions) == (one_by_one.hash, one_by_one.versions)
