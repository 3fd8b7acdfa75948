"""Exact arithmetic for money: one decimal context for the whole process.

Products and sums of prices, quantities and fees must not round: 60 digits hold any product of three 17-digit numbers.
Importing this module sets that context for this thread and for every thread made later; it is imported by ``core``, so
no core can compute money in another arithmetic. Division is the one operation that cannot be exact and goes through
``ratio``.
"""

from __future__ import annotations

import decimal
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

ZERO = Decimal(0)
ONE = Decimal(1)

_TRAPS = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
_EXACT = decimal.Context(prec=60, rounding=ROUND_HALF_EVEN, traps=_TRAPS)
_RATIO = decimal.Context(prec=28, rounding=ROUND_HALF_EVEN, traps=_TRAPS)

decimal.DefaultContext.prec = _EXACT.prec
decimal.DefaultContext.rounding = _EXACT.rounding
decimal.setcontext(_EXACT)


def ratio(numerator: Decimal, denominator: Decimal) -> Decimal:
    """``numerator / denominator`` to 28 significant digits, trailing zeros removed. For averages and shares only."""
    return plain(_RATIO.divide(numerator, denominator))


def plain(value: Decimal) -> Decimal:
    """The same number without trailing zeros and without an exponent: one text per value.

    Raises:
        ValueError: not a finite number.
    """
    value = value.normalize()
    # Asked of the text, not of ``as_tuple``, which makes a tuple of all the digits: this is called for every amount.
    if "E+" in str(value):
        return value.quantize(ONE)
    if not value.is_finite():
        raise ValueError(f"{value} is no amount")
    return value


def round_down(value: Decimal, step: Decimal | None) -> Decimal:
    """Largest multiple of ``step`` not above ``value``; the value itself where no step is defined."""
    return value if step is None else (value / step).to_integral_value(ROUND_FLOOR) * step


def round_up(value: Decimal, step: Decimal | None) -> Decimal:
    """Smallest multiple of ``step`` not below ``value``; the value itself where no step is defined."""
    return value if step is None else (value / step).to_integral_value(ROUND_CEILING) * step


def is_multiple(value: Decimal, step: Decimal | None) -> bool:
    return step is None or value % step == 0
