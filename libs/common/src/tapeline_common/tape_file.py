"""Reading a tape file: the reading half of ``Tape``, without any server.

The end of the file says where every segment lies; a file without its end (a killed run, a cut copy) is walked segment
by segment and can be read up to its last whole one, and says so (``ending``). Facts come from one unpacked segment at
a time, whose checksum is compared first; the whole chain is checked by ``tape_file_verify``. Writing is in
``tape_file_writer``, the bytes are described in ``tape_file_format``.
"""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from enum import StrEnum
from pathlib import Path
from types import TracebackType

import msgspec

from tapeline_common import tape_file_format as form
from tapeline_common.tape import Page, ReadRequest
from tapeline_common.tape_file_format import Segment
from tapeline_common.wire import GENESIS, chain_all

LONGEST_DESCRIPTION = 4096
"""Bytes of a segment's description, which has a dozen short fields; a longer one is damage and not read."""


class Ending(StrEnum):
    """How a file ends: as a finished run leaves it, in the middle, or in bytes that nobody wrote."""

    COMPLETE = "COMPLETE"
    MISSING = "MISSING"
    DAMAGED = "DAMAGED"


class TapeFileUnreadable(Exception):
    """There is no tape at this path; the message names it and the reason."""


class TapeDamaged(Exception):
    """A segment is not what was written. ``pos`` is the first position that cannot be vouched for."""

    def __init__(self, pos: int, detail: str) -> None:
        super().__init__(f"position {pos} cannot be read: {detail}")
        self.pos = pos
        self.detail = detail


class _Kind(msgspec.Struct, frozen=True, gc=False):
    type: str


class _Label(form.Envelope, frozen=True, gc=False):
    event: _Kind


_label_decoder = msgspec.json.Decoder(_Label)


class TapeFile:
    """A tape in a file. Raises ``TapeFileUnreadable`` if there is none, ``TapeDamaged`` from reads.

    Attributes:
        attachment: bytes that were written with the file and say nothing of the facts; usually none.
        segments: whole ones, gapless from position 1.
        ending: whether the run that wrote the file came to its end.
        size: bytes of the file when it was opened; ``whole`` of them are segments that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as trouble:
            raise TapeFileUnreadable(f"{path} cannot be read ({trouble.strerror})") from trouble
        try:
            self.size = os.fstat(self._file.fileno()).st_size
            start = form.check_head(self._at(0, 4096))
            self.attachment = self._read_attachment(start)
            start += len(form.attachment_frame(self.attachment))
            self.segments, self.ending, self.whole = self._find_segments(start)
        except form.NoTapeFile as trouble:
            self._file.close()
            raise TapeFileUnreadable(f"{path}: {trouble}") from trouble
        except OSError as trouble:
            self._file.close()
            raise TapeFileUnreadable(f"{path} cannot be read ({trouble.strerror})") from trouble
        self._firsts = [segment.first for segment in self.segments]
        self._unpacked: tuple[int, list[bytes]] = (-1, [])
        self._labelled: tuple[int, list[_Label]] = (-1, [])

    @property
    def head(self) -> int:
        """Position of the last fact that can be read."""
        return self.segments[-1].last if self.segments else 0

    @property
    def head_hash(self) -> bytes:
        """Hash after the last fact that can be read, as the file says it."""
        return bytes.fromhex(self.segments[-1].hash) if self.segments else GENESIS

    @property
    def warning(self) -> str:
        """What a reader must be told of a file that does not end well; empty for a whole one."""
        if self.ending is Ending.COMPLETE:
            return ""
        what = "has no end" if self.ending is Ending.MISSING else f"is damaged after byte {self.whole}"
        return (
            f"{self.path} {what}: its run was stopped or still goes on, or the file was cut or changed; "
            f"it can be read up to position {self.head}"
        )

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> TapeFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    async def read(self, request: ReadRequest) -> Page:
        return self.page(request)

    def page(self, request: ReadRequest) -> Page:
        """``read`` without the await."""
        until = min(request.until or self.head, self.head)
        after = max(request.after, 0)
        found: list[bytes] = []
        through = until
        index = bisect_right(self._firsts, after + 1) - 1
        while after < until and len(found) < request.limit:
            wanted = self._wanted(index, after, until, request)[: request.limit - len(found)]
            found += [payload for _, payload in wanted]
            if wanted and len(found) == request.limit:
                through = wanted[-1][0]
            after = self.segments[index].last
            index += 1
        through = max(through, request.after)
        return Page(tuple(found), through, self.head, self.hash_at(through) if request.chained else b"")

    def hash_at(self, pos: int) -> bytes:
        """Hash of the chain after a position, from what the file says at the segment's start; empty beyond the head."""
        index = bisect_right(self._firsts, pos) - 1
        if pos > self.head or index < 0:
            return GENESIS if pos == 0 else b""
        before = bytes.fromhex(self.segments[index - 1].hash) if index else GENESIS
        return chain_all(before, self.lines(index)[: pos - self.segments[index].first + 1])

    def lines(self, index: int) -> list[bytes]:
        """Stored bytes of the facts of a segment."""
        if self._unpacked[0] != index:
            self._unpacked = (index, self.unpack(index)[:-1].split(b"\n"))
        return self._unpacked[1]

    def unpack(self, index: int) -> bytes:
        """The facts of a segment as they lie in it, each ended by a newline."""
        segment = self.segments[index]
        about = form.segment_frame(segment)
        raw = self._at(segment.offset, len(about) + segment.packed)
        frame = raw[len(about) :]
        if raw[: len(about)] != about:
            raise _damaged(segment, "its description was changed")
        if len(frame) != segment.packed or zlib.crc32(frame) != segment.crc32:
            raise _damaged(segment, "its bytes are not those that were written")
        try:
            lines = form.unpack(frame, segment.size)
        except ValueError as trouble:
            raise _damaged(segment, f"it cannot be unpacked: {trouble}") from trouble
        if lines.count(b"\n") != segment.facts or not lines.endswith(b"\n"):
            raise _damaged(segment, f"it does not hold {segment.facts} facts")
        return lines

    def _wanted(self, index: int, after: int, until: int, request: ReadRequest) -> list[tuple[int, bytes]]:
        """Facts of one segment that are asked for, with their positions."""
        segment = self.segments[index]
        start, stop = max(after + 1 - segment.first, 0), min(until, segment.last) + 1 - segment.first
        lines = self.lines(index)
        if not (request.types or request.author or request.stream):
            stop = min(stop, start + request.limit)
            return list(zip(range(segment.first + start, segment.first + stop), lines[start:stop], strict=True))
        return [
            (segment.first + place, lines[place])
            for place, label in enumerate(self._labels(index)[start:stop], start)
            if (not request.types or label.event.type in request.types)
            and (not request.author or label.author == request.author)
            and (not request.stream or label.stream == request.stream)
        ]

    def _labels(self, index: int) -> list[_Label]:
        if self._labelled[0] != index:
            try:
                labels = _label_decoder.decode_lines(b"\n".join(self.lines(index)))
            except (msgspec.MsgspecError, UnicodeDecodeError) as trouble:
                raise _damaged(self.segments[index], f"a fact cannot be decoded: {trouble}") from trouble
            self._labelled = (index, labels)
        return self._labelled[1]

    def _read_attachment(self, offset: int) -> bytes:
        length = form.attachment_bytes(self._at(offset, form.FRAME_HEAD_BYTES))
        if not length:
            return b""
        return form.read_attachment(self._at(offset, min(length, form.LARGEST_ATTACHMENT + 4096)))

    def _find_segments(self, offset: int) -> tuple[tuple[Segment, ...], Ending, int]:
        """Segments from ``offset`` on, how the file ends and how much of it is whole: from the end, else by walking."""
        footer = self._at(max(self.size - form.END_FOOTER_BYTES, 0), form.END_FOOTER_BYTES)
        length = form.end_bytes(footer)
        if 0 < length <= self.size - offset:
            end = form.read_end(self._at(self.size - length, length))
            if end is not None and _follow(end, offset) == self.size - length:
                return end.segments, Ending.COMPLETE, self.size
        return self._walk(offset)

    def _walk(self, offset: int) -> tuple[tuple[Segment, ...], Ending, int]:
        segments: list[Segment] = []
        ending = Ending.MISSING
        while offset < self.size:
            length = form.frame_bytes(self._at(offset, form.FRAME_HEAD_BYTES))
            segment = form.read_segment(self._at(offset, length)) if length <= LONGEST_DESCRIPTION else None
            expected = segments[-1].last + 1 if segments else 1
            if segment is None or (segment.offset, segment.first) != (offset, expected):
                # What a kill leaves is the beginning of a segment; anything else was written by somebody else.
                torn = offset + max(length, form.FRAME_HEAD_BYTES) > self.size
                ending = Ending.MISSING if torn else Ending.DAMAGED
                break
            if offset + length + segment.packed > self.size:
                break
            segments.append(segment)
            offset += length + segment.packed
        return tuple(segments), ending, offset

    def _at(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset`` on."""
        pieces = []
        while length > 0 and (piece := os.pread(self._file.fileno(), length, offset)):
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)


def _follow(end: form.End, offset: int) -> int:
    """Where the segments of an end leave off; -1 if they are not gapless from ``offset`` on."""
    first, head_hash = 1, GENESIS.hex()
    for segment in end.segments:
        if (segment.offset, segment.first) != (offset, first) or segment.size > form.LARGEST_SEGMENT:
            return -1
        offset += len(form.segment_frame(segment)) + segment.packed
        first, head_hash = segment.last + 1, segment.hash
    return offset if (end.facts, end.hash) == (first - 1, head_hash) else -1


def _damaged(segment: Segment, detail: str) -> TapeDamaged:
    return TapeDamaged(segment.first, f"the segment with positions {segment.first} to {segment.last}: {detail}")
