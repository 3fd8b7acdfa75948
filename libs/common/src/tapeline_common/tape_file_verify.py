"""Verification of a tape file: walks the hash chain and names the first position that is not what it must be.

Checked for every fact: positions without a gap, stream versions that count up without a gap, the chain. Checked for
every segment: its description in its place, its checksum, its stamps, the hash after it. At the end: that the file has
one. A change inside a segment is found with the segment's first position, for only its end has a recorded hash.
Whether today's code understands each event is not asked here; ``tapeline replay --check`` decides them all again.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from tapeline_common.tape_file import Ending, TapeDamaged, TapeFile
from tapeline_common.tape_file_format import Envelope, Segment
from tapeline_common.verification import FirstFault, VerifyFault, VerifyResult
from tapeline_common.wire import GENESIS, chain_all

_envelope_decoder = msgspec.json.Decoder(Envelope)


def verify_file(path: Path) -> VerifyResult:
    """Check a whole file. Raises ``tape_file.TapeFileUnreadable`` if it is no tape file."""
    with TapeFile(path) as tape:
        walk = _Walk()
        for index, segment in enumerate(tape.segments):
            fault = walk.check(tape, index, segment)
            if fault is not None:
                return VerifyResult(walk.pos, walk.hash, fault)
        return VerifyResult(walk.pos, walk.hash, _ending(tape))


def _ending(tape: TapeFile) -> FirstFault | None:
    if tape.ending is Ending.COMPLETE:
        return None
    missing = tape.ending is Ending.MISSING
    reason = VerifyFault.END_MISSING if missing else VerifyFault.SEGMENT_DAMAGED
    return FirstFault(tape.head + 1, reason, tape.warning)


class _Walk:
    """How far the tape is known to be right."""

    def __init__(self) -> None:
        self.pos = 0
        self.hash = GENESIS
        self._versions: dict[str, int] = {}

    def check(self, tape: TapeFile, index: int, segment: Segment) -> FirstFault | None:
        """Take the next segment in, unless it is wrong."""
        try:
            lines = tape.unpack(index)
        except TapeDamaged as damage:
            return FirstFault(damage.pos, VerifyFault.SEGMENT_DAMAGED, damage.detail)
        payloads = lines[:-1].split(b"\n")
        running = chain_all(self.hash, payloads)
        if running.hex() != segment.hash:
            detail = f"positions {segment.first} to {segment.last} end in {running.hex()}, the file says {segment.hash}"
            return FirstFault(segment.first, VerifyFault.HASH_WRONG, detail)
        try:
            envelopes = _envelope_decoder.decode_lines(lines)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return self._unreadable(payloads)
        fault = self._count(envelopes)
        if fault is None and (segment.first_time_ns, segment.last_time_ns) != (
            envelopes[0].time_ns,
            envelopes[-1].time_ns,
        ):
            fault = FirstFault(segment.first, VerifyFault.SEGMENT_DAMAGED, "its stamps are not those of its facts")
        if fault is None:
            self.hash = running
        return fault

    def _count(self, envelopes: list[Envelope]) -> FirstFault | None:
        """Positions and versions; leaves ``pos`` at the last fact that is right."""
        versions, pos = self._versions, self.pos
        for envelope in envelopes:
            pos += 1
            stream, version = envelope.stream, envelope.version
            if envelope.pos != pos:
                self.pos = pos - 1
                return FirstFault(pos, VerifyFault.POSITION_MISSING, f"after {pos - 1} comes {envelope.pos}")
            known = versions.get(stream, 0)
            if version != known + 1:
                self.pos = pos - 1
                detail = f"stream {stream} goes from version {known} to {version}"
                return FirstFault(pos, VerifyFault.VERSION_WRONG, detail)
            versions[stream] = version
        self.pos = pos
        return None

    def _unreadable(self, payloads: list[bytes]) -> FirstFault:
        for place, payload in enumerate(payloads, self.pos + 1):
            try:
                _envelope_decoder.decode(payload)
            except (msgspec.MsgspecError, UnicodeDecodeError) as trouble:
                return FirstFault(place, VerifyFault.PAYLOAD_UNREADABLE, str(trouble))
        return FirstFault(self.pos + 1, VerifyFault.PAYLOAD_UNREADABLE, "the facts cannot be decoded together")
