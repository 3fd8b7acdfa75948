"""``tapeline backup | restore | rotate-keys``: keeping the tape elsewhere, putting it back, and changing the locks."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import click
import msgspec

from tapeline_common.commands_shared import as_json, fail, write_json
from tapeline_common.embedded import STARTED_WITH, running_stack
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_NOT_RUNNING, EXIT_TIMEOUT, EXIT_USAGE
from tapeline_common.operator_client import operator
from tapeline_common.recording import RecordingFailed, RecordingRefused
from tapeline_common.servers import ServerFailed
from tapeline_common.tape import TapeUnavailable
from tapeline_common.tape_pages import ChainBroken, Read
from tapeline_common.version import code_version
from tapeline_ledger.at_rest import at_rest, postgres_of
from tapeline_ledger.backup import BackupRefused, Manifest, Progress, back_up, keys_of
from tapeline_ledger.restore import (
    Restored,
    RestoreFailed,
    RestoreRefused,
    checked,
    refuse_used,
    restore_database,
    restore_folder,
)
from tapeline_ledger.rotation import rotate_keys
from tapeline_ledger.store import Store

T = TypeVar("T")

TELL_EVERY_S = 2.0

_data = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".tapeline"),
    show_default=True,
    help="Data folder of the stack.",
)
_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))

_TROUBLE = (
    BackupRefused,
    RestoreFailed,
    RecordingFailed,
    RecordingRefused,
    ChainBroken,
    ServerFailed,
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
)


@click.command("backup")
@_file
@_data
@click.option("--dsn-file", type=click.Path(path_type=Path), help="Read from the database of this connection string.")
@click.option("--nats", is_flag=True, help="Read through the running ledger, as the operator, and not from Postgres.")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration to keep [default: of the last start].")
@click.option("--with-keys", is_flag=True, help="Keep the data folder's keys and passwords, too.")
@click.option("--force", is_flag=True, help="Replace a tape file that is there.")
@as_json
def backup_command(
    file: Path,
    data: Path,
    dsn_file: Path | None,
    nats: bool,
    config: Path | None,
    with_keys: bool,
    force: bool,
    to_json: bool,
) -> None:
    """Write the whole tape, verified, to FILE, while the stack trades or while it is stopped."""
    if dsn_file is not None and (nats or with_keys):
        fail("--dsn-file names a database alone: leave --nats and --with-keys out", EXIT_USAGE)
    started = time.monotonic()
    keys = keys_of(data) if with_keys else {}

    async def work() -> Manifest:
        async with _tape(data, dsn_file, nats) as read:
            return await back_up(
                read,
                file,
                made=datetime.now(UTC).isoformat(timespec="seconds"),  # noqa: TID251  (dates the file)
                code=code_version(),
                config=_config_text(data, dsn_file, config),
                keys=keys,
                force=force,
                progress=_teller("backed up"),
            )

    manifest = _run(work())
    size, elapsed_s = file.stat().st_size, time.monotonic() - started
    if to_json:
        write_json({**_described(manifest), "file": str(file), "bytes": size, "elapsed_s": round(elapsed_s, 3)})
        return
    click.echo(f"{manifest.facts} facts of tape {manifest.tape} in {file}, {size / 2**20:.1f} MiB, {elapsed_s:.1f} s")
    click.echo(f"chain verified, head {manifest.hash}")
    if keys:
        click.echo(f"it holds {len(keys)} keys and passwords: whoever reads it can trade; keep it as you keep them")
    if not manifest.config:
        click.echo("it holds no configuration (none is known): keep that yourself, or name it with --config", err=True)


@click.command("restore")
@_file
@_data
@click.option(
    "--dsn-file", type=click.Path(path_type=Path), help="Fill the empty database of this superuser's connection string."
)
@click.option("--check", "only_check", is_flag=True, help="Only verify the backup; nothing is written.")
@as_json
def restore_command(file: Path, data: Path, dsn_file: Path | None, only_check: bool, to_json: bool) -> None:
    """Make a data folder of the backup in FILE, and prove that it is the same tape."""
    try:
        if dsn_file is None and not only_check:
            refuse_used(data)
        manifest = checked(file)
    except RestoreRefused as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    if only_check:
        write_json(_described(manifest)) if to_json else click.echo(
            f"{manifest.facts} facts of tape {manifest.tape} verified, head {manifest.hash}; made {manifest.made}"
        )
        return
    progress = _teller("restored")
    if dsn_file is None:
        restored = _run(restore_folder(file, manifest, data, progress))
    else:
        restored = _run(restore_database(file, manifest, _text_of(dsn_file), progress))
    if to_json:
        place = {"folder": str(data)} if dsn_file is None else {"folder": None}
        write_json({**_described(manifest), **place, "rows": restored.rows})
        return
    _tell_restored(manifest, restored, None if dsn_file is not None else data)


def _tell_restored(manifest: Manifest, restored: Restored, folder: Path | None) -> None:
    rows = ", ".join(f"{name} {count}" for name, count in restored.rows.items())
    click.echo(f"{restored.facts} facts of tape {manifest.tape} restored, as of {manifest.made}")
    click.echo(f"chain verified, head {restored.head_hash}")
    click.echo(f"projections refolded and equal: {rows}")
    click.echo(
        "Never let two copies of this tape trade: make sure that the stack it was taken from will not start again. "
        "What that stack recorded after the backup is not here.",
        err=True,
    )
    if not manifest.keys:
        click.echo(
            "The backup holds no keys: the next start draws new ones, and the old operator's key has no power over it.",
            err=True,
        )
    if manifest.code != code_version():
        click.echo(f"Backed up by {manifest.code}, restored by {code_version()}: the tape will say so.", err=True)
    if folder is not None:
        click.echo(f"go on with: tapeline up --data {folder}")


@click.command("rotate-keys")
@_data
@as_json
def rotate_keys_command(data: Path, to_json: bool) -> None:
    """Draw every key and password of a stopped stack anew; the old ones open nothing any more."""
    if running_stack(data) is not None:
        fail(f"a stack runs on {data}: stop it first, its processes hold the old keys", EXIT_ERROR)
    if not at_rest(data):
        fail(f"{data} holds no stack: name its data folder with --data", EXIT_NOT_RUNNING)
    changed = _run(rotate_keys(data))
    if to_json:
        write_json({"changed": changed})
        return
    click.echo(f"drawn anew: {', '.join(changed)}")
    click.echo(f"copies of the old keys are worthless now; go on with: tapeline up --data {data}")


def _described(manifest: Manifest) -> dict[str, Any]:
    """A manifest for programs, without secrets and without the configuration's text."""
    described: dict[str, Any] = msgspec.to_builtins(manifest)
    described["keys"] = len(manifest.keys)
    described["config"] = bool(manifest.config)
    return described


@asynccontextmanager
async def _tape(data: Path, dsn_file: Path | None, nats: bool) -> AsyncIterator[Read]:
    """Where facts are read from: a named database, the running stack, or the folder of a stopped one."""
    running = running_stack(data) is not None
    if nats:
        if not running:
            fail(
                f"nothing runs on {data}: leave --nats out, a stopped stack's database is started for this",
                EXIT_NOT_RUNNING,
            )
        async with operator(data) as client:
            yield client.tape.read
        return
    if dsn_file is None and not running:
        if not at_rest(data):
            fail(f"{data} holds no tape: name its data folder with --data, or --dsn-file", EXIT_NOT_RUNNING)
        async with postgres_of(data) as access, _looking(access.ledger) as read:
            yield read
        return
    async with _looking(_text_of(dsn_file or data / "secrets" / "ledger-dsn")) as read:
        yield read


@asynccontextmanager
async def _looking(dsn: str) -> AsyncIterator[Read]:
    store = await Store.look(dsn, lambda what: click.echo(what, err=True))
    try:
        yield store.read
    finally:
        await store.close()


def _config_text(data: Path, dsn_file: Path | None, config: Path | None) -> str:
    if config is not None:
        return _text_of(config)
    remembered = data / STARTED_WITH
    return remembered.read_text(encoding="utf-8") if dsn_file is None and remembered.exists() else ""


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as trouble:
        fail(f"{path} cannot be read ({trouble.strerror})", EXIT_CONFIGURATION)


def _teller(what: str) -> Progress:
    """Says now and then how far the work is, on standard error."""
    last_s = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= TELL_EVERY_S:
            last_s = now_s
            click.echo(f"{what} {done:,} of {of:,} facts ({done / of:.0%})", err=True)

    return tell


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Do it; expected trouble ends the command with one message."""
    try:
        return asyncio.run(work)
    except RestoreRefused as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    except (TapeUnavailable, TimeoutError) as trouble:
        fail(f"the ledger did not answer in time: {trouble}", EXIT_TIMEOUT)
    except _TROUBLE as trouble:
        fail(str(trouble), EXIT_ERROR)
    except KeyboardInterrupt:
        click.echo("interrupted: nothing was left behind", err=True)
        sys.exit(130)
