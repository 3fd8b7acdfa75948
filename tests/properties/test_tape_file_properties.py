"""Whatever is recorded comes back from a tape file, and whatever is done to the file is found."""

from __future__ import annotations

import io
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.tape_files import halts, numbered, payloads_of, read, write

from tapeline_common.tape import ReadRequest
from tapeline_common.tape_file import Ending, TapeFile, TapeFileUnreadable
from tapeline_common.tape_file_verify import verify_file
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_common.verification import VerifyResult
from tapeline_common.wire import GENESIS, chain_all, chain_naive, position_of

relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
reasons = st.lists(st.text(max_size=80), max_size=25)
segment_sizes = st.integers(1, 3_000)


@relaxed
@given(reasons, segment_sizes)
def test_every_tape_comes_back(tmp_path: Path, said: list[str], segment_bytes: int) -> None:
    """Same bytes, same hash, segments gapless, and any position found, whatever a segment holds."""
    records = halts(said)
    path = write(tmp_path / "run.tape", records, segment_bytes)
    payloads = payloads_of(records)
    assert read(path) == payloads
    assert verify_file(path) == VerifyResult(len(records), chain_naive(payloads), None)
    with TapeFile(path) as tape:
        assert (tape.ending, tape.head, tape.head_hash) == (Ending.COMPLETE, len(records), chain_naive(payloads))
        assert [segment.first for segment in tape.segments] == [1, *(one.last + 1 for one in tape.segments)][:-1]
        for pos, payload in enumerate(payloads, 1):
            assert tape.page(ReadRequest(after=pos - 1, limit=1)).facts == (payload,)


@relaxed
@given(reasons, segment_sizes)
def test_any_zstandard_tool_prints_the_facts(tmp_path: Path, said: list[str], segment_bytes: int) -> None:
    """The Zstandard frames, one after the other, are the facts, a line each; descriptions lie in frames to skip."""
    records = halts(said)
    data = write(tmp_path / "run.tape", records, segment_bytes).read_bytes()
    printed = b""
    while data:
        if data[:4] in (b"\x50\x2a\x4d\x18", b"\x51\x2a\x4d\x18", b"\x52\x2a\x4d\x18"):
            data = data[8 + int.from_bytes(data[4:8], "little") :]
            continue
        frame = zstandard.ZstdDecompressor().decompressobj()
        printed += frame.decompress(data)
        data = frame.unused_data
    assert printed.splitlines() == payloads_of(records) if said else printed == b""


@relaxed
@given(reasons, segment_sizes, st.lists(st.integers(0, 25), max_size=6), st.booleans(), st.booleans())
def test_blocks_equal_single_takes(
    tmp_path: Path, said: list[str], segment_bytes: int, cuts: list[int], hashed: bool, as_array: bool
) -> None:
    """The naive twin: facts taken one by one. Blocks of any size give the same tape; unhashed ones the same file."""
    records = halts(said)
    single = write(tmp_path / "single.tape", records, segment_bytes)
    blocks = tmp_path / "blocks.tape"
    with TapeWriter(blocks, replace=True, segment_bytes=segment_bytes) as writer:
        bounds = sorted({0, len(records), *(min(cut, len(records)) for cut in cuts)})
        for number, (start, stop) in enumerate(zip(bounds, [*bounds[1:], len(records)], strict=True)):
            piece = records[start:stop]
            if number % 3 == 2:
                for recorded in piece:
                    writer.take(recorded)
                continue
            lengths = [len(recorded.payload) for recorded in piece]
            writer.take_block(
                b"".join(payloads_of(piece)),
                np.array(lengths, dtype=np.uint32) if as_array else lengths,
                piece[-1].hash if hashed and piece else None,
            )
    assert read(blocks) == read(single)
    assert verify_file(blocks) == verify_file(single)
    if not hashed:
        assert blocks.read_bytes() == single.read_bytes()


def test_blocks_of_wrong_lengths_are_a_bug(tmp_path: Path) -> None:
    """Lengths that do not fill the block would shift every fact after it."""
    with pytest.raises(AssertionError, match="sum to 3"), TapeWriter(tmp_path / "run.tape") as writer:
        writer.take_block(b"four", [1, 2])


@pytest.mark.parametrize("mask", [0x01, 0x10, 0x80, 0xFF])
def test_every_flipped_byte_is_found_and_named(tmp_path: Path, mask: int) -> None:
    """At each byte of a file: verification fails, names a position, and everything before that is as it was."""
    records = numbered(7)
    payloads = payloads_of(records)
    whole = write(tmp_path / "run.tape", records).read_bytes()
    hashes = list(accumulate(payloads, lambda head, payload: chain_all(head, [payload]), initial=GENESIS))
    flipped = tmp_path / "flipped.tape"
    for place in range(len(whole)):
        flipped.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
        try:
            result = verify_file(flipped)
        except TapeFileUnreadable:
            assert place < 60, "only the head decides whether this is a tape file"
            continue
        assert result.fault is not None, f"byte {place} was changed and nobody saw it"
        assert result.fault.pos == result.facts + 1
        assert result.head_hash == hashes[result.facts]
        assert str(result.fault.pos - 1) in result.fault.detail or str(result.fault.pos) in result.fault.detail


def test_every_truncation_is_found_and_the_rest_is_readable(tmp_path: Path) -> None:
    """Cut after any byte: the facts of the whole segments are there, and the file says where it breaks off."""
    records = numbered(7)
    payloads = payloads_of(records)
    whole = write(tmp_path / "run.tape", records).read_bytes()
    cut = tmp_path / "cut.tape"
    seen = set()
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        try:
            result = verify_file(cut)
        except TapeFileUnreadable:
            assert length < 60
            continue
        assert result.fault is not None
        assert result.fault.reason == "END_MISSING"
        assert result.fault.pos == result.facts + 1
        assert read(cut) == payloads[: result.facts]
        seen.add(result.facts)
    assert len(seen) > 2
    assert max(seen) == len(records)


@relaxed
@given(st.binary(min_size=1, max_size=40), st.integers(0, 4_000))
def test_bytes_added_anywhere_are_found(tmp_path: Path, more: bytes, place: int) -> None:
    """Nothing can be put into a file or after it."""
    whole = write(tmp_path / "run.tape", numbered(7)).read_bytes()
    place %= len(whole) + 1
    added = tmp_path / "added.tape"
    changed = whole[:place] + more + whole[place:]
    added.write_bytes(changed)
    try:
        result = verify_file(added)
    except TapeFileUnreadable:
        return
    assert result.fault is not None


@relaxed
@given(st.binary(max_size=200))
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """Bytes that nobody wrote as a tape are no tape, and reading them ends with one message."""
    path = tmp_path / "other.tape"
    path.write_bytes(content)
    with pytest.raises(TapeFileUnreadable, match=r"other\.tape: it is no tape file"):
        TapeFile(path)


def test_positions_lead_the_payloads(tmp_path: Path) -> None:
    """A line of the file is a fact as it lies in the log: its position can be read without decoding it."""
    path = write(tmp_path / "run.tape", numbered(20))
    lines = io.BytesIO(b"\n".join(read(path)))
    assert [position_of(line) for line in lines] == list(range(1, 21))
