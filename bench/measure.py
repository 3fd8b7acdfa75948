"""Pairs, medians, ratios and tables: what turns measurements into something that can be compared.

An absolute figure of one run says little on a machine that others use too. So whatever is compared is measured in
turns (A B A B), each turn gives one ratio, and the median of the ratios is what is reported. Pure: nothing is measured
or printed here.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One compared figure.

    Attributes:
        what: what was measured.
        unit: of both sides, such as ``bars/s`` or ``us``.
        ours: our side, one value per turn.
        beside: what it is compared with.
        theirs: the other side, one value per turn; empty where it could not be measured.
        note: what a reader must know to judge the figure.
        failed: why the sides may not be compared, such as different results. There is no ratio then.
    """

    what: str
    unit: str
    ours: tuple[float, ...]
    beside: str = ""
    theirs: tuple[float, ...] = ()
    note: str = ""
    failed: str = ""

    @property
    def ratio(self) -> float | None:
        """Median over the turns of ours / theirs; ``None`` with nothing to compare."""
        return None if self.failed else median_ratio(self.ours, self.theirs)


class Section(msgspec.Struct, frozen=True):
    """One group of figures. ``notes`` are sentences for below the table; ``failed`` is why it ended before its time."""

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    failed: str = ""


def failures(sections: Sequence[Section]) -> tuple[str, ...]:
    """What went wrong, one sentence each; empty after a run whose figures may be believed."""
    found = []
    for section in sections:
        if section.failed:
            found.append(f"{section.title}: {section.failed}")
        found += [
            f"{section.title}: {row.what} beside {row.beside}: {row.failed}" for row in section.rows if row.failed
        ]
    return tuple(found)


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Median of the ratios of the turns; turns are paired by their order, and both sides must have as many."""
    if not ours or not theirs:
        return None
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed (nearest rank, no interpolation)."""
    assert values, "no values"
    assert 0 < share <= 1, f"share {share} is not in (0, 1]"
    return sorted(values)[math.ceil(share * len(values)) - 1]


def in_turn(round_number: int, names: Sequence[str]) -> tuple[str, ...]:
    """The order of one round: rotated by one from round to round, so that nobody always goes first."""
    shift = round_number % len(names) if names else 0
    return (*names[shift:], *names[:shift])


def number_text(value: float) -> str:
    """Three significant digits at least, thousands separated."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def _middle(values: Sequence[float]) -> str:
    return number_text(statistics.median(values)) if values else "-"


def _cells(row: Row) -> tuple[str, ...]:
    ratio = row.ratio
    return (
        row.what,
        row.unit,
        _middle(row.ours),
        row.beside or "-",
        _middle(row.theirs),
        "failed" if row.failed else "-" if ratio is None else f"{number_text(ratio)}x",
        str(len(row.ours)),
        f"failed: {row.failed}" if row.failed else row.note,
    )


HEADINGS = ("what", "unit", "ours", "beside", "theirs", "ours / theirs", "turns", "note")


def markdown_table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table; ``|`` inside a cell is escaped."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *(_cells(row) for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def plain_table(rows: Sequence[Row]) -> str:
    """The rows for a terminal: columns padded, notes left out."""
    lines = [cells[:-1] for cells in (HEADINGS, *(_cells(row) for row in rows))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def markdown(sections: Sequence[Section]) -> str:
    """All sections with their notes."""
    parts = []
    for section in sections:
        parts.append(f"## {section.title}")
        if section.failed:
            parts.append(f"Failed: {section.failed}")
        if section.rows:
            parts.append(markdown_table(section.rows))
        parts += section.notes
    return "\n\n".join(parts)


def as_data(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """For programs: every value, and beside them what the tables show."""
    return [
        {
            "title": section.title,
            "failed": section.failed,
            "notes": section.notes,
            "rows": [{**msgspec.to_builtins(row), "ratio": row.ratio} for row in section.rows],
        }
        for section in sections
    ]
