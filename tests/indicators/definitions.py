"""Indicators as their formulas are written in books: whole windows, plain NumPy, nothing carried from bar to bar.

Slow and simple on purpose; of what TA-Lib has as well, TA-Lib is the witness instead.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats
from talib import abstract
from tests.indicators.bars import Columns, Floats

PER_YEAR = 365.0


def windows(values: Floats, length: int, rule: Callable[[Floats], Floats]) -> Floats:
    """A rule for each window of so many values (in rows), NaN where there is none; NaN stays out of windows."""
    result = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    if len(known) >= length:
        rows = np.lib.stride_tricks.sliding_window_view(values[known], length)
        result[known[length - 1 :]] = rule(rows)
    return result


def mean(values: Floats, length: int) -> Floats:
    return windows(values, length, lambda rows: rows.mean(axis=1))


def total(values: Floats, length: int) -> Floats:
    return windows(values, length, lambda rows: rows.sum(axis=1))


def highest(values: Floats, length: int) -> Floats:
    return windows(values, length, lambda rows: rows.max(axis=1))


def lowest(values: Floats, length: int) -> Floats:
    return windows(values, length, lambda rows: rows.min(axis=1))


def back(values: Floats, bars: int) -> Floats:
    result = np.full(len(values), np.nan)
    result[bars:] = values[: len(values) - bars]
    return result


def known(name: str, values: Floats, length: int) -> Floats:
    """TA-Lib's function of a series that begins with NaN."""
    result = np.full(len(values), np.nan)
    first = int(np.flatnonzero(~np.isnan(values))[0])
    result[first:] = abstract.Function(name)({"close": values[first:].copy()}, timeperiod=length)
    return result


def ema(values: Floats, length: int) -> Floats:
    return known("EMA", values, length)


def rate(values: Floats, bars: int) -> Floats:
    return 100.0 * (values / back(values, bars) - 1.0)


def atr(bars: Columns, length: int) -> Floats:
    return np.asarray(abstract.Function("ATR")(bars, timeperiod=length))


def true_range(bars: Columns) -> Floats:
    return np.asarray(abstract.Function("TRANGE")(bars))


def typical(bars: Columns) -> Floats:
    return (bars["high"] + bars["low"] + bars["close"]) / 3.0


# ---- averages ----------------------------------------------------------------------------------------------------


def alma(bars: Columns) -> list[Floats]:
    places = np.arange(9)
    weights = np.exp(-((places - 0.85 * 8) ** 2) / (2 * (9 / 6.0) ** 2))
    return [windows(bars["close"], 9, lambda rows: rows @ weights / weights.sum())]


def vwap(bars: Columns) -> list[Floats]:
    return [total(typical(bars) * bars["volume"], 20) / total(bars["volume"], 20)]


def session_vwap(bars: Columns) -> list[Floats]:
    price, middle, spread = typical(bars), [], []
    for bar in range(len(price)):
        day = slice(int(np.flatnonzero(bars["session"] == bars["session"][bar])[0]), bar + 1)
        middle.append(np.average(price[day], weights=bars["volume"][day]))
        squares = (price[day] - middle[-1]) ** 2
        spread.append(np.sqrt(np.average(squares, weights=bars["volume"][day])))
    return [np.array(middle), np.add(middle, spread), np.subtract(middle, spread)]


# ---- momentum ----------------------------------------------------------------------------------------------------


def stoch_rsi(bars: Columns) -> list[Floats]:
    index = known("RSI", bars["close"], 14)
    low, high = lowest(index, 14), highest(index, 14)
    k = mean(100.0 * (index - low) / (high - low), 3)
    return [k, mean(k, 3)]


def ppo(bars: Columns) -> list[Floats]:
    line = 100.0 * (ema(bars["close"], 12) / ema(bars["close"], 26) - 1.0)
    return [line, ema(line, 9), line - ema(line, 9)]


def trix(bars: Columns) -> list[Floats]:
    line = known("TRIX", bars["close"], 15)
    return [line, ema(line, 9)]


def tsi(bars: Columns) -> list[Floats]:
    moved = bars["close"] - back(bars["close"], 1)
    line = 100.0 * ema(ema(moved, 25), 13) / ema(ema(np.abs(moved), 25), 13)
    return [line, ema(line, 13)]


def kst(bars: Columns) -> list[Floats]:
    pairs = ((10, 10), (15, 10), (20, 10), (30, 15))
    terms = [weight * mean(rate(bars["close"], r), m) for weight, (r, m) in enumerate(pairs, 1)]
    line = np.sum(terms, axis=0)
    return [line, mean(line, 9)]


def fisher(bars: Columns) -> list[Floats]:
    price = (bars["high"] + bars["low"]) / 2.0
    low, high = lowest(price, 9), highest(price, 9)
    place = 2.0 * (price - low) / (high - low) - 1.0
    smooth, line, before, result = 0.0, 0.0, [], []
    for each in place[8:]:
        smooth = float(np.clip(0.33 * each + 0.67 * smooth, -0.999, 0.999))
        before.append(line)
        line = float(np.arctanh(smooth)) + 0.5 * line
        result.append(line)
    return [np.array([np.nan] * 8 + result), np.array([np.nan] * 8 + before)]


def connors_rsi(bars: Columns) -> list[Floats]:
    moved = rate(bars["close"], 1)
    streak, streaks = 0, []
    for each in moved:
        streak = max(streak, 0) + 1 if each > 0 else min(streak, 0) - 1 if each < 0 else 0
        streaks.append(float(streak))
    rank = windows(moved, 101, lambda rows: 100.0 * (rows[:, :-1] < rows[:, -1:]).mean(axis=1))
    return [(known("RSI", bars["close"], 3) + known("RSI", np.array(streaks), 2) + rank) / 3.0]


def _symmetric(values: Floats) -> Floats:
    return windows(values, 4, lambda rows: rows @ np.array([1.0, 2.0, 2.0, 1.0]) / 6.0)


def rvi(bars: Columns) -> list[Floats]:
    moves, spans = _symmetric(bars["close"] - bars["open"]), _symmetric(bars["high"] - bars["low"])
    line = total(moves, 10) / total(spans, 10)
    return [line, _symmetric(line)]


def qqe(bars: Columns) -> list[Floats]:
    index = ema(known("RSI", bars["close"], 14), 5)
    distance = 4.236 * known("RMA", known("RMA", np.abs(index - back(index, 1)), 14), 14)
    line, trail = np.nan, []
    for bar in range(len(index)):
        if np.isnan(distance[bar]):
            trail.append(np.nan)
            continue
        lower, upper = index[bar] - distance[bar], index[bar] + distance[bar]
        if np.isnan(line):
            line = lower
        elif index[bar] > line:
            line = max(line, lower) if index[bar - 1] > line else lower
        elif index[bar] < line:
            line = min(line, upper) if index[bar - 1] < line else upper
        trail.append(line)
    return [index, np.array(trail)]


# ---- volatility --------------------------------------------------------------------------------------------------


def bollinger(bars: Columns) -> list[Floats]:
    middle = mean(bars["close"], 20)
    spread = 2.0 * windows(bars["close"], 20, lambda rows: rows.std(axis=1))
    upper, lower = middle + spread, middle - spread
    return [upper, middle, lower, (bars["close"] - lower) / (upper - lower), (upper - lower) / middle]


def keltner(bars: Columns) -> list[Floats]:
    middle, distance = ema(bars["close"], 20), 2.0 * atr(bars, 10)
    return [middle + distance, middle, middle - distance]


def chandelier(bars: Columns) -> list[Floats]:
    distance = 3.0 * atr(bars, 22)
    return [highest(bars["high"], 22) - distance, lowest(bars["low"], 22) + distance]


def _log_change(bars: Columns) -> Floats:
    return np.log(bars["close"] / back(bars["close"], 1))


def realised_volatility(bars: Columns) -> list[Floats]:
    return [np.sqrt(PER_YEAR * mean(_log_change(bars) ** 2, 20))]


def historical_volatility(bars: Columns) -> list[Floats]:
    return [np.sqrt(PER_YEAR) * windows(_log_change(bars), 20, lambda rows: rows.std(axis=1, ddof=1))]


def parkinson(bars: Columns) -> list[Floats]:
    return [np.sqrt(PER_YEAR * mean(np.log(bars["high"] / bars["low"]) ** 2, 20) / (4.0 * np.log(2.0)))]


def garman_klass(bars: Columns) -> list[Floats]:
    span, moved = np.log(bars["high"] / bars["low"]), np.log(bars["close"] / bars["open"])
    return [np.sqrt(PER_YEAR * mean(0.5 * span**2 - (2.0 * np.log(2.0) - 1.0) * moved**2, 20))]


def _rogers_satchell(bars: Columns) -> Floats:
    up, down = np.log(bars["high"] / bars["open"]), np.log(bars["low"] / bars["open"])
    moved = np.log(bars["close"] / bars["open"])
    return up * (up - moved) + down * (down - moved)


def rogers_satchell(bars: Columns) -> list[Floats]:
    return [np.sqrt(PER_YEAR * mean(_rogers_satchell(bars), 20))]


def yang_zhang(bars: Columns) -> list[Floats]:
    def sample(values: Floats) -> Floats:
        return windows(values, 20, lambda rows: rows.var(axis=1, ddof=1))

    share = 0.34 / (1.34 + 21.0 / 19.0)
    between = sample(np.log(bars["open"] / back(bars["close"], 1)))
    within = sample(np.log(bars["close"] / bars["open"]))
    rest = mean(_rogers_satchell(bars), 20)
    return [np.sqrt(PER_YEAR * (between + share * within + (1.0 - share) * rest))]


def ulcer(bars: Columns) -> list[Floats]:
    return [np.sqrt(mean((100.0 * (bars["close"] / highest(bars["close"], 14) - 1.0)) ** 2, 14))]


def choppiness(bars: Columns) -> list[Floats]:
    covered = highest(bars["high"], 14) - lowest(bars["low"], 14)
    return [100.0 * np.log10(total(true_range(bars), 14) / covered) / np.log10(14.0)]


# ---- trend -------------------------------------------------------------------------------------------------------


def ichimoku(bars: Columns) -> list[Floats]:
    def middle(length: int) -> Floats:
        return (highest(bars["high"], length) + lowest(bars["low"], length)) / 2.0

    ahead_a, ahead_b = (middle(9) + middle(26)) / 2.0, middle(52)
    leading = [back(ahead_a, 26), back(ahead_b, 26)]
    return [middle(9), middle(26), *leading, ahead_a, ahead_b, bars["close"], back(bars["close"], 26)]


def r_squared(bars: Columns) -> list[Floats]:
    places = np.arange(14.0)
    return [windows(bars["close"], 14, lambda rows: np.array([np.corrcoef(places, row)[0, 1] ** 2 for row in rows]))]


def hurst(bars: Columns) -> list[Floats]:
    price = np.log(bars["close"])
    long = price - back(price, 8)
    short = np.where(np.isnan(long), np.nan, price - back(price, 4))
    return [np.clip(0.5 * np.log2(mean(long**2, 100) / mean(short**2, 100)), 0.0, 1.0)]


# ---- volume ------------------------------------------------------------------------------------------------------


def emv(bars: Columns) -> list[Floats]:
    middle = (bars["high"] + bars["low"]) / 2.0
    return [mean((middle - back(middle, 1)) / (bars["volume"] / 1e8 / (bars["high"] - bars["low"])), 14)]


def kvo(bars: Columns) -> list[Floats]:
    price, span = bars["high"] + bars["low"] + bars["close"], bars["high"] - bars["low"]
    trend = np.where(price > back(price, 1), 1.0, -1.0)
    force, covered = np.full(len(price), np.nan), 0.0
    for bar in range(1, len(price)):
        is_same = bar > 1 and trend[bar] == trend[bar - 1]
        covered = covered + span[bar] if is_same else span[bar - 1] + span[bar]
        force[bar] = bars["volume"][bar] * abs(2.0 * span[bar] / covered - 1.0) * trend[bar] * 100.0
    line = ema(force, 34) - ema(force, 55)
    return [line, ema(line, 13)]


# ---- series ------------------------------------------------------------------------------------------------------


def pivot_points(bars: Columns) -> list[Floats]:
    rows = []
    for session in bars["session"]:
        day = bars["session"] == session - 1.0
        if not day.any():
            rows.append([np.nan] * 7)
            continue
        top, bottom, last = bars["high"][day].max(), bars["low"][day].min(), bars["close"][day][-1]
        pivot = (top + bottom + last) / 3.0
        near, far = (2 * pivot - bottom, 2 * pivot - top), (pivot + top - bottom, pivot - top + bottom)
        rows.append([pivot, *near, *far, top + 2 * (pivot - bottom), bottom - 2 * (top - pivot)])
    return list(np.array(rows).T)


DEFINITIONS: dict[str, Callable[[Columns], list[Floats]]] = {
    each.__name__: each
    for each in (
        alma, vwap, session_vwap, stoch_rsi, ppo, trix, tsi, kst, fisher, connors_rsi, rvi, qqe, bollinger, keltner,
        chandelier, realised_volatility, historical_volatility, parkinson, garman_klass, rogers_satchell, yang_zhang,
        ulcer, choppiness, ichimoku, r_squared, hurst, emv, kvo, pivot_points,
    )
} | {
    "sum": lambda bars: [total(bars["close"], 20)],
    "highest": lambda bars: [highest(bars["close"], 20)],
    "lowest": lambda bars: [lowest(bars["close"], 20)],
    "median": lambda bars: [windows(bars["close"], 20, lambda rows: np.median(rows, axis=1))],
    "skewness": lambda bars: [windows(bars["close"], 30, lambda rows: stats.skew(rows, axis=1))],
    "kurtosis": lambda bars: [windows(bars["close"], 30, lambda rows: stats.kurtosis(rows, axis=1))],
    "zscore": lambda bars: [windows(bars["close"], 20, lambda rows: stats.zscore(rows, axis=1)[:, -1])],
    "log_return": lambda bars: [_log_change(bars)],
    "drawdown": lambda bars: [bars["close"] / np.maximum.accumulate(bars["close"]) - 1.0],
}  # fmt: skip
