"""Buy and hold: the baseline that every other strategy has to justify its trades against.

From the first bar on the wanted exposure is ``exposure``, and nothing ever changes it. A backtest of it fills one order
and pays one fee; what a strategy earns beyond it, at less risk, is what its rules are worth.
"""

from __future__ import annotations

from tapeline_strategy.sdk import Parameter, Strategy


def step(
    _memory: list[float], exposure: float, _open: float, _high: float, _low: float, _close: float, _volume: float
) -> float:
    """Memory: nothing."""
    return exposure


STRATEGY = Strategy(
    name="buy_and_hold",
    description="Takes its position at the first bar and keeps it: the baseline for every other strategy.",
    parameters=(Parameter("exposure", float, 1.0, -1.0, 1.0, "share of the size to hold; below zero is short"),),
    warm_up=lambda _parameters: 1,
    start=lambda _parameters: [],
    step=step,
)
