"""Writes bars of the synthetic market to a CSV file, for a first backtest without data: ``make backtest``.

The same file on every machine. It is a sample to try the tools with, not a market to draw conclusions from.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

from tapeline_common.values import InstrumentId
from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec

BARS = 20_000
"""Two weeks of minutes: a backtest of a second or so."""

SEED = 7


def main(path: Path) -> None:
    market = SyntheticMarket(
        SEED, [SyntheticSpec(instrument=InstrumentId("BTC-USDT_sim"), start_price=Decimal(60_000))]
    )
    state = market.start()
    lines = ["ts,open,high,low,close,volume"]
    for _ in range(BARS):
        bar, state = market.next_bar(state)
        lines.append(f"{bar.open_ns // 1_000_000},{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume}")
    partial = path.with_suffix(".partial")
    partial.write_text("\n".join(lines) + "\n")
    partial.replace(path)
    sys.stdout.write(f"wrote {BARS} synthetic bars to {path}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
