"""The bandit's arithmetic: the posterior is a function of the set of outcomes, and the propensities are exact."""

import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_bandit import lints
from tapeline_bandit.lints import Choice, choose, reward, winning_probabilities
from tapeline_bandit.posterior import (
    BanditRefusal,
    Posteriors,
    add_arm,
    context_refusal,
    moments,
    new_posteriors,
    outcome_refusal,
    parameters,
    update,
)
from tapeline_common.chance import draw, normals

ARMS, DIMENSION = 5, 6
SEED = 20260101
CHI_SQUARE_4_DF_ABOVE_999 = 18.467  # chi-square, 4 degrees of freedom, upper 0.1 %
CALM_CONTEXT = (1.0, 0.5, -0.25, 0.0, 2.0, -1.0)

Outcome = tuple[int, int, tuple[float, ...], float]  # decision, arm, context, reward


def outcomes(count: int, *, skip_arm: int | None = None) -> list[Outcome]:
    """Decisions 0, 1, ... with chance contexts, arms and rewards."""
    arms = [arm for arm in range(ARMS) if arm != skip_arm]
    return [
        (
            decision,
            arms[int(len(arms) * draw(SEED, decision, "arm"))],
            normals(SEED, decision, "context", DIMENSION),
            normals(SEED, decision, "reward", 1)[0],
        )
        for decision in range(count)
    ]


def learnt(history: Sequence[Outcome], *, discount: float = 0.99, prior_precision: float = 1.0) -> Posteriors:
    posteriors = new_posteriors(ARMS, DIMENSION, prior_precision=prior_precision, discount=discount)
    for decision, arm, context, value in history:
        update(posteriors, decision=decision, arm=arm, context=context, reward=value)
    return posteriors


def chosen(posteriors: Posteriors, context: Sequence[float] = CALM_CONTEXT, **changes: Any) -> Choice:
    arguments: dict[str, Any] = {
        "decision": 300,
        "seed": SEED,
        "position": 1,
        "salt": "bandit",
        "scale": 0.25,
        "floor": 0.005,
    }
    choice = choose(posteriors, context, **(arguments | changes))
    assert isinstance(choice, Choice)
    return choice


# --- what is learnt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior_precision", [1.0, 10.0])
def test_posterior_equals_closed_form(prior_precision: float) -> None:
    """Without discount, means and deviations are those of ridge regression by a direct solve, to 1e-10."""
    history = outcomes(400, skip_arm=3)
    posteriors = learnt(history, discount=1.0, prior_precision=prior_precision)
    means, deviations = moments(posteriors, CALM_CONTEXT, 400)
    x = np.array(CALM_CONTEXT)
    for arm in range(ARMS):
        rows = np.array([context for _, a, context, _ in history if a == arm]).reshape(-1, DIMENSION)
        rewards = np.array([value for _, a, _, value in history if a == arm])
        precision = prior_precision * np.eye(DIMENSION) + rows.T @ rows
        assert means[arm] == pytest.approx(x @ np.linalg.solve(precision, rows.T @ rewards), abs=1e-10)
        assert deviations[arm] == pytest.approx(math.sqrt(x @ np.linalg.solve(precision, x)), abs=1e-10)


def test_posterior_equals_the_discounted_recursion() -> None:
    """Weights by age are the recursion A <- g A + (1 - g) prior I + x x', b <- g b + r x, which all arms undergo."""
    discount, prior = 0.97, 2.0
    precision = np.stack([prior * np.eye(DIMENSION)] * ARMS)
    evidence = np.zeros((ARMS, DIMENSION))
    history = outcomes(300)
    for _, arm, context, value in history:
        precision = discount * precision + (1 - discount) * prior * np.eye(DIMENSION)
        evidence = discount * evidence
        precision[arm] += np.outer(context, context)
        evidence[arm] += value * np.array(context)
    learnt_precision, learnt_evidence = parameters(learnt(history, discount=discount, prior_precision=prior), 299)
    assert np.abs(learnt_precision - precision).max() < 1e-10
    assert np.abs(learnt_evidence - evidence).max() < 1e-10


@given(st.permutations(range(60)), st.sampled_from([0.9, 0.99, 0.998, 1.0]))
def test_arrival_order_does_not_matter(order: list[int], discount: float) -> None:
    """Outcomes that arrive in any order leave the same belief, to 1e-10, and exactly the same set of counted ones."""
    history = outcomes(60)
    in_order = learnt(history, discount=discount)
    shuffled = learnt([history[index] for index in order], discount=discount)
    for one, other in zip(parameters(in_order, 60), parameters(shuffled, 60), strict=True):
        assert np.abs(one - other).max() < 1e-10
    assert shuffled.rewarded == in_order.rewarded == [(0, 59)]
    assert [arm.outcomes for arm in shuffled.arms] == [arm.outcomes for arm in in_order.arms]


def test_arrival_order_does_not_matter_in_the_long_run() -> None:
    """The same over 5000 outcomes that arrive last to first."""
    history = outcomes(5000)
    forwards, backwards = learnt(history, discount=0.998), learnt(history[::-1], discount=0.998)
    for one, other in zip(parameters(forwards, 5000), parameters(backwards, 5000), strict=True):
        assert np.abs(one - other).max() < 1e-10


def test_a_doubled_outcome_changes_nothing() -> None:
    """What is learnt is a set: counting a decision again leaves the state as it was, and is refused when asked."""
    history = outcomes(50)
    once, twice = learnt(history), learnt([*history, *history[::3]])
    assert twice == once
    decision, arm, context, value = history[7]
    refusal = outcome_refusal(once, decision=decision, arm=arm, context=context, reward=value)
    assert refusal is BanditRefusal.ALREADY_REWARDED


def test_gaps_in_the_decisions_are_remembered() -> None:
    """A decision that never had an outcome stays open; its neighbours count once."""
    history = [outcome for outcome in outcomes(9) if outcome[0] not in (0, 4, 5)]
    posteriors = learnt(history[::-1])
    assert posteriors.rewarded == [(1, 3), (6, 8)]
    assert outcome_refusal(posteriors, decision=4, arm=0, context=CALM_CONTEXT, reward=0.0) is None


def test_an_idle_arm_returns_to_its_prior() -> None:
    """Old evidence fades, and exploration of an idle arm ends at the prior's deviation, not beyond it."""
    posteriors = learnt(outcomes(200))
    means, deviations = moments(posteriors, CALM_CONTEXT, 100_000)
    assert means == pytest.approx([0.0] * ARMS, abs=1e-12)
    assert deviations == pytest.approx([math.sqrt(sum(x * x for x in CALM_CONTEXT))] * ARMS, rel=1e-12)


def test_collinear_contexts_are_learnt() -> None:
    """A context that never varies leaves the precision positive definite: the prior holds the other directions."""
    posteriors = new_posteriors(1, DIMENSION, discount=1.0)
    for decision in range(2000):
        update(posteriors, decision=decision, arm=0, context=CALM_CONTEXT, reward=1.0)
    norm = sum(x * x for x in CALM_CONTEXT)
    means, deviations = moments(posteriors, CALM_CONTEXT, 2000)
    assert means == pytest.approx([2000 * norm / (1 + 2000 * norm)], rel=1e-12)
    assert deviations == pytest.approx([math.sqrt(norm / (1 + 2000 * norm))], rel=1e-9)


def test_the_worst_contexts_stay_finite() -> None:
    """The same context at the limit, 20 000 times: rounding swallows the prior, yet nothing turns into NaN."""
    posteriors = new_posteriors(2, DIMENSION, discount=1.0)
    for decision in range(20_000):
        update(posteriors, decision=decision, arm=0, context=[1000.0, 1000.0, 999.9, -1000.0, 1.0, 1e-3], reward=1.0)
    for context in (CALM_CONTEXT, (1000.0,) * DIMENSION, (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)):
        choice = chosen(posteriors, context, decision=20_000)
        assert all(map(math.isfinite, (*choice.means, *choice.deviations, *choice.propensities)))
        assert 0.0 < choice.deviations[0] <= choice.deviations[1]


def test_state_is_plain() -> None:
    """The state survives JSON, and the copy makes the same choice."""
    posteriors = learnt(outcomes(100))
    copy = msgspec.convert(json.loads(msgspec.json.encode(posteriors)), Posteriors)
    assert copy == posteriors
    assert chosen(copy) == chosen(posteriors)


# --- what is chosen ---------------------------------------------------------------------------------------------------


def chi_square(counts: Sequence[int], probabilities: Sequence[float]) -> float:
    total = sum(counts)
    return sum((n - total * p) ** 2 / (total * p) for n, p in zip(counts, probabilities, strict=True))


def test_propensities_are_those_of_thompson_sampling() -> None:
    """2e4 sampled score vectors put each arm on top as often as the quadrature says."""
    choice = chosen(learnt(outcomes(300)), floor=0.0)
    tops = [0] * ARMS
    for position in range(20_000):
        noise = normals(SEED, position, "scores", ARMS)
        scores = [m + s * z for m, s, z in zip(choice.means, choice.deviations, noise, strict=True)]
        tops[scores.index(max(scores))] += 1
    assert chi_square(tops, choice.propensities) < CHI_SQUARE_4_DF_ABOVE_999


def test_arms_are_drawn_with_the_logged_propensities() -> None:
    """2e4 choices follow the mixed propensities, and the pick is a function of the one uniform number named."""
    posteriors = learnt(outcomes(300))
    propensities = chosen(posteriors, floor=0.05).propensities
    picks = [lints._pick(propensities, draw(SEED, position, "bandit")) for position in range(20_000)]
    assert chi_square([picks.count(arm) for arm in range(ARMS)], propensities) < CHI_SQUARE_4_DF_ABOVE_999
    for position in range(0, 20_000, 100):
        assert chosen(posteriors, floor=0.05, position=position).arm == picks[position]


def test_the_shares_test_has_power() -> None:
    """Broken on purpose: had the unmixed propensities been logged, the shares would have shown it."""
    posteriors = learnt(outcomes(300))
    unmixed, mixed = (chosen(posteriors, floor=floor).propensities for floor in (0.0, 0.05))
    picks = [lints._pick(mixed, draw(SEED, position, "bandit")) for position in range(20_000)]
    assert chi_square([picks.count(arm) for arm in range(ARMS)], unmixed) > 2 * CHI_SQUARE_4_DF_ABOVE_999


scores = st.floats(min_value=-100, max_value=100)
widths = st.floats(min_value=-6, max_value=1).map(lambda power: 10.0**power)


@given(st.lists(st.tuples(scores, widths), min_size=1, max_size=8))
def test_propensities_sum_to_one(arms: list[tuple[float, float]]) -> None:
    """They sum to one within 1e-12 and none is negative, however unequal the arms are."""
    probabilities = winning_probabilities(np.array([m for m, _ in arms]), np.array([s for _, s in arms]))
    assert abs(math.fsum(probabilities) - 1.0) < 1e-12
    assert min(probabilities) >= 0.0


@given(scores, widths, st.floats(min_value=-9, max_value=9), widths)
def test_two_arms_have_a_closed_form(mean: float, width: float, distance: float, other_width: float) -> None:
    """With two arms the first wins with probability Phi((m1 - m2) / sqrt(s1^2 + s2^2)), within 1e-10."""
    spread = math.hypot(width, other_width)
    means = np.array([mean, mean + distance * spread])
    gap = (means[0] - means[1]) / spread
    probabilities = winning_probabilities(means, np.array([width, other_width]))
    assert probabilities[0] == pytest.approx(0.5 * math.erfc(-gap / math.sqrt(2)), abs=1e-10)


def test_propensities_equal_a_plain_integral() -> None:
    """Five arms of widths from 0.01 to 1 have the probabilities of an evenly spaced sum of 40 000 terms, to 1e-11."""
    means, widths = [0.3, 0.1, 0.29, -1.0, 0.28], [0.01, 0.3, 0.02, 1.0, 0.05]

    def integrand(arm: int, score: float) -> float:
        z = [(score - m) / s for m, s in zip(means, widths, strict=True)]
        others = math.prod(0.5 * math.erfc(-v / math.sqrt(2)) for k, v in enumerate(z) if k != arm)
        return others * math.exp(-0.5 * z[arm] ** 2) / (widths[arm] * math.sqrt(2 * math.pi))

    step = 16.0 / 40_000
    expected = [step * math.fsum(integrand(arm, step * n - 8.0) for n in range(40_000)) for arm in range(5)]
    assert winning_probabilities(np.array(means), np.array(widths)) == pytest.approx(expected, abs=1e-11)


def test_equal_arms_share_equally() -> None:
    """Arms that know nothing are equally likely, so is one that joined."""
    posteriors = new_posteriors(3, DIMENSION)
    add_arm(posteriors)
    assert chosen(posteriors, floor=0.0).propensities == pytest.approx([0.25] * 4, abs=1e-14)


def test_the_floor_holds() -> None:
    """Every eligible arm keeps the floor however bad it looks; the best keeps the rest."""
    posteriors = new_posteriors(3, 1, discount=1.0)
    for decision in range(900):
        update(posteriors, decision=decision, arm=decision % 3, context=[1.0], reward=[3.0, 0.0, -3.0][decision % 3])
    assert chosen(posteriors, [1.0], decision=900, floor=0.02).propensities == pytest.approx(
        [0.96, 0.02, 0.02], abs=1e-12
    )


def test_an_ineligible_arm_is_never_drawn() -> None:
    """The mask takes an arm's propensity, floor included; the others are those of a bandit without it."""
    posteriors = learnt(outcomes(300))
    choice = chosen(posteriors, eligible=[4, 0, 2])
    without = msgspec.structs.replace(posteriors, arms=[posteriors.arms[arm] for arm in (0, 2, 4)])
    assert [choice.propensities[arm] for arm in (0, 2, 4)] == list(chosen(without).propensities)
    assert (choice.propensities[1], choice.propensities[3]) == (0.0, 0.0)
    assert len(choice.means) == ARMS
    assert {chosen(posteriors, eligible=[4, 0, 2], position=position).arm for position in range(300)} == {0, 2, 4}


@pytest.mark.parametrize(("uniform", "arm"), [(0.0, 1), (0.25, 3), (0.9999999999999999, 3)])
def test_pick_at_the_edges(uniform: float, arm: int) -> None:
    """Zero picks no impossible arm, a boundary belongs to the next arm, and rounding cannot fall off the end."""
    assert lints._pick((0.0, 0.25, 0.0, 0.7499999999999998, 0.0), uniform) == arm


def test_golden_choice() -> None:
    """The same bits on every machine: no LAPACK, no vectorised exp, no C library in the way from state to choice."""
    choice = chosen(learnt(outcomes(300), discount=0.998))
    assert choice.arm == 2
    assert choice.propensities == (
        0.016222843122442307,
        0.0050409528044885145,
        0.9687362008269298,
        0.005000000702498285,
        0.005000002543641185,
    )


def test_choosing_changes_nothing() -> None:
    """Choosing only reads: the state is equal before and after, and the same question has the same answer."""
    posteriors, untouched = learnt(outcomes(100)), learnt(outcomes(100))
    assert chosen(posteriors) == chosen(posteriors)
    assert posteriors == untouched


# --- what is refused --------------------------------------------------------------------------------------------------

BAD_CONTEXTS = [
    ([1.0] * 5, BanditRefusal.CONTEXT_WRONG_LENGTH),
    ([1.0] * 7, BanditRefusal.CONTEXT_WRONG_LENGTH),
    ([math.nan, *[1.0] * 5], BanditRefusal.CONTEXT_NOT_FINITE),
    ([*[1.0] * 5, -math.inf], BanditRefusal.CONTEXT_NOT_FINITE),
    ([1.0, 1e7, *[0.0] * 4], BanditRefusal.CONTEXT_TOO_LARGE),
    ([0.0] * 6, BanditRefusal.CONTEXT_ZERO),
]


@pytest.mark.parametrize(("context", "refusal"), BAD_CONTEXTS)
def test_degenerate_contexts_are_refused(context: list[float], refusal: BanditRefusal) -> None:
    """A context that cannot be scored is refused with its reason; recording its outcome would be a bug."""
    posteriors = learnt(outcomes(20))
    untouched = learnt(outcomes(20))
    answer = choose(posteriors, context, decision=20, seed=1, position=1, salt="s", scale=0.25, floor=0.0)
    assert answer is refusal
    assert context_refusal(posteriors, context) is refusal
    with pytest.raises(ValueError, match=refusal.value):
        update(posteriors, decision=20, arm=0, context=context, reward=0.0)
    assert posteriors == untouched


def test_no_eligible_arm() -> None:
    """With no arm, or none eligible, there is no choice, and the reason says so."""
    for posteriors, eligible in ((new_posteriors(0, DIMENSION), None), (new_posteriors(2, DIMENSION), [])):
        answer = choose(
            posteriors,
            CALM_CONTEXT,
            decision=0,
            seed=1,
            position=1,
            salt="s",
            scale=0.25,
            floor=0.0,
            eligible=eligible,
        )
        assert answer is BanditRefusal.NO_ELIGIBLE_ARM


@pytest.mark.parametrize(
    ("arm", "value", "refusal"),
    [
        (ARMS, 0.0, BanditRefusal.UNKNOWN_ARM),
        (-1, 0.0, BanditRefusal.UNKNOWN_ARM),
        (0, math.nan, BanditRefusal.REWARD_NOT_FINITE),
        (0, 1e7, BanditRefusal.REWARD_TOO_LARGE),
    ],
)
def test_impossible_outcomes_are_refused(arm: int, value: float, refusal: BanditRefusal) -> None:
    """An outcome of an unknown arm or with an impossible reward is refused."""
    posteriors = new_posteriors(ARMS, DIMENSION)
    answer = outcome_refusal(posteriors, decision=0, arm=arm, context=CALM_CONTEXT, reward=value)
    assert answer is refusal
    with pytest.raises(ValueError, match=refusal.value):
        update(posteriors, decision=0, arm=arm, context=CALM_CONTEXT, reward=value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0.0}, "scale is 0.0; it must be positive"),
        ({"floor": 0.3}, "floor is 0.3; it must be between"),
        ({"eligible": [0, 0]}, r"eligible is \[0, 0\]; it must name each arm at most once"),
        ({"eligible": [9]}, r"eligible is \[9\]"),
        ({"decision": 3}, "decision is 3, but arm . has learnt from decision"),
    ],
)
def test_impossible_settings_are_bugs(change: dict[str, Any], message: str) -> None:
    """Settings out of range, and questions about the past, stop with the name, the value and the fix."""
    with pytest.raises(ValueError, match=message):
        chosen(learnt(outcomes(50)), **change)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arms": -1, "dimension": 2}, "arms is -1"),
        ({"arms": 1, "dimension": 0}, "dimension is 0"),
        ({"arms": 1, "dimension": 2, "prior_precision": 0.0}, "prior_precision is 0.0"),
        ({"arms": 1, "dimension": 2, "discount": 1.01}, "discount is 1.01"),
    ],
)
def test_impossible_posteriors_are_bugs(settings: dict[str, Any], message: str) -> None:
    """A bandit cannot be made with settings out of range."""
    with pytest.raises(ValueError, match=message):
        new_posteriors(**settings)


# --- reward -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net_pnl", "planned_risk", "expected"),
    [
        (Decimal("150.00"), Decimal("100"), 1.5),
        (Decimal("-1000"), Decimal("100"), -3.0),
        (Decimal("1e300"), Decimal("1e-300"), 3.0),
        (0.0, 5.0, 0.0),
        (Decimal("1"), 0.0, BanditRefusal.RISK_NOT_POSITIVE),
        (Decimal("1"), Decimal("-2"), BanditRefusal.RISK_NOT_POSITIVE),
        (math.nan, 1.0, BanditRefusal.REWARD_NOT_FINITE),
        (Decimal("sNaN"), Decimal("1"), BanditRefusal.REWARD_NOT_FINITE),
        (1.0, Decimal("Infinity"), BanditRefusal.REWARD_NOT_FINITE),
        (Decimal("1e400"), Decimal("1e400"), BanditRefusal.REWARD_NOT_FINITE),
    ],
)
def test_reward(net_pnl: Decimal | float, planned_risk: Decimal | float, expected: float | BanditRefusal) -> None:
    """Profit in units of planned risk, clipped at three; refused where there is no such unit."""
    assert reward(net_pnl, planned_risk) == expected


def test_reward_clip() -> None:
    """The clip is a setting, and must be positive."""
    assert reward(10.0, 1.0, clip=5.0) == 5.0
    with pytest.raises(ValueError, match=r"clip is 0\.0; it must be positive"):
        reward(1.0, 1.0, clip=0.0)


# --- the whole loop in a known world ----------------------------------------------------------------------------------


class Run(msgspec.Struct):
    """A run against a world that is known: what was chosen, and how much was lost by it."""

    choices: list[Choice]
    regret: float
    uniform_regret: float


def run(
    seed: int,
    rounds: int,
    *,
    discount: float,
    changes: int = 0,
    scale: float = 0.25,
    reward_unit: float = 1.0,
) -> Run:
    """Contexts [1, N(0,1)^5] of unit length; coefficients uniform on the sphere, redrawn at each change; noise 0.5."""
    x = np.array(normals(seed, 0, "contexts", rounds * DIMENSION)).reshape(rounds, DIMENSION)
    x[:, 0] = 1.0
    x /= np.sqrt((x**2).sum(axis=1, keepdims=True))
    theta = np.array(normals(seed, 0, "theta", (changes + 1) * ARMS * DIMENSION)).reshape(-1, ARMS, DIMENSION)
    theta /= np.sqrt((theta**2).sum(axis=2, keepdims=True))
    noise = 0.5 * np.array(normals(seed, 0, "noise", rounds))
    posteriors = new_posteriors(ARMS, DIMENSION, discount=discount)
    result = Run([], 0.0, 0.0)
    for n in range(rounds):
        expected = theta[n * (changes + 1) // rounds] @ x[n]
        context = x[n].tolist()
        choice = choose(
            posteriors, context, decision=n, seed=seed, position=n, salt="arm", scale=scale * reward_unit, floor=0.0
        )
        assert isinstance(choice, Choice)
        value = reward_unit * float(expected[choice.arm] + noise[n])
        update(posteriors, decision=n, arm=choice.arm, context=context, reward=value)
        result.choices.append(choice)
        result.regret += float(expected.max() - expected[choice.arm])
        result.uniform_regret += float(expected.max() - expected.mean())
    return result


def share_of_uniform(seeds: int, rounds: int, *, discount: float, changes: int) -> float:
    """Mean regret over the seeds, as a share of that of choosing at random."""
    runs = [run(seed, rounds, discount=discount, changes=changes) for seed in range(seeds)]
    return sum(one.regret for one in runs) / sum(one.uniform_regret for one in runs)


def test_regret_in_a_world_that_stands_still() -> None:
    """Without discount, 3000 rounds cost at most 6 % of the regret of choosing at random."""
    assert share_of_uniform(6, 3000, discount=1.0, changes=0) <= 0.06


def test_regret_in_a_world_that_changes() -> None:
    """With a memory of 200 decisions, three abrupt changes in 5000 rounds cost at most 25 %.

    The length matters: each change costs the same however soon the next one comes.
    """
    assert share_of_uniform(4, 5000, discount=0.995, changes=3) <= 0.25


def test_replay_makes_the_same_choices() -> None:
    """The same tape twice: every arm, mean, deviation and propensity equal to the last bit."""
    assert run(3, 400, discount=0.998) == run(3, 400, discount=0.998)


def test_the_unit_of_reward_does_not_matter() -> None:
    """Rewards and scale in another unit choose the same arms: exactly for a power of two, and in practice for 1000."""
    plain, binary, decimal = (run(3, 400, discount=0.998, reward_unit=unit) for unit in (1.0, 1024.0, 1000.0))
    assert [one.propensities for one in binary.choices] == [one.propensities for one in plain.choices]
    assert [one.arm for one in decimal.choices] == [one.arm for one in plain.choices]
