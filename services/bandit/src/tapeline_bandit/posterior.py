"""What the bandit believes about each arm: a discounted Bayesian linear regression of the reward on the context.

Arms are disjoint (Agrawal and Goyal 2013): arm k believes reward = x'theta_k + noise. At decision number n its
precision and evidence are sums over the outcomes (i, x_i, r_i) counted so far,

    A = prior * I + sum_i discount^(n - i) x_i x_i',      b = sum_i discount^(n - i) r_i x_i,

which is the recursion A <- discount A + (1 - discount) prior I + x x' of discounted linear bandits (Russac, Vernade and
Cappe 2019) with the prior kept, so that an idle arm returns to its prior and no further. Each outcome is weighted by
the age of its decision and not by its arrival, so the belief is a function of the set of outcomes: late, early or
doubled arrival changes nothing but the last bits of the sums.

The state is plain lists of floats. The factorisation runs on elementwise numpy operations only, without LAPACK, so a
replay on another machine or with another number of threads gives the same bits.

What it deliberately does not do: choose (see lints.py), know presets or trades, or keep the outcomes themselves.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CONTEXT_LIMIT: Final = (
    1e3  # features are standardised; a number beyond this is a fault upstream, and would drown the prior
)
REWARD_LIMIT: Final = 1e6  # rewards are in units of planned risk
SMALLEST_NORM: Final = 1e-9  # a shorter context says nothing that rounding would not drown


class BanditRefusal(StrEnum):
    """Why there is no choice, no reward, or why an outcome does not count."""

    CONTEXT_WRONG_LENGTH = "context_wrong_length"
    CONTEXT_NOT_FINITE = "context_not_finite"
    CONTEXT_TOO_LARGE = "context_too_large"
    CONTEXT_ZERO = "context_zero"
    NO_ELIGIBLE_ARM = "no_eligible_arm"
    UNKNOWN_ARM = "unknown_arm"
    ALREADY_REWARDED = "already_rewarded"
    REWARD_NOT_FINITE = "reward_not_finite"
    REWARD_TOO_LARGE = "reward_too_large"
    RISK_NOT_POSITIVE = "risk_not_positive"


class Arm(msgspec.Struct):
    """The discounted sums of one arm, without the prior, as they stood at decision number `as_of`."""

    products: list[float]  # lower triangle of sum w x x', row by row: d (d + 1) / 2 numbers
    evidence: list[float]  # sum w r x: d numbers
    as_of: int = 0
    outcomes: int = 0


class Posteriors(msgspec.Struct):
    """Everything a bandit has learnt. `rewarded` holds the decision numbers counted, as sorted inclusive ranges."""

    dimension: int
    prior_precision: float
    discount: float
    arms: list[Arm]
    rewarded: list[tuple[int, int]]


def new_posteriors(arms: int, dimension: int, *, prior_precision: float = 1.0, discount: float = 0.998) -> Posteriors:
    """Arms that know nothing: theta ~ N(0, I / prior_precision).

    `discount` keeps an effective memory of 1 / (1 - discount) decisions; 1 never forgets. ValueError names what is
    out of range.
    """
    if arms < 0:
        raise ValueError(f"arms is {arms}; it must be 0 or more")
    if dimension < 1:
        raise ValueError(f"dimension is {dimension}; it must be 1 or more")
    if not 0.0 < prior_precision < math.inf:
        raise ValueError(f"prior_precision is {prior_precision}; it must be positive and finite")
    if not 0.0 < discount <= 1.0:
        raise ValueError(f"discount is {discount}; it must be above 0 and at most 1")
    posteriors = Posteriors(dimension, prior_precision, discount, [], [])
    for _ in range(arms):
        add_arm(posteriors)
    return posteriors


def add_arm(posteriors: Posteriors) -> None:
    """One more arm, at the end, that knows nothing."""
    dimension = posteriors.dimension
    posteriors.arms.append(Arm([0.0] * (dimension * (dimension + 1) // 2), [0.0] * dimension))


def context_refusal(posteriors: Posteriors, context: Sequence[float]) -> BanditRefusal | None:
    """Why this context cannot be used, or None."""
    if len(context) != posteriors.dimension:
        return BanditRefusal.CONTEXT_WRONG_LENGTH
    if not all(map(math.isfinite, context)):
        return BanditRefusal.CONTEXT_NOT_FINITE
    largest = max(map(abs, context))
    if largest > CONTEXT_LIMIT:
        return BanditRefusal.CONTEXT_TOO_LARGE
    return BanditRefusal.CONTEXT_ZERO if largest < SMALLEST_NORM else None


def outcome_refusal(
    posteriors: Posteriors, *, decision: int, arm: int, context: Sequence[float], reward: float
) -> BanditRefusal | None:
    """Why `update` must not be given this outcome, or None: to be asked before the outcome is recorded."""
    if not 0 <= arm < len(posteriors.arms):
        return BanditRefusal.UNKNOWN_ARM
    if _is_rewarded(posteriors.rewarded, decision):
        return BanditRefusal.ALREADY_REWARDED
    if not math.isfinite(reward):
        return BanditRefusal.REWARD_NOT_FINITE
    if abs(reward) > REWARD_LIMIT:
        return BanditRefusal.REWARD_TOO_LARGE
    return context_refusal(posteriors, context)


def update(posteriors: Posteriors, *, decision: int, arm: int, context: Sequence[float], reward: float) -> None:
    """Count the outcome of one decision, in place.

    A decision that was counted before changes nothing: what is learnt is a set. `decision` numbers count the decisions
    0, 1, 2, ...; gaps are allowed but each costs memory. ValueError for an outcome that `outcome_refusal` would refuse
    otherwise, since such a thing must not have been recorded.
    """
    if decision < 0:
        raise ValueError(f"decision is {decision}; decisions are numbered from 0")
    refusal = outcome_refusal(posteriors, decision=decision, arm=arm, context=context, reward=reward)
    if refusal is BanditRefusal.ALREADY_REWARDED:
        return
    if refusal is not None:
        raise ValueError(f"the outcome of decision {decision} on arm {arm} cannot be counted: {refusal}")
    belief = posteriors.arms[arm]
    kept = _power(posteriors.discount, max(0, decision - belief.as_of))
    weight = _power(posteriors.discount, max(0, belief.as_of - decision))
    scaled = [weight * value for value in context]
    products = (row * column for i, row in enumerate(scaled) for column in context[: i + 1])
    belief.products = [kept * old + new for old, new in zip(belief.products, products, strict=True)]
    belief.evidence = [kept * old + reward * new for old, new in zip(belief.evidence, scaled, strict=True)]
    belief.as_of = max(belief.as_of, decision)
    belief.outcomes += 1
    _mark_rewarded(posteriors.rewarded, decision)


def parameters(posteriors: Posteriors, decision: int) -> tuple[Array, Array]:
    """Precision matrices (arms, d, d) and evidence vectors (arms, d) as they stand at this decision number.

    ValueError when an outcome of a later decision has been counted: the past cannot be asked for.
    """
    arms, dimension = posteriors.arms, posteriors.dimension
    for index, arm in enumerate(arms):
        if arm.outcomes and arm.as_of > decision:
            raise ValueError(f"decision is {decision}, but arm {index} has learnt from decision {arm.as_of}")
    weights = np.array([_power(posteriors.discount, decision - arm.as_of) if arm.outcomes else 1.0 for arm in arms])
    rows, columns = _triangle(dimension)
    products = np.array([arm.products for arm in arms]).reshape(len(arms), rows.size) * weights[:, None]
    precision = np.zeros((len(arms), dimension, dimension))
    precision[:, rows, columns] = products
    precision[:, columns, rows] = products
    diagonal = np.arange(dimension)
    precision[:, diagonal, diagonal] += posteriors.prior_precision
    evidence = np.array([arm.evidence for arm in arms]).reshape(len(arms), dimension) * weights[:, None]
    return precision, evidence


def moments(posteriors: Posteriors, context: Sequence[float], decision: int) -> tuple[Array, Array]:
    """Mean x'A^-1 b and deviation sqrt(x'A^-1 x) of each arm's expected reward, without the exploration scale.

    The context must be one that `context_refusal` accepts. With A = L L', both are products of y = L^-1 x and
    w = L^-1 b: eliminating the columns of A with x and b as two more rows gives y and w on the way. No pivot can be
    below the prior precision, so holding it there costs nothing and keeps rounding from making it negative.
    """
    precision, evidence = parameters(posteriors, decision)
    arms, dimension = evidence.shape
    table = np.empty((arms, dimension + 2, dimension))
    table[:, :dimension] = precision
    table[:, dimension] = context
    table[:, dimension + 1] = evidence
    solved = np.empty((dimension, arms, 2))
    for j in range(dimension):
        pivot = np.maximum(table[:, j, j, None], posteriors.prior_precision)
        below = table[:, j + 1 :, j] / np.sqrt(pivot)
        solved[j] = below[:, -2:]
        table[:, j + 1 :, j + 1 :] -= below[:, :, None] * below[:, None, :-2]
    mean, variance = np.zeros(arms), np.zeros(arms)
    for y, w in zip(solved[:, :, 0], solved[:, :, 1], strict=True):
        mean += y * w
        variance += y * y
    return mean, np.sqrt(variance)


@cache
def _triangle(dimension: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    rows, columns = np.tril_indices(dimension)
    return rows, columns


def _power(base: float, exponent: int) -> float:
    """base^exponent by squaring: the C library's pow may differ in the last bit from machine to machine."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def _is_rewarded(rewarded: list[tuple[int, int]], decision: int) -> bool:
    index = bisect_right(rewarded, decision, key=_first)
    return index > 0 and decision <= rewarded[index - 1][1]


def _mark_rewarded(rewarded: list[tuple[int, int]], decision: int) -> None:
    """Add a number that is in no range yet, joining it to the ranges it touches."""
    index = bisect_right(rewarded, decision, key=_first)
    first = last = decision
    start = end = index
    if index > 0 and rewarded[index - 1][1] == decision - 1:
        start, first = index - 1, rewarded[index - 1][0]
    if index < len(rewarded) and rewarded[index][0] == decision + 1:
        end, last = index + 1, rewarded[index][1]
    rewarded[start:end] = [(first, last)]


def _first(span: tuple[int, int]) -> int:
    return span[0]
