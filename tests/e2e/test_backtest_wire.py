"""The same tape over real NATS and Postgres, every service its own process, as in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.backtesting import EMA, backtest, synthetic_file

from tapeline_common.commands_run import default_config

pytestmark = pytest.mark.servers

BARS = 5_000
CONFIGURED_BARS = 700
SAME = ("orders", "fills", "trades", "refused", "declined", "fees", "final_equity", "facts", "tape_hash")


def test_wire_and_loop_record_the_same_tape(tmp_path: Path) -> None:
    """5,000 bars with orders, fees and slippage give the same tape hash, orders and equity in both gears."""
    file = synthetic_file(tmp_path / "BTCUSD_sim.parquet", BARS)
    call = (*EMA, "--fee", "0.001", "--slippage-bps", "2", "--data", str(file))

    loop = backtest(*call)
    wire = backtest(*call, "--gear", "wire")

    assert loop["bars"] == wire["bars"] == BARS
    assert loop["orders"] > 100
    assert {name: loop[name] for name in SAME} == {name: wire[name] for name in SAME}
    assert (loop["gear"], wire["gear"]) == ("loop", "wire")


def test_the_live_configuration_gives_the_same_tape_in_both_gears(tmp_path: Path) -> None:
    """Three instruments, three strategies, limits that refuse, models trained on the way, presets: the same hash."""
    config = tmp_path / "tapeline.toml"
    config.write_text(default_config())
    call = ["--config", str(config)]
    for seed, name in enumerate(("BTC/USDT", "ETH/USDT", "SOL/USDT")):
        file = synthetic_file(tmp_path / f"{name.replace('/', '')}.parquet", CONFIGURED_BARS, seed=seed)
        call += ["--instrument", name, "--data", str(file)]

    loop = backtest(*call)
    wire = backtest(*call, "--gear", "wire")

    assert loop["orders"] > 10
    assert loop["refused"]
    assert loop["facts"] > 3 * CONFIGURED_BARS * 1.4  # a regime for every bar after the first model
    assert {name: loop[name] for name in SAME} == {name: wire[name] for name in SAME}
