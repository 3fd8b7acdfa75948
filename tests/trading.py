"""Shared by tests of the simulated venue: its opening facts, bars and orders of one instrument, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from tapeline_common.core import Stamp, learn, step
from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    CostsConfigured,
    Event,
    InstrumentCosts,
    InstrumentListed,
    OrderFilled,
    OrderSubmitted,
    OrderTerms,
    RunStarted,
    VenueConfigured,
)
from tapeline_common.values import DecimalText, InstrumentId, OrderId, Realm, Side, StrategyId
from tapeline_execution import venue

SECOND_NS = 10**9
MINUTE_NS = 60 * SECOND_NS
DAY_NS = 86_400 * SECOND_NS
BTC = InstrumentId("BTC-USD")
ATLAS, BORIS = StrategyId("atlas"), StrategyId("boris")
RUN = RunStarted("paper", "tape-1", Realm.REPLAY, 7, "USD", "1")
FREE = VenueConfigured("sim", Decimal(0), Decimal(0), Decimal(0))
LISTED = InstrumentListed(BTC, "BTC/USD", "sim", "BTC", "USD")
FUNDED = AccountFunded("main", "USD", Decimal(100_000))


def costs(listed: InstrumentListed = LISTED, **fields: Any) -> CostsConfigured:
    """Costs of the one venue: fields of ``InstrumentCosts`` for the one instrument, the others for the venue."""
    own = {name: fields.pop(name) for name in InstrumentCosts.__struct_fields__ if name in fields}
    texts = {name: Decimal(value) if isinstance(value, str) else value for name, value in own.items()}
    return CostsConfigured("sim", instruments={listed.instrument: InstrumentCosts(**texts)}, **fields)


def bar(
    minute: int, open_: str = "100", high: str = "110", low: str = "90", close: str = "100", volume: str = "1000",
    *, minutes: int = 1,
) -> BarClosed:  # fmt: skip
    """A bar that opened so many minutes after the epoch."""
    text = DecimalText
    return BarClosed(
        BTC, f"{minutes}m", minute * MINUTE_NS, (minute + minutes) * MINUTE_NS, text(open_), text(high), text(low),
        text(close), text(volume),
    )  # fmt: skip


def order(side: Side = Side.BUY, quantity: str = "1", **more: Any) -> OrderTerms:
    prices = {key: Decimal(value) for key, value in more.items() if key.endswith("_price")}
    return msgspec.structs.replace(
        OrderTerms(more.pop("strategy", ATLAS), BTC, side, Decimal(quantity)), **{**more, **prices}
    )


class Venue:
    """A venue that is told facts one by one, as the loop gear does it."""

    def __init__(self, *setup: Event) -> None:
        self.state = venue.CORE.initial()
        self.pos = 0
        self.time_ns = 0
        self.said: list[Event] = []
        for event in setup:
            self.pos += 1
            learn(venue.CORE, self.state, event, Stamp(self.pos, 0))

    def hear(self, event: Event) -> list[Event]:
        self.pos += 1
        if isinstance(event, BarClosed):
            self.time_ns = max(self.time_ns, event.close_ns)
        answers = list(step(venue.CORE, self.state, event, Stamp(self.pos, self.time_ns)))
        self.said += answers
        return answers

    def take(self, terms: OrderTerms) -> OrderId:
        """Submit an order now; its name is ``o-`` and its position."""
        name = OrderId(f"o-{self.pos + 1}")
        self.hear(OrderSubmitted(name, f"c-{self.pos + 1}", terms, 1, 2**62))
        return name

    @property
    def fills(self) -> list[OrderFilled]:
        return [event for event in self.said if isinstance(event, OrderFilled)]


def trade(setup: Sequence[Event], items: Sequence[BarClosed | OrderTerms]) -> Venue:
    """A fresh venue meets these orders and bars, in this order."""
    one = Venue(*setup)
    for item in items:
        if isinstance(item, OrderTerms):
            one.take(item)
        else:
            one.hear(item)
    return one
