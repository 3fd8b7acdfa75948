"""Instruments: the opaque token that runs through the system, and what its venue demands of orders.

Names are for people. They are resolved here, once, at configuration; everything after carries tokens.
Rounding is exact and happens only where the instrument defines a tick or a lot; prices of files are never touched.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, Inexact
from enum import StrEnum

import msgspec

CLOSE_MATCHES = 5
"""How many near names an error lists: enough to find a typing mistake, few enough to read."""

_EXACT = Context(prec=60, traps=[Inexact])
"""Wide enough for any price times any step; an inexact product would be a bug and raises."""


class Rounding(StrEnum):
    """Which neighbour on the grid a number goes to."""

    NEAREST = "NEAREST"
    DOWN = "DOWN"
    UP = "UP"
    TOWARDS_ZERO = "TOWARDS_ZERO"


_MODES = {
    Rounding.NEAREST: ROUND_HALF_EVEN,
    Rounding.DOWN: ROUND_FLOOR,
    Rounding.UP: ROUND_CEILING,
    Rounding.TOWARDS_ZERO: ROUND_DOWN,
}


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument at one venue. None means that the venue sets no such rule (or the file says nothing of it).

    Sizes are in units of base, min_notional in units of quote, fees are fractions of the notional (0.001 is 10 bps).
    ``calendar`` names trading hours: "24/7", or an exchange calendar such as "XNYS". ``timeframe`` is the bars' own.
    """

    token: str
    name: str
    venue: str
    base: str
    quote: str
    tick_size: Decimal | None = None
    lot_size: Decimal | None = None
    min_notional: Decimal | None = None
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None
    calendar: str = "24/7"
    timeframe: str | None = None

    def __post_init__(self) -> None:
        if _TOKEN.fullmatch(self.token) is None:
            raise ValueError(f"{self.name}: token {self.token!r} may hold only ASCII letters, digits, '-' and '_'")
        for field in ("tick_size", "lot_size"):
            step = getattr(self, field)
            if step is not None and not (step.is_finite() and step > 0):
                raise ValueError(f"{self.name}: {field} is {step}: give a number above 0, or leave it out")
        for field in ("min_notional", "maker_fee", "taker_fee"):
            amount = getattr(self, field)
            if amount is not None and not amount.is_finite():
                raise ValueError(f"{self.name}: {field} is {amount}: give a finite number, or leave it out")
        if self.min_notional is not None and self.min_notional < 0:
            raise ValueError(f"{self.name}: min_notional is {self.min_notional}: give 0 or more, or leave it out")

    def round_price(self, price: Decimal, rounding: Rounding = Rounding.NEAREST) -> Decimal:
        """The price on this instrument's tick; unchanged if it has none."""
        return price if self.tick_size is None else round_to_tick(price, self.tick_size, rounding)

    def round_quantity(self, quantity: Decimal) -> Decimal:
        """The quantity on this instrument's lot, never more than asked for; unchanged if it has none."""
        return quantity if self.lot_size is None else round_to_lot(quantity, self.lot_size)


_TOKEN = re.compile(r"[A-Za-z0-9_-]+")


class UnknownInstrument(LookupError):
    """No instrument of the catalogue has this name; the message lists the nearest ones."""


class AmbiguousInstrument(LookupError):
    """Several venues list this name; the message says how to choose."""


def token_for(venue: str, name: str) -> str:
    """The token of a name at a venue, safe as one word of a bus subject: ("sim", "BTC/USDT") -> "BTC-USDT_sim".

    Every other sign becomes "-". Two names of one venue could meet in one token (rarely: "A/B" and "A-B");
    the catalogue refuses the second. Raises ValueError if venue or name holds no letter or digit.
    """
    if not re.search(r"[A-Za-z0-9]", venue) or not re.search(r"[A-Za-z0-9]", name):
        raise ValueError(f"cannot make a token of name {name!r} at venue {venue!r}: each needs a letter or digit")
    return f"{_slug(name)}_{_slug(venue)}"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "-", text)


def round_to_tick(price: Decimal, tick_size: Decimal, rounding: Rounding = Rounding.NEAREST) -> Decimal:
    """The multiple of tick_size next to price, exactly. Halves go to the even multiple."""
    return _round_to_step(price, tick_size, _MODES[rounding])


def round_to_lot(quantity: Decimal, lot_size: Decimal, rounding: Rounding = Rounding.TOWARDS_ZERO) -> Decimal:
    """The multiple of lot_size next to quantity; towards zero by default: an order never grows by rounding."""
    return _round_to_step(quantity, lot_size, _MODES[rounding])


def _round_to_step(value: Decimal, step: Decimal, mode: str) -> Decimal:
    """Integers of the finest unit, so that no division is ever inexact."""
    if step <= 0:
        raise ValueError(f"step is {step}: it must be above 0")
    unit = min(_exponent(value), _exponent(step))
    value_units, step_units = _units(value, unit), _units(step, unit)
    steps, remainder = divmod(value_units, step_units)
    if remainder and _goes_up(steps, remainder, step_units, value_units < 0, mode):
        steps += 1
    return _EXACT.multiply(Decimal(steps), step)


def _goes_up(steps: int, remainder: int, step_units: int, negative: bool, mode: str) -> bool:
    """Whether the floor (steps) is left for the multiple above it."""
    if mode == ROUND_FLOOR:
        return False
    if mode == ROUND_CEILING:
        return True
    if mode == ROUND_DOWN:
        return negative
    twice = 2 * remainder
    return twice > step_units or (twice == step_units and steps % 2 == 1)


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"cannot round {value}: it is not finite")
    return exponent


def _units(value: Decimal, exponent: int) -> int:
    sign, digits, own_exponent = value.as_tuple()
    assert isinstance(own_exponent, int)
    whole: int = int("".join(map(str, digits))) * 10 ** (own_exponent - exponent)
    return -whole if sign else whole


class Catalogue:
    """The instruments of one run, in the order given. Read at configuration, never changed."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        """Raises ValueError if two instruments share a token, or a name at one venue."""
        self._by_token: dict[str, Instrument] = {}
        self._by_name: dict[str, list[Instrument]] = {}
        for instrument in instruments:
            other = self._by_token.get(instrument.token)
            if other is not None:
                raise ValueError(
                    f"token {instrument.token!r} is given to {other.name!r} at {other.venue!r} and to"
                    f" {instrument.name!r} at {instrument.venue!r}: give one of them another token"
                )
            namesakes = self._by_name.setdefault(instrument.name, [])
            if any(namesake.venue == instrument.venue for namesake in namesakes):
                raise ValueError(f"{instrument.name!r} is listed twice at {instrument.venue!r}: remove one of them")
            self._by_token[instrument.token] = instrument
            namesakes.append(instrument)

    def __len__(self) -> int:
        return len(self._by_token)

    def instruments(self) -> tuple[Instrument, ...]:
        return tuple(self._by_token.values())

    def by_token(self, token: str) -> Instrument:
        """The instrument of a token. Raises UnknownInstrument: after configuration that is a bug."""
        if token not in self._by_token:
            raise UnknownInstrument(f"no instrument has the token {token!r}")
        return self._by_token[token]

    def resolve(self, name: str, venue: str | None = None) -> Instrument:
        """The instrument that people call ``name`` (or whose token it is); ``venue`` decides between namesakes.

        Raises UnknownInstrument (listing near names) or AmbiguousInstrument (listing the venues).
        """
        found = [one for one in self._by_name.get(name, []) if venue is None or one.venue == venue]
        if not found and name in self._by_token and venue in (None, self._by_token[name].venue):
            found = [self._by_token[name]]
        if len(found) == 1:
            return found[0]
        if found:
            venues = ", ".join(sorted(one.venue for one in found))
            raise AmbiguousInstrument(f"{name!r} is listed at {venues}: say which venue, or use the token")
        raise UnknownInstrument(self._unknown(name, venue))

    def _unknown(self, name: str, venue: str | None) -> str:
        where = "" if venue is None else f" at venue {venue!r}"
        folded: dict[str, str] = {}
        for known in (*self._by_name, *self._by_token):
            folded.setdefault(known.upper(), known)
        near = difflib.get_close_matches(name.upper(), folded, n=CLOSE_MATCHES, cutoff=0.5)
        if near:
            return f"unknown instrument {name!r}{where}: did you mean {', '.join(folded[one] for one in near)}?"
        known = ", ".join(list(self._by_name)[:CLOSE_MATCHES]) or "none"
        return f"unknown instrument {name!r}{where}: nothing is like it; the catalogue lists {known}" + (
            f" and {len(self._by_name) - CLOSE_MATCHES} more" if len(self._by_name) > CLOSE_MATCHES else ""
        )
