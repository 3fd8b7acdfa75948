"""``fork``: what would have been, had the configuration been another one from some position on.

Up to that position everything is as recorded, answers under way included. Then the changed configuration is said, and
today's code goes on with the outside facts, by the session's timetable and with simulated fills. It is compared with
the same continuation without the change, not with the record: only the change may make a difference. Where that
continuation is not the record's, the code is not the session's, and ``is_as_recorded`` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tapeline_common.events import (
    EquityMarked,
    OrderFilled,
    OrderRefused,
    OrderSubmitted,
    TradeClosed,
    TradeDeclined,
)
from tapeline_common.money import ZERO
from tapeline_common.wire import Fact, encode
from tapeline_lab.parity.changes import Change, all_causes, script
from tapeline_lab.parity.comparison import Decision, Kind, changed, decisions_of
from tapeline_lab.parity.record import Record, Saying, record_of
from tapeline_lab.parity.rerun import Gear, Ran, Rerun
from tapeline_ledger import core as ledger


@dataclass(frozen=True, slots=True)
class Side:
    """One continuation, from the position of the fork on; ``equity`` is what it ended with."""

    equity: Decimal
    profit: Decimal
    orders: int
    fills: int
    trades: int
    wins: int
    fees: Decimal
    refused: Mapping[str, int]
    declined: Mapping[str, int]
    max_drawdown: Decimal


@dataclass(frozen=True, slots=True)
class Fork:
    """Both continuations.

    Attributes:
        first: the first decision that differs, as (without the change, with it); ``None`` if none does.
        differing: how many of ``decisions`` differ.
        tape: the forked tape, whole.
    """

    at: int
    until: int
    equity_at: Decimal
    unchanged: Side
    forked: Side
    first: tuple[Decision | None, Decision | None] | None
    decisions: int
    differing: int
    is_as_recorded: bool
    tape: Ran


def fork(record: Record, gear: Gear, at: int, changes: Sequence[Change], until: int) -> Fork:
    """Fork a session after position ``at`` and follow both sides up to the recorded position ``until``."""
    cut = record if until == record.head else record_of(record.facts[:until])
    unchanged = _continued(cut, gear, at, script(cut, (), ()))
    changes = [change for change in changes if change.at <= (until, 1)]
    forked = _continued(cut, gear, at, script(cut, changes, all_causes(changes)))
    moments = {f"{saying.author}/{saying.id}": saying.at for saying in cut.outside()}
    one = decisions_of(unchanged.facts, unchanged.names, moments)
    other = decisions_of(forked.facts, forked.names, moments)
    different = changed(one, other)
    first = min(different.values(), key=lambda each: (each.moment, each.pos, each.kind is Kind.FEE), default=None)
    equity_at = ledger.equity(ledger.fold(cut.facts[:at]))
    return Fork(
        at=at,
        until=until,
        equity_at=equity_at,
        unchanged=_side(unchanged, at, equity_at),
        forked=_side(forked, at, equity_at),
        first=None if first is None else (one.get(first.key), other.get(first.key)),
        decisions=len(one.keys() | other.keys()),
        differing=len(different),
        is_as_recorded=[*map(encode, unchanged.facts)] == [*map(encode, cut.facts)],
        tape=forked,
    )


def _continued(record: Record, gear: Gear, at: int, said: list[Saying]) -> Ran:
    reports = [saying for saying in record.reports() if saying.at[0] <= at]

    def reply(author: str, key: str) -> Sequence[Fact] | None:
        pos = record.positions.get(key)
        if pos is not None and (pos <= at or author == "trainer"):
            return record.answers.get((author, key), ())
        return None

    return Rerun(record, gear, sorted([*said, *reports], key=lambda saying: saying.at), replies=reply).run()


def _side(ran: Ran, at: int, equity_at: Decimal) -> Side:
    books: ledger.State = ran.states["ledger"]
    equity = ledger.equity(books)
    events = [fact.event for fact in ran.facts[at:]]
    trades = [event for event in events if isinstance(event, TradeClosed)]
    fills = [event for event in events if isinstance(event, OrderFilled)]
    return Side(
        equity=equity,
        profit=equity - equity_at,
        orders=sum(isinstance(event, OrderSubmitted) for event in events),
        fills=len(fills),
        trades=len(trades),
        wins=sum(trade.pnl + trade.funding > trade.fees for trade in trades),
        fees=sum((fill.fee for fill in fills), ZERO),
        refused=_counted(event.reason for event in events if isinstance(event, OrderRefused)),
        declined=_counted(event.reason for event in events if isinstance(event, TradeDeclined)),
        max_drawdown=_max_drawdown(
            [equity_at, *(event.equity for event in events if isinstance(event, EquityMarked)), equity]
        ),
    )


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[str(reason)] = counts.get(str(reason), 0) + 1
    return dict(sorted(counts.items()))


def _max_drawdown(marks: Sequence[Decimal]) -> Decimal:
    """Largest fall from a running high of the marks, in money."""
    highest, largest = marks[0], ZERO
    for mark in marks:
        highest = max(highest, mark)
        largest = max(largest, highest - mark)
    return largest
