"""Costs on recorded minutes of a Bitcoin perpetual: a plain loop with arithmetic of its own finds the very same."""

from __future__ import annotations

import decimal
import os
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from tests.backtesting import EMA, backtest, write_bars

from tapeline_marketdata.files import read_bars

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
PERPETUALS = DATA / "crypto" / "binance_usdm"
MINUTES = PERPETUALS / "1m" / "BTCUSDT_PERP.parquet"
RATES = PERPETUALS / "funding" / "BTCUSDT_PERP.parquet"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not MINUTES.is_file(), reason=f"no recorded perpetuals at {PERPETUALS} (set TAPELINE_DATA)"),
]

UP = decimal.Context(prec=12, rounding=decimal.ROUND_UP)
WIDE = decimal.Context(prec=60)
FEE, SPREAD_BPS, IMPACT, LATENCY_MS, WINDOW = Decimal("0.0005"), Decimal("0.5"), Decimal("0.8"), 250, 1_440


@dataclass
class Plain:
    """Ten against thirty minutes, one unit, and every cost written out."""

    columns: list[list[Decimal]]
    open_ns: list[int]
    rates: dict[int, Decimal]
    cash: Decimal = Decimal(1_000_000)
    held: Decimal = Decimal(0)
    wanted: Decimal = Decimal(0)
    fills: int = 0
    slippage: Decimal = Decimal(0)
    funding: Decimal = Decimal(0)
    squares: list[Decimal] = field(default_factory=list)

    def run(self) -> Plain:
        closes = self.columns[3]
        quick = lazy = 0.0
        for index, close in enumerate(closes):
            self.pay(index)
            if self.wanted != self.held:
                self.fill(index)
            before = closes[index - 1] if index else self.columns[0][0]
            self.squares.append(UP.divide(close - before, before) ** 2)
            price = float(close)
            quick = price if index == 0 else quick + 2.0 / 11 * (price - quick)
            lazy = price if index == 0 else lazy + 2.0 / 31 * (price - lazy)
            if index >= 29:
                self.wanted = Decimal(int(quick >= lazy))
        self.pay(len(closes))
        return self

    def pay(self, index: int) -> None:
        """Rates from this bar's opening up to, not including, its close are of the position before it."""
        if not index:
            return
        start = self.open_ns[index - 1] + 60 * 10**9
        for time_ns in [each for each in self.rates if start <= each < start + 60 * 10**9]:
            if index == len(self.open_ns) and time_ns > start:
                continue
            amount = -self.held * self.columns[3][index - 1] * self.rates.pop(time_ns)
            self.funding += amount
            self.cash += amount

    def fill(self, index: int) -> None:
        opened, high, low, _, _ = (column[index] for column in self.columns)
        sign = 1 if self.wanted > self.held else -1
        extreme = high if sign > 0 else low
        against = decimal.Context(prec=12, rounding=decimal.ROUND_CEILING if sign > 0 else decimal.ROUND_FLOOR)
        arrived = against.plus(opened + (extreme - opened) * UP.divide(Decimal(LATENCY_MS), Decimal(60_000)))
        known = slice(max(0, index - WINDOW), index)
        squares, volume = sum(self.squares[known], Decimal(0)), sum(self.columns[4][known], Decimal(0))
        root = UP.plus(WIDE.sqrt(UP.divide(squares, volume)))
        paid = UP.plus(arrived * SPREAD_BPS / 10_000) + UP.plus(arrived * IMPACT * root)
        price = against.plus(arrived + sign * paid)
        self.cash -= sign * price + price * FEE
        self.slippage += sign * (price - opened)
        self.held = self.wanted
        self.fills += 1


def plain() -> Plain:
    columns = read_bars(MINUTES).columns
    names = ("open", "high", "low", "close", "volume")
    table = pyarrow.parquet.read_table(RATES)
    rates = zip(table.column("ts").to_pylist(), table.column("funding_rate").to_pylist(), strict=True)
    first, last = int(columns.open_ns[0]), int(columns.open_ns[-1])
    due = {ms * 10**6: Decimal(repr(rate)) for ms, rate in rates if first < ms * 10**6 <= last + 60 * 10**9}
    texts = [[Decimal(text) for text in columns.texts(name)] for name in names]
    return Plain(texts, columns.open_ns.tolist(), due).run()


def test_every_cost_equals_the_plain_loop() -> None:
    """Fills, slippage, funding and cash of 43,199 minutes with spread, impact, latency, fees and funding together."""
    found = backtest(
        *EMA, "--fee", str(FEE), "--half-spread-bps", str(SPREAD_BPS), "--root-impact", str(IMPACT),
        "--latency-ms", str(LATENCY_MS), "--data", str(MINUTES), "--funding", str(RATES),
    )  # fmt: skip
    expected = plain()
    assert expected.fills > 500
    assert found["fills"] == expected.fills
    assert Decimal(found["slippage"]) == expected.slippage
    assert Decimal(found["funding"]) == expected.funding != 0
    assert Decimal(found["final_cash"]) == expected.cash


def test_detail_agrees_with_the_bars_that_it_makes_up(tmp_path: Path) -> None:
    """Quarters of an hour alone and with their minutes: market orders without costs end with the same money."""
    columns = read_bars(MINUTES).columns
    start = int(np.flatnonzero(columns.open_ns % (900 * 10**9) == 0)[0])
    count = (len(columns) - start) // 15
    cut = slice(start, start + count * 15)
    opens, highs, lows, closes, volumes, times = (
        np.asarray(column)[cut].reshape(count, 15)
        for column in (columns.open, columns.high, columns.low, columns.close, columns.volume, columns.open_ns)
    )
    assert (np.diff(columns.open_ns[cut]) == 60 * 10**9).all()
    rows = zip(times[:, 0] // 10**6, opens[:, 0], highs.max(1), lows.min(1), closes[:, -1], volumes.sum(1), strict=True)
    quarters = write_bars(tmp_path / "BTCUSDT.parquet", [tuple(each.item() for each in row) for row in rows])
    alone = backtest(*EMA, "--data", str(quarters))
    detailed = backtest(*EMA, "--data", str(quarters), "--detail", str(MINUTES))
    assert alone["fills"] > 30
    assert (alone["fills"], alone["final_equity"]) == (detailed["fills"], detailed["final_equity"])
