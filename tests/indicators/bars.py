"""Bars to try indicators on: walks, and what markets do to formulas (gaps, standstill, no volume, huge and tiny)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

Floats = npt.NDArray[np.float64]
Columns = dict[str, Floats]


def walk(bars: int, seed: int = 1) -> Columns:
    """A random walk with gaps between bars, log-normal volumes, a second series, and days of 24 bars."""
    chance = np.random.Generator(np.random.PCG64(seed))
    close = 100.0 * np.exp(np.cumsum(chance.normal(0.0, 0.01, bars)))
    opened = close * np.exp(chance.normal(0.0, 0.005, bars))
    return {
        "open": opened,
        "high": np.maximum(opened, close) * np.exp(np.abs(chance.normal(0.0, 0.005, bars))),
        "low": np.minimum(opened, close) * np.exp(-np.abs(chance.normal(0.0, 0.005, bars))),
        "close": close,
        "volume": chance.lognormal(3.0, 1.0, bars),
        "other": close * np.exp(np.cumsum(chance.normal(0.0, 0.01, bars))),
        "session": np.arange(bars) // 24 * 1.0,
    }


def flat(bars: int, price: float = 0.1, volume: float = 0.0) -> Columns:
    """Nothing moves."""
    constant = np.full(bars, price)
    names = ("open", "high", "low", "close", "other")
    return {**{name: constant.copy() for name in names}, "volume": np.full(bars, volume), "session": np.zeros(bars)}


def adverse(bars: int = 400) -> dict[str, Columns]:
    """Series by name that break what is written carelessly."""
    usual = walk(bars, seed=3)
    prices = ("open", "high", "low", "close", "other")
    spike = {name: column.copy() for name, column in usual.items()}
    for name in prices:
        spike[name][bars // 3] *= 1e10
    halted = {name: column.copy() for name, column in usual.items()}
    for name in prices:
        halted[name][bars // 3 : 2 * bars // 3] = 50.0
    halted["volume"][bars // 3 : 2 * bars // 3] = 0.0
    gaps = {name: column.copy() for name, column in usual.items()}
    for name in prices:
        gaps[name] *= np.where(np.arange(bars) // 50 % 2 == 0, 1.0, 7.0)
    return {
        "walk": usual,
        "flat": flat(bars),
        "zero": flat(bars, price=0.0),
        "spike": spike,
        "halted": halted,
        "gaps": gaps,
        "tiny": {**usual, **{name: usual[name] * 1e-10 for name in prices}},
        "huge": {**usual, **{name: usual[name] * 1e10 for name in prices}, "volume": usual["volume"] * 1e6},
        "rising": _straight(bars, 1.0),
        "falling": _straight(bars, -1.0),
    }


def _straight(bars: int, side: float) -> Columns:
    close = 1000.0 + side * np.arange(bars)
    return {
        **flat(bars),
        "open": close - 0.5 * side,
        "high": close + 1.0,
        "low": close - 1.0,
        "close": close,
        "other": close,
        "volume": np.full(bars, 3.0),
        "session": np.arange(bars) // 24 * 1.0,
    }


@st.composite
def drawn(draw: st.DrawFn, most: int = 160) -> Columns:
    """A walk in ticks: repeated prices, bars without range, jumps, volumes of zero, prices from 1e-7 to 1e9."""
    bars = draw(st.integers(1, most))
    rows = draw(st.lists(st.tuples(*[st.integers(-9, 9)] * 3, *[st.integers(0, 4)] * 3), min_size=bars, max_size=bars))
    tick = draw(st.sampled_from([1e-9, 0.01, 0.1, 1.0, 1e7]))
    jump_at, jump = draw(st.integers(0, bars)), draw(st.sampled_from([1, 1, 30]))
    price, second, made = 100, 100, []
    for place, (gap, move, other, above, below, volume) in enumerate(rows):
        scale = jump if place == jump_at else 1
        opened = max(1, price * scale + gap)
        price = max(1, opened + move)
        second = max(1, second + other)
        low = max(1, min(opened, price) - below)
        high = max(opened, price) + above
        made.append((opened * tick, high * tick, low * tick, price * tick, volume * 0.37, second * tick, place // 7))
    names = ("open", "high", "low", "close", "volume", "other", "session")
    return {name: np.array([row[place] for row in made], dtype=np.float64) for place, name in enumerate(names)}
