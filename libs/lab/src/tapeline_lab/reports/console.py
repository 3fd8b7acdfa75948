"""The long report as tables for a terminal, in the order that Freqtrade's users know.

Verdict and doubts first: whoever reads only the top has read what matters. Prints and computes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.table import Table

from tapeline_common.commands_shared import time_text
from tapeline_lab.reports.checks import Weight
from tapeline_lab.reports.groups import Group
from tapeline_lab.reports.metrics import Extreme, Metrics
from tapeline_lab.reports.trades import TradeFigures
from tapeline_lab.reports.view import Document

WIDTH = 140
"""Columns where the output is no terminal: a file or a pipe should not be cut at eighty."""

_COLOURS = {Weight.WRONG: "bold red", Weight.DOUBTFUL: "yellow", Weight.NOTE: "cyan"}

Row = tuple[str, str]


def print_document(document: Document, periods: Collection[str]) -> None:
    """periods: which of the document's breakdowns are printed."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    report = document.report
    console.print(f"[bold]{report.strategy}[/bold] {report.parameters or ''}", soft_wrap=True)
    if document.verdict is not None:
        first, *others = document.verdict.words
        console.print(f"[bold]{document.verdict.level}[/bold]  {first}", soft_wrap=True)
        for words in others:
            console.print(f"          {words}", soft_wrap=True)
    for finding in document.findings:
        look = f" (tapeline why {finding.positions[0]})" if finding.positions else ""
        console.print(f"[{_COLOURS[finding.weight]}]{finding.weight.lower():>8}[/]  {finding.words}{look}")
    if not document.findings:
        console.print("   no sanity check had anything to say")
    console.print(_groups("by instrument", "instrument", (*document.groups.instruments, document.total)))
    if document.left_open:
        console.print(_left_open(document))
    console.print(_groups("entry reasons", "strategy/preset/regime", (*document.groups.entries, document.total)))
    console.print(_groups("exit reasons", "exit", (*document.groups.exits, document.total)))
    for name, table_rows in document.breakdown.items():
        if name not in periods:
            continue
        table = _table(f"by {name}", name, "trades", "profit", "change", "wins", "draws", "losses")
        for row in table_rows:
            counts = (str(row.wins), str(row.draws), str(row.losses))
            table.add_row(row.name, str(row.trades), f"{row.profit:,.2f}", f"{row.change:+.2%}", *counts)
        console.print(table)
    console.print(_summary(document))
    if len(document.groups.strategies) > 1:
        console.print(_groups("strategy summary", "strategy", (*document.groups.strategies, document.total)))
    console.print(f"tape {report.facts:,} facts, hash {report.tape_hash}", soft_wrap=True)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _groups(title: str, first: str, rows: Sequence[Group]) -> Table:
    table = _table(
        title, first, "trades", "mean", "profit", "of cash", "duration", "win/draw/loss", "win rate", "profit factor"
    )
    for row in rows:
        figures = row.figures
        table.add_row(
            row.name,
            str(figures.trades),
            share(figures.mean_return, places=3),
            f"{figures.net_profit:,.2f}",
            f"{row.share:+.2%}",
            duration(figures.average_duration_s),
            f"{figures.wins}/{figures.draws}/{figures.losses}",
            "-" if figures.win_rate is None else f"{figures.win_rate:.1%}",
            number(figures.profit_factor),
            end_section=row is rows[-2] if len(rows) > 1 else False,
        )
    return table


def _left_open(document: Document) -> Table:
    table = _table("left open", "instrument", "strategy", "quantity", "average price", "last price", "since", "profit")
    for each in document.left_open:
        table.add_row(
            each.instrument,
            each.strategy,
            each.quantity,
            f"{each.average_price:,.6g}",
            f"{each.last_price:,.6g}",
            time_text(each.opened_ns)[:16],
            f"{each.profit:,.2f}",
        )
    return table


def _summary(document: Document) -> Table:
    table = Table(title="summary", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for rows in summary(document.metrics, document):
        for name, value in rows:
            table.add_row(name, value, end_section=name == rows[-1][0])
    return table


def summary(found: Metrics, document: Document) -> list[list[Row]]:
    """Names and values of all figures in blocks, for the console and for the page."""
    return [
        _period(found, document),
        _returns(found),
        _risk(found),
        _drawdown(found),
        _trades(found.trades),
        _sides(found.long, found.short),
        _calendar(found),
        _activity(found, document),
    ]


def _period(found: Metrics, document: Document) -> list[Row]:
    return [
        ("from", time_text(found.first_ns)[:16]),
        ("to", time_text(found.last_ns)[:16]),
        ("days", f"{found.days:,} (a year has {found.periods_per_year})"),
        ("bars", f"{document.report.bars:,}"),
    ]


def _returns(found: Metrics) -> list[Row]:
    return [
        ("start cash", f"{found.start_cash:,}"),
        ("final equity", f"{found.final_equity:,.2f}"),
        ("net profit", f"{found.net_profit:,.2f} ({found.cumulative_return:+.2%})"),
        ("annual return (CAGR)", share(found.annual_return)),
        ("market change", f"{found.market_change:+.2%}"),
        ("market at our volatility", f"{found.market_at_our_risk:+.2%} ({found.market_scale:.0%} of the money)"),
        ("alpha / beta", f"{share(found.alpha)} / {number(found.beta)}"),
        ("correlation with the market", number(found.correlation)),
    ]


def _risk(found: Metrics) -> list[Row]:
    return [
        ("Sharpe", number(found.sharpe)),
        ("Sortino", number(found.sortino)),
        ("Calmar", number(found.calmar)),
        ("Omega", number(found.omega)),
        ("Serenity", number(found.serenity)),
        ("stability (R²)", number(found.stability)),
        ("annual volatility", share(found.annual_volatility).removeprefix("+")),
        ("downside risk", share(found.downside_risk).removeprefix("+")),
        ("day's value at risk / expected shortfall", _pair(found.value_at_risk, found.conditional_value_at_risk)),
        ("skew / kurtosis (normal: 3)", f"{number(found.skew)} / {number(found.kurtosis)}"),
        ("tail ratio", number(found.tail_ratio)),
    ]


def _drawdown(found: Metrics) -> list[Row]:
    worst = found.worst_drawdowns[0] if found.worst_drawdowns else None
    back = "-" if worst is None else "not yet" if worst.to_ns is None else time_text(worst.to_ns)[:16]
    return [
        ("max drawdown", f"{found.max_drawdown:.2%} ({found.max_drawdown_amount:,.2f})"),
        ("  from", time_text(found.max_drawdown_from_ns)[:16]),
        ("  low", time_text(found.max_drawdown_to_ns)[:16]),
        ("  recovered", back),
        ("average drawdown", "-" if found.average_drawdown is None else f"{found.average_drawdown:.2%}"),
        ("longest under water", f"{found.longest_under_water_days:,.1f} days"),
        ("recovery factor", number(found.recovery_factor)),
        ("ulcer index", number(found.ulcer_index, places=4)),
        ("lowest / highest equity", f"{found.lowest_equity:,.2f} / {found.highest_equity:,.2f}"),
    ]


def _trades(figures: TradeFigures) -> list[Row]:
    return [
        ("trades", f"{figures.trades:,} ({figures.wins} won, {figures.draws} drawn, {figures.losses} lost)"),
        ("win rate", "-" if figures.win_rate is None else f"{figures.win_rate:.1%}"),
        ("profit factor", number(figures.profit_factor)),
        ("expectancy (ratio)", f"{money(figures.expectancy)} ({number(figures.expectancy_ratio)})"),
        ("payoff", number(figures.payoff)),
        ("average win / loss", f"{money(figures.average_win)} / {money(figures.average_loss)}"),
        ("best / worst trade", f"{money(figures.best)} / {money(figures.worst)}"),
        ("SQN (p-value)", f"{number(figures.sqn)} ({number(figures.p_value)})"),
        ("Kelly fraction", number(figures.kelly)),
        ("longest streak of wins / losses", f"{figures.longest_winning_streak} / {figures.longest_losing_streak}"),
        ("duration of winners / losers", f"{duration(figures.average_winner_s)} / {duration(figures.average_loser_s)}"),
    ]


def _sides(long: TradeFigures, short: TradeFigures) -> list[Row]:
    def side(figures: TradeFigures) -> str:
        rate = "-" if figures.win_rate is None else f"{figures.win_rate:.1%}"
        return f"{figures.trades:,} trades, {figures.net_profit:,.2f}, {rate} won"

    return [("long", side(long)), ("short", side(short))]


def _calendar(found: Metrics) -> list[Row]:
    pairs = (
        ("best / worst day", found.best_day, found.worst_day),
        ("best / worst week", found.best_week, found.worst_week),
        ("best / worst month", found.best_month, found.worst_month),
    )
    days = f"{found.winning_days} / {found.draw_days} / {found.losing_days}"
    return [
        *((name, f"{_extreme(best)} / {_extreme(worst)}") for name, best, worst in pairs),
        ("days won / even / lost", days),
    ]


def _activity(found: Metrics, document: Document) -> list[Row]:
    report = document.report
    rows = [
        ("orders / fills", f"{report.orders:,} / {report.fills:,}"),
        ("trades per day", f"{found.trades_per_day:.2f}"),
        ("time in market", f"{found.exposure_share:.2%}"),
        ("volume traded", f"{found.volume:,.2f}"),
        ("turnover per year", "-" if found.turnover is None else f"{found.turnover:,.1f}"),
        ("fees", f"{found.fees:,.2f}"),
        ("slippage", f"{found.slippage:,.2f}"),
        ("funding / borrowing", f"{found.funding:,.2f} / {found.borrowing:,.2f}"),
    ]
    for what, counts in (("refused", report.refused), ("declined", report.declined), ("data", report.data_faults)):
        rows += [(f"{what}: {reason}", f"{times:,}") for reason, times in counts.items()]
    return rows


def _pair(one: float | None, other: float | None) -> str:
    return f"{share(one)} / {share(other)}"


def _extreme(extreme: Extreme | None) -> str:
    return "-" if extreme is None else f"{extreme.change:+.2%} ({extreme.name})"


def share(value: float | None, places: int = 2) -> str:
    return "-" if value is None else f"{value:+.{places}%}"


def number(value: float | None, places: int = 3) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def money(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def duration(seconds: float | None) -> str:
    """Such as 2d 03:15."""
    if seconds is None:
        return "-"
    minutes = round(seconds / 60)
    days, rest = divmod(minutes, 1440)
    clock = f"{rest // 60:02d}:{rest % 60:02d}"
    return f"{days}d {clock}" if days else clock
