"""Linear Thompson sampling with exact propensities: who is chosen, and with what probability that was.

The scores of disjoint arms are independent normals N(m_k, (scale s_k)^2), so the probability that arm k has the
largest is the one-dimensional integral of phi_k(s) prod_{j != k} Phi_j(s), found here by quadrature instead of
simulation. The arm is then sampled from exactly the propensities that are returned, floor included, with one
counter-based uniform number: the number that is logged is the number that was used, as off-policy evaluation needs.

Every transcendental value comes from elementwise IEEE 754 operations, so choices replay bit for bit on any machine.

What it deliberately does not do: learn (see posterior.py), or decide which arms are eligible.
"""

import math
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Final

import msgspec
import numpy as np

from tapeline_bandit.posterior import Array, BanditRefusal, Posteriors, context_refusal, moments
from tapeline_common.chance import draw

NODES: Final = 801
REACH: Final = 8.0  # deviations beyond which a normal's mass (6e-16) is left out
_WIDEST_RATIO: Final = 48  # binary orders of magnitude between the widest and the narrowest arm that are resolved

# Normal tail for 0 <= z <= 8.4 (Hart 1968, algorithm 5666; West 2005): tail(z) = exp(-z^2/2) numerator / denominator.
_TAIL_NUMERATOR = (
    0.0352624965998911,
    0.700383064443688,
    6.37396220353165,
    33.912866078383,
    112.079291497871,
    221.213596169931,
    220.206867912376,
)
_TAIL_DENOMINATOR = (
    0.0883883476483184,
    1.75566716318264,
    16.064177579207,
    86.7807322029461,
    296.564248779674,
    637.333633378831,
    793.826512519948,
    440.413735824752,
)


class Choice(msgspec.Struct, frozen=True):
    """One decision. Per arm: mean and scaled deviation of the score, and the probability with which it was drawn."""

    arm: int
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    propensities: tuple[float, ...]


def choose(
    posteriors: Posteriors,
    context: Sequence[float],
    *,
    decision: int,
    seed: int,
    position: int,
    salt: str,
    scale: float,
    floor: float,
    eligible: Sequence[int] | None = None,
) -> Choice | BanditRefusal:
    """Draw an arm for this context by Thompson sampling; nothing is changed.

    `decision` is this decision's number (outcomes age against it); (seed, position, salt) name the chance used.
    `scale` multiplies the posterior deviation: 0.25 to 0.5 deviations of the reward's noise did best in simulation.
    `floor` is the least propensity of each eligible arm; an arm that is not eligible has propensity 0.
    ValueError when scale, floor or eligible is out of range: those are configuration, not circumstances.
    """
    arms = tuple(range(len(posteriors.arms))) if eligible is None else tuple(sorted(eligible))
    if len(set(arms)) != len(arms) or any(not 0 <= arm < len(posteriors.arms) for arm in arms):
        raise ValueError(
            f"eligible is {eligible}; it must name each arm at most once, from 0 to {len(posteriors.arms) - 1}"
        )
    if not 0.0 < scale < math.inf:
        raise ValueError(f"scale is {scale}; it must be positive and finite")
    if not 0.0 <= floor * max(1, len(arms)) <= 1.0:
        raise ValueError(f"floor is {floor}; it must be between 0 and 1 / {len(arms)} eligible arms")
    if not arms:
        return BanditRefusal.NO_ELIGIBLE_ARM
    refusal = context_refusal(posteriors, context)
    if refusal is not None:
        return refusal
    means, deviations = moments(posteriors, context, decision)
    deviations *= scale
    greedy = winning_probabilities(means[list(arms)], deviations[list(arms)])
    propensities = [0.0] * len(means)
    for arm, probability in zip(arms, greedy, strict=True):
        propensities[arm] = (1.0 - len(arms) * floor) * probability + floor
    chosen = _pick(propensities, draw(seed, position, salt))
    return Choice(chosen, tuple(means.tolist()), tuple(deviations.tolist()), tuple(propensities))


def winning_probabilities(means: Array, deviations: Array) -> tuple[float, ...]:
    """The probability that each of independent normals is the largest; sums to 1 within 1e-15 per arm.

    Trapezoid rule over 801 nodes. The integrand vanishes below L, the highest of all lower ends, and an arm that still
    varies at L + t is at least t / 16 wide; so nodes whose spacing grows in proportion to t from the narrowest width
    resolve arms of very different certainty at once, where evenly spaced nodes would step over the narrow ones.
    """
    means = means - means.max()  # nearby scores keep their digits, wherever they lie
    bottom = float((means - REACH * deviations).max())
    tops = means + REACH * deviations
    span = float(tops.max()) - bottom
    narrowest = float(deviations[tops > bottom].min())
    unit_nodes, unit_weights = _nodes(min(_WIDEST_RATIO, math.frexp(span / narrowest)[1]))
    z = (bottom + span * unit_nodes - means[:, None]) / deviations[:, None]
    size = np.minimum(np.abs(z), 8.4)
    bell = _exponential(-0.5 * size * size)
    tail = bell * _polynomial(_TAIL_NUMERATOR, size) / _polynomial(_TAIL_DENOMINATOR, size)
    below = np.where(z > 0.0, 1.0 - tail, tail)
    mass = bell * (size < 8.4) * unit_weights / deviations[:, None]
    others = np.ones_like(unit_nodes)
    for arm in range(1, len(means)):
        others = others * below[arm - 1]
        mass[arm] *= others
    others = np.ones_like(unit_nodes)
    for arm in range(len(means) - 2, -1, -1):
        others = others * below[arm + 1]
        mass[arm] *= others
    masses = _sums(mass).tolist()
    total = math.fsum(masses)
    return tuple(value / total for value in masses)


def reward(net_pnl: Decimal | float, planned_risk: Decimal | float, clip: float = 3.0) -> float | BanditRefusal:
    """Net profit in units of the risk planned at entry, clipped to [-clip, clip].

    `net_pnl` is after fees, slippage, funding and borrowing, less the baseline's over the same window if there is one;
    `planned_risk` is stop distance x size, in the same currency, fixed at entry. ValueError when clip is not positive.
    """
    if not clip > 0.0:
        raise ValueError(f"clip is {clip}; it must be positive")
    profit, risk = _number(net_pnl), _number(planned_risk)
    if not (math.isfinite(profit) and math.isfinite(risk)):
        return BanditRefusal.REWARD_NOT_FINITE
    if risk <= 0.0:
        return BanditRefusal.RISK_NOT_POSITIVE
    return min(clip, max(-clip, profit / risk))


def _number(value: Decimal | float) -> float:
    """The nearest float; a signalling NaN, which float() would raise for, is a NaN."""
    return math.nan if isinstance(value, Decimal) and value.is_nan() else float(value)


def _pick(propensities: Sequence[float], uniform: float) -> int:
    """The arm in whose share of [0, 1) the number falls; the last possible arm also takes what rounding leaves."""
    cumulated, chosen = 0.0, 0
    for arm, propensity in enumerate(propensities):
        if propensity > 0.0:
            cumulated, chosen = cumulated + propensity, arm
            if uniform < cumulated:
                break
    return chosen


@cache
def _nodes(doublings: int) -> tuple[Array, Array]:
    """Nodes in [0, 1], growing geometrically by 2^doublings from first spacing to last, and trapezoid weights."""
    growth = 0.6931471805599453 * max(1, doublings)
    powers = _exponential(growth * (np.arange(NODES) / (NODES - 1) - 1.0))
    nodes = (powers - powers[0]) / (1.0 - powers[0])
    weights = growth * powers / ((1.0 - powers[0]) * (NODES - 1))
    weights[0] *= 0.5
    weights[-1] *= 0.5
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights


def _exponential(x: Array) -> Array:
    """exp(x) for -36 <= x <= 0, relative error below 4e-14: Pade [6/6] of x / 64, squared six times."""
    r = x * 0.015625
    square = r * r
    odd = r * (332640.0 + square * (10080.0 + square * 42.0))
    even = 665280.0 + square * (75600.0 + square * (840.0 + square))
    result = (even + odd) / (even - odd)
    for _ in range(6):
        result *= result
    return result


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """Horner's rule, the highest power first."""
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value *= x
        value += coefficient
    return value


def _sums(rows: Array) -> Array:
    """The sum of each row by folding halves: an order of additions that no vector width can change. Spoils `rows`."""
    width = rows.shape[1]
    while width > 1:
        half = width // 2
        rows[:, :half] += rows[:, width - half : width]
        width -= half
    return rows[:, 0]
