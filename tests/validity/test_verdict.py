"""The verdict: each topic doubts, supports or is unknown; the level follows from the findings; nothing is promised."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from tapeline_lab.validity import (
    Evidence,
    Interval,
    Level,
    Method,
    Moments,
    SeriesInvalid,
    Standing,
    Topic,
    verdict,
    weigh,
)


def interval(low: float, estimate: float, high: float) -> Interval:
    return Interval(low, estimate, high, estimate, 0.95, Method.PERCENTILE, 1.0, 2000, 0)


CONVINCING = Evidence(
    moments=Moments(0.12, -0.3, 5.0, 1500),
    periods_per_year=365.0,
    trades=400,
    best_trade_share=0.04,
    sharpe=interval(1.2, 2.3, 3.4),
    trials=200,
    effective_trials=30.0,
    trial_variance=0.0004,
    overfitting=0.05,
    superiority=0.01,
    inside_sharpe=2.6,
    outside_sharpe=2.1,
    outside_periods=900,
)
"""Everything was looked at, and nothing speaks against it."""


def standing(evidence: Evidence, topic: Topic) -> Standing | None:
    found = [finding.standing for finding in verdict(evidence).findings if finding.topic is topic]
    assert len(found) <= 1
    return found[0] if found else None


def words(evidence: Evidence, topic: Topic) -> str:
    return next(finding.words for finding in verdict(evidence).findings if finding.topic is topic)


D, S, U, N = Standing.DOUBTS, Standing.SUPPORTS, Standing.UNKNOWN, Standing.NEUTRAL

CASES = [
    (Topic.RESULT, {"moments": Moments(-0.01, 0.0, 3.0, 1500)}, D, "earned nothing for its risk"),
    (Topic.RESULT, {}, None, ""),
    (Topic.TRADES, {"trades": 29}, D, "29 closed trades; below 30"),
    (Topic.TRADES, {"trades": 1}, D, "1 closed trade;"),
    (Topic.TRADES, {"trades": 0}, D, "no closed trade"),
    (Topic.TRADES, {"trades": 30}, S, "30 closed trades"),
    (Topic.TRADES, {"trades": None}, U, "not known"),
    (
        Topic.TRACK_RECORD,
        {"moments": Moments(0.05, 0.0, 3.0, 400)},
        D,
        "400 days is too short: such returns need 3.0 years",
    ),
    (Topic.TRACK_RECORD, {"moments": Moments(0.9, 0.0, 3.0, 40)}, D, "need 60 days"),
    (Topic.TRACK_RECORD, {}, S, "4.1 years is long enough"),
    (Topic.INTERVAL, {"sharpe": interval(-0.2, 1.0, 2.1)}, D, "-0.20 to 2.10, which contains zero"),
    (Topic.INTERVAL, {"sharpe": interval(-2.0, -1.0, -0.1)}, D, "all of it below zero"),
    (Topic.INTERVAL, {}, S, "1.20 to 3.40, all of it above zero"),
    (Topic.INTERVAL, {"sharpe": None}, U, "not estimated"),
    (Topic.ONE_TRADE, {"best_trade_share": 0.7}, D, "One trade made 70.0 % of it"),
    (Topic.ONE_TRADE, {"best_trade_share": 1.4}, D, "Without its best trade there would be no gain"),
    (Topic.ONE_TRADE, {}, S, "4.0 % of the result"),
    (Topic.ONE_TRADE, {"best_trade_share": None}, None, ""),
    (Topic.TRIALS, {"trials": None}, U, "not known"),
    (Topic.TRIALS, {"trials": 1}, S, "only variant"),
    (Topic.TRIALS, {}, N, "one of 200 recorded trials, worth about 30 independent ones"),
    (Topic.BACKTEST_LENGTH, {"moments": Moments(0.05, 0.0, 3.0, 1200)}, D, "so short a backtest; it takes more than"),
    (Topic.BACKTEST_LENGTH, {}, S, "longer than the 299 days"),
    (Topic.BACKTEST_LENGTH, {"trials": 1}, None, ""),
    (Topic.DEFLATED_SHARPE, {"trial_variance": 0.01}, D, "95.0 % is asked for"),
    (Topic.DEFLATED_SHARPE, {}, S, "beats the luckiest of its trials"),
    (Topic.DEFLATED_SHARPE, {"trial_variance": None}, U, "luck cannot be taken off"),
    (Topic.DEFLATED_SHARPE, {"trials": 1}, None, ""),
    (Topic.OVERFITTING, {"overfitting": 0.2}, D, "20.0 % of cases: choosing by it is overfitting"),
    (Topic.OVERFITTING, {"overfitting": 0.19}, S, "19.0 % of cases."),
    (Topic.OVERFITTING, {"overfitting": None}, U, "not tried"),
    (Topic.OVERFITTING, {"trials": 1}, None, ""),
    (Topic.SUPERIORITY, {"superiority": 0.06}, D, "in 6.0 % of cases"),
    (Topic.SUPERIORITY, {"superiority": 0.0}, S, "in only less than 0.1 % of cases"),
    (Topic.SUPERIORITY, {"superiority": None}, U, "not tested"),
    (Topic.OUT_OF_SAMPLE, {"outside_sharpe": None}, U, "do a walk-forward"),
    (Topic.OUT_OF_SAMPLE, {"outside_sharpe": None, "trials": 1}, None, ""),
    (Topic.OUT_OF_SAMPLE, {"outside_sharpe": 1.0}, D, "most of it is gone"),
    (Topic.OUT_OF_SAMPLE, {"outside_sharpe": 1.2, "inside_sharpe": 1.3}, D, "below t = 2 that may be luck"),
    (Topic.OUT_OF_SAMPLE, {}, S, "2.10 (t = 3.3), on those it was chosen by 2.60"),
]


@pytest.mark.parametrize(("topic", "change", "expected", "said"), CASES)
def test_each_topic(topic: Topic, change: dict[str, object], expected: Standing | None, said: str) -> None:
    """It acts, it refuses, it stays quiet; the words carry the figure."""
    evidence = replace(CONVINCING, **change)  # type: ignore[arg-type]
    assert standing(evidence, topic) is expected
    if expected is not None:
        assert said in words(evidence, topic)


def test_every_topic_has_a_case_of_doubt() -> None:
    """None is there for show. How many trials there were is a fact, which doubts nothing by itself."""
    doubted = {topic for topic, _, expected, _ in CASES if expected is Standing.DOUBTS}
    assert doubted == set(Topic) - {Topic.TRIALS}


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({}, Level.STRONG),
        ({"outside_sharpe": None}, Level.MODERATE),
        ({"outside_sharpe": None, "trials": 1}, Level.STRONG),
        ({"trials": None}, Level.MODERATE),
        ({"overfitting": 0.4}, Level.WEAK),
        ({"overfitting": 0.4, "trials": None}, Level.MODERATE),
        ({"trades": 5}, Level.INSUFFICIENT),
        ({"trades": 5, "overfitting": 0.4}, Level.INSUFFICIENT),
        ({"moments": Moments(0.0, 0.0, 3.0, 1500), "trades": 5}, Level.AGAINST),
    ],
)
def test_the_level_is_that_of_the_worst_finding(change: dict[str, object], level: Level) -> None:
    """Lost money, then too little of it, then doubts, then what is not known."""
    assert verdict(replace(CONVINCING, **change)).level is level  # type: ignore[arg-type]


def test_doubts_are_told_first() -> None:
    """The headline, then what speaks against it, what is not known, and what supports it."""
    found = verdict(replace(CONVINCING, overfitting=0.4, outside_sharpe=None))
    assert found.words[0] == "The evidence is weak: what was found can be explained by luck or by the search."
    order = [list(Standing).index(finding.standing) for finding in found.findings]
    assert order == sorted(order)
    assert found.words[1:] == tuple(finding.words for finding in found.findings)


PROMISES = re.compile(r"profit|guarant|will (earn|make|win)|buy|recommend|safe|should trade", re.IGNORECASE)


def test_no_verdict_promises_anything() -> None:
    """Whatever the evidence, no word says that a strategy earns money, or will."""
    changes = [change for _, change, _, _ in CASES]
    for one, other in itertools.combinations(changes, 2):
        found = verdict(replace(CONVINCING, **{**one, **other}))  # type: ignore[arg-type]
        for sentence in found.words:
            assert not PROMISES.search(sentence), sentence
            assert sentence.endswith(".")


def test_the_check_for_promises_can_fail() -> None:
    """Mutant: a sentence that makes one is caught."""
    assert PROMISES.search("The strategy is profitable.")


# ---- weighing ------------------------------------------------------------------------------------------------------

CHANCE = np.random.RandomState(41)
NULL = 0.01 * CHANCE.standard_normal((900, 20))


def test_the_best_of_worthless_trials_is_not_believed() -> None:
    """Chosen from twenty with nothing in them: its record may look good, the verdict does not."""
    best = int(np.argmax(NULL.mean(axis=0)))
    evidence = weigh(NULL[:, best], seed=1, trades=CHANCE.standard_normal(100) + 0.1, matrix=NULL)
    assert evidence.trials == 20
    assert evidence.effective_trials == pytest.approx(20, rel=0.1)
    assert evidence.overfitting is not None
    assert evidence.overfitting > 0.2
    assert verdict(evidence).level in (Level.INSUFFICIENT, Level.WEAK)


def test_a_real_effect_found_among_few_trials_is_believed() -> None:
    """It is not only able to doubt."""
    real = NULL.copy()
    real[:, 4] += 0.003
    evidence = weigh(
        real[:, 4],
        seed=1,
        trades=np.full(200, 10.0),
        matrix=real,
        inside=real[:450, 4],
        outside=real[450:, 4],
    )
    assert verdict(evidence).level is Level.STRONG


def test_trials_that_left_no_returns_still_count() -> None:
    """The record knows of 2,000; the matrix has twenty of them."""
    evidence = weigh(NULL[:, 0], seed=1, matrix=NULL, trials=2_000)
    assert evidence.trials == 2_000
    assert evidence.effective_trials == pytest.approx(2_000, rel=0.1)


def test_what_was_not_given_is_unknown() -> None:
    """Returns alone: no trials, no trades, no days outside."""
    evidence = weigh(NULL[:, 0] + 0.003, seed=1)
    unknown = {finding.topic for finding in verdict(evidence).findings if finding.standing is Standing.UNKNOWN}
    assert unknown == {Topic.TRADES, Topic.TRIALS, Topic.OUT_OF_SAMPLE}


def test_a_net_loss_has_no_best_share() -> None:
    """Shares of a loss mean nothing."""
    assert weigh(NULL[:, 0], seed=1, trades=[5.0, -10.0]).best_trade_share is None
    assert weigh(NULL[:, 0], seed=1, trades=[5.0, -4.0]).best_trade_share == 5.0
    assert weigh(NULL[:, 0], seed=1, trades=[]).trades == 0


def test_the_same_seed_gives_the_same_verdict() -> None:
    """A report can be made again."""
    one, other = (weigh(NULL[:, 0], seed=9, matrix=NULL[:, :5]) for _ in range(2))
    assert verdict(one) == verdict(other)


def test_bad_returns_are_refused() -> None:
    """As everywhere."""
    with pytest.raises(SeriesInvalid, match="at least 2"):
        weigh([0.1], seed=1)
