"""The gears beside each other: the compiled kernel, and the wire over NATS and Postgres, each beside the loop.

What must be the same is compared first: the kernel's orders and equity, the wire's tape. Compiling and starting servers
are not part of the figures.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.bars import first_bars, synthetic_bars
from bench.environments import NAUTILUS, installed
from bench.measure import Section
from bench.ours import backtest, peer_command
from bench.race import YEAR
from bench.rounds import Command, bars_per_s, in_rounds, row, same_orders, same_result, same_tape

WIRE_BARS = 20_000

KERNEL, BLOCKS = "kernel gear", "loop, --blocks"
WIRE, BAR_BY_BAR = "wire gear", "loop, --no-blocks"

Say = Callable[[str], None]


def measure(bars: int, rounds: int, say: Say) -> Section:
    """The kernel over ``bars`` bars; the wire gear over the first of them."""
    path = synthetic_bars(bars, say)
    few = min(bars, WIRE_BARS)
    short = first_bars(path, few)
    commands: dict[str, Command] = {
        KERNEL: backtest(path, YEAR, "--gear", "kernel"),
        BLOCKS: backtest(path, YEAR, "--blocks"),
        WIRE: backtest(short, YEAR, "--gear", "wire"),
        BAR_BY_BAR: backtest(short, YEAR, "--no-blocks"),
        NAUTILUS.name: peer_command(NAUTILUS, installed(NAUTILUS), short, *map(str, YEAR)),
    }
    runs = in_rounds(rounds, commands, say)
    whole, on_wire = bars_per_s(bars), bars_per_s(few)
    rows = (
        row("kernel gear, one run", "bars/s", runs, (KERNEL, BLOCKS), whole, same_result, "same orders and equity"),
        row(WIRE, "bars/s", runs, (WIRE, BAR_BY_BAR), on_wire, same_tape, "same tape hash"),
        row(WIRE, "bars/s", runs, (WIRE, NAUTILUS.name), on_wire, same_orders, "same orders; theirs in one process"),
    )
    notes = (
        f"Synthetic minutes, EMA 10/30 long only, fee 0.1 %: {bars:,} bars for the kernel and the loop beside it, the "
        f"first {few:,} of them for the wire and what is beside it. Over the wire every service is a process of its "
        "own and every fact is committed to Postgres.",
    )
    return Section("Gears", rows, notes)
