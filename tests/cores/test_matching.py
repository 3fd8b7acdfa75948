"""The fill rules, one bar at a time: each rule fills, refuses to fill, and errs on the worse side."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tapeline_common.events import BarClosed, OrderTerms
from tapeline_common.values import DecimalText, InstrumentId, Liquidity, OrderType, Side, StrategyId, TimeInForce
from tapeline_execution.matching import (
    Costs,
    Match,
    Prices,
    adverse_tick,
    allowance,
    is_triggered,
    match,
    prices_of,
    reducible,
    taker_price,
)

BUY, SELL = Side.BUY, Side.SELL
BAR = Prices(Decimal(100), Decimal(110), Decimal(90), Decimal(50))
FREE = Costs(Decimal(0), None)
DEAR = Costs(Decimal(100), Decimal("0.5"))
"""One percent of slippage on a grid of a half."""


def order(
    side: Side,
    kind: OrderType,
    *,
    limit: str | None = None,
    stop: str | None = None,
    tif: TimeInForce = TimeInForce.GTC,
) -> OrderTerms:
    return OrderTerms(
        StrategyId("atlas"), InstrumentId("BTC-USD"), side, Decimal(1), kind,
        None if limit is None else Decimal(limit), None if stop is None else Decimal(stop), tif,
    )  # fmt: skip


def taken(price: str, slippage: str = "0") -> Match:
    return Match(Decimal(price), Decimal(slippage), Liquidity.TAKER)


def made(price: str) -> Match:
    return Match(Decimal(price), Decimal(0), Liquidity.MAKER)


def first(terms: OrderTerms, costs: Costs = FREE, prices: Prices = BAR) -> Match | None:
    hit = is_triggered(terms, prices)
    return match(terms, prices, costs, first=True, triggered=hit, now=hit)


def later(terms: OrderTerms, costs: Costs = FREE, prices: Prices = BAR, *, triggered: bool = False) -> Match | None:
    return match(terms, prices, costs, first=False, triggered=triggered, now=False)


def test_a_bar_is_read_exactly() -> None:
    """Decimal text becomes the same decimals."""
    text = DecimalText
    bar = BarClosed(InstrumentId("X"), "1m", 0, 60, text("0.10"), text("0.30"), text("0.05"), text("0.2"), text("7"))
    assert prices_of(bar) == Prices(Decimal("0.10"), Decimal("0.30"), Decimal("0.05"), Decimal(7))


def test_a_taker_pays_slippage_and_then_the_next_tick_against_it() -> None:
    """Up for a buy, down for a sell; without a tick the product is exact; and a price is one text, however it came."""
    assert taker_price(Decimal("100.1"), BUY, DEAR) == Decimal("101.5")
    assert taker_price(Decimal("100.1"), SELL, DEAR) == Decimal("99.0")
    assert taker_price(Decimal("100.1"), BUY, Costs(Decimal("2.5"), None)) == Decimal("100.125025")
    assert str(taker_price(Decimal("100.10"), BUY, FREE)) == "100.1"
    assert str(taker_price(Decimal("100.5"), SELL, Costs(Decimal(0), Decimal("0.25")))) == "100.5"
    assert (adverse_tick(Decimal("1.3"), BUY, Decimal(1)), adverse_tick(Decimal("1.7"), SELL, Decimal(1))) == (
        Decimal(2),
        Decimal(1),
    )


@pytest.mark.parametrize(("side", "price"), [(BUY, "101.0"), (SELL, "99.0")])
def test_a_market_order_takes_the_open(side: Side, price: str) -> None:
    """At the open, slipped; in a later bar (what a cap left over) at that bar's open."""
    terms = order(side, OrderType.MARKET)
    assert first(terms) == later(terms) == taken("100")
    assert first(terms, DEAR) == taken(price, "1")


@pytest.mark.parametrize(
    ("side", "touch", "through", "far"), [(BUY, "90", "90.5", "89"), (SELL, "110", "109.5", "111")]
)
def test_a_touched_limit_is_not_filled_and_one_traded_through_is(
    side: Side, touch: str, through: str, far: str
) -> None:
    """A resting limit fills at its own price as maker, without slippage, and only when passed."""
    assert first(order(side, OrderType.LIMIT, limit=far)) is None
    assert first(order(side, OrderType.LIMIT, limit=touch)) is None
    assert first(order(side, OrderType.LIMIT, limit=through), DEAR) == made(through)
    assert later(order(side, OrderType.LIMIT, limit=through), DEAR) == made(through)


@pytest.mark.parametrize(
    ("side", "limit", "slipped", "slippage"), [(BUY, "105", "101.0", "1"), (SELL, "95", "99.0", "1")]
)
def test_a_limit_marketable_on_arrival_takes_the_open(side: Side, limit: str, slipped: str, slippage: str) -> None:
    """First bar beyond the limit: the open as taker. A later bar like it: the limit as maker, no improvement."""
    terms = order(side, OrderType.LIMIT, limit=limit)
    assert first(terms) == taken("100")
    assert first(terms, DEAR) == taken(slipped, slippage)
    assert later(terms, DEAR) == made(limit)


@pytest.mark.parametrize(("side", "limit"), [(BUY, "100.5"), (SELL, "99.5")])
def test_slippage_never_passes_the_limit(side: Side, limit: str) -> None:
    """One percent would be worse than the limit: the limit is the price."""
    assert first(order(side, OrderType.LIMIT, limit=limit), DEAR) == taken(limit, "0.5")


@pytest.mark.parametrize(("side", "limit", "nearest"), [(BUY, "120", "110"), (SELL, "80", "90")])
def test_a_gap_beyond_a_resting_limit_gives_the_nearest_price_traded(side: Side, limit: str, nearest: str) -> None:
    """The whole bar lies beyond the limit: nothing traded at it, so the bar's worst price for us is taken."""
    assert later(order(side, OrderType.LIMIT, limit=limit)) == made(nearest)


@pytest.mark.parametrize(("side", "far", "touch", "gapped"), [(BUY, "111", "110", "98"), (SELL, "89", "90", "102")])
def test_a_stop_goes_off_at_a_touch_at_the_worse_of_stop_and_open(
    side: Side, far: str, touch: str, gapped: str
) -> None:
    """Not reached: nothing. Touched: the stop. Passed by the open: the open. Always as taker, slipped."""
    assert first(order(side, OrderType.STOP, stop=far)) is None
    assert first(order(side, OrderType.STOP, stop=touch)) == taken(touch)
    assert first(order(side, OrderType.STOP, stop=gapped)) == taken("100")
    assert first(order(side, OrderType.STOP, stop=gapped), DEAR) == taken("101" if side is BUY else "99", "1")


def test_what_is_left_of_a_triggered_stop_is_a_market_order() -> None:
    """In later bars it takes the open, wherever the stop was."""
    assert later(order(BUY, OrderType.STOP, stop="110"), triggered=True) == taken("100")


@pytest.mark.parametrize(
    ("side", "stop", "limit", "expected"),
    [
        (BUY, "111", "120", None),
        (BUY, "105", "107", taken("107", "2")),
        (BUY, "105", "120", taken("110", "5")),
        (BUY, "105", "105", None),
        (BUY, "105", "95", None),
        (BUY, "99", "95", made("95")),
        (BUY, "99", "90", None),
        (SELL, "89", "80", None),
        (SELL, "95", "93", taken("93", "2")),
        (SELL, "95", "80", taken("90", "5")),
        (SELL, "95", "95", None),
        (SELL, "95", "105", None),
        (SELL, "101", "105", made("105")),
        (SELL, "101", "110", None),
    ],
)
def test_a_stop_limit_in_its_trigger_bar(side: Side, stop: str, limit: str, expected: Match | None) -> None:
    """Worst case within the bar: limit or extreme as taker; a limit already passed waits unless the open triggered."""
    assert first(order(side, OrderType.STOP_LIMIT, stop=stop, limit=limit)) == expected


def test_a_triggered_stop_limit_rests_like_a_limit() -> None:
    """Before the trigger nothing, after it a maker fill when traded through."""
    terms = order(BUY, OrderType.STOP_LIMIT, stop="120", limit="95")
    assert later(terms) is None
    assert later(terms, triggered=True) == made("95")


@pytest.mark.parametrize("tif", [TimeInForce.IOC, TimeInForce.FOK])
def test_immediate_orders_take_the_first_open_or_nothing(tif: TimeInForce) -> None:
    """What the rest of the bar would have given does not count, nor does any later bar."""
    assert first(order(BUY, OrderType.MARKET, tif=tif)) == taken("100")
    assert first(order(BUY, OrderType.LIMIT, limit="101", tif=tif)) == taken("100")
    assert first(order(BUY, OrderType.LIMIT, limit="100", tif=tif)) is None
    assert first(order(BUY, OrderType.LIMIT, limit="95", tif=tif)) is None
    assert first(order(BUY, OrderType.STOP, stop="105", tif=tif)) is None
    assert first(order(BUY, OrderType.STOP, stop="100", tif=tif)) == taken("100")
    assert first(order(BUY, OrderType.STOP_LIMIT, stop="99", limit="101", tif=tif)) == taken("100")
    assert later(order(BUY, OrderType.MARKET, tif=tif)) is None


def test_the_allowance_is_a_share_of_the_volume_in_whole_lots() -> None:
    """Rounded down to the lot; exact without one; no cap is no number."""
    assert allowance(Decimal("0.1"), Decimal(57), Decimal(2)) == Decimal(4)
    assert allowance(Decimal("0.1"), Decimal(57), None) == Decimal("5.7")
    assert allowance(None, Decimal(57), Decimal(2)) is None


def test_only_the_other_side_of_a_position_reduces_it() -> None:
    """A sell closes a long, a buy a short, and nothing closes nothing."""
    assert (reducible(SELL, Decimal(3)), reducible(BUY, Decimal(-2))) == (Decimal(3), Decimal(2))
    for side, position in ((BUY, 3), (SELL, -2), (BUY, 0)):
        assert reducible(side, Decimal(position)) == 0
