"""Two rules and a switch: follows the trend where prices go somewhere, fades the extremes where they do not.

    e   = |close_i - close_{i-n}| / sum of |close_k - close_{k-1}| over the last n bars, and 0 where nothing moved
    m, sd = mean and standard deviation (population form) of the last n closes,  n = ``length``

    trending   e >= ``trending``, and until e < ``ranging``
    ranging    e < ``ranging``, and until e >= ``trending``

    trending   long while close_i > m; short while close_i < m, if ``short``
    ranging    long from close_i < m - width * sd until close_i >= m; mirrored if ``short``

From bar index ``length`` on. Until e has first been beyond one of the two bounds it holds nothing. When the market
changes from one to the other, what the old rule held is given up and the new rule begins flat at the same close.

This measures the market by itself, from its own bars. The regimes on the tape (those of the hidden Markov model) are
for configuration: an instance trades only in its ``regimes``, so two instances of any two kinds switch by them.

The efficiency ratio is P. J. Kaufman's, "Smarter Trading" (1995).
"""

from __future__ import annotations

from math import nan, sqrt

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy

_BARS, _SIDE, _MARKET, _RING = 0, 1, 2, 3

_UNDECIDED, _TRENDING, _RANGING = 0.0, 1.0, 2.0


def step(
    memory: list[float],
    length: int,
    trending: float,
    ranging: float,
    width: float,
    short: bool,
    _open: float,
    _high: float,
    _low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: bars seen, side held, kind of market, then a ring of the last ``length + 1`` closes."""
    bar = int(memory[_BARS])
    memory[_BARS] = bar + 1.0
    memory[_RING + bar % (length + 1)] = close
    if bar < length:
        return nan
    first = memory[_RING + (bar + 1) % (length + 1)]
    path = 0.0
    mean = 0.0
    before = first
    for at in range(bar + 2, bar + 2 + length):
        now = memory[_RING + at % (length + 1)]
        path += abs(now - before)
        mean += now
        before = now
    mean /= length
    squares = 0.0
    for at in range(bar + 2, bar + 2 + length):
        away = memory[_RING + at % (length + 1)] - mean
        squares += away * away
    efficiency = 0.0
    if path > 0.0:
        efficiency = abs(close - first) / path

    market = memory[_MARKET]
    side = memory[_SIDE]
    if efficiency >= trending and market != _TRENDING:
        market = _TRENDING
        side = 0.0
    elif efficiency < ranging and market != _RANGING:
        market = _RANGING
        side = 0.0
    away = close - mean
    if market == _TRENDING:
        side = 1.0 if away > 0.0 else (-1.0 if short and away < 0.0 else 0.0)
    elif market == _RANGING:
        band = width * sqrt(squares / length)
        if side * away >= 0.0:
            side = 0.0
        if side == 0.0 and away < -band:
            side = 1.0
        elif side == 0.0 and short and away > band:
            side = -1.0
    memory[_MARKET] = market
    memory[_SIDE] = side
    return side


def _check(parameters: Parameters) -> str | None:
    trending, ranging = parameters["trending"], parameters["ranging"]
    if ranging <= trending:  # type: ignore[operator]
        return None
    return f"ranging is {ranging} and trending is {trending}, but ranging must not be more than trending"


STRATEGY = Strategy(
    name="regime_switch",
    description="Follows the trend in efficient markets and fades extremes in others, by Kaufman's efficiency ratio.",
    parameters=(
        Parameter("length", int, 40, 2, 1000, "bars of the efficiency ratio, the mean and the deviation"),
        Parameter("trending", float, 0.35, 0.0, 1.0, "efficiency from which on the market trends"),
        Parameter("ranging", float, 0.2, 0.0, 1.0, "efficiency below which the market ranges"),
        Parameter("width", float, 1.5, 0.1, 10.0, "distance from the mean to fade, in standard deviations"),
        Parameter("short", bool, False, False, True, "whether the mirror image is sold short"),
    ),
    warm_up=lambda parameters: int(parameters["length"]) + 1,
    start=lambda parameters: [0.0] * (_RING + int(parameters["length"]) + 1),
    step=step,
    check=_check,
    carries=("side", "market"),
)
