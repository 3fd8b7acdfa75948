"""An account folded from a tape's outside facts and fills alone, to hold what the services say of it against.

Written from what money is, with no look at the ledger's or risk's arithmetic: cash, positions, last prices. It is as
exact as they are (``Decimal``), and it keeps nothing of orders but what is still open of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    BorrowPosted,
    Event,
    FundingPosted,
    OrderApproved,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderTerms,
    OrderWithheld,
    RunStarted,
)
from tapeline_common.values import InstrumentId, OrderId, Side, StrategyId

ZERO = Decimal(0)


@dataclass(slots=True)
class Account:
    """Attributes:
    cash: in account currency; fees in other currencies are not in it, and are told by ``has_other_fees``.
    open: what is not yet filled of approved orders, with their terms.
    """

    currency: str = ""
    cash: Decimal = ZERO
    prices: dict[InstrumentId, Decimal] = field(default_factory=dict)
    held: dict[tuple[StrategyId, InstrumentId], Decimal] = field(default_factory=dict)
    open: dict[OrderId, tuple[OrderTerms, Decimal]] = field(default_factory=dict)
    has_other_fees: bool = False

    def take(self, event: Event) -> None:
        """Learn from the next fact of the tape."""
        if isinstance(event, BarClosed):
            self.prices[event.instrument] = Decimal(event.close)
        elif isinstance(event, OrderFilled):
            self._fill(event)
        elif isinstance(event, OrderApproved):
            self.open[event.order] = (event.terms, event.terms.quantity)
        elif isinstance(event, OrderCanceled | OrderExpired | OrderRejected | OrderWithheld):
            self.open.pop(event.order, None)
        elif isinstance(event, AccountFunded | FundingPosted | BorrowPosted):
            if event.currency == self.currency:
                self.cash += event.amount
        elif isinstance(event, RunStarted):
            self.currency = event.currency

    def _fill(self, event: OrderFilled) -> None:
        moved = event.side.sign * event.quantity
        whose = (event.strategy, event.instrument)
        self.held[whose] = self.held.get(whose, ZERO) + moved
        self.cash -= moved * event.price
        if event.fee_currency == self.currency:
            self.cash -= event.fee
        elif event.fee:
            self.has_other_fees = True
        self.prices.setdefault(event.instrument, event.price)
        terms, left = self.open.get(event.order, (None, ZERO))
        if terms is not None:
            if left > event.quantity:
                self.open[event.order] = (terms, left - event.quantity)
            else:
                del self.open[event.order]

    def position(self, instrument: InstrumentId) -> Decimal:
        """Over all strategies."""
        return sum((held for (_, where), held in self.held.items() if where == instrument), ZERO)

    def waiting(self, instrument: InstrumentId, side: Side) -> Decimal:
        """What is still open of approved orders on one side."""
        return sum(
            (left for terms, left in self.open.values() if terms.instrument == instrument and terms.side is side), ZERO
        )

    def instruments(self) -> list[InstrumentId]:
        """Those with a position or an open order."""
        named = [where for (_, where), held in self.held.items() if held]
        return list(dict.fromkeys([*named, *(terms.instrument for terms, _ in self.open.values())]))

    @property
    def equity(self) -> Decimal:
        """Cash and every position at its last price."""
        return self.cash + sum((held * self.prices[where] for (_, where), held in self.held.items() if held), ZERO)

    def worst(self, instrument: InstrumentId) -> Decimal:
        """Largest absolute position that fills of open orders can lead to."""
        position = self.position(instrument)
        return max(
            abs(position + self.waiting(instrument, Side.BUY)), abs(position - self.waiting(instrument, Side.SELL))
        )
