"""Momentum of the last ``lookback`` bars in units of its own volatility, entered when strong and left when spent.

    r_i  = close_i / close_{i-1} - 1
    v_i  = mean of the last ``lookback`` squares of r
    z_i  = (close_i / close_{i-lookback} - 1) / sqrt(lookback * v_i), and 0 where nothing moved

From bar index ``lookback`` on, with s = 1 for the long side (and -1 for the short side if ``short``):

    enter   s * z_i > entry, with the exposure s * min(1, target / sqrt(v_i)), or s if ``target`` is 0
    leave   s * z_i < leave

``target`` is the volatility of one bar's return that the whole size is meant for: twice as wild, half the position. The
exposure is set at entry and kept.

Time-series momentum and its volatility scaling: T. Moskowitz, Y. H. Ooi, L. H. Pedersen, "Time series momentum",
Journal of Financial Economics 104 (2012). The two thresholds in place of a sign are ours.
"""

from __future__ import annotations

from math import nan, sqrt

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy

_BARS, _EXPOSURE, _RING = 0, 1, 2


def step(
    memory: list[float],
    lookback: int,
    entry: float,
    leave: float,
    target: float,
    short: bool,
    _open: float,
    _high: float,
    _low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: bars seen, exposure held, then a ring of the last ``lookback + 1`` closes."""
    bar = int(memory[_BARS])
    length = lookback + 1
    memory[_BARS] = bar + 1.0
    memory[_RING + bar % length] = close
    if bar < lookback:
        return nan
    first = memory[_RING + (bar + 1) % length]
    before = first
    squares = 0.0
    for at in range(bar + 2, bar + 1 + length):
        now = memory[_RING + at % length]
        change = now / before - 1.0
        squares += change * change
        before = now
    strength = 0.0
    if squares > 0.0:
        strength = (close / first - 1.0) / sqrt(squares)
    exposure = memory[_EXPOSURE]
    side = 0.0
    if exposure != 0.0:
        side = 1.0 if exposure > 0.0 else -1.0
    if side * strength < leave and side != 0.0:
        side = 0.0
        exposure = 0.0
    if side == 0.0:
        if strength > entry:
            side = 1.0
        elif short and -strength > entry:
            side = -1.0
        if side != 0.0:
            share = 1.0
            if target > 0.0:
                share = min(1.0, target / sqrt(squares / lookback))
            exposure = side * share
    memory[_EXPOSURE] = exposure
    return exposure


def _check(parameters: Parameters) -> str | None:
    entry, leave = parameters["entry"], parameters["leave"]
    return None if leave <= entry else f"leave is {leave} and entry is {entry}, but leave must not be more than entry"  # type: ignore[operator]


STRATEGY = Strategy(
    name="momentum_rider",
    description="Rides strong momentum, measured in its own volatility, until it is spent; short only if asked.",
    parameters=(
        Parameter("lookback", int, 48, 2, 2000, "bars of the momentum and of its volatility"),
        Parameter("entry", float, 1.0, 0.0, 20.0, "momentum at which to enter, in standard deviations"),
        Parameter("leave", float, 0.0, -20.0, 20.0, "momentum below which to leave, in standard deviations"),
        Parameter("target", float, 0.0, 0.0, 1.0, "volatility of a bar that the whole size is meant for; 0 is off"),
        Parameter("short", bool, False, False, True, "whether falling momentum is sold short"),
    ),
    warm_up=lambda parameters: int(parameters["lookback"]) + 1,
    start=lambda parameters: [0.0] * (_RING + int(parameters["lookback"]) + 1),
    step=step,
    check=_check,
    carries=("exposure",),
)
