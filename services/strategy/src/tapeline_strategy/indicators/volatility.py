"""Volatility: how far price swings, in price, in percent or as a share of what it gains.

Estimates of volatility (``realised_volatility`` to ``yang_zhang``) are for a year of ``bars_per_year`` bars, as a
fraction: 0.8 is 80 %. With ``bars_per_year=1`` they are for one bar.
"""

from __future__ import annotations

from math import nan, sqrt

from tapeline_strategy.indicators.blocks import (
    EMA,
    PREVIOUS,
    RANGE,
    RMA,
    ema,
    moments_size,
    previous,
    rma,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_moments,
    rolling_sum,
    sum_size,
    true_range,
)
from tapeline_strategy.indicators.indicator import (
    CLOSE,
    HLC,
    WILDER,
    Family,
    Indicator,
    Recall,
    factor,
    length,
)
from tapeline_strategy.indicators.transcendental import logarithm

PEARSON = "K. Pearson, Philosophical Transactions of the Royal Society A 185, 1894"
FOUR_LN_2 = 2.772588722239781
TWO_LN_2_LESS_1 = 0.3862943611198906


def _tr(memory: list[float], high: float, low: float, close: float) -> float:
    return true_range(memory, 0, high, low, close)


def average_range(memory: list[float], at: int, length: int, high: float, low: float, close: float) -> float:
    """Wilder's average of the true range; the first bar has none. Memory: ``RANGE + RMA``."""
    return rma(memory, at + RANGE, length, true_range(memory, at, high, low, close))


def _atr(memory: list[float], length: int, high: float, low: float, close: float) -> float:
    return average_range(memory, 0, length, high, low, close)


def _natr(memory: list[float], length: int, high: float, low: float, close: float) -> float:
    average = average_range(memory, 0, length, high, low, close)
    return 100.0 * average / close if close != 0.0 else 0.0


def _bollinger(
    memory: list[float], length: int, deviations: float, close: float
) -> tuple[float, float, float, float, float]:
    mean, variance = rolling_moments(memory, 0, length, close)
    if mean != mean:
        return nan, nan, nan, nan, nan
    distance = deviations * sqrt(variance)
    percent = (close - mean + distance) / (2.0 * distance) if distance > 0.0 else 0.5
    width = 2.0 * distance / mean if mean != 0.0 else 0.0
    return mean + distance, mean, mean - distance, percent, width


def _keltner(
    memory: list[float], length: int, atr: int, ranges: float, high: float, low: float, close: float
) -> tuple[float, float, float]:
    middle = ema(memory, 0, length, close)
    distance = ranges * average_range(memory, EMA, atr, high, low, close)
    return middle + distance, middle, middle - distance


def _donchian(memory: list[float], length: int, high: float, low: float) -> tuple[float, float, float]:
    upper = rolling_max(memory, 0, length, high)
    lower = rolling_min(memory, sum_size(length), length, low)
    return upper, (upper + lower) / 2.0, lower


def _chandelier(
    memory: list[float], length: int, ranges: float, high: float, low: float, close: float
) -> tuple[float, float]:
    distance = ranges * average_range(memory, 0, length, high, low, close)
    highest = rolling_max(memory, RANGE + RMA, length, high)
    return highest - distance, rolling_min(memory, RANGE + RMA + sum_size(length), length, low) + distance


def _stddev(memory: list[float], length: int, close: float) -> float:
    _mean, variance = rolling_moments(memory, 0, length, close)
    return sqrt(variance) if variance == variance else nan


def _variance(memory: list[float], length: int, close: float) -> float:
    _mean, variance = rolling_moments(memory, 0, length, close)
    return variance


def log_ratio(value: float, base: float) -> float:
    """ln(value / base); NaN where either is not above 0 or unknown."""
    return logarithm(value / base) if value > 0.0 and base > 0.0 else nan


def _realised(memory: list[float], length: int, bars_per_year: float, close: float) -> float:
    moved = log_ratio(close, previous(memory, 0, close))
    mean = rolling_mean(memory, PREVIOUS, length, moved * moved)
    return sqrt(mean * bars_per_year) if mean == mean else nan


def _historical(memory: list[float], length: int, bars_per_year: float, close: float) -> float:
    _mean, variance = rolling_moments(memory, PREVIOUS, length, log_ratio(close, previous(memory, 0, close)))
    return sqrt(variance * length / (length - 1) * bars_per_year) if variance == variance else nan


def _parkinson(memory: list[float], length: int, bars_per_year: float, high: float, low: float) -> float:
    span = log_ratio(high, low)
    mean = rolling_mean(memory, 0, length, span * span / FOUR_LN_2)
    return sqrt(mean * bars_per_year) if mean == mean else nan


def _garman_klass(
    memory: list[float], length: int, bars_per_year: float, open: float, high: float, low: float, close: float
) -> float:
    span = log_ratio(high, low)
    moved = log_ratio(close, open)
    mean = rolling_mean(memory, 0, length, 0.5 * span * span - TWO_LN_2_LESS_1 * moved * moved)
    return sqrt(max(mean, 0.0) * bars_per_year) if mean == mean else nan


def _rogers_satchell_term(open: float, high: float, low: float, close: float) -> float:
    up, down, moved = log_ratio(high, open), log_ratio(low, open), log_ratio(close, open)
    return up * (up - moved) + down * (down - moved)


def _rogers_satchell(
    memory: list[float], length: int, bars_per_year: float, open: float, high: float, low: float, close: float
) -> float:
    mean = rolling_mean(memory, 0, length, _rogers_satchell_term(open, high, low, close))
    return sqrt(max(mean, 0.0) * bars_per_year) if mean == mean else nan


def _yang_zhang(
    memory: list[float], length: int, bars_per_year: float, open: float, high: float, low: float, close: float
) -> float:
    """Memory: previous close; moments of the moves from close to open and from open to close; sum of the rest."""
    overnight = log_ratio(open, previous(memory, 0, close))
    is_first = overnight != overnight
    moved = nan if is_first else log_ratio(close, open)
    rest = nan if is_first else _rogers_satchell_term(open, high, low, close)
    _mean, between = rolling_moments(memory, PREVIOUS, length, overnight)
    _mean, within = rolling_moments(memory, PREVIOUS + moments_size(length), length, moved)
    mean = rolling_mean(memory, PREVIOUS + 2 * moments_size(length), length, rest)
    if mean != mean:
        return nan
    share = 0.34 / (1.34 + (length + 1.0) / (length - 1.0))
    sample = length / (length - 1.0)
    variance = sample * between + share * sample * within + (1.0 - share) * max(mean, 0.0)
    return sqrt(variance * bars_per_year)


def _ulcer(memory: list[float], length: int, close: float) -> float:
    highest = rolling_max(memory, 0, length, close)
    fall = 100.0 * (close - highest) / highest if highest != 0.0 else 0.0
    mean = rolling_mean(memory, sum_size(length), length, fall * fall)
    return sqrt(mean) if mean == mean else nan


def _choppiness(memory: list[float], length: int, high: float, low: float, close: float) -> float:
    path = rolling_sum(memory, RANGE, length, true_range(memory, 0, high, low, close))
    highest = rolling_max(memory, RANGE + sum_size(length), length, high)
    lowest = rolling_min(memory, RANGE + 2 * sum_size(length), length, low)
    if path != path:
        return nan
    if highest <= lowest or path <= 0.0:
        return 100.0
    return 100.0 * logarithm(path / (highest - lowest)) / logarithm(float(length))


def _mass(memory: list[float], length: int, smooth: int, high: float, low: float) -> float:
    once = ema(memory, 0, smooth, high - low)
    twice = ema(memory, EMA, smooth, once)
    ratio = nan
    if twice == twice:
        ratio = once / twice if twice > 0.0 else 1.0
    return rolling_sum(memory, 2 * EMA, length, ratio)


# ---- table -------------------------------------------------------------------------------------------------------

_YEAR = factor("bars_per_year", 365.0, 1.0, 1e8, "bars in a year: 365 of days, 8760 of hours; 1 does not annualise")
_OHLC = ("open", *HLC)

VOLATILITY: tuple[Indicator, ...] = (
    Indicator(
        "tr", Family.VOLATILITY, "True range: the bar's range, together with the previous close.", WILDER,
        HLC, ("tr",), (), _tr, lambda: RANGE, lambda: 2,
    ),
    Indicator(
        "atr", Family.VOLATILITY, "Average true range.", WILDER,
        HLC, ("atr",), (length(14, 1),), _atr, lambda _length: RANGE + RMA, lambda length: length + 1, Recall.FADING,
    ),
    Indicator(
        "natr", Family.VOLATILITY, "Average true range in percent of the close.",
        "J. Forman, Cross-Market Evaluations with Normalized Average True Range, Stocks & Commodities, 2006",
        HLC, ("natr",), (length(14, 1),), _natr, lambda _length: RANGE + RMA, lambda length: length + 1, Recall.FADING,
    ),
    Indicator(
        "bollinger", Family.VOLATILITY, "Bands of standard deviations about the mean, where the close lies, and width.",
        "J. Bollinger, Bollinger on Bollinger Bands, 2001",
        CLOSE, ("upper", "middle", "lower", "percent", "width"),
        (length(20), factor("deviations", 2.0, 0.1, 20.0, "distance of the bands in standard deviations")),
        _bollinger, lambda length, _deviations: moments_size(length), lambda length, _deviations: length,
    ),
    Indicator(
        "keltner", Family.VOLATILITY, "Bands of average true ranges about an exponential average.",
        "L. B. Raschke, after C. W. Keltner, How to Make Money in Commodities, 1960",
        HLC, ("upper", "middle", "lower"),
        (
            length(20, 1, "length of the average"),
            length(10, 1, "length of the average true range", "atr"),
            factor("ranges", 2.0, 0.1, 20.0, "distance of the bands in ranges"),
        ),
        _keltner, lambda _length, _atr, _ranges: EMA + RANGE + RMA, lambda length, atr, _ranges: max(length, atr + 1),
        Recall.FADING, "Its KC averages typical prices, not closes.",
    ),
    Indicator(
        "donchian", Family.VOLATILITY, "Highest high and lowest low of the last bars, this one among them, and middle.",
        "R. D. Donchian, Financial Analysts Journal 16:6, 1960",
        ("high", "low"), ("upper", "middle", "lower"), (length(20, 1),), _donchian,
        lambda length: 2 * sum_size(length), lambda length: length,
    ),
    Indicator(
        "chandelier", Family.VOLATILITY, "Stops some ranges below the highest high (long) and above the lowest low.",
        "C. Le Beau, in A. Elder, Come into My Trading Room, 2002",
        HLC, ("long", "short"), (length(22, 1), factor("ranges", 3.0, 0.1, 20.0, "distance of the stops in ranges")),
        _chandelier, lambda length, _ranges: RANGE + RMA + 2 * sum_size(length), lambda length, _ranges: length + 1,
        Recall.FADING,
    ),
    Indicator(
        "stddev", Family.VOLATILITY, "Standard deviation of the last closes (divided by their number).", PEARSON,
        CLOSE, ("stddev",), (length(20, 1),), _stddev, moments_size, lambda length: length,
    ),
    Indicator(
        "variance", Family.VOLATILITY, "Variance of the last closes (divided by their number).", PEARSON,
        CLOSE, ("variance",), (length(20, 1),), _variance, moments_size, lambda length: length,
    ),
    Indicator(
        "realised_volatility", Family.VOLATILITY, "Root of the mean squared logarithmic change, a year.",
        "T. G. Andersen and T. Bollerslev, International Economic Review 39:4, 1998",
        CLOSE, ("realised_volatility",), (length(20, 1), _YEAR), _realised,
        lambda length, _year: PREVIOUS + sum_size(length), lambda length, _year: length + 1,
    ),
    Indicator(
        "historical_volatility", Family.VOLATILITY, "Sample standard deviation of logarithmic changes, a year.",
        PEARSON,
        CLOSE, ("historical_volatility",), (length(20), _YEAR), _historical,
        lambda length, _year: PREVIOUS + moments_size(length), lambda length, _year: length + 1,
    ),
    Indicator(
        "parkinson", Family.VOLATILITY, "Volatility from the bars' ranges, a year.",
        "M. Parkinson, Journal of Business 53:1, 1980",
        ("high", "low"), ("parkinson",), (length(20, 1), _YEAR), _parkinson,
        lambda length, _year: sum_size(length), lambda length, _year: length,
    ),
    Indicator(
        "garman_klass", Family.VOLATILITY, "Volatility from the bars' ranges and changes, a year; knows no gaps.",
        "M. B. Garman and M. J. Klass, Journal of Business 53:1, 1980",
        _OHLC, ("garman_klass",), (length(20, 1), _YEAR), _garman_klass,
        lambda length, _year: sum_size(length), lambda length, _year: length,
    ),
    Indicator(
        "rogers_satchell", Family.VOLATILITY, "Volatility from the bars, a year, whatever the drift; knows no gaps.",
        "L. C. G. Rogers and S. E. Satchell, Annals of Applied Probability 1:4, 1991",
        _OHLC, ("rogers_satchell",), (length(20, 1), _YEAR), _rogers_satchell,
        lambda length, _year: sum_size(length), lambda length, _year: length,
    ),
    Indicator(
        "yang_zhang", Family.VOLATILITY, "Volatility from bars and the gaps between them, a year, whatever the drift.",
        "D. Yang and Q. Zhang, Journal of Business 73:3, 2000",
        _OHLC, ("yang_zhang",), (length(20), _YEAR), _yang_zhang,
        lambda length, _year: PREVIOUS + 2 * moments_size(length) + sum_size(length), lambda length, _year: length + 1,
    ),
    Indicator(
        "ulcer", Family.VOLATILITY, "Ulcer index: root mean square of the fall below the recent high, in percent.",
        "P. G. Martin and B. B. McCann, The Investor's Guide to Fidelity Funds, 1989",
        CLOSE, ("ulcer",), (length(14, 1),), _ulcer, lambda length: 2 * sum_size(length), lambda length: 2 * length - 1,
    ),
    Indicator(
        "choppiness", Family.VOLATILITY, "Choppiness index: way gone to range covered, logarithmic; 100 is sideways.",
        "E. W. Dreiss, 1993",
        HLC, ("choppiness",), (length(14),), _choppiness, lambda length: RANGE + 3 * sum_size(length),
        lambda length: length + 1,
    ),
    Indicator(
        "mass", Family.VOLATILITY, "Mass index: sum of the ratios of a smoothed range to its own average.",
        "D. Dorsey, The Mass Index, Stocks & Commodities 10:6, 1992",
        ("high", "low"), ("mass",), (length(25, 1), length(9, 1, "length of the averages", "smooth")),
        _mass, lambda length, _smooth: 2 * EMA + sum_size(length), lambda length, smooth: length + 2 * smooth - 2,
        Recall.FADING,
    ),
)  # fmt: skip
