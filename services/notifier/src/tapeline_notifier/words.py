"""How numbers and names are said to people. Pure."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal

from tapeline_common.money import plain

_SHORT = Context(prec=8, rounding=ROUND_HALF_EVEN)
_TINY = Context(prec=2, rounding=ROUND_HALF_EVEN)
_CENT = Decimal("0.01")


def quantity(value: Decimal) -> str:
    """Exact, without trailing zeros."""
    return f"{plain(value):,f}"


def price(value: Decimal) -> str:
    """To eight significant digits, never coarser than a cent; at least two decimals where it has any."""
    fine = value.quantize(_CENT, rounding=ROUND_HALF_EVEN) if abs(value) >= 1_000_000 else _SHORT.plus(value)
    whole, point, decimals = f"{plain(fine):,f}".partition(".")
    return f"{whole}.{decimals:0<2}" if point else whole


def money(value: Decimal) -> str:
    """To the cent; what is less than a cent to two digits, so that a small fee does not look like none."""
    if value and abs(value) < _CENT:
        return f"{plain(_TINY.plus(value)):f}"
    return f"{value.quantize(_CENT, rounding=ROUND_HALF_EVEN):,f}"


def signed(value: Decimal) -> str:
    """``money`` with its sign."""
    return money(value) if value < 0 else f"+{money(value)}"


def name_of(model: str) -> str:
    """A model's or a code version's long name, short."""
    return model[:12]


def because(reason: str) -> str:
    """The reason somebody gave, or that none was given."""
    return reason.strip() or "no reason given"
