"""Logarithm, exponential and arctangent of nothing but exactly rounded operations.

What a platform's C library gives for these differs in the last bit from one system to the next, and from interpreted to
compiled code. An indicator that used it would not repeat bit for bit. These use +, -, *, / and the square root only, so
they do, and are within a few units in the last place of the true value. They are no replacement for ``math`` elsewhere.
"""

from __future__ import annotations

from math import inf, nan, sqrt

_LN_2_HIGH = 0.6931471803691238
_LN_2_LOW = 1.9082149292705877e-10
"""ln 2 as two numbers, the first so short that a whole number times it is exact."""

_HALF_PI = 1.5707963267948966
_LARGEST_EXPONENT = 512
_SMALL, _POWER_64 = 1e-290, 18446744073709551616.0
"""Below the first, powers of two up to 2^1023 do not reach 1."""

_LOWEST, _HIGHEST = 0.7071067811865476, 1.4142135623730951


def logarithm(value: float) -> float:
    """Natural logarithm; -inf at 0, NaN below and for NaN.

    The value is scaled by powers of two to m in (1/√2, √2]; ln m = 2·artanh((m - 1) / (m + 1)) by its power series.
    """
    if value != value or value < 0.0:
        return nan
    if value == 0.0:
        return -inf
    if value == inf:
        return inf
    exponent = 0
    if value < _SMALL:
        value *= _POWER_64
        exponent = -64
    step = 0 if _LOWEST < value <= _HIGHEST else _LARGEST_EXPONENT
    while step > 0:
        power = _power_of_two(step)
        if value >= power:
            value /= power
            exponent += step
        elif value * power < 2.0:
            value *= power
            exponent -= step
        step //= 2
    if value > _HIGHEST:
        value *= 0.5
        exponent += 1
    ratio = (value - 1.0) / (value + 1.0)
    square = ratio * ratio
    series = 0.0
    for odd in range(25, 1, -2):
        series = (series + 1.0 / odd) * square
    return exponent * _LN_2_HIGH + (exponent * _LN_2_LOW + 2.0 * ratio * series + 2.0 * ratio)


def _power_of_two(exponent: int) -> float:
    power = 2.0
    while exponent > 1:
        power *= power
        exponent //= 2
    return power


def exponential(value: float) -> float:
    """e to the power of a value that is not above 0. The relative error is about 2e-16 times (1 + 2·|value|).

    The value is halved until it is small, and the power series squared as often.
    """
    halvings = 0
    while value < -0.5:
        value *= 0.5
        halvings += 1
    series = 1.0
    for order in range(16, 0, -1):
        series = 1.0 + series * value / order
    for _ in range(halvings):
        series *= series
    return series


def arctangent(value: float) -> float:
    """Arctangent in radians.

    Beyond 1 the complement is taken; three times arctan x = 2·arctan(x / (1 + √(1 + x²))), then the power series.
    """
    is_complement = abs(value) > 1.0
    small = 1.0 / abs(value) if is_complement else abs(value)
    for _ in range(3):
        small /= 1.0 + sqrt(1.0 + small * small)
    square = -small * small
    series = 0.0
    for odd in range(19, 1, -2):
        series = (series + 1.0 / odd) * square
    angle = 8.0 * (small + small * series)
    if is_complement:
        angle = _HALF_PI - angle
    return -angle if value < 0.0 else angle
