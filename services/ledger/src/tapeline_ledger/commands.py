"""``tapeline migrate | verify | rebuild``: looking after the tape's database.

Each takes the connection string from a file, so that no password stands on a command line. For reading (``verify``,
``rebuild``) it is the one of the environment, if that names one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

import asyncpg
import click

from tapeline_common.commands_shared import as_json, fail, tape_option, write_json
from tapeline_common.embedded import running_stack
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_NOT_RUNNING, EXIT_USAGE
from tapeline_common.servers import ServerFailed
from tapeline_common.tape_file import TapeFileUnreadable
from tapeline_common.tape_file_verify import verify_file
from tapeline_common.verification import VerifyResult
from tapeline_ledger.at_rest import at_rest, postgres_of
from tapeline_ledger.migrate import MigrationRefused, create_database, in_tapeline, migrate, set_passwords
from tapeline_ledger.rebuild import LedgerRunning, rebuild
from tapeline_ledger.verify import verify

_CONNECTION = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

_data = click.option(
    "--data", type=click.Path(path_type=Path), default=Path(".tapeline"), show_default=True, help="Data folder."
)
_dsn_file = click.option("--dsn-file", type=click.Path(path_type=Path), help="File with the connection string.")


def _for_reading(dsn_file: Path | None) -> Path | None:
    """The file given, else the environment's: what ``tapeline provision`` gave the operator's container."""
    provisioned = os.environ.get("TAPELINE_DSN_FILE", "")
    return Path(provisioned) if dsn_file is None and provisioned else dsn_file


def _dsn(data: Path, dsn_file: Path | None, secret: str) -> str:
    """The connection string: from the file given, else of the stack that runs on the data folder."""
    if dsn_file is None:
        if running_stack(data) is None:
            fail(
                f"nothing runs on {data}, so its Postgres is down: start `tapeline up`, or give --dsn-file",
                EXIT_NOT_RUNNING,
            )
        dsn_file = data / "secrets" / secret
    try:
        return dsn_file.read_text().strip()
    except OSError as trouble:
        fail(
            f"{dsn_file} cannot be read ({trouble.strerror}): it should hold a Postgres connection string",
            EXIT_CONFIGURATION,
        )


def _secret_in(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as trouble:
        fail(f"{file} cannot be read ({trouble.strerror}): it should hold a password", EXIT_CONFIGURATION)


@click.command("migrate")
@_data
@_dsn_file
@click.option("--ledger-password-file", type=click.Path(path_type=Path), help="Give the runtime role this password.")
@click.option("--reader-password-file", type=click.Path(path_type=Path), help="Give the reading role this password.")
@as_json
def migrate_command(
    data: Path,
    dsn_file: Path | None,
    ledger_password_file: Path | None,
    reader_password_file: Path | None,
    to_json: bool,
) -> None:
    """Create or update the database (forward only). Needs the owner's connection."""
    dsn = _dsn(data, dsn_file, "owner-dsn")
    files = {"tapeline_ledger": ledger_password_file, "tapeline_reader": reader_password_file}
    passwords = {role: _secret_in(file) for role, file in files.items() if file is not None}

    async def work() -> list[str]:
        await create_database(dsn)
        applied = await migrate(in_tapeline(dsn))
        await set_passwords(in_tapeline(dsn), passwords)
        return applied

    try:
        applied = asyncio.run(work())
    except MigrationRefused as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    except _CONNECTION as trouble:
        fail(f"the database does not answer as asked: {trouble}", EXIT_ERROR)
    write_json({"applied": applied}) if to_json else click.echo(
        f"applied {', '.join(applied) or 'nothing, up to date'}"
    )


@click.command("verify")
@_data
@_dsn_file
@tape_option
@as_json
def verify_command(data: Path, dsn_file: Path | None, tape_file: Path | None, to_json: bool) -> None:
    """Walk the hash chain; name the first position that is wrong, and end with exit code 1."""
    if dsn_file is not None and tape_file is not None:
        fail("--dsn-file and --tape name two tapes: give one of them", EXIT_USAGE)
    started = time.perf_counter()
    try:
        result = _verified(data, dsn_file, tape_file)
    except TapeFileUnreadable as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    except ServerFailed as trouble:
        fail(str(trouble), EXIT_ERROR)
    except _CONNECTION as trouble:
        fail(f"the database does not answer as asked: {trouble}", EXIT_ERROR)
    elapsed_s = time.perf_counter() - started
    fault = None if result.fault is None else asdict(result.fault)
    if to_json:
        write_json(
            {
                "facts": result.facts,
                "head_hash": result.head_hash.hex(),
                "fault": fault,
                "elapsed_s": round(elapsed_s, 3),
            }
        )
    elif result.fault is None:
        click.echo(f"{result.facts} facts verified in {elapsed_s:.2f} s, head {result.head_hash.hex()}")
    else:
        broken = result.fault
        click.echo(f"position {broken.pos} is wrong: {broken.reason}: {broken.detail}", err=True)
    sys.exit(EXIT_ERROR if fault else 0)


def _verified(data: Path, dsn_file: Path | None, tape_file: Path | None) -> VerifyResult:
    """Of a file, of a database, or of a data folder: its Postgres is started for this if nothing runs there."""
    if tape_file is not None:
        return verify_file(tape_file)
    dsn_file = _for_reading(dsn_file)
    if dsn_file is None and at_rest(data):
        return asyncio.run(_verify_at_rest(data))
    return asyncio.run(verify(_dsn(data, dsn_file, "ledger-dsn")))


async def _verify_at_rest(data: Path) -> VerifyResult:
    async with postgres_of(data) as access:
        return await verify(access.ledger)


@click.command("rebuild")
@_data
@_dsn_file
@click.option("--replace", is_flag=True, help="Store the refolded tables (the ledger must be stopped).")
@as_json
def rebuild_command(data: Path, dsn_file: Path | None, replace: bool, to_json: bool) -> None:
    """Fold every projection anew from the tape and compare it with what is stored."""
    try:
        result = asyncio.run(rebuild(_dsn(data, _for_reading(dsn_file), "ledger-dsn"), replace=replace))
    except LedgerRunning as trouble:
        fail(str(trouble), EXIT_ERROR)
    except _CONNECTION as trouble:
        fail(f"the database does not answer as asked: {trouble}", EXIT_ERROR)
    if to_json:
        write_json(asdict(result))
    else:
        rows = ", ".join(f"{name} {count}" for name, count in result.rows.items())
        click.echo(f"{result.facts} facts refolded: {rows}")
        for difference in result.differences:
            click.echo(
                f"{difference.table} differs: {difference.stored} stored rows, {difference.refolded} refolded", err=True
            )
        click.echo("the stored tables differ" if result.differences else "the stored tables agree")
    sys.exit(EXIT_ERROR if result.differences and not replace else 0)
