"""The tape's contract: the same suite for the tape in memory, the ledger over NATS and Postgres, and tape files.

A tape file has only the reading half, so there the answers go to memory and every read goes through a file.
"""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest
from msgspec.structs import replace

from tapeline_common.events import (
    AccountFunded,
    Event,
    FeedOpened,
    HaltRequested,
    OrderRefused,
    TradeDeclined,
    TradingHalted,
)
from tapeline_common.tape import Page, ReadRequest, Receipt, Tape, matches, read_all
from tapeline_common.tape_file import TapeFile
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.values import (
    AppendRefusal,
    Decline,
    HaltReason,
    InstrumentId,
    OrderId,
    Realm,
    Refusal,
    StrategyId,
)
from tapeline_common.wire import GENESIS, Answer, Draft, Fact, chain_naive, decode_fact

NOON_NS = 1_700_000_000_000_000_000


class Setting(Protocol):
    """A tape and the clock it stamps with."""

    tape: Tape

    def set_clock(self, now_ns: int) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.memory = MemoryTape(now_ns=NOON_NS)
        self.tape: Tape = self.memory

    def set_clock(self, now_ns: int) -> None:
        self.memory.now_ns = now_ns


class InFile:
    """Appends to memory; each read writes that tape into a file of small segments and asks the file."""

    def __init__(self, path: Path) -> None:
        self.memory = MemoryTape(now_ns=NOON_NS)
        self.path = path
        self.tape: Tape = self

    def set_clock(self, now_ns: int) -> None:
        self.memory.now_ns = now_ns

    async def append(self, author: str, answer: Answer) -> Receipt:
        return await self.memory.append(author, answer)

    async def read(self, request: ReadRequest) -> Page:
        with TapeWriter(self.path, replace=True, segment_bytes=400) as writer:
            for recorded in self.memory.records:
                writer.take(recorded)
        with TapeFile(self.path) as tape:
            return await tape.read(request)


class OverNats:
    def __init__(self, ledger: Any) -> None:
        self.ledger = ledger
        self.tape: Tape = ledger.tape
        self.set_clock(NOON_NS)

    def set_clock(self, now_ns: int) -> None:
        self.ledger.clock.now_ns = now_ns


@pytest.fixture
def memory_setting() -> Setting:
    return InMemory()


@pytest.fixture
def file_setting(tmp_path: Path) -> Setting:
    return InFile(tmp_path / "run.tape")


@pytest.fixture
async def nats_setting(run_ledger: Any) -> AsyncIterator[Setting]:
    async with run_ledger() as ledger:
        yield OverNats(ledger)


@pytest.fixture(params=["memory", "file", pytest.param("nats", marks=pytest.mark.servers)])
def setting(request: pytest.FixtureRequest) -> Setting:
    found: Setting = request.getfixturevalue(f"{request.param}_setting")
    return found


def halt(reason: str = "fire drill") -> HaltRequested:
    return HaltRequested(issuer="alice", reason=reason)


def outside(*facts: tuple[str, Event], **options: Any) -> Answer:
    return Answer(0, tuple(Draft(event, identity) for identity, event in facts), **options)


def consequence(cause: int, *events: Event, **options: Any) -> Answer:
    return Answer(cause, tuple(Draft(event) for event in events), **options)


HALTED = TradingHalted(reason=HaltReason.OPERATOR, detail="fire drill")
REFUSED = OrderRefused(
    order=OrderId("ema-7-0"),
    strategy=StrategyId("ema"),
    instrument=InstrumentId("BTC-USDT"),
    reason=Refusal.TRADING_HALTED,
    observed="",
    limit="",
)
DECLINED = TradeDeclined(
    strategy=StrategyId("ema"),
    instrument=InstrumentId("BTC-USDT"),
    reason=Decline.TRADING_HALTED,
    bar_open_ns=0,
    target=Decimal("1.50"),
)


async def facts_of(tape: Tape) -> list[Fact]:
    return [decode_fact(payload) for payload in await read_all(tape)]


async def test_outside_facts_get_gapless_positions_and_the_clocks_stamp(setting: Setting) -> None:
    """An outside fact is stamped by the tape's clock, is its own root, and counts the versions of its stream."""
    assert await setting.tape.append("operator", outside(("halt-1", halt()))) == Receipt((1,))
    setting.set_clock(NOON_NS + 5)
    assert await setting.tape.append("operator", outside(("halt-2", halt("again")))) == Receipt((2,))
    assert await facts_of(setting.tape) == [
        Fact(1, NOON_NS, "halt-1", "operator", "run", 1, 0, 1, 1, halt()),
        Fact(2, NOON_NS + 5, "halt-2", "operator", "run", 2, 0, 2, 1, halt("again")),
    ]


async def test_consequences_inherit_the_stamp_and_the_root_of_their_cause(setting: Setting) -> None:
    """The ids of consequences are derived from author, cause and index; their stamp and root come from the cause."""
    await setting.tape.append("operator", outside(("halt-1", halt())))
    setting.set_clock(NOON_NS + 5)
    assert await setting.tape.append("risk", consequence(1, HALTED, REFUSED)) == Receipt((2, 3))
    assert await setting.tape.append("strategy", consequence(3, DECLINED)) == Receipt((4,))
    assert (await facts_of(setting.tape))[1:] == [
        Fact(2, NOON_NS, "risk:1:0", "risk", "run", 2, 1, 1, 1, HALTED),
        Fact(3, NOON_NS, "risk:1:1", "risk", "ema-7-0", 1, 1, 1, 1, REFUSED),
        Fact(4, NOON_NS, "strategy:3:0", "strategy", "ema", 1, 3, 1, 1, DECLINED),
    ]


async def test_saying_the_same_again_succeeds_and_records_nothing(setting: Setting) -> None:
    """Same id and same content is a success with the old positions, for outside facts and for consequences."""
    for _ in range(2):
        assert await setting.tape.append("operator", outside(("halt-1", halt()))) == Receipt((1,))
        assert await setting.tape.append("risk", consequence(1, HALTED, REFUSED)) == Receipt((2, 3))
    both = outside(("halt-1", halt()), ("halt-2", halt("again")), ("halt-2", halt("again")))
    assert await setting.tape.append("operator", both) == Receipt((1, 4, 4))
    assert len(await facts_of(setting.tape)) == 4


@pytest.mark.parametrize(
    ("author", "answer", "reason"),
    [
        ("operator", outside(("halt-1", halt("other"))), AppendRefusal.ID_CONFLICT),
        ("operator", outside(("twice", halt("one")), ("twice", halt("two"))), AppendRefusal.ID_CONFLICT),
        ("operator", outside(("", halt())), AppendRefusal.ID_MISSING),
        ("operator", outside(("late", halt()), time_ns=NOON_NS), AppendRefusal.TIME_NOT_ALLOWED),
        ("operator", outside(("e", halt()), expected={"run": 7}), AppendRefusal.VERSION_CONFLICT),
        ("risk", consequence(1, REFUSED), AppendRefusal.ID_CONFLICT),
        ("risk", consequence(99, HALTED), AppendRefusal.CAUSE_UNKNOWN),
        ("risk", consequence(1, halt()), AppendRefusal.NOT_YOUR_EVENT),
        ("risk", consequence(2, HALTED, after=0), AppendRefusal.OUT_OF_ORDER),
        ("nobody", consequence(1, HALTED), AppendRefusal.AUTHOR_UNKNOWN),
        (
            "marketdata",
            outside(("feed", FeedOpened(InstrumentId("BTC/USDT"), "file", "1m", ""))),
            AppendRefusal.STREAM_INVALID,
        ),
    ],
)
async def test_a_refused_answer_changes_nothing(
    setting: Setting, author: str, answer: Answer, reason: AppendRefusal
) -> None:
    """Each rule of admission refuses with its own reason, and the tape stays as it was."""
    await setting.tape.append("operator", outside(("halt-1", halt())))
    await setting.tape.append("risk", consequence(1, HALTED))
    before = await read_all(setting.tape)
    receipt = await setting.tape.append(author, answer)
    assert (receipt.refusal, receipt.positions) == (reason, ())
    assert receipt.detail
    assert await read_all(setting.tape) == before


async def test_an_answer_is_recorded_whole_or_not_at_all(setting: Setting) -> None:
    """One bad fact among good ones: none of them is recorded."""
    await setting.tape.append("operator", outside(("halt-1", halt())))
    receipt = await setting.tape.append("operator", outside(("halt-2", halt("again")), ("halt-1", halt("other"))))
    assert receipt.refusal is AppendRefusal.ID_CONFLICT
    assert len(await facts_of(setting.tape)) == 1


async def test_the_clock_of_the_tape_never_goes_back(setting: Setting) -> None:
    """A wall clock that was set back does not make stamps go back."""
    await setting.tape.append("operator", outside(("halt-1", halt())))
    setting.set_clock(NOON_NS - 1_000)
    await setting.tape.append("operator", outside(("halt-2", halt("again"))))
    assert [fact.time_ns for fact in await facts_of(setting.tape)] == [NOON_NS, NOON_NS]


@pytest.mark.parametrize(
    "request_",
    [
        ReadRequest(after=0),
        ReadRequest(after=2),
        ReadRequest(after=40),
        ReadRequest(after=0, limit=3),
        ReadRequest(after=0, limit=3, types=("TradingHalted",)),
        ReadRequest(after=0, types=("HaltRequested", "AccountFunded")),
        ReadRequest(after=1, author="risk", limit=2),
        ReadRequest(after=1, until=4),
        ReadRequest(after=1, until=4, limit=1, author="operator"),
        ReadRequest(after=0, until=400, types=("NoSuchEvent",)),
        ReadRequest(after=6, until=4),
    ],
    ids=str,
)
async def test_reading_gives_what_the_plain_meaning_says(setting: Setting, request_: ReadRequest) -> None:
    """A page holds the first matches in order; ``through`` says how far was looked, so reading on misses nothing."""
    for number in range(5):
        await setting.tape.append("operator", outside((f"halt-{number}", halt(str(number)))))
        await setting.tape.append("risk", consequence(2 * number + 1, HALTED))
    await setting.tape.append("operator", outside(("fund", AccountFunded("main", "USDT", Decimal("1000.00")))))
    everything = await read_all(setting.tape)
    wanted = [payload for payload in everything if matches(decode_fact(payload), request_)]
    page = await setting.tape.read(request_)
    assert page.facts == tuple(wanted[: request_.limit])
    assert page.head == 11
    if len(page.facts) == request_.limit:
        assert page.through == decode_fact(page.facts[-1]).pos
    else:
        assert page.through == max(request_.after, min(request_.until or 11, 11))


@pytest.mark.parametrize(
    "request_",
    [
        ReadRequest(after=0, chained=True),
        ReadRequest(after=2, chained=True, limit=3),
        ReadRequest(after=1, chained=True, until=4),
        ReadRequest(after=5, chained=True, until=5),
        ReadRequest(after=7, chained=True),
        ReadRequest(after=70, chained=True),
    ],
    ids=str,
)
async def test_a_chained_read_tells_the_hash_after_its_last_fact(setting: Setting, request_: ReadRequest) -> None:
    """The facts are those of a plain read; the hash is of the chain up to ``through``, where there is such a fact."""
    for number in range(7):
        await setting.tape.append("operator", outside((f"halt-{number}", halt(str(number)))))
    plain = await setting.tape.read(replace(request_, chained=False))
    page = await setting.tape.read(request_)
    assert (page.facts, page.through, page.head) == (plain.facts, plain.through, plain.head)
    everything = await read_all(setting.tape)
    assert page.hash == (chain_naive(everything[: page.through]) if page.through <= 7 else b"")
    assert plain.hash == b""


async def test_an_empty_tape_reads_as_empty(setting: Setting) -> None:
    """Before the first fact there is a page, and nothing on it."""
    assert await setting.tape.read(ReadRequest(after=0)) == Page((), 0, 0)
    assert await setting.tape.read(ReadRequest(after=0, chained=True)) == Page((), 0, 0, GENESIS)


async def test_many_at_once_are_all_recorded_once(setting: Setting) -> None:
    """Concurrent appends, each sent twice, end up on the tape once, chained without a gap."""
    answers = [outside((f"halt-{number}", halt(str(number)))) for number in range(60)]
    receipts = await asyncio.gather(*(setting.tape.append("operator", answer) for answer in answers * 2))
    assert receipts[:60] == receipts[60:]
    facts = await facts_of(setting.tape)
    assert [fact.pos for fact in facts] == list(range(1, 61))
    assert sorted(fact.id for fact in facts) == sorted(f"halt-{number}" for number in range(60))


@pytest.mark.servers
async def test_both_tapes_hold_the_same_bytes(run_ledger: Any) -> None:
    """The same answers in the same order give the same bytes in memory and in Postgres."""
    memory = MemoryTape(Realm.LIVE, now_ns=NOON_NS)
    answers = [
        ("operator", outside(("halt-1", halt()))),
        ("risk", consequence(1, HALTED, REFUSED)),
        ("operator", outside(("fund", AccountFunded("main", "USDT", Decimal("1E+3"))))),
        ("strategy", consequence(3, DECLINED)),
    ]
    async with run_ledger() as ledger:
        ledger.clock.now_ns = NOON_NS
        for author, answer in answers:
            assert await ledger.tape.append(author, answer) == await memory.append(author, answer)
        payloads = await read_all(ledger.tape)
        assert payloads == [recorded.payload for recorded in memory.records]
        assert ledger.store.head.hash == memory.head_hash == chain_naive(payloads)
