"""Restoring reads a tape whole: what is handed out is under the chain, and what was changed on the way is refused."""

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from msgspec.structs import replace

from tapeline_common.events import Event, HaltRequested, TradingHalted, TradingResumed
from tapeline_common.tape import Page, ReadRequest
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.tape_pages import Chain, ChainBroken
from tapeline_common.tape_restore import Said, read_said, verified
from tapeline_common.values import HaltReason
from tapeline_common.wire import Answer, Draft, Heard, chain, decode_fact, encode, heard_decoder

HALTED = TradingHalted(HaltReason.OPERATOR, "storm")
RESUMED = TradingResumed("calm")


def tape_of(halts: int) -> MemoryTape:
    """Halts at odd positions, each answered by risk right behind it."""
    tape = MemoryTape(now_ns=100)
    for number in range(halts):
        ask = Answer(0, (Draft(HaltRequested("mara", f"storm {number}"), f"h{number}"),))
        assert tape.record("operator", ask).ok
        assert tape.record("risk", Answer(2 * number + 1, (Draft(HALTED if number % 2 else RESUMED),))).ok
    return tape


Change = Callable[[Page], Page]


class Changed:
    """A tape on whose chained pages somebody has laid a hand."""

    def __init__(self, tape: MemoryTape, change: Change, most: int = 5) -> None:
        self.tape = tape
        self.change = change
        self.most = most

    async def read(self, request: ReadRequest) -> Page:
        page = await self.tape.read(replace(request, limit=min(self.most, request.limit)))
        return self.change(page) if request.chained else page


def restore(tape: Changed, names: set[str], author: str = "risk") -> tuple[list[Heard], Said]:
    async def read() -> tuple[list[Heard], Said]:
        said = await read_said(tape.read, author)
        return [fact async for _, facts in verified(tape.read, names, [said]) for fact in facts], said

    return asyncio.run(read())


def as_it_is(page: Page) -> Page:
    return page


def edited(page: Page, *, pos: int, event: Event | None = None, drop: bool = False) -> Page:
    first = page.through - len(page.facts) + 1
    if not first <= pos <= page.through:
        return page
    facts = list(page.facts)
    if drop:
        del facts[pos - first]
    else:
        facts[pos - first] = encode(replace(decode_fact(facts[pos - first]), event=event))
    return Page(tuple(facts), page.through, page.head, page.hash)


@pytest.mark.parametrize("names", [set(), {"HaltRequested"}, {"HaltRequested", "TradingHalted", "TradingResumed"}])
def test_every_fact_comes_once_and_is_decoded_if_it_is_heard(names: set[str]) -> None:
    """Positions, stamps, authors and causes of all; the events of those heard; of others only that there was one."""
    tape = tape_of(13)
    facts, said = restore(Changed(tape, as_it_is), names)
    for got, fact in zip(facts, tape.facts, strict=True):
        assert (got.pos, got.time_ns, got.author, got.cause) == (fact.pos, fact.time_ns, fact.author, fact.cause)
        assert (got.event == fact.event) is (type(fact.event).__name__ in names)
        assert isinstance(got.event, Event) is (type(fact.event).__name__ in names)
    assert said.answers == {fact.cause: [fact.event] for fact in tape.facts if fact.author == "risk"}
    assert said.last_answered == 25


CHANGES: dict[str, Change] = {
    "a changed event": lambda page: edited(page, pos=7, event=HaltRequested("mallory", "storm 3")),
    "a missing fact": lambda page: edited(page, pos=7, drop=True),
    "a missing last fact": lambda page: edited(page, pos=26, drop=True),
    "swapped facts": lambda page: Page(page.facts[::-1], page.through, page.head, page.hash),
    "another hash": lambda page: Page(page.facts, page.through, page.head, bytes(32)),
    "no hash": lambda page: Page(page.facts, page.through, page.head),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_tape_is_refused(change: Change) -> None:
    """Nothing is restored from a tape whose bytes are not those under the chain, and the message says where."""
    with pytest.raises(ChainBroken, match=r"from \d+ to \d+"):
        restore(Changed(tape_of(13), change), {"HaltRequested"})


def test_an_answer_that_came_differently_the_first_time_is_refused() -> None:
    """Own answers are read before the chain is: what they were believed to be is compared with what is under it."""
    tape = Changed(tape_of(13), as_it_is)

    async def read() -> None:
        said = Said("risk")
        page = await tape.tape.read(ReadRequest(0, author="risk"))
        first = encode(replace(decode_fact(page.facts[0]), event=HALTED))
        said.take(Page((first, *page.facts[1:]), page.through, page.head))
        _ = [facts async for _, facts in verified(tape.read, set(), [said])]

    with pytest.raises(ChainBroken, match="fact 2 of risk was read twice and came differently"):
        asyncio.run(read())


def test_an_answer_that_was_hidden_the_first_time_is_refused() -> None:
    """A changed author column would hide an answer from the read that names the author; its bytes still tell."""
    tape = Changed(tape_of(13), as_it_is)

    async def read() -> None:
        said = Said("risk")
        page = await tape.tape.read(ReadRequest(0, author="risk"))
        said.take(Page(page.facts[:3] + page.facts[4:], page.through, page.head))
        _ = [facts async for _, facts in verified(tape.read, set(), [said])]

    with pytest.raises(ChainBroken, match="risk said 3 facts from 6 to 10, but 2 were found by author"):
        asyncio.run(read())


def test_an_answer_recorded_meanwhile_is_no_fault() -> None:
    """Between the two reads the ledger may still record what a former process asked for."""
    tape = tape_of(13)
    said = Said("risk")
    said.take(tape.page(ReadRequest(0, author="risk")))
    assert tape.record("operator", Answer(0, (Draft(HaltRequested("mara", "late"), "late"),))).ok
    assert tape.record("risk", Answer(27, (Draft(HALTED),))).ok

    async def read() -> list[int]:
        return [fact.pos async for _, facts in verified(tape.read, set(), [said]) for fact in facts]

    assert asyncio.run(read()) == list(range(1, 29))


def test_an_empty_tape_is_a_whole_tape() -> None:
    """Nothing recorded, nothing handed out, nothing wrong."""
    facts, said = restore(Changed(MemoryTape(), as_it_is), set())
    assert (facts, said.answers, said.last_answered) == ([], {}, 0)


def test_the_chain_goes_on_where_it_was() -> None:
    """Page by page the hash is the one of ``chain``, one fact after the other."""
    tape = tape_of(3)
    known = Chain()
    for after in (0, 2, 4):
        known.take(tape.page(ReadRequest(after, limit=2, chained=True)))
    head = bytes(32)
    for recorded in tape.records:
        head = chain(head, recorded.payload)
    assert (known.pos, known.hash) == (6, head)


def test_what_is_no_event_at_all_is_refused_even_unheard() -> None:
    """Skipping an event's fields is not skipping the question whether there is such an event."""
    payload = encode(tape_of(1).facts[0]).replace(b"HaltRequested", b"NoSuchThing")
    with pytest.raises(msgspec.ValidationError, match="NoSuchThing"):
        heard_decoder(set())([payload])
