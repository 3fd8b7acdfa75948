"""Every published value that the statistics must reproduce, to 1e-9, and values of independent implementations.

Sources are named beside each. The libraries are not installed for this: their results on fixed inputs stand here.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from tapeline_lab.validity import (
    Moments,
    backtest_overfitting,
    block_length,
    deflated,
    expected_maximum,
    minimum_backtest_years,
    probability_above,
    track_record,
)
from tapeline_lab.validity.figures import figure

EXACT = {"rel": 1e-9, "abs": 1e-12}

HEDGE_FUND = Moments(1.585 / math.sqrt(12), -2.448, 10.164, 24)
"""Bailey and Lopez de Prado (2012), two years of monthly returns."""

DSR_EXAMPLE = Moments(2.5 / math.sqrt(250), -3.0, 10.0, 1250)
"""Bailey and Lopez de Prado (2014), five years of daily returns, found among a hundred trials."""


def normal(annual: float, periods_per_year: int) -> Moments:
    return Moments(annual / math.sqrt(periods_per_year), 0.0, 3.0, 2)


def test_expected_maximum_of_a_hundred_normals() -> None:
    """Bailey and Lopez de Prado (2014)."""
    assert expected_maximum(100) == pytest.approx(2.5306028932016846, **EXACT)


def test_probabilistic_sharpe_of_the_hedge_fund() -> None:
    """The paper's 0.913 with its skew and kurtosis, and what normal moments would make of it."""
    assert probability_above(HEDGE_FUND) == pytest.approx(0.9132343068848602, **EXACT)
    as_normal = Moments(HEDGE_FUND.sharpe, 0.0, 3.0, 24)
    assert probability_above(as_normal) == pytest.approx(0.9815912360834967, **EXACT)


def test_deflated_sharpe_of_the_papers_example() -> None:
    """A hundred trials: rejected at 95 %, as in the paper; with 46, or 88 and normal moments, just not."""
    variance = 0.5 / 250
    found = deflated(DSR_EXAMPLE, variance, 100)
    assert found.benchmark == pytest.approx(0.11317200186513214, **EXACT)
    assert found.probability == pytest.approx(0.9003968344493903, **EXACT)
    assert deflated(DSR_EXAMPLE, variance, 46).probability == pytest.approx(0.9505017068755787, **EXACT)
    as_normal = Moments(DSR_EXAMPLE.sharpe, 0.0, 3.0, 1250)
    assert deflated(as_normal, variance, 88).probability == pytest.approx(0.9504908166760139, **EXACT)


@pytest.mark.parametrize(
    ("one", "benchmark", "year", "years"),
    [
        (normal(2, 250), 1, 250, 2.7311878017281761),
        (normal(2, 52), 1, 52, 2.8288335869452368),
        (Moments(3 / math.sqrt(12), -0.72, 5.78, 2), 2.5, 12, 27.352920196040301),
    ],
)
def test_minimum_track_record_lengths(one: Moments, benchmark: float, year: int, years: float) -> None:
    """Bailey and Lopez de Prado (2012): daily, weekly, and monthly with the moments of a hedge fund index."""
    assert track_record(one, benchmark / math.sqrt(year)) / year == pytest.approx(years, **EXACT)


def test_minimum_backtest_length() -> None:
    """After 45 trials on five years a Sharpe ratio of one means nothing (Bailey et al. 2014); digits of purgedcv."""
    assert minimum_backtest_years(45, 1.0) == pytest.approx(4.998087004443404, **EXACT)
    assert minimum_backtest_years(10, 2.0) == pytest.approx(0.6198399526502304, **EXACT)


def test_overfitting_equals_an_independent_implementation() -> None:
    """purgedcv 0.1.11 on the same matrix, eight blocks."""
    matrix = 0.01 * np.random.RandomState(7).standard_normal((320, 10))
    matrix[:, 3] += 0.0005
    found = backtest_overfitting(matrix, splits=8)
    assert found.probability == pytest.approx(0.6571428571428571, **EXACT)
    assert found.slope == pytest.approx(-1.0395152352351977, **EXACT)
    assert float(np.sum(found.logits)) == pytest.approx(-27.81330205749771, **EXACT)
    assert float(np.sum(found.inside)) == pytest.approx(6.513562839757587, **EXACT)
    assert float(np.sum(found.outside)) == pytest.approx(-2.942767570239203, **EXACT)


def test_block_length_of_an_autoregression() -> None:
    """Politis and White's length for AR(1) .3, 10,000 values after 100: 13.635665 for the stationary bootstrap."""
    shocks = np.random.RandomState(0).standard_normal(10_100)
    series = np.zeros(10_100)
    for place in range(1, 10_100):
        series[place] = 0.3 * series[place - 1] + shocks[place]
    assert block_length(series[100:]) == pytest.approx(13.635665, abs=5e-7)


MIXED = np.array([[0.01, 0.10, -0.04, 0.02, 0.03, 0.02, 0.01, -0.10]])
"""The series of empyrical's own tests without its leading blank."""

WITH_A_BLANK = np.concatenate([[[0.0]], MIXED], axis=1)
"""empyrical counts the blank as a period when it annualises growth."""


@pytest.mark.parametrize(
    ("name", "rows", "value"),
    [
        ("sharpe", MIXED, 1.7238613961706866),
        ("sortino", MIXED, 2.605531251673693),
        ("volatility", MIXED, 0.9136465399704637),
        ("max_drawdown", MIXED, 0.1),
        ("total_return", MIXED, 0.0389310917),
        ("annual_return", WITH_A_BLANK, 1.9135925373194),
        ("calmar", WITH_A_BLANK, 19.135925373194),
    ],
)
def test_figures_equal_empyrical(name: str, rows: np.ndarray, value: float) -> None:
    """Values of empyrical-reloaded 0.7.1; the last digits of what is printed there are rounded."""
    tolerance = 1e-6 if name == "total_return" else 1e-9
    assert float(figure(name)(rows, 252.0)[0]) == pytest.approx(value, rel=tolerance)
