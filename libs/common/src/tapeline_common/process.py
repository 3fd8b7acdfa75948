"""What a container (or a child of ``tapeline up``) runs: one service, connected and restored, until told to stop.

``python -m tapeline_common.process NAME``. Exit codes: 0 stopped as asked, 1 stopped on an error (the supervisor
starts it anew), 4 configuration.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from tapeline_common import bus, logs, nats_client, preceding, strategy_folders, subjects
from tapeline_common.events import SAYS, Event
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_OK, EXIT_USAGE
from tapeline_common.log_files import follow_name
from tapeline_common.measures import Known
from tapeline_common.metrics import Metrics
from tapeline_common.metrics_common import BUS, LOG_LEVELS
from tapeline_common.nats_protocol import header_value
from tapeline_common.nats_trouble import kind_of
from tapeline_common.opening import instrument_id
from tapeline_common.remembered import rehearse
from tapeline_common.service import Runner
from tapeline_common.settings import ConfigurationInvalid, Environment, Settings, environment, load
from tapeline_common.tape_nats import NatsTape
from tapeline_common.values import Realm
from tapeline_common.wire import Progress, decode_progress, encode
from tapeline_common.wiring import Listener, Service, installed_services

if TYPE_CHECKING:
    from nats.aio.client import Client

    from tapeline_common.nats_client import NatsClient
    from tapeline_common.nats_protocol import Message


COLLECT_AFTER = (50_000, 20, 100)
"""Objects made and not freed before the collector looks for cycles among them; Python's own default is 700."""


KEPT_MEMORY_BYTES = 16 * 1024 * 1024
"""glibc gives the memory of messages of a megabyte back to the system after each, and fresh memory costs more than what
is done with it. Once it has seen a block of this size come and go, it keeps as much."""


@dataclass(frozen=True)
class Process:
    """Everything one running service is given."""

    service: Service
    environment: Environment
    settings: Settings
    logger: logs.Logger
    metrics: Metrics
    stop: asyncio.Event


def main(name: str) -> int:
    """Run the installed service ``name`` until SIGTERM or SIGINT. Returns the exit code."""
    try:
        env = environment(dict(os.environ))
        settings = load(Path(env.config))
        if name in strategy_folders.CONCERNED:
            strategy_folders.use(settings.strategies.paths)
    except ConfigurationInvalid as trouble:
        print(trouble, file=sys.stderr)  # noqa: T201  (before logging is set up)
        return EXIT_CONFIGURATION
    bytes(KEPT_MEMORY_BYTES)
    services = installed_services()
    if name not in services:
        print(f"no service {name!r} is installed here; there is {', '.join(services)}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    return uvloop.run(_run(services[name], env, settings))


async def _run(service: Service, env: Environment, settings: Settings) -> int:
    metrics = metrics_of(service, settings)

    def logged(level: str) -> None:
        if level in LOG_LEVELS:
            metrics.number("tapeline_log_messages_total", (level,)).inc()

    logger = logs.configure(service.name, env.log_level, logged)
    process = Process(service, env, settings, logger, metrics, asyncio.Event())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, process.stop.set)
    metrics.start()
    metrics.serve(env.metrics_port)
    watch = asyncio.create_task(_end_with_parent(env.parent, process.stop))
    log = asyncio.create_task(follow_name(Path(env.log_file))) if env.log_file else None
    work = service.process(process) if service.process is not None else _gear(process)
    try:
        await until_stopped(process.stop, work)
    except ConfigurationInvalid as trouble:
        logger.error("configuration", reason=str(trouble))
        return EXIT_CONFIGURATION
    except Exception as trouble:
        logger.error("failed", reason=str(trouble), exc_info=trouble)
        return EXIT_ERROR
    finally:
        watch.cancel()
        metrics.stop()
        if log is not None:
            log.cancel()
    logger.info("stopped as asked")
    return EXIT_OK


def metrics_of(service: Service, settings: Settings) -> Metrics:
    """What a process of this service exposes; what the configuration names is there from the start."""
    hears: dict[type[Event], None] = dict.fromkeys(event for core in service.cores for event in core.hears)
    says = [event for author in service.authors for event in SAYS[author]]
    return Metrics(
        service.name,
        service.measures,
        known=configured(settings),
        hears=[*hears, *sorted(service.measures.hears - hears.keys(), key=lambda event: event.__name__)],
        says=says,
    )


def configured(settings: Settings) -> Known:
    """Labels that the configuration names, as rows of those that belong together."""
    tokens = {table.name: instrument_id(table) for table in settings.instrument}
    exchange = {"exchange": settings.feed.exchange} if settings.feed.kind == "exchange" else {}
    shared = {"currency": settings.run.currency, **exchange}
    instruments = [{"instrument": tokens[table.name], "venue": table.venue, **shared} for table in settings.instrument]
    strategies = [
        {"strategy": table.name, "instrument": tokens[name], **shared}
        for table in settings.strategy
        for name in table.instruments
    ]
    presets = [
        {"strategy": table.name, "preset": preset.name} for table in settings.strategy for preset in table.preset
    ]
    return [*instruments, *strategies, *presets]


async def _end_with_parent(parent: int, stop: asyncio.Event) -> None:
    """A launcher that was killed cannot stop its children: they look for themselves."""
    while parent and os.getppid() == parent:  # noqa: ASYNC110  (nobody announces a death)
        await asyncio.sleep(0.5)
    if parent:
        stop.set()


async def until_stopped(stop: asyncio.Event, work: Awaitable[None]) -> None:
    """Run ``work`` until it ends or ``stop`` is set; what it raises is raised here."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)


async def _gear(process: Process) -> None:
    """Live, a service follows the tape; in a replay it is shown what it hears."""
    if process.environment.realm is Realm.REPLAY:
        from tapeline_common.replay_service import replay

        await replay(process)
    else:
        await follow(process)


async def follow(
    process: Process, listener: Listener | None = None, restored: Callable[[], None] | None = None
) -> None:
    """A service with cores, workers and adapters, or a listener: follow the tape."""
    service, env = process.service, process.environment
    client = await connect_live(process)
    adapters = service.adapters(process.settings) if service.adapters and env.realm is Realm.LIVE else ()

    async def announce(progress: Progress) -> None:
        await client.publish(subjects.progress(service.name), encode(progress))

    runner = Runner(
        service,
        NatsTape(client),
        realm=env.realm,
        metrics=process.metrics,
        logger=process.logger,
        announce=announce,
        adapters=adapters,
        restored=restored or settle_memory,
        listener=listener,
    )

    def hear(message: Message) -> None:
        runner.announced(message.subject, message.data, header_value(message.header, preceding.HEADER))

    def head(message: Message) -> None:
        progress = decode_progress(message.data)
        runner.saw_head(progress.pos, progress.before)

    for event in runner.follows:
        await client.listen(subjects.tape_of(event), hear)
    await client.listen(subjects.progress("ledger"), head)
    try:
        await runner.run()
    finally:
        await client.close()


async def connect(process: Process) -> Client:
    """This service's connection for what is not in a hurry."""
    return await bus.connect(
        process.environment.nats_url,
        name=process.service.name,
        seed_file=process.environment.nats_seed_file,
        on_error=_alarm(process),
    )


async def connect_live(process: Process) -> NatsClient:
    """This service's connection for the live path."""
    client = await nats_client.connect(
        process.environment.nats_url,
        name=process.service.name,
        seed_file=process.environment.nats_seed_file,
        on_error=_alarm(process),
    )
    process.metrics.expose(BUS, lambda: client)
    return client


def _alarm(process: Process) -> bus.OnError:
    """Trouble on the bus is logged; a permission violation as the alarm it is."""

    async def on_error(trouble: Exception) -> None:
        process.metrics.number("tapeline_nats_errors_total", (kind_of(trouble),)).inc()
        process.logger.error("bus", reason=str(trouble), kind=type(trouble).__name__)

    return on_error


def settle_memory() -> None:
    """Called once a service has restored: what is there now stays, so the collector need not look at it again.

    A full collection of a large state takes longer than a bar's way to an order. What is made from here on is freed by
    counting references; cycles are rare, so looking for them may be rare, too.
    """
    rehearse()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
