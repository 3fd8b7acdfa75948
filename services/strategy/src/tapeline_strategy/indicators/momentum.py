"""Momentum: how fast price moves, and how far it has come in its recent range.

Where a ratio has nothing to divide by (no price moved, no range), it is the middle of its scale: 50 of 0 to 100, 0 of
what lies about 0. TA-Lib says 0 there, which on a scale from 0 to 100 reads as a signal.
"""

from __future__ import annotations

from math import nan

from tapeline_strategy.indicators.blocks import (
    EMA,
    PREVIOUS,
    RMA,
    average_pair,
    change,
    delay_size,
    delayed,
    ema,
    previous,
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
    WILDER,
    Family,
    Indicator,
    Recall,
    factor,
    fast_below_slow,
    length,
)
from tapeline_strategy.indicators.transcendental import logarithm

APPEL = "G. Appel, The Moving Average Convergence-Divergence Method, 1979"
LANE = "G. C. Lane, Lane's Stochastics, Stocks & Commodities 2:3, 1984"
STRENGTH, SPREAD = PREVIOUS + 2 * RMA, 1 + 2 * EMA
"""Memory of ``strength`` and of ``average_pair``."""


def strength(memory: list[float], at: int, length: int, value: float) -> float:
    """Relative strength index of a series, from 0 to 100: Wilder's average rise as a share of average rise and fall."""
    moved = change(memory, at, value)
    rise = rma(memory, at + PREVIOUS, length, moved if not moved < 0.0 else 0.0)
    fall = rma(memory, at + PREVIOUS + RMA, length, -moved if not moved > 0.0 else 0.0)
    total = rise + fall
    if total != total:
        return nan
    return 100.0 * rise / total if total > 0.0 else 50.0


def ranked(memory: list[float], at: int, length: int, value: float) -> float:
    """Percentage of the ``length`` values before this one that are below it. Memory: ``window_size(length + 1)``."""
    first = pushed(memory, at, length + 1, value)
    if first < 0:
        return nan
    below = 0
    for place in range(first, first + length):
        if memory[place] < value:
            below += 1
    return 100.0 * below / length


def position(memory: list[float], at: int, length: int, high: float, low: float, close: float) -> float:
    """Where the close lies between the lowest low (0) and the highest high (100). Memory: twice ``sum_size``."""
    highest = rolling_max(memory, at, length, high)
    lowest = rolling_min(memory, at + sum_size(length), length, low)
    span = highest - lowest
    if span != span:
        return nan
    return 100.0 * (close - lowest) / span if span > 0.0 else 50.0


def _rsi(memory: list[float], length: int, close: float) -> float:
    return strength(memory, 0, length, close)


def _stoch_rsi(
    memory: list[float], length: int, window: int, smooth: int, signal: int, close: float
) -> tuple[float, float]:
    index = strength(memory, 0, length, close)
    at = STRENGTH + 2 * sum_size(window)
    quick = rolling_mean(memory, at, smooth, position(memory, STRENGTH, window, index, index, index))
    return quick, rolling_mean(memory, at + sum_size(smooth), signal, quick)


def _stoch(
    memory: list[float], length: int, smooth: int, signal: int, high: float, low: float, close: float
) -> tuple[float, float]:
    at = 2 * sum_size(length)
    quick = rolling_mean(memory, at, smooth, position(memory, 0, length, high, low, close))
    return quick, rolling_mean(memory, at + sum_size(smooth), signal, quick)


def _stoch_fast(
    memory: list[float], length: int, signal: int, high: float, low: float, close: float
) -> tuple[float, float]:
    quick = position(memory, 0, length, high, low, close)
    return quick, rolling_mean(memory, 2 * sum_size(length), signal, quick)


def _willr(memory: list[float], length: int, high: float, low: float, close: float) -> float:
    return position(memory, 0, length, high, low, close) - 100.0


def _cci(memory: list[float], length: int, high: float, low: float, close: float) -> float:
    price = (high + low + close) / 3.0
    first = pushed(memory, 0, length, price)
    if first < 0:
        return nan
    total = 0.0
    for place in range(first, first + length):
        total += memory[place] - price
    mean = total / length
    spread = 0.0
    for place in range(first, first + length):
        spread += abs(memory[place] - price - mean)
    return -mean / (0.015 * spread / length) if spread > 0.0 else 0.0


def _cmo(memory: list[float], length: int, close: float) -> float:
    moved = change(memory, 0, close)
    total = rolling_sum(memory, PREVIOUS, length, moved)
    path = rolling_sum(memory, PREVIOUS + sum_size(length), length, abs(moved))
    if path != path:
        return nan
    return 100.0 * total / path if path > 0.0 else 0.0


def rate_of_change(memory: list[float], at: int, length: int, value: float) -> float:
    """Change over ``length`` values in percent; from 0 it is 0. Memory as ``delayed``."""
    before = delayed(memory, at, length, value)
    if before != before:
        return nan
    return 100.0 * (value - before) / before if before != 0.0 else 0.0


def _roc(memory: list[float], length: int, close: float) -> float:
    return rate_of_change(memory, 0, length, close)


def _mom(memory: list[float], length: int, close: float) -> float:
    return close - delayed(memory, 0, length, close)


def _apo(memory: list[float], fast: int, slow: int, close: float) -> float:
    return ema(memory, 0, fast, close) - ema(memory, EMA, slow, close)


def _ppo(memory: list[float], fast: int, slow: int, signal: int, close: float) -> tuple[float, float, float]:
    late = ema(memory, EMA, slow, close)
    line = 100.0 * (ema(memory, 0, fast, close) - late) / late if late != 0.0 else 0.0
    average = ema(memory, 2 * EMA, signal, line)
    return line, average, line - average


def _macd(memory: list[float], fast: int, slow: int, signal: int, close: float) -> tuple[float, float, float]:
    quick, late = average_pair(memory, 0, fast, slow, close)
    line = quick - late
    average = ema(memory, SPREAD, signal, line)
    return line, average, line - average


def _trix(memory: list[float], length: int, signal: int, close: float) -> tuple[float, float]:
    third = ema(memory, 2 * EMA, length, ema(memory, EMA, length, ema(memory, 0, length, close)))
    rate = rate_of_change(memory, 4 * EMA, 1, third)
    return rate, ema(memory, 3 * EMA, signal, rate)


def _tsi(memory: list[float], fast: int, slow: int, signal: int, close: float) -> tuple[float, float]:
    moved = change(memory, 0, close)
    up = ema(memory, 4, fast, ema(memory, 2, slow, moved))
    path = ema(memory, 8, fast, ema(memory, 6, slow, abs(moved)))
    index = nan
    if path == path:
        index = 100.0 * up / path if path > 0.0 else 0.0
    return index, ema(memory, 10, signal, index)


def _pressure(memory: list[float], at: int, length: int, bought: float, span: float) -> float:
    """Buying pressure as a share of the true range."""
    total = rolling_sum(memory, at, length, bought)
    path = rolling_sum(memory, at + sum_size(length), length, span)
    if path != path:
        return nan
    return total / path if path > 0.0 else 0.5


def _uo(memory: list[float], short: int, middle: int, long: int, high: float, low: float, close: float) -> float:
    before = previous(memory, 0, close)
    bought = close - min(low, before) if before == before else nan
    span = max(high, before) - min(low, before) if before == before else nan
    first = _pressure(memory, 2, short, bought, span)
    second = _pressure(memory, 2 + 2 * sum_size(short), middle, bought, span)
    third = _pressure(memory, 2 + 2 * sum_size(short) + 2 * sum_size(middle), long, bought, span)
    return 100.0 * (4.0 * first + 2.0 * second + third) / 7.0


def _bop(_memory: list[float], open: float, high: float, low: float, close: float) -> float:
    return (close - open) / (high - low) if high > low else 0.0


def _ao(memory: list[float], fast: int, slow: int, high: float, low: float) -> float:
    price = (high + low) / 2.0
    return rolling_mean(memory, 0, fast, price) - rolling_mean(memory, sum_size(fast), slow, price)


def _smoothed_rate(memory: list[float], at: int, rate: int, average: int, value: float) -> float:
    return rolling_mean(memory, at + delay_size(rate), average, rate_of_change(memory, at, rate, value))


def _kst(
    memory: list[float],
    rate_1: int,
    rate_2: int,
    rate_3: int,
    rate_4: int,
    average_1: int,
    average_2: int,
    average_3: int,
    average_4: int,
    signal: int,
    close: float,
) -> tuple[float, float]:
    second = delay_size(rate_1) + sum_size(average_1)
    third = second + delay_size(rate_2) + sum_size(average_2)
    fourth = third + delay_size(rate_3) + sum_size(average_3)
    last = fourth + delay_size(rate_4) + sum_size(average_4)
    line = (
        _smoothed_rate(memory, 0, rate_1, average_1, close)
        + 2.0 * _smoothed_rate(memory, second, rate_2, average_2, close)
        + 3.0 * _smoothed_rate(memory, third, rate_3, average_3, close)
        + 4.0 * _smoothed_rate(memory, fourth, rate_4, average_4, close)
    )
    return line, rolling_mean(memory, last, signal, line)


def _dpo(memory: list[float], length: int, close: float) -> float:
    mean = rolling_mean(memory, 0, length, close)
    return delayed(memory, sum_size(length), length // 2 + 1, close) - mean


def _rvi(memory: list[float], length: int, open: float, high: float, low: float, close: float) -> tuple[float, float]:
    """Memory: three windows of four (moves, ranges, index), then two sums."""
    total = rolling_sum(memory, 3 * window_size(4), length, _symmetric(memory, 0, close - open))
    ranges = _symmetric(memory, window_size(4), high - low)
    path = rolling_sum(memory, 3 * window_size(4) + sum_size(length), length, ranges)
    index = nan
    if path == path:
        index = total / path if path > 0.0 else 0.0
    return index, _symmetric(memory, 2 * window_size(4), index)


def _symmetric(memory: list[float], at: int, value: float) -> float:
    """Mean of the last four values with the weights 1, 2, 2, 1."""
    first = pushed(memory, at, 4, value)
    if first < 0:
        return nan
    return (memory[first] + 2.0 * memory[first + 1] + 2.0 * memory[first + 2] + memory[first + 3]) / 6.0


def _connors_rsi(memory: list[float], length: int, streak_length: int, rank: int, close: float) -> float:
    """Memory: streak; then strengths of closes and streaks, the change, its window."""
    if close != close:
        return nan
    at = 1 + 2 * STRENGTH
    rate = rate_of_change(memory, at, 1, close)
    moved = rate if rate == rate else 0.0
    if moved > 0.0:
        memory[0] = memory[0] + 1.0 if memory[0] > 0.0 else 1.0
    elif moved < 0.0:
        memory[0] = memory[0] - 1.0 if memory[0] < 0.0 else -1.0
    else:
        memory[0] = 0.0
    prices = strength(memory, 1, length, close)
    streaks = strength(memory, 1 + STRENGTH, streak_length, memory[0])
    return (prices + streaks + ranked(memory, at + delay_size(1), rank, rate)) / 3.0


def _qqe(memory: list[float], length: int, smooth: int, factor: float, close: float) -> tuple[float, float]:
    """Memory: trailing line, whether it has begun; strength, its average, change, two averages of it, previous."""
    at = 2 + STRENGTH
    index = ema(memory, at, smooth, strength(memory, 2, length, close))
    moved = abs(change(memory, at + 2, index))
    before = previous(memory, at + 8, index)
    distance = factor * rma(memory, at + 6, length, rma(memory, at + 4, length, moved))
    if distance != distance:
        return index, nan
    line = memory[0]
    if memory[1] == 0.0:
        memory[1] = 1.0
        line = index - distance
    elif index > line:
        line = max(line, index - distance) if before > line else index - distance
    elif index < line:
        line = min(line, index + distance) if before < line else index + distance
    memory[0] = line
    return index, line


def _coppock(memory: list[float], short: int, long: int, average: int, close: float) -> float:
    at = delay_size(short)
    total = rate_of_change(memory, 0, short, close) + rate_of_change(memory, at, long, close)
    return weighted_mean(memory, at + delay_size(long), average, total)


def _fisher(memory: list[float], length: int, high: float, low: float) -> tuple[float, float]:
    """Memory: smoothed place in the range from -1 to 1, transform; then the extremes."""
    price = (high + low) / 2.0
    place = position(memory, 2, length, price, price, price)
    if place != place:
        return nan, nan
    memory[0] = 0.33 * (place / 50.0 - 1.0) + 0.67 * memory[0]
    memory[0] = max(-0.999, min(0.999, memory[0]))
    before = memory[1]
    memory[1] = 0.5 * logarithm((1.0 + memory[0]) / (1.0 - memory[0])) + 0.5 * before
    return memory[1], before


# ---- table -------------------------------------------------------------------------------------------------------

_FADING = Recall.FADING
_FAST, _SLOW = length(12, 1, "length of the fast average", "fast"), length(26, 2, "length of the slow average", "slow")
_SIGNAL = length(9, 1, "length of the signal's average", "signal")
_NEUTRAL = "Where nothing moved it is neutral; there it is 0."
_K_EARLIER = "There k begins with d. " + _NEUTRAL

MOMENTUM: tuple[Indicator, ...] = (
    Indicator(
        "rsi", Family.MOMENTUM, "Relative strength index: average rise as a share of average rise and fall, 0 to 100.",
        WILDER, CLOSE, ("rsi",), (length(14, 1),), _rsi, lambda _length: STRENGTH, lambda length: length + 1, _FADING,
        _NEUTRAL,
    ),
    Indicator(
        "stoch_rsi", Family.MOMENTUM, "Where the rsi lies in its own recent range, 0 to 100, smoothed, and a signal.",
        "T. S. Chande and S. Kroll, The New Technical Trader, 1994",
        CLOSE, ("k", "d"),
        (
            length(14, 1, "length of the rsi"),
            length(14, 1, "length of the range", "window"),
            length(3, 1, "length of the mean that is k", "smooth"),
            length(3, 1, "length of the mean of k that is d", "signal"),
        ),
        _stoch_rsi, lambda _length, window, smooth, signal: STRENGTH + 2 * sum_size(window) + sum_size(smooth)
        + sum_size(signal),
        lambda length, window, smooth, signal: length + window + smooth + signal - 2, _FADING,
        "Its STOCHRSI does not smooth k (smooth=1). " + _K_EARLIER,
    ),
    Indicator(
        "stoch", Family.MOMENTUM, "Slow stochastic: where the close lies in the recent range, smoothed, and a signal.",
        LANE, HLC, ("k", "d"),
        (
            length(14, 1, "length of the range"),
            length(3, 1, "length of the mean that is k", "smooth"),
            length(3, 1, "length of the mean of k that is d", "signal"),
        ),
        _stoch, lambda length, smooth, signal: 2 * sum_size(length) + sum_size(smooth) + sum_size(signal),
        lambda length, smooth, signal: length + smooth + signal - 2, difference=_K_EARLIER,
    ),
    Indicator(
        "stoch_fast", Family.MOMENTUM, "Fast stochastic: where the close lies in the recent range, and a signal.",
        LANE, HLC, ("k", "d"),
        (length(14, 1, "length of the range"), length(3, 1, "length of the mean of k that is d", "signal")),
        _stoch_fast, lambda length, signal: 2 * sum_size(length) + sum_size(signal),
        lambda length, signal: length + signal - 1, difference=_K_EARLIER,
    ),
    Indicator(
        "willr", Family.MOMENTUM, "Williams %R: how far the close lies below the highest high, 0 to -100.",
        "L. R. Williams, How I Made One Million Dollars, 1973",
        HLC, ("willr",), (length(14, 1),), _willr, lambda length: 2 * sum_size(length), lambda length: length,
        difference=_NEUTRAL,
    ),
    Indicator(
        "cci", Family.MOMENTUM, "Commodity channel index: distance from the mean in 0.015 mean deviations.",
        "D. R. Lambert, Commodities 9:10, 1980",
        HLC, ("cci",), (length(20),), _cci, window_size, lambda length: length,
    ),
    Indicator(
        "cmo", Family.MOMENTUM, "Chande momentum oscillator: net change as a share of the way gone, -100 to 100.",
        "T. S. Chande and S. Kroll, The New Technical Trader, 1994",
        CLOSE, ("cmo",), (length(14, 1),), _cmo, lambda length: PREVIOUS + 2 * sum_size(length),
        lambda length: length + 1,
        difference="Plain sums as published, its CMOU; its CMO has Wilder's averages, which is 2·rsi - 100.",
    ),
    Indicator(
        "roc", Family.MOMENTUM, "Rate of change: change over so many bars in percent.", ACHELIS,
        CLOSE, ("roc",), (length(10, 1),), _roc, delay_size, lambda length: length + 1,
    ),
    Indicator(
        "mom", Family.MOMENTUM, "Momentum: change over so many bars.", ACHELIS,
        CLOSE, ("mom",), (length(10, 1),), _mom, delay_size, lambda length: length + 1,
    ),
    Indicator(
        "apo", Family.MOMENTUM, "Absolute price oscillator: a fast average less a slow one.", APPEL,
        CLOSE, ("apo",), (_FAST, _SLOW), _apo, lambda _fast, _slow: 2 * EMA, lambda _fast, slow: slow, _FADING,
        "Exponential averages (its matype=1).", fast_below_slow,
    ),
    Indicator(
        "ppo", Family.MOMENTUM, "Percentage price oscillator: a fast average less a slow one in percent of it.", APPEL,
        CLOSE, ("ppo", "signal", "histogram"), (_FAST, _SLOW, _SIGNAL), _ppo,
        lambda _fast, _slow, _signal: 3 * EMA, lambda _fast, slow, signal: slow + signal - 1, _FADING,
        "Exponential averages (its matype=1).", fast_below_slow,
    ),
    Indicator(
        "macd", Family.MOMENTUM, "A fast average less a slow one, its own average (signal), and their difference.",
        APPEL,
        CLOSE, ("macd", "signal", "histogram"), (_FAST, _SLOW, _SIGNAL), _macd,
        lambda _fast, _slow, _signal: SPREAD + EMA, lambda _fast, slow, signal: slow + signal - 1, _FADING,
        "There the line begins with the signal. In both the fast average begins where the slow one does.",
        fast_below_slow,
    ),
    Indicator(
        "trix", Family.MOMENTUM, "Change of a triple exponential average in percent, and a signal.",
        "J. K. Hutson, Good Trix, Stocks & Commodities 1:5, 1983",
        CLOSE, ("trix", "signal"), (length(15, 1), _SIGNAL), _trix, lambda _length, _signal: 4 * EMA + delay_size(1),
        lambda length, signal: 3 * length - 2 + signal, _FADING,
    ),
    Indicator(
        "tsi", Family.MOMENTUM, "True strength index: twice smoothed change as a share of its size, -100 to 100.",
        "W. Blau, True Strength Index, Stocks & Commodities 9:11, 1991",
        CLOSE, ("tsi", "signal"),
        (
            length(13, 1, "length of the second average", "fast"),
            length(25, 2, "length of the first average", "slow"),
            length(13, 1, "length of the signal's average", "signal"),
        ),
        _tsi, lambda _fast, _slow, _signal: PREVIOUS + 5 * EMA, lambda fast, slow, signal: fast + slow + signal - 1,
        _FADING, check=fast_below_slow,
    ),
    Indicator(
        "uo", Family.MOMENTUM, "Ultimate oscillator: buying pressure over three lengths, weighted 4, 2, 1; 0 to 100.",
        "L. Williams, The Ultimate Oscillator, Stocks & Commodities 3:4, 1985",
        HLC, ("uo",),
        (
            length(7, 1, "shortest length", "short"),
            length(14, 1, "middle length", "middle"),
            length(28, 1, "longest length", "long"),
        ),
        _uo, lambda short, middle, long: PREVIOUS + 2 * (sum_size(short) + sum_size(middle) + sum_size(long)),
        lambda short, middle, long: max(short, middle, long) + 1, difference=_NEUTRAL,
    ),
    Indicator(
        "bop", Family.MOMENTUM, "Balance of power: the bar's change as a share of its range, -1 to 1.",
        "I. Livshin, Balance of Market Power, Stocks & Commodities 19:8, 2001",
        ("open", *HLC), ("bop",), (), _bop, lambda: 0, lambda: 1,
    ),
    Indicator(
        "ao", Family.MOMENTUM, "Awesome oscillator: a fast mean of the bars' middles less a slow one.",
        "B. Williams, New Trading Dimensions, 1998",
        ("high", "low"), ("ao",),
        (length(5, 1, "length of the fast mean", "fast"), length(34, 2, "length of the slow mean", "slow")),
        _ao, lambda fast, slow: sum_size(fast) + sum_size(slow), lambda _fast, slow: slow, check=fast_below_slow,
    ),
    Indicator(
        "kst", Family.MOMENTUM, "Know Sure Thing: four smoothed rates of change, weighted 1 to 4, and a signal.",
        "M. J. Pring, Summed Rate of Change, Stocks & Commodities 10:9, 1992",
        CLOSE, ("kst", "signal"),
        (
            *(length(bars, 1, f"bars of rate {n}", f"rate_{n}") for n, bars in enumerate((10, 15, 20, 30), 1)),
            *(length(bars, 1, f"mean of rate {n}", f"average_{n}") for n, bars in enumerate((10, 10, 10, 15), 1)),
            _SIGNAL,
        ),
        _kst, lambda *lengths: sum(map(delay_size, lengths[:4])) + sum(map(sum_size, lengths[4:])),
        lambda *lengths: max(map(sum, zip(lengths[:4], lengths[4:8], strict=True))) + lengths[8] - 1,
    ),
    Indicator(
        "dpo", Family.MOMENTUM, "Detrended price: the close length / 2 + 1 bars ago less the mean of today.",
        ACHELIS, CLOSE, ("dpo",), (length(20),), _dpo, lambda length: sum_size(length) + delay_size(length // 2 + 1),
        lambda length: max(length, length // 2 + 2),
    ),
    Indicator(
        "coppock", Family.MOMENTUM, "Coppock curve: weighted average of the sum of two rates of change.",
        "E. S. C. Coppock, Barron's, 15 October 1962",
        CLOSE, ("coppock",),
        (
            length(11, 1, "bars of the short rate of change", "short"),
            length(14, 1, "bars of the long rate of change", "long"),
            length(10, 1, "length of the average", "average"),
        ),
        _coppock, lambda short, long, average: delay_size(short) + delay_size(long) + weighted_size(average),
        lambda short, long, average: max(short, long) + average,
    ),
    Indicator(
        "fisher", Family.MOMENTUM, "Fisher transform of where price lies in its recent range, and its last value.",
        "J. F. Ehlers, Using the Fisher Transform, Stocks & Commodities 20:11, 2002",
        ("high", "low"), ("fisher", "signal"), (length(9, 1),), _fisher, lambda length: 2 + 2 * sum_size(length),
        lambda length: length, _FADING,
    ),
    Indicator(
        "connors_rsi", Family.MOMENTUM, "Mean of a short rsi, the rsi of the streak, and the rank of the last change.",
        "L. Connors and C. Alvarez, An Introduction to ConnorsRSI, 2012",
        CLOSE, ("connors_rsi",),
        (
            length(3, 1, "length of the rsi of the close"),
            length(2, 1, "length of the rsi of the streak", "streak_length"),
            length(100, 1, "changes that the last one is ranked among", "rank"),
        ),
        _connors_rsi, lambda _length, _streak, rank: 1 + 2 * STRENGTH + delay_size(1) + window_size(rank + 1),
        lambda length, streak_length, rank: max(length + 1, streak_length + 1, rank + 2), _FADING,
    ),
    Indicator(
        "rvi", Family.MOMENTUM, "Relative vigor index: smoothed change of the bars as a share of their range.",
        "J. F. Ehlers, Relative Vigor Index, Stocks & Commodities 20:1, 2002",
        ("open", *HLC), ("rvi", "signal"), (length(10, 1),), _rvi,
        lambda length: 3 * window_size(4) + 2 * sum_size(length), lambda length: length + 6,
    ),
    Indicator(
        "qqe", Family.MOMENTUM, "A smoothed rsi, and a line that trails it by a multiple of its average change.",
        "Quantitative Qualitative Estimation, I. Livshin, Forex 2006",
        CLOSE, ("rsi", "trail"),
        (
            length(14, 1, "length of the rsi"),
            length(5, 1, "length of the average of the rsi", "smooth"),
            factor("factor", 4.236, 0.1, 20.0, "distance of the line in average changes"),
        ),
        _qqe, lambda _length, _smooth, _factor: 2 + STRENGTH + 5 * EMA,
        lambda length, smooth, _factor: 3 * length + smooth - 1, _FADING,
    ),
)  # fmt: skip
