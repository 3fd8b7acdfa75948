"""Statistics of any series, and other ways to see the bars: rank, shape, relation to a second series, pivots."""

from __future__ import annotations

from math import nan, sqrt

from tapeline_strategy.indicators.blocks import (
    PREVIOUS,
    delay_size,
    delayed,
    moments_size,
    previous,
    pushed,
    rolling_max,
    rolling_min,
    rolling_moments,
    rolling_sum,
    sum_size,
    window_size,
)
from tapeline_strategy.indicators.indicator import (
    ACHELIS,
    CLOSE,
    HLC,
    OTHER,
    SESSION,
    Family,
    Indicator,
    Recall,
    length,
)
from tapeline_strategy.indicators.momentum import ranked
from tapeline_strategy.indicators.volatility import PEARSON, log_ratio


def _sum(memory: list[float], length: int, close: float) -> float:
    return rolling_sum(memory, 0, length, close)


def _highest(memory: list[float], length: int, close: float) -> float:
    return rolling_max(memory, 0, length, close)


def _lowest(memory: list[float], length: int, close: float) -> float:
    return rolling_min(memory, 0, length, close)


def _median(memory: list[float], length: int, close: float) -> float:
    """Memory: values seen, the last ``length`` in order of arrival, the same in order of size."""
    if close != close:
        return nan
    count = int(memory[0])
    ordered = 1 + length
    held = min(count, length)
    if count >= length:
        leaving = memory[1 + count % length]
        place = 0
        while memory[ordered + place] != leaving:
            place += 1
        held -= 1
        for later in range(place, held):
            memory[ordered + later] = memory[ordered + later + 1]
    place = held
    while place > 0 and memory[ordered + place - 1] > close:
        memory[ordered + place] = memory[ordered + place - 1]
        place -= 1
    memory[ordered + place] = close
    memory[1 + count % length] = close
    memory[0] = count + 1.0
    if count + 1 < length:
        return nan
    return (memory[ordered + (length - 1) // 2] + memory[ordered + length // 2]) / 2.0


def _powers(memory: list[float], length: int, close: float) -> tuple[float, float, float]:
    """Mean second, third and fourth power of the last values' distances from their mean."""
    first = pushed(memory, 0, length, close)
    if first < 0:
        return nan, nan, nan
    total = 0.0
    for place in range(first, first + length):
        total += memory[place] - close
    mean = total / length
    second = 0.0
    third = 0.0
    fourth = 0.0
    for place in range(first, first + length):
        apart = memory[place] - close - mean
        square = apart * apart
        second += square
        third += square * apart
        fourth += square * square
    return second / length, third / length, fourth / length


def _skewness(memory: list[float], length: int, close: float) -> float:
    second, third, _fourth = _powers(memory, length, close)
    if second != second:
        return nan
    return third / (second * sqrt(second)) if second * sqrt(second) > 0.0 else 0.0


def _kurtosis(memory: list[float], length: int, close: float) -> float:
    second, _third, fourth = _powers(memory, length, close)
    if second != second:
        return nan
    return fourth / (second * second) - 3.0 if second * second > 0.0 else 0.0


def _zscore(memory: list[float], length: int, close: float) -> float:
    mean, variance = rolling_moments(memory, 0, length, close)
    if mean != mean:
        return nan
    return (close - mean) / sqrt(variance) if variance > 0.0 else 0.0


def _percent_rank(memory: list[float], length: int, close: float) -> float:
    return ranked(memory, 0, length, close)


def _products(memory: list[float], at: int, length: int, first: float, second: float) -> tuple[float, float, float]:
    """Sums of squares of two series about their means, and of their products. Memory: twice ``window_size``."""
    ones = pushed(memory, at, length, first)
    twos = pushed(memory, at + window_size(length), length, second)
    if ones < 0:
        return nan, nan, nan
    mean_one = 0.0
    mean_two = 0.0
    for place in range(length):
        mean_one += memory[ones + place] - first
        mean_two += memory[twos + place] - second
    mean_one /= length
    mean_two /= length
    square_one = 0.0
    square_two = 0.0
    product = 0.0
    for place in range(length):
        one = memory[ones + place] - first - mean_one
        two = memory[twos + place] - second - mean_two
        square_one += one * one
        square_two += two * two
        product += one * two
    return square_one, square_two, product


def _correlation(memory: list[float], length: int, close: float, other: float) -> float:
    square_one, square_two, product = _products(memory, 0, length, close, other)
    if product != product:
        return nan
    scale = sqrt(square_one) * sqrt(square_two)
    return max(-1.0, min(1.0, product / scale)) if scale > 0.0 else 0.0


def _relative_change(value: float, before: float) -> float:
    if before != before:
        return nan
    return (value - before) / before if before != 0.0 else 0.0


def _beta(memory: list[float], length: int, close: float, other: float) -> float:
    own = _relative_change(close, previous(memory, 0, close))
    market = _relative_change(other, previous(memory, PREVIOUS, other))
    _own_square, square, product = _products(memory, 2 * PREVIOUS, length, own, market)
    if product != product:
        return nan
    return product / square if square > 0.0 else 0.0


def _log_return(memory: list[float], length: int, close: float) -> float:
    return log_ratio(close, delayed(memory, 0, length, close))


def _drawdown(memory: list[float], close: float) -> float:
    """Memory: whether begun, highest close."""
    if close != close:
        return nan
    if memory[0] == 0.0 or close > memory[1]:
        memory[0] = 1.0
        memory[1] = close
    return (close - memory[1]) / memory[1] if memory[1] > 0.0 else 0.0


def _heikin_ashi(
    memory: list[float], open: float, high: float, low: float, close: float
) -> tuple[float, float, float, float]:
    """Memory: whether begun, last open and last close of the averaged bars."""
    first = (memory[1] + memory[2]) / 2.0 if memory[0] > 0.0 else (open + close) / 2.0
    last = (open + high + low + close) / 4.0
    memory[0] = 1.0
    memory[1] = first
    memory[2] = last
    return first, max(high, first, last), min(low, first, last), last


def _pivots(
    memory: list[float], high: float, low: float, close: float, session: float
) -> tuple[float, float, float, float, float, float, float]:
    """Memory: sessions begun up to 2, session, its high, low and last close; the same three of the one before."""
    if memory[0] == 0.0 or memory[1] != session:
        memory[0] = min(memory[0] + 1.0, 2.0)
        memory[5] = memory[2]
        memory[6] = memory[3]
        memory[7] = memory[4]
        memory[1] = session
        memory[2] = high
        memory[3] = low
    memory[2] = max(memory[2], high)
    memory[3] = min(memory[3], low)
    memory[4] = close
    if memory[0] < 2.0:
        return nan, nan, nan, nan, nan, nan, nan
    top, bottom = memory[5], memory[6]
    pivot = (top + bottom + memory[7]) / 3.0
    return (
        pivot,
        2.0 * pivot - bottom,
        2.0 * pivot - top,
        pivot + (top - bottom),
        pivot - (top - bottom),
        top + 2.0 * (pivot - bottom),
        bottom - 2.0 * (top - pivot),
    )


# ---- table -------------------------------------------------------------------------------------------------------

_FISHER = "R. A. Fisher, Statistical Methods for Research Workers, 1925"

SERIES: tuple[Indicator, ...] = (
    Indicator(
        "sum", Family.SERIES, "Sum of the last values.", ACHELIS,
        CLOSE, ("sum",), (length(20, 1),), _sum, sum_size, lambda length: length,
    ),
    Indicator(
        "highest", Family.SERIES, "Highest of the last values, this one included.", ACHELIS,
        CLOSE, ("highest",), (length(20, 1),), _highest, sum_size, lambda length: length,
    ),
    Indicator(
        "lowest", Family.SERIES, "Lowest of the last values, this one included.", ACHELIS,
        CLOSE, ("lowest",), (length(20, 1),), _lowest, sum_size, lambda length: length,
    ),
    Indicator(
        "median", Family.SERIES, "Median of the last values.", "F. Galton, 1881",
        CLOSE, ("median",), (length(20, 1),), _median, lambda length: 1 + 2 * length, lambda length: length,
    ),
    Indicator(
        "skewness", Family.SERIES, "Skewness of the last values, not corrected for bias; of equal values 0.", PEARSON,
        CLOSE, ("skewness",), (length(30, 3),), _skewness, window_size, lambda length: length,
    ),
    Indicator(
        "kurtosis", Family.SERIES, "Kurtosis of the last values less 3, not corrected for bias; of equal values 0.",
        PEARSON, CLOSE, ("kurtosis",), (length(30, 3),), _kurtosis, window_size, lambda length: length,
    ),
    Indicator(
        "zscore", Family.SERIES, "Distance from the mean of the last values in their standard deviations.", _FISHER,
        CLOSE, ("zscore",), (length(20),), _zscore, moments_size, lambda length: length,
    ),
    Indicator(
        "percent_rank", Family.SERIES, "Percentage of the values before this one that are below it.",
        "L. Connors and C. Alvarez, An Introduction to ConnorsRSI, 2012",
        CLOSE, ("percent_rank",), (length(100, 1),), _percent_rank, lambda length: window_size(length + 1),
        lambda length: length + 1,
    ),
    Indicator(
        "correlation", Family.SERIES, "Correlation of two series over the last values, -1 to 1.", PEARSON,
        ("close", OTHER), ("correlation",), (length(30),), _correlation, lambda length: 2 * window_size(length),
        lambda length: length,
    ),
    Indicator(
        "beta", Family.SERIES, "Slope of the series' relative changes on those of the other (the market's).",
        "W. F. Sharpe, Management Science 9:2, 1963",
        ("close", OTHER), ("beta",), (length(30),), _beta, lambda length: 2 * PREVIOUS + 2 * window_size(length),
        lambda length: length + 1, difference="Its first argument is the market.",
    ),
    Indicator(
        "log_return", Family.SERIES, "Natural logarithm of the close to that of so many bars ago.", ACHELIS,
        CLOSE, ("log_return",), (length(1, 1),), _log_return, delay_size, lambda length: length + 1,
    ),
    Indicator(
        "drawdown", Family.SERIES, "Fall below the highest close so far, as a fraction (0 or less).", ACHELIS,
        CLOSE, ("drawdown",), (), _drawdown, lambda: 2, lambda: 1, Recall.ENDLESS,
    ),
    Indicator(
        "heikin_ashi", Family.SERIES, "Averaged bars: their open is the middle of the last one's body.",
        "D. Valcu, Using the Heikin-Ashi Technique, Stocks & Commodities 22:2, 2004",
        ("open", *HLC), ("open", "high", "low", "close"), (), _heikin_ashi, lambda: 3, lambda: 1, Recall.FADING,
    ),
    Indicator(
        "pivot_points", Family.SERIES, "Pivot of the session before this one, with three resistances and supports.",
        "Floor traders' custom; J. L. Person, A Complete Guide to Technical Trading Tactics, 2004",
        (*HLC, SESSION), ("pivot", "r1", "s1", "r2", "s2", "r3", "s3"), (), _pivots, lambda: 8, lambda: 2,
    ),
)  # fmt: skip
