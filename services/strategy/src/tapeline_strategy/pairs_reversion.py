"""Statistical arbitrage of a pair: buys the spread of two instruments when it is unusually narrow, sells it when wide.

Over the last ``window`` bars, bar i included, with a the first instrument's closes and b the second's:

    ratio   given, or (0) the slope of the least-squares line of a on b
    e       a - ratio * b,  z = (e_i - mean of e) / standard deviation of e (population form)

From bar index ``window`` - 1 on, with s = 1 for the spread bought (first long, second short) and -1 for it sold:

    enter   s * z < -entry, the ratio positive, the spread not beyond ``stop``
    leave   s * z >= -leave, or, as a loss, s * z < -stop (0 is off); then no entry until |z| < entry

Nothing is entered at the close that left something.

The ratio is kept from entry to exit: a position of (1, -ratio) units, scaled so that the larger leg is the whole size,
rounded to six decimals. A ratio that is not positive hedges nothing and is never entered.

Whether two prices belong together at all (cointegration) is a question for research and not for a bar: a rolling line
always finds some spread. E. Gatev, W. Goetzmann, K. Rouwenhorst, "Pairs Trading", Review of Financial Studies 19
(2006); R. Engle, C. Granger, "Co-integration and Error Correction", Econometrica 55 (1987).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import nan, sqrt

from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Parameter, Strategy

NOTHING = (0.0, 0.0)


@dataclass(slots=True)
class Spread:
    """Memory: closes of both, what is held of each, and whether a stopped spread is still to come back."""

    closes: deque[tuple[float, float]]
    held: tuple[float, float] = field(default=NOTHING)
    side: float = 0.0
    is_barred: bool = False


def both(
    memory: Spread,
    window: int,
    ratio: float,
    entry: float,
    leave: float,
    stop: float,
    _first_open: float,
    _first_high: float,
    _first_low: float,
    first: float,
    _first_volume: float,
    _second_open: float,
    _second_high: float,
    _second_low: float,
    second: float,
    _second_volume: float,
) -> tuple[float, float]:
    """Wanted exposure of both legs."""
    memory.closes.append((first, second))
    if len(memory.closes) < window:
        return nan, nan
    slope, z = _score(memory.closes, ratio)
    if memory.is_barred and abs(z) < entry:
        memory.is_barred = False
    if memory.side:
        is_lost = stop > 0.0 and memory.side * z < -stop
        if is_lost or memory.side * z >= -leave:
            memory.held, memory.side, memory.is_barred = NOTHING, 0.0, is_lost
    elif not memory.is_barred and slope > 0.0 and entry < abs(z) <= (stop or abs(z)):
        memory.side = 1.0 if z < 0.0 else -1.0
        scale = memory.side / max(1.0, slope)
        memory.held = (round(scale, 6), round(-scale * slope, 6))
    return memory.held


def _score(closes: deque[tuple[float, float]], ratio: float) -> tuple[float, float]:
    """The hedge ratio and the latest spread in standard deviations; 0 where the spread stands still."""
    count = len(closes)
    slope = ratio if ratio > 0.0 else _slope(closes)
    spreads = [first - slope * second for first, second in closes]
    mean = _total(spreads) / count
    deviation = sqrt(_total([(spread - mean) * (spread - mean) for spread in spreads]) / count)
    # Prices that move together exactly leave nothing but rounding in their spread.
    if deviation <= 1e-12 * max(abs(closes[-1][0]), abs(slope * closes[-1][1])):
        return slope, 0.0
    return slope, (spreads[-1] - mean) / deviation


def _slope(closes: deque[tuple[float, float]]) -> float:
    """Of the least-squares line of the first's closes on the second's; 0 where the second stands still."""
    count = len(closes)
    first_mean = _total([first for first, _ in closes]) / count
    second_mean = _total([second for _, second in closes]) / count
    spread = _total([(second - second_mean) * (second - second_mean) for _, second in closes])
    together = _total([(first - first_mean) * (second - second_mean) for first, second in closes])
    return together / spread if spread > 0.0 else 0.0


def _total(values: list[float]) -> float:
    """In order and without compensation: the same on every version of Python."""
    found = 0.0
    for value in values:
        found += value
    return found


def _alone(*_bar: float) -> float:
    raise TypeError("a strategy of two legs has no step of one bar")


def _check(parameters: Parameters) -> str | None:
    entry, leave, stop = float(parameters["entry"]), float(parameters["leave"]), float(parameters["stop"])
    if leave >= entry:
        return f"leave is {leave} and entry is {entry}, but leave must be less than entry"
    if 0.0 < stop <= entry:
        return f"stop is {stop} and entry is {entry}, but stop must be more than entry, or 0 for none"
    return None


STRATEGY = Strategy(
    name="pairs_reversion",
    description="Trades the spread of two instruments as one unit: long when it is narrow, short when it is wide.",
    parameters=(
        Parameter("window", int, 200, 10, 5000, "bars of the hedge ratio, the mean and the deviation"),
        Parameter("ratio", float, 0.0, 0.0, 1e9, "units of the second for one of the first; 0: by least squares"),
        Parameter("entry", float, 2.0, 0.1, 20.0, "distance from the mean at which to enter, in standard deviations"),
        Parameter("leave", float, 0.0, -20.0, 20.0, "distance at which to leave, in standard deviations"),
        Parameter("stop", float, 4.0, 0.0, 50.0, "distance at which a loss is taken, in deviations; 0 is off"),
    ),
    warm_up=lambda parameters: int(parameters["window"]),
    start=lambda parameters: Spread(deque(maxlen=int(parameters["window"]))),
    step=_alone,
    check=_check,
    is_numeric=False,
    both=both,
    carries=("held", "side", "is_barred"),
)
