"""The regime service's features and forward filter over many bars, compiled.

Twins of ``FeatureState.push`` and ``step``: the same IEEE operations in the same order, with the logarithm and the
exponential of the same C library that Python uses, so the results are equal to the last bit; ``is_exact`` checks that
on this machine before anybody relies on it.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.machine_code import FLOAT_TABLE, FLOATS, Routine, routine
from tapeline_regime.features import DECAY, SEED_RETURNS, VARIANCE_FLOOR, FeatureState
from tapeline_regime.filtering import Belief, Prepared, step

Floats = NDArray[np.float64]

_KEPT = 1.0 - DECAY


def filter_bars(
    closes: Floats,
    start: int,
    stop: int,
    last_close: float,
    variance: float,
    transition: Floats,
    constants: Floats,
    columns: Floats,
    observations: Floats,
    beliefs: Floats,
    log_likelihoods: Floats,
) -> float:
    """Bars ``start`` to ``stop`` after warm-up; every close must be a usable price.

    Args:
        transition, constants, columns: of ``Prepared``, shapes (9,), (3,) and (2, 6).
        observations: shape (bars, 2), set.
        beliefs: shape (1 + bars, 3); row 0 is the belief before, the others are set.
        log_likelihoods: shape (bars,), set.

    Returns:
        The variance after the last bar.
    """
    for index in range(stop - start):
        close = closes[start + index]
        log_return = math.log(close / last_close)
        last_close = close
        variance = DECAY * variance + _KEPT * (log_return * log_return)
        floored = variance if variance >= VARIANCE_FLOOR else VARIANCE_FLOOR
        observations[index, 0] = log_return
        observations[index, 1] = 0.5 * math.log(floored)
        b0, b1, b2 = beliefs[index, 0], beliefs[index, 1], beliefs[index, 2]
        p0 = b0 * transition[0] + b1 * transition[3] + b2 * transition[6]
        p1 = b0 * transition[1] + b1 * transition[4] + b2 * transition[7]
        p2 = b0 * transition[2] + b1 * transition[5] + b2 * transition[8]
        total = p0 + p1 + p2
        p0, p1, p2 = p0 / total, p1 / total, p2 / total
        l0, l1, l2 = constants[0], constants[1], constants[2]
        for column in range(2):
            x = observations[index, column]
            e0 = x - columns[column, 0]
            e1 = x - columns[column, 1]
            e2 = x - columns[column, 2]
            l0 -= e0 * e0 * columns[column, 3]
            l1 -= e1 * e1 * columns[column, 4]
            l2 -= e2 * e2 * columns[column, 5]
        if not math.isfinite(l0 + l1 + l2):
            beliefs[index + 1, 0], beliefs[index + 1, 1], beliefs[index + 1, 2] = p0, p1, p2
            log_likelihoods[index] = 0.0
            continue
        top = l0 if l0 >= l1 else l1
        top = l2 if l2 > top else top
        w0 = p0 * math.exp(l0 - top)
        w1 = p1 * math.exp(l1 - top)
        w2 = p2 * math.exp(l2 - top)
        total = w0 + w1 + w2
        beliefs[index + 1, 0], beliefs[index + 1, 1], beliefs[index + 1, 2] = w0 / total, w1 / total, w2 / total
        log_likelihoods[index] = top + math.log(total)
    return variance


def observe_bars(
    closes: Floats, start: int, stop: int, last_close: float, variance: float, observations: Floats
) -> float:
    """The features alone, as in ``filter_bars``: while there is no model."""
    for index in range(stop - start):
        close = closes[start + index]
        log_return = math.log(close / last_close)
        last_close = close
        variance = DECAY * variance + _KEPT * (log_return * log_return)
        floored = variance if variance >= VARIANCE_FLOOR else VARIANCE_FLOOR
        observations[index, 0] = log_return
        observations[index, 1] = 0.5 * math.log(floored)
    return variance


@cache
def compiled_filter() -> Routine:
    """``filter_bars`` as machine code."""
    return routine(
        filter_bars,
        "float64",
        *(FLOATS, "int64", "int64", "float64", "float64"),
        *(FLOATS, FLOATS, FLOAT_TABLE, FLOAT_TABLE, FLOAT_TABLE, FLOATS),
    )


@cache
def compiled_features() -> Routine:
    """``observe_bars`` as machine code."""
    return routine(observe_bars, "float64", *(FLOATS, "int64", "int64", "float64", "float64", FLOAT_TABLE))


def run(
    closes: Floats, features: FeatureState, prepared: Prepared | None, belief: Belief, start: int, stop: int
) -> tuple[Floats, Floats, Floats]:
    """Move ``features`` over the bars.

    Returns:
        Observations (bars, 2), beliefs (bars, 3), log likelihoods (bars,); without a model the last two are empty.
    """
    assert features.last_close is not None, "warmed up"
    bars = stop - start
    observations = np.empty((bars, 2))
    if prepared is None:
        features.variance = compiled_features()(
            closes, start, stop, features.last_close, features.variance, observations
        )
        features.last_close = float(closes[stop - 1])
        return observations, np.empty((0, 3)), np.empty(0)
    beliefs = np.empty((bars + 1, 3))
    beliefs[0] = belief
    log_likelihoods = np.empty(bars)
    features.variance = compiled_filter()(
        closes,
        start,
        stop,
        features.last_close,
        features.variance,
        np.array(prepared.transition),
        np.array(prepared.constants),
        np.array(prepared.columns),
        observations,
        beliefs,
        log_likelihoods,
    )
    features.last_close = float(closes[stop - 1])
    return observations, beliefs[1:], log_likelihoods


@cache
def is_exact() -> bool:
    """Whether this machine's compiled loops agree with the interpreted ones to the last bit on a thousand bars."""
    turns = np.arange(1000.0)
    closes = 100.0 + 3.0 * np.sin(turns) + 0.01 * (turns * 7919.0 % 101.0)
    prepared = Prepared(
        (0.3, 0.3, 0.4),
        (0.9, 0.06, 0.04, 0.05, 0.9, 0.05, 0.02, 0.08, 0.9),
        (1.0, 0.5, 0.7),
        ((0.01, -0.01, 0.0, 300.0, 200.0, 500.0), (-3.5, -3.0, -4.0, 2.0, 1.5, 1.0)),
    )
    features, twin, alone = FeatureState(), FeatureState(), FeatureState()
    for close in closes[: SEED_RETURNS + 1].tolist():
        for each in (features, twin, alone):
            each.push(close)
    first = SEED_RETURNS + 1
    observations, beliefs, log_likelihoods = run(closes, features, prepared, prepared.start, first, len(closes))
    if not np.array_equal(run(closes, alone, None, prepared.start, first, len(closes))[0], observations):
        return False
    belief: Any = prepared.start
    for index, close in enumerate(closes[first:].tolist()):
        belief, log_likelihood = step(prepared, belief, twin.push(close))
        if tuple(beliefs[index]) != belief or log_likelihoods[index] != log_likelihood:
            return False
    return features == twin == alone
