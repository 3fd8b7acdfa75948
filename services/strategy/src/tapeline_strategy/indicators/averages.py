"""Averages of price: what it has been lately, more or less smooth and more or less late."""

from __future__ import annotations

from math import nan, sqrt

from tapeline_strategy.indicators.blocks import (
    EMA,
    RMA,
    change,
    delay_size,
    delayed,
    ema,
    fitted_line,
    pushed,
    rma,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_sum,
    sum_size,
    weighted_mean,
    weighted_size,
    window_size,
)
from tapeline_strategy.indicators.indicator import (
    ACHELIS,
    CLOSE,
    HLC,
    HLCV,
    SESSION,
    WILDER,
    Family,
    Indicator,
    Recall,
    factor,
    fast_below_slow,
    length,
)
from tapeline_strategy.indicators.transcendental import exponential

BROWN = "R. G. Brown, Statistical Forecasting for Inventory Control, 1959"
MULLOY = "P. Mulloy, Stocks & Commodities 12:1 and 12:2, 1994"
BERKOWITZ = "S. A. Berkowitz, D. E. Logue and E. A. Noser, The Total Cost of Transactions on the NYSE, 1988"
GAUSS = "C. F. Gauss, Theoria motus, 1809 (least squares)"


def _sma(memory: list[float], length: int, close: float) -> float:
    return rolling_mean(memory, 0, length, close)


def _ema(memory: list[float], length: int, close: float) -> float:
    return ema(memory, 0, length, close)


def _rma(memory: list[float], length: int, close: float) -> float:
    return rma(memory, 0, length, close)


def _wma(memory: list[float], length: int, close: float) -> float:
    return weighted_mean(memory, 0, length, close)


def _dema(memory: list[float], length: int, close: float) -> float:
    once = ema(memory, 0, length, close)
    return 2.0 * once - ema(memory, EMA, length, once)


def _tema(memory: list[float], length: int, close: float) -> float:
    once = ema(memory, 0, length, close)
    twice = ema(memory, EMA, length, once)
    return 3.0 * once - 3.0 * twice + ema(memory, 2 * EMA, length, twice)


def _trima(memory: list[float], length: int, close: float) -> float:
    """A mean of means: lengths (n + 1) / 2 twice if n is odd, n / 2 and n / 2 + 1 if it is even."""
    first = (length + 1) // 2
    second = length // 2 + 1
    return rolling_mean(memory, sum_size(first), second, rolling_mean(memory, 0, first, close))


def _root(length: int) -> int:
    """The largest whole number whose square is not above."""
    root = 1
    while (root + 1) * (root + 1) <= length:
        root += 1
    return root


def _hma(memory: list[float], length: int, close: float) -> float:
    half = length // 2
    quick = weighted_mean(memory, 0, half, close)
    slow = weighted_mean(memory, weighted_size(half), length, close)
    return weighted_mean(memory, weighted_size(half) + weighted_size(length), _root(length), 2.0 * quick - slow)


def _kama(memory: list[float], length: int, fast: int, slow: int, close: float) -> float:
    """Memory: whether it has begun, the average; last change, change over the window, sum of changes."""
    moved = change(memory, 2, close)
    before = delayed(memory, 4, length, close)
    path = rolling_sum(memory, 4 + delay_size(length), length, abs(moved))
    if path != path:
        return nan
    if memory[0] == 0.0:
        memory[0] = 1.0
        memory[1] = close - moved
    efficiency = min(abs(close - before) / path, 1.0) if path > 0.0 else 1.0
    quickest = 2.0 / (fast + 1)
    slowest = 2.0 / (slow + 1)
    weight = efficiency * (quickest - slowest) + slowest
    memory[1] += weight * weight * (close - memory[1])
    return memory[1]


def _zlema(memory: list[float], length: int, close: float) -> float:
    before = delayed(memory, EMA, (length - 1) // 2, close) if length > 2 else close
    return ema(memory, 0, length, close + (close - before))


def _alma(memory: list[float], length: int, offset: float, sigma: float, close: float) -> float:
    """Memory: sum of the weights (0 before they are made), weights, window."""
    if memory[0] == 0.0:
        spread = length / sigma
        for place in range(length):
            apart = (place - offset * (length - 1)) / spread
            memory[1 + place] = exponential(-0.5 * apart * apart)
            memory[0] += memory[1 + place]
    first = pushed(memory, 1 + length, length, close)
    if first < 0:
        return nan
    total = 0.0
    for place in range(length):
        total += memory[1 + place] * memory[first + place]
    return total / memory[0]


def _vwma(memory: list[float], length: int, close: float, volume: float) -> float:
    worth = rolling_sum(memory, 0, length, close * volume)
    traded = rolling_sum(memory, sum_size(length), length, volume)
    mean = rolling_mean(memory, 2 * sum_size(length), length, close)
    return worth / traded if traded > 0.0 else mean


def _vwap(memory: list[float], length: int, high: float, low: float, close: float, volume: float) -> float:
    return _vwma(memory, length, (high + low + close) / 3.0, volume)


def _session_vwap(
    memory: list[float], high: float, low: float, close: float, volume: float, session: float
) -> tuple[float, float, float]:
    """Memory: whether begun, session, volume, mean price and sum of squares about it, weighted by volume."""
    if memory[0] == 0.0 or memory[1] != session:
        memory[0] = 1.0
        memory[1] = session
        memory[2] = 0.0
        memory[3] = (high + low + close) / 3.0
        memory[4] = 0.0
    price = (high + low + close) / 3.0
    memory[2] += volume
    if volume > 0.0:
        step = price - memory[3]
        memory[3] += step * volume / memory[2]
        memory[4] += step * (price - memory[3]) * volume
    spread = sqrt(memory[4] / memory[2]) if memory[2] > 0.0 else 0.0
    return memory[3], memory[3] + spread, memory[3] - spread


def _t3(memory: list[float], length: int, volume_factor: float, close: float) -> float:
    third = ema(memory, 2 * EMA, length, ema(memory, EMA, length, ema(memory, 0, length, close)))
    fourth = ema(memory, 3 * EMA, length, third)
    fifth = ema(memory, 4 * EMA, length, fourth)
    sixth = ema(memory, 5 * EMA, length, fifth)
    square = volume_factor * volume_factor
    cube = square * volume_factor
    return (
        (1.0 + 3.0 * volume_factor + cube + 3.0 * square) * third
        + (-6.0 * square - 3.0 * (volume_factor + cube)) * fourth
        + (3.0 * square + 3.0 * cube) * fifth
        - cube * sixth
    )


def _lsma(memory: list[float], length: int, close: float) -> float:
    newest, _slope, _fit = fitted_line(memory, 0, length, close)
    return newest


def _midpoint(memory: list[float], length: int, close: float) -> float:
    return (rolling_max(memory, 0, length, close) + rolling_min(memory, sum_size(length), length, close)) / 2.0


def _midprice(memory: list[float], length: int, high: float, low: float) -> float:
    return (rolling_max(memory, 0, length, high) + rolling_min(memory, sum_size(length), length, low)) / 2.0


def _typical_price(_memory: list[float], high: float, low: float, close: float) -> float:
    return (high + low + close) / 3.0


def _median_price(_memory: list[float], high: float, low: float) -> float:
    return (high + low) / 2.0


def _weighted_close(_memory: list[float], high: float, low: float, close: float) -> float:
    return (high + low + 2.0 * close) / 4.0


# ---- table -------------------------------------------------------------------------------------------------------

_FADING = Recall.FADING

AVERAGES: tuple[Indicator, ...] = (
    Indicator(
        "sma", Family.AVERAGE, "Simple moving average: the mean of the last closes.", ACHELIS,
        CLOSE, ("sma",), (length(20, 1),), _sma, sum_size, lambda length: length,
    ),
    Indicator(
        "ema", Family.AVERAGE, "Exponential moving average with the constant 2 / (length + 1).", BROWN,
        CLOSE, ("ema",), (length(20, 1),), _ema, lambda _length: EMA, lambda length: length, _FADING,
    ),
    Indicator(
        "wma", Family.AVERAGE, "Linearly weighted moving average: the newest close weighs most.", ACHELIS,
        CLOSE, ("wma",), (length(20, 1),), _wma, weighted_size, lambda length: length,
    ),
    Indicator(
        "rma", Family.AVERAGE, "Wilder's moving average, an exponential one with the constant 1 / length.", WILDER,
        CLOSE, ("rma",), (length(14, 1),), _rma, lambda _length: RMA, lambda length: length, _FADING,
    ),
    Indicator(
        "dema", Family.AVERAGE, "Double exponential average: 2·e1 - e2, where e2 is the average of e1.", MULLOY,
        CLOSE, ("dema",), (length(20, 1),), _dema, lambda _length: 2 * EMA, lambda length: 2 * length - 1, _FADING,
    ),
    Indicator(
        "tema", Family.AVERAGE, "Triple exponential average: 3·e1 - 3·e2 + e3, each the average of the last.", MULLOY,
        CLOSE, ("tema",), (length(20, 1),), _tema, lambda _length: 3 * EMA, lambda length: 3 * length - 2, _FADING,
    ),
    Indicator(
        "trima", Family.AVERAGE, "Triangular moving average: the middle of the window weighs most.", ACHELIS,
        CLOSE, ("trima",), (length(20, 1),), _trima,
        lambda length: sum_size((length + 1) // 2) + sum_size(length // 2 + 1), lambda length: length,
    ),
    Indicator(
        "hma", Family.AVERAGE, "Hull moving average: wma over √length of 2·wma(length / 2) - wma(length).",
        "A. Hull, Hull Moving Average, 2005",
        CLOSE, ("hma",), (length(16),), _hma,
        lambda length: weighted_size(length // 2) + weighted_size(length) + weighted_size(_root(length)),
        lambda length: length + _root(length) - 1,
    ),
    Indicator(
        "kama", Family.AVERAGE, "Kaufman's adaptive average: quick where price goes straight, slow where it wavers.",
        "P. J. Kaufman, Smarter Trading, 1995",
        CLOSE, ("kama",),
        (
            length(10, 1, "bars over which straightness is measured"),
            length(2, 1, "length of the quickest average", "fast"),
            length(30, 2, "length of the slowest average", "slow"),
        ),
        _kama, lambda length, _fast, _slow: 4 + delay_size(length) + sum_size(length),
        lambda length, _fast, _slow: length + 1, _FADING, check=fast_below_slow,
    ),
    Indicator(
        "zlema", Family.AVERAGE, "Zero-lag average: the ema of the close plus its change over (length - 1) / 2 bars.",
        "J. Ehlers and R. Way, Zero Lag (Well, Almost), Stocks & Commodities 28:11, 2010",
        CLOSE, ("zlema",), (length(20),), _zlema,
        lambda length: EMA + delay_size(max((length - 1) // 2, 1)), lambda length: length + (length - 1) // 2, _FADING,
    ),
    Indicator(
        "alma", Family.AVERAGE, "Arnaud Legoux average: weights of a bell whose middle lies near the newest close.",
        "A. Legoux and D. Kouzis-Loukas, 2009",
        CLOSE, ("alma",),
        (
            length(9, 1),
            factor("offset", 0.85, 0.0, 1.0, "where the bell's middle lies, from the oldest (0) to the newest (1)"),
            factor("sigma", 6.0, 0.5, 50.0, "how many of the bell's standard deviations the window is long"),
        ),
        _alma, lambda length, _offset, _sigma: 1 + length + window_size(length), lambda length, _offset, _sigma: length,
    ),
    Indicator(
        "vwma", Family.AVERAGE, "Mean of the closes weighted by volume; of a window without volume the plain mean.",
        ACHELIS,
        ("close", "volume"), ("vwma",), (length(20, 1),), _vwma,
        lambda length: 3 * sum_size(length), lambda length: length,
    ),
    Indicator(
        "t3", Family.AVERAGE, "Tillson's T3: six averages in a row, combined to cancel most of their lag.",
        "T. Tillson, Smoothing Techniques for More Accurate Signals, Stocks & Commodities 16:1, 1998",
        CLOSE, ("t3",),
        (length(5, 1), factor("volume_factor", 0.7, 0.0, 1.0, "0 is a triple ema, 1 a triple dema")),
        _t3, lambda _length, _factor: 6 * EMA, lambda length, _factor: 6 * length - 5, _FADING,
    ),
    Indicator(
        "lsma", Family.AVERAGE, "End of the least-squares line through the last closes.", GAUSS,
        CLOSE, ("lsma",), (length(14),), _lsma, window_size, lambda length: length,
    ),
    Indicator(
        "midpoint", Family.AVERAGE, "Middle between the highest and the lowest of the last closes.", ACHELIS,
        CLOSE, ("midpoint",), (length(14, 1),), _midpoint, lambda length: 2 * sum_size(length), lambda length: length,
    ),
    Indicator(
        "midprice", Family.AVERAGE, "Middle between the highest high and the lowest low of the last bars.", ACHELIS,
        ("high", "low"), ("midprice",), (length(14, 1),), _midprice,
        lambda length: 2 * sum_size(length), lambda length: length,
    ),
    Indicator(
        "vwap", Family.AVERAGE, "Mean of the typical prices of the last bars, weighted by volume.", BERKOWITZ,
        HLCV, ("vwap",), (length(20, 1),), _vwap,
        lambda length: 3 * sum_size(length), lambda length: length,
    ),
    Indicator(
        "session_vwap", Family.AVERAGE,
        "Typical price since the session began, weighted by volume, and one standard deviation about it.", BERKOWITZ,
        (*HLCV, SESSION), ("vwap", "upper", "lower"), (), _session_vwap,
        lambda: 5, lambda: 1,
    ),
    Indicator(
        "typical_price", Family.AVERAGE, "(high + low + close) / 3.", ACHELIS,
        HLC, ("typical_price",), (), _typical_price, lambda: 0, lambda: 1,
    ),
    Indicator(
        "median_price", Family.AVERAGE, "(high + low) / 2.", ACHELIS,
        ("high", "low"), ("median_price",), (), _median_price, lambda: 0, lambda: 1,
    ),
    Indicator(
        "weighted_close", Family.AVERAGE, "(high + low + 2·close) / 4.", ACHELIS,
        HLC, ("weighted_close",), (), _weighted_close, lambda: 0, lambda: 1,
    ),
)  # fmt: skip
