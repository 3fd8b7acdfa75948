"""Trades of one instrument: what one is, and whether it is fit to build bars from. Pure; its verdicts become facts.

A trade is judged by itself (numbers, side) and then against those before it (repeated, revised, older). A refused trade
changes nothing, so one bad trade cannot hide the good one that follows. Several trades of one time are normal: their
order is the exchange's. Nothing is repaired or reordered.
"""

from __future__ import annotations

from collections import OrderedDict
from decimal import Decimal

import msgspec

from tapeline_common.values import DataFault, Side
from tapeline_marketdata.bars import PLAIN_DECIMAL
from tapeline_marketdata.checks import Rejected, not_a_number

SIDES = {
    "buy": Side.BUY,
    "b": Side.BUY,
    "bid": Side.BUY,
    "sell": Side.SELL,
    "s": Side.SELL,
    "ask": Side.SELL,
    "offer": Side.SELL,
}
"""What exchanges call the taker's side, in lower case."""

REMEMBERED_IDS = 65_536
"""Trades whose ids are remembered: exchanges repeat what they sent seconds ago (after a reconnect), not hours."""


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade: time in UTC ns, price and size as printed, the taker's side, the exchange's id ("" if it has none)."""

    time_ns: int
    price: Decimal
    size: Decimal
    side: Side | None = None
    id: str = ""


class TradeChecker:
    """Judges the trades of one instrument, in the order in which they come.

    >>> checker = TradeChecker()
    >>> verdict = checker.check(1_700_000_000_000_000_000, "100.5", "0.25", "buy", "17")
    """

    __slots__ = ("_last_ns", "_seen", "_sided")

    def __init__(self, sided: bool = True) -> None:
        """sided: whether the source says sides; if it does, a trade without one is refused."""
        self._sided = sided
        self._last_ns = 0
        self._seen: OrderedDict[str, Trade] = OrderedDict()

    def check(self, time_ns: int, price: str, size: str, side: str = "", trade_id: str = "") -> Trade | Rejected:
        """The trade, or why it is none; only an accepted trade is remembered."""
        found = self._parsed(time_ns, price, size, side, trade_id)
        if isinstance(found, Rejected):
            return found
        if trade_id:
            before = self._seen.get(trade_id)
            if before is not None:
                return _repeated(found, before)
        if time_ns < self._last_ns:
            return Rejected(DataFault.OUT_OF_ORDER, f"trade at {time_ns} ns, after the last one at {self._last_ns} ns")
        self._last_ns = time_ns
        if trade_id:
            self._seen[trade_id] = found
            if len(self._seen) > REMEMBERED_IDS:
                self._seen.popitem(last=False)
        return found

    def _parsed(self, time_ns: int, price: str, size: str, side: str, trade_id: str) -> Trade | Rejected:
        if not PLAIN_DECIMAL.fullmatch(price):
            return not_a_number("price", price)
        if not PLAIN_DECIMAL.fullmatch(size):
            return not_a_number("size", size)
        found = Trade(time_ns, Decimal(price), Decimal(size), SIDES.get(side.lower()) if side else None, trade_id)
        if found.price <= 0:
            return Rejected(DataFault.NON_POSITIVE_PRICE, f"price is {price}: a price is above 0")
        if found.size <= 0:
            return Rejected(DataFault.NON_POSITIVE_SIZE, f"size is {size}: a trade has a size above 0")
        if self._sided and found.side is None:
            return Rejected(DataFault.SIDE_MISSING, f"side is {side[:20]!r}: write buy or sell, the taker's side")
        return found


def _repeated(now: Trade, before: Trade) -> Rejected:
    if now == before:
        return Rejected(DataFault.DUPLICATE, f"trade {now.id} came again unchanged")
    changes = [
        f"{name} {getattr(before, name)} became {getattr(now, name)}"
        for name in ("time_ns", "price", "size", "side")
        if getattr(before, name) != getattr(now, name)
    ]
    return Rejected(DataFault.REVISED, f"trade {now.id} came again changed: {', '.join(changes)}")
