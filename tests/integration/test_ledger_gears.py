"""The ledger with cores around it: replay in lock step equals the loop gear, and the books in the ledger's own process.

The cores here are small and of this test; what lock step does under every interleaving is shown in tests/properties.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from nats.aio.client import Client

from tapeline_common import subjects
from tapeline_common.core import Core, Stamp
from tapeline_common.events import (
    BarClosed,
    EquityMarked,
    Event,
    HaltRequested,
    LimitBreached,
    TradingHalted,
    TrainingRequested,
)
from tapeline_common.follower import Follower
from tapeline_common.loop import Loop
from tapeline_common.sequencer import Recorded
from tapeline_common.servers import until
from tapeline_common.tape import Receipt, read_all
from tapeline_common.tape_nats import NatsTape
from tapeline_common.values import AppendRefusal, HaltReason, InstrumentId, Realm
from tapeline_common.wire import Answer, Draft, decode_fact
from tapeline_ledger.rebuild import rebuild
from tapeline_ledger.verify import verify

pytestmark = pytest.mark.servers

BTC = InstrumentId("BTC-USDT")
MINUTE_NS = 60_000_000_000


def bar(number: int) -> BarClosed:
    open_ns = number * MINUTE_NS
    return BarClosed(BTC, "1m", open_ns, open_ns + MINUTE_NS, "100", "101", "99", f"100.{number}", "5")


@dataclass(slots=True)
class Bars:
    count: int = 0


def count(state: Bars, event: Event, stamp: Stamp) -> None:
    state.count += 1


def mark(state: Bars, event: BarClosed, stamp: Stamp) -> Sequence[Event]:
    """Marks equity on every third bar."""
    if state.count % 3:
        return ()
    return [EquityMarked(event.close_ns, Decimal(state.count), Decimal(event.close), Decimal(0))]


def train(state: Bars, event: BarClosed, stamp: Stamp) -> Sequence[Event]:
    return [TrainingRequested(BTC, state.count)] if state.count % 2 else ()


def breach(state: Bars, event: Event, stamp: Stamp) -> Sequence[Event]:
    return [LimitBreached(HaltReason.DAILY_LOSS, str(state.count), str(stamp.pos))]


def stop(state: Bars, event: LimitBreached, stamp: Stamp) -> Sequence[Event]:
    return [TradingHalted(event.reason, f"{event.observed} of {state.count}")]


BOOKS = Core("ledger", Bars, {BarClosed: count}, {BarClosed: mark})
REGIME = Core("regime", Bars, {BarClosed: count}, {BarClosed: train})
RISK = Core(
    "risk", Bars, {EquityMarked: count}, {EquityMarked: breach, TrainingRequested: breach}, {LimitBreached: stop}
)
CORES = (BOOKS, REGIME, RISK)
PLAN = {core.name: [event.__name__ for event in core.hears] for core in CORES}


def loop_tape(bars: int) -> list[Recorded]:
    tape: list[Recorded] = []
    loop = Loop(CORES, keep=tape.append)
    for number in range(bars):
        loop.say("marketdata", bar(number), f"bar-{number}", bar(number).close_ns)
    return tape


async def serve_core(client: Client, core: Core[Any]) -> None:
    """A service of the replay realm at its smallest: hear every fact in order, answer those that the plan names."""
    follower = Follower(core)
    tape = NatsTape(client, append_timeout_s=30.0)
    inbox: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(message: Any) -> None:
        inbox.put_nowait(message.data)

    await client.subscribe(subjects.TAPE, cb=hear)
    await client.flush()
    await client.flush()

    async def answer_all() -> None:
        while True:
            fact = decode_fact(await inbox.get())
            decisions = follower.hear(fact)
            if type(fact.event).__name__ in PLAN[core.name]:
                answer = Answer(fact.pos, tuple(Draft(decision) for decision in decisions))
                asking = asyncio.create_task(tape.append(core.name, answer))
                asked.add(asking)
                asking.add_done_callback(asked.discard)

    asked: set[asyncio.Task[Receipt]] = set()
    running.add(asyncio.create_task(answer_all()))


running: set[asyncio.Task[None]] = set()


@pytest.fixture(autouse=True)
async def _stop_services() -> Any:
    yield
    for task in running:
        task.cancel()
    running.clear()


async def test_replay_over_nats_and_postgres_gives_the_tape_of_the_loop(
    run_ledger: Any, database: Any, connect: Callable[[], Awaitable[Client]]
) -> None:
    """Services over the wire, bars fed far ahead in two messages: the same bytes and the same head hash as the loop."""
    bars = 60
    expected = loop_tape(bars)
    async with run_ledger(realm=Realm.REPLAY, plan=PLAN, books=BOOKS) as ledger:
        await serve_core(await connect(), REGIME)
        await serve_core(await connect(), RISK)
        feed = [Answer(0, (Draft(bar(n), f"bar-{n}"),), time_ns=bar(n).close_ns) for n in range(bars)]
        first = asyncio.create_task(ledger.tape.append_many("marketdata", feed[:40]))
        receipts = [*(await first), *(await ledger.tape.append_many("marketdata", feed[40:]))]
        recorder = ledger.server.recorder
        assert await until(lambda: recorder.head == recorder.settled == len(expected), 30), recorder.head
        assert await read_all(ledger.tape) == [recorded.payload for recorded in expected]
        assert ledger.store.head.hash == expected[-1].hash
        bars_at = [r.fact.pos for r in expected if isinstance(r.fact.event, BarClosed)]
        assert [receipt.positions for receipt in receipts] == [(pos,) for pos in bars_at]
    assert (await verify(database.reader)).fault is None
    assert (await rebuild(database.ledger)).differences == ()


async def test_the_books_in_the_ledger_answer_and_survive_a_restart(run_ledger: Any, database: Any) -> None:
    """The ledger's own core hears each committed group; after a restart it goes on, saying nothing twice."""

    def fed(first: int, last: int) -> list[Answer]:
        return [Answer(0, (Draft(bar(number), f"bar-{number}"),)) for number in range(first, last)]

    async with run_ledger(books=BOOKS) as ledger:
        await ledger.tape.append_many("marketdata", fed(0, 5))
        assert await until(lambda: ledger.store.head.pos == 6, 10)
    async with run_ledger(books=BOOKS) as ledger:
        assert ledger.server.recorder.books.state == Bars(5)
        await ledger.tape.append_many("marketdata", fed(5, 7))
        assert await until(lambda: ledger.store.head.pos == 9, 10)
        facts = [decode_fact(payload) for payload in await read_all(ledger.tape)]
    said = [(fact.cause, fact.event.cash) for fact in facts if isinstance(fact.event, EquityMarked)]
    assert said == [(3, Decimal(3)), (7, Decimal(6))]


async def test_a_ledger_that_died_before_its_books_answered_owes_the_answer(run_ledger: Any) -> None:
    """Bars recorded without books are heard when the books come up, and the missing answers are recorded."""
    async with run_ledger() as ledger:
        feed = [Answer(0, (Draft(bar(number), f"bar-{number}"),)) for number in range(7)]
        await ledger.tape.append_many("marketdata", feed)
    async with run_ledger(books=BOOKS) as ledger:
        assert await until(lambda: ledger.store.head.pos == 9, 10)
        facts = [decode_fact(payload) for payload in await read_all(ledger.tape)]
        assert [(fact.author, fact.cause) for fact in facts[7:]] == [("ledger", 3), ("ledger", 6)]


async def test_the_control_door_records_in_process(run_ledger: Any) -> None:
    """Somebody in the ledger's process records like anybody else: durable and announced when the receipt is there."""
    async with run_ledger() as ledger:
        recorder = ledger.server.recorder
        request = Answer(0, (Draft(HaltRequested("alice", "fire drill"), "halt-1"),))
        assert await recorder.append_local("operator", request) == Receipt((1,))
        assert ledger.store.head.pos == 1
        refused = await recorder.append_local("risk", request)
        assert refused.refusal is AppendRefusal.NOT_YOUR_EVENT
