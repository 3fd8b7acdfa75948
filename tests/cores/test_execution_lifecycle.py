"""The table of an order's life: complete in the direction of safety, and closed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tapeline_common.events import (
    SAYS,
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
from tapeline_common.values import (
    CancelReason,
    InstrumentId,
    Liquidity,
    OrderId,
    OrderState,
    Rejection,
    Side,
    StrategyId,
    Withheld,
)
from tapeline_execution.lifecycle import TRANSITIONS, Order, Surprise, advance

ORDER, CLIENT = OrderId("atlas-1-0"), "c0ffee"
ATLAS, BTC = StrategyId("atlas"), InstrumentId("BTC-USD")
TERMS = OrderTerms(ATLAS, BTC, Side.SELL, Decimal(3))
S = OrderState


def fill(quantity: str, trade: str = "t1") -> OrderFilled:
    return OrderFilled(
        ORDER, CLIENT, ATLAS, BTC, trade, Side.SELL, Decimal(quantity), Decimal(100), Decimal(0), "USD",
        Liquidity.MAKER, Decimal(0),
    )  # fmt: skip


ACCEPTED = OrderAccepted(ORDER, CLIENT, "v1")
REJECTED = OrderRejected(ORDER, CLIENT, Rejection.QUANTITY_INVALID, "")
CANCELED = OrderCanceled(ORDER, CLIENT, CancelReason.REQUESTED)
EXPIRED = OrderExpired(ORDER, CLIENT)
UNKNOWN = OrderOutcomeUnknown(ORDER, CLIENT, "")
CANCEL = CancelSubmitted(ORDER, CLIENT, CancelReason.OPERATOR_HALT)
WITHHELD = OrderWithheld(ORDER, CLIENT, Withheld.TRADING_HALTED)
PART, WHOLE = fill("1"), fill("3", "t2")

EXPECTED: dict[OrderState, dict[Event, OrderState]] = {
    S.SUBMITTED: {
        ACCEPTED: S.WORKING, REJECTED: S.REJECTED, PART: S.PARTLY_FILLED, WHOLE: S.FILLED, CANCELED: S.CANCELED,
        EXPIRED: S.EXPIRED, UNKNOWN: S.UNKNOWN, CANCEL: S.CANCEL_SUBMITTED, WITHHELD: S.WITHHELD,
    },
    S.WORKING: {
        PART: S.PARTLY_FILLED, WHOLE: S.FILLED, CANCELED: S.CANCELED, EXPIRED: S.EXPIRED, UNKNOWN: S.UNKNOWN,
        CANCEL: S.CANCEL_SUBMITTED,
    },
    S.PARTLY_FILLED: {
        ACCEPTED: S.PARTLY_FILLED, PART: S.PARTLY_FILLED, WHOLE: S.FILLED, CANCELED: S.CANCELED, EXPIRED: S.EXPIRED,
        UNKNOWN: S.UNKNOWN, CANCEL: S.CANCEL_SUBMITTED,
    },
    S.CANCEL_SUBMITTED: {
        ACCEPTED: S.CANCEL_SUBMITTED, REJECTED: S.REJECTED, PART: S.CANCEL_SUBMITTED, WHOLE: S.FILLED,
        CANCELED: S.CANCELED, EXPIRED: S.EXPIRED, UNKNOWN: S.UNKNOWN, WITHHELD: S.WITHHELD,
    },
    S.UNKNOWN: {
        ACCEPTED: S.WORKING, REJECTED: S.REJECTED, PART: S.PARTLY_FILLED, WHOLE: S.FILLED, CANCELED: S.CANCELED,
        EXPIRED: S.EXPIRED, UNKNOWN: S.UNKNOWN, CANCEL: S.UNKNOWN,
    },
    S.FILLED: {ACCEPTED: S.FILLED},
    S.CANCELED: {PART: S.CANCELED, WHOLE: S.CANCELED},
    S.EXPIRED: {PART: S.EXPIRED, WHOLE: S.EXPIRED},
    S.REJECTED: {},
    S.WITHHELD: {},
}  # fmt: skip
EVERYTHING = (ACCEPTED, REJECTED, PART, WHOLE, CANCELED, EXPIRED, UNKNOWN, CANCEL, WITHHELD)


def order_in(state: OrderState) -> Order:
    return Order(ORDER, CLIENT, TERMS, state, cancel_submitted=state is S.CANCEL_SUBMITTED)


@pytest.mark.parametrize("state", list(OrderState))
def test_every_pair_is_as_written_here(state: OrderState) -> None:
    """Each state meets each fact: it goes where this second table says, or changes nothing and is a surprise."""
    for event in EVERYTHING:
        order = order_in(state)
        surprise = advance(order, event)
        follows = EXPECTED[state].get(event)
        if follows is None:
            assert surprise == Surprise(state, f"{type(event).__name__} cannot follow {state}")
            assert order == order_in(state)
        else:
            assert order.state is follows, (state, event)
            late = state in (S.CANCELED, S.EXPIRED)
            assert (surprise is not None) is late, (state, event)


def test_no_row_leaves_a_terminal_state() -> None:
    """Terminal states absorb: whatever a finished order hears, it stays what it is."""
    for state, kind in TRANSITIONS:
        if state.is_terminal:
            assert TRANSITIONS[state, kind] is state


def test_every_state_but_the_refused_ones_can_fill() -> None:
    """A fill is money: only an order that was rejected, withheld or is full has no row for it."""
    without = {state for state in OrderState if (state, OrderFilled) not in TRANSITIONS}
    assert without == {S.FILLED, S.REJECTED, S.WITHHELD}


def test_every_open_state_can_end() -> None:
    """The venue can always tell the end: a cancellation or an expiry ends every open order."""
    for state in OrderState:
        if not state.is_terminal:
            assert TRANSITIONS[state, OrderCanceled] is S.CANCELED
            assert TRANSITIONS[state, OrderExpired] is S.EXPIRED


def test_the_table_speaks_of_facts_about_orders_only() -> None:
    """Every row names a fact of the venue or of execution."""
    assert {kind for _, kind in TRANSITIONS} <= {*SAYS["venue"], *SAYS["execution"]}


def test_an_unknown_order_that_was_being_cancelled_is_cancelled_still() -> None:
    """Cancel, doubt, acceptance: the cancel is not forgotten."""
    order = order_in(S.WORKING)
    for event in (CANCEL, UNKNOWN, ACCEPTED):
        assert advance(order, event) is None
    assert (order.state, order.cancel_submitted) == (S.CANCEL_SUBMITTED, True)


def test_a_late_fill_counts_and_says_so() -> None:
    """After an expiry the quantity still follows the money."""
    order = order_in(S.EXPIRED)
    assert advance(order, PART) == Surprise(S.EXPIRED, "fill of 1 after the order was EXPIRED; it is counted")
    assert (order.state, order.filled, order.trades) == (S.EXPIRED, Decimal(1), {"t1": Decimal(1)})


def test_quantities_that_cannot_be_are_surprises_and_change_nothing() -> None:
    """An overfill, nothing and less than nothing are not counted."""
    for quantity, detail in (
        ("3.01", "filled 3.01 of 3: more than was ordered; it is not counted"),
        ("0", "fill of 0: a quantity is positive"),
        ("-1", "fill of -1: a quantity is positive"),
    ):
        order = order_in(S.WORKING)
        assert advance(order, fill(quantity)) == Surprise(S.WORKING, detail)
        assert order == order_in(S.WORKING)
