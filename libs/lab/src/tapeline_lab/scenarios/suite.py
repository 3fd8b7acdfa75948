"""One configuration through one market: what happened, and which rules held."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tapeline_common.events import LimitBreached, OrderFilled, OrderRefused
from tapeline_common.settings import Settings
from tapeline_lab.bias.tables import TIME, Table
from tapeline_lab.scenarios.invariants import RULES, Rule, broken
from tapeline_lab.scenarios.losses import Follower
from tapeline_lab.scenarios.markets import Market, stand_in
from tapeline_lab.scenarios.running import OnHalt, Tape, limited, run_through
from tapeline_marketdata.timeframe import parse_timeframe


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints of a scenario.

    Attributes:
        bars: of all instruments. is_recorded: real ones, not a stand-in.
        market_change, market_low: of the first instrument: last close and lowest low over the first open, less one.
        breakers: which fired, in order. refused: orders, by reason.
        drawdown: deepest, in account currency; drawdown_limit: what it was held against.
        broken: rules that did not hold, and how; empty is the only good result.
    """

    scenario: str
    words: str
    is_recorded: bool
    bars: int
    market_change: float
    market_low: float
    fills: int
    breakers: list[str]
    refused: dict[str, int]
    drawdown: Decimal
    drawdown_limit: Decimal | None
    final_equity: Decimal
    broken: dict[Rule, str]

    @property
    def held(self) -> int:
        """How many rules held."""
        return len(RULES) - len(self.broken)


def stand_ins(settings: Settings, market: Market, seed: int, price: float) -> list[Table]:
    """Bars for every instrument of a configuration, each of a stream of its own."""
    length_ns = parse_timeframe(settings.feed.timeframe)
    return [stand_in(market, seed, price=price, length_ns=length_ns, stream=one.name) for one in settings.instrument]


def judged(
    settings: Settings,
    market: Market,
    tables: Sequence[Table],
    on_halt: OnHalt = OnHalt.FLATTEN,
    *,
    is_recorded: bool = False,
) -> Outcome:
    """Run a configuration, with limits where it has none, through these bars and judge its tape."""
    return outcome_of(run_through(limited(settings), tables, on_halt), market, tables, is_recorded)


def outcome_of(tape: Tape, market: Market, tables: Sequence[Table], is_recorded: bool) -> Outcome:
    follower, breakers, fills = Follower(), [], 0
    refused: dict[str, int] = {}
    for fact in tape.facts:
        follower.take(fact)
        event = fact.event
        if isinstance(event, LimitBreached):
            breakers.append(event.reason.value)
        elif isinstance(event, OrderFilled):
            fills += 1
        elif isinstance(event, OrderRefused):
            refused[event.reason.value] = refused.get(event.reason.value, 0) + 1
    first = tables[0]
    start = float(first["open"][0])
    return Outcome(
        scenario=market.name,
        words=market.words,
        is_recorded=is_recorded,
        bars=sum(len(table[TIME]) for table in tables),
        market_change=float(first["close"][-1]) / start - 1.0,
        market_low=float(first["low"].min()) / start - 1.0,
        fills=fills,
        breakers=breakers,
        refused=refused,
        drawdown=follower.deepest,
        drawdown_limit=follower.limits.max_drawdown,
        final_equity=follower.account.equity,
        broken=broken(tape),
    )
