"""On recorded hours every installed strategy is free of look-ahead, alone and as a whole run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.gears import settings_of
from tests.strategy_runs import ALONE

from tapeline_common.settings import RegimeTable
from tapeline_common.values import Regime
from tapeline_lab.bias.findings import POISONS, Probe
from tapeline_lab.bias.leaks import fills_on_tape
from tapeline_lab.bias.lookahead import lookahead_analysis
from tapeline_lab.bias.recursive import recursive_analysis
from tapeline_lab.bias.tables import Table, table_of
from tapeline_lab.bias.tapes import facts_of, tape_subject
from tapeline_lab.bias.traces import strategy_subject
from tapeline_marketdata.files import read_bars
from tapeline_strategy.catalogue import find
from tapeline_strategy.sdk import settles_after, validate

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
HOURS = DATA / "crypto" / "binance" / "1h" / "BTCUSDT_2017-08_2022-12.parquet"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not HOURS.is_file(), reason=f"no recorded hours at {HOURS} (set TAPELINE_DATA)"),
]

BARS = 1200


def some(kinds: list[str]) -> list[Any]:
    """Every kind; those that are not named here among the slow tests."""
    return [pytest.param(kind, marks=() if kind in kinds else pytest.mark.slow) for kind in ALONE]


@pytest.fixture(scope="module")
def hours() -> Table:
    return table_of(read_bars(HOURS), BARS)


@pytest.mark.parametrize("kind", some(["ema_cross", "trend_follow", "kumo_breaker", "rsi_reversion"]))
def test_installed_strategies_are_clean_on_recorded_hours(kind: str, hours: Table) -> None:
    """Every place of memory and the exposure, at 64 cuts and where the exposure changes."""
    strategy = find(kind)
    analysis = lookahead_analysis(strategy_subject(strategy, validate(strategy, {})), hours)
    assert analysis.findings == ()
    assert analysis.cuts >= 64


@pytest.mark.parametrize("kind", some(["ema_cross", "rsi_reversion", "donchian"]))
def test_installed_strategies_have_settled_when_they_say_so(kind: str) -> None:
    """With their defaults, on recorded hours, which are wilder than drawn ones."""
    strategy = find(kind)
    parameters = validate(strategy, {})
    declared = settles_after(strategy, parameters)
    table = table_of(read_bars(HOURS), declared + 2500)
    analysis = recursive_analysis(strategy_subject(strategy, parameters), table, declared=declared)
    assert [finding.sentence for finding in analysis.findings] == []


@pytest.mark.parametrize("kind", some(["ema_cross"]))
def test_tapes_are_clean_on_recorded_hours(kind: str, hours: Table) -> None:
    """Every fact that follows from the last 600 bars, at 64 cuts, and every fill at a price that was traded."""
    settings, table = settings_of(kind, {}, timeframe="1h"), {name: column[-600:] for name, column in hours.items()}
    assert lookahead_analysis(tape_subject(settings), table, event_cuts=8).findings == ()
    assert fills_on_tape([recorded.fact for recorded in facts_of(settings, table)]) == []


@pytest.mark.parametrize("cuts", [6, pytest.param(64, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_models_and_regimes_are_clean_on_recorded_hours(cuts: int, hours: Table) -> None:
    """With the hidden Markov model on, trained three times, and a strategy that trades in two of its regimes."""
    settings, table = (
        settings_of("ema_cross", {}, timeframe="1h"),
        {name: column[-600:] for name, column in hours.items()},
    )
    (one,) = settings.strategy
    settings = msgspec.structs.replace(
        settings,
        regime=RegimeTable(enabled=True, train_bars=300, refit_bars=120),
        strategy=(msgspec.structs.replace(one, regimes=(Regime.BULL, Regime.CHOP)),),
    )
    facts = [recorded.fact for recorded in facts_of(settings, table)]
    kinds = [type(fact.event).__name__ for fact in facts]
    assert kinds.count("ModelRegistered") == 3
    assert kinds.count("OrderFilled") > 2
    probes = (Probe.PREFIX, *POISONS) if cuts == 64 else (Probe.PREFIX,)
    assert lookahead_analysis(tape_subject(settings), table, cuts=cuts, event_cuts=2, probes=probes).findings == ()
    assert fills_on_tape(facts) == []
