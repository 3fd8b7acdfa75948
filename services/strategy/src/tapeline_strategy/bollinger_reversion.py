"""Reversion by Bollinger bands: buys a close below the lower band, and sells it at the middle.

With m the mean and sd the standard deviation (population form) of the last ``length`` closes, bar i included:

    flat → long    close_i < m - width * sd
    long → flat    close_i >= m + leave * sd
    flat → short   close_i > m + width * sd, if ``short``
    short → flat   close_i <= m - leave * sd

``leave`` 0 is the middle of the band, 1 one standard deviation beyond it, -1 one before it. A long position is also
left, as a loss, when the close is more than ``stop`` standard deviations below the mean (0 is off), and the side is
then barred until a close lies inside the bands; a close that far out is not bought either.

J. Bollinger, "Bollinger on Bollinger Bands" (2001).
"""

from __future__ import annotations

from math import nan, sqrt

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy

_BARS, _SIDE, _BARRED, _RING = 0, 1, 2, 3


def step(
    memory: list[float],
    length: int,
    width: float,
    leave: float,
    stop: float,
    short: bool,
    _open: float,
    _high: float,
    _low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: bars seen, side held, side barred by its stop, then a ring of the last ``length`` closes.

    Mean and deviation are summed anew, oldest close first: running sums would drift over millions of bars.
    """
    bar = int(memory[_BARS])
    memory[_BARS] = bar + 1.0
    memory[_RING + bar % length] = close
    if bar + 1 < length:
        return nan
    mean = 0.0
    for at in range(bar + 1, bar + 1 + length):
        mean += memory[_RING + at % length]
    mean /= length
    squares = 0.0
    for at in range(bar + 1, bar + 1 + length):
        away = memory[_RING + at % length] - mean
        squares += away * away
    deviation = sqrt(squares / length)

    away = close - mean
    side = memory[_SIDE]
    barred = memory[_BARRED]
    if abs(away) <= width * deviation:
        barred = 0.0
    if side != 0.0:
        if side * away >= leave * deviation:
            side = 0.0
        elif stop > 0.0 and -side * away > stop * deviation:
            barred = side
            side = 0.0
    if side == 0.0:
        if away < -width * deviation and barred != 1.0 and not (stop > 0.0 and -away > stop * deviation):
            side = 1.0
        elif short and away > width * deviation and barred != -1.0 and not (stop > 0.0 and away > stop * deviation):
            side = -1.0
    memory[_SIDE] = side
    memory[_BARRED] = barred
    return side


def _check(parameters: Parameters) -> str | None:
    width, leave, stop = float(parameters["width"]), float(parameters["leave"]), float(parameters["stop"])
    if leave <= -width:
        return f"leave is {leave} and width is {width}, but leave must be more than -{width}: it would be left at once"
    if 0.0 < stop <= width:
        return f"stop is {stop} and width is {width}, but stop must be more than width, or 0 for none"
    return None


STRATEGY = Strategy(
    name="bollinger_reversion",
    description="Buys a close below the lower Bollinger band and sells it back at the middle; short if asked.",
    parameters=(
        Parameter("length", int, 20, 2, 1000, "closes of the bands"),
        Parameter("width", float, 2.0, 0.1, 10.0, "half width of the bands in standard deviations"),
        Parameter("leave", float, 0.0, -10.0, 10.0, "where to leave, in standard deviations beyond the middle"),
        Parameter("stop", float, 0.0, 0.0, 20.0, "distance at which a loss is taken, in standard deviations; 0 is off"),
        Parameter("short", bool, False, False, True, "whether closes above the upper band are sold short"),
    ),
    warm_up=lambda parameters: int(parameters["length"]),
    start=lambda parameters: [0.0] * (_RING + int(parameters["length"])),
    step=step,
    check=_check,
    carries=("side", "barred"),
)
