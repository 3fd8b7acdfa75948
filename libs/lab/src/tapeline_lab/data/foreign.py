"""Bars in files of other programs, as a table of our columns: feather, Freqtrade's JSON, LEAN's zipped CSV.

Numbers keep the text that the file prints where it is text. What the numbers mean is not judged here: the table is
written to a file that ``read_bars`` then reads as strictly as any other.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import pyarrow.feather

from tapeline_common.money import plain
from tapeline_marketdata.columns import BadFile, FileFault
from tapeline_marketdata.files import NUMBER_COLUMNS

SUFFIXES = (".feather", ".json", ".json.gz", ".zip")

DAY = re.compile(r"(?<!\d)\d{8}(?!\d)")
MILLISECONDS = timedelta(milliseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Written:
    """How a LEAN file writes its bars. zone: of its times. scale: prices are multiplied by it (equities: 10000)."""

    zone: str = "UTC"
    scale: Decimal = Decimal(1)


def is_foreign(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def read_foreign(path: Path, written: Written) -> Any:
    """A table of ts (or the file's own column of times) and open to volume. Raises BadFile."""
    name = path.name.lower()
    try:
        if name.endswith(".feather"):
            return pyarrow.feather.read_table(path)
        return _lean(path, written) if name.endswith(".zip") else _freqtrade(path)
    except BadFile:
        raise
    except FileNotFoundError:
        raise BadFile(FileFault.MISSING_FILE, f"{path}: no such file: name one to convert") from None
    except (OSError, pa.ArrowException, zipfile.BadZipFile, ValueError, InvalidOperation) as trouble:
        reason = " ".join(str(trouble).split())[:160]
        raise BadFile(FileFault.UNREADABLE, f"{path}: cannot be read as its name says ({reason})") from None


def _freqtrade(path: Path) -> Any:
    """A list of [time in ms, open, high, low, close, volume]."""
    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        content = gzip.decompress(content)
    rows = json.loads(content, parse_float=str, parse_int=str)
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == 6 for row in rows):
        raise ValueError("not a list of [time, open, high, low, close, volume]")
    return _table([int(row[0]) * 10**6 for row in rows], [row[1:] for row in rows])


def _lean(path: Path, written: Written) -> Any:
    """Trade bars: milliseconds since midnight (the day is in the file's name) or ``20240131 00:00``, then numbers."""
    try:
        zone = ZoneInfo(written.zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise BadFile(FileFault.UNREADABLE, f"--zone {written.zone}: no such time zone: write such as UTC") from None
    with zipfile.ZipFile(path) as archive:
        inside = [name for name in archive.namelist() if name.lower().endswith(".csv")]
        if len(inside) != 1:
            raise ValueError(f"{len(inside)} CSV files in it, and not one")
        rows = list(csv.reader(io.StringIO(archive.read(inside[0]).decode())))
    if not rows or any(len(row) != 6 for row in rows):
        raise ValueError("rows are not time, open, high, low, close, volume: quotes are not bars of trades")
    times = [_lean_ns(path, row[0], zone) for row in rows]
    return _table(times, [[*(_unscaled(price, written.scale) for price in row[1:5]), row[5]] for row in rows])


def _lean_ns(path: Path, text: str, zone: ZoneInfo) -> int:
    if " " in text:
        moment = datetime.strptime(text, "%Y%m%d %H:%M").replace(tzinfo=zone)
    else:
        named = DAY.search(path.name)
        if named is None:
            raise ValueError("its times are of a day, and its name does not say which, as 20240131_trade.zip does")
        # Clock time of that day: what a day's hours are called does not change with the clocks.
        day = datetime.strptime(named[0], "%Y%m%d").replace(tzinfo=zone)
        moment = day + int(text) * MILLISECONDS
    return (moment.astimezone(UTC) - EPOCH) // MICROSECOND * 1000


def _unscaled(price: str, scale: Decimal) -> str:
    return price if scale == 1 else format(plain(Decimal(price) / scale), "f")


def _table(times_ns: list[int], numbers: list[list[str]]) -> Any:
    columns = list(zip(*numbers, strict=True)) or [()] * len(NUMBER_COLUMNS)
    texts = {
        name: pa.array([str(cell) for cell in column], pa.string())
        for name, column in zip(NUMBER_COLUMNS, columns, strict=True)
    }
    return pa.table({"ts": pa.array(times_ns, pa.int64()), **texts})
