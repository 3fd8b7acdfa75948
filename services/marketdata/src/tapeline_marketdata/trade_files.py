"""Recorded trades from Parquet and CSV files: what was detected is said, what is wrong is named with its row.

Columns ts, price, size and, where the source has them, the taker's side and the trade's id (``COLUMNS`` lists the
accepted names, those of exchanges' own archives among them). ``is_buyer_maker`` says the side the other way round.
Rows that an exchange marks as other than market trades (insurance fund, auto-deleveraging) are left out and counted.
Whether the trades are fit is for ``trades``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tapeline_marketdata.checks import Rejected
from tapeline_marketdata.columns import (
    BadFile,
    FileFault,
    Ints,
    Names,
    find_columns,
    numbers_of,
    read_table,
    texts_of,
    times_ns,
    whole,
)
from tapeline_marketdata.files import TIME_COLUMNS
from tapeline_marketdata.trades import Trade, TradeChecker

COLUMNS = {
    "ts": (*TIME_COLUMNS, "transact_time", "trade_time"),
    "price": ("price",),
    "size": ("size", "qty", "quantity", "amount", "volume"),
    "side": ("side", "taker_side", "aggressor_side"),
    "buyer_is_maker": ("is_buyer_maker", "isbuyermaker", "buyer_maker"),
    "id": ("trade_id", "tradeid", "id", "agg_trade_id"),
    "kind": ("exec_type",),
}
OPTIONAL = ("side", "buyer_is_maker", "id", "kind")

MARKET = "MARKET"
"""The only kind of row that is a trade of the market, where an exchange tells kinds apart."""

SLICE_TRADES = 8192
"""Trades turned into text at a time."""


class TradeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a file of trades found out. ``notes`` says in words what was detected rather than given."""

    path: str
    format: str
    rows: int
    left_out: int
    time_column: str
    time_unit: str
    sided: bool
    notes: tuple[str, ...]


class RejectedTrade(msgspec.Struct, frozen=True):
    """A row (0-based) of the file that is no trade to build on, its time, and why."""

    row: int
    time_ns: int
    rejected: Rejected


class TradeFile:
    """One file of trades, read and described. ``trades()`` judges them in the order of the file."""

    def __init__(self, facts: TradeFacts, rows: Ints, time_ns: Ints, columns: dict[str, Any]) -> None:
        self.facts = facts
        self._rows = rows
        self._time_ns = time_ns
        self._columns = columns

    def __len__(self) -> int:
        return len(self._time_ns)

    def trades(self, *, strict: bool = True) -> Iterator[Trade | RejectedTrade]:
        """Every trade in turn. A bad one is yielded as rejected, or raises BadFile if ``strict``."""
        check = TradeChecker(self.facts.sided).check
        for start in range(0, len(self), SLICE_TRADES):
            stop = min(start + SLICE_TRADES, len(self))
            texts = (self._texts(name, start, stop) for name in ("price", "size", "side", "id"))
            times = self._time_ns[start:stop].tolist()
            for at, (time_ns, *values) in enumerate(zip(times, *texts, strict=True), start):
                verdict = check(time_ns, *values)
                if isinstance(verdict, Rejected):
                    yield self._rejected(int(self._rows[at]), time_ns, verdict, strict)
                else:
                    yield verdict

    def _texts(self, name: str, start: int, stop: int) -> list[str]:
        column = self._columns.get(name)
        if column is None:
            return [""] * (stop - start)
        if name in ("price", "size"):
            return texts_of(column[start:stop])
        return ["" if text is None else text for text in column[start:stop].to_pylist()]

    def _rejected(self, row: int, time_ns: int, rejected: Rejected, strict: bool) -> RejectedTrade:
        if not strict:
            return RejectedTrade(row, time_ns, rejected)
        line = f" (line {row + 2})" if self.facts.format == "csv" else ""
        raise BadFile(
            FileFault.BAD_TRADE,
            f"{self.facts.path}: row {row + 1}{line}: {rejected.fault}: {rejected.detail}: correct or remove the row",
        )


def read_trades(path: str | Path) -> TradeFile:
    """Read a Parquet or CSV file of trades. Raises BadFile for faults of the file as a whole."""
    path = Path(path)
    table, file_format = read_table(path)
    names = find_columns(path, table, COLUMNS, OPTIONAL)
    if table.num_rows == 0:
        raise BadFile(FileFault.EMPTY, f"{path}: the file has a header but no trades: give one with data")
    time_ns, unit, notes = times_ns(path, names["ts"], whole(table.column(names["ts"])))
    columns = {name: numbers_of(path, names[name], whole(table.column(names[name])))[0] for name in ("price", "size")}
    sides = _sides(table, names)
    if sides is None:
        notes.append("no column says the taker's side")
    else:
        columns["side"] = sides
    if "id" in names:
        columns["id"] = whole(table.column(names["id"])).cast(pa.string())
    else:
        notes.append("no column has the trades' ids, so a repeated trade cannot be told from a second one")
    rows = np.arange(len(time_ns))
    if "kind" in names:
        rows = np.flatnonzero(_is_market(whole(table.column(names["kind"]))))
        time_ns, columns = time_ns[rows], {name: column.take(pa.array(rows)) for name, column in columns.items()}
    left_out = table.num_rows - len(rows)
    if left_out:
        notes.append(f"{left_out} rows are no market trades ({names['kind']} is not {MARKET}) and are left out")
    facts = TradeFacts(
        path=str(path),
        format=file_format,
        rows=table.num_rows,
        left_out=left_out,
        time_column=names["ts"],
        time_unit=unit,
        sided=sides is not None,
        notes=tuple(notes),
    )
    return TradeFile(facts, rows, time_ns, columns)


def _sides(table: Any, names: Names) -> Any:
    """The taker's side as text, or None if no column says it."""
    if "side" in names:
        return whole(table.column(names["side"])).cast(pa.string())
    if "buyer_is_maker" not in names:
        return None
    makers = pc.utf8_lower(whole(table.column(names["buyer_is_maker"])).cast(pa.string()))
    sells, buys = (pc.is_in(makers, pa.array(words)) for words in (("true", "1"), ("false", "0")))
    return pc.if_else(sells, "sell", pc.if_else(buys, "buy", ""))


def _is_market(kinds: Any) -> Any:
    return pc.fill_null(pc.equal(pc.utf8_upper(kinds.cast(pa.string())), MARKET), False).to_numpy(zero_copy_only=False)
