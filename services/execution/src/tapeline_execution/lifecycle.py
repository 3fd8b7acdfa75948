"""The life of one order, as a table.

    approved ──> SUBMITTED ──> WORKING ──> PARTLY_FILLED ──> FILLED
                     │            │              │
                     │            └──────┬───────┘
                     │                   ├─ CANCEL_SUBMITTED ──> CANCELED | FILLED | EXPIRED | REJECTED | WITHHELD
                     │                   ├─ UNKNOWN ───────────> any state, once the venue tells
                     │                   └─ CANCELED | EXPIRED
                     └─ REJECTED | WITHHELD | (everything that WORKING can do: reports may overtake the acceptance)

A pair that is not in ``TRANSITIONS`` changes nothing and is a ``Surprise``. Quantities follow fills only: the
cumulative quantity never falls and never exceeds the order's, each (order, trade) counts once, and a terminal state
stays.

This module keeps no set of orders, says no fact and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias

import msgspec

from tapeline_common.events import (
    CancelSubmitted,
    Event,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderTerms,
    OrderWithheld,
)
from tapeline_common.money import ZERO
from tapeline_common.values import OrderId, OrderState


@dataclass(slots=True)
class Order:
    """What is known of one order.

    Attributes:
        terms: ``None`` for an order that was withheld before it was submitted.
        filled: cumulative quantity, in base units.
        cancel_submitted: we asked for its cancellation; asked once, whatever happens.
        trades: quantity by the venue's trade id, so that a fill is counted once.
    """

    order: OrderId
    client_order_id: str
    terms: OrderTerms | None
    state: OrderState
    filled: Decimal = ZERO
    cancel_submitted: bool = False
    trades: dict[str, Decimal] = field(default_factory=dict)


class Surprise(msgspec.Struct, frozen=True):
    """A report that an order in ``state`` (``None``: an order nobody knows) could not have."""

    state: OrderState | None
    detail: str


def standing(order: Order) -> OrderState:
    """State of an order that is known to exist at the venue, by what was asked and what was filled."""
    if order.terms is not None and order.filled == order.terms.quantity:
        return OrderState.FILLED
    if order.cancel_submitted:
        return OrderState.CANCEL_SUBMITTED
    return OrderState.PARTLY_FILLED if order.filled else OrderState.WORKING


Next: TypeAlias = OrderState | Callable[[Order], OrderState]

TRANSITIONS: dict[tuple[OrderState, type[Event]], Next] = {
    (OrderState.SUBMITTED, OrderAccepted): OrderState.WORKING,
    (OrderState.SUBMITTED, OrderRejected): OrderState.REJECTED,
    # A fill, a cancellation or an expiry may overtake the acceptance: two lines of one venue keep no common order.
    (OrderState.SUBMITTED, OrderFilled): standing,
    (OrderState.SUBMITTED, OrderCanceled): OrderState.CANCELED,
    (OrderState.SUBMITTED, OrderExpired): OrderState.EXPIRED,
    (OrderState.SUBMITTED, OrderOutcomeUnknown): OrderState.UNKNOWN,
    (OrderState.SUBMITTED, CancelSubmitted): OrderState.CANCEL_SUBMITTED,
    (OrderState.SUBMITTED, OrderWithheld): OrderState.WITHHELD,
    (OrderState.WORKING, OrderFilled): standing,
    (OrderState.WORKING, OrderCanceled): OrderState.CANCELED,
    (OrderState.WORKING, OrderExpired): OrderState.EXPIRED,
    (OrderState.WORKING, OrderOutcomeUnknown): OrderState.UNKNOWN,
    (OrderState.WORKING, CancelSubmitted): OrderState.CANCEL_SUBMITTED,
    # The acceptance that a fill had overtaken.
    (OrderState.PARTLY_FILLED, OrderAccepted): OrderState.PARTLY_FILLED,
    (OrderState.FILLED, OrderAccepted): OrderState.FILLED,
    (OrderState.PARTLY_FILLED, OrderFilled): standing,
    (OrderState.PARTLY_FILLED, OrderCanceled): OrderState.CANCELED,
    (OrderState.PARTLY_FILLED, OrderExpired): OrderState.EXPIRED,
    (OrderState.PARTLY_FILLED, OrderOutcomeUnknown): OrderState.UNKNOWN,
    (OrderState.PARTLY_FILLED, CancelSubmitted): OrderState.CANCEL_SUBMITTED,
    # The acceptance was on its way when we asked for the cancellation.
    (OrderState.CANCEL_SUBMITTED, OrderAccepted): OrderState.CANCEL_SUBMITTED,
    (OrderState.CANCEL_SUBMITTED, OrderRejected): OrderState.REJECTED,
    # A fill can follow our cancel: the venue was faster.
    (OrderState.CANCEL_SUBMITTED, OrderFilled): standing,
    (OrderState.CANCEL_SUBMITTED, OrderCanceled): OrderState.CANCELED,
    (OrderState.CANCEL_SUBMITTED, OrderExpired): OrderState.EXPIRED,
    (OrderState.CANCEL_SUBMITTED, OrderOutcomeUnknown): OrderState.UNKNOWN,
    # The halt was heard while our own submission still lay ahead on the tape: cancelled by decision, never sent.
    (OrderState.CANCEL_SUBMITTED, OrderWithheld): OrderState.WITHHELD,
    # Any word from the venue ends the doubt; an order nobody can find stays UNKNOWN and is never dropped.
    (OrderState.UNKNOWN, OrderAccepted): standing,
    (OrderState.UNKNOWN, OrderRejected): OrderState.REJECTED,
    (OrderState.UNKNOWN, OrderFilled): standing,
    (OrderState.UNKNOWN, OrderCanceled): OrderState.CANCELED,
    (OrderState.UNKNOWN, OrderExpired): OrderState.EXPIRED,
    (OrderState.UNKNOWN, OrderOutcomeUnknown): OrderState.UNKNOWN,
    # Asking to cancel does not tell us whether there is anything to cancel.
    (OrderState.UNKNOWN, CancelSubmitted): OrderState.UNKNOWN,
    # Money moved after the venue called the order finished: the quantity is counted, the state stays, and it alarms.
    (OrderState.CANCELED, OrderFilled): OrderState.CANCELED,
    (OrderState.EXPIRED, OrderFilled): OrderState.EXPIRED,
}
"""(state, what was heard) → the state that follows, or how to tell it from the quantities."""


def advance(order: Order, event: Event) -> Surprise | None:
    """Let an order take in a report or our own decision. Returns what was wrong with it, if anything was.

    A surprise left the order as it was, with one exception: a fill after the order was called canceled or expired is
    counted and a surprise all the same.
    """
    before = order.state
    fill = event if isinstance(event, OrderFilled) else None
    if fill is not None and fill.trade_id in order.trades:
        return Surprise(before, f"trade {fill.trade_id} was counted already")
    follows = TRANSITIONS.get((before, type(event)))
    if follows is None:
        return Surprise(before, f"{type(event).__name__} cannot follow {before}")
    if fill is not None:
        detail = _count(order, fill)
        if detail:
            return Surprise(before, detail)
    elif isinstance(event, CancelSubmitted):
        order.cancel_submitted = True
    order.state = follows if isinstance(follows, OrderState) else follows(order)
    if fill is not None and before.is_terminal:
        return Surprise(before, f"fill of {fill.quantity} after the order was {before}; it is counted")
    return None


def _count(order: Order, fill: OrderFilled) -> str:
    """Add a fill to the order's quantities, or say why it cannot be true."""
    assert order.terms is not None, f"order {order.order} was never submitted, and no row lets it fill"
    filled = order.filled + fill.quantity
    if fill.quantity <= 0:
        return f"fill of {fill.quantity}: a quantity is positive"
    if filled > order.terms.quantity:
        return f"filled {filled} of {order.terms.quantity}: more than was ordered; it is not counted"
    order.filled = filled
    order.trades[fill.trade_id] = fill.quantity
    return ""
