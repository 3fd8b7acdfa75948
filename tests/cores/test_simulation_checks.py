"""Each check of a tape is able to fail: a right tape passes all, and every way of spoiling it is named."""

from decimal import Decimal

import pytest

from tapeline_common import simulation_checks as checks
from tapeline_common import simulation_invariants as invariants
from tapeline_common.events import (
    Event,
    HaltRequested,
    OrderAccepted,
    OrderApproved,
    OrderFilled,
    OrderSubmitted,
    OrderTerms,
    OrderWithheld,
    RunStarted,
)
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.values import InstrumentId, Liquidity, OrderId, Realm, Side, StrategyId, Withheld
from tapeline_common.wire import Answer, Draft, Fact

ORDER = OrderId("dawn-1")
TERMS = OrderTerms(StrategyId("dawn"), InstrumentId("BTC"), Side.BUY, Decimal(2))
STARTED = RunStarted("r", "t", Realm.LIVE, 7, "USDT", "1")
APPROVED = OrderApproved(ORDER, TERMS, 99)
SUBMITTED = OrderSubmitted(ORDER, "c-1", TERMS, 2, 99)
ACCEPTED = OrderAccepted(ORDER, "c-1", "v-1")
HALTED = HaltRequested("mara", "storm")
WITHHELD = OrderWithheld(ORDER, "c-1", Withheld.TRADING_HALTED)


def filled(trade: str, quantity: int) -> OrderFilled:
    one = Decimal(1)
    return OrderFilled(
        ORDER,
        "c-1",
        TERMS.strategy,
        TERMS.instrument,
        trade,
        Side.BUY,
        Decimal(quantity),
        one,
        one,
        "USDT",
        Liquidity.TAKER,
        one,
    )


def tape_of(*answers: tuple[str, int, tuple[Event, ...]]) -> MemoryTape:
    tape = MemoryTape()
    for author, cause, events in answers:
        drafts = tuple(Draft(event, "" if cause else f"{author}-{tape.head}") for event in events)
        assert tape.record(author, Answer(cause, drafts)).ok
    return tape


def tape_of_order(*later: tuple[str, int, tuple[Event, ...]]) -> MemoryTape:
    return tape_of(("operator", 0, (STARTED,)), ("risk", 1, (APPROVED,)), ("execution", 2, (SUBMITTED,)), *later)


def spoilt(fact: Fact, **changes: object) -> Fact:
    fields = {name: getattr(fact, name) for name in fact.__struct_fields__}
    return Fact(**{**fields, **changes})


def test_right_tape_passes() -> None:
    """Nothing is wrong with a tape that the sequencer made."""
    tape = tape_of_order(("venue", 3, (ACCEPTED,)), ("venue", 4, (filled("a", 1), filled("b", 1))))
    payloads = [recorded.payload for recorded in tape.records]
    assert checks.chain_wrong(payloads, tape.head_hash) is None
    assert checks.order_wrong(tape.facts) is None
    assert checks.answers_wrong(tape.facts) is None
    assert [invariant(tape.facts) for invariant in invariants.ORDERS] == [None] * len(invariants.ORDERS)


def test_changed_byte() -> None:
    """One changed byte changes the head hash."""
    tape = tape_of_order()
    payloads = [recorded.payload for recorded in tape.records]
    payloads[1] = payloads[1].replace(b"BUY", b"BUX")
    assert "head hash" in (checks.chain_wrong(payloads, tape.head_hash) or "")


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"pos": 4}, "stands at place 3"),
        ({"id": "risk:1:0"}, "repeats an id"),
        ({"author": "venue"}, "who may not"),
        ({"version": 9}, "is version 9"),
        ({"cause": 3}, "is not before it"),
        ({"correlation": 3}, "does not inherit"),
        ({"time_ns": 5}, "does not inherit"),
    ],
)
def test_changed_envelope(changes: dict[str, object], wrong: str) -> None:
    """Every field of the envelope is checked against the facts before it."""
    facts = tape_of_order().facts
    facts[2] = spoilt(facts[2], **changes)
    assert wrong in (checks.order_wrong(facts) or "")


def test_clock_went_back() -> None:
    """An outside fact is never stamped before the tape's clock."""
    first = tape_of(("operator", 0, (STARTED,))).facts[0]
    later = spoilt(first, time_ns=10)
    back = spoilt(first, pos=2, id="x", version=2, correlation=2, time_ns=9)
    assert "before the tape's clock 10" in (checks.order_wrong([later, back]) or "")


def test_answer_in_two_parts() -> None:
    """Facts of one answer lie together; anything between them means that it was recorded twice or in parts."""
    facts = tape_of_order(("venue", 3, (ACCEPTED, filled("a", 1)))).facts
    apart = [*facts[:4], spoilt(facts[4], pos=9)]
    assert "venue answered 3 more than once" in (checks.answers_wrong(apart) or "")


@pytest.mark.parametrize(
    ("tape", "wrong"),
    [
        (
            tape_of(
                ("operator", 0, (STARTED,)),
                ("risk", 1, (APPROVED,)),
                ("operator", 0, (HALTED,)),
                ("execution", 2, (SUBMITTED,)),
                ("venue", 4, (ACCEPTED,)),
            ),
            "while HALTED",
        ),
        (tape_of_order(("execution", 3, (SUBMITTED,))), "approval 2 was used"),
        (tape_of(("operator", 0, (STARTED,)), ("execution", 1, (SUBMITTED,))), "has no such approval at 2"),
        (tape_of_order(("venue", 3, (filled("a", 1), filled("a", 1)))), "trade a of order dawn-1"),
        (tape_of_order(("venue", 3, (filled("a", 3),))), "by 1 more than it asked for"),
        (tape_of(("operator", 0, (STARTED,)), ("venue", 1, (filled("a", 1),))), "never submitted"),
        (tape_of_order(("execution", 3, (WITHHELD,)), ("venue", 3, (ACCEPTED,))), "known to the venue at 5"),
    ],
)
def test_broken_promise(tape: MemoryTape, wrong: str) -> None:
    """Every promise about orders is checked, and names the facts that break it."""
    found = [text for invariant in invariants.ORDERS if (text := invariant(tape.facts)) is not None]
    assert any(wrong in text for text in found), found
