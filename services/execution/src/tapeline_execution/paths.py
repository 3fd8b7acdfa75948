"""In which order a bar reached its prices, and so which of several orders inside it came first.

A bar tells four prices and not their order. Two answers:

* WORST: orders that execute at the open come first, then stops, then resting limits; among equals the one that arrived
  first. A protective stop and a take-profit inside one bar means that the stop was hit. A reduce-only order that finds
  nothing to reduce yet waits for the entries of its strategy in that bar: an entry and its stop in one bar is a loss,
  not an entry without protection.
* ADAPTIVE: the price went to the nearer extreme first (O-H-L-C if the high is nearer to the open than the low, else
  O-L-H-C), in straight lines. Orders execute as the path reaches them; a stop-limit sees only what is left of the path
  after its trigger. The same rule as nautilus_trader's ``bar_adaptive_high_low_ordering``.

Finer bars beat both: the venue fills on the finest bars it hears, and the path within those is all that is assumed.

This module orders and finds prices; it moves no price by costs and knows no accounts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple, TypeVar

import msgspec

from tapeline_common.events import OrderTerms
from tapeline_common.money import ZERO
from tapeline_common.values import Liquidity, OrderType, Side, TimeInForce
from tapeline_execution import matching
from tapeline_execution.matching import Costs, Match, Prices, is_beyond

T = TypeVar("T")

BARE = Costs(ZERO, None)
"""No costs and no grid: what the fill rules alone give."""

AT_OPEN, AT_STOP, AT_LIMIT = range(3)
"""Ranks of the worst order."""

IMMEDIATE = (TimeInForce.IOC, TimeInForce.FOK)


class Met(msgspec.Struct, frozen=True):
    """How an order meets a bar: its first one, its stop triggered (now: by this bar)."""

    first: bool
    triggered: bool
    now: bool


class Path(NamedTuple):
    """Four prices in the order in which they were reached."""

    start: Decimal
    one: Decimal
    other: Decimal
    end: Decimal


def adaptive(prices: Prices, close: Decimal) -> Path:
    """The nearer extreme first; the low, if both are equally near."""
    high_first = prices.high - prices.open < prices.open - prices.low
    one, other = (prices.high, prices.low) if high_first else (prices.low, prices.high)
    return Path(prices.open, one, other, close)


def reach(path: Sequence[Decimal], level: Decimal, *, upwards: bool, through: bool) -> Decimal | None:
    """How far the price had travelled when it first stood at or above ``level`` (below, if not ``upwards``).

    Args:
        through: standing at the level is not enough.
    """

    def passes(price: Decimal) -> bool:
        beyond = price > level if upwards else price < level
        return beyond or (price == level and not through)

    travelled, at = ZERO, path[0]
    if passes(at):
        return ZERO
    for to in path[1:]:
        if passes(to):
            return travelled + abs(level - at)
        travelled += abs(to - at)
        at = to
    return None


def match_on_path(terms: OrderTerms, prices: Prices, path: Path, met: Met) -> tuple[Decimal, Match] | None:
    """When an order executes on the path, as the distance travelled, and at which bare price."""
    at_open = matching.match_at_open(terms, prices, BARE) if met.first else None
    if terms.time_in_force in IMMEDIATE or at_open is not None:
        return None if at_open is None else (ZERO, at_open)
    if terms.order_type is OrderType.STOP_LIMIT and met.now:
        return _trigger_on_path(terms, path)
    found = matching.match(terms, prices, BARE, first=met.first, triggered=met.triggered, now=met.now)
    if found is None:
        return None
    up = terms.side is Side.BUY
    if found.liquidity is Liquidity.MAKER:
        assert terms.limit_price is not None, "only a limit rests"
        moment = reach(path, terms.limit_price, upwards=not up, through=True)
    elif met.now:
        assert terms.stop_price is not None, "only a stop is triggered"
        moment = reach(path, terms.stop_price, upwards=up, through=False)
    else:
        moment = ZERO
    return None if moment is None else (moment, found)


def _trigger_on_path(terms: OrderTerms, path: Path) -> tuple[Decimal, Match] | None:
    """A stop-limit in its trigger bar: what the path does after the trigger decides."""
    assert terms.stop_price is not None, "a stop-limit without a stop price is rejected on arrival"
    assert terms.limit_price is not None, "a stop-limit without a limit price is rejected on arrival"
    up = terms.side is Side.BUY
    moment = reach(path, terms.stop_price, upwards=up, through=False)
    if moment is None:
        return None
    price = (max if up else min)(terms.stop_price, path.start)
    if is_beyond(terms.side, price, terms.limit_price):
        return moment, Match(price, ZERO, Liquidity.TAKER)
    later = reach(_after(path, moment, price), terms.limit_price, upwards=not up, through=True)
    return None if later is None else (moment + later, Match(terms.limit_price, ZERO, Liquidity.MAKER))


def _after(path: Path, moment: Decimal, price: Decimal) -> list[Decimal]:
    """What is left of a path after a distance, beginning at the price there."""
    left, travelled = [price], ZERO
    for at, to in pairwise(path):
        travelled += abs(to - at)
        if travelled > moment:
            left.append(to)
    return left


# ---- the worst order ---------------------------------------------------------------------------------------------


def rank(terms: OrderTerms, prices: Prices, met: Met) -> int:
    """When an order executes in the worst order, if it executes at all."""
    if terms.order_type is OrderType.MARKET or terms.time_in_force in IMMEDIATE:
        return AT_OPEN
    if terms.order_type in (OrderType.STOP, OrderType.STOP_LIMIT) and not met.triggered:
        return AT_LIMIT  # it does not execute in this bar
    if met.now:
        assert terms.stop_price is not None, "only a stop is triggered"
        return AT_STOP if is_beyond(terms.side, prices.open, terms.stop_price) else AT_OPEN
    if terms.order_type is OrderType.STOP:
        return AT_OPEN  # what an earlier trigger left over
    assert terms.limit_price is not None, "what is left is a limit"
    return AT_OPEN if is_beyond(terms.side, prices.open, terms.limit_price) else AT_LIMIT


def worst_first(waiting: list[T], rank_of: Callable[[T], int], waits: Callable[[T, Sequence[T]], bool]) -> Iterator[T]:
    """Orders in the worst order. ``waits``: whether one has to let the others, still to come, go first."""
    waiting = sorted(waiting, key=rank_of)
    while waiting:
        chosen = 0
        for index, each in enumerate(waiting):
            if not waits(each, waiting):
                chosen = index
                break
        yield waiting.pop(chosen)
