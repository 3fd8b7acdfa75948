"""Shared by tests that need real servers: one nats-server and one Postgres per test session, one database per test."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import nats
import pytest
import structlog
from nats.aio.client import Client

from tapeline_common import nats_client
from tapeline_common.core import Core
from tapeline_common.servers_nats import NatsServer, NatsUser, inbox_prefix, new_nkey
from tapeline_common.servers_postgres import PostgresServer
from tapeline_common.tape_nats import NatsTape
from tapeline_common.values import Realm
from tapeline_ledger.lockstep import Plan
from tapeline_ledger.migrate import migrate, set_passwords
from tapeline_ledger.mirror import MirrorLimits
from tapeline_ledger.server import Server, serve
from tapeline_ledger.store import Store

T = TypeVar("T")

PASSWORD = "orchid"
TEMPLATE = "migrated"
TESTER_SEED, TESTER_KEY = new_nkey()
MIRROR_LIMITS = MirrorLimits()
START_NS = 1_700_000_000_000_000_000


def in_own_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end without disturbing the event loop of the tests."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


@pytest.fixture(autouse=True)
def logs_as_at_the_start() -> Iterator[None]:
    """Who sets up logging writes to the streams of its own test, which are closed behind it."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A running Postgres; whoever kills it starts it again."""
    server = PostgresServer(tmp_path_factory.mktemp("postgres"), password=PASSWORD)
    in_own_loop(server.start())
    in_own_loop(_make_template(server))
    yield server
    in_own_loop(server.stop())


async def _make_template(server: PostgresServer) -> None:
    connection = await asyncpg.connect(server.dsn("postgres", PASSWORD, "postgres"))
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await connection.close()
    dsn = server.dsn("postgres", PASSWORD, TEMPLATE)
    await migrate(dsn)
    await set_passwords(dsn, {"tapeline_ledger": PASSWORD, "tapeline_reader": PASSWORD})


@pytest.fixture(scope="session")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A running nats-server with one user who may do everything."""
    tester = NatsUser("tester", TESTER_KEY, publish=(">",), subscribe=(">",))
    server = NatsServer(tmp_path_factory.mktemp("nats"), users=[tester])
    in_own_loop(server.start())
    yield server
    in_own_loop(server.stop())


@dataclass(frozen=True)
class Database:
    """A migrated database and how its roles reach it."""

    superuser: str
    ledger: str
    reader: str


_numbers = itertools.count(1)


@pytest.fixture
async def database(postgres: PostgresServer) -> Database:
    """A database of this test's own, with an empty tape."""
    name = f"tape{next(_numbers)}"
    connection = await asyncpg.connect(postgres.dsn("postgres", PASSWORD, "postgres"))
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    await connection.close()
    return Database(
        superuser=postgres.dsn("postgres", PASSWORD, name),
        ledger=postgres.dsn("tapeline_ledger", PASSWORD, name),
        reader=postgres.dsn("tapeline_reader", PASSWORD, name),
    )


@pytest.fixture
async def connect(bus: NatsServer) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    """Makes connected clients, closed after the test."""
    clients: list[Client] = []

    async def make() -> Client:
        client = await nats.connect(
            bus.url,
            nkeys_seed_str=TESTER_SEED,
            inbox_prefix=inbox_prefix("tester"),
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.05,
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@dataclass
class Clock:
    """The wall clock of a ledger under test; it moves when the test says so."""

    now_ns: int = START_NS


@dataclass
class RunningLedger:
    """A ledger service in this process, over real servers."""

    server: Server
    store: Store
    tape: NatsTape
    client: Client
    clock: Clock = field(default_factory=Clock)


RunLedger = Callable[..., Any]


@pytest.fixture
def run_ledger(
    connect: Callable[[], Awaitable[Client]], database: Database, bus: NatsServer, tmp_path: Path
) -> RunLedger:
    """``async with run_ledger(...) as ledger``: the service runs inside the block, on this test's database."""
    seed = tmp_path / "tester.nk"

    @asynccontextmanager
    async def run(
        *,
        realm: Realm = Realm.LIVE,
        plan: Plan | None = None,
        books: Core[Any] | None = None,
        mirrored: bool = False,
        reports: list[str] | None = None,
        append_timeout_s: float = 20.0,
        mirror_limits: MirrorLimits = MIRROR_LIMITS,
    ) -> AsyncIterator[RunningLedger]:
        told: list[str] = [] if reports is None else reports
        clock = Clock()
        client = await connect()
        seed.write_text(TESTER_SEED)
        ledger_client = await nats_client.connect(bus.url, name="tester", seed_file=str(seed))
        store = await Store.open(database.ledger, told.append)
        stop, ready = asyncio.Event(), asyncio.Event()
        servers: list[Server] = []

        def started(server: Server) -> None:
            servers.append(server)
            ready.set()

        serving = asyncio.create_task(
            serve(
                ledger_client,
                store,
                realm=realm,
                plan=plan,
                books=books,
                streams=(await connect()).jetstream() if mirrored else None,
                now_ns=lambda: clock.now_ns,
                stop=stop,
                report=told.append,
                mirror_limits=mirror_limits,
                started=started,
            )
        )
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        tape = NatsTape(client, append_timeout_s=append_timeout_s)
        await servers[0].listening.wait()
        try:
            yield RunningLedger(servers[0], store, tape, client, clock)
        finally:
            stop.set()
            await serving
            await store.close()
            await ledger_client.close()

    return run
