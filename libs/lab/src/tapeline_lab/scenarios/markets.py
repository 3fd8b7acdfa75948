"""The markets of the suite: when they were, and how a stand-in of each is made. No recorded price is in here.

A stand-in is generated: returns with fat tails and volatility that comes in clusters, whose drift is bent so that each
phase ends where it has to. It is like the real one in what breaks things (speed, depth, gaps, silence), and in nothing
else. The same name and seed give the same bars.

Sources of the shapes: R. Cont, "Empirical properties of asset returns: stylized facts and statistical issues",
Quantitative Finance 1 (2001); S. J. Taylor's stochastic volatility for the clusters.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt

from tapeline_lab.bias.tables import TIME, Table

Floats = npt.NDArray[np.float64]

BARS_PER_YEAR = 8_760
"""Hours; a stand-in of bars of another length has the same moves for each bar."""

START_NS = 1_704_067_200 * 10**9
"""2024-01-01, a Monday: every timeframe has a bar that opens then."""

TAIL_DEGREES = 4.0
"""Degrees of freedom of the shocks: Student's t, with the tails of hourly returns of coins."""

LARGEST_SHOCK = 10.0
"""Shocks are cut here, in standard deviations; what is larger is written into the phases."""

MEMORY = 0.97
"""Autocorrelation of log-volatility from bar to bar: half of it is forgotten in a day of hours."""

UNREST = 0.5
"""Standard deviation of log-volatility around its level."""

PRICE_DECIMALS, VOLUME_DECIMALS = 2, 3


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a market.

    Attributes:
        change: of the price from its beginning to its end, as a fraction: -0.5 halves it.
        volatility: annual, of the bars around that way; 0 is a market in which nothing is traded.
    """

    bars: int
    change: float
    volatility: float


@dataclass(frozen=True, slots=True)
class Market:
    """One scenario.

    Attributes:
        words: what happened, and what it is to break.
        first, last: the days of the real one, both included; none where it is no particular time.
        gaps: stretches without bars, ``longest_gap`` bars at most; prices go on meanwhile.
    """

    name: str
    words: str
    phases: tuple[Phase, ...]
    first: date | None = None
    last: date | None = None
    gaps: int = 0
    longest_gap: int = 0

    @property
    def bars(self) -> int:
        """Before gaps are cut out."""
        return sum(phase.bars for phase in self.phases)


MARKETS: tuple[Market, ...] = (
    Market(
        "covid",
        "two quiet weeks, half of everything lost in four days, a slow recovery",
        (
            Phase(390, -0.06, 0.55),
            Phase(100, -0.14, 0.9),
            Phase(26, -0.44, 4.5),
            Phase(70, 0.18, 2.6),
            Phase(1_094, 0.62, 0.85),
        ),
        date(2020, 2, 20),
        date(2020, 4, 30),
    ),
    Market(
        "bull",
        "up threefold with falls of a third on the way",
        (
            Phase(700, 0.95, 0.95),
            Phase(180, -0.25, 1.3),
            Phase(600, 0.45, 0.8),
            Phase(420, -0.42, 1.3),
            Phase(700, 0.75, 0.75),
        ),
        date(2021, 1, 1),
        date(2021, 12, 31),
    ),
    Market(
        "bear",
        "down by two thirds in steps, with rallies that fail",
        (
            Phase(600, -0.25, 0.7),
            Phase(300, 0.2, 0.65),
            Phase(160, -0.38, 1.5),
            Phase(240, -0.34, 1.4),
            Phase(700, 0.05, 0.55),
            Phase(90, -0.25, 1.5),
            Phase(300, 0.02, 0.4),
        ),
        date(2022, 1, 1),
        date(2022, 12, 31),
    ),
    Market(
        "flash",
        "a third of the price gone within two bars and most of it back within six, out of calm",
        (Phase(360, 0.02, 0.45), Phase(2, -0.36, 0.5), Phase(6, 0.48, 1.5), Phase(360, 0.0, 0.9)),
    ),
    Market(
        "gaps",
        "outages in a falling market: stretches without bars, and prices elsewhere when they end",
        (Phase(300, -0.05, 0.8), Phase(400, -0.3, 1.6), Phase(300, 0.1, 1.0)),
        gaps=40,
        longest_gap=24,
    ),
    Market(
        "dead",
        "trading dries up: one price for days, no volume, then a little life",
        (
            Phase(240, -0.1, 0.6),
            Phase(300, 0.0, 0.0),
            Phase(120, 0.03, 0.3),
            Phase(200, 0.0, 0.0),
            Phase(60, -0.1, 0.8),
        ),
    ),
    Market(
        "delisting",
        "rumour, collapse, and a last stretch in which nobody trades; the file simply ends",
        (Phase(300, 0.0, 0.7), Phase(160, -0.55, 1.6), Phase(60, -0.9, 3.5), Phase(48, 0.0, 0.0)),
    ),
)


class MarketUnknown(LookupError):
    """No scenario has this name; the message says which there are."""


def find_market(name: str) -> Market:
    """Raises ``MarketUnknown``."""
    for market in MARKETS:
        if market.name == name:
            return market
    raise MarketUnknown(f"unknown scenario {name!r}: there are {', '.join(market.name for market in MARKETS)}")


def stand_in(market: Market, seed: int, *, price: float, length_ns: int, stream: str = "") -> Table:
    """Bars of a market like that one: ``ts`` int64 ns, open to volume float64, all of one shape.

    Args:
        price: before the first bar.
        length_ns: of a bar.
        stream: tells several instruments of one seed apart.
    """
    generator = _generator(market.name, seed, stream)
    moves = np.concatenate([_moves(phase, generator) for phase in market.phases])
    alive = np.concatenate([np.full(phase.bars, phase.volatility > 0) for phase in market.phases])
    closes = np.maximum(price * np.exp(np.cumsum(moves)), 10.0**-PRICE_DECIMALS)
    opens = np.concatenate(([price], closes[:-1]))
    wicks = 0.5 * np.abs(moves) + np.abs(moves).mean() * generator.exponential(0.3, (2, len(moves)))
    highs = np.maximum(opens, closes) * np.where(alive, np.exp(wicks[0] * generator.random(len(moves))), 1.0)
    lows = np.minimum(opens, closes) * np.where(alive, np.exp(-wicks[1] * generator.random(len(moves))), 1.0)
    busy = np.abs(moves) / np.abs(moves).mean()
    volumes = np.where(alive, 1_000.0 * np.exp(0.6 * generator.standard_normal(len(moves))) * (0.5 + busy), 0.0)
    table: Table = {
        TIME: START_NS + np.arange(len(moves), dtype=np.int64) * length_ns,
        "open": _prices(opens),
        "high": _prices(highs),
        "low": _prices(lows),
        "close": _prices(closes),
        "volume": np.round(volumes, VOLUME_DECIMALS),
    }
    kept = _without_gaps(market, len(moves), generator)
    return {name: column[kept] for name, column in table.items()}


def recorded_part(market: Market, table: Table) -> Table | None:
    """The bars of the real days; ``None`` if the market has none, or the table does not begin before and end after."""
    if market.first is None or market.last is None:
        return None
    day_ns = 86_400 * 10**9
    epoch = date(1970, 1, 1)
    first_ns, stop_ns = (market.first - epoch).days * day_ns, ((market.last - epoch).days + 1) * day_ns
    times = table[TIME]
    inside = (times >= first_ns) & (times < stop_ns)
    covers = len(times) > 0 and times[0] <= first_ns + day_ns and times[-1] >= stop_ns - 2 * day_ns
    return {name: column[inside] for name, column in table.items()} if covers else None


def _generator(name: str, seed: int, stream: str) -> np.random.Generator:
    text = "\0".join(("scenario", name, str(seed), stream))
    key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key))


def _moves(phase: Phase, generator: np.random.Generator) -> Floats:
    """Log-returns of a phase: clustered, fat-tailed, and bent to its change."""
    if phase.volatility <= 0:
        return np.zeros(phase.bars)
    noise = generator.standard_normal(phase.bars) * UNREST * math.sqrt(1.0 - MEMORY**2)
    levels = np.empty(phase.bars)
    level = UNREST * float(generator.standard_normal())
    for bar, shock in enumerate(noise.tolist()):
        level = MEMORY * level + shock
        levels[bar] = level
    scale = phase.volatility / math.sqrt(BARS_PER_YEAR) * np.exp(levels - UNREST**2)  # mean square is the volatility's
    tails = generator.standard_t(TAIL_DEGREES, phase.bars) * math.sqrt((TAIL_DEGREES - 2.0) / TAIL_DEGREES)
    moves: Floats = scale * np.clip(tails, -LARGEST_SHOCK, LARGEST_SHOCK)
    moves += (math.log1p(phase.change) - float(moves.sum())) / phase.bars
    return moves


def _prices(values: Floats) -> Floats:
    return np.maximum(np.round(values, PRICE_DECIMALS), 10.0**-PRICE_DECIMALS)


def _without_gaps(market: Market, bars: int, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which bars are there: the first and the last always are."""
    kept = np.ones(bars, dtype=np.bool_)
    for _ in range(market.gaps):
        start = int(generator.integers(1, bars - 1))
        kept[start : min(start + int(generator.integers(1, market.longest_gap + 1)), bars - 1)] = False
    return kept
