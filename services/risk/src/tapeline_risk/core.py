"""Risk: one decision for every proposed order, and the halting of trading.

Keeps its own fold of positions, equity and of what is still open of the orders it approved (reservations), so that
approving an order never depends on another service's arithmetic. The limits themselves are in ``limits``.

It deliberately sizes nothing and changes no order: an order is approved as it is, or refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from tapeline_common import control
from tapeline_common.core import FOREVER, NEVER, Core, Quiet, Stamp
from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    BooksReconciled,
    Event,
    FundingPosted,
    HaltRequested,
    InstrumentListed,
    LifecycleViolated,
    LimitBreached,
    LimitsSet,
    OrderApproved,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderProposed,
    OrderRefused,
    OrderRejected,
    OrderTerms,
    OrderWithheld,
    ResumeRequested,
    RunStarted,
    StrategyDisableRequested,
    StrategyEnableRequested,
    TradingHalted,
    TradingResumed,
)
from tapeline_common.money import ZERO, plain
from tapeline_common.values import (
    DecimalText,
    HaltReason,
    InstrumentId,
    OrderId,
    Side,
    StrategyId,
    TradingState,
)
from tapeline_risk.limits import NS_PER_MS, Question, is_loss_at_limit, judge, worst_exposure

DAY_NS = 86_400_000_000_000


@dataclass(slots=True)
class Book:
    """One instrument of the account.

    Attributes:
        price: last price as it was printed, heard at ``price_ns``; ``None`` before the first.
        position: signed, over all strategies; ``own`` has it by strategy.
        buys, sells: what is still open of approved orders on each side.
    """

    price: DecimalText | None = None
    price_ns: int = 0
    position: Decimal = ZERO
    own: dict[StrategyId, Decimal] = field(default_factory=dict)
    buys: Decimal = ZERO
    sells: Decimal = ZERO


@dataclass(slots=True)
class Reservation:
    """What is still open of an approved order."""

    terms: OrderTerms
    remaining: Decimal


@dataclass(slots=True)
class State:
    """Nothing heard means halted, without limits, and therefore no approval.

    Attributes:
        halted_for: reason of the halt in force, if risk has said one.
        decided: every order id that was ever approved or refused.
        equity: cash plus positions at last prices, in account currency, kept up to date with every fact.
        reference: equity at the first fact of the UTC day, deposits of the day added.
        day_ends_ns: end of the UTC day of the latest fact.
        is_breached: the daily loss was said to be breached and trading has not resumed since.
    """

    trading: TradingState = TradingState.HALTED
    halted_for: HaltReason | None = None
    limits: LimitsSet | None = None
    currency: str = ""
    listings: dict[InstrumentId, InstrumentListed] = field(default_factory=dict)
    books: dict[InstrumentId, Book] = field(default_factory=dict)
    reserved: dict[OrderId, Reservation] = field(default_factory=dict)
    decided: dict[OrderId, None] = field(default_factory=dict)
    disabled: dict[StrategyId, None] = field(default_factory=dict)
    equity: Decimal = ZERO
    reference: Decimal = ZERO
    day_ends_ns: int = 0
    is_breached: bool = False


# ---- deciders ----------------------------------------------------------------------------------------------------


def decide_order(state: State, event: OrderProposed, stamp: Stamp) -> Sequence[Event]:
    """Approve the order or refuse it, never both and never neither."""
    terms = event.terms
    breach = judge(_question(state, event, stamp))
    if breach is not None:
        return [
            OrderRefused(event.order, terms.strategy, terms.instrument, breach.reason, breach.observed, breach.limit)
        ]
    valid_ms = (state.limits or LimitsSet()).approval_valid_ms
    return [OrderApproved(event.order, terms, stamp.time_ns + valid_ms * NS_PER_MS)]


def _question(state: State, event: OrderProposed, stamp: Stamp) -> Question:
    terms = event.terms
    book = state.books.get(terms.instrument) or Book()
    others = [other for instrument, other in state.books.items() if instrument != terms.instrument]
    return Question(
        terms=terms,
        decided_ns=event.decided_ns,
        now_ns=stamp.time_ns,
        is_decided=event.order in state.decided,
        trading=state.trading,
        is_disabled=terms.strategy in state.disabled,
        limits=state.limits,
        currency=state.currency,
        listing=state.listings.get(terms.instrument),
        price=None if book.price is None else Decimal(book.price),
        price_ns=book.price_ns,
        position=book.position,
        buys=book.buys,
        sells=book.sells,
        own_position=book.own.get(terms.strategy, ZERO),
        own_reducing=_own_reducing(state, terms),
        other_exposure=sum((_exposure(other) for other in others), ZERO),
        other_open=sum(bool(other.position or other.buys or other.sells) for other in others),
        daily_loss=_daily_loss(state, stamp),
    )


def _own_reducing(state: State, terms: OrderTerms) -> Decimal:
    return sum(
        (
            reservation.remaining
            for reservation in state.reserved.values()
            if reservation.terms.reduce_only
            and reservation.terms.strategy == terms.strategy
            and reservation.terms.instrument == terms.instrument
            and reservation.terms.side is terms.side
        ),
        ZERO,
    )


def _exposure(book: Book) -> Decimal:
    """Worst-case notional of one instrument at its last price."""
    worst = worst_exposure(book.position, book.buys, book.sells)
    return worst * Decimal(book.price) if worst and book.price is not None else ZERO


def decide_bar(state: State, bar: BarClosed, stamp: Stamp) -> Sequence[Event]:
    """A bar can only lose money where something is held. Everywhere else this is one or two look-ups."""
    if state.limits is None or state.limits.max_daily_loss is None or not state.books[bar.instrument].position:
        return ()
    return decide_loss(state, bar, stamp)


def decide_loss(state: State, _event: Event, stamp: Stamp) -> Sequence[Event]:
    """Halt when the day's loss reaches its limit: said once, until trading resumes or the day is over.

    While flattening, only the breach is said: a halt would stop the very orders that take the risk off, and the
    resumption that must follow is judged by the same loss.
    """
    if state.is_breached or state.limits is None:
        return ()
    loss, limit = _daily_loss(state, stamp), state.limits.max_daily_loss
    if limit is None or not is_loss_at_limit(loss, limit):
        return ()
    breached = LimitBreached(HaltReason.DAILY_LOSS, str(plain(loss)), str(plain(limit)))
    if state.trading is TradingState.FLATTENING:
        return [breached]
    return [breached, _halted_for_loss(loss, limit)]


def _halted_for_loss(loss: Decimal, limit: Decimal) -> TradingHalted:
    return TradingHalted(HaltReason.DAILY_LOSS, f"lost {plain(loss)} since 00:00 UTC, the limit is {plain(limit)}")


def _daily_loss(state: State, stamp: Stamp) -> Decimal:
    """Lost since 00:00 UTC. On a day of which nothing that moves equity was heard yet, nothing is lost."""
    return state.reference - state.equity if stamp.time_ns < state.day_ends_ns else ZERO


def decide_halt(_state: State, event: HaltRequested, _stamp: Stamp) -> Sequence[Event]:
    return [TradingHalted(HaltReason.OPERATOR, f"{event.issuer}: {event.reason}")]


def decide_resume(state: State, event: ResumeRequested, stamp: Stamp) -> Sequence[Event]:
    """Resume, unless today's loss still stands: then a higher limit, or tomorrow, must come first."""
    limit = None if state.limits is None else state.limits.max_daily_loss
    loss = _daily_loss(state, stamp)
    if limit is not None and is_loss_at_limit(loss, limit):
        return [_halted_for_loss(loss, limit)]
    return [TradingResumed(f"{event.issuer}: {event.reason}")]


def decide_reconciled(state: State, event: BooksReconciled, _stamp: Stamp) -> Sequence[Event]:
    """Books that differ from the venue's halt trading: a position we do not know cannot be limited."""
    if not event.differences:
        return ()
    differences = ", ".join(f"{name} {plain(value)}" for name, value in event.differences.items())
    return _halt_once(state, HaltReason.BOOKS_MISMATCH, f"{event.venue}: {differences}")


def decide_violated(state: State, event: LifecycleViolated, _stamp: Stamp) -> Sequence[Event]:
    """An order that did the impossible halts trading: what we believe about it may be wrong."""
    return _halt_once(state, HaltReason.LIFECYCLE_VIOLATED, f"{event.order}: {event.event} in {event.state}")


def _halt_once(state: State, reason: HaltReason, detail: str) -> Sequence[Event]:
    if state.trading is TradingState.HALTED and state.halted_for is reason:
        return ()
    return [TradingHalted(reason, detail)]


# ---- evolvers ----------------------------------------------------------------------------------------------------


def learn_bar(state: State, bar: BarClosed, stamp: Stamp) -> None:
    """Take the last price. Nothing is held: no arithmetic; else equity moves by position times price change."""
    if stamp.time_ns >= state.day_ends_ns:
        _begin_day(state, stamp)
    book = state.books.get(bar.instrument)
    if book is None:
        book = state.books[bar.instrument] = Book()
    elif book.position and book.price is not None:
        state.equity += book.position * (Decimal(bar.close) - Decimal(book.price))
    book.price = bar.close
    book.price_ns = stamp.time_ns


def _begin_day(state: State, stamp: Stamp) -> None:
    """The day's losses count from what the account was worth before the first fact of the day that moves it."""
    state.day_ends_ns = (stamp.time_ns // DAY_NS + 1) * DAY_NS
    state.reference = state.equity
    state.is_breached = False


def learn_fill(state: State, event: OrderFilled, stamp: Stamp) -> None:
    """Position, equity and reservation after one execution.

    A fee in the instrument's base currency is valued at the fill's price; in a third currency it is left to the books
    of the ledger, since no price of it is heard here.
    """
    if stamp.time_ns >= state.day_ends_ns:
        _begin_day(state, stamp)
    book = state.books.setdefault(event.instrument, Book())
    if book.price is None:
        book.price, book.price_ns = DecimalText(str(event.price)), stamp.time_ns
    filled = event.side.sign * event.quantity
    state.equity += filled * (Decimal(book.price) - event.price) - _fee(state, event)
    book.position += filled
    book.own[event.strategy] = book.own.get(event.strategy, ZERO) + filled
    reservation = state.reserved.get(event.order)
    if reservation is not None:
        _reserve(book, reservation.terms.side, -min(event.quantity, reservation.remaining))
        reservation.remaining -= min(event.quantity, reservation.remaining)
        if not reservation.remaining:
            del state.reserved[event.order]


def _fee(state: State, event: OrderFilled) -> Decimal:
    if event.fee_currency == state.currency:
        return event.fee
    listing = state.listings.get(event.instrument)
    return event.fee * event.price if listing is not None and event.fee_currency == listing.base else ZERO


def _reserve(book: Book, side: Side, quantity: Decimal) -> None:
    if side is Side.BUY:
        book.buys += quantity
    else:
        book.sells += quantity


def learn_approved(state: State, event: OrderApproved, _stamp: Stamp) -> None:
    state.decided[event.order] = None
    state.reserved[event.order] = Reservation(event.terms, event.terms.quantity)
    _reserve(state.books.setdefault(event.terms.instrument, Book()), event.terms.side, event.terms.quantity)


def learn_refused(state: State, event: OrderRefused, _stamp: Stamp) -> None:
    state.decided[event.order] = None


def learn_order_over(
    state: State, event: OrderWithheld | OrderRejected | OrderCanceled | OrderExpired, _stamp: Stamp
) -> None:
    """What was not filled is free again. An order that is over twice frees nothing twice."""
    reservation = state.reserved.pop(event.order, None)
    if reservation is not None:
        book = state.books[reservation.terms.instrument]
        _reserve(book, reservation.terms.side, -reservation.remaining)


def learn_funded(state: State, event: AccountFunded, stamp: Stamp) -> None:
    """A deposit is no profit and a withdrawal no loss: the day's reference moves along."""
    if stamp.time_ns >= state.day_ends_ns:
        _begin_day(state, stamp)
    if event.currency == state.currency:
        state.equity += event.amount
        state.reference += event.amount


def learn_funding(state: State, event: FundingPosted, stamp: Stamp) -> None:
    if stamp.time_ns >= state.day_ends_ns:
        _begin_day(state, stamp)
    if event.currency == state.currency:
        state.equity += event.amount


def learn_limits(state: State, event: LimitsSet, _stamp: Stamp) -> None:
    state.limits = event


def learn_listed(state: State, event: InstrumentListed, _stamp: Stamp) -> None:
    state.listings[event.instrument] = event


def learn_started(state: State, event: RunStarted, stamp: Stamp) -> None:
    state.currency = event.currency
    learn_control(state, event, stamp)


def learn_control(state: State, event: Event, _stamp: Stamp) -> None:
    state.trading = control.AFTER[type(event)]
    state.halted_for = None


def learn_halted(state: State, event: TradingHalted, stamp: Stamp) -> None:
    learn_control(state, event, stamp)
    state.halted_for = event.reason


def learn_resumed(state: State, event: TradingResumed, stamp: Stamp) -> None:
    learn_control(state, event, stamp)
    state.is_breached = False


def learn_breached(state: State, _event: LimitBreached, _stamp: Stamp) -> None:
    state.is_breached = True


def learn_disabled(state: State, event: StrategyDisableRequested, _stamp: Stamp) -> None:
    state.disabled[event.strategy] = None


def learn_enabled(state: State, event: StrategyEnableRequested, _stamp: Stamp) -> None:
    state.disabled.pop(event.strategy, None)


def quiet_without_loss_limit(state: State) -> int:
    """Nothing is said of losses that have no limit."""
    return NEVER if state.limits is not None and state.limits.max_daily_loss is not None else FOREVER


def quiet_while_flat(state: State) -> int:
    """Prices move nothing while nothing is held."""
    return NEVER if any(book.position for book in state.books.values()) else FOREVER


CORE: Core[State] = Core(
    name="risk",
    initial=State,
    evolves={
        **dict.fromkeys(control.AFTER, learn_control),
        RunStarted: learn_started,
        TradingHalted: learn_halted,
        TradingResumed: learn_resumed,
        AccountFunded: learn_funded,
        LimitsSet: learn_limits,
        StrategyDisableRequested: learn_disabled,
        StrategyEnableRequested: learn_enabled,
        InstrumentListed: learn_listed,
        BarClosed: learn_bar,
        OrderFilled: learn_fill,
        OrderRejected: learn_order_over,
        OrderCanceled: learn_order_over,
        OrderExpired: learn_order_over,
        OrderWithheld: learn_order_over,
        FundingPosted: learn_funding,
        OrderApproved: learn_approved,
        OrderRefused: learn_refused,
        LimitBreached: learn_breached,
    },
    decides={
        HaltRequested: decide_halt,
        ResumeRequested: decide_resume,
        LimitsSet: decide_loss,
        BarClosed: decide_bar,
        OrderFilled: decide_loss,
        FundingPosted: decide_loss,
        BooksReconciled: decide_reconciled,
        LifecycleViolated: decide_violated,
        OrderProposed: decide_order,
    },
    quiet={
        BarClosed: (
            Quiet(quiet_without_loss_limit, ended_by=frozenset({LimitsSet})),
            Quiet(quiet_while_flat, ended_by=frozenset({OrderFilled})),
        ),
        OrderFilled: (Quiet(quiet_without_loss_limit, ended_by=frozenset({LimitsSet})),),
    },
)
