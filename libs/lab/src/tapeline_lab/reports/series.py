"""Figures of a return series: float64 arrays (n,) of simple returns per day, and the days of trading in a year.

A NaN is a day without a figure: time passes on it, nothing is measured. Where a figure is not defined the answer is
None. The definitions are empyrical's where it has them (tests compare); signs are not: losses of risk figures stay
returns (a value at risk of -0.02 is a loss of two percent), drawdowns are positive fractions of the high.

Sharpe and Sortino ratio are ``tapeline_backtest.report.daily_ratios``. Pure: numbers in, numbers out.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.report import daily_ratios, deviation
from tapeline_backtest.report import max_drawdown as deepest_fall

Floats = NDArray[np.float64]

TAIL = 0.05
"""Share of the worst days that value at risk, its conditional twin and the tail ratio look at."""


def present(returns: Floats) -> Floats:
    """Without the days that have none."""
    found: Floats = returns[~np.isnan(returns)]
    return found


def wealth(returns: Floats) -> Floats:
    """What one unit becomes: shape (n + 1,), beginning with 1."""
    grown: Floats = np.cumprod(np.concatenate([[1.0], 1.0 + np.nan_to_num(returns)]))
    return grown


def cumulative_return(returns: Floats) -> float:
    return float(wealth(returns)[-1] - 1.0)


def annual_return(returns: Floats, year: int) -> float | None:
    """Compound annual growth rate (CAGR); None where nothing is left to grow."""
    growth = cumulative_return(returns) + 1.0
    return growth ** (year / len(returns)) - 1.0 if len(returns) and growth > 0 else None


def annual_volatility(returns: Floats, year: int) -> float | None:
    days = present(returns)
    return deviation(days) * math.sqrt(year) if len(days) >= 2 else None


def sharpe(returns: Floats, year: int) -> float | None:
    return daily_ratios(present(returns), year)[0]


def sortino(returns: Floats, year: int) -> float | None:
    return daily_ratios(present(returns), year)[1]


def downside_risk(returns: Floats, year: int) -> float | None:
    """Root mean square of what lies below zero, annualised."""
    days = present(returns)
    return float(np.sqrt(np.mean(np.minimum(days, 0.0) ** 2)) * math.sqrt(year)) if len(days) else None


def max_drawdown(returns: Floats) -> float:
    """Largest fall from a high of the compounded series, as a fraction of the high."""
    return deepest_fall(wealth(returns))[0]


def calmar(returns: Floats, year: int) -> float | None:
    return quotient(annual_return(returns, year), max_drawdown(returns))


def omega(returns: Floats) -> float | None:
    """Sum of gains over sum of losses, threshold zero (Keating and Shadwick 2002)."""
    days = present(returns)
    return quotient(float(days[days > 0].sum()), -float(days[days < 0].sum()))


def tail_ratio(returns: Floats) -> float | None:
    """95th percentile over the 5th, both without sign."""
    days = present(returns)
    if not len(days):
        return None
    return quotient(abs(float(np.percentile(days, 100 - 100 * TAIL))), abs(float(np.percentile(days, 100 * TAIL))))


def value_at_risk(returns: Floats) -> float | None:
    """Return that one day in twenty is worse than (historical)."""
    days = present(returns)
    return float(np.percentile(days, 100 * TAIL)) if len(days) else None


def conditional_value_at_risk(returns: Floats) -> float | None:
    """Mean of the worst days: those up to the historical quantile."""
    days = present(returns)
    return float(np.mean(np.sort(days)[: int((len(days) - 1) * TAIL) + 1])) if len(days) else None


def skew(returns: Floats) -> float | None:
    """Third standardised moment, of the population (scipy's default)."""
    return _moment(returns, 3)


def kurtosis(returns: Floats) -> float | None:
    """Fourth standardised moment, raw: 3 for a normal distribution."""
    return _moment(returns, 4)


def _moment(returns: Floats, order: int) -> float | None:
    days = present(returns)
    if len(days) < 2 or not np.ptp(days):
        return None
    centred = days - days.mean()
    return float(np.mean(centred**order) / np.mean(centred**2) ** (order / 2))


def stability(returns: Floats) -> float | None:
    """R² of a straight line through the cumulative log returns; 1 is steady growth, or a steady loss."""
    days = present(returns)
    if len(days) < 2 or (days <= -1).any():
        return None
    line = np.log1p(days).cumsum()
    if not np.ptp(line):
        return None
    return float(np.corrcoef(np.arange(len(line)), line)[0, 1] ** 2)


def drawdowns(equity: Floats) -> Floats:
    """Fall below the running high at each point, as a positive fraction."""
    highs = np.maximum.accumulate(equity)
    falls: Floats = np.divide(highs - equity, highs, out=np.zeros_like(equity), where=highs > 0)
    return falls


def ulcer_index(returns: Floats) -> float | None:
    """Root mean square of the drawdowns (Martin 1987)."""
    if not len(returns):
        return None
    return float(np.sqrt(np.mean(drawdowns(wealth(returns))[1:] ** 2)))


def serenity(returns: Floats, year: int) -> float | None:
    """Annual return over ulcer index times pitfall, the worst drawdowns' mean in units of volatility (KeyQuant)."""
    falls = np.sort(drawdowns(wealth(returns))[1:])[::-1]
    ulcer, volatility = ulcer_index(returns), annual_volatility(returns, year)
    if not ulcer or not volatility:
        return None
    worst = float(np.mean(falls[: int((len(falls) - 1) * TAIL) + 1]))
    return quotient(annual_return(returns, year), ulcer * worst / volatility)


def beta(returns: Floats, market: Floats) -> float | None:
    """Slope of the returns on the market's."""
    centred = market - market.mean()
    variance = float(np.mean(centred**2)) if len(market) else 0.0
    return float(np.mean(centred * returns)) / variance if variance > 1e-30 else None


def alpha(returns: Floats, market: Floats, year: int) -> float | None:
    """What the market does not explain, compounded over a year."""
    slope = beta(returns, market)
    return None if slope is None else float((np.mean(returns - slope * market) + 1.0) ** year - 1.0)


def scale_to(market: Floats, returns: Floats) -> float:
    """How much of the market is as volatile as the returns; never more than all of it."""
    spread = float(np.std(market)) if len(market) else 0.0
    return min(1.0, float(np.std(returns)) / spread) if spread > 0 else 1.0


def correlation(returns: Floats, market: Floats) -> float | None:
    if len(returns) < 2 or not np.ptp(returns) or not np.ptp(market):
        return None
    return float(np.corrcoef(returns, market)[0, 1])


def rolling_sharpe(returns: Floats, window: int, year: int) -> Floats:
    """Sharpe ratio of the ``window`` days up to each day; NaN before, and where nothing moved."""
    mean, spread = _rolling(returns, window)
    found: Floats = np.divide(mean, spread, out=np.full(len(returns), np.nan), where=spread > 0)
    return found * math.sqrt(year)


def rolling_volatility(returns: Floats, window: int, year: int) -> Floats:
    return _rolling(returns, window)[1] * math.sqrt(year)


def _rolling(returns: Floats, window: int) -> tuple[Floats, Floats]:
    mean, spread = np.full(len(returns), np.nan), np.full(len(returns), np.nan)
    if len(returns) >= window >= 2:
        windows = np.lib.stride_tricks.sliding_window_view(returns, window)
        mean[window - 1 :] = windows.mean(axis=1)
        spread[window - 1 :] = np.where(np.ptp(windows, axis=1) > 0, windows.std(axis=1, ddof=1), 0.0)
    return mean, spread


def quotient(above: float | None, below: float | None) -> float | None:
    """None where there is nothing to divide, or nothing to divide by."""
    return above / below if above is not None and below else None
