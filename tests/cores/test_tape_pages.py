"""Reading much of the tape, several pages at a time, against the plain way of reading it."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tapeline_common.events import AccountFunded, Event, HaltRequested
from tapeline_common.money import ZERO
from tapeline_common.tape import Page, ReadRequest, read_all
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.tape_pages import PAGES_AHEAD, pages
from tapeline_common.wire import Answer, Draft


class Counted:
    """A tape whose ledger cuts every page after ``most`` facts, and that counts the reads on their way."""

    def __init__(self, tape: MemoryTape, most: int) -> None:
        self.tape = tape
        self.most = most
        self.reading = 0
        self.most_reading = 0

    async def read(self, request: ReadRequest) -> Page:
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        await asyncio.sleep(0)
        self.reading -= 1
        return await self.tape.read(replace(request, limit=min(request.limit, self.most)))


def tape_of(halts: list[bool]) -> MemoryTape:
    tape = MemoryTape(now_ns=1)
    for number, halt in enumerate(halts):
        event: Event = HaltRequested("alice", "drill") if halt else AccountFunded("main", "USDT", ZERO)
        assert tape.record("operator", Answer(0, (Draft(event, f"fact-{number}"),))).ok
    return tape


@given(
    halts=st.lists(st.booleans(), max_size=40),
    limit=st.integers(1, 12),
    most=st.integers(1, 12),
    after=st.integers(0, 10),
)
def test_pages_are_what_reading_one_after_the_other_gives(halts: list[bool], limit: int, most: int, after: int) -> None:
    """Every matching fact once and in order, through the head, however the ledger cuts the pages."""
    tape = tape_of(halts)
    counted = Counted(tape, most)
    after = min(after, len(halts))

    async def read() -> None:
        request = ReadRequest(after, limit=limit, types=("HaltRequested",))
        found = [page async for page in pages(counted.read, request)]
        facts = [payload for page in found for payload in page.facts]
        assert facts == await read_all(tape, types=("HaltRequested",), after=after)
        assert [page.through for page in found] == sorted(page.through for page in found)
        assert found[-1].through == len(halts)

    asyncio.run(read())
    assert counted.most_reading <= PAGES_AHEAD


def test_a_reader_that_stops_early_leaves_no_request_behind() -> None:
    """Whoever stops in the middle takes back what was asked for ahead."""
    counted = Counted(tape_of([True] * 40), most=2)

    async def read() -> None:
        reading = pages(counted.read, ReadRequest(0, limit=2))
        async for page in reading:
            if page.through >= 4:
                break
        await reading.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(read())
