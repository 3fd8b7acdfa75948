"""Bars and outputs as columns: reading them, turning them into other frames, cutting and poisoning them, comparing.

A table is a dict of numpy columns of one length. ``ts`` is the open time (int64, UTC ns, never falling); rows of equal
time are the same bar of several instruments, named in ``instrument``. Equal means equal to the last bit; a NaN equals
any NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tapeline_lab.bias.findings import Probe
from tapeline_marketdata.columns import FileColumns
from tapeline_marketdata.files import TIME_COLUMNS, BarFile

Column: TypeAlias = NDArray[Any]
Table: TypeAlias = dict[str, Column]
Flags: TypeAlias = NDArray[np.bool_]

TIME, INSTRUMENT = "ts", "instrument"
PRICES = ("open", "high", "low", "close")
AFTER_OPEN = ("high", "low", "close", "volume")
LARGEST_EXACT = 2**53


class Frame(StrEnum):
    """What a pipeline takes."""

    NUMPY = "numpy"
    POLARS = "polars"
    PANDAS = "pandas"


class BadOutput(ValueError):
    """A pipeline returned something that cannot be compared. The message names it and the fix."""


# ---- in ----------------------------------------------------------------------------------------------------------


def table_of(file: BarFile, last_bars: int | None = None) -> Table:
    """Columns ts, open, high, low, close, volume of a file of bars; only the last ones if so many are asked for."""
    columns = file.columns
    start = 0 if last_bars is None else max(0, len(file) - last_bars)
    table: Table = {TIME: columns.open_ns[start:].copy()}
    for name in (*PRICES, "volume"):
        table[name] = getattr(columns, name)[start:].copy()
    return table


def with_features(table: Table, path: str) -> Table:
    """The table with the other columns of numbers that its file has, for the rows that the table has."""
    found = dict(table)
    known = {*TIME_COLUMNS, *PRICES, "volume"}
    with closing(FileColumns(Path(path))) as file:
        for name in file.column_names:
            if name.lower() in known:
                continue
            values = np.asarray(file.take(name).to_numpy(zero_copy_only=False))
            values = _from_text(values)
            if values.dtype.kind in "fiub":
                found[name] = values[len(values) - len(table[TIME]) :].astype(np.float64)
    return found


def _from_text(values: Column) -> Column:
    """Numbers that a file keeps as text; the text where it is none."""
    if values.dtype.kind != "O":
        return values
    try:
        return np.array([np.nan if value in (None, "") else float(value) for value in values])
    except (TypeError, ValueError):
        return values


def panel_of(tables: Mapping[str, Table]) -> Table:
    """Several instruments as one table: by time, then in the order given."""
    names = list(tables)
    joined: Table = {key: np.concatenate([tables[name][key] for name in names]) for key in next(iter(tables.values()))}
    joined[INSTRUMENT] = np.concatenate([np.full(len(tables[name][TIME]), name, dtype=object) for name in names])
    order = np.argsort(joined[TIME], kind="stable")
    return {key: column[order] for key, column in joined.items()}


def checked(table: Table) -> Table:
    """The table, if it is one. Raises ``ValueError``."""
    if TIME not in table:
        raise ValueError(f"a table of bars needs a column {TIME!r}; it has {', '.join(table)}")
    time_ns = table[TIME]
    if any(len(column) != len(time_ns) for column in table.values()):
        raise ValueError(f"columns of several lengths: { {name: len(column) for name, column in table.items()} }")
    if np.any(np.diff(time_ns) < 0):
        raise ValueError("the bars are not in order of time: sort them by ts")
    return table


def framed(table: Table, frame: Frame) -> Any:
    """The same rows as another kind of frame, sharing no memory with the table."""
    copied = {name: column.copy() for name, column in table.items()}
    if frame is Frame.NUMPY:
        return copied
    if frame is Frame.POLARS:
        import polars as pl

        return pl.DataFrame(
            {name: column.tolist() if column.dtype == object else column for name, column in copied.items()}
        ).with_columns(pl.from_epoch(TIME, time_unit="ns").dt.replace_time_zone("UTC"))
    import pandas as pd

    copied[TIME] = pd.to_datetime(copied[TIME], unit="ns", utc=True)
    return pd.DataFrame(copied)


# ---- out ---------------------------------------------------------------------------------------------------------

Identity: TypeAlias = int | tuple[Any, ...]
"""A row of an output: its number, or (time, instrument) where the output says them."""


@dataclass(frozen=True)
class Output:
    """What a pipeline said: float64 or object columns, and the time of each row (int64, UTC ns)."""

    columns: Table
    time_ns: NDArray[np.int64]
    keys: tuple[Identity, ...] | None = None

    @cached_property
    def rows(self) -> dict[Identity, int]:
        return {} if self.keys is None else {key: row for row, key in enumerate(self.keys)}

    def column(self, name: str) -> Column:
        """A column; one that is not there is a column of nothing, as where no row has met its condition yet."""
        found = self.columns.get(name)
        return np.full(len(self.time_ns), np.nan) if found is None else found

    def row_of(self, identity: Identity) -> int | None:
        """Where a row is; ``None`` if there is none."""
        if self.keys is not None:
            return self.rows.get(identity)
        assert isinstance(identity, int), "rows without keys are counted"
        return identity if identity < len(self.time_ns) else None

    def identity(self, row: int) -> Identity:
        return row if self.keys is None else self.keys[row]


def output_of(said: Any, table: Table) -> Output:
    """What a pipeline returned for a table, as columns.

    A frame that has a column ``ts`` is compared by time (and ``instrument``), any other by row, and then it must have
    as many rows as there are bars. Raises ``BadOutput``.
    """
    given = _columns_of(said)
    times = given.pop(TIME, None)
    columns = {name: _plain(column) for name, column in given.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise BadOutput(f"the pipeline returned columns of several lengths: {lengths}")
    if times is not None:
        time_ns = _times_of(times)
        names = columns.get(INSTRUMENT)
        keys: list[Identity] = [(int(moment),) for moment in time_ns]
        if names is not None:
            keys = [(int(moment), name) for moment, name in zip(time_ns, names, strict=True)]
        if len(set(keys)) != len(keys):
            raise BadOutput("the pipeline returned several rows of one ts: add an instrument column, or leave ts away")
        return Output(columns, time_ns, tuple(keys))
    rows, bars = next(iter(lengths.values()), 0), len(table[TIME])
    if rows != bars:
        raise BadOutput(
            f"the pipeline returned {rows} rows for {bars} bars: return one row for each bar, or a column 'ts' that "
            f"says from when on a row is known"
        )
    return Output(columns, table[TIME])


def _columns_of(said: Any) -> dict[str, Any]:
    if isinstance(said, Mapping):
        return {str(name): np.asarray(column) for name, column in said.items()}
    if isinstance(said, np.ndarray):
        return {f"column {number}": column for number, column in enumerate(np.atleast_2d(said.T))}
    if hasattr(said, "to_frame"):
        said = said.to_frame()
    if not hasattr(said, "columns"):
        raise BadOutput(f"the pipeline returned {type(said).__name__}: return a frame, an array or a dict of columns")
    return {str(name): said[name].to_numpy() for name in said.columns}


def _times_of(column: Column) -> NDArray[np.int64]:
    values = np.asarray(column)
    if values.dtype == object:  # pandas hands out its own time stamps where there is a time zone
        values = np.array([moment.to_datetime64() for moment in values])
    if values.dtype.kind == "M":
        values = values.astype("datetime64[ns]")
    return values.astype(np.int64)


def _plain(column: Column) -> Column:
    """As float64 where that is exact, else as objects: a column may change its type with its length."""
    values = np.asarray(column)
    kind = values.dtype.kind
    if kind == "f" or kind == "b":
        return values.astype(np.float64)
    if kind in "iu" and (not len(values) or int(np.abs(values.astype(np.float64)).max()) <= LARGEST_EXACT):
        return values.astype(np.float64)
    if kind == "O":
        return _numbers_in(values)
    return values.astype(object)


def _numbers_in(values: Column) -> Column:
    if all(value is None or isinstance(value, bool | int | float | np.number | np.bool_) for value in values):
        return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    return values


# ---- comparing ---------------------------------------------------------------------------------------------------


def unequal(left: Column, right: Column) -> Flags:
    """Which values are not the same to the last bit, shape (n,)."""
    if left.dtype == np.float64 and right.dtype == np.float64:
        bits: Flags = left.view(np.int64) != right.view(np.int64)
        return bits & ~(np.isnan(left) & np.isnan(right))
    ones, others = left.astype(object), right.astype(object)
    differs: Flags = (ones != others) & ~(_missing(ones) & _missing(others))
    return differs.astype(np.bool_)


def _missing(values: Column) -> Column:
    """Where there is nothing: ``None`` or NaN, which a column without any value may have become."""
    nothing: Any = None  # compared one by one: `is` would compare the array
    missing: Column = (values != values) | (values == nothing)
    return missing


def relative_difference(left: Column, right: Column, least: float = 0.0) -> NDArray[np.float64]:
    """|left - right| / max(|left|, |right|, least); infinite where only one is a number, or none is and they differ."""
    differs = unequal(left, right)
    if not (left.dtype == np.float64 and right.dtype == np.float64):
        return np.where(differs, np.inf, 0.0)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        relative = np.abs(left - right) / np.maximum(np.maximum(np.abs(left), np.abs(right)), least)
    relative = np.where(np.isnan(relative), np.inf, relative)
    # Both zero, of another sign: another bit and no difference.
    return np.where(differs & ~((left == 0) & (right == 0)), relative, 0.0)


# ---- another future ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moments:
    """The distinct times of a table, ``time_ns`` (T,), and how many rows there are up to each, ``stops`` (T,)."""

    time_ns: NDArray[np.int64]
    stops: NDArray[np.int64]

    @classmethod
    def of(cls, table: Table) -> Moments:
        time_ns, counts = np.unique(table[TIME], return_counts=True)
        return cls(time_ns, np.cumsum(counts))

    def __len__(self) -> int:
        return len(self.time_ns)


def altered(table: Table, moments: Moments, cut: int, probe: Probe, seed: int, until: int | None = None) -> Table:
    """The table with other bars after bar ``cut``; the rows up to it are untouched.

    Args:
        until: last bar that is altered; all of them unless given. Bars cannot be left out of the middle.
        seed: of the shuffle; the same bars come out each time.
    """
    first = int(moments.stops[cut])
    if probe is Probe.PREFIX:
        return {name: column[:first].copy() for name, column in table.items()}
    stop = len(table[TIME]) if until is None else int(moments.stops[until])
    changed = {name: column.copy() for name, column in table.items()}
    values = [name for name in table if name not in (TIME, INSTRUMENT)]
    if probe is Probe.SHUFFLED:
        order = _shuffled(table, first, stop, np.random.Generator(np.random.Philox([seed, cut])))
        for name in values:
            changed[name][first:stop] = table[name][order]
        return changed
    if probe is Probe.UNFINISHED:  # the bar at the cut itself has opened and is going on
        first, values = (int(moments.stops[cut - 1]) if cut else 0), [name for name in AFTER_OPEN if name in table]
    for name in values:
        if table[name].dtype.kind != "f":
            continue
        changed[name][first:stop] = np.nan if probe is Probe.NAN else table[name][first:stop] * 10.0
    return changed


def _shuffled(table: Table, first: int, stop: int, chance: np.random.Generator) -> NDArray[np.int64]:
    """A permutation of the rows from ``first`` to ``stop`` that keeps every row with its instrument."""
    order = np.arange(first, stop)
    names = table.get(INSTRUMENT)
    if names is None:
        return chance.permutation(order)
    for name in dict.fromkeys(names[first:stop].tolist()):
        own = np.flatnonzero(names[first:stop] == name)
        order[own] = chance.permutation(order[own])
    return order
