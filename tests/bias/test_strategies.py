"""Every installed strategy is free of look-ahead, by itself and as a whole run; strategies that are not are caught."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

import numpy as np
import pytest
from tests.bias.bars import market
from tests.gears import settings_of
from tests.strategy_runs import ALONE

from tapeline_common.settings import Settings
from tapeline_lab.bias.findings import Kind
from tapeline_lab.bias.leaks import fills_on_tape
from tapeline_lab.bias.lookahead import lookahead_analysis
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.tables import Table
from tapeline_lab.bias.tapes import facts_of, said_by_bar, tape_subject
from tapeline_lab.bias.traces import memory_names, strategy_subject
from tapeline_strategy.catalogue import find
from tapeline_strategy.sdk import Bar, Parameter, Strategy, from_class, validate

FAST = {"fast": 3, "slow": 8}


def bars_for(kind: Strategy) -> Table:
    """Enough bars for some opinions after the warm-up."""
    return market(300 + 2 * kind.warm_up(validate(kind, {})))


@pytest.mark.parametrize("kind", ALONE)
def test_every_installed_strategy_is_clean_at_64_cuts(kind: str) -> None:
    """Memory and exposure of every bar are the same to the last bit, whatever comes after it."""
    strategy = find(kind)
    analysis = lookahead_analysis(strategy_subject(strategy, validate(strategy, {})), bars_for(strategy), event_cuts=8)
    assert analysis.findings == ()
    assert analysis.not_run == {}
    assert analysis.cuts >= 64


def examined_tape(settings: Settings, table: Table, cuts: int) -> None:
    analysis = lookahead_analysis(tape_subject(settings), table, cuts=cuts, event_cuts=4)
    assert analysis.findings == ()
    assert analysis.not_run == {}
    assert fills_on_tape([recorded.fact for recorded in facts_of(settings, table)]) == []


def test_a_tape_of_some_bars_begins_the_tape_of_all_of_them() -> None:
    """Proposals, fills, positions and equity of every bar, as stored bytes, at 64 cuts."""
    examined_tape(settings_of("ema_cross", FAST), market(120), 64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALONE)
def test_tapes_of_all_installed_strategies_are_clean(kind: str) -> None:
    """The same for every kind, over its own warm-up."""
    examined_tape(settings_of(kind, {}), bars_for(find(kind)), 64)


def test_a_feed_that_tells_the_next_close_is_seen_on_the_tape() -> None:
    """Whole runs over bars whose close is the next one's: proposals look one bar ahead."""
    settings = settings_of("ema_cross", FAST)

    def peeking(table: Table) -> Any:
        close = np.append(table["close"][1:], table["close"][-1:])
        high, low = np.maximum(table["high"], close), np.minimum(table["low"], close)
        return said_by_bar(settings, {**table, "close": close, "high": high, "low": low})

    analysis = lookahead_analysis(Subject("peeking", peeking, takes_nan=False), market(120))
    found = {finding.column: finding for finding in analysis.findings}
    assert found["OrderProposed"].kind is Kind.FUTURE_BARS
    assert found["OrderProposed"].farthest == 1


class Remembers:
    """Keeps state in the class, so that a second run begins where the first one ended."""

    name: ClassVar[str] = "remembers"
    description: ClassVar[str] = "Wrong: its memory is not its own."
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("window", int, 5, 1, 10, "bars"),)
    seen: ClassVar[list[float]] = []

    def __init__(self, window: int) -> None:
        self.window = window

    def on_bar(self, bar: Bar) -> float:
        self.seen.append(bar.close)
        return 1.0 if len(self.seen) % 1000 < 500 else 0.0


def test_state_kept_outside_of_the_memory_is_not_repeatable() -> None:
    """A class attribute that survives a run makes two runs on the same bars differ, and that is what is said."""
    analysis = lookahead_analysis(strategy_subject(from_class(Remembers), {"window": 5}), market(700))
    assert [(finding.kind, finding.column) for finding in analysis.findings] == [(Kind.NOT_REPEATABLE, "exposure")]


def test_places_of_a_memory_have_the_names_that_its_module_gives_them() -> None:
    """A finding in a strategy's memory can be read; what has no name keeps its number."""
    assert memory_names(find("ema_cross"), [0.0] * 4) == (["bars", "fast", "slow", "3"], {})
    ring = ("ring.0", "ring.1")
    assert memory_names(find("bollinger_reversion"), [0.0] * 5) == (["bars", "side", "barred", *ring], {"ring": ring})


def test_several_instruments_are_cut_at_the_same_moment() -> None:
    """Two instruments in one account: the tape of all bars up to a time begins the tape of all bars."""
    from tapeline_common.settings import InstrumentTable, StrategyTable
    from tapeline_lab.bias.tables import panel_of

    one = settings_of("ema_cross", FAST)
    names = ("BTC/USD", "ETH/USD")
    settings = Settings(
        run=one.run, feed=one.feed, venue=one.venue, risk=one.risk, regime=one.regime,
        instrument=tuple(InstrumentTable(name) for name in names),
        strategy=(StrategyTable("both", "ema_cross", names, Decimal(1), dict(FAST)),),
    )  # fmt: skip
    table = panel_of({"BTC/USD": market(60, 1), "ETH/USD": market(60, 2)})
    analysis = lookahead_analysis(tape_subject(settings), table, cuts=16, event_cuts=4)
    assert analysis.findings == ()
    assert analysis.bars == 60
