"""The simulated venue: a core that receives orders, fills them from bars and keeps its own account.

Used by paper trading and backtests; a real exchange speaks under the same author. It knows nothing of strategies'
intentions, judges no risk and trusts nobody's books: cash and inventory are its own arithmetic, so that the ledger has
something independent to reconcile with. How prices are found is ``matching``; whether a submission arrives is ``gate``.

A bar can fill only if it opened no earlier than every bar heard before it had closed. So no order is filled from a time
that was already known when it arrived, and where several timeframes of an instrument are heard, the finest one fills.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tapeline_common import control
from tapeline_common.core import FOREVER, NEVER, Core, Evolve, Quiet, Stamp
from tapeline_common.events import (
    AccountFunded,
    BalanceReported,
    BarClosed,
    CancelSubmitted,
    Event,
    FundingPublished,
    InstrumentListed,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
    VenueConfigured,
)
from tapeline_common.money import ZERO, is_multiple, plain
from tapeline_common.values import (
    CancelReason,
    InstrumentId,
    Liquidity,
    OrderType,
    Rejection,
    StrategyId,
    TimeInForce,
    TradingState,
)
from tapeline_execution import gate, matching

DAY_NS = 86_400_000_000_000
"""A UTC day; the tape's clock counts no leap seconds."""

REMEMBERED_CLIENT_IDS = 4096
"""Client order ids of finished orders that are still refused; real venues remember open orders only."""


@dataclass(slots=True)
class Working:
    """An order in the book.

    Attributes:
        remaining: what is not filled yet, in base units.
        fills: how many executions it had; numbers the next one.
        submitted_day: UTC day of its submission, counted from the epoch.
        first_pos: position of the first bar it met; 0 before that.
        triggered_pos: position of the bar that touched its stop price; 0 before that.
    """

    submitted: OrderSubmitted
    venue_order_id: str
    remaining: Decimal
    submitted_day: int
    fills: int = 0
    first_pos: int = 0
    triggered_pos: int = 0


@dataclass(slots=True)
class Book:
    """One instrument at the venue.

    Attributes:
        bar: the bar heard last; kept as it came, read only when a number is needed.
        seen_ns: the latest close of any bar heard; a bar that opened before it fills nothing.
        orders: by client order id, in order of arrival.
        positions: signed quantity by strategy, flat ones left out; what reduce-only orders may close.
    """

    listing: InstrumentListed
    bar: BarClosed | None = None
    seen_ns: int = 0
    orders: dict[str, Working] = field(default_factory=dict)
    positions: dict[StrategyId, Decimal] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """What the venue knows.

    Attributes:
        venues: configured ones by name. One account stands behind all of them and is reported under the first name.
        arriving: submissions received and not answered yet, by client order id.
        working: where each open order is, by client order id.
        used: client order ids of finished orders, oldest first, at most ``REMEMBERED_CLIENT_IDS``.
        matching_pos: position of the latest bar that may fill and meets orders.
        next_day_ns: when the next UTC day begins; a bar that opens then or later begins it.
        day_pos: position of the bar that began the current day.
        unreported: a fill or funding moved the account since balances were reported.
    """

    trading: TradingState = TradingState.HALTED
    venues: dict[str, VenueConfigured] = field(default_factory=dict)
    books: dict[InstrumentId, Book] = field(default_factory=dict)
    arriving: dict[str, tuple[OrderSubmitted, Stamp]] = field(default_factory=dict)
    working: dict[str, InstrumentId] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)
    used_oldest_first: deque[str] = field(default_factory=deque)
    balances: dict[str, Decimal] = field(default_factory=dict)
    matching_pos: int = 0
    next_day_ns: int = 0
    day_pos: int = 0
    unreported: bool = False


# ---- deciding ----------------------------------------------------------------------------------------------------


def answer_submission(state: State, event: OrderSubmitted, stamp: Stamp) -> Sequence[Event]:
    """Accept or reject what was received; silent about what execution withholds."""
    if event.client_order_id not in state.arriving:
        return ()
    fault = _fault(state, event)
    if fault is not None:
        return (OrderRejected(event.order, event.client_order_id, *fault),)
    return (OrderAccepted(event.order, event.client_order_id, f"v{stamp.pos}"),)


def answer_cancel(state: State, event: CancelSubmitted, _stamp: Stamp) -> Sequence[Event]:
    """Silent about orders that are not open: filled before the cancel came, or never received."""
    if event.client_order_id not in state.working:
        return ()
    return (OrderCanceled(event.order, event.client_order_id, event.reason),)


def answer_bar(state: State, event: BarClosed, stamp: Stamp) -> Sequence[Event]:
    """Yesterday's balances at the first bar of a day, then fills, expiries and cancellations in order of arrival."""
    pos = stamp.pos
    if state.matching_pos != pos and not (state.unreported and state.day_pos == pos):
        return ()
    answers: list[Event] = []
    if state.unreported and state.day_pos == pos:
        balances = {currency: plain(state.balances[currency]) for currency in sorted(state.balances)}
        answers.append(BalanceReported(next(iter(state.venues)), balances, heard=pos))
    if state.matching_pos == pos:
        book = state.books[event.instrument]
        session = _Session(book, state.venues[book.listing.venue], event, pos)
        for working in book.orders.values():
            answers.extend(session.meet(working))
    return answers


class _Session:
    """One bar meeting one book: what the orders before this one have taken of its volume and of the positions."""

    def __init__(self, book: Book, costs: VenueConfigured, bar: BarClosed, pos: int) -> None:
        listing = book.listing
        self.listing = listing
        self.venue = costs
        self.pos = pos
        self.day = bar.open_ns // DAY_NS
        self.prices = matching.prices_of(bar)
        self.costs = matching.Costs(costs.slippage_bps, listing.tick_size)
        self.left = matching.allowance(costs.participation, self.prices.volume, listing.lot_size)
        self.positions = dict(book.positions)

    def meet(self, working: Working) -> Sequence[Event]:
        submitted = working.submitted
        terms = submitted.terms
        if terms.time_in_force is TimeInForce.DAY and self.day > working.submitted_day:
            return (OrderExpired(submitted.order, submitted.client_order_id),)
        now = working.triggered_pos == self.pos
        first = working.first_pos == self.pos
        found = matching.match(
            terms, self.prices, self.costs, first=first, triggered=working.triggered_pos > 0, now=now
        )
        if found is None:
            return _without_rest(working, working.remaining, reduced=False)
        quantity = self._quantity(working)
        if terms.time_in_force is TimeInForce.FOK and quantity < working.remaining:
            return _without_rest(working, working.remaining, reduced=False)
        answers: list[Event] = []
        if quantity > 0:
            answers.append(self._fill(working, found, quantity))
        reduced = terms.reduce_only and self._reducible(working) == 0
        answers.extend(_without_rest(working, working.remaining - quantity, reduced=reduced))
        return answers

    def _quantity(self, working: Working) -> Decimal:
        quantity = working.remaining
        if working.submitted.terms.reduce_only:
            quantity = min(quantity, self._reducible(working))
        return quantity if self.left is None else min(quantity, self.left)

    def _reducible(self, working: Working) -> Decimal:
        terms = working.submitted.terms
        return matching.reducible(terms.side, self.positions.get(terms.strategy, ZERO))

    def _fill(self, working: Working, found: matching.Match, quantity: Decimal) -> OrderFilled:
        submitted = working.submitted
        terms = submitted.terms
        if self.left is not None:
            self.left -= quantity
        self.positions[terms.strategy] = self.positions.get(terms.strategy, ZERO) + terms.side.sign * quantity
        rate = self.venue.maker_fee if found.liquidity is Liquidity.MAKER else self.venue.taker_fee
        return OrderFilled(
            order=submitted.order,
            client_order_id=submitted.client_order_id,
            strategy=terms.strategy,
            instrument=terms.instrument,
            trade_id=f"{working.venue_order_id}-{working.fills + 1}",
            side=terms.side,
            quantity=quantity,
            price=found.price,
            fee=plain(found.price * quantity * rate),
            fee_currency=self.listing.quote,
            liquidity=found.liquidity,
            slippage=found.slippage,
        )


def _without_rest(working: Working, rest: Decimal, *, reduced: bool) -> Sequence[Event]:
    """What happens to the part of an order that this bar did not fill: cancelled, or (nothing said) carried over."""
    if rest == 0:
        return ()
    submitted = working.submitted
    if submitted.terms.time_in_force is TimeInForce.FOK:
        reason = CancelReason.FILL_OR_KILL
    elif submitted.terms.time_in_force is TimeInForce.IOC:
        reason = CancelReason.IMMEDIATE_OR_CANCEL
    elif reduced:
        reason = CancelReason.REDUCE_ONLY
    else:
        return ()
    return (OrderCanceled(submitted.order, submitted.client_order_id, reason),)


def _fault(state: State, event: OrderSubmitted) -> tuple[Rejection, str] | None:
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
    return _price_fault(event, book) or _notional_fault(event, book)


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


# ---- learning ----------------------------------------------------------------------------------------------------


def learn_control(state: State, event: Event, _stamp: Stamp) -> None:
    state.trading = control.AFTER[type(event)]


def learn_venue(state: State, event: VenueConfigured, _stamp: Stamp) -> None:
    state.venues[event.venue] = event


def learn_listing(state: State, event: InstrumentListed, _stamp: Stamp) -> None:
    book = state.books.get(event.instrument)
    if book is None:
        state.books[event.instrument] = Book(event)
    else:
        book.listing = event


def learn_funding(state: State, event: AccountFunded, _stamp: Stamp) -> None:
    _move(state, event.currency, event.amount)


def learn_funding_rate(state: State, event: FundingPublished, _stamp: Stamp) -> None:
    """Longs pay shorts: every open position at once, so the net position pays."""
    book = state.books.get(event.instrument)
    if book is None or not book.positions:
        return
    net = sum(book.positions.values(), ZERO)
    _move(state, book.listing.quote, -net * event.mark_price * event.rate)
    state.unreported = True


def learn_submission(state: State, event: OrderSubmitted, stamp: Stamp) -> None:
    if gate.withheld(state.trading, event.terms, event.valid_until_ns, stamp) is None:
        state.arriving[event.client_order_id] = (event, stamp)


def learn_bar(state: State, event: BarClosed, stamp: Stamp) -> None:
    book = state.books.get(event.instrument)
    if book is None:
        return
    book.bar = event
    open_ns = event.open_ns
    fills = open_ns >= book.seen_ns
    if event.close_ns > book.seen_ns:
        book.seen_ns = event.close_ns
    if open_ns >= state.next_day_ns:
        state.next_day_ns = (open_ns // DAY_NS + 1) * DAY_NS
        state.day_pos = stamp.pos
    if fills and book.orders:
        state.matching_pos = stamp.pos
        _mark(book, event, stamp.pos)


def _mark(book: Book, bar: BarClosed, pos: int) -> None:
    """Note which orders meet their first bar and which stops are touched: ``answer_bar`` only reads."""
    prices = None
    for working in book.orders.values():
        if not working.first_pos:
            working.first_pos = pos
        terms = working.submitted.terms
        if terms.stop_price is not None and not working.triggered_pos:
            prices = prices or matching.prices_of(bar)
            if matching.is_triggered(terms, prices):
                working.triggered_pos = pos


def learn_accepted(state: State, event: OrderAccepted, _stamp: Stamp) -> None:
    if event.client_order_id not in state.arriving:
        return  # a real venue's report, under the same author
    submitted, arrived = state.arriving.pop(event.client_order_id)
    terms = submitted.terms
    day = arrived.time_ns // DAY_NS
    state.books[terms.instrument].orders[event.client_order_id] = Working(
        submitted, event.venue_order_id, terms.quantity, day
    )
    state.working[event.client_order_id] = terms.instrument


def learn_rejected(state: State, event: OrderRejected, _stamp: Stamp) -> None:
    state.arriving.pop(event.client_order_id, None)


def learn_filled(state: State, event: OrderFilled, _stamp: Stamp) -> None:
    if event.client_order_id not in state.working:
        return  # as above: not our account
    book = state.books[event.instrument]
    working = book.orders[event.client_order_id]
    working.remaining -= event.quantity
    working.fills += 1
    signed = event.side.sign * event.quantity
    position = book.positions.pop(event.strategy, ZERO) + signed
    if position:
        book.positions[event.strategy] = position
    _move(state, book.listing.base, signed)
    _move(state, book.listing.quote, -signed * event.price)
    _move(state, event.fee_currency, -event.fee)
    state.unreported = True
    if working.remaining == 0:
        _finish(state, event.client_order_id)


def learn_finished(state: State, event: OrderCanceled | OrderExpired, _stamp: Stamp) -> None:
    if event.client_order_id in state.working:
        _finish(state, event.client_order_id)


def learn_report(state: State, _event: BalanceReported, _stamp: Stamp) -> None:
    state.unreported = False


def _move(state: State, currency: str, amount: Decimal) -> None:
    state.balances[currency] = state.balances.get(currency, ZERO) + amount


def _finish(state: State, client_order_id: str) -> None:
    instrument = state.working.pop(client_order_id)
    del state.books[instrument].orders[client_order_id]
    state.used[client_order_id] = None
    state.used_oldest_first.append(client_order_id)
    if len(state.used_oldest_first) > REMEMBERED_CLIENT_IDS:
        del state.used[state.used_oldest_first.popleft()]


_EVOLVES: dict[type[Event], Evolve[State]] = {
    **dict.fromkeys(gate.HEARD_BY_BOTH, gate.keep_clock),
    **dict.fromkeys(control.AFTER, learn_control),
    VenueConfigured: learn_venue,
    InstrumentListed: learn_listing,
    AccountFunded: learn_funding,
    OrderSubmitted: learn_submission,
    BarClosed: learn_bar,
    FundingPublished: learn_funding_rate,
    OrderAccepted: learn_accepted,
    OrderRejected: learn_rejected,
    OrderFilled: learn_filled,
    OrderCanceled: learn_finished,
    OrderExpired: learn_finished,
    BalanceReported: learn_report,
}


def quiet_about_bars(state: State) -> int:
    """A bar is answered when it meets orders, or begins a day whose balances are due; it closes after it opened."""
    if state.arriving or state.working:
        return NEVER
    return state.next_day_ns if state.unreported else FOREVER


CORE: Core[State] = Core(
    name="venue",
    initial=State,
    evolves=_EVOLVES,
    decides={OrderSubmitted: answer_submission, CancelSubmitted: answer_cancel, BarClosed: answer_bar},
    quiet={BarClosed: (Quiet(quiet_about_bars, ended_by=frozenset({OrderSubmitted, FundingPublished})),)},
)
