"""Properties of the Sharpe ratio's statistics, and what they refuse."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_lab.validity import (
    Correction,
    Counting,
    Moments,
    SeriesInvalid,
    deflated,
    deflated_sharpe,
    effective_trials,
    expected_maximum,
    haircut,
    minimum_track_record,
    moments,
    probabilistic_sharpe,
    probability_above,
    sharpe_ratio,
    sharpe_ratios,
    track_record,
)

CHANCE = np.random.RandomState(11)
DAYS = 0.01 * CHANCE.standard_normal(500) + 0.0005
GRID = 0.01 * CHANCE.standard_normal((750, 50))


def test_sharpe_ratio_is_per_period_with_ddof_one() -> None:
    """Mean over sample deviation."""
    assert sharpe_ratio([0.01, 0.03]) == pytest.approx(0.02 / math.sqrt(0.0002))
    assert np.allclose(sharpe_ratios(GRID), [sharpe_ratio(column) for column in GRID.T], rtol=1e-12)


@pytest.mark.parametrize("returns", [[0.0] * 5, [0.001] * 365, [0.1, 0.1, 0.1]])
def test_a_series_that_stands_still_has_no_ratio(returns: list[float]) -> None:
    """Rounding is no deviation: a constant gain is not an infinite Sharpe ratio."""
    assert sharpe_ratio(returns) == 0.0
    assert moments(returns) == Moments(0.0, 0.0, 3.0, len(returns))


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        ([0.01], "1 values, at least 2"),
        ([[0.01, 0.02]], "2 dimensions"),
        ([0.01, math.nan, 0.02], "1 values are no finite numbers, the first at index 1"),
        (["a", "b"], "not an array of numbers"),
    ],
)
def test_a_bad_series_is_refused_by_name(returns: list[float], said: str) -> None:
    """One message says what is wrong."""
    with pytest.raises(SeriesInvalid, match=said):
        probabilistic_sharpe(returns)


def test_annual_ratios_cannot_come_in_unseen() -> None:
    """Moments that no law has are refused instead of giving a probability."""
    with pytest.raises(SeriesInvalid, match="per period"):
        probability_above(Moments(2.5, 3.0, 3.0, 100))


@given(st.floats(0.01, 0.3), st.floats(0.6, 0.999), st.floats(-2.0, 2.0), st.floats(5.0, 20.0))
def test_track_record_is_where_the_probability_is_reached(
    ratio: float, confidence: float, skew: float, kurtosis: float
) -> None:
    """PSR of a record of just that length is the confidence: the two formulas are each other's inverse."""
    needed = track_record(Moments(ratio, skew, kurtosis, 2), confidence=confidence)
    factor = 1.0 - skew * ratio + (kurtosis - 1.0) / 4.0 * ratio**2
    reached = 0.5 * math.erfc(-ratio * math.sqrt((needed - 1.0) / factor) / math.sqrt(2.0))
    assert reached == pytest.approx(confidence, abs=1e-9)


def test_no_record_is_long_enough_for_a_loss() -> None:
    """A ratio that is not above the benchmark never proves that it is."""
    assert minimum_track_record(-DAYS) == math.inf
    assert minimum_track_record(DAYS) < math.inf


@given(st.floats(1.0, 1e6), st.floats(1.0, 1e6))
def test_expected_maximum_never_falls(one: float, other: float) -> None:
    """More trials, more luck; one trial, none."""
    low, high = sorted((one, other))
    assert expected_maximum(1.0) == 0.0
    assert expected_maximum(low) <= expected_maximum(high) + 1e-12


@pytest.mark.parametrize("trials", [0.0, 0.99, -1.0, math.nan, math.inf])
def test_a_number_of_trials_that_cannot_be_is_refused(trials: float) -> None:
    """Nobody tried less than one."""
    with pytest.raises(SeriesInvalid, match="count every trial"):
        expected_maximum(trials)


def test_the_deflated_ratio_of_a_single_trial_is_the_probabilistic_one() -> None:
    """With one trial there is no luck of the draw to pay for."""
    assert deflated_sharpe(DAYS, [sharpe_ratio(DAYS)]).probability == probabilistic_sharpe(DAYS)


def test_each_trial_makes_the_deflated_ratio_smaller() -> None:
    """The trap of leaving the trials' variance out is closed: without variance nothing is taken off, with it more."""
    one = moments(DAYS)
    shares = [deflated(one, 0.002, trials).probability for trials in (1, 10, 100, 1000)]
    assert shares == sorted(shares, reverse=True)
    assert deflated(one, 0.0, 1000).probability == probability_above(one)
    with pytest.raises(SeriesInvalid, match="variance of the trials"):
        deflated(one, -0.1, 10)


# ---- how many trials -----------------------------------------------------------------------------------------------


def test_independent_trials_are_all_counted() -> None:
    """Fifty that have nothing in common are fifty, by either counting."""
    assert effective_trials(GRID) == pytest.approx(50, rel=0.03)
    assert effective_trials(GRID, Counting.CLUSTERS) == 50


def test_copies_are_one_trial() -> None:
    """Trying the same thing fifty times is trying it once."""
    copies = np.repeat(GRID[:, :1], 50, axis=1)
    assert effective_trials(copies) == 1.0
    assert effective_trials(copies, Counting.CLUSTERS) == 1.0


def test_five_ideas_are_about_five_trials() -> None:
    """Ten variants each of five ideas, 95 % alike."""
    ideas = np.repeat(GRID[:, :5], 10, axis=1) * math.sqrt(0.95) + GRID * math.sqrt(0.05)
    assert effective_trials(ideas) == pytest.approx(5.5, abs=0.7)
    assert effective_trials(ideas, Counting.CLUSTERS) == 5


def test_a_common_part_is_no_resemblance_to_the_default() -> None:
    """The trials' variance leaves it out already; the clusters see one group."""
    common = GRID[:, :1] * math.sqrt(0.95) + np.roll(GRID, 1, axis=1) * math.sqrt(0.05)
    assert effective_trials(common) > 40
    assert effective_trials(common, Counting.CLUSTERS) == 1


def test_more_trials_than_days_are_not_cut_to_the_days() -> None:
    """Resemblance that comes from few days is taken off."""
    many = 0.01 * np.random.RandomState(5).standard_normal((250, 1000))
    assert effective_trials(many) == pytest.approx(1000, rel=0.1)


def test_trials_that_never_traded_count_once() -> None:
    """They are alike, and there is at least one."""
    with_idle = np.concatenate([GRID[:, :3], np.zeros((750, 7))], axis=1)
    assert effective_trials(with_idle) == pytest.approx(4.0, abs=0.1)
    assert effective_trials(np.zeros((750, 7))) == 1.0


@given(st.integers(0, 10_000))
def test_the_order_and_size_of_trials_do_not_matter(seed: int) -> None:
    """Permuting columns, or doubling a position, changes no count."""
    chance = np.random.RandomState(seed)
    matrix = chance.standard_normal((60, 8))
    scaled = matrix[:, chance.permutation(8)] * chance.uniform(0.5, 2.0, 8)
    for counting in Counting:
        assert effective_trials(scaled, counting) == pytest.approx(effective_trials(matrix, counting), rel=1e-9)


# ---- haircut -------------------------------------------------------------------------------------------------------


def test_one_trial_has_no_haircut() -> None:
    """Nothing is paid for."""
    found = haircut(0.1, 500, [0.1])
    assert found.sharpe == pytest.approx(0.1, rel=1e-9)
    assert found.share == pytest.approx(0.0, abs=1e-9)


def test_the_best_of_many_pays_for_them() -> None:
    """Bonferroni: t = 3 after ten trials is worth the t whose p-value is ten times as large."""
    found = haircut(3.0 / math.sqrt(400), 400, [3.0 / math.sqrt(400), *([0.0] * 9)], Correction.BONFERRONI)
    assert found.p_value == pytest.approx(0.0026997960632601866, rel=1e-9)
    assert found.adjusted_p_value == pytest.approx(0.026997960632601866, rel=1e-9)
    assert found.sharpe * math.sqrt(400) == pytest.approx(2.2117, abs=1e-3)
    assert 0.25 < found.share < 0.27


def test_a_worthless_best_is_cut_to_nothing() -> None:
    """An adjusted p-value of one leaves no ratio; every correction agrees."""
    ratios = [0.01 * number for number in range(50)]
    for correction in Correction:
        assert haircut(0.02, 30, [*ratios, 0.02], correction).sharpe == pytest.approx(0.0, abs=0.02)


def test_bhy_equals_the_step_up_by_hand() -> None:
    """Benjamini and Yekutieli: p·N·c(N)/rank, made monotone; c(3) = 11/6."""
    ratios = [3.0 / 20, 2.5 / 20, 1.0 / 20]
    p_values = sorted(math.erfc(ratio * 20 / math.sqrt(2.0)) for ratio in ratios)
    raised = [p * 3 * (11 / 6) / rank for rank, p in enumerate(p_values, 1)]
    assert haircut(ratios[0], 400, ratios, Correction.BHY).adjusted_p_value == pytest.approx(
        min(1.0, raised[0], raised[1], raised[2]), rel=1e-9
    )


def test_the_normal_law_equals_scipys_in_both_tails() -> None:
    """The standard library is taken so that no command waits for scipy; scipy is the oracle."""
    from scipy.special import ndtr, ndtri

    from tapeline_lab.validity.normal import quantile, share_below

    for value in np.linspace(-30.0, 8.0, 200).tolist():
        assert share_below(value) == pytest.approx(float(ndtr(value)), rel=1e-13)
    for share in (1e-300, 1e-20, 1e-5, 0.02425, 0.3, 0.5, 0.9, 1.0 - 1e-12):
        assert quantile(share) == pytest.approx(float(ndtri(share)), rel=1e-12, abs=1e-15)


def test_loading_the_command_loads_nothing_heavy() -> None:
    """`tapeline --help` loads every command: its module may need numpy and no more."""
    code = "import sys, tapeline_lab.validity.monte_carlo_command as _; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"scipy", "arch", "pandas", "statsmodels", "polars"}.isdisjoint(loaded)
