"""Sanity checks: each doubt is raised where it should be, not just below its threshold, and not of an empty run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace
from tests.reports.samples import curve, fill, reported, session, small_run, trade

from tapeline_backtest.session import Session
from tapeline_common.values import Side
from tapeline_lab.reports import checks
from tapeline_lab.reports.checks import Doubt, Finding, Grid, Weight

Check = Callable[[Session], Finding | None]
Case = Callable[[], Session]


def run(**changes: Any) -> Session:
    return session(**changes)


def with_volume(volume: float) -> Session:
    bars = {
        token: dataclasses.replace(one, volume=one.volume * 0 + volume)
        for token, one in small_run().session.bars.items()
    }
    return run(bars=bars)


def late(bars: int) -> Session:
    """A market order whose only fill came so many bars after its decision."""
    base = small_run().session
    first = base.fills[0]
    order = next(order for order in base.orders if order.order == first.order)
    moved = replace(first, time_ns=order.time_ns + bars * 60_000_000_000)
    return run(fills=[moved])


BUY, SELL = Side.BUY, Side.SELL
COSTLY = {"fees": Decimal(30), "slippage": Decimal(0)}

CASES: tuple[tuple[Doubt, Check, Case, Case, Case], ...] = (
    (
        Doubt.TOO_FEW_TRADES,
        checks.too_few_trades,
        lambda: run(trades=[trade(1, number=n) for n in range(29)]),
        lambda: run(trades=[trade(1, number=n) for n in range(30)]),
        lambda: small_run().session,
    ),
    (
        Doubt.ONE_TRADE_DOMINATES,
        checks.one_trade_dominates,
        lambda: run(trades=[trade(10), trade(9, number=2)], report=reported(net_profit=Decimal(19))),
        lambda: run(trades=[trade(10), trade(10, number=2)], report=reported(net_profit=Decimal(20))),
        lambda: run(trades=[trade(10), trade(-30, number=2)], report=reported(net_profit=Decimal(-20))),
    ),
    (
        Doubt.LONG_SILENCE,
        checks.long_silence,
        lambda: run(curve=curve([1.0] * 10, invested=[True] * 5 + [False] * 5)),
        lambda: run(curve=curve([1.0] * 10, invested=[True] * 6 + [False] * 4)),
        lambda: run(fills=[], curve=curve([1.0] * 10, invested=[False] * 10)),
    ),
    (
        Doubt.FILL_BETTER_THAN_BAR,
        checks.fill_better_than_bar,
        lambda: run(fills=[fill(price=Decimal("98.99")), fill(side=SELL, price=Decimal("101.01"))]),
        lambda: run(fills=[fill(price=Decimal(99)), fill(side=SELL, price=Decimal(101))]),
        lambda: run(fills=[fill(price=Decimal(1), bar_pos=0, bar_low=float("nan"), bar_high=float("nan"))]),
    ),
    (
        Doubt.FILL_OUTSIDE_BAR,
        checks.fill_outside_bar,
        lambda: run(fills=[fill(price=Decimal("101.5"), slippage=Decimal("0.4"))]),
        lambda: run(fills=[fill(price=Decimal("101.5"), slippage=Decimal("0.5"))]),
        lambda: run(fills=[fill(price=Decimal(105), costs={"latency": 0.1})]),
    ),
    (
        Doubt.FILL_ABOVE_VOLUME,
        checks.fill_above_volume,
        lambda: run(fills=[fill(quantity=Decimal(600)), fill(pos=51, quantity=Decimal(401))]),
        lambda: run(fills=[fill(quantity=Decimal(600)), fill(pos=51, quantity=Decimal(400))]),
        lambda: run(fills=[fill(quantity=Decimal(600), bar_volume=0.0)]),
    ),
    (Doubt.STALE_FILL, checks.stale_fill, lambda: late(3), lambda: late(2), lambda: run(fills=[])),
    (
        Doubt.THIN_LIQUIDITY,
        checks.thin_liquidity,
        lambda: run(fills=[fill(quantity=Decimal(11))]),
        lambda: run(fills=[fill(quantity=Decimal(10))]),
        lambda: run(fills=[]),
    ),
    (
        Doubt.LIQUIDITY_UNKNOWN,
        checks.liquidity_unknown,
        lambda: with_volume(0.0),
        lambda: with_volume(1.0),
        lambda: dataclasses.replace(with_volume(0.0), fills=[]),
    ),
    (
        Doubt.NO_COSTS,
        checks.no_costs,
        lambda: run(report=reported(fees=Decimal(0), slippage=Decimal(0))),
        lambda: run(report=reported(fees=Decimal("0.01"), slippage=Decimal(0))),
        lambda: run(fills=[], report=reported(fees=Decimal(0), slippage=Decimal(0))),
    ),
    (
        Doubt.COSTS_DOMINATE,
        checks.costs_dominate,
        lambda: run(report=reported(net_profit=Decimal(-1), **COSTLY)),
        lambda: run(report=reported(net_profit=Decimal(1), **COSTLY)),
        lambda: run(trades=[], report=reported(net_profit=Decimal(-1), **COSTLY)),
    ),
)
"""Doubt, check, a run that raises it, one just inside the threshold, one that it does not apply to."""

IDS = [case[0].value for case in CASES]


@pytest.mark.parametrize(("doubt", "check", "bad"), [case[:3] for case in CASES], ids=IDS)
def test_a_doubt_is_raised(doubt: Doubt, check: Check, bad: Case) -> None:
    """Just beyond the threshold there is one finding, in words."""
    finding = check(bad())
    assert finding is not None
    assert finding.doubt is doubt
    assert finding.words


@pytest.mark.parametrize(("check", "good"), [(case[1], case[3]) for case in CASES], ids=IDS)
def test_it_is_not_raised_within_the_threshold(check: Check, good: Case) -> None:
    """On the threshold there is none."""
    assert check(good()) is None


@pytest.mark.parametrize(("check", "other"), [(case[1], case[4]) for case in CASES], ids=IDS)
def test_it_stays_quiet_where_it_does_not_apply(check: Check, other: Case) -> None:
    """A run that the question is not about raises no doubt."""
    assert check(other()) is None


def test_too_short() -> None:
    """59 days raise it, 60 and more do not."""
    assert [checks.too_short([0.01] * days) is None for days in (59, 60, 365)] == [False, True, True]


def test_flat_curve() -> None:
    """Four days of five without a change raise it; fewer do not, and neither does nothing at all."""
    still, moving = [0.0] * 8 + [0.01] * 2, [0.0] * 7 + [0.01] * 3
    assert checks.flat_curve(still) == Finding(
        Doubt.FLAT_CURVE, Weight.DOUBTFUL, "equity did not move on 8 of 10 days; ratios are made by the few others"
    )
    assert checks.flat_curve(moving) is None
    assert checks.flat_curve([]) is None


@pytest.mark.parametrize(
    ("chosen", "raised"), [({"fast": 5}, True), ({"fast": 20}, True), ({"fast": 10}, False), ({}, False)]
)
def test_edge_of_grid(chosen: dict[str, int], raised: bool) -> None:
    """The first and the last value tried are edges; a value between them is none."""
    finding = checks.edge_of_grid(Grid({"fast": (5, 10, 20)}, chosen))
    assert (finding is not None) is raised


def test_edge_of_grid_needs_a_grid_with_an_inside() -> None:
    """Two values have no inside, and without a study there is no grid."""
    assert checks.edge_of_grid(Grid({"short": (False, True)}, {"short": True})) is None
    assert checks.edge_of_grid(None) is None


def test_not_in_study() -> None:
    """Settings that the study did not try raise it; those it tried do not, and neither does a run without a study."""
    finding = checks.not_in_study(Grid({"fast": (5, 10)}, {"fast": 7}, is_tried=False))
    assert finding == Finding(
        Doubt.NOT_IN_STUDY,
        Weight.DOUBTFUL,
        "the study did not try fast=7: its trials say nothing of how this was chosen",
    )
    assert checks.not_in_study(Grid({"fast": (5, 10)}, {"fast": 5})) is None
    assert checks.not_in_study(None) is None


def test_one_fill_and_several_are_told_apart() -> None:
    """What is said of fills agrees with their number."""
    bad = fill(price=Decimal("98.99"))
    said = [checks.fill_better_than_bar(run(fills=[bad] * count)) for count in (1, 2)]
    assert [each.words.split(" better")[0] for each in said if each] == ["1 fill is", "2 fills are"]


def test_every_doubt_is_tried_here() -> None:
    """The closed list and these tests go together."""
    apart = {Doubt.TOO_SHORT, Doubt.FLAT_CURVE, Doubt.EDGE_OF_GRID, Doubt.NOT_IN_STUDY}
    assert {case[0] for case in CASES} | apart == set(Doubt)
    assert {case[1] for case in CASES} == set(checks.CHECKS)


def test_an_honest_venue_raises_no_wrong() -> None:
    """A real run of the simulated venue has no impossible fill."""
    base = small_run().session
    found = checks.findings(base, [0.01] * 100)
    assert [finding for finding in found if finding.weight is Weight.WRONG] == []


def test_a_mutant_that_fills_at_the_low_is_caught() -> None:
    """If the venue gave every buy a price below its bar, the report would say so first."""
    base = small_run().session
    mutant = [replace(each, price=Decimal(str(each.bar_low)) - 1) if each.side is BUY else each for each in base.fills]
    found = checks.findings(run(fills=mutant), [0.01] * 100)
    assert found[0].doubt is Doubt.FILL_BETTER_THAN_BAR
    assert found[0].weight is Weight.WRONG
