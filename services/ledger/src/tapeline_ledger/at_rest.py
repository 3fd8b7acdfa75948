"""The Postgres of a data folder on which nothing runs, started for as long as somebody needs it.

For looking at a stopped stack's log and for recording a backtest into a folder of its own. It starts no service, and
what it finds or makes has the layout of ``tapeline up``: ``postgres/`` and ``secrets/``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tapeline_common.data_folder import secret, write_secret
from tapeline_common.embedded import running_stack
from tapeline_common.servers_postgres import PostgresServer
from tapeline_ledger.migrate import create_database, in_tapeline, migrate, set_passwords


@dataclass(frozen=True, slots=True)
class Access:
    """Connection strings to the database ``tapeline`` as its ``owner`` and as the runtime role (``ledger``)."""

    owner: str
    ledger: str


def at_rest(folder: Path) -> bool:
    """Whether the folder has a database and no stack that runs it."""
    return (folder / "postgres" / "data" / "PG_VERSION").exists() and running_stack(folder) is None


@asynccontextmanager
async def postgres_of(folder: Path, *, create: bool = False) -> AsyncIterator[Access]:
    """Start the folder's Postgres for the block; ``create`` makes it, and its tables, if they are missing.

    Raises ``servers.ServerFailed`` if it does not start or is in use.
    """
    folder = folder.resolve()
    server = PostgresServer(folder / "postgres", password=secret(folder, "postgres-superuser"))
    await server.start()
    try:
        superuser = server.dsn("postgres", secret(folder, "postgres-superuser"), "postgres")
        access = Access(
            in_tapeline(superuser), server.dsn("tapeline_ledger", secret(folder, "ledger-password"), "tapeline")
        )
        if create:
            await create_database(superuser)
            await migrate(access.owner)
            await set_passwords(access.owner, {"tapeline_ledger": secret(folder, "ledger-password")})
            write_secret(folder, "owner-dsn", superuser)
            write_secret(folder, "ledger-dsn", access.ledger)
        yield access
    finally:
        await server.stop()
