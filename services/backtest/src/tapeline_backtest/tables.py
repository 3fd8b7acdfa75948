"""A report as tables for people, in the order they know: per instrument, then the summary, then what was not done."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tapeline_backtest.report import Report
from tapeline_common.commands_shared import time_text

WIDTH = 120
"""Columns where the output is no terminal: a file or a pipe should not be cut at eighty."""


def print_report(report: Report) -> None:
    console = _console()
    console.print(_instruments(report))
    console.print(_summary(report))
    if report.refused or report.declined or report.data_faults:
        console.print(_not_done(report))
    tape = "no tape" if report.facts is None else f"tape {report.facts:,} facts, hash {report.tape_hash}"
    console.print(
        f"{tape}\n{report.gear} gear, {report.elapsed_s:.2f} s, {report.bars_per_s:,.0f} bars/s",
        soft_wrap=True,
    )
    if report.record:
        console.print(f"recorded in {report.record.place}", soft_wrap=True)


def _instruments(report: Report) -> Table:
    table = Table(title=f"{report.strategy} {report.parameters}")
    for column in ("instrument", "bars", "fills", "trades", "wins", "losses", "net pnl", "fees", "left open", "market"):
        table.add_column(column, justify="left" if column == "instrument" else "right")
    for one in report.instruments.values():
        table.add_row(
            one.name,
            f"{one.bars:,}",
            str(one.fills),
            str(one.trades),
            str(one.wins),
            str(one.losses),
            f"{one.net_pnl:,.2f}",
            f"{one.fees:,.2f}",
            str(one.open_quantity),
            f"{one.market_change:+.2%}",
        )
    return table


def _summary(report: Report) -> Table:
    table = Table(title="summary", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    rows = [
        ("from", time_text(report.first_open_ns)),
        ("to", time_text(report.last_close_ns)),
        ("start cash", f"{report.start_cash:,}"),
        ("final equity", f"{report.final_equity:,.2f}"),
        ("net profit", f"{report.net_profit:,.2f} ({report.total_return:+.2%})"),
        ("annual return", _share(report.annual_return)),
        ("annual volatility", _share(report.annual_volatility)),
        ("Sharpe", _number(report.sharpe)),
        ("Sortino", _number(report.sortino)),
        ("Calmar", _number(report.calmar)),
        ("max drawdown", f"{report.max_drawdown:.2%} ({report.max_drawdown_amount:,.2f})"),
        ("drawdown from", time_text(report.max_drawdown_from_ns)),
        ("drawdown to", time_text(report.max_drawdown_to_ns)),
        ("orders / fills / trades", f"{report.orders} / {report.fills} / {report.trades}"),
        ("win rate", _share(report.win_rate)),
        ("profit factor", _number(report.profit_factor)),
        ("expectancy", _number(report.expectancy)),
        ("fees", f"{report.fees:,.2f}"),
        ("slippage", f"{report.slippage:,.2f}"),
        ("funding / borrowing", f"{report.funding:,.2f} / {report.borrowing:,.2f}"),
        ("time in market", f"{report.exposure_share:.2%}"),
        ("market change", f"{report.market_change:+.2%}"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def _not_done(report: Report) -> Table:
    table = Table(title="refused, declined, rejected data")
    for column in ("what", "reason", "times"):
        table.add_column(column)
    groups = (("refused", report.refused), ("declined", report.declined), ("data", report.data_faults))
    for what, counts in groups:
        for reason, times in counts.items():
            table.add_row(what, reason, str(times))
    return table


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
