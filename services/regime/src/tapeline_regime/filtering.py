"""The causal forward filter: what is known of the regime at a bar, from that bar and earlier ones only.

``step`` is the one function that live, paper, replay and backtest use: belief before, one observation, belief after.
``filter_series`` does a whole series with the same operations in the same order, for training reports and research.
The recursion is Hamilton's filter (Hamilton 1989, Econometrica 57; the scaled forward pass of Rabiner 1989).

There is deliberately no smoother and no Viterbi path here: both let bars to come decide the label of this one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_regime.model import Probabilities, RegimeModel

Belief: TypeAlias = Probabilities
"""Filtered probabilities of BULL, BEAR and CHOP; they sum to 1."""

_Column: TypeAlias = tuple[float, float, float, float, float, float]


class Prepared(msgspec.Struct, frozen=True):
    """A model made ready for ``step``: all logarithms taken and the scaler folded in, once per model.

    ``constants[i]`` is the log density of state i at its mean. ``columns`` has one entry per feature: the three means,
    then the three half precisions, both in the feature's own units. ``transition`` is row by row.
    """

    start: Probabilities
    transition: tuple[float, float, float, float, float, float, float, float, float]
    constants: tuple[float, float, float]
    columns: tuple[_Column, ...]


def prepare(model: RegimeModel) -> Prepared:
    """The filter's coefficients for a model that passed ``check``."""
    columns: list[_Column] = []
    for j, (centre, scale) in enumerate(zip(model.scaler_mean, model.scaler_scale, strict=True)):
        first, second, third = (centre + scale * means[j] for means in model.means)
        wide, wider, widest = (0.5 / (scale * scale * variances[j]) for variances in model.variances)
        columns.append((first, second, third, wide, wider, widest))
    scales = math.fsum(math.log(scale) for scale in model.scaler_scale)
    norm = 0.5 * len(columns) * math.log(2.0 * math.pi) + scales
    bull, bear, chop = (-norm - 0.5 * math.fsum(math.log(v) for v in variances) for variances in model.variances)
    (a, b, c), (d, e, f), (g, h, i) = model.transition
    return Prepared(model.start, (a, b, c, d, e, f, g, h, i), (bull, bear, chop), tuple(columns))


def predict(prepared: Prepared, belief: Belief | None) -> Belief:
    """The belief one bar later, before anything is observed there; from None, the model's start."""
    if belief is None:
        return prepared.start
    b0, b1, b2 = belief
    a00, a01, a02, a10, a11, a12, a20, a21, a22 = prepared.transition
    p0 = b0 * a00 + b1 * a10 + b2 * a20
    p1 = b0 * a01 + b1 * a11 + b2 * a21
    p2 = b0 * a02 + b1 * a12 + b2 * a22
    total = p0 + p1 + p2
    return (p0 / total, p1 / total, p2 / total)


def step(prepared: Prepared, belief: Belief | None, observation: Sequence[float] | None) -> tuple[Belief, float]:
    """One bar: predict, then weigh by how well each state explains the observation.

    Args:
        prepared: the model, from ``prepare``.
        belief: the belief after the previous bar, or None before the first.
        observation: the bar's d features in their own units, or None for a missing one. An observation that is not
            finite, or so far out that its log density overflows, says nothing of the state: also missing.

    Returns:
        The belief after this bar, and the one-step log likelihood: ln p(observation | all earlier ones), a natural
        logarithm of a density in the features' own units (so models with different scalers compare); 0.0 if missing.

    Raises:
        ValueError: the observation does not have d values.
    """
    p0, p1, p2 = predict(prepared, belief)
    if observation is None:
        return (p0, p1, p2), 0.0
    l0, l1, l2 = prepared.constants
    for x, (m0, m1, m2, h0, h1, h2) in zip(observation, prepared.columns, strict=True):
        e0 = x - m0
        e1 = x - m1
        e2 = x - m2
        l0 -= e0 * e0 * h0
        l1 -= e1 * e1 * h1
        l2 -= e2 * e2 * h2
    return _weigh((p0, p1, p2), l0, l1, l2)


def _weigh(predicted: Belief, l0: float, l1: float, l2: float) -> tuple[Belief, float]:
    """Bayes' rule, shifted by the largest log density so that the likeliest state never underflows."""
    p0, p1, p2 = predicted
    if not -math.inf < l0 + l1 + l2 < math.inf:
        return predicted, 0.0
    top = l0 if l0 >= l1 else l1
    if l2 > top:
        top = l2
    w0 = p0 * math.exp(l0 - top)
    w1 = p1 * math.exp(l1 - top)
    w2 = p2 * math.exp(l2 - top)
    total = w0 + w1 + w2
    return (w0 / total, w1 / total, w2 / total), top + math.log(total)


def filter_series(
    model: RegimeModel, observations: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``step`` over a whole series, from the model's start, equal to it to the last bit.

    Args:
        model: a model that passed ``check``.
        observations: shape (bars, d), in the features' own units; a row that holds a NaN is a missing observation.

    Returns:
        Beliefs, shape (bars, 3), and one-step log likelihoods, shape (bars,); row t depends on rows 0..t only.
    """
    prepared = prepare(model)
    # Errors are off because an overflow here is the "far out" observation that ``_weigh`` treats as missing.
    with np.errstate(over="ignore", invalid="ignore"):
        densities = np.tile(np.asarray(prepared.constants, dtype=np.float64), (len(observations), 1))
        for j, column in enumerate(prepared.columns):
            errors = observations[:, j, None] - np.asarray(column[:3])
            densities -= errors * errors * np.asarray(column[3:])
    beliefs: list[Belief] = []
    log_likelihoods: list[float] = []
    belief: Belief | None = None
    for l0, l1, l2 in densities.tolist():
        belief, log_likelihood = _weigh(predict(prepared, belief), l0, l1, l2)
        beliefs.append(belief)
        log_likelihoods.append(log_likelihood)
    shape = (len(beliefs), len(prepared.start))
    return np.asarray(beliefs, dtype=np.float64).reshape(shape), np.asarray(log_likelihoods, dtype=np.float64)
