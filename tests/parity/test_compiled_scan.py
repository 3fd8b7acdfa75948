"""Compiled strategies are the interpreted ones to the last bit, and what could differ is refused."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_backtest import compiled, machine_code
from tapeline_backtest.compiled import CompilationFault, CompilationRefused
from tapeline_strategy import ema_cross, momentum_breakout, trend_follow
from tapeline_strategy.indicators.blocks import EMA, RANGE, RMA, ema, rma, true_range
from tapeline_strategy.sdk import Parameter, Strategy, validate

BUILT_IN = {each.name: each for each in (ema_cross.STRATEGY, momentum_breakout.STRATEGY, trend_follow.STRATEGY)}

PARAMETERS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "ema_cross": st.integers(2, 12).flatmap(
        lambda fast: st.fixed_dictionaries({"fast": st.just(fast), "slow": st.integers(fast + 1, 40)})
    ),
    "momentum_breakout": st.integers(2, 15).flatmap(
        lambda lookback: st.fixed_dictionaries(
            {
                "lookback": st.just(lookback),
                "exit_lookback": st.integers(1, lookback),
                "volume_factor": st.sampled_from([0.0, 0.7, 1.3]),
            }
        )
    ),
    "trend_follow": st.fixed_dictionaries(
        {
            "trend": st.integers(2, 30),
            "atr": st.integers(1, 15),
            "entry_atr": st.floats(0.0, 3.0),
            "stop_atr": st.floats(0.1, 5.0),
            "short": st.booleans(),
        }
    ),
}


@st.composite
def bar_columns(draw: st.DrawFn) -> compiled.Columns:
    """Up to 120 bars of a walk in ticks, with repeated prices, flat bars and empty volumes."""
    bars = draw(st.integers(1, 120))
    steps = draw(st.lists(st.tuples(*[st.integers(-9, 9)] * 2, *[st.integers(0, 5)] * 3), min_size=bars, max_size=bars))
    tick = draw(st.sampled_from([0.01, 0.1, 1.0, 1e-7]))
    price, rows = 1000, []
    for gap, move, above, below, volume in steps:
        opened = max(1, price + gap)
        price = max(1, opened + move)
        low = max(1, min(opened, price) - below)
        rows.append((opened * tick, (max(opened, price) + above) * tick, low * tick, price * tick, volume * 0.37))
    columns = np.array(rows).T
    return tuple(np.ascontiguousarray(column) for column in columns)  # type: ignore[return-value]


def interpreted_scan(strategy: Strategy, memory: list[float], values: Any, columns: Any, *span: Any) -> Any:
    """The naive twin of ``scan``: ``step`` bar by bar, as the strategy core calls it."""
    start, stop, settled = span
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    target = math.nan
    for bar in range(start, stop):
        target = strategy.step(memory, *values, *rows[bar])
        if target != settled:
            return bar, target
    return stop, target


def bits(*values: float) -> list[bytes]:
    return [np.float64(value).tobytes() for value in values]


def assert_same_run(strategy: Strategy, parameters: dict[str, Any], columns: compiled.Columns) -> int:
    """Scan from change to change both ways; every index, target and memory is the same. Returns the changes."""
    scan = compiled.scan(strategy)
    values = tuple(validate(strategy, parameters).values())
    ours, theirs = compiled.memory_of(strategy, parameters), strategy.start(parameters)
    stop, bar, settled, changes = len(columns[0]), 0, 0.0, 0
    while bar < stop:
        found, target = scan(ours, values, columns, bar, stop, settled)  # type: ignore[arg-type]
        expected, expected_target = interpreted_scan(strategy, theirs, values, columns, bar, stop, settled)
        assert (found, bits(target)) == (expected, bits(expected_target))
        assert bits(*ours) == bits(*theirs)
        changes += found < stop and target == target
        bar, settled = found + 1, target
    return changes


@pytest.mark.parametrize("name", BUILT_IN)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_compiled_equals_interpreted(name: str, data: st.DataObject) -> None:
    """Where it stops, the target there and every number of the memory are bit-equal, whatever the bars."""
    assert_same_run(BUILT_IN[name], data.draw(PARAMETERS[name]), data.draw(bar_columns()))


def test_an_empty_stretch_moves_nothing() -> None:
    """No bar: the stop, NaN, and an untouched memory."""
    strategy = ema_cross.STRATEGY
    memory = compiled.memory_of(strategy, {})
    column = np.ones(3)
    found = compiled.scan(strategy)(memory, (10, 30), (column,) * 5, 2, 2, 0.0)  # type: ignore[arg-type]
    assert found[0] == 2
    assert math.isnan(found[1])
    assert memory.tolist() == [0.0, 0.0, 0.0]


def test_no_multiply_and_add_is_fused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fused multiply-add rounds once where the interpreter rounds twice: the machine code has none."""
    listings: list[str] = []

    def object_code(module: Any) -> bytes:
        listings.append(machine_code._target_machine().emit_assembly(module))
        return made(module)

    made = machine_code.object_code
    monkeypatch.setattr(machine_code, "object_code", object_code)
    monkeypatch.setattr(machine_code, "_loaded", {})
    monkeypatch.setattr(machine_code, "_engine", machine_code._engine.__wrapped__)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    for strategy in BUILT_IN.values():
        compiled._scan.__wrapped__(strategy)
    assert len(listings) == len(BUILT_IN)
    for listing in listings:
        assert "mul" in listing
        assert "fmadd" not in listing
        assert "fmla" not in listing


# ---- refusals ----------------------------------------------------------------------------------------------------

_SOMETHING = {"a": 1.0}


def _with_power(memory: Any, _o: float, _h: float, _l: float, close: float, _v: float) -> float:
    return close**0.5


def _with_logarithm(memory: Any, _o: float, _h: float, _l: float, close: float, _v: float) -> float:
    return math.log(close)


def _with_dictionary(memory: Any, _o: float, _h: float, _l: float, close: float, _v: float) -> float:
    return close * _SOMETHING["a"]


def _with_text(memory: Any, _o: float, _h: float, _l: float, close: float, _v: float) -> float:
    return close + "a"  # type: ignore[operator, no-any-return]


def _closing_over(number: float) -> Callable[..., float]:
    def step(memory: Any, _o: float, _h: float, _l: float, close: float, _v: float) -> float:
        return close * number

    return step


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        (_with_power, CompilationFault.POWER),
        (_with_logarithm, CompilationFault.FOREIGN_NAME),
        (_with_dictionary, CompilationFault.FOREIGN_NAME),
        (_with_text, CompilationFault.NOT_TYPED),
        (_closing_over(2.0), CompilationFault.CLOSURE),
    ],
)
def test_what_could_differ_is_refused(step: Callable[..., float], fault: CompilationFault) -> None:
    """Compiling never changes a strategy's arithmetic: what might is refused, by name and with the way out."""
    strategy = Strategy("odd", "", (), lambda _: 1, lambda _: [0.0], step)
    with pytest.raises(CompilationRefused, match=r"strategy 'odd' cannot be compiled.*loop gear") as refused:
        compiled.scan(strategy)
    assert refused.value.fault is fault


def test_a_strategy_of_objects_is_refused() -> None:
    """A strategy that says it is not numeric is not compiled, whatever its step looks like."""
    with pytest.raises(CompilationRefused) as refused:
        compiled.scan(replace(ema_cross.STRATEGY, is_numeric=False))
    assert refused.value.fault is CompilationFault.NOT_NUMERIC


def _with_square_root(memory: Any, _o: float, _h: float, _l: float, close: float, _v: float) -> float:
    memory[0] += math.sqrt(close)
    return min(1.0, abs(memory[0]) / 1e9)


def test_exact_functions_are_compiled() -> None:
    """Functions whose result IEEE 754 or Python fixes to the last bit may be used."""
    strategy = Strategy("rooted", "", (), lambda _: 1, lambda _: [0.0], _with_square_root)
    columns = tuple(np.linspace(1.0, 7.7, 50) for _ in range(5))
    assert assert_same_run(strategy, {}, columns) == 50  # type: ignore[arg-type]


def _crossing(memory: Any, fast: int, slow: int, _o: float, high: float, low: float, close: float, _v: float) -> float:
    quick = ema(memory, 0, fast, close)
    late = ema(memory, EMA, slow, close)
    spread = rma(memory, 2 * EMA + RANGE, slow, true_range(memory, 2 * EMA, high, low, close))
    if spread != spread or late != late:
        return math.nan
    return 1.0 if quick - late > 0.1 * spread else 0.0


CROSSING = Strategy(
    "crossing",
    "",
    (Parameter("fast", int, 3, 1, 99, ""), Parameter("slow", int, 7, 1, 99, "")),
    lambda _: 1,
    lambda _: [0.0] * (2 * EMA + RANGE + RMA),
    _crossing,
)


@settings(max_examples=40, deadline=None)
@given(columns=bar_columns(), fast=st.integers(1, 9), slow=st.integers(1, 20))
def test_a_step_may_call_plain_functions(columns: compiled.Columns, fast: int, slow: int) -> None:
    """A strategy put together from the blocks of indicators is compiled with them, to the same bits."""
    assert_same_run(CROSSING, {"fast": fast, "slow": slow}, columns)


def _halved(value: float) -> float:
    return value / 2.0


def _rooted(value: float) -> float:
    return value**0.5


def _logged(value: float) -> float:
    return _halved(math.log(value))


def _shifted(value: float, by: float = 1.0) -> float:
    return value + by


def _calls_rooted(memory: Any, _o: float, _h: float, _l: float, close: float, _v: float) -> float:
    return _rooted(close)


def _calls_logged(memory: Any, _o: float, _h: float, _l: float, close: float, _v: float) -> float:
    return _logged(close)


def _calls_shifted(memory: Any, _o: float, _h: float, _l: float, close: float, _v: float) -> float:
    return _shifted(close)


@pytest.mark.parametrize(
    ("step", "fault", "culprit"),
    [
        (_calls_rooted, CompilationFault.POWER, "_rooted"),
        (_calls_logged, CompilationFault.FOREIGN_NAME, "_logged"),
        (_calls_shifted, CompilationFault.CLOSURE, "_shifted"),
    ],
)
def test_what_could_differ_is_refused_in_called_functions_too(
    step: Callable[..., float], fault: CompilationFault, culprit: str
) -> None:
    """However deep it lies; the function is named."""
    with pytest.raises(CompilationRefused, match=f"its step calls {culprit}, which") as refused:
        compiled.scan(Strategy("odd", "", (), lambda _: 1, lambda _: [0.0], step))
    assert refused.value.fault is fault


def test_a_changed_function_is_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a step is not taken for a step whose called function was edited."""

    def parts() -> list[tuple[object, ...]]:
        return [compiled._function_parts(each) for each in compiled._functions(_calls_logged)]

    before = parts()
    assert [part[0] for part in before] == ["_calls_logged", "_logged", "_halved"]
    assert parts() == before
    monkeypatch.setattr(_halved, "__code__", (lambda value: value / 3.0).__code__)
    assert parts() != before


# ---- what is kept on disk ----------------------------------------------------------------------------------------

PROBE = """
import sys
from tapeline_backtest import compiled
from tapeline_strategy.ema_cross import STRATEGY
compiled.scan(STRATEGY)
print("compiled" if "numba" in sys.modules else "kept")
"""


def probe(folder: Path) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()


def test_a_second_process_does_not_compile(tmp_path: Path) -> None:
    """The first process compiles and keeps; the second takes what was kept, and does without the compiler."""
    assert probe(tmp_path / "codes") == "compiled"
    assert probe(tmp_path / "codes") == "kept"


def test_what_was_kept_in_part_is_compiled_anew(tmp_path: Path) -> None:
    """Machine code cut short is never run."""
    assert probe(tmp_path / "codes") == "compiled"
    (kept,) = (tmp_path / "codes").rglob("*.o")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert probe(tmp_path / "codes") == "compiled"
    assert probe(tmp_path / "codes") == "kept"


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    """Where nothing can be kept, it is compiled anew and works."""
    (tmp_path / "taken").write_text("a file, not a folder")
    assert probe(tmp_path / "taken" / "codes") == "compiled"
    assert probe(tmp_path / "taken" / "codes") == "compiled"
