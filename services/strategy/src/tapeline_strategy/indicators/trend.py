"""Trend: whether price goes somewhere, which way, how straight, and where the move would be over."""

from __future__ import annotations

from math import nan

from tapeline_strategy.indicators.blocks import (
    PREVIOUS,
    RANGE,
    RMA,
    delay_size,
    delayed,
    fitted_line,
    previous,
    rma,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_sum,
    since_highest,
    since_size,
    sum_size,
    true_range,
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
    length,
)
from tapeline_strategy.indicators.transcendental import arctangent, logarithm
from tapeline_strategy.indicators.volatility import average_range

CHANDE = "T. S. Chande, A Time Price Oscillator, Stocks & Commodities 13:9, 1995"
DEGREES = 57.29577951308232
LN_2 = 0.6931471805599453
DIRECTION = RANGE + 2 * PREVIOUS + 3 * 2
"""Memory of ``directional``."""


def _decaying_sum(memory: list[float], at: int, length: int, value: float) -> float:
    """Wilder's sum: each value takes off 1 / length of it; begun with the plain sum of the first ``length - 1``."""
    if value != value:
        return nan
    if memory[at] < length - 1:
        memory[at] += 1.0
        memory[at + 1] += value
        return nan
    memory[at + 1] += value - memory[at + 1] / length
    return memory[at + 1]


def directional(
    memory: list[float], at: int, length: int, high: float, low: float, close: float
) -> tuple[float, float]:
    """Plus and minus directional indicator, 0 to 100. A bar that moves both ways equally counts for neither."""
    span = true_range(memory, at, high, low, close)
    up = high - previous(memory, at + RANGE, high)
    down = previous(memory, at + RANGE + PREVIOUS, low) - low
    plus, minus = (up if up > down and up > 0.0 else 0.0), (down if down > up and down > 0.0 else 0.0)
    if span != span:
        plus, minus = nan, nan
    sums = at + RANGE + 2 * PREVIOUS
    path = _decaying_sum(memory, sums, length, span)
    plus = _decaying_sum(memory, sums + 2, length, plus)
    minus = _decaying_sum(memory, sums + 4, length, minus)
    if path != path:
        return nan, nan
    return (100.0 * plus / path, 100.0 * minus / path) if path > 0.0 else (0.0, 0.0)


def _plus_di(memory: list[float], length: int, high: float, low: float, close: float) -> float:
    plus, _minus = directional(memory, 0, length, high, low, close)
    return plus


def _minus_di(memory: list[float], length: int, high: float, low: float, close: float) -> float:
    _plus, minus = directional(memory, 0, length, high, low, close)
    return minus


def _dx(memory: list[float], length: int, high: float, low: float, close: float) -> float:
    plus, minus = directional(memory, 0, length, high, low, close)
    if plus != plus:
        return nan
    return 100.0 * abs(plus - minus) / (plus + minus) if plus + minus > 0.0 else 0.0


def _adx(memory: list[float], length: int, high: float, low: float, close: float) -> float:
    return rma(memory, DIRECTION, length, _dx(memory, length, high, low, close))


def _adxr(memory: list[float], length: int, high: float, low: float, close: float) -> float:
    index = _adx(memory, length, high, low, close)
    return (index + delayed(memory, DIRECTION + RMA, length - 1, index)) / 2.0


def _aroon(memory: list[float], length: int, high: float, low: float) -> tuple[float, float]:
    up = since_highest(memory, 0, length + 1, high)
    down = since_highest(memory, since_size(length + 1), length + 1, -low)
    return 100.0 * (length - up) / length, 100.0 * (length - down) / length


def _aroon_oscillator(memory: list[float], length: int, high: float, low: float) -> float:
    up, down = _aroon(memory, length, high, low)
    return up - down


def _sar(memory: list[float], acceleration: float, maximum: float, high: float, low: float) -> tuple[float, float]:
    """Memory: bars seen up to 2, side, stop for this bar, best price of the trend, its speed, last high, last low."""
    last_high, last_low = memory[5], memory[6]
    memory[5] = high
    memory[6] = low
    if memory[0] == 0.0:
        memory[0] = 1.0
        return nan, nan
    if memory[0] == 1.0:
        memory[0] = 2.0
        is_falling = last_low - low > 0.0 and last_low - low > high - last_high
        memory[1] = -1.0 if is_falling else 1.0
        memory[2] = last_high if is_falling else last_low
        memory[3] = low if is_falling else high
        memory[4] = acceleration
        last_high, last_low = high, low
    side, stop, best = memory[1], memory[2], memory[3]
    crossed = low <= stop if side > 0.0 else high >= stop
    if crossed:
        side = -side
        stop = max(best, last_high, high) if side < 0.0 else min(best, last_low, low)
        best = low if side < 0.0 else high
        memory[4] = acceleration
    elif (side > 0.0 and high > best) or (side < 0.0 and low < best):
        best = high if side > 0.0 else low
        memory[4] = min(memory[4] + acceleration, maximum)
    following = stop + memory[4] * (best - stop)
    following = min(following, last_low, low) if side > 0.0 else max(following, last_high, high)
    memory[1] = side
    memory[2] = following
    memory[3] = best
    return stop, side


def _supertrend(
    memory: list[float], length: int, ranges: float, high: float, low: float, close: float
) -> tuple[float, float]:
    """Memory: side (0 before the first), upper stop, lower stop, last close; average true range."""
    distance = ranges * average_range(memory, 4, length, high, low, close)
    last = memory[3]
    memory[3] = close
    if distance != distance:
        return nan, nan
    upper = (high + low) / 2.0 + distance
    lower = (high + low) / 2.0 - distance
    side = memory[0]
    if side == 0.0:
        side = 1.0
    else:
        if last <= memory[1] < upper:
            upper = memory[1]
        if last >= memory[2] > lower:
            lower = memory[2]
        if side > 0.0 and close < lower:
            side = -1.0
        elif side < 0.0 and close > upper:
            side = 1.0
    memory[0] = side
    memory[1] = upper
    memory[2] = lower
    return (lower if side > 0.0 else upper), side


def _vortex(memory: list[float], length: int, high: float, low: float, close: float) -> tuple[float, float]:
    span = true_range(memory, 0, high, low, close)
    up = abs(high - previous(memory, RANGE, low))
    down = abs(low - previous(memory, RANGE + PREVIOUS, high))
    at = RANGE + 2 * PREVIOUS
    path = rolling_sum(memory, at, length, span)
    rising = rolling_sum(memory, at + sum_size(length), length, up)
    falling = rolling_sum(memory, at + 2 * sum_size(length), length, down)
    if path != path:
        return nan, nan
    return (rising / path, falling / path) if path > 0.0 else (1.0, 1.0)


def _middle(memory: list[float], at: int, length: int, high: float, low: float) -> float:
    return (rolling_max(memory, at, length, high) + rolling_min(memory, at + sum_size(length), length, low)) / 2.0


def _ichimoku(
    memory: list[float],
    conversion: int,
    base: int,
    span: int,
    displacement: int,
    high: float,
    low: float,
    close: float,
) -> tuple[float, float, float, float, float, float, float, float]:
    """Nothing of what is drawn later is given earlier: the cloud over this bar was made ``displacement`` bars ago."""
    at = 2 * sum_size(conversion)
    quick = _middle(memory, 0, conversion, high, low)
    slow = _middle(memory, at, base, high, low)
    at += 2 * sum_size(base)
    ahead_a = (quick + slow) / 2.0
    ahead_b = _middle(memory, at, span, high, low)
    at += 2 * sum_size(span)
    leading_a = delayed(memory, at, displacement, ahead_a)
    leading_b = delayed(memory, at + delay_size(displacement), displacement, ahead_b)
    passed = delayed(memory, at + 2 * delay_size(displacement), displacement, close)
    return quick, slow, leading_a, leading_b, ahead_a, ahead_b, close, passed


def _slope(memory: list[float], length: int, close: float) -> float:
    _newest, slope, _fit = fitted_line(memory, 0, length, close)
    return slope


def _angle(memory: list[float], length: int, close: float) -> float:
    _newest, slope, _fit = fitted_line(memory, 0, length, close)
    return DEGREES * arctangent(slope)


def _r_squared(memory: list[float], length: int, close: float) -> float:
    _newest, _line_slope, fit = fitted_line(memory, 0, length, close)
    return fit


def _hurst(memory: list[float], length: int, lag: int, close: float) -> float:
    """Half the binary logarithm of the mean squared change over twice the lag to that over the lag."""
    price = logarithm(close) if close > 0.0 else nan
    short = price - delayed(memory, 0, lag, price)
    at = delay_size(lag)
    long = price - delayed(memory, at, 2 * lag, price)
    at += delay_size(2 * lag)
    below = rolling_mean(memory, at, length, short * short if long == long else nan)
    above = rolling_mean(memory, at + sum_size(length), length, long * long)
    if below != below:
        return nan
    if below <= 0.0 or above <= 0.0:
        return 0.5
    return max(0.0, min(1.0, 0.5 * logarithm(above / below) / LN_2))


# ---- table -------------------------------------------------------------------------------------------------------

_FADING = Recall.FADING

TREND: tuple[Indicator, ...] = (
    Indicator(
        "adx", Family.TREND, "Average directional index: how strong a trend is, whichever its direction; 0 to 100.",
        WILDER, HLC, ("adx",), (length(14),), _adx, lambda _length: DIRECTION + RMA, lambda length: 2 * length, _FADING,
    ),
    Indicator(
        "adxr", Family.TREND, "Mean of the adx now and length - 1 bars ago.", WILDER,
        HLC, ("adxr",), (length(14),), _adxr, lambda length: DIRECTION + RMA + delay_size(length - 1),
        lambda length: 3 * length - 1, _FADING,
    ),
    Indicator(
        "dx", Family.TREND, "Directional index: difference of the directional indicators as a share of their sum.",
        WILDER, HLC, ("dx",), (length(14),), _dx, lambda _length: DIRECTION, lambda length: length + 1, _FADING,
        "Where neither moved it is 0; there the last value.",
    ),
    Indicator(
        "plus_di", Family.TREND, "Plus directional indicator: rising part of the true range in percent.", WILDER,
        HLC, ("plus_di",), (length(14),), _plus_di, lambda _length: DIRECTION, lambda length: length + 1, _FADING,
    ),
    Indicator(
        "minus_di", Family.TREND, "Minus directional indicator: falling part of the true range in percent.", WILDER,
        HLC, ("minus_di",), (length(14),), _minus_di, lambda _length: DIRECTION, lambda length: length + 1, _FADING,
    ),
    Indicator(
        "aroon", Family.TREND, "How recent the highest high and the lowest low are, 100 being this bar.", CHANDE,
        ("high", "low"), ("up", "down"), (length(14, 1),), _aroon, lambda length: 2 * since_size(length + 1),
        lambda length: length + 1, difference="There down comes first.",
    ),
    Indicator(
        "aroon_oscillator", Family.TREND, "Aroon up less aroon down, -100 to 100.", CHANDE,
        ("high", "low"), ("aroon_oscillator",), (length(14, 1),), _aroon_oscillator,
        lambda length: 2 * since_size(length + 1), lambda length: length + 1,
    ),
    Indicator(
        "sar", Family.TREND, "Parabolic stop and reverse: the stop, and the side it is for (1 long, -1 short).", WILDER,
        ("high", "low"), ("sar", "side"),
        (
            factor("acceleration", 0.02, 0.0001, 1.0, "speed at the beginning of a trend, and what each new best adds"),
            factor("maximum", 0.2, 0.0001, 1.0, "greatest speed"),
        ),
        _sar, lambda _acceleration, _maximum: 7, lambda _acceleration, _maximum: 2, _FADING,
        check=lambda given: None if given["acceleration"] <= given["maximum"]  # type: ignore[operator]
        else f"acceleration is {given['acceleration']} and maximum is {given['maximum']}, but it must not be more",
    ),
    Indicator(
        "supertrend", Family.TREND, "A stop some ranges from the bars' middles that never moves back, and its side.",
        "O. Seban, Tout le monde mérite d'être riche, 2009",
        HLC, ("supertrend", "side"),
        (length(10, 1), factor("ranges", 3.0, 0.1, 20.0, "distance of the stop in ranges")),
        _supertrend, lambda _length, _ranges: 4 + RANGE + RMA, lambda length, _ranges: length + 1, _FADING,
    ),
    Indicator(
        "vortex", Family.TREND, "Vortex indicator: upward and downward reach from bar to bar as shares of true range.",
        "E. Botes and D. Siepman, The Vortex Indicator, Stocks & Commodities 28:1, 2010",
        HLC, ("plus", "minus"), (length(14, 1),), _vortex, lambda length: RANGE + 2 * PREVIOUS + 3 * sum_size(length),
        lambda length: length + 1,
    ),
    Indicator(
        "ichimoku", Family.TREND,
        "Conversion and base line, the cloud over this bar (leading), the cloud it draws ahead, and the lagging span: "
        "this close, to be held against the price of the bar where it is drawn (lagging_price).",
        "G. Hosoda, Ichimoku Kinko Hyo, 1969",
        HLC,
        ("conversion", "base", "leading_a", "leading_b", "ahead_a", "ahead_b", "lagging", "lagging_price"),
        (
            length(9, 1, "length of the conversion line", "conversion"),
            length(26, 1, "length of the base line", "base"),
            length(52, 1, "length of the second leading span", "span"),
            length(26, 1, "bars that spans are drawn ahead or back", "displacement"),
        ),
        _ichimoku,
        lambda conversion, base, span, displacement: 2 * (sum_size(conversion) + sum_size(base) + sum_size(span))
        + 3 * delay_size(displacement),
        lambda conversion, base, span, displacement: max(conversion, base, span) + displacement,
    ),
    Indicator(
        "linear_slope", Family.TREND, "Slope of the least-squares line through the last closes, a bar.", ACHELIS,
        CLOSE, ("linear_slope",), (length(14),), _slope, window_size, lambda length: length,
    ),
    Indicator(
        "linear_angle", Family.TREND, "The slope of the least-squares line as an angle in degrees.", ACHELIS,
        CLOSE, ("linear_angle",), (length(14),), _angle, window_size, lambda length: length,
    ),
    Indicator(
        "r_squared", Family.TREND, "Share of the closes' variance that the least-squares line explains, 0 to 1.",
        ACHELIS, CLOSE, ("r_squared",), (length(14),), _r_squared, window_size, lambda length: length,
    ),
    Indicator(
        "hurst", Family.TREND, "Rough Hurst exponent from two lags: above 0.5 trends persist, below they revert.",
        "A. W. Lo and A. C. MacKinlay, Review of Financial Studies 1:1, 1988 (variance ratio)",
        CLOSE, ("hurst",), (length(100, 2), length(4, 1, "the shorter lag in bars; the longer is twice it", "lag")),
        _hurst, lambda length, lag: delay_size(lag) + delay_size(2 * lag) + 2 * sum_size(length),
        lambda length, lag: length + 2 * lag,
    ),
)  # fmt: skip
