"""Results of searches as tables for people. Nothing is computed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tapeline_common.commands_shared import time_text

if TYPE_CHECKING:
    from tapeline_lab.search.sweep_command import Sweep

WIDTH = 160
"""Columns where the output is no terminal: a row has its parameters besides its figures."""

_FIGURES = ("net profit", "return", "Sharpe", "drawdown", "trades", "wins", "fees", "market")


def print_sweep(sweep: Sweep, top: int) -> None:
    """The best runs of a sweep, and what it came to in all."""
    rows = sweep.results
    beside = [name for name in ("strategy", "instrument", "timeframe") if len({row[name] for row in rows}) > 1]
    periods = len({(row["first_open_ns"], row["last_close_ns"]) for row in rows}) > 1
    names = list(dict.fromkeys(name for row in rows[:top] for name in row["parameters"]))
    shown = {"net_profit", "total_return", "sharpe", "max_drawdown", "win_rate"}
    ranked_by = [] if sweep.rank_by in shown else [sweep.rank_by]
    table = Table(title=f"{sweep.strategy}, best {min(top, sweep.done)} of {sweep.done:,} runs by {sweep.rank_by}")
    for name in (*beside, *names, *(["from", "to"] if periods else []), *ranked_by, *_FIGURES):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows[:top]:
        table.add_row(
            *(row[name] for name in beside),
            *(str(row["parameters"].get(name, "")) for name in names),
            *([time_text(row["first_open_ns"])[:10], time_text(row["last_close_ns"])[:10]] if periods else []),
            *(number(row[name]) for name in ranked_by),
            *_figures(row),
        )
    console = wide_console()
    console.print(table)
    skipped = f", {sweep.skipped:,} combinations skipped that do not go together" if sweep.skipped else ""
    refused = f", {sweep.refused:,} without a result" if sweep.refused else ""
    stopped = f"interrupted: {sweep.done:,} of {sweep.runs:,} runs done" if sweep.is_interrupted else ""
    console.print(f"{stopped or f'{sweep.runs:,} runs'}{skipped}{refused}", soft_wrap=True)
    if sweep.study is not None:
        again = f", {sweep.repeated:,} of them there before" if sweep.repeated else ""
        console.print(f"recorded in {sweep.study}{again}", soft_wrap=True)
    console.print(
        f"{sweep.gear} gear, {sweep.workers} workers, {sweep.elapsed_s:.2f} s, {sweep.bars_per_s:,.0f} bars/s",
        soft_wrap=True,
    )


def _figures(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['net_profit']:,.2f}",
        f"{row['total_return']:+.2%}",
        number(row["sharpe"]),
        f"{row['max_drawdown']:.2%}",
        str(row["trades"]),
        "-" if row["win_rate"] is None else f"{row['win_rate']:.1%}",
        f"{row['fees']:,.2f}",
        f"{row['market_change']:+.2%}",
    ]


def wide_console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def number(value: Any) -> str:
    return "-" if value is None else f"{value:,.3f}"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2%}"
