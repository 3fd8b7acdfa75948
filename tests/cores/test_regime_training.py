"""Training: repeatable to the bit, finds what is there, names states by what they are, refuses by value."""

import functools
import itertools
import math
import os
import subprocess
import sys
from typing import Any

import msgspec
import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from numpy.typing import NDArray
from scipy.special import logsumexp
from threadpoolctl import threadpool_info, threadpool_limits

from tapeline_regime import training
from tapeline_regime.features import FEATURE_NAMES, WARM_UP_BARS, feature_rows
from tapeline_regime.filtering import filter_series
from tapeline_regime.model import (
    BEAR,
    BULL,
    CHOP,
    STATE_VARIANCE_FLOOR,
    TRANSITION_FLOOR,
    RegimeModel,
    check,
    model_hash,
    reorder,
)
from tapeline_regime.training import (
    LEAST_OBSERVATIONS,
    Training,
    TrainingFailure,
    TrainingFault,
    fit,
    name_states,
)

STAY = ((0.985, 0.005, 0.010), (0.010, 0.970, 0.020), (0.015, 0.015, 0.970))
MEANS = (0.0008, -0.0012, 0.0001)
DEVIATIONS = (0.004, 0.022, 0.010)
"""BULL, BEAR and CHOP of the simulated market: log return per bar."""


@functools.cache
def market(bars: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A market with three regimes, and which regime each bar was in. Treat as read-only."""
    generator = np.random.default_rng(seed)
    states = np.zeros(bars, dtype=np.int64)
    for bar in range(1, bars):
        states[bar] = generator.choice(3, p=STAY[states[bar - 1]])
    returns = np.array(MEANS)[states] + np.array(DEVIATIONS)[states] * generator.standard_normal(bars)
    return 100.0 * np.exp(np.cumsum(returns)), states


@functools.cache
def fitted(bars: int = 1500, seed: int = 4) -> Training:
    """The market's model, fitted once for all tests."""
    result = fit(market(bars, seed)[0], seed=11)
    assert isinstance(result, Training)
    return result


PRINT_HASH = """
import numpy as np, sys
from tapeline_regime.training import fit
closes = np.frombuffer(sys.stdin.buffer.read(), dtype="<f8")
print(fit(closes, seed=11, restarts=4).model_hash)
"""

PRINT_HEAVY_MODULES = """
import sys
import tapeline_regime.features, tapeline_regime.model, tapeline_regime.filtering
import tapeline_regime.artefact, tapeline_regime.training
print(sorted({name.partition(".")[0] for name in sys.modules} & {"hmmlearn", "sklearn", "scipy", "threadpoolctl"}))
"""


def run_python(program: str, data: bytes = b"", **environment: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, check=True, env=os.environ | environment
    )
    return done.stdout.decode().strip()


def test_the_same_data_and_seed_give_the_same_hash_in_every_process() -> None:
    """Two fresh processes with other thread counts and other string hashing, and this one."""
    closes = market(1500, 4)[0]
    here = fit(closes, seed=11, restarts=4)
    assert isinstance(here, Training)
    hashes = [
        run_python(
            PRINT_HASH, closes.tobytes(), PYTHONHASHSEED=threads, OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads
        )
        for threads in ("1", "2")
    ]
    assert hashes == [here.model_hash] * 2


def test_every_thread_pool_is_held_to_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the caller allows two: sums taken in another order would give another hash."""
    seen: list[int] = []
    starting_point = training._start

    def watched(*arguments: Any) -> Any:
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return starting_point(*arguments)

    monkeypatch.setattr(training, "_start", watched)
    with threadpool_limits(limits=2):
        fit(market(1500, 4)[0][:300], seed=11, restarts=1, max_iterations=1)
    assert set(seen) == {1}


def test_one_changed_close_gives_another_hash() -> None:
    """The hash would notice: it is not the same whatever goes in."""
    closes = market(1500, 4)[0].copy()
    before = fit(closes, seed=11, restarts=1)
    closes[700] *= 1.0001
    after = fit(closes, seed=11, restarts=1)
    assert isinstance(before, Training)
    assert isinstance(after, Training)
    assert before.model_hash != after.model_hash


def test_importing_the_service_loads_no_learning_library() -> None:
    """A core starts without hmmlearn, scikit-learn, scipy or threadpoolctl."""
    assert run_python(PRINT_HEAVY_MODULES) == "[]"


def test_training_leaves_numpys_global_generator_alone() -> None:
    """No draw is taken from, and no seed given to, state that others share."""
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    fit(market(1500, 4)[0][:300], seed=11, restarts=3, max_iterations=5)
    np.testing.assert_array_equal(np.random.random(3), expected)


def test_a_fitted_model_is_sound_and_fully_described() -> None:
    """It passes its check with its own hash; bars, restarts and log likelihood are what they say."""
    result = fitted()
    closes = market(1500, 4)[0]
    assert check(result.model, result.model_hash) is None
    assert result.model.feature_names == FEATURE_NAMES
    assert result.bars == len(closes) - WARM_UP_BARS + 1
    assert len(result.restarts) == 10
    assert result.restarts[result.best_restart] == max(value for value in result.restarts if value is not None)
    _, log_likelihoods = filter_series(result.model, feature_rows(closes))
    assert result.log_likelihood == pytest.approx(log_likelihoods.sum(), abs=1e-9)
    assert min(itertools.chain(*result.model.transition)) >= TRANSITION_FLOOR


def test_it_finds_the_regimes_that_are_there() -> None:
    """Volatilities within 15 % of the truth, and the causal filter right about BEAR at over 90 % of new bars."""
    model = fitted().model
    deviations = [model.scaler_scale[0] * math.sqrt(variances[0]) for variances in model.variances]
    np.testing.assert_allclose(deviations, DEVIATIONS, rtol=0.15)
    closes, states = market(3000, 99)
    beliefs, _ = filter_series(model, feature_rows(closes))
    agreement = np.mean((beliefs.argmax(axis=1) == BEAR) == (states == BEAR))
    assert agreement > 0.9


def by_hmmlearn(scaled: NDArray[np.float64], start: Any, max_iterations: int) -> tuple[Any, float] | None:
    """The naive twin of ``training._expectation_maximisation``: hmmlearn's own ``fit``, a pass at a time."""
    hmm: Any = GaussianHMM(n_components=3, covariance_type="diag", n_iter=1, init_params="", covars_prior=0.0)
    hmm.startprob_, hmm.transmat_, hmm.means_, hmm.covars_ = start.start, start.transition, start.means, start.variances
    current, last = start, -math.inf
    for _ in range(max_iterations):
        try:
            hmm.fit(scaled)
        except ValueError:  # hmmlearn's word for a state that no bar belongs to any more
            return None
        log_likelihood = float(hmm.monitor_.history[-1])
        variances = np.diagonal(hmm.covars_, axis1=1, axis2=2)
        if not (math.isfinite(log_likelihood) and np.isfinite(variances).all() and np.isfinite(hmm.means_).all()):
            return None
        if log_likelihood - last < training.TOLERANCE * len(scaled):
            return training._if_alive(current, log_likelihood)
        last = log_likelihood
        clamped = np.maximum(variances, STATE_VARIANCE_FLOOR)
        current = type(start)(hmm.startprob_.copy(), training._floored(hmm.transmat_), hmm.means_.copy(), clamped)
        hmm.transmat_, hmm.covars_ = current.transition, clamped
    return training._if_alive(current, float(hmm.score(scaled)))


def jumps(seed: int) -> NDArray[np.float64]:
    """Closes with so heavy tails that restarts lose states."""
    return 100.0 * np.exp(np.cumsum(0.01 * np.random.default_rng(seed).standard_t(1.5, 300)))


@pytest.mark.parametrize(
    "closes",
    [market(1500, 4)[0][:400], np.round(market(400, 2)[0], 1), jumps(3), jumps(8), np.arange(300) % 50 + 100.0],
    ids=["regimes", "coarse ticks", "jumps", "other jumps", "a saw"],
)
@pytest.mark.parametrize("max_iterations", [4, 200])
def test_a_pass_is_hmmlearns_to_the_last_bit(
    closes: NDArray[np.float64], max_iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever hmmlearn makes of a series, with every restart's likelihood and every restart that broke down."""
    result = fit(closes, seed=7, max_iterations=max_iterations)
    monkeypatch.setattr(training, "_expectation_maximisation", by_hmmlearn)
    assert fit(closes, seed=7, max_iterations=max_iterations) == result


def test_a_pass_that_rounds_otherwise_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: a sum of logarithms taken in the textbook's order gives another model."""
    closes = market(1500, 4)[0][:400]
    before = fit(closes, seed=7)

    def textbook(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        highest = logs.max(axis=1, keepdims=True)
        return highest + np.log(np.exp(logs - highest).sum(axis=1, keepdims=True))

    monkeypatch.setattr(training, "_log_sums", textbook)
    assert fit(closes, seed=7) != before


def test_log_sums_are_scipys_to_the_last_bit() -> None:
    """Also of rows with equal terms, with terms that vanish beside others, and with nothing but infinities."""
    logs = np.random.default_rng(1).normal(0.0, 200.0, (4000, 3))
    logs[:50] = logs[:50, :1]
    logs[50:100, 1] = logs[50:100, 0]
    assert np.array_equal(training._log_sums(logs), logsumexp(logs, axis=1, keepdims=True))
    logs[7], logs[9, 1] = -np.inf, -np.inf
    with np.errstate(all="ignore"):
        assert np.array_equal(training._log_sums(logs), logsumexp(logs, axis=1, keepdims=True))


def test_more_passes_of_hmmlearn_itself_gain_nothing() -> None:
    """hmmlearn's own EM, started from the fitted model, stays where it is: the fit is an optimum."""
    result = fitted()
    model = result.model
    rows = feature_rows(market(1500, 4)[0])
    rows = (rows[~np.isnan(rows[:, 0])] - np.array(model.scaler_mean)) / np.array(model.scaler_scale)
    hmm = GaussianHMM(n_components=3, covariance_type="diag", init_params="", n_iter=100, tol=1e-9, covars_prior=0.0)
    hmm.startprob_, hmm.transmat_ = np.array(model.start), np.array(model.transition)
    hmm.means_, hmm.covars_ = np.array(model.means), np.array(model.variances)
    hmm.fit(rows)
    best = result.restarts[result.best_restart]
    assert best is not None
    assert hmm.score(rows) - best < 0.5


def test_the_unit_of_the_price_does_not_matter() -> None:
    """Prices times a power of two have bit-equal features, so the model is the same one."""
    closes = market(1500, 4)[0]
    scaled = fit(closes * 4096.0, seed=11)
    assert isinstance(scaled, Training)
    assert scaled.model_hash == fitted().model_hash


def test_unusable_closes_are_skipped_as_the_live_features_skip_them() -> None:
    """NaN, zero and minus one between the bars change neither the model nor the count."""
    closes = market(1500, 4)[0].tolist()
    holed = [math.nan, *closes[:500], 0.0, *closes[500:900], -1.0, math.inf, *closes[900:]]
    result = fit(holed, seed=11)
    assert isinstance(result, Training)
    assert (result.model_hash, result.bars) == (fitted().model_hash, fitted().bars)


def test_a_half_dead_market_keeps_every_state_wide_enough() -> None:
    """Where most closes repeat, a state of zero width would have unbounded likelihood: the floor holds it."""
    closes = market(1500, 4)[0].copy()
    for start in range(0, 1500, 100):
        closes[start : start + 60] = closes[start]
    result = fit(closes, seed=11, restarts=4)
    assert isinstance(result, Training)
    assert min(itertools.chain(*result.model.variances)) == STATE_VARIANCE_FLOOR


def test_a_fit_that_lost_a_state_is_no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no restart keeps three states of the least share (here more than a third), there is no model."""
    monkeypatch.setattr(training, "LEAST_SHARE", 0.4)
    assert fit(market(1500, 4)[0], seed=11, restarts=2) == TrainingFailure(
        TrainingFault.NO_USABLE_FIT, "none of 2 restarts kept three live states"
    )


def test_too_few_bars_are_refused_with_both_numbers() -> None:
    """One observation under the least is refused, the least itself is not."""
    closes = market(1500, 4)[0]
    least = LEAST_OBSERVATIONS + WARM_UP_BARS - 1
    assert fit(closes[: least - 1], seed=1) == TrainingFailure(
        TrainingFault.TOO_FEW_BARS, "199 observations from 219 closes; need at least 200"
    )
    enough = fit(closes[:least], seed=1, restarts=2)
    assert not (isinstance(enough, TrainingFailure) and enough.reason is TrainingFault.TOO_FEW_BARS)


def test_no_closes_and_only_bad_closes_are_too_few() -> None:
    """Empty and all-NaN series end the same way."""
    for closes in ([], [math.nan] * 1000):
        failure = fit(closes, seed=1)
        assert isinstance(failure, TrainingFailure)
        assert failure.reason is TrainingFault.TOO_FEW_BARS


def test_a_market_that_does_not_move_is_refused() -> None:
    """There is nothing to scale by, and the refusal names the feature."""
    failure = fit([50.0] * 1000, seed=1)
    assert isinstance(failure, TrainingFailure)
    assert failure.reason is TrainingFault.NO_VARIATION
    assert failure.detail.startswith("log_return has standard deviation 0.0")


@pytest.mark.parametrize("setting", [{"seed": -1}, {"seed": 1, "restarts": 0}, {"seed": 1, "max_iterations": 0}])
def test_a_bad_setting_is_refused(setting: dict[str, int]) -> None:
    """Before any data are looked at."""
    failure = fit([], **setting)
    assert isinstance(failure, TrainingFailure)
    assert failure.reason is TrainingFault.BAD_SETTING


def three(mean_returns: tuple[float, float, float], variances: tuple[float, float, float]) -> RegimeModel:
    """A model whose states differ in return mean and return variance only."""
    return RegimeModel(
        feature_names=FEATURE_NAMES,
        scaler_mean=(0.0, 0.0),
        scaler_scale=(1.0, 1.0),
        start=(1 / 3, 1 / 3, 1 / 3),
        transition=((0.98, 0.01, 0.01), (0.01, 0.98, 0.01), (0.01, 0.01, 0.98)),
        means=((mean_returns[0], 0.0), (mean_returns[1], 0.0), (mean_returns[2], 0.0)),
        variances=((variances[0], 1.0), (variances[1], 1.0), (variances[2], 1.0)),
    )


def test_the_wildest_state_is_bear_even_when_its_mean_is_highest() -> None:
    """Variance names BEAR; a mean over a few violent bars is mostly chance."""
    assert name_states(three((0.0, 0.5, 0.0), (0.2, 3.0, 0.8)), bars=1500)[BEAR] == 1


def test_between_the_other_two_an_uncertain_mean_does_not_count() -> None:
    """A gap under three standard errors leaves BULL with the calmer state."""
    assert name_states(three((0.00, -0.1, 0.05), (0.2, 3.0, 0.8)), bars=1500) == (0, 1, 2)


def test_between_the_other_two_a_certain_mean_decides() -> None:
    """The same states on a hundred times the bars: now the livelier one is known to gain more, and is BULL."""
    assert name_states(three((0.00, -0.1, 0.05), (0.2, 3.0, 0.8)), bars=150_000) == (2, 1, 0)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_names_do_not_depend_on_the_order_that_em_left(order: tuple[int, int, int]) -> None:
    """All six orders of a fitted model are named back to the very same model, bit for bit."""
    for model in (fitted().model, three((0.0, 0.0, 0.1), (1.0, 1.0, 1.0)), three((0.3, 0.0, 0.0), (0.5, 0.9, 2.0))):
        expected = model_hash(reorder(model, name_states(model, bars=1500)))
        shuffled = reorder(model, order)
        assert model_hash(reorder(shuffled, name_states(shuffled, bars=1500))) == expected


def test_a_fitted_model_is_in_the_named_order() -> None:
    """BEAR is the most volatile; naming it again moves nothing."""
    result = fitted()
    assert name_states(result.model, result.bars) == (BULL, BEAR, CHOP)
    volatilities = [variances[0] for variances in result.model.variances]
    assert volatilities.index(max(volatilities)) == BEAR
    assert result.names_plausible


def test_a_bear_that_surely_gains_is_not_plausible() -> None:
    """A market whose wild regime rises steadily is fitted, named, and marked for a second look."""
    closes, states = market(1500, 4)
    drift = np.where(states == BEAR, 0.02, 0.0)
    result = fit(closes * np.exp(np.cumsum(drift)), seed=11, restarts=4)
    assert isinstance(result, Training)
    assert not result.names_plausible


def test_a_training_is_a_value_that_survives_json() -> None:
    """The worker can hand it over as text: nothing is lost, and the hash still fits."""
    result = fitted()
    restored = msgspec.json.decode(msgspec.json.encode(result), type=Training)
    assert restored == result
    assert check(restored.model, result.model_hash) is None
