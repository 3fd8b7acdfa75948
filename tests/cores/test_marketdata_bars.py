"""Number text and timeframes: the small exact rules that every source shares."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_marketdata.bars import PLAIN_DECIMAL, decimal_text, plain_decimal
from tapeline_marketdata.timeframe import (
    SECOND_NS,
    UnknownTimeframe,
    floor_to_grid,
    format_timeframe,
    parse_timeframe,
)

finite = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (100.0, "100"),
        (0.1, "0.1"),
        (1e-07, "0.0000001"),
        (1.5e-05, "0.000015"),
        (1e22, "10000000000000000000000"),
        (42000.01, "42000.01"),
        (-0.5, "-0.5"),
        (0.0, "0"),
        (-0.0, "0"),
    ],
)
def test_decimal_text_is_short_and_has_no_exponent(number: float, text: str) -> None:
    """The text is what a person would write."""
    assert decimal_text(number) == text


@given(finite)
def test_decimal_text_reads_back_as_the_same_float(number: float) -> None:
    """Nothing is lost, for any finite float, and the text is a plain decimal."""
    text = decimal_text(number)
    assert float(text) == number
    assert PLAIN_DECIMAL.fullmatch(text)
    assert not ("." in text and text.endswith("0"))


def test_decimal_text_leaves_what_is_no_number_to_the_checker() -> None:
    """NaN and infinities keep a name that no check accepts."""
    assert [decimal_text(number) for number in (math.nan, math.inf, -math.inf)] == ["NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize("text", ["0.00001000", "100", "-1.50", "0"])
def test_plain_decimal_keeps_what_was_printed(text: str) -> None:
    """Plain text stays to the last zero."""
    assert plain_decimal(text) == text


@pytest.mark.parametrize(
    ("text", "plain"), [("1e-7", "0.0000001"), ("1.50E+2", "150"), (".5", "0.5"), ("+3", "3"), ("5.", "5")]
)
def test_plain_decimal_writes_other_forms_plainly(text: str, plain: str) -> None:
    """The value stays, the form becomes plain."""
    assert plain_decimal(text) == plain
    assert Decimal(plain) == Decimal(text)


@pytest.mark.parametrize("text", ["", "abc", "1,000.5", "1_000", "NaN", "٣", "1e999999999", "0x10"])
def test_plain_decimal_does_not_guess(text: str) -> None:
    """What is no plain number stays as it is, to be refused with its own text."""
    assert plain_decimal(text) == text
    assert not PLAIN_DECIMAL.fullmatch(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1), ("1m", 60), ("5m", 300), ("1h", 3600), ("4h", 14400), ("1d", 86400), ("1w", 604800)],
)
def test_a_timeframe_is_read_and_written_back(text: str, seconds: int) -> None:
    """Parsing and formatting are inverse for every usual timeframe."""
    assert parse_timeframe(text) == seconds * SECOND_NS
    assert format_timeframe(seconds * SECOND_NS) == text


@pytest.mark.parametrize("text", ["", "m", "0m", "-1m", "1.5h", "1 m", "1M", "1x", "m1", "5min", "1m\n", "٣m"])
def test_an_unknown_timeframe_is_refused_by_name(text: str) -> None:
    """The message shows the text and how to write one."""
    with pytest.raises(UnknownTimeframe) as error:
        parse_timeframe(text)
    assert repr(text) in str(error.value)
    assert "5m" in str(error.value)


def test_lengths_take_the_largest_unit_that_divides() -> None:
    """90 s is not 1.5m, and 60m is 1h."""
    assert [format_timeframe(seconds * SECOND_NS) for seconds in (90, 3600, 86400)] == ["90s", "1h", "1d"]


@pytest.mark.parametrize("length_ns", [0, -60 * SECOND_NS, 1, SECOND_NS + 1])
def test_a_length_that_is_no_timeframe_is_refused(length_ns: int) -> None:
    """No name is made up for lengths without one."""
    with pytest.raises(UnknownTimeframe, match=str(length_ns)):
        format_timeframe(length_ns)


@given(st.integers(min_value=0, max_value=2**62), st.sampled_from(["1s", "1m", "5m", "4h", "1d", "1w", "2w"]))
def test_every_moment_is_in_exactly_one_bar(time_ns: int, timeframe: str) -> None:
    """open <= moment < open + timeframe, and weeks open on a Monday."""
    length_ns = parse_timeframe(timeframe)
    open_ns = floor_to_grid(time_ns, length_ns)
    assert open_ns <= time_ns < open_ns + length_ns
    if timeframe == "1w":
        assert (open_ns // (86400 * SECOND_NS) + 3) % 7 == 0  # the epoch was a Thursday, day 3 of the week
