"""The reading role: sees tape and tables, changes neither, and cannot hold the ledger up."""

import asyncpg
import pytest
from tests.conftest import Database, RunLedger

from tapeline_common.events import HaltRequested
from tapeline_common.wire import Answer, Draft
from tapeline_ledger.rebuild import rebuild
from tapeline_ledger.verify import verify

pytestmark = pytest.mark.servers


async def test_it_verifies_and_compares(run_ledger: RunLedger, database: Database) -> None:
    """Both commands work with no more than SELECT and temporary tables."""
    async with run_ledger() as ledger:
        receipt = await ledger.tape.append("operator", Answer(0, (Draft(HaltRequested("tester", "drill"), "drill"),)))
        assert receipt.ok
    assert (await verify(database.reader)).facts == 1
    compared = await rebuild(database.reader)
    assert (compared.facts, compared.differences) == (1, ())


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO fills (pos) VALUES (1)",
        "UPDATE orders SET status = 'x'",
        "DELETE FROM equity",
        "TRUNCATE tape",
        "CREATE TABLE mine (x int)",
        "SELECT tape_ensure_partition(1)",
    ],
)
async def test_it_changes_nothing(database: Database, statement: str) -> None:
    """Refused by its rights, also where it takes its own default of read-only transactions back."""
    connection = await asyncpg.connect(database.reader)
    try:
        await connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_it_is_bounded(database: Database) -> None:
    """A query of a dashboard ends by itself; so does a transaction somebody forgot."""
    connection = await asyncpg.connect(database.reader)
    try:
        for setting, value in (
            ("statement_timeout", "30s"),
            ("idle_in_transaction_session_timeout", "30s"),
            ("default_transaction_read_only", "on"),
        ):
            assert await connection.fetchval(f"SHOW {setting}") == value
        assert await connection.fetchval("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user") == 20
    finally:
        await connection.close()
