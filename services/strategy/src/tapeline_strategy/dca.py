"""Buying in steps and selling at a gain on their average (cost averaging).

    a = mean close of the steps taken, p = close of the last step

    first step   at the first bar, and ``interval`` bars after everything was sold
    next step    ``interval`` bars or more after the last one, at a close of at most p * (1 - drop), or any for drop 0
    sell all     close_i >= a * (1 + take_profit), or close_i <= a * (1 - stop)   (0 is off for both)

A step is 1 / ``steps`` of the size; there are no more than ``steps``. The price of a step is the close of the bar that
decided it: what was paid, with its costs, is the ledger's to know. With ``take_profit`` 0 it only accumulates.
"""

from __future__ import annotations

from tapeline_strategy.sdk import Parameter, Strategy

_TAKEN, _SUM, _LAST, _WAITED = 0, 1, 2, 3


def step(
    memory: list[float],
    steps: int,
    interval: int,
    drop: float,
    take_profit: float,
    stop: float,
    _open: float,
    _high: float,
    _low: float,
    close: float,
    _volume: float,
) -> float:
    """Memory: steps taken, sum of their closes, close of the last one, bars since the last step or sale (-1: none)."""
    taken = memory[_TAKEN]
    if memory[_WAITED] >= 0.0:
        memory[_WAITED] += 1.0
    if taken > 0.0:
        average = memory[_SUM] / taken
        has_gained = take_profit > 0.0 and close >= average * (1.0 + take_profit)
        has_lost = stop > 0.0 and close <= average * (1.0 - stop)
        if has_gained or has_lost:
            memory[_TAKEN] = 0.0
            memory[_SUM] = 0.0
            memory[_WAITED] = 0.0
            return 0.0
    is_due = memory[_WAITED] < 0.0 or memory[_WAITED] >= interval
    is_cheap = taken == 0.0 or drop == 0.0 or close <= memory[_LAST] * (1.0 - drop)
    if is_due and is_cheap and taken < steps:
        taken += 1.0
        memory[_TAKEN] = taken
        memory[_SUM] += close
        memory[_LAST] = close
        memory[_WAITED] = 0.0
    return taken / steps


STRATEGY = Strategy(
    name="dca",
    description="Buys in steps, in time or at falling prices, and sells all at a gain on their average price.",
    parameters=(
        Parameter("steps", int, 10, 1, 1000, "steps that make up the whole size"),
        Parameter("interval", int, 24, 1, 100000, "bars between two steps, and of rest after a sale"),
        Parameter("drop", float, 0.0, 0.0, 0.9, "fall below the last step that the next one asks for; 0 is off"),
        Parameter("take_profit", float, 0.05, 0.0, 100.0, "gain on the average at which all is sold; 0 is off"),
        Parameter("stop", float, 0.0, 0.0, 0.99, "loss on the average at which all is sold; 0 is off"),
    ),
    warm_up=lambda _parameters: 1,
    start=lambda _parameters: [0.0, 0.0, 0.0, -1.0],
    step=step,
    carries=("taken", "sum", "last", "waited"),
)
