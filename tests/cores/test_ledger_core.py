"""The ledger's core: what it says about positions, trades, equity, funding and the venue's balances."""

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pytest

from tapeline_common.core import Stamp
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
    OrderTerms,
    OrderWithheld,
    PositionChanged,
    RunStarted,
    TradeClosed,
)
from tapeline_common.loop import Loop
from tapeline_common.sequencer import Recorded
from tapeline_common.testing import SECOND_NS, History, at, fingerprint, given
from tapeline_common.values import (
    CancelReason,
    DecimalText,
    InstrumentId,
    Liquidity,
    OrderId,
    PositionSide,
    Realm,
    Rejection,
    Side,
    StrategyId,
    Withheld,
)
from tapeline_ledger import core
from tapeline_ledger.books import imbalances
from tapeline_ledger.core import CORE, State, cash, closed_trade, equity, exposure, fold, inventory, note_price

D = Decimal
HOUR = 3600
BITCOIN, ETHER, CROSS = InstrumentId("btc-usd"), InstrumentId("eth-usd"), InstrumentId("eth-btc")
TREND, OTHER = StrategyId("trend"), StrategyId("other")

STARTED = RunStarted(run="r", tape="t", realm=Realm.REPLAY, seed=1, currency="USD", code_version="v")
FUNDED = AccountFunded(account="main", currency="USD", amount=D(1000))
BITCOIN_LISTED = InstrumentListed(instrument=BITCOIN, name="BTC/USD", venue="sim", base="BTC", quote="USD")
ETHER_LISTED = InstrumentListed(instrument=ETHER, name="ETH/USD", venue="sim", base="ETH", quote="USD")
CROSS_LISTED = InstrumentListed(instrument=CROSS, name="ETH/BTC", venue="sim", base="ETH", quote="BTC")
WORLD = (STARTED, FUNDED, BITCOIN_LISTED, ETHER_LISTED)


def bar(close: str, *, instrument: InstrumentId = BITCOIN) -> BarClosed:
    price = DecimalText(close)
    return BarClosed(instrument, "1m", 0, 60 * SECOND_NS, price, price, price, price, DecimalText("1"))


def fill(
    trade_id: str,
    side: Side,
    quantity: str,
    price: str,
    *,
    fee: str = "0",
    fee_currency: str = "USD",
    order: str = "",
    instrument: InstrumentId = BITCOIN,
    strategy: StrategyId = TREND,
) -> OrderFilled:
    return OrderFilled(
        order=OrderId(order or f"order-{trade_id}"),
        client_order_id="c",
        strategy=strategy,
        instrument=instrument,
        trade_id=trade_id,
        side=side,
        quantity=D(quantity),
        price=D(price),
        fee=D(fee),
        fee_currency=fee_currency,
        liquidity=Liquidity.TAKER,
        slippage=D(0),
    )


def submitted(order: str, side: Side, decision: str) -> OrderSubmitted:
    terms = OrderTerms(strategy=TREND, instrument=BITCOIN, side=side, quantity=D(2), decision=decision)
    return OrderSubmitted(OrderId(order), "c", terms, approval=1, valid_until_ns=0)


def ledger(*history: Event | at) -> History[State]:
    return given(CORE, *WORLD, *history)


BOUGHT = fill("buy", Side.BUY, "2", "100", fee="0.2")


# ---- fills -------------------------------------------------------------------------------------------------------


def test_a_fill_says_the_position_and_equity_at_last_prices() -> None:
    """After buying two at 100 with the last bar at 101: cash is 799.8 and equity 1001.8."""
    ledger(bar("101")).when(BOUGHT, seconds=60).then(
        PositionChanged(TREND, BITCOIN, D(2), D(100), D(0), D("0.2")),
        EquityMarked(60 * SECOND_NS, cash=D("799.8"), equity=D("1001.8"), exposure=D(202)),
    )


def test_a_closing_fill_says_the_trade_between_position_and_equity() -> None:
    """The order of facts is position, trade, equity; the trade bears the decision of the order that opened it."""
    history = ledger(
        submitted("order-buy", Side.BUY, "decision-7"),
        submitted("order-sell", Side.SELL, "decision-8"),
        at(60),
        BOUGHT,
        bar("110"),
    )
    history.when(fill("sell", Side.SELL, "2", "110", fee="0.22"), seconds=120).then(
        PositionChanged(TREND, BITCOIN, D(0), D(0), D(20), D("0.42")),
        TradeClosed(
            trade="trend-btc-usd-1",
            strategy=TREND,
            instrument=BITCOIN,
            side=PositionSide.LONG,
            quantity=D(2),
            entry_price=D(100),
            exit_price=D(110),
            opened_ns=60 * SECOND_NS,
            closed_ns=120 * SECOND_NS,
            pnl=D(20),
            fees=D("0.42"),
            decision="decision-7",
        ),
        EquityMarked(120 * SECOND_NS, cash=D("1019.58"), equity=D("1019.58"), exposure=D(0)),
    )


def test_a_turning_fill_hands_the_decision_of_its_order_to_the_next_trade() -> None:
    """Attribution is by the opening order, also when that order closed the trade before."""
    history = ledger(submitted("order-turn", Side.SELL, "decision-8"), BOUGHT, fill("turn", Side.SELL, "3", "90"))
    decisions = history.when(fill("back", Side.BUY, "1", "80")).decisions
    (trade,) = [fact for fact in decisions if isinstance(fact, TradeClosed)]
    assert (trade.trade, trade.side, trade.pnl, trade.decision) == (
        "trend-btc-usd-2",
        PositionSide.SHORT,
        D(10),
        "decision-8",
    )


def ordered_under_presets(count: int) -> list[OrderSubmitted]:
    return [submitted(f"order-{number}", Side.BUY, f"decision-{number}") for number in range(count)]


def canceled(order: str) -> OrderCanceled:
    return OrderCanceled(OrderId(order), "c", CancelReason.REQUESTED)


def decision_of_trade(history: History[State], *fills: OrderFilled) -> str:
    """The decision of the trade that the last of these fills closes."""
    for each in fills:
        outcome = history.when(each)
        history = outcome.history
    (trade,) = [fact for fact in outcome.decisions if isinstance(fact, TradeClosed)]
    return trade.decision


@pytest.mark.parametrize(
    "end",
    [
        canceled,
        lambda order: OrderExpired(order, "c"),
        lambda order: OrderRejected(order, "c", Rejection.MARGIN_INSUFFICIENT, ""),
        lambda order: OrderWithheld(order, "c", Withheld.TRADING_HALTED),
        lambda order: fill(f"whole-{order}", Side.BUY, "2", "100", order=order),
    ],
    ids=["canceled", "expired", "rejected", "withheld", "filled"],
)
def test_decisions_of_ended_orders_are_forgotten_oldest_first(
    end: Callable[[OrderId], Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However an order ends. One that nothing has ended may still open a trade, so it is never forgotten."""
    monkeypatch.setattr(core, "KEPT_ENDED_ORDERS", 2)
    orders = ordered_under_presets(5)
    state = ledger(*orders, *[end(each.order) for each in orders[1:]]).state
    assert list(state.decided) == ["order-0", "order-3", "order-4"]
    assert list(state.ended) == ["order-3", "order-4"]


def test_a_partly_filled_order_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its decision is there for the trade that its last fill opens, however many orders have come and gone."""
    monkeypatch.setattr(core, "KEPT_ENDED_ORDERS", 0)
    orders = ordered_under_presets(4)
    part, out = fill("part", Side.BUY, "1.5", "100", order="order-0"), fill("out", Side.SELL, "1.5", "100")
    history = ledger(*orders, part, out, *[canceled(each.order) for each in orders[1:]])
    assert list(history.state.decided) == ["order-0"]
    rest = fill("rest", Side.BUY, "0.5", "100", order="order-0")
    assert decision_of_trade(history, rest, fill("back", Side.SELL, "0.5", "100")) == "decision-0"
    assert history.state.decided == {}


def test_a_fill_after_the_end_of_its_order_opens_a_trade_under_its_decision() -> None:
    """A venue may report a fill of an order that it has called canceled; the order ends once all the same."""
    history = ledger(*ordered_under_presets(1), canceled("order-0"), canceled("order-0"))
    late = fill("late", Side.BUY, "2", "100", order="order-0")
    assert decision_of_trade(history, late, fill("back", Side.SELL, "2", "100")) == "decision-0"
    assert list(history.state.ended) == ["order-0"]


def test_an_order_submitted_again_ends_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No core does that; a tape that says it all the same does not stop the ledger."""
    monkeypatch.setattr(core, "KEPT_ENDED_ORDERS", 1)
    first, second = ordered_under_presets(2)
    twice = [first, canceled("order-0")] * 2
    state = ledger(*twice, second, canceled("order-1"), first, canceled("order-0")).state
    assert (list(state.decided), list(state.ended)) == (["order-0"], ["order-0"])


def test_an_order_without_a_decision_is_not_kept() -> None:
    """Neither one of a strategy without presets nor the end of one that nobody has submitted."""
    history = ledger(submitted("order-in", Side.BUY, ""), OrderExpired(OrderId("order-other"), "c"))
    assert (history.state.decided, list(history.state.ended)) == ({}, [])
    assert decision_of_trade(history, fill("in", Side.BUY, "2", "100"), fill("out", Side.SELL, "2", "100")) == ""


def test_a_repeated_fill_changes_nothing_and_says_nothing() -> None:
    """An (order, trade id) is counted once, however late it is repeated."""
    history = ledger(BOUGHT, fill("sell", Side.SELL, "1", "110"))
    before = fingerprint(history.state)
    again = history.when(BOUGHT).then_nothing()
    assert fingerprint(again.state) == before


def test_the_same_trade_id_of_another_order_is_another_fill() -> None:
    """Venues count trades per order."""
    history = ledger(fill("1", Side.BUY, "1", "100", order="a"), fill("1", Side.BUY, "1", "100", order="b"))
    assert history.state.books.positions[BITCOIN][TREND].quantity == D(2)


def test_a_fill_of_an_unlisted_instrument_stays_out_of_the_books_and_shows_in_reconciliation() -> None:
    """Its currencies are unknown: nothing is guessed, and the venue's balances give it away."""
    history = given(CORE, STARTED, FUNDED).when(BOUGHT).then_nothing()
    assert history.state.unlisted == {BITCOIN: 1}
    history.when(BalanceReported("sim", {"USD": D("799.8"), "BTC": D(2)})).then(
        BooksReconciled("sim", {"USD": D("-200.2"), "BTC": D(2)})
    )


def test_a_fill_before_the_first_bar_is_valued_at_its_own_price() -> None:
    """A position always has some price: no bar yet means the first fill's."""
    assert equity(ledger(BOUGHT).state) == D("999.8")


def test_a_fee_in_base_units_is_told_in_quote_and_owned_less() -> None:
    """Fees of 0.002 BTC at 100 are 0.2 USD of fees, and 1.998 BTC are left at the venue."""
    history = ledger().when(fill("buy", Side.BUY, "2", "100", fee="0.002", fee_currency="BTC"), seconds=1)
    settled = history.then(
        PositionChanged(TREND, BITCOIN, D(2), D(100), D(0), D("0.2")),
        EquityMarked(SECOND_NS, cash=D(800), equity=D("999.8"), exposure=D(200)),
    )
    assert inventory(settled.state) == {"USD": D(800), "BTC": D("1.998")}


def test_a_fee_in_a_third_currency_is_told_at_its_last_price_or_not_at_all() -> None:
    """Priced by a listed instrument when there is one; an unlisted token counts in the books only."""
    in_ether = fill("a", Side.BUY, "1", "100", fee="0.01", fee_currency="ETH")
    in_token = fill("b", Side.BUY, "1", "100", fee="5", fee_currency="TOKEN")
    history = ledger(bar("50", instrument=ETHER), in_ether, in_token)
    assert history.state.books.positions[BITCOIN][TREND].total_fees == D("0.5")
    assert equity(history.state) == D("999.5")
    assert inventory(history.state)["TOKEN"] == D(-5)


def test_an_instrument_quoted_in_another_currency_is_left_out_of_equity() -> None:
    """Its position is not valued; the coins it cost are, at their own last price."""
    history = given(CORE, *WORLD, CROSS_LISTED, bar("100"), fill("x", Side.BUY, "3", "0.5", instrument=CROSS))
    assert equity(history.state) == D(850)
    assert exposure(history.state) == D(0)


def test_exposure_is_gross_over_instruments_and_net_within_one() -> None:
    """Long and short of one instrument by two strategies is what the account holds: the difference."""
    history = ledger(
        fill("a", Side.BUY, "3", "100"),
        fill("b", Side.SELL, "1", "100", strategy=OTHER),
        fill("c", Side.SELL, "4", "10", instrument=ETHER),
    )
    assert exposure(history.state) == D(240)
    assert equity(history.state) == D(1000)


# ---- hour marks --------------------------------------------------------------------------------------------------


def test_the_first_bar_after_the_hour_marks_equity_at_the_boundary_before_it() -> None:
    """The bar stamped at 01:00:00 still belongs to the hour; the one after it does not enter the mark."""
    history = ledger(BOUGHT, at(HOUR - 60), bar("104"))
    history = history.when(bar("105"), seconds=HOUR).then_nothing()
    history = history.when(bar("190"), seconds=HOUR + 60).then(
        EquityMarked(HOUR * SECOND_NS, cash=D("799.8"), equity=D("1009.8"), exposure=D(210))
    )
    assert equity(history.state) == D("1179.8")
    history.when(bar("191"), seconds=HOUR + 120).then_nothing()


def test_hours_without_bars_give_one_mark_at_the_last_boundary() -> None:
    """After a gap of five hours the state is that of the latest boundary as much as of the first."""
    history = ledger(at(60), BOUGHT, bar("105"))
    history.when(bar("1"), seconds=5 * HOUR + 1).then(
        EquityMarked(5 * HOUR * SECOND_NS, cash=D("799.8"), equity=D("1009.8"), exposure=D(210))
    )


def test_no_hour_is_marked_while_flat() -> None:
    """Without a position equity does not move."""
    history = ledger(at(60), BOUGHT, fill("sell", Side.SELL, "2", "100"))
    history.when(bar("1"), seconds=HOUR + 1).then_nothing()


def test_a_fill_that_is_the_first_after_the_hour_says_the_mark_before_itself() -> None:
    """Live, a fill can come between the hour's end and the next bar; marks stay in order of time."""
    history = ledger(at(60), BOUGHT, bar("105"))
    history.when(fill("sell", Side.SELL, "2", "110"), seconds=HOUR + 1).then(
        EquityMarked(HOUR * SECOND_NS, cash=D("799.8"), equity=D("1009.8"), exposure=D(210)),
        PositionChanged(TREND, BITCOIN, D(0), D(0), D(20), D("0.2")),
        TradeClosed(
            trade="trend-btc-usd-1",
            strategy=TREND,
            instrument=BITCOIN,
            side=PositionSide.LONG,
            quantity=D(2),
            entry_price=D(100),
            exit_price=D(110),
            opened_ns=60 * SECOND_NS,
            closed_ns=(HOUR + 1) * SECOND_NS,
            pnl=D(20),
            fees=D("0.2"),
            decision="",
        ),
        EquityMarked((HOUR + 1) * SECOND_NS, cash=D("1019.8"), equity=D("1019.8"), exposure=D(0)),
    ).when(bar("1"), seconds=HOUR + 2).then_nothing()


def test_money_that_arrives_after_the_hour_is_not_in_its_mark() -> None:
    """Funding the account is taken in after the mark."""
    ledger(at(60), BOUGHT).when(FUNDED, seconds=HOUR + 1).then(
        EquityMarked(HOUR * SECOND_NS, cash=D("799.8"), equity=D("999.8"), exposure=D(200))
    )


def test_a_quiet_bar_keeps_its_price_and_nothing_else() -> None:
    """The hot path: within the hour only the reference to the text changes."""
    state = ledger(at(60), BOUGHT).state
    state.hour_end_ns = HOUR * SECOND_NS
    expected = fingerprint(state).replace("'btc-usd': '100'", "'btc-usd': '105'")
    note_price(state, bar("105"), Stamp(99, 120 * SECOND_NS))
    assert fingerprint(state) == expected


# ---- funding payments --------------------------------------------------------------------------------------------


def test_funding_is_said_per_strategy_in_order_of_first_fill() -> None:
    """Longs pay, shorts receive, to the last digit."""
    history = ledger(BOUGHT, fill("short", Side.SELL, "1", "100", strategy=OTHER))
    settled = history.when(FundingPublished(BITCOIN, rate=D("0.0001"), mark_price=D("100.5"))).then(
        FundingPosted(TREND, BITCOIN, D("-0.0201"), "USD"),
        FundingPosted(OTHER, BITCOIN, D("0.01005"), "USD"),
    )
    assert cash(settled.state) == D("899.78995")


def test_funding_stays_quiet_without_a_position_or_a_listing() -> None:
    """Another instrument's funding, and funding of what nobody listed, cost nothing."""
    history = ledger(BOUGHT).when(FundingPublished(ETHER, D("0.0001"), D(10))).then_nothing()
    history.when(FundingPublished(CROSS, D("0.0001"), D(10))).then_nothing()


# ---- borrowing ---------------------------------------------------------------------------------------------------

CHARGED = BorrowCharged(BITCOIN, 2, D("0.0001"), D("100.5"))


def test_borrowing_is_posted_for_shorts_and_told_to_their_trade() -> None:
    """A short of one pays, the long beside it does not; what it paid is in the trade that closes it."""
    history = ledger(BOUGHT, fill("short", Side.SELL, "1", "100", strategy=OTHER))
    charged = history.when(CHARGED).then(BorrowPosted(OTHER, BITCOIN, D("-0.01005"), "USD"))
    assert cash(charged.state) == D("899.78995")
    assert imbalances(charged.state.books) == {}
    closing = charged.when(fill("cover", Side.BUY, "1", "100", strategy=OTHER)).decisions
    assert [event.funding for event in closing if isinstance(event, TradeClosed)] == [D("-0.01005")]


def test_borrowing_stays_quiet_without_a_short_or_a_listing() -> None:
    """Longs, other instruments, and what nobody listed."""
    history = ledger(BOUGHT).when(CHARGED).then_nothing()
    history = history.when(msgspec.structs.replace(CHARGED, instrument=ETHER)).then_nothing()
    history.when(msgspec.structs.replace(CHARGED, instrument=CROSS)).then_nothing()


# ---- reconciliation ----------------------------------------------------------------------------------------------


def test_books_that_agree_reconcile_with_no_differences() -> None:
    """Cash and coins, fees included; a currency at zero need not be named."""
    history = ledger(
        BOUGHT, fill("e", Side.BUY, "1", "10", instrument=ETHER), fill("f", Side.SELL, "1", "10", instrument=ETHER)
    )
    history.when(BalanceReported("sim", {"USD": D("799.80"), "BTC": D("2.0")})).then(BooksReconciled("sim", {}))


def test_every_difference_is_named_as_reported_minus_books() -> None:
    """What the venue has more is positive; what it does not name it holds none of."""
    history = ledger(BOUGHT)
    history.when(BalanceReported("sim", {"EUR": D(3), "USD": D(800)})).then(
        BooksReconciled("sim", {"EUR": D(3), "USD": D("0.2"), "BTC": D(-2)})
    )


def test_money_that_a_report_had_not_heard_of_is_no_difference() -> None:
    """Live, capital or funding can be recorded while a report is on its way; the next report must have it."""
    history = ledger(BOUGHT)
    heard = history.pos
    history = history.when(FUNDED).then_nothing()
    history = history.when(FundingPublished(BITCOIN, D("0.001"), D(100))).history
    owned = {"USD": D("799.8"), "BTC": D(2)}
    history = history.when(BalanceReported("sim", owned, heard)).then(BooksReconciled("sim", {}))
    history = history.when(BalanceReported("sim", owned, heard + 1)).then(BooksReconciled("sim", {"USD": D(-1000)}))
    history = history.when(BalanceReported("sim", {"USD": D("1799.6"), "BTC": D(2)})).then(BooksReconciled("sim", {}))
    history.when(BalanceReported("sim", owned)).then(BooksReconciled("sim", {"USD": D("-999.8")}))
    assert history.state.unreported == []


def test_an_empty_ledger_is_safe() -> None:
    """Nothing heard: nothing owned, nothing said, no exception."""
    history = given(CORE).when(bar("1"), seconds=HOUR + 1).then_nothing()
    history = history.when(FundingPublished(BITCOIN, D("0.1"), D(1))).then_nothing()
    history = history.when(BOUGHT).then_nothing()
    history.when(BalanceReported("sim", {})).then(BooksReconciled("sim", {}))
    assert equity(history.state) == D(0)


def test_a_report_is_compared_with_the_fills_recorded_before_it() -> None:
    """In the loop, a venue that reports after the first of two fills is right at its position, and only there."""
    tape: list[Recorded] = []
    loop = Loop((CORE,), keep=tape.append)
    for index, fact in enumerate(WORLD):
        loop.say("operator" if index < 2 else "marketdata", fact, f"w{index}", 1)
    loop.say("venue", BOUGHT, "f1", 2)
    report = BalanceReported("sim", {"USD": D("799.8"), "BTC": D(2)})
    loop.say("venue", report, "b1", 2)
    loop.say("venue", fill("more", Side.BUY, "1", "100"), "f2", 2)
    loop.say("venue", report, "b2", 2)
    said = [each.fact.event for each in tape if isinstance(each.fact.event, BooksReconciled)]
    assert said == [BooksReconciled("sim", {}), BooksReconciled("sim", {"USD": D(100), "BTC": D(-1)})]


# ---- the fold ----------------------------------------------------------------------------------------------------


def test_the_fold_of_a_tape_is_the_state_of_the_core_that_wrote_it() -> None:
    """Reports read the tape, or the running core: the books are the same, and so is the trade that closed."""
    tape: list[Recorded] = []
    loop = Loop((CORE,), keep=tape.append)
    for index, fact in enumerate(WORLD):
        loop.say("operator" if index < 2 else "marketdata", fact, f"w{index}", 1)
    loop.say("venue", BOUGHT, "f1", 60 * SECOND_NS)
    loop.say("marketdata", bar("105"), "b1", (HOUR + 60) * SECOND_NS)
    sold = fill("sell", Side.SELL, "2", "105")
    loop.say("venue", sold, "f2", (HOUR + 120) * SECOND_NS)
    folded = fold(each.fact for each in tape)
    assert fingerprint(folded) == fingerprint(loop.states["ledger"])
    (position,) = [each.fact.pos for each in tape if each.fact.event is sold]
    (said,) = [each.fact.event for each in tape if isinstance(each.fact.event, TradeClosed)]
    assert closed_trade(folded, sold, position) == said
    assert closed_trade(folded, BOUGHT, position) is None
