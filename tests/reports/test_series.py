"""Figures of return series: empyrical's where it has them, published values, and what has no value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import empyrical
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_lab.reports import series

MIXED = np.array([math.nan, 1.0, 10.0, -4.0, 2.0, 3.0, 2.0, 1.0, -10.0]) / 100
YEAR = 252

PUBLISHED = (
    ("sharpe", series.sharpe(MIXED, YEAR), 1.7238613961706866),
    ("sortino", series.sortino(MIXED, YEAR), 2.605531251673693),
    ("calmar", series.calmar(MIXED, YEAR), 19.135925373194),
    ("max drawdown", series.max_drawdown(MIXED), 0.1),
    ("annual return", series.annual_return(MIXED, YEAR), 1.9135925373194),
    ("annual volatility", series.annual_volatility(MIXED, YEAR), 0.9136465399704637),
    ("downside risk", series.downside_risk(MIXED, YEAR), 0.6044832503882965),
    ("stability", series.stability(MIXED), 0.1529973665111273),
    ("cumulative return", series.cumulative_return(MIXED), 0.0389310917),
)


@pytest.mark.parametrize(("name", "found", "published"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_published_values_to_nine_digits(name: str, found: float, published: float) -> None:
    """Reference values of empyrical-reloaded 0.7.1 on a series with a missing day."""
    assert found == pytest.approx(published, abs=1e-9 if name != "cumulative return" else 1e-10)


ORACLE: tuple[tuple[str, Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    ("cumulative", series.cumulative_return, empyrical.cum_returns_final),
    ("annual", lambda r: series.annual_return(r, 365), lambda r: empyrical.annual_return(r, annualization=365)),
    (
        "volatility",
        lambda r: series.annual_volatility(r, 365),
        lambda r: empyrical.annual_volatility(r, annualization=365),
    ),
    ("sharpe", lambda r: series.sharpe(r, 365), lambda r: empyrical.sharpe_ratio(r, annualization=365)),
    ("sortino", lambda r: series.sortino(r, 365), lambda r: empyrical.sortino_ratio(r, annualization=365)),
    ("downside", lambda r: series.downside_risk(r, 365), lambda r: empyrical.downside_risk(r, annualization=365)),
    ("drawdown", series.max_drawdown, lambda r: -empyrical.max_drawdown(r)),
    ("calmar", lambda r: series.calmar(r, 365), lambda r: empyrical.calmar_ratio(r, annualization=365)),
    ("omega", series.omega, empyrical.omega_ratio),
    ("tail", series.tail_ratio, empyrical.tail_ratio),
    ("at risk", series.value_at_risk, empyrical.value_at_risk),
    ("shortfall", series.conditional_value_at_risk, empyrical.conditional_value_at_risk),
    ("stability", series.stability, empyrical.stability_of_timeseries),
)

returns_strategy = st.lists(st.floats(-0.3, 0.3).map(lambda x: round(x, 6)), min_size=3, max_size=80).map(np.array)


@pytest.mark.parametrize(("name", "ours", "theirs"), ORACLE, ids=[row[0] for row in ORACLE])
@given(returns=returns_strategy)
@settings(max_examples=25, deadline=None)
def test_equal_to_empyrical(name: str, ours: Any, theirs: Any, returns: Any) -> None:
    """Any series: the same number to 1e-9, or neither has one."""
    found, expected = ours(returns), float(theirs(returns))
    if found is None:
        assert not math.isfinite(expected) or name == "stability"
    else:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(pairs=st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)), min_size=5, max_size=60))
@settings(max_examples=25, deadline=None)
def test_alpha_and_beta_are_empyricals(pairs: list[tuple[float, float]]) -> None:
    """Against any market that moves."""
    returns, market = np.array(pairs).T.round(6)
    slope = series.beta(returns, market)
    if slope is None:
        assert np.ptp(market) < 1e-12
        return
    alpha, beta = empyrical.alpha_beta(returns, market, annualization=365)
    assert slope == pytest.approx(beta, rel=1e-9, abs=1e-9)
    assert series.alpha(returns, market, 365) == pytest.approx(alpha, rel=1e-9, abs=1e-9)


def test_a_year_is_the_calendars() -> None:
    """The same days are annualised by the days that are traded in a year, not by 252."""
    round_the_clock, shares = series.sharpe(MIXED, 365), series.sharpe(MIXED, 252)
    assert round_the_clock == pytest.approx(shares * math.sqrt(365 / 252))


def test_moments_of_known_series() -> None:
    """Kurtosis is raw (a normal distribution has 3), and both moments are the population's."""
    two_point = np.array([1.0, -1.0] * 50)
    normal = np.random.Generator(np.random.PCG64(7)).normal(size=200_000)
    assert (series.skew(two_point), series.kurtosis(two_point)) == (0.0, 1.0)
    assert series.kurtosis(normal) == pytest.approx(3.0, abs=0.05)


def test_equal_returns_have_no_ratio() -> None:
    """Returns that are equal but for the last bit of their mean do not make an endless Sharpe ratio."""
    same = np.full(10, 0.001)
    assert series.sharpe(same, 365) is None
    assert series.annual_volatility(same, 365) == 0.0
    assert series.skew(same) is None


def test_nothing_has_no_figures() -> None:
    """An empty series and one without losses say None, and raise nothing."""
    empty, gains = np.empty(0), np.array([0.01, 0.02, 0.01])
    assert [series.annual_return(empty, 365), series.tail_ratio(empty), series.ulcer_index(empty)] == [None, None, None]
    assert [series.omega(gains), series.calmar(gains, 365), series.serenity(gains, 365)] == [None, None, None]


def test_ulcer_index_by_hand() -> None:
    """Falls of 0, 10 and 20 percent: the root of (0 + 0.01 + 0.04) / 3."""
    returns = np.array([0.0, -0.1, -0.8 / 0.9 * 0 + (0.8 / 0.9 - 1.0)])
    assert series.ulcer_index(returns) == pytest.approx(math.sqrt(0.05 / 3))


def test_rolling_is_the_plain_figure_of_each_window() -> None:
    """Each point is the Sharpe ratio of the days up to it; before the first window there is none."""
    returns = np.random.Generator(np.random.PCG64(3)).normal(size=50)
    rolled = series.rolling_sharpe(returns, 20, 365)
    assert np.isnan(rolled[:19]).all()
    assert rolled[19:] == pytest.approx([series.sharpe(returns[end - 20 : end], 365) for end in range(20, 51)])


def test_market_at_the_accounts_risk() -> None:
    """Half as volatile an account holds half the market; a wilder one at most all of it."""
    market = np.random.Generator(np.random.PCG64(5)).normal(size=100)
    assert series.scale_to(market, market / 2) == pytest.approx(0.5)
    assert series.scale_to(market, market * 3) == 1.0
    assert series.scale_to(np.zeros(5), market[:5]) == 1.0
