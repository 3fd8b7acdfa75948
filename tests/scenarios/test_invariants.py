"""Each rule can fail: a tape from which one thing is taken, or in which one is changed, breaks it.

The mutants are the bugs that the suite is for: a breaker that stays silent, one that fires without cause, an order
after a halt, an order beyond a limit, a loss that goes on, books that do not add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from tests.scenarios.runs import tape_of

from tapeline_common.events import (
    BarClosed,
    Event,
    LimitBreached,
    LimitsSet,
    OrderApproved,
    OrderFilled,
    PositionChanged,
    TradingHalted,
)
from tapeline_common.wire import Fact
from tapeline_lab.scenarios.invariants import Rule, broken
from tapeline_lab.scenarios.running import OnHalt, Tape


@pytest.fixture(scope="module")
def crash() -> Tape:
    """A holder in the delisting: everything happens in it."""
    return tape_of("buy_and_hold", "delisting")


def test_the_true_tape_breaks_nothing(crash: Tape) -> None:
    assert broken(crash) == {}


Change = Callable[[Fact], Fact | None]


def mutant(tape: Tape, change: Change) -> Tape:
    """The tape with every fact as ``change`` makes it; ``None`` takes it away."""
    return replace(tape, facts=[made for fact in tape.facts if (made := change(fact)) is not None])


def without(kind: type[Event]) -> Change:
    return lambda fact: None if isinstance(fact.event, kind) else fact


def changed(kind: type[Event], **values: object) -> Change:
    def change(fact: Fact) -> Fact:
        if not isinstance(fact.event, kind):
            return fact
        return msgspec.structs.replace(fact, event=msgspec.structs.replace(fact.event, **values))

    return change


def test_a_breaker_that_stays_silent(crash: Tape) -> None:
    assert "no breaker fired" in broken(mutant(crash, without(LimitBreached)))[Rule.BREAKERS]


def test_a_breaker_that_halts_nothing(crash: Tape) -> None:
    assert "halted nothing" in broken(mutant(crash, without(TradingHalted)))[Rule.BREAKERS]


def test_a_breaker_that_says_another_loss(crash: Tape) -> None:
    assert "says 1" in broken(mutant(crash, changed(LimitBreached, observed="1")))[Rule.BREAKERS]


def test_a_breaker_that_fires_without_cause(crash: Tape) -> None:
    """With limits a hundred times as wide no loss on this tape reaches one."""
    wide = changed(LimitsSet, max_drawdown=Decimal(10**8), max_daily_loss=Decimal(10**8))
    assert "no such loss was made" in broken(mutant(crash, wide))[Rule.BREAKERS]


def test_an_order_after_a_halt(crash: Tape) -> None:
    """The first approval comes again at the end."""
    first = next(fact for fact in crash.facts if isinstance(fact.event, OrderApproved))
    late = msgspec.structs.replace(first, pos=crash.facts[-1].pos + 1)
    assert Rule.HALTS in broken(replace(crash, facts=[*crash.facts, late]))


@pytest.mark.parametrize(
    ("limit", "value"),
    [("max_position", "1"), ("max_order_notional", "100"), ("max_gross_exposure", "100")],
)
def test_an_order_beyond_a_limit(limit: str, value: str, crash: Tape) -> None:
    """Limits that are tighter than those that were asked."""
    found = broken(mutant(crash, changed(LimitsSet, **{limit: Decimal(value)})))
    assert limit in found[Rule.LIMITS]


def test_a_loss_that_goes_on_after_everything_was_sold(crash: Tape) -> None:
    """The last fill is charged a fortune that no price explains."""
    last = [fact.pos for fact in crash.facts if isinstance(fact.event, OrderFilled)][-1]

    def change(fact: Fact) -> Fact:
        if fact.pos != last:
            return fact
        assert isinstance(fact.event, OrderFilled)
        return msgspec.structs.replace(fact, event=msgspec.structs.replace(fact.event, price=Decimal(1)))

    assert "could be lost" in broken(mutant(crash, change))[Rule.DRAWDOWN]


def test_positions_that_are_not_their_fills(crash: Tape) -> None:
    assert "by its fills" in broken(mutant(crash, changed(PositionChanged, quantity=Decimal(7))))[Rule.BOOKS]


def test_cash_that_is_not_its_flows(crash: Tape) -> None:
    dearer = broken(mutant(crash, changed(OrderFilled, fee=Decimal(1))))
    assert "cash is" in dearer[Rule.BOOKS]


def test_a_fill_of_an_order_nobody_sent(crash: Tape) -> None:
    from tapeline_common.events import OrderSubmitted

    assert "never submitted" in broken(mutant(crash, without(OrderSubmitted)))[Rule.ORDERS]


def test_equity_at_last_prices_is_the_ledgers(crash: Tape) -> None:
    """A holder who was not sold out: a last bar at another price makes another equity."""
    held = tape_of("buy_and_hold", "delisting", on_halt=OnHalt.HOLD)
    assert broken(held) == {}
    last = [fact.pos for fact in held.facts if isinstance(fact.event, BarClosed)][-1]

    def change(fact: Fact) -> Fact:
        if fact.pos != last:
            return fact
        return msgspec.structs.replace(fact, event=msgspec.structs.replace(fact.event, close="123456"))

    assert "equity is" in broken(mutant(held, change))[Rule.BOOKS]
