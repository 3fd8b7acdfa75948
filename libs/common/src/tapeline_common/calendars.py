"""Trading calendars by name, as facts: weekly hours, changes of local time, and days without trading.

Time zones are looked up here, once, at configuration; cores get plain numbers (``hours``). Holidays of the New York
Stock Exchange follow its rules and the list of its unscheduled closures; early closes are not known. Other markets are
described in ``[[calendar]]``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tapeline_common.events import SessionsScheduled
from tapeline_common.hours import SECOND_NS
from tapeline_common.opening import Opening, instrument_id
from tapeline_common.settings import CalendarTable, ConfigurationInvalid, Settings

ALWAYS = "24/7"
FIRST_YEAR, LAST_YEAR = 1990, 2050
"""Changes of local time and holidays are said for these years."""

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
DAY_MINUTES = 1_440
WEEK_MINUTES = 7 * DAY_MINUTES
EPOCH = date(1970, 1, 1)
_HOURS = re.compile(r"(\w{3})(?:-(\w{3}))? (\d\d):(\d\d)-(?:(\w{3}) )?(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Calendar:
    """Hours of a market. ``weekly``: (open, close) in minutes since Monday 00:00 local time."""

    zone: str
    weekly: tuple[tuple[int, int], ...]
    closed: tuple[date, ...] = ()


def session_openings(settings: Settings) -> list[Opening]:
    """The trading hours of every instrument that has any.

    Raises:
        ConfigurationInvalid: a calendar is not known or cannot be understood.
    """
    openings = []
    own = {table.name: _described(index, table) for index, table in enumerate(settings.calendar)}
    for index, instrument in enumerate(settings.instrument):
        name = instrument.calendar
        if name == ALWAYS:
            continue
        calendar = own.get(name) or _built_in(name)
        if calendar is None:
            known = ", ".join([ALWAYS, *BUILT_IN, *own])
            raise ConfigurationInvalid(
                f"key instrument[{index}].calendar is {name}: use one of {known}, or describe it in [[calendar]]"
            )
        token = instrument_id(instrument)
        closed = tuple(sorted((day - EPOCH).days for day in calendar.closed))
        said = SessionsScheduled(token, calendar.zone, calendar.weekly, offsets(calendar.zone), closed)
        openings.append(Opening(f"sessions:{token}", said))
    return openings


@cache
def offsets(zone: str) -> tuple[tuple[int, int], ...]:
    """(since, UTC ns; how far local time is ahead of UTC, s), from the first year to the last."""
    local = ZoneInfo(zone)

    def ahead(second: int) -> int:
        offset = datetime.fromtimestamp(second, tz=UTC).astimezone(local).utcoffset()
        return int(offset.total_seconds()) if offset is not None else 0

    at = int(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp())
    found = [(at * SECOND_NS, ahead(at))]
    while at < end:
        after = at + 86_400
        if ahead(after) != found[-1][1]:
            low, high = at, after
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if ahead(middle) == found[-1][1] else (low, middle)
            found.append((high * SECOND_NS, ahead(high)))
        at = after
    return tuple(found)


# ---- described ones ----------------------------------------------------------------------------------------------


def _described(index: int, table: CalendarTable) -> Calendar:
    try:
        ZoneInfo(table.zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigurationInvalid(
            f"key calendar[{index}].zone is {table.zone}: use a name of the time zone database of this machine, "
            f"such as Europe/London"
        ) from None
    weekly = tuple(sorted(pair for text in table.sessions for pair in _weekly(index, text)))
    for (_, close), (opened, _) in pairwise(weekly):
        if opened < close:
            raise ConfigurationInvalid(f"key calendar[{index}].sessions is {list(table.sessions)}: they overlap")
    if not weekly:
        raise ConfigurationInvalid(f"key calendar[{index}].sessions is empty: write such as 'Mon-Fri 09:30-16:00'")
    return Calendar(table.zone, weekly, tuple(_day(index, text) for text in table.closed))


def _weekly(index: int, text: str) -> Iterator[tuple[int, int]]:
    """``Mon-Fri 09:30-16:00``: a session on each of these days; ``Sun 17:00-Fri 17:00``: one over several."""
    found = _HOURS.fullmatch(text)
    first, last, hour, minute, until, to_hour, to_minute = found.groups() if found else (None,) * 7
    named = (day for day in (first, last, until) if day is not None)
    minutes = int(hour or 24) * 60 + int(minute or 0), int(to_hour or 25) * 60 + int(to_minute or 0)
    if not all(day in DAYS for day in named) or minutes[0] >= DAY_MINUTES or minutes[1] > DAY_MINUTES:
        raise ConfigurationInvalid(
            f"key calendar[{index}].sessions is {text!r}: write such as 'Mon-Fri 09:30-16:00' or 'Sun 17:00-Fri 17:00'"
        )
    start, end = DAYS.index(str(first)), DAYS.index(last or str(first))
    for day in range(start, end + 1 if end >= start else end + 1 + len(DAYS)):
        opened = day % len(DAYS) * DAY_MINUTES + minutes[0]
        close_day = day % len(DAYS) if until is None else DAYS.index(until)
        close = close_day * DAY_MINUTES + minutes[1]
        if close <= opened:
            close += DAY_MINUTES if until is None else WEEK_MINUTES
        yield opened, close


def _day(index: int, text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationInvalid(
            f"key calendar[{index}].closed is {text!r}: write days such as '2026-12-25'"
        ) from None


# ---- built-in ones -----------------------------------------------------------------------------------------------

BUILT_IN = ("24/5", "NYSE", "XNYS")
"""Currencies from Sunday to Friday 17:00 New York time; the stock exchange under both its names."""

NEW_YORK = "America/New_York"


def _built_in(name: str) -> Calendar | None:
    if name == "24/5":
        sunday = 6 * DAY_MINUTES + 17 * 60
        return Calendar(NEW_YORK, ((sunday, sunday + 5 * DAY_MINUTES),))
    if name in BUILT_IN:
        weekly = tuple((day * DAY_MINUTES + 570, day * DAY_MINUTES + 960) for day in range(5))
        return Calendar(NEW_YORK, weekly, nyse_holidays())
    return None


UNSCHEDULED = (
    date(1994, 4, 27), date(2001, 9, 11), date(2001, 9, 12), date(2001, 9, 13), date(2001, 9, 14), date(2004, 6, 11),
    date(2007, 1, 2), date(2012, 10, 29), date(2012, 10, 30), date(2018, 12, 5), date(2025, 1, 9),
)  # fmt: skip
"""Days of mourning, attacks and storms on which New York did not trade."""


@cache
def nyse_holidays() -> tuple[date, ...]:
    """Days without trading at the New York Stock Exchange by its rules, weekends left out."""
    days = [day for year in range(FIRST_YEAR, LAST_YEAR + 1) for day in _nyse_year(year)]
    return tuple(sorted(day for day in (*days, *UNSCHEDULED) if day.weekday() < 5))


def _nyse_year(year: int) -> Iterator[date]:
    new_year = date(year, 1, 1)
    yield new_year + timedelta(days=1 if new_year.weekday() == 6 else 0)  # a Saturday is not made up for
    if year >= 1998:
        yield _weekday(year, 1, 0, 3)
    yield _weekday(year, 2, 0, 3)
    yield _easter(year) - timedelta(days=2)
    memorial = date(year, 5, 31)
    yield memorial - timedelta(days=memorial.weekday())
    if year >= 2022:
        yield _observed(date(year, 6, 19))
    yield _observed(date(year, 7, 4))
    yield _weekday(year, 9, 0, 1)
    yield _weekday(year, 11, 3, 4)
    yield _observed(date(year, 12, 25))


def _weekday(year: int, month: int, weekday: int, count: int) -> date:
    """The so-manieth weekday (Monday is 0) of a month."""
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (count - 1))


def _observed(day: date) -> date:
    """A holiday on a Saturday is kept on the Friday before, one on a Sunday on the Monday after."""
    return day + timedelta(days={5: -1, 6: 1}.get(day.weekday(), 0))


def _easter(year: int) -> date:
    """Easter Sunday of the Gregorian calendar (the anonymous algorithm, Nature 1876)."""
    a, b, c = year % 19, year // 100, year % 100
    h = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    week = (32 + 2 * (b % 4) + 2 * (c // 4) - h - c % 4) % 7
    m = (a + 11 * h + 22 * week) // 451
    month, day = divmod(h + week - 7 * m + 114, 31)
    return date(year, month, day + 1)
