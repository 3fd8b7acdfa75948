"""What must hold on the tape of every scenario, whatever the market did. None of it is about profit.

Each rule is one pass over the facts and gives the first thing that breaks it, in words, or ``None``. The rules about
orders are the simulator's own (``simulation_invariants``); those about money hold an account of their own against what
the services said.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any

from tapeline_common import control
from tapeline_common.events import (
    BarClosed,
    LimitBreached,
    LimitsSet,
    OrderApproved,
    OrderFilled,
    OrderTerms,
    PositionChanged,
    TradingHalted,
    TradingResumed,
)
from tapeline_common.simulation_invariants import ORDERS
from tapeline_common.values import HaltReason, InstrumentId, Purpose, TradingState
from tapeline_lab.scenarios.account import ZERO, Account
from tapeline_lab.scenarios.losses import MOVES, Follower
from tapeline_lab.scenarios.running import Tape
from tapeline_ledger import core as ledger
from tapeline_ledger.books import imbalances

NEAR = Decimal("1e-9")
"""Two exact sums of the same terms may differ in their last digits: relative to one or to the larger."""


class Rule(StrEnum):
    """ORDERS: life cycles. HALTS: nothing approved or sent after one. LIMITS: no approval beyond any. BREAKERS: fire
    when a loss reaches its limit, and never otherwise. DRAWDOWN: bounded by its limit and the way out. BOOKS: add up.
    """

    ORDERS = "orders"
    HALTS = "halts"
    LIMITS = "limits"
    BREAKERS = "breakers"
    DRAWDOWN = "drawdown"
    BOOKS = "books"


def orders_live_once(tape: Tape) -> str | None:
    """Approved before submitted, submitted once, filled once, never sent when withheld."""
    return next((found for rule in ORDERS if (found := rule(tape.facts)) is not None), None)


def nothing_after_halt(tape: Tape) -> str | None:
    """While halted nothing is approved; while flattening only what flattens."""
    trading = TradingState.HALTED
    for fact in tape.facts:
        event = fact.event
        trading = control.AFTER.get(type(event), trading)
        if isinstance(event, OrderApproved) and not control.may_trade(trading, event.terms):
            return f"order {event.order} was approved at {fact.pos} while {trading}"
    return None


# ---- limits ------------------------------------------------------------------------------------------------------


def limits_kept(tape: Tape) -> str | None:
    """No approval that may add exposure leaves the account beyond a limit, if everything open fills at last prices."""
    account, limits = Account(), LimitsSet()
    for fact in tape.facts:
        event = fact.event
        if isinstance(event, OrderApproved) and event.terms.purpose is not Purpose.FLATTEN:
            reduces = _only_reduces(account, event.terms)
            account.take(event)
            broken = None if reduces else _beyond(account, limits, event.terms)
            if broken is not None:
                return f"order {event.order} was approved at {fact.pos}: {broken}"
            continue
        account.take(event)
        if isinstance(event, LimitsSet):
            limits = event
    return None


def _only_reduces(account: Account, terms: OrderTerms) -> bool:
    waiting = account.waiting(terms.instrument, terms.side)
    return waiting + terms.quantity <= -terms.side.sign * account.position(terms.instrument)


def _beyond(account: Account, limits: LimitsSet, terms: OrderTerms) -> str | None:
    """The first limit that is passed once this approved order counts as open."""
    own = limits.instruments.get(terms.instrument)
    instrument, sign = terms.instrument, terms.side.sign
    position = abs(account.position(instrument) + sign * account.waiting(instrument, terms.side))
    prices = (account.prices.get(instrument), terms.limit_price, terms.stop_price)
    notional = terms.quantity * max((price for price in prices if price is not None), default=ZERO)
    gross = sum((account.worst(one) * account.prices.get(one, ZERO) for one in account.instruments()), ZERO)
    count = Decimal(len(account.instruments()))
    most = None if limits.max_open_positions is None else Decimal(limits.max_open_positions)
    for name, value, allowed in (
        ("max_order_notional", notional, limits.max_order_notional),
        ("max_position", position, limits.max_position),
        (f"max_order_notional of {instrument}", notional, None if own is None else own.max_order_notional),
        (f"max_position of {instrument}", position, None if own is None else own.max_position),
        ("max_gross_exposure", gross, limits.max_gross_exposure),
        ("max_open_positions", count, most),
    ):
        if allowed is not None and value > allowed * (1 + NEAR):
            return f"{name} is {allowed}, and {value} may come of it"
    return None


# ---- losses ------------------------------------------------------------------------------------------------------


def breakers_fire(tape: Tape) -> str | None:
    """A loss that reaches its limit is said and halts trading at once; nothing else is said to have reached one."""
    said = {(fact.event.reason, fact.cause): fact for fact in tape.facts if isinstance(fact.event, LimitBreached)}
    halts = {fact.cause for fact in tape.facts if isinstance(fact.event, TradingHalted)}
    follower, breached, trading = Follower(), set[HaltReason](), TradingState.HALTED
    for fact in tape.facts:
        day_before = follower.day_ends_ns
        follower.take(fact)
        trading = control.AFTER.get(type(fact.event), trading)
        if follower.day_ends_ns != day_before:
            breached.discard(HaltReason.DAILY_LOSS)
        if isinstance(fact.event, TradingResumed):
            breached.clear()
        if not isinstance(fact.event, (*MOVES, LimitsSet)):
            continue
        for reason, loss in follower.at_limit().items():
            if reason in breached:
                continue
            breached.add(reason)
            found = said.pop((reason, fact.pos), None)
            if found is None:
                return f"{reason}: {loss} was lost at {fact.pos}, and no breaker fired"
            assert isinstance(found.event, LimitBreached)
            if not _near(Decimal(found.event.observed), loss):
                return (
                    f"{reason}: {loss} was lost at {fact.pos}, the breaker at {found.pos} says {found.event.observed}"
                )
            if trading is not TradingState.FLATTENING and fact.pos not in halts:
                return f"{reason}: the breaker at {found.pos} halted nothing"
    for (reason, _), fact in said.items():
        return f"{reason}: the breaker at {fact.pos} fired, and no such loss was made"
    return None


def drawdown_bounded(tape: Tape) -> str | None:
    """At most the limit, and what can be lost on the way out: the span of each bar from the breach on, for as much as
    is still held, and the costs of leaving. Once nothing is held, nothing more is lost.
    """
    follower, allowance = Follower(), ZERO
    spans: dict[InstrumentId, Decimal] = {}
    for fact in tape.facts:
        event, account = fact.event, follower.account
        before = follower.at_limit() if follower.limits.max_drawdown is not None else {}
        allowed = _lost_in(event, account, spans)
        follower.take(fact)
        limit = follower.limits.max_drawdown
        if limit is None or not isinstance(event, MOVES):
            continue
        is_beyond = HaltReason.DRAWDOWN in before or follower.drawdown >= limit
        allowance = allowance + allowed if is_beyond else ZERO
        if follower.drawdown > (limit + allowance) * (1 + NEAR):
            return (
                f"{follower.drawdown} below the highest equity at {fact.pos}: the limit is {limit}, and on the way out"
                f" {allowance} could be lost"
            )
    return None


def _lost_in(event: Any, account: Account, spans: dict[InstrumentId, Decimal]) -> Decimal:
    """The most that this fact can have cost the account."""
    if isinstance(event, BarClosed):
        high, low = Decimal(event.high), Decimal(event.low)
        last = account.prices.get(event.instrument, Decimal(event.open))
        spans[event.instrument] = max(high, last) - min(low, last)
        return abs(account.position(event.instrument)) * spans[event.instrument]
    if isinstance(event, OrderFilled):
        return event.quantity * (spans.get(event.instrument, ZERO) + abs(event.slippage)) + abs(event.fee)
    amount = getattr(event, "amount", ZERO)
    return abs(amount) if isinstance(event, MOVES) else ZERO


# ---- books -------------------------------------------------------------------------------------------------------


def books_conserve(tape: Tape) -> str | None:
    """Positions are the sums of their fills, cash of its flows, and every posting has its opposite."""
    account = Account()
    for fact in tape.facts:
        event = fact.event
        account.take(event)
        if isinstance(event, PositionChanged):
            held = account.held.get((event.strategy, event.instrument), ZERO)
            if event.quantity != held:
                return f"{event.strategy} holds {event.quantity} at {fact.pos} by the ledger, {held} by its fills"
    books = tape.states["ledger"]
    unequal = imbalances(books.books)
    if unequal:
        return f"the books do not balance: {unequal}"
    if account.has_other_fees:
        return None
    for name, theirs, ours in (
        ("cash", ledger.cash(books), account.cash),
        ("equity", ledger.equity(books), account.equity),
    ):
        if not _near(theirs, ours):
            return f"{name} is {theirs} by the ledger, {ours} by the fills"
    return None


def _near(one: Decimal, other: Decimal) -> bool:
    return abs(one - other) <= NEAR * max(abs(one), abs(other), Decimal(1))


RULES: dict[Rule, Callable[[Tape], str | None]] = {
    Rule.ORDERS: orders_live_once,
    Rule.HALTS: nothing_after_halt,
    Rule.LIMITS: limits_kept,
    Rule.BREAKERS: breakers_fire,
    Rule.DRAWDOWN: drawdown_bounded,
    Rule.BOOKS: books_conserve,
}


def broken(tape: Tape) -> dict[Rule, str]:
    """Every rule that this tape breaks, and how."""
    found = {rule: judge(tape) for rule, judge in RULES.items()}
    return {rule: words for rule, words in found.items() if words is not None}
