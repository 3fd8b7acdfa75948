"""The regime features: causal, the same live and in training, and deaf to prices that are not prices."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_regime.features import (
    DECAY,
    SEED_RETURNS,
    VARIANCE_FLOOR,
    WARM_UP_BARS,
    FeatureState,
    feature_rows,
)

PRICES = st.floats(min_value=1e-6, max_value=1e9)
NOT_PRICES = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -1.0, -0.0, 1e-310, 1e200])
CLOSES = st.lists(PRICES | PRICES | PRICES | NOT_PRICES, max_size=80)


def walk(bars: int, seed: int = 1) -> list[float]:
    """A plain random walk of prices, one per cent a bar."""
    generator = np.random.default_rng(seed)
    prices: list[float] = (100.0 * np.exp(np.cumsum(0.01 * generator.standard_normal(bars)))).tolist()
    return prices


def pushed(closes: list[float]) -> np.ndarray:
    """What ``push`` returns close by close, None as NaN."""
    state = FeatureState()
    answers = [state.push(close) for close in closes]
    return np.array([(math.nan, math.nan) if answer is None else answer for answer in answers]).reshape(-1, 2)


@settings(max_examples=150, deadline=None)
@given(CLOSES)
def test_a_whole_series_equals_bar_by_bar_to_the_last_bit(closes: list[float]) -> None:
    """Training and live see the same numbers, whatever prices and non-prices come."""
    np.testing.assert_array_equal(feature_rows(closes), pushed(closes))


def test_a_long_series_equals_bar_by_bar_to_the_last_bit() -> None:
    """The same beyond hypothesis's lengths, with gaps inside the warm-up and after it."""
    closes = walk(5_000)
    for place in (0, 3, SEED_RETURNS, 700, 701, 4_999):
        closes[place] = math.nan
    np.testing.assert_array_equal(feature_rows(closes), pushed(closes))


def test_the_numbers_are_the_documented_formula() -> None:
    """Against a plain, separately written computation: log return, and log of the weighted volatility."""
    closes = walk(60)
    returns = np.diff(np.log(closes))
    variance = np.mean(returns[:SEED_RETURNS] ** 2)
    expected = [(returns[SEED_RETURNS - 1], np.log(np.sqrt(variance)))]
    for value in returns[SEED_RETURNS:]:
        variance = DECAY * variance + (1 - DECAY) * value**2
        expected.append((value, np.log(np.sqrt(variance))))
    np.testing.assert_allclose(feature_rows(closes)[WARM_UP_BARS - 1 :], expected, rtol=0, atol=1e-12)


def test_the_first_observation_comes_with_the_last_warm_up_bar() -> None:
    """Twenty closes say nothing, the twenty-first speaks, and so does every later one."""
    spoke = ~np.isnan(pushed(walk(30))[:, 0])
    assert spoke.tolist() == [False] * (WARM_UP_BARS - 1) + [True] * (30 - WARM_UP_BARS + 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -0.0, -3.0, 5e-324, 1e308])
@pytest.mark.parametrize("after", [0, 1, SEED_RETURNS, 40])
def test_a_close_that_is_no_price_says_nothing_and_is_forgotten(bad: float, after: int) -> None:
    """It is answered with None and leaves the state as it was, at the start, in the warm-up and later."""
    state = FeatureState()
    for close in walk(after):
        state.push(close)
    before = msgspec.structs.replace(state)
    assert state.push(bad) is None
    assert state == before


def test_the_future_changes_no_earlier_feature() -> None:
    """Poisoning every close from a cut on leaves the rows before the cut bit-equal."""
    closes = walk(300)
    clean = feature_rows(closes)
    for cut in range(0, 300, 7):
        for poison in (1e9, 1e-9, math.nan):
            poisoned = feature_rows(closes[:cut] + [poison] * (300 - cut))
            np.testing.assert_array_equal(poisoned[:cut], clean[:cut])


def test_the_unit_of_the_price_does_not_matter() -> None:
    """A power of two scales exactly, so the features are bit-equal."""
    closes = walk(100)
    np.testing.assert_array_equal(feature_rows([close * 1024 for close in closes]), feature_rows(closes))


def test_a_dead_market_has_the_floor_volatility() -> None:
    """Equal closes give a finite observation, not minus infinity."""
    rows = feature_rows([7.0] * 50)
    np.testing.assert_array_equal(rows[WARM_UP_BARS - 1 :], [(0.0, 0.5 * math.log(VARIANCE_FLOOR))] * 30)


@pytest.mark.parametrize("cut", [0, 1, 10, SEED_RETURNS, WARM_UP_BARS, 60])
def test_a_stored_state_goes_on_as_if_never_stored(cut: int) -> None:
    """JSON there and back in mid-stream changes no later observation."""
    closes = walk(100)
    state = FeatureState()
    for close in closes[:cut]:
        state.push(close)
    restored = msgspec.json.decode(msgspec.json.encode(state), type=FeatureState)
    assert restored == state
    assert [restored.push(close) for close in closes[cut:]] == [state.push(close) for close in closes[cut:]]


def test_an_empty_series_has_no_rows() -> None:
    """Nothing in, nothing out, with the right shape."""
    assert feature_rows([]).shape == (0, 2)
