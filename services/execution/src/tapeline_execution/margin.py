"""When an account can no longer carry a position, and at which price the venue closes it.

Margin is shared by all positions (cross margin). At a bar's worst price for the position the account is worth ``free +
quantity · price``; when that is less than the maintenance margin of all positions, the position was closed on the way:
at the price at which both were equal, or at the open if the bar opened beyond it, moved like any taker price. That
price is a quotient, rounded against us to twelve significant digits. The loss beyond what the account had is its own:
there is no insurance fund here.

This module knows no orders and no books.
"""

from __future__ import annotations

import decimal
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

import msgspec

from tapeline_execution.costs import DIGITS
from tapeline_execution.matching import Prices

_TRAPS = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
_DOWN = decimal.Context(prec=DIGITS, rounding=ROUND_FLOOR, traps=_TRAPS)
_UP = decimal.Context(prec=DIGITS, rounding=ROUND_CEILING, traps=_TRAPS)


class Call(msgspec.Struct, frozen=True):
    """A position that has to be closed: at which price, and what the account was worth against what was needed."""

    price: Decimal
    equity: Decimal
    needed: Decimal


def call(free: Decimal, others: Decimal, quantity: Decimal, maintenance: Decimal, prices: Prices) -> Call | None:
    """Whether a bar takes the account below its maintenance margin.

    Args:
        free: what the account is worth without this position.
        others: maintenance margin of the other positions.
        quantity: of this position, signed and not zero.
        maintenance: margin of this position, as a fraction of its value, below one.
    """
    long = quantity > 0
    extreme = prices.low if long else prices.high
    equity = free + quantity * extreme
    needed = others + maintenance * abs(quantity) * extreme
    if equity >= needed:
        return None
    rounding = _DOWN if long else _UP
    price = rounding.divide(others - free, quantity - maintenance * abs(quantity))
    best, worst = (min, max) if long else (max, min)
    return Call(best(prices.open, worst(extreme, price)), equity, needed)
