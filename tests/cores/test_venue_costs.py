"""The simulated venue under configured costs: fee tiers, impact, latency and the path, each visible in the fill."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.trading import BORIS, FREE, FUNDED, LISTED, RUN, Venue, bar, costs, order, trade

from tapeline_common.events import (
    BalanceReported,
    BarClosed,
    BorrowCharged,
    CostsConfigured,
    Event,
    FeeTier,
    FillCosts,
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderTerms,
    VenueConfigured,
)
from tapeline_common.testing import fingerprint
from tapeline_common.values import (
    CancelReason,
    InstrumentId,
    IntrabarPath,
    Liquidity,
    OrderType,
    Side,
    TimeInForce,
)
from tapeline_common.wire import decode_event, encode

BUY, SELL = Side.BUY, Side.SELL
DAY = 24 * 60
ADAPTIVE = {"intrabar": IntrabarPath.ADAPTIVE}


def setup(*configured: Event, base: VenueConfigured = FREE) -> tuple[Event, ...]:
    return (RUN, LISTED, base, *configured, FUNDED)


def prices(one: Venue) -> list[tuple[Side, Decimal]]:
    return [(fill.side, fill.price) for fill in one.fills]


def costs_of(fill: OrderFilled) -> FillCosts:
    assert fill.costs is not None
    return fill.costs


# ---- what is said ------------------------------------------------------------------------------------------------


def test_a_fill_without_further_costs_is_written_as_ever() -> None:
    """No breakdown, and no word of it in the bytes; tapes of before are read and written as before."""
    (fill,) = trade(setup(), [bar(0), order(), bar(1)]).fills
    assert fill.costs is None
    assert b"costs" not in encode(fill)
    assert decode_event(encode(fill)) == fill


def test_a_fill_says_what_its_slippage_is_made_of() -> None:
    """Five basis points and two ticks of spread around them, a hundredth of the volume, and the rest to the tick."""
    listed = msgspec.structs.replace(LISTED, tick_size=Decimal("0.01"))
    configured = costs(listed, slippage_bps="5", half_spread_ticks="2", volume_impact="0.1")
    (fill,) = trade((RUN, listed, FREE, configured, FUNDED), [bar(0), order(quantity="10"), bar(1, "101")]).fills
    assert (fill.price, fill.slippage) == (Decimal("101.08"), Decimal("0.08"))
    assert costs_of(fill) == FillCosts(
        Decimal(0), Decimal(0), Decimal("0.0505"), Decimal("0.02"), Decimal("0.00101"), Decimal(0), Decimal("0.00849")
    )
    assert decode_event(encode(fill)) == fill


def test_a_maker_pays_none_of_them() -> None:
    """A resting limit has its own price; that nothing was charged is said."""
    configured = costs(slippage_bps="5", volume_impact="1", root_impact="1")
    (fill,) = trade(setup(configured), [bar(0), order(order_type=OrderType.LIMIT, limit_price="95"), bar(1)]).fills
    assert (fill.price, fill.slippage, fill.liquidity) == (95, 0, Liquidity.MAKER)
    assert set(msgspec.structs.astuple(costs_of(fill))) == {Decimal(0)}


def test_costs_of_another_instrument_or_venue_do_not_matter() -> None:
    """Without costs of its own an instrument has the venue's fixed slippage."""
    base = VenueConfigured("sim", Decimal(0), Decimal(0), Decimal(100))
    other = CostsConfigured(
        "sim", instruments={InstrumentId("X"): costs(slippage_bps="7").instruments[LISTED.instrument]}
    )
    elsewhere = msgspec.structs.replace(costs(slippage_bps="9"), venue="other")
    for configured in (other, elsewhere):
        (fill,) = trade(setup(configured, base=base), [bar(0), order(), bar(1)]).fills
        assert (fill.price, fill.costs) == (101, None)


def test_configuration_may_come_in_any_order_and_change() -> None:
    """Before the listing or after it; said again without costs, they are gone."""
    plain = costs(slippage_bps="100")
    for facts in ((RUN, plain, FREE, LISTED), (RUN, FREE, LISTED, plain)):
        assert prices(trade(facts, [bar(0), order(), bar(1)])) == [(BUY, 101)]
    gone = CostsConfigured("sim")
    assert prices(trade((RUN, FREE, LISTED, plain, gone), [bar(0), order(), bar(1)])) == [(BUY, 100)]


# ---- fee tiers ---------------------------------------------------------------------------------------------------

TIERS = CostsConfigured(
    "sim",
    (
        FeeTier(Decimal(0), Decimal("0.001"), Decimal("0.002")),
        FeeTier(Decimal(150), Decimal("-0.0005"), Decimal("0.001")),
    ),
)


def test_a_tier_is_reached_on_the_day_after() -> None:
    """Two hundred traded on the first day: the lower fee holds from the second day on, for thirty days."""
    one = trade(setup(TIERS), [bar(0), order(quantity="2"), bar(1), order(), bar(2), order(), bar(DAY)])
    assert [fill.fee for fill in one.fills] == [Decimal("0.4"), Decimal("0.2"), Decimal("0.1")]
    one.take(order(SELL))
    one.hear(bar(31 * DAY))
    one.take(order(SELL))
    one.hear(bar(61 * DAY + 1))
    assert [fill.fee for fill in one.fills[3:]] == [Decimal("0.2"), Decimal("0.2")]


def test_a_maker_may_be_paid() -> None:
    """A rebate is a fee below zero, and the account has it."""
    rest: dict[str, Any] = {"order_type": OrderType.LIMIT, "limit_price": "95"}
    one = trade(setup(TIERS), [bar(0), order(quantity="2"), bar(1), order(**rest), bar(DAY)])
    assert [fill.fee for fill in one.fills] == [Decimal("0.4"), Decimal("-0.0475")]
    assert one.state.balances["USD"] == 100_000 - 200 - Decimal("0.4") - 95 + Decimal("0.0475")


def test_below_the_first_tier_the_flat_fee_holds() -> None:
    """And a venue without tiers counts no turnover."""
    base = VenueConfigured("sim", Decimal("0.003"), Decimal("0.004"), Decimal(0))
    late = CostsConfigured("sim", TIERS.fee_tiers[1:])
    assert [fill.fee for fill in trade(setup(late, base=base), [bar(0), order(), bar(1)]).fills] == [Decimal("0.4")]
    assert trade(setup(base=base), [bar(0), order(), bar(1)]).state.turnover == {}


# ---- impact ------------------------------------------------------------------------------------------------------


def test_fills_of_one_bar_share_its_impact() -> None:
    """The second order finds what the first has taken: splitting an order does not make it cheaper."""
    configured = costs(volume_impact="1")
    one = trade(setup(configured), [bar(0), order(quantity="100"), order(quantity="100"), bar(1)])
    assert prices(one) == [(BUY, 101), (BUY, 104)]


def test_the_root_law_knows_only_bars_before_the_one_that_fills() -> None:
    """Whatever the filling bar's close and volume are, the price is the same; an earlier bar's are not."""
    configured = costs(root_impact="1")

    def filled(*bars: BarClosed) -> list[tuple[Side, Decimal]]:
        return prices(trade(setup(configured), [*bars[:-1], order(quantity="10"), bars[-1]]))

    known = (bar(0), bar(1, close="101"))
    expected = [(BUY, Decimal("100.070710679"))]
    assert filled(*known, bar(2)) == filled(*known, bar(2, close="90", volume="1")) == expected
    assert filled(known[0], bar(1, close="102"), bar(2)) != filled(*known, bar(2))


def test_bars_that_may_not_fill_are_not_measured() -> None:
    """An hour over minutes already heard would count their volume twice."""
    configured = costs(root_impact="1")
    one = trade(setup(configured), [bar(minute) for minute in range(3)])
    before = fingerprint(one.state.books[LISTED.instrument].model)
    one.hear(bar(0, minutes=3, volume="99999"))
    assert fingerprint(one.state.books[LISTED.instrument].model) == before


# ---- latency -----------------------------------------------------------------------------------------------------


def late(latency_ms: int, items: list[BarClosed | OrderTerms]) -> Venue:
    return trade(setup(costs(latency_ms=latency_ms)), items)


@pytest.mark.parametrize(("side", "price"), [(BUY, "101"), (SELL, "99")])
def test_a_late_market_order_pays_for_the_way_in_proportion(side: Side, price: str) -> None:
    """Six seconds of a minute: a tenth of the way from the open to the extreme that is worse."""
    (fill,) = late(6_000, [bar(0), order(side), bar(1)]).fills
    assert (fill.price, fill.slippage, costs_of(fill).latency) == (Decimal(price), 1, 1)


def test_an_order_that_arrives_with_a_bar_takes_its_open() -> None:
    """Nothing was missed but the bar in which it was on its way: its extreme stays the price if that is worse."""
    bars = [bar(1, high="103", low="97"), bar(2, open_="105"), bar(3)]
    (fill,) = late(60_000, [bar(0), order(), *bars]).fills
    assert (fill.price, costs_of(fill).latency) == (105, 0)
    (fill,) = late(60_000, [bar(0), order(), bars[0], bar(2, open_="101")]).fills
    assert (fill.price, costs_of(fill).latency) == (103, 2)


def test_an_order_on_its_way_meets_no_bar_that_ends_before_it_arrives() -> None:
    """Neither is it filled, nor cancelled as immediate, nor does its stop see what it missed."""
    ioc = order(time_in_force=TimeInForce.IOC)
    one = late(90_000, [bar(0), ioc, order(order_type=OrderType.STOP, stop_price="109"), bar(1)])
    assert [type(event) for event in one.said] == [OrderAccepted, OrderAccepted]
    one.hear(bar(2, open_="100", high="104"))
    assert prices(one) == [(BUY, 110)]


def test_after_a_gap_the_order_is_there() -> None:
    """No bar for an hour: the next open is the price."""
    assert prices(late(90_000, [bar(0), order(), bar(60)])) == [(BUY, 100)]


def test_a_late_limit_needs_the_close_beyond_it() -> None:
    """The low may have been before it came; the close was not. In the next bar the whole range counts."""
    rest = order(order_type=OrderType.LIMIT, limit_price="95")
    assert prices(late(6_000, [bar(0), rest, bar(1, close="95")])) == []
    assert prices(late(6_000, [bar(0), rest, bar(1, close="94")])) == [(BUY, 95)]
    assert prices(late(6_000, [bar(0), rest, bar(1), bar(2)])) == [(BUY, 95)]


def test_a_limit_that_is_marketable_on_arrival_takes_the_arrival_price() -> None:
    """Beyond the limit it is a taker, no longer beyond it rests."""
    (fill,) = late(6_000, [bar(0), order(order_type=OrderType.LIMIT, limit_price="102"), bar(1)]).fills
    assert (fill.price, fill.liquidity) == (101, Liquidity.TAKER)
    near = order(order_type=OrderType.LIMIT, limit_price="101")
    assert late(6_000, [bar(0), near, bar(1, close="102")]).fills == []


def test_a_late_stop_goes_off_no_better_than_on_arrival() -> None:
    """Stop at 100.5, arrival at 101: the arrival. Stop at 105: the stop, and the latency cost nothing."""
    near, far = (order(order_type=OrderType.STOP, stop_price=price) for price in ("100.5", "105"))
    fills = late(6_000, [bar(0), near, far, bar(1)]).fills
    assert [(fill.price, costs_of(fill).latency) for fill in fills] == [(101, Decimal("0.5")), (105, 0)]


def test_an_order_on_its_way_arrives_when_latency_is_taken_back() -> None:
    """Costs changed in between: it takes the next open, neither late nor lost."""
    one = late(90_000, [bar(0), order(), bar(1)])
    assert one.fills == []
    one.hear(CostsConfigured("sim"))
    one.hear(bar(2, open_="101"))
    assert prices(one) == [(BUY, 101)]


def test_without_latency_orders_have_no_journey() -> None:
    """Nothing to remember."""
    one = trade(setup(costs(slippage_bps="1")), [bar(0), order()])
    assert [each.journey for each in one.state.books[LISTED.instrument].orders.values()] == [None]


# ---- borrowing ---------------------------------------------------------------------------------------------------

LENT = costs(borrow_rate="0.365")
"""A thousandth of the value a day."""


def test_a_short_position_pays_for_each_day_that_ends() -> None:
    """At the new day's open, before its orders; a weekend without bars is three days; the account has paid."""
    one = trade(setup(LENT), [bar(0), order(SELL, "2"), bar(1)])
    assert one.state.balances["USD"] == 100_200
    report, charged = one.hear(bar(DAY, "105"))
    assert isinstance(report, BalanceReported)
    assert charged == BorrowCharged(LISTED.instrument, 1, Decimal("0.001"), Decimal(105))
    assert one.state.balances["USD"] == 100_200 - Decimal("0.21")
    report, charged = one.hear(bar(4 * DAY))
    assert isinstance(report, BalanceReported)
    assert report.balances["USD"] == 100_200 - Decimal("0.21")
    assert charged == BorrowCharged(LISTED.instrument, 3, Decimal("0.003"), Decimal(100))
    assert one.hear(bar(4 * DAY + 1)) == []


def test_only_shorts_pay_each_strategy_for_its_own() -> None:
    """A long of another strategy lends nothing; flat and long books, and books without a rate, are silent."""
    one = trade(setup(LENT), [bar(0), order(SELL, "2"), order(BUY, "5", strategy=BORIS), bar(1), bar(DAY)])
    assert one.state.balances["USD"] == 100_000 - 300 - Decimal("0.2")
    for items in ([bar(0), bar(DAY)], [bar(0), order(BUY), bar(1), bar(DAY)]):
        assert not any(isinstance(event, BorrowCharged) for event in trade(setup(LENT), items).said)
    free = trade(setup(costs(slippage_bps="1")), [bar(0), order(SELL), bar(1), bar(DAY)])
    assert not any(isinstance(event, BorrowCharged) for event in free.said)


def test_an_instrument_whose_bar_comes_later_is_valued_at_its_last_close() -> None:
    """The day begins with the first bar of any instrument."""
    other = msgspec.structs.replace(LISTED, instrument=InstrumentId("ETH-USD"), base="ETH")
    one = trade((*setup(LENT), other), [bar(0), order(SELL), bar(1, close="103")])
    charged = one.hear(msgspec.structs.replace(bar(DAY, "7", "9", "6", "8"), instrument=other.instrument))
    assert charged[1:] == [BorrowCharged(LISTED.instrument, 1, Decimal("0.001"), Decimal(103))]


def test_odd_rates_are_rounded_up() -> None:
    """Ten decimals of a year's three hundred and sixty-fifth part, against us."""
    one = trade(setup(costs(borrow_rate="0.1")), [bar(0), order(SELL), bar(1)])
    charged = one.hear(bar(DAY))[-1]
    assert isinstance(charged, BorrowCharged)
    assert str(charged.rate) == "0.0002739727"


# ---- the path within a bar ---------------------------------------------------------------------------------------

PROFIT: dict[str, Any] = {"order_type": OrderType.LIMIT, "limit_price": "108", "reduce_only": True}
LOSS: dict[str, Any] = {"order_type": OrderType.STOP, "stop_price": "92", "reduce_only": True}
BRACKETED: list[BarClosed | OrderTerms] = [bar(0), order(), bar(1, high="101", low="99")]
"""Long one at a hundred."""


def exits(*configured: Event, last: BarClosed) -> list[Event]:
    items = [*BRACKETED, order(SELL, **PROFIT), order(SELL, **LOSS), last]
    return trade(setup(*configured), items).said[-2:]


@pytest.mark.parametrize("configured", [(), (costs(slippage_bps="0"),)])
def test_a_stop_and_a_profit_in_one_bar_mean_the_stop(configured: tuple[Event, ...]) -> None:
    """Although the take-profit was there first; with costs configured or without."""
    fill, canceled = exits(*configured, last=bar(2))
    assert isinstance(fill, OrderFilled)
    assert fill.price == 92
    assert isinstance(canceled, OrderCanceled)
    assert canceled.reason is CancelReason.REDUCE_ONLY


def test_the_adaptive_path_asks_which_extreme_was_nearer() -> None:
    """Nearer high: the profit; nearer low: the loss."""
    (fill, _), (other, _) = (
        exits(costs(**ADAPTIVE), last=bar(2, high="109", low="85")),
        exits(costs(**ADAPTIVE), last=bar(2, high="125", low="91")),
    )
    assert isinstance(fill, OrderFilled)
    assert isinstance(other, OrderFilled)
    assert (fill.price, other.price) == (108, 92)


def test_a_profit_alone_in_the_bar_is_taken() -> None:
    """The stop is not reached and stays, until it finds nothing to reduce."""
    items = [*BRACKETED, order(SELL, **PROFIT), order(SELL, **LOSS), bar(2, low="95")]
    one = trade(setup(), items)
    assert prices(one)[1:] == [(SELL, 108)]
    assert [type(event) for event in one.hear(bar(3))] == [OrderCanceled]


@pytest.mark.parametrize("configured", [(), (costs(slippage_bps="0"),)])
def test_an_entry_and_its_stop_in_one_bar_are_a_loss(configured: tuple[Event, ...]) -> None:
    """The stop finds nothing when its turn comes first; it waits for the entry instead of being lost."""
    entry = order(order_type=OrderType.LIMIT, limit_price="95")
    one = trade(setup(*configured), [bar(0), entry, order(SELL, **LOSS), order(SELL, **PROFIT), bar(1)])
    assert prices(one) == [(BUY, 95), (SELL, 92)]


def test_a_stop_does_not_wait_for_others_entries() -> None:
    """Another strategy's order opens nothing that it could close."""
    entry = order(order_type=OrderType.LIMIT, limit_price="95", strategy=BORIS)
    one = trade(setup(), [bar(0), entry, order(SELL, **LOSS), bar(1)])
    assert [type(event) for event in one.said[2:]] == [OrderCanceled, OrderFilled]


def test_a_day_order_expires_on_every_path() -> None:
    """Also if it had not arrived before its day was over."""
    day = order(order_type=OrderType.LIMIT, limit_price="80", time_in_force=TimeInForce.DAY)
    for configured in (costs(**ADAPTIVE), costs(latency_ms=1_000)):
        one = trade(setup(configured), [bar(0), day, bar(DAY)])
        assert isinstance(one.said[-1], OrderExpired)
