"""Six ways to trade the Ichimoku chart, each with what was known at the bar and nothing that was drawn there later.

    tenkan, kijun, B   (highest high + lowest low) / 2 of the last ``tenkan``, ``kijun``, ``senkou`` bars, with bar i
    A                  (tenkan + kijun) / 2
    cloud at bar i     A and B of bar i - displacement; its top is the higher, its bottom the lower one
    lagging span       close_i, compared with what bar i - displacement traded

A chart draws the spans ``displacement`` bars ahead and the close as many bars back. Read off a chart at bar i, the
cloud is ``displacement`` bars old, the spans drawn ahead are of bar i itself, and the lagging span ends
``displacement`` bars ago: its later part is the future and appears nowhere here.

With s = 1 for the long side (and -1, mirrored, for the short side if ``short``), "above" meaning above for the long and
below for the short side, every kind enters and leaves at a close:

    tk_cross_sniper   tenkan crosses above kijun while the close is above the cloud; until tenkan is below kijun
    kumo_breaker      the close crosses above the cloud's top; until it is below its bottom
    kumo_twist        A of bar i crosses above B, the close not below the cloud; until A is below B
    kijun_bounce      the bar touches kijun and closes above it, kijun not falling, above the cloud; until below kijun
    chikou_confirm    the close is above the cloud, kijun and the high ``displacement`` bars ago, tenkan above kijun;
                      until the close is below kijun
    edge_to_edge      the close crosses the bottom of the cloud from below into it; until it is at the top or below the
                      bottom again

Crossing compares with the bar before: not above then, above now. From bar index senkou + displacement on. Lines and
signals as in M. Patel, "Trading with Ichimoku Clouds" (2010).
"""

from __future__ import annotations

from functools import partial
from math import nan

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy

_TK_CROSS, _BREAKOUT, _TWIST, _BOUNCE, _CHIKOU, _EDGE = 0.0, 1.0, 2.0, 3.0, 4.0, 5.0

_RULE, _BARS, _SIDE, _CLOSE, _TENKAN, _KIJUN, _SPAN_A, _SPAN_B, _TOP, _BOTTOM = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
_EXTREMES, _RINGS = 10, 22


def step(
    memory: list[float],
    tenkan: int,
    kijun: int,
    senkou: int,
    displacement: int,
    short: bool,
    _open: float,
    high: float,
    low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: the rule, bars seen, side held, last close, lines and cloud of the last bar, six extremes, three rings.

    An extreme is a value and its bar: highest high and highest -low of tenkan's, kijun's and span B's bars. The rings
    hold the last ``senkou`` highs and -lows, and (A, B, high, -low) of the last ``displacement`` bars. One function
    computes the lines of all six kinds; a kind differs by the number in its memory. It is long because compiled code
    may call nothing.
    """
    bar = int(memory[_BARS])
    for extreme in range(6):
        length = tenkan if extreme < 2 else (kijun if extreme < 4 else senkou)
        ring = _RINGS + extreme % 2 * senkou
        value = high if extreme % 2 == 0 else -low
        place = _EXTREMES + 2 * extreme
        memory[ring + bar % senkou] = value
        if bar == 0 or value >= memory[place]:
            memory[place] = value
            memory[place + 1] = float(bar)
        elif memory[place + 1] <= bar - length:
            memory[place] = value
            memory[place + 1] = float(bar)
            for back in range(1, length):
                if memory[ring + (bar - back) % senkou] > memory[place]:
                    memory[place] = memory[ring + (bar - back) % senkou]
                    memory[place + 1] = float(bar - back)
    turning = (memory[_EXTREMES] - memory[_EXTREMES + 2]) / 2.0
    base = (memory[_EXTREMES + 4] - memory[_EXTREMES + 6]) / 2.0
    span_a = (turning + base) / 2.0
    span_b = (memory[_EXTREMES + 8] - memory[_EXTREMES + 10]) / 2.0

    past = _RINGS + 2 * senkou + 4 * (bar % displacement)
    top = max(memory[past], memory[past + 1])
    bottom = min(memory[past], memory[past + 1])
    rule = memory[_RULE]
    side = memory[_SIDE]
    is_ready = bar >= senkou + displacement
    if is_ready and side != 0.0:
        ahead = top if side > 0.0 else bottom
        behind = bottom if side > 0.0 else top
        away = close - base
        if rule == _TK_CROSS:
            away = turning - base
        elif rule == _TWIST:
            away = span_a - span_b
        elif rule in (_BREAKOUT, _EDGE):
            away = close - behind
        if side * away < 0.0 or (rule == _EDGE and side * (close - ahead) >= 0.0):
            side = 0.0
    turn = 1.0
    while is_ready and side == 0.0 and turn >= (-1.0 if short else 1.0):
        is_up = turn > 0.0
        ahead = top if is_up else bottom
        behind = bottom if is_up else top
        is_beyond = turn * (close - ahead) > 0.0
        if rule == _TK_CROSS:
            now = turn * (turning - base)
            before = turn * (memory[_TENKAN] - memory[_KIJUN])
            enters = now > 0.0 and before <= 0.0 and is_beyond
        elif rule == _BREAKOUT:
            before = turn * (memory[_CLOSE] - (memory[_TOP] if is_up else memory[_BOTTOM]))
            enters = is_beyond and before <= 0.0
        elif rule == _TWIST:
            now = turn * (span_a - span_b)
            before = turn * (memory[_SPAN_A] - memory[_SPAN_B])
            enters = now > 0.0 and before <= 0.0 and turn * (close - behind) >= 0.0
        elif rule == _BOUNCE:
            touch = turn * ((low if is_up else high) - base)
            enters = touch <= 0.0 and turn * (close - base) > 0.0 and turn * (base - memory[_KIJUN]) >= 0.0
            enters = enters and is_beyond
        elif rule == _CHIKOU:
            lagged = memory[past + 2] if is_up else -memory[past + 3]
            enters = is_beyond and turn * (close - lagged) > 0.0 and turn * (close - base) > 0.0
            enters = enters and turn * (turning - base) > 0.0
        else:
            before = turn * (memory[_CLOSE] - (memory[_BOTTOM] if is_up else memory[_TOP]))
            enters = before < 0.0 and turn * (close - behind) > 0.0 and turn * (close - ahead) < 0.0
        if enters:
            side = turn
        turn -= 2.0
    memory[_BARS] = bar + 1.0
    memory[_SIDE] = side
    memory[_CLOSE] = close
    memory[_TENKAN] = turning
    memory[_KIJUN] = base
    memory[_SPAN_A] = span_a
    memory[_SPAN_B] = span_b
    memory[_TOP] = top
    memory[_BOTTOM] = bottom
    memory[past] = span_a
    memory[past + 1] = span_b
    memory[past + 2] = high
    memory[past + 3] = -low
    return side if is_ready else nan


def _check(parameters: Parameters) -> str | None:
    tenkan, kijun, senkou = int(parameters["tenkan"]), int(parameters["kijun"]), int(parameters["senkou"])
    if tenkan < kijun < senkou:
        return None
    return f"tenkan is {tenkan}, kijun {kijun} and senkou {senkou}, but each must be less than the next"


def _start(rule: float, parameters: Parameters) -> list[float]:
    rings = 2 * int(parameters["senkou"]) + 4 * int(parameters["displacement"])
    return [rule, *[0.0] * (_RINGS - 1 + rings)]


def _kind(name: str, rule: float, description: str) -> Strategy:
    return Strategy(
        name=name,
        description=description,
        parameters=(
            Parameter("tenkan", int, 9, 1, 500, "bars of the turning line"),
            Parameter("kijun", int, 26, 2, 1000, "bars of the base line"),
            Parameter("senkou", int, 52, 3, 2000, "bars of leading span B"),
            Parameter("displacement", int, 26, 1, 1000, "bars by which a chart shifts the spans ahead"),
            Parameter("short", bool, False, False, True, "whether the mirror image is sold short"),
        ),
        warm_up=lambda parameters: int(parameters["senkou"]) + int(parameters["displacement"]) + 1,
        start=partial(_start, rule),
        step=step,
        check=_check,
        carries=("side",),
    )


TK_CROSS_SNIPER = _kind(
    "tk_cross_sniper", _TK_CROSS, "Ichimoku: buys the cross of turning over base line above the cloud."
)
KUMO_BREAKER = _kind("kumo_breaker", _BREAKOUT, "Ichimoku: buys the close that breaks out of the cloud upwards.")
KUMO_TWIST = _kind("kumo_twist", _TWIST, "Ichimoku: buys when the leading spans of this bar cross upwards.")
KIJUN_BOUNCE = _kind("kijun_bounce", _BOUNCE, "Ichimoku: buys a bar that touches the base line and closes above it.")
CHIKOU_CONFIRM = _kind(
    "chikou_confirm",
    _CHIKOU,
    "Ichimoku: buys when cloud, lines and lagging span all agree, until the base line breaks.",
)
EDGE_TO_EDGE = _kind("edge_to_edge", _EDGE, "Ichimoku: buys the entry into the cloud from below, for its other edge.")
