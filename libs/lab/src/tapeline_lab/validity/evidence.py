"""What the evidence supports, and what it does not, in plain words.

``weigh`` computes the statistics of a result; ``verdict`` turns them into findings and a level by fixed rules. A
finding says what a figure means for the question "is there something here, or was it luck?". A missing figure is a
finding too: what was not looked at supports nothing.

It never says that a strategy is good, nor what it will earn: a record can only be more or less hard to explain by luck.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from tapeline_lab.validity.bootstrap import Interval, bootstrap_interval
from tapeline_lab.validity.figures import Name
from tapeline_lab.validity.overfitting import backtest_overfitting
from tapeline_lab.validity.series import SeriesInvalid, series, trial_matrix
from tapeline_lab.validity.sharpe import (
    Moments,
    deflated,
    minimum_backtest_years,
    moments,
    probability_above,
    sharpe_ratios,
    track_record,
)
from tapeline_lab.validity.superior import superior_predictive_ability
from tapeline_lab.validity.trials import effective_trials

CONFIDENCE = 0.95
FEW_TRADES = 30
"""Below that many results a mean's law is not near normal, whatever their number says (a common rule of thumb)."""

FEW_DAYS = 60
MOST_OVERFIT = 0.2
"""A search with nothing in it stays below this PBO in 6.7 % of data sets (``python -m bench.validity``)."""

DOMINATED = 0.5
"""Part of the net result from which on one trade is the result."""

KEPT_OUTSIDE = 0.5
"""Part of the Sharpe ratio that should be left on days that were not searched."""

SIGNIFICANT_T = 2.0
FEWEST_OVERFITTING_DAYS = 64
"""Two days in each of thirty-two blocks would do for the arithmetic; below this the halves are all noise."""


class Level(StrEnum):
    """How far a result may be believed, from worst to best."""

    AGAINST = "AGAINST"
    INSUFFICIENT = "INSUFFICIENT"
    WEAK = "WEAK"
    MODERATE = "MODERATE"
    STRONG = "STRONG"


class Topic(StrEnum):
    """What is looked at."""

    RESULT = "RESULT"
    TRADES = "TRADES"
    TRACK_RECORD = "TRACK_RECORD"
    INTERVAL = "INTERVAL"
    ONE_TRADE = "ONE_TRADE"
    TRIALS = "TRIALS"
    BACKTEST_LENGTH = "BACKTEST_LENGTH"
    DEFLATED_SHARPE = "DEFLATED_SHARPE"
    OVERFITTING = "OVERFITTING"
    SUPERIORITY = "SUPERIORITY"
    OUT_OF_SAMPLE = "OUT_OF_SAMPLE"


class Standing(StrEnum):
    """Which way a finding points, in the order in which findings are told."""

    DOUBTS = "DOUBTS"
    UNKNOWN = "UNKNOWN"
    SUPPORTS = "SUPPORTS"
    NEUTRAL = "NEUTRAL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence and which way it points."""

    topic: Topic
    standing: Standing
    words: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement: a level, its sentences for people in the order they are to be read, and every finding."""

    level: Level
    words: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a result; ``None`` is what was not looked at.

    Attributes:
        moments: of the returns; its Sharpe ratio is per period.
        periods_per_year: to show it annually.
        trades: closed ones.
        best_trade_share: the best trade's part of the net result; ``None`` without trades or without a net gain.
        sharpe: interval of the annual Sharpe ratio.
        trials: how many were run to find this one, counted from the record of trials; 1 if it was fixed beforehand.
        effective_trials: how many independent ones they are worth.
        trial_variance: of the trials' Sharpe ratios per period.
        overfitting: PBO of the search.
        superiority: p-value of Hansen's test over all trials against ``benchmark``.
        benchmark: what that test compared with, in words.
        inside_sharpe, outside_sharpe: annual, on the days that were searched and on those that were not.
        outside_periods: how many the latter are.
    """

    moments: Moments
    periods_per_year: float
    trades: int | None = None
    best_trade_share: float | None = None
    sharpe: Interval | None = None
    trials: int | None = None
    effective_trials: float | None = None
    trial_variance: float | None = None
    overfitting: float | None = None
    superiority: float | None = None
    benchmark: str = "doing nothing"
    inside_sharpe: float | None = None
    outside_sharpe: float | None = None
    outside_periods: int | None = None


def weigh(
    returns: ArrayLike,
    *,
    seed: int,
    periods_per_year: float = 365.0,
    trades: ArrayLike | None = None,
    matrix: ArrayLike | None = None,
    trials: int | None = None,
    benchmark: ArrayLike | None = None,
    inside: ArrayLike | None = None,
    outside: ArrayLike | None = None,
) -> Evidence:
    """The statistics of a result.

    Args:
        returns: of the result, shape (n,).
        trades: results of its closed trades after costs.
        matrix: returns of every trial of the search it came from, shape (periods, trials).
        trials: how many were run, if more than the matrix has, or 1 if nothing was searched.
        benchmark: returns over the matrix's periods of what is to be beaten, such as buy-and-hold.
        inside, outside: stitched returns of a walk-forward, on searched days and on those that followed.
    """
    found = series(returns)
    own = moments(found)
    results = None if trades is None else series(trades, 0, "results of trades")
    searched = None if matrix is None else trial_matrix(matrix)
    ratios = None if searched is None else sharpe_ratios(searched)
    count = trials
    if searched is not None:
        count = max(searched.shape[1], trials or 0)
    several = searched is not None and searched.shape[1] > 1
    long_enough = several and searched is not None and len(searched) >= FEWEST_OVERFITTING_DAYS
    return Evidence(
        moments=own,
        periods_per_year=periods_per_year,
        trades=None if results is None else len(results),
        best_trade_share=None if results is None else _best_share(results.tolist()),
        sharpe=bootstrap_interval(found, Name.SHARPE, seed=seed, periods_per_year=periods_per_year),
        trials=count,
        effective_trials=_scaled(effective_trials(searched), searched.shape[1], count)
        if searched is not None and count is not None
        else None,
        trial_variance=float(np.var(ratios, ddof=1)) if ratios is not None and several else None,
        overfitting=backtest_overfitting(searched).probability if searched is not None and long_enough else None,
        superiority=superior_predictive_ability(searched, benchmark, seed=seed).consistent
        if searched is not None and long_enough
        else None,
        benchmark="doing nothing" if benchmark is None else "the benchmark",
        inside_sharpe=None if inside is None else _annual(inside, periods_per_year),
        outside_sharpe=None if outside is None else _annual(outside, periods_per_year),
        outside_periods=None if outside is None else len(series(outside, what="outside")),
    )


def verdict(evidence: Evidence) -> Verdict:
    """Findings on every topic, doubts first, and the level they add up to."""
    found = [finding for judge in JUDGES for finding in judge(evidence)]
    findings = tuple(finding for standing in Standing for finding in found if finding.standing is standing)
    level = _level(findings)
    return Verdict(level, (HEADLINES[level], *(finding.words for finding in findings)), findings)


HEADLINES = {
    Level.AGAINST: "The evidence speaks against it.",
    Level.INSUFFICIENT: "There is not enough evidence to say anything, for it or against it.",
    Level.WEAK: "The evidence is weak: what was found can be explained by luck or by the search.",
    Level.MODERATE: "The evidence is moderate: what was looked at supports it, but not all was looked at.",
    Level.STRONG: "The evidence is strong, as far as the past can give any: luck alone is an unlikely explanation.",
}


def _level(findings: tuple[Finding, ...]) -> Level:
    doubts = {finding.topic for finding in findings if finding.standing is Standing.DOUBTS}
    unknown = {finding.topic for finding in findings if finding.standing is Standing.UNKNOWN}
    if Topic.RESULT in doubts:
        return Level.AGAINST
    if doubts & {Topic.TRADES, Topic.TRACK_RECORD}:
        return Level.INSUFFICIENT
    if doubts:
        return Level.WEAK
    return Level.MODERATE if unknown else Level.STRONG


# ---- judges: one for each topic ------------------------------------------------------------------------------------


def _result(evidence: Evidence) -> list[Finding]:
    annual = evidence.moments.sharpe * math.sqrt(evidence.periods_per_year)
    if annual > 0.0:
        return []
    return [_doubts(Topic.RESULT, f"It earned nothing for its risk: the Sharpe ratio is {annual:.2f}.")]


def _trades(evidence: Evidence) -> list[Finding]:
    count = evidence.trades
    if count is None:
        return [_unknown(Topic.TRADES, "How many trades it rests on is not known.")]
    if count < FEW_TRADES:
        said = "It rests on no closed trade" if not count else f"It rests on {_count(count, 'closed trade')}"
        return [_doubts(Topic.TRADES, f"{said}; below {FEW_TRADES} a few lucky ones decide.")]
    return [_supports(Topic.TRADES, f"It rests on {count:,} closed trades.")]


def _record(evidence: Evidence) -> list[Finding]:
    own, year = evidence.moments, evidence.periods_per_year
    if own.sharpe <= 0.0:
        return []
    needed, sure = track_record(own, confidence=CONFIDENCE), probability_above(own)
    above = f"that its true Sharpe ratio is above zero has a probability of {_share(sure)}"
    if own.periods < max(needed, FEW_DAYS):
        needs = _years(max(needed, FEW_DAYS), year)
        return [
            _doubts(
                Topic.TRACK_RECORD,
                f"The track record of {_years(own.periods, year)} is too short: such returns need {needs}; {above}.",
            )
        ]
    return [_supports(Topic.TRACK_RECORD, f"The track record of {_years(own.periods, year)} is long enough: {above}.")]


def _interval(evidence: Evidence) -> list[Finding]:
    one = evidence.sharpe
    if one is None:
        return [_unknown(Topic.INTERVAL, "How far the Sharpe ratio may be off was not estimated.")]
    share = f"{one.confidence:.0%}".replace("%", " %")
    said = f"The annual Sharpe ratio is {one.estimate:.2f}; its {share} interval is {one.low:.2f} to {one.high:.2f}"
    if one.contains(0.0):
        return [_doubts(Topic.INTERVAL, f"{said}, which contains zero.")]
    if one.high < 0.0:
        return [_doubts(Topic.INTERVAL, f"{said}, all of it below zero.")]
    return [_supports(Topic.INTERVAL, f"{said}, all of it above zero.")]


def _one_trade(evidence: Evidence) -> list[Finding]:
    share = evidence.best_trade_share
    if share is None:
        return []
    if share >= DOMINATED:
        if share >= 1.0:
            return [_doubts(Topic.ONE_TRADE, "Without its best trade there would be no gain.")]
        return [_doubts(Topic.ONE_TRADE, f"One trade made {_share(share)} of it: the result is mostly that trade's.")]
    return [_supports(Topic.ONE_TRADE, f"No single trade made it: the best one brought {_share(share)} of the result.")]


def _trials(evidence: Evidence) -> list[Finding]:
    count = evidence.trials
    if count is None:
        return [
            _unknown(
                Topic.TRIALS,
                "How many variants were tried to find it is not known, so its luck in being chosen is not either.",
            )
        ]
    if count == 1:
        return [_supports(Topic.TRIALS, "It is the only variant that was tried.")]
    worth = evidence.effective_trials
    alike = "" if worth is None else f", worth about {worth:,.0f} independent ones"
    return [Finding(Topic.TRIALS, Standing.NEUTRAL, f"It is one of {count:,} recorded trials{alike}.")]


def _length(evidence: Evidence) -> list[Finding]:
    own, year = evidence.moments, evidence.periods_per_year
    count = evidence.effective_trials or evidence.trials
    if own.sharpe <= 0.0 or count is None or evidence.trials == 1:
        return []
    annual = own.sharpe * math.sqrt(year)
    needed = minimum_backtest_years(count, annual)
    if own.periods < needed * year:
        said = f"The best of so many worthless trials would show a Sharpe ratio of {annual:.2f} on so short a backtest"
        return [_doubts(Topic.BACKTEST_LENGTH, f"{said}; it takes more than {_years(needed * year, year)}.")]
    said = f"The backtest is longer than the {_years(needed * year, year)}"
    return [_supports(Topic.BACKTEST_LENGTH, f"{said} in which luck alone would be expected to show as much.")]


def _deflated(evidence: Evidence) -> list[Finding]:
    own, year = evidence.moments, evidence.periods_per_year
    count = evidence.effective_trials or evidence.trials
    if count is None or evidence.trials == 1:
        return []
    if evidence.trial_variance is None:
        said = "How far the trials lie apart is not known, so luck cannot be taken off."
        return [_unknown(Topic.DEFLATED_SHARPE, said)]
    found = deflated(own, evidence.trial_variance, count)
    luck = found.benchmark * math.sqrt(year)
    said = f"That it beats the luckiest of its trials, at a Sharpe ratio of {luck:.2f}, has a probability of"
    if found.probability < CONFIDENCE:
        asked = f"{_share(CONFIDENCE)} is asked for"
        return [_doubts(Topic.DEFLATED_SHARPE, f"{said} {_share(found.probability)}; {asked}.")]
    return [_supports(Topic.DEFLATED_SHARPE, f"{said} {_share(found.probability)}.")]


def _overfit(evidence: Evidence) -> list[Finding]:
    if evidence.trials == 1 or evidence.trials is None:
        return []
    share = evidence.overfitting
    if share is None:
        return [_unknown(Topic.OVERFITTING, "Whether the search picks what lasts was not tried.")]
    said = f"What the search picks on half of the days is below its peers on the other half in {_share(share)} of cases"
    if share >= MOST_OVERFIT:
        return [_doubts(Topic.OVERFITTING, f"{said}: choosing by it is overfitting.")]
    return [_supports(Topic.OVERFITTING, f"{said}.")]


def _superior(evidence: Evidence) -> list[Finding]:
    if evidence.trials == 1 or evidence.trials is None:
        return []
    p_value = evidence.superiority
    if p_value is None:
        return [_unknown(Topic.SUPERIORITY, "Whether any of the trials beats a benchmark was not tested.")]
    said = f"Were no trial better than {evidence.benchmark}, a best one like this would be seen"
    if p_value > 1.0 - CONFIDENCE:
        return [_doubts(Topic.SUPERIORITY, f"{said} in {_share(p_value)} of cases.")]
    return [_supports(Topic.SUPERIORITY, f"{said} in only {_share(p_value)} of cases.")]


def _outside(evidence: Evidence) -> list[Finding]:
    ratio, periods = evidence.outside_sharpe, evidence.outside_periods
    if ratio is None or periods is None:
        if evidence.trials == 1:
            # Nothing was chosen by any day: all of them are outside.
            return []
        return [_unknown(Topic.OUT_OF_SAMPLE, "It was not tried on days it was not chosen by: do a walk-forward.")]
    year = evidence.periods_per_year
    t_statistic = ratio * math.sqrt(periods / year)
    said = f"On {_years(periods, year)} it was not chosen by, its Sharpe ratio is {ratio:.2f} (t = {t_statistic:.1f})"
    inside = evidence.inside_sharpe
    if inside is not None and inside > 0.0:
        said += f", on those it was chosen by {inside:.2f}"
        if ratio < KEPT_OUTSIDE * inside:
            return [_doubts(Topic.OUT_OF_SAMPLE, f"{said}: most of it is gone.")]
    if t_statistic < SIGNIFICANT_T:
        return [_doubts(Topic.OUT_OF_SAMPLE, f"{said}; below t = {SIGNIFICANT_T:.0f} that may be luck.")]
    return [_supports(Topic.OUT_OF_SAMPLE, f"{said}.")]


JUDGES: tuple[Callable[[Evidence], list[Finding]], ...] = (
    _result,
    _trades,
    _record,
    _interval,
    _one_trade,
    _trials,
    _length,
    _deflated,
    _overfit,
    _superior,
    _outside,
)


# ---- words and small sums ------------------------------------------------------------------------------------------


def _supports(topic: Topic, words: str) -> Finding:
    return Finding(topic, Standing.SUPPORTS, words)


def _doubts(topic: Topic, words: str) -> Finding:
    return Finding(topic, Standing.DOUBTS, words)


def _unknown(topic: Topic, words: str) -> Finding:
    return Finding(topic, Standing.UNKNOWN, words)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _share(share: float) -> str:
    """A probability that never looks certain."""
    if share > 0.999:
        return "more than 99.9 %"
    return "less than 0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")


def _years(periods: float, year: float) -> str:
    if math.isinf(periods):
        return "for ever"
    years = periods / year
    return f"{years:,.1f} years" if years >= 2.0 else _count(math.ceil(periods), "day")


def _best_share(results: list[float]) -> float | None:
    net = sum(results)
    return max(results) / net if results and net > 0.0 else None


def _annual(returns: ArrayLike, year: float) -> float:
    return moments(returns).sharpe * math.sqrt(year)


def _scaled(effective: float, columns: int, counted: int) -> float:
    """Trials that were counted and whose returns are not in the matrix resemble the others as those do each other."""
    if counted < columns:
        raise SeriesInvalid(f"trials is {counted}, the matrix has {columns}: count every trial")
    return effective * counted / columns
