"""Runs side by side are the same runs alone, to the last bit, and a wrong loop for many is caught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pytest
from tests.backtesting import synthetic_file
from tests.gears import settings_of
from tests.parity.test_kernel_gear import SITUATIONS, costs

from tapeline_backtest import batch, batch_loop, compiled, kernel
from tapeline_backtest.batch import run_batch
from tapeline_backtest.feed import Source
from tapeline_backtest.kernel import KernelFault, KernelRefused, Market, Outcome, Plan, market_of, plan_of
from tapeline_common.events import Parameters
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.settings import Settings
from tapeline_common.values import Realm
from tapeline_marketdata.files import BarFile, read_bars
from tapeline_strategy import catalogue
from tapeline_strategy.sdk import Parameter, Strategy, validate

BARS = 2 * batch_loop.CHUNK + 300
"""Three chunks, the last one not full."""


def planned(settings: Settings, file: BarFile) -> tuple[Plan, Market]:
    source = Source(instrument_id(settings.instrument[0]), "made.parquet", file, "digest")
    plan = plan_of([each.event for each in opening_facts(settings, realm=Realm.REPLAY, code_version="test")])
    return plan, market_of(source, plan)


def bits(outcome: Outcome) -> dict[str, Any]:
    """Every figure but the rows, which a batch does not keep; floats by their bytes, decimals as they print."""
    found = {each.name: getattr(outcome, each.name) for each in fields(Outcome)}
    del found["order_rows"], found["fill_rows"]
    return {name: value.tobytes() if isinstance(value, np.ndarray) else repr(value) for name, value in found.items()}


def alone(plan: Plan, market: Market, grid: Sequence[Parameters]) -> list[dict[str, Any]]:
    runs = [kernel.run(replace(plan, parameters=parameters), market, record=False) for parameters in grid]
    return [bits(each) for each in runs]


def together(plan: Plan, market: Market, grid: Sequence[Parameters]) -> list[dict[str, Any]]:
    return [bits(each) for each in run_batch(plan, market, grid)]


@pytest.mark.parametrize("name", SITUATIONS)
def test_every_situation_is_the_same_in_a_batch(name: str) -> None:
    """Refusals, halts, partial fills and all the others that the kernel is compared with the loop gear in."""
    plan, market = planned(*SITUATIONS[name])
    assert together(plan, market, [plan.parameters] * 2) == alone(plan, market, [plan.parameters]) * 2


# ---- many parameters, several chunks -----------------------------------------------------------------------------

GRIDS: dict[str, list[dict[str, Any]]] = {
    "ema_cross": [{"fast": fast, "slow": slow} for fast in (2, 5, 9) for slow in (10, 31, 1500)],
    "momentum_breakout": [
        {"lookback": lookback, "exit_lookback": leave, "volume_factor": factor}
        for lookback, leave in ((5, 2), (20, 20), (40, 1))
        for factor in (0.0, 1.1)
    ],
    "trend_follow": [
        {"trend": trend, "atr": 5, "entry_atr": 0.3, "stop_atr": stop, "short": short}
        for trend in (5, 60)
        for stop in (0.7, 6.0)
        for short in (False, True)
    ],
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> BarFile:
    return read_bars(synthetic_file(tmp_path_factory.mktemp("bars") / "BTCUSD.parquet", BARS))


@cache
def market_for(file: BarFile, kind: str, fee: str) -> tuple[Plan, Market]:
    return planned(settings_of(kind, {}, venue=costs(fee, "1.5"), size=Decimal("0.5")), file)


def grid_for(kind: str) -> list[Parameters]:
    return [validate(catalogue.find(kind), parameters) for parameters in GRIDS[kind]]


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("fee", ["0.001", "-0.001"])
def test_many_parameters_are_many_runs(file: BarFile, kind: str, fee: str) -> None:
    """Memories of different lengths, both sides, losing and winning accounts, chunks that end in a trade."""
    plan, market = market_for(file, kind, fee)
    grid = grid_for(kind)
    expected = alone(plan, market, grid)
    assert together(plan, market, grid) == expected
    assert any(each["orders"] not in ("0", "1") for each in expected)


@pytest.mark.parametrize("runs", range(1, 6))
def test_a_batch_that_is_not_full_has_no_run_too_many(file: BarFile, runs: int) -> None:
    """What fills up the last lanes leaves nothing behind."""
    plan, market = market_for(file, "ema_cross", "0.001")
    grid = grid_for("ema_cross")[:runs]
    assert together(plan, market, grid) == alone(plan, market, grid)


@pytest.mark.parametrize("bars", [1, 2, batch_loop.CHUNK - 1, batch_loop.CHUNK, batch_loop.CHUNK + 1])
def test_a_stretch_may_end_anywhere_in_a_chunk(file: BarFile, bars: int) -> None:
    """One bar, a full chunk, and one bar more or less."""
    plan, market = market_for(file, "ema_cross", "0.001")
    grid = grid_for("ema_cross")
    assert together(plan, market.part(0, bars), grid) == alone(plan, market.part(0, bars), grid)


# ---- refusals ----------------------------------------------------------------------------------------------------


def _sized(_memory: Any, size: float, _o: float, _h: float, _l: float, _c: float, _v: float) -> float:
    return size


SIZED = Strategy(
    "sized", "Wants its parameter.", (Parameter("share", float, 1.0, 0.0, 1.0, "exposure"),), lambda _: 1,
    lambda _: [], _sized,
)  # fmt: skip
catalogue.add(SIZED)


def test_one_run_that_cannot_be_exact_refuses_the_batch(file: BarFile) -> None:
    """With that run's own words; the runs beside it would be fine."""
    plan, market = planned(settings_of("sized", {}), file)
    with pytest.raises(KernelRefused, match=r"strategy 'sized' wants 0\.25, not -1, 0 or 1") as refused:
        run_batch(plan, market, [{"share": 1.0}, {"share": 0.25}, {"share": 0.0}])
    assert refused.value.fault is KernelFault.TARGET_NOT_WHOLE
    assert len(run_batch(plan, market, [{"share": 1.0}, {"share": 0.0}])) == 2


# ---- the loop itself, by the interpreter -------------------------------------------------------------------------


def interpreted(strategy: Strategy, old: str = "", new: str = "") -> dict[str, Any]:
    """The functions of the loop for many without numba, in short chunks and with one piece of the text replaced."""
    text = compiled._module_text(strategy, batch.TEMPLATES).replace("CHUNK = 1024", "CHUNK = 64")
    assert not old or text.count(old) == 1, f"{old!r} is in the text {text.count(old)} times"
    namespace: dict[str, Any] = {"__name__": "interpreted", "step": strategy.step}
    exec(compile(text.replace(old, new), "interpreted", "exec"), namespace)  # noqa: S102 (the project's own text)
    return namespace


MUTANTS = {
    "as it is": ("", ""),
    "a chunk forgets how deep the last one was": (
        "day = progress[NEXT_DAY]\n", "day, depth[0] = progress[NEXT_DAY], seat[PEAK]\n"
    ),
    "a new high is not followed": ("if top > peak:", "if top < 0.0:"),
    "a short position is looked at as a long one": ("(highest if held > 0.0 else lowest)", "highest"),
    "the last run is all runs": ("return (parameters[0][run],", "return (parameters[0][0],"),
    "a change is seen a bar late": (" bar = bars[place]\n", " bar = min(bars[place] + 1, stop)\n"),
    "the last stretch is never finished": ("seats[run, WORST] = deeper(", "deeper("),
    "the day is found anew": ("progress[NEXT_DAY] = day", "pass"),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_loop_is_caught(mutant: str, file: BarFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the loop as it is gives the runs that it gives alone; whatever is changed in it shows."""
    monkeypatch.setattr(batch, "prepare", lambda strategy: interpreted(strategy, *MUTANTS[mutant])["run_all"])
    found = all(same_as_alone(file, kind) for kind in ("ema_cross", "trend_follow"))
    assert found == (mutant == "as it is")


def same_as_alone(file: BarFile, kind: str) -> bool:
    """Over a midnight, with an account that is paid for trading and so has new highs."""
    plan, market = market_for(file, kind, "-0.001")
    part, grid = market.part(1200, 1700), grid_for(kind)[:6]
    return together(plan, part, grid) == alone(plan, part, grid)


EXTREMES = {
    "as it is": ("", ""),
    "a piece is left out": ("for place in range(start, last, WIDEST):", "for place in range(start, last - 1, WIDEST):"),
    "the widest pieces leave gaps": ("WIDEST = 2 ** (LEVELS - 1)", "WIDEST = 2 ** LEVELS"),
    "pieces are too wide": ("2 << level <= stop - start", "1 << level <= stop - start"),
    "pieces do not join": ("lows[level - 1, place + half]", "lows[level - 1, place]"),
}


@pytest.mark.parametrize("mutant", EXTREMES)
def test_extremes_are_those_of_the_closes(mutant: str) -> None:
    """Of every stretch of a chunk that does not begin with the first bar; a wrong table shows in one of them."""
    names = interpreted(catalogue.find("ema_cross"), *EXTREMES[mutant])
    closes = np.random.Generator(np.random.PCG64(1)).integers(1, 1000, 67).astype(np.float64)
    lows, highs = np.full((2, batch_loop.LEVELS, 64), np.nan)
    names["find_extremes"](closes, 3, 67, lows, highs)
    chunk = closes[3:]
    stretches = [(start, stop) for start in range(64) for stop in range(start + 1, 65)]
    found = [names["extremes"](start, stop, lows, highs) for start, stop in stretches]
    expected = [(chunk[start:stop].min(), chunk[start:stop].max()) for start, stop in stretches]
    assert (found == expected) == (mutant == "as it is")


# ---- what is run together ----------------------------------------------------------------------------------------
