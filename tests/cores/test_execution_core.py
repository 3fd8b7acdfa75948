"""The execution core: approvals become submissions at most once, halts cancel, reports move orders."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import pytest

from tapeline_common.core import Stamp, step
from tapeline_common.events import (
    CancelSubmitted,
    Event,
    FlattenRequested,
    HaltRequested,
    LifecycleViolated,
    OrderAccepted,
    OrderApproved,
    OrderCanceled,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderSubmitted,
    OrderTerms,
    OrderWithheld,
    RunStarted,
    StrategyDisableRequested,
    TradingHalted,
    TradingResumed,
)
from tapeline_common.testing import at, fingerprint, given
from tapeline_common.values import (
    CancelReason,
    HaltReason,
    InstrumentId,
    Liquidity,
    OrderId,
    OrderState,
    Purpose,
    Realm,
    Rejection,
    Side,
    StrategyId,
    Withheld,
)
from tapeline_execution import core as execution
from tapeline_execution.core import CORE
from tapeline_execution.lifecycle import Order
from tapeline_execution.service import SERVICE

RUN = RunStarted("paper", "tape-1", Realm.LIVE, 7, "USD", "1")
ATLAS, BORIS = StrategyId("atlas"), StrategyId("boris")
BTC = InstrumentId("BTC-USD")
FAR_NS = 10**15
HALT = HaltRequested("operator", "too hot")
BREAKER = TradingHalted(HaltReason.DAILY_LOSS, "lost enough")
FLATTEN = FlattenRequested("operator", "going home")
RESUME = TradingResumed("operator")


def terms(strategy: StrategyId = ATLAS, purpose: Purpose = Purpose.SIGNAL, quantity: str = "3") -> OrderTerms:
    return OrderTerms(strategy, BTC, Side.BUY, Decimal(quantity), purpose=purpose)


def client(order: str, approval: int) -> str:
    return hashlib.sha256(f"tape-1|{order}|{approval}".encode()).hexdigest()[:32]


def approved(order: str = "atlas-1-0", what: OrderTerms | None = None, until_ns: int = FAR_NS) -> OrderApproved:
    return OrderApproved(OrderId(order), what or terms(), until_ns)


def submitted(order: str = "atlas-1-0", what: OrderTerms | None = None, approval: int = 2) -> OrderSubmitted:
    return OrderSubmitted(OrderId(order), client(order, approval), what or terms(), approval, FAR_NS)


def withheld(reason: Withheld, order: str = "atlas-1-0", approval: int = 2) -> OrderWithheld:
    return OrderWithheld(OrderId(order), client(order, approval), reason)


def cancel(reason: CancelReason, order: str = "atlas-1-0", approval: int = 2) -> CancelSubmitted:
    return CancelSubmitted(OrderId(order), client(order, approval), reason)


def accepted(order: str = "atlas-1-0", approval: int = 2) -> OrderAccepted:
    return OrderAccepted(OrderId(order), client(order, approval), "v3")


def unknown(order: str = "atlas-1-0", approval: int = 2) -> OrderOutcomeUnknown:
    return OrderOutcomeUnknown(OrderId(order), client(order, approval), "no answer for 10 s")


def canceled(reason: CancelReason = CancelReason.OPERATOR_HALT) -> OrderCanceled:
    return OrderCanceled(OrderId("atlas-1-0"), client("atlas-1-0", 2), reason)


def filled(quantity: str, trade: str, order: str = "atlas-1-0", approval: int = 2) -> OrderFilled:
    return OrderFilled(
        OrderId(order), client(order, approval), ATLAS, BTC, trade, Side.BUY, Decimal(quantity), Decimal(100),
        Decimal("0.1"), "USD", Liquidity.TAKER, Decimal(0),
    )  # fmt: skip


def violated(state: OrderState | None, event: str, detail: str, order: str = "atlas-1-0") -> LifecycleViolated:
    return LifecycleViolated(OrderId(order), state, event, detail)


def order_after(*history: Event, order: str = "atlas-1-0") -> Order:
    found = execution.find(given(CORE, *history).state, OrderId(order))
    assert found is not None
    return found


# ---- submission --------------------------------------------------------------------------------------------------


def test_an_approval_becomes_one_submission_with_its_terms_unchanged() -> None:
    """The submission carries terms, validity, the approval's position and an id derived from it."""
    what = terms(BORIS, quantity="1.25")
    given(CORE, RUN).when(approved("boris-4-0", what)).then(submitted("boris-4-0", what))


def test_the_client_order_id_is_the_first_half_of_a_sha256() -> None:
    """The id is 32 lowercase hex digits of SHA-256 over tape, order and approval: a fixed value, computed elsewhere."""
    assert execution.client_order_id("tape-1", OrderId("atlas-1-0"), 2) == "0039c1213fabf7a37304137e5c1cb160"


def test_before_a_run_has_started_everything_is_withheld() -> None:
    """A core that has heard nothing is halted."""
    nameless = hashlib.sha256(b"|atlas-1-0|1").hexdigest()[:32]
    given(CORE).when(approved()).then(OrderWithheld(OrderId("atlas-1-0"), nameless, Withheld.TRADING_HALTED))


def test_an_approval_that_comes_after_a_halt_is_withheld() -> None:
    """Nothing is submitted while halted, whoever halted."""
    for halt in (HALT, BREAKER):
        given(CORE, RUN, halt).when(approved()).then(withheld(Withheld.TRADING_HALTED, approval=3))


def test_after_a_resume_approvals_are_submitted_again() -> None:
    """TradingResumed opens the gate."""
    given(CORE, RUN, HALT, RESUME).when(approved()).then(submitted(approval=4))


def test_while_flattening_only_flatten_orders_are_submitted() -> None:
    """A flatten order passes; a signal order does not."""
    what = terms(purpose=Purpose.FLATTEN)
    history = given(CORE, RUN, FLATTEN).when(approved("atlas-1-0", what)).then(submitted("atlas-1-0", what, 3))
    history.when(approved("atlas-2-0")).then(withheld(Withheld.TRADING_HALTED, "atlas-2-0", 4))


def test_an_expired_approval_is_withheld_and_one_at_its_last_moment_is_not() -> None:
    """Valid up to and including ``valid_until_ns``."""
    limit = at(10).time_ns
    given(CORE, RUN, at(10)).when(approved(until_ns=limit - 1)).then(withheld(Withheld.APPROVAL_EXPIRED))
    sent = OrderSubmitted(OrderId("atlas-1-0"), client("atlas-1-0", 2), terms(), 2, limit)
    given(CORE, RUN, at(10)).when(approved(until_ns=limit)).then(sent)


def test_a_second_approval_of_an_order_changes_nothing_and_alarms() -> None:
    """One order is submitted at most once: not again while open, nor when finished, nor when it was withheld."""
    detail = "order atlas-1-0 was approved before; an order is submitted at most once"
    open_order = given(CORE, RUN, submitted())
    before = fingerprint(open_order.state)
    after = open_order.when(approved()).then(violated(OrderState.SUBMITTED, "OrderApproved", detail))
    assert fingerprint(after.state) == before
    done = given(CORE, RUN, submitted(), accepted(), filled("3", "t1"))
    done.when(approved()).then(violated(OrderState.FILLED, "OrderApproved", detail))
    held = given(CORE, RUN, withheld(Withheld.APPROVAL_EXPIRED))
    held.when(approved()).then(violated(OrderState.WITHHELD, "OrderApproved", detail))


# ---- the last moment ---------------------------------------------------------------------------------------------


def test_a_submission_reached_while_running_is_let_go() -> None:
    """Nothing to withhold, nothing said."""
    given(CORE, RUN, submitted()).when(submitted()).then_nothing()


def test_a_submission_reached_after_a_halt_is_withheld() -> None:
    """The halt was recorded between the decision and its place on the tape: nothing is sent."""
    history = given(CORE, RUN, submitted(), HALT).when(submitted()).then(withheld(Withheld.TRADING_HALTED))
    assert history.state.open == {}
    assert history.state.finished[OrderId("atlas-1-0")].state is OrderState.WITHHELD


def test_a_submission_reached_after_its_approval_expired_is_withheld() -> None:
    """A slow tape does not make an old approval good."""
    late = OrderSubmitted(OrderId("atlas-1-0"), client("atlas-1-0", 2), terms(), 2, at(5).time_ns)
    given(CORE, RUN, late).when(late, seconds=6).then(withheld(Withheld.APPROVAL_EXPIRED))


def test_both_interleavings_of_a_halt_and_a_submission_end_without_a_live_order() -> None:
    """Halt behind the submission: the cancel stops it. Halt ahead: it is withheld, and its cancel finds it finished."""
    decided = given(CORE, RUN).when(approved()).then(submitted())
    halted = decided.when(HALT).then(cancel(CancelReason.OPERATOR_HALT))
    assert halted.state.open[OrderId("atlas-1-0")].state is OrderState.CANCEL_SUBMITTED
    behind = halted.when(canceled()).then_nothing()
    assert behind.state.finished[OrderId("atlas-1-0")].state is OrderState.CANCELED
    decided = given(CORE, RUN).when(approved()).then(submitted())
    halted = decided.when(HALT).then(cancel(CancelReason.OPERATOR_HALT))
    ahead = halted.when(submitted()).then(withheld(Withheld.TRADING_HALTED))
    assert ahead.state.open == {}
    assert ahead.state.finished[OrderId("atlas-1-0")].state is OrderState.WITHHELD


# ---- cancels -----------------------------------------------------------------------------------------------------


def test_a_halt_cancels_every_open_order_in_order_of_submission() -> None:
    """Submitted, working, partly filled and UNKNOWN orders all get their cancel; a finished one does not."""
    ids = ["o-submitted", "o-working", "o-partly", "o-unknown", "o-done"]
    history = [submitted(name, approval=2) for name in ids]
    reports = [
        accepted("o-working"), accepted("o-partly"), filled("1", "t1", "o-partly"), unknown("o-unknown"),
        filled("3", "t2", "o-done"),
    ]  # fmt: skip
    for halt in (HALT, BREAKER):
        given(CORE, RUN, *history, *reports).when(halt).then(
            *[cancel(CancelReason.OPERATOR_HALT, name) for name in ids[:-1]]
        )


def test_an_order_is_cancelled_once_however_often_trading_halts() -> None:
    """A second halt, or a flatten after it, asks for nothing more."""
    history = given(CORE, RUN, submitted(), accepted()).when(HALT).then(cancel(CancelReason.OPERATOR_HALT))
    history.when(BREAKER).then_nothing().when(FLATTEN).then_nothing().when(unknown()).then_nothing()
    history.when(HALT).then_nothing()


def test_a_halt_with_nothing_open_says_nothing() -> None:
    """No order, no cancel."""
    given(CORE, RUN).when(HALT).then_nothing()


def test_flatten_cancels_all_but_flatten_orders() -> None:
    """The orders that flatten stay."""
    signal, flatten = submitted("o-signal"), submitted("o-flatten", terms(purpose=Purpose.FLATTEN))
    given(CORE, RUN, signal, flatten).when(FLATTEN).then(cancel(CancelReason.FLATTEN, "o-signal"))
    given(CORE, RUN, flatten).when(FLATTEN).then_nothing()


def test_disabling_a_strategy_cancels_its_orders_only() -> None:
    """Others keep working."""
    history = [RUN, submitted("o-atlas"), submitted("o-boris", terms(BORIS))]
    disable = StrategyDisableRequested(BORIS, "operator", "misbehaves")
    given(CORE, *history).when(disable).then(cancel(CancelReason.STRATEGY_DISABLED, "o-boris"))
    given(CORE, *history).when(StrategyDisableRequested(StrategyId("clara"), "operator", "")).then_nothing()


# ---- reports -----------------------------------------------------------------------------------------------------


def test_expected_reports_move_the_order_and_say_nothing() -> None:
    """Accepted, a part, the rest: FILLED, with nothing to alarm about."""
    history = given(CORE, RUN, submitted())
    history = history.when(accepted()).then_nothing()
    history = history.when(filled("1", "t1")).then_nothing()
    history = history.when(filled("2", "t2")).then_nothing()
    assert history.state.open == {}
    assert history.state.finished[OrderId("atlas-1-0")].filled == Decimal(3)


def test_a_report_about_an_order_nobody_knows_alarms() -> None:
    """There is no state to be in, and nothing is made up."""
    history = (
        given(CORE, RUN)
        .when(accepted("ghost"))
        .then(violated(None, "OrderAccepted", "order ghost is not known here", "ghost"))
    )
    assert history.state.open == history.state.finished == {}


def test_a_report_that_cannot_be_changes_nothing_and_alarms() -> None:
    """A working order is not rejected any more."""
    rejected = OrderRejected(OrderId("atlas-1-0"), client("atlas-1-0", 2), Rejection.PRICE_INVALID, "")
    history = (
        given(CORE, RUN, submitted(), accepted())
        .when(rejected)
        .then(violated(OrderState.WORKING, "OrderRejected", "OrderRejected cannot follow WORKING"))
    )
    assert history.state.open[OrderId("atlas-1-0")].state is OrderState.WORKING


def test_a_repeated_trade_counts_once_and_alarms() -> None:
    """The same execution told twice is one execution, also when it finished the order."""
    history = (
        given(CORE, RUN, submitted(), filled("1", "t1"))
        .when(filled("1", "t1"))
        .then(violated(OrderState.PARTLY_FILLED, "OrderFilled", "trade t1 was counted already"))
    )
    assert history.state.open[OrderId("atlas-1-0")].filled == Decimal(1)
    done = given(CORE, RUN, submitted(), filled("3", "t1")).when(filled("3", "t1"))
    done.then(violated(OrderState.FILLED, "OrderFilled", "trade t1 was counted already"))


def test_more_than_was_ordered_is_not_counted_and_alarms() -> None:
    """An overfill leaves the cumulative quantity where it was."""
    detail = "filled 4 of 3: more than was ordered; it is not counted"
    overfilled = given(CORE, RUN, submitted(), filled("2", "t1")).when(filled("2", "t2"))
    history = overfilled.then(violated(OrderState.PARTLY_FILLED, "OrderFilled", detail))
    assert history.state.open[OrderId("atlas-1-0")].filled == Decimal(2)


def test_a_fill_after_the_cancel_report_is_counted_and_alarms() -> None:
    """Money moved, so the quantity is true; the state stays canceled."""
    history = (
        given(CORE, RUN, submitted(), accepted(), canceled())
        .when(filled("1", "t1"))
        .then(violated(OrderState.CANCELED, "OrderFilled", "fill of 1 after the order was CANCELED; it is counted"))
    )
    order = history.state.finished[OrderId("atlas-1-0")]
    assert (order.state, order.filled) == (OrderState.CANCELED, Decimal(1))


def test_an_order_of_unknown_outcome_is_kept_until_the_venue_tells() -> None:
    """UNKNOWN is open: it is found again, cancelled by a halt, and resolved by the next report."""
    assert order_after(RUN, submitted(), unknown(), unknown()).state is OrderState.UNKNOWN
    assert order_after(RUN, submitted(), unknown(), accepted()).state is OrderState.WORKING
    assert order_after(RUN, submitted(), unknown(), filled("1", "t1")).state is OrderState.PARTLY_FILLED


def test_finished_orders_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: late reports find the latest finished orders, and open orders are never dropped."""
    monkeypatch.setattr(execution, "KEPT_FINISHED_ORDERS", 2)
    names = [f"o-{number}" for number in range(5)]
    history = [submitted(name) for name in names]
    fills = [filled("3", "t", name) for name in names[1:]]
    state = given(CORE, RUN, *history, *fills).state
    assert list(state.open) == ["o-0"]
    assert list(state.finished) == list(state.oldest_first) == ["o-3", "o-4"]


def test_facts_that_only_move_the_clock_leave_the_state_alone() -> None:
    """A strategy's disabling without orders, a cancel of a finished order: nothing changes."""
    history = given(CORE, RUN, submitted(), filled("3", "t1"))
    before = fingerprint(history.state)
    decisions = step(CORE, history.state, StrategyDisableRequested(ATLAS, "operator", ""), Stamp(9, 9))
    assert list(decisions) == []
    assert fingerprint(given(CORE, RUN, submitted(), filled("3", "t1"), cancel(CancelReason.REQUESTED)).state) == before


def test_the_service_speaks_for_the_venue_and_for_execution() -> None:
    """Answers to one fact are recorded venue first."""
    assert SERVICE.authors == ("venue", "execution")
