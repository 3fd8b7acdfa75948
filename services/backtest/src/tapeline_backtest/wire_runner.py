"""Runs a script over real NATS and Postgres: every service its own process, the ledger in lock step.

The same cores, the same rules, the same tape: the facts are read back from Postgres at the end, the chain is computed
again from their bytes, and the report is folded from them. Slow by design of the lock step; the loop gear is for speed.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Coroutine, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapeline_backtest.feed import Outside
from tapeline_backtest.report import Collected, fold_books
from tapeline_backtest.runner import Finished, Progress
from tapeline_common import bus, subjects
from tapeline_common.embedded import Stack, StackFailed
from tapeline_common.permissions import BACKTEST
from tapeline_common.recording import Recorder
from tapeline_common.servers import ServerFailed
from tapeline_common.tape import read_all
from tapeline_common.tape_nats import NatsTape
from tapeline_common.values import Realm
from tapeline_common.wire import GENESIS, Answer, Draft, chain_all, decode_fact, decode_progress
from tapeline_common.wiring import Service, installed_services

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

BATCH = 500
"""Outside facts sent in one request; the ledger takes them one by one."""

APPEND_S = 600.0
"""How long a batch may take: each of its facts waits for everything that follows from it."""

SETTLE_S = 60.0
"""How long the last facts may take to be answered."""


class WireFailed(Exception):
    """The run over the wire did not come to its end; the message says what failed."""


def plan(services: Iterable[Service]) -> dict[str, tuple[str, ...]]:
    """Author → names of the events it answers: what the ledger waits for in lock step."""
    awaited: dict[str, tuple[str, ...]] = {}
    for service in services:
        for core in service.cores:
            awaited[core.name] = tuple(event.__name__ for event in core.hears)
        for worker in service.workers:
            awaited[worker.author] = (worker.asked_by.__name__,)
    return awaited


def run_wire(
    script: Iterable[Outside],
    config: str,
    folder: Path | None,
    progress: Progress | None,
    recorder: Recorder | None = None,
) -> Finished:
    """Feed the script to a stack of its own and tear that down again.

    Args:
        config: text of a configuration file that the services can read; what they trade comes as facts.
        folder: where the servers keep their data; a temporary folder, removed at the end, if None.
        recorder: gets every fact when all are there, and is left open.
    """
    with tempfile.TemporaryDirectory(prefix="tapeline-", ignore_cleanup_errors=True) as temporary:
        place = folder or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o755)  # Postgres, run by another user when we are root, has to pass through
        config_file = place / "tapeline.toml"
        config_file.write_text(config, encoding="utf-8")
        try:
            payloads, elapsed_s = asyncio.run(_run(script, place, config_file, progress))
        except (StackFailed, ServerFailed) as trouble:
            raise WireFailed(str(trouble)) from trouble
    return _finished(payloads, elapsed_s, recorder)


async def _run(
    script: Iterable[Outside], place: Path, config: Path, progress: Progress | None
) -> tuple[list[bytes], float]:
    services = {name: service for name, service in installed_services().items() if name != "marketdata"}
    stack = Stack(place, config, realm=Realm.REPLAY, plan=plan(services.values()), log_level="warning")
    stack.services = services
    try:
        await stack.start()
        client = await bus.connect(stack.nats.url, name=BACKTEST, seed_file=str(stack.seed_file(BACKTEST)))
        try:
            tape = NatsTape(client, append_timeout_s=APPEND_S, read_timeout_s=60)
            started = time.perf_counter()
            await _watched(stack, _feed(tape, script, progress))
            await _settled(client)
            elapsed_s = time.perf_counter() - started
            payloads = await read_all(tape)
        finally:
            await client.close()
    finally:
        await stack.stop()
    return payloads, elapsed_s


async def _watched(stack: Stack, work: Coroutine[Any, Any, None]) -> None:
    """Run the feed; a stack that gave up ends it."""
    task = asyncio.create_task(work)
    while not task.done():
        await asyncio.wait({task}, timeout=0.5)
        if stack.failed:
            task.cancel()
            raise WireFailed(stack.failed)
        fallen = [name for name, child in stack.children.items() if child.restarts]
        if fallen and not task.done():
            task.cancel()
            raise WireFailed(f"{', '.join(fallen)} stopped during the replay; see the log in {stack.folder / 'logs'}")
    await task


async def _settled(client: Client) -> None:
    """Wait until every fact has all its answers: the last outside fact is recorded before what follows from it."""
    done = asyncio.Event()

    async def take(message: Msg) -> None:
        said = decode_progress(message.data)
        if said.settled == said.pos:
            done.set()

    subscription = await client.subscribe(subjects.progress("ledger"), cb=take)
    try:
        await asyncio.wait_for(done.wait(), SETTLE_S)
    except TimeoutError:
        raise WireFailed(f"the last facts were not answered within {SETTLE_S:.0f} s") from None
    finally:
        await subscription.unsubscribe()


async def _feed(tape: NatsTape, script: Iterable[Outside], progress: Progress | None) -> None:
    lines = iter(script)
    said = 0
    while batch := list(islice(lines, BATCH)):
        for author, run in _runs(batch):
            answers = [Answer(0, (Draft(one.event, one.id),), time_ns=one.time_ns) for one in run]
            for receipt, one in zip(await tape.append_many(author, answers), run, strict=True):
                if not receipt.ok:
                    raise WireFailed(f"{one.id} was refused: {receipt.refusal} {receipt.detail}")
        said += len(batch)
        if progress is not None:
            progress(said)


def _runs(batch: Sequence[Outside]) -> list[tuple[str, list[Outside]]]:
    """Neighbours of one author together: a request speaks for one author."""
    runs: list[tuple[str, list[Outside]]] = []
    for one in batch:
        if not runs or runs[-1][0] != one.author:
            runs.append((one.author, []))
        runs[-1][1].append(one)
    return runs


def _finished(payloads: list[bytes], elapsed_s: float, recorder: Recorder | None) -> Finished:
    head = chain_all(GENESIS, payloads)
    if recorder is not None:
        recorder.take_block(b"".join(payloads), [len(payload) for payload in payloads], head)
    facts = [decode_fact(payload) for payload in payloads]
    collected = Collected()
    for fact in facts:
        collected.take(fact)
    return Finished(collected, fold_books(facts), len(facts), head.hex(), elapsed_s)
