"""Headline figures of many series at once: every row of an array (runs, days) is one history, its figure one number.

They are what bootstrap and Monte Carlo take the law of, so they are defined for any resample: where a report would say
"absent" (no loss to divide by, no day that moved) the figure here is zero, or infinite where that is its limit. For one
series they equal the report's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum

import numpy as np

from tapeline_lab.validity.blocks import longest_run
from tapeline_lab.validity.series import Floats, SeriesInvalid
from tapeline_lab.validity.sharpe import FLAT

Figure = Callable[[Floats, float], Floats]
"""(rows of returns (runs, days), periods per year) to one number for each row (runs,)."""


class Name(StrEnum):
    """Figures that can be asked for by name."""

    TOTAL_RETURN = "total_return"
    ANNUAL_RETURN = "annual_return"
    VOLATILITY = "volatility"
    SHARPE = "sharpe"
    SORTINO = "sortino"
    CALMAR = "calmar"
    OMEGA = "omega"
    PROFIT_FACTOR = "profit_factor"
    EXPECTANCY = "expectancy"
    WIN_RATE = "win_rate"
    MAX_DRAWDOWN = "max_drawdown"
    TIME_UNDER_WATER = "time_under_water"


def figure(name: Name | str) -> Figure:
    """The figure of that name. Raises ``SeriesInvalid`` with the names there are."""
    try:
        return FIGURES[Name(name)]
    except ValueError as trouble:
        raise SeriesInvalid(f"no figure is called {name!r}: use one of {', '.join(FIGURES)}") from trouble


def total_return(rows: Floats, year: float) -> Floats:
    """Product of (1 + return), less one."""
    found: Floats = np.prod(1.0 + rows, axis=1) - 1.0
    return found


def annual_return(rows: Floats, year: float) -> Floats:
    """CAGR: growth to the power of one year's share of the periods, less one; minus one after ruin."""
    growth = np.maximum(np.prod(1.0 + rows, axis=1), 0.0)
    found: Floats = growth ** (year / rows.shape[1]) - 1.0
    return found


def volatility(rows: Floats, year: float) -> Floats:
    """Sample deviation (ddof 1), annualised."""
    found: Floats = np.std(rows, axis=1, ddof=1) * math.sqrt(year)
    return found


def sharpe(rows: Floats, year: float) -> Floats:
    """Mean over sample deviation, annualised; zero where nothing moved."""
    mean, variance = np.mean(rows, axis=1), np.var(rows, axis=1, ddof=1)
    moves = variance > FLAT * (variance + mean**2)
    found: Floats = np.divide(mean, np.sqrt(variance), out=np.zeros(len(rows)), where=moves) * math.sqrt(year)
    return found


def sortino(rows: Floats, year: float) -> Floats:
    """Mean over downside deviation (root mean square of what is below zero, over all periods), annualised."""
    mean = np.mean(rows, axis=1)
    downside = np.sqrt(np.mean(np.minimum(rows, 0.0) ** 2, axis=1))
    return _quotient(mean, downside) * math.sqrt(year)


def calmar(rows: Floats, year: float) -> Floats:
    """Annual return over the largest drawdown."""
    return _quotient(annual_return(rows, year), max_drawdown(rows, year))


def omega(rows: Floats, year: float) -> Floats:
    """Sum of the gains over sum of the losses, about zero (Keating and Shadwick 2002). Of returns."""
    return profit_factor(rows, year)


def profit_factor(rows: Floats, year: float) -> Floats:
    """Sum of the gains over sum of the losses; rows may be returns or results of trades."""
    return _quotient(np.sum(np.maximum(rows, 0.0), axis=1), -np.sum(np.minimum(rows, 0.0), axis=1))


def expectancy(rows: Floats, year: float) -> Floats:
    """Mean of a row, such as the result of a trade."""
    found: Floats = np.mean(rows, axis=1)
    return found


def win_rate(rows: Floats, year: float) -> Floats:
    """Share above zero."""
    found: Floats = np.mean(rows > 0.0, axis=1)
    return found


def max_drawdown(rows: Floats, year: float) -> Floats:
    """Largest fall from a running high, as a fraction of it from 0 to 1; the start counts as a high."""
    found: Floats = np.max(drawdowns(equity(rows)), axis=1)
    return found


def time_under_water(rows: Floats, year: float) -> Floats:
    """Longest stretch below a running high, in periods."""
    return longest_run(drawdowns(equity(rows))[:, 1:] > 0.0)


def equity(rows: Floats) -> Floats:
    """Growth of one unit, shape (runs, days + 1), from 1 on. What is lost entirely stays lost."""
    growth = np.ones((rows.shape[0], rows.shape[1] + 1))
    np.cumprod(np.maximum(1.0 + rows, 0.0), axis=1, out=growth[:, 1:])
    return growth


def drawdowns(curves: Floats) -> Floats:
    """Distance below the running high, as a fraction of it, at every point of every curve."""
    highs = np.maximum.accumulate(curves, axis=1)
    found: Floats = 1.0 - np.divide(curves, highs, out=np.zeros_like(curves), where=highs > 0.0)
    # A curve that stands still must not count as being under water by a rounding.
    found[found < FLAT] = 0.0
    return found


def _quotient(above: Floats, below: Floats) -> Floats:
    """above / below; where there is nothing below, zero or infinite with the sign of what is above."""
    limit = np.where(above == 0.0, 0.0, np.copysign(np.inf, above))
    found: Floats = np.divide(above, below, out=limit, where=below > 0.0)
    return found


FIGURES: Mapping[Name, Figure] = {
    Name.TOTAL_RETURN: total_return,
    Name.ANNUAL_RETURN: annual_return,
    Name.VOLATILITY: volatility,
    Name.SHARPE: sharpe,
    Name.SORTINO: sortino,
    Name.CALMAR: calmar,
    Name.OMEGA: omega,
    Name.PROFIT_FACTOR: profit_factor,
    Name.EXPECTANCY: expectancy,
    Name.WIN_RATE: win_rate,
    Name.MAX_DRAWDOWN: max_drawdown,
    Name.TIME_UNDER_WATER: time_under_water,
}
