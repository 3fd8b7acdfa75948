"""Cointegration of two prices: estimated on the first part of their common history, judged again on the rest.

    first = intercept + ratio * second + e         least squares over the first part
    Engle-Granger   is e stationary there?  With the critical values for a ratio that was estimated (MacKinnon)
    Dickey-Fuller   is first - ratio * second stationary in the rest, with the ratio of the first part?
    half-life       -ln 2 / ln(1 + b) bars, where e_i - e_{i-1} = a + b * e_{i-1}

R. Engle, C. Granger, "Co-integration and Error Correction", Econometrica 55 (1987); J. MacKinnon, "Critical Values for
Cointegration Tests" (2010), by statsmodels. Prices are taken as they are, not their logarithms, because a pair is
traded in units. One pair at a time: who tries a hundred finds five at the level of 5 %.
"""

from __future__ import annotations

import math
import warnings

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST_BARS = 100
"""Of each part. Tables of critical values begin there, and less would not be believed anyway."""

LEVEL = 0.05


class TooFewBars(ValueError):
    """The two prices have too little in common. The message says how much and what is needed."""


class Stationarity(msgspec.Struct, frozen=True):
    """A test whose null is that the spread wanders off. A small p-value speaks against that."""

    bars: int
    statistic: float
    p_value: float

    @property
    def is_stationary(self) -> bool:
        return self.p_value < LEVEL


class Cointegration(msgspec.Struct, frozen=True):
    """What the history of two prices says of them as a pair.

    Attributes:
        ratio: units of the second for one of the first, of the first part.
        deviation: of the spread there, in price of the first.
        half_life_bars: how long half a deviation takes to vanish; infinite where it does not.
        estimated: Engle-Granger on the part that gave the ratio.
        later: Dickey-Fuller on the rest, with that ratio.
    """

    ratio: float
    intercept: float
    deviation: float
    half_life_bars: float
    estimated: Stationarity
    later: Stationarity

    @property
    def verdict(self) -> str:
        """What the evidence supports, in words."""
        if self.ratio <= 0.0:
            return "The ratio is not positive: the two do not hedge each other, whatever the tests say."
        if not self.estimated.is_stationary:
            return "No evidence of a pair: the spread wanders off even where the ratio was fitted to it."
        if not self.later.is_stationary:
            return "Not a pair to trade: a spread that came back where the ratio was fitted did not do so afterwards."
        return "The spread came back where the ratio was fitted and afterwards. Costs and this search are not in that."


def cointegration(first: Floats, second: Floats, share: float = 0.5) -> Cointegration:
    """Estimate on the first ``share`` of the bars, judge on the rest.

    Args:
        first, second: prices at the same times, shape (bars,).

    Raises:
        TooFewBars: a part has fewer than ``LEAST_BARS`` bars.
        ValueError: a price stands still, or the two are one price.
    """
    from statsmodels.tsa.stattools import adfuller, coint

    cut = round(len(first) * share)
    if min(cut, len(first) - cut) < LEAST_BARS:
        raise TooFewBars(
            f"{len(first)} common bars make parts of {cut} and {len(first) - cut}; each needs {LEAST_BARS} at least"
        )
    for name, prices in (("first", first), ("second", second)):
        if min(np.ptp(prices[:cut]), np.ptp(prices[cut:])) == 0.0:
            raise ValueError(f"the {name} price stands still for a whole part: nothing can be said of it")
    ratio, intercept = _line(first[:cut], second[:cut])
    spread = first - intercept - ratio * second
    if spread[:cut].std() <= 1e-9 * np.abs(first[:cut]).mean():
        raise ValueError("the two prices are one: their spread is nothing but rounding")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # statsmodels warns where it returns a statistic of minus infinity
        statistic, p_value, _ = coint(first[:cut], second[:cut], trend="c", autolag="aic")
        later = adfuller(spread[cut:], regression="c", autolag="aic")
    return Cointegration(
        ratio=ratio,
        intercept=intercept,
        deviation=float(spread[:cut].std()),
        half_life_bars=_half_life_bars(spread[:cut]),
        estimated=Stationarity(cut, float(statistic), float(p_value)),
        later=Stationarity(len(first) - cut, float(later[0]), float(later[1])),
    )


def _line(first: Floats, second: Floats) -> tuple[float, float]:
    """Slope and intercept of the least-squares line of the first on the second."""
    away = second - second.mean()
    slope = float(away @ (first - first.mean()) / (away @ away))
    return slope, float(first.mean() - slope * second.mean())


def _half_life_bars(spread: Floats) -> float:
    """Infinite where the spread does not come back; 0 where one bar takes it to the other side."""
    pull, _ = _line(np.diff(spread), spread[:-1])
    if pull >= 0.0:
        return math.inf
    return 0.0 if pull <= -1.0 else -math.log(2.0) / math.log1p(pull)
