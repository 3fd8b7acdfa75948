"""Whatever is proposed, filled and cancelled, in whatever order: limits hold, and nothing is approved while halted."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tapeline_common import control
from tapeline_common.core import Core, Stamp, step
from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    Event,
    FlattenRequested,
    HaltRequested,
    InstrumentListed,
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
)
from tapeline_common.values import (
    CancelReason,
    DecimalText,
    InstrumentId,
    Liquidity,
    OrderId,
    Purpose,
    Realm,
    Refusal,
    Regime,
    Rejection,
    Side,
    StrategyId,
    TradingState,
    Withheld,
)
from tapeline_risk import core as risk
from tapeline_risk import limits
from tapeline_risk.core import CORE, State

INSTRUMENTS = (InstrumentId("BTC"), InstrumentId("ETH"), InstrumentId("SOL"))
STRATEGIES = (StrategyId("pilot"), StrategyId("wing"))
MAX_POSITION = Decimal(5)
MAX_GROSS = Decimal(600)
MAX_OPEN = 2
PRICE = Decimal(100)
LIMITS = LimitsSet(max_position=MAX_POSITION, max_gross_exposure=MAX_GROSS, max_open_positions=MAX_OPEN)


def bar_at(instrument: InstrumentId) -> BarClosed:
    text = DecimalText(str(PRICE))
    return BarClosed(instrument, "1m", 0, 1, text, text, text, text, text)


START: tuple[Event, ...] = (
    RunStarted("run", "tape", Realm.REPLAY, 1, "USD", "test"),
    AccountFunded("main", "USD", Decimal(100_000)),
    LIMITS,
    *(InstrumentListed(i, f"{i}/USD", "simulated", i, "USD") for i in INSTRUMENTS),
    *(bar_at(instrument) for instrument in INSTRUMENTS),
)
ENDS: tuple[Callable[[OrderId], Event], ...] = (
    lambda order: OrderCanceled(order, "c", CancelReason.REQUESTED),
    lambda order: OrderExpired(order, "c"),
    lambda order: OrderRejected(order, "c", Rejection.PRICE_INVALID, ""),
    lambda order: OrderWithheld(order, "c", Withheld.APPROVAL_EXPIRED),
)

action = st.one_of(
    st.tuples(
        st.just("propose"), st.sampled_from(INSTRUMENTS), st.sampled_from(STRATEGIES), st.sampled_from(list(Side)),
        st.integers(1, 24),
    ),
    st.tuples(st.just("fill"), st.integers(0, 9), st.integers(1, 4)),
    st.tuples(st.just("end"), st.integers(0, 9), st.sampled_from(ENDS)),
    st.tuples(st.just("say"), st.sampled_from([
        HaltRequested("o", "r"), FlattenRequested("o", "r"), ResumeRequested("o", "r", 1, "s"),
        ResumeRequested("o", "again", 2, "s"),
    ])),
)  # fmt: skip


@dataclass
class Account:
    """A plain second account: what the venue would know, kept beside the core and never read from it."""

    core: Core[State]
    state: State
    pos: int = 0
    open: dict[OrderId, tuple[OrderTerms, Decimal]] = field(default_factory=dict)
    position: dict[InstrumentId, Decimal] = field(default_factory=lambda: dict.fromkeys(INSTRUMENTS, Decimal(0)))
    cash: Decimal = Decimal(100_000)
    trading: TradingState = TradingState.RUNNING
    decided: list[OrderId] = field(default_factory=list)

    def hear(self, event: Event) -> list[Event]:
        self.pos += 1
        said = list(step(self.core, self.state, event, Stamp(self.pos, self.pos)))
        for heard in (event, *said):
            self.trading = control.AFTER.get(type(heard), self.trading)
        return said

    def propose(self, terms: OrderTerms) -> None:
        order = OrderId(f"{terms.strategy}-{self.pos + 1}")
        trading = self.trading
        (said,) = self.hear(OrderProposed(order, terms, self.pos, 0, Decimal(0), Regime.UNKNOWN))
        assert isinstance(said, OrderApproved | OrderRefused), "every proposal gets exactly one decision"
        assert order not in self.decided, "an order is decided once"
        self.decided.append(order)
        if isinstance(said, OrderApproved):
            assert said.terms == terms, "an order is approved as it is"
            assert trading is TradingState.RUNNING, "nothing is approved while halted"
            self.open[order] = (terms, terms.quantity)

    def fill(self, which: int, quarters: int) -> None:
        if not self.open:
            return
        order = list(self.open)[which % len(self.open)]
        terms, remaining = self.open.pop(order)
        quantity = remaining * quarters / 4
        price = PRICE + which
        self.position[terms.instrument] += terms.side.sign * quantity
        self.cash -= terms.side.sign * quantity * price + 1
        if quarters < 4:
            self.open[order] = (terms, remaining - quantity)
        self.hear(
            OrderFilled(
                order, "c", terms.strategy, terms.instrument, f"t{self.pos}", terms.side, quantity, price, Decimal(1),
                "USD", Liquidity.TAKER, Decimal(0),
            )
        )  # fmt: skip

    def end(self, which: int, ending: Callable[[OrderId], Event]) -> None:
        if self.open:
            order = list(self.open)[which % len(self.open)]
            del self.open[order]
            self.hear(ending(order))

    def check(self) -> None:
        """Every filling of the open orders stays within every limit, and the core's fold agrees with this one."""
        gross, count = Decimal(0), 0
        for instrument in INSTRUMENTS:
            mine = [(terms, rest) for terms, rest in self.open.values() if terms.instrument == instrument]
            buys = sum((rest for terms, rest in mine if terms.side is Side.BUY), Decimal(0))
            sells = sum((rest for terms, rest in mine if terms.side is Side.SELL), Decimal(0))
            book = self.state.books[instrument]
            assert book.buys == buys, "reserved buys are what is open"
            assert book.sells == sells, "reserved sells are what is open"
            assert book.position == self.position[instrument] == sum(book.own.values())
            highest, lowest = self.position[instrument] + buys, self.position[instrument] - sells
            assert highest <= MAX_POSITION, "worst case long"
            assert lowest >= -MAX_POSITION, "worst case short"
            gross += max(abs(highest), abs(lowest)) * PRICE
            count += bool(self.position[instrument] or mine)
        assert gross <= MAX_GROSS, "worst case gross exposure"
        assert count <= MAX_OPEN, "open positions"
        held = sum((position * PRICE for position in self.position.values()), Decimal(0))
        assert self.state.equity == self.cash + held, "equity is cash plus positions at last prices"


def live(core: Core[State], actions: list[Any]) -> None:
    account = Account(core, core.initial())
    for event in START:
        account.hear(event)
    for what, *arguments in actions:
        if what == "propose":
            instrument, strategy, side, quarters = arguments
            account.propose(OrderTerms(strategy, instrument, side, Decimal(quarters) / 4))
        elif what == "fill":
            account.fill(*arguments)
        elif what == "end":
            account.end(*arguments)
        else:
            account.hear(arguments[0])
        account.check()


@settings(max_examples=150, deadline=None)
@given(actions=st.lists(action, max_size=40))
def test_limits_hold_whatever_happens(actions: list[Any]) -> None:
    """After every fact: worst cases within the limits, reservations equal to what is open, equity exact."""
    live(CORE, actions)


def without(table: dict[type[Event], Any], *events: type[Event]) -> dict[type[Event], Any]:
    return {event: function for event, function in table.items() if event not in events}


def forgets(*events: type[Event]) -> Core[State]:
    return replace(CORE, evolves=without(dict(CORE.evolves), *events))


def _halves_reservations(state: State, event: OrderApproved, stamp: Stamp) -> None:
    risk.learn_approved(state, event, stamp)
    book = state.books[event.terms.instrument]
    risk._reserve(book, event.terms.side, -event.terms.quantity / 2)


BROKEN_CORES = {
    "forgets approvals": forgets(OrderApproved),
    "forgets fills": forgets(OrderFilled),
    "never frees": forgets(OrderCanceled, OrderExpired, OrderRejected, OrderWithheld),
    "forgets halts": forgets(*control.AFTER),
    "reserves half": replace(CORE, evolves={**CORE.evolves, OrderApproved: _halves_reservations}),
}


def find_violation(core: Core[State]) -> None:
    @settings(
        max_examples=400,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        phases=(Phase.generate,),
    )
    @given(actions=st.lists(action, max_size=40))
    def search(actions: list[Any]) -> None:
        live(core, actions)

    search()


@pytest.mark.parametrize("broken", BROKEN_CORES.values(), ids=BROKEN_CORES)
def test_a_broken_fold_is_caught(broken: Core[State]) -> None:
    """The property can fail: each broken core is caught by it."""
    with pytest.raises((AssertionError, ValueError, KeyError)):
        find_violation(broken)


@pytest.mark.parametrize("left_out", [limits.max_position, limits.max_gross_exposure, limits.max_open_positions])
def test_a_missing_exposure_limit_is_caught(left_out: limits.Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The property can fail: without one of the exposure limits it does."""
    monkeypatch.setattr(limits, "EXPOSURE", tuple(limit for limit in limits.EXPOSURE if limit is not left_out))

    with pytest.raises(AssertionError, match=r"worst case|open positions"):
        find_violation(CORE)


def test_orders_that_reduce_beyond_zero_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The property can fail: if open orders were not counted, two exits could add up to a short beyond the limit."""

    def forgetful(question: limits.Question) -> bool:
        return question.terms.quantity <= -question.terms.side.sign * question.position

    pilots_btc = (INSTRUMENTS[0], STRATEGIES[0])
    three_exits = [
        ("propose", *pilots_btc, Side.BUY, 20),
        ("fill", 0, 4),
        *[("propose", *pilots_btc, Side.SELL, 20)] * 3,
    ]
    live(CORE, three_exits)
    monkeypatch.setattr(limits, "only_reduces", forgetful)

    with pytest.raises(AssertionError, match="worst case short"):
        live(CORE, three_exits)


@settings(max_examples=100, deadline=None)
@given(actions=st.lists(action, max_size=25), strategy=st.sampled_from(STRATEGIES), quarters=st.integers(1, 40))
def test_flattening_never_closes_more_than_is_held(actions: list[Any], strategy: StrategyId, quarters: int) -> None:
    """In any account, approved flattening orders of a strategy add up to its position at most, on the closing side."""
    account = Account(CORE, CORE.initial())
    for event in START:
        account.hear(event)
    for what, *arguments in actions:
        if what == "propose":
            instrument, owner, side, size = arguments
            account.propose(OrderTerms(owner, instrument, side, Decimal(size) / 4))
        elif what == "fill":
            account.fill(*arguments)
    account.hear(FlattenRequested("o", "r"))

    for instrument in INSTRUMENTS:
        own = account.state.books[instrument].own.get(strategy, Decimal(0))
        approved = {Side.BUY: Decimal(0), Side.SELL: Decimal(0)}
        for index, side in enumerate([*Side, *Side]):
            terms = OrderTerms(
                strategy, instrument, side, Decimal(quarters) / 4, reduce_only=True, purpose=Purpose.FLATTEN
            )
            order = OrderId(f"flat-{instrument}-{index}")
            (said,) = account.hear(OrderProposed(order, terms, 0, 0, Decimal(0), Regime.UNKNOWN))
            if isinstance(said, OrderApproved):
                approved[side] += terms.quantity
            else:
                assert isinstance(said, OrderRefused)
                assert said.reason is Refusal.REDUCE_ONLY_WOULD_INCREASE
        assert approved[Side.SELL] <= max(own, Decimal(0))
        assert approved[Side.BUY] <= max(-own, Decimal(0))
