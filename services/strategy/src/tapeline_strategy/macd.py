"""Moving average convergence and divergence: with the difference of two averages while it is above its own average.

    ema_n,0 = close_0,  ema_n,i = ema_n,i-1 + 2 / (n + 1) * (close_i - ema_n,i-1)
    macd_i  = ema_fast,i - ema_slow,i
    line_0  = macd_0,  line_i = line_i-1 + 2 / (signal + 1) * (macd_i - line_i-1)

From bar index slow + signal - 2 on, long while macd_i > line_i, short (if ``short``) while macd_i < line_i, else flat.
With ``with_trend`` a side is taken only while the macd itself has its sign, that is, in the direction of the averages.

G. Appel, "Technical Analysis: Power Tools for Active Investors" (2005). The averages are seeded by the first value.
"""

from __future__ import annotations

from math import nan

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy
from tapeline_strategy.settling import exponential

_BARS, _FAST, _SLOW, _LINE = 0, 1, 2, 3


def step(
    memory: list[float],
    fast: int,
    slow: int,
    signal: int,
    with_trend: bool,
    short: bool,
    _open: float,
    _high: float,
    _low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: bars seen, fast average, slow average, signal line."""
    bars = memory[_BARS] + 1.0
    if bars == 1.0:
        fast_average = close
        slow_average = close
        line = 0.0
        macd = 0.0
    else:
        fast_average = memory[_FAST]
        fast_average += 2.0 / (fast + 1) * (close - fast_average)
        slow_average = memory[_SLOW]
        slow_average += 2.0 / (slow + 1) * (close - slow_average)
        macd = fast_average - slow_average
        line = memory[_LINE]
        line += 2.0 / (signal + 1) * (macd - line)
    memory[_BARS] = bars
    memory[_FAST] = fast_average
    memory[_SLOW] = slow_average
    memory[_LINE] = line
    if bars < slow + signal - 1:
        return nan
    if macd > line and (macd > 0.0 or not with_trend):
        return 1.0
    if short and macd < line and (macd < 0.0 or not with_trend):
        return -1.0
    return 0.0


def _check(parameters: Parameters) -> str | None:
    fast, slow = parameters["fast"], parameters["slow"]
    return None if fast < slow else f"fast is {fast} and slow is {slow}, but fast must be less than slow"  # type: ignore[operator]


STRATEGY = Strategy(
    name="macd",
    description="With the MACD while it is above its signal line (long) or below it (short, only if asked).",
    parameters=(
        Parameter("fast", int, 12, 2, 500, "length of the fast average in bars"),
        Parameter("slow", int, 26, 3, 2000, "length of the slow average in bars"),
        Parameter("signal", int, 9, 2, 500, "length of the signal line in bars"),
        Parameter("with_trend", bool, False, False, True, "whether the MACD must also be above zero to be long"),
        Parameter("short", bool, False, False, True, "whether falling momentum is sold short"),
    ),
    warm_up=lambda parameters: int(parameters["slow"]) + int(parameters["signal"]) - 1,
    start=lambda _parameters: [0.0] * 4,
    step=step,
    check=_check,
    settles=lambda parameters: exponential(int(parameters["slow"])) + exponential(int(parameters["signal"])),
)
