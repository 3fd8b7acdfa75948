"""Volume: whether trading backs a move. A series that adds up volumes begins at 0 with the first bar it is given."""

from __future__ import annotations

from math import nan

from tapeline_strategy.indicators.blocks import (
    EMA,
    PREVIOUS,
    change,
    ema,
    previous,
    rolling_mean,
    rolling_sum,
    sum_size,
)
from tapeline_strategy.indicators.indicator import (
    ACHELIS,
    HLCV,
    Family,
    Indicator,
    Recall,
    factor,
    fast_below_slow,
    length,
)

CHAIKIN = "M. Chaikin, in S. B. Achelis, Technical Analysis from A to Z, 1995"
FOSBACK = "N. G. Fosback, Stock Market Logic, 1976"


def money_flow(high: float, low: float, close: float, volume: float) -> float:
    """Volume times where the close lies between low (-1) and high (1)."""
    return ((close - low) - (high - close)) / (high - low) * volume if high > low else 0.0


def _obv(memory: list[float], close: float, volume: float) -> float:
    """Memory: previous close, sum. The first bar's volume is counted."""
    moved = change(memory, 0, close)
    if moved < 0.0:
        memory[2] -= volume
    elif moved != 0.0:
        memory[2] += volume
    return memory[2]


def _ad(memory: list[float], high: float, low: float, close: float, volume: float) -> float:
    memory[0] += money_flow(high, low, close, volume)
    return memory[0]


def _adosc(memory: list[float], fast: int, slow: int, high: float, low: float, close: float, volume: float) -> float:
    """Memory: bars seen up to ``slow``, line, its fast and its slow average, both begun with its first value."""
    memory[1] += money_flow(high, low, close, volume)
    if memory[0] == 0.0:
        memory[2] = memory[1]
        memory[3] = memory[1]
    else:
        memory[2] += 2.0 / (fast + 1) * (memory[1] - memory[2])
        memory[3] += 2.0 / (slow + 1) * (memory[1] - memory[3])
    if memory[0] < slow:
        memory[0] += 1.0
    return memory[2] - memory[3] if memory[0] >= slow else nan


def _cmf(memory: list[float], length: int, high: float, low: float, close: float, volume: float) -> float:
    flow = rolling_sum(memory, 0, length, money_flow(high, low, close, volume))
    traded = rolling_sum(memory, sum_size(length), length, volume)
    if traded != traded:
        return nan
    return flow / traded if traded > 0.0 else 0.0


def _mfi(memory: list[float], length: int, high: float, low: float, close: float, volume: float) -> float:
    price = (high + low + close) / 3.0
    moved = change(memory, 0, price)
    flow = price * volume if moved == moved else nan
    into = rolling_sum(memory, PREVIOUS, length, flow if not moved <= 0.0 else 0.0)
    out = rolling_sum(memory, PREVIOUS + sum_size(length), length, flow if not moved >= 0.0 else 0.0)
    if into != into:
        return nan
    return 100.0 * into / (into + out) if into + out > 0.0 else 50.0


def _efi(memory: list[float], length: int, close: float, volume: float) -> float:
    return ema(memory, PREVIOUS, length, change(memory, 0, close) * volume)


def _emv(memory: list[float], length: int, scale: float, high: float, low: float, volume: float) -> float:
    moved = change(memory, 0, (high + low) / 2.0)
    ease = nan
    if moved == moved:
        ease = moved * (high - low) / volume * scale if volume > 0.0 else 0.0
    return rolling_mean(memory, PREVIOUS, length, ease)


def _vpt(memory: list[float], close: float, volume: float) -> float:
    before = previous(memory, 0, close)
    if before == before and before != 0.0:
        memory[2] += volume * (close - before) / before
    return memory[2]


def _volume_index(memory: list[float], side: float, close: float, volume: float) -> float:
    """Memory: previous close, previous volume, index less 1000. It moves on bars whose volume rose (1) or fell (-1)."""
    before = previous(memory, 0, close)
    traded = change(memory, 2, volume)
    if before == before and before != 0.0 and side * traded > 0.0:
        memory[4] += (memory[4] + 1000.0) * (close - before) / before
    return 1000.0 + memory[4]


def _nvi(memory: list[float], close: float, volume: float) -> float:
    return _volume_index(memory, -1.0, close, volume)


def _pvi(memory: list[float], close: float, volume: float) -> float:
    return _volume_index(memory, 1.0, close, volume)


def _kvo(
    memory: list[float], fast: int, slow: int, signal: int, high: float, low: float, close: float, volume: float
) -> tuple[float, float]:
    """Memory: previous price and range, trend, range so far of the trend; three averages."""
    moved = change(memory, 0, high + low + close)
    span = high - low
    before = previous(memory, 2, span)
    force = nan
    if moved == moved:
        trend = 1.0 if moved > 0.0 else -1.0
        memory[5] = memory[5] + span if trend == memory[4] else before + span
        memory[4] = trend
        force = 0.0
        if memory[5] > 0.0:
            force = 100.0 * volume * trend * abs(2.0 * span / memory[5] - 1.0)
    line = ema(memory, 6, fast, force) - ema(memory, 6 + EMA, slow, force)
    return line, ema(memory, 6 + 2 * EMA, signal, line)


# ---- table -------------------------------------------------------------------------------------------------------

_CLOSE_VOLUME = ("close", "volume")

VOLUME: tuple[Indicator, ...] = (
    Indicator(
        "obv", Family.VOLUME, "On-balance volume: volumes of rising bars less those of falling ones.",
        "J. E. Granville, Granville's New Key to Stock Market Profits, 1963",
        _CLOSE_VOLUME, ("obv",), (), _obv, lambda: PREVIOUS + 1, lambda: 1, Recall.ENDLESS,
    ),
    Indicator(
        "ad", Family.VOLUME, "Accumulation/distribution: volumes times where the close lies in the bar, added up.",
        CHAIKIN, HLCV, ("ad",), (), _ad, lambda: 1, lambda: 1, Recall.ENDLESS,
    ),
    Indicator(
        "adosc", Family.VOLUME, "Chaikin oscillator: a fast average of accumulation/distribution less a slow one.",
        CHAIKIN, HLCV, ("adosc",),
        (length(3, 1, "length of the fast average", "fast"), length(10, 2, "length of the slow average", "slow")),
        _adosc, lambda _fast, _slow: 4, lambda _fast, slow: slow, Recall.FADING, check=fast_below_slow,
    ),
    Indicator(
        "cmf", Family.VOLUME, "Chaikin money flow: volume on the buyers' side as a share of all, -1 to 1.", CHAIKIN,
        HLCV, ("cmf",), (length(20, 1),), _cmf, lambda length: 2 * sum_size(length), lambda length: length,
    ),
    Indicator(
        "mfi", Family.VOLUME, "Money flow index: money in rising bars as a share of that in all that moved, 0 to 100.",
        "G. Quong and A. Soudack, Volume-Weighted RSI, Stocks & Commodities 7:3, 1989",
        HLCV, ("mfi",), (length(14, 1),), _mfi, lambda length: PREVIOUS + 2 * sum_size(length),
        lambda length: length + 1, difference="Where nothing moved it is 50; there 0, as where less than 1 flowed.",
    ),
    Indicator(
        "efi", Family.VOLUME, "Elder's force index: average of change times volume.",
        "A. Elder, Trading for a Living, 1993",
        _CLOSE_VOLUME, ("efi",), (length(13, 1),), _efi, lambda _length: PREVIOUS + EMA, lambda length: length + 1,
        Recall.FADING,
    ),
    Indicator(
        "emv", Family.VOLUME, "Ease of movement: mean of how far a bar's middle moved for its volume.",
        "R. W. Arms, Volume Cycles in the Stock Market, 1983",
        ("high", "low", "volume"), ("emv",),
        (length(14, 1), factor("scale", 1e8, 1e-3, 1e15, "what it is multiplied by, to be readable")),
        _emv, lambda length, _scale: PREVIOUS + sum_size(length), lambda length, _scale: length + 1,
    ),
    Indicator(
        "vpt", Family.VOLUME, "Volume price trend: volumes times relative changes, added up.", ACHELIS,
        _CLOSE_VOLUME, ("vpt",), (), _vpt, lambda: PREVIOUS + 1, lambda: 1, Recall.ENDLESS,
    ),
    Indicator(
        "nvi", Family.VOLUME, "Negative volume index: price compounded over bars of falling volume, from 1000.",
        FOSBACK,
        _CLOSE_VOLUME, ("nvi",), (), _nvi, lambda: 2 * PREVIOUS + 1, lambda: 1, Recall.ENDLESS,
    ),
    Indicator(
        "pvi", Family.VOLUME, "Positive volume index: price compounded over bars of rising volume, from 1000.",
        FOSBACK,
        _CLOSE_VOLUME, ("pvi",), (), _pvi, lambda: 2 * PREVIOUS + 1, lambda: 1, Recall.ENDLESS,
    ),
    Indicator(
        "kvo", Family.VOLUME, "Klinger oscillator: a fast average of volume force less a slow one, and a signal.",
        "S. J. Klinger, Identifying Trends with Volume Analysis, Stocks & Commodities 15:12, 1997",
        HLCV, ("kvo", "signal"),
        (
            length(34, 1, "length of the fast average", "fast"),
            length(55, 2, "length of the slow average", "slow"),
            length(13, 1, "length of the signal's average", "signal"),
        ),
        _kvo, lambda _fast, _slow, _signal: 2 * PREVIOUS + 2 + 3 * EMA,
        lambda _fast, slow, signal: slow + signal, Recall.FADING, check=fast_below_slow,
    ),
)  # fmt: skip
