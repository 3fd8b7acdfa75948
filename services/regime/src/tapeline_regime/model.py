"""The regime model as a value: plain numbers, their canonical bytes, their hash, and the checks they must pass.

A model is three states (BULL, BEAR, CHOP, always in that order), each a Gaussian with a diagonal covariance, joined by
a transition matrix. Its identity is the SHA-256 of its canonical bytes, so two processes that hold the same hash hold
the same model to the last bit, and changing any number, name or shape gives another model.

It neither fits (``training``), filters (``filtering``) nor touches files (``artefact``). No numpy, no pickle.
"""

from __future__ import annotations

import hashlib
import math
import struct
from enum import Enum
from itertools import chain
from typing import Final, TypeAlias

import msgspec

from tapeline_regime.features import FEATURE_NAMES

BULL: Final = 0
BEAR: Final = 1
CHOP: Final = 2
STATES: Final = ("BULL", "BEAR", "CHOP")
"""The names of the states; a model's rows and columns are in this order."""

TRANSITION_FLOOR: Final = 1e-8
"""Least probability of any transition, and of any first state: no belief can lock at 0 or 1, nor vanish altogether."""

STATE_VARIANCE_FLOOR: Final = 0.01
"""Least variance of a state, in the scaled units in which the training sample's variance is 1.

Without it a run of identical closes makes a state of zero width whose likelihood has no upper bound.
"""

SUM_TOLERANCE: Final = 1e-12
SCALE_FLOOR: Final = 1e-12
LARGEST_NUMBER: Final = 1e6
"""Bound on every mean, variance and scale: a fitted one is near 1, and squares of larger ones would overflow."""

MAGIC: Final = b"tapeline regime model 1\n"

Probabilities: TypeAlias = tuple[float, float, float]
Vector: TypeAlias = tuple[float, ...]
StateVectors: TypeAlias = tuple[Vector, Vector, Vector]


class ModelFault(Enum):
    """Why a model is not usable."""

    MALFORMED = "malformed"
    SHAPE = "shape"
    UNKNOWN_FEATURES = "unknown_features"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    BAD_PROBABILITY = "bad_probability"
    ROWS_DO_NOT_SUM_TO_ONE = "rows_do_not_sum_to_one"
    VARIANCE_BELOW_FLOOR = "variance_below_floor"
    HASH_MISMATCH = "hash_mismatch"


class RegimeModel(msgspec.Struct, frozen=True, kw_only=True):
    """A three-state Gaussian hidden Markov model of d features.

    ``means`` (3, d) and ``variances`` (3, d) are in scaled units, ``(feature - scaler_mean) / scaler_scale``; the
    scaler (d,) is that of the training bars. ``transition[i][j]`` is the probability of state j at the next bar, given
    state i now; ``start`` (3,) that of the first bar. All states are in the order of STATES.
    """

    feature_names: tuple[str, ...]
    scaler_mean: Vector
    scaler_scale: Vector
    start: Probabilities
    transition: tuple[Probabilities, Probabilities, Probabilities]
    means: StateVectors
    variances: StateVectors


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The readable first line of the canonical bytes: what the raw numbers after it are."""

    features: tuple[str, ...]
    states: tuple[str, ...]
    arrays: tuple[tuple[str, str, tuple[int, ...]], ...]


def _layout(features: int) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
    """Name, dtype and shape of each array, in the order in which they are stored."""
    states = len(STATES)
    return (
        ("scaler_mean", "<f8", (features,)),
        ("scaler_scale", "<f8", (features,)),
        ("start", "<f8", (states,)),
        ("transition", "<f8", (states, states)),
        ("means", "<f8", (states, features)),
        ("variances", "<f8", (states, features)),
    )


def _has_shape(model: RegimeModel) -> bool:
    features, states = len(model.feature_names), len(STATES)
    by_feature = (model.scaler_mean, model.scaler_scale, *model.means, *model.variances)
    by_state = (model.start, *model.transition, model.transition, model.means, model.variances)
    return (
        features > 0
        and all(len(vector) == features for vector in by_feature)
        and all(len(vector) == states for vector in by_state)
    )


def to_bytes(model: RegimeModel) -> bytes:
    """The canonical bytes: magic line, one JSON line of names, dtypes and shapes, then raw '<f8' numbers in C order.

    Raises:
        ValueError: the arrays do not have the shapes that ``feature_names`` implies.
    """
    if not _has_shape(model):
        raise ValueError(f"arrays do not fit {len(STATES)} states of {len(model.feature_names)} features")
    header = _Header(model.feature_names, STATES, _layout(len(model.feature_names)))
    numbers = (
        *model.scaler_mean,
        *model.scaler_scale,
        *model.start,
        *chain.from_iterable(model.transition),
        *chain.from_iterable(model.means),
        *chain.from_iterable(model.variances),
    )
    return MAGIC + msgspec.json.encode(header) + b"\n" + struct.pack(f"<{len(numbers)}d", *numbers)


def from_bytes(data: bytes) -> RegimeModel | ModelFault:
    """The model of canonical bytes, checked; any other bytes give the fault."""
    if not data.startswith(MAGIC):
        return ModelFault.MALFORMED
    line, newline, raw = data[len(MAGIC) :].partition(b"\n")
    try:
        header = msgspec.json.decode(line, type=_Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ModelFault.MALFORMED
    if not newline or header.states != STATES or header.arrays != _layout(len(header.features)):
        return ModelFault.MALFORMED
    count = sum(math.prod(shape) for _, _, shape in header.arrays)
    if len(raw) != 8 * count:
        return ModelFault.SHAPE
    model = _unpack(header.features, struct.unpack(f"<{count}d", raw))
    fault = check(model)
    if fault is not None:
        return fault
    # One model has one spelling: other white space or escapes in the header would give it a second hash.
    return model if to_bytes(model) == data else ModelFault.MALFORMED


def _unpack(names: tuple[str, ...], numbers: tuple[float, ...]) -> RegimeModel:
    remaining = iter(numbers)

    def vector(length: int) -> Vector:
        return tuple(next(remaining) for _ in range(length))

    def probabilities() -> Probabilities:
        return (next(remaining), next(remaining), next(remaining))

    def state_vectors(length: int) -> StateVectors:
        return (vector(length), vector(length), vector(length))

    features = len(names)
    return RegimeModel(
        feature_names=names,
        scaler_mean=vector(features),
        scaler_scale=vector(features),
        start=probabilities(),
        transition=(probabilities(), probabilities(), probabilities()),
        means=state_vectors(features),
        variances=state_vectors(features),
    )


def model_hash(model: RegimeModel) -> str:
    """The model's identity: SHA-256 of its canonical bytes, 64 lowercase hexadecimal digits.

    Raises:
        ValueError: as ``to_bytes``.
    """
    return hashlib.sha256(to_bytes(model)).hexdigest()


def check(model: RegimeModel, expected_hash: str | None = None) -> ModelFault | None:
    """The first thing wrong with ``model``, or None.

    Args:
        model: any model, also one decoded from an untrusted source.
        expected_hash: when given, the model must have this hash.
    """
    if not _has_shape(model):
        return ModelFault.SHAPE
    if model.feature_names != FEATURE_NAMES:
        return ModelFault.UNKNOWN_FEATURES
    probabilities = (model.start, *model.transition)
    widths = (model.scaler_scale, *model.variances)
    sized = tuple(chain(model.scaler_mean, *model.means, *widths))
    if not all(math.isfinite(number) for number in chain(sized, *probabilities)):
        return ModelFault.NOT_FINITE
    if any(abs(number) > LARGEST_NUMBER for number in sized) or min(model.scaler_scale) < SCALE_FLOOR:
        return ModelFault.OUT_OF_RANGE
    if min(chain(*probabilities)) < TRANSITION_FLOOR:
        return ModelFault.BAD_PROBABILITY
    if any(abs(math.fsum(row) - 1.0) > SUM_TOLERANCE for row in probabilities):
        return ModelFault.ROWS_DO_NOT_SUM_TO_ONE
    if min(chain(*model.variances)) < STATE_VARIANCE_FLOOR:
        return ModelFault.VARIANCE_BELOW_FLOOR
    if expected_hash is not None and model_hash(model) != expected_hash:
        return ModelFault.HASH_MISMATCH
    return None


def reorder(model: RegimeModel, order: tuple[int, int, int]) -> RegimeModel:
    """The same model with state ``order[i]`` moved to place i: rows, columns, start and emissions together."""
    first, second, third = order
    rows = model.transition

    def pick(row: Probabilities) -> Probabilities:
        return (row[first], row[second], row[third])

    return msgspec.structs.replace(
        model,
        start=pick(model.start),
        transition=(pick(rows[first]), pick(rows[second]), pick(rows[third])),
        means=(model.means[first], model.means[second], model.means[third]),
        variances=(model.variances[first], model.variances[second], model.variances[third]),
    )


def stationary(transition: tuple[Probabilities, Probabilities, Probabilities]) -> Probabilities:
    """The long-run share of each state, shape (3,), for strictly positive transitions.

    By the Markov chain tree theorem (Leighton and Rivest 1986): the share of a state is proportional to the summed
    weight of the spanning trees directed to it. All terms are positive, so nothing cancels; sums are exactly rounded,
    so renumbering the states renumbers the shares and changes no bit of them.
    """
    a = transition

    def weight(i: int, j: int, k: int) -> float:
        return math.fsum((a[j][i] * a[k][i], a[j][k] * a[k][i], a[k][j] * a[j][i]))

    weights = (weight(0, 1, 2), weight(1, 2, 0), weight(2, 0, 1))
    total = math.fsum(weights)
    return (weights[0] / total, weights[1] / total, weights[2] / total)
