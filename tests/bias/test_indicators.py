"""The whole catalogue of indicators is free of look-ahead; each of them, made to look ahead, is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.bias.bars import START_NS
from tests.indicators.bars import Columns, Floats, walk

from tapeline_backtest.indicator_columns import over
from tapeline_lab.bias.findings import Kind, Probe
from tapeline_lab.bias.lookahead import lookahead_analysis
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.tables import Table
from tapeline_strategy.indicators import CATALOGUE, Indicator, Recall, bar_by_bar

HOUR_NS = 3_600_000_000_000

Run = Callable[[Columns], dict[str, Floats]]


def bars(count: int) -> Table:
    """Hours with everything that indicators take: a second series and sessions of a day, too."""
    return {"ts": START_NS + np.arange(count, dtype=np.int64) * HOUR_NS, **walk(count)}


def brief(indicator: Indicator) -> dict[str, float]:
    """Settings that warm up within few bars: lengths of a sixth of their default, slow ones longer than fast ones."""
    lengths = {one.name: max(int(one.default) // 6, int(one.low), 2) for one in indicator.parameters if one.type is int}
    return lengths | ({"fast": 2, "slow": 5} if "slow" in lengths else {})


def interpreted(indicator: Indicator) -> Run:
    """Bar by bar, as a strategy feeds it."""

    def run(columns: Columns) -> dict[str, Floats]:
        said = bar_by_bar(indicator.name, {each: columns[each].tolist() for each in columns}, **brief(indicator))
        return {name: np.array(column) for name, column in said.items()}

    return run


def subject_of(indicator: Indicator, run: Run) -> Subject:
    """Its outputs as columns; only what it takes is handed to it."""
    return Subject(indicator.name, lambda table: run({each: table[each] for each in indicator.inputs}), takes_nan=False)


@pytest.mark.parametrize("name", CATALOGUE)
def test_no_indicator_looks_ahead(name: str) -> None:
    """At 64 cuts, every output of every bar is the same to the last bit with nothing behind it and with other bars."""
    indicator = CATALOGUE[name]
    probes = (Probe.PREFIX, Probe.SCALED)
    analysis = lookahead_analysis(subject_of(indicator, interpreted(indicator)), bars(90), event_cuts=0, probes=probes)
    assert analysis.findings == ()
    assert (analysis.not_run, analysis.cuts >= 64) == ({}, True)
    assert analysis.columns == len(indicator.outputs)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CATALOGUE)
def test_no_compiled_column_looks_ahead(name: str) -> None:
    """The same of whole columns at once, with default settings and every kind of other future."""
    indicator = CATALOGUE[name]
    subject = subject_of(indicator, lambda columns: over(name, columns))
    assert lookahead_analysis(subject, bars(600), event_cuts=16).findings == ()


# ---- mutants -----------------------------------------------------------------------------------------------------


def fed_early(run: Run) -> Run:
    """Each bar is fed with the next one's numbers."""
    return lambda columns: run({each: np.append(column[1:], column[-1:]) for each, column in columns.items()})


def drawn_back(run: Run) -> Run:
    """Values stand two bars before they were known, as a centred window's do."""
    return lambda columns: {
        each: np.append(column[2:], np.full(min(2, len(column)), np.nan)) for each, column in run(columns).items()
    }


def scaled_by_all(run: Run) -> Run:
    """Values as shares of the largest ever seen, to the end of the data."""

    def scaled(columns: Columns) -> dict[str, Floats]:
        return {each: column - np.nansum(column) for each, column in run(columns).items()}

    return scaled


def run_backwards(run: Run) -> Run:
    """The data were sorted the wrong way round."""
    return lambda columns: {
        each: column[::-1] for each, column in run({each: column[::-1] for each, column in columns.items()}).items()
    }


MUTATIONS: tuple[tuple[Any, set[Kind], int | None], ...] = (
    (fed_early, {Kind.FUTURE_BARS}, 1),
    (drawn_back, {Kind.FUTURE_BARS}, 2),
    (scaled_by_all, {Kind.WHOLE_SAMPLE, Kind.FUTURE_BARS}, None),
    (run_backwards, {Kind.WHOLE_SAMPLE, Kind.FUTURE_BARS, Kind.UNFINISHED_PERIOD}, None),
)
"""What was done wrong, what that may be called, and how far ahead it looks."""


def mutation_of(place: int, indicator: Indicator) -> tuple[Any, set[Kind], int | None]:
    """One of the four by turns; what looks at one bar only is the same backwards, so it is fed early."""
    is_of_one_bar = indicator.warm_up(indicator.validate({})) == 1 and indicator.recall is Recall.WINDOW
    return MUTATIONS[0 if is_of_one_bar else place % len(MUTATIONS)]


@pytest.mark.parametrize(("place", "name"), list(enumerate(CATALOGUE)))
def test_every_indicator_made_to_look_ahead_is_caught(place: int, name: str) -> None:
    """Each in one of four ways by turns; the kind and the distance are told."""
    indicator = CATALOGUE[name]
    mutate, kinds, farthest = mutation_of(place, indicator)
    subject = subject_of(indicator, mutate(interpreted(indicator)))
    found = lookahead_analysis(subject, bars(90), cuts=32, event_cuts=0, probes=(Probe.PREFIX,)).findings
    assert found, "it was let pass"
    assert {finding.kind for finding in found} <= kinds, [finding.sentence for finding in found]
    assert farthest is None or max(finding.farthest or 0 for finding in found) == farthest
