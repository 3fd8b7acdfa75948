"""Columns of Parquet and CSV files: tables, times in nanoseconds, numbers as the text they were printed as.

Shared by every reader of recorded data. Times may be epoch numbers (s, ms, us, ns: told apart by magnitude), dates or
timestamps, and are UTC. Numbers keep the text the file prints; binary floats become their shortest decimal. What is
wrong is a ``BadFile`` that names file, row, column, value and fix. What the columns mean is not judged here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from tapeline_marketdata import pyarrow_alone  # noqa: F401  (before the first conversion)
from tapeline_marketdata.bars import plain_decimal
from tapeline_marketdata.shelf import IN_MEMORY, PART_ROWS, Shelf

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Names: TypeAlias = dict[str, str]
"""Our name of a column -> the file's."""


class FileFault(StrEnum):
    """Everything that can be wrong with a file of market data.

    Those of the first block always raise, the rest if it is read strictly.
    """

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
    BAD_SIDE = "BAD_SIDE"
    BAD_TRADE = "BAD_TRADE"


class BadFile(Exception):
    """A file that cannot be used as asked. ``str()`` is one line: file, row and column, value, fix."""

    def __init__(self, fault: FileFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message


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


def read_table(path: Path) -> tuple[Any, str]:
    """The file as a table; CSV cells stay text, so that decimals keep the form in which they were printed."""
    if _is_parquet(path):
        # Buffering ahead hides the delay of remote storage, which these files are not on, and holds them twice.
        return _reading(path, lambda: pa.parquet.read_table(path, pre_buffer=False)), "parquet"
    return _reading(path, lambda: _read_csv(path)), "csv"


BUFFER_BYTES = 1 << 16
"""Read from a Parquet file at once, so that a column that lies in one piece is not held as such beside its numbers."""


class FileColumns:
    """A file's columns, given away one at a time, so that a reader never holds all of them in two forms.

    Parquet is decoded column by column; CSV is read at once, and a column that was given away is let go.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadFile."""
        self._path = path
        self._parquet: Any = None
        self._columns: dict[str, Any] = {}
        if _is_parquet(path):
            self.format = "parquet"
            self._parquet = _reading(
                path, lambda: pa.parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES)
            )
            schema = self._parquet.schema_arrow
            self.column_names: list[str] = schema.names
            self.num_rows: int = self._parquet.metadata.num_rows
            self.metadata: dict[bytes, bytes] = schema.metadata or {}
        else:
            self.format = "csv"
            table = _reading(path, lambda: _read_csv(path))
            self.column_names, self.num_rows, self.metadata = table.column_names, table.num_rows, {}
            self._columns = dict(zip(table.column_names, table.columns, strict=True))

    def take(self, name: str) -> Any:
        """A column as one array, as ``whole`` makes it; once. Raises BadFile."""
        if self._parquet is None:
            return whole(self._columns.pop(name))
        return whole(_reading(self._path, lambda: self._parquet.read(columns=[name]).column(name)))

    def kind(self, name: str) -> Any:
        """The Arrow type of a column that was not given away."""
        return self._columns[name].type if self._parquet is None else self._parquet.schema_arrow.field(name).type

    def pieces(self, name: str) -> Iterator[Any]:
        """A column of a Parquet file as arrays of up to ``PART_ROWS`` rows. Raises BadFile."""
        batches = self._parquet.iter_batches(batch_size=PART_ROWS, columns=[name])
        while (batch := _reading(self._path, lambda: next(batches, None))) is not None:
            yield batch.column(0)

    def close(self) -> None:
        """Give back the file, and what Arrow keeps of columns that are gone: more than the bars themselves."""
        self._columns.clear()
        if self._parquet is not None:
            self._parquet.close()
        release_memory()


def _is_parquet(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise _missing(path, error) from None
    if magic != b"PAR1" and path.suffix.lower() in (".parquet", ".pq"):
        raise BadFile(FileFault.UNREADABLE, f"{path}: not a Parquet file (it does not begin with PAR1): write it anew")
    return magic == b"PAR1"


def release_memory() -> None:
    """Give back what Arrow keeps of tables that are gone: more than the bars themselves, for the rest of the run."""
    pa.default_memory_pool().release_unused()


def _reading(path: Path, read: Callable[[], Any]) -> Any:
    """What ``read`` returns; its errors as one BadFile."""
    try:
        return read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadFile(
            FileFault.UNREADABLE,
            f"{path}: neither Parquet nor CSV that can be read ({reason}): convert it to one of them",
        ) from None


def _csv_header(path: Path) -> tuple[str, list[str]]:
    """Delimiter and column names of a CSV file."""
    with pa.input_stream(path) as stream:
        head = bytes(stream.read(65_536)).decode("utf-8", errors="replace").removeprefix("﻿")
    if not head.strip():
        raise BadFile(FileFault.EMPTY, f"{path}: the file is empty: give one with a header line and data")
    header = head.splitlines()[0]
    delimiter = max(",;\t", key=header.count)
    cells = [cell.strip().strip('"') for cell in header.split(delimiter)]
    if all(is_number(cell) for cell in cells):
        raise BadFile(
            FileFault.MISSING_COLUMN,
            f"{path}: line 1 ({header[:60]}) is data: put the header line ts,open,high,low,close,volume above it"
            " (for trades ts,price,size,side)",
        )
    return delimiter, cells


def _read_csv(path: Path) -> Any:
    delimiter, cells = _csv_header(path)
    return pa.csv.read_csv(
        path,
        read_options=pa.csv.ReadOptions(column_names=cells, skip_rows=1),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter),
        convert_options=pa.csv.ConvertOptions(column_types={cell: pa.string() for cell in cells}),
    )


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_trades(columns: Sequence[str]) -> bool:
    """Whether these columns are those of trades rather than of bars."""
    names = {name.strip().lower() for name in columns}
    return "price" in names and not names & {"open", "high", "low", "close"}


def columns_in(path: Path) -> list[str]:
    """The file's columns, without reading what is in them. Raises BadFile."""
    parquet = _is_parquet(path)
    names: list[str] = _reading(path, lambda: pa.parquet.read_schema(path).names if parquet else _csv_header(path)[1])
    return names


def find_columns(path: Path, table: Any, wanted: Mapping[str, Sequence[str]], optional: Collection[str] = ()) -> Names:
    """Our name of each wanted column -> the file's: the first of its accepted names (lower case) that the file has.

    Case and surrounding blanks do not matter. Raises BadFile naming every missing one that is not optional.
    """
    known = {name for names in wanted.values() for name in names}
    by_lower: dict[str, str] = {}
    for name in table.column_names:
        folded = name.strip().lower()
        if folded in by_lower and folded in known:
            raise BadFile(
                FileFault.AMBIGUOUS_COLUMN,
                f"{path}: columns {by_lower[folded]!r} and {name!r} both name {folded}: keep one",
            )
        by_lower[folded] = name
    found = {
        ours: next(by_lower[name] for name in names if name in by_lower)
        for ours, names in wanted.items()
        if any(name in by_lower for name in names)
    }
    missing = [
        names[0] + (f" (or {', '.join(names[1:])})" if names[1:] else "")
        for ours, names in wanted.items()
        if ours not in found and ours not in optional
    ]
    if missing:
        has = ", ".join(table.column_names) or "none"
        raise BadFile(
            FileFault.MISSING_COLUMN,
            f"{path}: missing column {', '.join(missing)}; it has {has}: rename or add the missing ones",
        )
    return found


def whole(column: Any) -> Any:
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


def times_ns(
    path: Path, name: str, times: Any, *, before: int = 0, unit: str | None = None
) -> tuple[Ints, str, list[str]]:
    """Open times in ns, their unit, and how it was found out.

    before: rows of the same column before these; unit: what the first of them is in. Both are for numbers and
    timestamps; text is understood as a whole.
    """
    if times.null_count:
        row = int(np.flatnonzero(times.is_null().to_numpy(zero_copy_only=False))[0])
        raise _bad_time(path, name, before + row, "nothing")
    kind = times.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        note = f"{name} is of type {kind}" + ("" if getattr(kind, "tz", "UTC") else ", taken as UTC")
        return _timestamp_ns(path, name, times, before), str(getattr(kind, "unit", "date")), [note]
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _times_from_text(path, name, times)
    if pa.types.is_integer(kind):
        numbers: Any = times.to_numpy()
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = times.cast(pa.float64()).to_numpy()
    else:
        raise _bad_time(path, name, before, f"a value of type {kind}")
    return _epoch_ns(path, name, numbers, before, unit)


def times_of(path: Path, name: str, table: FileColumns, shelf: Shelf = IN_MEMORY) -> tuple[Ints, str, list[str]]:
    """``times_ns`` of a column, which is given away for it; piece by piece where it goes to disk."""
    kind = table.kind(name)
    is_instant = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    if not shelf.is_open or not (is_instant or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return times_ns(path, name, table.take(name))
    found = shelf.room(table.num_rows, np.int64)
    unit: str | None = None
    notes: list[str] = []
    before = 0
    for piece in table.pieces(name):
        some, unit, notes = times_ns(path, name, piece, before=before, unit=unit)
        found[before : before + len(some)] = some
        before += len(some)
        shelf.give_back()
    assert unit is not None, "a column on disk has rows"
    return found, unit, notes


def _timestamp_ns(path: Path, name: str, times: Any, before: int) -> Ints:
    try:
        zone = getattr(times.type, "tz", None)
        found: Ints = np.array(times.cast(pa.timestamp("ns", zone)).cast(pa.int64()).to_numpy())
    except pa.ArrowInvalid:
        raise _bad_time(path, name, before, "a column of dates outside the years 1678 to 2262") from None
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


def _epoch_ns(
    path: Path, name: str, numbers: Any, before: int = 0, unit: str | None = None
) -> tuple[Ints, str, list[str]]:
    """Epoch numbers of one unit, told by magnitude, as ns. Mixed units are refused: half the file would be wrong."""
    if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
        row = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise _bad_time(path, name, before + row, str(numbers[row]))
    lowest = np.array([lowest for _, lowest, _ in _UNITS], dtype=np.float64)
    ranks = np.searchsorted(lowest, numbers.astype(np.float64), side="right") - 1
    if unit is None and ranks[0] < 0:
        raise _bad_time(path, name, before, str(numbers[0]))
    rank = int(ranks[0]) if unit is None else [one for one, _, _ in _UNITS].index(unit)
    unit, _, unit_ns = _UNITS[rank]
    odd = np.flatnonzero((ranks != rank) | (numbers > LAST_NS // unit_ns))
    if len(odd):
        row = int(odd[0])
        raise _bad_time(path, name, before + row, f"{numbers[row]}, read in {unit} like row 1,")
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


def numbers_of(path: Path, name: str, column: Any) -> tuple[Any, Floats]:
    """What to print, and the float64 values (NaN where there is no number)."""
    kind = column.type
    if pa.types.is_float64(kind):
        floats = np.array(column.to_numpy(zero_copy_only=False), dtype=np.float64)
        # Printed from the same memory, so that the file's own copy can go; what is missing is only known to that.
        return (column if column.null_count else pa.array(floats)), floats
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


def numbers_in(path: Path, name: str, table: FileColumns, shelf: Shelf = IN_MEMORY) -> tuple[Any, Floats]:
    """``numbers_of`` a column, which is given away for it; binary floats without holes go to disk piece by piece."""
    if shelf.is_open and pa.types.is_float64(table.kind(name)):
        floats = shelf.room(table.num_rows, np.float64)
        before = 0
        for piece in table.pieces(name):
            if piece.null_count:
                break
            floats[before : before + len(piece)] = piece.to_numpy()
            before += len(piece)
            shelf.give_back()
        else:
            return pa.array(floats), floats
    return numbers_of(path, name, table.take(name))


def _floats_of_text(column: Any) -> Floats:
    try:
        return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    except pa.ArrowInvalid:
        cells = column.to_pylist()
        return np.array([float(cell) if _is_ascii_number(cell) else np.nan for cell in cells], dtype=np.float64)


def _is_ascii_number(cell: str | None) -> bool:
    return cell is not None and cell.isascii() and "_" not in cell and is_number(cell)


def texts_of(column: Any) -> list[str]:
    """Plain decimal texts. Arrow prints shortest floats as ``repr`` does but for exponents, -0 and the words."""
    if pa.types.is_float64(column.type):
        if column.null_count == 0:
            return _texts_of_floats(column)
        column = column.cast(pa.string())
    texts: list[str] = column.to_pylist()
    if column.null_count == 0 and pc.all(pc.match_substring_regex(column, _PRINTED_PLAINLY)).as_py():
        return texts
    return [_canonical(text) for text in texts]


def _texts_of_floats(column: Any) -> list[str]:
    """Only words, exponents and signs have to be written anew, and most columns have none: one look at all of them."""
    texts: list[str] = column.cast(pa.string()).to_pylist()
    joined = "".join(texts)
    if not any(mark in joined for mark in _UNPLAIN):
        return texts
    return [_canonical(text) if any(mark in text for mark in _UNPLAIN) else text for text in texts]


_UNPLAIN = ("e", "n", "-")
"""What is in a float's text that is not plain: 1e-07, nan, inf, -0."""


def longest_text_of(column: Any) -> int:
    """Length of the longest number as the file prints it; 0 for binary floats, whose text is made."""
    if pa.types.is_float64(column.type) or not len(column):
        return 0
    return int(pc.max(pc.utf8_length(column)).as_py())


def is_binary(column: Any) -> bool:
    """Whether a number column of a file is of binary floats, without holes."""
    return bool(pa.types.is_float64(column.type) and column.null_count == 0)


def text_bytes_of(column: Any) -> tuple[Bytes, Ints]:
    """``texts_of`` without an object per number: all of them behind each other in ASCII, and where each begins.

    The second has one entry more than there are rows: where the last one ends.
    """
    printed = column.cast(pa.large_string())
    array = printed.combine_chunks() if isinstance(printed, pa.ChunkedArray) else printed
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    joined = np.frombuffer(data, dtype=np.uint8)[starts[0] : starts[-1]] if data is not None else _NO_BYTES
    if pa.types.is_float64(column.type) and column.null_count == 0 and not _may_be_unplain(joined):
        return joined, starts - starts[0]
    texts = [text.encode() for text in texts_of(column)]
    return np.frombuffer(b"".join(texts), dtype=np.uint8), np.cumsum([0, *map(len, texts)])


_NO_BYTES = np.zeros(0, dtype=np.uint8)


def _may_be_unplain(joined: Bytes) -> bool:
    """Whether floats that Arrow printed hold a word, an exponent or a sign."""
    return bool(((joined > ord("9")) | (joined == ord("-"))).any())


_PRINTED_PLAINLY = r"^(?:-?[1-9][0-9]*(?:\.[0-9]+)?|-?0\.[0-9]+|0)$"


def _canonical(text: str | None) -> str:
    if text is None:
        return ""
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "-0": "0"}
    return words.get(text, plain_decimal(text))
