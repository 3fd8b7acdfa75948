"""A backup is a verified prefix of the tape, and nothing that is not one is restored."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from tapeline_common import tape_file_format as form
from tapeline_common.events import HaltRequested, RunStarted
from tapeline_common.tape import Page, ReadRequest
from tapeline_common.tape_file import TapeFile
from tapeline_common.tape_file_verify import verify_file
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.tape_pages import ChainBroken
from tapeline_common.values import Realm
from tapeline_common.wire import GENESIS, Answer, Draft, chain_all
from tapeline_ledger import backup
from tapeline_ledger.backup import BackupRefused, Manifest, back_up, keys_of, read_manifest
from tapeline_ledger.restore import RestoreRefused, checked, refuse_used

STARTED = RunStarted("paper", "a1b2", Realm.LIVE, 7, "USDT", "0.1.0+abc")
CONFIG = "[run]\nname = 'paper'\n"
KEYS = {"keys/operator.nk": "SUexample\n", "secrets/ledger-password": "orchid\n"}


STRIDE = 7
"""Bytes between two that are changed: every part of a file is hit many times, in a tenth of the time."""


def say(tape: MemoryTape, event: HaltRequested | RunStarted, identity: str) -> None:
    assert tape.record("operator", Answer(0, (Draft(event, identity),))).ok


def tape_of(facts: int, started: RunStarted = STARTED) -> MemoryTape:
    tape = MemoryTape()
    say(tape, started, "run#1")
    for number in range(2, facts + 1):
        say(tape, HaltRequested("mara", f"drill {number}"), f"halt-{number}")
    return tape


async def written(path: Path, tape: MemoryTape, **changes: object) -> Manifest:
    given: dict[str, object] = {"made": "2026-11-21T12:00:00+00:00", "code": "0.1.0+abc", "config": CONFIG, "keys": {}}
    return await back_up(tape.read, path, **{**given, **changes})  # type: ignore[arg-type]


async def test_a_backup_is_the_tape_and_says_so(tmp_path: Path) -> None:
    """Every byte of every fact, a head that agrees, and a manifest that a restore accepts."""
    tape, file = tape_of(40), tmp_path / "a.tape"
    manifest = await written(file, tape, keys=KEYS)
    head = tape.records[-1].hash.hex()
    assert manifest == Manifest(
        backup.KIND, "2026-11-21T12:00:00+00:00", "0.1.0+abc", "a1b2", "paper", 40, head, CONFIG, KEYS
    )
    with TapeFile(file) as found:
        assert [line for index in range(len(found.segments)) for line in found.lines(index)] == [
            record.payload for record in tape.records
        ]
        assert read_manifest(found.attachment) == manifest
    assert checked(file) == manifest
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.tape"]


async def test_what_is_recorded_meanwhile_stays_out(tmp_path: Path) -> None:
    """The head at the start is the end of the backup, however the tape grows while it is read."""
    tape, file = tape_of(30), tmp_path / "a.tape"

    async def read(request: ReadRequest) -> Page:
        page = await tape.read(request)
        say(tape, HaltRequested("mara", "meanwhile"), f"meanwhile-{len(tape.records)}")
        return page

    manifest = await back_up(read, file, made="", code="", config="", keys={})
    assert (manifest.facts, manifest.hash) == (30, tape.records[29].hash.hex())
    assert verify_file(file).facts == 30


async def test_a_tape_that_does_not_verify_is_not_backed_up(tmp_path: Path) -> None:
    """A fact changed in the log stops the backup, and no file is left that looks like one."""
    tape = tape_of(30)

    async def read(request: ReadRequest) -> Page:
        page = await tape.read(request)
        facts = tuple(payload.replace(b"drill 12", b"drill 21") for payload in page.facts)
        return Page(facts, page.through, page.head, page.hash)

    with pytest.raises(ChainBroken, match="from 1 to"):
        await back_up(read, tmp_path / "a.tape", made="", code="", config="", keys={})
    assert list(tmp_path.iterdir()) == []


async def test_an_existing_file_is_replaced_only_on_request_and_only_a_tape(tmp_path: Path) -> None:
    """Refused without force; with it an older backup gives way, and a file of another kind never does."""
    file, other = tmp_path / "a.tape", tmp_path / "letter.txt"
    await written(file, tape_of(10))
    with pytest.raises(BackupRefused, match="is there already"):
        await written(file, tape_of(20))
    assert (await written(file, tape_of(20), force=True)).facts == checked(file).facts == 20
    other.write_text("dear diary")
    with pytest.raises(BackupRefused, match="no tape file"):
        await written(other, tape_of(10), force=True)
    assert other.read_text() == "dear diary"


async def test_an_empty_tape_and_one_without_a_run_are_refused(tmp_path: Path) -> None:
    """Nothing to back up, and nothing that a stack could go on from."""
    with pytest.raises(BackupRefused, match="empty"):
        await written(tmp_path / "a.tape", MemoryTape())
    nameless = MemoryTape()
    say(nameless, HaltRequested("mara", "drill"), "halt-1")
    with pytest.raises(BackupRefused, match="RunStarted"):
        await written(tmp_path / "a.tape", nameless)


def small_segments(path: Path, source: MemoryTape, **changes: object) -> Manifest:
    """A backup of several segments, made by hand so that parts of it can be wrong."""
    head = source.records[-1]
    manifest = Manifest(backup.KIND, "", "0.1.0+abc", "a1b2", "paper", head.fact.pos, head.hash.hex())
    manifest = replace(manifest, **changes)
    with TapeWriter(path, replace=True, segment_bytes=600, attachment=msgspec.json.encode(manifest)) as writer:
        for record in source.records:
            writer.take(record)
    return manifest


def test_every_flipped_bit_of_a_backup_is_refused(tmp_path: Path) -> None:
    """Wherever a byte changes, in the manifest, a description, the facts or the end, nothing is restored."""
    file = tmp_path / "a.tape"
    manifest = small_segments(file, tape_of(12))
    whole = file.read_bytes()
    assert checked(file) == manifest
    for place in range(0, len(whole), STRIDE):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(RestoreRefused):
            checked(file)


def test_every_cut_tail_is_refused_and_says_how_far_it_is_right(tmp_path: Path) -> None:
    """However much is missing; where facts can still be read, the message names the first position that cannot."""
    file = tmp_path / "a.tape"
    small_segments(file, tape_of(12))
    whole = file.read_bytes()
    with TapeFile(file) as tape:
        second = tape.segments[1]
    for size in range(0, len(whole), STRIDE):
        file.write_bytes(whole[:size])
        with pytest.raises(RestoreRefused):
            checked(file)
    file.write_bytes(whole[: second.offset])
    with pytest.raises(RestoreRefused, match=rf"position {second.first} is wrong .* of 12 facts|Of 12 facts"):
        checked(file)


def _swapped(whole: bytes, file: Path) -> bytes:
    """Two segments changed places, and the descriptions rewritten so that only the facts tell."""
    with TapeFile(file) as tape:
        first, second = tape.segments[0], tape.segments[1]
        start = first.offset
        stop = second.offset + len(form.segment_frame(second)) + second.packed
    middle = second.offset
    return whole[:start] + whole[middle:stop] + whole[start:middle] + whole[stop:]


def _twice(whole: bytes, file: Path) -> bytes:
    """A segment stands there two times."""
    with TapeFile(file) as tape:
        second = tape.segments[1]
        stop = second.offset + len(form.segment_frame(second)) + second.packed
    return whole[:stop] + whole[second.offset : stop] + whole[stop:]


def _without(whole: bytes, file: Path) -> bytes:
    """A segment is missing."""
    with TapeFile(file) as tape:
        second = tape.segments[1]
        stop = second.offset + len(form.segment_frame(second)) + second.packed
    return whole[: second.offset] + whole[stop:]


@pytest.mark.parametrize("mutate", [_swapped, _twice, _without])
def test_a_segment_out_of_place_is_refused(mutate: Callable[[bytes, Path], bytes], tmp_path: Path) -> None:
    """Swapped, doubled or missing segments, each unharmed in itself, are no tape."""
    file = tmp_path / "a.tape"
    small_segments(file, tape_of(20))
    file.write_bytes(mutate(file.read_bytes(), file))
    with pytest.raises(RestoreRefused):
        checked(file)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"facts": 11}, "ends at position 11"),
        ({"hash": "00" * 32}, "with hash 0000"),
        ({"tape": "other"}, "does not begin with the live run other"),
    ],
)
def test_a_manifest_that_speaks_of_another_tape_is_refused(
    changes: dict[str, object], says: str, tmp_path: Path
) -> None:
    """A sound tape below a manifest of another one: whoever attached it, nothing is restored."""
    file = tmp_path / "a.tape"
    small_segments(file, tape_of(12), **changes)
    with pytest.raises(RestoreRefused, match=says):
        checked(file)


def test_a_replays_tape_is_refused(tmp_path: Path) -> None:
    """A backtest's facts are nobody's money: a stack does not go on from them."""
    file = tmp_path / "a.tape"
    small_segments(file, tape_of(12, replace(STARTED, realm=Realm.REPLAY)))
    with pytest.raises(RestoreRefused, match="live run"):
        checked(file)


def test_a_recorded_backtest_is_no_backup(tmp_path: Path) -> None:
    """A whole tape file without a manifest is told apart."""
    file = tmp_path / "a.tape"
    with TapeWriter(file) as writer:
        for record in tape_of(12).records:
            writer.take(record)
    with pytest.raises(RestoreRefused, match="no backup"):
        checked(file)
    with pytest.raises(RestoreRefused, match="cannot be read"):
        checked(tmp_path / "nowhere.tape")


def test_a_fact_of_another_version_is_refused_with_its_position(tmp_path: Path) -> None:
    """Events that this code does not know: the message names the first, and the version that wrote the backup."""
    file = tmp_path / "a.tape"
    tape = tape_of(12)
    payloads = [record.payload for record in tape.records]
    payloads[6] = payloads[6].replace(b'"HaltRequested"', b'"NapRequested"')
    manifest = Manifest(backup.KIND, "", "9.9.9+fff", "a1b2", "paper", 12, "")
    manifest = replace(manifest, hash=chain_all(GENESIS, payloads).hex())
    with TapeWriter(file, attachment=msgspec.json.encode(manifest)) as writer:
        writer.take_block(b"".join(payloads), [len(payload) for payload in payloads])
    with pytest.raises(RestoreRefused, match=r"position 7.*9\.9\.9\+fff"):
        checked(file)


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    """A tape is never mixed with another; an empty folder and none at all will do."""
    refuse_used(tmp_path / "new")
    refuse_used(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(RestoreRefused, match=r"not empty \(there is notes\.txt\)"):
        refuse_used(tmp_path)
    (tmp_path / "postgres").mkdir()
    with pytest.raises(RestoreRefused, match="has a tape"):
        refuse_used(tmp_path)


def test_keys_are_found_and_what_follows_from_them_is_not(tmp_path: Path) -> None:
    """Seeds and passwords, by their place; connection strings name ports and are written anew."""
    for name in ("keys/operator.nk", "keys/.partial", "secrets/tape", "secrets/owner-dsn", "secrets/signer-public"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert keys_of(tmp_path) == {"keys/operator.nk": "keys/operator.nk", "secrets/tape": "secrets/tape"}
    assert keys_of(tmp_path / "nowhere") == {}


def test_a_file_without_an_attachment_keeps_its_bytes(tmp_path: Path) -> None:
    """What `backtest --record` writes is what it was before files could have an attachment."""
    file = tmp_path / "a.tape"
    with TapeWriter(file) as writer:
        writer.take(tape_of(1).records[0])
    with TapeFile(file) as tape:
        assert tape.attachment == b""
        assert tape.segments[0].offset == len(form.HEAD)
