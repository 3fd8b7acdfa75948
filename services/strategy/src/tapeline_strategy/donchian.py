"""The Turtle traders' form of Donchian's channel: both sides, added to in units, with a stop in ranges.

With H and L the highest high and the lowest low of the ``entry`` bars before bar i, h and l those of the ``leave`` bars
before it, and N the average true range (Wilder's, ``atr`` bars, up to bar i):

    flat → long    close_i > H: one unit
    add a unit     close_i >= price of the last unit + add * N, while there are fewer than ``units``
    long → flat    close_i < l, or close_i < price of the last unit - stop * N  (``stop`` 0 is off)

and mirrored for the short side if ``short``. A unit is 1 / ``units`` of the size. The price of a unit is the close of
the bar that decided it. The bar itself is in no channel. From bar index max(entry, atr) on.

R. D. Donchian's channel with the rules of the Turtles: C. M. Faith, "Way of the Turtle" (2007). Left out is their skip
of a break after a winning one.
"""

from __future__ import annotations

from math import nan

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy
from tapeline_strategy.settling import wilder

_BARS, _CLOSE, _ATR, _SIDE, _UNITS, _PRICE, _EXTREMES, _RINGS = 0, 1, 2, 3, 4, 5, 6, 14


def step(
    memory: list[float],
    entry: int,
    leave: int,
    atr: int,
    add: float,
    stop: float,
    units: int,
    short: bool,
    _open: float,
    high: float,
    low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: bars seen, last close, range, side, units held, price of the last unit, four extremes, two rings.

    An extreme is a value and its bar: highest high and highest -low of the entry channel, then of the leave channel.
    The rings hold the last ``entry`` highs and -lows. Until ``atr`` bars have passed the range is their sum.
    """
    bar = int(memory[_BARS])
    before = memory[_CLOSE]
    true_range = high - low if bar == 0 else max(high - low, abs(high - before), abs(low - before))
    if bar < atr:
        spread = memory[_ATR] + true_range
        if bar + 1 == atr:
            spread /= atr
    else:
        spread = (memory[_ATR] * (atr - 1) + true_range) / atr
    memory[_BARS] = bar + 1.0
    memory[_CLOSE] = close
    memory[_ATR] = spread

    side = memory[_SIDE]
    held = memory[_UNITS]
    if bar >= entry and bar >= atr:
        if side != 0.0:
            exit_level = -memory[_EXTREMES + 6] if side > 0.0 else memory[_EXTREMES + 4]
            from_unit = side * (close - memory[_PRICE])
            if side * (close - exit_level) < 0.0 or (stop > 0.0 and from_unit < -stop * spread):
                side = 0.0
                held = 0.0
            elif held < units and from_unit >= add * spread:
                held += 1.0
                memory[_PRICE] = close
        if side == 0.0:
            if close > memory[_EXTREMES]:
                side = 1.0
            elif short and close < -memory[_EXTREMES + 2]:
                side = -1.0
            if side != 0.0:
                held = 1.0
                memory[_PRICE] = close
    memory[_SIDE] = side
    memory[_UNITS] = held

    for extreme in range(4):
        length = entry if extreme < 2 else leave
        ring = _RINGS + extreme % 2 * entry
        value = high if extreme % 2 == 0 else -low
        place = _EXTREMES + 2 * extreme
        memory[ring + bar % entry] = value
        if bar == 0 or value >= memory[place]:
            memory[place] = value
            memory[place + 1] = float(bar)
        elif memory[place + 1] <= bar - length:
            memory[place] = value
            memory[place + 1] = float(bar)
            for back in range(1, length):
                if memory[ring + (bar - back) % entry] > memory[place]:
                    memory[place] = memory[ring + (bar - back) % entry]
                    memory[place + 1] = float(bar - back)
    return side * held / units if bar >= entry and bar >= atr else nan


def _check(parameters: Parameters) -> str | None:
    entry, leave = parameters["entry"], parameters["leave"]
    if leave <= entry:  # type: ignore[operator]
        return None
    return f"leave is {leave} and entry is {entry}, but leave must not be more than entry"


STRATEGY = Strategy(
    name="donchian",
    description="Turtle rules: enters breaks of a channel, adds units as they run, leaves by a shorter one or a stop.",
    parameters=(
        Parameter("entry", int, 20, 2, 2000, "bars of the channel whose break is entered"),
        Parameter("leave", int, 10, 1, 2000, "bars of the channel by which a position is left"),
        Parameter("atr", int, 20, 1, 500, "length of the average true range in bars"),
        Parameter("add", float, 0.5, 0.0, 10.0, "gain after which a unit is added, in average true ranges"),
        Parameter("stop", float, 2.0, 0.0, 50.0, "distance of the stop from the last unit, in ranges; 0 is off"),
        Parameter("units", int, 1, 1, 20, "units that make up the whole size"),
        Parameter("short", bool, False, False, True, "whether breaks downwards are sold short"),
    ),
    warm_up=lambda parameters: max(int(parameters["entry"]), int(parameters["atr"])) + 1,
    start=lambda parameters: [0.0] * (_RINGS + 2 * int(parameters["entry"])),
    step=step,
    check=_check,
    settles=lambda parameters: wilder(int(parameters["atr"])),
    carries=("side", "units", "price"),
)
