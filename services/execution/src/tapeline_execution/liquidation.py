"""One bar meeting one book of an instrument on margin: its orders, and what happens when the account runs dry.

The margin is looked at with the positions that are left after everything the bar fills at its open and at stops, and
before any resting limit, which the price reaches on the other side; and once more at the end. Where it does not
suffice, every order in the book is cancelled and every strategy's position in the instrument closed, whatever the
participation cap says. Other instruments have their turn at their own next bars.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from tapeline_common.events import (
    BorrowCharged,
    Event,
    LiquidationOrdered,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderTerms,
)
from tapeline_common.money import ZERO, plain
from tapeline_common.values import CancelReason, Liquidity, OrderId, Purpose, Side
from tapeline_execution import margin
from tapeline_execution.matching import Match
from tapeline_execution.pricing import Found

if TYPE_CHECKING:
    from tapeline_execution.venue import Book, Session, State


def meet_on_margin(state: State, book: Book, session: Session, before: Sequence[Event]) -> list[Event]:
    """What the bar does to the book. ``before``: what this bar caused already, learnt by nobody yet."""
    said: list[Event] = []
    has_rested = False
    for working in session.in_turn(book.orders.values()):
        if not has_rested and _is_resting(session.match(working)):
            has_rested = True
            closed = _liquidate(state, book, session, [*before, *said])
            if closed:
                return [*said, *_cancel(book, said), *closed]
        said.extend(session.meet(working))
    closed = _liquidate(state, book, session, [*before, *said])
    return [*said, *_cancel(book, said), *closed] if closed else said


def _is_resting(found: Match | Found | None) -> bool:
    match = found.match if isinstance(found, Found) else found
    return match is not None and match.liquidity is Liquidity.MAKER


def _liquidate(state: State, book: Book, session: Session, caused: Sequence[Event]) -> list[Event]:
    """The venue's own orders and their fills; nothing while the margin suffices."""
    quantity = sum(session.positions.values(), ZERO)
    if not quantity:
        return []
    assert book.model is not None, "asked only where a margin is configured"
    costs, currency = book.model.costs, book.listing.quote
    free, others = _others(state, book)
    free += state.balances.get(currency, ZERO) + _moved(state, caused, currency)
    called = margin.call(free, others, quantity, costs.maintenance_margin, session.prices)
    if called is None:
        return []
    said: list[Event] = []
    for index, (strategy, held) in enumerate(session.positions.items()):
        if held:
            order = OrderId(f"liquidation-{session.pos}-{index}")
            side = Side.SELL if held > 0 else Side.BUY
            terms = OrderTerms(
                strategy, book.listing.instrument, side, abs(held), reduce_only=True, purpose=Purpose.LIQUIDATION
            )
            said.append(LiquidationOrdered(order, order, terms, plain(called.equity), plain(called.needed)))
            said.append(_fill(session, order, terms, called.price, costs.liquidation_fee))
    return said


def _fill(session: Session, order: OrderId, terms: OrderTerms, price: Decimal, extra_fee: Decimal) -> OrderFilled:
    assert session.pricing is not None, "asked only where costs are configured"
    charged = session.pricing.charge(terms, Found(Match(price, ZERO, Liquidity.TAKER), ZERO), terms.quantity)
    return OrderFilled(
        order=order,
        client_order_id=order,
        strategy=terms.strategy,
        instrument=terms.instrument,
        trade_id=f"{order}-1",
        side=terms.side,
        quantity=terms.quantity,
        price=charged.price,
        fee=plain(charged.price * terms.quantity * (session.fees[1] + extra_fee)),
        fee_currency=session.listing.quote,
        liquidity=Liquidity.TAKER,
        slippage=charged.slippage,
        costs=charged.costs,
    )


def _others(state: State, own: Book) -> tuple[Decimal, Decimal]:
    """Value and maintenance margin of the positions of other books in the same currency, at their last closes."""
    value, needed = ZERO, ZERO
    for book in state.books.values():
        if book is own or not book.positions or book.listing.quote != own.listing.quote:
            continue
        assert book.bar is not None, "a position comes from a fill, and a fill from a bar"
        worth = sum(book.positions.values(), ZERO) * Decimal(book.bar.close)
        value += worth
        if book.model is not None:
            needed += book.model.costs.maintenance_margin * abs(worth)
    return value, needed


def _moved(state: State, caused: Sequence[Event], currency: str) -> Decimal:
    """Cash that this bar has moved so far."""
    moved = ZERO
    for event in caused:
        if isinstance(event, OrderFilled):
            moved -= event.side.sign * event.quantity * event.price
            moved -= event.fee if event.fee_currency == currency else ZERO
        elif isinstance(event, BorrowCharged):
            book = state.books[event.instrument]
            if book.listing.quote == currency:
                moved += shorts(book.positions.values()) * event.price * event.rate
    return moved


def shorts(quantities: Iterable[Decimal]) -> Decimal:
    """The sum of those below zero."""
    return sum((quantity for quantity in quantities if quantity < 0), ZERO)


def _cancel(book: Book, said: Sequence[Event]) -> list[Event]:
    """Every order that is still open after what was said."""
    left = {working.submitted.order: working.remaining for working in book.orders.values()}
    for event in said:
        if isinstance(event, OrderFilled):
            left[event.order] -= event.quantity
        elif isinstance(event, OrderCanceled | OrderExpired):
            left[event.order] = ZERO
    return [
        OrderCanceled(working.submitted.order, working.submitted.client_order_id, CancelReason.LIQUIDATION)
        for working in book.orders.values()
        if left[working.submitted.order]
    ]
