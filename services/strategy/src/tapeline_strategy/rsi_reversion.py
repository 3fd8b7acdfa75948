"""Reversion by the relative strength index: buys what has fallen too fast, and sells it when it has recovered.

    up_i   = max(close_i - close_{i-1}, 0),  down_i = max(close_{i-1} - close_i, 0)
    U, D   = means of the first ``length`` of them, then ((length - 1) * before + now) / length
    rsi    = 100 * U / (U + D), and 50 where nothing moved

From bar index ``length`` on:

    flat → long    rsi < oversold
    long → flat    rsi > leave
    flat → short   rsi > 100 - oversold, if ``short``
    short → flat   rsi < 100 - leave

J. W. Wilder, "New Concepts in Technical Trading Systems" (1978), with his smoothing.
"""

from __future__ import annotations

from math import nan

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy
from tapeline_strategy.settling import wilder

_BARS, _CLOSE, _UP, _DOWN, _SIDE = 0, 1, 2, 3, 4


def step(
    memory: list[float],
    length: int,
    oversold: float,
    leave: float,
    short: bool,
    _open: float,
    _high: float,
    _low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: bars seen, last close, mean rise, mean fall (their sums until there are enough), side held."""
    bar = memory[_BARS]
    change = close - memory[_CLOSE] if bar > 0.0 else 0.0
    rise = max(change, 0.0)
    fall = max(-change, 0.0)
    if bar <= length:
        up = memory[_UP] + rise
        down = memory[_DOWN] + fall
        if bar == length:
            up /= length
            down /= length
    else:
        up = (memory[_UP] * (length - 1) + rise) / length
        down = (memory[_DOWN] * (length - 1) + fall) / length
    memory[_BARS] = bar + 1.0
    memory[_CLOSE] = close
    memory[_UP] = up
    memory[_DOWN] = down
    if bar < length:
        return nan
    strength = 50.0
    if up + down > 0.0:
        strength = 100.0 * up / (up + down)
    side = memory[_SIDE]
    if (side > 0.0 and strength > leave) or (side < 0.0 and strength < 100.0 - leave):
        side = 0.0
    if side == 0.0:
        if strength < oversold:
            side = 1.0
        elif short and strength > 100.0 - oversold:
            side = -1.0
    memory[_SIDE] = side
    return side


def _check(parameters: Parameters) -> str | None:
    oversold, leave = parameters["oversold"], parameters["leave"]
    if oversold < leave:  # type: ignore[operator]
        return None
    return f"oversold is {oversold} and leave is {leave}, but leave must be more than oversold"


STRATEGY = Strategy(
    name="rsi_reversion",
    description="Buys while the relative strength index is oversold and sells when it has recovered; short if asked.",
    parameters=(
        Parameter("length", int, 14, 2, 500, "length of the index in bars"),
        Parameter("oversold", float, 30.0, 1.0, 49.0, "index below which to buy"),
        Parameter("leave", float, 50.0, 2.0, 99.0, "index above which a long position is left"),
        Parameter("short", bool, False, False, True, "whether the mirror image is sold short"),
    ),
    warm_up=lambda parameters: int(parameters["length"]) + 1,
    start=lambda _parameters: [0.0] * 5,
    step=step,
    check=_check,
    settles=lambda parameters: wilder(int(parameters["length"])),
    carries=("side",),
)
