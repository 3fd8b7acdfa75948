"""How much a Sharpe ratio says: its error, the track record it needs, and what is left of it after many trials.

Every Sharpe ratio here is per period (a day's mean over a day's deviation, ddof 1), never annual: multiply by
``sqrt(periods_per_year)`` to show it. Kurtosis is raw: 3 for a normal law. Feeding annual ratios or excess kurtosis
into these formulas gives probabilities near one for nothing.

The moments of the published examples go in as ``Moments``; series go in through the functions that take returns.
Sources: Lo (2002); Bailey and Lopez de Prado (2012), "The Sharpe Ratio Efficient Frontier" (PSR, MinTRL); Bailey and
Lopez de Prado (2014), "The Deflated Sharpe Ratio"; Bailey, Borwein, Lopez de Prado and Zhu (2014),
"Pseudo-Mathematics and Financial Charlatanism" (minimum backtest length); Harvey and Liu (2015), "Backtesting"
(haircut).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from tapeline_lab.validity.normal import quantile, share_below
from tapeline_lab.validity.series import Floats, SeriesInvalid, between, series

FLAT = 1e-12
"""A variance below this part of the mean square is rounding: the series stood still."""


MOST_TRIALS = 1e12
"""Beyond that a share of one in N is lost in the digits of a float; nobody has tried so many."""


@dataclass(frozen=True, slots=True)
class Moments:
    """What a Sharpe ratio's law depends on.

    Attributes:
        sharpe: per period.
        skew: third standardised moment, 0 for a normal law.
        kurtosis: fourth standardised moment, 3 for a normal law.
        periods: how many returns it was measured on.
    """

    sharpe: float
    skew: float
    kurtosis: float
    periods: int


@dataclass(frozen=True, slots=True)
class Deflated:
    """The Deflated Sharpe Ratio and what went into it.

    Attributes:
        probability: that the true Sharpe ratio is above what the luckiest of ``trials`` worthless ones shows.
        benchmark: that luckiest one's expected Sharpe ratio, per period.
        sharpe: the observed one, per period.
        trials: how many independent trials were counted, which need not be a whole number.
    """

    probability: float
    benchmark: float
    sharpe: float
    trials: float


class Correction(StrEnum):
    """How the p-value of the best of several trials pays for the others."""

    BONFERRONI = "BONFERRONI"
    HOLM = "HOLM"
    BHY = "BHY"


@dataclass(frozen=True, slots=True)
class Haircut:
    """A Sharpe ratio before and after paying for the trials. ``share`` is the part that is cut off, 0 to 1."""

    observed: float
    sharpe: float
    p_value: float
    adjusted_p_value: float
    share: float


def sharpe_ratio(returns: ArrayLike) -> float:
    """Mean over sample deviation (ddof 1), per period; zero for a series that stands still."""
    found = series(returns)
    mean = float(np.mean(found))
    variance = float(np.var(found, ddof=1))
    return 0.0 if stands_still(variance, mean) else mean / math.sqrt(variance)


def stands_still(variance: float, mean: float) -> bool:
    """Whether a variance is nothing but rounding."""
    return variance <= FLAT * (variance + mean * mean)


def sharpe_ratios(matrix: Floats) -> Floats:
    """``sharpe_ratio`` of every column of a checked matrix, shape (trials,)."""
    mean, variance = np.mean(matrix, axis=0), np.var(matrix, axis=0, ddof=1)
    moves = variance > FLAT * (variance + mean * mean)
    ratios: Floats = np.divide(mean, np.sqrt(variance), out=np.zeros(len(mean)), where=moves)
    return ratios


def moments(returns: ArrayLike) -> Moments:
    """Sharpe ratio, skew and raw kurtosis of a series; skew and kurtosis are the plain sample moments (ddof 0)."""
    found = series(returns)
    deviations = found - np.mean(found)
    spread = float(np.mean(deviations**2))
    if stands_still(spread, float(np.mean(found))):
        return Moments(0.0, 0.0, 3.0, len(found))
    standardised = deviations / math.sqrt(spread)
    skew, kurtosis = float(np.mean(standardised**3)), float(np.mean(standardised**4))
    return Moments(sharpe_ratio(found), skew, kurtosis, len(found))


def variance_factor(one: Moments) -> float:
    """Variance of a Sharpe ratio's estimate times (periods - 1): 1 - skew·SR + (kurtosis - 1)/4·SR² (Lo; Mertens)."""
    factor = 1.0 - one.skew * one.sharpe + (one.kurtosis - 1.0) / 4.0 * one.sharpe**2
    if factor <= 0.0:
        raise SeriesInvalid(
            f"no law has Sharpe ratio {one.sharpe}, skew {one.skew} and kurtosis {one.kurtosis}: "
            f"give a ratio per period and the raw kurtosis"
        )
    return factor


def standard_error(one: Moments) -> float:
    """Standard error of a Sharpe ratio per period, for any moments."""
    return math.sqrt(variance_factor(one) / (_periods(one) - 1))


def probability_above(one: Moments, benchmark: float = 0.0) -> float:
    """Probabilistic Sharpe Ratio: Φ((SR - SR*)·sqrt(T - 1) / sqrt(1 - skew·SR + (kurtosis - 1)/4·SR²))."""
    return share_below((one.sharpe - benchmark) / standard_error(one))


def probabilistic_sharpe(returns: ArrayLike, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio is above ``benchmark``, both per period."""
    return probability_above(moments(returns), benchmark)


def track_record(one: Moments, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """MinTRL in periods: 1 + (1 - skew·SR + (kurtosis - 1)/4·SR²)·(Z/(SR - SR*))²; infinite if SR is not above SR*."""
    between(confidence, 0.5, 1.0, "confidence")
    if one.sharpe <= benchmark:
        return math.inf
    return 1.0 + variance_factor(one) * (quantile(confidence) / (one.sharpe - benchmark)) ** 2


def minimum_track_record(returns: ArrayLike, benchmark: float = 0.0, confidence: float = 0.95) -> float:
    """How many periods of such returns it takes to say that the Sharpe ratio is above ``benchmark``."""
    return track_record(moments(returns), benchmark, confidence)


def expected_maximum(trials: float) -> float:
    """Expected largest of so many independent standard normal numbers, zero for a single one.

    (1 - γ)·Φ⁻¹(1 - 1/N) + γ·Φ⁻¹(1 - 1/(N·e)), an approximation for large N (Bailey and Lopez de Prado 2014). Below two,
    where it goes astray, a straight line from zero to its value at two.
    """
    if not 1.0 <= trials <= MOST_TRIALS:
        raise SeriesInvalid(f"trials is {trials}: count every trial, at least this one")
    if trials < 2.0:
        return (trials - 1.0) * expected_maximum(2.0)
    gamma = float(np.euler_gamma)
    return (1.0 - gamma) * quantile(1.0 - 1.0 / trials) + gamma * quantile(1.0 - 1.0 / (trials * math.e))


def deflated(one: Moments, variance: float, trials: float) -> Deflated:
    """DSR: the PSR above sqrt(variance)·E[max of N normals], with the variance of the trials' Sharpe ratios."""
    if not variance >= 0.0:
        raise SeriesInvalid(f"variance of the trials is {variance}: it must be zero or more")
    benchmark = math.sqrt(variance) * expected_maximum(trials)
    return Deflated(probability_above(one, benchmark), benchmark, one.sharpe, trials)


def deflated_sharpe(returns: ArrayLike, trial_sharpes: ArrayLike, effective_trials: float | None = None) -> Deflated:
    """Probability that the chosen trial's true Sharpe ratio is above what luck alone gives the best of all.

    Args:
        returns: of the chosen trial.
        trial_sharpes: per period, of every trial that was run, the chosen one included.
        effective_trials: how many independent ones they are worth (``trials.effective_trials``); all unless given.
    """
    ratios = series(trial_sharpes, 1, "trial_sharpes")
    variance = float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0
    return deflated(moments(returns), variance, len(ratios) if effective_trials is None else effective_trials)


def minimum_backtest_years(trials: float, annual_sharpe: float) -> float:
    """Years below which the best of so many worthless trials is expected to show ``annual_sharpe``.

    (E[max of N] / SR)², which is below 2·ln(N)/SR² (Bailey, Borwein, Lopez de Prado and Zhu 2014). A backtest that is
    shorter proves nothing, however it looks.
    """
    if not annual_sharpe > 0.0:
        raise SeriesInvalid(f"annual_sharpe is {annual_sharpe}: it must be above zero")
    return (expected_maximum(trials) / annual_sharpe) ** 2


def haircut(
    observed: float, periods: int, trial_sharpes: ArrayLike, correction: Correction = Correction.HOLM
) -> Haircut:
    """What is left of the best trial's Sharpe ratio when its p-value pays for all of them (Harvey and Liu 2015).

    p = two-sided, of t = SR·sqrt(T). It is multiplied by N (Bonferroni; Holm's first step is the same), or adjusted
    over all trials so that the share of false discoveries holds under any dependence (BHY, Benjamini and Yekutieli
    2001). The ratio whose own p-value is the adjusted one is what is left.

    Args:
        observed: Sharpe ratio per period of the chosen trial.
        trial_sharpes: of every trial, the chosen one included.
    """
    if periods < 2:
        raise SeriesInvalid(f"periods is {periods}: at least 2 are needed")
    ratios = series(trial_sharpes, 1, "trial_sharpes")
    p_value = _p_value(observed, periods)
    if correction is Correction.BHY:
        adjusted = _bhy(p_value, np.sort([_p_value(float(ratio), periods) for ratio in ratios]))
    else:
        adjusted = min(1.0, p_value * len(ratios))
    kept = -quantile(adjusted / 2.0) / math.sqrt(periods) if adjusted < 1.0 else 0.0
    kept = math.copysign(min(kept, abs(observed)), observed) if kept else 0.0
    return Haircut(observed, kept, p_value, adjusted, 1.0 - kept / observed if observed else 0.0)


def _p_value(ratio: float, periods: int) -> float:
    return max(2.0 * share_below(-abs(ratio) * math.sqrt(periods)), 1e-300)


def _bhy(p_value: float, ordered: Floats) -> float:
    """Step-up adjustment of the given p-value among all, smallest first."""
    count = len(ordered)
    ranks = np.arange(1, count + 1)
    raised = ordered * count * float(np.sum(1.0 / ranks)) / ranks
    adjusted = np.minimum.accumulate(raised[::-1])[::-1]
    place = min(int(np.searchsorted(ordered, p_value)), count - 1)
    return min(1.0, float(adjusted[place]))


def _periods(one: Moments) -> int:
    if one.periods < 2:
        raise SeriesInvalid(f"periods is {one.periods}: a Sharpe ratio needs at least 2 returns")
    return one.periods
