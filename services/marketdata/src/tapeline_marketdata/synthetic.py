"""A synthetic market: several instruments, regimes, heavy tails, clustered volatility, one common factor. No network.

Chance is a function of (seed, name, bar index), so the market is restartable: the bar after any bar can be computed
from that bar alone. What a restart needs is the last bar of each instrument (``SyntheticMarket.resume``); regimes and
shocks are looked up again, only the price is carried.

How a bar comes about (sigma is the volatility of one bar; every random number is a block of Philox 4x64 output, see
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011):
- A regime path is a 3-state Markov chain, begun afresh in its stationary distribution every BLOCK_BARS bars, so that
  the regime at any index costs at most one block.
- Return = drift + volatility * (beta * market + sqrt(1 - beta^2) * own), with Student-t shocks of 4 degrees of freedom
  by Bailey's polar method ("Polar generation of random variates with the t-distribution", 1994), scaled to variance 1.
- Volume is log-normal around a level that grows with the size of the return.
- The prices are whole ticks and the volume whole lots.
Only +, -, *, / and square roots of IEEE doubles are used, so that every machine makes the same bars.

It does not model an order book, sessions, or fair value; it is for demos, tests and load, not for research.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal

import msgspec
import numpy as np
import numpy.typing as npt

from tapeline_common.events import BarClosed
from tapeline_common.values import DecimalText, InstrumentId, Regime
from tapeline_marketdata.timeframe import UNIT_NS, grid_offset_ns, parse_timeframe

BLOCK_BARS = 1024
"""Bars per block of chance: long beside a regime (200 bars), short to compute (about a millisecond)."""

YEAR_NS = 365 * UNIT_NS["d"]
"""The year of annual_volatility: this market never closes."""

LARGEST_SHOCK = 12.0
"""Shocks are cut here, in standard deviations: a heavy tail, but no bar that loses everything."""

POLAR_TRIES = 16
"""Pairs per shock. Each is used with probability pi/4, so that one bar in 5e10 finds none and gets no shock."""

LARGEST_BREAK = 100.0
"""Bound on a change of volatility, under which returns stay far from overflow."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


REGIMES = (Regime.BULL, Regime.BEAR, Regime.CHOP)
"""What the market can be doing; a strategy never sees it, a test of a regime model may."""
DRIFT = (0.08, -0.08, 0.0)
"""Per bar, in sigma: over 200 bars 16 sigma, beside 14 sigma of noise; bull and bear cancel in the long run."""
VOLATILITY = (0.7, 1.55, 0.35)
"""Multiples of sigma, root mean square 1: bears are wild, chop is quiet, so that a model can tell them apart."""
STAY = 0.995
"""Chance to keep the regime for another bar: 200 bars on average. Else one of the other two, equally likely."""


class SyntheticSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument of the market.

    Attributes:
        beta: in [-1, 1], the correlation with the common factor.
        break_volatility: from bar index ``break_bar`` on every regime is so many times as volatile: a change that no
            model fitted before it has seen. 1 is no break.
    """

    instrument: InstrumentId
    start_price: Decimal
    tick_size: Decimal = Decimal("0.01")
    lot_size: Decimal = Decimal("0.001")
    annual_volatility: float = 0.8
    beta: float = 0.6
    usual_volume: float = 10.0
    break_bar: int = 0
    break_volatility: float = 1.0

    def __post_init__(self) -> None:
        if not self.instrument:
            raise ValueError("instrument is empty: give a token")
        for field in ("start_price", "tick_size", "lot_size", "annual_volatility", "usual_volume", "break_volatility"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{self.instrument}: {field} is {getattr(self, field)}: it must be above 0")
        if self.start_price < self.tick_size:
            raise ValueError(f"{self.instrument}: start_price {self.start_price} is below one tick of {self.tick_size}")
        if self.break_volatility > LARGEST_BREAK:
            raise ValueError(
                f"{self.instrument}: break_volatility is {self.break_volatility}: it must be at most {LARGEST_BREAK:g}"
            )
        if self.break_bar < 0:
            raise ValueError(f"{self.instrument}: break_bar is {self.break_bar}: it must be 0 or more")
        if not -1 <= self.beta <= 1:
            raise ValueError(f"{self.instrument}: beta is {self.beta}: it must be in [-1, 1]")


class SyntheticState(msgspec.Struct, frozen=True):
    """Where the market is: ``position`` bars were made, and the last close of each instrument, in ticks.

    Instruments take turns in the order of the specs: bar ``position`` is of instrument ``position % n`` at bar index
    ``position // n``.
    """

    position: int
    close_ticks: tuple[int, ...]


class _Block(msgspec.Struct, frozen=True):
    """The chance of BLOCK_BARS bars of one instrument: shape (BLOCK_BARS,) each."""

    regimes: list[int]
    returns: list[float]
    opening: list[float]
    upper: list[float]
    lower: list[float]
    volumes: list[float]


class SyntheticMarket:
    """The bars of several instruments in one total order: by time, then in the order of the specs.

    >>> market = SyntheticMarket(7, [SyntheticSpec(instrument="BTC-USDT_sim", start_price=Decimal(60000))])
    >>> state = market.start()
    >>> bar, state = market.next_bar(state)

    The same (seed, specs, timeframe, start_ns) give the same bars, however often interrupted.
    """

    def __init__(
        self, seed: int, specs: Sequence[SyntheticSpec], *, timeframe: str = "1m", start_ns: int = 1_704_067_200 * 10**9
    ) -> None:
        """start_ns: open time of the first bars (2024-01-01 UTC by default); it must lie on the timeframe's grid."""
        if not specs:
            raise ValueError("specs is empty: give at least one instrument")
        names = [spec.instrument for spec in specs]
        if len(set(names)) != len(names):
            raise ValueError(f"specs names an instrument twice: {', '.join(names)}")
        self._timeframe_ns = parse_timeframe(timeframe)
        if (start_ns - grid_offset_ns(self._timeframe_ns)) % self._timeframe_ns:
            raise ValueError(f"start_ns is {start_ns}: it must be a multiple of {timeframe}")
        self._seed = seed
        self._timeframe = timeframe
        self._start_ns = start_ns
        self._specs = tuple(specs)
        self._sigma = [spec.annual_volatility * math.sqrt(self._timeframe_ns / YEAR_NS) for spec in specs]
        self._blocks: dict[int, tuple[int, _Block]] = {}

    def start(self) -> SyntheticState:
        """The state before the first bar."""
        return SyntheticState(0, tuple(int(spec.start_price / spec.tick_size) for spec in self._specs))

    def resume(self, last: Mapping[str, BarClosed]) -> SyntheticState:
        """The state after the last bar of each instrument (an instrument without bars is left out).

        An instrument that has no bars while the others have many is new: it joins the others at its start price.
        Raises ValueError if these are not the bars of one moment of this market.
        """
        made, close_ticks = [], []
        for spec, first_ticks in zip(self._specs, self.start().close_ticks, strict=True):
            bar = last.get(spec.instrument)
            made.append(0 if bar is None else self._index_of(bar) + 1)
            close_ticks.append(first_ticks if bar is None else int(Decimal(bar.close) / spec.tick_size))
        position = sum(made)
        turns = [self._bars_made(position, number) for number in range(len(self._specs))]
        if turns != made:
            joined = [max(made) if spec.instrument not in last else made[at] for at, spec in enumerate(self._specs)]
            position = sum(joined)
            turns, made = [self._bars_made(position, number) for number in range(len(self._specs))], joined
        if turns != made or not set(last) <= {spec.instrument for spec in self._specs}:
            raise ValueError(
                f"cannot resume after {dict(zip([spec.instrument for spec in self._specs], made, strict=True))} bars:"
                " instruments take turns in the order of the specs; give the last bar of each"
            )
        return SyntheticState(position, tuple(close_ticks))

    def next_bar(self, state: SyntheticState) -> tuple[BarClosed, SyntheticState]:
        """The bar at ``state.position``, and the state after it. Pure; a block of chance is kept between calls."""
        index, number = divmod(state.position, len(self._specs))
        spec = self._specs[number]
        before = state.close_ticks[number]
        block, row = self._block(number, index // BLOCK_BARS), index % BLOCK_BARS
        open_ticks = max(1, _nearest(before * (1.0 + block.opening[row])))
        close_ticks = max(1, _nearest(before * (1.0 + block.returns[row])))
        high_ticks = max(open_ticks, close_ticks) + _nearest(before * block.upper[row])
        low_ticks = max(1, min(open_ticks, close_ticks) - _nearest(before * block.lower[row]))
        open_ns = self._start_ns + index * self._timeframe_ns
        bar = BarClosed(
            spec.instrument,
            self._timeframe,
            open_ns,
            open_ns + self._timeframe_ns,
            open=_steps_text(open_ticks, spec.tick_size),
            high=_steps_text(high_ticks, spec.tick_size),
            low=_steps_text(low_ticks, spec.tick_size),
            close=_steps_text(close_ticks, spec.tick_size),
            volume=_steps_text(_nearest(block.volumes[row] / float(spec.lot_size)), spec.lot_size),
        )
        closes = (*state.close_ticks[:number], close_ticks, *state.close_ticks[number + 1 :])
        return bar, SyntheticState(state.position + 1, closes)

    def regime_at(self, instrument: InstrumentId, index: int) -> Regime:
        """The true regime of bar ``index`` of an instrument, for tests of models that must find it."""
        number = [spec.instrument for spec in self._specs].index(instrument)
        return REGIMES[self._block(number, index // BLOCK_BARS).regimes[index % BLOCK_BARS]]

    def _index_of(self, bar: BarClosed) -> int:
        index, rest = divmod(bar.open_ns - self._start_ns, self._timeframe_ns)
        if rest or index < 0 or bar.timeframe != self._timeframe:
            raise ValueError(
                f"bar of {bar.instrument} ({bar.timeframe}) at {bar.open_ns} ns is not of this market:"
                f" {self._timeframe} bars from {self._start_ns} ns on"
            )
        return index

    def _bars_made(self, position: int, number: int) -> int:
        return (position - number + len(self._specs) - 1) // len(self._specs)

    def _block(self, number: int, block: int) -> _Block:
        kept = self._blocks.get(number)
        if kept is None or kept[0] != block:
            kept = (block, self._make_block(number, block))
            self._blocks[number] = kept
        return kept[1]

    def _make_block(self, number: int, block: int) -> _Block:
        spec, sigma = self._specs[number], self._sigma[number]
        regimes = _regime_path(self._uniforms(spec.instrument, "regime", block, 1)[:, 0])
        drift, volatility = np.array(DRIFT)[regimes] * sigma, np.array(VOLATILITY)[regimes] * sigma
        if spec.break_volatility != 1.0:
            bars = BLOCK_BARS * block + np.arange(BLOCK_BARS)
            volatility = volatility * np.where(bars >= spec.break_bar, spec.break_volatility, 1.0)
        market = _student_shocks(self._uniforms("", "market", block, 2 * POLAR_TRIES))
        own = _student_shocks(self._uniforms(spec.instrument, "own", block, 2 * POLAR_TRIES))
        shock = spec.beta * market + math.sqrt(1.0 - spec.beta * spec.beta) * own
        shape = self._uniforms(spec.instrument, "shape", block, 16)
        # Wicks: |sum of two uniforms - 1| is triangular; 0.6 volatility at most beyond the body.
        upper, lower = (0.6 * volatility * np.abs(shape[:, at] + shape[:, at + 1] - 1.0) for at in (0, 2))
        # Irwin-Hall: four uniforms are near enough a normal for a volume's logarithm (variance 4/12 = 1/3).
        normal = (shape[:, 4] + shape[:, 5] + shape[:, 6] + shape[:, 7] - 2.0) * math.sqrt(3.0)
        busy = np.minimum(np.abs(shock), 4.0) * volatility / sigma
        volumes = spec.usual_volume * _exponential(0.5 * normal + 0.5 * busy - 0.5)
        opening = 0.05 * volatility * (shape[:, 8] + shape[:, 9] - 1.0)
        returns = np.maximum(drift + volatility * shock, -0.5)
        columns = (returns, opening, upper, lower, volumes)
        return _Block(regimes.tolist(), *(column.tolist() for column in columns))

    def _uniforms(self, name: str, purpose: str, block: int, per_bar: int) -> Floats:
        """Uniforms in [0, 1) of one block, shape (BLOCK_BARS, per_bar): a function of its arguments and the seed."""
        text = "\0".join((str(self._seed), self._timeframe, name, purpose))
        key = np.frombuffer(hashlib.sha256(text.encode()).digest()[:16], dtype="<u8")
        # Word 1 of the 256-bit counter holds the block, so each block has 2**64 draws of its own.
        raw = np.random.Philox(key=key, counter=[0, block, 0, 0]).random_raw(BLOCK_BARS * per_bar)
        uniforms: Floats = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return uniforms.reshape(BLOCK_BARS, per_bar)


def bars_from(market: SyntheticMarket, state: SyntheticState, count: int) -> Iterator[BarClosed]:
    """The next ``count`` bars after ``state``."""
    for _ in range(count):
        bar, state = market.next_bar(state)
        yield bar


def _regime_path(uniforms: Floats) -> Ints:
    """One block of the chain. The stationary distribution of the symmetric chain is uniform, and begins each block."""
    path = np.empty(len(uniforms), dtype=np.int64)
    regime = min(int(uniforms[0] * 3), 2)
    path[0] = regime
    for row, uniform in enumerate(uniforms[1:].tolist(), start=1):
        if uniform >= STAY:
            regime = (regime + (1 if uniform < STAY + (1.0 - STAY) / 2 else 2)) % 3
        path[row] = regime
    return path


def _student_shocks(uniforms: Floats) -> Floats:
    """Student-t, 4 degrees of freedom, variance 1, cut at LARGEST_SHOCK; shape (n, 2 * POLAR_TRIES) -> (n,).

    Bailey: with (u, v) uniform in the unit disc and w = u^2 + v^2, u * sqrt(nu * (w^(-2/nu) - 1) / w) is t(nu);
    for nu = 4 the power is a square root. Its variance is nu / (nu - 2) = 2.
    """
    pairs = 2.0 * uniforms - 1.0
    u, v = pairs[:, :POLAR_TRIES], pairs[:, POLAR_TRIES:]
    w = u * u + v * v
    inside = (w <= 1.0) & (w > 0.0)
    rows = np.arange(len(w))
    first = np.argmax(inside, axis=1)
    found = inside[rows, first]
    u, w = u[rows, first], np.where(found, w[rows, first], 1.0)
    shocks = u * np.sqrt(4.0 * (1.0 / np.sqrt(w) - 1.0) / w) / math.sqrt(2.0)
    cut: Floats = np.clip(np.where(found, shocks, 0.0), -LARGEST_SHOCK, LARGEST_SHOCK)
    return cut


def _exponential(powers: Floats) -> Floats:
    """(1 + x/1024)^1024 by squaring: within 1 % of exp for |x| < 4, and the same bits on every machine."""
    result = 1.0 + powers / 1024.0
    for _ in range(10):
        result = result * result
    return result


def _nearest(number: float) -> int:
    return int(number + 0.5)


def _steps_text(steps: int, step: Decimal) -> DecimalText:
    return DecimalText(format(steps * step, "f"))
