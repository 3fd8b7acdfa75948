"""Filling the database of a stack in containers from a backup: the same tape there, and never on top of another."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest
from msgspec.structs import replace
from tests.conftest import PASSWORD
from tests.cores.test_backup import small_segments, tape_of

from tapeline_common.recording import RecordingRefused
from tapeline_common.servers_postgres import PostgresServer
from tapeline_common.wire import GENESIS
from tapeline_ledger.migrate import create_database, in_tapeline, migrate
from tapeline_ledger.restore import Restored, RestoreFailed, checked, restore_database
from tapeline_ledger.store import LOCK, Head, Store

pytestmark = pytest.mark.servers


@pytest.fixture
async def empty(postgres: PostgresServer) -> str:
    """A server without a database ``tapeline``."""
    dsn = postgres.dsn("postgres", PASSWORD, "postgres")
    connection = await asyncpg.connect(dsn)
    await connection.execute("DROP DATABASE IF EXISTS tapeline WITH (FORCE)")
    await connection.close()
    return dsn


async def test_an_empty_server_gets_the_tape_and_a_used_one_is_refused(empty: str, tmp_path: Path) -> None:
    """Every fact with the same head; a second restore on top of it changes nothing; a looking store sees it."""
    file, tape = tmp_path / "a.tape", tape_of(30)
    small_segments(file, tape)
    manifest = checked(file)
    done: list[int] = []
    restored = await restore_database(file, manifest, empty, lambda pos, _of: done.append(pos))
    assert restored == Restored(30, manifest.hash, {"orders": 0, "fills": 0, "positions": 0, "trades": 0, "equity": 0})
    assert done[-1] == 30
    with pytest.raises(RecordingRefused, match="holds a tape of 30 facts already"):
        await restore_database(file, manifest, empty, lambda _pos, _of: None)

    store = await Store.look(empty.rpartition("/")[0] + "/tapeline")
    assert store.head == Head(30, tape.records[-1].hash)
    await store.close()


async def test_a_server_whose_ledger_runs_is_refused(empty: str, tmp_path: Path) -> None:
    """Somebody holds the ledger's lock on the empty tape: nothing is written."""
    file = tmp_path / "a.tape"
    small_segments(file, tape_of(5))
    manifest = checked(file)
    await create_database(empty)
    await migrate(in_tapeline(empty))
    ledger = await asyncpg.connect(in_tapeline(empty))
    await ledger.execute("SELECT pg_advisory_lock($1)", LOCK)
    with pytest.raises(RecordingRefused, match="a ledger runs"):
        await restore_database(file, manifest, empty, lambda _pos, _of: None)
    assert (await Store.look(in_tapeline(empty))).head == Head(0, GENESIS)
    await ledger.close()


async def test_the_proof_can_fail(empty: str, tmp_path: Path) -> None:
    """A log that ends elsewhere than the backup says is not called restored."""
    file = tmp_path / "a.tape"
    small_segments(file, tape_of(12))
    manifest = checked(file)
    with pytest.raises(RestoreFailed, match="ends at 12"):
        await restore_database(file, replace(manifest, facts=13), empty, lambda _pos, _of: None)
