"""The gears beside each other and beside vectorbt: the compiled kernel, sweeps, the wire, and the regime filter.

The same synthetic minutes and the same strategy as in the race of engines, a process each. Rows within our own gears
show what a gear costs or gains for the same result, which is compared first. Compiling and starting servers are not
part of the figures; whole processes are in the race of engines.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet

from bench.environments import CACHE, ROOT, VECTORBT, Missing, installed
from bench.loop_gear import synthetic_bars
from bench.measure import Row, Section

FASTS, SLOWS = "5..14", "20..65:5"
PAIRS = 100
_LENGTHS = ("--param", f"fast={FASTS}", "--param", f"slow={SLOWS}")
WIRE_BARS = 20_000

Say = Callable[[str], None]

REGIMES = """
[run]
currency = "USD"
cash = "1000000"
[venue]
maker_fee = "0.001"
taker_fee = "0.001"
slippage_bps = "0"
participation = "1"
[regime]
enabled = {enabled}
train_bars = 300
refit_bars = 100000000
[[instrument]]
name = "BTC/USD"
[[strategy]]
name = "ema_cross"
kind = "ema_cross"
instruments = ["BTC/USD"]
size = "1"
parameters = {{ fast = 10, slow = 30 }}
"""


def measure(bars: int, rounds: int, say: Say) -> Section:
    """Run everything ``rounds`` times in turn over ``bars`` bars; the wire gear over the first of them."""
    path = synthetic_bars(bars, say)
    short = _first(path, min(bars, WIRE_BARS))
    vectorbt = installed(VECTORBT)
    found: dict[str, list[float]] = defaultdict(list)
    notes: list[str] = []
    for number in range(rounds):
        say(f"gears: turn {number + 1} of {rounds}")
        _our_gears(found, path, short)
        swept, memory_mib = _run([*_tapeline("sweep"), *_LENGTHS, *_on(path)])
        found["sweep"].append(swept["bars_per_s"])
        found["memory"].append(memory_mib)
        if isinstance(vectorbt, Missing):
            continue
        try:
            theirs, _ = _run([str(vectorbt.python), str(ROOT / "bench" / "peers" / VECTORBT.script), str(path)])
        except _Failed as trouble:
            vectorbt = Missing(str(trouble))
            found["their sweep"].clear()
            found["their memory"].clear()
            continue
        found["their sweep"].append(PAIRS * bars / theirs["elapsed_s"])
        found["their memory"].append(theirs["memory_mib"])
        best = max(float(result["final_equity"]) for result in swept["results"])
        notes = [f"Best of {PAIRS} pairs: final equity {best:.2f}, with vectorbt {theirs['best_equity']:.2f}."]
    missing = vectorbt.reason if isinstance(vectorbt, Missing) else ""

    def row(what: str, unit: str, ours: str, beside: str, theirs: str, note: str) -> Row:
        return Row(what, unit, tuple(found[ours]), beside, tuple(found[theirs]), note)

    rows = (
        row("kernel gear, one run", "bars/s", "kernel", "loop gear", "loop", "same equity"),
        row("wire gear", "bars/s", "wire", "loop gear", "wire's loop", f"{WIRE_BARS:,} bars, same tape hash"),
        row("loop gear, regime filter on", "bars/s", "regimes", "filter off", "no regimes", "trained once"),
        row(f"sweep of {PAIRS} pairs", "bars/s", "sweep", VECTORBT.name, "their sweep", missing),
        row("its peak memory", "MiB", "memory", VECTORBT.name, "their memory", missing),
    )
    about = (
        f"{bars:,} synthetic minutes, EMA 10/30 (sweep: fast {FASTS}, slow {SLOWS}) long only, fee 0.1 %. A sweep's "
        "bars are counted once for each pair; vectorbt's second sweep in one process is timed, ours runs on kept code.",
    )
    return Section("Gears", rows, (*about, *notes))


def _our_gears(found: dict[str, list[float]], path: Path, short: Path) -> None:
    """One turn of our own gears; those that must give the same are compared first."""
    kernel, loop = _backtest(path, "kernel"), _backtest(path, "loop")
    assert kernel["final_equity"] == loop["final_equity"], "the kernel gear found another equity"
    wire, near = _backtest(short, "wire"), _backtest(short, "loop")
    assert wire["tape_hash"] == near["tape_hash"], "the wire gear made another tape"
    runs = {"kernel": kernel, "loop": loop, "wire": wire, "wire's loop": near}
    runs |= {"regimes": _with_regimes(path, enabled=True), "no regimes": _with_regimes(path, enabled=False)}
    for name, run in runs.items():
        found[name].append(run["bars_per_s"])


class _Failed(Exception):
    """A process ended with an error; the message is its last line."""


def _first(path: Path, bars: int) -> Path:
    short = CACHE / f"first-{bars}-of-{path.name}"
    if not short.is_file():
        pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).slice(0, bars), short)
    return short


def _tapeline(command: str) -> list[str]:
    return [sys.executable, "-m", "tapeline_common.cli", command, "--json"]


def _on(path: Path) -> list[str]:
    strategy = ["--strategy", "ema_cross", "--size", "1", "--cash", "1000000", "--fee", "0.001"]
    return [*strategy, "--instrument", "BTC/USD", "--data", str(path)]


def _backtest(path: Path, gear: str) -> dict[str, Any]:
    lengths = ["--param", "fast=10", "--param", "slow=30"]
    return _run([*_tapeline("backtest"), "--gear", gear, *lengths, *_on(path)])[0]


def _with_regimes(path: Path, *, enabled: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "tapeline.toml"
        config.write_text(REGIMES.format(enabled="true" if enabled else "false"))
        data = ["--instrument", "BTC/USD", "--data", str(path)]
        return _run([*_tapeline("backtest"), "--config", str(config), *data])[0]


def _run(command: list[str]) -> tuple[dict[str, Any], float]:
    """What a process printed as JSON, and its peak memory in MiB."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, cwd=ROOT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise _Failed(f"{command[1:5]} failed: {errors.read().decode().strip().splitlines()[-1:]}")
        out.seek(0)
        return msgspec.json.decode(out.read().strip().splitlines()[-1]), usage.ru_maxrss / 1024
