"""Figures of trades, drawdowns and periods by hand, and metrics that agree with the report they extend."""

from __future__ import annotations

import dataclasses
import math
from datetime import date

import empyrical
import msgspec
import numpy as np
import pytest
from scipy import stats
from tests.reports.samples import curve, session, small_run, trade

from tapeline_backtest.report import DAY_NS, max_drawdown
from tapeline_common.values import PositionSide, Regime
from tapeline_lab.reports.breakdown import EPOCH, Period, breakdown, compounded, period_name
from tapeline_lab.reports.crises import crises
from tapeline_lab.reports.groups import entry_reason, groups, total
from tapeline_lab.reports.metrics import Daily, daily, drawdown_periods, metrics
from tapeline_lab.reports.trades import longest_run, trade_figures


def test_figures_of_trades_by_hand() -> None:
    """Won 30 and 10, lost 20, drew one: every figure."""
    some = [trade(30, hours=4), trade(-20, number=2, hours=1), trade(0, number=3), trade(10, number=4, hours=2)]
    found = trade_figures(some)
    assert (found.trades, found.wins, found.draws, found.losses) == (4, 2, 1, 1)
    assert (found.net_profit, found.expectancy, found.win_rate) == (20.0, 5.0, 0.5)
    assert (found.profit_factor, found.payoff) == (2.0, 1.0)
    assert (found.average_win, found.average_loss, found.best, found.worst) == (20.0, -20.0, 30.0, -20.0)
    assert found.expectancy_ratio == pytest.approx((1 + 1.0) * 0.5 - 1)
    assert found.kelly == pytest.approx(0.5 - 0.5 / 1.0)
    assert found.mean_return == pytest.approx(0.05)
    assert (found.longest_winning_streak, found.longest_losing_streak) == (1, 1)
    assert (found.average_winner_s, found.average_loser_s) == (3 * 3600, 3600)


def test_sqn_is_the_t_statistic_of_the_mean_trade() -> None:
    """The p-value is scipy's one-sided test."""
    net = [3.0, -1.0, 2.5, 0.5, -2.0, 4.0]
    found = trade_figures([trade(each, number=n) for n, each in enumerate(net, 1)])
    oracle = stats.ttest_1samp(net, 0.0, alternative="greater")
    assert found.sqn == pytest.approx(oracle.statistic)
    assert found.p_value == pytest.approx(oracle.pvalue)


@pytest.mark.parametrize("net", [[], [5.0], [5.0, 5.0]], ids=["none", "one", "equal"])
def test_trades_without_a_spread_have_no_sqn(net: list[float]) -> None:
    """What has no deviation has no t statistic, and nothing is divided by zero."""
    found = trade_figures([trade(each, number=n) for n, each in enumerate(net, 1)])
    assert (found.sqn, found.p_value, found.profit_factor, found.kelly) == (None, None, None, None)


def test_longest_run() -> None:
    flags = np.array([True, True, False, True, True, True, False])
    assert (longest_run(flags), longest_run(~flags), longest_run(flags[:0])) == (3, 1, 0)


def test_drawdown_periods_by_hand() -> None:
    """One that ended, and one that did not; a new high is no drawdown."""
    falls = curve([100.0, 110.0, 99.0, 104.5, 110.0, 120.0, 90.0])
    first, second = drawdown_periods(falls.time_ns, falls.equity)
    times = falls.time_ns.tolist()
    assert (first.depth, first.amount) == (pytest.approx(0.1), pytest.approx(11.0))
    assert (first.from_ns, first.low_ns, first.to_ns, first.days) == (times[1], times[2], times[4], 3.0)
    assert (second.depth, second.to_ns, second.days) == (0.25, None, 1.0)
    assert drawdown_periods(falls.time_ns[:2], falls.equity[:2]) == []


def test_the_deepest_period_is_the_reports_drawdown() -> None:
    """Two ways to the same fall."""
    one = small_run().session
    deepest = max(drawdown_periods(one.curve.time_ns, one.curve.equity), key=lambda each: each.depth)
    depth, amount, high, low = max_drawdown(one.curve.equity)
    assert (deepest.depth, deepest.amount) == (pytest.approx(depth), pytest.approx(amount))
    assert (deepest.from_ns, deepest.low_ns) == (int(one.curve.time_ns[high]), int(one.curve.time_ns[low]))


def test_metrics_are_the_reports_where_it_has_them() -> None:
    """One source for each figure."""
    found, report = metrics(small_run().session), small_run().session.report
    shared = set(msgspec.structs.asdict(found)) & set(msgspec.structs.asdict(report)) - {"trades"}
    assert shared >= {"sharpe", "sortino", "calmar", "annual_return", "max_drawdown", "net_profit", "fees"}
    assert {name: getattr(found, name) for name in shared} == {name: getattr(report, name) for name in shared}
    assert found.trades.trades == report.trades == found.long.trades + found.short.trades
    assert found.trades.profit_factor == pytest.approx(report.profit_factor)
    assert found.trades.expectancy == pytest.approx(report.expectancy)
    assert found.trades.best == pytest.approx(float(report.best_trade or 0))


def test_metrics_are_empyricals_on_the_days_of_a_run() -> None:
    """The struct's own figures, not only the functions behind them."""
    one = small_run().session
    found, returns = metrics(one), daily(one).returns
    assert found.omega == pytest.approx(empyrical.omega_ratio(returns), nan_ok=True) or found.omega is None
    assert found.tail_ratio == pytest.approx(empyrical.tail_ratio(returns))
    assert found.stability == pytest.approx(empyrical.stability_of_timeseries(returns))
    alpha, beta = empyrical.alpha_beta(returns, daily(one).market, annualization=365)
    assert (found.alpha, found.beta) == (pytest.approx(alpha), pytest.approx(beta))
    assert found.sharpe == pytest.approx(empyrical.sharpe_ratio(returns, annualization=365))
    assert found.sortino == pytest.approx(empyrical.sortino_ratio(returns, annualization=365))


def test_the_market_of_the_days_is_the_reports_market_change() -> None:
    one = small_run().session
    assert np.prod(1 + daily(one).market) - 1 == pytest.approx(one.report.market_change)


def test_a_year_is_the_calendars() -> None:
    """The instrument's calendar says how many days a year has."""
    one = small_run().session
    listings = {token: msgspec.structs.replace(each, calendar="XNYS") for token, each in one.listings.items()}
    assert metrics(one).periods_per_year == 365
    assert metrics(dataclasses.replace(one, listings=listings)).periods_per_year == 252


@pytest.mark.parametrize(
    ("period", "name"),
    [
        (Period.DAY, "2024-12-30"),
        (Period.WEEK, "2025-W01"),
        (Period.MONTH, "2024-12"),
        (Period.YEAR, "2024"),
        (Period.WEEKDAY, "Monday"),
    ],
)
def test_names_of_periods(period: Period, name: str) -> None:
    """ISO weeks belong to the year that most of them is in."""
    assert period_name((date(2024, 12, 30) - EPOCH).days, period) == name


def test_periods_compound_to_the_whole() -> None:
    """Whatever the calendar, the periods together are the run."""
    returns = np.random.Generator(np.random.PCG64(2)).normal(0, 0.02, size=400)
    days = np.arange(19_000, 19_400)
    for period in Period:
        changes = [change for _, change in compounded(days, returns, period)]
        assert math.prod(1 + change for change in changes) == pytest.approx(float(np.prod(1 + returns)))


def test_a_trade_belongs_to_the_day_it_closed_on() -> None:
    """Closed at midnight belongs to the day that ends there, as a bar does."""
    first = trade(5, number=0)
    midnight = msgspec.structs.replace(first, closed_ns=(first.closed_ns // DAY_NS + 1) * DAY_NS)
    day = first.closed_ns // DAY_NS
    rows = breakdown(np.array([day, day + 1]), np.array([0.01, 0.02]), [midnight, trade(-2, number=1)], Period.DAY)
    assert [(row.trades, row.profit, row.wins, row.losses) for row in rows] == [(1, 5.0, 1, 0), (1, -2.0, 0, 1)]


def test_entry_reasons_leave_out_what_played_no_part() -> None:
    """Strategy, then preset and regime where there were any."""
    one = trade(1)
    assert entry_reason(one) == "ema_cross/BULL"
    assert entry_reason(msgspec.structs.replace(one, preset="slow")) == "ema_cross/slow/BULL"
    assert entry_reason(msgspec.structs.replace(one, regime=Regime.UNKNOWN)) == "ema_cross"


def test_groups_add_up_and_show_what_did_not_trade() -> None:
    """Every way of grouping has every trade once; an instrument without trades has a row of its own."""
    token = next(iter(small_run().session.bars))
    some = [msgspec.structs.replace(trade(n - 2, number=n, side=PositionSide.SHORT), instrument=token) for n in (1, 5)]
    one = session(trades=some)
    found = groups(one)
    for rows in (found.instruments, found.entries, found.exits, found.strategies):
        assert sum(row.figures.net_profit for row in rows) == total(one).figures.net_profit == 2.0
    assert [row.figures.trades for row in groups(session(trades=[])).instruments] == [0]
    assert groups(session(trades=[])).exits == ()


def test_crises_that_a_run_saw() -> None:
    """Three days of one are enough, two are not; figures are of those days alone."""
    first = (date(2020, 2, 20) - EPOCH).days
    for days, seen in ((3, ["COVID crash"]), (2, [])):
        returns = np.array([0.5, *[-0.1] * days])
        by_day = Daily(np.arange(first - 1, first + days), returns, np.ones(days + 1), returns / 2)
        assert [one.name for one in crises(by_day)] == seen
    only = crises(Daily(np.arange(first - 1, first + 3), np.array([0.5, -0.1, 0.0, 0.0]), np.ones(4), np.zeros(4)))[0]
    assert (only.change, only.market, only.drawdown) == (pytest.approx(-0.1), 0.0, pytest.approx(0.1))
