"""What can be wrong with a file of market data, how bad each of it is, and what was found in one file.

The names of the feed's own faults are the feed's: what ``check-data`` calls ``HIGH_BELOW_LOW`` is what a live feed
would refuse under that name.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from tapeline_lab.data.kinds import DataKind


class Flaw(StrEnum):
    """Everything that is looked for. The first block is what the feed finds (``DataFault``), one bar at a time."""

    GAP = "GAP"
    DUPLICATE = "DUPLICATE"
    REVISED = "REVISED"
    OUT_OF_ORDER = "OUT_OF_ORDER"
    HIGH_BELOW_LOW = "HIGH_BELOW_LOW"
    OPEN_OUTSIDE_RANGE = "OPEN_OUTSIDE_RANGE"
    CLOSE_OUTSIDE_RANGE = "CLOSE_OUTSIDE_RANGE"
    NOT_FINITE = "NOT_FINITE"
    NOT_A_NUMBER_TEXT = "NOT_A_NUMBER_TEXT"
    NON_POSITIVE_PRICE = "NON_POSITIVE_PRICE"
    NEGATIVE_VOLUME = "NEGATIVE_VOLUME"
    OFF_GRID = "OFF_GRID"
    NON_POSITIVE_SIZE = "NON_POSITIVE_SIZE"
    SIDE_MISSING = "SIDE_MISSING"

    UNREADABLE = "UNREADABLE"
    FUTURE_TIME = "FUTURE_TIME"
    OUTSIDE_HOURS = "OUTSIDE_HOURS"
    TIMEFRAME_DRIFT = "TIMEFRAME_DRIFT"
    ZERO_VOLUME = "ZERO_VOLUME"
    STALE_RUN = "STALE_RUN"
    SPIKE = "SPIKE"
    JUMP = "JUMP"
    SPLIT_SUSPECTED = "SPLIT_SUSPECTED"
    BOOK_REFUSED = "BOOK_REFUSED"

    DIFFERS = "DIFFERS"
    MISSING_HERE = "MISSING_HERE"
    MISSING_THERE = "MISSING_THERE"
    SPOT_DIFFERS = "SPOT_DIFFERS"
    SPOT_MISSING = "SPOT_MISSING"


class Severity(StrEnum):
    """ERROR: a backtest on this is wrong or refused. WARNING: markets do that; somebody should look."""

    ERROR = "error"
    WARNING = "warning"


WARNINGS = frozenset(
    (
        Flaw.GAP,
        Flaw.OUTSIDE_HOURS,
        Flaw.ZERO_VOLUME,
        Flaw.STALE_RUN,
        Flaw.SPIKE,
        Flaw.JUMP,
        Flaw.SPLIT_SUSPECTED,
        Flaw.MISSING_THERE,
    )
)
"""Everything else is an error."""


def severity_of(flaw: Flaw) -> Severity:
    return Severity.WARNING if flaw in WARNINGS else Severity.ERROR


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One flaw of a file, however often it occurs.

    Attributes:
        count: how many rows have it (for gaps: how many bars are missing).
        first_row, last_row: counted from 1, as in messages about files; 0 where it is of the file as a whole.
        first_ns, last_ns: their times, UTC ns; 0 where there is none.
        detail: the first of them, in words.
    """

    flaw: Flaw
    severity: Severity
    count: int
    first_row: int
    last_row: int
    first_ns: int
    last_ns: int
    detail: str


class Tally:
    """Collects the flaws of one file, in the order of ``Flaw``."""

    def __init__(self) -> None:
        self._found: dict[Flaw, Finding] = {}

    def add(self, flaw: Flaw, detail: str, *, row: int = -1, time_ns: int = 0, count: int = 1) -> None:
        """row: counted from 0; -1 for the file as a whole."""
        before = self._found.get(flaw)
        if before is None:
            self._found[flaw] = Finding(
                flaw=flaw,
                severity=severity_of(flaw),
                count=count,
                first_row=row + 1,
                last_row=row + 1,
                first_ns=time_ns,
                last_ns=time_ns,
                detail=detail,
            )
        else:
            self._found[flaw] = msgspec.structs.replace(
                before, count=before.count + count, last_row=row + 1, last_ns=time_ns
            )

    def findings(self) -> tuple[Finding, ...]:
        return tuple(self._found[flaw] for flaw in Flaw if flaw in self._found)


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What checking a file found. ``notes`` say what was detected rather than given, and what was not looked at."""

    path: str
    kind: DataKind
    timeframe: str
    rows: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> int:
        return sum(finding.severity is Severity.ERROR for finding in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors
