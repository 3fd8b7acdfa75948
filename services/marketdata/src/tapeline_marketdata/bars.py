"""The plain decimal text of a number: what the prices of a ``BarClosed`` are made of.

Prices travel as text so that nothing is lost between the source and the tape: ``Decimal(text)`` where money is
computed, ``float(text)`` for indicators. A bar of a source is a ``BarClosed`` that is not recorded yet.
This module judges nothing; ``checks`` does.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

PLAIN_DECIMAL = re.compile(r"-?[0-9]++(?:\.[0-9]++)?+")
"""The only number text that bars carry: ASCII digits, no exponent, no sign but a leading minus."""

NOT_FINITE_WORDS = ("nan", "inf", "infinity")
"""What sources print for a number that is none, in lower case and without sign."""

LONGEST_EXPONENT = 400
"""Powers of ten beyond a float's range are garbage, not prices; expanding them would only cost memory."""


def decimal_text(number: float) -> str:
    """The shortest decimal that reads back as exactly this float, never with an exponent.

    1e-07 is "0.0000001", 100.0 is "100".

    Negative zero is "0". What is no number keeps its name ("NaN", "Infinity", "-Infinity") for the checker to refuse.
    """
    if not math.isfinite(number):
        return str(Decimal(number))
    if number == 0:
        return "0"
    text = repr(float(number))
    if "e" in text:
        return format(Decimal(text), "f")
    return text.removesuffix(".0")


def plain_decimal(text: str) -> str:
    """The text if it is a plain decimal, else the same value written plainly ("1e-7", ".5", "+3"), else the text.

    Trailing zeros stay: they are what the source printed.
    """
    if PLAIN_DECIMAL.fullmatch(text):
        return text
    try:
        value = Decimal(text)
    except InvalidOperation:
        return text
    if not value.is_finite() or not text.isascii() or "_" in text or abs(value.adjusted()) > LONGEST_EXPONENT:
        return text
    return format(value, "f")
