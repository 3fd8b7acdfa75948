"""Plain second implementations of the strategies: whole columns and slices of them, no rings, no memory.

Each says what its strategy wants at every bar of a history. Sums go from the oldest value to the newest, as the
strategies' do, so that answers can be compared exactly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence

from tapeline_common.events import Parameters

Row = tuple[float, float, float, float, float]  # open, high, low, close, volume
Naive = Callable[[Sequence[Row], Parameters], list[float]]


def total(values: Iterable[float]) -> float:
    """A sum without compensation, which newer Pythons' ``sum`` has."""
    return float(list(itertools.accumulate(values, initial=0.0))[-1])


def averages(values: Sequence[float], length: int) -> list[float]:
    """Exponential moving average, seeded by the first value."""
    return list(itertools.accumulate(values, lambda e, value: e + 2 / (length + 1) * (value - e)))


def smoothed(values: Sequence[float], length: int) -> list[float]:
    """Wilder's average, from index length - 1 on; NaN before."""
    first = total(values[:length]) / length
    later = itertools.accumulate(values[length:], lambda a, v: (a * (length - 1) + v) / length, initial=first)
    return [math.nan] * (length - 1) + list(later)


def true_ranges(rows: Sequence[Row]) -> list[float]:
    pairs = itertools.pairwise(rows)
    return [rows[0][1] - rows[0][2]] + [max(h, before[3]) - min(low, before[3]) for before, (_, h, low, _, _) in pairs]


def sided(
    count: int,
    first: int,
    short: object,
    enters: Callable[[int, int], bool],
    leaves: Callable[[int, int], bool],
) -> list[float]:
    """A strategy that is long, short or flat: leaves its side first, then enters one, the long one before the other."""
    answers, side = [], 0
    for i in range(count):
        if i < first:
            answers.append(math.nan)
            continue
        if side and leaves(i, side):
            side = 0
        if not side:
            side = next((one for one in ((1, -1) if short else (1,)) if enters(i, one)), 0)
        answers.append(float(side))
    return answers


def buy_and_hold(rows: Sequence[Row], parameters: Parameters) -> list[float]:
    return [float(parameters["exposure"])] * len(rows)


def macd(rows: Sequence[Row], parameters: Parameters) -> list[float]:
    closes = [row[3] for row in rows]
    fast, slow = (averages(closes, parameters[name]) for name in ("fast", "slow"))
    difference = [a - b for a, b in zip(fast, slow, strict=True)]
    line = averages(difference, parameters["signal"])
    first = parameters["slow"] + parameters["signal"] - 2

    def wanted(i: int) -> float:
        for side in (1, -1) if parameters["short"] else (1,):
            if side * (difference[i] - line[i]) > 0 and (side * difference[i] > 0 or not parameters["with_trend"]):
                return float(side)
        return 0.0

    return [wanted(i) if i >= first else math.nan for i in range(len(rows))]


def rsi_reversion(rows: Sequence[Row], parameters: Parameters) -> list[float]:
    closes, length = [row[3] for row in rows], parameters["length"]
    changes = [b - a for a, b in itertools.pairwise(closes)]
    ups = [math.nan, *smoothed([max(change, 0.0) for change in changes], length)]
    downs = [math.nan, *smoothed([max(-change, 0.0) for change in changes], length)]

    def index(i: int) -> float:
        return 100 * ups[i] / (ups[i] + downs[i]) if ups[i] + downs[i] > 0 else 50.0

    def enters(i: int, side: int) -> bool:
        return index(i) < parameters["oversold"] if side > 0 else index(i) > 100 - parameters["oversold"]

    def leaves(i: int, side: int) -> bool:
        return index(i) > parameters["leave"] if side > 0 else index(i) < 100 - parameters["leave"]

    return sided(len(rows), length, parameters["short"], enters, leaves)


def _bands(closes: Sequence[float], length: int, i: int) -> tuple[float, float]:
    window = closes[i + 1 - length : i + 1]
    mean = total(window) / length
    return mean, math.sqrt(total([(close - mean) * (close - mean) for close in window]) / length)


def bollinger_reversion(rows: Sequence[Row], parameters: Parameters) -> list[float]:
    closes, length, width = [row[3] for row in rows], parameters["length"], parameters["width"]
    stop = parameters["stop"] or math.inf
    answers, side, barred = [], 0, 0
    for i, close in enumerate(closes):
        if i < length - 1:
            answers.append(math.nan)
            continue
        mean, deviation = _bands(closes, length, i)
        away = close - mean
        if abs(away) <= width * deviation:
            barred = 0
        if side and side * away >= parameters["leave"] * deviation:
            side = 0
        elif side and -side * away > stop * deviation:
            side, barred = 0, side
        for one in (1, -1) if parameters["short"] else (1,):
            if not side and barred != one and width * deviation < -one * away and not -one * away > stop * deviation:
                side = one
        answers.append(float(side))
    return answers


def donchian(rows: Sequence[Row], parameters: Parameters) -> list[float]:
    entry, leave, units = parameters["entry"], parameters["leave"], parameters["units"]
    ranges = smoothed(true_ranges(rows), parameters["atr"])
    stop = parameters["stop"] or math.inf
    answers: list[float] = []
    side, prices = 0, []
    for i, (_, _, _, close, _) in enumerate(rows):
        if i < max(entry, parameters["atr"]):
            answers.append(math.nan)
            continue
        into, out = rows[i - entry : i], rows[i - leave : i]
        if side:
            level = min(row[2] for row in out) if side > 0 else max(row[1] for row in out)
            gain = side * (close - prices[-1])
            if side * (close - level) < 0 or gain < -stop * ranges[i]:
                side, prices = 0, []
            elif len(prices) < units and gain >= parameters["add"] * ranges[i]:
                prices.append(close)
        if not side:
            if close > max(row[1] for row in into):
                side, prices = 1, [close]
            elif parameters["short"] and close < min(row[2] for row in into):
                side, prices = -1, [close]
        answers.append(float(side) * len(prices) / units)
    return answers


class Chart:
    """The five Ichimoku lines of a whole history, each at the bar at which it is computed."""

    def __init__(self, rows: Sequence[Row], parameters: Parameters) -> None:
        self.rows = rows
        self.shift: int = parameters["displacement"]
        self.tenkan, self.kijun, self.b = (self._middles(parameters[name]) for name in ("tenkan", "kijun", "senkou"))
        self.a = [(one + other) / 2 for one, other in zip(self.tenkan, self.kijun, strict=True)]

    def _middles(self, length: int) -> list[float]:
        windows = [self.rows[max(0, i + 1 - length) : i + 1] for i in range(len(self.rows))]
        return [(max(row[1] for row in window) + min(row[2] for row in window)) / 2 for window in windows]

    def close(self, i: int) -> float:
        return self.rows[i][3]

    def edge(self, i: int, side: int) -> float:
        """The cloud's top for the long side, its bottom for the short one."""
        spans = (self.a[i - self.shift], self.b[i - self.shift])
        return max(spans) if side > 0 else min(spans)

    def beyond(self, i: int, side: int) -> bool:
        return side * (self.close(i) - self.edge(i, side)) > 0


def _ichimoku(
    enters: Callable[[Chart, int, int], bool], leaves: Callable[[Chart, int, int], bool]
) -> Callable[[Sequence[Row], Parameters], list[float]]:
    def answers(rows: Sequence[Row], parameters: Parameters) -> list[float]:
        chart = Chart(rows, parameters)
        first = parameters["senkou"] + parameters["displacement"]
        return sided(
            len(rows), first, parameters["short"], lambda i, s: enters(chart, i, s), lambda i, s: leaves(chart, i, s)
        )

    return answers


def _crosses(one: Sequence[float], other: Sequence[float], i: int, side: int) -> bool:
    return side * (one[i] - other[i]) > 0 and not side * (one[i - 1] - other[i - 1]) > 0


def _below_kijun(chart: Chart, i: int, side: int) -> bool:
    return side * (chart.close(i) - chart.kijun[i]) < 0


def _bounces(chart: Chart, i: int, side: int) -> bool:
    touched = chart.rows[i][2] <= chart.kijun[i] if side > 0 else chart.rows[i][1] >= chart.kijun[i]
    not_against = side * (chart.kijun[i] - chart.kijun[i - 1]) >= 0
    return touched and side * (chart.close(i) - chart.kijun[i]) > 0 and not_against and chart.beyond(i, side)


def _agrees(chart: Chart, i: int, side: int) -> bool:
    past = chart.rows[i - chart.shift]
    lagging = side * (chart.close(i) - (past[1] if side > 0 else past[2])) > 0
    above_base = side * (chart.close(i) - chart.kijun[i]) > 0
    return chart.beyond(i, side) and lagging and above_base and side * (chart.tenkan[i] - chart.kijun[i]) > 0


def _enters_cloud(chart: Chart, i: int, side: int) -> bool:
    outside = side * (chart.close(i - 1) - chart.edge(i - 1, -side)) < 0
    inside = side * (chart.close(i) - chart.edge(i, -side)) > 0 and side * (chart.close(i) - chart.edge(i, side)) < 0
    return outside and inside


def _through_or_back(chart: Chart, i: int, side: int) -> bool:
    through = side * (chart.close(i) - chart.edge(i, side)) >= 0
    return through or side * (chart.close(i) - chart.edge(i, -side)) < 0


tk_cross_sniper = _ichimoku(
    lambda chart, i, side: _crosses(chart.tenkan, chart.kijun, i, side) and chart.beyond(i, side),
    lambda chart, i, side: side * (chart.tenkan[i] - chart.kijun[i]) < 0,
)
kumo_breaker = _ichimoku(
    lambda chart, i, side: chart.beyond(i, side) and not chart.beyond(i - 1, side),
    lambda chart, i, side: side * (chart.close(i) - chart.edge(i, -side)) < 0,
)
kumo_twist = _ichimoku(
    lambda chart, i, side: _crosses(chart.a, chart.b, i, side) and side * (chart.close(i) - chart.edge(i, -side)) >= 0,
    lambda chart, i, side: side * (chart.a[i] - chart.b[i]) < 0,
)
kijun_bounce = _ichimoku(_bounces, _below_kijun)
chikou_confirm = _ichimoku(_agrees, _below_kijun)
edge_to_edge = _ichimoku(_enters_cloud, _through_or_back)


def momentum_rider(rows: Sequence[Row], parameters: Parameters) -> list[float]:
    closes, lookback, target = [row[3] for row in rows], parameters["lookback"], parameters["target"]
    answers: list[float] = []
    exposure = 0.0
    for i, close in enumerate(closes):
        if i < lookback:
            answers.append(math.nan)
            continue
        window = closes[i - lookback : i + 1]
        squares = total([(b / a - 1) * (b / a - 1) for a, b in itertools.pairwise(window)])
        strength = (close / window[0] - 1) / math.sqrt(squares) if squares else 0.0
        if exposure and math.copysign(1, exposure) * strength < parameters["leave"]:
            exposure = 0.0
        if not exposure:
            for side in (1, -1) if parameters["short"] else (1,):
                if side * strength > parameters["entry"]:
                    exposure = side * (min(1.0, target / math.sqrt(squares / lookback)) if target else 1.0)
                    break
        answers.append(exposure)
    return answers


def directional_index(rows: Sequence[Row], length: int) -> list[float]:
    """Wilder's ADX, from index 2 * length - 1 on; NaN before."""
    moves = [(now[1] - before[1], before[2] - now[2]) for before, now in itertools.pairwise(rows)]
    plus = [up if up > down and up > 0 else 0.0 for up, down in moves]
    minus = [down if down > up and down > 0 else 0.0 for up, down in moves]

    def running(values: Sequence[float]) -> list[float]:
        return list(
            itertools.accumulate(values[length:], lambda s, v: s - s / length + v, initial=total(values[:length]))
        )

    indices = [
        100 * abs(p - m) / (p + m) if p + m > 0 else 0.0 for p, m in zip(running(plus), running(minus), strict=True)
    ]
    return [math.nan] * length + smoothed(indices, length)


def trend_surfer(rows: Sequence[Row], parameters: Parameters) -> list[float]:
    closes = [row[3] for row in rows]
    fast, middle, slow = (averages(closes, parameters[name]) for name in ("fast", "middle", "slow"))
    strength = directional_index(rows, parameters["adx"])

    def enters(i: int, side: int) -> bool:
        ordered = side * (fast[i] - middle[i]) > 0 and side * (middle[i] - slow[i]) > 0
        return ordered and strength[i] >= parameters["strength"] and _crosses(closes, fast, i, side)

    def leaves(i: int, side: int) -> bool:
        return side * (closes[i] - slow[i]) < 0 or side * (fast[i] - middle[i]) < 0

    return sided(len(rows), max(parameters["slow"], 2 * parameters["adx"]), parameters["short"], enters, leaves)


def regime_switch(rows: Sequence[Row], parameters: Parameters) -> list[float]:
    closes, length = [row[3] for row in rows], parameters["length"]
    answers: list[float] = []
    market, side = "", 0
    for i, close in enumerate(closes):
        if i < length:
            answers.append(math.nan)
            continue
        window = closes[i - length : i + 1]
        path = total([abs(b - a) for a, b in itertools.pairwise(window)])
        efficiency = abs(close - window[0]) / path if path else 0.0
        now = market
        if efficiency >= parameters["trending"]:
            now = "trending"
        elif efficiency < parameters["ranging"]:
            now = "ranging"
        if now != market:
            market, side = now, 0
        mean, deviation = _bands(closes, length, i)
        sides = (1, -1) if parameters["short"] else (1,)
        if market == "trending":
            side = next((one for one in sides if one * (close - mean) > 0), 0)
        elif market == "ranging" and side * (close - mean) >= 0:
            side = next((one for one in sides if -one * (close - mean) > parameters["width"] * deviation), 0)
        answers.append(float(side))
    return answers


def grid(rows: Sequence[Row], parameters: Parameters) -> list[float]:
    levels, step, stop, follow = (parameters[name] for name in ("levels", "step", "stop", "follow"))
    reference, held, answers = rows[0][3], 0, []
    for _, _, _, close, _ in rows:
        low, high = reference * (1 - (levels + stop) * step), reference * (1 + (levels + stop) * step)
        is_beyond = stop and (close <= low or (parameters["short"] and close >= high))
        if is_beyond or (follow and held == 0 and close >= reference * (1 + follow * step)):
            reference, held = close, 0
        else:
            wanted = range(-levels if parameters["short"] else 0, levels + 1)
            below = [k for k in wanted if k > held and close <= reference * (1 - k * step)]
            above = [k for k in wanted if k < held and close >= reference * (1 - k * step)]
            held = max(below, default=min(above, default=held))
        answers.append(held / levels)
    return answers


def dca(rows: Sequence[Row], parameters: Parameters) -> list[float]:
    taken: list[float] = []
    answers, last, steps = [], -parameters["interval"], parameters["steps"]
    for i, (_, _, _, close, _) in enumerate(rows):
        if taken:
            average = total(taken) / len(taken)
            gained = parameters["take_profit"] and close >= average * (1 + parameters["take_profit"])
            if gained or (parameters["stop"] and close <= average * (1 - parameters["stop"])):
                taken, last = [], i
                answers.append(0.0)
                continue
        cheap = not taken or not parameters["drop"] or close <= taken[-1] * (1 - parameters["drop"])
        if i - last >= parameters["interval"] and cheap and len(taken) < steps:
            taken, last = [*taken, close], i
        answers.append(len(taken) / steps)
    return answers
