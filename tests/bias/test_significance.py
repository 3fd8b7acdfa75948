"""Bias and luck: fair markets, shuffled bars and random entries, with the size and the power of each test."""

from __future__ import annotations

import numpy as np
import pytest
from tests.bias.bars import market
from tests.bias.clean import next_bar_fill
from tests.bias.mutants import same_bar_fill, smoothed_labels
from tests.gears import settings_of

from tapeline_lab.bias.findings import Kind
from tapeline_lab.bias.nulls import independent, mirrored, permuted, resampled
from tapeline_lab.bias.performers import pipeline_performer, segments_of, strategy_performer
from tapeline_lab.bias.significance import (
    Null,
    Segment,
    null_test,
    permutation_test,
    random_entry_test,
    significance,
)
from tapeline_lab.bias.subjects import pipeline_subject
from tapeline_lab.bias.tables import PRICES, Frame, Table

DAY_NS = 86_400_000_000_000
SERIES = 200


def daily(bars: int = 600) -> Table:
    table = market(bars)
    return {**table, "ts": table["ts"][0] + np.arange(bars) * DAY_NS}


def performer_of(pipeline: object):  # type: ignore[no-untyped-def]
    return pipeline_performer(pipeline_subject(pipeline, frame=Frame.PANDAS), DAY_NS)  # type: ignore[arg-type]


def smoothed_traded(bars):  # type: ignore[no-untyped-def]
    """Holds while labels that know the future say calm and rising."""
    wild = smoothed_labels(bars)["wild"]
    ahead = bars.close.rolling(5, center=True).mean() > bars.close
    return {"position": (ahead & (wild < 2.0)).astype(float)}


def test_an_honest_pipeline_earns_nothing_on_fair_markets() -> None:
    """Mean Sharpe within two standard errors of zero, and within 0.10, on 200 series of each kind."""
    for null in Null:
        test = null_test(performer_of(next_bar_fill), daily(), null, SERIES, 0)
        assert test.is_fair
        assert abs(test.mean_sharpe) <= 0.10, test


@pytest.mark.parametrize("pipeline", [same_bar_fill, smoothed_traded])
def test_a_biased_pipeline_earns_on_fair_markets(pipeline: object) -> None:
    """The test has power: at least half a Sharpe ratio where there is nothing to earn, and it is a finding."""
    found = significance(performer_of(pipeline), daily(), series=30, draws=50)
    assert all(not test.is_fair and test.mean_sharpe >= 0.5 for test in found.nulls)
    assert {finding.kind for finding in found.findings} == {Kind.NULL_EARNS}


@pytest.mark.parametrize("kind", ["ema_cross", "trend_follow"])
def test_built_in_strategies_earn_nothing_on_fair_markets(kind: str) -> None:
    """In the kernel gear, over 60 series of each kind."""
    parameters = {} if kind == "ema_cross" else {"trend": 40, "atr": 10, "short": True}
    performer = strategy_performer(settings_of(kind, parameters, timeframe="1d"))
    for null in Null:
        assert null_test(performer, daily(), null, 60, 1).is_fair


def test_made_markets_are_bars_and_fair() -> None:
    """High and low hold the others, prices are above zero, and moves are zero on average where they should be."""
    table = daily(2000)
    moves = table["close"][1:] / table["close"][:-1] - 1.0
    for made in (resampled(table, 1), mirrored(table, 1), independent(table, 1), permuted(table, 1, 7)):
        assert all((made["low"] <= made[name]).all() and (made[name] <= made["high"]).all() for name in PRICES)
        assert (made["low"] > 0).all()
        found = made["close"][1:] / made["close"][:-1] - 1.0
        assert found.std() == pytest.approx(moves.std(), rel=0.15)
    for made in (resampled(table, 1), mirrored(table, 1), independent(table, 1)):
        found = made["close"][1:] / made["close"][:-1] - 1.0
        assert abs(found.mean()) < 3 * moves.std() / np.sqrt(len(moves))
    assert permuted(table, 1)["close"][-1] == pytest.approx(table["close"][-1], rel=1e-3)


def test_mirrored_markets_keep_volatility_where_it_was() -> None:
    """The size of each move is that of the bar it came from."""
    table = daily()
    moves, made = table["close"], mirrored(table, 4)["close"]
    ones, others = np.abs(np.diff(moves) / moves[:-1]), np.abs(np.diff(made) / made[:-1])
    np.testing.assert_allclose(ones, others, atol=1e-3)


def test_p_values_count_the_observed_order_among_the_others() -> None:
    """(k + 1) / (n + 1): never zero, never above one; foresight is rare, and buying and holding is everything."""
    table = daily()
    opens = table["open"]
    best = int(np.argmax(opens[20:] - opens[:-20]))
    foresight = random_entry_test([Segment(best, best + 20, 1.0)], table, 500, 0)
    assert foresight.p_value == (foresight.as_good + 1) / 501 < 0.05
    always = random_entry_test([Segment(0, len(opens) - 1, 1.0)], table, 100, 0)
    assert always.p_value == 1.0


def test_random_entries_of_random_entries_are_as_likely_as_any() -> None:
    """Size: of 100 strategies that enter at random, about one in twenty is below five in a hundred."""
    table = daily()
    chance = np.random.Generator(np.random.PCG64(3))
    below = 0
    for number in range(100):
        starts = np.sort(chance.choice(58, 8, replace=False)) * 10
        segments = [Segment(int(start), int(start) + 7, 1.0) for start in starts]
        below += random_entry_test(segments, table, 99, number).p_value <= 0.05
    assert below <= 12


def test_a_strategy_that_times_the_market_differs_from_its_bars_in_another_order() -> None:
    """Power: trends that are there in time are gone when bars are shuffled."""
    trend = np.repeat(np.tile([0.004, -0.004], 15), 20)
    noise = np.random.Generator(np.random.PCG64(5)).normal(0, 0.005, len(trend))
    close = np.round(100 * np.exp(np.cumsum(trend + noise)), 4)
    opened = np.append([100.0], close[:-1])
    table = {
        "ts": np.arange(len(close), dtype=np.int64) * DAY_NS, "open": opened, "close": close,
        "high": np.maximum(opened, close), "low": np.minimum(opened, close), "volume": np.ones(len(close)),
    }  # fmt: skip
    performer = strategy_performer(settings_of("ema_cross", {"fast": 3, "slow": 8}, timeframe="1d"))
    assert permutation_test(performer, table, 60, 1, 0).p_value < 0.05


def test_stays_are_stretches_of_unchanged_quantity() -> None:
    """A turn is two stays, the last one ends with the bars, and none has no length."""
    held = np.array([0.0, 1.0, 1.0, -1.0, 0.0, 2.0])
    assert segments_of(held) == [Segment(1, 3, 1.0), Segment(3, 4, -1.0)]


def test_both_gears_know_the_same_returns_and_stays() -> None:
    """What the kernel says, the loop says."""
    table = daily(300)
    performer = strategy_performer(settings_of("ema_cross", {}, timeframe="1d"))
    fast, stays = performer.returns(table), performer.segments(table)
    performer.returns.__self__._plan = None  # type: ignore[attr-defined]
    np.testing.assert_allclose(performer.returns(table), fast, atol=1e-12)
    assert performer.segments(table) == stays


def test_too_few_bars_are_refused() -> None:
    """With what is needed."""
    with pytest.raises(ValueError, match="too few"):
        significance(performer_of(next_bar_fill), daily(40), series=10)
