"""PBO: the fast way equals the written-out one, and it tells a search with something in it from one without."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_lab.validity import Overfitting, SeriesInvalid, backtest_overfitting
from tapeline_lab.validity.overfitting import backtest_overfitting_naive


def same(one: Overfitting, other: Overfitting) -> None:
    """Equal figure by figure; ratios to what sums of squares leave of sixteen digits."""
    assert one.probability == other.probability
    assert one.probability_loss == other.probability_loss
    assert np.array_equal(one.chosen, other.chosen)
    assert np.array_equal(one.logits, other.logits)
    assert np.allclose(one.inside, other.inside, rtol=1e-9, atol=1e-12)
    assert np.allclose(one.outside, other.outside, rtol=1e-9, atol=1e-12)
    assert one.slope == pytest.approx(other.slope, rel=1e-7, abs=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(8, 90), st.integers(2, 7), st.sampled_from([2, 4, 6]))
def test_block_sums_equal_the_splits_written_out(seed: int, days: int, trials: int, splits: int) -> None:
    """Any matrix, blocks of unequal length included."""
    matrix = 0.01 * np.random.RandomState(seed).standard_normal((max(days, 2 * splits), trials))
    same(backtest_overfitting(matrix, splits), backtest_overfitting_naive(matrix, splits))


def test_trials_that_did_not_trade_in_some_blocks() -> None:
    """Flat stretches give no ratio in either way, and no division by zero."""
    matrix = 0.01 * np.random.RandomState(2).standard_normal((80, 4))
    matrix[:60, 1] = 0.0
    matrix[:, 2] = 0.0
    matrix[:, 3] = 0.001
    same(backtest_overfitting(matrix, 8), backtest_overfitting_naive(matrix, 8))


def test_every_half_is_taken_once() -> None:
    """Sixteen blocks have 12,870 halves."""
    matrix = 0.01 * np.random.RandomState(3).standard_normal((750, 50))
    assert len(backtest_overfitting(matrix).logits) == 12_870


def test_all_trials_alike_rank_in_the_middle() -> None:
    """Copies are neither above nor below each other: the logit is zero, which counts as not better than the median."""
    copies = np.repeat(0.01 * np.random.RandomState(4).standard_normal((64, 1)), 5, axis=1)
    found = backtest_overfitting(copies, 4)
    assert np.allclose(found.logits, 0.0, atol=1e-12)
    assert found.probability == 1.0


def test_a_search_with_one_real_trial_picks_it() -> None:
    """It acts: the choice stays first outside, and does not lose."""
    matrix = 0.01 * np.random.RandomState(5).standard_normal((750, 20))
    matrix[:, 7] += 0.004
    found = backtest_overfitting(matrix)
    assert found.probability == 0.0
    assert found.probability_loss == 0.0
    assert set(found.chosen.tolist()) == {7}


def test_a_search_that_picks_what_reverts_is_overfitting() -> None:
    """Mutant: trials whose second half takes back what the first gave. Inside best is outside worst."""
    drift = np.linspace(-0.01, 0.01, 10)
    matrix = 0.001 * np.random.RandomState(6).standard_normal((400, 10))
    matrix[:200] += drift
    matrix[200:] -= drift
    found = backtest_overfitting(matrix, 2)
    assert found.probability == 1.0
    assert found.slope < 0.0 or found.probability_loss == 1.0


@pytest.mark.parametrize(
    ("shape", "splits", "said"),
    [
        ((100, 5), 7, "even number from 2 to 20"),
        ((100, 5), 22, "even number from 2 to 20"),
        ((20, 5), 16, "at least 32 and 2"),
        ((100, 1), 4, "at least 8 and 2"),
    ],
)
def test_what_cannot_be_split_is_refused(shape: tuple[int, int], splits: int, said: str) -> None:
    """One message says what is needed."""
    with pytest.raises(SeriesInvalid, match=said):
        backtest_overfitting(np.ones(shape), splits)


def test_a_matrix_in_parts_is_the_same() -> None:
    """Many trials are worked on in parts of the halves."""
    from tapeline_lab.validity import overfitting

    matrix = 0.01 * np.random.RandomState(8).standard_normal((64, 6))
    whole = backtest_overfitting(matrix, 8)
    cells, overfitting.CELLS = overfitting.CELLS, 60
    try:
        same(backtest_overfitting(matrix, 8), whole)
    finally:
        overfitting.CELLS = cells
