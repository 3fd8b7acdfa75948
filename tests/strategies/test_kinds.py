"""Every built-in kind against a plain second implementation, the future, its warm-up, and the compiler."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies import naive
from tests.strategies.naive import Row
from tests.strategy_runs import NO_OPINION, answers_of, random_bars, worded

from tapeline_common.events import Parameters
from tapeline_strategy import catalogue
from tapeline_strategy.sdk import ParameterInvalid, Strategy, validate

POISON: Row = (math.nan, math.inf, -math.inf, -1e300, math.nan)
SMALL_CHART = {"tenkan": 3, "kijun": 7, "senkou": 14, "displacement": 6}

GIVEN: list[tuple[str, Parameters]] = [
    ("buy_and_hold", {}),
    ("buy_and_hold", {"exposure": -0.5}),
    ("macd", {"fast": 3, "slow": 8, "signal": 4}),
    ("macd", {"fast": 2, "slow": 5, "signal": 2, "short": True}),
    ("macd", {"fast": 4, "slow": 9, "signal": 3, "short": True, "with_trend": True}),
    ("rsi_reversion", {"length": 5, "oversold": 35.0}),
    ("rsi_reversion", {"length": 2, "oversold": 20.0, "leave": 80.0, "short": True}),
    ("bollinger_reversion", {"length": 10, "width": 1.2}),
    ("bollinger_reversion", {"length": 7, "width": 1.0, "leave": 0.5, "stop": 1.7, "short": True}),
    ("bollinger_reversion", {"length": 12, "width": 1.5, "leave": -0.5, "stop": 2.0}),
    ("donchian", {"entry": 8, "leave": 4, "atr": 5}),
    ("donchian", {"entry": 6, "leave": 6, "atr": 9, "units": 4, "add": 0.3, "stop": 1.0, "short": True}),
    ("donchian", {"entry": 5, "leave": 1, "atr": 1, "units": 2, "stop": 0.0, "short": True}),
    *((kind, SMALL_CHART) for kind in ("tk_cross_sniper", "kumo_breaker", "kumo_twist")),
    *((kind, {**SMALL_CHART, "short": True}) for kind in ("tk_cross_sniper", "kumo_breaker", "kumo_twist")),
    *((kind, SMALL_CHART) for kind in ("kijun_bounce", "chikou_confirm", "edge_to_edge")),
    *((kind, {**SMALL_CHART, "short": True}) for kind in ("kijun_bounce", "chikou_confirm", "edge_to_edge")),
    ("kumo_breaker", {"tenkan": 1, "kijun": 2, "senkou": 3, "displacement": 1, "short": True}),
    ("momentum_rider", {"lookback": 10}),
    ("momentum_rider", {"lookback": 5, "entry": 0.5, "leave": -0.5, "target": 0.01, "short": True}),
    ("trend_surfer", {"fast": 3, "middle": 6, "slow": 12, "adx": 4}),
    ("trend_surfer", {"fast": 2, "middle": 4, "slow": 9, "adx": 6, "strength": 10.0, "short": True}),
    ("regime_switch", {"length": 10, "short": True}),
    ("regime_switch", {"length": 8, "trending": 0.5, "ranging": 0.3, "width": 1.0}),
    ("grid", {"levels": 4, "step": 0.01}),
    ("grid", {"levels": 3, "step": 0.02, "stop": 1.0, "short": True}),
    ("grid", {"levels": 5, "step": 0.01, "stop": 2.0, "follow": 1.5}),
    ("dca", {"steps": 4, "interval": 5, "take_profit": 0.03}),
    ("dca", {"steps": 5, "interval": 1, "drop": 0.01, "take_profit": 0.02, "stop": 0.08}),
]
CASES = [pytest.param(catalogue.find(kind), given, id=f"{kind}-{index}") for index, (kind, given) in enumerate(GIVEN)]
ELSEWHERE = ("ema_cross", "momentum_breakout", "trend_follow", "pairs_reversion")
"""Tried in tests/cores/test_strategy_kinds.py, and the pair in test_pairs.py."""


@pytest.mark.parametrize(("strategy", "given_parameters"), CASES)
@pytest.mark.parametrize("grid", [0.01, 0.25])
def test_agrees_with_a_plain_implementation(strategy: Strategy, given_parameters: Parameters, grid: float) -> None:
    """At every bar of a random walk the incremental step says what slices of whole columns say."""
    parameters = validate(strategy, given_parameters)
    rows = random_bars(20260101, 600, grid=grid)

    answers = answers_of(strategy, parameters, rows)

    assert answers == worded(getattr(naive, strategy.name)(rows, parameters))
    if strategy.name != "buy_and_hold":
        assert len({answer for answer in answers if answer != NO_OPINION}) >= 2, "it never changed its mind"
    if parameters.get("short"):
        assert any(answer < 0 for answer in answers if isinstance(answer, float)), "it never went short"


@pytest.mark.parametrize(("strategy", "given_parameters"), CASES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), cut=st.integers(1, 80))
def test_the_future_changes_nothing(strategy: Strategy, given_parameters: Parameters, seed: int, cut: int) -> None:
    """Answers up to a bar are the same whatever follows it: nothing, other bars, or poison."""
    parameters = validate(strategy, given_parameters)
    rows = random_bars(seed, 80, grid=0.5)

    whole = answers_of(strategy, parameters, rows)

    assert answers_of(strategy, parameters, rows[:cut]) == whole[:cut]
    memory = strategy.start(parameters)
    poisoned = [strategy.step(memory, *parameters.values(), *row) for row in rows[:cut]]
    strategy.step(memory, *parameters.values(), *POISON)
    assert worded(poisoned) == whole[:cut]


@pytest.mark.parametrize(("strategy", "given_parameters"), CASES)
def test_has_its_first_opinion_after_the_warm_up(strategy: Strategy, given_parameters: Parameters) -> None:
    """Exactly warm_up bars are needed: the bar before has no opinion, that one has, and all later ones have."""
    parameters = validate(strategy, given_parameters)
    needed = strategy.warm_up(parameters)

    answers = answers_of(strategy, parameters, random_bars(7, 100))

    assert answers[: needed - 1] == [NO_OPINION] * (needed - 1)
    assert NO_OPINION not in answers[needed - 1 :]


@pytest.mark.parametrize(("strategy", "given_parameters"), CASES)
def test_wants_no_more_than_its_size(strategy: Strategy, given_parameters: Parameters) -> None:
    """Bars that stand still, have no volume, jump or fall to almost nothing never give more than the whole size."""
    parameters = validate(strategy, given_parameters)
    still: list[Row] = [(7.0, 7.0, 7.0, 7.0, 0.0)] * 120
    jumps: list[Row] = [(p, p, p, p, 0.0) for p in (1e-8, 1e8, 5.0, 1e-8, 4.0, 1e8) for _ in range(20)]

    for rows in (still, jumps):
        answers = [answer for answer in answers_of(strategy, parameters, rows) if isinstance(answer, float)]
        assert all(-1.0 <= answer <= 1.0 for answer in answers)
        if not parameters.get("short") and float(parameters.get("exposure", 1.0)) >= 0:
            assert min(answers) >= 0.0


@pytest.mark.parametrize(("strategy", "given_parameters"), CASES)
def test_memory_is_a_list_of_floats_of_fixed_length(strategy: Strategy, given_parameters: Parameters) -> None:
    """Numeric strategies keep floats only and never grow, so that the same function can be compiled."""
    parameters = validate(strategy, given_parameters)
    memory = strategy.start(parameters)
    length = len(memory)

    for row in random_bars(11, 120, grid=1.0):
        strategy.step(memory, *parameters.values(), *row)

    assert strategy.is_numeric
    assert len(memory) == length
    assert {type(number) for number in memory} <= {float}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted({kind for kind, _ in GIVEN}))
def test_compiled_it_says_the_same(kind: str) -> None:
    """Compiled by numba, over an array instead of a list, every answer and every number in memory is the same."""
    numba = pytest.importorskip("numba", reason="the compiler is an extra of the backtest service")
    strategy = catalogue.find(kind)
    compiled = numba.njit(strategy.step)
    for given_parameters in [values for name, values in GIVEN if name == kind]:
        parameters = validate(strategy, given_parameters)
        memory, array = strategy.start(parameters), np.array(strategy.start(parameters), dtype=np.float64)
        for row in random_bars(13, 400, grid=0.25):
            interpreted = strategy.step(memory, *parameters.values(), *row)
            assert np.array_equal(compiled(array, *parameters.values(), *row), interpreted, equal_nan=True)
        assert array.tolist() == memory


def test_every_built_in_kind_is_tried_here() -> None:
    """A kind that is added without a second implementation is noticed."""
    built_in = {name for name in catalogue.installed() if catalogue.origin(name).startswith("tapeline-strategy ")}

    assert {kind for kind, _ in GIVEN} | set(ELSEWHERE) == built_in


@pytest.mark.parametrize(
    ("kind", "given_parameters", "said"),
    [
        ("macd", {"fast": 26, "slow": 26}, "fast must be less than slow"),
        ("rsi_reversion", {"leave": 20.0}, "leave must be more than oversold"),
        ("bollinger_reversion", {"leave": -2.5}, "left at once"),
        ("bollinger_reversion", {"stop": 1.5}, "stop must be more than width"),
        ("donchian", {"leave": 21}, "leave must not be more than entry"),
        ("tk_cross_sniper", {"kijun": 60}, "each must be less than the next"),
        ("momentum_rider", {"leave": 1.5}, "leave must not be more than entry"),
        ("trend_surfer", {"middle": 90}, "each must be less than the next"),
        ("regime_switch", {"ranging": 0.5}, "ranging must not be more than trending"),
        ("grid", {"levels": 50, "step": 0.02}, "must stay below 1"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(kind: str, given_parameters: Parameters, said: str) -> None:
    """The message names the strategy, the values and what they must be to each other."""
    with pytest.raises(ParameterInvalid, match=said) as refused:
        validate(catalogue.find(kind), given_parameters)

    assert f"strategy {kind!r}" in str(refused.value)
