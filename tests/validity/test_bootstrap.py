"""Resampling keeps what it must keep, depends on the seed alone, and its intervals cover what they promise to."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_lab.validity import (
    Method,
    SeriesInvalid,
    block_length,
    bootstrap_difference,
    bootstrap_interval,
    bootstrap_intervals,
)
from tapeline_lab.validity.blocks import generator, longest_run, matched, stationary
from tapeline_lab.validity.figures import FIGURES, Name, figure

DAYS = 0.01 * np.random.RandomState(21).standard_normal(300) + 0.001


@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 1000))
def test_blocks_are_stretches_of_the_history(count: int, horizon: int, seed: int) -> None:
    """Every day follows the one before it, the first follows the last, or a block begins; none is outside."""
    length = min(3.0, count)
    drawn = stationary(generator(seed), count, length, 4, horizon)
    assert drawn.shape == (4, horizon)
    assert ((drawn >= 0) & (drawn < count)).all()
    if count > 10 and horizon > 30:
        follows = np.mean(drawn[:, 1:] == (drawn[:, :-1] + 1) % count)
        assert 0.35 < follows < 0.95


def test_every_day_is_drawn_as_often() -> None:
    """The first and last days too: the history is a circle."""
    drawn = stationary(generator(1), 20, 5.0, 20_000)
    shares = np.bincount(drawn.ravel(), minlength=20) / drawn.size
    assert np.allclose(shares, 1 / 20, rtol=0.03)


def test_blocks_are_as_long_as_asked() -> None:
    """A mean length of eight; one day alone where it is one."""
    drawn = stationary(generator(2), 1_000, 8.0, 200)
    breaks = np.mean(drawn[:, 1:] != (drawn[:, :-1] + 1) % 1_000)
    assert 1.0 / breaks == pytest.approx(8.0, rel=0.03)
    alone = stationary(generator(2), 1_000, 1.0, 200)
    assert np.mean(alone[:, 1:] == (alone[:, :-1] + 1) % 1_000) < 0.005


@given(st.integers(0, 10_000), st.integers(2, 4))
def test_regimes_follow_each_other_as_they_did(seed: int, kinds: int) -> None:
    """No day follows a day of a regime that its own regime never followed."""
    labels = np.random.RandomState(seed).randint(0, kinds, 40)
    happened = {(int(a), int(b)) for a, b in zip(labels, np.roll(labels, -1), strict=True)}
    drawn = labels[matched(generator(seed), labels, 2.0, 5)]
    assert {(int(a), int(b)) for row in drawn for a, b in pairwise(row)} <= happened


def test_blocks_without_regimes_do_make_new_transitions() -> None:
    """Mutant: plain blocks put regimes beside each other that never met, so the rule above has something to refuse."""
    labels = np.repeat([0, 1, 2], 20)
    drawn = labels[stationary(generator(3), 60, 2.0, 50)]
    made = {(int(a), int(b)) for row in drawn for a, b in pairwise(row)}
    assert (0, 2) in made
    assert (0, 2) not in {(int(a), int(b)) for a, b in zip(labels, np.roll(labels, -1), strict=True)}


def test_the_same_seed_gives_the_same_interval() -> None:
    """And another one does not."""
    assert bootstrap_interval(DAYS, seed=5, runs=200) == bootstrap_interval(DAYS, seed=5, runs=200)
    assert bootstrap_interval(DAYS, seed=5, runs=200) != bootstrap_interval(DAYS, seed=6, runs=200)


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("name", list(Name))
def test_every_figure_has_an_interval_around_it(name: Name, method: Method) -> None:
    """The ends are in order and the figure itself is no stranger to them."""
    found = bootstrap_interval(DAYS, name, seed=1, runs=300, method=method)
    assert found.low <= found.high
    spread = found.high - found.low
    assert found.low - spread <= found.estimate <= found.high + spread
    assert found.estimate == float(figure(name)(DAYS[None, :], 365.0)[0])


def test_several_figures_share_their_resamples() -> None:
    """Asked together or alone, the figures are the same."""
    together = bootstrap_intervals(DAYS, [Name.SHARPE, Name.MAX_DRAWDOWN], seed=3, runs=200)
    assert together["max_drawdown"] == bootstrap_interval(DAYS, "max_drawdown", seed=3, runs=200)


def test_a_difference_is_taken_on_the_same_days() -> None:
    """What two strategies share cancels: the interval is far narrower than that of either."""
    better = DAYS + 0.0002 + 0.0005 * np.random.RandomState(4).standard_normal(300)
    found = bootstrap_difference(better, DAYS, seed=1, runs=500)
    alone = bootstrap_interval(DAYS, seed=1, runs=500)
    assert found.high - found.low < (alone.high - alone.low) / 5
    assert bootstrap_difference(DAYS, DAYS, seed=1, runs=50).high == 0.0
    with pytest.raises(SeriesInvalid, match="same days"):
        bootstrap_difference(DAYS, DAYS[1:], seed=1)


def test_bca_leans_with_a_skewed_figure() -> None:
    """Volatility of skewed returns is underestimated on short samples; BCa moves both ends up."""
    skewed = 0.01 * np.random.RandomState(8).exponential(size=60)
    plain = bootstrap_interval(skewed, "volatility", seed=1, block=1.0)
    leaning = bootstrap_interval(skewed, "volatility", seed=1, block=1.0, method=Method.BCA)
    assert leaning.low > plain.low
    assert leaning.high > plain.high


def test_a_figure_without_losses_is_infinite_and_still_has_an_interval() -> None:
    """Profit factors of gains alone."""
    found = bootstrap_interval([0.01, 0.02, 0.01, 0.03] * 5, "profit_factor", seed=1, runs=100)
    assert (found.low, found.middle, found.high) == (np.inf, np.inf, np.inf)


@pytest.mark.parametrize("memory", [-0.5, 0.0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("count", [20, 21, 100, 999])
def test_block_lengths_equal_archs(memory: float, count: int) -> None:
    """Whatever the memory and the length, to the last digits."""
    from arch.bootstrap import optimal_block_length

    shocks = np.random.RandomState(count).standard_normal(count)
    found = np.zeros(count)
    for place in range(1, count):
        found[place] = memory * found[place - 1] + shocks[place]
    theirs = float(optimal_block_length(found)["stationary"].iloc[0])
    assert block_length(found) == pytest.approx(max(1.0, theirs), rel=1e-9)


def test_a_series_without_memory_has_blocks_of_a_few_days() -> None:
    """And one that stands still, or is short, has a length too."""
    assert 1.0 <= block_length(DAYS) < 6.0
    assert block_length(np.zeros(100)) == pytest.approx(100 ** (1 / 3))
    assert block_length([0.01, 0.02, 0.01]) == 1.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"runs": 0}, "at least one resample"),
        ({"block": 301.0}, "block is 301.0"),
        ({"block": 0.5}, "block is 0.5"),
        ({"seed": -1}, "seed is -1"),
        ({"statistic": "luck"}, "no figure is called 'luck': use one of total_return"),
    ],
)
def test_a_wrong_call_is_refused(call: dict[str, object], said: str) -> None:
    """By name, with what would do."""
    with pytest.raises(SeriesInvalid, match=said):
        bootstrap_interval(DAYS, **{"seed": 1, **call})  # type: ignore[arg-type]


# ---- figures -------------------------------------------------------------------------------------------------------


def test_figures_of_many_rows_are_those_of_each() -> None:
    """A row's figure does not depend on its neighbours."""
    rows = 0.01 * np.random.RandomState(9).standard_normal((7, 50))
    for compute in FIGURES.values():
        assert np.array_equal(compute(rows, 365.0), [float(compute(row[None, :], 365.0)[0]) for row in rows])


def test_drawdown_and_time_under_water_by_hand() -> None:
    """Up, down by half, up a little, to a new high, down."""
    rows = np.array([[0.5, -0.5, 0.2, 1.0, -0.1], [0.0, 0.0, 0.0, 0.0, 0.0], [-1.0, 3.0, 3.0, 3.0, 3.0]])
    assert figure("max_drawdown")(rows, 365.0) == pytest.approx([0.5, 0.0, 1.0])
    assert figure("time_under_water")(rows, 365.0).tolist() == [2.0, 0.0, 5.0]
    assert figure("annual_return")(rows, 365.0)[2] == -1.0


def test_longest_stretch() -> None:
    """Of true values, in each row."""
    rows = np.array([[True, True, False, True], [False] * 4, [True] * 4, [False, True, True, True]])
    assert longest_run(rows).tolist() == [2.0, 0.0, 4.0, 3.0]


def test_sharpe_and_sortino_equal_the_backtests_report() -> None:
    """One definition of each figure in the project."""
    from tapeline_backtest.report import daily_ratios

    sharpe, sortino = daily_ratios(DAYS, 365)
    assert float(figure("sharpe")(DAYS[None, :], 365.0)[0]) == pytest.approx(sharpe, rel=1e-12)
    assert float(figure("sortino")(DAYS[None, :], 365.0)[0]) == pytest.approx(sortino, rel=1e-12)
