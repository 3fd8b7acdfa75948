"""Orders on their way: at which price an order arrives in a bar that had begun before it.

A bar does not tell the price at a moment inside it. The rule is adverse and never falls with more latency, so that no
result can be bought by being slower:

* an order meets the first bar that ends after its arrival; bars that end before have been missed;
* in that bar it arrives at ``open + (adverse extreme − open) · (share of the bar that has passed)``, share rounded up
  to twelve digits and the price rounded likewise, or at the worst price of the bars it missed if that is worse;
* this price stands for the open: market orders take it, a limit is marketable if it lies beyond, a stop goes off no
  better than there;
* a limit order that was not marketable on arrival is filled in that bar only if the close is beyond its limit: the
  close is the one price known to be later than the arrival.

An order that arrives exactly when a bar opens takes its open. Cancels are taken at once: what a halt stops is stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from tapeline_common.events import BarClosed
from tapeline_common.values import Side
from tapeline_execution.costs import adverse_price, quotient_up
from tapeline_execution.matching import Prices

NS_PER_MS = 1_000_000


@dataclass(slots=True)
class Journey:
    """An order's way to the venue: when it arrives, and the extremes of the bars that ended before."""

    arrives_ns: int
    low: Decimal | None = None
    high: Decimal | None = None

    def miss(self, bar: BarClosed) -> None:
        """A bar ended while the order was on its way."""
        low, high = Decimal(bar.low), Decimal(bar.high)
        self.low = low if self.low is None else min(low, self.low)
        self.high = high if self.high is None else max(high, self.high)

    def is_late(self, bar: BarClosed) -> bool:
        """Whether the order missed the open of this bar."""
        return self.arrives_ns > bar.open_ns or self.low is not None


def arrival_price(journey: Journey, side: Side, prices: Prices, bar: BarClosed) -> Decimal:
    """The price in place of the open for an order that arrives in this bar."""
    extreme, missed = (prices.high, journey.high) if side is Side.BUY else (prices.low, journey.low)
    price = prices.open
    passed_ns = journey.arrives_ns - bar.open_ns
    if passed_ns > 0:
        share = min(Decimal(1), quotient_up(Decimal(passed_ns), Decimal(bar.close_ns - bar.open_ns)))
        pick = min if side is Side.BUY else max
        price = pick(extreme, adverse_price(price + (extreme - price) * share, side, None))
    if missed is None:
        return price
    return max(price, missed) if side is Side.BUY else min(price, missed)
