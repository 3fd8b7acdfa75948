"""Look-ahead: what is said of a bar may not change with the bars after it.

The subject is run on all bars, then again at every cut: once with nothing after the cut (prefix invariance), and once
each with another future there (NaN, ten times the prices, shuffled). Every column, every row up to the cut is compared
to the last bit, because one bar of look-ahead shows in one row only. Where something differs, runs with a moving cut
measure how far ahead the column looks.

Cuts are drawn by a seed; bars at which a discrete output (a signal, a position, an order) changes come on top, and the
last bar but one always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tapeline_lab.bias.findings import POISONS, Analysis, Finding, Kind, Probe
from tapeline_lab.bias.reach import Rerun, kind_of, measure
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.tables import (
    INSTRUMENT,
    Column,
    Moments,
    Output,
    Table,
    altered,
    checked,
    output_of,
    relative_difference,
    unequal,
)
from tapeline_lab.progress import Progress

CUTS = 64
"""Cuts drawn by the seed, as few as a leak of one bar in a rare branch can be trusted to."""

EVENT_CUTS = 32
"""Cuts at bars where something discrete changes."""

MOST_STATES = 5
"""A column with no more values than this is discrete."""

NOISE = 1e-9
"""Relative difference below which rounding, and not the future, is taken to be the cause."""


@dataclass
class Trace:
    """Where one column was seen to differ: (cut, first row, last row, probe, worst relative difference)."""

    seen: list[tuple[int, int, int, Probe, float]] = field(default_factory=list)

    @property
    def worst(self) -> float:
        return max(each[4] for each in self.seen)


def lookahead_analysis(
    subject: Subject,
    table: Table,
    *,
    cuts: int = CUTS,
    event_cuts: int = EVENT_CUTS,
    seed: int = 0,
    probes: Sequence[Probe] = (Probe.PREFIX, *POISONS),
    tolerance: float = 0.0,
    progress: Progress | None = None,
) -> Analysis:
    """Run a subject on all bars and on bars with another future, and compare.

    Args:
        cuts: how many are drawn; all bars are cuts where there are not more.
        tolerance: relative difference that is let pass. 0 compares to the last bit.

    Raises:
        ValueError: fewer than 3 bars, or a table or output that cannot be compared.
        Exception: whatever the subject raises on all the bars.
    """
    return _Examination(subject, checked(table), seed, tolerance, progress).run(cuts, event_cuts, probes)


class _Examination:
    def __init__(self, subject: Subject, table: Table, seed: int, tolerance: float, progress: Progress | None) -> None:
        self._subject, self._table, self._seed, self._tolerance = subject, table, seed, tolerance
        self._moments = Moments.of(table)
        self._progress = progress
        self._total = 0
        self._runs = 0
        self._not_run: Counter[str] = Counter()
        self._errors: dict[str, str] = {}
        self._traces: dict[str, Trace] = {}
        self._rows: dict[str, Finding] = {}
        if len(self._moments) < 3:
            raise ValueError(f"{len(self._moments)} bars cannot be cut: give at least 3")
        self._full = self._said(table)

    def run(self, cuts: int, event_cuts: int, probes: Sequence[Probe]) -> Analysis:
        noisy = self._not_repeatable()
        chosen = self._cuts(cuts, event_cuts)
        wanted = [probe for probe in probes if probe is not Probe.NAN or self._subject.takes_nan]
        if self._subject.at_open:
            wanted.append(Probe.UNFINISHED)
        self._total = self._runs + len(chosen) * len(wanted)
        settled = {finding.column for finding in noisy}
        for probe in wanted:
            if settled >= self._full.columns.keys():
                break
            for cut in chosen:
                other = self._rerun(cut, probe)
                if other is not None:
                    self._compare(other, cut, probe, settled)
            # What is found needs no further probe, unless it may be rounding only.
            settled |= {name for name, trace in self._traces.items() if trace.worst > NOISE}
        findings = [*noisy, *self._rows.values(), *(self._finding(name) for name in self._traces)]
        findings += self._too_little_run(len(chosen))
        return Analysis(
            subject=self._subject.name,
            bars=len(self._moments),
            columns=len(self._full.columns),
            cuts=len(chosen),
            runs=self._runs,
            seed=self._seed,
            findings=tuple(sorted(findings, key=lambda finding: (finding.bar, finding.column))),
            not_run=dict(self._not_run),
            errors=self._errors,
        )

    # ---- runs

    def _said(self, table: Table) -> Output:
        self._runs += 1
        if self._progress is not None:
            self._progress(self._runs, max(self._total, self._runs))
        return output_of(self._subject.run(table), table)

    def _rerun(self, cut: int, probe: Probe, until: int | None = None) -> Output | None:
        """The output on another future; ``None`` where the subject cannot be run on it, which is counted."""
        try:
            return self._said(altered(self._table, self._moments, cut, probe, self._seed, until))
        except Exception as trouble:
            self._not_run[probe.value] += 1
            self._errors.setdefault(probe.value, f"cut {cut}: {trouble!r}")
            return None

    def _cuts(self, count: int, event_cuts: int) -> list[int]:
        """Numbers of the last known bar, ascending: by chance, at events, and the last but one."""
        last = len(self._moments) - 2
        chance = np.random.Generator(np.random.Philox(self._seed))
        drawn = chance.choice(np.arange(1, last + 1), size=min(count, last), replace=False)
        events = [cut for cut in self._events() if cut <= last]
        picked = [events[place] for place in np.linspace(0, len(events) - 1, event_cuts).astype(int)] if events else []
        return sorted({*drawn.tolist(), *picked[:event_cuts], last})

    def _events(self) -> list[int]:
        """Bars at which a discrete column changes."""
        moments: set[int] = set()
        for column in self._full.columns.values():
            if column.dtype == np.float64 and len(np.unique(column[~np.isnan(column)])) > MOST_STATES:
                continue
            changed = np.flatnonzero(unequal(column[1:], column[:-1])) + 1
            moments.update(np.searchsorted(self._moments.time_ns, self._full.time_ns[changed]).tolist())
        return sorted(moments)

    # ---- comparisons

    def _not_repeatable(self) -> list[Finding]:
        again = self._said(self._table)
        found = []
        for name, column in self._full.columns.items():
            other = again.columns.get(name)
            same_shape = other is not None and len(other) == len(column)
            differs = unequal(column, other) if same_shape and other is not None else np.ones(len(column), dtype=bool)
            if differs.any():
                row = int(np.argmax(differs))
                detail = f"row {row} first; look for chance without a seed, the clock, or state kept between calls"
                found.append(self._at(Kind.NOT_REPEATABLE, name, row, detail))
        return found

    def _compare(self, other: Output, cut: int, probe: Probe, skipped: set[str]) -> None:
        """Note every column that says something else of the rows up to the cut."""
        rows, others = self._common_rows(other, cut, probe)
        at_open = self._subject.at_open
        for name, column in self._full.columns.items():
            if name in skipped or (probe is Probe.UNFINISHED and name not in at_open):
                continue
            mine, theirs = column[rows], other.column(name)[others]
            differs = unequal(mine, theirs)
            if not differs.any():
                continue
            relative = relative_difference(mine, theirs)
            places = np.flatnonzero(differs if self._tolerance == 0.0 else relative > self._tolerance)
            if len(places):
                seen = (cut, int(rows[places[0]]), int(rows[places[-1]]), probe, float(relative.max()))
                self._traces.setdefault(name, Trace()).seen.append(seen)

    def _common_rows(self, other: Output, cut: int, probe: Probe) -> tuple[Column, Column]:
        """Rows up to the cut in both outputs; rows that only one of them has become a finding."""
        limit_ns = self._moments.time_ns[cut]
        mine = np.flatnonzero(self._full.time_ns <= limit_ns)
        if self._full.keys is None or other.keys is None:
            return mine, mine
        theirs = np.flatnonzero(other.time_ns <= limit_ns)
        own, foreign = [self._full.keys[row] for row in mine], [other.keys[row] for row in theirs]
        if own == foreign:
            return mine, theirs
        self._note_rows(set(own), set(foreign), cut, probe)
        common = [key for key in own if key in other.rows]
        return np.array([self._full.rows[key] for key in common]), np.array([other.rows[key] for key in common])

    def _note_rows(self, own: set[object], foreign: set[object], cut: int, probe: Probe) -> None:
        if own == foreign or "rows" in self._rows:
            return
        lost, added = sorted(foreign - own, key=str), sorted(own - foreign, key=str)
        named = INSTRUMENT in self._full.columns
        first = min((int(key[0]) for key in [*lost, *added]), default=0)  # type: ignore[index]
        gone = sorted({str(key[1]) for key in lost}) if named else []  # type: ignore[index]
        detail = f"at cut {cut} {len(lost)} rows up to it are missing once the later bars are known"
        detail += f" ({', '.join(gone)})" if gone else ""
        detail += f", and {len(added)} are new" if added else ""
        kind = Kind.SURVIVORSHIP if gone else Kind.ROWS_CHANGED
        bar = int(np.searchsorted(self._moments.time_ns, first))
        self._rows["rows"] = Finding(
            kind=kind, subject=self._subject.name, column="rows", bar=bar, time_ns=first, detail=detail, cut=cut,
            probe=probe, worst=float("inf"),
        )  # fmt: skip

    # ---- findings

    def _at(self, kind: Kind, column: str, row: int, detail: str, **more: Any) -> Finding:
        time_ns = int(self._full.time_ns[row])
        bar = int(np.searchsorted(self._moments.time_ns, time_ns))
        return Finding(
            kind=kind, subject=self._subject.name, column=column, bar=bar, time_ns=time_ns, detail=detail, **more
        )

    def _finding(self, name: str) -> Finding:
        """How far ahead a column that was seen to differ looks, and what that is called."""
        trace = self._traces[name]
        cut, first, _, probe, _ = min(trace.seen, key=lambda seen: (seen[1], seen[0]))
        bar = int(np.searchsorted(self._moments.time_ns, self._full.time_ns[first]))
        if all(seen[3] is Probe.UNFINISHED for seen in trace.seen):
            detail = f"bar {bar} first: the value stands for the open and moves with what comes after it"
            return self._at(Kind.UNFINISHED_BAR, name, first, detail, cut=cut, probe=probe, worst=trace.worst)
        if trace.worst <= NOISE:
            detail = f"by {trace.worst:.1e} at most: sums whose order depends on the length; see --tolerance"
            return self._at(Kind.ROUNDING, name, first, detail, cut=cut, probe=probe, worst=trace.worst)
        rerun = Rerun(self._full, self._moments, self._rerun, name)
        reach = measure(rerun, [seen[:4] for seen in trace.seen if seen[3] is not Probe.UNFINISHED])
        kind, detail = kind_of(reach, self._moments)
        return self._at(
            kind, name, first, f"bar {bar} first, at cut {cut}; {detail}", cut=cut, probe=probe, worst=trace.worst,
            nearest=reach.nearest, farthest=reach.farthest,
        )  # fmt: skip

    def _too_little_run(self, cuts: int) -> list[Finding]:
        """A subject that fails on most prefixes was not examined."""
        failed = self._not_run[Probe.PREFIX.value]
        if failed * 2 <= cuts:
            return []
        detail = f"{failed} of {cuts} prefixes failed, the first with {self._errors[Probe.PREFIX.value]}"
        return [self._at(Kind.NOT_RUN, "", 0, detail)] if len(self._full.time_ns) else []
