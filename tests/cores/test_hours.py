"""Trading hours: sessions from weekly hours, clock changes and closed days; what the venue and the feed make of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.backtesting import write_bars
from tests.trading import BTC, DAY_NS, FREE, FUNDED, LISTED, MINUTE_NS, RUN, Venue, order

from tapeline_backtest.feed import script, source
from tapeline_common.calendars import EPOCH, nyse_holidays, offsets, session_openings
from tapeline_common.events import BarClosed, DataRejected, OrderExpired, SessionsScheduled
from tapeline_common.hours import Hours
from tapeline_common.opening import Opening, changed
from tapeline_common.settings import ConfigurationInvalid, parse
from tapeline_common.values import DecimalText, OrderType, TimeInForce
from tapeline_marketdata.files import read_bars

NEW_YORK = ZoneInfo("America/New_York")
STOCK = '[[instrument]]\nname = "SPY/USDT"\ncalendar = "{}"\n'


def ns(text: str) -> int:
    """A moment in New York, such as ``2026-07-02 09:30``."""
    return int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()) * 10**9


def scheduled(calendar: str = "NYSE", more: str = "") -> SessionsScheduled:
    (opening,) = session_openings(parse(STOCK.format(calendar) + more))
    assert isinstance(opening.event, SessionsScheduled)
    return opening.event


def session(text: str, hours: Hours | None = None) -> tuple[int, int] | None:
    return (hours or Hours(scheduled())).session_at(ns(text))


# ---- sessions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "day"),
    [
        ("2026-11-20 12:00", "2026-11-20"),
        ("2026-11-20 09:30", "2026-11-20"),
        ("2026-11-20 09:29", "2026-11-20"),
        ("2026-11-20 16:00", "2026-11-23"),
        ("2026-11-21 12:00", "2026-11-23"),
        ("2026-11-25 23:00", "2026-11-27"),
        ("2026-03-06 17:00", "2026-03-09"),
        ("2026-10-30 17:00", "2026-11-02"),
        ("2001-09-10 20:00", "2001-09-17"),
    ],
)
def test_a_moment_belongs_to_its_session_or_the_next(at: str, day: str) -> None:
    """The close is not in it; nights, weekends, Thanksgiving, both clock changes and a closure are passed over."""
    assert session(at) == (ns(f"{day} 09:30"), ns(f"{day} 16:00"))


def test_currencies_trade_from_sunday_to_friday() -> None:
    """One session over five days, in New York time."""
    hours = Hours(scheduled("24/5"))
    week = (ns("2026-11-15 17:00"), ns("2026-11-20 17:00"))
    assert session("2026-11-15 17:00", hours) == session("2026-11-20 16:59", hours) == week
    assert session("2026-11-20 17:00", hours) == (ns("2026-11-22 17:00"), ns("2026-11-27 17:00"))


YEAR_1991, YEAR_2049 = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1991, 2049))


@settings(deadline=None)
@given(st.integers(YEAR_1991, YEAR_2049))
def test_sessions_equal_the_plain_way(second: int) -> None:
    """A day at a time with a calendar of the standard library: the naive twin."""
    day = datetime.fromtimestamp(second, tz=NEW_YORK).date()
    expected = None
    while expected is None:
        opened, closes = (ns(f"{day} {hour}") for hour in ("09:30", "16:00"))
        if day.weekday() < 5 and day not in nyse_holidays() and closes > second * 10**9:
            expected = opened, closes
        day += timedelta(days=1)
    assert Hours(scheduled()).session_at(second * 10**9) == expected


def test_a_bar_meets_a_session_in_part_or_not_at_all() -> None:
    """A day's bar does, a minute before the open does not; asked in order of time."""
    hours = Hours(scheduled())
    at, day = ns("2026-11-20 09:30"), ns("2026-11-20 00:00")
    assert hours.meets(day, day + DAY_NS)
    assert not hours.meets(at - MINUTE_NS, at)
    assert hours.meets(at - MINUTE_NS, at + MINUTE_NS)
    assert hours.meets(at, at + MINUTE_NS)
    close = ns("2026-11-20 16:00")
    assert hours.meets(close - MINUTE_NS, close)
    assert not hours.meets(close, close + MINUTE_NS)
    assert hours.meets(ns("2026-11-23 09:30"), ns("2026-11-23 09:31"))


def test_bars_are_counted_in_sessions_only() -> None:
    """From Friday's close to Monday's open there are none; a day's missing minutes are 390; days are whole bars."""
    hours = Hours(scheduled())
    friday, monday = ns("2026-11-20 16:00"), ns("2026-11-23 09:30")
    assert hours.bars_between(friday, monday, MINUTE_NS) == 0
    assert hours.bars_between(friday, monday + 2 * MINUTE_NS, MINUTE_NS) == 2
    assert hours.bars_between(friday, ns("2026-11-24 09:30"), MINUTE_NS) == 390
    utc_day = ns("2026-11-20 00:00") // DAY_NS * DAY_NS
    assert hours.bars_between(utc_day, utc_day + 4 * DAY_NS, DAY_NS) == 2


# ---- calendars ---------------------------------------------------------------------------------------------------


def test_clock_changes_are_those_of_the_zone() -> None:
    """To the second: clocks went forward at 07:00 UTC on the eighth of March 2026."""
    changes = dict(offsets("America/New_York"))
    forward = int(datetime(2026, 3, 8, 7, tzinfo=UTC).timestamp()) * 10**9
    assert changes[forward] == -4 * 3600
    assert len(offsets("UTC")) == 1


def test_new_york_keeps_its_holidays() -> None:
    """A year as published, Saturdays and Sundays moved, and a New Year on a Saturday that is not made up for."""
    assert [day.isoformat() for day in nyse_holidays() if day.year == 2026] == [
        "2026-01-01", "2026-01-19", "2026-02-16", "2026-04-03", "2026-05-25", "2026-06-19", "2026-07-03", "2026-09-07",
        "2026-11-26", "2026-12-25",
    ]  # fmt: skip
    assert date(2021, 12, 31) not in nyse_holidays()
    assert date(2023, 1, 2) in nyse_holidays()
    assert date(2021, 7, 5) in nyse_holidays()


LONDON = """
[[calendar]]
name = "LSE"
zone = "Europe/London"
sessions = ["Mon-Thu 08:00-16:30", "Fri 08:00-12:30"]
closed = ["2026-12-25"]
"""


def test_a_market_can_be_described() -> None:
    """Its zone, its week, its holidays."""
    said = scheduled("LSE", LONDON)
    assert (said.zone, said.closed) == ("Europe/London", ((date(2026, 12, 25) - EPOCH).days,))
    assert said.weekly == tuple((day * 1440 + 480, day * 1440 + (750 if day == 4 else 990)) for day in range(5))
    assert scheduled("X", LONDON.replace("LSE", "X").replace('"Fri 08:00-12:30"', '"Fri 22:00-02:00"')).weekly[-1] == (
        4 * 1440 + 1320, 5 * 1440 + 120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("calendar", "text", "said"),
    [
        ("Mars", LONDON, "key instrument[0].calendar is Mars: use one of 24/7, 24/5, NYSE, XNYS, LSE, or describe it"),
        ("LSE", LONDON.replace("Europe/London", "Europa/London"), "key calendar[0].zone is Europa/London: use a name"),
        ("LSE", LONDON.replace("Fri 08:00", "Fry 08:00"), "key calendar[0].sessions is 'Fry 08:00-12:30': write such"),
        ("LSE", LONDON.replace("Fri 08:00", "Thu 16:00"), "they overlap"),
        ("LSE", LONDON.replace("2026-12-25", "Christmas"), "key calendar[0].closed is 'Christmas': write days such as"),
        ("LSE", '[[calendar]]\nname = "LSE"\nzone = "UTC"\nsessions = []\n', "key calendar[0].sessions is empty"),
    ],
)
def test_a_calendar_that_cannot_be_is_refused(calendar: str, text: str, said: str) -> None:
    """By key, value and fix."""
    with pytest.raises(ConfigurationInvalid) as refused:
        session_openings(parse(STOCK.format(calendar) + text))
    assert said in str(refused.value)


def test_around_the_clock_nothing_is_said_and_a_calendar_can_be_taken_back() -> None:
    """No fact, as ever; a tape that had one is told that it always trades."""
    assert session_openings(parse(STOCK.format("24/7"))) == []
    before = scheduled()
    ((author, identity, said),) = changed([], [(f"sessions:{before.instrument}#1", before)])
    assert (author, identity) == ("operator", f"sessions:{before.instrument}#2")
    assert isinstance(said, SessionsScheduled)
    always = Hours(said)
    for minute in range(0, 20_000, 37):
        assert always.meets(minute * MINUTE_NS, (minute + 1) * MINUTE_NS)
    assert changed([], [(f"sessions:{before.instrument}#2", said)]) == []


# ---- the venue ---------------------------------------------------------------------------------------------------


def minute(text: str, low: str = "90") -> BarClosed:
    opened, numbers = ns(text), [DecimalText(each) for each in ("100", "110", low, "100", "1000")]
    return BarClosed(BTC, "1m", opened, opened + MINUTE_NS, *numbers)


def listed_in_new_york() -> Venue:
    return Venue(RUN, LISTED, FREE, msgspec.structs.replace(scheduled(), instrument=BTC), FUNDED)


def test_an_order_waits_for_the_open() -> None:
    """Bars before the market opens, and after it closed, fill nothing; the first of the session does."""
    one = listed_in_new_york()
    one.hear(minute("2026-11-20 15:59"))
    one.take(order())
    for early in ("2026-11-20 16:00", "2026-11-20 19:00", "2026-11-23 09:29"):
        assert one.hear(minute(early)) == []
    (fill,) = one.hear(minute("2026-11-23 09:30"))
    assert type(fill).__name__ == "OrderFilled"


def test_a_day_order_ends_with_its_session() -> None:
    """Sent at the close it is the next session's; that session's end is its end, whatever day UTC has."""
    one = listed_in_new_york()
    one.hear(minute("2026-11-20 15:59"))
    passive = {"order_type": OrderType.LIMIT, "limit_price": "80", "time_in_force": TimeInForce.DAY}
    one.take(order(**passive))
    assert one.hear(minute("2026-11-23 09:30")) == []
    assert one.hear(minute("2026-11-23 15:59")) == []
    (expired,) = one.hear(minute("2026-11-24 09:30", low="70"))
    assert isinstance(expired, OrderExpired)


def test_without_hours_the_clock_never_stops() -> None:
    """As ever: nights and weekends fill."""
    one = Venue(RUN, LISTED, FREE, FUNDED)
    one.hear(minute("2026-11-20 15:59"))
    one.take(order())
    assert len(one.hear(minute("2026-11-20 19:00"))) == 1


# ---- the feed ----------------------------------------------------------------------------------------------------


def test_nights_and_weekends_are_no_gaps(tmp_path: Path) -> None:
    """Friday's last minute, Monday's first: nothing is missing. A minute left out within the session is."""
    times = [
        ns(text) // 10**6 for text in ("2026-11-20 15:58", "2026-11-20 15:59", "2026-11-23 09:30", "2026-11-23 09:33")
    ]
    path = str(write_bars(tmp_path / "spy.parquet", [(ms, 1.0, 1.0, 1.0, 1.0, 1.0) for ms in times]))
    one = source(BTC, path, read_bars(path, timeframe="1m"))

    def gaps(opening: list[Opening]) -> list[str]:
        return [said.event.detail for said in script(opening, [one]) if isinstance(said.event, DataRejected)]

    assert gaps([]) == ["3930 bars missing", "2 bars missing"]
    assert gaps([Opening("s", msgspec.structs.replace(scheduled(), instrument=BTC))]) == ["2 bars missing"]
