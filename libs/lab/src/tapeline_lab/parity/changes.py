"""What differs between a recorded session's outside facts and those it is to be rerun with, cause by cause.

A change names a recorded fact and what stands in its place today. ``script`` gives the outside facts with the changes
of some causes switched on and the others left as recorded; where two causes share a fact (a venue's fees and its
slippage), they are switched field by field. It reads no file and knows no option; ``edits`` and ``revisions`` make
changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from tapeline_common.events import BarClosed, CostsConfigured, Event, InstrumentCosts, InstrumentListed, VenueConfigured
from tapeline_common.money import ZERO
from tapeline_common.opening import CONFIGURATION
from tapeline_common.values import InstrumentId
from tapeline_lab.parity.causes import OF_FIELD, OF_INPUT, OF_INSTRUMENT_COST, Cause
from tapeline_lab.parity.record import Record, Saying


@dataclass(frozen=True, slots=True)
class Change:
    """One outside fact then and today. ``None``: it was not said, or is not said any more.

    Attributes:
        slippage_bps: of the venue, then and today; what ``CostsConfigured`` means for instruments it does not name.
    """

    at: tuple[int, int]
    author: str
    id: str
    time_ns: int
    recorded: Event | None
    today: Event | None
    slippage_bps: tuple[Decimal, Decimal] = (ZERO, ZERO)

    @property
    def causes(self) -> frozenset[Cause]:
        """The causes that switching moves anything for."""
        return frozenset(cause for cause in Cause if self.switched({cause}) != self.recorded)

    def switched(self, causes: Collection[Cause]) -> Event | None:
        """The fact with these causes as today and all others as then."""
        present = self.today if self.recorded is None else self.recorded
        assert present is not None, "a change has one side at least"
        if isinstance(present, CostsConfigured):
            return self._costs(present.venue, causes)
        if self.recorded is None or self.today is None or type(self.recorded) is not type(self.today):
            return self.today if OF_INPUT[type(present)] in causes else self.recorded
        taken = {
            name: getattr(self.today if _cause_of(type(present), name) in causes else self.recorded, name)
            for name in present.__struct_fields__
        }
        return msgspec.structs.replace(present, **taken)

    def _costs(self, venue: str, causes: Collection[Cause]) -> Event | None:
        empty = CostsConfigured(venue)
        then = self.recorded if isinstance(self.recorded, CostsConfigured) else empty
        now = self.today if isinstance(self.today, CostsConfigured) else empty
        taken: dict[str, Any] = {
            name: getattr(now if _cause_of(CostsConfigured, name) in causes else then, name)
            for name in ("fee_tiers", "latency_ms", "intrabar")
        }
        plain = [InstrumentCosts(slippage_bps=bps) for bps in self.slippage_bps]
        merged = {
            instrument: _instrument_costs(
                then.instruments.get(instrument, plain[0]), now.instruments.get(instrument, plain[1]), causes
            )
            for instrument in dict.fromkeys([*then.instruments, *now.instruments])
        }
        flat = _instrument_costs(plain[0], plain[1], causes)
        path_matters = taken["latency_ms"] or taken["intrabar"] is not empty.intrabar
        if not path_matters and not then.instruments and all(costs == flat for costs in merged.values()):
            merged = {}  # as the configuration says it: costs that the venue's own facts say are not said twice
        configured = CostsConfigured(venue, instruments=merged, **taken)
        return None if self.recorded is None and configured == empty else configured


def _cause_of(kind: type[Event], field: str) -> Cause:
    return OF_FIELD.get((kind, field), OF_INPUT[kind])


def _instrument_costs(then: InstrumentCosts, now: InstrumentCosts, causes: Collection[Cause]) -> InstrumentCosts:
    return InstrumentCosts(
        **{
            name: getattr(now if OF_INSTRUMENT_COST.get(name, Cause.FILL) in causes else then, name)
            for name in InstrumentCosts.__struct_fields__
        }
    )


def script(record: Record, changes: Iterable[Change], causes: Collection[Cause]) -> list[Saying]:
    """The session's outside facts with these causes as today, in order."""
    changed = {change.at: change for change in changes}
    said: list[Saying] = []
    for saying in record.outside():
        change = changed.pop(saying.at, None)
        event = saying.event if change is None else change.switched(causes)
        if event is not None:
            said.append(Saying(saying.at, saying.author, saying.id, event, saying.time_ns))
    for change in changed.values():
        event = change.switched(causes)
        if event is not None:
            said.append(Saying(change.at, change.author, change.id, event, change.time_ns))
    return sorted(said, key=lambda saying: saying.at)


def all_causes(changes: Iterable[Change]) -> frozenset[Cause]:
    return frozenset().union(*(change.causes for change in changes))


@dataclass(frozen=True, slots=True)
class Configured:
    """One configuration fact of a tape: the ``times``-th of its slot."""

    slot: str
    times: int
    saying: Saying


def configured(record: Record, until: int = 0) -> list[Configured]:
    """The configuration facts of a tape in order, up to a position if one is given."""
    found = []
    for saying in record.outside():
        if isinstance(saying.event, CONFIGURATION) and (not until or saying.at[0] <= until):
            slot, _, number = saying.id.rpartition("#")
            found.append(Configured(slot, int(number), saying))
    return found


def latest(known: Sequence[Configured]) -> dict[str, Event]:
    """The configuration in force after these facts, by slot."""
    return {each.slot: each.saying.event for each in known}


def end_of_opening(record: Record) -> Saying:
    """The last configuration fact before the first bar: what is added to the configuration is said after that."""
    first_bar = next((fact.pos for fact in record.facts if isinstance(fact.event, BarClosed)), record.head)
    return configured(record, first_bar)[-1].saying


def slippage_of(current: dict[str, Event], venue: str) -> Decimal:
    found = current.get(f"venue:{venue}")
    return found.slippage_bps if isinstance(found, VenueConfigured) else ZERO


def listed(current: dict[str, Event]) -> dict[InstrumentId, InstrumentListed]:
    return {event.instrument: event for event in current.values() if isinstance(event, InstrumentListed)}
