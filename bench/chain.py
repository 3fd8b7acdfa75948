"""The live chain: from a bar on the tape to an order on the tape, every hop through NATS, the ledger and Postgres.

``BarClosed -> RegimeUpdated -> OrderProposed -> OrderApproved -> OrderSubmitted`` over the whole embedded stack, each
service a process. Times are the database's own ``recorded_at`` of the first and the last fact, so no clock of ours is
in them. Beside it, what nothing of this shape can go below on this machine at this moment: as many hops of one request
to another process and its reply, and one row committed, at the rhythm of the bars, while the feed is paused.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from bench import echo
from bench.measure import Row, Section, in_turn, quantile
from bench.servers import BENCH, ledger_dsn, make_stack, running, superuser_dsn, temporary_folder
from tapeline_common import nats_client
from tapeline_common.embedded import Stack
from tapeline_common.nats_client import NatsClient

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
INTERVAL_S = 0.025
"""Time between bars, as in ``CONFIG``: everything has been idle for a while when the next bar comes."""

PATIENCE_S = 120.0
WARM_UP_CHAINS = 100
"""Not measured: until then the trainer ends and every process has been through all of its code."""
PAYLOAD = b"x" * 400
"""As many bytes as a fact of the chain has."""

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
            async with _bare(stack) as hop:
                for turn in range(rounds):
                    for side in in_turn(turn, ("chains", "bare hops")):
                        if side == "chains":
                            turns.append(await _gather(database, await _head(database), chains))
                        else:
                            with _paused(stack, "marketdata"):
                                bare.append(await _bare_chains(hop, chains))
                    say(
                        f"turn {turn + 1} of {rounds}: p50 {quantile(turns[-1][-1], 0.5):,.0f} us, "
                        f"bare hops {quantile(bare[-1], 0.5):,.0f} us"
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


class _Hop:
    """A request to another process and its reply, and a row committed: what each hop of any such chain consists of."""

    def __init__(self, client: NatsClient, insert: Any) -> None:
        self._client = client
        self._insert = insert
        self._rows = 0

    async def go(self) -> None:
        self._rows += 1
        await self._client.request(echo.SUBJECT, PAYLOAD, timeout=5)
        await self._insert.fetch(self._rows, PAYLOAD)


@asynccontextmanager
async def _bare(stack: Stack) -> AsyncIterator[_Hop]:
    seed_file = str(stack.seed_file(BENCH))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.echo", stack.nats.url, seed_file),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    database = await asyncpg.connect(superuser_dsn(stack))
    client = await nats_client.connect(stack.nats.url, name=BENCH, seed_file=seed_file)
    try:
        assert process.stdout is not None
        await process.stdout.readline()
        await database.execute("CREATE TABLE bench_hops (pos bigint PRIMARY KEY, payload bytea NOT NULL)")
        yield _Hop(client, await database.prepare("INSERT INTO bench_hops VALUES ($1, $2)"))
    finally:
        await client.close()
        await database.close()
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


@contextmanager
def _paused(stack: Stack, name: str) -> Iterator[None]:
    """Without bars everything else is silent."""
    pid = stack.children[name].pid
    assert pid is not None, f"{name} does not run"
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def _bare_chains(hop: _Hop, count: int) -> list[float]:
    """Microseconds of as many bare hops as a chain has, ``count`` times."""
    found = []
    for _ in range(count):
        await asyncio.sleep(INTERVAL_S)
        started = time.perf_counter()
        for _ in HOPS[1:]:
            await hop.go()
        found.append((time.perf_counter() - started) * 1e6)
    return found


def _section(turns: list[list[list[float]]], bare: list[list[float]]) -> Section:
    hops = len(HOPS) - 1
    beside = f"{hops} bare hops"
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
        f"{' -> '.join(HOPS)}; {len(turns[0][0])} chains a turn, by the database's `recorded_at`, after "
        f"{WARM_UP_CHAINS} that are not counted. A bar every {INTERVAL_S * 1000:.0f} ms; one process for each service, "
        "nats-server and Postgres, all on this machine; every fact is committed with fsync before it is announced. "
        f"A bare hop is a request of {len(PAYLOAD)} bytes to another process, its reply, and the commit of one such "
        f"row in a plain table; {hops} of them after each other at the rhythm of the bars, in turns with the chains, "
        "while the feed "
        "is paused. Lower is better.",
    )
    return Section("Live chain: bar to order", tuple(rows), notes)
