"""Every built-in strategy has settled when it says so, whatever its parameters; one that has not is caught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import nan
from typing import ClassVar

import numpy as np
import pytest
from tests.bias.bars import market
from tests.strategy_runs import ALONE

from tapeline_common.events import Parameters, ParameterValue
from tapeline_lab.bias.findings import Kind
from tapeline_lab.bias.lookahead import lookahead_analysis
from tapeline_lab.bias.recursive import RecursiveAnalysis, recursive_analysis
from tapeline_lab.bias.tables import Table
from tapeline_lab.bias.traces import joined, strategy_subject
from tapeline_strategy.catalogue import find, installed, origin
from tapeline_strategy.indicators.running import Running
from tapeline_strategy.sdk import Bar, Parameter, ParameterInvalid, Strategy, from_class, settles_after, validate

BUILT_IN = tuple(kind for kind in installed() if origin(kind).startswith("tapeline-strategy "))
FADING = tuple(kind for kind in ALONE if find(kind).settles is not None)

LONGEST = 60
"""Lengths that are drawn: what holds of them holds of longer ones, which take more bars."""


def bars_of(strategy: Strategy, bars: int, seed: int = 1) -> Table:
    """A market; for two legs one that follows the other, so that they are traded."""
    first = market(bars, seed)
    if strategy.both is None:
        return first
    apart = np.random.Generator(np.random.PCG64(seed)).normal(0.0, 0.3, bars).cumsum() * 0.1
    second = {
        name: column + apart if name in ("open", "high", "low", "close") else column for name, column in first.items()
    }
    return joined(first, second)


def analysed(
    strategy: Strategy, given: Mapping[str, ParameterValue], seed: int = 1, startup: int = 199
) -> RecursiveAnalysis:
    """At what it declares, on enough bars for three moments besides the last."""
    parameters = validate(strategy, given)
    declared = settles_after(strategy, parameters)
    table = bars_of(strategy, max(declared, startup) + 500, seed)
    return recursive_analysis(
        strategy_subject(strategy, parameters), table, declared=declared, startups=(startup,), seed=seed
    )


def sentences(analysis: RecursiveAnalysis) -> list[str]:
    return [finding.sentence for finding in analysis.findings]


def drawn(strategy: Strategy, chance: np.random.Generator) -> Parameters:
    """Parameters within their bounds that go together; lengths of up to ``LONGEST`` bars."""
    while True:
        given: dict[str, ParameterValue] = {}
        for one in strategy.parameters:
            if one.type is bool:
                given[one.name] = bool(chance.integers(2))
            elif one.type is int:
                given[one.name] = int(chance.integers(one.low, min(one.high, LONGEST) + 1))
            else:
                given[one.name] = float(chance.uniform(one.low, min(one.high, 2.0 * abs(one.default) + 1.0)))
        try:
            return validate(strategy, given)
        except ParameterInvalid:
            continue


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_built_in_strategy_has_settled_when_it_says_so(kind: str) -> None:
    """With its defaults every value it computes, and every decision from there on, is that of a longer run.

    What it carries is told as it is without being handed over, and is no finding.
    """
    strategy = find(kind)
    analysis = analysed(strategy, {})
    assert sentences(analysis) == []
    told = [column.column for column in analysis.columns if column.is_carried]
    assert set(told) == {f"memory.{name}" for name in strategy.carries}


@pytest.mark.parametrize("kind", BUILT_IN)
def test_it_has_with_other_parameters(kind: str) -> None:
    """The same for drawn parameters on another market."""
    strategy = find(kind)
    parameters = drawn(strategy, np.random.Generator(np.random.Philox(20261121)))
    assert sentences(analysed(strategy, parameters, seed=2)) == [], parameters


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", BUILT_IN)
def test_it_has_with_many_other_parameters(kind: str) -> None:
    """And for more; with the last of them it is free of look-ahead, too."""
    strategy = find(kind)
    chance = np.random.Generator(np.random.Philox(7))
    for seed in range(10, 16):
        parameters = drawn(strategy, chance)
        assert sentences(analysed(strategy, parameters, seed)) == [], parameters
    table = bars_of(strategy, 150 + strategy.warm_up(parameters), seed)
    found = lookahead_analysis(strategy_subject(strategy, parameters), table, event_cuts=8, seed=seed)
    assert found.findings == (), parameters


def test_a_strategy_of_two_legs_is_clean_at_64_cuts() -> None:
    """Memory and both exposures, on the bars that both legs have."""
    strategy = find("pairs_reversion")
    subject = strategy_subject(strategy, validate(strategy, {"window": 40}))
    analysis = lookahead_analysis(subject, bars_of(strategy, 300), event_cuts=8)
    assert analysis.findings == ()
    assert analysis.cuts >= 64


# ---- what is wrong is caught ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FADING)
def test_the_first_opinion_is_not_enough_for_an_average_that_fades(kind: str) -> None:
    """Declared settled at their first opinion, all strategies with exponential averages are caught."""
    analysis = analysed(replace(find(kind), settles=None), {}, startup=1999)
    assert {finding.kind for finding in analysis.findings} == {Kind.WARM_UP_SHORT}


@pytest.mark.parametrize("kind", ["grid", "dca"])
def test_an_anchor_that_is_not_declared_is_caught(kind: str) -> None:
    """A reference price or a count of steps depends on the first bar for ever."""
    analysis = analysed(replace(find(kind), carries=()), {})
    assert Kind.NEVER_SETTLES in {finding.kind for finding in analysis.findings}


class Forgetful:
    """Long while a slow average rises; its stop is an average, too, and said to be carried."""

    name: ClassVar[str] = "forgetful"
    description: ClassVar[str] = "For the test."
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("length", int, 20, 2, 100, "bars"),)

    def __init__(self, length: int) -> None:
        self.average = Running("ema", length=length)
        self.before = nan
        self.wanted = 0.0

    def on_bar(self, bar: Bar) -> float:
        now = self.average.update(bar.close)
        if now == now and self.before == self.before:
            self.wanted = 1.0 if now > self.before else 0.0
        self.before = now
        return self.wanted


def test_an_indicator_in_an_attribute_is_compared_by_its_value() -> None:
    """A class that keeps an indicator: its value is a column, and settles as the average does."""
    short = analysed(from_class(Forgetful, warm_up=lambda _: 21), {})
    assert [finding.column for finding in short.findings] == ["memory.average.ema", "memory.before"]
    assert analysed(from_class(Forgetful, settles=lambda _: 200), {}).is_clean


def test_carrying_what_fades_hides_nothing_of_the_rest() -> None:
    """Only what is declared is handed over; the average beside it is still caught."""
    strategy = from_class(Forgetful, warm_up=lambda _: 21, carries=("before",))
    columns = {finding.column for finding in analysed(strategy, {}).findings}
    assert columns == {"memory.average.ema", "memory.wanted", "exposure"}


def test_a_place_that_is_not_there_is_refused() -> None:
    """With what the memory has."""
    with pytest.raises(ValueError, match="'forgetful' carries 'stop', but remembers average, before, wanted"):
        strategy_subject(from_class(Forgetful, carries=("stop",)), {"length": 20})
