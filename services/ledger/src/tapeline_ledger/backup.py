"""A backup: the whole tape as one tape file, with what else a stack needs to go on as the same account.

The facts are those up to the head at the start, whatever is recorded meanwhile: the log only grows, so any prefix is
consistent. They are read with the chain and verified as they come, the file is verified once more as it lies on the
disk, and only then gets its name. Every command that reads tape files reads it.

Attached to the file is a ``Manifest``: which tape this is, where it ends, the configuration it ran under and, if asked
for, the keys. Nothing else of a data folder is needed: projections are folds, models are on the tape, the mirror is
filled from the log. Putting it back is ``restore``.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from tapeline_common.events import RunStarted
from tapeline_common.tape import Page, ReadRequest
from tapeline_common.tape_file import TapeFile, TapeFileUnreadable
from tapeline_common.tape_file_verify import verify_file
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_common.tape_pages import READ_FACTS, Chain, Read, pages
from tapeline_common.whole_file import whole_file
from tapeline_common.wire import decode_fact

KIND = "tapeline backup"

DERIVED = ("ledger-dsn", "owner-dsn", "signer-public")
"""Files among the secrets that a start writes anew: they name ports, or follow from a key."""

Progress = Callable[[int, int], None]
"""Told how many facts are done, and of how many."""


class BackupRefused(Exception):
    """There is nothing to back up, or nowhere to put it; the message says why."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is attached to a backup.

    Attributes:
        made: when, ISO 8601 UTC; ``code`` is the version that made it.
        tape: the tape's own name, which its order ids contain; ``run`` is the name people gave it.
        facts: position of the last fact; ``hash`` of the chain after it, hexadecimal.
        config: text of the configuration file that the stack was last started with; empty if it is not known.
        keys: path in a data folder → text of a key or password; empty unless asked for.
    """

    kind: str
    made: str
    code: str
    tape: str
    run: str
    facts: int
    hash: str
    config: str = ""
    keys: dict[str, str] = {}


def read_manifest(attachment: bytes) -> Manifest | None:
    """None if these bytes are no manifest."""
    try:
        manifest = msgspec.json.decode(attachment, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return manifest if manifest.kind == KIND else None


def keys_of(folder: Path) -> dict[str, str]:
    """Every key and password of a data folder, by its path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for part in ("keys", "secrets")
        for path in sorted((folder / part).glob("*"))
        if path.is_file() and not path.name.startswith(".") and path.name not in DERIVED
    }


async def back_up(
    read: Read,
    file: Path,
    *,
    made: str,
    code: str,
    config: str,
    keys: dict[str, str],
    force: bool = False,
    progress: Progress = lambda _done, _of: None,
) -> Manifest:
    """Write a backup to ``file``, which appears whole or not at all, readable by its owner alone.

    Args:
        read: any tape's; chained reads are asked of it.

    Raises:
        BackupRefused: the tape is empty or no live one, or the file is there already (without ``force``).
        tape_pages.ChainBroken: the tape does not verify, so there is nothing worth keeping.
        recording.RecordingFailed: the disk did not take it.
    """
    _refuse_taken(file, force)
    manifest = await _manifest(read)
    manifest = replace(manifest, made=made, code=code, config=config, keys=keys)
    with whole_file(file, 0o600) as partial:
        await _write(read, partial, manifest, progress)
        written = verify_file(partial)
        if written.fault is not None or (written.facts, written.head_hash.hex()) != (manifest.facts, manifest.hash):
            raise BackupRefused(f"{file} was not written as it was read ({written.fault}): look at the disk")
    return manifest


def _refuse_taken(file: Path, force: bool) -> None:
    if not os.access(file.parent, os.W_OK | os.X_OK):
        raise BackupRefused(f"{file} cannot be made ({file.parent} cannot be written to): name another place")
    if not file.exists():
        return
    if not force:
        raise BackupRefused(f"{file} is there already: name another file, or replace it with --force")
    try:
        TapeFile(file).close()
    except TapeFileUnreadable:
        raise BackupRefused(f"{file} is no tape file, so it is not replaced: name another file") from None


async def _manifest(read: Read) -> Manifest:
    """What the tape says of itself, at the head that it has now."""
    head = (await read(ReadRequest(after=0, limit=1))).head
    if not head:
        raise BackupRefused("the tape is empty: there is nothing to back up")
    last = await read(ReadRequest(after=head - 1, limit=1, until=head, chained=True))
    first = await read(ReadRequest(after=0, limit=1, types=(RunStarted.__name__,), until=head))
    started = decode_fact(first.facts[0]).event if first.facts else None
    if not isinstance(started, RunStarted):
        raise BackupRefused("the tape does not say which run it is (RunStarted): it is no stack's")
    return Manifest(KIND, "", "", started.tape, started.run, head, last.hash.hex())


async def _write(read: Read, partial: Path, manifest: Manifest, progress: Progress) -> None:
    chain = Chain()
    with TapeWriter(partial, replace=True, attachment=msgspec.json.encode(manifest)) as writer:
        async for page in pages(_up_to(read, manifest.facts), ReadRequest(0, limit=READ_FACTS, chained=True)):
            chain.take(page)
            writer.take_block(b"".join(page.facts), [len(payload) for payload in page.facts], page.hash)
            progress(chain.pos, manifest.facts)


def _up_to(read: Read, head: int) -> Callable[[ReadRequest], Awaitable[Page]]:
    """The same tape as if it ended at ``head``."""

    async def clipped(request: ReadRequest) -> Page:
        page = await read(replace(request, until=min(request.until or head, head)))
        return Page(page.facts, page.through, head, page.hash)

    return clipped
