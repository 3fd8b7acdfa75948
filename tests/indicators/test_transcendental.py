"""Logarithm, exponential and arctangent are right to a few units in the last place, and exact where they can be."""

from __future__ import annotations

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapeline_strategy.indicators.transcendental import arctangent, exponential, logarithm

ULPS = 4.0


@given(st.floats(min_value=5e-324, max_value=1.7976931348623157e308))
@example(1.0000000000000002)
@example(0.9999999999999999)
@example(5e-324)
@settings(max_examples=500)
def test_logarithm_is_right(value: float) -> None:
    """For every positive number, those next to 1 and the smallest included."""
    assert abs(logarithm(value) - math.log(value)) <= ULPS * math.ulp(math.log(value))


def test_logarithm_at_the_edges() -> None:
    """ln 1 is 0; there is none of a negative number."""
    assert logarithm(1.0) == 0.0
    assert logarithm(0.0) == -math.inf
    assert logarithm(math.inf) == math.inf
    assert math.isnan(logarithm(-1.0))
    assert math.isnan(logarithm(math.nan))


@given(st.floats(min_value=-300.0, max_value=0.0))
@settings(max_examples=500)
def test_exponential_is_right(value: float) -> None:
    """Its error grows with the number of squarings, as it says."""
    expected = math.exp(value)
    assert abs(exponential(value) - expected) <= 2e-16 * (2.0 + 4.0 * abs(value)) * expected


@given(st.floats(min_value=-1e300, max_value=1e300))
@example(1.0)
@settings(max_examples=500)
def test_arctangent_is_right(value: float) -> None:
    """For slopes of any size; it is odd."""
    assert abs(arctangent(value) - math.atan(value)) <= ULPS * math.ulp(math.atan(value))
    assert arctangent(-value) == -arctangent(value)
