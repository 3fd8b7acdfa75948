"""The same tape over real NATS and Postgres, every service its own process, as in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.backtesting import EMA, backtest, synthetic_file

pytestmark = pytest.mark.servers

BARS = 5_000


def test_wire_and_loop_record_the_same_tape(tmp_path: Path) -> None:
    """5,000 bars with orders, fees and slippage give the same tape hash, orders and equity in both gears."""
    file = synthetic_file(tmp_path / "BTCUSD_sim.parquet", BARS)
    call = (*EMA, "--fee", "0.001", "--slippage-bps", "2", "--data", str(file))

    loop = backtest(*call)
    wire = backtest(*call, "--gear", "wire")

    assert loop["bars"] == wire["bars"] == BARS
    assert loop["orders"] > 100
    same = ("orders", "fills", "trades", "fees", "final_equity", "facts", "tape_hash")
    assert {name: loop[name] for name in same} == {name: wire[name] for name in same}
    assert (loop["gear"], wire["gear"]) == ("loop", "wire")
