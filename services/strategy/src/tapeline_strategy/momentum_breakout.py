"""Channel breakout: long when the close leaves the recent range upwards, flat when it leaves a shorter one downwards.

With H_i the highest high of the ``lookback`` bars before bar i and L_i the lowest low of the ``exit_lookback`` bars
before it (the bar itself is in neither channel), from bar index ``lookback`` on:

    flat → long   close_i > H_i  and  volume_i >= volume_factor * mean volume of the ``lookback`` bars before i
    long → flat   close_i < L_i

``volume_factor`` 0 asks for no confirmation by volume. It never sells short.

The rule is R. D. Donchian's channel breakout in the entry-and-exit form of the Turtle traders (C. M. Faith, "Way of
the Turtle", 2007).
"""

from __future__ import annotations

from math import nan

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy

_BARS, _LONG, _HIGHEST, _HIGHEST_AT, _LOWEST, _LOWEST_AT, _RINGS = 0, 1, 2, 3, 4, 5, 6


def step(
    memory: list[float],
    lookback: int,
    exit_lookback: int,
    volume_factor: float,
    _open: float,
    high: float,
    low: float,
    close: float,
    volume: float,
) -> float:
    """Memory: bars seen, 1 while long, highest high and its bar, lowest low and its bar, then three rings.

    The rings hold the last ``lookback`` highs, ``lookback`` volumes and ``exit_lookback`` lows, at bar modulo length.
    An extreme is looked for again only when its own bar leaves the channel.
    """
    highs = _RINGS
    volumes = highs + lookback
    lows = volumes + lookback
    bar = int(memory[_BARS])
    long = memory[_LONG]
    if bar >= lookback:
        if long == 0.0 and close > memory[_HIGHEST]:
            mean = 0.0
            if volume_factor > 0.0:
                for back in range(lookback, 0, -1):
                    mean += memory[volumes + (bar - back) % lookback]
                mean /= lookback
            if volume >= volume_factor * mean:
                long = 1.0
        elif long == 1.0 and close < memory[_LOWEST]:
            long = 0.0

    memory[highs + bar % lookback] = high
    memory[volumes + bar % lookback] = volume
    memory[lows + bar % exit_lookback] = low
    if bar == 0 or high >= memory[_HIGHEST]:
        memory[_HIGHEST] = high
        memory[_HIGHEST_AT] = float(bar)
    elif memory[_HIGHEST_AT] <= bar - lookback:
        memory[_HIGHEST] = high
        memory[_HIGHEST_AT] = float(bar)
        for back in range(1, lookback):
            if memory[highs + (bar - back) % lookback] > memory[_HIGHEST]:
                memory[_HIGHEST] = memory[highs + (bar - back) % lookback]
                memory[_HIGHEST_AT] = float(bar - back)
    if bar == 0 or low <= memory[_LOWEST]:
        memory[_LOWEST] = low
        memory[_LOWEST_AT] = float(bar)
    elif memory[_LOWEST_AT] <= bar - exit_lookback:
        memory[_LOWEST] = low
        memory[_LOWEST_AT] = float(bar)
        for back in range(1, exit_lookback):
            if memory[lows + (bar - back) % exit_lookback] < memory[_LOWEST]:
                memory[_LOWEST] = memory[lows + (bar - back) % exit_lookback]
                memory[_LOWEST_AT] = float(bar - back)
    memory[_BARS] = bar + 1.0
    memory[_LONG] = long
    return long if bar >= lookback else nan


def _check(parameters: Parameters) -> str | None:
    entry, leave = parameters["lookback"], parameters["exit_lookback"]
    if leave <= entry:  # type: ignore[operator]
        return None
    return f"exit_lookback is {leave} and lookback is {entry}, but exit_lookback must not be more than lookback"


STRATEGY = Strategy(
    name="momentum_breakout",
    description="Long when the close breaks above the recent highs, flat when it breaks below a shorter run of lows.",
    parameters=(
        Parameter("lookback", int, 20, 2, 2000, "bars whose highest high must be exceeded to enter"),
        Parameter("exit_lookback", int, 10, 1, 2000, "bars whose lowest low must be undercut to leave"),
        Parameter("volume_factor", float, 0.0, 0.0, 10.0, "least volume of an entry bar in mean volumes; 0 is off"),
    ),
    warm_up=lambda parameters: int(parameters["lookback"]) + 1,
    start=lambda parameters: [0.0] * (_RINGS + 2 * int(parameters["lookback"]) + int(parameters["exit_lookback"])),
    step=step,
    check=_check,
    carries=("long",),
)
