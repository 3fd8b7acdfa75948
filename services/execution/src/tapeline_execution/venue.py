"""The simulated venue: a core that receives orders, fills them from bars and keeps its own account.

Used by paper trading and backtests; a real exchange speaks under the same author. It knows nothing of strategies'
intentions, judges no risk and trusts nobody's books: cash and inventory are its own arithmetic, so that the ledger has
something independent to reconcile with. How prices are found is ``matching``, and ``pricing`` where more costs are
configured than a flat fee and a fixed slippage; whether a submission arrives is ``gate``.

A bar can fill only if it opened no earlier than every bar heard before it had closed. So no order is filled from a time
that was already known when it arrived, and where several timeframes of an instrument are heard, the finest one fills.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tapeline_common import control
from tapeline_common.bar_block import BarBlock, Passing
from tapeline_common.core import FOREVER, NEVER, Core, Evolve, Quiet, Stamp, keep_clock
from tapeline_common.events import (
    AccountFunded,
    BalanceReported,
    BarClosed,
    BorrowCharged,
    CancelSubmitted,
    CostsConfigured,
    Event,
    FundingPublished,
    InstrumentListed,
    LiquidationOrdered,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
    SessionsScheduled,
    VenueConfigured,
)
from tapeline_common.hours import Hours
from tapeline_common.money import ZERO, plain
from tapeline_common.values import (
    CancelReason,
    InstrumentId,
    Liquidity,
    StrategyId,
    TimeInForce,
    TradingState,
)
from tapeline_execution import admission, gate, liquidation, matching, paths
from tapeline_execution.costs import Turnover, borrow_rate, tier_at
from tapeline_execution.latency import Journey
from tapeline_execution.paths import Met
from tapeline_execution.pricing import Found, Model, Pricing, model_of

DAY_NS = 86_400_000_000_000
"""A UTC day; the tape's clock counts no leap seconds."""

REMEMBERED_CLIENT_IDS = 512
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
        journey: its way to the venue, where latency is configured.
        expires_ns: end of the session of a DAY order, where the instrument has trading hours.
    """

    submitted: OrderSubmitted
    venue_order_id: str
    remaining: Decimal
    submitted_day: int
    fills: int = 0
    first_pos: int = 0
    triggered_pos: int = 0
    journey: Journey | None = None
    expires_ns: int = 0


@dataclass(slots=True)
class Book:
    """One instrument at the venue.

    Attributes:
        bar: the bar heard last; kept as it came, read only when a number is needed.
        seen_ns: the latest close of any bar heard; a bar that opened before it fills nothing.
        orders: by client order id, in order of arrival.
        positions: signed quantity by strategy, flat ones left out; what reduce-only orders may close.
        hours: when it trades; ``None`` where it always does.
        model: costs beyond a flat fee and a fixed slippage; ``None`` where none are configured.
    """

    listing: InstrumentListed
    bar: BarClosed | None = None
    seen_ns: int = 0
    orders: dict[str, Working] = field(default_factory=dict)
    positions: dict[StrategyId, Decimal] = field(default_factory=dict)
    model: Model | None = None
    hours: Hours | None = None


@dataclass(slots=True)
class State:
    """What the venue knows.

    Attributes:
        venues: configured ones by name. One account stands behind all of them and is reported under the first name.
        costs: what the venues charge beyond that, by name of the venue; empty where nothing more is configured.
        turnover: what was traded at venues with fee tiers, by name.
        arriving: submissions received and not answered yet, by client order id.
        working: where each open order is, by client order id.
        used: client order ids of finished orders, oldest first, at most ``REMEMBERED_CLIENT_IDS``.
        matching_pos: position of the latest bar that may fill and meets orders.
        next_day_ns: when the next UTC day begins; a bar that opens then or later begins it.
        day_pos: position of the bar that began the current day.
        days: how many days had ended then since the bar before it.
        unreported: a fill or funding moved the account since balances were reported.
    """

    trading: TradingState = TradingState.HALTED
    venues: dict[str, VenueConfigured] = field(default_factory=dict)
    costs: dict[str, CostsConfigured] = field(default_factory=dict)
    turnover: dict[str, Turnover] = field(default_factory=dict)
    books: dict[InstrumentId, Book] = field(default_factory=dict)
    arriving: dict[str, tuple[OrderSubmitted, Stamp]] = field(default_factory=dict)
    working: dict[str, InstrumentId] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)
    used_oldest_first: deque[str] = field(default_factory=deque)
    balances: dict[str, Decimal] = field(default_factory=dict)
    matching_pos: int = 0
    next_day_ns: int = 0
    day_pos: int = 0
    days: int = 0
    unreported: bool = False


# ---- deciding ----------------------------------------------------------------------------------------------------


def answer_submission(state: State, event: OrderSubmitted, stamp: Stamp) -> Sequence[Event]:
    """Accept or reject what was received; silent about what execution withholds."""
    if event.client_order_id not in state.arriving:
        return ()
    fault = admission.fault(state, event)
    if fault is not None:
        return (OrderRejected(event.order, event.client_order_id, *fault),)
    return (OrderAccepted(event.order, event.client_order_id, f"v{stamp.pos}"),)


def answer_cancel(state: State, event: CancelSubmitted, _stamp: Stamp) -> Sequence[Event]:
    """Silent about orders that are not open: filled before the cancel came, or never received."""
    if event.client_order_id not in state.working:
        return ()
    return (OrderCanceled(event.order, event.client_order_id, event.reason),)


def answer_bar(state: State, event: BarClosed, stamp: Stamp) -> Sequence[Event]:
    """At the first bar of a day yesterday's balances and what borrowing cost; then what the bar does to open orders."""
    pos = stamp.pos
    if state.matching_pos != pos and state.day_pos != pos:
        return ()
    answers: list[Event] = []
    if state.day_pos == pos:
        if state.unreported:
            balances = {currency: plain(state.balances[currency]) for currency in sorted(state.balances)}
            answers.append(BalanceReported(next(iter(state.venues)), balances, heard=pos))
        answers.extend(_borrowing(state, event))
    if state.matching_pos == pos:
        book = state.books[event.instrument]
        session = Session(state, book, event, pos)
        if book.model is not None and book.model.costs.maintenance_margin:
            answers.extend(liquidation.meet_on_margin(state, book, session, answers))
        else:
            for working in session.in_turn(book.orders.values()):
                answers.extend(session.meet(working))
    return answers


def _borrowing(state: State, bar: BarClosed) -> Sequence[Event]:
    """What short positions cost that were open when the days ended: at the new day's open, else at the last close."""
    charged = []
    for book in state.books.values():
        if book.model is None or not book.model.costs.borrow_rate or min(book.positions.values(), default=ZERO) >= 0:
            continue
        assert book.bar is not None, "a position comes from a fill, and a fill from a bar"
        price = Decimal(bar.open if book.listing.instrument == bar.instrument else book.bar.close)
        rate = borrow_rate(book.model.costs.borrow_rate, state.days)
        charged.append(BorrowCharged(book.listing.instrument, state.days, rate, price))
    return charged


class Session:
    """One bar meeting one book: what the orders before this one have taken of its volume and of the positions."""

    def __init__(self, state: State, book: Book, bar: BarClosed, pos: int) -> None:
        listing = book.listing
        venue = state.venues[listing.venue]
        self.listing = listing
        self.pos = pos
        self.open_ns = bar.open_ns
        self.day = bar.open_ns // DAY_NS
        self.prices = matching.prices_of(bar)
        self.left = matching.allowance(venue.participation, self.prices.volume, listing.lot_size)
        self.positions = dict(book.positions)
        self.fees = _fees(state, venue, self.day)
        self.costs = matching.Costs(venue.slippage_bps, listing.tick_size)
        self.pricing = None if book.model is None else Pricing(book.model, listing.tick_size, bar, self.prices)

    def in_turn(self, orders: Collection[Working]) -> Iterable[Working]:
        """The orders that are at the venue, in the order in which the bar gives them their turn.

        That is the order of arrival, unless the path within the bar could decide otherwise: one was a stop triggered in
        this bar, or the path is configured.
        """
        if self.pricing is not None:
            orders = [each for each in orders if each.first_pos]
            if self.pricing.path is not None:
                return sorted(orders, key=self._moment)
        if len(orders) < 2 or not any(each.triggered_pos == self.pos for each in orders):
            return orders
        return paths.worst_first(list(orders), self._rank, self._waits)

    def _moment(self, working: Working) -> Decimal:
        found = self._find(working)
        return ZERO if found is None else found[0]

    def _rank(self, working: Working) -> int:
        return paths.rank(working.submitted.terms, self.prices, self._met(working))

    def _waits(self, working: Working, waiting: Sequence[Working]) -> bool:
        """A protective stop whose position is opened within this very bar comes after that entry."""
        terms = working.submitted.terms
        if not terms.reduce_only or working.triggered_pos != self.pos or self._reducible(working):
            return False
        return any(
            not other.submitted.terms.reduce_only
            and other.submitted.terms.strategy == terms.strategy
            and other.submitted.terms.side is not terms.side
            for other in waiting
        )

    def meet(self, working: Working) -> Sequence[Event]:
        submitted = working.submitted
        terms = submitted.terms
        if terms.time_in_force is TimeInForce.DAY and self._is_over(working):
            return (OrderExpired(submitted.order, submitted.client_order_id),)
        found = self.match(working)
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

    def _is_over(self, working: Working) -> bool:
        """The day of a DAY order: its session where there are trading hours, else the UTC day."""
        if working.expires_ns:
            return self.open_ns >= working.expires_ns
        return self.day > working.submitted_day

    def match(self, working: Working) -> matching.Match | Found | None:
        if self.pricing is not None:
            found = self._find(working)
            return None if found is None else found[1]
        now = working.triggered_pos == self.pos
        first = working.first_pos == self.pos
        return matching.match(
            working.submitted.terms, self.prices, self.costs, first=first, triggered=working.triggered_pos > 0, now=now
        )

    def _find(self, working: Working) -> tuple[Decimal, Found] | None:
        assert self.pricing is not None, "asked only where costs are configured"
        return self.pricing.find(working.submitted.terms, self._met(working), working.journey)

    def _met(self, working: Working) -> Met:
        return Met(
            first=working.first_pos == self.pos,
            triggered=working.triggered_pos > 0,
            now=working.triggered_pos == self.pos,
        )

    def _quantity(self, working: Working) -> Decimal:
        quantity = working.remaining
        if working.submitted.terms.reduce_only:
            quantity = min(quantity, self._reducible(working))
        return quantity if self.left is None else min(quantity, self.left)

    def _reducible(self, working: Working) -> Decimal:
        terms = working.submitted.terms
        return matching.reducible(terms.side, self.positions.get(terms.strategy, ZERO))

    def _fill(self, working: Working, found: matching.Match | Found, quantity: Decimal) -> OrderFilled:
        submitted = working.submitted
        terms = submitted.terms
        if self.left is not None:
            self.left -= quantity
        self.positions[terms.strategy] = self.positions.get(terms.strategy, ZERO) + terms.side.sign * quantity
        if isinstance(found, Found):
            assert self.pricing is not None, "only it finds such prices"
            charged = self.pricing.charge(terms, found, quantity)
            price, slippage, costs, liquidity = charged.price, charged.slippage, charged.costs, found.match.liquidity
        else:
            price, slippage, costs, liquidity = found.price, found.slippage, None, found.liquidity
        rate = self.fees[0] if liquidity is Liquidity.MAKER else self.fees[1]
        return OrderFilled(
            order=submitted.order,
            client_order_id=submitted.client_order_id,
            strategy=terms.strategy,
            instrument=terms.instrument,
            trade_id=f"{working.venue_order_id}-{working.fills + 1}",
            side=terms.side,
            quantity=quantity,
            price=price,
            fee=plain(price * quantity * rate),
            fee_currency=self.listing.quote,
            liquidity=liquidity,
            slippage=slippage,
            costs=costs,
        )


def _fees(state: State, venue: VenueConfigured, day: int) -> tuple[Decimal, Decimal]:
    """Maker and taker rate of a UTC day."""
    costs = state.costs.get(venue.venue)
    if costs is not None and costs.fee_tiers:
        turnover = state.turnover.get(venue.venue)
        tier = tier_at(costs.fee_tiers, ZERO if turnover is None else turnover.before(day))
        if tier is not None:
            return tier.maker_fee, tier.taker_fee
    return venue.maker_fee, venue.taker_fee


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


# ---- learning ----------------------------------------------------------------------------------------------------


def learn_control(state: State, event: Event, _stamp: Stamp) -> None:
    state.trading = control.AFTER[type(event)]


def learn_venue(state: State, event: VenueConfigured, _stamp: Stamp) -> None:
    state.venues[event.venue] = event


def learn_costs(state: State, event: CostsConfigured, _stamp: Stamp) -> None:
    state.costs[event.venue] = event
    for book in state.books.values():
        if book.listing.venue == event.venue:
            book.model = model_of(event, book.listing, book.model)
            if book.model is None or not book.model.latency_ns:
                for working in book.orders.values():
                    working.journey = None  # what was on its way has arrived


def learn_sessions(state: State, event: SessionsScheduled, _stamp: Stamp) -> None:
    book = state.books.get(event.instrument)
    if book is not None:
        book.hours = Hours(event)


def learn_listing(state: State, event: InstrumentListed, _stamp: Stamp) -> None:
    book = state.books.get(event.instrument)
    if book is None:
        book = state.books[event.instrument] = Book(event)
    else:
        book.listing = event
    costs = state.costs.get(event.venue)
    book.model = None if costs is None else model_of(costs, event, book.model)


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


def learn_borrowing(state: State, event: BorrowCharged, _stamp: Stamp) -> None:
    book = state.books[event.instrument]
    short = liquidation.shorts(book.positions.values())
    _move(state, book.listing.quote, short * event.price * event.rate)
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
    if fills and book.hours is not None:
        fills = book.hours.meets(open_ns, event.close_ns)
    if event.close_ns > book.seen_ns:
        book.seen_ns = event.close_ns
    if open_ns >= state.next_day_ns:
        day_end_ns = (open_ns // DAY_NS + 1) * DAY_NS
        state.days = (day_end_ns - state.next_day_ns) // DAY_NS
        state.next_day_ns = day_end_ns
        state.day_pos = stamp.pos
    if fills:
        if book.orders:
            state.matching_pos = stamp.pos
            _mark(book, event, stamp.pos)
        if book.model is not None:
            if book.positions and book.model.costs.maintenance_margin:
                state.matching_pos = stamp.pos
            if book.model.recent is not None:
                book.model.recent.take(event)


def silent_until(state: State, block: BarBlock, start: int, stop: int) -> int:
    """While no order waits for a bar, to the end of the UTC day."""
    book = state.books.get(block.instrument)
    if book is None:
        return stop
    if book.model is not None and (book.model.recent is not None or _is_on_margin(book)):
        return start  # each bar moves its costs, or may ask for a liquidation
    return start if book.orders else bisect_left(block.open_ns, state.next_day_ns, start, stop)


def take_bars(state: State, block: BarBlock, _start: int, stop: int, _last: Stamp) -> None:
    book = state.books.get(block.instrument)
    if book is not None:
        book.bar = block.bar(stop - 1)
        book.seen_ns = max(book.seen_ns, book.bar.close_ns)


def _mark(book: Book, bar: BarClosed, pos: int) -> None:
    """Note which orders meet their first bar and which stops are touched: ``answer_bar`` only reads."""
    prices = None
    for working in book.orders.values():
        if not working.first_pos:
            if working.journey is not None and working.journey.arrives_ns >= bar.close_ns:
                working.journey.miss(bar)
                continue
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
    book = state.books[terms.instrument]
    working = Working(submitted, event.venue_order_id, terms.quantity, day)
    if book.model is not None and book.model.latency_ns:
        working.journey = Journey(arrived.time_ns + book.model.latency_ns)
    if book.hours is not None and terms.time_in_force is TimeInForce.DAY:
        session = book.hours.session_at(arrived.time_ns)
        working.expires_ns = 0 if session is None else session[1]
    book.orders[event.client_order_id] = working
    state.working[event.client_order_id] = terms.instrument


def learn_rejected(state: State, event: OrderRejected, _stamp: Stamp) -> None:
    state.arriving.pop(event.client_order_id, None)


def learn_liquidation(state: State, event: LiquidationOrdered, stamp: Stamp) -> None:
    """Our own order works like any other; its fill follows."""
    submitted = OrderSubmitted(event.order, event.client_order_id, event.terms, stamp.pos, stamp.time_ns)
    state.arriving[event.client_order_id] = (submitted, stamp)
    learn_accepted(state, OrderAccepted(event.order, event.client_order_id, event.order), stamp)


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
    _count_turnover(state, book, event)
    state.unreported = True
    if working.remaining == 0:
        _finish(state, event.client_order_id)


def _count_turnover(state: State, book: Book, fill: OrderFilled) -> None:
    costs = state.costs.get(book.listing.venue)
    if costs is None or not costs.fee_tiers:
        return
    assert book.bar is not None, "a fill is decided from a bar"
    turnover = state.turnover.setdefault(costs.venue, Turnover())
    turnover.add(book.bar.open_ns // DAY_NS, fill.quantity * fill.price)


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
    **dict.fromkeys(gate.HEARD_BY_BOTH, keep_clock),
    **dict.fromkeys(control.AFTER, learn_control),
    VenueConfigured: learn_venue,
    CostsConfigured: learn_costs,
    SessionsScheduled: learn_sessions,
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
    BorrowCharged: learn_borrowing,
    LiquidationOrdered: learn_liquidation,
}


def _is_on_margin(book: Book) -> bool:
    return bool(book.positions and book.model is not None and book.model.costs.maintenance_margin)


_ENDS_QUIET: frozenset[type[Event]] = frozenset({OrderSubmitted, FundingPublished, CostsConfigured})


def quiet_about_bars(state: State) -> int:
    """A bar is answered when it meets orders, or begins a day that has something due; it closes after it opened."""
    if state.arriving or state.working or any(_is_on_margin(book) for book in state.books.values()):
        return NEVER
    return state.next_day_ns if state.unreported or state.costs else FOREVER


CORE: Core[State] = Core(
    name="venue",
    initial=State,
    evolves=_EVOLVES,
    decides={OrderSubmitted: answer_submission, CancelSubmitted: answer_cancel, BarClosed: answer_bar},
    passing=Passing(silent_until, take_bars),
    quiet={
        BarClosed: (Quiet(quiet_about_bars, ended_by=frozenset({OrderSubmitted, FundingPublished, CostsConfigured})),)
    },
)
