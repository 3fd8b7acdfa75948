"""The venue and execution over a stretch: every order is accepted at its bar and filled whole at the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapeline_common.money import ZERO
from tapeline_common.stretch import FilledOrder, Stretch
from tapeline_common.values import InstrumentId, OrderState, TradingState
from tapeline_execution.core import KEPT_FINISHED_ORDERS
from tapeline_execution.core import State as Orders
from tapeline_execution.lifecycle import Order
from tapeline_execution.venue import REMEMBERED_CLIENT_IDS

if TYPE_CHECKING:
    from tapeline_execution.venue import Book
    from tapeline_execution.venue import State as Venue


def plain_book(venue: Venue, orders: Orders, instrument: InstrumentId) -> Book | None:
    """The venue's book, if no order is on its way or open and fills cost no more than ``VenueConfigured`` says."""
    book = venue.books.get(instrument)
    is_plain = (
        book is not None
        and book.model is None
        and book.hours is None
        and not venue.costs
        and not venue.arriving
        and not venue.working
        and not orders.open
        and venue.trading is TradingState.RUNNING
        and orders.trading is TradingState.RUNNING
    )
    return book if is_plain else None


def learn_stretch(venue: Venue, orders: Orders, stretch: Stretch) -> None:
    book = venue.books[stretch.instrument]
    book.bar = stretch.bar
    book.seen_ns = max(book.seen_ns, stretch.bar.close_ns)
    if not stretch.orders:
        return
    listing = book.listing
    held = book.positions.pop(stretch.strategy, ZERO)
    if stretch.position:
        book.positions[stretch.strategy] = stretch.position
    venue.balances[listing.base] = venue.balances.get(listing.base, ZERO) + stretch.position - held
    venue.balances[listing.quote] = stretch.cash
    venue.unreported = True
    venue.matching_pos = stretch.matched_pos
    for each in stretch.orders[-REMEMBERED_CLIENT_IDS:]:
        venue.used[each.client_order_id] = None
        venue.used_oldest_first.append(each.client_order_id)
    while len(venue.used_oldest_first) > REMEMBERED_CLIENT_IDS:
        del venue.used[venue.used_oldest_first.popleft()]
    orders.surprise = None
    for each in stretch.orders[-KEPT_FINISHED_ORDERS:]:
        orders.finished[each.order] = _finished(each)
        orders.oldest_first.append(each.order)
    while len(orders.oldest_first) > KEPT_FINISHED_ORDERS:
        del orders.finished[orders.oldest_first.popleft()]


def _finished(each: FilledOrder) -> Order:
    quantity = each.terms.quantity
    return Order(
        each.order,
        each.client_order_id,
        each.terms,
        OrderState.FILLED,
        filled=quantity,
        trades={each.trade_id: quantity},
    )
