"""Properties of the execution service under any orders, bars and interleavings, each shown able to fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_common import control
from tapeline_common.core import Core, Stamp, learn, step
from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    Event,
    FlattenRequested,
    HaltRequested,
    InstrumentListed,
    LifecycleViolated,
    OrderAccepted,
    OrderApproved,
    OrderCanceled,
    OrderExpired,
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
    VenueConfigured,
)
from tapeline_common.follower import Follower
from tapeline_common.restore import restore
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.testing import fingerprint
from tapeline_common.values import (
    CancelReason,
    DecimalText,
    HaltReason,
    InstrumentId,
    Liquidity,
    OrderId,
    OrderType,
    Purpose,
    Realm,
    Side,
    StrategyId,
    TimeInForce,
    TradingState,
)
from tapeline_common.wire import Answer, Draft, Fact
from tapeline_execution import core as execution
from tapeline_execution import gate, matching, venue
from tapeline_execution.lifecycle import Order, Surprise, advance

BTC = InstrumentId("BTC-USD")
ATLAS, BORIS = StrategyId("atlas"), StrategyId("boris")
SECOND_NS = 10**9
MINUTE_NS = 60 * SECOND_NS
RUN = RunStarted("paper", "tape-1", Realm.LIVE, 7, "USD", "1")
CHEAP = VenueConfigured("sim", Decimal("0.0001"), Decimal("0.0002"), Decimal(3), Decimal("0.1"))
FREE = VenueConfigured("sim", Decimal(0), Decimal(0), Decimal(0))
DEAR = VenueConfigured("sim", Decimal("0.001"), Decimal("0.002"), Decimal(40))
TICK = Decimal("0.5")
LISTED = InstrumentListed(BTC, "BTC/USD", "sim", "BTC", "USD", TICK, Decimal(1))
FUNDED = AccountFunded("main", "USD", Decimal(100_000))


# ---- one venue, any orders, any bars -----------------------------------------------------------------------------


@dataclass
class Session:
    """What a venue was told and said, bar by bar."""

    costs: VenueConfigured
    orders: dict[OrderId, OrderTerms] = field(default_factory=dict)
    bars: list[tuple[BarClosed, tuple[Event, ...]]] = field(default_factory=list)
    state: venue.State = field(default_factory=venue.State)

    @property
    def fills(self) -> list[OrderFilled]:
        return [event for _, answers in self.bars for event in answers if isinstance(event, OrderFilled)]


def trade(costs: VenueConfigured, items: Sequence[BarClosed | OrderTerms]) -> Session:
    """Let a fresh venue meet these orders and bars, in this order."""
    session = Session(costs)
    pos = 0
    for event in (RUN, costs, LISTED, FUNDED):
        pos += 1
        learn(venue.CORE, session.state, event, Stamp(pos, 0))
    time_ns = 0
    for item in items:
        pos += 1
        if isinstance(item, BarClosed):
            time_ns = item.close_ns
            session.bars.append((item, tuple(step(venue.CORE, session.state, item, Stamp(pos, time_ns)))))
        else:
            submitted = OrderSubmitted(OrderId(f"o-{pos}"), f"c-{pos}", item, 1, 10**18)
            answers = step(venue.CORE, session.state, submitted, Stamp(pos, time_ns))
            assert [type(answer) for answer in answers] == [OrderAccepted]
            session.orders[submitted.order] = item
    return session


PRICES = st.integers(80, 120)


@st.composite
def terms(draw: st.DrawFn) -> OrderTerms:
    kind = draw(st.sampled_from(OrderType))
    return OrderTerms(
        draw(st.sampled_from([ATLAS, BORIS])),
        BTC,
        draw(st.sampled_from(Side)),
        Decimal(draw(st.integers(1, 9))),
        kind,
        Decimal(draw(PRICES)) if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None,
        Decimal(draw(PRICES)) if kind in (OrderType.STOP, OrderType.STOP_LIMIT) else None,
        draw(st.sampled_from(TimeInForce)),
        draw(st.booleans()),
    )


@st.composite
def sessions(draw: st.DrawFn) -> list[BarClosed | OrderTerms]:
    """Orders between bars of six hours, so that days end; prices on a grid finer than the tick."""
    items: list[BarClosed | OrderTerms] = []
    length = 360 * MINUTE_NS
    for count in range(draw(st.integers(1, 8))):
        items.extend(draw(st.lists(terms(), max_size=3)))
        low, one, other, high = sorted(Decimal(draw(st.integers(800, 1200))) / 10 for _ in range(4))
        volume = Decimal(draw(st.integers(0, 120)))
        texts = [DecimalText(str(number)) for number in (one, high, low, other, volume)]
        items.append(BarClosed(BTC, "6h", count * length, (count + 1) * length, *texts))
    return items


def check_quantities(session: Session) -> None:
    """No order fills more than it asked for, and no bar gives more than its share of volume."""
    filled: dict[OrderId, Decimal] = {}
    for bar, answers in session.bars:
        here = [event for event in answers if isinstance(event, OrderFilled)]
        if session.costs.participation is not None:
            assert sum(fill.quantity for fill in here) <= session.costs.participation * Decimal(bar.volume)
        for fill in here:
            assert fill.quantity > 0
            filled[fill.order] = filled.get(fill.order, Decimal(0)) + fill.quantity
            assert filled[fill.order] <= session.orders[fill.order].quantity


def check_prices(session: Session) -> None:
    """Every price lies in its bar, moved by at most slippage and a tick, and never past the order's limit."""
    share = session.costs.slippage_bps / 10_000
    for bar, answers in session.bars:
        low, high = Decimal(bar.low), Decimal(bar.high)
        for fill in (event for event in answers if isinstance(event, OrderFilled)):
            order, sign = session.orders[fill.order], fill.side.sign
            moved = share if fill.liquidity is Liquidity.TAKER else 0
            if fill.side is Side.BUY:
                assert low <= fill.price < high * (1 + moved) + TICK
            else:
                assert low * (1 - moved) - TICK < fill.price <= high
            assert fill.price % TICK == 0
            assert fill.slippage >= 0
            assert order.limit_price is None or (order.limit_price - fill.price) * sign >= 0


def check_account(session: Session) -> None:
    """Cash and inventory are the funds and the sum of all fills, to the last digit; fees are rate times notional."""
    cash, inventory = FUNDED.amount, Decimal(0)
    for fill in session.fills:
        rate = session.costs.maker_fee if fill.liquidity is Liquidity.MAKER else session.costs.taker_fee
        cash -= fill.side.sign * fill.quantity * fill.price + fill.price * fill.quantity * rate
        inventory += fill.side.sign * fill.quantity
    assert session.state.balances.get("USD") == cash
    assert session.state.balances.get("BTC", Decimal(0)) == inventory


def check_reduce_only(session: Session) -> None:
    """A reduce-only fill brings its strategy's position nearer to nothing, and not past it."""
    positions: dict[StrategyId, Decimal] = {}
    for fill in session.fills:
        before = positions.get(fill.strategy, Decimal(0))
        after = before + fill.side.sign * fill.quantity
        if session.orders[fill.order].reduce_only:
            assert abs(after) == abs(before) - fill.quantity
        positions[fill.strategy] = after


def check_dearer(items: Sequence[BarClosed | OrderTerms]) -> None:
    """Dearer trading leaves no more cash than free trading, with the same inventory."""
    free, dear = trade(FREE, items), trade(DEAR, items)
    assert free.state.balances.get("BTC") == dear.state.balances.get("BTC")
    assert dear.state.balances["USD"] <= free.state.balances["USD"]


@settings(deadline=None)
@given(sessions(), st.sampled_from([CHEAP, FREE, DEAR]))
def test_a_venue_keeps_its_rules(items: list[BarClosed | OrderTerms], costs: VenueConfigured) -> None:
    """Quantities, prices, the account and reduce-only hold for any orders and bars."""
    session = trade(costs, items)
    for check in (check_quantities, check_prices, check_account, check_reduce_only):
        check(session)
    immediate = (TimeInForce.IOC, TimeInForce.FOK)
    for working in session.state.books[BTC].orders.values():
        assert working.remaining > 0
        assert not (working.first_pos and working.submitted.terms.time_in_force in immediate)


@settings(deadline=None)
@given(sessions())
def test_more_cost_never_gives_more_cash(items: list[BarClosed | OrderTerms]) -> None:
    """Slippage and fees only take."""
    check_dearer(items)


# ---- any order of reports ----------------------------------------------------------------------------------------

ORDER, CLIENT = OrderId("atlas-1-0"), "c0ffee"
SUBMITTED = OrderSubmitted(ORDER, CLIENT, OrderTerms(ATLAS, BTC, Side.BUY, Decimal(10)), 2, 10**18)


def fill(number: int, quantity: int) -> OrderFilled:
    return OrderFilled(
        ORDER, CLIENT, ATLAS, BTC, f"t{number}", Side.BUY, Decimal(quantity), Decimal(100), Decimal(0), "USD",
        Liquidity.TAKER, Decimal(0),
    )  # fmt: skip


@st.composite
def reports(draw: st.DrawFn) -> list[Event]:
    """Reports of one order that a venue could have sent, shuffled and with repetitions."""
    quantities = draw(st.lists(st.integers(1, 5), max_size=4).filter(lambda parts: sum(parts) <= 10))
    told: list[Event] = [fill(number, quantity) for number, quantity in enumerate(quantities)]
    told.append(OrderAccepted(ORDER, CLIENT, "v3"))
    told.extend(
        draw(
            st.sampled_from(
                [
                    [],
                    [OrderCanceled(ORDER, CLIENT, CancelReason.REQUESTED)],
                    [OrderExpired(ORDER, CLIENT)],
                    [OrderOutcomeUnknown(ORDER, CLIENT, "no answer")],
                ]
            )
        )
    )
    return draw(st.permutations(told + draw(st.lists(st.sampled_from(told), max_size=4))))


def check_reports(told: Sequence[Event]) -> None:
    """Cumulative filled is the sum of distinct trades, never falls on the way, and finished stays finished."""
    state = execution.CORE.initial()
    learn(execution.CORE, state, RUN, Stamp(1, 0))
    learn(execution.CORE, state, SUBMITTED, Stamp(2, 0))
    filled, terminal = Decimal(0), None
    for pos, report in enumerate(told, start=3):
        step(execution.CORE, state, report, Stamp(pos, 0))
        order = execution.find(state, ORDER)
        assert order is not None
        assert order.filled >= filled
        assert terminal in (None, order.state)
        filled, terminal = order.filled, order.state if order.state.is_terminal else None
    trades = {report.trade_id: report.quantity for report in told if isinstance(report, OrderFilled)}
    assert filled == sum(trades.values())


@given(reports())
def test_any_order_and_repetition_of_reports_counts_every_fill_once(told: list[Event]) -> None:
    """Lines of a venue keep no order and repeat themselves; quantities do not care."""
    check_reports(told)


# ---- any interleaving of the two cores ---------------------------------------------------------------------------

OUTSIDE, VENUE, EXECUTION = "outside", "venue", "execution"
Outside = tuple[str, Event, int]
"""Author, fact, and how many seconds after the one before it."""
OPENING: list[Outside] = [("operator", RUN, 0), ("operator", CHEAP, 0), ("marketdata", LISTED, 0)]


def play(
    script: Sequence[Outside], schedule: Sequence[str], venue_core: Core[venue.State] = venue.CORE
) -> tuple[list[Fact], dict[str, Follower[Any]]]:
    """Record the script while both cores follow the tape: first as scheduled, then until nothing is left to hear."""
    tape = MemoryTape(Realm.LIVE)
    followers: dict[str, Follower[Any]] = {VENUE: Follower(venue_core), EXECUTION: Follower(execution.CORE)}
    waiting = list(enumerate(script))

    def turn(who: str) -> None:
        if who == OUTSIDE:
            if waiting:
                number, (author, event, seconds) = waiting.pop(0)
                tape.now_ns += seconds * SECOND_NS
                assert not tape.record(author, Answer(0, (Draft(event, f"outside-{number}"),))).refusal
            return
        follower = followers[who]
        if follower.heard == tape.head:
            return
        fact = tape.facts[follower.heard]
        decisions = follower.hear(fact)
        if decisions:
            answer = Answer(fact.pos, tuple(Draft(decision) for decision in decisions))
            assert not tape.record(who, answer).refusal

    for who in schedule:
        turn(who)
    while waiting or any(follower.heard < tape.head for follower in followers.values()):
        for who in (OUTSIDE, VENUE, EXECUTION):
            turn(who)
    return tape.facts, followers


def check_halts(facts: Sequence[Fact]) -> None:
    """A submission that lies where trading is forbidden is accepted by nobody."""
    accepted = {fact.event.client_order_id for fact in facts if isinstance(fact.event, OrderAccepted)}
    trading = TradingState.HALTED
    for fact in facts:
        trading = control.AFTER.get(type(fact.event), trading)
        if isinstance(fact.event, OrderSubmitted) and not control.may_trade(trading, fact.event.terms):
            assert fact.event.client_order_id not in accepted, (
                f"accepted although submitted at {fact.pos} while {trading}"
            )


def check_agreement(facts: Sequence[Fact]) -> None:
    """Every submission is either withheld by execution or answered by the venue, never both and never neither."""
    withheld = [fact.cause for fact in facts if isinstance(fact.event, OrderWithheld)]
    answered = [fact.cause for fact in facts if isinstance(fact.event, OrderAccepted | OrderRejected)]
    for fact in facts:
        if isinstance(fact.event, OrderSubmitted):
            assert withheld.count(fact.pos) + answered.count(fact.pos) == 1, f"submission at {fact.pos}"


def check_rest(facts: Sequence[Fact], followers: dict[str, Follower[Any]]) -> None:
    """Once all is heard: nothing surprised execution, both sides know the same open orders, and a halt left none."""
    assert [fact.event for fact in facts if isinstance(fact.event, LifecycleViolated)] == []
    ours, theirs = followers[EXECUTION].state, followers[VENUE].state
    assert {order.client_order_id for order in ours.open.values()} == set(theirs.working)
    if ours.trading is TradingState.HALTED:
        assert ours.open == {}


def check_restored(facts: Sequence[Fact], followers: dict[str, Follower[Any]]) -> None:
    """A core restored from the tape knows what the live one knows, and owes nothing."""
    for follower in followers.values():
        restored, owed = restore(follower.core, facts)
        assert owed == []
        assert fingerprint(restored.state) == fingerprint(follower.state)


def approval(name: str, what: OrderTerms, until_ns: int) -> Event:
    return OrderApproved(OrderId(name), what, until_ns)


@st.composite
def scripts(draw: st.DrawFn) -> list[Outside]:
    """Approvals, bars and control facts in any order, seconds apart."""
    script: list[Outside] = [*OPENING]
    now, opened = 0, 0
    kinds = ["approval"] * 4 + ["bar", "bar", "halt", "breaker", "flatten", "resume", "resume", "disable"]
    for number, kind in enumerate(draw(st.lists(st.sampled_from(kinds), max_size=14))):
        seconds = draw(st.integers(0, 20))
        now += seconds
        if kind == "approval":
            what = msgspec.structs.replace(draw(terms()), purpose=draw(st.sampled_from(Purpose)), reduce_only=False)
            until_ns = (now + draw(st.integers(0, 30))) * SECOND_NS
            script.append(("risk", approval(f"o-{number}", what, until_ns), seconds))
        elif kind == "bar":
            text = DecimalText
            prices = (text("100"), text("110"), text("90"), text("101"), text("40"))
            script.append(("marketdata", BarClosed(BTC, "1m", opened, opened + MINUTE_NS, *prices), seconds))
            opened += MINUTE_NS
        else:
            said: dict[str, Outside] = {
                "halt": ("operator", HaltRequested("op", ""), seconds),
                "breaker": ("risk", TradingHalted(HaltReason.DAILY_LOSS, ""), seconds),
                "flatten": ("operator", FlattenRequested("op", ""), seconds),
                "resume": ("risk", TradingResumed(""), seconds),
                "disable": ("operator", StrategyDisableRequested(BORIS, "op", ""), seconds),
            }
            script.append(said[kind])
    return script


SCHEDULES = st.lists(st.sampled_from([OUTSIDE, OUTSIDE, VENUE, EXECUTION]), max_size=80)


@settings(deadline=None, max_examples=200)
@given(scripts(), SCHEDULES)
def test_no_interleaving_sends_an_order_after_a_halt(script: list[Outside], schedule: list[str]) -> None:
    """Whatever each core has heard when: the tape's order decides, both sides agree, and restore gives the same."""
    facts, followers = play(script, schedule)
    check_halts(facts)
    check_agreement(facts)
    check_rest(facts, followers)
    check_restored(facts, followers)


def test_both_cores_move_their_clocks_by_the_same_facts() -> None:
    """Hearing other facts would mean another time, and another opinion of what has expired."""
    reports = {OrderAccepted, OrderRejected, OrderFilled, OrderCanceled, OrderExpired, OrderOutcomeUnknown}
    assert set(gate.HEARD_BY_BOTH) <= set(venue.CORE.hears)
    assert set(gate.HEARD_BY_BOTH) <= set(execution.CORE.hears)
    foreign = {event for core in (venue.CORE, execution.CORE) for event in core.hears} - set(gate.HEARD_BY_BOTH)
    assert foreign - reports <= {*venue.CORE.says, *execution.CORE.says}


# ---- the checks can fail -----------------------------------------------------------------------------------------

PLAIN_BAR = BarClosed(
    BTC, "1m", 0, MINUTE_NS, DecimalText("100"), DecimalText("110"), DecimalText("90"), DecimalText("100"),
    DecimalText("40"),
)  # fmt: skip
BUY_NINE = OrderTerms(ATLAS, BTC, Side.BUY, Decimal(9))
MARKET_DAY: list[BarClosed | OrderTerms] = [BUY_NINE, PLAIN_BAR]
HALTED_BETWEEN: list[Outside] = [
    *OPENING,
    ("risk", approval("o-1", BUY_NINE, 10**18), 1),
    ("operator", HaltRequested("op", ""), 1),
]


def test_a_venue_deaf_to_halts_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the venue receives whatever is submitted."""
    late_execution = [OUTSIDE] * 5 + [EXECUTION] * 6
    check_halts(play(HALTED_BETWEEN, late_execution)[0])
    monkeypatch.setattr(venue, "gate", SimpleNamespace(withheld=lambda *_: None))
    with pytest.raises(AssertionError, match="accepted although submitted at 6 while HALTED"):
        check_halts(play(HALTED_BETWEEN, late_execution)[0])


def test_a_venue_with_a_clock_of_its_own_is_caught() -> None:
    """Mutant: the venue does not hear approvals, so it believes that less time has passed than execution knows."""
    script: list[Outside] = [
        *OPENING,
        ("risk", approval("o-1", BUY_NINE, 2 * SECOND_NS), 1),
        ("risk", approval("o-2", BUY_NINE, 10**18), 9),
    ]
    schedule = [OUTSIDE] * 5 + [EXECUTION] * 8
    check_agreement(play(script, schedule)[0])
    deaf = replace(
        venue.CORE, evolves={kind: row for kind, row in venue.CORE.evolves.items() if kind is not OrderApproved}
    )
    with pytest.raises(AssertionError, match="submission at 6"):
        check_agreement(play(script, schedule, deaf)[0])


def test_a_venue_without_a_cap_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: participation is not looked at; a tenth of 40 is less than 9."""
    check_quantities(trade(CHEAP, MARKET_DAY))
    monkeypatch.setattr(matching, "allowance", lambda *_: None)
    with pytest.raises(AssertionError):
        check_quantities(trade(CHEAP, MARKET_DAY))


def test_slippage_in_our_favour_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the price moves with us."""
    check_dearer(MARKET_DAY)
    honest = matching.taker_price
    monkeypatch.setattr(matching, "taker_price", lambda price, side, costs: honest(price, side.opposite, costs))
    with pytest.raises(AssertionError):
        check_dearer(MARKET_DAY)


def test_a_fill_on_touch_of_the_wrong_price_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a resting limit is filled at the limit even where the bar never traded there."""
    resting = OrderTerms(ATLAS, BTC, Side.BUY, Decimal(1), OrderType.LIMIT, Decimal(85))
    gap = BarClosed(
        BTC, "1m", MINUTE_NS, 2 * MINUTE_NS, DecimalText("80"), DecimalText("82"), DecimalText("79"),
        DecimalText("81"), DecimalText("40"),
    )  # fmt: skip
    check_prices(trade(FREE, [resting, PLAIN_BAR, gap]))
    monkeypatch.setattr(matching, "_better", lambda _side, one, _other: one)
    with pytest.raises(AssertionError):
        check_prices(trade(FREE, [resting, PLAIN_BAR, gap]))


def test_an_account_that_forgets_fees_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the venue does not charge what it reported."""
    check_account(trade(DEAR, MARKET_DAY))
    honest = venue._move
    monkeypatch.setattr(venue, "_move", lambda state, currency, amount: honest(state, currency, round(amount)))
    with pytest.raises(AssertionError):
        check_account(trade(DEAR, MARKET_DAY))


def test_execution_that_forgets_trades_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a repeated trade is counted again."""
    twice = [fill(1, 3), fill(1, 3)]
    check_reports(twice)
    honest = advance

    def forgetful(order: Order, event: Event) -> Surprise | None:
        order.trades.clear()
        return honest(order, event)

    monkeypatch.setattr(execution, "advance", forgetful)
    with pytest.raises(AssertionError):
        check_reports(twice)
