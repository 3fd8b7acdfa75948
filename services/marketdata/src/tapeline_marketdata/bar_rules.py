"""How bars are cut from trades, as people write it ("time:1m", "tick:500") and as the tape names it ("1m", "tick-500").

| rule | a bar ends |
|---|---|
| `time:1m` | with its interval; `time:1m:carry` also makes bars of intervals without trades |
| `tick:500` | after so many trades |
| `volume:10` | when so much was traded, in base units |
| `value:1000000` | when so much was paid, in quote units |
| `imbalance:500` | when buying or selling outweighs more than expected of bars of 500 trades; `imbalance:500:20` |
| `renko:10` | when the price has left the last brick by a brick of that size |

This module knows the rules by name only; ``bar_building`` applies them.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import StrEnum

import msgspec

from tapeline_common.money import plain
from tapeline_marketdata.timeframe import UnknownTimeframe, format_timeframe, parse_timeframe

USUAL_SPAN = 20
"""Bars over which expectations of imbalance bars are averaged, unless said otherwise: the order of a day of them."""

CARRY = "carry"
EXAMPLES = "time:1m, tick:500, volume:10, value:1000000, imbalance:500 or renko:10"


class UnknownRule(UnknownTimeframe):
    """The text is no rule by which bars can be built; the message says what would be."""


class RuleKind(StrEnum):
    TIME = "time"
    TICK = "tick"
    VOLUME = "volume"
    VALUE = "value"
    IMBALANCE = "imbalance"
    RENKO = "renko"


WHOLE = (RuleKind.TICK, RuleKind.IMBALANCE)
"""Kinds that count trades."""


class BarRule(msgspec.Struct, frozen=True):
    """One rule. ``amount`` is its measure (trades, base units, quote units, price), ``length_ns`` that of time bars."""

    kind: RuleKind
    amount: Decimal = Decimal(0)
    length_ns: int = 0
    carry: bool = False
    span: int = USUAL_SPAN

    @property
    def timeframe(self) -> str:
        """What the tape calls these bars."""
        if self.kind is RuleKind.TIME:
            return format_timeframe(self.length_ns)
        return f"{self.kind}-{self.amount}" + (f"-{self.span}" if self.span != USUAL_SPAN else "")

    def __str__(self) -> str:
        if self.kind is RuleKind.TIME:
            return f"{self.kind}:{self.timeframe}" + (f":{CARRY}" if self.carry else "")
        return self.timeframe.replace("-", ":")


def parse_rule(text: str) -> BarRule:
    """The rule written as in ``EXAMPLES``. Raises UnknownRule."""
    name, *values = text.strip().split(":")
    kind = next((kind for kind in RuleKind if kind == name), None)
    if kind is None or not values or not values[0]:
        raise UnknownRule(f"{text!r} is no rule for bars: write one of {EXAMPLES}")
    if kind is RuleKind.TIME:
        if values[1:] not in ([], [CARRY]):
            raise UnknownRule(
                f"{text!r}: after the timeframe comes nothing, or {CARRY}: write time:1m or time:1m:{CARRY}"
            )
        return BarRule(kind, length_ns=parse_timeframe(values[0]), carry=bool(values[1:]))
    if values[2:] or (values[1:] and kind is not RuleKind.IMBALANCE):
        raise UnknownRule(f"{text!r} says more than {kind} bars need: write one of {EXAMPLES}")
    span = _number(text, values[1], whole=True) if values[1:] else Decimal(USUAL_SPAN)
    return BarRule(kind, _number(text, values[0], whole=kind in WHOLE), span=int(span))


def rule_of(timeframe: str) -> BarRule:
    """The rule that gives bars this name on the tape: "tick-500", or "1m". Raises UnknownTimeframe."""
    if "-" in timeframe:
        return parse_rule(timeframe.replace("-", ":"))
    return BarRule(RuleKind.TIME, length_ns=parse_timeframe(timeframe))


def fixed_length_ns(timeframe: str) -> int | None:
    """Length of the bars of this name, None if they have no fixed one. Raises UnknownTimeframe."""
    return rule_of(timeframe).length_ns or None


def _number(text: str, value: str, *, whole: bool) -> Decimal:
    try:
        number = Decimal(value)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number <= 0 or not value.isascii() or (whole and number % 1):
        what = "a whole number" if whole else "a number"
        raise UnknownRule(f"{text!r}: {value!r} is not {what} above 0: write one of {EXAMPLES}")
    return plain(number)
