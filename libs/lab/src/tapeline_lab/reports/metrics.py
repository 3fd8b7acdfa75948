"""Every figure of a run in one frozen struct, computed from its session: daily returns, trades and the equity curve.

What ``tapeline_backtest.report.Report`` has is taken from it. A year has the trading days of the instruments'
calendar, never a fixed 252. Benchmark of alpha, beta and correlation: buying an equal amount of each instrument at its
first close and holding it.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.report import DAY_NS, TRADING_DAYS, day_ends, returns_of
from tapeline_backtest.session import Bars, Session
from tapeline_common.values import PositionSide
from tapeline_lab.reports import series
from tapeline_lab.reports.breakdown import Period, compounded
from tapeline_lab.reports.trades import TradeFigures, trade_figures

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WORST_DRAWDOWNS = 5


class Drawdown(msgspec.Struct, frozen=True):
    """A time under water: from the high, over the low, to the first close at the high again (None: not yet)."""

    depth: float
    amount: float
    from_ns: int
    low_ns: int
    to_ns: int | None
    days: float


class Extreme(msgspec.Struct, frozen=True):
    """Best or worst day, week or month, by its name such as 2024-03-11, 2024-W11 or 2024-03."""

    name: str
    change: float


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Ratios are fractions, times UTC ns, money in account currency. None: not defined for this run.

    Attributes:
        market_scale: share of the money (at most all) that, held in the market, had been as volatile as the account.
        market_at_our_risk: what that would have returned.
    """

    first_ns: int
    last_ns: int
    days: int
    periods_per_year: int

    start_cash: Decimal
    final_equity: Decimal
    net_profit: Decimal
    cumulative_return: float
    annual_return: float | None
    market_change: float
    market_scale: float
    market_at_our_risk: float
    alpha: float | None
    beta: float | None
    correlation: float | None

    sharpe: float | None
    sortino: float | None
    calmar: float | None
    omega: float | None
    serenity: float | None
    recovery_factor: float | None
    stability: float | None

    annual_volatility: float | None
    downside_risk: float | None
    value_at_risk: float | None
    conditional_value_at_risk: float | None
    skew: float | None
    kurtosis: float | None
    tail_ratio: float | None
    ulcer_index: float | None

    max_drawdown: float
    max_drawdown_amount: float
    max_drawdown_from_ns: int
    max_drawdown_to_ns: int
    average_drawdown: float | None
    longest_under_water_days: float
    lowest_equity: float
    highest_equity: float
    worst_drawdowns: tuple[Drawdown, ...]

    best_day: Extreme | None
    worst_day: Extreme | None
    best_week: Extreme | None
    worst_week: Extreme | None
    best_month: Extreme | None
    worst_month: Extreme | None
    winning_days: int
    draw_days: int
    losing_days: int

    trades: TradeFigures
    long: TradeFigures
    short: TradeFigures
    trades_per_day: float
    exposure_share: float
    volume: float
    turnover: float | None
    fees: Decimal
    slippage: Decimal
    funding: Decimal
    borrowing: Decimal


class Daily(msgspec.Struct, frozen=True):
    """A session day by day. Shapes (n,): ``day`` counts UTC days since 1970; ``market`` holds the instruments."""

    day: Ints
    returns: Floats
    equity: Floats
    market: Floats


def daily(session: Session) -> Daily:
    curve = session.curve
    ends = day_ends(curve.time_ns)
    equity = curve.equity[ends]
    held = market_index(list(session.bars.values()), curve.time_ns)
    return Daily(
        (curve.time_ns[ends] - 1) // DAY_NS,
        returns_of(np.concatenate([curve.equity[:1], equity])),
        equity,
        returns_of(np.concatenate([held[:1], held[ends]])),
    )


def market_index(bars: Sequence[Bars], time_ns: Ints) -> Floats:
    """An equal amount of each instrument, bought at its first close: 1 until then."""
    index = np.zeros(len(time_ns))
    for one in bars:
        last = np.searchsorted(one.close_ns, time_ns, side="right") - 1
        index += one.close[np.maximum(last, 0)] / one.close[0]
    return index / len(bars)


def year_of(session: Session) -> int:
    """Trading days in a year: the fewest of the instruments' calendars."""
    calendars = [session.listings[instrument].calendar for instrument in session.bars]
    return min((TRADING_DAYS.get(calendar, 365) for calendar in calendars), default=365)


def metrics(session: Session) -> Metrics:
    report, by_day, year = session.report, daily(session), year_of(session)
    under_water = drawdown_periods(session.curve.time_ns, session.curve.equity)
    returns = by_day.returns
    calendar = (Period.DAY, Period.WEEK, Period.MONTH)
    each_day, weeks, months = (compounded(by_day.day, returns, period) for period in calendar)
    volume = sum(float(fill.quantity * fill.price) for fill in session.fills)
    mean_equity, enough = float(np.mean(session.curve.equity)), len(returns) >= 2
    scale = series.scale_to(by_day.market, returns)
    return Metrics(
        first_ns=report.first_open_ns,
        last_ns=report.last_close_ns,
        days=len(returns),
        periods_per_year=year,
        start_cash=report.start_cash,
        final_equity=report.final_equity,
        net_profit=report.net_profit,
        cumulative_return=report.total_return,
        annual_return=report.annual_return,
        market_change=report.market_change,
        market_scale=scale,
        market_at_our_risk=series.cumulative_return(scale * by_day.market),
        alpha=series.alpha(returns, by_day.market, year) if enough else None,
        beta=series.beta(returns, by_day.market) if enough else None,
        correlation=series.correlation(returns, by_day.market),
        sharpe=report.sharpe,
        sortino=report.sortino,
        calmar=report.calmar,
        omega=series.omega(returns),
        serenity=series.serenity(returns, year) if enough else None,
        recovery_factor=series.quotient(float(report.net_profit), report.max_drawdown_amount),
        stability=series.stability(returns),
        annual_volatility=report.annual_volatility,
        downside_risk=series.downside_risk(returns, year) if enough else None,
        value_at_risk=series.value_at_risk(returns),
        conditional_value_at_risk=series.conditional_value_at_risk(returns),
        skew=series.skew(returns),
        kurtosis=series.kurtosis(returns),
        tail_ratio=series.tail_ratio(returns),
        ulcer_index=series.ulcer_index(returns),
        max_drawdown=report.max_drawdown,
        max_drawdown_amount=report.max_drawdown_amount,
        max_drawdown_from_ns=report.max_drawdown_from_ns,
        max_drawdown_to_ns=report.max_drawdown_to_ns,
        average_drawdown=float(np.mean([each.depth for each in under_water])) if under_water else None,
        longest_under_water_days=max((each.days for each in under_water), default=0.0),
        lowest_equity=float(session.curve.equity.min()),
        highest_equity=float(session.curve.equity.max()),
        worst_drawdowns=tuple(sorted(under_water, key=lambda each: -each.depth)[:WORST_DRAWDOWNS]),
        best_day=_extreme(each_day, best=True),
        worst_day=_extreme(each_day, best=False),
        best_week=_extreme(weeks, best=True),
        worst_week=_extreme(weeks, best=False),
        best_month=_extreme(months, best=True),
        worst_month=_extreme(months, best=False),
        winning_days=int((returns > 0).sum()),
        draw_days=int((returns == 0).sum()),
        losing_days=int((returns < 0).sum()),
        trades=trade_figures(session.trades),
        long=trade_figures([trade for trade in session.trades if trade.side is PositionSide.LONG]),
        short=trade_figures([trade for trade in session.trades if trade.side is PositionSide.SHORT]),
        trades_per_day=len(session.trades) / max(len(returns), 1),
        exposure_share=report.exposure_share,
        volume=volume,
        turnover=volume / mean_equity * year / len(returns) if mean_equity > 0 else None,
        fees=report.fees,
        slippage=report.slippage,
        funding=report.funding,
        borrowing=report.borrowing,
    )


def drawdown_periods(time_ns: Ints, equity: Floats) -> list[Drawdown]:
    """Every time under water, in order."""
    highs = np.maximum.accumulate(equity)
    below = equity < highs
    edges = np.flatnonzero(np.diff(np.concatenate([[False], below, [False]]).astype(np.int8)))
    found = []
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        low = start + int(np.argmin(equity[start:stop]))
        high = float(highs[start])
        until = int(time_ns[stop]) if stop < len(equity) else None
        last_ns = until if until is not None else int(time_ns[-1])
        found.append(
            Drawdown(
                depth=(high - float(equity[low])) / high if high > 0 else 0.0,
                amount=high - float(equity[low]),
                from_ns=int(time_ns[start - 1]),
                low_ns=int(time_ns[low]),
                to_ns=until,
                days=(last_ns - int(time_ns[start - 1])) / DAY_NS,
            )
        )
    return found


def _extreme(rows: Sequence[tuple[str, float]], *, best: bool) -> Extreme | None:
    if not rows:
        return None
    name, change = (max if best else min)(rows, key=lambda row: row[1])
    return Extreme(name, change)
