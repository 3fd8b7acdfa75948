"""Moving average crossover: long while the fast average is not below the slow one.

    ema_0 = close_0
    ema_i = ema_{i-1} + 2 / (n + 1) * (close_i - ema_{i-1})

for n = ``fast`` and n = ``slow``; from bar index ``slow - 1`` on the wanted exposure is 1 while the fast average is at
or above the slow one, else 0. It never sells short and knows no stop.

Exponential smoothing as in R. G. Brown, "Statistical Forecasting for Inventory Control" (1959), with the customary
smoothing constant 2 / (n + 1), seeded by the first close.
"""

from __future__ import annotations

from math import nan

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy
from tapeline_strategy.settling import exponential

_BARS, _FAST, _SLOW = 0, 1, 2


def step(
    memory: list[float], fast: int, slow: int, _open: float, _high: float, _low: float, close: float, _volume: float
) -> float:
    """Memory: bars seen, fast average, slow average."""
    bars = memory[_BARS]
    if bars == 0.0:
        fast_average = close
        slow_average = close
    else:
        fast_average = memory[_FAST]
        fast_average += 2.0 / (fast + 1) * (close - fast_average)
        slow_average = memory[_SLOW]
        slow_average += 2.0 / (slow + 1) * (close - slow_average)
    bars += 1.0
    memory[_BARS] = bars
    memory[_FAST] = fast_average
    memory[_SLOW] = slow_average
    if bars < slow:
        return nan
    return 1.0 if fast_average >= slow_average else 0.0


def _check(parameters: Parameters) -> str | None:
    fast, slow = parameters["fast"], parameters["slow"]
    return None if fast < slow else f"fast is {fast} and slow is {slow}, but fast must be less than slow"  # type: ignore[operator]


STRATEGY = Strategy(
    name="ema_cross",
    description="Long while the fast exponential moving average is at or above the slow one, else flat.",
    parameters=(
        Parameter("fast", int, 10, 2, 500, "length of the fast average in bars"),
        Parameter("slow", int, 30, 3, 2000, "length of the slow average in bars"),
    ),
    warm_up=lambda parameters: int(parameters["slow"]),
    start=lambda _parameters: [0.0, 0.0, 0.0],
    step=step,
    check=_check,
    settles=lambda parameters: exponential(int(parameters["slow"])),
)
