"""The simulated venue: what it receives, rejects, fills, cancels and reports."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tapeline_common.events import (
    AccountFunded,
    BalanceReported,
    BarClosed,
    CancelSubmitted,
    Event,
    FundingPublished,
    HaltRequested,
    InstrumentListed,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
    OrderTerms,
    RunStarted,
    VenueConfigured,
)
from tapeline_common.testing import History, at, given
from tapeline_common.values import (
    CancelReason,
    DecimalText,
    InstrumentId,
    Liquidity,
    OrderId,
    OrderType,
    Realm,
    Rejection,
    Side,
    StrategyId,
    TimeInForce,
)
from tapeline_execution import venue
from tapeline_execution.venue import CORE, State

MINUTE_NS = 60 * 10**9
DAY_MINUTES = 24 * 60
FAR_NS = 10**18
BTC, ETH = InstrumentId("BTC-USD"), InstrumentId("ETH-USD")
ATLAS, BORIS = StrategyId("atlas"), StrategyId("boris")
RUN = RunStarted("paper", "tape-1", Realm.REPLAY, 7, "USD", "1")
VENUE = VenueConfigured("sim", Decimal("0.001"), Decimal("0.002"), Decimal(0))
CAPPED = VenueConfigured("sim", Decimal(0), Decimal(0), Decimal(0), Decimal("0.1"))
LISTED = InstrumentListed(BTC, "BTC/USD", "sim", "BTC", "USD", Decimal("0.5"), Decimal("0.1"), Decimal(10))
FUNDED = AccountFunded("main", "USD", Decimal(10_000))
SETUP: tuple[Event, ...] = (RUN, VENUE, LISTED, FUNDED)


def bar(
    minute: int, open_: str = "100", high: str = "110", low: str = "90", close: str = "100", volume: str = "50",
    *, minutes: int = 1, instrument: InstrumentId = BTC,
) -> BarClosed:  # fmt: skip
    """A bar that opened so many minutes after the epoch."""
    text = DecimalText
    return BarClosed(
        instrument, f"{minutes}m", minute * MINUTE_NS, (minute + minutes) * MINUTE_NS, text(open_), text(high),
        text(low), text(close), text(volume),
    )  # fmt: skip


def order(name: str = "o-1", side: Side = Side.BUY, quantity: str = "1", **more: Any) -> OrderSubmitted:
    terms = OrderTerms(more.pop("strategy", ATLAS), more.pop("instrument", BTC), side, Decimal(quantity))
    until_ns = more.pop("until_ns", FAR_NS)
    client = more.pop("client", f"client-{name}")
    prices = {key: Decimal(value) for key, value in more.items() if key.endswith("_price")}
    return OrderSubmitted(OrderId(name), client, msgspec.structs.replace(terms, **{**more, **prices}), 1, until_ns)


def accepted(name: str, pos: int) -> OrderAccepted:
    return OrderAccepted(OrderId(name), f"client-{name}", f"v{pos}")


def canceled(name: str, reason: CancelReason) -> OrderCanceled:
    return OrderCanceled(OrderId(name), f"client-{name}", reason)


def placed(*orders: OrderSubmitted, setup: tuple[Event, ...] = SETUP, close: int = 9) -> History[State]:
    """A venue that heard one bar (closing at minute 10 unless told) and then accepted these orders."""
    history = given(CORE, *setup, bar(close))
    for submitted in orders:
        outcome = history.when(submitted)
        assert [type(event) for event in outcome.decisions] == [OrderAccepted]
        history = outcome.history
    return history


def fills(events: tuple[Event, ...]) -> list[tuple[str, Decimal | int, Decimal | int]]:
    return [(event.order, event.quantity, event.price) for event in events if isinstance(event, OrderFilled)]


# ---- receiving ---------------------------------------------------------------------------------------------------


def test_a_good_order_is_accepted_under_a_name_of_its_position() -> None:
    """The venue's id is a function of the tape."""
    given(CORE, *SETUP).when(order()).then(accepted("o-1", 5))


def test_what_execution_withholds_is_not_received() -> None:
    """Before the run, after a halt and past its validity an order meets silence, and leaves no trace."""
    assert given(CORE, VENUE, LISTED).when(order()).then_nothing().state.arriving == {}
    halt = HaltRequested("operator", "")
    assert given(CORE, *SETUP, halt).when(order()).then_nothing().state.arriving == {}
    late = given(CORE, *SETUP, at(10)).when(order(until_ns=at(9).time_ns)).then_nothing()
    assert late.state.arriving == {}
    given(CORE, *SETUP, at(10)).when(order(until_ns=at(10).time_ns)).then(accepted("o-1", 5))


@pytest.mark.parametrize(
    ("submitted", "reason", "detail"),
    [
        (order(instrument=ETH), Rejection.INSTRUMENT_UNKNOWN, "instrument ETH-USD is not listed here"),
        (order(quantity="0"), Rejection.QUANTITY_INVALID, "quantity 0: it must be positive, in lots of 0.1"),
        (order(quantity="-1"), Rejection.QUANTITY_INVALID, "quantity -1: it must be positive, in lots of 0.1"),
        (order(quantity="0.15"), Rejection.QUANTITY_INVALID, "quantity 0.15: it must be positive, in lots of 0.1"),
        (order(quantity="NaN"), Rejection.QUANTITY_INVALID, "quantity NaN: it must be positive, in lots of 0.1"),
        (order(order_type=OrderType.LIMIT), Rejection.PRICE_INVALID, "a LIMIT order needs a limit price"),
        (order(order_type=OrderType.STOP), Rejection.PRICE_INVALID, "a STOP order needs a stop price"),
        (
            order(order_type=OrderType.STOP_LIMIT, stop_price="90"),
            Rejection.PRICE_INVALID, "a STOP_LIMIT order needs a limit price",
        ),
        (order(limit_price="90"), Rejection.PRICE_INVALID, "a MARKET order has no limit price; it came with 90"),
        (
            order(order_type=OrderType.LIMIT, limit_price="0"),
            Rejection.PRICE_INVALID, "limit price 0: it must be positive, in ticks of 0.5",
        ),
        (
            order(order_type=OrderType.STOP, stop_price="99.7"),
            Rejection.PRICE_INVALID, "stop price 99.7: it must be positive, in ticks of 0.5",
        ),
        (
            order(quantity="0.1", order_type=OrderType.LIMIT, limit_price="99.5"),
            Rejection.BELOW_MIN_NOTIONAL, "0.1 at 99.5 is worth 9.95, below 10",
        ),
    ],
)  # fmt: skip
def test_a_bad_order_is_rejected_with_its_reason(submitted: OrderSubmitted, reason: Rejection, detail: str) -> None:
    """Each rule names its reason, the value and what would do."""
    history = given(CORE, *SETUP).when(submitted)
    state = history.then(OrderRejected(submitted.order, submitted.client_order_id, reason, detail)).state
    assert (state.arriving, state.working) == ({}, {})


def test_a_market_order_is_worth_the_last_close() -> None:
    """Below the least notional at the last close it is rejected; before the first bar nothing can be said."""
    small = order(quantity="0.1")
    given(CORE, *SETUP, bar(0, close="99")).when(small).then(
        OrderRejected(
            OrderId("o-1"), "client-o-1", Rejection.BELOW_MIN_NOTIONAL, "0.1 at 99 is worth 9.9, below 10"
        )
    )  # fmt: skip
    given(CORE, *SETUP, bar(0, close="100")).when(small).then(accepted("o-1", 6))
    given(CORE, *SETUP).when(small).then(accepted("o-1", 5))


def test_an_instrument_of_a_venue_that_is_not_set_up_is_unknown() -> None:
    """Without costs there is no venue to trade at."""
    detail = "BTC-USD trades at sim, which is not set up"
    given(CORE, RUN, LISTED).when(order()).then(
        OrderRejected(OrderId("o-1"), "client-o-1", Rejection.INSTRUMENT_UNKNOWN, detail)
    )


def test_a_client_order_id_is_taken_once() -> None:
    """Neither while its order is open nor after it has finished."""
    again = order("o-2", client="client-o-1")
    refusal = OrderRejected(
        OrderId("o-2"), "client-o-1", Rejection.CLIENT_ORDER_ID_USED, "client order id client-o-1 was used before"
    )
    placed(order()).when(again).then(refusal)
    placed(order()).when(bar(10)).history.when(again).then(refusal)


def test_used_client_order_ids_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded."""
    monkeypatch.setattr(venue, "REMEMBERED_CLIENT_IDS", 2)
    history = placed(order("o-1"), order("o-2"), order("o-3")).when(bar(10)).history
    assert list(history.state.used) == list(history.state.used_oldest_first) == ["client-o-2", "client-o-3"]


# ---- cancels -----------------------------------------------------------------------------------------------------


def test_a_working_order_is_cancelled_with_the_reason_asked_for() -> None:
    """It leaves the book and does not fill any more."""
    cancel = CancelSubmitted(OrderId("o-1"), "client-o-1", CancelReason.STRATEGY_DISABLED)
    history = placed(order()).when(cancel).then(canceled("o-1", CancelReason.STRATEGY_DISABLED))
    history.when(bar(10)).then_nothing()


def test_a_cancel_finding_nothing_is_ignored() -> None:
    """An order that was never received, and one that filled before, are nothing to cancel."""
    cancel = CancelSubmitted(OrderId("o-1"), "client-o-1", CancelReason.OPERATOR_HALT)
    given(CORE, *SETUP).when(cancel).then_nothing()
    placed(order()).when(bar(10)).history.when(cancel).then_nothing()


# ---- filling -----------------------------------------------------------------------------------------------------


def test_a_market_order_fills_at_the_next_open_with_every_cost_visible() -> None:
    """Price slipped and on the tick, fee exact in quote currency, trade named after the venue's order id."""
    costs = VenueConfigured("sim", Decimal("0.001"), Decimal("0.002"), Decimal(5))
    history = placed(order(quantity="1.5"), setup=(RUN, costs, LISTED, FUNDED)).when(bar(10, open_="101"))
    history.then(
        OrderFilled(
            OrderId("o-1"), "client-o-1", ATLAS, BTC, "v6-1", Side.BUY, Decimal("1.5"), Decimal("101.5"),
            Decimal("0.3045"), "USD", Liquidity.TAKER, Decimal("0.5"),
        )
    )  # fmt: skip


def test_a_maker_pays_the_maker_fee() -> None:
    """A resting limit: its own price, no slippage, the maker's rate."""
    outcome = placed(order(order_type=OrderType.LIMIT, limit_price="95")).when(bar(10))
    fill = outcome.decisions[0]
    assert isinstance(fill, OrderFilled)
    assert (fill.price, fill.fee, fill.slippage) == (Decimal(95), Decimal("0.095"), Decimal(0))
    assert fill.liquidity is Liquidity.MAKER


def test_no_bar_fills_from_a_time_already_known() -> None:
    """A bar that opened before the last known close (late, revised, or of a longer timeframe) fills nothing."""
    history = placed(order())
    history = history.when(bar(9)).then_nothing()
    history = history.when(bar(0, minutes=60)).then_nothing()
    assert history.state.books[BTC].orders["client-o-1"].first_pos == 0
    history.when(bar(59)).then_nothing()
    assert fills(history.when(bar(60)).decisions) == [("o-1", 1, 100)]


def test_of_several_timeframes_the_finest_fills() -> None:
    """A five-minute bar over minutes already heard does not fill again what they left over."""
    history = placed(order(quantity="20"), setup=(RUN, CAPPED, LISTED))
    for minute in range(10, 13):
        history = history.when(bar(minute)).history
    assert history.state.books[BTC].orders["client-o-1"].remaining == 5
    history = history.when(bar(10, minutes=3, volume="1000")).then_nothing()
    assert fills(history.when(bar(13)).decisions) == [("o-1", 5, 100)]


def test_bars_of_other_instruments_fill_nothing() -> None:
    """Each instrument has its own book, and an unlisted one has none."""
    other = InstrumentListed(ETH, "ETH/USD", "sim", "ETH", "USD")
    history = placed(order(), setup=(*SETUP, other))
    history.when(bar(10, instrument=ETH)).then_nothing().when(bar(10, instrument=InstrumentId("X"))).then_nothing()


def test_the_cap_is_shared_in_order_of_arrival_and_the_rest_carries_over() -> None:
    """Ten percent of 50 is 5: the first takes 3, the second 2 of its 4 and the rest in the next bar."""
    history = placed(order("o-1", quantity="3"), order("o-2", quantity="4"), setup=(RUN, CAPPED, LISTED))
    outcome = history.when(bar(10))
    assert fills(outcome.decisions) == [("o-1", 3, 100), ("o-2", 2, 100)]
    outcome = outcome.history.when(bar(11, open_="105"))
    assert fills(outcome.decisions) == [("o-2", 2, 105)]
    last = outcome.decisions[0]
    assert isinstance(last, OrderFilled)
    assert last.trade_id == "v6-2"
    assert outcome.history.state.working == {}


def test_a_bar_without_volume_fills_nothing_under_a_cap() -> None:
    """A tenth of nothing is nothing; without a cap the volume does not matter."""
    placed(order(), setup=(RUN, CAPPED, LISTED)).when(bar(10, volume="0")).then_nothing()
    assert fills(placed(order()).when(bar(10, volume="0")).decisions) == [("o-1", 1, 100)]


def test_a_stop_stays_triggered() -> None:
    """Touched under a cap: what is left over is a market order in the next bar, wherever the price is."""
    stop = order(quantity="7", order_type=OrderType.STOP, stop_price="110")
    history = placed(stop, setup=(RUN, CAPPED, LISTED)).when(bar(10, high="109.5")).then_nothing()
    outcome = history.when(bar(11))
    assert fills(outcome.decisions) == [("o-1", 5, 110)]
    assert fills(outcome.history.when(bar(12, high="101")).decisions) == [("o-1", 2, 100)]


# ---- time in force -----------------------------------------------------------------------------------------------


def test_immediate_or_cancel_fills_what_it_can_and_cancels_the_rest() -> None:
    """In its first bar, at the open; not marketable means nothing at all."""
    ioc = order(quantity="7", time_in_force=TimeInForce.IOC)
    outcome = placed(ioc, setup=(RUN, CAPPED, LISTED)).when(bar(10))
    assert fills(outcome.decisions) == [("o-1", 5, 100)]
    assert outcome.decisions[1:] == (canceled("o-1", CancelReason.IMMEDIATE_OR_CANCEL),)
    assert outcome.history.state.working == {}
    passive = order(order_type=OrderType.LIMIT, limit_price="95", time_in_force=TimeInForce.IOC)
    placed(passive).when(bar(10)).then(canceled("o-1", CancelReason.IMMEDIATE_OR_CANCEL))


def test_fill_or_kill_fills_whole_or_not_at_all() -> None:
    """Five are to be had: five fill, six are killed, and the killed leave the volume to the next in line."""
    five, six = (order(f"o-{count}", quantity=count, time_in_force=TimeInForce.FOK) for count in ("5", "6"))
    outcome = placed(six, five, setup=(RUN, CAPPED, LISTED)).when(bar(10))
    assert outcome.decisions[0] == canceled("o-6", CancelReason.FILL_OR_KILL)
    assert fills(outcome.decisions) == [("o-5", 5, 100)]
    assert outcome.history.state.working == {}


def test_a_day_order_expires_with_its_day_and_others_stay() -> None:
    """The first bar that opens on a later UTC day expires it unfilled, although it would have filled there."""
    passive: dict[str, Any] = {"order_type": OrderType.LIMIT, "limit_price": "80"}
    day = order("o-day", time_in_force=TimeInForce.DAY, **passive)
    gtc = order("o-gtc", **passive)
    history = placed(day, gtc)
    history = history.when(bar(DAY_MINUTES - 1)).then_nothing()
    outcome = history.when(bar(DAY_MINUTES, low="70"))
    assert outcome.decisions[0] == OrderExpired(OrderId("o-day"), "client-o-day")
    assert fills(outcome.decisions) == [("o-gtc", 1, 80)]


def test_a_day_order_belongs_to_the_day_of_its_submission() -> None:
    """Submitted on the second day, it is still good in a bar of the second day."""
    start = given(CORE, *SETUP, at(86_400), bar(DAY_MINUTES - 1))
    history = start.when(order(time_in_force=TimeInForce.DAY)).history
    assert fills(history.when(bar(DAY_MINUTES)).decisions) == [("o-1", 1, 100)]


# ---- reduce only -------------------------------------------------------------------------------------------------


def test_reduce_only_closes_a_position_and_never_turns_it() -> None:
    """Long 2, sell 5 reduce-only: 2 fill, 3 are cancelled."""
    long = placed(order("o-1", quantity="2")).when(bar(10)).history
    reduce = order("o-2", Side.SELL, "5", reduce_only=True)
    outcome = long.when(reduce).history.when(bar(11))
    assert fills(outcome.decisions) == [("o-2", 2, 100)]
    assert outcome.decisions[1:] == (canceled("o-2", CancelReason.REDUCE_ONLY),)
    assert outcome.history.state.books[BTC].positions == {}


def test_reduce_only_without_a_position_is_cancelled_when_it_would_fill() -> None:
    """Neither flat, nor on the same side, nor on another strategy's position; before its price comes it waits."""
    for side, strategy in ((Side.SELL, BORIS), (Side.BUY, ATLAS)):
        long = placed(order("o-1", quantity="2")).when(bar(10)).history
        reduce = order("o-2", side, "1", strategy=strategy, reduce_only=True)
        long.when(reduce).history.when(bar(11)).then(canceled("o-2", CancelReason.REDUCE_ONLY))
    waiting = order("o-3", Side.SELL, order_type=OrderType.STOP, stop_price="80", reduce_only=True)
    placed(waiting).when(bar(10)).then_nothing()


def test_reduce_only_sees_the_fills_before_it_in_the_same_bar() -> None:
    """An entry and its reduce-only exit arrive together: the exit finds the position the entry has just opened."""
    entry, exit_ = order("o-1", quantity="2"), order("o-2", Side.SELL, "2", reduce_only=True)
    assert fills(placed(entry, exit_).when(bar(10)).decisions) == [("o-1", 2, 100), ("o-2", 2, 100)]
    outcome = placed(entry, exit_, replace_name(exit_, "o-3")).when(bar(10))
    assert outcome.decisions[2:] == (canceled("o-3", CancelReason.REDUCE_ONLY),)


def replace_name(submitted: OrderSubmitted, name: str) -> OrderSubmitted:
    return msgspec.structs.replace(submitted, order=OrderId(name), client_order_id=f"client-{name}")


# ---- the account -------------------------------------------------------------------------------------------------


def test_balances_are_reported_at_the_first_bar_of_a_day_with_fills_behind_it() -> None:
    """All currencies by name, before the new bar's own fills; once a day, and only if something was filled."""
    history = placed(order(quantity="2")).when(bar(10)).history
    history = history.when(bar(DAY_MINUTES - 1)).then_nothing()
    report = BalanceReported("sim", {"BTC": Decimal(2), "USD": Decimal("9799.6")}, heard=history.pos + 1)
    history = history.when(bar(DAY_MINUTES)).then(report)
    history = history.when(bar(DAY_MINUTES + 1)).then_nothing()
    history.when(bar(2 * DAY_MINUTES)).then_nothing()


def test_funding_moves_cash_from_longs_to_shorts() -> None:
    """A long of 2 at a mark of 110 pays a hundredth; a flat book and an unlisted instrument pay nothing."""
    rate = FundingPublished(BTC, Decimal("0.01"), Decimal(110))
    long, short = (placed(order("o-1", side, quantity="2")).when(bar(10)).history for side in Side)
    assert long.when(rate).then_nothing().state.balances["USD"] == Decimal("9797.4")
    assert short.when(rate).then_nothing().state.balances["USD"] == Decimal("10201.8")
    flat = placed()
    flat.when(rate).then_nothing().when(FundingPublished(ETH, Decimal(1), Decimal(1))).then_nothing()
    assert flat.state.balances == {"USD": Decimal(10_000)}
    assert not flat.state.unreported


def test_a_day_without_fills_reports_nothing() -> None:
    """A new day alone is no news."""
    placed().when(bar(DAY_MINUTES)).then_nothing()


def test_reports_of_a_real_venue_are_not_ours() -> None:
    """Facts under the venue's name about orders we never received change nothing."""
    history = placed()
    fill = OrderFilled(
        OrderId("x"), "client-x", ATLAS, BTC, "t1", Side.BUY, Decimal(1), Decimal(100), Decimal(0), "USD",
        Liquidity.TAKER, Decimal(0),
    )  # fmt: skip
    foreign = (accepted("x", 1), fill, canceled("x", CancelReason.REQUESTED), OrderExpired(OrderId("x"), "client-x"))
    after = given(CORE, *SETUP, bar(9), *foreign)
    assert after.state == history.state
