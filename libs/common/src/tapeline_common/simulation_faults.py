"""The faults of the simulated world, how likely each can be, and the dice they are rolled with.

Which fault strikes where is decided in ``simulation``.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum


class Fault(StrEnum):
    """What can happen to a world. Every one is counted, so that a fault that never strikes is noticed."""

    ANNOUNCEMENT_LOST = "ANNOUNCEMENT_LOST"
    ANNOUNCEMENT_DOUBLED = "ANNOUNCEMENT_DOUBLED"
    ANNOUNCEMENT_LATE = "ANNOUNCEMENT_LATE"
    INBOX_OVERFLOWN = "INBOX_OVERFLOWN"
    REQUEST_LOST = "REQUEST_LOST"
    REQUEST_LATE = "REQUEST_LATE"
    REPLY_LOST = "REPLY_LOST"
    LEDGER_DOWN = "LEDGER_DOWN"
    APPEND_WHILE_DOWN = "APPEND_WHILE_DOWN"
    READ_WHILE_DOWN = "READ_WHILE_DOWN"
    FROZEN = "FROZEN"
    KILLED = "KILLED"
    KILLED_RESTORING = "KILLED_RESTORING"
    KILLED_FOLLOWING = "KILLED_FOLLOWING"
    KILLED_CATCHING_UP = "KILLED_CATCHING_UP"
    KILLED_BEFORE_APPEND = "KILLED_BEFORE_APPEND"
    KILLED_AFTER_APPEND = "KILLED_AFTER_APPEND"
    WORKER_KILLED = "WORKER_KILLED"
    SECOND_COPY = "SECOND_COPY"
    SILENT_COPY = "SILENT_COPY"
    SILENT_COPY_REFUSED = "SILENT_COPY_REFUSED"
    CLOCK_BACK = "CLOCK_BACK"


RATES: dict[Fault, float] = {
    Fault.ANNOUNCEMENT_LOST: 0.3,
    Fault.ANNOUNCEMENT_DOUBLED: 0.3,
    Fault.ANNOUNCEMENT_LATE: 0.5,
    Fault.REQUEST_LOST: 0.2,
    Fault.REQUEST_LATE: 0.2,
    Fault.REPLY_LOST: 0.3,
    Fault.LEDGER_DOWN: 0.005,
    Fault.FROZEN: 0.01,
    Fault.KILLED: 0.01,
    Fault.KILLED_AFTER_APPEND: 0.05,
    Fault.SECOND_COPY: 0.003,
    Fault.SILENT_COPY: 0.01,
    Fault.CLOCK_BACK: 0.005,
}
"""The highest rate of each fault that is drawn: per announcement, per append, or per step. The others follow."""


class Dice:
    """Numbers that look like chance: SplitMix64 (Steele, Lea and Flood, 2014) from a hashed seed.

    Unlike ``chance.draw`` it has a state, because a world has no positions to draw at; it must not be used in a core.
    """

    __slots__ = ("_state",)

    def __init__(self, seed: int, salt: str) -> None:
        self._state = int.from_bytes(hashlib.sha256(f"{seed}\0{salt}".encode()).digest()[:8], "little")

    def word(self) -> int:
        """64 bits."""
        mask = 0xFFFFFFFFFFFFFFFF
        self._state = (self._state + 0x9E3779B97F4A7C15) & mask
        mixed = ((self._state ^ (self._state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        return mixed ^ (mixed >> 31)

    def below(self, limit: int) -> int:
        """0 to ``limit - 1``."""
        return (self.word() * limit) >> 64

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        return (self.word() >> 11) * 2.0**-53
