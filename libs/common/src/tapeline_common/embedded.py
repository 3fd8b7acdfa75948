"""``tapeline up``: the topology of compose on one machine without Docker.

nats-server and Postgres from their wheels, one process per service, everything supervised: what dies is started again
with growing patience, keys and permissions are made on first start, Ctrl-C stops services first and servers last. Data
lives in one folder; a second start goes on with the same tape. Facts, orders and money are none of its business.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil

if TYPE_CHECKING:
    from nats.aio.msg import Msg

from tapeline_common import bus, subjects
from tapeline_common.data_folder import secret, write_secret
from tapeline_common.destinations import DESTINATIONS_NAME
from tapeline_common.exits import EXIT_CONFIGURATION
from tapeline_common.frames import FramePlan
from tapeline_common.log_files import aside, rotate_if_large
from tapeline_common.permissions import BACKTEST, LEDGER, NOTIFIER, OPERATOR, allowances
from tapeline_common.servers import HOST, EmbeddedServer, refuse_taken_port, remembered_port, until
from tapeline_common.servers_nats import NatsServer, NatsUser, load_or_create_nkey
from tapeline_common.servers_postgres import PostgresServer
from tapeline_common.settings import RetentionTable
from tapeline_common.values import Realm
from tapeline_common.whole_file import write_whole
from tapeline_common.wire import decode_progress
from tapeline_common.wiring import Service, installed_services

BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits before a service is started again; the first one after it ran well for ``STEADY_S``."""

STEADY_S = 30.0
READY_S = 1800.0
"""How long services may take to restore and follow the tape before a start counts as failed; long tapes take long."""

STILL_S = 5.0
"""How often a start that takes long says what it waits for."""

STOP_S = 5.0
"""How long a service may take to stop before it is killed; it loses nothing either way."""

STARTED_WITH = "started-with.toml"
"""The configuration of the last start, kept beside the tape for whoever backs it up."""

TARGETS = "prometheus/targets.json"
"""Where the services' metrics are, for Prometheus' file-based discovery."""

NOTIFIER_ALERTS = "notifier-alerts"
"""Name of the port where the notifier hears alerts, beside those of metrics, which are named as their services."""

ROTATE_S = 2.0
"""How often the supervisor looks at the size of logs."""

ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"
    ":glibc.malloc.mmap_threshold=32768"
    ":glibc.malloc.trim_threshold=32768"
    ":glibc.malloc.top_pad=16384",
}
"""How glibc gives memory to a service; other C libraries know neither variable.

A service computes in one thread. With a heap for each of the others, what is freed in one is not used by the next. Each
thread would keep seven freed blocks of each size to itself: sizes come as groups of facts happen to, so these fill for
an hour. And a large group's buffers would stretch the heap whose end is only given back if nothing lies above them; so
large blocks come and go apart, and of a free end 16 KiB stay. All of it looks like a leak for as long as it lasts;
small objects are Python's own affair and know nothing of it.
"""


class StackFailed(Exception):
    """The stack cannot run; the message says why and what to do."""


class Running(msgspec.Struct, frozen=True):
    """What other commands need to reach a running stack; written to the data folder."""

    pid: int
    created: float
    nats_url: str
    realm: Realm
    services: dict[str, int]
    metrics: dict[str, int]


@dataclass(slots=True)
class Child:
    """One supervised service process."""

    name: str
    environment: dict[str, str]
    process: asyncio.subprocess.Process | None = None
    started_s: float = 0.0
    restarts: int = 0
    failures: int = 0

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.returncode is None else None


@dataclass
class Stack:
    """Servers and services of one data folder.

    Args:
        folder: data folder, such as ``.tapeline``.
        config: the configuration file every service reads.
        plan: replay realm only: who hears and may answer what, for the ledger.
        retention: how large logs may grow, and how many are kept.
        report: told what a start that takes long waits for.
        destinations: whom the notifier tells; ``destinations.toml`` in the folder if ``None``.

    Raises ``StackFailed`` when a stack runs on the folder already; that one is left alone.
    """

    folder: Path
    config: Path
    realm: Realm = Realm.LIVE
    plan: FramePlan | None = None
    log_level: str = "info"
    retention: RetentionTable = field(default_factory=RetentionTable)
    report: Callable[[str], None] = lambda _: None
    destinations: Path | None = None
    children: dict[str, Child] = field(default_factory=dict)
    server_restarts: dict[str, int] = field(default_factory=lambda: {"nats-server": 0, "postgres": 0})

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        _refuse_second(self.folder)
        self.services: dict[str, Service] = installed_services()
        self._stopping = False
        self._failed: str = ""
        self._tasks: list[asyncio.Task[None]] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        self.postgres = PostgresServer(self.folder / "postgres", password=self._secret("postgres-superuser"))
        self.nats = NatsServer(self.folder / "nats", users=self._users())

    # ---- life ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start everything and keep it running until ``stop``. Raises ``StackFailed`` or ``ServerFailed``."""
        (self.folder / STARTED_WITH).write_bytes(self.config.read_bytes())
        self._refuse_taken_ports()
        await asyncio.gather(self.postgres.start(), self.nats.start())
        self._write_secret(
            "ledger-dsn", self.postgres.dsn("tapeline_ledger", self._secret("ledger-password"), "tapeline")
        )
        self._write_secret("owner-dsn", self.postgres.dsn("postgres", self._secret("postgres-superuser"), "postgres"))
        await self._migrate()
        for name in [LEDGER, *(name for name in self.services if name != LEDGER)]:
            self.children[name] = Child(name, self._environment(name))
            await self._spawn(self.children[name])
        self._describe_self()
        self._supervise_all()
        await self._wait_until_all_follow()

    def _supervise_all(self) -> None:
        self._tasks = [asyncio.create_task(self._supervise(child)) for child in self.children.values()]
        self._tasks += [
            asyncio.create_task(self._supervise_server("nats-server", self.nats)),
            asyncio.create_task(self._supervise_server("postgres", self.postgres)),
            asyncio.create_task(self._rotate_logs()),
        ]

    async def stop(self) -> None:
        """Stop services, then servers. What does not stop in time is killed; nothing is lost by that."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        running = [child.process for child in self.children.values() if child.pid is not None and child.process]
        for process in running:
            with suppress(ProcessLookupError):
                process.terminate()
        await asyncio.gather(*(_end(process) for process in running))
        await self.nats.stop()
        await self.postgres.stop()
        (self.folder / "running.json").unlink(missing_ok=True)

    @property
    def failed(self) -> str:
        """Why the stack gave up, or empty while it has not."""
        return self._failed

    async def _wait_until_all_follow(self) -> None:
        """Return once every service has said how far it has heard."""
        user = OPERATOR if self.realm is Realm.LIVE else BACKTEST
        client = await bus.connect(self.nats.url, name=user, seed_file=str(self.seed_file(user)))
        heard: set[str] = set()

        async def take(message: Msg) -> None:
            heard.add(decode_progress(message.data).service)

        await client.subscribe(subjects.PROGRESS_ALL, cb=take)
        try:
            waited = 0.0
            followed = False
            while not followed and waited < READY_S:
                followed = await until(lambda: bool(self._failed) or heard >= set(self.children), STILL_S)
                waited += STILL_S
                if not followed:
                    late = [self._described(name) for name in sorted(set(self.children) - heard)]
                    self.report(f"still restoring: {', '.join(late)}")
        finally:
            await client.close()
        if self._failed:
            raise StackFailed(self._failed)
        if not followed:
            missing = sorted(set(self.children) - heard)
            words = "; ".join(f"{name}: {self._last_line(name)}" for name in missing)
            raise StackFailed(f"not following the tape within {READY_S:.0f} s: {words}")

    def _described(self, name: str) -> str:
        """A service that is not there yet, and why, if it keeps ending."""
        restarts = self.children[name].restarts
        return name if not restarts else f"{name} (ended {restarts} times; its last words: {self._last_line(name)})"

    # ---- keys, environment -----------------------------------------------------------------------------------

    def seed_file(self, user: str) -> Path:
        return self.folder / "keys" / f"{user}.nk"

    def _users(self) -> list[NatsUser]:
        users = []
        for allowance in allowances(self.services, replay=self.realm is Realm.REPLAY):
            _, public = load_or_create_nkey(self.seed_file(allowance.name))
            users.append(NatsUser(allowance.name, public, allowance.publish, allowance.subscribe))
        _, signer = load_or_create_nkey(self.seed_file("signer"))
        self._write_secret("signer-public", signer)
        return users

    def _secret(self, name: str) -> str:
        return secret(self.folder, name)

    def _write_secret(self, name: str, text: str) -> None:
        write_secret(self.folder, name, text)

    def _environment(self, name: str) -> dict[str, str]:
        variables = {
            "TAPELINE_CONFIG": str(self.config.resolve()),
            "TAPELINE_NATS_URL": self.nats.url,
            "TAPELINE_NATS_SEED_FILE": str(self.seed_file(name)),
            "TAPELINE_REALM": self.realm,
            "TAPELINE_LOG_LEVEL": self.log_level,
            "TAPELINE_MODELS": str(self.folder / "models"),
            "TAPELINE_TAPE": self._secret("tape") if self.realm is Realm.LIVE else "",
            "TAPELINE_METRICS_PORT": str(self._metrics_port(name)),
            "TAPELINE_LOG_FILE": str(self._log(name)),
            **ALLOCATOR,
        }
        if name == NOTIFIER:
            self._secret("notifier-token")
            variables["TAPELINE_NOTIFIER_PORT"] = str(self._port(NOTIFIER_ALERTS))
            variables["TAPELINE_NOTIFIER_TOKEN_FILE"] = str(self.folder / "secrets" / "notifier-token")
            variables["TAPELINE_NOTIFIER_FOLDER"] = str(self.folder / NOTIFIER)
            variables["TAPELINE_DESTINATIONS_FILE"] = str(self.destinations_file)
        if name == LEDGER:
            variables["TAPELINE_DSN_FILE"] = str(self.folder / "secrets" / "ledger-dsn")
            variables["TAPELINE_OPERATOR_PUBLIC_FILE"] = str(self.folder / "secrets" / "signer-public")
            variables["TAPELINE_NATS_MONITOR_URL"] = f"http://127.0.0.1:{self.nats.monitor_port}"
            variables["TAPELINE_DISKS"] = f"data={self.folder}"
            if self.plan is not None:
                plan_file = self.folder / "plan.json"
                plan_file.write_bytes(msgspec.json.encode(self.plan))
                variables["TAPELINE_PLAN_FILE"] = str(plan_file)
        return variables

    @property
    def destinations_file(self) -> Path:
        return (self.destinations or self.folder / DESTINATIONS_NAME).resolve()

    def _metrics_port(self, name: str) -> int:
        return self._port(name)

    def _port(self, name: str) -> int:
        return remembered_port(self._port_file(name))

    def _port_file(self, name: str) -> Path:
        return self.folder / "ports" / name

    def _refuse_taken_ports(self) -> None:
        """Ports that another program took since the last run: whoever needs one would end and be started for ever."""
        for name in (*self.services, NOTIFIER_ALERTS):
            refuse_taken_port(self._port(name), self._port_file(name))

    # ---- processes -------------------------------------------------------------------------------------------

    async def _migrate(self) -> None:
        command = [sys.executable, "-m", "tapeline_common.cli", "migrate", "--dsn-file"]
        process = await asyncio.create_subprocess_exec(
            *command,
            str(self.folder / "secrets" / "owner-dsn"),
            "--ledger-password-file",
            str(self.folder / "secrets" / "ledger-password"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        if process.returncode:
            raise StackFailed(f"the database could not be migrated: {said.decode(errors='replace').strip()}")

    async def _spawn(self, child: Child) -> None:
        log = self._log(child.name)
        log.parent.mkdir(exist_ok=True)
        self._rotate_if_large(log)
        with log.open("ab") as output:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "tapeline_common.process",
                child.name,
                env={**os.environ, **child.environment, "TAPELINE_PARENT": str(os.getpid())},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        child.started_s = time.monotonic()

    async def _supervise(self, child: Child) -> None:
        while not self._stopping:
            assert child.process is not None
            code = await child.process.wait()
            if code == EXIT_CONFIGURATION:
                self._failed = f"{child.name} refuses its configuration: {self._last_line(child.name)}"
                return
            steady = time.monotonic() - child.started_s > STEADY_S
            child.failures = 0 if steady else child.failures + 1
            await asyncio.sleep(BACKOFF_S[min(child.failures, len(BACKOFF_S) - 1)])
            child.restarts += 1
            await self._spawn(child)
            self._describe_self()

    async def _supervise_server(self, name: str, server: EmbeddedServer) -> None:
        attempts = 0
        while not self._stopping:
            await asyncio.sleep(0.05)
            if server.alive:
                attempts = 0
                continue
            self.server_restarts[name] += 1
            try:
                await server.start()
            except Exception as trouble:
                attempts += 1
                if attempts >= len(BACKOFF_S):
                    self._failed = f"{name} does not start any more: {trouble}"
                    return
                await asyncio.sleep(BACKOFF_S[attempts])

    async def _rotate_logs(self) -> None:
        """Keep logs small while their writers run; see ``log_files``."""
        while True:
            for name in self.children:
                self._rotate_if_large(self._log(name))
            await asyncio.sleep(ROTATE_S)

    def _rotate_if_large(self, log: Path) -> None:
        rotate_if_large(log, self.retention.log_size_mib * 2**20, self.retention.log_files)

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def _last_line(self, name: str) -> str:
        for log in (self._log(name), aside(self._log(name), 1)):
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            if lines:
                return lines[-1]
        return "no log"

    def _describe_self(self) -> None:
        running = Running(
            pid=os.getpid(),
            created=psutil.Process().create_time(),
            nats_url=self.nats.url,
            realm=self.realm,
            services={name: child.pid or 0 for name, child in self.children.items()},
            metrics={name: self._metrics_port(name) for name in self.children},
        )
        write_whole(self.folder / "running.json", msgspec.json.encode(running))
        targets = [
            {"targets": [f"{HOST}:{port}"], "labels": {"service": name}} for name, port in running.metrics.items()
        ]
        (self.folder / TARGETS).parent.mkdir(exist_ok=True)
        write_whole(self.folder / TARGETS, msgspec.json.encode(targets))


def running_stack(folder: Path) -> Running | None:
    """The stack that runs on a data folder now, if any; leftovers of a dead one do not count."""
    try:
        running = msgspec.json.decode((folder / "running.json").read_bytes(), type=Running)
        alive = abs(psutil.Process(running.pid).create_time() - running.created) < 1.0
    except (OSError, msgspec.MsgspecError, psutil.NoSuchProcess):
        return None
    return running if alive else None


def _refuse_second(folder: Path) -> None:
    running = running_stack(folder)
    if running is not None:
        raise StackFailed(f"a stack runs on {folder.name} already (pid {running.pid}): stop it, or use another --data")


async def _end(process: asyncio.subprocess.Process) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_S):
            await process.wait()
            return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def signer_seed(folder: Path) -> str:
    """The operator's signing key of a data folder."""
    return load_or_create_nkey(signer_seed_file(folder))[0]


def signer_seed_file(folder: Path) -> Path:
    return folder / "keys" / "signer.nk"


def operator_seed_file(folder: Path) -> Path:
    return folder / "keys" / f"{OPERATOR}.nk"
