"""A fan, and searches that were judged, as tables for people. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from tapeline_lab.validity.fan import LEVELS, Fan, Law, Way
from tapeline_lab.validity.searches import Judged

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


def print_searches(found: Sequence[Judged]) -> None:
    """One column for each search, then its verdict in words."""
    console = Console()
    console = console if console.is_terminal else Console(width=60 + 20 * len(found))
    table = Table(title="the best of each search, and how far it may be believed")
    table.add_column("", no_wrap=True)
    for one in found:
        table.add_column(one.instrument, justify="right", no_wrap=True)
    for block in filter(None, (_searched(found), _returned(found), _lucky(found), _superior(found), _walked(found))):
        for name, cells in block:
            table.add_row(name, *cells, end_section=name == block[-1][0])
    table.add_row("verdict", *(one.level for one in found))
    console.print(table)
    for one in found:
        first, *others = one.words
        where = f"{one.strategy} on {one.instrument} {one.timeframe}"
        console.print(f"[bold]{where}: {one.level}[/bold]  {first}", soft_wrap=True, highlight=False)
        for words in others:
            console.print(f"    {words}", soft_wrap=True, highlight=False)


Rows = list[tuple[str, list[str]]]


def _searched(found: Sequence[Judged]) -> Rows:
    names = dict.fromkeys(name for one in found for name in one.searched)
    return [
        ("days searched", [f"{one.days:,}" for one in found]),
        *((f"best {name}", [str(one.parameters.get(name, "-")) for one in found]) for name in names),
        ("its closed trades", [f"{one.trades:,}" for one in found]),
    ]


def _returned(found: Sequence[Judged]) -> Rows:
    return [
        ("Sharpe ratio", [_known(one.sharpe, _number) for one in found]),
        (
            "95 % interval",
            [f"{_known(one.sharpe_low, _number)} to {_known(one.sharpe_high, _number)}" for one in found],
        ),
        ("probability that it is above zero (PSR)", [_known(one.probability, _chance) for one in found]),
        ("record that this takes, days (MinTRL)", [_known(one.needed_days, _whole) for one in found]),
    ]


def _lucky(found: Sequence[Judged]) -> Rows:
    return [
        ("trials counted / here", [f"{one.counted:,} / {one.trials:,}" for one in found]),
        ("worth so many independent ones", [_known(one.effective, _whole) for one in found]),
        ("Sharpe ratio of the luckiest", [_known(one.luck, _number) for one in found]),
        ("probability of being above it (DSR)", [_known(one.deflated, _chance) for one in found]),
        ("probability of overfitting (PBO)", [_known(one.overfitting, _chance) for one in found]),
    ]


def _superior(found: Sequence[Judged]) -> Rows:
    rows = [
        ("p: no trial is better than nothing (SPA)", [_known(one.over_nothing, _p_value) for one in found]),
        ("trials that are better (StepM)", [_known(one.better_than_nothing, _whole) for one in found]),
    ]
    if any(one.holding_sharpe is not None for one in found):
        rows += [
            ("Sharpe ratio of holding", [_known(one.holding_sharpe, _number) for one in found]),
            ("p: no trial is better than holding", [_known(one.over_holding, _p_value) for one in found]),
            ("trials that are better", [_known(one.better_than_holding, _whole) for one in found]),
        ]
    return rows


def _walked(found: Sequence[Judged]) -> Rows:
    if all(one.outside_sharpe is None for one in found):
        return []
    return [
        ("walk-forward: days not searched", [_known(one.outside_days, _whole) for one in found]),
        ("  Sharpe ratio where it was chosen", [_known(one.inside_sharpe, _number) for one in found]),
        ("  Sharpe ratio after that", [_known(one.outside_sharpe, _number) for one in found]),
        ("  t-statistic", [_known(one.outside_t, _number) for one in found]),
    ]


def _known(value: float | None, written: Callable[[float], str]) -> str:
    return "-" if value is None else written(value)


def _chance(value: float) -> str:
    """A probability that never looks certain."""
    return "> 99.9 %" if value > 0.999 else "< 0.1 %" if value < 0.001 else f"{100 * value:.1f} %"


def _p_value(value: float) -> str:
    return f"{value:.3f}"
