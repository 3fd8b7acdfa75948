"""What no tape of the platform may ever say about orders, whatever its services went through.

Written from the promises alone, with no look at how a core keeps them: each is one pass over the facts. They serve the
simulator (``World(invariants=...)``) and any other check of a recorded tape.
"""

from __future__ import annotations

from tapeline_common import control
from tapeline_common.events import (
    OrderAccepted,
    OrderApproved,
    OrderFilled,
    OrderSubmitted,
    OrderWithheld,
)
from tapeline_common.values import OrderId, TradingState
from tapeline_common.wire import Fact


def nothing_sent_after_halt(facts: list[Fact]) -> str | None:
    """The venue accepts no order that was submitted while trading was halted, or that only flattening would allow."""
    trading = TradingState.HALTED
    barred: dict[OrderId, tuple[int, TradingState]] = {}
    for fact in facts:
        event = fact.event
        trading = control.AFTER.get(type(event), trading)
        if isinstance(event, OrderSubmitted) and not control.may_trade(trading, event.terms):
            barred[event.order] = (fact.pos, trading)
        if isinstance(event, OrderAccepted) and event.order in barred:
            pos, state = barred[event.order]
            return f"order {event.order} was submitted at {pos} while {state}, and accepted at {fact.pos}"
    return None


def submitted_once(facts: list[Fact]) -> str | None:
    """An approval is used for at most one submission, and a client order id names one order."""
    approvals: dict[int, int] = {}
    clients: dict[str, int] = {}
    for fact in facts:
        event = fact.event
        if isinstance(event, OrderSubmitted):
            if event.approval in approvals:
                return f"approval {event.approval} was used at {approvals[event.approval]} and at {fact.pos}"
            if event.client_order_id in clients:
                before = clients[event.client_order_id]
                return f"client order id {event.client_order_id} was used at {before} and at {fact.pos}"
            approvals[event.approval] = clients[event.client_order_id] = fact.pos
    return None


def approved_before_submitted(facts: list[Fact]) -> str | None:
    """What is submitted was approved earlier, under the same name and with the same terms."""
    approved: dict[int, OrderApproved] = {}
    for fact in facts:
        event = fact.event
        if isinstance(event, OrderApproved):
            approved[fact.pos] = event
        if isinstance(event, OrderSubmitted):
            approval = approved.get(event.approval)
            if approval is None or (approval.order, approval.terms) != (event.order, event.terms):
                return (
                    f"order {event.order} submitted at {fact.pos} has no such approval at {event.approval}: {approval}"
                )
    return None


def filled_once(facts: list[Fact]) -> str | None:
    """A venue trade is recorded once, for an order that was submitted, and never beyond its quantity."""
    left = {event.order: event.terms.quantity for fact in facts if isinstance(event := fact.event, OrderSubmitted)}
    trades: dict[tuple[OrderId, str], int] = {}
    for fact in facts:
        event = fact.event
        if not isinstance(event, OrderFilled):
            continue
        trade = (event.order, event.trade_id)
        if trade in trades:
            return f"trade {event.trade_id} of order {event.order} is recorded at {trades[trade]} and at {fact.pos}"
        if event.order not in left:
            return f"order {event.order} was filled at {fact.pos} and never submitted"
        trades[trade] = fact.pos
        left[event.order] -= event.quantity
        if left[event.order] < 0:
            return f"order {event.order} was filled at {fact.pos} by {-left[event.order]} more than it asked for"
    return None


def withheld_means_not_sent(facts: list[Fact]) -> str | None:
    """An order that execution withheld is unknown to the venue, whichever of the two spoke first."""
    withheld = {event.order: fact.pos for fact in facts if isinstance(event := fact.event, OrderWithheld)}
    for fact in facts:
        event = fact.event
        if isinstance(event, OrderAccepted | OrderFilled) and event.order in withheld:
            return f"order {event.order} was withheld at {withheld[event.order]}, and known to the venue at {fact.pos}"
    return None


ORDERS = (nothing_sent_after_halt, submitted_once, approved_before_submitted, filled_once, withheld_means_not_sent)
"""All of them."""
