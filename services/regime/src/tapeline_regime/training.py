"""Fits the regime model: the slow worker's half of this service, and the only door to hmmlearn.

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
from typing import Any, Final

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
    """hmmlearn and what comes with it, before the first fit needs it."""
    import hmmlearn.hmm  # noqa: F401
    import threadpoolctl  # type: ignore[import-untyped]  # noqa: F401  # ships no type information


def _run_restarts(
    scaled: Matrix, seed: int, restarts: int, max_iterations: int
) -> list[tuple[_Emissions, float] | None]:
    """One EM run per starting point, on one thread; None where it broke down or lost a state."""
    # Imported before the limit is set: threadpoolctl limits the pools of the libraries that are loaded by then.
    import hmmlearn.hmm  # noqa: F401
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
    likelihood still never goes down. ``covars_prior=0`` takes away hmmlearn's default prior, which is not scale-free.
    """
    from hmmlearn.hmm import GaussianHMM

    hmm: Any = GaussianHMM(n_components=len(STATES), covariance_type="diag", n_iter=1, init_params="", covars_prior=0.0)
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
        # What the pass reports is the likelihood of the parameters that it began with, so those are kept with it.
        if log_likelihood - last < TOLERANCE * len(scaled):
            return _if_alive(current, log_likelihood)
        last = log_likelihood
        clamped = np.maximum(variances, STATE_VARIANCE_FLOOR)
        current = _Emissions(hmm.startprob_.copy(), _floored(hmm.transmat_), hmm.means_.copy(), clamped)
        hmm.transmat_, hmm.covars_ = current.transition, clamped
    return _if_alive(current, float(hmm.score(scaled)))


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
