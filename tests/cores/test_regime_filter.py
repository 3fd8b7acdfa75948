"""The causal filter: right against three oracles, blind to the future, and safe with any number."""

import itertools
import math
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM
from numpy.typing import NDArray

from tapeline_regime.features import WARM_UP_BARS, feature_rows
from tapeline_regime.filtering import Belief, filter_series, predict, prepare, step
from tapeline_regime.model import RegimeModel, reorder

Rows = NDArray[np.float64]


def random_model(seed: int, features: int = 2) -> RegimeModel:
    """Any model: states near or far apart, sticky or not, features of any scale."""
    generator = np.random.default_rng(seed)
    transition = generator.dirichlet([0.6] * 3, size=3) + generator.choice([0.0, 8.0]) * np.eye(3)
    transition = transition / transition.sum(axis=1, keepdims=True) * (1 - 3e-8) + 1e-8
    return RegimeModel(
        feature_names=tuple(f"feature_{place}" for place in range(features)),
        scaler_mean=tuple(generator.normal(0, 3, features).tolist()),
        scaler_scale=tuple(np.exp(generator.normal(-2, 2, features)).tolist()),
        start=tuple(generator.dirichlet([2.0] * 3).tolist()),
        transition=tuple(tuple(row) for row in transition.tolist()),
        means=tuple(tuple(row) for row in generator.normal(0, 1, (3, features)).tolist()),
        variances=tuple(tuple(row) for row in np.exp(generator.normal(-0.5, 1, (3, features))).tolist()),
    )


def random_rows(model: RegimeModel, bars: int, seed: int) -> Rows:
    """Observations in the model's own units, some of them far out."""
    scaled = np.random.default_rng(seed).standard_t(3, (bars, len(model.feature_names)))
    return np.array(model.scaler_mean) + np.array(model.scaler_scale) * scaled


def scaled(model: RegimeModel, rows: Rows) -> Rows:
    """The same observations as the trainer sees them."""
    result: Rows = (rows - np.array(model.scaler_mean)) / np.array(model.scaler_scale)
    return result


def in_hmmlearn(model: RegimeModel) -> GaussianHMM:
    """The model in hmmlearn's clothes, for scaled observations."""
    hmm = GaussianHMM(n_components=3, covariance_type="diag", init_params="")
    hmm.startprob_ = np.array(model.start)
    hmm.transmat_ = np.array(model.transition)
    hmm.means_ = np.array(model.means)
    hmm.covars_ = np.array(model.variances)
    return hmm


def stepped(model: RegimeModel, rows: Rows) -> tuple[Rows, Rows]:
    """``step`` bar by bar; a row with a NaN is given as None."""
    prepared, belief = prepare(model), None
    beliefs, log_likelihoods = [], []
    for row in rows:
        belief, log_likelihood = step(prepared, belief, None if np.isnan(row).any() else tuple(row.tolist()))
        beliefs.append(belief)
        log_likelihoods.append(log_likelihood)
    return np.array(beliefs), np.array(log_likelihoods)


@pytest.mark.parametrize("seed", range(12))
def test_it_equals_the_last_row_of_hmmlearn_on_every_prefix(seed: int) -> None:
    """Belief and summed log likelihood at every bar, for random models of one to three features."""
    model = random_model(seed, features=1 + seed % 3)
    rows = random_rows(model, 40, seed)
    beliefs, log_likelihoods = stepped(model, rows)
    hmm = in_hmmlearn(model)
    log_scale = math.fsum(math.log(scale) for scale in model.scaler_scale)
    for bars in range(1, len(rows) + 1):
        log_likelihood, posterior = hmm.score_samples(scaled(model, rows[:bars]))
        np.testing.assert_allclose(beliefs[bars - 1], posterior[-1], rtol=0, atol=1e-10)
        assert log_likelihoods[:bars].sum() == pytest.approx(log_likelihood - bars * log_scale, abs=1e-9)


def density(model: RegimeModel, state: int, row: Rows) -> float:
    """The normal density written out, in the features' own units."""
    product = 1.0
    for place, value in enumerate(row):
        mean = model.scaler_mean[place] + model.scaler_scale[place] * model.means[state][place]
        deviation = model.scaler_scale[place] * math.sqrt(model.variances[state][place])
        product *= math.exp(-0.5 * ((value - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
    return product


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("bars", [1, 2, 6])
def test_it_equals_the_sum_over_all_paths(seed: int, bars: int) -> None:
    """Brute force over the 3^T state paths, which knows nothing of recursions, shifts or logarithms."""
    model = random_model(100 + seed)
    rows = random_rows(model, bars, seed)
    ends = [0.0, 0.0, 0.0]
    for path in itertools.product(range(3), repeat=bars):
        weight = model.start[path[0]] * density(model, path[0], rows[0])
        for before, after, row in zip(path, path[1:], rows[1:], strict=False):
            weight *= model.transition[before][after] * density(model, after, row)
        ends[path[-1]] += weight
    beliefs, log_likelihoods = stepped(model, rows)
    np.testing.assert_allclose(beliefs[-1], np.array(ends) / sum(ends), rtol=0, atol=1e-12)
    assert log_likelihoods.sum() == pytest.approx(math.log(sum(ends)), abs=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_a_whole_series_equals_bar_by_bar_to_the_last_bit(seed: int) -> None:
    """The fast path and the naive one agree exactly, with gaps and half-missing rows."""
    model = random_model(200 + seed, features=1 + seed % 3)
    rows = random_rows(model, 500, seed)
    rows[[0, 7, 8, 9, 300], 0] = math.nan
    for whole, naive in zip(filter_series(model, rows), stepped(model, rows), strict=True):
        np.testing.assert_array_equal(whole, naive)


def test_an_empty_series_has_no_beliefs() -> None:
    """Nothing in, nothing out, with the right shapes."""
    beliefs, log_likelihoods = filter_series(random_model(1), np.empty((0, 2)))
    assert (beliefs.shape, log_likelihoods.shape) == ((0, 3), (0,))


def beliefs_of_closes(model: RegimeModel, closes: Rows) -> Rows:
    """From prices to beliefs, as a service does it; the mutant below has the same signature."""
    return filter_series(model, feature_rows(closes))[0]


def smoothed_beliefs_of_closes(model: RegimeModel, closes: Rows) -> Rows:
    """The mutant: hmmlearn's whole-series posterior, the usual notebook mistake."""
    rows = feature_rows(closes)
    usable = ~np.isnan(rows[:, 0])
    beliefs = np.full((len(rows), 3), math.nan)
    beliefs[usable] = in_hmmlearn(model).predict_proba(scaled(model, rows[usable]))
    return beliefs


def changed_by_the_future(model: RegimeModel, labeller: Callable[[RegimeModel, Rows], Rows]) -> int:
    """At how many of the cuts poisoned or missing later closes change any belief before the cut."""
    closes = 100 * np.exp(np.cumsum(0.01 * np.random.default_rng(5).standard_normal(260)))
    clean = labeller(model, closes)
    changed = 0
    for cut in range(WARM_UP_BARS, len(closes)):
        poisoned = closes.copy()
        poisoned[cut:] *= np.where(np.arange(len(closes) - cut) % 2 == 0, 3.0, 0.3)
        before = [labeller(model, closes[:cut]), labeller(model, poisoned)[:cut]]
        changed += not all(np.array_equal(other, clean[:cut], equal_nan=True) for other in before)
    return changed


def bar_model() -> RegimeModel:
    """A model in the units of one-per-cent bars."""
    return RegimeModel(
        feature_names=("log_return", "volatility"),
        scaler_mean=(0.0, -4.6),
        scaler_scale=(0.01, 0.3),
        start=(0.4, 0.3, 0.3),
        transition=((0.96, 0.02, 0.02), (0.02, 0.96, 0.02), (0.02, 0.02, 0.96)),
        means=((0.1, -0.5), (-0.1, 0.5), (0.0, 0.0)),
        variances=((0.7, 0.8), (1.4, 1.2), (1.0, 0.9)),
    )


def test_the_future_changes_no_earlier_belief() -> None:
    """Cutting the series or poisoning every later close leaves all earlier beliefs bit-equal, at every cut."""
    assert changed_by_the_future(bar_model(), beliefs_of_closes) == 0


def test_the_future_test_can_fail() -> None:
    """It catches a smoother at every cut but the last few, so its silence above means something."""
    assert changed_by_the_future(bar_model(), smoothed_beliefs_of_closes) > 200


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bars", [1, 2, 50])
def test_missing_bars_are_powers_of_the_transition(seed: int, bars: int) -> None:
    """A gap of n bars is the belief times A^n and adds nothing to the log likelihood."""
    model = random_model(300 + seed)
    before: Belief = (0.7, 0.1, 0.2)
    belief, total = before, 0.0
    for _ in range(bars):
        belief, log_likelihood = step(prepare(model), belief, None)
        total += log_likelihood
    expected = np.array(before) @ np.linalg.matrix_power(np.array(model.transition), bars)
    np.testing.assert_allclose(belief, expected, rtol=0, atol=1e-12)
    assert total == 0.0


def test_a_missing_first_bar_leaves_the_start() -> None:
    """Before anything is seen the belief is the model's start, and stays it when the first bar is missing."""
    model = random_model(7)
    assert predict(prepare(model), None) == model.start
    assert step(prepare(model), None, None) == (model.start, 0.0)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 1e200, -1e200])
@pytest.mark.parametrize("place", [0, 1])
def test_a_number_that_says_nothing_is_a_missing_bar(odd: float, place: int) -> None:
    """NaN, infinities and overflowing distances neither poison the belief nor raise."""
    prepared, belief = prepare(random_model(8)), (0.2, 0.5, 0.3)
    observation = [0.1, 0.1]
    observation[place] = odd
    assert step(prepared, belief, observation) == step(prepared, belief, None)


def test_an_observation_of_the_wrong_width_is_a_bug() -> None:
    """Three numbers for a model of two features must not be quietly cut."""
    with pytest.raises(ValueError, match="zip"):
        step(prepare(random_model(9)), None, (0.0, 0.0, 0.0))


def test_no_belief_locks() -> None:
    """After a thousand bars that only one state can explain, two bars of another are enough to change the belief."""
    apart = msgspec.structs.replace(
        bar_model(), means=((0.0, -3.0), (0.0, 3.0), (0.0, 0.0)), variances=((1.0, 0.2), (1.0, 0.2), (1.0, 0.2))
    )
    calm, wild = (0.0, -4.6 - 3 * 0.3), (0.0, -4.6 + 3 * 0.3)
    prepared, belief = prepare(apart), None
    for observation, favoured, bars in [(calm, 0, 1000), (wild, 1, 2), (calm, 0, 2)]:
        for _ in range(bars):
            belief, _ = step(prepared, belief, observation)
            assert math.fsum(belief) == pytest.approx(1.0, abs=1e-12)
        assert belief is not None
        assert belief[favoured] > 0.99


def test_bars_far_outside_every_state_stay_finite() -> None:
    """Where all densities underflow to zero, belief and log likelihood are still numbers."""
    prepared, belief = prepare(bar_model()), None
    for distance in (1e3, -1e6, 1e50, 0.0):
        belief, log_likelihood = step(prepared, belief, (distance, distance))
        assert math.isfinite(log_likelihood)
        assert math.fsum(belief) == pytest.approx(1.0, abs=1e-12)
        assert min(belief) >= 0.0


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_renumbering_the_states_renumbers_the_beliefs(order: tuple[int, int, int]) -> None:
    """Nothing depends on a state's place."""
    model = random_model(10)
    rows = random_rows(model, 200, 10)
    beliefs, log_likelihoods = filter_series(model, rows)
    other_beliefs, other_log_likelihoods = filter_series(reorder(model, order), rows)
    np.testing.assert_allclose(other_beliefs, beliefs[:, list(order)], rtol=0, atol=1e-12)
    np.testing.assert_allclose(other_log_likelihoods, log_likelihoods, rtol=0, atol=1e-10)


def test_the_unit_of_a_feature_does_not_matter() -> None:
    """In per cent instead of fractions: the same beliefs, and a log likelihood lower by ln 100 a bar."""
    model = bar_model()
    rows = random_rows(model, 200, 11)
    beliefs, log_likelihoods = filter_series(model, rows)
    percent = msgspec.structs.replace(model, scaler_scale=(1.0, 0.3))
    other_beliefs, other_log_likelihoods = filter_series(percent, rows * np.array([100.0, 1.0]))
    np.testing.assert_allclose(other_beliefs, beliefs, rtol=0, atol=1e-10)
    np.testing.assert_allclose(other_log_likelihoods, log_likelihoods - math.log(100.0), rtol=0, atol=1e-10)
