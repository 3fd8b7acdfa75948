"""A grid: a unit more at every step down from a reference price, a unit less at every step up.

    L(k) = reference * (1 - k * step),  the price at which k units are to be held

    buy a unit    close_i <= L(n + 1), while n < levels
    sell a unit   close_i >= L(n - 1), while n > 0, or n > -levels if ``short``

where n is the number of units held, a unit being 1 / ``levels`` of the size. So a unit bought at one step is sold one
step higher, and a close between two steps changes nothing. Several steps may be taken at one close.

The reference is the first close. It moves to the close, and everything held is sold, when the close is ``stop`` steps
or more beyond the last level (0 is off): a grid without one holds its whole size for as long as the price stays away.
While nothing is held it also moves up to a close ``follow`` steps above it (0 is off): a rise does not leave it behind.
"""

from __future__ import annotations

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy

_REFERENCE, _UNITS = 0, 1


def step(
    memory: list[float],
    levels: int,
    step: float,
    stop: float,
    follow: float,
    short: bool,
    _open: float,
    _high: float,
    _low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: reference price (0 before the first bar), units held; below zero they are short."""
    if memory[_REFERENCE] == 0.0:
        memory[_REFERENCE] = close
    reference = memory[_REFERENCE]
    held = memory[_UNITS]
    is_beyond = close <= reference * (1.0 - (levels + stop) * step) or (
        short and close >= reference * (1.0 + (levels + stop) * step)
    )
    has_left = held == 0.0 and follow > 0.0 and close >= reference * (1.0 + follow * step)
    if (stop > 0.0 and is_beyond) or has_left:
        memory[_REFERENCE] = close
        memory[_UNITS] = 0.0
        return 0.0
    least = -float(levels) if short else 0.0
    while held < levels and close <= reference * (1.0 - (held + 1.0) * step):
        held += 1.0
    while held > least and close >= reference * (1.0 - (held - 1.0) * step):
        held -= 1.0
    memory[_UNITS] = held
    return held / levels


def _check(parameters: Parameters) -> str | None:
    levels, width = int(parameters["levels"]), float(parameters["step"])
    reach = (levels + float(parameters["stop"])) * width
    if reach < 1.0:
        return None
    return f"{levels} levels of {width} and the stop reach {reach:g} of the price down, but must stay below 1"


STRATEGY = Strategy(
    name="grid",
    description="A unit more at every step down from a reference price, a unit less at every step up; short if asked.",
    parameters=(
        Parameter("levels", int, 5, 1, 200, "steps at which units are held, in each direction"),
        Parameter("step", float, 0.02, 0.0001, 0.5, "distance of two steps, as a fraction of the reference"),
        Parameter("stop", float, 0.0, 0.0, 1000.0, "steps beyond the last level at which all is sold; 0 is off"),
        Parameter("follow", float, 0.0, 0.0, 1000.0, "steps after which an empty grid follows a rise; 0 is off"),
        Parameter("short", bool, False, False, True, "whether units are sold short above the reference"),
    ),
    warm_up=lambda _parameters: 1,
    start=lambda _parameters: [0.0, 0.0],
    step=step,
    check=_check,
    carries=("reference", "units"),
)
