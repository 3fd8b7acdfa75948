"""Migrations: forward-only SQL files, applied in the order of their names, each once, each in its own transaction.

The files live in the repository's top-level ``migrations`` folder. They are found, in this order: where the environment
variable ``TAPELINE_MIGRATIONS`` points; in the checkout this package runs from; in the package itself (``sql``), where
an image or a wheel may have put a copy. An applied file is remembered with its SHA-256, and may never change.

Runs as a superuser, because it makes roles. There is no way back: a mistake is repaired by the next file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg

LOCK = 0x7461_7065_6D69_6772
"""Advisory lock ("tapemigr"): two migrations at once wait for each other."""

ROLES = ("tapeline_ledger", "tapeline_reader")
"""The roles that log in."""

_FILE_NAME = re.compile(r"\d{4}_[a-z0-9_]+\.sql")


class MigrationRefused(Exception):
    """The migrations cannot be applied; the message names the file and the fix."""


@dataclass(frozen=True, slots=True)
class Migration:
    name: str
    sql: str
    sha256: str


def migrations_folder() -> Path:
    """Where the SQL files are; raises ``MigrationRefused`` naming the places that were searched."""
    chosen = os.environ.get("TAPELINE_MIGRATIONS", "")
    if chosen:
        candidates = [Path(chosen)]
    else:
        here = Path(__file__).resolve()
        candidates = [parent / "migrations" for parent in here.parents] + [here.with_name("sql")]
    for folder in candidates:
        if folder.is_dir() and any(folder.glob("*.sql")):
            return folder
    raise MigrationRefused(
        f"no SQL files in {chosen or 'a folder named migrations above this package'}: "
        "set TAPELINE_MIGRATIONS to the folder that holds 0001_tape.sql"
    )


def load_migrations(folder: Path) -> list[Migration]:
    """The files of a folder in order; a file with another kind of name is refused rather than skipped."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        if not _FILE_NAME.fullmatch(path.name):
            raise MigrationRefused(f"{path} is no migration name: use four digits, _, small letters, .sql")
        content = path.read_bytes()
        found.append(Migration(path.name, content.decode(), hashlib.sha256(content).hexdigest()))
    numbers = [migration.name[:4] for migration in found]
    if len(set(numbers)) != len(numbers):
        raise MigrationRefused(f"two migrations in {folder} have the same number: {', '.join(m.name for m in found)}")
    return found


async def migrate(superuser_dsn: str, folder: Path | None = None) -> list[str]:
    """Apply what is missing. Returns the names of the files applied now; empty when there was nothing to do.

    Raises ``MigrationRefused`` if an applied file has changed or is gone, before anything is applied.
    """
    wanted = load_migrations(folder or migrations_folder())
    connection = await asyncpg.connect(superuser_dsn)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS applied_migration (name text PRIMARY KEY, sha256 text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        rows = await connection.fetch("SELECT name, sha256 FROM applied_migration")
        applied = {str(row["name"]): str(row["sha256"]) for row in rows}
        _refuse_changed(wanted, applied)
        missing = [migration for migration in wanted if migration.name not in applied]
        for migration in missing:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO applied_migration (name, sha256) VALUES ($1, $2)", migration.name, migration.sha256
                )
        return [migration.name for migration in missing]
    finally:
        await connection.close()


async def create_database(superuser_dsn: str) -> None:
    """Make the database ``tapeline`` on a server that lacks it."""
    connection = await asyncpg.connect(superuser_dsn)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = 'tapeline'"):
            await connection.execute("CREATE DATABASE tapeline")
    finally:
        await connection.close()


def in_tapeline(dsn: str) -> str:
    """The same server and user, database ``tapeline``."""
    return dsn.rpartition("/")[0] + "/tapeline"


async def set_passwords(superuser_dsn: str, passwords: Mapping[str, str]) -> None:
    """Give the login roles (``ROLES``) their passwords; they are stored as SCRAM verifiers."""
    connection = await asyncpg.connect(superuser_dsn)
    try:
        for role, password in passwords.items():
            if role not in ROLES:
                raise MigrationRefused(f"role {role!r} has no password: the login roles are {', '.join(ROLES)}")
            # ALTER ROLE takes no parameters, so Postgres itself does the quoting.
            statement = await connection.fetchval(
                "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", role, password
            )
            await connection.execute(statement)
    finally:
        await connection.close()


def _refuse_changed(wanted: list[Migration], applied: dict[str, str]) -> None:
    present = {migration.name: migration.sha256 for migration in wanted}
    for name, sha256 in sorted(applied.items()):
        if name not in present:
            raise MigrationRefused(f"migration {name} was applied and its file is gone: restore the file")
        if present[name] != sha256:
            raise MigrationRefused(f"migration {name} was changed after it was applied: restore it, add a new file")
    newest = max(applied, default="")
    for migration in wanted:
        if migration.name < newest and migration.name not in applied:
            raise MigrationRefused(f"migration {migration.name} comes before {newest}, which is applied: renumber it")
