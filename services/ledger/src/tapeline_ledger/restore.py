"""Restore: a backup becomes a data folder, or fills an empty database, and is shown to be what was backed up.

Nothing is made before the whole file has been verified and understood by today's code. The log is written by the
ledger's own store, so rows, partitions and projections are those of a live log; then the chain is verified in the
database, and the projections are folded anew and compared. A folder is built in a corner of itself and put in place
last: a restore that is broken off leaves nothing that a stack could start on.

A restored stack has new keys unless the backup holds the old ones. Two stacks must never trade on copies of one tape;
nobody can check that here, so it is said.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tapeline_common.data_folder import write_secret
from tapeline_common.events import RunStarted
from tapeline_common.settings import CONFIG_NAME
from tapeline_common.tape_file import TapeDamaged, TapeFile, TapeFileUnreadable
from tapeline_common.tape_file_verify import verify_file
from tapeline_common.values import Realm
from tapeline_common.version import code_version
from tapeline_common.wire import decode_fact, decode_facts
from tapeline_ledger.at_rest import postgres_of
from tapeline_ledger.backup import Manifest, Progress, read_manifest
from tapeline_ledger.bulk import PostgresRecorder
from tapeline_ledger.migrate import create_database, in_tapeline
from tapeline_ledger.rebuild import rebuild
from tapeline_ledger.verify import verify

CORNER = ".restoring"
"""Where a folder is built; what a broken-off restore left there is thrown away."""

_KEY_PLACES = ("keys", "secrets")


class RestoreRefused(Exception):
    """The file or the place will not do; the message names the position and the fix. Nothing was changed."""


class RestoreFailed(Exception):
    """What was restored is not what was backed up. The place is not to be used."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back and proved: ``rows`` of the refolded projections by table."""

    facts: int
    head_hash: str
    rows: dict[str, int]


def checked(file: Path) -> Manifest:
    """Verify a whole backup and see that today's code can read it. Raises ``RestoreRefused``."""
    try:
        found = verify_file(file)
        with TapeFile(file) as tape:
            manifest = read_manifest(tape.attachment)
            if manifest is None:
                raise RestoreRefused(f"{file} is a tape file and no backup: `tapeline backup FILE` writes those")
            if found.fault is not None:
                raise RestoreRefused(
                    f"{file}: position {found.fault.pos} is wrong ({found.fault.reason}): {found.fault.detail}. "
                    f"Of {manifest.facts} facts {found.facts} are right; take another copy of this backup, or an "
                    "earlier one"
                )
            if (found.facts, found.head_hash.hex()) != (manifest.facts, manifest.hash):
                raise RestoreRefused(
                    f"{file} says that it ends at position {manifest.facts} with hash {manifest.hash}, but its facts "
                    f"end at {found.facts} with {found.head_hash.hex()}: take another copy of it"
                )
            _understand(file, tape, manifest)
    except (TapeFileUnreadable, TapeDamaged) as trouble:
        raise RestoreRefused(str(trouble)) from trouble
    return manifest


def _understand(file: Path, tape: TapeFile, manifest: Manifest) -> None:
    """Every fact decodes, and the first is that of a live run of this name."""
    for index, segment in enumerate(tape.segments):
        try:
            decode_facts(tape.lines(index))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pos = _first_unreadable(tape, index, segment.first)
            raise RestoreRefused(
                f"{file}: this code ({code_version()}) does not know the fact at position {pos}: "
                f"restore with the version that wrote the backup, {manifest.code}"
            ) from None
    first = decode_fact(tape.lines(0)[0]).event
    if not isinstance(first, RunStarted) or first.realm is not Realm.LIVE or first.tape != manifest.tape:
        raise RestoreRefused(f"{file} does not begin with the live run {manifest.tape}: nothing could go on from it")


def _first_unreadable(tape: TapeFile, index: int, first: int) -> int:
    for pos, payload in enumerate(tape.lines(index), first):
        try:
            decode_fact(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return pos
    return first


async def restore_folder(file: Path, manifest: Manifest, folder: Path, progress: Progress) -> Restored:
    """Make a data folder of a checked backup. Raises ``RestoreRefused`` or ``RestoreFailed``.

    Raises also what ``bulk.PostgresRecorder`` raises.
    """
    refuse_used(folder)
    corner = folder / CORNER
    shutil.rmtree(corner, ignore_errors=True)
    corner.mkdir(parents=True)
    try:
        _write_keys(corner, manifest)
        _record(file, corner, progress)
        async with postgres_of(corner) as access:
            restored = await _proved(access.ledger, manifest)
        if manifest.config:
            (corner / CONFIG_NAME).write_text(manifest.config, encoding="utf-8")
        # The database last: with it the folder has a tape.
        for part in sorted(corner.iterdir(), key=lambda part: part.name == "postgres"):
            part.rename(folder / part.name)
    finally:
        shutil.rmtree(corner, ignore_errors=True)
    return restored


def refuse_used(folder: Path) -> None:
    """Raise ``RestoreRefused`` unless the folder is empty or not there."""
    if folder.exists() and not folder.is_dir():
        raise RestoreRefused(f"{folder} is no folder: name another one with --data")
    found = sorted(path.name for path in folder.glob("*")) if folder.exists() else []
    if found:
        what = "has a tape" if (folder / "postgres").exists() else "is not empty"
        raise RestoreRefused(
            f"{folder} {what} (there is {', '.join(found[:4])}): move it away, or name another folder with --data"
        )


async def restore_database(file: Path, manifest: Manifest, superuser_dsn: str, progress: Progress) -> Restored:
    """Fill the empty database ``tapeline`` of a server from a checked backup; its ledger must be stopped."""
    await create_database(superuser_dsn)
    dsn = in_tapeline(superuser_dsn)
    _record(file, dsn, progress)
    return await _proved(dsn, manifest)


def _record(file: Path, place: Path | str, progress: Progress) -> None:
    """Write every fact into the log. The recorder verifies the whole log at its end."""
    recorder = PostgresRecorder(place, report=lambda _: None)
    try:
        with TapeFile(file) as tape:
            for index, segment in enumerate(tape.segments):
                payloads = tape.lines(index)
                recorder.take_block(
                    b"".join(payloads), [len(payload) for payload in payloads], bytes.fromhex(segment.hash)
                )
                progress(segment.last, tape.head)
    except BaseException:
        recorder.abandon()
        raise
    recorder.close()


async def _proved(dsn: str, manifest: Manifest) -> Restored:
    """The chain ends in the same hash, and the projections are the fold of the tape."""
    found = await verify(dsn)
    if found.fault is not None or (found.facts, found.head_hash.hex()) != (manifest.facts, manifest.hash):
        raise RestoreFailed(f"the restored chain ends at {found.facts} with {found.head_hash.hex()}: {found.fault}")
    folded = await rebuild(dsn)
    if folded.differences:
        raise RestoreFailed(f"restored tables differ from the fold of the tape: {folded.differences[0]}")
    return Restored(found.facts, found.head_hash.hex(), folded.rows)


def _write_keys(folder: Path, manifest: Manifest) -> None:
    """The backup's keys, and the tape's name, which a later start must find."""
    for path, text in manifest.keys.items():
        place, _, name = path.partition("/")
        if place not in _KEY_PLACES or not name or "/" in name or name.startswith("."):
            raise RestoreRefused(f"the backup holds a key for {path!r}, which is no place of a key: do not trust it")
        (folder / place).mkdir(mode=0o700, exist_ok=True)
        target = folder / place / name
        target.touch(mode=0o600)
        target.write_text(text)
    write_secret(folder, "tape", manifest.tape)
