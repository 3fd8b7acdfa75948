"""Amounts have one text each: the fast way of finding it equals the plain definition."""

from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapeline_common.money import plain

DIGITS = 60

amounts = st.builds(
    lambda sign, digits, exponent: Decimal((sign, tuple(map(int, str(digits))), exponent)),
    st.sampled_from((0, 1)),
    st.integers(0, 10 ** (DIGITS // 2)),
    st.integers(-90, DIGITS // 2 - 1),
)


def plain_naive(value: Decimal) -> Decimal:
    """The definition: no trailing zeros, and where that leaves a positive exponent, the zeros written out."""
    value = value.normalize()
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return value.quantize(Decimal(1)) if exponent > 0 else value


@settings(deadline=None, max_examples=1000)
@given(amounts)
@example(Decimal("-0"))
@example(Decimal("0E+5"))
@example(Decimal("-0E-7"))
@example(Decimal("1E+3"))
@example(Decimal("1E-7"))
@example(Decimal("10E-8"))
@example(Decimal("1E+59"))
def test_plain_equals_its_definition(value: Decimal) -> None:
    """Same number, same sign of zero, same exponent and so the same text."""
    assert plain(value).as_tuple() == plain_naive(value).as_tuple()


@given(st.one_of(amounts, st.decimals(allow_nan=False, allow_infinity=False, places=8)))
def test_plain_is_one_text_per_number(value: Decimal) -> None:
    """The number is unchanged, its text has no positive exponent, and doing it again does nothing."""
    once = plain(value)
    assert once == value
    assert "E+" not in str(once)
    assert str(plain(once)) == str(once)
    assert str(plain(value * Decimal("1.000"))) == str(once)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_refused(word: str) -> None:
    """No amount is infinite or missing: it must not reach the tape as a text."""
    with pytest.raises(ValueError, match="no amount"):
        plain(Decimal(word))
