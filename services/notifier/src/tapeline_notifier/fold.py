"""Which facts people are told about, and in which words: a pure fold of the tape.

Every fact of ``HEARS`` is learnt, from the first of the tape on; what is to be told about it is returned. The same tape
gives the same messages. Orders are told once they are over and the books have taken their last fill: with quantity,
average price, fees, and the result of the trades they closed. Who is told, and whether somebody was told already, is
none of this module's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeAlias

from tapeline_common.events import (
    BooksReconciled,
    CodeDeployed,
    EquityMarked,
    Event,
    FeedInterrupted,
    FeedResumed,
    FlattenRequested,
    HaltRequested,
    InstrumentListed,
    LifecycleViolated,
    LimitBreached,
    LiquidationOrdered,
    ModelPromoted,
    ModelRolledBack,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
    OrderTerms,
    OrderWithheld,
    PositionChanged,
    PromotionRefused,
    ResumeRequested,
    RunStarted,
    StrategyDisableRequested,
    StrategyEnableRequested,
    TradeClosed,
    TradingHalted,
    TradingResumed,
)
from tapeline_common.money import ZERO, ratio
from tapeline_common.values import FeedTroubleKind, HaltReason, InstrumentId, OrderId, Purpose, Side
from tapeline_common.wire import Fact, Heard
from tapeline_notifier import words
from tapeline_notifier.message import Kind, Message, Severity, message


@dataclass(slots=True)
class OpenOrder:
    """An order that is not told yet.

    Attributes:
        last_fill: position of its last fill, 0 before the first one.
        unbooked: fills that the books have not taken yet.
        end: how it ended, empty while it has not.
    """

    terms: OrderTerms
    filled: Decimal = ZERO
    cost: Decimal = ZERO
    fees: dict[str, Decimal] = field(default_factory=dict)
    fills: dict[str, None] = field(default_factory=dict)
    trades: list[TradeClosed] = field(default_factory=list)
    last_fill: int = 0
    unbooked: int = 0
    end: str = ""


@dataclass(slots=True)
class State:
    """What must be known to put a fact into words.

    Attributes:
        listed: names and quote currencies of instruments.
        orders: submitted and not told. ``filled_by``: position of a fill the books have not taken → its order;
            ``positioned``: those among them whose new position is known.
        interrupted: (instrument, kind) of feed troubles that were told and are not over.
        differing: venue → the differences that were told last.
    """

    listed: dict[InstrumentId, tuple[str, str]] = field(default_factory=dict)
    orders: dict[OrderId, OpenOrder] = field(default_factory=dict)
    filled_by: dict[int, OrderId] = field(default_factory=dict)
    positioned: dict[int, None] = field(default_factory=dict)
    interrupted: dict[tuple[InstrumentId, FeedTroubleKind], None] = field(default_factory=dict)
    differing: dict[str, dict[str, Decimal]] = field(default_factory=dict)


def tell(state: State, fact: Fact | Heard) -> Sequence[Message]:
    """Learn a fact, and return what is to be told about it. Facts come in position order."""
    teller = TELLS.get(type(fact.event))
    return () if teller is None else tuple(teller(state, fact.event, fact))


# ---- words -------------------------------------------------------------------------------------------------------


def _told(kind: Kind, severity: Severity, title: str, text: str, fact: Fact | Heard) -> Message:
    return message(kind, severity, title, text, time_ns=fact.time_ns, position=fact.pos)


def _name(state: State, instrument: InstrumentId) -> str:
    return state.listed.get(instrument, (instrument, ""))[0]


def _quote(state: State, instrument: InstrumentId) -> str:
    return state.listed.get(instrument, ("", ""))[1]


def _net(trade: TradeClosed) -> Decimal:
    return trade.pnl - trade.fees + trade.funding


def _trade_line(state: State, trade: TradeClosed) -> str:
    quote = _quote(state, trade.instrument)
    parts = [f"gross {words.money(trade.pnl)}", f"fees {words.money(trade.fees)}"]
    if trade.funding:
        parts.append(f"funding {words.signed(trade.funding)}")
    return (
        f"closed a {trade.side.lower()} of {words.quantity(trade.quantity)}, entered at "
        f"{words.price(trade.entry_price)}, left at {words.price(trade.exit_price)}: net "
        f"{words.signed(_net(trade))} {quote} ({', '.join(parts)})".replace("  ", " ")
    )


# ---- trades ------------------------------------------------------------------------------------------------------


def submit(state: State, event: OrderSubmitted | LiquidationOrdered, _fact: Fact | Heard) -> Iterable[Message]:
    state.orders[event.order] = OpenOrder(event.terms)
    return ()


def liquidate(state: State, event: LiquidationOrdered, fact: Fact | Heard) -> Iterable[Message]:
    submit(state, event, fact)
    terms = event.terms
    what = f"{terms.side.lower()} {words.quantity(terms.quantity)} {_name(state, terms.instrument)}"
    text = (
        f"the account is worth {words.money(event.equity)}, its positions need {words.money(event.needed)} "
        f"(strategy {terms.strategy}, order {event.order})"
    )
    return (_told(Kind.TRADE, Severity.PAGE, f"Liquidation: the venue orders to {what}", text, fact),)


def fill(state: State, event: OrderFilled, fact: Fact | Heard) -> Iterable[Message]:
    """Count a fill, once. The message waits for the books to take it: they do not take what is repeated, either."""
    order = state.orders.get(event.order)
    if order is None:  # its order is over; the venue was faster than our cancel, or repeats itself
        terms = OrderTerms(event.strategy, event.instrument, event.side, event.quantity)
        order = state.orders[event.order] = OpenOrder(terms, end="after the order was over")
    if event.trade_id in order.fills:
        return ()
    order.fills[event.trade_id] = None
    order.filled += event.quantity
    order.cost += event.quantity * event.price
    order.fees[event.fee_currency] = order.fees.get(event.fee_currency, ZERO) + event.fee
    order.last_fill = fact.pos
    order.unbooked += 1
    state.filled_by[fact.pos] = event.order
    if order.filled >= order.terms.quantity:
        order.end = order.end or FILLED
    return ()


def close_trade(state: State, event: TradeClosed, fact: Fact | Heard) -> Iterable[Message]:
    """The result belongs to the order whose fill closed the trade; without one it is told by itself."""
    found = state.filled_by.get(fact.cause)
    if found is not None:
        state.orders[found].trades.append(event)
        return ()
    quote = _quote(state, event.instrument)
    title = f"Trade closed in {_name(state, event.instrument)} ({event.strategy}): {words.signed(_net(event))} {quote}"
    return (_told(Kind.TRADE, Severity.INFO, title, _trade_line(state, event), fact),)


def note_position(state: State, _event: PositionChanged, fact: Fact | Heard) -> Iterable[Message]:
    if fact.cause in state.filled_by:
        state.positioned[fact.cause] = None
    return ()


def book(state: State, _event: EquityMarked, fact: Fact | Heard) -> Iterable[Message]:
    """The books have taken a fill: a mark of equity behind the new position is the last thing they say about it.

    One before it is the mark of the hour that ended with the fill.
    """
    if fact.cause not in state.positioned:
        return ()
    del state.positioned[fact.cause]
    found = state.filled_by.pop(fact.cause)
    order = state.orders[found]
    order.unbooked -= 1
    return _finish(state, found, fact) if order.end and not order.unbooked else ()


FILLED = "filled"

ENDED: dict[type[Event], str] = {
    OrderCanceled: "the rest was cancelled",
    OrderExpired: "the rest expired",
    OrderRejected: "the rest was rejected",
    OrderWithheld: "the rest was withheld",
}


def end(state: State, event: Any, fact: Fact | Heard) -> Iterable[Message]:
    """An order is over before it was filled whole. What had no fill is not told: it is counted in the metrics."""
    order = state.orders.get(event.order)
    if order is None:
        return ()
    if not order.filled:
        del state.orders[event.order]
        return ()
    reason = getattr(event, "reason", "")
    order.end = order.end or ENDED[type(event)] + (f" ({reason})" if reason else "")
    return () if order.unbooked else _finish(state, event.order, fact)


def _finish(state: State, identity: OrderId, fact: Fact | Heard) -> Iterable[Message]:
    order = state.orders.pop(identity)
    terms = order.terms
    quote = _quote(state, terms.instrument)
    average = words.price(ratio(order.cost, order.filled))
    verb = "Bought" if terms.side is Side.BUY else "Sold"
    title = f"{verb} {words.quantity(order.filled)} {_name(state, terms.instrument)} at {average} ({terms.strategy})"
    if order.trades:
        title += f": {words.signed(sum(map(_net, order.trades), ZERO))} {quote}".rstrip()
    fees = ", ".join(f"{words.money(fee)} {currency}" for currency, fee in order.fees.items())
    count = len(order.fills)
    lines = [
        f"order {identity}: {words.quantity(order.filled)} of {words.quantity(terms.quantity)} in {count} "
        f"fill{'s' if count > 1 else ''}, average {average}, fee {fees}"
    ]
    if order.end != FILLED:
        lines.append(order.end)
    if terms.purpose is not Purpose.SIGNAL:
        lines.append(f"purpose {terms.purpose.lower()}")
    lines += [_trade_line(state, trade) for trade in order.trades]
    told = message(Kind.TRADE, Severity.INFO, title, "\n".join(lines), time_ns=fact.time_ns, position=order.last_fill)
    return (told,)


# ---- control -----------------------------------------------------------------------------------------------------


def _asked(verb: str) -> Teller:
    """A request of the operator's, by whom and why."""

    def teller(_state: State, event: Any, fact: Fact | Heard) -> Iterable[Message]:
        about = f" {event.strategy}" if hasattr(event, "strategy") else ""
        title = f"{verb}{about}: asked by {event.issuer}"
        return (_told(Kind.CONTROL, Severity.INFO, title, words.because(event.reason), fact),)

    return teller


def halted(_state: State, event: TradingHalted, fact: Fact | Heard) -> Iterable[Message]:
    """What the operator asked for is no news to wake anybody with."""
    severity = Severity.INFO if event.reason is HaltReason.OPERATOR else Severity.PAGE
    return (_told(Kind.CONTROL, severity, f"Trading halted: {event.reason}", event.detail, fact),)


def resumed(_state: State, event: TradingResumed, fact: Fact | Heard) -> Iterable[Message]:
    return (_told(Kind.CONTROL, Severity.INFO, "Trading resumed", event.detail, fact),)


def breached(_state: State, event: LimitBreached, fact: Fact | Heard) -> Iterable[Message]:
    text = f"observed {event.observed}, limit {event.limit}"
    return (_told(Kind.CONTROL, Severity.PAGE, f"Limit breached: {event.reason}", text, fact),)


def violated(_state: State, event: LifecycleViolated, fact: Fact | Heard) -> Iterable[Message]:
    was = event.state or "not known"
    title = f"Order {event.order} ({was}) cannot be followed by {event.event}"
    return (_told(Kind.CONTROL, Severity.PAGE, title, event.detail, fact),)


def reconciled(state: State, event: BooksReconciled, fact: Fact | Heard) -> Iterable[Message]:
    """Differences are told when they appear or change, and when they are gone; agreement is quiet."""
    before = state.differing.get(event.venue, {})
    if event.differences == before:
        return ()
    if not event.differences:
        del state.differing[event.venue]
        return (_told(Kind.CONTROL, Severity.INFO, f"Books agree with {event.venue} again", "", fact),)
    state.differing[event.venue] = event.differences
    text = "\n".join(f"{currency} {words.quantity(by)}" for currency, by in event.differences.items())
    title = f"Books differ from {event.venue}"
    return (_told(Kind.CONTROL, Severity.PAGE, title, f"reported minus books:\n{text}", fact),)


def started(_state: State, event: RunStarted, fact: Fact | Heard) -> Iterable[Message]:
    text = f"{event.currency}, code {event.code_version}"
    return (_told(Kind.CONTROL, Severity.INFO, f"Run {event.run} started", text, fact),)


def deployed(_state: State, event: CodeDeployed, fact: Fact | Heard) -> Iterable[Message]:
    text = "decisions from here on are made by it"
    return (_told(Kind.CONTROL, Severity.INFO, f"Code {event.code_version} deployed", text, fact),)


# ---- models ------------------------------------------------------------------------------------------------------


def promoted(state: State, event: ModelPromoted, fact: Fact | Heard) -> Iterable[Message]:
    title = f"Model {words.name_of(event.model)} promoted for {_name(state, event.instrument)}"
    before = f"replaces {words.name_of(event.previous)}" if event.previous else "the first one"
    return (_told(Kind.MODEL, Severity.INFO, title, f"{before}; {words.because(event.reason)}", fact),)


def rolled_back(state: State, event: ModelRolledBack, fact: Fact | Heard) -> Iterable[Message]:
    title = f"Model {words.name_of(event.model)} is back for {_name(state, event.instrument)}"
    text = f"instead of {words.name_of(event.previous)}; {words.because(event.reason)}"
    return (_told(Kind.MODEL, Severity.INFO, title, text, fact),)


def promotion_refused(_state: State, event: PromotionRefused, fact: Fact | Heard) -> Iterable[Message]:
    title = f"Promotion refused: {event.reason}"
    return (_told(Kind.MODEL, Severity.INFO, title, f"{words.name_of(event.subject)}: {event.detail}", fact),)


# ---- feeds -------------------------------------------------------------------------------------------------------


def interrupted(state: State, event: FeedInterrupted, fact: Fact | Heard) -> Iterable[Message]:
    """The same trouble of the same feed is told once; missing history is over as soon as it is said."""
    key = event.instrument, event.kind
    if key in state.interrupted:
        return ()
    if event.kind is not FeedTroubleKind.HISTORY_MISSING:
        state.interrupted[key] = None
    title = f"Feed of {_name(state, event.instrument)}: {event.kind}"
    return (_told(Kind.ALERT, Severity.TICKET, title, event.detail, fact),)


def feed_resumed(state: State, event: FeedResumed, fact: Fact | Heard) -> Iterable[Message]:
    for key in [key for key in state.interrupted if key[0] == event.instrument]:
        del state.interrupted[key]
    title = f"Feed of {_name(state, event.instrument)} is back"
    return (_told(Kind.ALERT, Severity.TICKET, title, f"{event.backfilled} bars backfilled", fact),)


def list_instrument(state: State, event: InstrumentListed, _fact: Fact | Heard) -> Iterable[Message]:
    state.listed[event.instrument] = event.name, event.quote
    return ()


Teller: TypeAlias = Callable[[State, Any, Fact | Heard], Iterable[Message]]

TELLS: dict[type[Event], Teller] = {
    RunStarted: started,
    CodeDeployed: deployed,
    InstrumentListed: list_instrument,
    OrderSubmitted: submit,
    LiquidationOrdered: liquidate,
    OrderFilled: fill,
    PositionChanged: note_position,
    TradeClosed: close_trade,
    EquityMarked: book,
    **dict.fromkeys(ENDED, end),
    HaltRequested: _asked("Halt"),
    FlattenRequested: _asked("Flatten"),
    ResumeRequested: _asked("Resume"),
    StrategyDisableRequested: _asked("Disable strategy"),
    StrategyEnableRequested: _asked("Enable strategy"),
    TradingHalted: halted,
    TradingResumed: resumed,
    LimitBreached: breached,
    LifecycleViolated: violated,
    BooksReconciled: reconciled,
    ModelPromoted: promoted,
    ModelRolledBack: rolled_back,
    PromotionRefused: promotion_refused,
    FeedInterrupted: interrupted,
    FeedResumed: feed_resumed,
}

HEARS: tuple[type[Event], ...] = tuple(TELLS)
"""Every type that is learnt from or told about."""
