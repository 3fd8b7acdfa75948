"""A bounded dose of ``python -m bench.validity``: size and power hold on fewer data sets, within three standard errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from bench import validity
from bench.validity import SLACK, Check

DOSES = [
    (validity.sharpe_size, 0.25),
    (validity.deflated_size, 0.05),
    (validity.overfitting_size, 0.05),
    (validity.coverage, 0.08),
    (validity.leaks, 0.2),
    (validity.regimes, 0.1),
]


@pytest.mark.parametrize(("part", "scale"), DOSES, ids=lambda one: getattr(one, "__name__", str(one)))
def test_size_and_power(part: Callable[[float, int], Iterator[Check]], scale: float) -> None:
    """No goal is missed; another seed than the full run's."""
    missed = [f"{one.statistic}, {one.what}: {one.value}" for one in part(scale, 7) if not one.is_met(SLACK)]
    assert missed == []


@pytest.mark.slow
def test_size_and_power_of_superiority() -> None:
    """SPA, the reality check and StepM, whose resamples take longest."""
    missed = [f"{one.what}: {one.value}" for one in validity.superior_size(0.2, 7) if not one.is_met(SLACK)]
    assert missed == []


def test_a_missed_goal_is_seen() -> None:
    """Mutant: an interval that resamples single days, and a deflated ratio that pays for nothing, would be caught."""
    naive = {one.what: one for one in validity.coverage(0.2, 7)}["AR(.3), 500 days, single days: covers the truth"]
    assert not validity.Check(naive.statistic, naive.what, naive.value, naive.error, 0.91, None, naive.sets).is_met()
    plain = {one.what: one for one in validity.deflated_size(0.05, 7) if one.statistic == "PSR"}
    taken = plain["best of 50 independent, no edge: PSR > .95, taking no trial into account"]
    assert not validity.Check("", "", taken.value, taken.error, None, 0.05, taken.sets).is_met(SLACK)
