"""Results of searches as tables for people. Nothing is computed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from tapeline_common.commands_shared import time_text

if TYPE_CHECKING:
    from tapeline_lab.search.compare_command import Comparison
    from tapeline_lab.search.recorded import DailyFigures, Difference, RunComparison
    from tapeline_lab.search.sensitivity import Sensitivity
    from tapeline_lab.search.sweep_command import Sweep
    from tapeline_lab.search.walk_forward import Walk
    from tapeline_lab.search.walk_forward_command import WalkForward

WIDTH = 240
"""Columns where the output is no terminal: a row has its parameters besides its figures, and nothing is cut off."""

_FIGURES = ("net profit", "return", "Sharpe", "drawdown", "trades", "wins", "fees", "market")


def print_sweep(sweep: Sweep, top: int) -> None:
    """The best runs of a sweep, and what it came to in all."""
    rows = sweep.results
    beside = [name for name in ("strategy", "instrument", "timeframe") if len({row[name] for row in rows}) > 1]
    periods = len({(row["first_open_ns"], row["last_close_ns"]) for row in rows}) > 1
    names = list(dict.fromkeys(name for row in rows[:top] for name in row["parameters"]))
    shown = {"net_profit", "total_return", "sharpe", "max_drawdown", "win_rate"}
    ranked_by = [] if sweep.rank_by in shown else [sweep.rank_by]
    where = {f" on {row['instrument']} {row['timeframe']}" for row in rows}
    what = sweep.strategy + (where.pop() if len(where) == 1 else "")
    table = Table(title=f"{what}, best {min(top, sweep.done)} of {sweep.done:,} runs by {sweep.rank_by}")
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


def print_walk_forward(result: WalkForward) -> None:
    """Every fold, then the stitched tests, which are what counts."""
    console = wide_console()
    for walk in result.walks:
        kept = _kept(walk)
        console.print(_folds(walk, result.objective, kept))
        if kept:
            console.print(f"in every fold: {_settings(kept)}", soft_wrap=True)
        console.print(_stitched(walk))
    how = "anchored" if result.is_anchored else "rolling"
    console.print(f"{how}, {result.trials:,} trials, {result.gear} gear", soft_wrap=True)
    if result.study is not None:
        console.print(f"recorded in {result.study}", soft_wrap=True)


def _kept(walk: Walk) -> dict[str, Any]:
    """Parameters that every fold has with the same value, where there are several folds to compare."""
    chosen = [fold.parameters for fold in walk.folds if fold.parameters is not None]
    if len(chosen) < 2:
        return {}
    return {name: value for name, value in chosen[0].items() if all(other.get(name) == value for other in chosen)}


def _folds(walk: Walk, objective: str, kept: dict[str, Any]) -> Table:
    table = Table(title=f"{walk.strategy} on {walk.instrument} {walk.timeframe}, each training's best by {objective}")
    columns = (
        "fold",
        "test from",
        "to",
        "parameters",
        "IS Sharpe",
        "OOS Sharpe",
        "IS return",
        "OOS return",
        "drawdown",
    )
    for name in (*columns, "trades", "market"):
        table.add_column(name, justify="right", no_wrap=True)
    for fold in walk.folds:
        chosen = "nothing"
        if fold.parameters is not None:
            own = {name: value for name, value in fold.parameters.items() if name not in kept}
            chosen = _settings(own) if own else "the same"
        table.add_row(
            str(fold.fold + 1),
            time_text(fold.test_from_ns)[:10],
            time_text(fold.test_to_ns)[:10],
            chosen,
            number(fold.in_sample_sharpe),
            number(fold.out_of_sample_sharpe),
            share(fold.in_sample_return),
            share(fold.out_of_sample_return),
            f"{fold.out_of_sample_drawdown:.2%}",
            str(fold.trades),
            share(fold.market_change),
        )
    return table


def _stitched(walk: Walk) -> Table:
    title = "out of sample, stitched: the result of record"
    table = Table(title=title, show_header=False, min_width=len(title))
    table.add_column()
    table.add_column(justify="right")
    for name, value in (
        ("days", f"{walk.days:,}"),
        ("return", share(walk.total_return)),
        ("annual return", share(walk.annual_return)),
        ("Sharpe", number(walk.sharpe)),
        ("Sortino", number(walk.sortino)),
        ("max drawdown", f"{walk.max_drawdown:.2%}"),
        ("t-statistic", number(walk.t_statistic)),
        ("walk-forward efficiency", _defined(walk.efficiency)),
        ("degradation of Sharpe", _defined(walk.degradation)),
        ("folds in profit", f"{walk.profitable_folds:.0%}"),
        ("rank stability", number(walk.rank_stability)),
        ("market change", share(walk.market_change)),
    ):
        table.add_row(name, value)
    return table


def print_sensitivity(result: Sensitivity) -> None:
    """The centre, the peak and the plateau, and what to take."""
    console = wide_console()
    table = Table(title=f"{result.strategy} around {_settings(result.centre)}, by {result.objective}")
    for name in ("", "parameters", result.objective):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    table.add_row("centre", _settings(result.centre), number(result.centre_value))
    if result.peak is not None:
        table.add_row("peak", _settings(result.peak), number(result.peak_value))
    if result.recommended is not None:
        table.add_row("centre of the plateau", _settings(result.recommended), number(result.recommended_value))
    console.print(table)
    console.print(
        f"{result.points:,} settings, median {number(result.median)}, plateau ratio {_defined(result.plateau_ratio)}, "
        f"{share_of(result.profitable)} of them in profit",
        soft_wrap=True,
    )
    if result.recommended is not None:
        console.print(f"take {_settings(result.recommended)}: the best surroundings, not the peak", soft_wrap=True)
    else:
        console.print("nothing here is above zero: there is no plateau to recommend", soft_wrap=True)


def print_comparison(result: Comparison) -> None:
    """All contenders side by side, best first."""
    console = wide_console()
    table = Table(title=f"{len(result.rows)} contenders, by {result.rank_by}")
    columns = ("contender", "instrument", "return", "Sharpe", "Sortino", "Calmar", "drawdown", "trades", "against hold")
    for name in columns:
        table.add_column(name, justify="left" if name == "contender" else "right", no_wrap=True)
    has_intervals = any(row.sharpe_low is not None for row in result.rows)
    if has_intervals:
        table.add_column("Sharpe 95 %", justify="right", no_wrap=True)
    for row in result.rows:
        interval = "-" if row.sharpe_low is None else f"{number(row.sharpe_low)} to {number(row.sharpe_high)}"
        table.add_row(
            row.name,
            row.instrument,
            share(row.total_return),
            number(row.sharpe),
            number(row.sortino),
            number(row.calmar),
            f"{row.max_drawdown:.2%}",
            "-" if row.trades is None else str(row.trades),
            share(row.excess_return),
            *([interval] if has_intervals else []),
        )
    console.print(table)


def print_runs(result: RunComparison) -> None:
    """Recorded runs, each with holding below it, and how far apart they are."""
    console = wide_console()
    table = Table(title=f"{len(result.rows)} recorded runs, by daily closes")
    for name in ("run", "days", "return", "a year", "Sharpe", "Sortino", "Calmar", "drawdown", "trades"):
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=name != "run")
    for row in result.rows:
        table.add_row(row.name, str(row.days), *_daily(row.figures), str(row.trades))
        table.add_row("  holding the same", "", *_daily(row.hold), "-", end_section=True)
    console.print(table)
    apart = Table(title="differences, with 95 % of the bootstrap")
    for name in ("run", "less", "days", "a year", "interval", "Sharpe", "interval", "told apart"):
        apart.add_column(name, justify="left" if name in ("run", "less") else "right", no_wrap=name != "run")
    for row in result.rows:
        apart.add_row(row.name, "holding", *_apart(row.over_hold))
        if row.over_first:
            apart.add_row(row.name, "the first run", *_apart(row.over_first))
    console.print(apart)


def _daily(figures: DailyFigures) -> tuple[str, ...]:
    year = "-" if figures.annual_return is None else share(figures.annual_return)
    ratios = (number(figures.sharpe), number(figures.sortino), number(figures.calmar))
    return share(figures.total_return), year, *ratios, f"{figures.max_drawdown:.2%}"


def _apart(found: dict[str, Difference]) -> tuple[str, ...]:
    year, sharpe = found["annual_return"], found["sharpe"]
    told = [name for name, one in (("return", year), ("Sharpe", sharpe)) if one.is_told_apart]
    return (
        str(year.days),
        "-" if year.value is None else share(year.value),
        "-" if year.low is None or year.high is None else f"{share(year.low)} to {share(year.high)}",
        number(sharpe.value),
        "-" if sharpe.low is None else f"{number(sharpe.low)} to {number(sharpe.high)}",
        "-" if year.low is None and sharpe.low is None else " and ".join(told) or "no",
    )


def _settings(parameters: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in parameters.items()) or "defaults"


def _defined(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def share_of(value: float) -> str:
    return f"{value:.0%}"


def wide_console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def number(value: Any) -> str:
    return "-" if value is None else f"{value:,.3f}"


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2%}"
