"""How far ahead a column looks, found by moving the end of what is known.

For a row known to depend on the future, the farthest bar that matters is where changing everything behind it no longer
changes the row, and the nearest is where changing everything up to it first does. Both are found by doubling and then
halving: dependence is taken to begin at one bar and to end at one, which holds for windows, shifts and statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tapeline_lab.bias.findings import Kind, Probe
from tapeline_lab.bias.tables import Moments, Output, unequal

SAMPLED_ROWS = 8
"""Rows whose farthest bar is looked for: one would not tell a window from a longer bar's end."""

MINUTE_NS = 60_000_000_000
PERIODS = {
    f"{count}{unit}": count * length * MINUTE_NS
    for unit, length, counts in (
        ("m", 1, (5, 10, 15, 30)),
        ("h", 60, (1, 2, 4, 6, 8, 12)),
        ("d", 1440, (1, 3, 7)),
    )
    for count in counts
}
"""Lengths of longer bars that people join to theirs."""

LEAST_ENDS = 3
GRID_SHARE = 0.75
"""So many rows, and so large a share of them, must settle on a grid before it is taken for one; not all, because
prices are equal by coincidence, too."""


@dataclass(frozen=True)
class Reach:
    """What was measured: bars ahead, the largest of all sampled rows; ``ends`` are (bar, farthest) of each.

    ``is_whole``: of most rows the very last bar matters.
    """

    nearest: int | None
    farthest: int | None
    is_whole: bool
    ends: tuple[tuple[int, int], ...]


@dataclass
class Rerun:
    """One column under other futures. Prefixes are kept, as all rows and columns ask for the same few."""

    full: Output
    moments: Moments
    run: Callable[[int, Probe, int | None], Output | None]
    column: str
    kept: dict[tuple[int, Probe, int | None], Output | None] = field(default_factory=dict)

    def differs(self, row: int, cut: int, probe: Probe, until: int | None = None) -> bool:
        """Whether the row says something else once the bars after ``cut`` (to ``until``) are others."""
        key = (cut, probe, until)
        if key not in self.kept:
            self.kept[key] = self.run(*key)
        other = self.kept[key]
        if other is None:
            return False
        found = other.row_of(self.full.identity(row))
        if found is None:
            return True
        mine, theirs = self.full.columns[self.column][row : row + 1], other.column(self.column)[found : found + 1]
        return bool(unequal(mine, theirs)[0])


def measure(rerun: Rerun, seen: Sequence[tuple[int, int, int, Probe]]) -> Reach:
    """The reach of a column that was seen to differ at (cut, first row, last row, probe)."""
    ends: list[tuple[int, int]] = []
    places = np.unique(np.linspace(0, len(seen) - 1, SAMPLED_ROWS).astype(int)).tolist()
    for cut, _, row, probe in (seen[place] for place in places):
        bar = int(np.searchsorted(rerun.moments.time_ns, rerun.full.time_ns[row]))
        ends.append((bar, _farthest(rerun, row, bar, cut, probe)))
    last = len(rerun.moments) - 1
    whole = sum(bar + farthest >= last for bar, farthest in ends if bar < last - 1)
    is_whole = whole * 2 > sum(bar < last - 1 for bar, _ in ends)
    cut, _, row, _ = seen[places[0]]
    bar = ends[0][0]
    return Reach(_nearest(rerun, row, bar, ends[0][1]), max(end for _, end in ends), is_whole, tuple(ends))


def _farthest(rerun: Rerun, row: int, bar: int, cut: int, probe: Probe) -> int:
    """Fewest bars after ``bar`` that must be known before the rest no longer matters to the row."""
    last = len(rerun.moments) - 1

    def matters(ahead: int) -> bool:
        return bar + ahead < last and rerun.differs(row, bar + ahead, probe)

    least = max(cut - bar, 0)
    ahead = max(least, 1)
    while matters(ahead) or matters(2 * ahead):  # twice: rounded prices are equal by coincidence, too
        least, ahead = ahead, ahead * 2
    ahead = min(ahead, last - bar)
    while ahead - least > 1:
        middle = (least + ahead) // 2
        least, ahead = (middle, ahead) if matters(middle) else (least, middle)
    return ahead


def _nearest(rerun: Rerun, row: int, bar: int, farthest: int) -> int | None:
    """Fewest bars after ``bar`` that must change before the row does; ``None`` if prices alone do not move it."""

    def moves(ahead: int) -> bool:
        return rerun.differs(row, bar, Probe.SCALED, min(bar + ahead, len(rerun.moments) - 1))

    if not moves(farthest):
        return None
    least, ahead = 0, 1
    while ahead < farthest and not moves(ahead):
        least, ahead = ahead, ahead * 2
    ahead = min(ahead, farthest)
    while ahead - least > 1:
        middle = (least + ahead) // 2
        least, ahead = (least, middle) if moves(middle) else (middle, ahead)
    return ahead


def kind_of(reach: Reach, moments: Moments) -> tuple[Kind, str]:
    """What such a reach is called, and how far it goes in words."""
    nearest = "" if reach.nearest is None else f", the nearest {reach.nearest} ahead"
    if reach.is_whole:
        return Kind.WHOLE_SAMPLE, f"the last bar of the data still matters{nearest}"
    period = _period(reach, moments)
    if period is not None:
        return Kind.UNFINISHED_PERIOD, f"values settle when a bar of {period} closes, up to {reach.farthest} bars later"
    return Kind.FUTURE_BARS, f"bars up to {reach.farthest} ahead matter{nearest}"


def _period(reach: Reach, moments: Moments) -> str | None:
    """The longer bar at whose close every sampled row settles, if they settle at different distances."""
    if len({farthest for _, farthest in reach.ends}) < 2 or len(reach.ends) < LEAST_ENDS:
        return None
    length_ns = int(np.median(np.diff(moments.time_ns)))
    closes = [int(moments.time_ns[min(bar + end, len(moments) - 1)]) + length_ns for bar, end in reach.ends]
    found = [
        name
        for name, period_ns in PERIODS.items()
        if period_ns > length_ns and sum(close % period_ns == 0 for close in closes) >= GRID_SHARE * len(closes)
    ]
    return found[-1] if found else None
