"""The loop gear beside other engines: the same synthetic minutes, the same strategy, fee and cash, a process each.

EMA 10/30 long only, size 1, cash 1,000,000, fee 0.1 %. Ours runs every core with the tape encoded and hashed. What is
compared is each engine's own run, without imports and loading; whole processes are a row of their own. Results are
compared before times: an engine that traded something else is no measure.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet

from bench.environments import BACKTESTING_PY, CACHE, NAUTILUS, ROOT, Installed, Missing, Peer, installed
from bench.measure import Row, Section, in_turn
from tapeline_common.values import InstrumentId
from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec, bars_from

SEED = 1
RUN_S = 900
OURS = "ours"

Say = Callable[[str], None]


class Run(msgspec.Struct, frozen=True):
    """One run of an engine. ``process_s`` is the whole process."""

    elapsed_s: float
    orders: int
    final_equity: float
    process_s: float = 0.0


def measure(bars: int, rounds: int, say: Say) -> Section:
    """Run every engine ``rounds`` times in turn over ``bars`` bars."""
    path = synthetic_bars(bars, say)
    peers: dict[str, Peer] = {peer.name: peer for peer in (BACKTESTING_PY, NAUTILUS)}
    found: dict[str, Installed | Missing] = {}
    for name, peer in peers.items():
        say(f"loop: environment of {name}")
        found[name] = installed(peer)
    runs: dict[str, list[Run]] = {OURS: [], **{name: [] for name in peers}}
    for round_number in range(rounds):
        for name in in_turn(round_number, tuple(runs)):
            environment = found.get(name)
            if isinstance(environment, Missing):
                continue
            command = _our_command(path)
            if environment is not None:
                command = [str(environment.python), str(ROOT / "bench" / "peers" / peers[name].script), str(path)]
            run = _run(command)
            if isinstance(run, Missing):
                say(f"loop: {name}: {run.reason}")
                if name == OURS:
                    raise RuntimeError(f"our own backtest failed: {run.reason}")
                found[name] = run
                runs[name].clear()
                continue
            runs[name].append(run)
            say(f"loop: round {round_number + 1} of {rounds}: {name} {bars / run.elapsed_s:,.0f} bars/s")
    return _section(bars, runs, found)


def synthetic_bars(bars: int, say: Say) -> Path:
    """A Parquet file of the synthetic market's minutes, made once."""
    path = CACHE / f"minutes-{SEED}-{bars}.parquet"
    if path.is_file():
        return path
    say(f"loop: making {bars:,} synthetic bars")
    # Volumes beyond what an order of one unit takes: engines differ in what they do when a bar runs dry.
    spec = SyntheticSpec(instrument=InstrumentId("BTC-USD_sim"), start_price=Decimal(5_000), usual_volume=10_000.0)
    market = SyntheticMarket(SEED, [spec])
    rows = [
        (bar.open_ns // 1_000_000, *map(float, (bar.open, bar.high, bar.low, bar.close, bar.volume)))
        for bar in bars_from(market, market.start(), bars)
    ]
    names = ("ts", "open", "high", "low", "close", "volume")
    partial = path.with_suffix(".partial")
    pyarrow.parquet.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), partial)
    partial.replace(path)
    return path


def _our_command(path: Path) -> list[str]:
    strategy = ["--strategy", "ema_cross", "--param", "fast=10", "--param", "slow=30", "--size", "1"]
    money = ["--cash", "1000000", "--fee", "0.001"]
    data = ["--instrument", "BTC/USD", "--data", str(path), "--json"]
    return [sys.executable, "-m", "tapeline_common.cli", "backtest", *strategy, *money, *data]


def _run(command: list[str]) -> Run | Missing:
    started = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False, cwd=ROOT)
    except subprocess.TimeoutExpired:
        return Missing(f"not done within {RUN_S} s")
    process_s = time.perf_counter() - started
    if done.returncode:
        return Missing(f"failed: {done.stderr.strip().splitlines()[-1:]}")
    said: dict[str, Any] = msgspec.json.decode(done.stdout.strip().splitlines()[-1])
    return Run(said["elapsed_s"], said["orders"], float(said["final_equity"]), process_s)


def _section(bars: int, runs: Mapping[str, list[Run]], found: Mapping[str, Installed | Missing]) -> Section:
    ours = runs[OURS]
    rows = []
    for name, theirs in runs.items():
        if name == OURS:
            continue
        environment = found[name]
        note = environment.reason if isinstance(environment, Missing) else _agreement(ours[0], theirs[0])
        rows += [
            Row("loop", "bars/s", _rates(bars, ours, False), name, _rates(bars, theirs, False), note),
            Row("whole process", "bars/s", _rates(bars, ours, True), name, _rates(bars, theirs, True)),
        ]
    notes = (
        f"{bars:,} synthetic minutes, EMA 10/30 long only, size 1, cash 1,000,000, fee 0.1 %: {ours[0].orders} orders, "
        f"final equity {ours[0].final_equity:.2f}. Ours with all cores, the tape encoded and hash-chained.",
        "backtesting.py fills at the next open, as we do, and counts closed trades: a position that is open at the end "
        "makes one order of difference, and none in equity. nautilus_trader fills at the close of the bar that was "
        "decided on: the orders agree, the equity differs by the rule; its risk engine is bypassed and its log is off.",
    )
    return Section("Loop gear beside other engines", tuple(rows), notes)


def _rates(bars: int, runs: list[Run], whole: bool) -> tuple[float, ...]:
    return tuple(bars / (run.process_s if whole else run.elapsed_s) for run in runs)


def _agreement(ours: Run, theirs: Run) -> str:
    """What the two results have in common; said in the table, because times of different work say nothing."""
    orders = "same orders" if ours.orders == theirs.orders else f"{theirs.orders} orders, ours {ours.orders}"
    difference = theirs.final_equity - ours.final_equity
    equity = "same equity" if abs(difference) < 0.005 else f"equity {difference:+.2f}"
    return f"{orders}, {equity}"
