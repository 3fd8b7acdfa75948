"""Today's code with one rule of one core changed: what a diff must find out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec

from tapeline_common.core import Stamp
from tapeline_common.events import EquityMarked, Event, OrderApproved, OrderFilled, OrderRefused
from tapeline_common.values import Refusal
from tapeline_lab.parity.rerun import Gear

TICK = Decimal("0.01")
Bend = Callable[[Event], Event]


def mutant(gear: Gear, author: str, bend: Bend) -> Gear:
    """The gear with everything that an author decides bent."""

    def bent(decide: Callable[[Any, Any, Stamp], Sequence[Event]]) -> Callable[[Any, Any, Stamp], Sequence[Event]]:
        return lambda state, event, stamp: [bend(each) for each in decide(state, event, stamp)]

    cores = [
        replace(core, decides={event: bent(decide) for event, decide in core.decides.items()})
        if core.name == author
        else core
        for core in gear.cores
    ]
    return Gear(tuple(cores), gear.workers)


def a_tick_dearer(event: Event) -> Event:
    if not isinstance(event, OrderFilled):
        return event
    return msgspec.structs.replace(event, price=event.price + event.side.sign * TICK, slippage=event.slippage + TICK)


def without_fees(event: Event) -> Event:
    return msgspec.structs.replace(event, fee=Decimal(0)) if isinstance(event, OrderFilled) else event


def half_the_equity(event: Event) -> Event:
    return msgspec.structs.replace(event, equity=event.equity / 2) if isinstance(event, EquityMarked) else event


def never_approving(event: Event) -> Event:
    if not isinstance(event, OrderApproved):
        return event
    terms = event.terms
    return OrderRefused(event.order, terms.strategy, terms.instrument, Refusal.MAX_POSITION, "1", "0")
