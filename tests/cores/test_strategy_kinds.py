"""The built-in strategies against plain second implementations that look at the whole history for every bar."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategy_runs import NO_OPINION, Row, answers_of, random_bars

from tapeline_common.events import Parameters
from tapeline_strategy import ema_cross, momentum_breakout, trend_follow
from tapeline_strategy.sdk import Strategy, validate

Naive = Callable[[Sequence[Row], Parameters], float]

POISON: Row = (math.nan, math.inf, -math.inf, -1e300, math.nan)


def naive_average(closes: Sequence[float], length: int) -> float:
    return list(itertools.accumulate(closes, lambda e, close: e + 2 / (length + 1) * (close - e)))[-1]


def naive_ema_cross(rows: Sequence[Row], parameters: Parameters) -> float:
    closes = [row[3] for row in rows]
    if len(rows) - 1 < parameters["slow"] - 1:
        return math.nan
    return float(naive_average(closes, parameters["fast"]) >= naive_average(closes, parameters["slow"]))


def naive_breakout(rows: Sequence[Row], parameters: Parameters) -> float:
    lookback, leave, factor = parameters["lookback"], parameters["exit_lookback"], parameters["volume_factor"]
    holding = False
    for i in range(lookback, len(rows)):
        _, _, _, close, volume = rows[i]
        entry_channel, exit_channel = rows[i - lookback : i], rows[i - leave : i]
        if holding:
            holding = close >= min(row[2] for row in exit_channel)
        else:
            mean = sum(row[4] for row in entry_channel) / lookback
            holding = close > max(row[1] for row in entry_channel) and volume >= factor * mean
    return float(holding) if len(rows) > lookback else math.nan


def naive_ranges(rows: Sequence[Row], length: int) -> list[float]:
    """Wilder's average true range at each bar from index length - 1 on; NaN before."""
    true = [rows[0][1] - rows[0][2]]
    true += [max(h, before[3]) - min(low, before[3]) for before, (_, h, low, _, _) in itertools.pairwise(rows)]
    first = sum(true[:length]) / length
    later = itertools.accumulate(true[length:], lambda a, t: (a * (length - 1) + t) / length, initial=first)
    return [math.nan] * (length - 1) + list(later)


def naive_trend(rows: Sequence[Row], parameters: Parameters) -> float:
    first = max(parameters["trend"], parameters["atr"]) - 1
    if len(rows) <= first:
        return math.nan
    closes = [row[3] for row in rows]
    ranges = naive_ranges(rows, parameters["atr"])
    sides = (1, -1) if parameters["short"] else (1,)
    entered: int | None = None
    side = 0
    barred: tuple[int, float] | None = None  # side that was stopped, best close of that trade
    for i in range(first, len(rows)):
        close, away = closes[i], closes[i] - naive_average(closes[: i + 1], parameters["trend"])
        if barred and (barred[0] * away < 0 or barred[0] * (close - barred[1]) > 0):
            barred = None
        if side:
            assert entered is not None
            stops = [side * closes[k] - parameters["stop_atr"] * ranges[k] for k in range(entered, i)]
            if side * close < max(stops):
                barred = (side, side * max(side * c for c in closes[entered:i]))
                side = 0
        if not side:
            for one in sides:
                if one * away > parameters["entry_atr"] * ranges[i] and not (barred and barred[0] == one):
                    side, entered, barred = one, i, None
                    break
    return float(side)


KINDS: list[tuple[Strategy, Naive, Parameters]] = [
    (ema_cross.STRATEGY, naive_ema_cross, {"fast": 2, "slow": 3}),
    (ema_cross.STRATEGY, naive_ema_cross, {"fast": 5, "slow": 12}),
    (momentum_breakout.STRATEGY, naive_breakout, {"lookback": 2, "exit_lookback": 1}),
    (momentum_breakout.STRATEGY, naive_breakout, {"lookback": 9, "exit_lookback": 9}),
    (momentum_breakout.STRATEGY, naive_breakout, {"lookback": 12, "exit_lookback": 4, "volume_factor": 1.25}),
    (trend_follow.STRATEGY, naive_trend, {"trend": 20, "atr": 5, "short": True}),
    (trend_follow.STRATEGY, naive_trend, {"trend": 3, "atr": 10, "entry_atr": 0.25, "stop_atr": 0.75, "short": True}),
    (trend_follow.STRATEGY, naive_trend, {"trend": 10, "atr": 1, "entry_atr": 0.0, "stop_atr": 2.0}),
]
CASES = [pytest.param(*kind, id=f"{kind[0].name}-{'-'.join(map(str, kind[2].values()))}") for kind in KINDS]


@pytest.mark.parametrize(("strategy", "naive", "given_parameters"), CASES)
@pytest.mark.parametrize("grid", [0.01, 0.25])
def test_agrees_with_a_plain_implementation(
    strategy: Strategy, naive: Naive, given_parameters: Parameters, grid: float
) -> None:
    """At every bar of a random walk the incremental step says what the whole history says."""
    parameters = validate(strategy, given_parameters)
    rows = random_bars(20260101, 300, grid=grid)

    answers = answers_of(strategy, parameters, rows)

    expected = [naive(rows[: i + 1], parameters) for i in range(len(rows))]
    assert answers == [NO_OPINION if math.isnan(answer) else answer for answer in expected]
    assert len(set(answers)) >= 3, "a run that never changes its mind shows nothing"


@pytest.mark.parametrize(("strategy", "naive", "given_parameters"), CASES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.integers(1, 80))
def test_the_future_changes_nothing(
    strategy: Strategy, naive: Naive, given_parameters: Parameters, seed: int, cut: int
) -> None:
    """Answers up to a bar are the same whatever follows it: nothing, other bars, or poison."""
    parameters = validate(strategy, given_parameters)
    rows = random_bars(seed, 80, grid=0.5)

    whole = answers_of(strategy, parameters, rows)

    assert answers_of(strategy, parameters, rows[:cut]) == whole[:cut]
    assert answers_of(strategy, parameters, [*rows[:cut], POISON])[:cut] == whole[:cut]


@pytest.mark.parametrize(("strategy", "naive", "given_parameters"), CASES)
def test_has_its_first_opinion_after_the_warm_up(
    strategy: Strategy, naive: Naive, given_parameters: Parameters
) -> None:
    """Exactly warm_up bars are needed: the bar before has no opinion, that one has, and all later ones have."""
    parameters = validate(strategy, given_parameters)
    needed = strategy.warm_up(parameters)

    answers = answers_of(strategy, parameters, random_bars(7, 100))

    assert answers[: needed - 1] == [NO_OPINION] * (needed - 1)
    assert NO_OPINION not in answers[needed - 1 :]


@pytest.mark.parametrize(("strategy", "naive", "given_parameters"), CASES)
def test_memory_is_a_list_of_floats_of_fixed_length(
    strategy: Strategy, naive: Naive, given_parameters: Parameters
) -> None:
    """Numeric strategies keep floats only and never grow, so that the same function can be compiled."""
    parameters = validate(strategy, given_parameters)
    memory = strategy.start(parameters)
    length = len(memory)

    for row in random_bars(11, 120, grid=1.0):
        strategy.step(memory, *parameters.values(), *row)

    assert strategy.is_numeric
    assert len(memory) == length
    assert {type(number) for number in memory} == {float}


@pytest.mark.parametrize(("strategy", "naive", "given_parameters"), CASES)
def test_compiled_it_says_the_same(strategy: Strategy, naive: Naive, given_parameters: Parameters) -> None:
    """Compiled by numba, over an array instead of a list, every answer and every number in memory is the same."""
    numba = pytest.importorskip("numba", reason="the compiler is an extra of the backtest service")
    parameters = validate(strategy, given_parameters)
    compiled = numba.njit(strategy.step)
    memory, array = strategy.start(parameters), np.array(strategy.start(parameters))

    for row in random_bars(13, 300, grid=0.25):
        interpreted = strategy.step(memory, *parameters.values(), *row)
        assert np.array_equal(compiled(array, *parameters.values(), *row), interpreted, equal_nan=True)

    assert array.tolist() == memory


def test_a_breakout_needs_its_volume() -> None:
    """The same break of the channel is taken with volume and left alone without."""
    quiet: list[Row] = [(10.0, 11.0, 9.0, 10.0, 100.0)] * 3
    parameters = validate(momentum_breakout.STRATEGY, {"lookback": 3, "exit_lookback": 2, "volume_factor": 1.5})

    taken = answers_of(momentum_breakout.STRATEGY, parameters, [*quiet, (10.0, 13.0, 10.0, 12.0, 150.0)])
    left = answers_of(momentum_breakout.STRATEGY, parameters, [*quiet, (10.0, 13.0, 10.0, 12.0, 149.0)])

    assert taken == [NO_OPINION] * 3 + [1.0]
    assert left == [NO_OPINION] * 3 + [0.0]


def test_a_breakout_does_not_look_at_its_own_bar() -> None:
    """A close at the highest high of the bars before is no break, however high the bar itself went."""
    quiet: list[Row] = [(10.0, 11.0, 9.0, 10.0, 100.0)] * 3
    parameters = validate(momentum_breakout.STRATEGY, {"lookback": 3, "exit_lookback": 2})

    assert answers_of(momentum_breakout.STRATEGY, parameters, [*quiet, (10.0, 20.0, 10.0, 11.0, 1.0)])[-1] == 0.0
    assert answers_of(momentum_breakout.STRATEGY, parameters, [*quiet, (10.0, 20.0, 10.0, 11.01, 1.0)])[-1] == 1.0


def test_a_stopped_trend_is_not_bought_again_until_it_makes_a_new_best() -> None:
    """After its stop a side stays out while the close is above the average but below the trade's best close."""
    closes = [100.0, 100.0, 100.0, 110.0, 120.0, 130.0, 122.0, 124.0, 129.0, 130.5]
    rows: list[Row] = [(close, close + 0.5, close - 0.5, close, 1.0) for close in closes]
    parameters = validate(trend_follow.STRATEGY, {"trend": 3, "atr": 1, "entry_atr": 0.1, "stop_atr": 0.5})

    assert answers_of(trend_follow.STRATEGY, parameters, rows)[2:] == [0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0]


def test_without_short_a_trend_is_never_sold() -> None:
    """The same bars sold short with the parameter are left alone without it."""
    rows = random_bars(5, 400)

    with_short = answers_of(trend_follow.STRATEGY, validate(trend_follow.STRATEGY, {"trend": 20, "short": True}), rows)
    without = answers_of(trend_follow.STRATEGY, validate(trend_follow.STRATEGY, {"trend": 20}), rows)

    assert -1.0 in with_short
    assert -1.0 not in without
