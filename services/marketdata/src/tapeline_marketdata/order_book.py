"""An L2 order book: snapshots and diffs in, the sorted levels and the best bid and offer out, exact to the last digit.

A book that may be wrong is never shown. What cannot be trusted (a gap in the sequence, a crossed book, a level that is
no level, a checksum that differs) empties the book, is answered with a closed reason, and the next snapshot resumes it.
Diffs that come while a snapshot is awaited are held and applied behind it, so that nothing between the two is lost.

Prices and sizes come as decimal text and stay ``Decimal`` as printed. Sizes are absolute: what rests at the price now,
0 for nothing. This module connects to nothing and knows no exchange but for the checksum it is given.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from itertools import islice
from typing import TypeAlias

import msgspec

from tapeline_common.money import ZERO

Level: TypeAlias = tuple[Decimal, Decimal]
"""Price and the size resting there."""

TextLevel: TypeAlias = tuple[str, str] | Sequence[str]
"""Price and size as the exchange printed them."""

Checksum: TypeAlias = Callable[[Sequence[Level], Sequence[Level]], int]
"""The exchange's checksum of a book: of its bids and its asks, each from the best on."""

MOST_HELD = 10_000
"""Most diffs held while a snapshot is awaited: minutes of a busy stream. The oldest are dropped beyond it, which the
sequence then shows as a gap."""

TOO_LARGE = Decimal(10) ** 30
"""No price or size reaches this; also what makes infinity no number."""


class BookFault(StrEnum):
    """Why a message did not make a book that can be trusted."""

    UPDATE_BEFORE_SNAPSHOT = "UPDATE_BEFORE_SNAPSHOT"
    SEQUENCE_GAP = "SEQUENCE_GAP"
    CROSSED = "CROSSED"
    NEGATIVE_SIZE = "NEGATIVE_SIZE"
    NON_POSITIVE_PRICE = "NON_POSITIVE_PRICE"
    NOT_A_NUMBER = "NOT_A_NUMBER"
    CHECKSUM_MISMATCH = "CHECKSUM_MISMATCH"


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """The whole book (or its first levels) as of ``sequence``; None where the exchange numbers nothing."""

    bids: Sequence[TextLevel]
    asks: Sequence[TextLevel]
    sequence: int | None = None
    checksum: int | None = None


class Diff(msgspec.Struct, frozen=True, gc=False):
    """Levels that changed after sequence ``after`` up to and with ``sequence``.

    How exchanges say ``after``: Binance futures ``pu``, Binance spot ``U - 1``, Deribit ``prev_change_id``, exchanges
    that count every message the number before. Kraken's spot books have no sequence: both None.
    """

    bids: Sequence[TextLevel]
    asks: Sequence[TextLevel]
    after: int | None = None
    sequence: int | None = None
    checksum: int | None = None


class Applied(msgspec.Struct, frozen=True, tag=True):
    """The book is the exchange's as of its ``sequence``. ``diffs``: how many made it so, held ones included."""

    diffs: int


class Old(msgspec.Struct, frozen=True, tag=True):
    """The book is already past this diff, which changes nothing."""


class Held(msgspec.Struct, frozen=True, tag=True):
    """There is no book yet; the diff is kept for the snapshot to come, with ``waiting`` in all."""

    waiting: int

    @property
    def fault(self) -> BookFault:
        return BookFault.UPDATE_BEFORE_SNAPSHOT


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The book could not be trusted and is empty until the next snapshot; ``detail`` names the values."""

    fault: BookFault
    detail: str


Outcome: TypeAlias = Applied | Old | Held | Refused

OLD = Old()
ONE_APPLIED = Applied(1)


class BookSide:
    """The levels of one side: a size for every price, and the prices in ascending order."""

    __slots__ = ("prices", "sizes")

    def __init__(self) -> None:
        self.prices: list[Decimal] = []
        self.sizes: dict[Decimal, Decimal] = {}

    def clear(self) -> None:
        self.prices.clear()
        self.sizes.clear()

    def put(self, levels: Iterable[TextLevel]) -> Refused | None:
        """Set the levels, in their order; the first that is none ends it with the reason."""
        sizes, prices = self.sizes, self.prices
        for level in levels:
            try:
                price, size = Decimal(level[0]), Decimal(level[1])
                if not (ZERO < price < TOO_LARGE and ZERO <= size < TOO_LARGE):
                    return _no_level(price, size)
            except InvalidOperation:
                return Refused(BookFault.NOT_A_NUMBER, f"{level[0]!r}, {level[1]!r}: not a price and a size"[:200])
            if size:
                if price not in sizes:
                    insort(prices, price)
                sizes[price] = size
            elif sizes.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]
        return None

    def cut(self, prices: Sequence[Decimal]) -> None:
        """Forget these prices, which lie together at one end."""
        for price in prices:
            del self.sizes[price]


def _no_level(price: Decimal, size: Decimal) -> Refused:
    if price <= 0:
        return Refused(BookFault.NON_POSITIVE_PRICE, f"price {price}, size {size}: a price is above 0")
    if size < 0:
        return Refused(BookFault.NEGATIVE_SIZE, f"price {price}, size {size}: a size is 0 or more")
    return Refused(BookFault.NOT_A_NUMBER, f"price {price}, size {size}: no market has such numbers")


class OrderBook:
    """One instrument's book.

    >>> book = OrderBook()
    >>> book.take(Snapshot(bids=[("99.5", "2")], asks=[("100.0", "1")], sequence=7))
    Applied(diffs=0)
    >>> book.take(Diff(bids=[("99.6", "3")], asks=[], after=7, sequence=8)), book.best_bid
    (Applied(diffs=1), (Decimal('99.6'), Decimal('3')))

    ``sequence`` is that of the last message applied; None while a snapshot is awaited, or if the exchange has none.
    """

    def __init__(self, depth: int | None = None, checksum: Checksum | None = None, held: int = MOST_HELD) -> None:
        """Describe the stream.

        depth: levels of a stream that keeps only so many on each side and does not say which ones fall out (Kraken).
        checksum: of the exchange; compared wherever a message carries one.
        """
        self.bids = BookSide()
        self.asks = BookSide()
        self.sequence: int | None = None
        self.ready = False
        self._depth = depth
        self._checksum = checksum
        self._held: deque[Diff] = deque(maxlen=held)

    @property
    def best_bid(self) -> Level | None:
        prices = self.bids.prices
        return (prices[-1], self.bids.sizes[prices[-1]]) if prices else None

    @property
    def best_ask(self) -> Level | None:
        prices = self.asks.prices
        return (prices[0], self.asks.sizes[prices[0]]) if prices else None

    def bid_levels(self, depth: int | None = None) -> list[Level]:
        """The first ``depth`` bids, the highest price first; all of them without ``depth``."""
        sizes = self.bids.sizes
        return [(price, sizes[price]) for price in islice(reversed(self.bids.prices), depth)]

    def ask_levels(self, depth: int | None = None) -> list[Level]:
        """The first ``depth`` asks, the lowest price first; all of them without ``depth``."""
        sizes = self.asks.sizes
        return [(price, sizes[price]) for price in islice(self.asks.prices, depth)]

    def take(self, message: Snapshot | Diff) -> Outcome:
        """Apply one message. Never raises for what an exchange may send."""
        if isinstance(message, Snapshot):
            return self._restart(message)
        if not self.ready:
            self._held.append(message)
            return Held(len(self._held))
        return self._follow(message)

    def _follow(self, diff: Diff) -> Outcome:
        """A diff on a book that is ready.

        Sizes are absolute, so a diff that begins before the book's sequence and ends after it leads to the right book.
        That is how the first diff behind a snapshot usually lies.
        """
        at, after, sequence = self.sequence, diff.after, diff.sequence
        if at is not None and sequence is not None and after is not None:
            if sequence <= at:
                return OLD
            if after > at:
                self._held.appendleft(diff)
                return self._refuse(Refused(BookFault.SEQUENCE_GAP, f"the book is at {at}, the diff begins at {after}"))
        fault = self.bids.put(diff.bids) or self.asks.put(diff.asks) or self._fault(diff.checksum)
        if fault is not None:
            return self._refuse(fault)
        self.sequence = sequence
        return ONE_APPLIED

    def _restart(self, snapshot: Snapshot) -> Outcome:
        """Begin anew from a snapshot, then apply what was held for it."""
        self.bids.clear()
        self.asks.clear()
        fault = self.bids.put(snapshot.bids) or self.asks.put(snapshot.asks) or self._fault(snapshot.checksum)
        if fault is not None:
            return self._refuse(fault)
        self.sequence, self.ready = snapshot.sequence, True
        if snapshot.sequence is None:
            self._held.clear()  # without numbers nothing tells which of them the snapshot contains already
        applied = 0
        while self._held:
            outcome = self._follow(self._held.popleft())
            if isinstance(outcome, Refused):
                return outcome
            applied += outcome is ONE_APPLIED
        return Applied(applied)

    def _fault(self, checksum: int | None) -> Refused | None:
        """What is wrong with the book after a message, or None."""
        bids, asks = self.bids.prices, self.asks.prices
        if self._depth is not None:
            self.bids.cut(bids[: -self._depth])
            del bids[: -self._depth]
            self.asks.cut(asks[self._depth :])
            del asks[self._depth :]
        if bids and asks and bids[-1] >= asks[0]:
            return Refused(BookFault.CROSSED, f"best bid {bids[-1]} is not below best ask {asks[0]}")
        if checksum is None or self._checksum is None:
            return None
        found = self._checksum(self.bid_levels(), self.ask_levels())
        if found != checksum:
            return Refused(BookFault.CHECKSUM_MISMATCH, f"the book's checksum is {found}, the exchange's {checksum}")
        return None

    def _refuse(self, refused: Refused) -> Refused:
        self.bids.clear()
        self.asks.clear()
        self.sequence, self.ready = None, False
        return refused


KRAKEN_LEVELS = 10
"""Kraken's checksum covers so many levels of each side, however deep the book is."""


def kraken_checksum(price_decimals: int, size_decimals: int) -> Checksum:
    """The checksum of Kraken's spot books (WebSocket v1 and v2), for a pair's number of decimals.

    CRC-32 of the ten best asks, then the ten best bids, each level as price and size printed with the pair's decimals
    and written without point and leading zeros. Source: Kraken's guide "Book checksum".
    """

    def printed(value: Decimal, decimals: int) -> str:
        return f"{value:.{decimals}f}".replace(".", "").lstrip("0")

    def checksum(bids: Sequence[Level], asks: Sequence[Level]) -> int:
        levels = (*asks[:KRAKEN_LEVELS], *bids[:KRAKEN_LEVELS])
        text = "".join(printed(price, price_decimals) + printed(size, size_decimals) for price, size in levels)
        return zlib.crc32(text.encode())

    return checksum
