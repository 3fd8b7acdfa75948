"""Shared by tests of tape files: short tapes in memory, and files of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tapeline_common.events import HaltRequested
from tapeline_common.sequencer import Recorded
from tapeline_common.tape_file import TapeFile
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.wire import Answer, Draft

NOON_NS = 1_700_000_000_000_000_000


def halts(reasons: Sequence[str]) -> list[Recorded]:
    """A tape of halts, one a second from noon on."""
    tape = MemoryTape()
    for number, reason in enumerate(reasons):
        tape.now_ns = NOON_NS + number * 1_000_000_000
        receipt = tape.record("operator", Answer(0, (Draft(HaltRequested("mara", reason), f"halt-{number}"),)))
        assert receipt.ok
    return tape.records


def numbered(count: int) -> list[Recorded]:
    return halts([f"drill {number}" for number in range(count)])


def write(path: Path, records: Sequence[Recorded], segment_bytes: int = 600) -> Path:
    """A finished file; 600 bytes are about three facts a segment."""
    with TapeWriter(path, replace=True, segment_bytes=segment_bytes) as writer:
        for recorded in records:
            writer.take(recorded)
    return path


def payloads_of(records: Sequence[Recorded]) -> list[bytes]:
    return [recorded.payload for recorded in records]


def read(path: Path) -> list[bytes]:
    """Every payload that the file still gives, segment by segment."""
    with TapeFile(path) as tape:
        return [payload for index in range(len(tape.segments)) for payload in tape.lines(index)]
