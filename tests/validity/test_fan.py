"""Many histories of one: what they keep, what they share, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline_lab.validity import SeriesInvalid, monte_carlo, reshuffle_trades
from tapeline_lab.validity.fan import Way

DAYS = 0.01 * np.random.RandomState(31).standard_normal(250) + 0.0005
TRADES = 100.0 * np.random.RandomState(32).standard_normal(80) + 10.0


def test_a_fan_is_a_function_of_its_seed() -> None:
    """The same seed, the same bands; parts of the work do not matter to a run's result."""
    one, other = (monte_carlo(DAYS, seed=4, runs=300) for _ in range(2))
    assert np.array_equal(one.bands, other.bands)
    assert np.array_equal(one.max_drawdown.values, other.max_drawdown.values)
    assert not np.array_equal(one.bands, monte_carlo(DAYS, seed=5, runs=300).bands)


def test_bands_are_in_order_and_begin_at_one() -> None:
    """At every step; the recorded history is beside them."""
    fan = monte_carlo(DAYS, seed=4, runs=300)
    assert (np.diff(fan.bands, axis=0) >= 0.0).all()
    assert (fan.bands[:, 0] == 1.0).all()
    assert fan.steps[0] == 0
    assert fan.steps[-1] == fan.horizon == 250
    assert fan.observed[-1] == pytest.approx(np.prod(1.0 + DAYS))


def test_the_recorded_history_is_not_unusual_among_its_own() -> None:
    """Each law has the recorded figure well inside it."""
    fan = monte_carlo(DAYS, seed=4, runs=2000)
    for law in (fan.total_return, fan.max_drawdown, fan.sharpe):
        assert law is not None
        assert law.rank is not None
        assert 0.02 < law.rank < 0.98
        assert list(law.quantiles) == sorted(law.quantiles)


def test_days_that_cannot_lose_cannot_ruin() -> None:
    """It stays quiet; and where every day loses, it is certain. Zero of a thousand runs still leaves an error."""
    safe = monte_carlo(np.abs(DAYS), seed=1, runs=1000)
    assert (safe.ruin, safe.loss) == (0.0, 0.0)
    assert 0.0 < safe.ruin_error < 0.01
    lost = monte_carlo(-np.abs(DAYS) * 5, seed=1, runs=100)
    assert (lost.ruin, lost.loss) == (1.0, 1.0)


def test_ruin_at_any_step_counts_not_only_at_the_end() -> None:
    """A history that halves and recovers was ruined."""
    fan = reshuffle_trades([-60.0, 90.0], 100.0, seed=1, runs=1000)
    assert fan.ruin == pytest.approx(0.5, abs=0.06)
    assert fan.loss == 0.0


def test_a_horizon_is_as_long_as_asked() -> None:
    """Longer than the record too; the bands are kept at a bounded number of steps."""
    fan = monte_carlo(DAYS, seed=1, runs=50, horizon=1000)
    assert fan.horizon == 1000
    assert fan.bands.shape == (5, 260)
    assert (fan.max_drawdown.observed, fan.max_drawdown.rank) == (None, None)
    assert fan.sharpe is not None
    assert fan.sharpe.observed is not None
    assert len(fan.observed) < 260


def test_regimes_come_with_their_returns() -> None:
    """A regime's days keep their returns and its share of the days."""
    labels = np.repeat(["BULL", "BEAR", "CHOP"], [100, 50, 100])
    fan = monte_carlo(DAYS, labels, seed=1, runs=500)
    assert fan.way is Way.JOINT
    assert {name: seen for name, (_, seen) in fan.regimes.items()} == {"BEAR": 0.2, "BULL": 0.4, "CHOP": 0.4}
    assert sum(drawn for drawn, _ in fan.regimes.values()) == pytest.approx(1.0)
    assert fan.regimes["BEAR"][0] == pytest.approx(0.2, abs=0.03)


def test_a_portfolio_falls_together() -> None:
    """The same days for all accounts: two that are alike fall as deep as one, two opposites hardly."""
    alone = monte_carlo(DAYS, seed=1, runs=400, block=5.0)
    alike = monte_carlo(np.column_stack([DAYS, DAYS]), seed=1, runs=400, block=5.0)
    opposite = monte_carlo(np.column_stack([DAYS, -DAYS]), seed=1, runs=400, block=5.0)
    assert alike.max_drawdown.observed == pytest.approx(alone.max_drawdown.observed)
    assert alike.max_drawdown.quantiles[2] == pytest.approx(alone.max_drawdown.quantiles[2], rel=0.1)
    assert opposite.max_drawdown.quantiles[2] < alone.max_drawdown.quantiles[2] / 3


def test_accounts_keep_what_they_earn() -> None:
    """Weights are shares at the start: no money moves between accounts afterwards."""
    columns = np.array([[0.1, -0.1], [0.1, -0.1]])
    fan = monte_carlo(columns, seed=1, runs=10, weights=[0.75, 0.25])
    assert fan.observed.tolist() == pytest.approx([1.0, 0.75 * 1.1 + 0.25 * 0.9, 0.75 * 1.21 + 0.25 * 0.81])


def test_another_order_ends_where_the_history_did() -> None:
    """Only the way differs: the end and the trades are the same."""
    fan = reshuffle_trades(TRADES, 10_000.0, seed=1, runs=300)
    assert fan.way is Way.SHUFFLE
    assert np.allclose(fan.total_return.values, np.sum(TRADES) / 10_000.0)
    assert fan.max_drawdown.quantiles[0] < fan.max_drawdown.quantiles[4]
    assert fan.sharpe is None


def test_drawing_with_replacement_varies_the_end() -> None:
    """The luck of the trades, not only of their order."""
    fan = reshuffle_trades(TRADES, 10_000.0, seed=1, runs=300, replace=True)
    assert fan.way is Way.TRADES
    assert fan.total_return.quantiles[0] < np.sum(TRADES) / 10_000.0 < fan.total_return.quantiles[4]


def test_progress_is_told_to_the_end() -> None:
    """And never goes back."""
    said: list[tuple[int, int]] = []
    monte_carlo(DAYS, seed=1, runs=9_000, progress=lambda done, whole: said.append((done, whole)))
    assert said[-1] == (9_000, 9_000)
    assert said == sorted(said)
    assert len(said) > 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: monte_carlo(DAYS, seed=1, runs=0), "runs is 0"),
        (lambda: monte_carlo(DAYS, seed=1, ruin=0.0), "ruin is 0.0"),
        (lambda: monte_carlo(DAYS, seed=1, horizon=0), "horizon is 0"),
        (lambda: monte_carlo(DAYS, ["BULL"], seed=1), "one label for each of the 250 days"),
        (lambda: monte_carlo(DAYS, seed=1, weights=[0.5, 0.5]), "2 weights for 1 accounts"),
        (lambda: monte_carlo(DAYS, seed=1, weights=[0.5]), "add up to one"),
        (lambda: reshuffle_trades(TRADES, 0.0, seed=1), "start_equity is 0.0"),
        (lambda: reshuffle_trades([-60.0, -60.0, 10.0], 100.0, seed=1), "ruined before its last trade"),
        (lambda: reshuffle_trades([], 100.0, seed=1), "at least 1 are needed"),
    ],
)
def test_a_wrong_call_is_refused(call, said: str) -> None:  # type: ignore[no-untyped-def]
    """By name, with what would do."""
    with pytest.raises(SeriesInvalid, match=said):
        call()
