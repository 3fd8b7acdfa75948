"""One bar meeting one book under configured costs: when each order executes in it, at which price, at which fee.

Ties the fill rules (``matching``) to latency (``latency``), the path within the bar (``paths``) and what takers pay
(``costs``). It only reads; what it needs to remember of earlier bars and days is kept by the venue's state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import msgspec

from tapeline_common.events import BarClosed, CostsConfigured, InstrumentCosts, InstrumentListed, OrderTerms
from tapeline_common.money import ZERO
from tapeline_common.values import IntrabarPath, Liquidity, OrderType, Side
from tapeline_execution import matching, paths
from tapeline_execution.costs import NO_COSTS, Charged, Recent, Taking, charge
from tapeline_execution.latency import NS_PER_MS, Journey, arrival_price
from tapeline_execution.matching import Match, Prices, is_beyond
from tapeline_execution.paths import BARE, IMMEDIATE, Met


@dataclass(slots=True)
class Model:
    """The costs of one instrument, and what they need to remember."""

    costs: InstrumentCosts
    latency_ns: int
    intrabar: IntrabarPath
    recent: Recent | None = None


def model_of(configured: CostsConfigured, listing: InstrumentListed, before: Model | None) -> Model | None:
    """The model of an instrument; what was remembered under an earlier configuration is kept if it still fits."""
    costs = configured.instruments.get(listing.instrument)
    if costs is None:
        return None
    recent = None
    if costs.root_impact:
        known = before.recent if before is not None else None
        window = costs.root_window_bars
        recent = known if known is not None and known.window == window else Recent(window)
    return Model(costs, configured.latency_ms * NS_PER_MS, configured.intrabar, recent)


class Found(msgspec.Struct, frozen=True):
    """A bare price for an order, and what of its distance from the undisturbed price the latency is to blame for."""

    match: Match
    latency: Decimal


@dataclass(slots=True)
class Pricing:
    """Prices of one bar.

    Attributes:
        taken: what our fills have taken of the bar so far.
    """

    model: Model
    tick: Decimal | None
    bar: BarClosed
    prices: Prices
    taken: Decimal = ZERO
    path: paths.Path | None = field(init=False)

    def __post_init__(self) -> None:
        adaptive = self.model.intrabar is IntrabarPath.ADAPTIVE
        self.path = paths.adaptive(self.prices, Decimal(self.bar.close)) if adaptive else None

    def find(self, terms: OrderTerms, met: Met, journey: Journey | None) -> tuple[Decimal, Found] | None:
        """When (as a distance, where a path is assumed) and at which bare price an order executes in the bar."""
        if journey is not None and met.first and journey.is_late(self.bar):
            late = self._find_late(terms, met, journey)
            return None if late is None else (ZERO, late)
        if self.path is not None:
            on_path = paths.match_on_path(terms, self.prices, self.path, met)
            return None if on_path is None else (on_path[0], Found(on_path[1], ZERO))
        found = matching.match(terms, self.prices, BARE, first=met.first, triggered=met.triggered, now=met.now)
        return None if found is None else (ZERO, Found(found, ZERO))

    def _find_late(self, terms: OrderTerms, met: Met, journey: Journey) -> Found | None:
        """In the bar of a late arrival the path is not used: what of it was before the arrival cannot be told."""
        price = arrival_price(journey, terms.side, self.prices, self.bar)
        arrived = msgspec.structs.replace(self.prices, open=price)
        found = matching.match(terms, arrived, BARE, first=True, triggered=met.triggered, now=met.now)
        if found is None:
            return None
        if found.liquidity is Liquidity.MAKER:
            assert terms.limit_price is not None, "only a limit rests"
            if not is_beyond(terms.side, Decimal(self.bar.close), terms.limit_price):
                return None
            return Found(found, ZERO)
        sign = terms.side.sign
        late = (found.price - sign * found.slippage - self._on_time(terms, met)) * sign
        return Found(found, late)

    def _on_time(self, terms: OrderTerms, met: Met) -> Decimal:
        """The undisturbed price of an order that had been there at the open."""
        is_stop = terms.order_type in (OrderType.STOP, OrderType.STOP_LIMIT) and terms.time_in_force not in IMMEDIATE
        if not (is_stop and met.now):
            return self.prices.open
        assert terms.stop_price is not None, "a stop order without a stop price is rejected on arrival"
        return (max if terms.side is Side.BUY else min)(terms.stop_price, self.prices.open)

    def charge(self, terms: OrderTerms, found: Found, quantity: Decimal) -> Charged:
        """The price of a fill that has just been decided."""
        self.taken += quantity
        match = found.match
        if match.liquidity is Liquidity.MAKER:
            return Charged(matching.adverse_tick(match.price, terms.side, self.tick), ZERO, NO_COSTS)
        taking = Taking(
            terms.side, terms.limit_price, match.price, found.latency, match.slippage, self.taken, self.prices.volume
        )
        return charge(self.model.costs, self.tick, self.model.recent, taking)
