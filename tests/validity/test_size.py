"""A bounded dose of ``python -m bench.validity``: size and power on fewer data sets, within three standard errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import msgspec
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


@cache
def dose(part: Callable[[float, int], Iterator[Check]], scale: float) -> tuple[Check, ...]:
    """Another seed than the full run's."""
    return tuple(part(scale, 7))


@pytest.mark.parametrize(("part", "scale"), DOSES, ids=lambda one: getattr(one, "__name__", str(one)))
def test_size_and_power(part: Callable[[float, int], Iterator[Check]], scale: float) -> None:
    """No goal is missed."""
    missed = [f"{one.statistic}, {one.what}: {one.value}" for one in dose(part, scale) if not one.is_met(SLACK)]
    assert missed == []


@pytest.mark.slow
def test_size_and_power_of_superiority() -> None:
    """SPA, the reality check and StepM, whose resamples take longest."""
    missed = [f"{one.what}: {one.value}" for one in validity.superior_size(0.2, 7) if not one.is_met(SLACK)]
    assert missed == []


def test_a_missed_goal_is_seen() -> None:
    """Mutants: an interval of single days, and a ratio that pays for no trial, miss the goals of the others."""
    rows = {(one.statistic, one.what): one for part, scale in DOSES for one in dose(part, scale)}
    naive = rows["interval", "AR(.3), 500 days, single days: covers the truth"]
    assert not msgspec.structs.replace(naive, low=0.91).is_met()
    unpaid = rows["PSR", "best of 50 independent, no edge: PSR > .95, taking no trial into account"]
    assert not msgspec.structs.replace(unpaid, high=0.05).is_met(SLACK)
