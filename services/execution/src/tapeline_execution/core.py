"""Execution: turns each approval into at most one submission, and knows where every order stands.

It says what is to be sent (``OrderSubmitted``, ``CancelSubmitted``) and what is not sent after all (``OrderWithheld``);
sending is the venue adapter's work and follows the tape. It judges no risk, fills nothing and keeps no positions.

A halt cancels every open order, also one whose ``OrderSubmitted`` may still lie ahead on the tape. The core cannot tell
the two cases apart, because reaching an own decision teaches nothing, so both get the cancel:

* submission, halt: the order may be at the venue; the cancel is what stops it.
* halt, submission: the submission is withheld when it is reached. Its cancel is recorded behind it and finds nothing to
  do: the order is WITHHELD here, and the venue never received it.

A cancel too many is harmless and one too few is not. A disabled strategy has only this cancel: nothing withholds it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tapeline_common import control
from tapeline_common.core import Core, Decide, Evolve, Stamp, keep_clock
from tapeline_common.events import (
    CancelSubmitted,
    Event,
    FlattenRequested,
    HaltRequested,
    LifecycleViolated,
    LiquidationOrdered,
    OrderAccepted,
    OrderApproved,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderSubmitted,
    OrderTerms,
    OrderWithheld,
    RunStarted,
    StrategyDisableRequested,
    TradingHalted,
)
from tapeline_common.values import CancelReason, OrderId, OrderState, Purpose, TradingState
from tapeline_execution import gate
from tapeline_execution.lifecycle import Order, Surprise, advance

KEPT_FINISHED_ORDERS = 512
"""Finished orders that late reports still find; at one order a minute 8 hours. Older ones are forgotten."""

Report = OrderAccepted | OrderRejected | OrderFilled | OrderCanceled | OrderExpired | OrderOutcomeUnknown


@dataclass(slots=True)
class State:
    """What execution knows.

    Attributes:
        tape: makes client order ids unique across tapes.
        trading: halted until a run has started.
        open: orders that may still fill, in order of submission; UNKNOWN ones stay here however long it takes.
        finished: orders in a terminal state, at most ``KEPT_FINISHED_ORDERS``.
        oldest_first: the ids in ``finished``.
        surprise: what was wrong with the latest report, if anything was.
    """

    tape: str = ""
    trading: TradingState = TradingState.HALTED
    open: dict[OrderId, Order] = field(default_factory=dict)
    finished: dict[OrderId, Order] = field(default_factory=dict)
    oldest_first: deque[OrderId] = field(default_factory=deque)
    surprise: Surprise | None = None


def find(state: State, order: OrderId) -> Order | None:
    """An order by our own name of it, open or among the recent finished ones."""
    return state.open.get(order) or state.finished.get(order)


def client_order_id(tape: str, order: OrderId, approval: int) -> str:
    """First 32 hex digits of SHA-256 over tape, order and the approval's position: fits every venue's limits."""
    return hashlib.sha256(f"{tape}|{order}|{approval}".encode()).hexdigest()[:32]


# ---- deciding ----------------------------------------------------------------------------------------------------


def submit_approved(state: State, event: OrderApproved, stamp: Stamp) -> Sequence[Event]:
    known = find(state, event.order)
    if known is not None:
        detail = f"order {event.order} was approved before; an order is submitted at most once"
        return (LifecycleViolated(event.order, known.state, "OrderApproved", detail),)
    client = client_order_id(state.tape, event.order, stamp.pos)
    reason = gate.withheld(state.trading, event.terms, event.valid_until_ns, stamp)
    if reason is not None:
        return (OrderWithheld(event.order, client, reason),)
    return (OrderSubmitted(event.order, client, event.terms, stamp.pos, event.valid_until_ns),)


def confirm_submission(state: State, event: OrderSubmitted, stamp: Stamp) -> Sequence[Event]:
    """The last moment to hold an order back: everything recorded before it has been heard."""
    reason = gate.withheld(state.trading, event.terms, event.valid_until_ns, stamp)
    return () if reason is None else (OrderWithheld(event.order, event.client_order_id, reason),)


def cancel_for_halt(state: State, _event: HaltRequested | TradingHalted, _stamp: Stamp) -> Sequence[Event]:
    return _cancel(state, CancelReason.OPERATOR_HALT, lambda _terms: True)


def cancel_for_flatten(state: State, _event: FlattenRequested, _stamp: Stamp) -> Sequence[Event]:
    return _cancel(state, CancelReason.FLATTEN, lambda terms: terms.purpose is not Purpose.FLATTEN)


def cancel_for_disabled(state: State, event: StrategyDisableRequested, _stamp: Stamp) -> Sequence[Event]:
    return _cancel(state, CancelReason.STRATEGY_DISABLED, lambda terms: terms.strategy == event.strategy)


def _cancel(state: State, reason: CancelReason, concerns: Callable[[OrderTerms], bool]) -> Sequence[Event]:
    return [
        CancelSubmitted(order.order, order.client_order_id, reason)
        for order in state.open.values()
        if not order.cancel_submitted and order.terms is not None and concerns(order.terms)
    ]


def report_surprise(state: State, event: Report, _stamp: Stamp) -> Sequence[Event]:
    surprise = state.surprise
    if surprise is None:
        return ()
    return (LifecycleViolated(event.order, surprise.state, type(event).__name__, surprise.detail),)


# ---- learning ----------------------------------------------------------------------------------------------------


def learn_run(state: State, event: RunStarted, stamp: Stamp) -> None:
    state.tape = event.tape
    learn_control(state, event, stamp)


def learn_control(state: State, event: Event, _stamp: Stamp) -> None:
    state.trading = control.AFTER[type(event)]


def learn_submission(state: State, event: OrderSubmitted, _stamp: Stamp) -> None:
    state.open[event.order] = Order(event.order, event.client_order_id, event.terms, OrderState.SUBMITTED)


def learn_liquidation(state: State, event: LiquidationOrdered, _stamp: Stamp) -> None:
    """The venue's own order: nobody approved it, and its fill is no surprise."""
    state.open[event.order] = Order(event.order, event.client_order_id, event.terms, OrderState.WORKING)


def learn_withheld(state: State, event: OrderWithheld, _stamp: Stamp) -> None:
    order = state.open.get(event.order)
    if order is None:
        _finish(state, Order(event.order, event.client_order_id, None, OrderState.WITHHELD))
        return
    advance(order, event)
    _finish(state, order)


def learn_cancel(state: State, event: CancelSubmitted, _stamp: Stamp) -> None:
    order = state.open.get(event.order)
    if order is not None:
        advance(order, event)


def learn_report(state: State, event: Report, _stamp: Stamp) -> None:
    order = find(state, event.order)
    if order is None:
        state.surprise = Surprise(None, f"order {event.order} is not known here")
        return
    was_open = not order.state.is_terminal
    state.surprise = advance(order, event)
    if was_open and order.state.is_terminal:
        _finish(state, order)


def _finish(state: State, order: Order) -> None:
    state.open.pop(order.order, None)
    state.finished[order.order] = order
    state.oldest_first.append(order.order)
    if len(state.oldest_first) > KEPT_FINISHED_ORDERS:
        del state.finished[state.oldest_first.popleft()]


_REPORTS: tuple[type[Event], ...] = (
    OrderAccepted,
    OrderRejected,
    OrderFilled,
    OrderCanceled,
    OrderExpired,
    OrderOutcomeUnknown,
)

_EVOLVES: dict[type[Event], Evolve[State]] = {
    **dict.fromkeys(gate.HEARD_BY_BOTH, keep_clock),
    **dict.fromkeys(control.AFTER, learn_control),
    RunStarted: learn_run,
    OrderSubmitted: learn_submission,
    OrderWithheld: learn_withheld,
    CancelSubmitted: learn_cancel,
    LiquidationOrdered: learn_liquidation,
    **dict.fromkeys(_REPORTS, learn_report),
}

_DECIDES: dict[type[Event], Decide[State]] = {
    OrderApproved: submit_approved,
    HaltRequested: cancel_for_halt,
    TradingHalted: cancel_for_halt,
    FlattenRequested: cancel_for_flatten,
    StrategyDisableRequested: cancel_for_disabled,
    **dict.fromkeys(_REPORTS, report_surprise),
}

CORE: Core[State] = Core(
    name="execution",
    initial=State,
    evolves=_EVOLVES,
    decides=_DECIDES,
    confirms={OrderSubmitted: confirm_submission},
)
