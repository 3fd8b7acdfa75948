"""The ledger as a process: takes the tape over, opens the configuration's facts and the control door, serves.

Connects Postgres (as the runtime role) and NATS; everything it does then is in ``server``, ``recorder`` and ``door``.
A connection that is lost for good, or another ledger that took over, ends the process; the supervisor starts it anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client

from tapeline_common.bus import client_state
from tapeline_common.calendars import session_openings
from tapeline_common.events import Event
from tapeline_common.frames import FramePlan
from tapeline_common.metrics_common import BUS
from tapeline_common.nats_client import NatsClient
from tapeline_common.opening import CONFIGURATION, changed, opening_facts
from tapeline_common.process import Process, connect, connect_live, settle_memory
from tapeline_common.service import ServiceStopped
from tapeline_common.settings import volumes
from tapeline_common.tape import ReadRequest
from tapeline_common.values import Realm
from tapeline_common.version import code_version
from tapeline_common.wire import Answer, Draft, decode_fact
from tapeline_ledger.chain_watch import ChainWatch
from tapeline_ledger.core import CORE
from tapeline_ledger.door import Door
from tapeline_ledger.inspection import Inspection
from tapeline_ledger.mirror import MirrorLimits
from tapeline_ledger.replay_server import ReplayServer
from tapeline_ledger.server import Server, serve
from tapeline_ledger.store import Store
from tapeline_ledger.surroundings import Surroundings


async def run(process: Process) -> None:
    """Serve until ``process.stop`` is set."""
    env = process.environment
    store = await Store.open(_dsn(process), _reporter(process))
    process.metrics.follow(lambda: (store.head.pos, store.head.pos))
    try:
        if env.realm is Realm.REPLAY:
            await _replay(process, await connect(process), store)
        else:
            await _live(process, store)
    finally:
        await store.close()


async def _live(process: Process, store: Store) -> None:
    client = await connect_live(process)
    manager = await connect(process)
    try:
        watching: list[asyncio.Task[None]] = []
        serving: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        work = asyncio.create_task(
            serve(
                client,
                store,
                realm=Realm.LIVE,
                now_ns=time.time_ns,  # noqa: TID251  (the ledger stamps outside facts: its wall clock is the tape's)
                stop=process.stop,
                books=CORE,
                streams=manager.jetstream(),
                report=_reporter(process),
                mirror_limits=MirrorLimits.of(process.settings.retention),
                started=serving.set_result,
                metrics=process.metrics,
            )
        )
        try:
            both: set[asyncio.Future[Any]] = {work, serving}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                server = serving.result()
                process.metrics.expose("recorder", lambda: server.recorder)
                process.metrics.expose("server", lambda: server)
                await _open(process, client, server, store)
                settle_memory()
                watching = _watch(process, store)
            await work
        finally:
            work.cancel()
            for task in watching:
                task.cancel()
            await asyncio.gather(work, *watching, return_exceptions=True)
    finally:
        await client.close()
        await manager.close()


async def _replay(process: Process, client: Client, store: Store) -> None:
    plan = msgspec.json.decode(Path(process.environment.plan_file).read_bytes(), type=FramePlan)
    server = ReplayServer(
        client,
        store,
        plan,
        books=process.service,
        now_ns=time.time_ns,  # noqa: TID251  (dates progress, which no fact depends on)
    )
    process.metrics.expose(BUS, lambda: client_state(client))
    try:
        await server.run(process.stop)
    finally:
        await client.close()


async def _open(process: Process, client: NatsClient, server: Server, store: Store) -> None:
    """Record what the configuration says and the tape does not, then let the operator in."""
    env = process.environment
    wanted = opening_facts(process.settings, realm=env.realm, code_version=code_version(), tape=env.tape)
    wanted += session_openings(process.settings)
    for author, identity, event in changed(wanted, await _recorded_configuration(store)):
        receipt = await server.recorder.append_local(author, Answer(0, (Draft(event, identity),)))
        if not receipt.ok:
            raise ServiceStopped(f"{identity} could not be recorded: {receipt.refusal} {receipt.detail}")
    door = Door(
        client=client,
        recorder=server.recorder,
        public_key=Path(env.operator_public_file).read_text().strip(),
        now_ns=time.time_ns,  # noqa: TID251  (dates control requests, not decisions)
        logger=process.logger,
    )
    await door.open(store)
    process.metrics.expose("door", lambda: door)


def _watch(process: Process, store: Store) -> list[asyncio.Task[None]]:
    """Verify the log at rest and look at servers and disks, over connections of their own, until cancelled."""
    env = process.environment
    chain = ChainWatch(
        Inspection(_dsn(process)),
        lambda: store.head,
        process.logger,
        time.time_ns,  # noqa: TID251  (dates a verification, which no fact depends on)
    )
    surroundings = Surroundings(Inspection(_dsn(process)), env.nats_monitor_url, volumes(env.disks))
    process.metrics.expose("chain", lambda: chain)
    process.metrics.tell(surroundings)
    tasks = [asyncio.create_task(chain.run()), asyncio.create_task(surroundings.run())]
    for task in tasks:
        task.add_done_callback(lambda ended: _alarm(process, ended))
    return tasks


def _alarm(process: Process, ended: asyncio.Task[None]) -> None:
    """Recording goes on without its watchers, but never unnoticed."""
    if not ended.cancelled() and (trouble := ended.exception()) is not None:
        process.logger.error("no longer watched", reason=str(trouble), exc_info=trouble)


def _dsn(process: Process) -> str:
    return Path(process.environment.dsn_file).read_text().strip()


def _reporter(process: Process) -> Callable[[str], None]:
    def report(what: str) -> None:
        process.logger.warning("ledger", what=what)

    return report


async def _recorded_configuration(store: Store) -> list[tuple[str, Event]]:
    types = tuple(event.__name__ for event in CONFIGURATION)
    found: list[tuple[str, Event]] = []
    after = 0
    while True:
        page = await store.read(ReadRequest(after, limit=5000, types=types))
        for payload in page.facts:
            fact = decode_fact(payload)
            found.append((fact.id, fact.event))
        after = page.through
        if after >= page.head:
            return found
