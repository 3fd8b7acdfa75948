"""What a trial came to, from its daily returns and its sums: the same for every gear.

Formulas of money and of the Sharpe and Sortino ratios are those of ``tapeline_backtest.report``. Nothing is run here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from tapeline_backtest.report import TRADING_DAYS, daily_ratios, returns_of
from tapeline_common.events import TrialFigures
from tapeline_common.money import plain

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sums:
    """What a gear counted. Money is exact.

    Attributes:
        gain, loss: sums of the results after fees of the trades that won and lost.
        daily: equity at the end of each UTC day, shape (days,).
        results: of every trade, where the study asked for them.
    """

    cash: Decimal
    final_equity: Decimal
    fees: Decimal
    slippage: Decimal
    gain: Decimal
    loss: Decimal
    orders: int
    fills: int
    trades: int
    wins: int
    invested_bars: int
    max_drawdown: float
    daily: Floats
    refused: Mapping[str, int]
    declined: Mapping[str, int]
    results: Sequence[Decimal] | None = None


def figures_of(sums: Sums, calendar: str, closes: Floats) -> tuple[TrialFigures, Floats]:
    """The figures, and the daily returns they rest on, shape (days,). closes: of the bars it could trade on."""
    profit = plain(sums.final_equity - sums.cash)
    returns = returns_of(np.concatenate([[float(sums.cash)], sums.daily]))
    year = TRADING_DAYS.get(calendar, 365)
    sharpe, sortino = daily_ratios(returns, year)
    figures = TrialFigures(
        bars=len(closes),
        days=len(returns),
        net_profit=profit,
        total_return=float(profit / sums.cash) if sums.cash else 0.0,
        final_equity=sums.final_equity,
        fees=sums.fees,
        slippage=sums.slippage,
        max_drawdown=sums.max_drawdown,
        sharpe=sharpe,
        sortino=sortino,
        calmar=calmar(returns, sums.max_drawdown, year),
        omega=omega(returns),
        orders=sums.orders,
        fills=sums.fills,
        trades=sums.trades,
        win_rate=sums.wins / sums.trades if sums.trades else None,
        profit_factor=float(sums.gain / -sums.loss) if sums.loss else None,
        expectancy=float(sums.gain + sums.loss) / sums.trades if sums.trades else None,
        sqn=None if sums.results is None else system_quality(sums.results),
        exposure_share=sums.invested_bars / len(closes),
        market_change=float(closes[-1] / closes[0] - 1.0),
        refused=dict(sorted(sums.refused.items())),
        declined=dict(sorted(sums.declined.items())),
    )
    return figures, returns


def calmar(returns: Floats, max_drawdown: float, year: int) -> float | None:
    """Compound annual return over the largest drawdown (T. W. Young, 1991); absent without one or with a day only."""
    growth = float(np.prod(1.0 + returns))
    if len(returns) < 2 or growth <= 0.0 or max_drawdown <= 0.0:
        return None
    with np.errstate(over="ignore"):
        annual = float(np.power(growth, year / len(returns)) - 1.0)
    return annual / max_drawdown if math.isfinite(annual) else None


def omega(returns: Floats) -> float | None:
    """Sum of gains over sum of losses at a threshold of zero (Keating and Shadwick, 2002); absent without a loss."""
    loss = float(np.sum(np.maximum(-returns, 0.0)))
    return float(np.sum(np.maximum(returns, 0.0))) / loss if loss > 0.0 else None


def system_quality(results: Sequence[Decimal]) -> float | None:
    """Van Tharp's system quality number; absent with fewer than two trades, or if all came to the same."""
    if len(results) < 2:
        return None
    money = np.array([float(result) for result in results])
    deviation = float(np.std(money, ddof=1))
    return math.sqrt(len(money)) * float(np.mean(money)) / deviation if deviation > 0.0 else None


def returns_digest(returns: Floats) -> str:
    """SHA-256 of the numbers as little-endian binary64, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(returns, dtype="<f8").tobytes()).hexdigest()
