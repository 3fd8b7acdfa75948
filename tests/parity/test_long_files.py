"""What a backtest of a long file needs does not grow with the file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

pytest.importorskip("numba", reason="block mode compiles")

MINUTE_MS = 60_000


def minutes(path: Path, bars: int) -> Path:
    """A price that wanders without getting anywhere, in steps of a hundredth."""
    steps = np.random.default_rng(1).integers(-5, 6, size=bars)
    closes = np.rint(10_000 + np.cumsum(steps) % 2_000) / 100
    opens = np.concatenate([closes[:1], closes[:-1]])
    numbers = {"open": opens, "high": np.maximum(opens, closes), "low": np.minimum(opens, closes), "close": closes}
    times = 1_600_000_000_000 // MINUTE_MS * MINUTE_MS + MINUTE_MS * np.arange(bars, dtype=np.int64)
    pa.parquet.write_table(pa.table({"ts": times, **numbers, "volume": np.full(bars, 3.0)}), path)
    return path


SAYING_ITS_PEAK = """
import atexit, re, sys
from pathlib import Path
from tapeline_common.cli import main
status = Path("/proc/self/status")
atexit.register(lambda: print(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1], file=sys.stderr))
main()
"""
"""Not the kernel's figure for ended children: that one also counts what the parent had when it started them."""


def peak_mib(path: Path) -> float:
    """Most memory of a whole backtest in a process of its own."""
    call = [sys.executable, "-c", SAYING_ITS_PEAK, "backtest", "--json", "--strategy", "ema_cross"]
    call += ["--param", "fast=200", "--param", "slow=2000", "--fee", "0.001", "--data", str(path)]
    ended = subprocess.run(call, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["fills"] > 100
    return int(ended.stderr.splitlines()[-1]) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's peak is read as Linux tells it")
@pytest.mark.slow
def test_three_times_the_bars_need_no_more_memory(tmp_path: Path) -> None:
    """Columns would be 48 bytes a bar and what is derived of them as much again: over 110 MiB here."""
    shorter = peak_mib(minutes(tmp_path / "BTCUSD_short.parquet", 1_200_000))
    longer = peak_mib(minutes(tmp_path / "BTCUSD_long.parquet", 3_600_000))
    assert longer - shorter < 40
