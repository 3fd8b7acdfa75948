"""Risk: one decision for every proposed order, and the halting of trading.

Keeps its own fold of positions, equity and of what is still open of the orders it approved (reservations), so that
approving an order never depends on another service's arithmetic. The limits themselves are in ``limits``.

It deliberately sizes nothing and changes no order: an order is approved as it is, or refused.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np

from tapeline_common import control
from tapeline_common.bar_block import BarBlock, Passing
from tapeline_common.core import FOREVER, NEVER, Core, Quiet, Stamp
from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    BooksReconciled,
    BorrowPosted,
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
from tapeline_common.remembered import Remembered
from tapeline_common.values import (
    DecimalText,
    HaltReason,
    InstrumentId,
    OrderId,
    Purpose,
    Side,
    StrategyId,
    TradingState,
)
from tapeline_risk.limits import NS_PER_MS, Question, is_loss_at_limit, judge, settings_of, worst_exposure

DAY_NS = 86_400_000_000_000

_NO_LIMITS = LimitsSet()


@dataclass(slots=True)
class Book:
    """One instrument of the account.

    Attributes:
        price: last price as it was printed, heard at ``price_ns``; ``None`` before the first.
        position: signed, over all strategies; ``own`` has it by strategy.
        buys, sells: what is still open of approved orders on each side.
        exits: when each strategy last left a position here, or turned it.
    """

    price: DecimalText | None = None
    price_ns: int = 0
    position: Decimal = ZERO
    own: dict[StrategyId, Decimal] = field(default_factory=dict)
    buys: Decimal = ZERO
    sells: Decimal = ZERO
    exits: dict[StrategyId, int] = field(default_factory=dict)


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
        settings: which of ``limits`` limit anything, for all instruments or for one.
        decided: every order id that was ever approved or refused; the numbers mean nothing.
        equity: cash plus positions at last prices, in account currency, kept up to date with every fact.
        reference: equity at the first fact of the UTC day, deposits of the day added.
        day_ends_ns: end of the UTC day of the latest fact.
        highest: highest equity since drawdowns are limited, deposits and withdrawals added; of no meaning before.
        breached: losses that were said to be at their limit and not forgotten since: a daily loss until the next day or
            a resumption, a drawdown until a resumption.
    """

    trading: TradingState = TradingState.HALTED
    halted_for: HaltReason | None = None
    limits: LimitsSet | None = None
    settings: tuple[str, ...] = ()
    currency: str = ""
    listings: dict[InstrumentId, InstrumentListed] = field(default_factory=dict)
    books: dict[InstrumentId, Book] = field(default_factory=dict)
    reserved: dict[OrderId, Reservation] = field(default_factory=dict)
    decided: Remembered = field(default_factory=Remembered)
    disabled: dict[StrategyId, None] = field(default_factory=dict)
    equity: Decimal = ZERO
    reference: Decimal = ZERO
    day_ends_ns: int = 0
    highest: Decimal = ZERO
    breached: dict[HaltReason, None] = field(default_factory=dict)


# ---- readers -----------------------------------------------------------------------------------------------------


def gross_exposure(state: State) -> Decimal:
    """What ``max_gross_exposure`` is held against: every instrument's worst case at its last price."""
    return sum((_exposure(book) for book in state.books.values()), ZERO)


def open_positions(state: State) -> int:
    """What ``max_open_positions`` is held against: instruments with a position or an open order."""
    return sum(bool(book.position or book.buys or book.sells) for book in state.books.values())


def daily_loss(state: State, now_ns: int) -> Decimal:
    """Lost since 00:00 UTC; negative for a gain. On a day of which nothing that moves equity was heard yet, nothing is
    lost."""
    return state.reference - state.equity if now_ns < state.day_ends_ns else ZERO


def drawdown(state: State) -> Decimal | None:
    """How far equity is below its highest value; ``None`` while drawdowns are not limited, and so not measured."""
    return state.highest - state.equity if _is_drawdown_limited(state) else None


# ---- deciders ----------------------------------------------------------------------------------------------------


def decide_order(state: State, event: OrderProposed, stamp: Stamp) -> Sequence[Event]:
    """Approve the order or refuse it, never both and never neither."""
    terms = event.terms
    breach = judge(_question(state, event, stamp), state.settings)
    if breach is not None:
        return [
            OrderRefused(event.order, terms.strategy, terms.instrument, breach.reason, breach.observed, breach.limit)
        ]
    valid_ms = (state.limits or _NO_LIMITS).approval_valid_ms
    return [OrderApproved(event.order, terms, stamp.time_ns + valid_ms * NS_PER_MS)]


def _question(state: State, event: OrderProposed, stamp: Stamp) -> Question:
    terms = event.terms
    book = state.books.get(terms.instrument) or Book()
    others: list[Book] = []
    if len(state.books) > 1:
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
        other_exposure=sum((_exposure(other) for other in others), ZERO) if others else ZERO,
        other_open=sum(bool(other.position or other.buys or other.sells) for other in others) if others else 0,
        daily_loss=daily_loss(state, stamp.time_ns),
        drawdown=state.highest - state.equity,
        exited_ns=book.exits.get(terms.strategy),
    )


def _own_reducing(state: State, terms: OrderTerms) -> Decimal:
    if not terms.reduce_only and terms.purpose is not Purpose.FLATTEN:
        return ZERO
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
    limits = state.limits
    if limits is None or (limits.max_daily_loss is None and limits.max_drawdown is None):
        return ()
    if not state.books[bar.instrument].position:
        return ()
    return decide_loss(state, bar, stamp)


def decide_loss(state: State, _event: Event, stamp: Stamp) -> Sequence[Event]:
    """Halt when a loss reaches its limit: said once, until trading resumes or, for the day's loss, the day is over.

    While flattening, only the breach is said: a halt would stop the very orders that take the risk off, and the
    resumption that must follow is judged by the same loss.
    """
    said: list[Event] = []
    for reason, loss, limit in _losses_at_limit(state, stamp):
        if reason not in state.breached:
            said.append(LimitBreached(reason, str(plain(loss)), str(plain(limit))))
            if state.trading is not TradingState.FLATTENING:
                said.append(_halted_for_loss(reason, loss, limit))
    return said


def _losses_at_limit(state: State, stamp: Stamp) -> Iterator[tuple[HaltReason, Decimal, Decimal]]:
    """Each loss that has reached its limit: which, how much, and the limit."""
    limits = state.limits or LimitsSet()
    if limits.max_daily_loss is not None:
        loss = daily_loss(state, stamp.time_ns)
        if is_loss_at_limit(loss, limits.max_daily_loss):
            yield HaltReason.DAILY_LOSS, loss, limits.max_daily_loss
    if limits.max_drawdown is not None:
        fall = state.highest - state.equity
        if is_loss_at_limit(fall, limits.max_drawdown):
            yield HaltReason.DRAWDOWN, fall, limits.max_drawdown


_SINCE = {HaltReason.DAILY_LOSS: "since 00:00 UTC", HaltReason.DRAWDOWN: "from the highest equity"}


def _halted_for_loss(reason: HaltReason, loss: Decimal, limit: Decimal) -> TradingHalted:
    return TradingHalted(reason, f"lost {plain(loss)} {_SINCE[reason]}, the limit is {plain(limit)}")


def decide_halt(_state: State, event: HaltRequested, _stamp: Stamp) -> Sequence[Event]:
    return [TradingHalted(HaltReason.OPERATOR, f"{event.issuer}: {event.reason}")]


def decide_resume(state: State, event: ResumeRequested, stamp: Stamp) -> Sequence[Event]:
    """Resume, unless a loss still stands: then a higher limit, or for the day's loss tomorrow, must come first."""
    standing = next(_losses_at_limit(state, stamp), None)
    if standing is not None:
        return [_halted_for_loss(*standing)]
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
        _keep_highest(state)
    book.price = bar.close
    book.price_ns = stamp.time_ns


def silent_until(state: State, block: BarBlock, start: int, stop: int) -> int:
    """To the end of the UTC day, and where something is held, to the first bar that may lose as much as is allowed."""
    book = state.books.get(block.instrument)
    if book is None or book.price is None:
        return start
    stop = bisect_left(block.close_ns, state.day_ends_ns, start, stop)
    limits = state.limits or _NO_LIMITS
    is_watched = limits.max_daily_loss is not None or limits.max_drawdown is not None
    if not is_watched or not book.position or start == stop:
        return stop
    if any(other.position for other in state.books.values() if other is not book):
        return start  # equity moves by the bars of several instruments at once
    # Equity at each close, in floats; a loss counts from where it is nearer to its limit than a float can be wrong.
    price, position = float(book.price), float(book.position)
    closes = block.closes[start:stop]
    equity = float(state.equity) + position * (closes - price)
    slack = 1e-9 * (abs(float(state.equity)) + abs(position) * (price + float(closes.max())))
    losing = np.zeros(len(closes), dtype=bool)
    if limits.max_daily_loss is not None and HaltReason.DAILY_LOSS not in state.breached:
        losing |= float(state.reference) - equity >= float(limits.max_daily_loss) - slack
    if limits.max_drawdown is not None and HaltReason.DRAWDOWN not in state.breached:
        highest = np.maximum.accumulate(np.maximum(equity, float(state.highest)))
        losing |= highest - equity >= float(limits.max_drawdown) - slack
    first = int(np.argmax(losing))
    return start + first if losing[first] else stop


def take_bars(state: State, block: BarBlock, start: int, stop: int, last: Stamp) -> None:
    """Equity moves by position times the whole change of price: sums of exact products may be taken together."""
    book = state.books[block.instrument]
    price = block.close_text(stop - 1)
    if book.position and book.price is not None:
        before = Decimal(book.price)
        if _is_drawdown_limited(state):
            best = _best_close(block, start, stop, is_long=book.position > 0)
            state.highest = max(state.highest, state.equity + book.position * (best - before))
        state.equity += book.position * (Decimal(price) - before)
    book.price = price
    book.price_ns = last.time_ns


def _best_close(block: BarBlock, start: int, stop: int, *, is_long: bool) -> Decimal:
    """The close of the rows that is best for a position, exactly: several may be the same float."""
    closes = block.closes[start:stop]
    best = closes.max() if is_long else closes.min()
    texts = {block.close_text(start + row) for row in np.flatnonzero(closes == best).tolist()}
    exact = [Decimal(text) for text in texts]
    return max(exact) if is_long else min(exact)


def _is_drawdown_limited(state: State) -> bool:
    return state.limits is not None and state.limits.max_drawdown is not None


def _keep_highest(state: State) -> None:
    if state.equity > state.highest and _is_drawdown_limited(state):
        state.highest = state.equity


def _begin_day(state: State, stamp: Stamp) -> None:
    """The day's losses count from what the account was worth before the first fact of the day that moves it."""
    state.day_ends_ns = (stamp.time_ns // DAY_NS + 1) * DAY_NS
    state.reference = state.equity
    state.breached.pop(HaltReason.DAILY_LOSS, None)


def learn_fill(state: State, event: OrderFilled, stamp: Stamp) -> None:
    """Position, equity and reservation after one execution.

    A fee in the instrument's base currency is valued at the fill's price; in a third currency it is left to the books
    of the ledger, since no price of it is heard here.
    """
    if stamp.time_ns >= state.day_ends_ns:
        _begin_day(state, stamp)
    book = _book(state, event.instrument)
    if book.price is None:
        book.price, book.price_ns = DecimalText(str(event.price)), stamp.time_ns
    filled = event.side.sign * event.quantity
    state.equity += filled * (Decimal(book.price) - event.price) - _fee(state, event)
    _keep_highest(state)
    book.position += filled
    held = book.own.get(event.strategy, ZERO)
    book.own[event.strategy] = held + filled
    if held * (held + filled) <= 0 and held:
        book.exits[event.strategy] = stamp.time_ns
    reservation = state.reserved.get(event.order)
    if reservation is not None:
        used = event.quantity if event.quantity <= reservation.remaining else reservation.remaining
        _reserve(book, reservation.terms.side, -used)
        reservation.remaining -= used
        if not reservation.remaining:
            del state.reserved[event.order]


def _book(state: State, instrument: InstrumentId) -> Book:
    book = state.books.get(instrument)
    if book is None:
        book = state.books[instrument] = Book()
    return book


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
    state.decided[event.order] = 1
    state.reserved[event.order] = Reservation(event.terms, event.terms.quantity)
    _reserve(_book(state, event.terms.instrument), event.terms.side, event.terms.quantity)


def learn_refused(state: State, event: OrderRefused, _stamp: Stamp) -> None:
    state.decided[event.order] = 1


def learn_order_over(
    state: State, event: OrderWithheld | OrderRejected | OrderCanceled | OrderExpired, _stamp: Stamp
) -> None:
    """What was not filled is free again. An order that is over twice frees nothing twice."""
    reservation = state.reserved.pop(event.order, None)
    if reservation is not None:
        book = state.books[reservation.terms.instrument]
        _reserve(book, reservation.terms.side, -reservation.remaining)


def learn_funded(state: State, event: AccountFunded, stamp: Stamp) -> None:
    """A deposit is no profit and a withdrawal no loss: the day's reference and the highest equity move along."""
    if stamp.time_ns >= state.day_ends_ns:
        _begin_day(state, stamp)
    if event.currency == state.currency:
        state.equity += event.amount
        state.reference += event.amount
        state.highest += event.amount


def learn_funding(state: State, event: FundingPosted | BorrowPosted, stamp: Stamp) -> None:
    if stamp.time_ns >= state.day_ends_ns:
        _begin_day(state, stamp)
    if event.currency == state.currency:
        state.equity += event.amount
        _keep_highest(state)


def learn_limits(state: State, event: LimitsSet, _stamp: Stamp) -> None:
    """A drawdown is measured from when it is first limited."""
    if not _is_drawdown_limited(state):
        state.highest = state.equity
    state.limits = event
    state.settings = settings_of(event)


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
    state.breached.clear()


def learn_breached(state: State, event: LimitBreached, _stamp: Stamp) -> None:
    state.breached[event.reason] = None


def learn_disabled(state: State, event: StrategyDisableRequested, _stamp: Stamp) -> None:
    state.disabled[event.strategy] = None


def learn_enabled(state: State, event: StrategyEnableRequested, _stamp: Stamp) -> None:
    state.disabled.pop(event.strategy, None)


def quiet_without_loss_limit(state: State) -> int:
    """Nothing is said of losses that have no limit."""
    limits = state.limits
    if limits is None or (limits.max_daily_loss is None and limits.max_drawdown is None):
        return FOREVER
    return NEVER


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
        BorrowPosted: learn_funding,
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
        BorrowPosted: decide_loss,
        BooksReconciled: decide_reconciled,
        LifecycleViolated: decide_violated,
        OrderProposed: decide_order,
    },
    passing=Passing(silent_until, take_bars),
    quiet={
        BarClosed: (
            Quiet(quiet_without_loss_limit, ended_by=frozenset({LimitsSet})),
            Quiet(quiet_while_flat, ended_by=frozenset({OrderFilled})),
        ),
        OrderFilled: (Quiet(quiet_without_loss_limit, ended_by=frozenset({LimitsSet})),),
    },
)
