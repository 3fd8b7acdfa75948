"""Warm-up: what is said of a bar should not depend on where the data begins, once there is enough of it.

The subject is run on all bars, then again from so many bars before a moment on, and every column is compared there.
At the declared warm-up the relative difference has to be below a bound; else the shortest warm-up that does is looked
for. Exponential averages forget by a factor a bar, sums and trailing stops never do: both are said.

Counts of the bars since the start differ by nature; a column that does so exactly is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from tapeline_lab.bias.findings import Finding, Kind
from tapeline_lab.bias.lookahead import Progress
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.tables import INSTRUMENT, TIME, Output, Table, checked, output_of, relative_difference

STARTUPS = (199, 399, 499, 999, 1999)
"""Bars before the moment at which the shortened runs begin."""

TOLERANCE = 1e-6
"""Relative difference below which a column counts as settled."""

MOMENTS = 4
"""Bars at which columns are compared; the last one and some by chance, since a difference may be nothing by chance."""


class Settling(msgspec.Struct, frozen=True, kw_only=True):
    """How one column forgets where the data begins.

    Attributes:
        differences: largest relative difference after each of the startups; infinite where one side has no number.
        at_declared: the same at the declared warm-up, if one is declared.
        settles_after: fewest bars at which it is below the bound, between those that were tried; ``None`` if none is.
        is_counter: it counts the bars since the start.
    """

    column: str
    differences: tuple[float, ...]
    at_declared: float | None
    settles_after: int | None
    is_counter: bool


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
        ValueError: fewer bars than the shortest startup needs, several instruments, or rows that are not the bars'.
        Exception: whatever the subject raises.
    """
    if INSTRUMENT in table:
        raise ValueError("a warm-up belongs to one instrument: give the bars of one")
    bars = len(checked(table)[TIME])
    known = tuple(sorted(count for count in startups if count < bars - 1))
    if not known:
        raise ValueError(f"{bars} bars are too few: the shortest run before a moment has {min(startups)} bars")
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
        self._tolerance, self._progress = tolerance, progress
        self._bars = len(table[TIME])
        self._full = self._said(0, self._bars)
        chance = np.random.Generator(np.random.Philox(seed))
        earlier = np.arange(startups[-1] + 1, self._bars - 1)
        drawn = chance.choice(earlier, size=min(MOMENTS - 1, len(earlier)), replace=False)
        self._moments = (*sorted(drawn.tolist()), self._bars - 1)
        self._kept: dict[int, dict[str, float]] = {}
        self._counters = set(self._full.columns)

    def _said(self, start: int, stop: int) -> Output:
        part = {name: column[start:stop].copy() for name, column in self._table.items()}
        output = output_of(self._subject.run(part), part)
        if not np.array_equal(output.time_ns, part[TIME]):
            raise ValueError(f"{self._subject.name} has rows of its own: return one row for each bar")
        return output

    def _differences(self, startup: int) -> dict[str, float]:
        """Largest relative difference of each column over the moments, when run from so many bars before."""
        if startup not in self._kept:
            found = dict.fromkeys(self._full.columns, 0.0)
            for moment in self._moments:
                start = max(moment - startup, 0)
                # To the end of the data: what lies behind the moment is the same in both runs.
                short = self._said(start, self._bars)
                for name, column in self._full.columns.items():
                    place = moment - start
                    mine, other = column[moment : moment + 1], short.column(name)[place : place + 1]
                    found[name] = max(found[name], float(relative_difference(mine, other)[0]))
                    if name in self._counters and not _counts(mine[0], other[0], start):
                        self._counters.discard(name)
            self._kept[startup] = found
            if self._progress is not None:
                self._progress(len(self._kept), max(len(self._startups) + 1, len(self._kept)))
        return self._kept[startup]

    def run(self, declared: int | None) -> RecursiveAnalysis:
        by_startup = [self._differences(startup) for startup in self._startups]
        at_declared = None if declared is None else self._differences(min(declared, self._moments[0]))
        columns = tuple(
            Settling(
                column=name,
                differences=tuple(found[name] for found in by_startup),
                at_declared=None if at_declared is None else at_declared[name],
                settles_after=self._settles_after(name, declared),
                is_counter=name in self._counters,
            )
            for name in self._full.columns
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
        tried = sorted({*self._startups, *(() if declared is None else (min(declared, self._moments[0]),))})
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
        if one.is_counter:
            return None
        if one.settles_after is None:
            detail = f"off by {one.differences[-1]:.1e} after {self._startups[-1]} bars: a sum since the start, or a "
            detail += "state kept from trades before it"
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


def _counts(full: object, short: object, start: int) -> bool:
    return isinstance(full, float) and isinstance(short, float) and full - short == start
