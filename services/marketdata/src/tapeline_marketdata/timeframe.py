"""Timeframes as people write them ("1m", "4h", "1d") and as the tape counts them (ns).

Only lengths that are always the same: a calendar month is no timeframe here.
"""

from __future__ import annotations

import re

SECOND_NS = 1_000_000_000
UNIT_NS = {
    "w": 7 * 86_400 * SECOND_NS,
    "d": 86_400 * SECOND_NS,
    "h": 3_600 * SECOND_NS,
    "m": 60 * SECOND_NS,
    "s": SECOND_NS,
}
"""Longest first, so that formatting finds the largest unit that divides."""

MONDAY_NS = 4 * UNIT_NS["d"]
"""1970-01-05, the first Monday: weekly bars open on Mondays, the epoch was a Thursday."""

_FORM = re.compile(r"([1-9][0-9]{0,5})([a-zA-Z])")


class UnknownTimeframe(ValueError):
    """The text or the length names no timeframe; the message says which, and what would."""


def parse_timeframe(text: str) -> int:
    """Length in ns of a timeframe such as "1s", "5m", "4h", "1d" or "1w".

    Raises UnknownTimeframe for anything else, also for "1M": a month has no fixed length.
    """
    match = _FORM.fullmatch(text)
    if match is None or match[2] not in UNIT_NS:
        hint = " (M is a calendar month, which has no fixed length; minutes are m)" if text.endswith("M") else ""
        raise UnknownTimeframe(
            f"unknown timeframe {text!r}{hint}: write a whole number and one of s, m, h, d, w, such as 1s, 5m, 4h, 1d"
        )
    return int(match[1]) * UNIT_NS[match[2]]


def format_timeframe(length_ns: int) -> str:
    """The shortest name of a length in ns: 60 s is "1m", 90 s is "90s", 24 h is "1d".

    Raises UnknownTimeframe for lengths that are not a whole, positive number of seconds.
    """
    if length_ns <= 0 or length_ns % SECOND_NS:
        raise UnknownTimeframe(
            f"no timeframe is {length_ns} ns long: a timeframe is a whole, positive number of seconds"
        )
    unit, unit_ns = next((unit, unit_ns) for unit, unit_ns in UNIT_NS.items() if length_ns % unit_ns == 0)
    return f"{length_ns // unit_ns}{unit}"


def grid_offset_ns(length_ns: int) -> int:
    """Where this timeframe's grid starts after the epoch: on the first Monday for whole weeks, at once for the rest."""
    return MONDAY_NS if length_ns % UNIT_NS["w"] == 0 else 0


def floor_to_grid(time_ns: int, length_ns: int) -> int:
    """The open time of the bar that contains time_ns."""
    offset_ns = grid_offset_ns(length_ns)
    return (time_ns - offset_ns) // length_ns * length_ns + offset_ns
