"""Projections: what people and dashboards look up, as folds of the facts: orders, fills, positions, trades, equity.

Pure: facts in, rows out. ``tables`` writes the rows in the transaction that records the facts, and ``rebuild`` folds
the whole tape anew and compares. Nothing is decided from these rows: cores have their own state.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from tapeline_common.events import (
    CancelSubmitted,
    EquityMarked,
    Event,
    LiquidationOrdered,
    OrderAccepted,
    OrderApproved,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderProposed,
    OrderRefused,
    OrderRejected,
    OrderSubmitted,
    OrderTerms,
    OrderWithheld,
    PositionChanged,
    TradeClosed,
)
from tapeline_common.money import ZERO
from tapeline_common.wire import Fact

NAMES = ("orders", "fills", "positions", "trades", "equity")
"""Every projection; each has a table of this name and a row in ``projection_offset``."""

Row = tuple[Any, ...]


class OrderRow(msgspec.Struct):
    """One order, from proposal to its end; the fields are the columns of ``orders``, in order.

    Attributes:
        status: the last step of its life; an ended order stays ended, except that a fill is always counted.
        reason: why it was refused, withheld, rejected or cancelled.
        notional: sum of quantity times price of its fills, in quote currency.
    """

    order_id: str
    strategy: str
    instrument: str
    side: str
    order_type: str
    time_in_force: str
    purpose: str
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    client_order_id: str
    venue_order_id: str
    status: str
    reason: str
    filled: Decimal
    notional: Decimal
    fees: Decimal
    proposed_ns: int
    updated_ns: int
    first_pos: int
    last_pos: int


ENDED = frozenset({"REFUSED", "WITHHELD", "REJECTED", "FILLED", "CANCELED", "EXPIRED"})

STATUS_AFTER: dict[type[Event], str] = {
    OrderProposed: "PROPOSED",
    OrderApproved: "APPROVED",
    OrderRefused: "REFUSED",
    OrderSubmitted: "SUBMITTED",
    OrderWithheld: "WITHHELD",
    OrderAccepted: "WORKING",
    LiquidationOrdered: "WORKING",
    OrderRejected: "REJECTED",
    CancelSubmitted: "CANCEL_SUBMITTED",
    OrderCanceled: "CANCELED",
    OrderExpired: "EXPIRED",
    OrderOutcomeUnknown: "UNKNOWN",
}
"""Status after each event other than a fill, whose status depends on how much is filled."""

ORDER_EVENTS = frozenset({*STATUS_AFTER, OrderFilled})

PROJECTED = ORDER_EVENTS | {PositionChanged, TradeClosed, EquityMarked}
"""Events that change a row of any table; most facts of a long tape do not."""


@dataclass(slots=True)
class Changes:
    """Rows to be written for a run of facts: upserts by key for orders and positions, inserts for the rest."""

    orders: dict[str, OrderRow] = field(default_factory=dict)
    fills: list[Row] = field(default_factory=list)
    positions: dict[tuple[str, str], Row] = field(default_factory=dict)
    trades: list[Row] = field(default_factory=list)
    equity: list[Row] = field(default_factory=list)


def orders_touched(facts: Iterable[Fact]) -> list[str]:
    """Order ids whose rows a fold of these facts may change, in order of first touch.

    An order whose very first fact is among them has no row yet, and is left out.
    """
    touched: dict[str, None] = {}
    fresh: set[str] = set()
    for fact in facts:
        if type(fact.event) in ORDER_EVENTS:
            if fact.version == 1:
                fresh.add(fact.stream)
            elif fact.stream not in fresh:
                touched[fact.stream] = None
    return list(touched)


def fold(facts: Iterable[Fact], orders: MutableMapping[str, OrderRow]) -> Changes:
    """Rows changed by facts in position order.

    Args:
        orders: the rows of ``orders_touched`` that exist already; brought up to date in place.
    """
    changes = Changes()
    for fact in facts:
        event = fact.event
        if type(event) in ORDER_EVENTS:
            _fold_order(fact, orders, changes)
        match event:
            case OrderFilled():
                changes.fills.append(_fill_row(fact, event))
            case PositionChanged():
                changes.positions[event.strategy, event.instrument] = _position_row(fact, event)
            case TradeClosed():
                changes.trades.append(_trade_row(fact, event))
            case EquityMarked():
                changes.equity.append((fact.pos, event.marked_ns, event.cash, event.equity, event.exposure))
            case _:
                pass
    return changes


def fold_naive(facts: Iterable[Fact]) -> dict[str, dict[Any, Row]]:
    """All tables of a whole tape, one fact at a time: the plain twin that stored tables are tested against."""
    orders: dict[str, OrderRow] = {}
    tables: dict[str, dict[Any, Row]] = {name: {} for name in NAMES}
    for fact in facts:
        changes = fold([fact], orders)
        tables["orders"].update({key: msgspec.structs.astuple(row) for key, row in changes.orders.items()})
        tables["fills"].update({row[0]: row for row in changes.fills})
        tables["positions"].update(changes.positions)
        tables["trades"].update({row[0]: row for row in changes.trades})
        tables["equity"].update({row[0]: row for row in changes.equity})
    return tables


def _fold_order(fact: Fact, orders: MutableMapping[str, OrderRow], changes: Changes) -> None:
    event: Any = fact.event
    row = orders.get(event.order)
    if row is None:
        terms = getattr(event, "terms", None)
        if terms is None:
            return  # about an order that nobody proposed, approved or submitted: there is nothing to show
        row = orders[event.order] = _new_order(event.order, terms, fact)
    changes.orders[event.order] = row
    row.updated_ns = fact.time_ns
    row.last_pos = fact.pos
    row.client_order_id = getattr(event, "client_order_id", "") or row.client_order_id
    row.venue_order_id = getattr(event, "venue_order_id", "") or row.venue_order_id
    if isinstance(event, OrderFilled):
        _fold_fill(row, event)
    elif row.status not in ENDED and not (isinstance(event, OrderAccepted) and row.filled > ZERO):
        row.status = STATUS_AFTER[type(event)]
        row.reason = str(getattr(event, "reason", row.reason))


def _fold_fill(row: OrderRow, fill: OrderFilled) -> None:
    row.filled += fill.quantity
    row.notional += fill.quantity * fill.price
    row.fees += fill.fee
    if row.filled >= row.quantity:
        row.status = "FILLED"
    elif row.status not in ENDED and row.status != "CANCEL_SUBMITTED":
        row.status = "PARTLY_FILLED"


def _new_order(order: str, terms: OrderTerms, fact: Fact) -> OrderRow:
    return OrderRow(
        order_id=order,
        strategy=terms.strategy,
        instrument=terms.instrument,
        side=terms.side.value,
        order_type=terms.order_type.value,
        time_in_force=terms.time_in_force.value,
        purpose=terms.purpose.value,
        quantity=terms.quantity,
        limit_price=terms.limit_price,
        stop_price=terms.stop_price,
        client_order_id="",
        venue_order_id="",
        status="",
        reason="",
        filled=ZERO,
        notional=ZERO,
        fees=ZERO,
        proposed_ns=fact.time_ns,
        updated_ns=fact.time_ns,
        first_pos=fact.pos,
        last_pos=fact.pos,
    )


def _fill_row(fact: Fact, fill: OrderFilled) -> Row:
    return (
        fact.pos,
        fact.time_ns,
        fill.order,
        fill.trade_id,
        fill.strategy,
        fill.instrument,
        fill.side.value,
        fill.quantity,
        fill.price,
        fill.fee,
        fill.fee_currency,
        fill.liquidity.value,
        fill.slippage,
    )


def _position_row(fact: Fact, position: PositionChanged) -> Row:
    return (
        position.strategy,
        position.instrument,
        position.quantity,
        position.average_price,
        position.realised_pnl,
        position.fees,
        fact.time_ns,
        fact.pos,
    )


def _trade_row(fact: Fact, trade: TradeClosed) -> Row:
    return (
        fact.pos,
        fact.time_ns,
        trade.trade,
        trade.strategy,
        trade.instrument,
        trade.side.value,
        trade.quantity,
        trade.entry_price,
        trade.exit_price,
        trade.opened_ns,
        trade.closed_ns,
        trade.pnl,
        trade.fees,
        trade.funding,
        trade.decision,
    )
