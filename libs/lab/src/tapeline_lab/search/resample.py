"""Longer bars made of shorter ones: exact in every digit, and never of a bar that is not over.

A bar lies on the UTC grid of its timeframe. Its open, high, low and close are texts of the file, its volume is their
exact sum. The first bar is left out unless the file has its beginning, the last unless the file reaches its end; gaps
inside stay what they are, as an exchange's own bars have it.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tapeline_common.money import plain
from tapeline_marketdata.columns import BadFile, FileFault
from tapeline_marketdata.files import BarColumns, BarFile, facts_of
from tapeline_marketdata.timeframe import format_timeframe, grid_offset_ns

Ints = npt.NDArray[np.int64]


def resampled(file: BarFile, length_ns: int) -> BarFile:
    """Bars of ``length_ns``, a multiple of the file's own length.

    Raises:
        BadFile: the file's bars do not make up such bars, or not one of them is complete.
    """
    facts, columns = file.facts, file.columns
    name = format_timeframe(length_ns)
    if not facts.timeframe_ns or length_ns % facts.timeframe_ns:
        raise BadFile(
            FileFault.TIMEFRAME_UNKNOWN,
            f"{facts.path}: bars of {facts.timeframe} cannot make up bars of {name}: give a multiple of their length",
        )
    offset_ns = grid_offset_ns(length_ns)
    opens = (columns.open_ns - offset_ns) // length_ns * length_ns + offset_ns
    starts = np.flatnonzero(np.diff(opens, prepend=opens[0] - 1))
    stops = np.append(starts[1:], len(opens))
    if columns.open_ns[0] != opens[0]:
        starts, stops = starts[1:], stops[1:]
    if len(starts) and int(columns.open_ns[-1]) + facts.timeframe_ns < int(opens[-1]) + length_ns:
        starts, stops = starts[:-1], stops[:-1]
    if not len(starts):
        raise BadFile(FileFault.EMPTY, f"{facts.path}: holds not one whole bar of {name}: give more of it")
    made = _columns(columns, starts, stops, opens[starts])
    told = facts_of(
        Path(facts.path), facts.format, facts.time_column, facts.time_unit, (name, length_ns), made.open_ns, facts.notes
    )
    return BarFile(msgspec.structs.replace(told, made_from=f"bars of {facts.timeframe}"), made)


def _columns(columns: BarColumns, starts: Ints, stops: Ints, open_ns: Ints) -> BarColumns:
    rows = {
        "open": starts,
        "high": _extreme(columns.high, starts, stops),
        "low": _extreme(-columns.low, starts, stops),
        "close": stops - 1,
    }
    picked = {name: columns.picked(name, chosen) for name, chosen in rows.items()}
    floats = {name: one[0] for name, one in picked.items()}
    printed: dict[str, Any] = {name: one[1] for name, one in picked.items()}
    volumes = _volumes(columns, starts, stops)
    floats["volume"], printed["volume"] = np.array([float(text) for text in volumes]), pa.array(volumes, pa.string())
    return BarColumns(open_ns, floats, printed)


def _extreme(values: npt.NDArray[np.float64], starts: Ints, stops: Ints) -> Ints:
    """Row of the first largest value of each group."""
    stop = int(stops[-1])
    largest = np.repeat(np.maximum.reduceat(values[:stop], starts), stops - starts)
    first = int(starts[0])
    at = np.where(values[first:stop] == largest, np.arange(first, stop), stop)
    rows: Ints = np.minimum.reduceat(at, starts - first)
    return rows


def _volumes(columns: BarColumns, starts: Ints, stops: Ints) -> list[str]:
    """Exact sums of the volumes' texts."""
    texts = [Decimal(text) for text in columns.texts("volume", 0, int(stops[-1]))]
    sums = (sum(texts[start:stop], Decimal(0)) for start, stop in zip(starts.tolist(), stops.tolist(), strict=True))
    return [format(plain(one), "f") for one in sums]
