"""The bytes of a tape file: Zstandard frames of facts, one JSON object a line, with what describes them in between.

    head       skippable frame: which format this is
    attachment skippable frame, only in files that have one: bytes that say nothing of the facts, and their checksum
    segment    skippable frame: what follows (``Segment``), then one Zstandard frame: facts, each ended by a newline
    ...        segments, gapless from position 1
    end        skippable frame: head hash and all segments again (``End``), then its own checksum and length

Every Zstandard tool passes over skippable frames, so ``zstdcat run.tape`` prints the facts and nothing else. A segment
is described before its facts and again in the end, so a file without its end can still be walked, and a whole one
finds any position by reading one segment. Everything but the facts is a function of the facts: whoever verifies a file
computes it again, so that no byte of the file is without a check.

The one door to zstandard. Nothing is read or written here.
"""

from __future__ import annotations

import struct
import zlib

import msgspec
import zstandard

FORMAT = 1

LEVEL = 1
"""Fastest: facts shrink to a tenth at it already, and level 3 costs a third of the speed for nothing gained."""

LARGEST_SEGMENT = 1 << 30
"""Bytes of facts that a segment may claim to hold, so that a damaged file cannot ask for all memory."""

_SKIPPABLE = struct.Struct("<II")
_HEAD, _SEGMENT, _END, _ATTACHMENT = 0x184D2A50, 0x184D2A51, 0x184D2A52, 0x184D2A53
"""Four of the sixteen numbers that RFC 8878, section 3.1.2, sets aside for what a decoder is to pass over."""

FRAME_HEAD_BYTES = _SKIPPABLE.size
_CHECKSUM = struct.Struct("<I")

LARGEST_ATTACHMENT = 1 << 24
_FOOTER = struct.Struct("<II8s")
_FOOTER_MARK = b"TAPE-END"


class _Head(msgspec.Struct, frozen=True):
    tapeline: str
    format: int


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Neighbouring facts packed together.

    Attributes:
        offset: byte of the file at which the segment's skippable frame begins.
        first: position of its first fact; ``facts`` of them follow without a gap.
        size: bytes of its facts, newlines included; ``packed`` of its Zstandard frame, ``crc32`` over that frame.
        first_time_ns: stamp of the first fact; ``last_time_ns`` of the last.
        hash: head hash of the tape after the last fact, hexadecimal.
    """

    offset: int
    first: int
    facts: int
    size: int
    packed: int
    crc32: int
    first_time_ns: int
    last_time_ns: int
    hash: str

    @property
    def last(self) -> int:
        return self.first + self.facts - 1


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written when a run is over: ``facts`` on the whole tape, its hash, and every segment."""

    facts: int
    hash: str
    segments: tuple[Segment, ...]


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """What a segment must tell of a fact without decoding its event."""

    pos: int
    time_ns: int
    author: str
    stream: str
    version: int


class NoTapeFile(Exception):
    """The bytes are those of something else, or of a format that this code does not know."""


_segment_decoder = msgspec.json.Decoder(Segment)
_end_decoder = msgspec.json.Decoder(End)
_head_decoder = msgspec.json.Decoder(_Head)


def _skippable(magic: int, content: bytes) -> bytes:
    return _SKIPPABLE.pack(magic, len(content)) + content


HEAD = _skippable(_HEAD, msgspec.json.encode(_Head("tape", FORMAT)))
"""How every file of this format begins."""


def pack(lines: bytes | bytearray) -> bytes:
    """One Zstandard frame."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(lines)


def unpack(frame: bytes, size: int) -> bytes:
    """The facts of a frame. Raises ``ValueError`` if it does not hold exactly ``size`` bytes."""
    try:
        lines = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError as trouble:
        raise ValueError(str(trouble)) from trouble
    if len(lines) != size:
        raise ValueError(f"it holds {len(lines)} bytes, not {size}")
    return lines


def segment_frame(segment: Segment) -> bytes:
    """The skippable frame that stands before a segment's facts."""
    return _skippable(_SEGMENT, msgspec.json.encode(segment))


def end_frame(end: End) -> bytes:
    """The last frame of a file; its last bytes say where it begins."""
    content = msgspec.json.encode(end)
    return _skippable(_END, content + _FOOTER.pack(zlib.crc32(content), len(content), _FOOTER_MARK))


END_FOOTER_BYTES = _FOOTER.size


def end_bytes(footer: bytes) -> int:
    """How long the end frame is that closes with these ``END_FOOTER_BYTES``; 0 if they close none."""
    if len(footer) != _FOOTER.size:
        return 0
    _, length, mark = _FOOTER.unpack(footer)
    return FRAME_HEAD_BYTES + int(length) + _FOOTER.size if mark == _FOOTER_MARK else 0


def read_end(frame: bytes) -> End | None:
    """What an end frame says; None for bytes that are none, or not unharmed."""
    content = frame[FRAME_HEAD_BYTES : -_FOOTER.size]
    try:
        end = _end_decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return end if end_frame(end) == frame else None


def frame_bytes(start: bytes) -> int:
    """Length of the frame before a segment, or of the end, that begins with these ``FRAME_HEAD_BYTES``; else 0."""
    if len(start) != FRAME_HEAD_BYTES:
        return 0
    magic, length = _SKIPPABLE.unpack(start)
    return FRAME_HEAD_BYTES + int(length) if magic in (_SEGMENT, _END) else 0


def read_segment(frame: bytes) -> Segment | None:
    """What a segment's skippable frame says; None for bytes that are none."""
    try:
        segment = _segment_decoder.decode(frame[FRAME_HEAD_BYTES:])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    sane = segment.facts > 0 and 0 < segment.size <= LARGEST_SEGMENT and segment.packed > 0
    return segment if sane and segment_frame(segment) == frame else None


def attachment_frame(content: bytes) -> bytes:
    """What is written between the head and the first segment; nothing for no content."""
    assert len(content) <= LARGEST_ATTACHMENT, f"an attachment of {len(content)} bytes; at most {LARGEST_ATTACHMENT}"
    return _skippable(_ATTACHMENT, content + _CHECKSUM.pack(zlib.crc32(content))) if content else b""


def attachment_bytes(start: bytes) -> int:
    """Length of the attachment's frame that begins with these ``FRAME_HEAD_BYTES``; 0 if another frame begins here."""
    if len(start) != FRAME_HEAD_BYTES:
        return 0
    magic, length = _SKIPPABLE.unpack(start)
    return FRAME_HEAD_BYTES + int(length) if magic == _ATTACHMENT else 0


def read_attachment(frame: bytes) -> bytes:
    """The content of an attachment's frame. Raises ``NoTapeFile`` if it was changed or cut."""
    content = frame[FRAME_HEAD_BYTES : -_CHECKSUM.size]
    if not content or attachment_frame(content) != frame:
        raise NoTapeFile("what is attached to its head was changed or cut: take another copy of the file")
    return content


def check_head(start: bytes) -> int:
    """Length of the head at the start of a file. Raises ``NoTapeFile`` saying what the file is not."""
    if start.startswith(HEAD):
        return len(HEAD)
    found = None
    if len(start) > FRAME_HEAD_BYTES:
        magic, length = _SKIPPABLE.unpack(start[:FRAME_HEAD_BYTES])
        if magic == _HEAD:
            found = _head_of(start[FRAME_HEAD_BYTES : FRAME_HEAD_BYTES + length])
    if found is None or found.tapeline != "tape":
        raise NoTapeFile("it is no tape file: `tapeline backtest --record FILE.tape` writes them")
    raise NoTapeFile(
        f"it has tape format {found.format}, this code reads {FORMAT}: use the version of tapeline that wrote it"
    )


def _head_of(content: bytes) -> _Head | None:
    try:
        return _head_decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
