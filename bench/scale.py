"""Longer files: whether bars a second and memory stay in proportion up to five million bars.

The loop gear as a user starts it, over the same minutes forwards and backwards again and again, so that every length
has the same share of orders. Beside each length stands the shortest one, in the same rounds.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.bars import YEAR_BARS, repeated_bars, synthetic_bars
from bench.measure import Row, Section
from bench.ours import backtest
from bench.processes import Ended
from bench.race import YEAR
from bench.rounds import Command, in_rounds, peak_mib, process_s, row

LENGTHS = (500_000, 1_000_000, 5_000_000)

Say = Callable[[str], None]


def measure(part: int, rounds: int, say: Say) -> Section:
    """Lengths divided by ``part``."""
    base = synthetic_bars(YEAR_BARS // part, say)
    names = {f"{length // part:,} bars": length // part for length in LENGTHS}
    commands: dict[str, Command] = {
        name: backtest(repeated_bars(base, bars), YEAR, "--blocks") for name, bars in names.items()
    }
    runs = in_rounds(rounds, commands, say)
    least, *longer = names
    rows: list[Row] = []
    for name in longer:
        sides = (name, least)
        rows.append(row(f"loop, --blocks, {name}", "bars/s", runs, sides, own_rate, all_bars))
        rows.append(row("its peak memory", "MiB", runs, sides, peak_mib))
        rows.append(row("its whole process", "s", runs, sides, process_s))
    notes = (
        "EMA 10/30 long only, fee 0.1 %, over the same synthetic minutes forwards and backwards in turn. Proportional "
        "is 1x in bars/s; in seconds it is the ratio of the lengths.",
    )
    return Section("Longer files", tuple(rows), notes)


def own_rate(ended: Ended) -> float:
    return float(ended.said["bars_per_s"])


def all_bars(ours: Ended, theirs: Ended) -> str | None:
    """No bar was refused as bad data: otherwise less was done than the length says."""
    faults = {**ours.said["data_faults"], **theirs.said["data_faults"]}
    return f"bars were rejected: {faults}" if faults else None
