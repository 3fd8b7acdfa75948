"""Bars for tests of the detectors: a drawn market with clusters of volatility, alone and as a panel."""

from __future__ import annotations

import numpy as np

from tapeline_lab.bias.tables import Table, panel_of

MINUTE_NS = 60_000_000_000
START_NS = 1_704_067_200 * 10**9


def market(bars: int = 600, seed: int = 1, first: int = 0) -> Table:
    """Minutes of a drawn market; prices have two decimals, as a venue's have."""
    chance = np.random.Generator(np.random.PCG64(seed))
    calm = np.exp(np.convolve(chance.normal(0, 1, bars + 199), np.ones(200) / 14.0, "valid") * 0.5)
    moves = chance.normal(0, 0.004, bars) * calm
    close = np.round(100 * np.exp(np.cumsum(moves)), 2)
    opened = np.concatenate([[100.0], close[:-1]])
    high = np.round(np.maximum(opened, close) * (1 + chance.uniform(0, 0.002, bars)), 2)
    low = np.round(np.minimum(opened, close) * (1 - chance.uniform(0, 0.002, bars)), 2)
    return {
        "ts": START_NS + (first + np.arange(bars, dtype=np.int64)) * MINUTE_NS,
        "open": opened,
        "high": np.maximum(high, np.maximum(opened, close)),
        "low": np.minimum(low, np.minimum(opened, close)),
        "close": close,
        "volume": np.round(chance.uniform(1, 20, bars), 3),
    }


def panel() -> Table:
    """Four instruments: one vanishes at 60 % of the time, one comes at 20 %."""
    return panel_of(
        {
            "STAYS": market(120, 2),
            "VANISHES": market(80, 3),
            "COMES": market(95, 4, first=25),
            "REMAINS": market(120, 5),
        }
    )


def with_ready_made(table: Table) -> Table:
    """The table with a column that somebody computed from the returns to come, and blurred."""
    close = table["close"]
    ahead = np.concatenate([close[5:] / close[:-5] - 1.0, np.zeros(5)])
    noise = np.random.Generator(np.random.PCG64(9)).normal(0, ahead.std() * 0.7, len(close))
    return {**table, "sentiment": ahead + noise}


def with_honest_column(table: Table) -> Table:
    """The table with a column that knows the past only."""
    close = table["close"]
    back = np.concatenate([np.zeros(5), close[5:] / close[:-5] - 1.0])
    return {**table, "sentiment": back}
