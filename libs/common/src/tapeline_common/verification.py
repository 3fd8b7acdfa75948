"""What verification can find wrong with a tape, wherever the tape lies; the walks are the log's and the file's own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class VerifyFault(StrEnum):
    """What is wrong at a position."""

    POSITION_MISSING = "POSITION_MISSING"
    PREVIOUS_HASH_WRONG = "PREVIOUS_HASH_WRONG"
    HASH_WRONG = "HASH_WRONG"
    PAYLOAD_UNREADABLE = "PAYLOAD_UNREADABLE"
    COLUMN_DIFFERS = "COLUMN_DIFFERS"
    VERSION_WRONG = "VERSION_WRONG"
    SEGMENT_DAMAGED = "SEGMENT_DAMAGED"
    END_MISSING = "END_MISSING"


@dataclass(frozen=True, slots=True)
class FirstFault:
    """The first position that is wrong."""

    pos: int
    reason: VerifyFault
    detail: str


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """``facts`` that were checked and are right, the hash after them, and what stopped the walk, if anything did."""

    facts: int
    head_hash: bytes
    fault: FirstFault | None
