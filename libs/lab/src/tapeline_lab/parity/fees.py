"""Fills that a real venue reported, at the fees that are configured today.

So what the venue charged otherwise is told apart from what it filled otherwise. The fee rule is the simulated venue's:
notional times the maker or taker rate of the day, by the notional traded before. It moves no price and no quantity.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tapeline_common.events import CostsConfigured, InstrumentListed, OrderFilled, VenueConfigured
from tapeline_common.money import plain
from tapeline_common.values import Liquidity
from tapeline_execution.costs import Turnover, tier_at
from tapeline_lab.parity.record import Saying

DAY_NS = 86_400_000_000_000


def at_todays_fees(script: Sequence[Saying], reports: Sequence[Saying]) -> list[Saying]:
    """The reports with every fill's fee by the configuration in the script, in quote currency."""
    venues: dict[str, VenueConfigured] = {}
    costs: dict[str, CostsConfigured] = {}
    listings: dict[str, InstrumentListed] = {}
    traded: dict[str, Turnover] = {}
    found: list[Saying] = []
    for saying in sorted([*script, *reports], key=lambda each: each.at):
        event = saying.event
        if isinstance(event, VenueConfigured):
            venues[event.venue] = event
        elif isinstance(event, CostsConfigured):
            costs[event.venue] = event
        elif isinstance(event, InstrumentListed):
            listings[event.instrument] = event
        elif saying.author == "venue":
            listing = listings.get(event.instrument) if isinstance(event, OrderFilled) else None
            if isinstance(event, OrderFilled) and listing is not None and listing.venue in venues:
                turnover = traded.setdefault(listing.venue, Turnover())
                rate = _rate(venues[listing.venue], costs.get(listing.venue), turnover, saying.time_ns, event.liquidity)
                turnover.add(saying.time_ns // DAY_NS, event.price * event.quantity)
                fee = plain(event.price * event.quantity * rate)
                event = msgspec.structs.replace(event, fee=fee, fee_currency=listing.quote)
            found.append(Saying(saying.at, saying.author, saying.id, event, saying.time_ns))
    return found


def _rate(
    venue: VenueConfigured, costs: CostsConfigured | None, turnover: Turnover, time_ns: int, liquidity: Liquidity
) -> Decimal:
    rates: tuple[Decimal, Decimal] = (venue.maker_fee, venue.taker_fee)
    if costs is not None and costs.fee_tiers:
        tier = tier_at(costs.fee_tiers, turnover.before(time_ns // DAY_NS))
        if tier is not None:
            rates = (tier.maker_fee, tier.taker_fee)
    return rates[0] if liquidity is Liquidity.MAKER else rates[1]
