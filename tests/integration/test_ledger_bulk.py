"""Recording in bulk into Postgres: the rows are the ledger's, and what cannot be a whole tape is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any

import asyncpg
import msgspec
import pytest
from tests.conftest import PASSWORD
from tests.tape_files import numbered, payloads_of

from tapeline_common.recording import RecordingFailed, RecordingRefused
from tapeline_common.sequencer import Recorded
from tapeline_common.servers_postgres import PostgresServer
from tapeline_common.wire import chain_naive
from tapeline_ledger import bulk
from tapeline_ledger.bulk import PostgresRecorder
from tapeline_ledger.rebuild import rebuild
from tapeline_ledger.store import Store
from tapeline_ledger.verify import verify

pytestmark = pytest.mark.servers

RECORDS = numbered(57)
_fresh = count(1)


def record(dsn: str, records: Sequence[Recorded], *, block: bool = False) -> None:
    recorder = PostgresRecorder(dsn, report=print)
    if block:
        lengths = [len(one.payload) for one in records]
        recorder.take_block(b"".join(payloads_of(records)), lengths, records[-1].hash)
    else:
        for recorded in records:
            recorder.take(recorded)
    recorder.close()


async def rows(dsn: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn)
    found = await connection.fetch(
        "SELECT pos, stream, version, id, author, type, schema, time_ns, cause, correlation, payload, prev_hash, hash "
        "FROM tape ORDER BY pos"
    )
    await connection.close()
    return [tuple(row) for row in found]


@pytest.mark.parametrize("block", [False, True])
async def test_the_log_is_the_ledgers(
    database: Any, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, block: bool
) -> None:
    """The naive twin: the ledger's store, one fact a commit. Same rows, verified, and projections that agree."""
    monkeypatch.setattr(bulk, "BATCH_FACTS", 10)
    await asyncio.to_thread(record, database.superuser, RECORDS, block=block)
    result = await verify(database.ledger)
    assert (result.facts, result.head_hash, result.fault) == (57, chain_naive(payloads_of(RECORDS)), None)
    assert (await rebuild(database.ledger)).differences == ()
    twin = postgres.dsn("postgres", PASSWORD, await fresh(postgres, "migrated"))
    store = await Store.open(twin)
    for recorded in RECORDS:
        await store.append([recorded])
    await store.close()
    assert await rows(database.superuser) == await rows(twin)


async def fresh(postgres: PostgresServer, template: str) -> str:
    """A new database's name."""
    name = f"bulk{next(_fresh)}"
    connection = await asyncpg.connect(postgres.dsn("postgres", PASSWORD, "postgres"))
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    await connection.close()
    return name


async def test_an_empty_database_gets_its_tables(postgres: PostgresServer) -> None:
    """A fresh database and its superuser are enough."""
    dsn = postgres.dsn("postgres", PASSWORD, await fresh(postgres, "template1"))
    await asyncio.to_thread(record, dsn, RECORDS)
    assert (await verify(dsn)).head_hash == RECORDS[-1].hash


async def test_a_log_that_holds_a_tape_is_left_alone(database: Any) -> None:
    """A tape is one run: refused before anything is written."""
    await asyncio.to_thread(record, database.ledger, RECORDS[:5])
    before = await rows(database.superuser)
    with pytest.raises(RecordingRefused, match="holds a tape of 5 facts already: a log cannot be emptied"):
        await asyncio.to_thread(PostgresRecorder, database.ledger, report=print)
    assert await rows(database.superuser) == before


async def test_a_log_with_a_ledger_is_left_alone(database: Any) -> None:
    """Somebody else may write there: refused at once, not waited for."""
    store = await Store.open(database.ledger)
    with pytest.raises(RecordingRefused, match="a ledger runs on"):
        await asyncio.to_thread(PostgresRecorder, database.ledger, report=print)
    await store.close()


async def test_a_wrong_hash_does_not_pass(database: Any) -> None:
    """The check at the end can fail: rows chained to another hash than their bytes give."""
    wrong = [*RECORDS[:30], msgspec.structs.replace(RECORDS[30], hash=bytes(32)), *RECORDS[31:]]
    with pytest.raises(RecordingFailed, match=r"holds 30 facts with hash .*HASH_WRONG"):
        await asyncio.to_thread(record, database.superuser, wrong)


async def test_what_postgres_refuses_ends_the_run(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that cannot be stored is told with its reason, and the batches before it stand."""
    monkeypatch.setattr(bulk, "BATCH_FACTS", 10)
    fact = msgspec.structs.replace(RECORDS[30].fact, id=RECORDS[3].fact.id)
    wrong = [*RECORDS[:30], msgspec.structs.replace(RECORDS[30], fact=fact), *RECORDS[31:]]
    with pytest.raises(RecordingFailed, match=r"CommitRefused|UniqueViolation"):
        await asyncio.to_thread(record, database.superuser, wrong)
    result = await verify(database.ledger)
    assert (result.facts, result.fault) == (30, None)


async def test_a_failed_run_keeps_what_it_recorded(database: Any) -> None:
    """``abandon`` commits the rest and raises nothing."""

    def failing() -> None:
        recorder = PostgresRecorder(database.superuser, report=print)
        for recorded in RECORDS[:33]:
            recorder.take(recorded)
        recorder.abandon()

    await asyncio.to_thread(failing)
    assert (await verify(database.ledger)).facts == 33
