"""Restore: how fast a long tape is verified, read back, and folded into a service, beside a plain SELECT.

The tape is made once per code version by the loop gear (EMA 10/30 over the synthetic market) and written in bulk
through the ledger's own store, so it is a tape like any other: chained, projected, continued by a ledger. ``verify``
reads the database; reading back and restoring are what a starting service does, through ``ledger.read`` over NATS.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import asyncpg
import uvloop

from bench.environments import CACHE
from bench.measure import Row, Section, in_turn
from bench.servers import connected, ledger_dsn, make_stack, running
from tapeline_common import logs
from tapeline_common.embedded import Stack
from tapeline_common.events import EVENT_BY_NAME
from tapeline_common.loop import Loop
from tapeline_common.metrics import Metrics
from tapeline_common.sequencer import Recorded
from tapeline_common.service import Runner
from tapeline_common.tape_nats import NatsTape
from tapeline_common.tape_restore import verified
from tapeline_common.values import InstrumentId, Realm
from tapeline_common.version import code_version
from tapeline_common.wire import Progress, decode_fact
from tapeline_common.wiring import installed_services
from tapeline_ledger.store import Store
from tapeline_ledger.verify import verify
from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec

CONFIG = """
[run]
name = "bench-restore"
[[instrument]]
name = "BTC/USDT"
[regime]
enabled = false
[[strategy]]
name = "ema"
kind = "ema_cross"
instruments = ["BTC/USDT"]
size = "1"
parameters = { fast = 10, slow = 30 }
"""

INSTRUMENT = InstrumentId("BTC-USDT_sim")
RESTORED = "strategy"
MINUTE_NS = 60 * 10**9
BULK_FACTS = 20_000
SELECT_ROWS = 5_000

Say = Callable[[str], None]


def measure(facts: int, rounds: int, say: Say) -> Section:
    """Verify and restore a tape of at least ``facts`` facts in each of ``rounds`` turns."""
    return uvloop.run(_measure(facts, rounds, say))


async def _measure(facts: int, rounds: int, say: Say) -> Section:
    stack = await _tape(facts, say)
    checked: list[float] = []
    decoded: list[float] = []
    restored: list[float] = []
    selected: list[float] = []
    say("starting the ledger on the tape")
    started = time.perf_counter()
    async with running(stack), connected(stack, RESTORED) as client:
        start_s = time.perf_counter() - started
        say(f"the ledger follows its tape after {start_s:.1f} s")
        database = await asyncpg.connect(ledger_dsn(stack))
        head = await database.fetchval("SELECT max(pos) FROM tape")
        for turn in range(rounds):
            for way in in_turn(turn, ("verify", "select", "read back", "restore")):
                if way == "verify":
                    checked.append(head / await _verify(ledger_dsn(stack)))
                elif way == "select":
                    selected.append(head / await _select(database, head))
                elif way == "read back":
                    decoded.append(head / await _read_back(NatsTape(client, read_timeout_s=60.0), head))
                else:
                    restored.append(head / await _restore(NatsTape(client, read_timeout_s=60.0), head))
            say(
                f"turn {turn + 1} of {rounds}: verify {checked[-1]:,.0f}, read back {decoded[-1]:,.0f}, "
                f"restore {restored[-1]:,.0f}, SELECT {selected[-1]:,.0f} facts/s"
            )
        await database.close()
    beside = f"SELECT, pages of {SELECT_ROWS}"
    rows = (
        Row("verify (chain, columns, versions)", "facts/s", tuple(checked), beside, tuple(selected)),
        Row(
            "read back over NATS, verified, all decoded",
            "facts/s",
            tuple(decoded),
            beside,
            tuple(selected),
        ),
        Row(
            f"restore the {RESTORED} service over NATS, verified",
            "facts/s",
            tuple(restored),
            beside,
            tuple(selected),
        ),
    )
    notes = (
        f"A tape of {head:,} facts. Verification decodes every payload and compares every column with it. Reading back "
        "takes every fact through the ledger, recomputes the chain over the stored bytes and decodes all events with "
        "position, stamp, author and cause. Restoring does that too, but decodes only the events that the service "
        "hears, reads its own answers before, and folds all of it into its cores. SELECT reads the payloads only, by "
        "position.",
        f"From the start of the servers until the ledger followed this tape: {start_s:.1f} s.",
    )
    return Section("Restore", rows, notes)


# ---- measurements ------------------------------------------------------------------------------------------------


async def _verify(dsn: str) -> float:
    started = time.perf_counter()
    result = await verify(dsn)
    assert result.fault is None, result.fault
    return time.perf_counter() - started


async def _select(database: Any, head: int) -> float:
    query = await database.prepare(f"SELECT pos, payload FROM tape WHERE pos > $1 ORDER BY pos LIMIT {SELECT_ROWS}")
    started = time.perf_counter()
    seen = after = 0
    while rows := await query.fetch(after):
        seen += len(rows)
        after = rows[-1]["pos"]
    assert seen == head, f"{seen} facts read, {head} on the tape"
    return time.perf_counter() - started


async def _read_back(tape: NatsTape, head: int) -> float:
    """The same without cores: everything decoded, nothing folded."""
    started = time.perf_counter()
    seen = 0
    async for _, facts in verified(tape.read, EVENT_BY_NAME):
        seen += len(facts)
    assert seen == head, f"{seen} facts read, {head} on the tape"
    return time.perf_counter() - started


async def _restore(tape: NatsTape, head: int) -> float:
    """What a starting service does before it follows the tape."""
    service = installed_services()[RESTORED]

    async def announce(_progress: Progress) -> None:
        return None

    logger = logs.configure("bench", "warning")
    runner = Runner(service, tape, realm=Realm.LIVE, metrics=Metrics(RESTORED), logger=logger, announce=announce)
    started = time.perf_counter()
    await runner.restore()
    elapsed_s = time.perf_counter() - started
    assert runner.heard == head, f"{runner.heard} heard, {head} on the tape"
    return elapsed_s


# ---- the tape ----------------------------------------------------------------------------------------------------


async def _tape(facts: int, say: Say) -> Stack:
    """A stack, not running, whose tape has at least ``facts`` facts; made anew when the code has changed."""
    folder = CACHE / f"tape-{facts}"
    stamp = folder / "code-version.txt"
    if not (stamp.is_file() and stamp.read_text() == code_version()):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        say(f"making a tape of {facts:,} facts")
        stack = make_stack(folder, CONFIG, only_ledger=True)
        async with running(stack):
            await _opened(ledger_dsn(stack))
        await stack.postgres.start()
        try:
            await _fill(ledger_dsn(stack), facts, say)
        finally:
            await stack.postgres.stop()
        stamp.write_text(code_version())
    return make_stack(folder, CONFIG, only_ledger=True)


async def _opened(dsn: str) -> None:
    """Return when the ledger has begun its tape with the configuration's facts; the strategy is the last of them."""
    database = await asyncpg.connect(dsn)
    query = "SELECT count(*) FROM tape WHERE type = 'StrategyConfigured'"
    while not await database.fetchval(query):  # noqa: ASYNC110  (another process writes: there is no event to wait for)
        await asyncio.sleep(0.05)
    await database.close()


async def _fill(dsn: str, facts: int, say: Say) -> None:
    """Go on with a tape that holds its opening facts: hear them, then say bars until it is long enough."""
    store = await Store.open(dsn)
    try:
        fresh: list[Recorded] = []
        services = installed_services()
        cores = [core for service in services.values() for core in service.cores]
        loop = Loop(cores, keep=fresh.append)
        clock_ns = 0
        for payload in await store.payloads_after(0, 1_000):
            fact = decode_fact(payload)
            clock_ns = fact.time_ns
            loop.say(fact.author, fact.event, fact.id, clock_ns)
        assert loop.sequencer.hash == store.head.hash, "the opening facts are not what the loop makes of them"
        fresh.clear()
        spec = SyntheticSpec(instrument=INSTRUMENT, start_price=Decimal(5_000), usual_volume=10_000.0)
        market = SyntheticMarket(1, [spec], start_ns=(clock_ns // MINUTE_NS + 1) * MINUTE_NS)
        state = market.start()
        while store.head.pos < facts:
            while len(fresh) < BULK_FACTS:
                bar, state = market.next_bar(state)
                loop.say("marketdata", bar, f"bar:{INSTRUMENT}:1m:{bar.open_ns}", bar.close_ns)
            await store.append(fresh)
            fresh.clear()
            if store.head.pos // 200_000 != (store.head.pos - BULK_FACTS) // 200_000:
                say(f"{store.head.pos:,} facts written")
    finally:
        await store.close()
