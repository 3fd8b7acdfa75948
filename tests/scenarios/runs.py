"""Shared by tests of scenarios: one strategy with all of the money, on a stand-in."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.gears import settings_of

from tapeline_common.settings import RiskTable, Settings, VenueTable
from tapeline_common.wiring import checked
from tapeline_lab.scenarios.markets import find_market
from tapeline_lab.scenarios.running import OnHalt, Tape, limited, run_through
from tapeline_lab.scenarios.suite import stand_ins

CASH = Decimal(1_000_000)
SIZE = Decimal(50)
"""All of the money at 20,000."""

PRICE = 20_000.0


def settings(kind: str, risk: RiskTable | None = None, **parameters: Any) -> Settings:
    venue = VenueTable(Decimal("0.0005"), Decimal("0.0005"), Decimal(1), None)
    made: Settings = checked(
        settings_of(kind, parameters, size=SIZE, cash=CASH, venue=venue, risk=risk, timeframe="1h")
    )
    return made


def tape_of(
    kind: str, market: str, *, on_halt: OnHalt = OnHalt.FLATTEN, risk: RiskTable | None = None, seed: int = 0
) -> Tape:
    told = settings(kind, risk)
    return run_through(limited(told), stand_ins(told, find_market(market), seed, PRICE), on_halt=on_halt)
