"""Drawing the keys and passwords of a stopped data folder anew, after somebody else may have seen them.

NATS keys, the operator's signing key, the passwords of Postgres's superuser and of the ledger's role. The next start
gives every process its new key; old ones are refused. Nothing on the tape depends on a key, so the tape is not touched.
Keys at exchanges are the exchange's to revoke.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import asyncpg

from tapeline_common.data_folder import secret, write_secret
from tapeline_common.servers_nats import load_or_create_nkey
from tapeline_ledger.at_rest import postgres_of
from tapeline_ledger.migrate import set_passwords

SUPERUSER_PASSWORD, LEDGER_PASSWORD = "postgres-superuser", "ledger-password"
NEXT = "next-"
"""Prefix of a password's file from before the database takes it until after: whatever breaks off in between, the
database opens with one of the two."""


async def rotate_keys(folder: Path) -> list[str]:
    """Returns what was drawn anew. Raises ``servers.ServerFailed`` if the folder's Postgres does not start.

    The stack must be stopped; whoever calls this has looked.
    """
    await _rotate_passwords(folder)
    changed = [SUPERUSER_PASSWORD, LEDGER_PASSWORD]
    for path in sorted((folder / "keys").glob("*.nk")):
        path.unlink()
        load_or_create_nkey(path)
        changed.append(path.name)
    return changed


async def _rotate_passwords(folder: Path) -> None:
    superuser, ledger = secrets.token_hex(24), secrets.token_hex(24)
    await _adopt_interrupted(folder)
    async with postgres_of(folder) as access:
        write_secret(folder, NEXT + SUPERUSER_PASSWORD, superuser)
        await set_passwords(access.owner, {"tapeline_ledger": ledger})
        write_secret(folder, LEDGER_PASSWORD, ledger)
        await _set_superuser_password(access.owner, superuser)
    _take_next(folder)
    for derived in ("ledger-dsn", "owner-dsn"):
        (folder / "secrets" / derived).unlink(missing_ok=True)  # they hold the old passwords


async def _adopt_interrupted(folder: Path) -> None:
    """A rotation that broke off after the database took the new password: that one is right then."""
    pending = folder / "secrets" / (NEXT + SUPERUSER_PASSWORD)
    if not pending.exists():
        return
    try:
        async with postgres_of(folder) as access:
            await (await asyncpg.connect(access.owner, timeout=5.0)).close()
    except asyncpg.InvalidPasswordError:
        _take_next(folder)
    else:
        pending.unlink()


def _take_next(folder: Path) -> None:
    write_secret(folder, SUPERUSER_PASSWORD, secret(folder, NEXT + SUPERUSER_PASSWORD))
    (folder / "secrets" / (NEXT + SUPERUSER_PASSWORD)).unlink()


async def _set_superuser_password(dsn: str, password: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=5.0)
    try:
        # ALTER ROLE takes no parameters, so Postgres itself does the quoting.
        statement = await connection.fetchval("SELECT format('ALTER ROLE postgres PASSWORD %L', $1::text)", password)
        await connection.execute(statement)
    finally:
        await connection.close()
