"""Fits the regime model: the slow worker's half of this service, and the only door to hmmlearn and scipy.

``fit`` is a function of its arguments: the same closes, seed and library versions give the same model hash in every
process. Starting points come from counter-seeded generators of its own, EM runs on one thread (with two, sums are
taken in another order and the hash changes), and the libraries are imported when it is called, so that importing a
core never loads them.

It decides nothing about promotion, and it never looks at a bar after the last one it was given.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_common.values import TrainingFault
from tapeline_regime.features import FEATURE_NAMES, feature_rows
from tapeline_regime.filtering import filter_series
from tapeline_regime.model import (
    BEAR,
    BULL,
    CHOP,
    SCALE_FLOOR,
    STATE_VARIANCE_FLOOR,
    STATES,
    TRANSITION_FLOOR,
    Probabilities,
    RegimeModel,
    check,
    model_hash,
    reorder,
    stationary,
)

Matrix = NDArray[np.float64]

RETURN: Final = 0
"""Column of the log return in FEATURE_NAMES."""

LEAST_OBSERVATIONS: Final = 200
"""Under this the three variances, by which states are named, are too uncertain to tell apart."""

LEAST_SHARE: Final = 0.01
"""A state that holds less than this long-run share of the bars is a handful of outliers, not a regime."""

TOLERANCE: Final = 1e-6
"""EM stops when a pass gains less than this many nats per observation."""

MEAN_GAP_ERRORS: Final = 3.0
"""Standard errors from which on a mean return, or the gap between two of them, counts as more than chance.

Three rather than the usual two: EM chose the states to differ, so gaps between them look surer than they are.
"""


class TrainingFailure(msgspec.Struct, frozen=True):
    """No model, and why; ``detail`` names the thing, its value and the limit."""

    reason: TrainingFault
    detail: str


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """A fitted model and how it came about.

    ``log_likelihood`` is the model's own causal filter over the training bars, summed: nats, in the features' own
    units. ``restarts`` holds each restart's final EM log likelihood (nats, scaled units; None where it broke down or
    lost a state), in order; ``best_restart`` is the one kept. ``bars`` is how many closes gave an observation.
    ``names_plausible`` is False when BEAR gains or BULL loses by more than MEAN_GAP_ERRORS standard errors of its mean
    return: a model to look at before it is promoted.
    """

    model: RegimeModel
    model_hash: str
    log_likelihood: float
    restarts: tuple[float | None, ...]
    best_restart: int
    bars: int
    names_plausible: bool


class _Emissions(msgspec.Struct, frozen=True):
    """Parameters of one EM run as arrays: start (3,), transition (3, 3), means and variances (3, d)."""

    start: Matrix
    transition: Matrix
    means: Matrix
    variances: Matrix


def fit(
    closes: Sequence[float] | Matrix, *, seed: int, restarts: int = 10, max_iterations: int = 200
) -> Training | TrainingFailure:
    """Fit three states to a series of closes by EM from several starts, keep the likeliest, and name its states.

    Args:
        closes: shape (bars,), oldest first; unusable closes are skipped exactly as the live features skip them.
        seed: not negative; decides the random starts.
        restarts: starting points, at least 1. One random start is within half a nat of the best of twenty only in
            about half of all fits at 1,500 bars, five or more in over nine of ten.
        max_iterations: EM passes per start, at least 1.
    """
    if seed < 0 or restarts < 1 or max_iterations < 1:
        return TrainingFailure(
            TrainingFault.BAD_SETTING,
            f"seed={seed}, restarts={restarts}, max_iterations={max_iterations}; need at least 0, 1 and 1",
        )
    rows = feature_rows(closes)
    rows = rows[~np.isnan(rows[:, RETURN])]
    if len(rows) < LEAST_OBSERVATIONS:
        return TrainingFailure(
            TrainingFault.TOO_FEW_BARS,
            f"{len(rows)} observations from {len(closes)} closes; need at least {LEAST_OBSERVATIONS}",
        )
    centre, scale = _scaler(rows)
    for name, width in zip(FEATURE_NAMES, scale, strict=True):
        if width < SCALE_FLOOR:
            return TrainingFailure(
                TrainingFault.NO_VARIATION, f"{name} has standard deviation {width}; need at least {SCALE_FLOOR}"
            )
    scaled = np.ascontiguousarray((rows - np.asarray(centre)) / np.asarray(scale))
    runs = _run_restarts(scaled, seed, restarts, max_iterations)
    usable = [(run[1], -place) for place, run in enumerate(runs) if run is not None]
    if not usable:
        return TrainingFailure(TrainingFault.NO_USABLE_FIT, f"none of {restarts} restarts kept three live states")
    best = -max(usable)[1]
    kept = runs[best]
    assert kept is not None, "the best restart is chosen among the usable ones"
    likelihoods = tuple(None if run is None else run[1] for run in runs)
    return _finish(rows, _named_model(kept[0], centre, scale, len(rows)), likelihoods, best)


def _finish(
    rows: Matrix, model: RegimeModel, restarts: tuple[float | None, ...], best: int
) -> Training | TrainingFailure:
    fault = check(model)
    if fault is not None:
        return TrainingFailure(TrainingFault.FAULTY_MODEL, f"the fitted model fails its check: {fault.value}")
    _, log_likelihoods = filter_series(model, rows)
    return Training(
        model=model,
        model_hash=model_hash(model),
        log_likelihood=math.fsum(log_likelihoods.tolist()),
        restarts=restarts,
        best_restart=best,
        bars=len(rows),
        names_plausible=_names_plausible(model, len(rows)),
    )


def _scaler(rows: Matrix) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of each column, exactly rounded sums (the same on every processor)."""
    centres, scales = [], []
    for column in rows.T.tolist():
        centre = math.fsum(column) / len(column)
        centres.append(centre)
        scales.append(math.sqrt(math.fsum((value - centre) ** 2 for value in column) / len(column)))
    return tuple(centres), tuple(scales)


def load_libraries() -> None:
    """What fitting takes from hmmlearn and threadpoolctl, before the first fit needs it."""
    import hmmlearn._hmmc  # noqa: F401
    import threadpoolctl  # type: ignore[import-untyped]  # noqa: F401  # ships no type information


def _run_restarts(
    scaled: Matrix, seed: int, restarts: int, max_iterations: int
) -> list[tuple[_Emissions, float] | None]:
    """One EM run per starting point, on one thread; None where it broke down or lost a state."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1), warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [
            _expectation_maximisation(scaled, _start(scaled, seed, place), max_iterations) for place in range(restarts)
        ]


def _start(scaled: Matrix, seed: int, place: int) -> _Emissions:
    """Starting point number ``place``: terciles of each feature in turn, then groups around three random bars."""
    bars, features = scaled.shape
    if place < features:
        ranks = np.argsort(np.argsort(scaled[:, place], kind="stable"), kind="stable")
        group = ranks * len(STATES) // bars
    else:
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, place))))
        centres = scaled[generator.choice(bars, size=len(STATES), replace=False)]
        group = np.argmin(((scaled[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2), axis=1)
    members = [scaled[group == state] for state in range(len(STATES))]
    # A group can be empty when two of the random bars are equal: it then starts as the whole sample.
    members = [own if len(own) else scaled for own in members]
    stay, leave = 0.95, 0.025
    return _Emissions(
        start=np.full(len(STATES), 1.0 / len(STATES)),
        transition=np.full((len(STATES), len(STATES)), leave) + (stay - leave) * np.eye(len(STATES)),
        means=np.array([own.mean(axis=0) for own in members]),
        variances=np.maximum(np.array([own.var(axis=0) for own in members]), STATE_VARIANCE_FLOOR),
    )


def _expectation_maximisation(
    scaled: Matrix, start: _Emissions, max_iterations: int
) -> tuple[_Emissions, float] | None:
    """EM to convergence with a floor on every variance, a pass at a time because hmmlearn itself has no such floor.

    Clamping is the exact M-step under the constraint (the expected log likelihood falls away from its peak), so the
    likelihood still never goes down.
    """
    squares = scaled**2
    current, last = start, -math.inf
    for _ in range(max_iterations):
        if not _are_distributions(current):
            return None
        log_likelihood, found = _pass(scaled, squares, current)
        is_finite = np.isfinite(found.variances).all() and np.isfinite(found.means).all()
        if not (math.isfinite(log_likelihood) and is_finite):
            return None
        # What the pass reports is the likelihood of the parameters that it began with, so those are kept with it.
        if log_likelihood - last < TOLERANCE * len(scaled):
            return _if_alive(current, log_likelihood)
        last = log_likelihood
        clamped = np.maximum(found.variances, STATE_VARIANCE_FLOOR)
        current = _Emissions(found.start, _floored(found.transition), found.means, clamped)
    return _if_alive(current, _forward(scaled, current)[1])


# ---- one pass: hmmlearn's own arithmetic without its checks --------------------------------------------------------
#
# ``GaussianHMM.fit`` spends most of a pass on looking at its input again, and loads scikit-learn and scipy, which takes
# longer than a fit. These do what is left of it, with its compiled recursions and in its order of operations, so that
# a model is the same to the last bit (tested beside it).


def _are_distributions(emissions: _Emissions) -> bool:
    """Whether probabilities add up to one, as closely as ``numpy.allclose`` asks: not where a state was lost."""
    sums = (emissions.start.sum(axis=-1), *emissions.transition.sum(axis=-1).tolist())
    return all(abs(each - 1.0) <= 1e-8 + 1e-5 for each in sums)


def _forward(scaled: Matrix, emissions: _Emissions) -> tuple[Matrix, float, Matrix]:
    """Log density of each bar in each state, log likelihood of all, and the forward recursion."""
    from hmmlearn import _hmmc

    tiny: float = np.finfo(float).tiny
    variances = np.maximum(emissions.variances, tiny)
    bars, features = scaled.shape
    distances = np.empty((bars, len(STATES)))
    for state in range(len(STATES)):
        parts = [(scaled[:, j] - emissions.means[state, j]) ** 2 / variances[state, j] for j in range(features)]
        distances[:, state] = sum(parts[1:], parts[0])
    densities = -0.5 * (features * np.log(2 * np.pi) + np.log(variances).sum(axis=-1) + distances)
    log_likelihood, forward = _hmmc.forward_log(emissions.start, emissions.transition, densities)
    return densities, log_likelihood, forward


def _pass(scaled: Matrix, squares: Matrix, emissions: _Emissions) -> tuple[float, _Emissions]:
    """The log likelihood of these parameters, and those of the M-step, without priors."""
    from hmmlearn import _hmmc

    densities, log_likelihood, forward = _forward(scaled, emissions)
    backward = _hmmc.backward_log(emissions.start, emissions.transition, densities)
    log_posteriors = forward + backward
    posteriors = np.exp(log_posteriors - _log_sums(log_posteriors))
    moves = np.exp(_hmmc.compute_log_xi_sum(forward, emissions.transition, backward, densities))
    start = np.where(emissions.start == 0, 0, np.maximum(posteriors[0], 0))
    transition = np.where(emissions.transition == 0, 0, np.maximum(moves, 0))
    weights, sums, square_sums = posteriors.sum(axis=0)[:, None], posteriors.T @ scaled, posteriors.T @ squares
    means = sums / weights
    spread = square_sums - 2 * means * sums + means**2 * weights
    rows = transition.sum(axis=1, keepdims=True)
    rows[rows == 0] = 1
    return log_likelihood, _Emissions(start / start.sum(), transition / rows, means, spread / np.maximum(weights, 1e-5))


def _log_sums(logs: Matrix) -> Matrix:
    """``scipy.special.logsumexp`` of each row, shape (bars, 1): its operations where no row holds an infinity."""
    first, second, third = logs.T
    highest = np.maximum(np.maximum(first, second), third)[:, None]
    is_highest = logs == highest
    rest = np.exp(np.where(is_highest, -np.inf, logs) - highest)
    count = is_highest @ np.ones(len(STATES))
    others = rest[:, 0] + rest[:, 1] + rest[:, 2]
    sums: Matrix = (np.log1p(others / count) + np.log(count) + highest[:, 0])[:, None]
    if not np.isfinite(sums).all():
        from scipy.special import logsumexp

        return np.asarray(logsumexp(logs, axis=1, keepdims=True))
    return sums


def _if_alive(emissions: _Emissions, log_likelihood: float) -> tuple[_Emissions, float] | None:
    """The run, unless one of its states holds too few bars to be a regime."""
    shares = stationary(_matrix(emissions.transition))
    return (emissions, log_likelihood) if min(shares) >= LEAST_SHARE else None


def _floored(transition: Matrix) -> Matrix:
    """Mixed with the uniform, which lifts every entry to the floor and leaves the rows' sums alone."""
    return TRANSITION_FLOOR + (1.0 - len(STATES) * TRANSITION_FLOOR) * transition


def _triple(values: Matrix) -> Probabilities:
    first, second, third = values.tolist()
    return (first, second, third)


def _matrix(values: Matrix) -> tuple[Probabilities, Probabilities, Probabilities]:
    return (_triple(values[0]), _triple(values[1]), _triple(values[2]))


def _named_model(emissions: _Emissions, centre: tuple[float, ...], scale: tuple[float, ...], bars: int) -> RegimeModel:
    """The model in the order of STATES.

    Its start is the long-run share of each state, not EM's estimate: that one says which state the first training bar
    was in, which is nothing to begin another series with.
    """
    transition = _matrix(emissions.transition)
    means, variances = (
        (tuple(rows[0].tolist()), tuple(rows[1].tolist()), tuple(rows[2].tolist()))
        for rows in (emissions.means, emissions.variances)
    )
    model = RegimeModel(
        feature_names=FEATURE_NAMES,
        scaler_mean=centre,
        scaler_scale=scale,
        start=stationary(transition),
        transition=transition,
        means=means,
        variances=variances,
    )
    return reorder(model, name_states(model, bars))


def _names_plausible(model: RegimeModel, bars: int) -> bool:
    """Whether the mean returns leave room for BEAR to lose and BULL to gain."""
    centre, scale = model.scaler_mean[RETURN], model.scaler_scale[RETURN]
    shares = stationary(model.transition)

    def mean_in_errors(state: int) -> float:
        error = scale * math.sqrt(model.variances[state][RETURN] / (bars * shares[state]))
        return (centre + scale * model.means[state][RETURN]) / error

    return mean_in_errors(BEAR) <= MEAN_GAP_ERRORS and mean_in_errors(BULL) >= -MEAN_GAP_ERRORS


def name_states(model: RegimeModel, bars: int) -> tuple[int, int, int]:
    """Which of the model's states are BULL, BEAR and CHOP, in this order; independent of the order they are in.

    BEAR is the state whose returns vary most. Of the other two, BULL is the one with the higher mean return if the
    means differ by more than MEAN_GAP_ERRORS standard errors, else the calmer one: at bar scale the error of a mean is
    as large as the gaps between means, so that naming by means alone gives different names at every refit, while
    variances are sharp.

    Args:
        model: states in any order.
        bars: observations it was fitted on; with the long-run shares they give the errors of the means.
    """

    def character(state: int) -> tuple[float, ...]:
        """Volatility first; what follows only breaks exact ties, by the state's own numbers and never by its place."""
        stay = model.transition[state][state]
        return (model.variances[state][RETURN], *model.means[state], *model.variances[state], shares[state], stay)

    shares = stationary(model.transition)
    calmest, middle, wildest = sorted(range(len(STATES)), key=character)
    gap = model.means[middle][RETURN] - model.means[calmest][RETURN]
    error = math.sqrt(math.fsum(model.variances[state][RETURN] / (bars * shares[state]) for state in (calmest, middle)))
    bull, chop = (middle, calmest) if gap > MEAN_GAP_ERRORS * error else (calmest, middle)
    places = {BULL: bull, BEAR: wildest, CHOP: chop}
    return (places[0], places[1], places[2])
