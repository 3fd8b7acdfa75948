"""The two losses that breakers watch, followed through a tape: since 00:00 UTC, and from the highest equity.

One pass; ``Follower.take`` is given every fact in order and keeps what the losses were when it was heard.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    BorrowPosted,
    FundingPosted,
    LimitsSet,
    OrderFilled,
)
from tapeline_common.values import HaltReason
from tapeline_common.wire import Fact
from tapeline_lab.scenarios.account import ZERO, Account

DAY_NS = 86_400 * 10**9

MOVES = (BarClosed, OrderFilled, AccountFunded, FundingPosted, BorrowPosted)
"""Facts after which equity may be another."""


@dataclass(slots=True)
class Follower:
    """Attributes:
    highest: highest equity since there are limits, deposits moved along.
    reference: equity when the UTC day began.
    """

    account: Account = field(default_factory=Account)
    limits: LimitsSet = field(default_factory=LimitsSet)
    highest: Decimal = ZERO
    reference: Decimal = ZERO
    day_ends_ns: int = 0
    deepest: Decimal = ZERO

    def take(self, fact: Fact) -> None:
        event = fact.event
        if isinstance(event, MOVES) and fact.time_ns >= self.day_ends_ns:
            self.day_ends_ns = (fact.time_ns // DAY_NS + 1) * DAY_NS
            self.reference = self.account.equity
        self.account.take(event)
        if isinstance(event, LimitsSet):
            if self.limits.max_drawdown is None:
                self.highest = self.account.equity
            self.limits = event
        elif isinstance(event, AccountFunded):
            if event.currency == self.account.currency:
                self.highest += event.amount
                self.reference += event.amount
        elif isinstance(event, MOVES):
            self.highest = max(self.highest, self.account.equity)
            self.deepest = max(self.deepest, self.drawdown)

    @property
    def drawdown(self) -> Decimal:
        return self.highest - self.account.equity

    def at_limit(self) -> dict[HaltReason, Decimal]:
        """Each loss that has reached its limit now, and how much it is."""
        found = {}
        for reason, loss, limit in (
            (HaltReason.DAILY_LOSS, self.reference - self.account.equity, self.limits.max_daily_loss),
            (HaltReason.DRAWDOWN, self.drawdown, self.limits.max_drawdown),
        ):
            if limit is not None and loss >= limit and loss > 0:
                found[reason] = loss
        return found
