"""Exact whole numbers of up to 120 bits (36 digits) as two int64 limbs, in plain Python that numba can compile.

A number is ``high * BASE + low`` with ``0 <= low < BASE``, so every number has one form and pairs compare in order. A
limb has 62 bits, which leaves room for a carry; halves of 31 bits need shifts where decimal ones would need divisions.
Factors are below ``BASE`` in magnitude; whoever adds keeps ``high`` within ``HIGHEST`` by looking after each step.
Nothing here rounds, and nothing wraps as long as that is kept.
"""

from __future__ import annotations

BASE = 2**62
LIMB = 2.0**62
LIMB_BITS = 62
LIMB_MASK = BASE - 1
HALF = 2**31
HALF_BITS = 31
HALF_MASK = 2**31 - 1
HIGHEST = 2**61
"""Two numbers whose high limbs are within this bound can be added before anybody looks."""


def product(left: int, right: int) -> tuple[int, int]:
    """``left * right`` of two factors below ``BASE`` in magnitude: schoolbook, in halves."""
    left_high, left_low = left >> HALF_BITS, left & HALF_MASK
    right_high, right_low = right >> HALF_BITS, right & HALF_MASK
    middle = left_high * right_low + left_low * right_high
    low = left_low * right_low + ((middle & HALF_MASK) << HALF_BITS)
    high = left_high * right_high + (middle >> HALF_BITS)
    return (high + 1, low - BASE) if low >= BASE else (high, low)


def total(high: int, low: int, other_high: int, other_low: int) -> tuple[int, int]:
    """The sum of two numbers."""
    low += other_low
    return (high + other_high + 1, low - BASE) if low >= BASE else (high + other_high, low)


def difference(high: int, low: int, other_high: int, other_low: int) -> tuple[int, int]:
    """The first number less the second."""
    low -= other_low
    return (high - other_high - 1, low + BASE) if low < 0 else (high - other_high, low)


def multiple(high: int, low: int, factor: int) -> tuple[int, int]:
    """A number times a factor below ``BASE``; ``high * factor`` must be within ``HIGHEST``."""
    if high == 0 and low < HALF and -HALF < factor < HALF:
        return (low * factor) >> LIMB_BITS, (low * factor) & LIMB_MASK
    product_high, product_low = product(low, factor)
    return high * factor + product_high, product_low


def quotient(high: int, low: int, step_high: int, step_low: int) -> int:
    """How many whole steps are in a number: both positive, and the answer below 2**50.

    The float quotient is off by one at most; multiplying back tells.
    """
    found = int((high * LIMB + low) / (step_high * LIMB + step_low))
    while not at_least(high, low, *multiple(step_high, step_low, found)):
        found -= 1
    while at_least(high, low, *multiple(step_high, step_low, found + 1)):
        found += 1
    return found


def at_least(high: int, low: int, other_high: int, other_low: int) -> bool:
    """Whether the first number is not below the second."""
    return high > other_high or (high == other_high and low >= other_low)


def is_within(high: int) -> bool:
    """Whether one more addition surely cannot wrap."""
    return -HIGHEST <= high <= HIGHEST
