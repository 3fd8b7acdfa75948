"""Recorded books from Parquet and CSV files, one row for each level: snapshots and diffs as ``order_book`` takes them.

Columns ts, side, price, size and the exchange's numbers of a message (``COLUMNS`` lists the accepted names), as in
Binance's own depth files. Rows of one message follow each other. Prices and sizes keep the text the file prints.
Nothing is judged here but the file itself; ``order_book`` says what is wrong with a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tapeline_marketdata.columns import (
    BadFile,
    FileFault,
    Ints,
    find_columns,
    numbers_of,
    read_table,
    texts_of,
    times_ns,
    whole,
)
from tapeline_marketdata.files import TIME_COLUMNS
from tapeline_marketdata.order_book import Diff, Snapshot

COLUMNS = {
    "ts": TIME_COLUMNS,
    "side": ("side",),
    "price": ("price",),
    "size": ("size", "qty", "quantity", "amount"),
    "last": ("last_update_id", "sequence", "update_id"),
    "first": ("first_update_id",),
    "previous": ("prev_update_id", "pu"),
    "snapshot": ("is_snapshot", "update_type"),
    "message": ("msg_seq",),
}
OPTIONAL = ("first", "previous", "message")

BIDS = ("b", "bid", "bids", "buy")
ASKS = ("a", "ask", "asks", "sell", "offer")
SNAPSHOTS = ("true", "snap", "snapshot", "1")

NO_NUMBER = -1
"""What stands where a message has no such number; exchanges print the same."""


class BookMessage(msgspec.Struct, frozen=True, gc=False):
    """A recorded message and when it was recorded (UTC ns)."""

    time_ns: int
    book: Snapshot | Diff


class DepthFile:
    """One file of a book's messages, in the order of the file. ``rows``: levels; ``len()``: messages."""

    def __init__(self, path: Path, starts: Ints, columns: dict[str, Any]) -> None:
        self.path = path
        self._starts = starts
        self._columns = columns

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def rows(self) -> int:
        return int(self._starts[-1])

    def messages(self) -> Iterator[BookMessage]:
        """Every message, made when it is asked for."""
        columns = self._columns
        for start, stop in zip(self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True):
            levels = list(zip(columns["price"][start:stop], columns["size"][start:stop], strict=True))
            is_bid = columns["bid"][start:stop]
            bids = [level for level, bid in zip(levels, is_bid, strict=True) if bid]
            asks = [level for level, bid in zip(levels, is_bid, strict=True) if not bid]
            last = int(columns["last"][start])
            if columns["snapshot"][start]:
                book: Snapshot | Diff = Snapshot(bids, asks, last)
            else:
                book = Diff(bids, asks, _after(int(columns["first"][start]), int(columns["previous"][start])), last)
            yield BookMessage(int(columns["ts"][start]), book)


def _after(first: int, previous: int) -> int | None:
    """The sequence that a diff follows: said by the exchange, else the number before its first."""
    if previous != NO_NUMBER:
        return previous
    return None if first == NO_NUMBER else first - 1


def read_depth(path: str | Path) -> DepthFile:
    """Read a Parquet or CSV file of a book's levels. Raises BadFile."""
    path = Path(path)
    table, _ = read_table(path)
    names = find_columns(path, table, COLUMNS, OPTIONAL)
    if table.num_rows == 0:
        raise BadFile(FileFault.EMPTY, f"{path}: the file has a header but no levels: give one with data")
    columns = {
        "ts": times_ns(path, names["ts"], whole(table.column(names["ts"])))[0],
        "bid": _bids(path, names["side"], whole(table.column(names["side"]))),
        "snapshot": _flags(whole(table.column(names["snapshot"]))),
        **{ours: _integers(path, table, names.get(ours)) for ours in ("last", "first", "previous", "message")},
        **{ours: _texts(path, table, names[ours]) for ours in ("price", "size")},
    }
    return DepthFile(path, _starts(columns), columns)


def _starts(columns: dict[str, Any]) -> Ints:
    """The first row of every message, and the number of rows."""
    differs = np.zeros(len(columns["ts"]), dtype=bool)
    differs[0] = True
    for name in ("ts", "last", "snapshot", "message"):
        differs[1:] |= columns[name][1:] != columns[name][:-1]
    return np.append(np.flatnonzero(differs), len(differs))


def _texts(path: Path, table: Any, name: str) -> list[str]:
    return texts_of(numbers_of(path, name, whole(table.column(name)))[0])


def _integers(path: Path, table: Any, name: str | None) -> Ints:
    if name is None:
        return np.full(table.num_rows, NO_NUMBER, dtype=np.int64)
    column = whole(table.column(name))
    try:
        numbers: Ints = pc.fill_null(column.cast(pa.int64()), NO_NUMBER).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        reason = " ".join(str(error).split())[:120]
        raise BadFile(FileFault.NOT_A_NUMBER, f"{path}: column {name}: {reason}: write whole numbers") from None
    return numbers


def _flags(column: Any) -> Any:
    words = pc.utf8_lower(column.cast(pa.string()))
    return pc.fill_null(pc.is_in(words, pa.array(SNAPSHOTS)), False).to_numpy(zero_copy_only=False)


def _bids(path: Path, name: str, column: Any) -> Any:
    words = pc.utf8_lower(column.cast(pa.string()))
    is_bid, is_ask = (pc.is_in(words, pa.array(side)).to_numpy(zero_copy_only=False) for side in (BIDS, ASKS))
    odd = np.flatnonzero(~(is_bid | is_ask))
    if len(odd):
        row = int(odd[0])
        raise BadFile(
            FileFault.BAD_SIDE,
            f"{path}: row {row + 1}, column {name}: {column[row].as_py()!r} is no side: write one of b, bid, buy or"
            " a, ask, sell",
        )
    return is_bid
