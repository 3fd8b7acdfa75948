"""Ledger and bus on the images that compose runs: what is recorded survives both servers, and nobody oversteps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import asyncpg
import nats
import pytest
from nats.aio.client import Client
from tests.conftest import Database, RunLedger, RunningLedger
from tests.containers.conftest import ServerInContainer, nats_with

from tapeline_common.events import HaltRequested
from tapeline_common.permissions import allowances
from tapeline_common.servers_nats import NatsUser, inbox_prefix, new_nkey
from tapeline_common.tape import ReadRequest, TapeUnavailable
from tapeline_common.wire import Answer, Draft, decode_fact
from tapeline_common.wiring import installed_services
from tapeline_ledger.rebuild import rebuild
from tapeline_ledger.store import Store
from tapeline_ledger.verify import verify

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]


async def record(ledger: RunningLedger, name: str) -> int:
    """One outside fact, asked for until it is recorded: the same id, so it is recorded once."""
    async with asyncio.timeout(180):
        while True:
            try:
                receipt = await ledger.tape.append(
                    "operator", Answer(0, (Draft(HaltRequested(issuer="tester", reason=name), name),))
                )
            except TapeUnavailable:
                await asyncio.sleep(0.05)  # said at once while the bus is away; its client must get a turn
                continue
            assert receipt.ok, receipt
            return receipt.positions[0]


async def test_what_is_recorded_survives_both_servers(
    run_ledger: RunLedger, database: Database, postgres: ServerInContainer, bus: ServerInContainer
) -> None:
    """SIGKILL to Postgres' container, then to nats': the ledger goes on, nothing is lost and nothing recorded twice."""
    async with run_ledger() as ledger:
        positions = [await record(ledger, "orchid")]
        await asyncio.to_thread(postgres.kill_and_start)
        positions.append(await record(ledger, "sunflower"))
        await asyncio.to_thread(bus.kill_and_start)
        positions.append(await record(ledger, "tulip"))
        positions.append(await record(ledger, "tulip"))
        assert positions == [1, 2, 3, 3]
        page = await ledger.tape.read(ReadRequest(0, limit=10))
        assert [decode_fact(fact).id.rpartition(":")[2] for fact in page.facts] == ["orchid", "sunflower", "tulip"]
    found = await verify(database.ledger)
    assert (found.facts, found.fault) == (3, None)
    assert (await rebuild(database.reader)).differences == ()


async def test_what_is_recorded_is_announced(run_ledger: RunLedger, connect: Callable[[], Awaitable[Client]]) -> None:
    """On the subject of its author and type, in the bytes that the log holds."""
    async with run_ledger() as ledger:
        listener = await connect()
        heard = await listener.subscribe("tape.>")
        await listener.flush()
        await record(ledger, "orchid")
        message = await heard.next_msg(timeout=60)
        assert message.subject.startswith("tape.operator.HaltRequested")
        assert [message.data] == list((await ledger.tape.read(ReadRequest(0, limit=1))).facts)


async def test_what_makes_commits_durable_cannot_be_relaxed_from_inside(
    database: Database, postgres: ServerInContainer
) -> None:
    """The command line of docker-compose.yml wins over the data folder's own settings, and the ledger accepts it."""
    owner = await asyncpg.connect(database.superuser)
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            await owner.execute(f"ALTER SYSTEM SET {setting} = off")
        await owner.execute("SELECT pg_reload_conf()")
        await asyncio.to_thread(postgres.kill_and_start)
    finally:
        await owner.close()
    await (await opened(database)).close()
    asked = await asyncpg.connect(database.superuser)
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await asked.fetchval(f"SHOW {setting}") == "on"
    finally:
        await asked.close()


async def opened(database: Database) -> Store:
    """The store, once Postgres has started again."""
    async with asyncio.timeout(180):
        while True:
            try:
                return await Store.open(database.ledger)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.1)


KEYS = {allowance.name: new_nkey() for allowance in allowances(installed_services(), replay=False)}


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInContainer]:
    """nats-server with the users and permissions that ``tapeline provision`` writes."""
    users = [
        NatsUser(allowance.name, KEYS[allowance.name][1], allowance.publish, allowance.subscribe)
        for allowance in allowances(installed_services(), replay=False)
    ]
    yield from nats_with(tmp_path_factory.mktemp("provisioned"), users)


@pytest.mark.parametrize(
    ("user", "subject", "is_allowed"),
    [
        ("risk", "ledger.append.risk", True),
        ("risk", "ledger.append.execution", False),
        ("risk", "tape.risk.OrderApproved", False),
        ("strategy", "control.resume", False),
        ("operator", "control.halt", True),
        ("operator", "ledger.append.operator", False),
        ("ledger", "tape.risk.OrderApproved", True),
    ],
)
async def test_nobody_speaks_for_another(
    provisioned: ServerInContainer, user: str, subject: str, is_allowed: bool
) -> None:
    """The image's server refuses what is not on a user's list."""
    refused: list[str] = []

    async def hear(trouble: Exception) -> None:
        refused.append(str(trouble).lower())

    client = await nats.connect(
        provisioned.url, nkeys_seed_str=KEYS[user][0], inbox_prefix=inbox_prefix(user), error_cb=hear
    )
    try:
        await client.publish(subject, b"{}")
        await client.flush()
        await client.flush()
        assert (not refused) is is_allowed, refused
        assert all("permissions violation" in trouble for trouble in refused)
    finally:
        await client.close()


async def test_a_stranger_does_not_get_in(provisioned: ServerInContainer) -> None:
    """No key, or a key nobody knows: no connection."""
    for options in ({}, {"nkeys_seed_str": new_nkey()[0]}):
        with pytest.raises(nats.errors.Error):
            await nats.connect(provisioned.url, allow_reconnect=False, **options)
