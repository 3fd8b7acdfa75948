"""Checks one file of market data with the rules the feed itself uses, and with those that need the whole file.

Bars go through ``checks.Checker`` in the order of the file, trades through the trades' checker, books through
``OrderBook``: what passes here is what a backtest and a live feed accept. The file is read as it is; nothing is
repaired, sorted or left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tapeline_common.calendars import ALWAYS, session_openings
from tapeline_common.events import SessionsScheduled
from tapeline_common.hours import Hours
from tapeline_common.settings import InstrumentTable, Settings
from tapeline_lab.data.comparing import note_against, note_spots
from tapeline_lab.data.flaws import Checked, Flaw, Tally
from tapeline_lab.data.kinds import DataKind, kind_of
from tapeline_lab.data.oddities import Thresholds, note_oddities, rows_of
from tapeline_marketdata.built_bars import NOBODY
from tapeline_marketdata.checks import Accepted, Checker, Rejected
from tapeline_marketdata.columns import BadFile, columns_in
from tapeline_marketdata.depth_files import read_depth
from tapeline_marketdata.files import BarFile, read_bars
from tapeline_marketdata.funding import read_funding
from tapeline_marketdata.order_book import OrderBook, Refused
from tapeline_marketdata.trade_files import read_trades
from tapeline_marketdata.trades import Trade

PROGRESS_BARS = 50_000
LEAST_GAPS = 4
SATURDAY = 2
"""1970-01-01 was a Thursday, day 0."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Rules:
    """How a file is checked.

    Attributes:
        now_ns: what lies after it has not happened yet.
        calendar: name of a trading calendar, as in ``[[instrument]]``.
        timeframe: of the bars, where it is not to be told from them.
        against: another file of bars of the same instrument; ``tolerance`` is how far prices may be apart, a fraction.
        spots: a file of times and values known from elsewhere.
    """

    now_ns: int
    calendar: str = ALWAYS
    timeframe: str | None = None
    against: Path | None = None
    tolerance: float = 0.001
    spots: Path | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)


def hours_of_calendar(name: str) -> Hours | None:
    """When a market of this calendar trades; ``None`` for one that always does. Raises ConfigurationInvalid."""
    settings = Settings(instrument=(InstrumentTable("CHECKED/USD", calendar=name),))
    said = [opening.event for opening in session_openings(settings)]
    scheduled = next((event for event in said if isinstance(event, SessionsScheduled)), None)
    return None if scheduled is None else Hours(scheduled)


def check_file(path: Path, rules: Rules, progress: Progress | None = None) -> Checked:
    """Everything that is wrong with one file. Raises UnknownTimeframe and ConfigurationInvalid for wrong rules only."""
    tally = Tally()
    kind, timeframe, rows = DataKind.OTHER, "", 0
    notes: tuple[str, ...] = ()
    try:
        kind = kind_of(columns_in(path))
        if kind is DataKind.BARS:
            file = read_bars(path, timeframe=rules.timeframe, strict=False)
            timeframe, rows, notes = file.facts.timeframe, len(file), file.facts.notes
            notes = (*notes, *_check_bars(file, rules, tally, progress))
        else:
            rows, notes = CHECKS[kind](path, rules, tally)
    except BadFile as trouble:
        tally.add(Flaw.UNREADABLE, f"{trouble.fault}: {trouble.message}")
    return Checked(path=str(path), kind=kind, timeframe=timeframe, rows=rows, findings=tally.findings(), notes=notes)


# ---- bars --------------------------------------------------------------------------------------------------------


def _check_bars(file: BarFile, rules: Rules, tally: Tally, progress: Progress | None) -> tuple[str, ...]:
    """Returns notes."""
    hours = hours_of_calendar(rules.calendar)
    notes = _judge(file, hours, tally, progress)
    columns = file.columns
    rows_of(tally, Flaw.FUTURE_TIME, file.close_ns > rules.now_ns, columns.open_ns, "closes after now")
    note_oddities(columns, file.facts.timeframe_ns, rules.thresholds, tally)
    if rules.against is not None:
        note_against(file, rules.against, rules.tolerance, tally)
    if rules.spots is not None:
        note_spots(file, rules.spots, tally)
    return notes


def _judge(file: BarFile, hours: Hours | None, tally: Tally, progress: Progress | None) -> tuple[str, ...]:
    """Every bar before the feed's own checker, and its gaps before the calendar. Returns notes."""
    length_ns = file.facts.timeframe_ns
    checker = Checker(length_ns or None, offset_ns=file.facts.grid_offset_ns if length_ns else None)
    weekends = gaps = 0
    for row, bar in enumerate(file.bars(NOBODY)):
        if progress is not None and row % PROGRESS_BARS == 0:
            progress(row)
        verdict = checker.check(bar)
        if isinstance(verdict, Rejected):
            tally.add(Flaw(verdict.fault.value), verdict.detail, row=row, time_ns=bar.open_ns)
            continue
        if hours is not None and not hours.meets(bar.open_ns, bar.close_ns):
            tally.add(Flaw.OUTSIDE_HOURS, "a bar while the market is closed", row=row, time_ns=bar.open_ns)
        if isinstance(verdict, Accepted):
            continue
        missing = verdict.missing_bars
        if hours is not None:
            missing = hours.bars_between(verdict.since_ns, bar.open_ns, length_ns)
        if missing:
            gaps += 1
            weekends += _has_weekend(verdict.since_ns, bar.open_ns)
            detail = f"from {_moment(verdict.since_ns)} on; bars missing there: {missing:,}"
            tally.add(Flaw.GAP, detail, row=row, time_ns=verdict.since_ns, count=missing)
    if hours is None and gaps >= LEAST_GAPS and 2 * weekends > gaps:
        return (f"{weekends:,} of {gaps:,} gaps are weekends: --calendar XNYS or 24/5 may describe this market",)
    return ()


def _has_weekend(since_ns: int, until_ns: int) -> bool:
    """Whether the middle of a Saturday lies in the gap."""
    noon_ns, day_ns = 43_200 * 10**9, 86_400 * 10**9
    days = range((since_ns + noon_ns) // day_ns, (until_ns - noon_ns) // day_ns + 1)
    return any(day % 7 == SATURDAY and since_ns <= day * day_ns + noon_ns < until_ns for day in days)


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")


# ---- everything else ---------------------------------------------------------------------------------------------

Found = tuple[int, tuple[str, ...]]
"""Rows, and notes."""


def _check_trades(path: Path, rules: Rules, tally: Tally) -> Found:
    file = read_trades(path)
    for one in file.trades(strict=False):
        if isinstance(one, Trade):
            if one.time_ns > rules.now_ns:
                tally.add(Flaw.FUTURE_TIME, "a trade after now", time_ns=one.time_ns)
        else:
            tally.add(Flaw(one.rejected.fault.value), one.rejected.detail, row=one.row, time_ns=one.time_ns)
    return file.facts.rows, file.facts.notes


def _check_funding(path: Path, rules: Rules, tally: Tally) -> Found:
    """A file of rates is read strictly: its reader names the first bad row."""
    file = read_funding(path)
    rows_of(tally, Flaw.FUTURE_TIME, file.time_ns > rules.now_ns, file.time_ns, "a rate after now")
    steps = np.diff(file.time_ns)
    if len(steps) >= LEAST_GAPS:
        usual = int(np.median(steps))
        detail = f"more than one and a half times the usual {usual / 3.6e12:g} h since the rate before"
        rows_of(tally, Flaw.GAP, np.append(False, steps > 1.5 * usual), file.time_ns, detail)
    return len(file), () if file.marks is not None else ("no mark prices: the last close stands in",)


def _check_book(path: Path, rules: Rules, tally: Tally) -> Found:
    file, book, last_ns = read_depth(path), OrderBook(), 0
    for number, message in enumerate(file.messages()):
        if message.time_ns < last_ns:
            tally.add(Flaw.OUT_OF_ORDER, "a message before the one above it", row=number, time_ns=message.time_ns)
        last_ns = max(last_ns, message.time_ns)
        outcome = book.take(message.book)
        if isinstance(outcome, Refused):
            tally.add(Flaw.BOOK_REFUSED, f"{outcome.fault}: {outcome.detail}", row=number, time_ns=message.time_ns)
    if last_ns > rules.now_ns:
        tally.add(Flaw.FUTURE_TIME, "a message after now", time_ns=last_ns)
    notes = (f"{len(file):,} messages; their numbers stand for rows",)
    return file.rows, notes if book.ready else (*notes, "the book is not whole at the end: no snapshot, or a gap")


def _skip(path: Path, _rules: Rules, _tally: Tally) -> Found:
    return 0, (f"nothing here reads a table of {', '.join(columns_in(path))[:100]}: not checked",)


CHECKS: dict[DataKind, Callable[[Path, Rules, Tally], Found]] = {
    DataKind.TRADES: _check_trades,
    DataKind.FUNDING: _check_funding,
    DataKind.BOOK: _check_book,
    DataKind.QUOTES: _skip,
    DataKind.OTHER: _skip,
}
