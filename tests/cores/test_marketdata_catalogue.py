"""Instruments: tokens that fit a bus subject, names resolved once, rounding that is exact."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_marketdata.catalogue import (
    AmbiguousInstrument,
    Catalogue,
    Instrument,
    Rounding,
    UnknownInstrument,
    round_to_lot,
    round_to_tick,
    token_for,
)


def instrument(name: str, venue: str = "sim", **changes: Any) -> Instrument:
    base, _, quote = name.partition("/")
    values = {"token": token_for(venue, name), "name": name, "venue": venue, "base": base, "quote": quote, **changes}
    return Instrument(**values)


BITCOIN = instrument("BTC/USDT", tick_size=Decimal("0.01"), lot_size=Decimal("0.00001"))
ETHER = instrument("ETH/USDT")
BITCOIN_AT_KRAKEN = instrument("BTC/USDT", venue="kraken")
CATALOGUE = Catalogue([BITCOIN, ETHER, BITCOIN_AT_KRAKEN])


@pytest.mark.parametrize(
    ("venue", "name", "token"),
    [
        ("sim", "BTC/USDT", "BTC-USDT_sim"),
        ("binance", "BTC/USDT:USDT", "BTC-USDT-USDT_binance"),
        ("file", "AAPL", "AAPL_file"),
        ("my.venue", "a b>*c", "a-b--c_my-venue"),
    ],
)
def test_a_token_is_readable_and_subject_safe(venue: str, name: str, token: str) -> None:
    """Letters and digits stay, everything else becomes a dash."""
    assert token_for(venue, name) == token


@given(st.text(max_size=20).map("A".__add__), st.text(max_size=20).map("v".__add__))
def test_every_token_fits_one_subject_word(name: str, venue: str) -> None:
    """No dot, space, star or angle can reach a subject, whatever a venue calls its instruments."""
    token = token_for(venue, name)
    assert token.isascii()
    assert all(sign.isalnum() or sign in "-_" for sign in token)


@pytest.mark.parametrize(("venue", "name"), [("", "BTC"), ("sim", ""), ("sim", "//"), ("_", "BTC")])
def test_a_token_of_nothing_is_refused(venue: str, name: str) -> None:
    """An empty name would give every such instrument the same token."""
    with pytest.raises(ValueError, match="cannot make a token"):
        token_for(venue, name)


def test_names_resolve_to_instruments() -> None:
    """By name, by name and venue, and by token."""
    assert CATALOGUE.resolve("ETH/USDT") == ETHER
    assert CATALOGUE.resolve("BTC/USDT", venue="kraken") == BITCOIN_AT_KRAKEN
    assert CATALOGUE.resolve("BTC-USDT_sim") == BITCOIN
    assert CATALOGUE.by_token("BTC-USDT_sim") == BITCOIN
    assert CATALOGUE.instruments() == (BITCOIN, ETHER, BITCOIN_AT_KRAKEN)


def test_an_unknown_name_lists_near_ones() -> None:
    """A typing mistake is answered with what was probably meant."""
    with pytest.raises(UnknownInstrument, match=r"unknown instrument 'eth/usd'.*ETH/USDT"):
        CATALOGUE.resolve("eth/usd")


def test_an_unknown_name_like_nothing_lists_what_there_is() -> None:
    """Nothing similar: the answer shows what the catalogue holds instead of guessing."""
    with pytest.raises(UnknownInstrument, match="the catalogue lists BTC/USDT, ETH/USDT"):
        CATALOGUE.resolve("qqqqqqqqqq")


def test_an_empty_catalogue_says_so() -> None:
    """No instruments at all is not a crash."""
    with pytest.raises(UnknownInstrument, match="the catalogue lists none"):
        Catalogue([]).resolve("BTC/USDT")


def test_a_name_at_two_venues_is_not_guessed() -> None:
    """The message names the venues to choose from."""
    with pytest.raises(AmbiguousInstrument, match="kraken, sim"):
        CATALOGUE.resolve("BTC/USDT")


def test_a_name_at_another_venue_is_unknown_there() -> None:
    """ETH/USDT exists, but not at kraken."""
    with pytest.raises(UnknownInstrument, match="at venue 'kraken'"):
        CATALOGUE.resolve("ETH/USDT", venue="kraken")


def test_two_instruments_cannot_share_a_token() -> None:
    """A/B and A-B would meet on the bus: the second is refused, both are named."""
    with pytest.raises(ValueError, match=r"'A/B'.*'A-B'"):
        Catalogue([instrument("A/B"), instrument("A-B")])


def test_an_instrument_cannot_be_listed_twice() -> None:
    """The same name at the same venue under two tokens would make two books of one market."""
    with pytest.raises(ValueError, match="listed twice"):
        Catalogue([BITCOIN, instrument("BTC/USDT", token="other")])


@pytest.mark.parametrize(
    "changes",
    [
        {"token": "BTC.USDT"},
        {"token": ""},
        {"tick_size": Decimal(0)},
        {"lot_size": Decimal("-1")},
        {"tick_size": Decimal("NaN")},
        {"min_notional": Decimal(-5)},
        {"taker_fee": Decimal("Infinity")},
    ],
)
def test_an_impossible_instrument_is_refused_by_name(changes: dict[str, Any]) -> None:
    """The message names the instrument, so that one line of a long file is found."""
    with pytest.raises(ValueError, match="BTC/USDT"):
        instrument("BTC/USDT", **changes)


def test_a_rebate_is_a_fee_below_zero() -> None:
    """Some venues pay makers."""
    assert instrument("BTC/USDT", maker_fee=Decimal("-0.0001")).maker_fee == Decimal("-0.0001")


@pytest.mark.parametrize(
    ("price", "rounding", "rounded"),
    [
        ("100.014", Rounding.NEAREST, "100.01"),
        ("100.016", Rounding.NEAREST, "100.02"),
        ("100.015", Rounding.NEAREST, "100.02"),
        ("100.025", Rounding.NEAREST, "100.02"),
        ("100.019", Rounding.DOWN, "100.01"),
        ("100.011", Rounding.UP, "100.02"),
        ("-100.011", Rounding.UP, "-100.01"),
        ("-100.011", Rounding.DOWN, "-100.02"),
        ("-100.019", Rounding.TOWARDS_ZERO, "-100.01"),
        ("100.01", Rounding.UP, "100.01"),
    ],
)
def test_prices_round_to_the_tick(price: str, rounding: Rounding, rounded: str) -> None:
    """Each mode takes its neighbour; halves go to the even one; a price on the tick stays."""
    assert round_to_tick(Decimal(price), Decimal("0.01"), rounding) == Decimal(rounded)


def test_a_tick_need_not_be_a_power_of_ten() -> None:
    """Quarter points and steps of 2.5 are real ticks."""
    assert round_to_tick(Decimal("4321.37"), Decimal("0.25")) == Decimal("4321.25")
    assert round_to_tick(Decimal("7"), Decimal("2.5")) == Decimal("7.5")


def test_a_quantity_never_grows_by_rounding() -> None:
    """Lots round towards zero, for buys and sells."""
    assert round_to_lot(Decimal("1.999999"), Decimal("0.001")) == Decimal("1.999")
    assert round_to_lot(Decimal("-1.999999"), Decimal("0.001")) == Decimal("-1.999")


def test_an_instrument_without_tick_or_lot_changes_nothing() -> None:
    """Prices of files are taken as they are."""
    odd = Decimal("13752.18233851")
    assert (ETHER.round_price(odd), ETHER.round_quantity(odd)) == (odd, odd)
    assert (BITCOIN.round_price(odd), BITCOIN.round_quantity(odd)) == (Decimal("13752.18"), Decimal("13752.18233"))


@pytest.mark.parametrize(("value", "step"), [("1", "0"), ("1", "-0.1"), ("NaN", "0.1"), ("Infinity", "0.1")])
def test_rounding_nonsense_is_refused(value: str, step: str) -> None:
    """No number comes out of no number."""
    with pytest.raises(ValueError, match=r"step is|not finite"):
        round_to_tick(Decimal(value), Decimal(step))


steps = st.decimals(min_value="0.00000001", max_value="1000", places=8)
values = st.decimals(min_value="-1000000000", max_value="1000000000", places=10)


@given(values, steps, st.sampled_from(Rounding))
def test_rounding_is_exact(value: Decimal, step: Decimal, rounding: Rounding) -> None:
    """The result is a whole multiple of the step, less than one step away, on the side that was asked for."""
    rounded = round_to_tick(value, step, rounding)
    assert rounded % step == 0
    assert abs(rounded - value) < step
    if rounding is Rounding.DOWN:
        assert rounded <= value
    if rounding is Rounding.UP:
        assert rounded >= value
    if rounding is Rounding.TOWARDS_ZERO:
        assert abs(rounded) <= abs(value)
    if rounding is Rounding.NEAREST:
        assert 2 * abs(rounded - value) <= step
