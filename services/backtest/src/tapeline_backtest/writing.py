"""Numbers as text, compiled: what ``str`` makes of whole numbers and of exact amounts, written into bytes.

``copy`` moves text, and ``plain_floats`` writes a column of binary floats as files of bars print them. This module
knows no facts and no layouts.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.machine_code import BYTES, FLOATS, INTS, Intrinsic, Routine, inlined, routine
from tapeline_backtest.wide import BASE, HALF_BITS, HALF_MASK

Bytes = NDArray[np.uint8]

LETTERS: Final = 48
"""No number is longer: two limbs have 37 digits, a float at most 26 letters."""

STRIDE: Final = 16
"""``copy_short`` reads and writes so many bytes at once, and up to one less beyond the end."""

PLAIN_LETTERS: Final = 18
"""No number of ``plain_floats`` is longer: sixteen digits, one of them the zero before the point, and the point."""

MOST_DECIMALS: Final = 15
"""Of ``plain_floats``; also the digits within which a decimal and its float determine each other."""

_BILLION: Final = 10**9
_POWERS = np.array([10**power for power in range(MOST_DECIMALS + 1)], dtype=np.int64)

_PAIRS = np.frombuffer(bytearray("".join(f"{number:02}" for number in range(100)).encode()), dtype=np.uint8)


def _generate_copy(_typing: Any, out: Any, at: Any, text: Any, start: Any, size: Any) -> Any:
    """``memcpy`` of ``size`` bytes, which must not overlap."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()

        def pointer(place: int) -> Any:
            array = context.make_array(signature.args[place])(context, builder, arguments[place])
            return builder.gep(builder.bitcast(array.data, byte), [arguments[place + 1]])

        cgutils.raw_memcpy(builder, pointer(0), pointer(2), arguments[4], 1)
        return context.get_dummy_value()

    return types.void(out, at, text, start, size), generate


_copy = Intrinsic(_generate_copy)


def _generate_stride(_typing: Any, out: Any, at: Any, text: Any, start: Any) -> Any:
    """Copy ``STRIDE`` bytes in one move."""
    from llvmlite import ir
    from numba import types

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, wide = ir.IntType(8).as_pointer(), ir.VectorType(ir.IntType(8), STRIDE).as_pointer()

        def pointer(place: int) -> Any:
            array = context.make_array(signature.args[place])(context, builder, arguments[place])
            return builder.bitcast(builder.gep(builder.bitcast(array.data, byte), [arguments[place + 1]]), wide)

        moved = builder.load(pointer(2))
        moved.align = 1
        builder.store(moved, pointer(0)).align = 1
        return context.get_dummy_value()

    return types.void(out, at, text, start), generate


_stride = Intrinsic(_generate_stride)


@inlined
def copy(out: Bytes, at: int, text: Bytes, start: int, stop: int) -> int:
    """Write part of another array; returns where it ends."""
    _copy(out, at, text, start, stop - start)
    return at + stop - start


@inlined
def copy_short(out: Bytes, at: int, text: Bytes, start: int, stop: int) -> int:
    """``copy`` for text of a few letters, with room for one stride behind both ends."""
    end = at + stop - start
    while at < end:
        _stride(out, at, text, start)
        at += STRIDE
        start += STRIDE
    return end


def write_int(out: Bytes, at: int, number: int) -> int:
    """A whole number from 0 on; returns where it ends."""
    if number >= _BILLION:
        billions = number // _BILLION
        if billions >= _BILLION:
            out[at] = 48 + billions // _BILLION
            _write_nine(out, at + 1, billions % _BILLION)
            at += 10
        else:
            at = _write_below_billion(out, at, billions)
        _write_nine(out, at, number % _BILLION)
        return at + 9
    return _write_below_billion(out, at, number)


@inlined
def _write_below_billion(out: Bytes, at: int, number: int) -> int:
    size = 1
    power = 10
    while number >= power:
        size += 1
        power *= 10
    place = at + size
    left = np.uint32(number)
    while place - at > 1:
        place -= 2
        pair = left % np.uint32(100)
        left //= np.uint32(100)
        out[place] = _PAIRS[2 * pair]
        out[place + 1] = _PAIRS[2 * pair + 1]
    if place > at:
        out[at] = 48 + left
    return at + size


@inlined
def _write_nine(out: Bytes, at: int, number: int) -> None:
    """The nine digits of a number below a billion."""
    left = np.uint32(number)
    for place in (at + 7, at + 5, at + 3, at + 1):
        pair = left % np.uint32(100)
        left //= np.uint32(100)
        out[place] = _PAIRS[2 * pair]
        out[place + 1] = _PAIRS[2 * pair + 1]
    out[at] = 48 + left


def write_amount(out: Bytes, at: int, high: int, low: int, decimals: int) -> int:
    """An exact number of two limbs in units of ``10 ** -decimals``, as ``str`` prints what ``money.plain`` returns."""
    if high < 0:
        out[at] = 45
        at += 1
        high = -high
        if low > 0:
            high -= 1
            low = BASE - low
    a, b = high >> HALF_BITS, high & HALF_MASK
    c, d = low >> HALF_BITS, low & HALF_MASK
    # Digits from the last one on, into the room behind the place where the number is going to stand.
    end = at + 2 * LETTERS
    first = end
    while a > 0 or b > 0 or c > 0:
        left = a % _BILLION
        a //= _BILLION
        b, left = _divided(left, b)
        c, left = _divided(left, c)
        d, left = _divided(left, d)
        first -= 9
        _write_nine(out, first, left)
    while d > 0:
        first -= 1
        out[first] = 48 + d % 10
        d //= 10
    if first == end:
        out[at] = 48
        return at + 1
    while decimals > 0 and out[end - 1] == 48:
        end -= 1
        decimals -= 1
    adjusted = end - first - 1 - decimals
    if adjusted < -6:
        return _write_small(out, at, first, end, -adjusted)
    while end - first <= decimals:
        first -= 1
        out[first] = 48
    at = shift(out, at, first, end - decimals)
    if decimals > 0:
        out[at] = 46
        at = shift(out, at + 1, end - decimals, end)
    return at


def _write_small(out: Bytes, at: int, first: int, end: int, exponent: int) -> int:
    """Digits as ``Decimal`` prints them where more than five zeros would follow the point."""
    out[at] = out[first]
    at += 1
    if end - first > 1:
        out[at] = 46
        at = shift(out, at + 1, first + 1, end)
    out[at] = 69
    out[at + 1] = 45
    return write_int(out, at + 2, exponent)


def _divided(left: int, half: int) -> tuple[int, int]:
    """The next half of a long division by a billion, and what is left."""
    number = (left << HALF_BITS) | half
    return number // _BILLION, number % _BILLION


@inlined
def shift(out: Bytes, at: int, start: int, stop: int) -> int:
    """Move text that may overlap its new place, which lies before it."""
    for index in range(start, stop):
        out[at] = out[index]
        at += 1
    return at


def plain_floats(numbers: Any, out: Bytes, starts: Any) -> int:
    """Floats as their shortest decimals, without exponents, behind each other.

    A decimal of at most fifteen digits that gives the float back is the shortest one: there is no other such within
    fifteen digits (IEEE 754 binary64). Which it is, is proved by division, number by number.

    Args:
        out: with room for ``PLAIN_LETTERS`` each.
        starts: shape (numbers + 1,), set to where each begins, and where the last one ends.

    Returns:
        Bytes written, or -1 if there is a number that needs more digits, is negative, or is none.
    """
    at = 0
    decimals = 0
    for row in range(len(numbers)):
        starts[row] = at
        if not _is_whole(numbers[row], decimals):
            decimals = 0
            while decimals <= MOST_DECIMALS and not _is_whole(numbers[row], decimals):
                decimals += 1
            if decimals > MOST_DECIMALS:
                return -1
        at = _write_units(out, at, int(numbers[row] * _POWERS[decimals] + 0.5), decimals)
    starts[len(numbers)] = at
    return at


@inlined
def _is_whole(number: float, decimals: int) -> bool:
    """Whether it is a whole number of units of its last decimal, of at most fifteen digits."""
    unit = float(_POWERS[decimals])
    units = number * unit
    return 0.0 <= units < 1e15 - 1.0 and float(int(units + 0.5)) / unit == number


@inlined
def _write_units(out: Bytes, at: int, units: int, decimals: int) -> int:
    """So many units of a last decimal, without zeros at its end."""
    while decimals > 0 and units % 10 == 0:
        units //= 10
        decimals -= 1
    if decimals == 0:
        return write_int(out, at, units)
    at = write_int(out, at, units // _POWERS[decimals])
    out[at] = 46
    left = units % _POWERS[decimals]
    for place in range(at + decimals, at, -1):
        out[place] = 48 + left % 10
        left //= 10
    return at + decimals + 1


@cache
def compiled_floats() -> Routine:
    """``plain_floats`` as machine code."""
    return routine(plain_floats, "int64", FLOATS, BYTES, INTS)
