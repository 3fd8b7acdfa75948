"""Where a limit order would stand in the queue of its price level, told from an L2 book and the trades beside it.

L2 data say how much rests at a price, not whose it is. What is certain: an order joins behind all that rests there;
trades at its price take from the front; a trade beyond its price, or the other side's best reaching it, means that
everything before it is gone. What is not: whether a level shrank because somebody before us left, or behind us
(``Cancels`` says what is assumed). The order itself is imagined, so nothing recorded reacts to it.

Trades must be heard before the book that they changed (by the exchange's time, trades first), or they count twice.
Price-time priority only; hidden and iceberg orders are not seen, which makes fills a little too early.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

from tapeline_common.money import ZERO, ratio
from tapeline_common.values import Side
from tapeline_marketdata.order_book import OrderBook
from tapeline_marketdata.trades import Trade


class Cancels(StrEnum):
    """Where in the queue orders are assumed to leave it.

    BEHIND: behind us, as long as there is anybody: the worst case.
    EVENLY: everywhere alike, in proportion to what stands before and behind us.
    """

    BEHIND = "BEHIND"
    EVENLY = "EVENLY"


class QueuePosition:
    """One imagined order that rests at a price of a book.

    >>> order = QueuePosition(Side.BUY, Decimal("99.5"), Decimal("2"), book)
    >>> filled = order.on_trade(trade) + order.on_book(book)

    ``ahead``: what rests before it. ``remaining``: what of it is not filled.
    """

    __slots__ = ("_cancels", "_level", "_traded", "ahead", "price", "remaining", "side")

    def __init__(
        self, side: Side, price: Decimal, size: Decimal, book: OrderBook, cancels: Cancels = Cancels.BEHIND
    ) -> None:
        """Join the queue at ``price``, which must not reach the other side's best: such an order would not rest."""
        self.side = side
        self.price = price
        self.remaining = size
        self._cancels = cancels
        self._level = self.ahead = self._resting(book)
        self._traded = ZERO
        assert not self._is_reached(book), "an order that takes does not stand in a queue"

    def on_trade(self, trade: Trade) -> Decimal:
        """What a trade fills of the order.

        Takers of our own side take from the other side of the book, so theirs does not count; one of no side does.
        """
        if trade.side is self.side or not self.remaining:
            return ZERO
        beyond = (self.price - trade.price) * self.side.sign
        if beyond > 0:
            return self._fill(self.remaining)
        if beyond < 0:
            return ZERO
        self._traded += trade.size
        self.ahead -= trade.size
        reached, self.ahead = max(-self.ahead, ZERO), max(self.ahead, ZERO)
        return self._fill(min(reached, self.remaining))

    def on_book(self, book: OrderBook) -> Decimal:
        """What the book after a message fills of the order, which moves up if its level says so.

        A book that is not ready says nothing, and the order stays where it was.
        """
        if not book.ready or not self.remaining:
            return ZERO
        if self._is_reached(book):
            return self._fill(self.remaining)
        level = self._resting(book)
        if self._cancels is Cancels.EVENLY:
            self._leave_evenly(level)
        self.ahead = min(self.ahead, level)
        self._level, self._traded = level, ZERO
        return ZERO

    def _leave_evenly(self, level: Decimal) -> None:
        """Of what left without a trade, the part that was before us."""
        stood = self._level - self._traded
        left = stood - level
        if left > 0:
            self.ahead -= ratio(self.ahead * left, stood)

    def _fill(self, size: Decimal) -> Decimal:
        self.remaining -= size
        return size

    def _resting(self, book: OrderBook) -> Decimal:
        levels = book.bids if self.side is Side.BUY else book.asks
        return levels.sizes.get(self.price, ZERO)

    def _is_reached(self, book: OrderBook) -> bool:
        other = book.best_ask if self.side is Side.BUY else book.best_bid
        return other is not None and (self.price - other[0]) * self.side.sign >= 0
