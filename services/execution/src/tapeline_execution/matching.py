"""What an order would have got inside one bar: the fill rules of the simulated venue, as pure functions.

A bar says which prices were traded, not in which order. Wherever the order matters, the assumption that is worse for us
is taken:

* MARKET: at the open, as taker.
* LIMIT: a touch is not a fill, the price must trade *through* the limit. An order that is marketable when it arrives
  (the first bar opens beyond its limit) takes the open. One that rests is filled at its limit as maker, also when a
  later bar gaps through it: a resting order is met at its own price. Only where the whole bar lies beyond the limit,
  the bar's price nearest to the limit is taken, since nothing traded at the limit.
* STOP: triggered by a touch, filled at the worse of stop and open, as taker; what is left over is a market order.
* STOP_LIMIT: triggered by a touch. In that bar, an order still within its limit at the trigger is filled as taker at
  the limit or at the bar's worst price, whichever is nearer to the trigger; one already past its limit waits, unless
  the open itself was the trigger and the price came back through the limit. From the next bar on it is a resting limit.
* IOC and FOK: what is marketable at the open of the first bar, and nothing else.

Taker prices are moved against us by ``slippage_bps`` and rounded to the tick against us; no limit is ever exceeded.
This module knows no orders, accounts or fees.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tapeline_common.events import BarClosed, OrderTerms
from tapeline_common.money import ZERO, plain, round_down, round_up
from tapeline_common.values import Liquidity, OrderType, Side, TimeInForce


class Prices(msgspec.Struct, frozen=True):
    """One bar in exact numbers."""

    open: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal


class Costs(msgspec.Struct, frozen=True):
    """How taker prices are made worse. ``tick`` ``None``: prices are taken as they come out."""

    slippage_bps: Decimal
    tick: Decimal | None


class Match(msgspec.Struct, frozen=True):
    """A price an order can have. ``slippage``: how much worse than the undisturbed price, per unit, never negative."""

    price: Decimal
    slippage: Decimal
    liquidity: Liquidity


def prices_of(bar: BarClosed) -> Prices:
    return Prices(Decimal(bar.open), Decimal(bar.high), Decimal(bar.low), Decimal(bar.volume))


def taker_price(price: Decimal, side: Side, costs: Costs) -> Decimal:
    """``price · (1 ± slippage_bps / 10 000)``, then to the next tick, both against the side."""
    if costs.slippage_bps:
        price = price * (1 + side.sign * costs.slippage_bps.scaleb(-4))
    return adverse_tick(price, side, costs.tick)


def adverse_tick(price: Decimal, side: Side, tick: Decimal | None) -> Decimal:
    """The price on the grid that is not better for the side: up for a buy, down for a sell. One text per price."""
    return plain(round_up(price, tick) if side is Side.BUY else round_down(price, tick))


def is_beyond(side: Side, price: Decimal, limit: Decimal) -> bool:
    """Whether a price is strictly better for the side than its limit."""
    return price < limit if side is Side.BUY else price > limit


def is_triggered(terms: OrderTerms, prices: Prices) -> bool:
    """Whether the bar touches the stop price."""
    return terms.stop_price is not None and not is_beyond(terms.side, _worst(terms.side, prices), terms.stop_price)


def match(terms: OrderTerms, prices: Prices, costs: Costs, *, first: bool, triggered: bool, now: bool) -> Match | None:
    """The price for an order in one bar, or ``None``.

    Args:
        first: this is the first bar the order meets.
        triggered: the stop has been touched, in this bar or before.
        now: it was touched in this bar.
    """
    if terms.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
        return match_at_open(terms, prices, costs) if first else None
    if terms.order_type is OrderType.MARKET:
        return _take(terms, prices.open, prices.open, costs)
    if terms.order_type is OrderType.LIMIT:
        return (match_at_open(terms, prices, costs) if first else None) or match_resting(terms, prices, costs)
    if not triggered:
        return None
    if terms.order_type is OrderType.STOP:
        undisturbed = _at_trigger(terms, prices) if now else prices.open
        return _take(terms, undisturbed, undisturbed, costs)
    return match_in_trigger_bar(terms, prices, costs) if now else match_resting(terms, prices, costs)


def match_at_open(terms: OrderTerms, prices: Prices, costs: Costs) -> Match | None:
    """What the open alone gives: every stop must be touched and every limit passed by it."""
    if terms.stop_price is not None and is_beyond(terms.side, prices.open, terms.stop_price):
        return None
    if terms.limit_price is not None and not is_beyond(terms.side, prices.open, terms.limit_price):
        return None
    return _take(terms, prices.open, prices.open, costs)


def match_resting(terms: OrderTerms, prices: Prices, costs: Costs) -> Match | None:
    """A limit order in the book: filled as maker when the bar trades through its limit."""
    side, limit = terms.side, _limit(terms)
    if not is_beyond(side, _best(side, prices), limit):
        return None
    nearest = _better(side, limit, _worst(side, prices))
    return Match(adverse_tick(nearest, side, costs.tick), ZERO, Liquidity.MAKER)


def match_in_trigger_bar(terms: OrderTerms, prices: Prices, costs: Costs) -> Match | None:
    """A stop-limit in the bar that touched its stop."""
    side, undisturbed = terms.side, _at_trigger(terms, prices)
    if is_beyond(side, undisturbed, _limit(terms)):
        return _take(terms, _worst(side, prices), undisturbed, costs)
    # The whole bar lies behind the trigger only if the open had touched the stop already.
    return match_resting(terms, prices, costs) if undisturbed == prices.open else None


def allowance(participation: Decimal | None, volume: Decimal, lot: Decimal | None) -> Decimal | None:
    """Most that all our fills in a bar may take together, in base units; ``None`` means no cap."""
    return None if participation is None else round_down(participation * volume, lot)


def reducible(side: Side, position: Decimal) -> Decimal:
    """How much of a signed position an order on this side can close."""
    return max(ZERO, -position * side.sign)


def _take(terms: OrderTerms, price: Decimal, undisturbed: Decimal, costs: Costs) -> Match:
    taken = taker_price(price, terms.side, costs)
    if terms.limit_price is not None:
        taken = _better(terms.side, taken, terms.limit_price)
    slippage = ZERO if taken == undisturbed else plain(abs(taken - undisturbed))
    return Match(taken, slippage, Liquidity.TAKER)


def _at_trigger(terms: OrderTerms, prices: Prices) -> Decimal:
    """The price at which a stop touched in this bar went off: the stop, or the open where that was worse already."""
    assert terms.stop_price is not None, "a stop order without a stop price is rejected on arrival"
    pick = max if terms.side is Side.BUY else min
    return pick(terms.stop_price, prices.open)


def _limit(terms: OrderTerms) -> Decimal:
    assert terms.limit_price is not None, "a limit order without a limit price is rejected on arrival"
    return terms.limit_price


def _better(side: Side, one: Decimal, other: Decimal) -> Decimal:
    return min(one, other) if side is Side.BUY else max(one, other)


def _best(side: Side, prices: Prices) -> Decimal:
    return prices.low if side is Side.BUY else prices.high


def _worst(side: Side, prices: Prices) -> Decimal:
    return prices.high if side is Side.BUY else prices.low
