"""Long-horizon trend with a trailing stop in units of volatility.

    ema_i = ema_{i-1} + 2 / (trend + 1) * (close_i - ema_{i-1}),  ema_0 = close_0
    tr_i  = max(high_i - low_i, |high_i - close_{i-1}|, |low_i - close_{i-1}|),  tr_0 = high_0 - low_0
    atr   = mean of the first ``atr`` true ranges, then ((atr - 1) * atr_{i-1} + tr_i) / atr

From bar index max(trend, atr) - 1 on, with s = +1 for the long side (and s = -1 for the short side if ``short``):

    enter   s * (close_i - ema_i) > entry_atr * atr_i, if the side is armed
    leave   s * (close_i - stop_i) < 0, where stop_i is the best so far, for the side, of close_k - s * stop_atr * atr_k
            over the closes since entry, i itself left out: the stop never moves against the position

A side is disarmed by its own stop. It is armed again when the close has been on the other side of the average, or has
gone beyond the best close of the trade that was stopped: one trend is not bought again and again on its way down.

The average true range and its smoothing: J. W. Wilder, "New Concepts in Technical Trading Systems" (1978). The stop is
C. Le Beau's chandelier exit on closes.
"""

from __future__ import annotations

from math import nan

from tapeline_strategy.sdk import Parameter, Strategy
from tapeline_strategy.settling import exponential, wilder

_BARS, _AVERAGE, _ATR, _CLOSE, _SIDE, _STOP, _BEST, _BARRED = 0, 1, 2, 3, 4, 5, 6, 7


def step(
    memory: list[float],
    trend: int,
    atr: int,
    entry_atr: float,
    stop_atr: float,
    short: bool,
    _open: float,
    high: float,
    low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: bars seen, average, range, last close, side held, stop, best close of the trade, side disarmed.

    Sides are +1, -1 and 0 for none. While the range has fewer than ``atr`` bars its place holds their sum.
    """
    bars = memory[_BARS] + 1.0
    if bars == 1.0:
        average = close
        true_range = high - low
    else:
        average = memory[_AVERAGE]
        average += 2.0 / (trend + 1) * (close - average)
        before = memory[_CLOSE]
        true_range = max(high - low, abs(high - before), abs(low - before))
    if bars <= atr:
        spread = memory[_ATR] + true_range
        if bars == atr:
            spread /= atr
    else:
        spread = (memory[_ATR] * (atr - 1) + true_range) / atr
    memory[_BARS] = bars
    memory[_AVERAGE] = average
    memory[_ATR] = spread
    memory[_CLOSE] = close
    if bars < trend or bars < atr:
        return nan

    side = memory[_SIDE]
    barred = memory[_BARRED]
    if barred != 0.0 and (barred * (close - average) < 0.0 or barred * (close - memory[_BEST]) > 0.0):
        barred = 0.0
    if side != 0.0 and side * (close - memory[_STOP]) < 0.0:
        barred = side
        side = 0.0
    if side == 0.0:
        if close - average > entry_atr * spread and barred != 1.0:
            side = 1.0
        elif short and average - close > entry_atr * spread and barred != -1.0:
            side = -1.0
        if side != 0.0:
            barred = 0.0
            memory[_BEST] = close
            memory[_STOP] = close - side * stop_atr * spread
    else:
        stop = close - side * stop_atr * spread
        if side * (stop - memory[_STOP]) > 0.0:
            memory[_STOP] = stop
        if side * (close - memory[_BEST]) > 0.0:
            memory[_BEST] = close
    memory[_SIDE] = side
    memory[_BARRED] = barred
    return side


STRATEGY = Strategy(
    name="trend_follow",
    description="Follows a long trend, leaves it by a trailing stop in average true ranges; short only if asked.",
    parameters=(
        Parameter("trend", int, 200, 2, 5000, "length of the trend's average in bars"),
        Parameter("atr", int, 20, 1, 500, "length of the average true range in bars"),
        Parameter("entry_atr", float, 1.0, 0.0, 20.0, "distance from the average at which to enter, in ranges"),
        Parameter("stop_atr", float, 3.0, 0.1, 50.0, "distance of the trailing stop from the close, in ranges"),
        Parameter("short", bool, False, False, True, "whether falling trends are sold short"),
    ),
    warm_up=lambda parameters: max(int(parameters["trend"]), int(parameters["atr"])),
    start=lambda _parameters: [0.0] * 8,
    step=step,
    settles=lambda parameters: max(exponential(int(parameters["trend"])), wilder(int(parameters["atr"]))),
    carries=("side", "stop", "best", "barred"),
)
