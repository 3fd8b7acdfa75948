"""What lies in a folder: one line for each file of market data, from footers and first rows, not from whole files.

Of a Parquet file the footer says rows, first and last time; of a CSV file the first and the last line do, and its lines
are counted. The timeframe is told from the first rows. ``missing_bars`` therefore is what a market that never closes
would have more of; which of them are faults is for ``tapeline check-data``, which reads everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from tapeline_backtest.command import named_after
from tapeline_lab.data.kinds import DataKind, kind_of, time_column
from tapeline_marketdata.columns import BadFile, FileFault, columns_in, times_ns, whole
from tapeline_marketdata.files import TIMEFRAME_KEY
from tapeline_marketdata.timeframe import UnknownTimeframe, format_timeframe

FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv"}
"""Names of files that are looked at."""

HEAD_ROWS = 512
HEAD_BYTES = 65_536
COUNTED_BYTES = 1 << 22


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file. Times are UTC ns and ``None`` where the file does not say any.

    Attributes:
        instrument: guessed from the file's name, as ``tapeline backtest`` does.
        timeframe: of bars, empty for everything else.
        missing_bars: bars that a market which never closes would have between the first and the last.
        trouble: why the file cannot be read; the rest is then empty.
    """

    path: str
    kind: DataKind = DataKind.OTHER
    instrument: str = ""
    timeframe: str = ""
    rows: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    missing_bars: int | None = None
    bytes: int = 0
    format: str = ""
    trouble: str = ""


def files_in(folder: Path) -> Iterator[Path]:
    """Every file in a folder and below whose name says that it may hold market data, in order."""
    yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in FORMATS and path.is_file())


def entry_of(path: Path) -> Entry:
    """What a file is. One that cannot be read is an entry with its trouble."""
    size, form = path.stat().st_size, FORMATS[path.suffix.lower()]
    try:
        return _read(path, size, form)
    except BadFile as trouble:
        return Entry(path=str(path), bytes=size, format=form, trouble=trouble.message)


def _read(path: Path, size: int, form: str) -> Entry:
    names = columns_in(path)
    kind = kind_of(names)
    at = time_column(names)
    rows, times, said = _of_parquet(path, at) if form == "parquet" else _of_csv(path, names, at)
    if at is None or times is None:
        first, last, near = None, None, np.zeros(0, dtype=np.int64)
    else:
        found, _, _ = times_ns(path, at, times)
        first, last, near = int(found[-2]), int(found[-1]), found[:-2]
    length_ns = _length_ns(near) if kind is DataKind.BARS and not said else 0
    missing = None
    if length_ns and first is not None and last is not None:
        missing = max(0, (last - first) // length_ns + 1 - rows)
    return Entry(
        path=str(path),
        kind=kind,
        instrument="" if kind is DataKind.OTHER else named_after(str(path)),
        timeframe=said or (format_timeframe(length_ns) if length_ns else ""),
        rows=rows,
        first_ns=first,
        last_ns=last,
        missing_bars=missing,
        bytes=size,
        format=form,
    )


def _of_parquet(path: Path, at: str | None) -> tuple[int, Any, str]:
    """Rows; times of the first rows, then the first and the last of all; the timeframe that the file says it has."""
    try:
        with pa.parquet.ParquetFile(path, pre_buffer=False) as file:
            rows, schema = int(file.metadata.num_rows), file.schema_arrow
            said = (schema.metadata or {}).get(TIMEFRAME_KEY, b"").decode()
            if at is None or rows == 0:
                return rows, None, said
            bounds = _bounds(file, at)
            if bounds is None:
                column = whole(file.read(columns=[at]).column(at))
                return rows, _with_ends(column.slice(0, HEAD_ROWS), column), said
            batch = next(file.iter_batches(batch_size=HEAD_ROWS, columns=[at]))
            head = batch.column(0)
            return rows, pa.concat_arrays([head, pa.array(bounds, type=head.type)]), said
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadFile(FileFault.UNREADABLE, f"{path}: cannot be read ({reason}): write it anew") from None


def _bounds(file: Any, at: str) -> tuple[Any, Any] | None:
    """First and last time by the statistics of the footer, if every group of rows has them and they are whole numbers.

    Text and timestamps are read instead: what a footer says of those depends on who wrote it.
    """
    if not pa.types.is_integer(file.schema_arrow.field(at).type):
        return None
    column = file.schema_arrow.get_field_index(at)
    told = [file.metadata.row_group(group).column(column).statistics for group in range(file.metadata.num_row_groups)]
    if not all(one is not None and one.has_min_max for one in told):
        return None
    return min(one.min for one in told), max(one.max for one in told)


def _with_ends(head: Any, column: Any) -> Any:
    return pa.concat_arrays([head, column.slice(0, 1), column.slice(len(column) - 1, 1)])


def _of_csv(path: Path, names: list[str], at: str | None) -> tuple[int, Any, str]:
    """The same of a CSV file, whose last line stands for its last time."""
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        lines = head.count(b"\n")
        while block := file.read(COUNTED_BYTES):
            lines += block.count(b"\n")
        size = file.tell()
        file.seek(max(0, size - HEAD_BYTES))
        tail = file.read()
    rows = lines - 1 + (not tail.endswith(b"\n"))
    if at is None or rows <= 0:
        return max(0, rows), None, ""
    header, *first = head.decode("utf-8", errors="replace").splitlines()
    delimiter = max(",;\t", key=header.count)
    if len(head) < size:
        first = first[:-1]  # cut where the reading stopped
    last = tail.decode("utf-8", errors="replace").rstrip().splitlines()[-1]
    place = names.index(at)
    cells = [_cell(line, delimiter, place) for line in (*first[:HEAD_ROWS], first[0], last) if line.strip()]
    return rows, pa.array(cells, type=pa.string()), ""


def _cell(line: str, delimiter: str, place: int) -> str | None:
    cells = line.split(delimiter)
    return cells[place].strip().strip('"') if place < len(cells) else None


def _length_ns(times: Any) -> int:
    """The most common distance of neighbouring rows, 0 if that is no timeframe."""
    steps = np.diff(times)
    lengths, counts = np.unique(steps[steps > 0], return_counts=True)
    if not len(lengths):
        return 0
    length_ns = int(lengths[np.argmax(counts)])
    try:
        format_timeframe(length_ns)
    except UnknownTimeframe:
        return 0
    return length_ns
