"""The loop gear beside other engines: the same synthetic minutes, the same strategy, fee and cash, a process each.

Two races: a year of minutes with EMA 10/30, and a quarter with a pair so short that there is an order in about ten
bars. Long only, size 1, cash 1,000,000, fee 0.1 %. Ours runs every core with the tape encoded and hashed, in block mode
and bar by bar. Rows in bars/s are each engine's own run, without imports and loading; time and peak memory of whole
processes are rows of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.bars import synthetic_bars
from bench.environments import BACKTESTING_PY, NAUTILUS, VECTORBT, Peer, installed
from bench.measure import Row, Section
from bench.ours import Lengths, backtest, configured_backtest, limits_and_regimes, peer_command
from bench.rounds import (
    Check,
    Command,
    Runs,
    bars_per_s,
    in_rounds,
    peak_mib,
    process_s,
    row,
    same_orders,
    same_result,
    same_result_with_regimes,
    same_tape,
)

YEAR: Lengths = (10, 30)
HEAVY: Lengths = (4, 8)

BLOCKS, BAR_BY_BAR, FULL = "loop, --blocks", "loop, --no-blocks", "loop, --blocks, limits and regime filter"

RULES: Mapping[str, tuple[Check, str]] = {
    BACKTESTING_PY.name: (same_result, "same orders and equity"),
    NAUTILUS.name: (same_orders, "same orders"),
    VECTORBT.name: (same_result, "same orders and equity"),
}
"""What must be the same as ours: nautilus_trader fills at the close, so its equity is another."""

ENGINES = (BACKTESTING_PY, NAUTILUS)
"""Peers that go from bar to bar. vectorbt goes over columns and stands beside sweeps; here only its whole process."""

ABOUT_PEERS = (
    "backtesting.py fills at the next open, as we do. nautilus_trader fills at the close of the bar that was decided "
    "on: the orders agree, the equity differs by the rule; its risk engine is bypassed and its log is off."
)

Say = Callable[[str], None]


def measure_year(bars: int, rounds: int, say: Say) -> Section:
    """EMA 10/30 over ``bars`` minutes, also with limits and the regime filter."""
    path = synthetic_bars(bars, say)
    full = configured_backtest(path, limits_and_regimes(), "--blocks")
    runs = _raced(path, YEAR, {FULL: full, **_peers((VECTORBT,), path, YEAR, say, "1")}, rounds, say)
    rows = [
        *_speeds(runs, (BLOCKS, FULL, BAR_BY_BAR), bars),
        row(BLOCKS, "bars/s", runs, (BLOCKS, BAR_BY_BAR), bars_per_s(bars), same_tape, "same tape"),
        row(
            FULL,
            "bars/s",
            runs,
            (FULL, BLOCKS),
            bars_per_s(bars),
            same_result_with_regimes(bars),
            "same orders and equity, a regime at every bar",
        ),
    ]
    for peer, (check, agreed) in RULES.items():
        rows.append(row("whole process, --blocks", "s", runs, (BLOCKS, peer), process_s, check, agreed))
        rows.append(row("its peak memory", "MiB", runs, (BLOCKS, peer), peak_mib, check, agreed))
    notes = (
        _about(bars, YEAR, runs),
        f"{ABOUT_PEERS} Whole processes are from start to end, imports, reading the file and the report included; "
        "lower is better there.",
    )
    return Section("Loop gear beside other engines", tuple(rows), notes)


def measure_heavy(bars: int, rounds: int, say: Say) -> Section:
    """EMA 4/8 over ``bars`` minutes: about an order in ten bars."""
    runs = _raced(synthetic_bars(bars, say), HEAVY, {}, rounds, say)
    rows = (
        *_speeds(runs, (BLOCKS, BAR_BY_BAR), bars),
        row(BLOCKS, "bars/s", runs, (BLOCKS, BAR_BY_BAR), bars_per_s(bars), same_tape, "same tape"),
    )
    return Section("An order in ten bars", rows, (_about(bars, HEAVY, runs), ABOUT_PEERS))


def _raced(path: Path, lengths: Lengths, more: Mapping[str, Command], rounds: int, say: Say) -> dict[str, Runs]:
    commands: dict[str, Command] = {
        BLOCKS: backtest(path, lengths, "--blocks"),
        BAR_BY_BAR: backtest(path, lengths, "--no-blocks"),
        **more,
        **_peers(ENGINES, path, lengths, say),
    }
    return in_rounds(rounds, commands, say)


def _peers(peers: Sequence[Peer], path: Path, lengths: Lengths, say: Say, *more: str) -> dict[str, Command]:
    commands: dict[str, Command] = {}
    for peer in peers:
        say(f"environment of {peer.name}")
        commands[peer.name] = peer_command(peer, installed(peer), path, *map(str, lengths), *more)
    return commands


def _speeds(runs: Mapping[str, Runs], ours: tuple[str, ...], bars: int) -> list[Row]:
    return [
        row(mode, "bars/s", runs, (mode, peer.name), bars_per_s(bars), *RULES[peer.name])
        for peer in ENGINES
        for mode in ours
    ]


def _about(bars: int, lengths: Lengths, runs: Mapping[str, Runs]) -> str:
    fast, slow = lengths
    text = f"{bars:,} synthetic minutes, EMA {fast}/{slow} long only, size 1, cash 1,000,000, fee 0.1 %"
    ours = runs[BAR_BY_BAR]
    if isinstance(ours, tuple):
        orders, equity = ours[0].said["orders"], float(ours[0].said["final_equity"])
        text += f": {orders:,} orders (one in {bars / max(orders, 1):.1f} bars), final equity {equity:.2f}"
    return f"{text}. Ours with all cores, the tape encoded and hash-chained."
