"""Appending to the tape through real NATS, the ledger and Postgres, beside COPY of the same rows into a like table.

Two ways of asking: one fact a request with 2,000 requests in flight, and 100 facts in one answer. The facts are bars,
said with the feed's key; the ledger is a process of its own with its books and its mirror on, as in production. The
comparison is asyncpg's COPY in batches of 1000 rows, each its own durable transaction: no sequencer, no network, no
replies, no projections.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import asyncpg
import uvloop

from bench.measure import Row, Section, in_turn
from bench.servers import connected, ledger_dsn, make_stack, running, superuser_dsn, temporary_folder
from tapeline_common.events import BarClosed
from tapeline_common.tape_nats import NatsTape
from tapeline_common.values import DecimalText, InstrumentId
from tapeline_common.wire import Answer, Draft

CONFIG = """
[run]
name = "bench-appends"
[[instrument]]
name = "BTC/USDT"
[regime]
enabled = false
"""

FEED = "marketdata"
INSTRUMENT = InstrumentId("BTC-USDT_sim")
MINUTE_NS = 60 * 10**9
FIRST_NS = 1_704_067_200 * 10**9
SINGLES_IN_FLIGHT = 2_000
FACTS_PER_ANSWER = 100
ANSWERS_IN_FLIGHT = 50
COPY_ROWS = 1_000
TIMEOUT_S = 60.0

_COLUMNS = (
    *("pos", "stream", "version", "id", "author", "type", "schema", "time_ns", "cause", "correlation"),
    *("payload", "prev_hash", "hash"),
)

Say = Callable[[str], None]


def measure(facts: int, rounds: int, say: Say) -> Section:
    """Append ``facts`` facts in each way, in each of ``rounds`` turns."""
    return uvloop.run(_measure(facts, rounds, say))


async def _measure(facts: int, rounds: int, say: Say) -> Section:
    singles: list[float] = []
    hundreds: list[float] = []
    copies: list[float] = []
    numbers = count()
    with temporary_folder() as folder:
        say("starting NATS, Postgres and the ledger")
        async with running(make_stack(folder, CONFIG, only_ledger=True)) as stack, connected(stack, FEED) as client:
            tape = NatsTape(client, append_timeout_s=TIMEOUT_S)
            database = await asyncpg.connect(superuser_dsn(stack))
            await _append(tape, numbers, facts // 10, 1, SINGLES_IN_FLIGHT)
            for turn in range(rounds):
                for way in in_turn(turn, ("singles", "hundreds", "copies")):
                    if way == "singles":
                        singles.append(await _append(tape, numbers, facts, 1, SINGLES_IN_FLIGHT))
                    elif way == "hundreds":
                        hundreds.append(await _append(tape, numbers, facts, FACTS_PER_ANSWER, ANSWERS_IN_FLIGHT))
                    else:
                        copies.append(await _copy(database, facts))
                say(
                    f"turn {turn + 1} of {rounds}: single {singles[-1]:,.0f}, hundreds {hundreds[-1]:,.0f}, "
                    f"COPY {copies[-1]:,.0f} facts/s"
                )
            await database.close()
            await _settled(ledger_dsn(stack), next(numbers))
    beside = f"COPY {COPY_ROWS} rows"
    rows = (
        Row(f"one fact a request, {SINGLES_IN_FLIGHT:,} in flight", "facts/s", tuple(singles), beside, tuple(copies)),
        Row(f"{FACTS_PER_ANSWER} facts an answer", "facts/s", tuple(hundreds), beside, tuple(copies)),
    )
    notes = (
        f"{facts:,} bars a turn and way, recorded, chained, committed with fsync, announced and acknowledged; one "
        f"client process, one ledger process, {ANSWERS_IN_FLIGHT} answers in flight in the second row. COPY writes the "
        "same rows into an empty table with the same columns, checks and indexes over one connection.",
    )
    return Section("Ledger appends", rows, notes)


def _bar(number: int) -> Draft:
    open_ns = FIRST_NS + number * MINUTE_NS
    price = DecimalText(f"{60_000 + number % 997}.25")
    bar = BarClosed(INSTRUMENT, "1m", open_ns, open_ns + MINUTE_NS, price, price, price, price, DecimalText("12.5"))
    return Draft(bar, f"bar:{INSTRUMENT}:1m:{open_ns}")


async def _append(tape: NatsTape, numbers: Iterator[int], facts: int, per_answer: int, in_flight: int) -> float:
    """Facts a second, from the first request to the last receipt."""
    answers = iter(
        [Answer(0, tuple(_bar(next(numbers)) for _ in range(per_answer))) for _ in range(facts // per_answer)]
    )

    async def ask() -> None:
        for answer in answers:
            receipt = await tape.append(FEED, answer)
            assert receipt.ok, receipt.detail

    started = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(in_flight)))
    return facts / (time.perf_counter() - started)


async def _copy(database: Any, facts: int) -> float:
    """Rows a second of plain COPY of the tape's last ``facts`` rows."""
    found = await database.fetch(f"SELECT {', '.join(_COLUMNS)} FROM tape ORDER BY pos DESC LIMIT {facts:d}")
    rows: Sequence[tuple[Any, ...]] = [tuple(row) for row in reversed(found)]
    await database.execute("DROP TABLE IF EXISTS bench_copy; CREATE TABLE bench_copy (LIKE tape INCLUDING ALL)")
    await database.execute("CREATE UNIQUE INDEX ON bench_copy (id)")
    started = time.perf_counter()
    for start in range(0, len(rows), COPY_ROWS):
        await database.copy_records_to_table("bench_copy", records=rows[start : start + COPY_ROWS], columns=_COLUMNS)
    return len(rows) / (time.perf_counter() - started)


async def _settled(dsn: str, facts: int) -> None:
    """Every fact that was acknowledged is there: otherwise the figures are not of appends."""
    database = await asyncpg.connect(dsn)
    found = await database.fetchval("SELECT count(*) FROM tape WHERE type = 'BarClosed'")
    await database.close()
    assert found == facts, f"{found} bars on the tape, {facts} were acknowledged"
