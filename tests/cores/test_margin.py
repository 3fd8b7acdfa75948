"""Margin: which orders the account is worth enough for, when it runs dry, at which price, and who is told what."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.trading import ATLAS, BORIS, FREE, LISTED, RUN, Venue, bar, costs, order, trade

from tapeline_common.core import Stamp, learn, step
from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    CostsConfigured,
    Event,
    InstrumentCosts,
    LiquidationOrdered,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderRejected,
    OrderTerms,
    VenueConfigured,
)
from tapeline_common.settings import ConfigurationInvalid, parse
from tapeline_common.values import CancelReason, InstrumentId, OrderType, Purpose, Rejection, Side
from tapeline_execution import core as execution
from tapeline_execution.margin import Call, call
from tapeline_execution.matching import Prices

BUY, SELL = Side.BUY, Side.SELL
D = Decimal
BAR = Prices(D(100), D(110), D(90), D(50))
MARGIN = costs(initial_margin="0.1", maintenance_margin="0.05")
"""Ten times leverage."""


def account(cash: str, *configured: Event, base: VenueConfigured = FREE) -> tuple[Event, ...]:
    return (RUN, LISTED, base, *(configured or (MARGIN,)), AccountFunded("main", "USD", D(cash)))


# ---- the price ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "quantity", "expected"),
    [
        # ten bought at 100 with 60 of one's own: 940 owed
        ("-940", "10", Call(D("98.9473684210"), D(-40), D(45))),
        # ten sold at 100 with 60 of one's own: 1060 in cash
        ("1060", "-10", Call(D("100.952380953"), D(-40), D(55))),
        # the bar opens beyond the price already
        ("-990", "10", Call(D(100), D(-90), D(45))),
        ("1010", "-10", Call(D(100), D(-90), D(55))),
        # just enough at the worst price
        ("-855", "10", None),
        ("1155", "-10", None),
    ],
)
def test_the_price_is_where_worth_meets_margin(free: str, quantity: str, expected: Call | None) -> None:
    """Equity = margin there, or the open where that is worse; exactly enough is enough."""
    found = call(D(free), D(0), D(quantity), D("0.05"), BAR)
    assert found == expected
    if found is not None and found.price != BAR.open:
        worth, needed = D(free) + D(quantity) * found.price, D("0.05") * abs(D(quantity)) * found.price
        assert abs(worth - needed) < D("1e-6")
        assert worth <= needed


def test_other_positions_need_their_margin_too() -> None:
    """What the account is worth beyond them is what this one has."""
    assert call(D(-840), D(0), D(10), D("0.05"), BAR) is None
    assert call(D(-840), D(20), D(10), D("0.05"), BAR) == Call(D("90.5263157894"), D(60), D(65))


# ---- the venue ---------------------------------------------------------------------------------------------------


def leveraged(*more: BarClosed | OrderTerms, side: Side = BUY, cash: str = "120", setup: Any = None) -> Venue:
    """Ten at 100 on an account of 120, on a quiet bar."""
    quiet = bar(1, high="101", low="99")
    return trade(setup or account(cash), [bar(0), order(side, "10"), quiet, *more])


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


@pytest.mark.parametrize(
    ("side", "price", "cash"), [(BUY, "92.6315789473", "46.315789473"), (SELL, "106.666666667", "53.33333333")]
)
def test_a_position_beyond_its_margin_is_closed(side: Side, price: str, cash: str) -> None:
    """At the price where the account was worth just the margin; it keeps what is left; nothing is open any more."""
    one = leveraged(side=side)
    before = one.pos
    ordered, fill = one.hear(bar(2))
    assert isinstance(ordered, LiquidationOrdered)
    assert isinstance(fill, OrderFilled)
    name = f"liquidation-{before + 1}-0"
    terms = OrderTerms(ATLAS, LISTED.instrument, side.opposite, D(10), reduce_only=True, purpose=Purpose.LIQUIDATION)
    assert (ordered.order, ordered.client_order_id, ordered.terms) == (name, name, terms)
    assert (fill.order, fill.side, fill.quantity, fill.price) == (name, side.opposite, 10, D(price))
    book = one.state.books[LISTED.instrument]
    assert (book.positions, book.orders, one.state.working) == ({}, {}, {})
    assert one.state.balances["USD"] == D(cash)
    assert one.hear(bar(3)) == []


def test_a_position_that_its_margin_carries_is_left_alone() -> None:
    """The worst price of the bar is just bearable."""
    one = leveraged(cash="145")
    assert one.hear(bar(2)) == []
    assert kinds(one.hear(bar(3, low="89"))) == ["LiquidationOrdered", "OrderFilled"]


def test_without_margin_nothing_is_ever_closed() -> None:
    """Other costs do not make an account end."""
    one = leveraged(setup=account("120", costs(slippage_bps="1")))
    assert one.hear(bar(2, low="1")) == []


def test_a_liquidation_pays_fees_slippage_and_an_extra_fee() -> None:
    """Like a taker, and more; the account may end below nothing when the bar opens beyond it."""
    base = VenueConfigured("sim", D(0), D("0.001"), D(0))
    dear = costs(initial_margin="0.1", maintenance_margin="0.05", slippage_bps="100", liquidation_fee="0.01")
    one = leveraged(setup=account("131", dear, base=base))
    _, fill = one.hear(bar(2, "80", "81", "70", "75"))
    assert isinstance(fill, OrderFilled)
    assert (fill.price, fill.fee, fill.slippage) == (D("79.2"), D("8.712"), D("0.8"))
    assert one.state.balances["USD"] < 0


def test_a_stop_before_the_margin_saves_the_account() -> None:
    """Its price is nearer; a resting take-profit beyond the open does not, the worse comes first."""
    stop = order(SELL, "10", order_type=OrderType.STOP, stop_price="95", reduce_only=True)
    assert kinds(leveraged(stop).hear(bar(2))) == ["OrderFilled"]
    profit = order(SELL, "10", order_type=OrderType.LIMIT, limit_price="108", reduce_only=True)
    found = leveraged(profit).hear(bar(2))
    assert kinds(found) == ["OrderCanceled", "LiquidationOrdered", "OrderFilled"]
    canceled = found[0]
    assert isinstance(canceled, OrderCanceled)
    assert canceled.reason is CancelReason.LIQUIDATION


def test_what_a_bar_filled_counts() -> None:
    """An order that fills in the bar is part of the position, and its cash is gone."""
    one = leveraged(order(BUY, "2"), cash="145")
    assert [event.quantity for event in one.hear(bar(2)) if isinstance(event, OrderFilled)] == [2, 12]


def test_every_strategy_is_closed() -> None:
    """The account is one; the longs and shorts of an instrument go together."""
    one = trade(
        account("90"), [bar(0), order(BUY, "9"), order(SELL, "3", strategy=BORIS), bar(1, high="101", low="99")]
    )
    fills = [event for event in one.hear(bar(2, low="85")) if isinstance(event, OrderFilled)]
    assert [(fill.strategy, fill.side, fill.quantity) for fill in fills] == [(ATLAS, SELL, 9), (BORIS, BUY, 3)]
    assert one.state.balances["BTC"] == 0


def test_another_instrument_can_carry_or_drag() -> None:
    """Margin is shared: a gain elsewhere keeps a position alive, and its own margin counts against it."""
    other = msgspec.structs.replace(LISTED, instrument=InstrumentId("ETH-USD"), base="ETH")
    own = InstrumentCosts(maintenance_margin=D("0.05"))
    both = CostsConfigured("sim", instruments=dict.fromkeys((LISTED.instrument, other.instrument), own))
    setup = (*account("250", both), other)

    def run(price: str) -> list[Event]:
        one = trade(setup, [])
        for minute in (0, 1):
            one.hear(bar(minute, high="101", low="99"))
            one.hear(msgspec.structs.replace(bar(minute, high="101", low="99"), instrument=other.instrument))
            if minute == 0:
                one.take(order(BUY, "10"))
                one.take(msgspec.structs.replace(order(BUY, "10"), instrument=other.instrument))
        one.hear(msgspec.structs.replace(bar(2, high="140", low="99", close=price), instrument=other.instrument))
        return one.hear(bar(2, low="84"))

    assert run("100")
    assert run("120") == []


# ---- orders ------------------------------------------------------------------------------------------------------


def answer(one: Venue, terms: OrderTerms) -> Event:
    one.take(terms)
    return one.said[-1]


def test_an_order_beyond_the_initial_margin_is_rejected() -> None:
    """A hundred carries ten at a hundred and no more; what is open counts; what reduces is always taken."""
    one = trade(account("100"), [bar(0)])
    rejected = answer(one, order(BUY, "10.1"))
    assert isinstance(rejected, OrderRejected)
    assert rejected.reason is Rejection.MARGIN_INSUFFICIENT
    assert rejected.detail == "positions and open orders would need a margin of 101, the account is worth 100"
    assert isinstance(answer(one, order(BUY, "10")), OrderAccepted)
    assert isinstance(answer(one, order(BUY, "1")), OrderRejected)
    one.hear(bar(1, high="101", low="99"))
    assert isinstance(answer(one, order(BUY, "1")), OrderRejected)
    assert isinstance(answer(one, order(SELL, "10")), OrderAccepted)
    assert isinstance(answer(one, order(SELL, "10", reduce_only=True)), OrderAccepted)


def test_short_selling_can_be_forbidden() -> None:
    """No more is sold than is held, open sales included; without the rule everything goes, as ever."""
    spot = costs(short_selling=False)
    one = trade(account("1000", spot), [bar(0), order(BUY, "3"), bar(1)])
    assert isinstance(answer(one, order(SELL, "2")), OrderAccepted)
    rejected = answer(one, order(SELL, "2"))
    assert isinstance(rejected, OrderRejected)
    assert (rejected.reason, rejected.detail) == (
        Rejection.SHORT_NOT_ALLOWED, "open sales would leave -1: sell no more than is held",
    )  # fmt: skip
    assert isinstance(answer(one, order(SELL, "1")), OrderAccepted)
    assert isinstance(answer(one, order(BUY, "99")), OrderAccepted)
    free = trade(account("1000", costs(slippage_bps="1")), [bar(0)])
    assert isinstance(answer(free, order(SELL, "5")), OrderAccepted)


# ---- who hears of it ---------------------------------------------------------------------------------------------


def test_execution_is_not_surprised() -> None:
    """The venue's own order is known when its fill comes: nothing violated, nothing halted."""
    one = leveraged()
    state = execution.CORE.initial()
    learn(execution.CORE, state, RUN, Stamp(1, 0))
    for pos, event in enumerate(one.hear(bar(2)), start=2):
        assert step(execution.CORE, state, event, Stamp(pos, 0)) == ()
    assert [order.state for order in state.finished.values()] == ["FILLED"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("maintenance_margin = 1", "venue.maintenance_margin is 1: use a fraction of the position's value below 1"),
        ("maintenance_margin = 0.05", "venue.initial_margin is 0: use at least the maintenance margin of 0.05"),
    ],
)
def test_margins_that_make_no_sense_are_refused(text: str, said: str) -> None:
    """A maintenance margin is below one, and not above what it took to open the position."""
    with pytest.raises(ConfigurationInvalid, match=said):
        parse(f'[venue]\n{text}\n[[instrument]]\nname = "BTC/USDT"\n')
