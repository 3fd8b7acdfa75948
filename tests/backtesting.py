"""Shared by tests of backtests: the command as a user calls it, small files of bars, and the plain reference loop."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from tapeline_common.values import InstrumentId
from tapeline_marketdata.files import read_bars
from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec, bars_from

EMA = ("--strategy", "ema_cross", "--param", "fast=10", "--param", "slow=30", "--size", "1", "--cash", "1000000")


def tapeline(*arguments: str, cwd: Path | None = None, timeout_s: float = 170) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tapeline_common.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=cwd,
        check=False,
    )


def backtest(*arguments: str) -> dict[str, Any]:
    """The JSON object of a backtest that must succeed."""
    done = tapeline("backtest", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_bars(path: Path, rows: Sequence[tuple[int, float, float, float, float, float]]) -> Path:
    """A Parquet file of (ts in ms, open, high, low, close, volume)."""
    names = ("ts", "open", "high", "low", "close", "volume")
    columns = list(zip(*rows, strict=True)) or [[] for _ in names]
    pyarrow.parquet.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
    return path


def synthetic_file(path: Path, bars: int, seed: int = 11) -> Path:
    """A Parquet file of the synthetic market's minutes."""
    market = SyntheticMarket(
        seed,
        [SyntheticSpec(instrument=InstrumentId("BTC-USD_sim"), start_price=Decimal(50_000), tick_size=Decimal("0.01"))],
    )
    rows = [
        (bar.open_ns // 1_000_000, *map(float, (bar.open, bar.high, bar.low, bar.close, bar.volume)))
        for bar in bars_from(market, market.start(), bars)
    ]
    return write_bars(path, rows)


def reference_ema_cross(path: Path, *, fast: int, slow: int, size: Decimal, cash: Decimal, fee: Decimal) -> Any:
    """The independent answer: a plain loop over the file, orders at a close, fills at the next open.

    Returns (fills as (bar index, signed quantity), orders, fees, final equity), all exact; an order of the last bar is
    counted and never filled.
    """
    columns = read_bars(path).columns
    opens, closes = columns.open.tolist(), columns.close.tolist()
    quick = lazy = 0.0
    held, wanted = Decimal(0), Decimal(0)
    fees = Decimal(0)
    fills: list[tuple[int, Decimal]] = []
    for index, close in enumerate(closes):
        if wanted != held:
            price, quantity = Decimal(repr(opens[index])), wanted - held
            paid = abs(quantity) * price * fee
            cash -= quantity * price + paid
            fees += paid
            held = wanted
            fills.append((index, quantity))
        quick = close if index == 0 else quick + 2.0 / (fast + 1) * (close - quick)
        lazy = close if index == 0 else lazy + 2.0 / (slow + 1) * (close - lazy)
        if index >= slow - 1:
            wanted = size if quick >= lazy else Decimal(0)
    return fills, len(fills) + (wanted != held), fees, cash + held * Decimal(repr(closes[-1]))
