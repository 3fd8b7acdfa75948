"""Runs a configuration through a market in the loop gear, with limits on, and keeps the tape.

An operator is part of it: when a breaker halts trading, everything is flattened at the next bar, and, if that is asked
for, trading resumes with the next UTC day. An operator who does nothing lets a halted account fall with the market.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from msgspec.structs import replace

from tapeline_backtest.feed import Outside, Source, script
from tapeline_backtest.runner import run_loop
from tapeline_common import control
from tapeline_common.calendars import session_openings
from tapeline_common.events import AUTHOR_OF, BarClosed, FlattenRequested, ResumeRequested
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.sequencer import Recorded
from tapeline_common.settings import RiskTable, Settings
from tapeline_common.values import Realm, TradingState
from tapeline_common.wire import Fact
from tapeline_lab.bias.tables import Table
from tapeline_lab.bias.tapes import Kept, file_of

DAY_NS = 86_400 * 10**9

DRAWDOWN_SHARE = Decimal("0.1")
DAILY_LOSS_SHARE = Decimal("0.05")
GROSS_SHARE = Decimal(2)
ORDER_SHARE = Decimal("1.5")
SIZES = Decimal("1.5")
"""Limits for who has set none: shares of the account's money, and multiples of the strategies' sizes."""


class OnHalt(StrEnum):
    """What the operator does when a breaker has halted trading: sell and stop, sell until tomorrow, or nothing."""

    FLATTEN = "flatten"
    RESUME = "resume"
    HOLD = "hold"


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


def run_through(settings: Settings, tables: Sequence[Table], on_halt: OnHalt = OnHalt.FLATTEN) -> Tape:
    """The tape of a configuration on these bars, one table for each of its instruments."""
    opening = opening_facts(settings, realm=Realm.REPLAY, code_version="scenario")
    sources = [
        Source(instrument_id(one), "scenario", file_of(table, settings.feed.timeframe), "scenario")
        for one, table in zip(settings.instrument, tables, strict=True)
    ]
    watched = Watched()
    said = script([*opening, *session_openings(settings)], sources)
    if on_halt is not OnHalt.HOLD:
        said = _with_operator(said, watched, resumes=on_halt is OnHalt.RESUME)
    finished = run_loop(said, recorder=watched)
    return Tape([recorded.fact for recorded in watched.facts], finished.states)


class Watched(Kept):
    """A recorder that knows whether trading is halted, and since when it is being flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.trading = TradingState.HALTED

    def take(self, recorded: Recorded) -> None:
        self.facts.append(recorded)
        self.trading = control.AFTER.get(type(recorded.fact.event), self.trading)

    def says(self, state: TradingState) -> bool:
        return self.trading is state


def _with_operator(said: Iterator[Outside], watched: Watched, *, resumes: bool) -> Iterator[Outside]:
    """The script, and what the operator asks for once a breaker has halted trading.

    A resumption that risk refuses (the drawdown still stands) leaves everything flat and halted: there is nothing more
    to ask for.
    """
    asked, flattened_ns, is_over = 0, 0, False
    for outside in said:
        is_next_day = outside.time_ns // DAY_NS > flattened_ns // DAY_NS
        if resumes and is_next_day and watched.says(TradingState.FLATTENING):
            again = ResumeRequested("scenario", "a new day", asked, "")
            yield Outside(AUTHOR_OF[ResumeRequested], f"scenario:resume:{asked}", again, outside.time_ns)
            if watched.says(TradingState.HALTED):
                is_over = True
        yield outside
        if watched.says(TradingState.HALTED) and not is_over and isinstance(outside.event, BarClosed):
            asked, flattened_ns = asked + 1, outside.time_ns
            request = FlattenRequested("scenario", "a breaker halted trading")
            yield Outside(AUTHOR_OF[FlattenRequested], f"scenario:flatten:{asked}", request, outside.time_ns)
