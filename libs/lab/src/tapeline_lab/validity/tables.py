"""A fan as tables for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from tapeline_lab.validity.fan import LEVELS, Fan, Law, Way

WIDTH = 120
"""Columns where the output is no terminal."""

DRAWN = {
    Way.BLOCK: "days in blocks",
    Way.JOINT: "days in blocks that follow each other as regimes did",
    Way.SHUFFLE: "the same trades in another order",
    Way.TRADES: "trades drawn with replacement",
}
STEPS = {Way.BLOCK: "days", Way.JOINT: "days", Way.SHUFFLE: "trades", Way.TRADES: "trades"}


def print_fan(fan: Fan, source: str, accounts: Sequence[str]) -> None:
    """Quantiles of the figures, the odds of ruin, and what they mean."""
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    steps = STEPS[fan.way]
    table = Table(title=f"{fan.runs:,} histories of {fan.horizon:,} {steps}: {DRAWN[fan.way]}")
    table.add_column("")
    for level in LEVELS:
        table.add_column(f"{level:.0%}", justify="right")
    table.add_column("recorded", justify="right")
    table.add_column("histories at most that", justify="right")
    table.add_row(*_row("total return", fan.total_return, _percent))
    table.add_row(*_row("max drawdown", fan.max_drawdown, _percent))
    table.add_row(*_row(f"{steps} under water", fan.time_under_water, _whole))
    if fan.sharpe is not None:
        table.add_row(*_row("Sharpe", fan.sharpe, _number))
    console.print(table)
    if fan.regimes:
        console.print(_regimes(fan))
    console.print("\n".join(_sentences(fan, source, accounts)), soft_wrap=True, highlight=False)


def _row(name: str, law: Law, written: Callable[[float], str]) -> list[str]:
    seen = "-" if law.observed is None else written(law.observed)
    rank = "-" if law.rank is None else f"{law.rank:.1%}"
    return [name, *(written(value) for value in law.quantiles), seen, rank]


def _regimes(fan: Fan) -> Table:
    table = Table(title="share of the days")
    for column in ("regime", "drawn", "recorded"):
        table.add_column(column, justify="left" if column == "regime" else "right")
    for name, (drawn, seen) in fan.regimes.items():
        table.add_row(name, f"{drawn:.1%}", f"{seen:.1%}")
    return table


def _sentences(fan: Fan, source: str, accounts: Sequence[str]) -> list[str]:
    lines = [
        f"ruin (a loss of {fan.ruin_threshold:.0%}): {fan.ruin:.2%} ± {fan.ruin_error:.2%} of the histories;"
        f" a loss at the end: {fan.loss:.1%}"
    ]
    if fan.way is Way.SHUFFLE:
        lines.append("every order ends at the same equity: this is the luck of the order, not of the trades")
    of = f" of {len(accounts)} accounts drawn together" if len(accounts) > 1 else ""
    block = f", blocks of {fan.block:.1f} days" if fan.way in (Way.BLOCK, Way.JOINT) else ""
    lines.append(f"{source}{of}{block}, seed {fan.seed}")
    lines.append("what days like the recorded ones allow; days unlike them, and how it was chosen, are not in it")
    return lines


def _percent(value: float) -> str:
    return f"{value:+.2%}" if value < 0 else f"{value:.2%}"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _number(value: float) -> str:
    return f"{value:.2f}"
