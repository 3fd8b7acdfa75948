"""Names of facts that do not depend on positions, so that two tapes of the same events can be laid side by side.

An outside fact is called by its author and its natural key. What follows from it is called by its cause, so facts are
aligned by their causes all the way down. Facts about an order are called by the order, and an order by the strategy
and the fact that made it propose; a fill is the same fill whichever bar it happened in.

``content`` is what a fact says without the names that positions are part of: ids of orders and executions. It compares
and judges nothing.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tapeline_common.events import Event, LiquidationOrdered, OrderProposed
from tapeline_common.values import OrderId
from tapeline_common.wire import Fact

POSITIONAL = ("client_order_id", "venue_order_id", "trade_id", "approval", "heard")
"""Fields that hold positions, or digests of them. What they name is in the fact's own name already."""

WORD = re.compile(r"[A-Za-z0-9_-]+")
"""What may be an order's id within a text."""


class Names:
    """The names of one tape's facts, given one after the other in position order.

    Attributes:
        orders: order id on this tape → the order's name.
        order_ids: the same the other way round.
        keys: position → name of the fact.
    """

    def __init__(self) -> None:
        self.orders: dict[OrderId, str] = {}
        self.order_ids: dict[str, OrderId] = {}
        self.keys: dict[int, str] = {}
        self._counts: dict[str, int] = {}

    def add(self, fact: Fact) -> str:
        """Name the next fact."""
        event: Any = fact.event
        kind = type(event)
        if kind.about == "order":
            name = self.orders.get(event.order)
            if name is None:
                name = self._new_order(fact)
            key = self._counted(f"{name}/{kind.__name__}")
        elif fact.cause:
            about = [str(getattr(event, field)) for field in ("strategy", "instrument") if hasattr(event, field)]
            key = self._counted(">".join([self.keys[fact.cause], ":".join([kind.__name__, *about])]))
        else:
            key = f"{fact.author}/{fact.id}"
        self.keys[fact.pos] = key
        return key

    def _new_order(self, fact: Fact) -> str:
        """An order is first heard of when it is proposed; the venue orders liquidations itself."""
        event: Any = fact.event
        terms = event.terms if isinstance(event, OrderProposed | LiquidationOrdered) else None
        if terms is None or not fact.cause:
            name = f"order {event.order}"  # nobody on this tape proposed it: somebody else's order
        else:
            maker = terms.strategy if isinstance(event, OrderProposed) else f"liquidation of {terms.strategy}"
            name = self._counted(f"{maker}@{self.keys[fact.cause]}")
        self.orders[event.order] = name
        self.order_ids[name] = event.order
        return name

    def _counted(self, base: str) -> str:
        count = self._counts.get(base, 0) + 1
        self._counts[base] = count
        return base if count == 1 else f"{base}#{count}"

    def content(self, fact: Fact) -> dict[str, Any]:
        """What a fact of this tape says, as plain data, with orders called by their names; its stamp is ``time_ns``."""
        plain: dict[str, Any] = msgspec.to_builtins(fact.event)
        for field in POSITIONAL:
            plain.pop(field, None)
        if "order" in plain:
            plain["order"] = self.orders.get(plain["order"], plain["order"])
        if isinstance(plain.get("detail"), str):
            plain["detail"] = WORD.sub(self._name_of_word, plain["detail"])
        plain["time_ns"] = fact.time_ns
        return plain

    def _name_of_word(self, word: re.Match[str]) -> str:
        return self.orders.get(OrderId(word[0]), word[0])


def same_but(one: Event, other: Event, field: str) -> bool:
    """Whether two events of a type differ in nothing but one field."""
    return type(one) is type(other) and msgspec.structs.replace(one, **{field: getattr(other, field)}) == other
