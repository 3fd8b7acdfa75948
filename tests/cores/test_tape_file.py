"""Tape files: what is refused, what a failing run or disk leaves behind, and which changes verification tells apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.tape_files import NOON_NS, numbered, payloads_of, read, write

from tapeline_common import tape_file_format as form
from tapeline_common.recording import RecordingFailed, RecordingRefused
from tapeline_common.sequencer import Recorded
from tapeline_common.tape_file import Ending, TapeDamaged, TapeFile, TapeFileUnreadable
from tapeline_common.tape_file_verify import verify_file
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_common.verification import FirstFault, VerifyFault
from tapeline_common.wire import GENESIS, chain, chain_naive, encode

RECORDS = numbered(40)

ENDLESS = """
import sys
from pathlib import Path
from tests.tape_files import numbered
from tapeline_common.tape_file_writer import TapeWriter

writer = TapeWriter(Path(sys.argv[1]), segment_bytes=600)
for recorded in numbered(100_000):
    writer.take(recorded)
    if recorded.fact.pos == 300:
        print("far enough", flush=True)
"""


def take_all(writer: TapeWriter, records: Sequence[Recorded], then: Callable[[], object] = lambda: None) -> None:
    for recorded in records:
        writer.take(recorded)
    then()


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    """Without ``replace`` nothing is overwritten; with it a tape file is, and the new one is whole."""
    path = write(tmp_path / "run.tape", RECORDS)
    with pytest.raises(RecordingRefused, match=r"run\.tape is there already.*--force"):
        TapeWriter(path)
    assert read(path) == payloads_of(RECORDS)
    assert read(write(path, RECORDS[:2])) == payloads_of(RECORDS[:2])


def test_only_tape_files_are_replaced(tmp_path: Path) -> None:
    """A mistyped name costs nobody his data: what is no tape file is never overwritten."""
    path = tmp_path / "bars.parquet"
    path.write_bytes(b"PAR1 and a year of minutes")
    with pytest.raises(RecordingRefused, match=r"bars\.parquet is no tape file"):
        TapeWriter(path, replace=True)
    assert path.read_bytes() == b"PAR1 and a year of minutes"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """The folder is not made: a mistyped one should not fill with tapes."""
    with pytest.raises(RecordingRefused, match=r"there is no folder .*nowhere"):
        TapeWriter(tmp_path / "nowhere" / "run.tape")


def test_a_full_disk_at_the_start_is_named() -> None:
    """The very first bytes fail: refused before the run begins."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(RecordingRefused, match=r"/dev/full cannot be written .*space"):
        TapeWriter(Path("/dev/full"), replace=True)


def test_a_disk_that_fills_up_leaves_a_readable_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the failing write on the run is told, and what was written before can be read."""
    path = tmp_path / "run.tape"
    writer = TapeWriter(path, segment_bytes=600)
    written = writer._file.write

    class Filling:
        """A disk with room for two kilobytes, which takes half of the write that does not fit."""

        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def write(self, data: memoryview) -> int:
            room = 2_000 - file.tell()
            if room <= 0:
                raise OSError(28, "No space left on device")
            return written(data[:room])

    file = writer._file
    writer._file = Filling()
    with pytest.raises(RecordingFailed, match=r"No space left on device.*up to position"), writer:
        take_all(writer, RECORDS)
    with TapeFile(path) as tape:
        assert tape.ending is Ending.MISSING
        assert 0 < tape.head < len(RECORDS)
        assert tape.whole == tape.size, "the part of a segment that fitted was taken back"
        head = tape.head
    assert read(path) == payloads_of(RECORDS[:head])


def test_a_slow_disk_holds_the_run_up(tmp_path: Path) -> None:
    """Memory stays bounded: with the disk standing still, so does the run, a few segments ahead; nothing is lost."""
    path = tmp_path / "run.tape"
    records = numbered(400)
    writer = TapeWriter(path, segment_bytes=600)
    file, going = writer._file, threading.Event()

    class Standing:
        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def write(self, data: memoryview) -> int:
            going.wait()
            return file.write(data)

    writer._file = Standing()
    taken: list[int] = []
    run = threading.Thread(target=lambda: [taken.append(one.fact.pos) for one in records if not writer.take(one)])
    run.start()
    while not writer._queue.full():
        run.join(0.01)
    assert len(taken) < 60
    going.set()
    run.join()
    writer.close()
    assert read(path) == payloads_of(records)


def test_an_exception_loses_nothing(tmp_path: Path) -> None:
    """A run that fails keeps every fact it had recorded; the file says that it has no end."""
    path = tmp_path / "run.tape"
    with pytest.raises(ZeroDivisionError), TapeWriter(path, segment_bytes=600) as writer:
        take_all(writer, RECORDS[:31], then=lambda: 1 // 0)
    assert read(path) == payloads_of(RECORDS[:31])
    assert verify_file(path).fault == FirstFault(32, VerifyFault.END_MISSING, TapeFile(path).warning)


def test_an_interrupt_in_the_middle_of_a_fact_costs_that_fact_only(tmp_path: Path) -> None:
    """Ctrl-C can come between any two steps of ``take``: half a line does not count, and the chain is right."""
    path = tmp_path / "run.tape"
    writer = TapeWriter(path)
    take_all(writer, RECORDS[:9])
    writer._buffer += RECORDS[9].payload
    writer.abandon()
    result = verify_file(path)
    assert (result.facts, result.head_hash) == (9, RECORDS[8].hash)
    assert result.fault is not None
    assert result.fault.reason is VerifyFault.END_MISSING


def test_a_killed_writer_leaves_a_readable_prefix(tmp_path: Path) -> None:
    """``kill -9`` in the middle of writing: whole segments are read, their chain is right, the missing end is said."""
    path = tmp_path / "run.tape"
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"far enough\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    result = verify_file(path)
    assert result.fault is not None
    assert (result.fault.pos, result.fault.reason) == (result.facts + 1, VerifyFault.END_MISSING)
    assert result.facts > 0
    assert read(path) == payloads_of(numbered(result.facts))
    assert chain_naive(read(path)) == result.head_hash


def test_facts_out_of_order_are_a_bug(tmp_path: Path) -> None:
    """The writer trusts the gear for hashes, not for positions: a gap stops it."""
    with pytest.raises(AssertionError, match="position 3 does not follow 0"):
        write(tmp_path / "run.tape", RECORDS[2:])
    with pytest.raises(AssertionError, match="positions 1 to 3 are 2 lines"):
        write(tmp_path / "run.tape", [RECORDS[0], RECORDS[2]], segment_bytes=5_000)


def forged(change: Callable[[Any], Any]) -> list[Recorded]:
    """The tape with its 20th fact changed and everything chained anew, as somebody would who owns the file."""
    records, head = [], GENESIS
    for recorded in RECORDS:
        fact = change(recorded.fact) if recorded.fact.pos == 20 else recorded.fact
        payload = encode(fact)
        head = chain(head, payload)
        records.append(Recorded(fact, payload, head))
    return records


def test_a_stream_version_that_jumps_is_named(tmp_path: Path) -> None:
    """A tape that was never one: the exact position, although the chain is right."""
    path = write(tmp_path / "run.tape", forged(lambda fact: msgspec.structs.replace(fact, version=21)))
    fault = FirstFault(20, VerifyFault.VERSION_WRONG, "stream run goes from version 19 to 21")
    assert verify_file(path).fault == fault
    assert verify_file(path).facts == 19


def test_a_changed_fact_under_an_old_hash_is_named(tmp_path: Path) -> None:
    """Checksums made anew do not help: the chain does not lead to the recorded hash, from that segment on."""
    forgery = forged(lambda fact: msgspec.structs.replace(fact, time_ns=NOON_NS))
    records = [Recorded(new.fact, new.payload, old.hash) for new, old in zip(forgery, RECORDS, strict=True)]
    path = write(tmp_path / "run.tape", records)
    result = verify_file(path)
    assert result.fault is not None
    assert result.fault.reason is VerifyFault.HASH_WRONG
    with TapeFile(path) as tape:
        segment = next(one for one in tape.segments if one.first <= 20 <= one.last)
    assert (result.facts, result.fault.pos) == (segment.first - 1, segment.first)


def test_a_payload_that_is_no_fact_is_named(tmp_path: Path) -> None:
    """Bytes that are chained but cannot be decoded: the position of the line."""
    payload = RECORDS[19].payload.replace(b'"version":20', b'"version":"x"')
    records, head = [], GENESIS
    for recorded in RECORDS:
        said = payload if recorded.fact.pos == 20 else recorded.payload
        head = chain(head, said)
        records.append(Recorded(recorded.fact, said, head))
    fault = verify_file(write(tmp_path / "run.tape", records)).fault
    assert fault is not None
    assert (fault.pos, fault.reason) == (20, VerifyFault.PAYLOAD_UNREADABLE)


def test_reading_a_damaged_segment_names_it_and_spares_the_others(tmp_path: Path) -> None:
    """A flipped byte is found by the read that meets it; segments before and after can still be read."""
    path = write(tmp_path / "run.tape", RECORDS)
    with TapeFile(path) as tape:
        bad = tape.segments[3]
    data = bytearray(path.read_bytes())
    data[bad.offset + len(form.segment_frame(bad)) + bad.packed // 2] ^= 0x04
    path.write_bytes(data)
    with TapeFile(path) as tape:
        assert tape.lines(2) == payloads_of(RECORDS[tape.segments[2].first - 1 : tape.segments[2].last])
        assert tape.lines(4) == payloads_of(RECORDS[tape.segments[4].first - 1 : tape.segments[4].last])
        with pytest.raises(TapeDamaged, match=f"position {bad.first} cannot be read") as raised:
            tape.lines(3)
    assert raised.value.pos == bad.first


def test_another_format_is_refused_with_the_fix(tmp_path: Path) -> None:
    """A file of a later format is not guessed at."""
    path = write(tmp_path / "run.tape", RECORDS)
    path.write_bytes(path.read_bytes().replace(b'"format":1', b'"format":2', 1))
    with pytest.raises(TapeFileUnreadable, match="tape format 2, this code reads 1: use the version"):
        TapeFile(path)


def test_an_empty_run_is_a_whole_file(tmp_path: Path) -> None:
    """Nothing recorded, and that is certain: the file has an end."""
    result = verify_file(write(tmp_path / "run.tape", []))
    assert (result.facts, result.head_hash, result.fault) == (0, GENESIS, None)
