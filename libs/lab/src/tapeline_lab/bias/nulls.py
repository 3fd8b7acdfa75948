"""Markets with nothing to earn: the bars' moves drawn anew, with other signs, and normal moves of their size.

All three are fair: the expected simple return, close to close, is zero whatever came before, so that what is decided
from the past earns nothing on average before costs. ``permuted`` is another matter: the same bars in another order end
where the bars ended, so that each move says something of those to come; it keeps the drift, and is what a strategy's
timing is compared with. One instrument; no gaps are made.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tapeline_lab.bias.tables import PRICES, TIME, Table

Floats = NDArray[np.float64]

LOWEST_FACTOR = 0.1
"""A made bar loses no more than nine tenths of its price: prices stay above zero."""

PRICE_DIGITS = 6
"""Significant digits of made prices: rounding them moves a return by less than a tick of any market does."""


def resampled(table: Table, seed: int) -> Table:
    """The bars' shapes drawn with replacement, each close moved by the mean."""
    chance = np.random.Generator(np.random.Philox([seed, 0, 0]))
    bars = len(table[TIME])
    rows = chance.integers(1, bars, bars - 1)
    mean = float(np.mean(table["close"][1:] / table["close"][:-1]))
    shapes = {name: table[name][rows] / table["close"][rows - 1] - mean + 1.0 for name in PRICES}
    return _chained(table, shapes, table["volume"][rows])


def permuted(table: Table, seed: int, block: int = 1) -> Table:
    """The bars' shapes in the order of shuffled blocks of ``block`` bars, chained from the first close on.

    A block keeps what lies within it: volatility clusters and autocorrelation up to its length (T. Masters,
    "Permutation and Randomization Tests for Trading System Development", 2020; blocks as in H. Künsch, 1989).
    """
    chance = np.random.Generator(np.random.Philox([seed, block]))
    bars = len(table[TIME])
    starts = np.arange(1, bars, block)
    order = np.concatenate([np.arange(start, min(start + block, bars)) for start in chance.permutation(starts)])
    before = table["close"][order - 1]
    return _chained(table, {name: table[name][order] / before for name in PRICES}, table["volume"][order])


def mirrored(table: Table, seed: int) -> Table:
    """Every bar's shape as it is or turned upside down, by the toss of a coin: volatility stays where it was."""
    chance = np.random.Generator(np.random.Philox([seed, 0, 2]))
    before = table["close"][:-1]
    shapes = {name: table[name][1:] / before for name in PRICES}
    shapes = {name: shape - shapes["close"].mean() + 1.0 for name, shape in shapes.items()}
    turned = chance.random(len(before)) < 0.5
    other = {name: 2.0 - shape for name, shape in shapes.items()}
    other["high"], other["low"] = other["low"], other["high"]
    shapes = {name: np.where(turned, other[name], shape) for name, shape in shapes.items()}
    return _chained(table, shapes, table["volume"][1:])


def independent(table: Table, seed: int) -> Table:
    """Independent normal returns of the bars' standard deviation and mean zero; bars open at the close before."""
    chance = np.random.Generator(np.random.Philox([seed, 0, 1]))
    close = table["close"]
    moves = close[1:] / close[:-1] - 1.0
    spread = float(moves.std())
    closes = 1.0 + chance.normal(0.0, spread, len(moves))
    reach = np.abs(chance.normal(0.0, spread / 2.0, (2, len(moves))))
    shapes = {
        "open": np.ones(len(moves)),
        "high": np.maximum(closes, 1.0) * (1.0 + reach[0]),
        "low": np.minimum(closes, 1.0) / (1.0 + reach[1]),
        "close": closes,
    }
    return _chained(table, shapes, chance.permutation(table["volume"][1:]))


def _chained(table: Table, shapes: dict[str, Floats], volume: Floats) -> Table:
    """Bars from their shapes, which are in units of the close before them."""
    shapes = {name: np.maximum(shape, LOWEST_FACTOR) for name, shape in shapes.items()}
    first = table["close"][0]
    before = first * np.concatenate([[1.0], np.cumprod(shapes["close"])[:-1]])
    made: Table = {TIME: table[TIME].copy()}
    decimals = decimals_of(table)
    for name in PRICES:
        made[name] = np.round(np.concatenate([[table[name][0]], before * shapes[name]]), decimals)
    made["high"] = np.maximum.reduce([made[name] for name in PRICES])
    made["low"] = np.minimum.reduce([made[name] for name in PRICES])
    made["volume"] = np.concatenate([table["volume"][:1], volume])
    return made


def decimals_of(table: Table) -> int:
    """Decimals of made prices."""
    lowest = float(table["low"].min())
    return max(2, PRICE_DIGITS - 1 - int(np.floor(np.log10(lowest))))
