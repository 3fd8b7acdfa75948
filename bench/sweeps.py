"""A sweep of a hundred pairs of lengths beside vectorbt, and the kernel beside a loop that only reads the columns.

Runs, the best and the worst equity are compared first. Our compiled code is kept from run to run; vectorbt's second
sweep in one process is timed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from bench.bars import synthetic_bars
from bench.environments import VECTORBT, installed
from bench.measure import Section
from bench.ours import peer_command, sweep
from bench.processes import Ended
from bench.rounds import Command, Runs, in_rounds, peak_mib, row

FASTS, SLOWS = range(5, 15), range(20, 66, 5)
PAIRS = len(FASTS) * len(SLOWS)

ALL_CORES, ONE_CORE, FLOOR = "sweep", "sweep, one worker", "reading the columns, one core"

Say = Callable[[str], None]


def measure(bars: int, rounds: int, say: Say) -> Section:
    """Sweep ``bars`` bars."""
    path = synthetic_bars(bars, say)
    say(f"environment of {VECTORBT.name}")
    lengths = (_listed(FASTS), _listed(SLOWS))
    commands: dict[str, Command] = {
        ALL_CORES: sweep(path, *lengths),
        ONE_CORE: sweep(path, *lengths, "--workers", "1"),
        VECTORBT.name: peer_command(VECTORBT, installed(VECTORBT), path, *lengths, "2"),
        FLOOR: _floor(path),
    }
    runs = in_rounds(rounds, commands, say)

    def rate(ended: Ended) -> float:
        return PAIRS * bars / float(ended.said["elapsed_s"])

    cores = os.cpu_count() or 1
    beside = cores_of(runs[VECTORBT.name])
    agreed = "same runs, best and worst equity"
    both = (ALL_CORES, VECTORBT.name), (ONE_CORE, VECTORBT.name)
    rows = (
        row(f"sweep, {cores} workers", "bars/s", runs, both[0], rate, same_extremes, f"{agreed}; {beside}"),
        row("sweep, one worker", "bars/s", runs, both[1], rate, same_extremes, f"{agreed}; {beside}"),
        row(f"peak memory, {cores} workers", "MiB", runs, both[0], peak_mib),
        row("kernel, one core", "bars/s", runs, (ONE_CORE, FLOOR), rate, None, "the same hundred passes"),
    )
    notes = (
        f"{PAIRS} pairs (fast {FASTS[0]} to {FASTS[-1]}, slow {SLOWS[0]} to {SLOWS[-1]} by 5) over {bars:,} synthetic "
        "minutes, long only, fee 0.1 %. A sweep's bars are counted once for each pair. vectorbt's second sweep in one "
        f"process is timed, ours runs on kept code. Beside the kernel: a numba loop that adds up the five columns, "
        f"{PAIRS} times.",
    )
    return Section("Sweeps", rows, notes)


def same_extremes(ours: Ended, theirs: Ended) -> str | None:
    """As many runs, and the same best and worst equity at the end, to half a cent."""
    equities = [float(each["final_equity"]) for each in ours.said["results"]]
    mine = (len(equities), max(equities), min(equities))
    other = tuple(float(theirs.said[key]) for key in ("runs", "best_equity", "worst_equity"))
    for name, one, another in zip(("runs", "best equity", "worst equity"), mine, other, strict=True):
        if abs(one - another) >= 0.005:
            return f"{name} {one:.2f}, theirs {another:.2f}"
    return None


def _listed(lengths: range) -> str:
    return ",".join(map(str, lengths))


def cores_of(theirs: Runs) -> str:
    """On how many cores the other side ran, by its processor time: less than one is one that was shared."""
    if not isinstance(theirs, tuple) or not theirs:
        return ""
    cores = max(1, *(round(each.said["busy_cores"]) for each in theirs))
    return f"theirs on {cores} {'core' if cores == 1 else 'cores'}"


def _floor(path: Path) -> list[str]:
    return [sys.executable, "-m", "bench.floor", str(path), str(PAIRS)]
