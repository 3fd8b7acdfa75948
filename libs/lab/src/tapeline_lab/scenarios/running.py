"""Runs a configuration through a market in the loop gear, with limits on, and keeps the tape.

An operator is part of it: when a breaker halts trading, everything is flattened at the next bar (or nothing is done, if
that is asked for). Without that a halted account keeps what it holds and falls with the market.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from tapeline_backtest.feed import Outside, Source, script
from tapeline_backtest.runner import run_loop
from tapeline_common.calendars import session_openings
from tapeline_common.events import AUTHOR_OF, FlattenRequested, TradingHalted
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.sequencer import Recorded
from tapeline_common.settings import RiskTable, Settings
from tapeline_common.values import Realm
from tapeline_common.wire import Fact
from tapeline_lab.bias.tables import Table
from tapeline_lab.bias.tapes import Kept, file_of

DRAWDOWN_SHARE = Decimal("0.1")
DAILY_LOSS_SHARE = Decimal("0.05")
GROSS_SHARE = Decimal(2)
ORDER_SHARE = Decimal("1.5")
SIZES = Decimal("1.5")
"""Limits for who has set none: shares of the account's money, and multiples of the strategies' sizes."""


@dataclass(frozen=True, slots=True)
class Tape:
    """What a run left behind. ``states``: of every core at the end, by author."""

    facts: list[Fact]
    states: Any


def limited(settings: Settings) -> Settings:
    """The same settings with every limit of the account set: as configured, else as usual here."""
    cash, risk = settings.run.cash, settings.risk
    largest = sum((table.size for table in settings.strategy), Decimal(0))
    usual: dict[str, Decimal] = {
        "max_drawdown": cash * DRAWDOWN_SHARE,
        "max_daily_loss": cash * DAILY_LOSS_SHARE,
        "max_gross_exposure": cash * GROSS_SHARE,
        "max_order_notional": cash * ORDER_SHARE,
        "max_position": largest * SIZES,
    }
    missing = {name: value for name, value in usual.items() if getattr(risk, name) is None}
    told: RiskTable = replace(risk, **missing)
    return replace(settings, risk=told)


def run_through(settings: Settings, tables: Sequence[Table], *, flattens: bool = True) -> Tape:
    """The tape of a configuration on these bars, one table for each of its instruments."""
    opening = opening_facts(settings, realm=Realm.REPLAY, code_version="scenario")
    sources = [
        Source(instrument_id(one), "scenario", file_of(table, settings.feed.timeframe), "scenario")
        for one, table in zip(settings.instrument, tables, strict=True)
    ]
    watched = Watched()
    said = script([*opening, *session_openings(settings)], sources)
    finished = run_loop(_with_operator(said, watched) if flattens else said, recorder=watched)
    return Tape([recorded.fact for recorded in watched.facts], finished.states)


class Watched(Kept):
    """A recorder that knows whether trading was halted."""

    def __init__(self) -> None:
        super().__init__()
        self.is_halted = False

    def take(self, recorded: Recorded) -> None:
        self.facts.append(recorded)
        if isinstance(recorded.fact.event, TradingHalted):
            self.is_halted = True


def _with_operator(said: Iterator[Outside], watched: Watched) -> Iterator[Outside]:
    """The script, and one request to flatten as soon as a breaker has halted trading."""
    asked = False
    for outside in said:
        yield outside
        if watched.is_halted and not asked:
            asked = True
            request = FlattenRequested("scenario", "a breaker halted trading")
            yield Outside(AUTHOR_OF[FlattenRequested], "scenario:flatten", request, outside.time_ns)
