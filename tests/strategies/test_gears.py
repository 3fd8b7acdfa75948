"""The built-in strategies in all three gears: the same fills, trades, report, tape and states."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from tests.gears import assert_same, file_of, finished_in_both, in_kernel, in_loop, settings_of
from tests.strategies.test_kinds import GIVEN
from tests.strategy_runs import random_bars

from tapeline_backtest import compiled, kernel
from tapeline_backtest.kernel import KernelFault, KernelRefused
from tapeline_common.events import Parameters
from tapeline_marketdata.files import BarFile
from tapeline_strategy import catalogue
from tapeline_strategy.sdk import Strategy

FIRST_NS = 1_700_006_400_000_000_000  # 2023-11-15 00:00 UTC


def whole(kind: str, parameters: Parameters) -> bool:
    """Whether these parameters ask for nothing but -1, 0 and 1."""
    if kind in ("dca", "grid"):
        return False
    return parameters.get("units", 1) == 1 and not parameters.get("target") and "exposure" not in parameters


WHOLE = [each for each in GIVEN if whole(*each)]
PARTS = [each for each in GIVEN if not whole(*each)]
LAST_OF_KIND = {kind: (kind, parameters) for kind, parameters in GIVEN}


@cache
def file(count: int) -> BarFile:
    rows = random_bars(99, count, grid=0.25)
    return file_of([(minute, *row[:4], row[4] * 100) for minute, row in enumerate(rows)], FIRST_NS)


def interpreted(strategy: Strategy) -> Callable[..., int]:
    """The kernel's rules without numba."""
    text = compiled._module_text(
        strategy, ("tapeline_backtest.scan_loop", "tapeline_backtest.wide", "tapeline_backtest.kernel_loop")
    )
    namespace: dict[str, Any] = {"__name__": "interpreted"}
    exec(compile(text, "interpreted", "exec"), namespace)  # noqa: S102 (the project's own text)
    namespace["step"] = strategy.step
    found: Callable[..., int] = namespace["run"]
    return found


@pytest.mark.parametrize(("kind", "parameters"), WHOLE)
def test_the_kernels_rules_give_what_the_loop_gives(
    kind: str, parameters: Parameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fills, trades and report of the kernel, run by the interpreter, are those of the loop gear."""
    monkeypatch.setattr(kernel, "prepare", interpreted)
    settings = settings_of(kind, parameters)
    ran = in_loop(settings, file(120))

    assert in_kernel(settings, file(120)) == ran


@pytest.mark.parametrize(("kind", "parameters"), PARTS)
def test_parts_of_a_size_are_the_loop_gears(kind: str, parameters: Parameters, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says that it cannot trade a fraction, and names the gear that can."""
    monkeypatch.setattr(kernel, "prepare", interpreted)

    with pytest.raises(KernelRefused, match="use --gear loop") as refused:
        in_kernel(settings_of(kind, parameters), file(120))

    assert refused.value.fault is KernelFault.TARGET_NOT_WHOLE
    assert in_loop(settings_of(kind, parameters), file(120)).fills


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(LAST_OF_KIND))
def test_every_gear_compiled_gives_the_same(kind: str) -> None:
    """Machine code: loop, blocks and, for whole targets, the kernel; each kind is compiled for it, which takes long."""
    for name, parameters in GIVEN:
        if name != kind:
            continue
        settings = settings_of(kind, parameters)
        if whole(kind, parameters):
            assert_same(settings, file(1500))
        else:
            exact, block = finished_in_both(settings, file(1500))
            assert (block.facts, block.tape_hash) == (exact.facts, exact.tape_hash)
            assert block.states == exact.states


def test_every_kind_is_compared() -> None:
    """Each kind that is installed is in the lists above, or in the parity tests of the first three."""
    assert set(catalogue.installed()) >= set(LAST_OF_KIND)
    assert {kind for kind, _ in WHOLE} | {kind for kind, _ in PARTS} == set(LAST_OF_KIND)
