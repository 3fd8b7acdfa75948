"""Figures of closed trades. A trade counts as its profit after fees, as in the report; money as floats.

Expectancy is the mean trade; the expectancy ratio is in units of the average loss (Freqtrade's). SQN is Tharp's system
quality number, the t statistic of the mean trade, so its p-value says how often trades that are worth nothing on
average would look at least as good (one-sided, Student's t). Both take trades for independent, which they seldom are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.session import Trade
from tapeline_lab.reports.series import quotient

SECOND_NS = 1_000_000_000

Floats = NDArray[np.float64]


class TradeFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What some trades came to. Durations in seconds; absent figures are None."""

    trades: int
    wins: int
    draws: int
    losses: int
    net_profit: float
    mean_return: float | None
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    expectancy_ratio: float | None
    payoff: float | None
    average_win: float | None
    average_loss: float | None
    best: float | None
    worst: float | None
    sqn: float | None
    p_value: float | None
    kelly: float | None
    longest_winning_streak: int
    longest_losing_streak: int
    average_duration_s: float | None
    average_winner_s: float | None
    average_loser_s: float | None


def trade_figures(trades: Sequence[Trade]) -> TradeFigures:
    net = np.array([float(trade.net) for trade in trades])
    notional = np.array([float(trade.quantity * trade.entry_price) for trade in trades])
    held = np.array([(trade.closed_ns - trade.opened_ns) / SECOND_NS for trade in trades])
    gains, losses = net[net > 0], net[net < 0]
    win_rate = len(gains) / len(net) if len(net) else None
    payoff = quotient(_mean(gains), -(_mean(losses) or 0.0))
    sqn = t_statistic(net)
    return TradeFigures(
        trades=len(net),
        wins=len(gains),
        draws=len(net) - len(gains) - len(losses),
        losses=len(losses),
        net_profit=float(net.sum()),
        mean_return=_mean(net / notional) if len(net) and (notional > 0).all() else None,
        win_rate=win_rate,
        profit_factor=quotient(float(gains.sum()), -float(losses.sum())) if len(net) else None,
        expectancy=_mean(net),
        expectancy_ratio=None if win_rate is None or payoff is None else (1.0 + payoff) * win_rate - 1.0,
        payoff=payoff,
        average_win=_mean(gains),
        average_loss=_mean(losses),
        best=float(net.max()) if len(net) else None,
        worst=float(net.min()) if len(net) else None,
        sqn=sqn,
        p_value=None if sqn is None else _survival(sqn, len(net) - 1),
        kelly=None if win_rate is None or not payoff else win_rate - (1.0 - win_rate) / payoff,
        longest_winning_streak=longest_run(net > 0),
        longest_losing_streak=longest_run(net < 0),
        average_duration_s=_mean(held),
        average_winner_s=_mean(held[net > 0]),
        average_loser_s=_mean(held[net < 0]),
    )


def t_statistic(net: Floats) -> float | None:
    """√n · mean / sample deviation; None of fewer than two trades or of equal ones."""
    if len(net) < 2 or not np.ptp(net):
        return None
    return float(math.sqrt(len(net)) * net.mean() / net.std(ddof=1))


def longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest unbroken run of True."""
    longest = current = 0
    for flag in flags.tolist():
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest


def _mean(numbers: Floats) -> float | None:
    return float(numbers.mean()) if len(numbers) else None


def _survival(statistic: float, freedom: int) -> float:
    from scipy import stats

    return float(stats.t.sf(statistic, freedom))
