"""What a simulated venue charges beyond a flat fee and a fixed slippage, as pure arithmetic.

Every cost is added to a taker's price per unit, from the price that the fill rules gave (``reference``):

* fixed: ``reference · slippage_bps / 10 000``.
* spread: ``reference · half_spread_bps / 10 000 + half_spread_ticks · tick``.
* volume: ``reference · volume_impact · share²``, share = what our fills have taken of the bar, this one included, over
  the bar's volume; 1 in a bar without volume. The volume-share model of zipline (``VolumeShareSlippage``) and LEAN
  (``VolumeShareSlippageModel``); both have ``volume_impact`` 0.1.
* root: ``reference · root_impact · sigma · sqrt(quantity / volume)``, the square-root law with ``root_impact`` = Y of
  order one (Tóth et al., "Anomalous price impact and the critical nature of liquidity in financial markets", Physical
  Review X 1, 2011). ``sigma²`` and ``volume`` are sums of squared close-to-close returns and of volumes over the
  ``root_window_bars`` bars before the one that fills: the law does not depend on the horizon as long as both are taken
  over the same one. Without any volume in the window, the quantity counts as all of it.

The sum is moved to the tick against us, never past the order's limit, and a sale never below nothing. Without a tick
the price is rounded against us to twelve significant digits.

Borrowing costs ``borrow_rate · days / 365`` of a short position's value, for the UTC days that ended while it was open.

Sums are exact. Quotients, roots and each of these costs are rounded away from zero to twelve significant digits, costs
to no more than eighteen decimals: one rule, against us, which any other implementation can follow to the last digit,
and without which products of products would outgrow what a fact may hold.

Nothing here knows orders, books or accounts.
"""

from __future__ import annotations

import decimal
from collections import deque
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_UP, Decimal
from math import isqrt

import msgspec

from tapeline_common.events import BarClosed, FeeTier, FillCosts, InstrumentCosts
from tapeline_common.money import ZERO, plain
from tapeline_common.values import Side
from tapeline_execution.matching import adverse_tick

DIGITS = 12
"""Significant digits of quotients and roots: finer than any tick, and less than a quarter of the exact context."""

DECIMALS = 18
"""Decimals of a cost per unit, as in the smallest unit of the finest currencies."""

RATE_DECIMALS = 10
"""Decimals of what a day's borrowing costs, as a fraction: a ten-billionth of the value."""

TIER_DAYS = 30
"""Fee tiers look at this many complete UTC days, as exchanges do; a fill never changes the fee of its own day."""

YEAR_DAYS = Decimal(365)
"""Actual days over 365, as lenders of crypto count; stocks are often lent at actual over 360."""

BPS = -4
"""Decimal exponent of a basis point."""

_UP = decimal.Context(
    prec=DIGITS, rounding=ROUND_UP, traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
)
_CEILING = decimal.Context(prec=DIGITS, rounding=ROUND_CEILING, traps=[decimal.InvalidOperation])
_FLOOR = decimal.Context(prec=DIGITS, rounding=ROUND_FLOOR, traps=[decimal.InvalidOperation])
_FINEST = Decimal(1).scaleb(-DECIMALS)
_FINEST_RATE = Decimal(1).scaleb(-RATE_DECIMALS)
NO_COSTS = FillCosts(ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO)


def quotient_up(numerator: Decimal, denominator: Decimal) -> Decimal:
    """``numerator / denominator``, rounded away from zero to twelve significant digits."""
    return _UP.divide(numerator, denominator)


def root_up(value: Decimal) -> Decimal:
    """The smallest number of twelve significant digits whose square is not below ``value`` (which is not negative)."""
    if not value:
        return ZERO
    exponent = value.adjusted() // 2 - DIGITS + 1
    square = int(value.scaleb(-2 * exponent).to_integral_value(ROUND_CEILING))
    return Decimal(isqrt(square - 1) + 1).scaleb(exponent)


def cost_up(value: Decimal) -> Decimal:
    """A cost per unit, rounded away from zero to twelve significant digits and at most eighteen decimals."""
    rounded = _UP.plus(value)
    return plain(rounded if rounded.as_tuple().exponent >= -DECIMALS else value.quantize(_FINEST, ROUND_UP))  # type: ignore[operator]


def adverse_price(price: Decimal, side: Side, tick: Decimal | None) -> Decimal:
    """A price on the grid, or of twelve significant digits where there is none, that is not better for the side."""
    if tick is not None:
        return adverse_tick(price, side, tick)
    return plain((_CEILING if side is Side.BUY else _FLOOR).plus(price))


# ---- fees --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Turnover:
    """Notional traded by UTC day, for as many days as fee tiers look at."""

    by_day: dict[int, Decimal] = field(default_factory=dict)

    def add(self, day: int, notional: Decimal) -> None:
        self.by_day[day] = self.by_day.get(day, ZERO) + notional
        for old in [each for each in self.by_day if each < day - TIER_DAYS]:
            del self.by_day[old]

    def before(self, day: int) -> Decimal:
        """Traded on the thirty days before this one."""
        return sum((notional for each, notional in self.by_day.items() if day - TIER_DAYS <= each < day), ZERO)


def tier_at(tiers: tuple[FeeTier, ...], traded: Decimal) -> FeeTier | None:
    """The highest tier that is reached; ``None`` below the first. ``tiers``: lowest first."""
    reached = None
    for tier in tiers:
        if traded < tier.traded:
            break
        reached = tier
    return reached


# ---- borrowing ---------------------------------------------------------------------------------------------------


def borrow_rate(annual: Decimal, days: int) -> Decimal:
    """What so many days of a year of 365 cost, as a fraction of a position's value, rounded up to ten decimals."""
    return plain((annual * days / YEAR_DAYS).quantize(_FINEST_RATE, ROUND_UP))


# ---- impact ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Recent:
    """Squared returns and volumes of the last bars. The latest bar waits outside: it may be the one that fills.

    Attributes:
        window: how many bars count.
        close: of the bar before ``latest``; ``None`` before the second bar, whose return is then from its open.
    """

    window: int
    latest: BarClosed | None = None
    close: Decimal | None = None
    bars: deque[tuple[Decimal, Decimal]] = field(default_factory=deque)
    squares: Decimal = ZERO
    volume: Decimal = ZERO

    def take(self, bar: BarClosed) -> None:
        """A newer bar; the one before it counts from now on."""
        if self.latest is not None:
            self._count(self.latest)
        self.latest = bar

    def _count(self, bar: BarClosed) -> None:
        close, volume = Decimal(bar.close), Decimal(bar.volume)
        before = Decimal(bar.open) if self.close is None else self.close
        moved = quotient_up(close - before, before)
        self.close = close
        self.bars.append((moved * moved, volume))
        self.squares += moved * moved
        self.volume += volume
        if len(self.bars) > self.window:
            square, gone = self.bars.popleft()
            self.squares -= square
            self.volume -= gone

    def root(self, quantity: Decimal) -> Decimal:
        """``sigma · sqrt(quantity / volume)`` over the window; zero while no bar counts."""
        if not self.squares:
            return ZERO
        if not self.volume:
            return root_up(quotient_up(self.squares, Decimal(len(self.bars))))
        return root_up(quotient_up(self.squares * quantity, self.volume))


# ---- prices ------------------------------------------------------------------------------------------------------


class Charged(msgspec.Struct, frozen=True):
    """A taker's price and what it is made of; ``slippage`` is the exact sum of ``costs``."""

    price: Decimal
    slippage: Decimal
    costs: FillCosts


class Taking(msgspec.Struct, frozen=True):
    """A taker fill before its costs.

    Attributes:
        reference: the price by the fill rules, on no grid yet.
        latency, path: how much worse than the undisturbed price ``reference`` is already, and why.
        taken: what our fills take of the bar, this one included; ``volume`` is the bar's.
    """

    side: Side
    limit: Decimal | None
    reference: Decimal
    latency: Decimal
    path: Decimal
    taken: Decimal
    volume: Decimal


def charge(costs: InstrumentCosts, tick: Decimal | None, recent: Recent | None, taking: Taking) -> Charged:
    """The price a taker pays or gets."""
    side, reference = taking.side, taking.reference
    fixed = cost_up(reference * costs.slippage_bps.scaleb(BPS))
    spread = cost_up(reference * costs.half_spread_bps.scaleb(BPS) + costs.half_spread_ticks * (tick or ZERO))
    volume = cost_up(reference * costs.volume_impact * _share(taking) ** 2) if costs.volume_impact else ZERO
    root = cost_up(reference * costs.root_impact * recent.root(taking.taken)) if recent is not None else ZERO
    price = max(ZERO, reference + side.sign * (fixed + spread + volume + root))
    price = adverse_price(price, side, tick)
    if taking.limit is not None:
        price = min(price, taking.limit) if side is Side.BUY else max(price, taking.limit)
    slippage = side.sign * (price - reference) + taking.latency + taking.path
    parts = (taking.latency, taking.path, fixed, spread, volume, root)
    grid = slippage - sum(parts, ZERO)
    return Charged(price, _tidy(slippage), FillCosts(*(_tidy(part) for part in (*parts, grid))))


def _share(taking: Taking) -> Decimal:
    return quotient_up(taking.taken, taking.volume) if taking.volume else Decimal(1)


def _tidy(value: Decimal) -> Decimal:
    return plain(value) if value else ZERO
