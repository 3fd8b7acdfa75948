"""The bars of every measurement: minutes of the project's synthetic market, made once and kept below ``.bench/``."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from bench.environments import CACHE
from tapeline_common.values import InstrumentId
from tapeline_common.whole_file import whole_file
from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec, bars_from

SEED = 1
MINUTE_MS = 60_000
YEAR_BARS = 525_600
NAMES = ("ts", "open", "high", "low", "close", "volume")

Say = Callable[[str], None]


def synthetic_bars(bars: int, say: Say) -> Path:
    """A Parquet file of the market's first minutes."""
    path = CACHE / f"minutes-{SEED}-{bars}.parquet"
    if not path.is_file():
        say(f"making {bars:,} synthetic bars")
        # Volumes beyond what an order of one unit takes: engines differ in what they do when a bar runs dry.
        spec = SyntheticSpec(instrument=InstrumentId("BTC-USD_sim"), start_price=Decimal(5_000), usual_volume=10_000.0)
        market = SyntheticMarket(SEED, [spec])
        rows = [
            (bar.open_ns // 1_000_000, *map(float, (bar.open, bar.high, bar.low, bar.close, bar.volume)))
            for bar in bars_from(market, market.start(), bars)
        ]
        _keep(pa.table(dict(zip(NAMES, zip(*rows, strict=True), strict=True))), path)
    return path


def first_bars(path: Path, bars: int) -> Path:
    """The first of a file's bars as a file of their own."""
    short = CACHE / f"first-{bars}-of-{path.name}"
    if not short.is_file():
        _keep(pyarrow.parquet.read_table(path).slice(0, bars), short)
    return short


def repeated_bars(path: Path, bars: int) -> Path:
    """As many minutes as asked for: a file's bars forwards and backwards in turn, so that the price never jumps.

    Every stretch has the same prices, and about as many orders; a longer market of its own could wander anywhere.
    """
    long = CACHE / f"repeated-{bars}-of-{path.name}"
    if not long.is_file():
        forwards = pyarrow.parquet.read_table(path)
        backwards = forwards.take(np.arange(len(forwards))[::-1]).rename_columns(
            ["ts", "close", "high", "low", "open", "volume"]
        )
        turns = -(-bars // len(forwards))
        both = (forwards.drop_columns("ts"), backwards.select(forwards.column_names).drop_columns("ts"))
        table = pa.concat_tables([both[turn % 2] for turn in range(turns)]).slice(0, bars)
        first_ms = forwards["ts"][0].as_py()
        opened_ms = pa.array(first_ms + MINUTE_MS * np.arange(bars, dtype=np.int64))
        _keep(table.add_column(0, "ts", opened_ms), long)
    return long


def _keep(table: pa.Table, path: Path) -> None:
    """Whole or not at all: an interrupted run leaves no short file behind."""
    with whole_file(path) as partial:
        pyarrow.parquet.write_table(table, partial)
