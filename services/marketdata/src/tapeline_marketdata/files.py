"""Bars from Parquet and CSV files: what was detected is said, what is wrong is named with its row and its fix.

Columns ts, open, high, low, close, volume, in any case and order; ``TIME_COLUMNS`` lists the accepted names of the open
time, which is UTC. Times may be epoch numbers (s, ms, us, ns: told apart by magnitude), dates or timestamps.
Numbers keep the text the file prints; binary floats become their shortest decimal (``bars.decimal_text``).

``strict`` reading raises at the first bad row (a backtest must not run on bad data); otherwise bad rows pass through to
``checks``, which turns them into facts. Faults of the file as a whole always raise. Nothing is repaired or reordered,
and gaps are counted, not refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from tapeline_common.events import BarClosed
from tapeline_common.values import InstrumentId
from tapeline_marketdata.bars import NOT_FINITE_WORDS, plain_decimal
from tapeline_marketdata.timeframe import UnknownTimeframe, format_timeframe, parse_timeframe

TIME_COLUMNS = ("ts", "timestamp", "open_time", "datetime", "date", "time")
NUMBER_COLUMNS = ("open", "high", "low", "close", "volume")
SLICE_BARS = 8192
"""Bars turned into objects at a time: large enough to amortise, small enough to stay in cache."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class FileFault(StrEnum):
    """Everything that can be wrong with a file of bars. Those of the first block always raise, the rest if strict."""

    MISSING_FILE = "MISSING_FILE"
    UNREADABLE = "UNREADABLE"
    MISSING_COLUMN = "MISSING_COLUMN"
    AMBIGUOUS_COLUMN = "AMBIGUOUS_COLUMN"
    EMPTY = "EMPTY"
    TIME_UNIT_UNKNOWN = "TIME_UNIT_UNKNOWN"
    TIMEFRAME_UNKNOWN = "TIMEFRAME_UNKNOWN"

    UNSORTED = "UNSORTED"
    DUPLICATE_TIME = "DUPLICATE_TIME"
    BARS_OVERLAP = "BARS_OVERLAP"
    NOT_A_NUMBER = "NOT_A_NUMBER"
    NOT_FINITE = "NOT_FINITE"
    NON_POSITIVE_PRICE = "NON_POSITIVE_PRICE"
    NEGATIVE_VOLUME = "NEGATIVE_VOLUME"
    HIGH_BELOW_LOW = "HIGH_BELOW_LOW"
    OPEN_OUTSIDE_RANGE = "OPEN_OUTSIDE_RANGE"
    CLOSE_OUTSIDE_RANGE = "CLOSE_OUTSIDE_RANGE"


class BadFile(Exception):
    """A file that cannot be used as asked. ``str()`` is one line: file, row and column, value, fix."""

    def __init__(self, fault: FileFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a file found out. ``notes`` says in words what was detected rather than given.

    ``grid_offset_ns``: where the first bar's grid starts after the epoch, for ``checks.Checker``; the bars that lie
    elsewhere are counted in ``off_grid_bars``.
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


class BarColumns:
    """The bars of one file as columns, all of one length.

    ``open_ns``: int64, UTC ns. ``open`` to ``volume``: float64, for vectorised work (NaN where the file has no number).
    ``texts(name, start, stop)``: the same numbers as decimal text, made slice by slice.
    """

    __slots__ = ("_printed", "close", "high", "low", "open", "open_ns", "volume")

    def __init__(self, open_ns: Ints, floats: dict[str, Floats], printed: dict[str, Any]) -> None:
        self.open_ns = open_ns
        self.open, self.high, self.low, self.close, self.volume = (floats[name] for name in NUMBER_COLUMNS)
        self._printed = printed

    def __len__(self) -> int:
        return len(self.open_ns)

    def texts(self, name: str, start: int = 0, stop: int | None = None) -> list[str]:
        """Decimal texts of one number column, rows start to stop."""
        column = self._printed[name][start : len(self) if stop is None else stop]
        return _texts(column)

    def longest_text(self, name: str) -> int:
        """Length of the longest text of a number column as the file prints it; 0 for binary floats."""
        column = self._printed[name]
        if pa.types.is_float64(column.type) or not len(column):
            return 0
        return int(pc.max(pc.utf8_length(column)).as_py())


class BarFile:
    """One file of bars, read and described. ``bars(instrument)`` yields them as objects, in the order of the file."""

    def __init__(self, facts: FileFacts, columns: BarColumns) -> None:
        self.facts = facts
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns)

    def slices(self, instrument: InstrumentId, start: int = 0, size: int = SLICE_BARS) -> Iterator[list[BarClosed]]:
        """Lists of up to ``size`` bars from row ``start`` (0-based) on."""
        for first in range(start, len(self.columns), size):
            yield self._slice(instrument, first, min(first + size, len(self.columns)))

    def bars(self, instrument: InstrumentId, start: int = 0) -> Iterator[BarClosed]:
        """Every bar from row ``start`` (0-based) on."""
        for some in self.slices(instrument, start):
            yield from some

    def _slice(self, instrument: InstrumentId, start: int, stop: int) -> list[BarClosed]:
        timeframe, length_ns = self.facts.timeframe, self.facts.timeframe_ns
        texts = (self.columns.texts(name, start, stop) for name in NUMBER_COLUMNS)
        return [
            BarClosed(instrument, timeframe, open_ns, open_ns + length_ns, *numbers)
            for open_ns, *numbers in zip(self.columns.open_ns[start:stop].tolist(), *texts, strict=True)
        ]


def read_bars(path: str | Path, *, timeframe: str | None = None, strict: bool = True) -> BarFile:
    """Read a Parquet or CSV file of bars.

    timeframe: the bars' length; None infers it from the most common distance between rows.
    Raises BadFile; UnknownTimeframe if ``timeframe`` is no timeframe.
    """
    path = Path(path)
    given_ns = None if timeframe is None else parse_timeframe(timeframe)
    table, file_format = _read_table(path)
    names = _column_names(path, table)
    if table.num_rows == 0:
        raise BadFile(FileFault.EMPTY, f"{path}: the file has a header but no bars: give one with data")
    raw_times = _whole(table.column(names["ts"]))
    open_ns, unit, notes = _times(path, names["ts"], raw_times)
    printed, floats = {}, {}
    for name in NUMBER_COLUMNS:
        printed[name], floats[name] = _numbers(path, names[name], _whole(table.column(names[name])))
    columns = BarColumns(open_ns, floats, printed)
    length_ns, timeframe_note = _timeframe(path, open_ns, given_ns)
    if strict:
        _refuse_bad_rows(path, names, columns, length_ns, first_line=2 if file_format == "csv" else None)
    if names["ts"].lower() != "ts":
        notes.insert(0, f"open time taken from column {names['ts']!r}")
    facts = _facts(path, file_format, names["ts"], unit, length_ns, open_ns, (*notes, *timeframe_note))
    return BarFile(facts, columns)


def file_digest(path: str | Path) -> str:
    """SHA-256 (hex) of the file's bytes: what a tape records as the source of its bars. Raises BadFile."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _missing(Path(path), error) from None


def _missing(path: Path, error: OSError) -> BadFile:
    reason = (
        "is a directory" if isinstance(error, IsADirectoryError) else (error.strerror or "cannot be opened").lower()
    )
    return BadFile(
        FileFault.MISSING_FILE, f"{path}: {reason}: give the path of a .parquet or .csv file that you may read"
    )


def _read_table(path: Path) -> tuple[Any, str]:
    """The file as a table; CSV cells stay text, so that decimals keep the form in which they were printed."""
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise _missing(path, error) from None
    try:
        if magic == b"PAR1":
            return pa.parquet.read_table(path), "parquet"
        if path.suffix.lower() in (".parquet", ".pq"):
            raise BadFile(
                FileFault.UNREADABLE, f"{path}: not a Parquet file (it does not begin with PAR1): write it anew"
            )
        return _read_csv(path), "csv"
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadFile(
            FileFault.UNREADABLE,
            f"{path}: neither Parquet nor CSV that can be read ({reason}): convert it to one of them",
        ) from None


def _read_csv(path: Path) -> Any:
    with pa.input_stream(path) as stream:
        head = bytes(stream.read(65_536)).decode("utf-8", errors="replace").removeprefix("﻿")
    if not head.strip():
        raise BadFile(FileFault.EMPTY, f"{path}: the file is empty: give one with a header line and data")
    header = head.splitlines()[0]
    delimiter = max(",;\t", key=header.count)
    cells = [cell.strip().strip('"') for cell in header.split(delimiter)]
    if all(_is_number(cell) for cell in cells):
        raise BadFile(
            FileFault.MISSING_COLUMN,
            f"{path}: line 1 ({header[:60]}) is data: put the header line ts,open,high,low,close,volume above it",
        )
    return pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(column_names=cells, skip_rows=1),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter),
        convert_options=pa.csv.ConvertOptions(column_types={cell: pa.string() for cell in cells}),
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _column_names(path: Path, table: Any) -> dict[str, str]:
    """Our name of each needed column -> the file's. Raises BadFile naming every missing one."""
    by_lower: dict[str, str] = {}
    for name in table.column_names:
        folded = name.strip().lower()
        if folded in by_lower and folded in (*TIME_COLUMNS, *NUMBER_COLUMNS):
            raise BadFile(
                FileFault.AMBIGUOUS_COLUMN,
                f"{path}: columns {by_lower[folded]!r} and {name!r} both name {folded}: keep one",
            )
        by_lower[folded] = name
    names = {name: by_lower[name] for name in NUMBER_COLUMNS if name in by_lower}
    time_column = next((by_lower[name] for name in TIME_COLUMNS if name in by_lower), None)
    missing = [name for name in NUMBER_COLUMNS if name not in names]
    if time_column is None:
        missing.insert(0, f"ts (or {', '.join(TIME_COLUMNS[1:])})")
    if time_column is None or missing:
        has = ", ".join(table.column_names) or "none"
        raise BadFile(
            FileFault.MISSING_COLUMN,
            f"{path}: missing column {', '.join(missing)}; it has {has}: rename or add the missing ones",
        )
    return {"ts": time_column, **names}


def _whole(column: Any) -> Any:
    """One contiguous array. Dictionary-encoded text is decoded, CSV padding is cut."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], type=array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        array = pc.utf8_trim_whitespace(array)
    return array


_UNITS = (("s", 10**8, 10**9), ("ms", 10**11, 10**6), ("us", 10**14, 10**3), ("ns", 10**17, 1))
"""Name, smallest number taken for this unit (in 1973), ns in it. Each reaches to where the next one begins."""

LAST_NS = 2**63 - 1
"""The last time that fits the tape's integers, in the year 2262."""


def _times(path: Path, name: str, times: Any) -> tuple[Ints, str, list[str]]:
    """Open times in ns, their unit, and how it was found out."""
    if times.null_count:
        row = int(np.flatnonzero(times.is_null().to_numpy(zero_copy_only=False))[0])
        raise _bad_time(path, name, row, "nothing")
    kind = times.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        note = f"{name} is of type {kind}" + ("" if getattr(kind, "tz", "UTC") else ", taken as UTC")
        return _timestamp_ns(path, name, times), str(getattr(kind, "unit", "date")), [note]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _times_from_text(path, name, times)
    if pa.types.is_integer(kind):
        numbers: Any = times.to_numpy()
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = times.cast(pa.float64()).to_numpy()
    else:
        raise _bad_time(path, name, 0, f"a value of type {kind}")
    return _epoch_ns(path, name, numbers)


def _timestamp_ns(path: Path, name: str, times: Any) -> Ints:
    try:
        zone = getattr(times.type, "tz", None)
        found: Ints = np.array(times.cast(pa.timestamp("ns", zone)).cast(pa.int64()).to_numpy())
    except pa.ArrowInvalid:
        raise _bad_time(path, name, 0, "a column of dates outside the years 1678 to 2262") from None
    return found


def _times_from_text(path: Path, name: str, times: Any) -> tuple[Ints, str, list[str]]:
    for kind in (pa.int64(), pa.float64()):
        try:
            return _epoch_ns(path, name, times.cast(kind).to_numpy())
        except pa.ArrowInvalid:
            continue
    for zone in (None, "UTC"):
        try:
            open_ns = np.array(times.cast(pa.timestamp("ns", zone)).cast(pa.int64()).to_numpy())
        except pa.ArrowInvalid:
            continue
        meaning = "without zone, taken as UTC" if zone is None else "with zone, converted to UTC"
        return open_ns, "iso", [f"{name} is ISO 8601 text {meaning}"]
    row = next(row for row, text in enumerate(times.to_pylist()) if not _is_iso(text, with_zone=_has_zone(times[0])))
    raise _bad_time(path, name, row, repr(times[row].as_py())[:60])


def _has_zone(first: Any) -> bool:
    return _is_iso(first.as_py(), with_zone=True)


def _is_iso(text: str, *, with_zone: bool) -> bool:
    try:
        pa.array([text]).cast(pa.timestamp("ns", "UTC" if with_zone else None))
    except pa.ArrowInvalid:
        return False
    return True


def _epoch_ns(path: Path, name: str, numbers: Any) -> tuple[Ints, str, list[str]]:
    """Epoch numbers of one unit, told by magnitude, as ns. Mixed units are refused: half the file would be wrong."""
    if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise _bad_time(path, name, row, str(numbers[row]))
    lowest = np.array([lowest for _, lowest, _ in _UNITS], dtype=np.float64)
    ranks = np.searchsorted(lowest, numbers.astype(np.float64), side="right") - 1
    if ranks[0] < 0:
        raise _bad_time(path, name, 0, str(numbers[0]))
    unit, _, unit_ns = _UNITS[int(ranks[0])]
    odd = np.flatnonzero((ranks != ranks[0]) | (numbers > LAST_NS // unit_ns))
    if len(odd):
        row = int(odd[0])
        raise _bad_time(path, name, row, f"{numbers[row]}, read in {unit} like row 1,")
    note = f"{name} is in {unit} since the epoch, detected by magnitude"
    if numbers.dtype.kind == "f":
        # A float second or millisecond is exact only to about the microsecond, so that is where it is rounded.
        micros = np.rint(numbers * (unit_ns / 1000)).astype(np.int64)
        return micros * 1000, unit, [note]
    return numbers.astype(np.int64) * unit_ns, unit, [note]


def _bad_time(path: Path, name: str, row: int, value: str) -> BadFile:
    return BadFile(
        FileFault.TIME_UNIT_UNKNOWN,
        f"{path}: row {row + 1}, column {name}: {value} is no time that can be understood: give UTC epoch numbers"
        " in one of s, ms, us, ns (years 1973 to 2262), or ISO 8601 such as 2024-01-31T09:30:00Z",
    )


def _numbers(path: Path, name: str, column: Any) -> tuple[Any, Floats]:
    """What to print, and the float64 values (NaN where there is no number)."""
    kind = column.type
    if pa.types.is_float64(kind):
        return column, np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column, _floats_of_text(column)
    # float32 by its own shortest text (0.1, not 0.10000000149011612); integers and decimals exactly.
    try:
        text = column.cast(pa.string())
    except pa.ArrowException:
        raise BadFile(
            FileFault.NOT_A_NUMBER,
            f"{path}: column {name} is of type {kind}: store it as decimal, float, integer or text",
        ) from None
    return text, _floats_of_text(text)


def _floats_of_text(column: Any) -> Floats:
    try:
        return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    except pa.ArrowInvalid:
        cells = column.to_pylist()
        return np.array([float(cell) if _is_ascii_number(cell) else np.nan for cell in cells], dtype=np.float64)


def _is_ascii_number(cell: str | None) -> bool:
    return cell is not None and cell.isascii() and "_" not in cell and _is_number(cell)


def _texts(column: Any) -> list[str]:
    """Plain decimal texts. Arrow prints shortest floats as ``repr`` does but for exponents, -0 and the words."""
    if pa.types.is_float64(column.type):
        column = column.cast(pa.string())
    texts: list[str] = column.to_pylist()
    if column.null_count == 0 and pc.all(pc.match_substring_regex(column, _PRINTED_PLAINLY)).as_py():
        return texts
    return [_canonical(text) for text in texts]


_PRINTED_PLAINLY = r"^(?:-?[1-9][0-9]*(?:\.[0-9]+)?|-?0\.[0-9]+|0)$"


def _canonical(text: str | None) -> str:
    if text is None:
        return ""
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "-0": "0"}
    return words.get(text, plain_decimal(text))


def _timeframe(path: Path, open_ns: Ints, given_ns: int | None) -> tuple[int, list[str]]:
    steps = np.diff(open_ns)
    lengths, counts = np.unique(steps[steps > 0], return_counts=True)
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
        share = counts.max() / len(steps)
        return length_ns, [f"timeframe {name}, inferred from {share:.1%} of the distances between rows"]
    if len(lengths) and int(lengths[np.argmax(counts)]) != given_ns:
        usual = int(lengths[np.argmax(counts)]) / 1e9
        return given_ns, [f"timeframe {format_timeframe(given_ns)} as given, though most rows are {usual:g} s apart"]
    return given_ns, []


def _facts(
    path: Path, file_format: str, time_column: str, unit: str, length_ns: int, open_ns: Ints, notes: tuple[str, ...]
) -> FileFacts:
    steps = np.diff(open_ns)
    gaps = steps[steps > length_ns]
    off_grid = int(np.count_nonzero((open_ns - open_ns[0]) % length_ns))
    if off_grid:
        notes = (*notes, f"{off_grid} bars open off the grid of the first one")
    return FileFacts(
        path=str(path),
        format=file_format,
        rows=len(open_ns),
        time_column=time_column,
        time_unit=unit,
        timeframe=format_timeframe(length_ns),
        timeframe_ns=length_ns,
        first_open_ns=int(open_ns[0]),
        last_open_ns=int(open_ns[-1]),
        gaps=len(gaps),
        missing_bars=int((gaps // length_ns - 1).sum()),
        grid_offset_ns=int(open_ns[0] % length_ns),
        off_grid_bars=off_grid,
        notes=notes,
    )


def _refuse_bad_rows(
    path: Path, names: dict[str, str], columns: BarColumns, length_ns: int, first_line: int | None
) -> None:
    """Raise BadFile for the first bad row; on one row, the fault listed first wins."""
    worst: tuple[int, FileFault, str, str] | None = None
    for fault, column, bad, fix in _row_checks(columns, length_ns):
        rows = np.flatnonzero(bad)
        if len(rows) and (worst is None or int(rows[0]) < worst[0]):
            worst = (int(rows[0]), fault, column, fix)
    if worst is None:
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


_RANGE_FAULTS = (FileFault.HIGH_BELOW_LOW, FileFault.OPEN_OUTSIDE_RANGE, FileFault.CLOSE_OUTSIDE_RANGE)


def _range_of(columns: BarColumns, row: int) -> str:
    high, low = (columns.texts(name, row, row + 1)[0] for name in ("high", "low"))
    return f"high {high}, low {low}"


def _row_checks(columns: BarColumns, length_ns: int) -> Iterator[tuple[FileFault, str, Flags, str]]:
    """Every row check: fault, column, one flag per row, and the fix. Float comparisons are exact for float data.

    For text columns a comparison of floats can only miss a difference beyond the 17th digit; ``checks`` finds that.
    """
    steps = np.diff(columns.open_ns, prepend=columns.open_ns[0] - length_ns)
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
