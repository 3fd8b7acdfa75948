"""Whether the simulated venue takes an order: the reason for a rejection, and what would do.

Beyond what is wrong with an order by itself (an unknown instrument, a price off the grid), two things about the
account: an order that sells more than is held, where short selling is not allowed, and one that the account is not
worth enough for, where instruments have an initial margin. Both look at positions and open orders as if the worst of
them filled, at last closes. What only reduces is always taken. Risk's limits are another matter and were asked before.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from tapeline_common.events import OrderSubmitted
from tapeline_common.money import ZERO, is_multiple, plain
from tapeline_common.values import OrderType, Rejection, Side

if TYPE_CHECKING:
    from tapeline_execution.venue import Book, State


def fault(state: State, event: OrderSubmitted) -> tuple[Rejection, str] | None:
    """Why an order cannot be taken: the reason, and what to change."""
    terms = event.terms
    book = state.books.get(terms.instrument)
    if book is None:
        return Rejection.INSTRUMENT_UNKNOWN, f"instrument {terms.instrument} is not listed here"
    if book.listing.venue not in state.venues:
        return Rejection.INSTRUMENT_UNKNOWN, f"{terms.instrument} trades at {book.listing.venue}, which is not set up"
    if event.client_order_id in state.working or event.client_order_id in state.used:
        return Rejection.CLIENT_ORDER_ID_USED, f"client order id {event.client_order_id} was used before"
    quantity, lot = terms.quantity, book.listing.lot_size
    if not quantity.is_finite() or quantity <= 0 or not is_multiple(quantity, lot):
        grid = "" if lot is None else f", in lots of {lot}"
        return Rejection.QUANTITY_INVALID, f"quantity {quantity}: it must be positive{grid}"
    return _price_fault(event, book) or _notional_fault(event, book) or _account_fault(state, event, book)


_HAS_LIMIT = (OrderType.LIMIT, OrderType.STOP_LIMIT)
_HAS_STOP = (OrderType.STOP, OrderType.STOP_LIMIT)


def _price_fault(event: OrderSubmitted, book: Book) -> tuple[Rejection, str] | None:
    terms, tick = event.terms, book.listing.tick_size
    for name, price, wanted in (
        ("limit", terms.limit_price, terms.order_type in _HAS_LIMIT),
        ("stop", terms.stop_price, terms.order_type in _HAS_STOP),
    ):
        if price is None:
            if wanted:
                return Rejection.PRICE_INVALID, f"a {terms.order_type} order needs a {name} price"
        elif not wanted:
            return Rejection.PRICE_INVALID, f"a {terms.order_type} order has no {name} price; it came with {price}"
        elif not price.is_finite() or price <= 0 or not is_multiple(price, tick):
            grid = "" if tick is None else f", in ticks of {tick}"
            return Rejection.PRICE_INVALID, f"{name} price {price}: it must be positive{grid}"
    return None


def _notional_fault(event: OrderSubmitted, book: Book) -> tuple[Rejection, str] | None:
    """Judged at the limit price, else at the last close; before the first bar a market order cannot be judged."""
    least = book.listing.min_notional
    if least is None:
        return None
    price = event.terms.limit_price
    if price is None:
        if book.bar is None:
            return None
        price = Decimal(book.bar.close)
    notional = price * event.terms.quantity
    if notional >= least:
        return None
    return Rejection.BELOW_MIN_NOTIONAL, f"{event.terms.quantity} at {price} is worth {plain(notional)}, below {least}"


# ---- the account -------------------------------------------------------------------------------------------------


def _account_fault(state: State, event: OrderSubmitted, book: Book) -> tuple[Rejection, str] | None:
    costs = None if book.model is None else book.model.costs
    if costs is None or (costs.short_selling and not costs.initial_margin):
        return None
    if event.terms.reduce_only:
        return None
    left = _least(book, event)
    if not costs.short_selling and event.terms.side is Side.SELL and left < 0:
        return Rejection.SHORT_NOT_ALLOWED, f"open sales would leave {plain(left)}: sell no more than is held"
    now, then = _worst(book), _worst(book, event)
    if costs.initial_margin and then > now and book.bar is not None:
        needed = _margins(state) + costs.initial_margin * (then - now) * Decimal(book.bar.close)
        worth = equity(state, book.listing.quote)
        if worth < needed:
            return (
                Rejection.MARGIN_INSUFFICIENT,
                f"positions and open orders would need a margin of {plain(needed)}, "
                f"the account is worth {plain(worth)}",
            )
    return None


def equity(state: State, currency: str) -> Decimal:
    """Cash and positions quoted in a currency, at last closes."""
    worth = state.balances.get(currency, ZERO)
    for book in state.books.values():
        if book.positions and book.listing.quote == currency:
            assert book.bar is not None, "a position comes from a fill, and a fill from a bar"
            worth += sum(book.positions.values(), ZERO) * Decimal(book.bar.close)
    return worth


def _margins(state: State) -> Decimal:
    """Initial margin of everything held and ordered."""
    return sum(
        (
            book.model.costs.initial_margin * _worst(book) * Decimal(book.bar.close)
            for book in state.books.values()
            if book.model is not None and book.model.costs.initial_margin and book.bar is not None
        ),
        ZERO,
    )


def _worst(book: Book, more: OrderSubmitted | None = None) -> Decimal:
    """The largest position, long or short, that open orders (and one more) can lead to."""
    held = sum(book.positions.values(), ZERO)
    return max(abs(held + _open(book, Side.BUY, more)), abs(_least(book, more)), abs(held))


def _least(book: Book, more: OrderSubmitted | None = None) -> Decimal:
    """What is left if every open sale fills, and no purchase."""
    return sum(book.positions.values(), ZERO) - _open(book, Side.SELL, more)


def _open(book: Book, side: Side, more: OrderSubmitted | None) -> Decimal:
    """What is open on a side. Reduce-only orders open nothing."""
    quantity = more.terms.quantity if more is not None and more.terms.side is side else ZERO
    for working in book.orders.values():
        terms = working.submitted.terms
        if terms.side is side and not terms.reduce_only:
            quantity += working.remaining
    return quantity
