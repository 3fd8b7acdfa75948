"""How far a strategy runs before it changes its mind: the loop that block mode compiles.

Read as a template: ``compiled`` gives it an ``advance`` of one strategy and compiles both together. It decides nothing;
what a changed target leads to is the strategy core's business.
"""

from __future__ import annotations

from math import nan
from typing import Any


def advance(
    memory: Any, parameters: Any, _open: float, _high: float, _low: float, _close: float, _volume: float
) -> float:
    """One bar of the strategy; each strategy has its own."""
    raise NotImplementedError


def scan(memory: Any, parameters: Any, columns: Any, start: int, stop: int, settled: float) -> tuple[int, float]:
    """Run from bar ``start``, at most to ``stop``, and stop after the first bar whose target is not ``settled``.

    Returns:
        (index of that bar, its target), or (``stop``, the last target; NaN if there was no bar). ``memory`` is then as
        after the last bar looked at. NaN differs from everything, itself included.
    """
    opens, highs, lows, closes, volumes = columns
    target = nan
    for bar in range(start, stop):
        target = advance(memory, parameters, opens[bar], highs[bar], lows[bar], closes[bar], volumes[bar])
        if target != settled:
            return bar, target
    return stop, target
