"""SPA, the reality check and StepM, as they are called: losses, blocks and seeds."""

from __future__ import annotations

import numpy as np
import pytest

from tapeline_lab.validity import SeriesInvalid, superior_predictive_ability, superior_trials

NULL = 0.01 * np.random.RandomState(1).standard_normal((300, 8))
LIFTED = NULL + np.where(np.arange(8) == 5, 0.003, 0.0)


def test_a_superior_trial_is_found() -> None:
    """It acts: small p-values, and the trial is named."""
    found = superior_predictive_ability(LIFTED, seed=1, block=3, runs=300)
    assert found.best == 5
    assert found.consistent < 0.05
    assert found.reality_check < 0.05
    assert superior_trials(LIFTED, seed=1, block=3, runs=300) == (5,)


def test_nothing_is_found_where_nothing_is() -> None:
    """It stays quiet, on returns and on their negatives: gains and losses are not confused."""
    assert superior_predictive_ability(NULL, seed=1, block=3, runs=300).consistent > 0.05
    assert superior_predictive_ability(-LIFTED, seed=1, block=3, runs=300).consistent > 0.05
    assert superior_trials(-LIFTED, seed=1, block=3, runs=300) == ()


def test_the_benchmark_is_what_must_be_beaten() -> None:
    """Earning as much as the benchmark is nothing."""
    benchmark = LIFTED[:, 5]
    assert superior_predictive_ability(LIFTED, benchmark, seed=1, block=3, runs=300).consistent > 0.5


def test_bounds_enclose_the_consistent_p_value() -> None:
    """Hansen's lower and upper p-values."""
    found = superior_predictive_ability(LIFTED - 0.001, seed=3, block=3, runs=300)
    assert found.lower <= found.consistent <= found.upper


def test_the_same_seed_gives_the_same_figures() -> None:
    """And the block is estimated the same way each time."""
    one, other = (superior_predictive_ability(NULL, seed=7, runs=100) for _ in range(2))
    assert one == other
    assert one.block >= 1


def test_trials_that_equal_the_benchmark_say_nothing() -> None:
    """A search of strategies that never traded has p-value one and no superior trial, instead of dividing by zero."""
    idle = np.zeros((100, 3))
    assert superior_predictive_ability(idle, seed=1).consistent == 1.0
    assert superior_trials(idle, seed=1) == ()
    one_trades = np.concatenate([idle, NULL[:100, :2]], axis=1)
    assert superior_predictive_ability(one_trades, seed=1, runs=50).consistent > 0.0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ({"benchmark": np.zeros(299)}, "300 are needed|give the same days"),
        ({"block": 301}, "block is 301"),
    ],
)
def test_a_wrong_call_is_refused(call: dict[str, object], said: str) -> None:
    """By name."""
    with pytest.raises(SeriesInvalid, match=said):
        superior_predictive_ability(NULL, seed=1, **call)  # type: ignore[arg-type]
