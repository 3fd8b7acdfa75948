"""Drift: scores that are right, detectors that fire in time and keep quiet, and no number that breaks them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from statistics import NormalDist

import msgspec
import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from numpy.typing import NDArray
from river.drift import ADWIN
from scipy.stats import norm

from tapeline_regime import drift
from tapeline_regime.drift import (
    ADWIN_HOLD_BARS,
    CEILING,
    LEAST_REFERENCE,
    LEVEL_THRESHOLD,
    NARROWER_THRESHOLD,
    SCORE_LIMIT,
    WIDER_THRESHOLD,
    Adwin,
    Cusum,
    Drift,
    Reference,
    pit,
    reference,
    unreferenced,
)
from tapeline_regime.features import FEATURE_NAMES, FeatureState, Observation
from tapeline_regime.filtering import Belief, Prepared, predict, prepare, step
from tapeline_regime.model import RegimeModel
from tapeline_regime.training import Training, fit

Numbers = NDArray[np.float64]

CALM = RegimeModel(
    feature_names=FEATURE_NAMES,
    scaler_mean=(0.0, -5.0),
    scaler_scale=(0.01, 0.5),
    start=(0.4, 0.2, 0.4),
    transition=((0.97, 0.01, 0.02), (0.02, 0.96, 0.02), (0.02, 0.02, 0.96)),
    means=((0.1, 0.0), (-0.2, 1.0), (0.0, -1.0)),
    variances=((0.6, 0.5), (3.0, 0.5), (0.1, 0.5)),
)
RESTLESS = msgspec.structs.replace(CALM, transition=((0.6, 0.2, 0.2), (0.3, 0.5, 0.2), (0.3, 0.2, 0.5)))
"""Regimes that change so often that the next one is anybody's guess: here the mixture matters most."""

MODEL = prepare(CALM)
ENOUGH = 1_500


# ---- worlds ------------------------------------------------------------------------------------------------------

STAY = np.array([[0.985, 0.0075, 0.0075], [0.015, 0.97, 0.015], [0.015, 0.015, 0.97]])
MEANS = np.array([0.0008, -0.0012, 0.0001])
DEVIATIONS = np.array([0.008, 0.022, 0.012])
"""A market of three regimes of 67, 33 and 33 bars, daily returns: the one the goals are stated for."""

FITTED, QUIET, AFTER = 2_000, 3_000, 3_000

DRAWN = 10_000
"""Bars drawn at once, however many are asked for, so that a seed is one market."""


def market(seed: int, bars: int, *, times: float = 1.0, from_bar: int = 0) -> list[float]:
    """Closes; every regime's volatility is ``times`` as large from a bar on, with the same shocks."""
    chance = np.random.default_rng(seed)
    regimes, regime = [], int(chance.integers(3))
    for uniform in chance.random(DRAWN):
        regime = min(int(np.searchsorted(np.cumsum(STAY[regime]), uniform)), 2)
        regimes.append(regime)
    wider = np.where(np.arange(DRAWN) >= from_bar, times, 1.0)
    returns = MEANS[regimes] + DEVIATIONS[regimes] * wider * chance.standard_normal(DRAWN)
    closes: list[float] = (100.0 * np.exp(np.concatenate([[0.0], np.cumsum(returns[:bars])]))).tolist()
    return closes


def fitted(closes: Sequence[float], seed: int, restarts: int) -> Prepared:
    trained = fit(closes, seed=seed, restarts=restarts)
    assert isinstance(trained, Training), f"seed {seed}: {trained}"
    return prepare(trained.model)


def alarms(model: Prepared, closes: Sequence[float], bars_fitted: int) -> list[int]:
    """The bars after the fit at which a detector began to say drift, each detector's own."""
    features, belief, seen = FeatureState(), None, list[Observation]()
    watch: Drift | None = None
    saying: set[str] = set()
    found = []
    for index, close in enumerate(closes):
        observation = features.push(close)
        if observation is None:
            continue
        if index <= bars_fitted:
            seen.append(observation)
        else:
            if watch is None:
                watch = Drift(reference(model, seen))
            watch.push(model, belief, observation)
            now = {name for name, statistic, threshold in watch.scores() if statistic > threshold}
            found += [index - bars_fitted - 1] * len(now - saying)
            saying = now
        belief, _ = step(model, belief, observation)
    return found


def benchmark(seeds: Sequence[int], restarts: int, times: float) -> tuple[float, float]:
    """False alarms in 10,000 quiet bars, and the median delay after a change of volatility (inf where missed)."""
    false, delays = 0, []
    for seed in seeds:
        quiet = market(seed, FITTED + QUIET + AFTER)
        model = fitted(quiet[: FITTED + 1], seed, restarts)
        false += len(alarms(model, quiet, FITTED))
        changed = market(seed, FITTED + QUIET + AFTER, times=times, from_bar=FITTED + QUIET)
        after = [bar - QUIET + 1 for bar in alarms(model, changed, FITTED) if bar >= QUIET]
        delays.append(min(after, default=math.inf))
    return false / (len(seeds) * (QUIET + AFTER)) * 10_000, float(np.median(delays))


def independent(seed: int, paths: int, bars: int, *, shift: float = 0.0, scale: float = 1.0) -> tuple[float, float]:
    """Alarms in 10,000 bars and the median time to the first one (inf where none), on independent normal scores."""
    chance = np.random.default_rng(seed)
    count, delays = 0, []
    for _ in range(paths):
        watch, saying, first = Drift(exact_reference()), set[str](), math.inf
        for bar, score in enumerate(np.clip(shift + scale * chance.standard_normal(bars), -3.5, 3.5).tolist()):
            watch.take(score)
            now = {name for name, statistic, threshold in watch.scores() if statistic > threshold}
            count += len(now - saying)
            saying = now
            if now:
                first = min(first, bar + 1)
        delays.append(first)
    return count / (paths * bars) * 10_000, float(np.median(delays))


def exact_reference() -> Reference:
    """Of a model that was exact on its training bars: evenly spread PITs."""
    return Reference(array("d", [(rank + 0.5) / ENOUGH for rank in range(ENOUGH)]), mean=0.0, deviation=1.0)


# ---- the goals ---------------------------------------------------------------------------------------------------


def test_an_independent_stream_is_quiet_and_a_shift_of_half_a_deviation_is_found_within_80_bars() -> None:
    """At most 2 false alarms in 10,000 bars; every shift of the mean is found, in the median in 80 bars or fewer."""
    false, _ = independent(1, 5, 10_000)
    _, delay = independent(1, 40, 400, shift=0.5)
    assert false <= 2.0
    assert delay <= 80


def test_a_change_of_volatility_is_found_in_a_market_of_regimes() -> None:
    """A bounded dose of the goal below: two markets, fewer starts, and bounds as wide as so few bars need them."""
    false, delay = benchmark((510, 511), restarts=2, times=1.5)
    assert false <= 5.0
    assert delay <= 1_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_goal_drift() -> None:
    """Forty markets that no constant was chosen on: at most 2 false alarms in 10,000 bars, 300 bars to find x1.5."""
    false, delay = benchmark(range(500, 540), restarts=10, times=1.5)
    print(f"{false:.2f} false alarms in 10,000 bars, median delay {delay:.0f} bars")
    assert false <= 2.0
    assert delay <= 300


# ---- scores ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("belief", [None, (0.7, 0.2, 0.1), (0.0, 1.0, 0.0)])
def test_the_pit_is_that_of_the_mixture(belief: Belief | None) -> None:
    """Against the mixture written out with scipy's normal, under the predicted and not the present belief."""
    weights = predict(MODEL, belief)
    for value in (-0.05, -0.004, 0.0, 0.002, 0.03):
        wanted = math.fsum(
            weight * norm.cdf(value, 0.01 * mean[0], 0.01 * math.sqrt(variance[0]))
            for weight, mean, variance in zip(weights, CALM.means, CALM.variances, strict=True)
        )
        assert pit(MODEL, belief, value) == pytest.approx(wanted, abs=1e-14)


def drawn(seed: int, bars: int, model: RegimeModel = CALM) -> list[Observation]:
    """A market that is exactly as the model has it, its second feature drawn like the first."""
    chance, state, found = np.random.default_rng(seed), 0, list[Observation]()
    for _ in range(bars):
        state = int(chance.choice(3, p=model.transition[state]))
        scaled = np.array(model.means[state]) + np.sqrt(model.variances[state]) * chance.standard_normal(2)
        row = np.array(model.scaler_mean) + np.array(model.scaler_scale) * scaled
        found.append((float(row[0]), float(row[1])))
    return found


def pits_of(model: Prepared, observations: Sequence[Observation]) -> Numbers:
    belief, found = None, []
    for observation in observations:
        found.append(pit(model, belief, observation[0]))
        belief, _ = step(model, belief, observation)
    return np.array(found)


def without_mixture(prepared: Prepared, belief: Belief | None, value: float) -> float:
    """A mutant: the likeliest state's normal, as if the regime were known."""
    weights = predict(prepared, belief)
    at = max(range(3), key=weights.__getitem__)
    mean, half_precision = prepared.columns[0][at], prepared.columns[0][3 + at]
    return NormalDist(mean, math.sqrt(0.5 / half_precision)).cdf(value)


def unlike_uniform(pits: Numbers) -> float:
    """Kolmogorov and Smirnov's distance times the root of the count: above 1.95 with a chance of 0.001."""
    ordered, count = np.sort(pits), len(pits)
    steps = np.arange(count + 1) / count
    return float(np.maximum(steps[1:] - ordered, ordered - steps[:-1]).max() * math.sqrt(count))


def test_under_the_model_pits_are_uniform_and_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the detectors rest on; and a PIT that forgets the mixture is not uniform, so the check can fail."""
    observations = drawn(5, 6_000, RESTLESS)
    pits = pits_of(prepare(RESTLESS), observations)
    sizes = np.abs(pits - 0.5)
    assert unlike_uniform(pits) < 1.95
    assert abs(np.corrcoef(pits[1:], pits[:-1])[0, 1]) < 0.045
    assert abs(np.corrcoef(sizes[1:], sizes[:-1])[0, 1]) < 0.045
    monkeypatch.setattr("tests.cores.test_regime_drift.pit", without_mixture)
    assert unlike_uniform(pits_of(prepare(RESTLESS), observations)) > 1.95


def test_scores_of_the_training_bars_have_mean_zero_and_variance_one() -> None:
    """However little the model fits them: here all returns are half as large as it thinks, and many of them equal."""
    observations = [(round(0.5 * value, 3), other) for value, other in drawn(6, ENOUGH)]
    known = reference(MODEL, observations)
    assert known is not None
    scores = np.array([known.score(value) for value in pits_of(MODEL, observations)])
    assert scores.mean() == pytest.approx(0.0, abs=0.01)
    assert scores.std() == pytest.approx(1.0, abs=0.01)


def test_a_score_is_the_naive_rank() -> None:
    """The table and two bisections against counting, in the order of the PITs and on both sides of each."""
    observations = drawn(7, LEAST_REFERENCE)
    known, pits = reference(MODEL, observations), pits_of(MODEL, observations)
    assert known is not None

    def naive(value: float) -> float:
        rank = float((pits < value).sum() + 0.5 * (pits == value).sum())
        return NormalDist().inv_cdf((rank + 0.5) / (len(pits) + 1))

    own = np.array([naive(value) for value in pits])
    for value in (0.0, 1.0, *pits.tolist(), *(pits + 1e-6).tolist()):
        wanted = (naive(value) - own.mean()) / own.std()
        assert known.score(value) == pytest.approx(np.clip(wanted, -SCORE_LIMIT, SCORE_LIMIT), abs=1e-12)


def test_too_few_training_bars_are_no_reference() -> None:
    """One fewer than the least, or all alike: none. The least: one."""
    observations = drawn(8, LEAST_REFERENCE)
    assert reference(MODEL, observations) is not None
    assert reference(MODEL, observations[1:]) is None
    assert reference(MODEL, [(math.nan, 0.0)] * LEAST_REFERENCE) is None


# ---- CUSUM -------------------------------------------------------------------------------------------------------


def pushed(make: Callable[[], Cusum], scores: Sequence[float]) -> Cusum:
    cusum = make()
    for score in scores:
        cusum.push(score)
    return cusum


def test_each_cusum_rises_on_its_own_change() -> None:
    """A shift up, a shift down, wild scores, still scores: one statistic over its threshold each."""
    up = pushed(lambda: Cusum(ENOUGH), [0.8] * 100)
    down = pushed(lambda: Cusum(ENOUGH), [-0.8] * 100)
    wild = pushed(lambda: Cusum(ENOUGH), [1.5, -1.5] * 100)
    still = pushed(lambda: Cusum(ENOUGH), [0.2, -0.2] * 100)
    assert up.higher > LEVEL_THRESHOLD > up.lower
    assert down.lower > LEVEL_THRESHOLD > down.higher
    assert wild.wider > WIDER_THRESHOLD
    assert wild.narrower == 0.0
    assert still.narrower > NARROWER_THRESHOLD
    assert still.wider == 0.0


def test_a_cusum_equals_its_definition() -> None:
    """The recursion against the largest sum of a suffix, which is what Page's CUSUM is, below its ceiling."""
    scores = np.random.default_rng(3).standard_normal(80) * 1.05
    cusum = pushed(lambda: Cusum(ENOUGH), scores.tolist())
    mean_error, scale_error = 1.0 / math.sqrt(ENOUGH), 2.0 / math.sqrt(2 * ENOUGH)

    def largest_suffix(gains: Numbers) -> float:
        return max(0.0, *(float(gains[start:].sum()) for start in range(len(gains))))

    # ln N(x; 0.5, 1) - ln N(x; 0, 1), and the same for a deviation of 1.2 and of its inverse
    assert cusum.higher == pytest.approx(
        largest_suffix(norm.logpdf(scores - mean_error, 0.5) - norm.logpdf(scores - mean_error)), abs=1e-9
    )
    assert cusum.lower == pytest.approx(
        largest_suffix(norm.logpdf(scores + mean_error, -0.5) - norm.logpdf(scores + mean_error)), abs=1e-9
    )
    least, most = scores / (1 + scale_error), scores * (1 + scale_error)
    assert cusum.wider == pytest.approx(largest_suffix(norm.logpdf(least, 0, 1.2) - norm.logpdf(least)), abs=1e-9)
    assert cusum.narrower == pytest.approx(largest_suffix(norm.logpdf(most, 0, 1 / 1.2) - norm.logpdf(most)), abs=1e-9)


def test_a_cusum_comes_down_when_the_drift_is_over() -> None:
    """It holds at its ceiling, and quiet scores bring it below the threshold again."""
    cusum = pushed(lambda: Cusum(ENOUGH), [0.8] * 1_000)
    assert cusum.higher == CEILING * LEVEL_THRESHOLD
    for _ in range(200):
        cusum.push(0.0)
    assert cusum.higher < LEVEL_THRESHOLD


def test_a_cusum_that_never_falls_back_to_zero_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant that saves up evidence for the model finds a shift after a quiet year far too late."""
    quiet_then_shifted = [*np.random.default_rng(4).standard_normal(3_000).tolist(), *[0.5] * 110]
    assert pushed(lambda: Cusum(ENOUGH), quiet_then_shifted).higher > LEVEL_THRESHOLD
    monkeypatch.setattr(drift, "_held", lambda statistic, threshold: min(statistic, CEILING * threshold))
    assert pushed(lambda: Cusum(ENOUGH), quiet_then_shifted).higher < LEVEL_THRESHOLD


def test_fewer_training_bars_are_trusted_less() -> None:
    """The same scores, a little wider than the reference: drift if that rests on many bars, not if on few."""
    scores = [1.15, -1.15] * 400
    assert pushed(lambda: Cusum(100_000), scores).wider > WIDER_THRESHOLD
    assert pushed(lambda: Cusum(LEAST_REFERENCE), scores).wider < WIDER_THRESHOLD


# ---- ADWIN -------------------------------------------------------------------------------------------------------


def sizes(seed: int, bars: int, change: int, times: float) -> list[float]:
    found = np.abs(np.random.default_rng(seed).standard_normal(bars))
    found[change:] *= times
    listed: list[float] = found.tolist()
    return listed


def naive_ratio(values: Sequence[float], lengths: Sequence[int]) -> float:
    """The largest gap over its bound, over a plain list of all values cut where the buckets end."""
    array, count = np.array(values), len(values)
    confidence = math.log(2.0 * math.log(count) / 0.002)
    largest = 0.0
    for before in np.cumsum(lengths)[:-1].tolist():
        after = count - before
        if before < 5 or after < 5:
            continue
        width = 1.0 / (before - 4) + 1.0 / (after - 4)
        bound = math.sqrt(2.0 * width * array.var() * confidence) + 2.0 / 3.0 * confidence * width
        largest = max(largest, abs(array[:before].mean() - array[before:].mean()) / bound)
    return largest


def test_adwin_equals_its_naive_twin() -> None:
    """Sums kept in buckets against the values themselves, before and after cuts."""
    adwin, kept = Adwin(clock=1), list[float]()
    for value in sizes(1, 700, 400, 2.0):
        kept.append(value)
        adwin.push(value)
        lengths = [1 << row for row in range(len(adwin.rows) - 1, -1, -1) for _ in adwin.rows[row]]
        kept = kept[len(kept) - adwin.count :]
        assert sum(lengths) == adwin.count
        assert adwin.total == pytest.approx(math.fsum(kept), abs=1e-9)
        if len(kept) >= 10 and adwin.ratio <= 1.0:
            assert adwin.ratio == pytest.approx(naive_ratio(kept, lengths), abs=1e-9)
    assert adwin.count < 500


@pytest.mark.parametrize("times", [1.2, 1.4, 1.6, 2.0])
def test_adwin_finds_a_change_when_river_does(times: float) -> None:
    """The first cut is at the same value. (Later ones differ: river leaves out each row's last bucket as a cut.)"""
    theirs, ours, found = ADWIN(clock=1), Adwin(clock=1), [0, 0]
    for bar, value in enumerate(sizes(int(10 * times), 3_500, 2_000, times), start=1):
        theirs.update(value)
        ours.push(value)
        found[0] = found[0] or bar * theirs.drift_detected
        found[1] = found[1] or bar * (ours.ratio > 1.0)
    assert 2_000 < found[1] == pytest.approx(found[0], abs=8)


def test_adwin_is_quiet_on_a_stream_that_does_not_change() -> None:
    """No cut in 20,000 values, and the buckets stay few."""
    adwin = Adwin()
    for value in sizes(2, 20_000, 0, 1.0):
        adwin.push(value)
        assert adwin.ratio <= 1.0
    assert adwin.count == 20_000
    assert sum(map(len, adwin.rows)) < 80


def test_a_cut_is_shown_for_a_while_and_then_no_longer() -> None:
    """ADWIN forgets what was before a change; whoever scrapes now and then still sees it."""
    watch = Drift(exact_reference())
    for value in (*[0.5, -0.9] * 400, *[1.4, -2.1] * 40):
        watch.take(value)
    cut = next(score for score in watch.scores() if score[0] == "adwin")
    assert cut[1] > cut[2]
    for value in [1.4, -2.1] * ADWIN_HOLD_BARS:
        watch.take(value)
    shown = next(score for score in watch.scores() if score[0] == "adwin")
    assert shown[1] <= shown[2]


# ---- any number --------------------------------------------------------------------------------------------------

ANY = st.one_of(st.floats(), st.floats(-0.1, 0.1), st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, math.inf]))
BELIEFS = st.sampled_from([None, (1.0, 0.0, 0.0), (0.2, 0.3, 0.5), (0.0, 1.0, 0.0)])
KNOWN = reference(MODEL, drawn(9, LEAST_REFERENCE))


@for_all(st.lists(st.tuples(BELIEFS, ANY, ANY), max_size=60), st.booleans())
def test_whatever_is_observed_the_scores_are_finite(
    rows: list[tuple[Belief | None, float, float]], is_known: bool
) -> None:
    """Overflow, infinities and NaN included; what is not finite is passed over and changes nothing."""
    watch = Drift(KNOWN if is_known else None)
    for belief, value, other in rows:
        before = watch.scores()
        watch.push(MODEL, belief, (value, other))
        after = watch.scores()
        assert all(math.isfinite(statistic) and statistic >= 0.0 for _, statistic, _ in after)
        assert math.isfinite(value) or after == before


@for_all(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_a_higher_return_never_scores_lower(one: float, other: float) -> None:
    """PIT and score rise with the return, and stay within their bounds."""
    low, high = sorted((one, other))
    pits = [pit(MODEL, (0.2, 0.3, 0.5), value) for value in (low, high)]
    assert KNOWN is not None
    assert 0.0 <= pits[0] <= pits[1] <= 1.0
    for score in (KNOWN.score, unreferenced):
        assert -SCORE_LIMIT <= score(pits[0]) <= score(pits[1]) <= SCORE_LIMIT


def test_one_wild_bar_is_no_drift() -> None:
    """A crash far beyond anything seen alarms nobody by itself."""
    watch = Drift(KNOWN)
    watch.push(MODEL, None, (-0.9, 3.0))
    assert not watch.detected


def test_the_model_is_only_read() -> None:
    """Scoring changes neither model nor reference: two watches that share them agree."""
    one, other, observations = Drift(KNOWN), Drift(KNOWN), drawn(10, 300)
    for observation in observations:
        one.push(MODEL, None, observation)
    for observation in observations:
        other.push(MODEL, None, observation)
    assert one == other
    assert msgspec.structs.asdict(MODEL) == msgspec.structs.asdict(prepare(CALM))
