"""Waves of a strong trend: enters when the close comes back over the fast average of three averages in order.

    ema_n,0 = close_0,  ema_n,i = ema_n,i-1 + 2 / (n + 1) * (close_i - ema_n,i-1)   for n = fast, middle, slow

    up   = high_i - high_{i-1},  down = low_{i-1} - low_i
    +DM  = up if up > down and up > 0, else 0;   -DM = down if down > up and down > 0, else 0
    P, M smoothed +DM and -DM:  x_i = x_{i-1} - x_{i-1} / adx + now, from the sum of the first ``adx``
    dx   = 100 * |P - M| / (P + M), and 0 where nothing moved
    adx  = mean of the first ``adx`` dx, then ((adx - 1) * before + dx) / adx

From bar index max(slow, 2 * adx) on, with s = 1 for the long side (and -1 for the short side if ``short``):

    enter   s * ema_fast > s * ema_middle > s * ema_slow, adx >= strength, and the close crosses to side s of ema_fast
    leave   s * close < s * ema_slow, or s * ema_fast < s * ema_middle

The directional movement index is J. W. Wilder's, "New Concepts in Technical Trading Systems" (1978). The true range
cancels out of dx and is left out.
"""

from __future__ import annotations

from math import nan

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy
from tapeline_strategy.settling import exponential, wilder

_BARS, _FAST, _MIDDLE, _SLOW, _HIGH, _LOW, _CLOSE, _PLUS, _MINUS, _ADX, _SIDE = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10


def step(
    memory: list[float],
    fast: int,
    middle: int,
    slow: int,
    adx: int,
    strength: float,
    short: bool,
    _open: float,
    high: float,
    low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: bars seen, three averages, last high, low, close, +DM, -DM, adx (until it is one, the sum), side held."""
    bar = memory[_BARS]
    fast_before = memory[_FAST]
    close_before = memory[_CLOSE]
    if bar == 0.0:
        memory[_FAST] = close
        memory[_MIDDLE] = close
        memory[_SLOW] = close
    else:
        memory[_FAST] += 2.0 / (fast + 1) * (close - memory[_FAST])
        memory[_MIDDLE] += 2.0 / (middle + 1) * (close - memory[_MIDDLE])
        memory[_SLOW] += 2.0 / (slow + 1) * (close - memory[_SLOW])
        up = high - memory[_HIGH]
        down = memory[_LOW] - low
        plus = up if up > down and up > 0.0 else 0.0
        minus = down if down > up and down > 0.0 else 0.0
        if bar > adx:
            memory[_PLUS] -= memory[_PLUS] / adx
            memory[_MINUS] -= memory[_MINUS] / adx
        memory[_PLUS] += plus
        memory[_MINUS] += minus
        if bar >= adx:
            index = 0.0
            if memory[_PLUS] + memory[_MINUS] > 0.0:
                index = 100.0 * abs(memory[_PLUS] - memory[_MINUS]) / (memory[_PLUS] + memory[_MINUS])
            if bar < 2 * adx:
                memory[_ADX] += index
                if bar == 2 * adx - 1:
                    memory[_ADX] /= adx
            else:
                memory[_ADX] = (memory[_ADX] * (adx - 1) + index) / adx
    memory[_HIGH] = high
    memory[_LOW] = low
    memory[_CLOSE] = close
    memory[_BARS] = bar + 1.0
    if bar < slow or bar < 2 * adx:
        return nan

    side = memory[_SIDE]
    trend = memory[_FAST] - memory[_MIDDLE]
    if side != 0.0 and (side * (close - memory[_SLOW]) < 0.0 or side * trend < 0.0):
        side = 0.0
    if side == 0.0 and memory[_ADX] >= strength:
        way = 1.0 if trend > 0.0 else -1.0
        is_ordered = way * trend > 0.0 and way * (memory[_MIDDLE] - memory[_SLOW]) > 0.0
        returns = way * (close - memory[_FAST]) > 0.0 and way * (close_before - fast_before) <= 0.0
        if is_ordered and returns and (short or way > 0.0):
            side = way
    memory[_SIDE] = side
    return side


def _check(parameters: Parameters) -> str | None:
    fast, middle, slow = int(parameters["fast"]), int(parameters["middle"]), int(parameters["slow"])
    if fast < middle < slow:
        return None
    return f"fast is {fast}, middle {middle} and slow {slow}, but each must be less than the next"


STRATEGY = Strategy(
    name="trend_surfer",
    description="Enters the end of pullbacks in a strong trend of three averages in order; short only if asked.",
    parameters=(
        Parameter("fast", int, 10, 1, 500, "length of the fast average in bars"),
        Parameter("middle", int, 30, 2, 1000, "length of the middle average in bars"),
        Parameter("slow", int, 90, 3, 5000, "length of the slow average in bars"),
        Parameter("adx", int, 14, 1, 200, "length of the average directional index in bars"),
        Parameter("strength", float, 20.0, 0.0, 100.0, "least average directional index of an entry"),
        Parameter("short", bool, False, False, True, "whether falling trends are sold short"),
    ),
    warm_up=lambda parameters: max(int(parameters["slow"]), 2 * int(parameters["adx"])) + 1,
    start=lambda _parameters: [0.0] * 11,
    step=step,
    check=_check,
    settles=lambda parameters: max(exponential(int(parameters["slow"])), 2 * wilder(int(parameters["adx"]))),
    carries=("side",),
)
