"""The ledger's core: the books behind the tape, and what they say about positions, trades and equity.

It posts fundings, fills, fees and funding payments to the double-entry books (``books``), remembers the last price of
each instrument as the text it came in, and compares the books with what the venue reports. It neither records facts
(``server``) nor decides about orders; strategies, risk and the bandit draw their own conclusions from what it says.

Valuing: equity is in account currency. Cash of another currency and positions count when an instrument quoted in
account currency prices them; what has no such price (an instrument quoted in another currency, which configuration
forbids; fees paid in a token that is not listed) is left out of equity, though never out of the books.

Equity is marked after every fill, and once for each UTC hour that ends while a position is open: at the first fact
stamped after the hour's end, and before that fact is taken in, so that the mark is the state at the boundary.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from tapeline_common.bar_block import BarBlock, Passing
from tapeline_common.core import FOREVER, NEVER, Core, Quiet, Stamp, learn
from tapeline_common.events import (
    AccountFunded,
    BalanceReported,
    BarClosed,
    BooksReconciled,
    BorrowCharged,
    BorrowPosted,
    EquityMarked,
    Event,
    FundingPosted,
    FundingPublished,
    InstrumentListed,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
    OrderWithheld,
    PositionChanged,
    RunStarted,
    TradeClosed,
)
from tapeline_common.money import ZERO
from tapeline_common.remembered import Remembered
from tapeline_common.values import DecimalText, InstrumentId, OrderId
from tapeline_common.wire import Fact
from tapeline_ledger.books import (
    CASH,
    Books,
    balance,
    borrowing_payments,
    funding_payments,
    is_open,
    post_borrowing,
    post_capital,
    post_fill,
    post_funding,
    tidy,
)

HOUR_NS = 3_600_000_000_000

KEPT_ENDED_ORDERS = 256
"""Ended orders whose preset decision is still known: a venue may report a fill after it called the order canceled."""

OrderEnded = OrderRejected | OrderCanceled | OrderExpired | OrderWithheld


class Listing(msgspec.Struct, frozen=True, gc=False):
    """The two currencies of an instrument."""

    base: str
    quote: str


class DecidedOrder(msgspec.Struct, gc=False):
    """An order that was made under a preset decision, and how much of it can still be filled, in base units."""

    decision: str
    unfilled: Decimal
    is_ended: bool = False


@dataclass(slots=True)
class State:
    """What the ledger knows.

    Attributes:
        currency: account currency; empty until the run has started.
        prices: last price of each instrument; before its first bar, the price of its first fill.
        decided: orders that were made under a preset decision: those that may still fill, however long that takes, and
            the last ``KEPT_ENDED_ORDERS`` that have ended.
        ended: the ids of the latter, oldest first.
        counted: ``fill_name`` → position at which the fill was counted. Kept for good: a venue may repeat a fill
            however late.
        unlisted: fills of instruments nobody listed. They cannot be posted (their currencies are unknown) and show
            as differences when the books are reconciled.
        unreported: (position, currency, amount) of capital and funding that the venue's last report had not heard of.
        closed: the trade that the last counted fill closed, if it did.
        hour_end_ns: end of the UTC hour the ledger is in; facts stamped after it belong to a later hour.
        marks, marked_pos: the mark of the hour that ended, and the position at which it is due.
    """

    currency: str = ""
    books: Books = field(default_factory=Books)
    listings: dict[InstrumentId, Listing] = field(default_factory=dict)
    prices: dict[InstrumentId, DecimalText] = field(default_factory=dict)
    decided: dict[OrderId, DecidedOrder] = field(default_factory=dict)
    ended: deque[OrderId] = field(default_factory=deque)
    counted: Remembered = field(default_factory=Remembered)
    unlisted: dict[InstrumentId, int] = field(default_factory=dict)
    unreported: list[tuple[int, str, Decimal]] = field(default_factory=list)
    closed: TradeClosed | None = None
    hour_end_ns: int = 0
    marks: tuple[EquityMarked, ...] = ()
    marked_pos: int = 0


# ---- readers -----------------------------------------------------------------------------------------------------


def cash(state: State) -> Decimal:
    """Cash in account currency."""
    return balance(state.books, CASH, state.currency)


def equity(state: State) -> Decimal:
    """Everything owned that can be valued, in account currency at last prices."""
    return cash(state) + _other_cash(state) + _holdings(state)[0]


def exposure(state: State) -> Decimal:
    """Gross exposure in account currency: what is held of each instrument, long or short, at its last price."""
    return _holdings(state)[1]


def net_exposure(state: State) -> Decimal:
    """What all positions are worth in account currency at last prices, short ones below zero."""
    return _holdings(state)[0]


def marked(state: State, time_ns: int) -> EquityMarked:
    """Cash, equity and exposure as they stand, as a fact."""
    held, gross = _holdings(state)
    money = cash(state)
    return EquityMarked(time_ns, tidy(money), tidy(money + _other_cash(state) + held), tidy(gross))


def closed_trade(state: State, fill: OrderFilled, pos: int) -> TradeClosed | None:
    """The trade that this fill, counted at this position, closed."""
    return state.closed if is_counted_at(state, fill, pos) else None


def is_counted_at(state: State, fill: OrderFilled, pos: int) -> bool:
    """Whether the fill at this position was posted; a repeated one, or one of an unlisted instrument, is not."""
    return state.counted.get(fill_name(fill.order, fill.trade_id)) == pos


def fill_name(order: OrderId, trade_id: str) -> str:
    """What tells a fill from every other one: an order's id has no blank."""
    return f"{order} {trade_id}"


def inventory(state: State) -> dict[str, Decimal]:
    """Currency → what the venue should say we hold: cash, plus the base units of positions."""
    owned = dict(state.books.balances.get(CASH, {}))
    for instrument, holders in state.books.positions.items():
        base = state.listings[instrument].base
        for position in holders.values():
            owned[base] = owned.get(base, ZERO) + position.quantity
    return owned


def fold(facts: Iterable[Fact]) -> State:
    """The ledger's state after these facts of a tape, in position order, without saying anything."""
    state = State()
    clock_ns = 0
    for fact in facts:
        clock_ns = max(clock_ns, fact.time_ns)
        learn(CORE, state, fact.event, Stamp(fact.pos, clock_ns))
    return state


def _holdings(state: State) -> tuple[Decimal, Decimal]:
    """Value and gross exposure of the positions quoted in account currency; strategies net within an instrument."""
    value, gross = ZERO, ZERO
    for instrument, holders in state.books.positions.items():
        quantity = ZERO
        for position in holders.values():
            quantity += position.quantity
        if quantity and state.listings[instrument].quote == state.currency:
            worth = quantity * Decimal(state.prices[instrument])
            value += worth
            gross += abs(worth)
    return value, gross


def _other_cash(state: State) -> Decimal:
    """Cash of other currencies (fees paid or rebates received in base units, for one) at last prices."""
    value = ZERO
    for currency, amount in state.books.balances.get(CASH, {}).items():
        if amount and currency != state.currency:
            price = _price(state, currency, state.currency)
            value += ZERO if price is None else amount * price
    return value


def _price(state: State, base: str, quote: str) -> Decimal | None:
    """Last price of a currency in another: that of the first instrument listed for the pair."""
    for instrument, listing in state.listings.items():
        if listing.base == base and listing.quote == quote and instrument in state.prices:
            return Decimal(state.prices[instrument])
    return None


# ---- deciders ----------------------------------------------------------------------------------------------------


def hour_mark(state: State, _event: Event, stamp: Stamp) -> Sequence[Event]:
    """Say the mark of the hour that this fact ended."""
    return state.marks if state.marked_pos == stamp.pos else ()


def report_fill(state: State, event: OrderFilled, stamp: Stamp) -> Sequence[Event]:
    """Say the position after the fill, the trade it closed, and equity; nothing for a fill counted before."""
    facts: list[Event] = [*state.marks] if state.marked_pos == stamp.pos else []
    if not is_counted_at(state, event, stamp.pos):
        return facts
    position = state.books.positions[event.instrument][event.strategy]
    facts.append(
        PositionChanged(
            strategy=event.strategy,
            instrument=event.instrument,
            quantity=tidy(position.quantity),
            average_price=position.average_price,
            realised_pnl=tidy(position.realised_pnl),
            fees=tidy(position.total_fees),
        )
    )
    if state.closed is not None:
        facts.append(state.closed)
    facts.append(marked(state, stamp.time_ns))
    return facts


def report_funding(state: State, event: FundingPublished, stamp: Stamp) -> Sequence[Event]:
    """Say what each open position paid or received. Positions do not change by it, so this recomputes the payments."""
    facts: list[Event] = [*hour_mark(state, event, stamp)]
    listing = state.listings.get(event.instrument)
    if listing is not None:
        payments = funding_payments(state.books, event.instrument, event.rate, event.mark_price)
        for strategy, amount in payments:
            facts.append(FundingPosted(strategy, event.instrument, tidy(amount), listing.quote))
    return facts


def report_borrowing(state: State, event: BorrowCharged, stamp: Stamp) -> Sequence[Event]:
    """Say what borrowing cost each short position. Positions do not change by it, so this recomputes the payments."""
    facts: list[Event] = [*hour_mark(state, event, stamp)]
    listing = state.listings.get(event.instrument)
    if listing is not None:
        for strategy, amount in borrowing_payments(state.books, event.instrument, event.rate, event.price):
            facts.append(BorrowPosted(strategy, event.instrument, tidy(amount), listing.quote))
    return facts


def reconcile(state: State, event: BalanceReported, _stamp: Stamp) -> Sequence[Event]:
    """Compare what the venue reports with the books as they stand at the report's position: reported minus books.

    A currency the venue does not name is held at zero. A tape has one account: all of it is with this venue. Capital
    and funding that were recorded while the report was on its way are no difference: the venue had not heard of them.
    """
    owned = inventory(state)
    for _, currency, amount in state.unreported:
        owned[currency] -= amount
    differences: dict[str, Decimal] = {}
    for currency in [*event.balances, *(currency for currency in owned if currency not in event.balances)]:
        difference = event.balances.get(currency, ZERO) - owned.get(currency, ZERO)
        if difference:
            differences[currency] = tidy(difference)
    return (BooksReconciled(event.venue, differences),)


# ---- evolvers ----------------------------------------------------------------------------------------------------


def start_run(state: State, event: RunStarted, _stamp: Stamp) -> None:
    state.currency = event.currency


def fund_account(state: State, event: AccountFunded, stamp: Stamp) -> None:
    _pass_hour(state, stamp)
    post_capital(state.books, event.currency, event.amount)
    state.unreported.append((stamp.pos, event.currency, event.amount))


def list_instrument(state: State, event: InstrumentListed, _stamp: Stamp) -> None:
    state.listings[event.instrument] = Listing(event.base, event.quote)


def note_decision(state: State, event: OrderSubmitted, _stamp: Stamp) -> None:
    if event.terms.decision:
        state.decided.setdefault(event.order, DecidedOrder(event.terms.decision, event.terms.quantity))


def end_order(state: State, event: OrderEnded, _stamp: Stamp) -> None:
    order = state.decided.get(event.order)
    if order is not None:
        _end(state, event.order, order)


def count_fill(state: State, event: OrderFilled, stamp: Stamp) -> None:
    """Post a fill, once."""
    _pass_hour(state, stamp)
    listing = state.listings.get(event.instrument)
    if listing is None:
        state.unlisted[event.instrument] = state.unlisted.get(event.instrument, 0) + 1
        return
    name = fill_name(event.order, event.trade_id)
    if name in state.counted:
        return
    state.counted[name] = stamp.pos
    if event.instrument not in state.prices:
        state.prices[event.instrument] = DecimalText(str(event.price))
    decision = _fill_decided(state, event)
    state.closed = post_fill(
        state.books,
        event,
        listing.base,
        listing.quote,
        _fee_in_quote(state, event, listing),
        decision,
        stamp.time_ns,
    )


def _fill_decided(state: State, fill: OrderFilled) -> str:
    """The preset decision of a fill's order; empty without one."""
    order = state.decided.get(fill.order)
    if order is None:
        return ""
    order.unfilled -= fill.quantity
    if order.unfilled <= 0:
        _end(state, fill.order, order)
    return order.decision


def _end(state: State, name: OrderId, order: DecidedOrder) -> None:
    """Keep an ended order for a while. Without its end an order could only be forgotten by guess or never."""
    if order.is_ended:
        return
    order.is_ended = True
    state.ended.append(name)
    if len(state.ended) > KEPT_ENDED_ORDERS:
        del state.decided[state.ended.popleft()]


def pay_funding(state: State, event: FundingPublished, stamp: Stamp) -> None:
    _pass_hour(state, stamp)
    listing = state.listings.get(event.instrument)
    if listing is not None:
        payments = post_funding(state.books, event.instrument, listing.quote, event.rate, event.mark_price)
        state.unreported.extend((stamp.pos, listing.quote, amount) for _, amount in payments)


def pay_borrowing(state: State, event: BorrowCharged, stamp: Stamp) -> None:
    """The venue that says this charged it at once: its next report has it, unlike funding that others publish."""
    _pass_hour(state, stamp)
    listing = state.listings.get(event.instrument)
    if listing is not None:
        post_borrowing(state.books, event.instrument, listing.quote, event.rate, event.price)


def take_report(state: State, event: BalanceReported, stamp: Stamp) -> None:
    """Forget what this report has in it: everything before it, or as far as the venue had heard."""
    heard = event.heard or stamp.pos
    state.unreported = [late for late in state.unreported if late[0] > heard]


def note_price(state: State, event: BarClosed, stamp: Stamp) -> None:
    """The hot path: one comparison and one reference kept."""
    if stamp.time_ns > state.hour_end_ns:
        _pass_hour(state, stamp)
    state.prices[event.instrument] = event.close


def silent_until(state: State, block: BarBlock, start: int, stop: int) -> int:
    """While something is held, to the end of the UTC hour."""
    if not is_open(state.books):
        return stop
    return bisect_right(block.close_ns, state.hour_end_ns, start, stop)


def take_bars(state: State, block: BarBlock, _start: int, stop: int, last: Stamp) -> None:
    if last.time_ns > state.hour_end_ns:
        _pass_hour(state, last)
    state.prices[block.instrument] = block.close_text(stop - 1)


def _pass_hour(state: State, stamp: Stamp) -> None:
    """If this fact is stamped after the hour's end, mark the state it finds, as of the last hour that ended.

    A fact stamped exactly at the boundary (the bar that closes with the hour) still belongs to the hour.
    """
    if stamp.time_ns <= state.hour_end_ns:
        return
    boundary_ns = (stamp.time_ns - 1) // HOUR_NS * HOUR_NS
    state.hour_end_ns = boundary_ns + HOUR_NS
    if is_open(state.books):
        state.marks = (marked(state, boundary_ns),)
        state.marked_pos = stamp.pos


def _fee_in_quote(state: State, fill: OrderFilled, listing: Listing) -> Decimal:
    """The fee's worth in quote currency: exact in quote or base, at the last price in a third currency, else zero."""
    if not fill.fee or fill.fee_currency == listing.quote:
        return fill.fee
    if fill.fee_currency == listing.base:
        return fill.fee * fill.price
    price = _price(state, fill.fee_currency, listing.quote)
    return ZERO if price is None else fill.fee * price


def quiet_within_the_hour(state: State) -> int:
    """Equity is marked when an hour has ended, and hours only move on."""
    return state.hour_end_ns


def quiet_while_flat(state: State) -> int:
    """An hour without a position is not marked."""
    return NEVER if is_open(state.books) else FOREVER


CORE = Core(
    name="ledger",
    initial=State,
    evolves={
        RunStarted: start_run,
        AccountFunded: fund_account,
        InstrumentListed: list_instrument,
        OrderSubmitted: note_decision,
        OrderFilled: count_fill,
        **dict.fromkeys((OrderRejected, OrderCanceled, OrderExpired, OrderWithheld), end_order),
        FundingPublished: pay_funding,
        BorrowCharged: pay_borrowing,
        BarClosed: note_price,
        BalanceReported: take_report,
    },
    decides={
        AccountFunded: hour_mark,
        OrderFilled: report_fill,
        FundingPublished: report_funding,
        BorrowCharged: report_borrowing,
        BarClosed: hour_mark,
        BalanceReported: reconcile,
    },
    passing=Passing(silent_until, take_bars),
    quiet={
        BarClosed: (Quiet(quiet_within_the_hour), Quiet(quiet_while_flat, ended_by=frozenset({OrderFilled}))),
    },
)
