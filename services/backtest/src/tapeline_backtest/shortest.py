"""Binary floats as JSON, compiled: the shortest decimal that gives each back, as ``msgspec`` writes it.

The digits are found by Schubfach (Giulietti, "The Schubfach way to render doubles", 2020): three products with a power
of ten to 128 bits say which decimals lie between a float's neighbours. Everything is in whole numbers and exact.

Columns of which every number has few digits are written faster by ``writing.plain_floats``.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.machine_code import BYTES, INTS, Intrinsic, Routine, inlined, routine
from tapeline_backtest.writing import LETTERS, shift, write_int

Bytes = NDArray[np.uint8]

FLOAT_LETTERS: Final = 26
"""Most characters of a float64 as JSON, with the one that ends it."""

_FRACTION_BITS: Final = 52
_FRACTION_MASK: Final = 2**_FRACTION_BITS - 1
_EXPONENT_MASK: Final = 2**11 - 1
_LEAST_EXPONENT: Final = -1074

_LEAST_POWER: Final = -292
_MOST_POWER: Final = 324
"""Powers of ten that floats are scaled by."""


def _powers() -> tuple[list[int], list[int]]:
    """Each power of ten rounded up to 128 bits, the first of them set: upper and lower half."""
    highs, lows = [], []
    for power in range(_LEAST_POWER, _MOST_POWER + 1):
        ten = 10 ** abs(power)
        shift_by = 128 - ten.bit_length() if power >= 0 else 127 + ten.bit_length()
        if power >= 0:
            bits = ten << shift_by if shift_by >= 0 else -(-ten >> -shift_by)
        else:
            bits = -(-(1 << shift_by) // ten)
        assert bits.bit_length() == 128, power
        highs.append(bits >> 64)
        lows.append(bits & (2**64 - 1))
    return highs, lows


_HIGHS, _LOWS = (np.array(half, dtype=np.uint64).view(np.int64) for half in _powers())


def _generate_product(_typing: Any, high: Any, low: Any, number: Any) -> Any:
    """The upper 64 bits of a product with a power of ten, the last of them set if anything follows it."""
    from llvmlite import ir
    from numba import types

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        word, wide = ir.IntType(64), ir.IntType(128)
        upper, lower, factor = (builder.zext(each, wide) for each in arguments)
        places = ir.Constant(wide, 64)
        product = builder.add(builder.mul(upper, factor), builder.lshr(builder.mul(lower, factor), places))
        rest = builder.icmp_unsigned(">", builder.trunc(product, word), ir.Constant(word, 1))
        return builder.or_(builder.trunc(builder.lshr(product, places), word), builder.zext(rest, word))

    return types.int64(high, low, number), generate


_product = Intrinsic(_generate_product)


@inlined
def _digits(bits: int) -> tuple[int, int]:
    """A finite float's magnitude, not zero, as digits and a power of ten."""
    fraction = bits & _FRACTION_MASK
    biased = (bits >> _FRACTION_BITS) & _EXPONENT_MASK
    whole, exponent = fraction, _LEAST_EXPONENT
    if biased != 0:
        whole = fraction | (_FRACTION_MASK + 1)
        exponent = biased + _LEAST_EXPONENT - 1
        if -_FRACTION_BITS <= exponent <= 0 and whole & ((1 << -exponent) - 1) == 0:
            return whole >> -exponent, 0
    is_odd = whole & 1
    # Below a power of two the next float is half as far away.
    is_near = 1 if fraction == 0 and biased > 1 else 0
    power = (exponent * 1262611 - is_near * 524031) >> 22
    moved = exponent + ((-power * 1741647) >> 19) + 1
    high, low = _HIGHS[-power - _LEAST_POWER], _LOWS[-power - _LEAST_POWER]
    least = _product(high, low, (4 * whole - 2 + is_near) << moved) + is_odd
    exact = _product(high, low, (4 * whole) << moved)
    most = _product(high, low, (4 * whole + 2) << moved) - is_odd
    digits = exact >> 2
    if digits >= 10:
        tens = digits // 10
        is_below, is_above = least <= 40 * tens, 40 * tens + 40 <= most
        if is_below != is_above:
            return tens + (1 if is_above else 0), power + 1
    is_below, is_above = least <= 4 * digits, 4 * digits + 4 <= most
    if is_below != is_above:
        return digits + (1 if is_above else 0), power
    half = 4 * digits + 2
    if exact > half or (exact == half and digits & 1 != 0):
        digits += 1
    return digits, power


@inlined
def _write_float(out: Bytes, at: int, bits: int) -> int:
    """One float, with room for ``LETTERS`` behind it; returns where it ends."""
    if (bits >> _FRACTION_BITS) & _EXPONENT_MASK == _EXPONENT_MASK:
        for letter in (110, 117, 108, 108):
            out[at] = letter
            at += 1
        return at
    if bits < 0:
        out[at] = 45
        at += 1
    digits, power = (0, 0) if bits << 1 == 0 else _digits(bits)
    while digits >= 10 and digits % 10 == 0:
        digits //= 10
        power += 1
    # Written behind the place where they end up.
    first = at + 8
    end = write_int(out, first, digits)
    size = end - first
    point = size + power
    if power >= 0 and point <= 16:
        at = shift(out, at, first, end)
        for _ in range(power):
            out[at] = 48
            at += 1
        out[at], out[at + 1] = 46, 48
        return at + 2
    if 0 < point <= 16:
        at = shift(out, at, first, first + point)
        out[at] = 46
        return shift(out, at + 1, first + point, end)
    if -5 < point <= 0:
        out[at], out[at + 1] = 48, 46
        at += 2
        for _ in range(-point):
            out[at] = 48
            at += 1
        return shift(out, at, first, end)
    at = shift(out, at, first, first + 1)
    if size > 1:
        out[at] = 46
        at = shift(out, at + 1, first + 1, end)
    out[at] = 101
    at += 1
    if point < 1:
        out[at] = 45
        at += 1
    return write_int(out, at, abs(point - 1))


def write_floats(bits: Any, out: Bytes, starts: Any) -> int:
    """Floats behind each other, each ended by one letter.

    Args:
        bits: the floats' own, as int64.
        out: with room for ``FLOAT_LETTERS`` each, and ``LETTERS`` more.
        starts: shape (floats + 1,), set to where each begins, and where the last one's letter ends.

    Returns:
        Bytes written.
    """
    at = 0
    for index in range(len(bits)):
        starts[index] = at
        at = _write_float(out, at, bits[index])
        out[at] = 44
        at += 1
    starts[len(bits)] = at
    return at


@cache
def compiled_floats() -> Routine:
    """``write_floats`` as machine code."""
    return routine(write_floats, "int64", INTS, BYTES, INTS)


def printed_numbers(numbers: NDArray[np.float64]) -> tuple[Bytes, NDArray[np.int64]]:
    """Floats as the encoder writes them, each ended by one letter, and where each begins (one more than there are)."""
    bits = np.ascontiguousarray(numbers).ravel().view(np.int64)
    out = np.empty(len(bits) * FLOAT_LETTERS + LETTERS, dtype=np.uint8)
    starts = np.empty(len(bits) + 1, dtype=np.int64)
    compiled_floats()(bits, out, starts)
    return out, starts
