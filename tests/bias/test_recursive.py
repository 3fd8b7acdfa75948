"""Warm-up: what has settled, what would settle later, what never does, and what only counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.bias.bars import market
from tests.bias.clean import CLEAN

from tapeline_lab.bias.findings import Kind
from tapeline_lab.bias.recursive import RecursiveAnalysis, recursive_analysis
from tapeline_lab.bias.subjects import pipeline_subject

STARTUPS = (49, 99, 199, 399)


def average(bars: dict[str, Any], length: int = 20) -> dict[str, Any]:
    value, said = bars["close"][0], []
    for close in bars["close"].tolist():
        value += 2.0 / (length + 1) * (close - value)
        said.append(value)
    return {"ema": np.array(said)}


def analysed(pipeline: Any, declared: int | None, bars: int = 600) -> RecursiveAnalysis:
    return recursive_analysis(pipeline_subject(pipeline), market(bars), declared=declared, startups=STARTUPS)


def test_an_average_that_has_not_settled_fails_and_is_told_what_would_do() -> None:
    """An EMA of 20 forgets by 19/21 a bar: from about ln(1e-6 / spread) / ln(19/21) bars on."""
    analysis = analysed(average, 20)
    (finding,) = analysis.findings
    enough = analysis.columns[0].settles_after
    assert finding.kind is Kind.WARM_UP_SHORT
    assert enough is not None
    assert f"{enough} would do" in finding.detail
    assert 0.4 < enough / (math.log(1e-6 / 0.02) / math.log(19 / 21)) < 1.3


def test_what_would_do_does() -> None:
    """Declared so, the same average passes."""
    enough = analysed(average, 20).columns[0].settles_after
    assert analysed(average, enough).is_clean


def test_a_window_settles_at_its_length() -> None:
    """A mean of 30 bars needs 29 before the bar, and not one more."""

    def window(bars: dict[str, Any]) -> dict[str, Any]:
        close = bars["close"]
        said = np.full(len(close), np.nan)
        for row in range(29, len(close)):
            said[row] = close[row - 29 : row + 1].mean()
        return {"mean": said}

    analysis = analysed(window, 10)
    assert analysis.columns[0].settles_after == 29
    assert [finding.kind for finding in analysis.findings] == [Kind.WARM_UP_SHORT]
    assert analysed(window, 29).is_clean


def test_a_sum_since_the_start_never_settles() -> None:
    """On-balance volume means nothing without its beginning."""
    analysis = recursive_analysis(
        pipeline_subject(CLEAN["on-balance volume"].pipeline), market(), declared=50, startups=STARTUPS
    )
    assert [finding.kind for finding in analysis.findings] == [Kind.NEVER_SETTLES]


def test_a_count_of_bars_is_left_out() -> None:
    """It differs by where it begins, by nature."""
    analysis = analysed(lambda bars: {"bars": np.arange(len(bars["close"])) + 1.0}, 10)
    assert analysis.columns[0].is_counter
    assert analysis.is_clean


def test_the_regime_filter_forgets_where_it_began() -> None:
    """Beliefs are the same to a millionth after 199 bars, wherever the filter began."""
    clean = CLEAN["regime filter"]
    analysis = recursive_analysis(pipeline_subject(clean.pipeline), market(), declared=199, startups=STARTUPS)
    assert analysis.is_clean, [finding.sentence for finding in analysis.findings]


def test_too_few_bars_are_refused() -> None:
    """With what is needed."""
    with pytest.raises(ValueError, match="too few"):
        analysed(average, 20, bars=40)
    with pytest.raises(ValueError, match="600 bars are too few for a warm-up of 599"):
        analysed(average, 599)


def test_near_zero_a_value_is_compared_with_the_size_it_usually_has() -> None:
    """A difference of two averages passes through zero, where any rounding is a large share of it."""

    def difference(bars: dict[str, Any]) -> dict[str, Any]:
        return {"macd": average(bars, 5)["ema"] - average(bars, 10)["ema"]}

    analysis = analysed(difference, 120)
    assert analysis.is_clean, [finding.sentence for finding in analysis.findings]


def test_a_rare_signal_is_compared_at_more_bars_than_one() -> None:
    """A flag that is 1 at few bars differs at those only; the bars after each moment are compared as well."""

    def rare(bars: dict[str, Any]) -> dict[str, Any]:
        mean = np.cumsum(bars["close"]) / (np.arange(len(bars["close"])) + 1)
        return {"crosses": np.append(False, np.diff(bars["close"] > mean)).astype(float)}

    assert not analysed(rare, 99, bars=900).is_clean
