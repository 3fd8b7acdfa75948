"""A replay over NATS and Postgres of recorded minutes, several instruments and strategies, has the loop gear's tape."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.compute
import pyarrow.parquet
import pytest
from tests.backtesting import backtest

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
MINUTES = DATA / "crypto" / "bitfinex" / "1m"
BITCOIN = MINUTES / "BTCUSD_2018-01_2019-07.parquet"
ETHER = MINUTES / "ETHUSD_2019-01_2019-05.parquet"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.servers,
    pytest.mark.skipif(
        not (BITCOIN.is_file() and ETHER.is_file()), reason=f"no recorded minutes at {MINUTES} (set TAPELINE_DATA)"
    ),
]

BARS = 12_000
SAME = ("bars", "orders", "fills", "trades", "refused", "declined", "fees", "final_equity", "facts", "tape_hash")

CONFIG = """
[run]
currency = "USD"
cash = "1000000"

[venue]
taker_fee = "0.001"
slippage_bps = "2"

[risk]
max_position = "3"
max_daily_loss = "20000"

[regime]
enabled = false

[[instrument]]
name = "BTC/USD"

[[instrument]]
name = "ETH/USD"

[[strategy]]
name = "ema"
kind = "ema_cross"
instruments = ["BTC/USD", "ETH/USD"]
size = "1"
parameters = { fast = 10, slow = 30 }

[[strategy]]
name = "breakout"
kind = "momentum_breakout"
instruments = ["ETH/USD"]
size = "2"
"""


def test_two_strategies_on_two_instruments_have_the_same_tape_over_the_wire(tmp_path: Path) -> None:
    """24,000 recorded minutes with orders that overlap, fees, slippage and limits: loop = wire by tape hash."""
    config = tmp_path / "tapeline.toml"
    config.write_text(CONFIG)
    call = ["--config", str(config)]
    for name, source in (("BTC/USD", BITCOIN), ("ETH/USD", ETHER)):
        rows = pyarrow.parquet.read_table(source).filter(pyarrow.compute.field("ts") >= 1_548_979_200_000)  # 2019-02-01
        part = tmp_path / f"{name.replace('/', '')}.parquet"
        pyarrow.parquet.write_table(rows.slice(0, BARS), part)
        call += ["--instrument", name, "--data", str(part)]

    loop, wire = backtest(*call), backtest(*call, "--gear", "wire")

    assert loop["bars"] == 2 * BARS
    assert loop["orders"] > 500
    assert {name: wire[name] for name in SAME} == {name: loop[name] for name in SAME}
