"""The ledger of a replay over real NATS and Postgres, with small services of this test around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
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
from tapeline_common.frame_follower import OutOfStep
from tapeline_common.frames import plan_of
from tapeline_common.loop import Loop
from tapeline_common.replay_service import Hearer
from tapeline_common.sequencer import Recorded
from tapeline_common.servers import until
from tapeline_common.tape import read_all
from tapeline_common.tape_nats import NatsTape
from tapeline_common.values import AppendRefusal, HaltReason, InstrumentId
from tapeline_common.wire import Answer, Draft
from tapeline_common.wiring import Service
from tapeline_ledger import replay_server
from tapeline_ledger.frame_gate import ReplayBroken
from tapeline_ledger.replay_server import ReplayServer
from tapeline_ledger.store import Store
from tapeline_ledger.verify import verify

pytestmark = pytest.mark.servers

BTC = InstrumentId("BTC-USDT")
MINUTE_NS = 60_000_000_000


def bar(number: int, close: str = "100") -> BarClosed:
    open_ns = number * MINUTE_NS
    return BarClosed(BTC, "1m", open_ns, open_ns + MINUTE_NS, "100", "101", "99", f"{close}.{number}", "5")


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
    return [TrainingRequested(BTC, state.count)] if state.count % 7 == 0 else ()


def breach(state: Bars, event: Event, stamp: Stamp) -> Sequence[Event]:
    return [LimitBreached(HaltReason.DAILY_LOSS, str(state.count), str(stamp.pos))]


def halt(state: Bars, event: LimitBreached, stamp: Stamp) -> Sequence[Event]:
    return [TradingHalted(event.reason, f"{event.observed} of {state.count}")]


BOOKS = Service("ledger", (Core("ledger", Bars, {BarClosed: count}, {BarClosed: mark}),))
REGIME = Service("regime", (Core("regime", Bars, {BarClosed: count}, {BarClosed: train}, reads_position=False),))
RISK = Service(
    "risk",
    (
        Core(
            "risk",
            Bars,
            {EquityMarked: count},
            {EquityMarked: breach, TrainingRequested: breach},
            {LimitBreached: halt},
        ),
    ),
)
SERVICES = (BOOKS, REGIME, RISK)


def loop_tape(bars: Sequence[BarClosed]) -> list[Recorded]:
    tape: list[Recorded] = []
    loop = Loop([core for service in SERVICES for core in service.cores], keep=tape.append)
    for one in bars:
        loop.say("marketdata", one, f"bar-{one.open_ns}", one.close_ns)
    return tape


@dataclass
class Running:
    server: ReplayServer
    store: Store
    tape: NatsTape
    serving: asyncio.Task[None]

    async def feed(self, bars: Sequence[BarClosed]) -> list[int]:
        answers = [Answer(0, (Draft(one, f"bar-{one.open_ns}"),), time_ns=one.close_ns) for one in bars]
        return [receipt.positions[0] for receipt in await self.tape.append_many("marketdata", answers)]

    async def settled(self) -> bool:
        gate = self.server.gate
        return await until(lambda: gate.is_settled and self.store.head.pos == gate.sequencer.pos, 20)


Replay = Callable[..., Any]


@pytest.fixture
def replay(connect: Callable[[], Awaitable[Client]], database: Any) -> Replay:
    """``async with replay() as running``: ledger and services on this test's database. ``lose``: frames lost, by
    service, before the first one is heard."""

    @asynccontextmanager
    async def run(lose: int = 0) -> AsyncIterator[Running]:
        lost = {"regime": lose, "risk": lose}
        opened: list[Client] = []

        async def opening() -> Client:
            opened.append(await connect())
            return opened[-1]

        async def serve(service: Service) -> None:
            client, hearer = await opening(), Hearer(service)

            async def hear(message: Any) -> None:
                if lost[service.name]:
                    lost[service.name] -= 1
                    return
                await client.publish(subjects.frame_answer(service.name), hearer.hear(message.data))

            await client.subscribe(subjects.frames(service.name), cb=hear)
            await client.flush()
            await client.flush()

        for service in (REGIME, RISK):
            await serve(service)
        store = await Store.open(database.ledger)
        server = ReplayServer(
            await opening(), store, plan_of(SERVICES), books=BOOKS, now_ns=lambda: 0, most=replay_server.MOST
        )
        stop = asyncio.Event()
        serving = asyncio.create_task(server.run(stop))
        try:
            yield Running(server, store, NatsTape(await opening(), append_timeout_s=20.0), serving)
        finally:
            stop.set()
            await asyncio.gather(serving, return_exceptions=True)
            await store.close()
            # Else this run's ledger and services would hear and answer what the next run on this log asks.
            for client in opened:
                await client.close()

    return run


async def test_a_replay_in_frames_gives_the_tape_of_the_loop(replay: Replay, database: Any) -> None:
    """Bars fed far ahead: the loop's bytes in Postgres, a receipt for each bar, and a chain that verifies."""
    bars = [bar(number) for number in range(600)]
    expected = loop_tape(bars)
    async with replay() as running:
        positions = await running.feed(bars[:400]) + await running.feed(bars[400:])
        assert await running.settled()
        assert await read_all(running.tape) == [recorded.payload for recorded in expected]
    assert positions == [recorded.fact.pos for recorded in expected if isinstance(recorded.fact.event, BarClosed)]
    assert (await verify(database.reader)).fault is None


async def test_a_second_run_compares_with_the_log_and_goes_on(replay: Replay) -> None:
    """On a log that a first run left unfinished, everything is decided anew, and only what is missing is recorded."""
    bars = [bar(number) for number in range(300)]
    expected = loop_tape(bars)
    async with replay() as running:
        await running.feed(bars[:150])
    async with replay() as running:
        begun = running.store.head.pos
        assert 0 < begun < len(expected)
        await running.feed(bars)
        assert await running.settled()
        assert await read_all(running.tape) == [recorded.payload for recorded in expected]


async def test_another_replay_on_the_same_log_is_refused(replay: Replay) -> None:
    """A bar that differs from the recorded one stops the replay, and nothing is added to the log."""
    bars = [bar(number) for number in range(100)]
    async with replay() as running:
        await running.feed(bars)
        assert await running.settled()
        head = running.store.head
    async with replay() as running:
        feeding = asyncio.create_task(running.feed([bars[0], bar(1, close="102"), *bars[2:]]))
        with pytest.raises(ReplayBroken, match=f"not what is recorded here up to position {head.pos}"):
            await running.serving
        feeding.cancel()
        assert running.store.head == head


async def test_lost_frames_are_sent_again(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    """NATS may lose a frame: it is sent again, heard once, and the tape is the same."""
    monkeypatch.setattr(replay_server, "RESEND_S", 0.1)
    bars = [bar(number) for number in range(60)]
    async with replay(lose=2) as running:
        await running.feed(bars)
        assert await running.settled()
        assert running.store.head.hash == loop_tape(bars)[-1].hash


async def test_what_is_no_outside_fact_is_refused(replay: Replay) -> None:
    """Answers of services, facts without a stamp or an id, an earlier stamp, another's event: each gets its reason."""
    async with replay() as running:
        await running.feed([bar(5)])

        async def refusal(author: str, answer: Answer) -> AppendRefusal | None:
            return (await running.tape.append(author, answer)).refusal

        halts = Draft(HaltRequested("mara", "storm"), "halt")
        assert await refusal("operator", Answer(1, (halts,))) is AppendRefusal.OUT_OF_ORDER
        assert await refusal("operator", Answer(0, (halts,))) is AppendRefusal.TIME_NOT_ALLOWED
        assert await refusal("operator", Answer(0, (halts,), time_ns=1)) is AppendRefusal.TIME_NOT_ALLOWED
        assert await refusal("risk", Answer(0, (halts,), time_ns=10**18)) is AppendRefusal.NOT_YOUR_EVENT
        unnamed = Draft(HaltRequested("mara", "storm"))
        assert await refusal("operator", Answer(0, (unnamed,), time_ns=10**18)) is AppendRefusal.ID_MISSING


def test_a_service_started_anew_in_mid_run_stops() -> None:
    """It cannot know what it missed, and says so rather than answer from an empty state; a repetition is answered."""
    first, second = (b'{"type":"Frame","number":%d,"facts":[],"certain":0}' % number for number in (1, 2))
    with pytest.raises(OutOfStep, match="cannot be joined midway"):
        Hearer(RISK).hear(second)
    hearer = Hearer(RISK)
    assert hearer.hear(first) is hearer.hear(first)
