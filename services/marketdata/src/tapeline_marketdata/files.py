"""Bars from Parquet and CSV files: what was detected is said, what is wrong is named with its row and its fix.

Columns ts, open, high, low, close, volume, in any case and order; ``TIME_COLUMNS`` lists the accepted names of the open
time, which is UTC. Times may be epoch numbers (s, ms, us, ns: told apart by magnitude), dates or timestamps.
Numbers keep the text the file prints; binary floats become their shortest decimal (``bars.decimal_text``).

``strict`` reading raises at the first bad row (a backtest must not run on bad data); otherwise bad rows pass through to
``checks``, which turns them into facts. Faults of the file as a whole always raise. Nothing is repaired or reordered,
and gaps are counted, not refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tapeline_common.events import BarClosed
from tapeline_common.values import InstrumentId
from tapeline_marketdata.bars import NOT_FINITE_WORDS
from tapeline_marketdata.columns import (
    BadFile,
    Bytes,
    FileColumns,
    FileFault,
    Floats,
    Ints,
    find_columns,
    is_binary,
    is_trades,
    longest_text_of,
    numbers_in,
    release_memory,
    text_bytes_of,
    texts_of,
    times_of,
)
from tapeline_marketdata.shelf import IN_MEMORY, LONG_ROWS, Shelf
from tapeline_marketdata.timeframe import UnknownTimeframe, format_timeframe, parse_timeframe

TIME_COLUMNS = ("ts", "timestamp", "open_time", "datetime", "date", "time")
NUMBER_COLUMNS = ("open", "high", "low", "close", "volume")
COLUMNS = {"ts": TIME_COLUMNS, **{name: (name,) for name in NUMBER_COLUMNS}}
SLICE_BARS = 8192
"""Bars turned into objects at a time: large enough to amortise, small enough to stay in cache."""

Flags = npt.NDArray[np.bool_]


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a file found out. ``notes`` says in words what was detected rather than given.

    ``grid_offset_ns``: where the first bar's grid starts after the epoch, for ``checks.Checker``; the bars that lie
    elsewhere are counted in ``off_grid_bars``. ``timeframe_ns``: 0 if the bars have no fixed length; then there are no
    gaps and no grid. ``made_from``: what they were built from and how, empty for bars that are read as they are.
    """

    path: str
    format: str
    rows: int
    time_column: str
    time_unit: str
    timeframe: str
    timeframe_ns: int
    first_open_ns: int
    last_open_ns: int
    gaps: int
    missing_bars: int
    grid_offset_ns: int
    off_grid_bars: int
    notes: tuple[str, ...]
    made_from: str = ""


class BarColumns:
    """The bars of one file as columns, all with as many rows.

    ``open_ns``: int64, UTC ns. ``open`` to ``volume``: float64, for vectorised work (NaN where the file has no number).
    ``texts(name, start, stop)``: the same numbers as decimal text, made slice by slice.
    ``shelf``: where these columns lie, and whatever else is as long as they are belongs.
    """

    __slots__ = ("_printed", "close", "high", "low", "open", "open_ns", "shelf", "volume")

    def __init__(
        self, open_ns: Ints, floats: dict[str, Floats], printed: dict[str, Any], shelf: Shelf = IN_MEMORY
    ) -> None:
        self.shelf = shelf
        self.open_ns = open_ns
        self.open, self.high, self.low, self.close, self.volume = (floats[name] for name in NUMBER_COLUMNS)
        self._printed = printed

    def __len__(self) -> int:
        return len(self.open_ns)

    def part(self, start: int, stop: int) -> BarColumns:
        """The rows from ``start`` to ``stop``, sharing their memory."""
        floats = {name: getattr(self, name)[start:stop] for name in NUMBER_COLUMNS}
        printed = {name: self._printed[name][start:stop] for name in NUMBER_COLUMNS}
        return BarColumns(self.open_ns[start:stop], floats, printed, self.shelf)

    def picked(self, name: str, rows: Ints) -> tuple[Floats, Any]:
        """Some rows of a number column in any order: as floats, and as the file prints them."""
        floats: Floats = getattr(self, name)[rows]
        return floats, self._printed[name].take(rows)

    def texts(self, name: str, start: int = 0, stop: int | None = None) -> list[str]:
        """Decimal texts of one number column, rows start to stop."""
        column = self._printed[name][start : len(self) if stop is None else stop]
        return texts_of(column)

    def text_bytes(self, name: str, start: int, stop: int) -> tuple[Bytes, Ints]:
        """``texts`` without an object per number: all of them behind each other in ASCII, and where each begins.

        The second has one entry more than there are rows: where the last one ends.
        """
        return text_bytes_of(self._printed[name][start:stop])

    def is_binary(self, name: str) -> bool:
        """Whether the texts of a number column are those of its binary floats, each the shortest that gives it back."""
        return is_binary(self._printed[name])

    def longest_text(self, name: str) -> int:
        """Length of the longest text of a number column as the file prints it; 0 for binary floats."""
        return longest_text_of(self._printed[name])


class BarFile:
    """One file of bars, read and described. ``bars(instrument)`` yields them as objects, in the order of the file."""

    def __init__(self, facts: FileFacts, columns: BarColumns, close_ns: Ints | None = None) -> None:
        """close_ns: int64, UTC ns, for bars that have no fixed length."""
        self.facts = facts
        self.columns = columns
        self._close_ns = close_ns

    def __len__(self) -> int:
        return len(self.columns)

    def part(self, start: int, stop: int) -> BarFile:
        """The bars from ``start`` to ``stop``, at least one, sharing their memory."""
        columns = self.columns.part(start, stop)
        opens = int(columns.open_ns[0]), int(columns.open_ns[-1])
        facts = msgspec.structs.replace(self.facts, rows=stop - start, first_open_ns=opens[0], last_open_ns=opens[1])
        return BarFile(facts, columns, None if self._close_ns is None else self._close_ns[start:stop])

    @property
    def close_ns(self) -> Ints:
        """When each bar closes, UTC ns."""
        shelf = self.columns.shelf
        if self._close_ns is None and shelf.is_open:
            close_ns = shelf.room(len(self), np.int64)
            for part in shelf.parts(len(self)):
                close_ns[part] = self.closes_ns(part.start, part.stop)
            self._close_ns = close_ns
        return self.closes_ns(0, len(self))

    def closes_ns(self, start: int, stop: int) -> Ints:
        """``close_ns`` of the rows from ``start`` to ``stop``."""
        if self._close_ns is None:
            return self.columns.open_ns[start:stop] + self.facts.timeframe_ns
        return self._close_ns[start:stop]

    def slices(self, instrument: InstrumentId, start: int = 0, size: int = SLICE_BARS) -> Iterator[list[BarClosed]]:
        """Lists of up to ``size`` bars from row ``start`` (0-based) on."""
        for first in range(start, len(self.columns), size):
            yield self._slice(instrument, first, min(first + size, len(self.columns)))
            self.columns.shelf.give_back()

    def bars(self, instrument: InstrumentId, start: int = 0) -> Iterator[BarClosed]:
        """Every bar from row ``start`` (0-based) on."""
        for some in self.slices(instrument, start):
            yield from some

    def _slice(self, instrument: InstrumentId, start: int, stop: int) -> list[BarClosed]:
        timeframe, opens = self.facts.timeframe, self.columns.open_ns[start:stop]
        closes = self.closes_ns(start, stop)
        texts = (self.columns.texts(name, start, stop) for name in NUMBER_COLUMNS)
        # Numbers by name: a call with a starred tuple takes half as long again, and this is every bar.
        return [
            BarClosed(instrument, timeframe, open_ns, close_ns, first, high, low, last, volume)
            for open_ns, close_ns, first, high, low, last, volume in zip(
                opens.tolist(), closes.tolist(), *texts, strict=True
            )
        ]


def source_detail(file: BarFile, digest: str) -> str:
    """What a tape says of the file that bars come from: content, number, time unit, and what they were built from."""
    facts = file.facts
    built = f"; built from {facts.made_from}" if facts.made_from else ""
    return f"sha256 {digest}; {len(file)} bars; time unit {facts.time_unit}{built}"


def read_bars(path: str | Path, *, timeframe: str | None = None, strict: bool = True) -> BarFile:
    """Read a Parquet or CSV file of bars.

    timeframe: the bars' length; None infers it from the most common distance between rows.
    Raises BadFile; UnknownTimeframe if ``timeframe`` is no timeframe.
    """
    path = Path(path)
    given_ns = None if timeframe is None else parse_timeframe(timeframe)
    with closing(FileColumns(path)) as table:
        file_format = table.format
        names, columns, unit, notes = _columns_of(path, table)
        built = _built(path, table, given_ns, columns.shelf)
    open_ns = columns.open_ns
    if built is None:
        (length_ns, timeframe_note), close_ns = _timeframe(path, columns, given_ns), None
        timeframe = format_timeframe(length_ns)
    else:
        timeframe, close_ns = built
        length_ns, timeframe_note = 0, [f"{timeframe} bars, as the file says"]
    if strict:
        _refuse_bad_rows(path, names, columns, length_ns, first_line=2 if file_format == "csv" else None)
    if names["ts"].lower() != "ts":
        notes.insert(0, f"open time taken from column {names['ts']!r}")
    notes += timeframe_note
    named = timeframe, length_ns
    facts = facts_of(path, file_format, names["ts"], unit, named, open_ns, tuple(notes), columns.shelf)
    return BarFile(facts, columns, close_ns)


def _columns_of(path: Path, table: FileColumns) -> tuple[dict[str, str], BarColumns, str, list[str]]:
    """The file's names of our columns, the columns, the unit of time, and notes on it."""
    if is_trades(table.column_names):
        raise BadFile(
            FileFault.MISSING_COLUMN,
            f"{path}: holds trades (it has a price, and no open): say how bars are built from them, as in"
            " --bars time:1m",
        )
    names = find_columns(path, table, COLUMNS)
    if table.num_rows == 0:
        raise BadFile(FileFault.EMPTY, f"{path}: the file has a header but no bars: give one with data")
    shelf = Shelf(is_open=table.format == "parquet" and table.num_rows >= LONG_ROWS)
    open_ns, unit, notes = times_of(path, names["ts"], table, shelf)
    printed, floats = {}, {}
    for name in NUMBER_COLUMNS:
        printed[name], floats[name] = numbers_in(path, names[name], table, shelf)
        release_memory()
    return names, BarColumns(open_ns, floats, printed, shelf), unit, notes


TIMEFRAME_KEY = b"tapeline.timeframe"
"""Where a Parquet file of bars without a fixed length says what they are."""

CLOSE_COLUMN = "close_ts"
"""Closing times of such bars, UTC ns."""


def _built(path: Path, table: FileColumns, given_ns: int | None, shelf: Shelf) -> tuple[str, Ints] | None:
    """Name and closing times of bars that ``tapeline bars`` built without a fixed length; None for all others."""
    said = table.metadata.get(TIMEFRAME_KEY)
    if said is None or CLOSE_COLUMN not in table.column_names:
        return None
    timeframe = said.decode()
    if given_ns is not None:
        raise BadFile(
            FileFault.TIMEFRAME_UNKNOWN,
            f"{path}: holds {timeframe} bars, not {format_timeframe(given_ns)}: leave the timeframe away",
        )
    close_ns, _, _ = times_of(path, CLOSE_COLUMN, table, shelf)
    return timeframe, close_ns


def _timeframe(path: Path, columns: BarColumns, given_ns: int | None) -> tuple[int, list[str]]:
    open_ns = columns.open_ns
    lengths, counts = _distances(open_ns, columns.shelf)
    if given_ns is None:
        if not len(lengths):
            raise BadFile(
                FileFault.TIMEFRAME_UNKNOWN,
                f"{path}: cannot tell the timeframe from {len(open_ns)} row(s): give it, such as timeframe 1m",
            )
        length_ns = int(lengths[np.argmax(counts)])
        try:
            name = format_timeframe(length_ns)
        except UnknownTimeframe as error:
            raise BadFile(FileFault.TIMEFRAME_UNKNOWN, f"{path}: most rows are {length_ns} ns apart: {error}") from None
        share = counts.max() / (len(open_ns) - 1)
        return length_ns, [f"timeframe {name}, inferred from {share:.1%} of the distances between rows"]
    if len(lengths) and int(lengths[np.argmax(counts)]) != given_ns:
        usual = int(lengths[np.argmax(counts)]) / 1e9
        return given_ns, [f"timeframe {format_timeframe(given_ns)} as given, though most rows are {usual:g} s apart"]
    return given_ns, []


def _distances(open_ns: Ints, shelf: Shelf) -> tuple[Ints, Ints]:
    """Every distance between neighbouring rows that is above zero, ascending, and how often it occurs."""
    lengths, counts = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    for part in shelf.parts(len(open_ns)):
        steps = np.diff(open_ns[part.start : part.stop + 1])
        some, times = np.unique(steps[steps > 0], return_counts=True)
        lengths, place = np.unique(np.concatenate([lengths, some]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, times]), minlength=len(lengths)).astype(np.int64)
    return lengths, counts


def facts_of(
    path: Path,
    file_format: str,
    time_column: str,
    unit: str,
    timeframe: tuple[str, int],
    open_ns: Ints,
    notes: tuple[str, ...],
    shelf: Shelf = IN_MEMORY,
) -> FileFacts:
    """What there is to say of bars that open at ``open_ns``. timeframe: its name, and its length or 0."""
    name, length_ns = timeframe
    gaps = missing = off_grid = 0
    for part in shelf.parts(len(open_ns) if length_ns else 0):
        steps = np.diff(open_ns[part.start : part.stop + 1])
        wide = steps[steps > length_ns]
        gaps += len(wide)
        missing += int((wide // length_ns - 1).sum())
        off_grid += int(np.count_nonzero((open_ns[part] - open_ns[0]) % length_ns))
    if off_grid:
        notes = (*notes, f"{off_grid} bars open off the grid of the first one")
    return FileFacts(
        path=str(path),
        format=file_format,
        rows=len(open_ns),
        time_column=time_column,
        time_unit=unit,
        timeframe=name,
        timeframe_ns=length_ns,
        first_open_ns=int(open_ns[0]),
        last_open_ns=int(open_ns[-1]),
        gaps=gaps,
        missing_bars=missing,
        grid_offset_ns=int(open_ns[0] % length_ns) if length_ns else 0,
        off_grid_bars=off_grid,
        notes=notes,
    )


def _refuse_bad_rows(
    path: Path, names: dict[str, str], columns: BarColumns, length_ns: int, first_line: int | None
) -> None:
    """Raise BadFile for the first bad row; on one row, the fault listed first wins."""
    worst: tuple[int, FileFault, str, str] | None = None
    for part in columns.shelf.parts(len(columns)):
        worst = _worst_row(columns, part, length_ns)
        if worst is not None:
            break
    else:
        return
    row, fault, column, fix = worst
    if column == "ts":
        value = f"open time {columns.open_ns[row]} ns after {columns.open_ns[row - 1]} ns"
    else:
        text = columns.texts(column, row, row + 1)[0]
        value = (repr(text[:40]) if text else "nothing") if fault is FileFault.NOT_A_NUMBER else text
    others = f" ({_range_of(columns, row)})" if fault in _RANGE_FAULTS else ""
    line = "" if first_line is None else f" (line {row + first_line})"
    raise BadFile(fault, f"{path}: row {row + 1}{line}, column {names[column]}: {value}{others}: {fix}")


def _worst_row(columns: BarColumns, part: slice, length_ns: int) -> tuple[int, FileFault, str, str] | None:
    """The first bad row of a part, its fault, column and fix."""
    worst: tuple[int, FileFault, str, str] | None = None
    before_ns = columns.open_ns[part.start - 1] if part.start else columns.open_ns[0] - max(length_ns, 1)
    for fault, column, bad, fix in _row_checks(columns.part(part.start, part.stop), before_ns, length_ns):
        rows = np.flatnonzero(bad)
        if len(rows) and (worst is None or part.start + int(rows[0]) < worst[0]):
            worst = (part.start + int(rows[0]), fault, column, fix)
    return worst


_RANGE_FAULTS = (FileFault.HIGH_BELOW_LOW, FileFault.OPEN_OUTSIDE_RANGE, FileFault.CLOSE_OUTSIDE_RANGE)


def _range_of(columns: BarColumns, row: int) -> str:
    high, low = (columns.texts(name, row, row + 1)[0] for name in ("high", "low"))
    return f"high {high}, low {low}"


def _row_checks(
    columns: BarColumns, before_ns: np.int64, length_ns: int
) -> Iterator[tuple[FileFault, str, Flags, str]]:
    """Every row check: fault, column, one flag per row, and the fix. Float comparisons are exact for float data.

    For text columns a comparison of floats can only miss a difference beyond the 17th digit; ``checks`` finds that.
    """
    steps = np.diff(columns.open_ns, prepend=before_ns)
    yield FileFault.UNSORTED, "ts", steps < 0, "sort the file by time"
    yield FileFault.DUPLICATE_TIME, "ts", steps == 0, "keep one bar for each time"
    overlap = (steps > 0) & (steps < length_ns)
    yield FileFault.BARS_OVERLAP, "ts", overlap, "the bars are closer than their timeframe: correct the timeframe"
    for name in NUMBER_COLUMNS:
        values: Floats = getattr(columns, name)
        bad = ~np.isfinite(values)
        if bad.any():
            first = int(np.argmax(bad))
            said = columns.texts(name, first, first + 1)[0].lower().lstrip("+-")
            fault = FileFault.NOT_FINITE if said in NOT_FINITE_WORDS else FileFault.NOT_A_NUMBER
            yield fault, name, bad, "write a plain decimal number, or remove the row"
    for name in NUMBER_COLUMNS[:4]:
        yield FileFault.NON_POSITIVE_PRICE, name, getattr(columns, name) <= 0, "a price is above 0: remove the row"
    yield FileFault.NEGATIVE_VOLUME, "volume", columns.volume < 0, "a volume is 0 or more: correct or remove the row"
    low, high = columns.low, columns.high
    yield FileFault.HIGH_BELOW_LOW, "high", high < low, "correct or remove the row"
    for fault, name in ((FileFault.OPEN_OUTSIDE_RANGE, "open"), (FileFault.CLOSE_OUTSIDE_RANGE, "close")):
        price: Floats = getattr(columns, name)
        yield fault, name, (price < low) | (price > high), "correct or remove the row"
