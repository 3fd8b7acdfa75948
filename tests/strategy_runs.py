"""Shared by tests of strategy kinds: bars to walk over, and what a strategy answers to them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tapeline_common.events import Parameters
from tapeline_strategy.catalogue import find, installed, origin
from tapeline_strategy.sdk import Strategy

Row = tuple[float, float, float, float, float]
"""Open, high, low, close, volume."""

NO_OPINION = "no opinion"

ALONE = tuple(kind for kind in installed() if find(kind).both is None and origin(kind).startswith("tapeline-strategy "))
"""The built-in kinds that decide on one instrument's bars: what tests add by hand is theirs."""


def random_bars(seed: int, count: int, *, grid: float = 0.01) -> list[Row]:
    """A random walk. A coarse grid makes equal highs, lows and closes common, where comparisons go wrong."""
    chance = np.random.default_rng(seed)
    closes = np.maximum(100 + np.cumsum(chance.normal(0, 1, count)), 5)
    rows = []
    before = 100.0
    for close in (round(float(c) / grid) * grid for c in closes):
        high = max(before, close) + grid * int(chance.integers(0, 5))
        low = min(before, close) - grid * int(chance.integers(0, 5))
        rows.append((before, high, low, close, float(chance.integers(0, 20))))
        before = close
    return rows


def answers_of(strategy: Strategy, parameters: Parameters, rows: Sequence[Row]) -> list[float | str]:
    """What the strategy answers to each bar; no opinion as a word, so that lists compare."""
    memory = strategy.start(parameters)
    return worded([strategy.step(memory, *parameters.values(), *row) for row in rows])


def worded(answers: Sequence[float]) -> list[float | str]:
    return [NO_OPINION if math.isnan(answer) else answer for answer in answers]
