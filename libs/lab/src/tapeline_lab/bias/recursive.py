"""Warm-up: what is said of a bar should not depend on where the data begins, once there is enough of it.

The subject is run on all bars, then again from so many bars before a moment on, and every column is compared there.
At the declared warm-up the relative difference has to be below a bound; else the shortest warm-up that does is looked
for. Exponential averages forget by a factor a bar, sums and trailing stops never do: both are said.

Counts of the bars since the start differ by nature; a column that does so exactly is left out. So is what a strategy
says it carries (the side held, a stop): no number of bars settles that. Such a run is therefore handed what the long
one carries at the moment, and has to decide the same from there on; how long it would take alone is told beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from tapeline_lab.bias.findings import Finding, Kind
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.tables import INSTRUMENT, TIME, Column, Output, Table, checked, output_of, relative_difference
from tapeline_lab.progress import Progress

STARTUPS = (199, 399, 499, 999, 1999)
"""Bars before the moment at which the shortened runs begin."""

TOLERANCE = 1e-6
"""Relative difference below which a column counts as settled."""

MOMENTS = 4
"""Bars from which on columns are compared; the last one and some by chance: a difference may be nothing by chance."""

COMPARED = 100
"""Bars that are compared from a moment on: what is decided by a threshold differs at few of them."""


class Settling(msgspec.Struct, frozen=True, kw_only=True):
    """How one column forgets where the data begins.

    Attributes:
        differences: largest relative difference after each of the startups; infinite where one side has no number.
        at_declared: the same at the declared warm-up, if one is declared.
        settles_after: fewest bars at which it is below the bound, between those that were tried; ``None`` if none is.
        is_counter: it counts the bars since the start.
        is_carried: it keeps what was decided, and was compared without being handed over.
    """

    column: str
    differences: tuple[float, ...]
    at_declared: float | None
    settles_after: int | None
    is_counter: bool
    is_carried: bool = False


class RecursiveAnalysis(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried on one subject, and what came out."""

    subject: str
    bars: int
    declared: int | None
    startups: tuple[int, ...]
    moments: tuple[int, ...]
    tolerance: float
    columns: tuple[Settling, ...]
    findings: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        return not self.findings


def recursive_analysis(
    subject: Subject,
    table: Table,
    *,
    declared: int | None = None,
    startups: Sequence[int] = STARTUPS,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    progress: Progress | None = None,
) -> RecursiveAnalysis:
    """Run a subject on all bars and on the last few before a moment, and compare every column there.

    Args:
        table: of one instrument.
        declared: warm-up that the subject is said to need, in bars; ``None`` fails only what never settles.
        startups: those that are not shorter than the data are left out.

    Raises:
        ValueError: fewer bars than the shortest startup or the declared warm-up needs, several instruments, or rows
            that are not the bars'.
        Exception: whatever the subject raises.
    """
    if INSTRUMENT in table:
        raise ValueError("a warm-up belongs to one instrument: give the bars of one")
    bars = len(checked(table)[TIME])
    known = tuple(sorted(count for count in startups if count < bars - 1))
    if not known:
        raise ValueError(f"{bars} bars are too few: the shortest run before a moment has {min(startups)} bars")
    if declared is not None and declared >= bars - 1:
        raise ValueError(f"{bars} bars are too few for a warm-up of {declared}: give more (--bars)")
    return _Shortened(subject, table, known, tolerance, seed, progress).run(declared)


class _Shortened:
    def __init__(
        self,
        subject: Subject,
        table: Table,
        startups: tuple[int, ...],
        tolerance: float,
        seed: int,
        progress: Progress | None,
    ) -> None:
        self._subject, self._table, self._startups = subject, table, startups
        self._tolerance, self._seed, self._progress = tolerance, seed, progress
        self._bars = len(table[TIME])
        self._full = self._said(subject.run, table).columns
        self._typical = {name: _typical(column) for name, column in self._full.items()}
        in_rings = {place for places in subject.rings.values() for place in places}
        self._names = [name for name in (*self._full, *subject.rings) if name not in in_rings]
        self._moments: tuple[int, ...] = ()
        self._held: dict[int, Any] = {}
        self._kept: dict[int, dict[str, float]] = {}
        self._counters = set(self._full) - in_rings

    def _drawn(self, longest: int) -> tuple[int, ...]:
        """The last bar, and others before which the longest of the shortened runs has room."""
        chance = np.random.Generator(np.random.Philox(self._seed))
        earlier = np.arange(longest + 1, self._bars - 1)
        drawn = chance.choice(earlier, size=min(MOMENTS - 1, len(earlier)), replace=False)
        return (*sorted(drawn.tolist()), self._bars - 1)

    def _said(self, run: Callable[[Table], Any], part: Table) -> Output:
        output = output_of(run({name: column.copy() for name, column in part.items()}), part)
        if not np.array_equal(output.time_ns, part[TIME]):
            raise ValueError(f"{self._subject.name} has rows of its own: return one row for each bar")
        return output

    def _short(self, moment: int, start: int) -> Table:
        """What a run from ``start`` on says; what it would carry is as it finds it alone, all else as if handed it."""
        handover = self._subject.handover
        # Research code runs to the end of the data: what it sees behind the moment is the same in both runs.
        stop = self._bars if handover is None else moment + COMPARED
        part = {name: column[start:stop] for name, column in self._table.items()}
        alone = self._said(self._subject.run, part)
        if handover is None:
            return {name: alone.column(name) for name in self._full}
        if moment not in self._held:
            self._held[moment] = handover.carried({name: column[:moment] for name, column in self._table.items()})
        held = self._said(lambda bars: handover.run(bars, moment - start, self._held[moment]), part)
        return {name: (alone if name in handover.columns else held).column(name) for name in self._full}

    def _differences(self, startup: int) -> dict[str, float]:
        """Largest relative difference of each column from the moments on, when run from so many bars before."""
        if startup not in self._kept:
            found = dict.fromkeys(self._names, 0.0)
            for moment in self._moments:
                start = moment - startup
                full = {name: column[moment : moment + COMPARED] for name, column in self._full.items()}
                rows = slice(startup, startup + COMPARED)
                short = {name: column[rows] for name, column in self._short(moment, start).items()}
                self._counters -= {name for name in self._counters if not _counts(full[name][0], short[name][0], start)}
                self._sort_rings(full)
                self._sort_rings(short)
                for name in self._names:
                    worst = relative_difference(full[name], short[name], self._typical.get(name, 0.0)).max()
                    found[name] = max(found[name], float(worst))
            self._kept[startup] = found
            if self._progress is not None:
                self._progress(len(self._kept), max(len(self._startups) + 1, len(self._kept)))
        return self._kept[startup]

    def _sort_rings(self, columns: Table) -> None:
        """What lies in a ring at each bar as one column, in order of size."""
        for name, places in self._subject.rings.items():
            columns[name] = np.sort(np.column_stack([columns.pop(place) for place in places]), axis=1).ravel()

    def run(self, declared: int | None) -> RecursiveAnalysis:
        self._moments = self._drawn(max(self._startups[-1], declared or 0))
        by_startup = [self._differences(startup) for startup in self._startups]
        at_declared = None if declared is None else self._differences(declared)
        carried = () if self._subject.handover is None else self._subject.handover.columns
        columns = tuple(
            Settling(
                column=name,
                differences=tuple(found[name] for found in by_startup),
                at_declared=None if at_declared is None else at_declared[name],
                settles_after=self._settles_after(name, declared),
                is_counter=name in self._counters,
                is_carried=name in carried,
            )
            for name in self._names
        )
        findings = [finding for one in columns if (finding := self._finding(one, declared)) is not None]
        return RecursiveAnalysis(
            subject=self._subject.name,
            bars=self._bars,
            declared=declared,
            startups=self._startups,
            moments=self._moments,
            tolerance=self._tolerance,
            columns=columns,
            findings=tuple(findings),
        )

    def _settles_after(self, name: str, declared: int | None) -> int | None:
        """The shortest warm-up that will do, found by halving below the first that does."""
        tried = sorted({*self._startups, *(() if declared is None else (declared,))})
        # From the longest down: a difference may vanish for a moment by chance.
        enough: int | None = None
        for startup in reversed(tried):
            if self._differences(startup)[name] >= self._tolerance:
                break
            enough = startup
        if enough is None or (declared is not None and enough <= declared):
            return enough
        shorter = [startup for startup in tried if startup < enough]
        least = shorter[-1] if shorter else 0
        while enough - least > 1:
            middle = (least + enough) // 2
            if self._differences(middle)[name] < self._tolerance:
                enough = middle
            else:
                least = middle
        return enough

    def _finding(self, one: Settling, declared: int | None) -> Finding | None:
        if one.is_counter or one.is_carried:
            return None
        if one.settles_after is None:
            detail = f"off by {one.differences[-1]:.1e} after {self._startups[-1]} bars: a sum since the start, or a "
            detail += "state kept from trades before it, which a strategy declares in `carries`"
            return self._at(Kind.NEVER_SETTLES, one, detail, one.differences[-1])
        if declared is None or one.at_declared is None or one.at_declared < self._tolerance:
            return None
        detail = f"off by {one.at_declared:.1e} after the declared {declared} bars; {one.settles_after} would do"
        return self._at(Kind.WARM_UP_SHORT, one, detail, one.at_declared)

    def _at(self, kind: Kind, one: Settling, detail: str, worst: float) -> Finding:
        moment = self._moments[-1]
        return Finding(
            kind=kind,
            subject=self._subject.name,
            column=one.column,
            bar=moment,
            time_ns=int(self._table[TIME][moment]),
            detail=detail,
            worst=worst,
        )


def _typical(column: Column) -> float:
    """The middle of a column's magnitudes: near zero a value is compared with these, not with itself."""
    if column.dtype != np.float64 or np.isnan(column).all():
        return 0.0
    return float(np.nanmedian(np.abs(column)))


def _counts(full: object, short: object, start: int) -> bool:
    return isinstance(full, float) and isinstance(short, float) and full - short == start
