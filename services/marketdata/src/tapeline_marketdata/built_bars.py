"""Bars built from a file of trades, as if they had been read from a file of bars; and the way back into a file.

What the tape says of them (``FileFacts.made_from``) is the rule and the number of trades, so that anybody with the file
of trades can build the same bars again. Trades that are not fit raise, or are kept as rejected beside the bars.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tapeline_common.events import BarClosed
from tapeline_common.values import InstrumentId
from tapeline_marketdata.bar_building import bar_builder
from tapeline_marketdata.bar_rules import BarRule, RuleKind
from tapeline_marketdata.columns import BadFile, FileFault, Floats, Ints
from tapeline_marketdata.files import (
    CLOSE_COLUMN,
    NUMBER_COLUMNS,
    TIMEFRAME_KEY,
    BarColumns,
    BarFile,
    FileFacts,
    facts_of,
)
from tapeline_marketdata.trade_files import RejectedTrade, TradeFacts, read_trades

PROGRESS_TRADES = 50_000

Progress = Callable[[int, int], None]
"""Called now and then with the trades taken so far and all of them."""

NOT_TRADED = "bricks open and close at levels of their grid, which need not have been traded: fills there are too good"

NOBODY = InstrumentId("")
"""The instrument of bars that are kept as columns, which have none."""


class BuiltBars(BarFile):
    """The bars that a file of trades makes by one rule.

    ``trades``: those the bars are built from, ``left_over``: those after the last bar that closed, in none of them.
    ``rejected``: (number of bars closed before it, the trade), in the order of the file; empty if read strictly.
    """

    def __init__(
        self,
        facts: FileFacts,
        columns: BarColumns,
        close_ns: Ints | None,
        *,
        trades: int,
        left_over: int,
        rejected: tuple[tuple[int, RejectedTrade], ...],
    ) -> None:
        super().__init__(facts, columns, close_ns)
        self.trades = trades
        self.left_over = left_over
        self.rejected = rejected


def build_bars(path: str | Path, rule: BarRule, *, strict: bool = True, progress: Progress | None = None) -> BuiltBars:
    """The bars of a Parquet or CSV file of trades. Raises BadFile; UnknownRule if the rule does not fit the trades."""
    file = read_trades(path)
    builder = bar_builder(rule, NOBODY)
    bars: list[BarClosed] = []
    rejected: list[tuple[int, RejectedTrade]] = []
    trades = 0
    for trade in file.trades(strict=strict):
        if isinstance(trade, RejectedTrade):
            rejected.append((len(bars), trade))
            continue
        trades += 1
        bars.extend(builder.push(trade))
        if progress is not None and trades % PROGRESS_TRADES == 0:
            progress(trades, len(file))
    if progress is not None:
        progress(len(file), len(file))
    if not bars:
        raise BadFile(
            FileFault.EMPTY, f"{path}: its {trades} trades close no bar by {rule}: give more of them, or a smaller bar"
        )
    made_from = f"{trades} trades by {rule}, {builder.left_over} left over"
    facts = _facts(Path(path), file.facts, rule, bars, made_from)
    close_ns = None if rule.length_ns else _int64([bar.close_ns for bar in bars])
    return BuiltBars(
        facts, _columns(bars), close_ns, trades=trades, left_over=builder.left_over, rejected=tuple(rejected)
    )


def _facts(path: Path, trades: TradeFacts, rule: BarRule, bars: list[BarClosed], made_from: str) -> FileFacts:
    open_ns = _int64([bar.open_ns for bar in bars])
    timeframe = rule.timeframe, rule.length_ns
    notes = (*trades.notes, NOT_TRADED) if rule.kind is RuleKind.RENKO else trades.notes
    facts = facts_of(path, trades.format, trades.time_column, trades.time_unit, timeframe, open_ns, notes)
    return msgspec.structs.replace(facts, made_from=made_from)


def _columns(bars: list[BarClosed]) -> BarColumns:
    printed = {name: pa.array([getattr(bar, name) for bar in bars], pa.string()) for name in NUMBER_COLUMNS}
    floats: dict[str, Floats] = {
        name: np.array([float(text) for text in column.to_pylist()]) for name, column in printed.items()
    }
    return BarColumns(_int64([bar.open_ns for bar in bars]), floats, printed)


def _int64(numbers: list[int]) -> Ints:
    return np.array(numbers, dtype=np.int64)


def write_bars(file: BarFile, path: str | Path) -> None:
    """Write bars to a file that ``read_bars`` reads as the same: Parquet, or CSV if the name ends so.

    Bars without a fixed length need Parquet, which says what they are. Raises OSError; BadFile for such bars as CSV.
    """
    path = Path(path)
    facts = file.facts
    is_csv = path.suffix.lower() == ".csv"
    if is_csv and not facts.timeframe_ns:
        raise BadFile(
            FileFault.TIMEFRAME_UNKNOWN,
            f"{path}: a CSV file cannot say that its bars are {facts.timeframe}: write a .parquet file",
        )
    columns = {
        "ts": pa.array(file.columns.open_ns),
        **{name: pa.array(file.columns.texts(name), pa.string()) for name in NUMBER_COLUMNS},
    }
    if not facts.timeframe_ns:
        columns[CLOSE_COLUMN] = pa.array(file.close_ns)
    table = pa.table(columns)
    if is_csv:
        pa.csv.write_csv(table, path, pa.csv.WriteOptions(quoting_style="none"))
        return
    metadata = {} if facts.timeframe_ns else {TIMEFRAME_KEY: facts.timeframe}
    pa.parquet.write_table(table.replace_schema_metadata(metadata), path)
