"""Many runs of one plan with different parameters in the kernel gear, side by side on one core.

Each run is what ``kernel.run`` makes of the same parameters, to the last bit; ``batch_loop`` says why it is quicker.
This module lays the runs' numbers out in rows and reads the results; it knows no threads and ranks nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest import batch_loop, kernel_loop
from tapeline_backtest.compiled import CompilationRefused, column_kinds, columns_of, memory_of, specialised
from tapeline_backtest.kernel import (
    KernelFault,
    KernelRefused,
    Market,
    Outcome,
    Plan,
    check_end,
    fresh,
    outcome_of,
    prices_of,
    rules_of,
)
from tapeline_backtest.machine_code import FLOAT_TABLE, FLOATS, INT_TABLE, INTS, NOTHING, Kind
from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Strategy

Floats = NDArray[np.float64]

TEMPLATES = tuple(f"tapeline_backtest.{name}" for name in ("scan_loop", "wide", "kernel_loop", "batch_loop"))


@cache
def _compiled(strategy: Strategy) -> Any:
    arguments: tuple[Kind, ...] = (FLOATS, INTS, column_kinds(strategy), (FLOATS,) * 5, (INTS,) * 6, INTS, INTS)
    arguments += (INT_TABLE, FLOAT_TABLE, INT_TABLE, FLOATS, INT_TABLE, INT_TABLE, FLOAT_TABLE)
    arguments += (INT_TABLE, FLOAT_TABLE, FLOAT_TABLE, FLOAT_TABLE)
    return specialised(strategy, TEMPLATES, "run_all", NOTHING, *arguments)


def prepare(strategy: Strategy) -> Any:
    """The code for a strategy's runs side by side, compiled or taken from disk. Raises ``KernelRefused``."""
    try:
        return _compiled(strategy)
    except CompilationRefused as trouble:
        raise KernelRefused(KernelFault.NOT_COMPILED, str(trouble).removesuffix("; use the loop gear")) from trouble


def run_batch(
    plan: Plan, market: Market, grid: Sequence[Parameters], memories: Sequence[Floats] | None = None
) -> list[Outcome]:
    """The outcome of a plan with each of these parameters, without rows of orders and fills.

    Args:
        memories: what the strategy remembers of bars before the market's, for each of the grid; fresh if not given.

    Raises:
        KernelRefused: one of the runs is something this gear does not know, or cannot do exactly.
    """
    run_all = prepare(plan.strategy)
    rules, units = rules_of(plan, market)
    book, seat = fresh(plan, market, units)
    runs = len(grid)
    books, seats = np.tile(book, (runs, 1)), np.tile(seat, (runs, 1))
    missing = -runs % batch_loop.LANES
    filled_up = [*grid, *[grid[-1]] * missing]
    if memories is None:
        memories = [memory_of(plan.strategy, parameters) for parameters in grid]
    memories = [*memories, *[memories[-1]] * missing]
    progress = np.zeros((runs, batch_loop.PROGRESS), dtype=np.int64)
    daily = np.empty((runs, len(market.day_ends)), dtype=np.float64)
    no_orders, no_fills = np.empty((0, 2), dtype=np.int64), np.empty((0, kernel_loop.FILL), dtype=np.int64)
    changes = (batch_loop.LANES, batch_loop.CHUNK + 1)
    run_all(
        np.concatenate(memories),
        np.cumsum([0, *map(len, memories)], dtype=np.int64),
        columns_of(plan.strategy, filled_up),
        market.columns,
        prices_of(market, units),
        market.day_ends,
        rules,
        books,
        seats,
        progress,
        np.zeros(runs, dtype=np.float64),
        no_orders,
        no_fills,
        daily,
        np.empty(changes, dtype=np.int64),
        np.empty(changes, dtype=np.float64),
        *np.empty((2, batch_loop.LEVELS, batch_loop.CHUNK), dtype=np.float64),
    )
    outcomes = []
    for run, parameters in enumerate(grid):
        check_end(int(progress[run, batch_loop.STATUS]), replace(plan, parameters=parameters), seats[run])
        outcomes.append(outcome_of(market, units, books[run], seats[run], no_orders, no_fills, daily[run, :-1]))
    return outcomes
