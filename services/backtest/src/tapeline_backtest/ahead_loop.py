"""Running a strategy over bars that change nothing: the loops that block mode compiles.

Read as a template: ``compiled`` gives it an ``advance`` of one strategy and compiles everything together. It decides
nothing; what a changed target leads to is the strategy core's business.
"""

from __future__ import annotations

from math import nan
from typing import Any


def advance(
    memory: Any, parameters: Any, _open: float, _high: float, _low: float, _close: float, _volume: float
) -> float:
    """One bar of the strategy; each strategy has its own."""
    raise NotImplementedError


def ahead(memory: Any, parameters: Any, numbers: Any, start: int, stop: int, settled: float, holds: bool) -> Any:
    """Run from bar ``start``, at most to ``stop``.

    Args:
        numbers: shape (5, bars): open, high, low, close, volume.
        holds: look only for the first bar whose target is not ``settled`` (NaN differs from everything); otherwise run
            over all bars.

    Returns:
        (index of that bar, or ``stop``; the last target). ``memory`` is as after the last bar looked at.
    """
    target = nan
    for bar in range(start, stop):
        target = advance(
            memory, parameters, numbers[0, bar], numbers[1, bar], numbers[2, bar], numbers[3, bar], numbers[4, bar]
        )
        if holds and target != settled:
            return bar, target
    return stop, target
