"""Costs as arithmetic: rounding, fee tiers, what each slippage model adds, and the limit that keeps it off."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_common.events import BarClosed, FeeTier, FillCosts, InstrumentCosts
from tapeline_common.values import DecimalText, InstrumentId, Side
from tapeline_execution.costs import (
    Charged,
    Recent,
    Taking,
    Turnover,
    adverse_price,
    charge,
    cost_up,
    quotient_up,
    root_up,
    tier_at,
)

ZERO, ONE = Decimal(0), Decimal(1)
BUY, SELL = Side.BUY, Side.SELL


def bar(close: str, volume: str = "100", *, open_: str = "100") -> BarClosed:
    text = DecimalText
    return BarClosed(
        InstrumentId("X"), "1m", 0, 60, text(open_), text("500"), text("1"), text(close), text(volume)
    )  # fmt: skip


def taking(side: Side = BUY, *, taken: str = "10", limit: str | None = None, volume: str = "100") -> Taking:
    most = None if limit is None else Decimal(limit)
    return Taking(side, most, Decimal(100), ZERO, ZERO, Decimal(taken), Decimal(volume))


def parts(**named: str) -> FillCosts:
    return FillCosts(*(Decimal(named.get(name, "0")) for name in FillCosts.__struct_fields__))


# ---- rounding ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**30), st.integers(1, 10**30))
def test_quotients_are_rounded_up_to_twelve_digits(numerator: int, denominator: int) -> None:
    """Never below the true quotient, above it by less than a unit of the twelfth digit, and exact where that fits."""
    found = quotient_up(Decimal(numerator), Decimal(denominator))
    assert len(found.as_tuple().digits) <= 12
    error = found * denominator - numerator
    assert 0 <= error < Decimal(1).scaleb(found.adjusted() - 11) * denominator


@given(st.integers(0, 10**30), st.integers(-30, 5))
def test_roots_are_the_least_of_twelve_digits_whose_square_is_enough(digits: int, exponent: int) -> None:
    """One unit of the twelfth digit less would be too little."""
    value = Decimal(digits).scaleb(exponent)
    found = root_up(value)
    assert found * found >= value
    if value:
        less = found - Decimal(1).scaleb(found.adjusted() - 11)
        assert less * less < value


@given(st.integers(0, 10**30), st.integers(-40, 5))
def test_costs_are_rounded_up_and_stay_short(digits: int, exponent: int) -> None:
    """Never below what they are, at most twelve digits and eighteen decimals."""
    value = Decimal(digits).scaleb(exponent)
    found = cost_up(value)
    assert 0 <= found - value < max(Decimal("1e-18"), Decimal(1).scaleb(value.adjusted() - 10))
    sign, shown, places = found.as_tuple()
    assert isinstance(places, int)
    assert (sign, places >= -18) == (0, True)
    assert len(shown) <= 12 or places == 0


@pytest.mark.parametrize(("side", "price"), [(BUY, "1.23456789013"), (SELL, "1.23456789012")])
def test_prices_without_a_grid_have_twelve_digits(side: Side, price: str) -> None:
    """Against the side; shorter ones are left alone; with a grid it is the grid's."""
    assert adverse_price(Decimal("1.2345678901234"), side, None) == Decimal(price)
    assert str(adverse_price(Decimal("101.50"), side, None)) == "101.5"
    assert adverse_price(Decimal("1.3"), side, ONE) == (2 if side is BUY else 1)


def test_known_quotients_and_roots() -> None:
    """Written out, for whoever implements them again."""
    assert str(quotient_up(ONE, Decimal(3))) == "0.333333333334"
    assert str(quotient_up(-ONE, Decimal(3))) == "-0.333333333334"
    assert str(root_up(Decimal(2))) == "1.41421356238"
    assert root_up(Decimal("0.0004")) == Decimal("0.02")
    assert root_up(Decimal(10) ** 24 - 1) == Decimal(10) ** 12


# ---- fee tiers ---------------------------------------------------------------------------------------------------

TIERS = (
    FeeTier(ZERO, Decimal("0.001"), Decimal("0.002")),
    FeeTier(Decimal(1000), Decimal("-0.0001"), Decimal("0.001")),
)


def test_the_highest_tier_reached_holds() -> None:
    """Exactly at its notional a tier is reached; below the first there is none."""
    assert tier_at(TIERS, Decimal(999)) is TIERS[0]
    assert tier_at(TIERS, Decimal(1000)) is TIERS[1]
    assert tier_at(TIERS[1:], Decimal(999)) is None
    assert tier_at((), ONE) is None


def test_turnover_is_of_the_thirty_days_before() -> None:
    """The day itself does not count, the thirty-first day before it no longer does and is forgotten."""
    turnover = Turnover()
    for day, notional in ((0, 1), (1, 10), (30, 100), (31, 1000)):
        turnover.add(day, Decimal(notional))
    assert turnover.before(31) == 110
    assert turnover.before(32) == 1100
    assert turnover.before(1) == 0
    assert list(turnover.by_day) == [1, 30, 31]


# ---- what takers pay ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "name", "expected"),
    [
        (InstrumentCosts(slippage_bps=Decimal(5)), "fixed", "0.05"),
        (InstrumentCosts(half_spread_bps=Decimal(2)), "spread", "0.02"),
        (InstrumentCosts(half_spread_ticks=Decimal(3)), "spread", "0.03"),
        (InstrumentCosts(volume_impact=Decimal("0.1")), "volume", "0.1"),
    ],
)
def test_each_cost_moves_the_price_by_itself(costs: InstrumentCosts, name: str, expected: str) -> None:
    """On a hundred: adverse on both sides, named, and nothing else is."""
    for side in Side:
        found = charge(costs, Decimal("0.01"), None, taking(side))
        assert found == Charged(100 + side.sign * Decimal(expected), Decimal(expected), parts(**{name: expected}))


def test_costs_add_up_and_the_tick_is_named() -> None:
    """Two and a half parts on a grid of one: the rest to the next tick is said as such."""
    costs = InstrumentCosts(slippage_bps=Decimal(5), half_spread_bps=Decimal(2))
    found = charge(costs, ONE, None, taking())
    assert found == Charged(Decimal(101), ONE, parts(fixed="0.05", spread="0.02", grid="0.93"))


def test_no_cost_passes_the_limit_and_no_sale_goes_below_nothing() -> None:
    """What the limit kept off is named below zero; a sale into nothing gets nothing."""
    dear = InstrumentCosts(slippage_bps=Decimal(100))
    assert charge(dear, None, None, taking(limit="100.4")) == Charged(
        Decimal("100.4"), Decimal("0.4"), parts(fixed="1", grid="-0.6")
    )
    ruin = InstrumentCosts(slippage_bps=Decimal(20_000))
    assert charge(ruin, None, None, taking(SELL)) == Charged(ZERO, Decimal(100), parts(fixed="200", grid="-100"))


def test_without_costs_the_reference_is_the_price() -> None:
    """Nothing moves; a slippage that came with the order is kept."""
    assert charge(InstrumentCosts(), None, None, taking()) == Charged(Decimal(100), ZERO, parts())
    late = Taking(BUY, None, Decimal(103), Decimal(2), ONE, ONE, ONE)
    assert charge(InstrumentCosts(), None, None, late) == Charged(
        Decimal(103), Decimal(3), parts(latency="2", path="1")
    )


def test_the_whole_bar_is_the_share_where_there_is_no_volume() -> None:
    """Nothing traded: we are all of it. Otherwise the share is squared."""
    costs = InstrumentCosts(volume_impact=Decimal("0.1"))
    assert charge(costs, None, None, taking(volume="0")).slippage == 10
    assert charge(costs, None, None, taking(taken="20")).slippage == Decimal("0.4")


# ---- the square-root law -----------------------------------------------------------------------------------------


def measured(*bars: BarClosed, window: int = 10) -> Recent:
    recent = Recent(window)
    for each in bars:
        recent.take(each)
    return recent


def test_the_latest_bar_never_counts() -> None:
    """It may be the one that fills: nothing of it was known when the order was sent."""
    assert measured(bar("110")).root(ONE) == 0
    assert measured(bar("110"), bar("500", "0")).root(ONE) == Decimal("0.01")


def test_the_law_over_two_bars() -> None:
    """A tenth up from the open, then unchanged: sum of squares 0.01 over a volume of 400, times a quantity of 4."""
    recent = measured(bar("110", "300"), bar("110", "100"), bar("1"))
    assert recent.root(Decimal(4)) == Decimal("0.01")
    costs = InstrumentCosts(root_impact=Decimal(2))
    assert charge(costs, None, recent, taking(taken="4")) == Charged(Decimal(102), Decimal(2), parts(root="2"))


def test_old_bars_leave_the_window() -> None:
    """As if they had never been, except for the close that the next return is measured from."""
    long = measured(bar("130", "7"), bar("100", "9"), bar("110", "300"), bar("110", "100"), bar("1"), window=2)
    assert (long.squares, long.volume) == (Decimal("0.01"), 400)


def test_a_window_without_volume_counts_the_quantity_as_all_of_it() -> None:
    """No division by nothing: the volatility of a bar itself."""
    assert measured(bar("120", "0"), bar("120", "0"), bar("1")).root(Decimal(7)) == root_up(Decimal("0.02"))


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(101, 400))
def test_twice_the_size_costs_the_root_of_two_per_unit(size: int, volume: int, close: int) -> None:
    """To the twelfth digit."""
    recent = measured(bar(str(close), str(volume)), bar("1"))
    costs = InstrumentCosts(root_impact=ONE)
    once = charge(costs, None, recent, taking(taken=str(size))).costs.root
    twice = charge(costs, None, recent, taking(taken=str(2 * size))).costs.root
    assert abs(twice / once - Decimal(2).sqrt()) < Decimal("1e-10")
