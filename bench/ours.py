"""Our own commands, as a user types them: the reference strategy, size 1, cash 1,000,000, fee 0.1 %."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.environments import CACHE, ROOT, Installed, Missing, Peer
from bench.rounds import Command

Lengths = tuple[int, int]
"""Of the fast and the slow average, in bars."""


LIMITS_AND_REGIMES = """
[run]
currency = "USD"
cash = "1000000"
[venue]
maker_fee = "0.001"
taker_fee = "0.001"
slippage_bps = "0"
participation = "1"
[risk]
max_order_notional = "100000000"
max_position = "1000"
max_gross_exposure = "100000000"
max_open_positions = 10
max_daily_loss = "1000000"
max_drawdown = "1000000"
[regime]
train_bars = 1000
refit_bars = 100000000
[[instrument]]
name = "BTC/USD"
[[strategy]]
name = "ema_cross"
kind = "ema_cross"
instruments = ["BTC/USD"]
size = "1"
parameters = { fast = 10, slow = 30 }
"""
"""Every limit asked and none reached, and a regime filtered that no order waits for: more work, the same orders."""


def _tapeline(command: str) -> list[str]:
    return [sys.executable, "-m", "tapeline_common.cli", command, "--json"]


def _on(path: Path) -> list[str]:
    strategy = ["--strategy", "ema_cross", "--size", "1", "--cash", "1000000", "--fee", "0.001"]
    return [*strategy, "--instrument", "BTC/USD", "--data", str(path)]


def backtest(path: Path, lengths: Lengths, *options: str) -> list[str]:
    """``tapeline backtest`` with all cores, the tape encoded and hash-chained; ``options`` choose the gear."""
    fast, slow = lengths
    return [*_tapeline("backtest"), *options, "--param", f"fast={fast}", "--param", f"slow={slow}", *_on(path)]


def configured_backtest(path: Path, config: Path, *options: str) -> list[str]:
    """The same with a configuration file."""
    data = ["--instrument", "BTC/USD", "--data", str(path)]
    return [*_tapeline("backtest"), *options, "--config", str(config), *data]


def limits_and_regimes() -> Path:
    """The reference strategy's configuration with all limits and the regime filter."""
    config = CACHE / "limits-and-regimes.toml"
    config.write_text(LIMITS_AND_REGIMES)
    return config


def sweep(path: Path, fasts: str, slows: str, *options: str) -> list[str]:
    """``tapeline sweep``; lengths as ``5..14`` or ``5,6,7``."""
    return [*_tapeline("sweep"), *options, "--param", f"fast={fasts}", "--param", f"slow={slows}", *_on(path)]


def peer_command(peer: Peer, found: Installed | Missing, path: Path, *arguments: str) -> Command:
    """A peer's script in its own environment."""
    if isinstance(found, Missing):
        return found
    return [str(found.python), str(ROOT / "bench" / "peers" / peer.script), str(path), *arguments]
