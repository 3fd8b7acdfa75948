"""Runs a script over real NATS and Postgres: every service its own process, facts in frames.

The same cores, the same rules, the same tape: the facts are read back from Postgres at the end, the chain is computed
again from their bytes, and the report is folded from them.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tapeline_backtest.feed import Outside
from tapeline_backtest.report import Collected, fold_books
from tapeline_backtest.runner import Finished, Progress
from tapeline_common import bus, subjects
from tapeline_common.embedded import Stack, StackFailed
from tapeline_common.frame_follower import JOINED_MIDWAY
from tapeline_common.frames import plan_of
from tapeline_common.permissions import BACKTEST
from tapeline_common.recording import Recorder
from tapeline_common.servers import ServerFailed
from tapeline_common.tape import TapeUnavailable, read_all
from tapeline_common.tape_nats import NatsTape
from tapeline_common.values import Realm
from tapeline_common.wire import GENESIS, Answer, Draft, chain_all, decode_fact, decode_progress
from tapeline_common.wiring import installed_services

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

BATCH = 500
"""Outside facts sent in one request."""

CREDIT = 6
"""Requests on the way: the ledger never waits for bars, and never holds more than these."""

APPEND_S = 600.0
"""How long a batch may take: each of its facts waits for everything that follows from it."""

SETTLE_S = 60.0
"""How long the last facts may take to be answered."""


class WireFailed(Exception):
    """The run over the wire did not come to its end; the message says what failed."""


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
        except TapeUnavailable as trouble:
            reason = _last_words(place, "ledger") or f": {trouble}"
            raise WireFailed(f"the ledger stopped during the replay{reason}; run it again") from trouble
    return _finished(payloads, elapsed_s, recorder)


async def _run(
    script: Iterable[Outside], place: Path, config: Path, progress: Progress | None
) -> tuple[list[bytes], float]:
    # The backtest speaks as marketdata. A service without cores answers nothing, so a replay does not wait for it.
    services = {name: each for name, each in installed_services().items() if name != "marketdata" and each.cores}
    stack = Stack(place, config, realm=Realm.REPLAY, plan=plan_of(services.values()), log_level="warning")
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
            reasons = "".join(_last_words(stack.folder, name) for name in fallen)
            raise WireFailed(f"{', '.join(fallen)} stopped during the replay{reasons}; run it again")
    await task


def _last_words(folder: Path, service: str) -> str:
    """Why a service stopped, as its log has it; nothing if it was killed. Its next life ends at once and knows less."""
    log = folder / "logs" / f"{service}.log"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    reasons = [msgspec.json.decode(line)["reason"] for line in lines if line.startswith("{") and '"reason"' in line]
    told = [reason for reason in reasons if JOINED_MIDWAY not in reason]
    return f": {told[-1]}" if told else ""


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
    """Say the whole script, a few requests ahead of what is recorded."""
    lines = iter(script)
    said = 0
    under_way: deque[tuple[int, asyncio.Task[None]]] = deque()
    try:
        while True:
            batch = list(islice(lines, BATCH))
            for author, run in _runs(batch):
                under_way.append((len(run), asyncio.create_task(_append(tape, author, run))))
                await asyncio.sleep(0)  # requests leave in the order of the script
            while under_way and (len(under_way) >= CREDIT or not batch or not said):
                count, task = under_way.popleft()
                await task
                said += count
                if progress is not None:
                    progress(said)
            if not batch:
                return
    finally:
        for _, task in under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)


async def _append(tape: NatsTape, author: str, run: Sequence[Outside]) -> None:
    answers = [Answer(0, (Draft(one.event, one.id),), time_ns=one.time_ns) for one in run]
    for receipt, one in zip(await tape.append_many(author, answers), run, strict=True):
        if not receipt.ok:
            raise WireFailed(f"{one.id} was refused: {receipt.refusal} {receipt.detail}")


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
