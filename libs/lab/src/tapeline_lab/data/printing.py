"""Tables and progress lines of the commands about recorded data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import click

KIB = 1024.0


class Lines:
    """A table as plain lines, never folded: paths stay whole for whoever copies them.

    A column whose name begins with a minus is aligned to the right.
    """

    def __init__(self, *columns: str) -> None:
        self._right = [name.startswith("-") for name in columns]
        self._rows = [tuple(name.removeprefix("-") for name in columns)]

    def add(self, *cells: str) -> None:
        self._rows.append(cells)

    def text(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self._rows, strict=True)]
        return "\n".join(self._line(row, widths) for row in self._rows)

    def _line(self, row: tuple[str, ...], widths: list[int]) -> str:
        cells = zip(row, widths, self._right, strict=True)
        return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip()


def day_text(time_ns: int | None) -> str:
    """UTC day and minute of a time; nothing for none."""
    return "" if time_ns is None else datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M")


def size_text(size: int) -> str:
    """A file's size: 900 B, 1.2 MiB."""
    if size < KIB:
        return f"{size} B"
    for unit in ("KiB", "MiB", "GiB"):
        scaled = size / KIB
        if scaled < KIB or unit == "GiB":
            return f"{scaled:.1f} {unit}"
        size = int(scaled)
    raise AssertionError("the last unit has no upper end")


def progress(total: int, what: str, *, quiet: bool) -> Callable[[int], None]:
    """A line that is overwritten on a terminal; nothing where a program reads, and for one file."""
    if quiet or total < 2 or not sys.stderr.isatty():
        return lambda _done: None

    def show(done: int) -> None:
        click.echo(f"\r{done:,} of {total:,} {what}", nl=done >= total, err=True)

    return show
