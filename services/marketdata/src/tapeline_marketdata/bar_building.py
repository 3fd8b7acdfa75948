"""Bars from trades: time, tick, volume, value, imbalance and renko bars, one trade at a time and exact.

``push`` a trade and take the bars that it closed. Every trade is in exactly one bar: a bar is never divided, so a
volume or value bar holds at least its measure. A bar that no trade has closed is never said: at the end of a file the
last trades are left over, and a time bar closes with the first trade behind its interval.

Trades must be in order (``trades`` sees to that). Bars that are not cut by time get times that always rise: a bar
opens at its first trade and closes at its last one, but never before the bar before it, nor in the nanosecond in which
it opened. So a close is never earlier than a trade it is made of, and later by a nanosecond for each bar closed at the
same time.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from decimal import Decimal

from tapeline_common.events import BarClosed
from tapeline_common.money import ZERO
from tapeline_common.values import DecimalText, InstrumentId
from tapeline_marketdata.bar_rules import BarRule, RuleKind, UnknownRule
from tapeline_marketdata.timeframe import floor_to_grid
from tapeline_marketdata.trades import Trade

MOST_AT_ONCE = 100_000
"""Bars that one trade may close: a longer silence stays a gap, and a smaller brick is a mistake."""

ONE = Decimal(1)


class Forming:
    """The bar that is being formed."""

    __slots__ = ("close", "first_ns", "high", "last_ns", "low", "open", "trades", "volume")

    def __init__(self, trade: Trade) -> None:
        self.open = self.high = self.low = self.close = trade.price
        self.volume = trade.size
        self.first_ns = self.last_ns = trade.time_ns
        self.trades = 1

    def add(self, trade: Trade) -> None:
        price = trade.price
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.close = price
        self.volume += trade.size
        self.last_ns = trade.time_ns
        self.trades += 1


class BarBuilder(ABC):
    """Builds the bars of one instrument by one rule.

    >>> builder = bar_builder(parse_rule("tick:500"), instrument)
    >>> for trade in trades:
    ...     closed = builder.push(trade)
    """

    def __init__(self, rule: BarRule, instrument: InstrumentId) -> None:
        self._instrument = instrument
        self._timeframe = rule.timeframe
        self._forming: Forming | None = None
        self._close_ns = 0

    @property
    def left_over(self) -> int:
        """Trades in the bar that is not closed."""
        return 0 if self._forming is None else self._forming.trades

    @abstractmethod
    def push(self, trade: Trade) -> Sequence[BarClosed]:
        """Add one trade; the bars that it closed, in order. Its time must not lie before the last one's."""

    def _gather(self, trade: Trade) -> Forming:
        forming = self._forming
        if forming is None:
            forming = self._forming = Forming(trade)
        else:
            forming.add(trade)
        return forming

    def _bar(self, open_ns: int, close_ns: int, prices: Sequence[Decimal], volume: Decimal) -> BarClosed:
        self._close_ns = close_ns
        start, high, low, end, traded = (DecimalText(f"{value:f}") for value in (*prices, volume))
        return BarClosed(self._instrument, self._timeframe, open_ns, close_ns, start, high, low, end, traded)

    def _close(self, forming: Forming) -> BarClosed:
        """The formed bar, closed by its last trade."""
        self._forming = None
        prices = (forming.open, forming.high, forming.low, forming.close)
        return self._bar(*self._times(forming.first_ns, forming.last_ns), prices, forming.volume)

    def _times(self, first_ns: int, last_ns: int) -> tuple[int, int]:
        open_ns = max(first_ns, self._close_ns)
        return open_ns, max(last_ns, open_ns + 1)


class TimeBars(BarBuilder):
    """Bars of fixed length on the UTC grid (weeks from Monday). Intervals without trades are missing, or carried.

    A carried bar has the last close as its four prices and no volume. The first bar is what was recorded of its
    interval, which may have begun before the recording.
    """

    def __init__(self, rule: BarRule, instrument: InstrumentId) -> None:
        super().__init__(rule, instrument)
        self._length_ns = rule.length_ns
        self._carry = rule.carry
        self._end_ns = 0

    def push(self, trade: Trade) -> Sequence[BarClosed]:
        forming = self._forming
        if forming is not None and trade.time_ns < self._end_ns:
            forming.add(trade)
            return ()
        closed = [] if forming is None else self._ended(forming, trade.time_ns)
        self._forming = Forming(trade)
        self._end_ns = floor_to_grid(trade.time_ns, self._length_ns) + self._length_ns
        return closed

    def _ended(self, forming: Forming, now_ns: int) -> list[BarClosed]:
        length_ns, end_ns = self._length_ns, self._end_ns
        prices = (forming.open, forming.high, forming.low, forming.close)
        bars = [self._bar(end_ns - length_ns, end_ns, prices, forming.volume)]
        empty = (now_ns - end_ns) // length_ns
        if self._carry and empty <= MOST_AT_ONCE:
            still = (forming.close,) * 4
            for index in range(empty):
                open_ns = end_ns + index * length_ns
                bars.append(self._bar(open_ns, open_ns + length_ns, still, ZERO))
        return bars


class MeasureBars(BarBuilder):
    """Tick, volume and value bars: a bar ends with the trade that brings its measure to the amount.

    Lopez de Prado, Advances in Financial Machine Learning (2018), 2.3.1.
    """

    def __init__(self, rule: BarRule, instrument: InstrumentId, measure: Callable[[Trade], Decimal]) -> None:
        super().__init__(rule, instrument)
        self._amount = rule.amount
        self._measure = measure
        self._measured = ZERO

    def push(self, trade: Trade) -> Sequence[BarClosed]:
        forming = self._gather(trade)
        self._measured += self._measure(trade)
        if self._measured < self._amount:
            return ()
        self._measured = ZERO
        return (self._close(forming),)


def count(trade: Trade) -> Decimal:
    return ONE


def size(trade: Trade) -> Decimal:
    return trade.size


def notional(trade: Trade) -> Decimal:
    return trade.price * trade.size


class ImbalanceBars(BarBuilder):
    """Tick imbalance bars: a bar ends when the signs of its trades outweigh each other more than was to be expected.

    Lopez de Prado, Advances in Financial Machine Learning (2018), 2.3.2.1. With b_t the sign of the price's last
    change (the tick rule, so no side is needed) and θ_T = b_1 + ... + b_T, a bar ends at the first T with
    |θ_T| >= E[T] · |E[b]|. E[T] is the exponentially weighted mean of the bars' trades over ``span`` bars, beginning
    with ``amount``; E[b] that of the signs over ``span · amount`` trades. Both are taken when a bar begins. The first
    bar has ``amount`` trades, because nothing is expected yet.

    By that rule alone a market without direction (E[b] = 0) makes every trade a bar, and E[T] follows it down for good.
    So no imbalance counts that chance explains: |E[b]| is at least σ/√E[T], where σ√T is how far the sum of T signs
    strays. Signs repeat with correlation ρ (the weighted mean of b_t · b_t-1), hence σ² = (1 + ρ) / (1 - ρ), the
    variance of a first-order autoregression's sum. And E[T] stays within ``BOUND`` of ``amount``.
    """

    BOUND = 2.0
    MOST_REPEATED = 0.99

    def __init__(self, rule: BarRule, instrument: InstrumentId) -> None:
        super().__init__(rule, instrument)
        self._first = float(rule.amount)
        self._length = self._first
        self._length_weight = 2.0 / (rule.span + 1.0)
        self._sign_decay = 1.0 - 2.0 / (rule.span * self._first + 1.0)
        self._signs = self._repeats = self._weights = 0.0
        self._sign = self._theta = 0
        self._price: Decimal | None = None
        self._threshold: float | None = None

    def push(self, trade: Trade) -> Sequence[BarClosed]:
        before = self._sign
        if self._price is not None and trade.price != self._price:
            self._sign = 1 if trade.price > self._price else -1
        self._price = trade.price
        self._theta += self._sign
        self._signs = self._signs * self._sign_decay + self._sign
        self._repeats = self._repeats * self._sign_decay + self._sign * before
        self._weights = self._weights * self._sign_decay + 1.0
        forming = self._gather(trade)
        if not self._is_full(forming.trades):
            return ()
        self._expect(forming.trades)
        return (self._close(forming),)

    def _is_full(self, trades: int) -> bool:
        return trades >= self._first if self._threshold is None else abs(self._theta) >= self._threshold

    def _expect(self, trades: int) -> None:
        """What the next bar is measured against, now that one of so many trades is full."""
        length = self._length + self._length_weight * (trades - self._length)
        self._length = min(max(length, self._first / self.BOUND), self._first * self.BOUND)
        repeated = min(max(self._repeats / self._weights, 0.0), self.MOST_REPEATED)
        chance = math.sqrt((1.0 + repeated) / (1.0 - repeated) / self._length)
        self._threshold = self._length * min(max(abs(self._signs / self._weights), chance), 1.0)
        self._theta = 0


class RenkoBars(BarBuilder):
    """Bricks of one size on a grid of whole multiples of it; time does not matter.

    A brick up closes when the price reaches a brick above the top of the last one, a brick down a brick below its
    bottom; so a turn takes two. A trade that moves the price by several bricks closes them all, at times a nanosecond
    apart. The first of them holds the trades since the last brick, the last one the trade that closed them; those
    between hold none and have no volume. Open and close lie on the grid, high and low bound the trades as well.

    A brick's close is a level that the price passed, not a price that was traded: orders of a simulation that fill at
    the next brick's open fill at a better price than the market gave whenever it jumped.
    """

    def __init__(self, rule: BarRule, instrument: InstrumentId) -> None:
        super().__init__(rule, instrument)
        self._brick = rule.amount
        self._top: Decimal | None = None
        self._bottom = ZERO

    def push(self, trade: Trade) -> Sequence[BarClosed]:
        brick, price = self._brick, trade.price
        if self._top is None:
            self._top = self._bottom = price // brick * brick
        above, below = (price - self._top) // brick, (self._bottom - price) // brick
        if above < 1 and below < 1:
            self._gather(trade)
            return ()
        bricks, start, step = (int(above), self._top, brick) if above >= 1 else (int(below), self._bottom, -brick)
        if bricks > MOST_AT_ONCE:
            raise UnknownRule(f"renko:{brick}: the trade at {price} is {bricks} bricks away: write a larger brick")
        bars = []
        for index in range(bricks):
            bars.append(self._brick_of(start + index * step, step, trade, last=index == bricks - 1))
        end = start + bricks * step
        self._top, self._bottom = max(end, end - step), min(end, end - step)
        return bars

    def _brick_of(self, start: Decimal, step: Decimal, trade: Trade, *, last: bool) -> BarClosed:
        forming, self._forming = self._forming, None
        prices, volume, first_ns = [start, start + step], ZERO, trade.time_ns
        if forming is not None:
            prices += (forming.high, forming.low)
            volume, first_ns = forming.volume, forming.first_ns
        if last:
            prices.append(trade.price)
            volume += trade.size
        times = self._times(first_ns, trade.time_ns)
        return self._bar(*times, (start, max(prices), min(prices), start + step), volume)


def bar_builder(rule: BarRule, instrument: InstrumentId) -> BarBuilder:
    """The builder of a rule's bars."""
    match rule.kind:
        case RuleKind.TIME:
            return TimeBars(rule, instrument)
        case RuleKind.TICK:
            return MeasureBars(rule, instrument, count)
        case RuleKind.VOLUME:
            return MeasureBars(rule, instrument, size)
        case RuleKind.VALUE:
            return MeasureBars(rule, instrument, notional)
        case RuleKind.IMBALANCE:
            return ImbalanceBars(rule, instrument)
        case RuleKind.RENKO:
            return RenkoBars(rule, instrument)
