"""The live chain: from a bar on the tape to an order on the tape, every hop through NATS, the ledger and Postgres.

``BarClosed -> RegimeUpdated -> OrderProposed -> OrderApproved -> OrderSubmitted`` over the whole embedded stack, each
service a process. Times are the database's own ``recorded_at`` of the first and the last fact, so no clock of ours is
in them. Beside it: a bare request and reply of nats-py on the same server, in turns with the chain.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from nats.aio.client import Client

from bench import echo
from bench.measure import Row, Section, in_turn, quantile
from bench.servers import BENCH, connected, ledger_dsn, make_stack, running, temporary_folder
from tapeline_common.embedded import Stack

CONFIG = """
[run]
name = "bench-chain"
seed = 5
cash = 100000000
[feed]
interval_ms = 25
[[instrument]]
name = "BTC/USDT"
tick_size = "0.01"
lot_size = "0.00001"
[regime]
train_bars = 300
refit_bars = 1000000
[[strategy]]
name = "ema"
kind = "ema_cross"
instruments = ["BTC/USDT"]
size = "0.1"
parameters = { fast = 2, slow = 3 }
regimes = ["BULL", "BEAR", "CHOP"]
"""

HOPS = ("BarClosed", "RegimeUpdated", "OrderProposed", "OrderApproved", "OrderSubmitted")
PATIENCE_S = 120.0
WARM_UP_CHAINS = 100
"""Not measured: until then the trainer ends and every process has been through all of its code."""
PINGS = 2_000
PAYLOAD = b"x" * 200

Say = Callable[[str], None]

_CHAINS = """
SELECT {columns} FROM (
    SELECT correlation, type, min(recorded_at) AS at FROM tape
    WHERE pos > $1 AND type = ANY($2) GROUP BY correlation, type
) AS hop GROUP BY correlation HAVING count(*) = {hops} ORDER BY correlation
"""


def measure(chains: int, rounds: int, say: Say) -> Section:
    """Gather ``chains`` chains in each of ``rounds`` turns."""
    return asyncio.run(_measure(chains, rounds, say))


async def _measure(chains: int, rounds: int, say: Say) -> Section:
    turns: list[list[list[float]]] = []
    bare: list[list[float]] = []
    with temporary_folder() as folder:
        say("starting the stack")
        async with running(make_stack(folder, CONFIG, only_ledger=False)) as stack:
            database = await asyncpg.connect(ledger_dsn(stack))
            say("waiting for a first promoted model")
            await _gather(database, 0, 1)
            await _gather(database, await _head(database), WARM_UP_CHAINS)
            async with _echo(stack) as client:
                for turn in range(rounds):
                    for side in in_turn(turn, ("chains", "requests")):
                        if side == "chains":
                            turns.append(await _gather(database, await _head(database), chains))
                        else:
                            bare.append(await _pings(client))
                    say(
                        f"turn {turn + 1} of {rounds}: p50 {quantile(turns[-1][-1], 0.5):,.0f} us, "
                        f"bare request {quantile(bare[-1], 0.5):,.0f} us"
                    )
            await database.close()
    return _section(turns, bare)


async def _head(database: Any) -> int:
    return int(await database.fetchval("SELECT coalesce(max(pos), 0) FROM tape"))


async def _gather(database: Any, after: int, chains: int) -> list[list[float]]:
    """Microseconds from the bar to each later hop, one list per hop, of the chains recorded after a position."""
    columns = ", ".join(f"max(at) FILTER (WHERE type = '{name}')" for name in HOPS)
    query = _CHAINS.format(columns=columns, hops=len(HOPS))
    deadline = time.monotonic() + PATIENCE_S
    while True:
        rows = await database.fetch(query, after, list(HOPS))
        if len(rows) >= chains:
            return [[(row[hop] - row[0]).total_seconds() * 1e6 for row in rows[:chains]] for hop in range(1, len(HOPS))]
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(rows)} of {chains} chains within {PATIENCE_S:.0f} s: see the services' logs")
        await asyncio.sleep(0.5)  # rarely, so that looking does not disturb what is looked at


@asynccontextmanager
async def _echo(stack: Stack) -> AsyncIterator[Client]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.echo", stack.nats.url, str(stack.seed_file(BENCH))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        async with connected(stack, BENCH) as client:
            yield client
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def _pings(client: Client) -> list[float]:
    """Microseconds of sequential round trips."""
    found = []
    for _ in range(PINGS):
        started = time.perf_counter()
        await client.request(echo.SUBJECT, PAYLOAD, timeout=5)
        found.append((time.perf_counter() - started) * 1e6)
    return found


def _section(turns: list[list[list[float]]], bare: list[list[float]]) -> Section:
    beside = "bare request/reply"
    whole = [turn[-1] for turn in turns]
    rows = [
        Row(
            f"bar to order, p{share * 100:.0f}",
            "us",
            tuple(quantile(values, share) for values in whole),
            f"{beside}, p{share * 100:.0f}",
            tuple(quantile(values, share) for values in bare),
        )
        for share in (0.5, 0.99)
    ]
    rows += [
        Row(f"to {name}, p50", "us", tuple(quantile(turn[hop], 0.5) for turn in turns))
        for hop, name in enumerate(HOPS[1:])
    ]
    notes = (
        f"{' -> '.join(HOPS)}; {len(turns[0][0])} chains a turn, by the database's `recorded_at`; one process for each "
        "service, nats-server and Postgres, all on this machine. Beside it the round trip of one nats-py request of "
        "200 bytes between two processes, in turns with the chains, while the stack goes on. Lower is better.",
    )
    return Section("Live chain: bar to order", tuple(rows), notes)
