"""Trading hours of an instrument: which session a moment belongs to, from the weekly hours that a fact brings.

Sessions are given in local time; how far local time is ahead of UTC, and since when, comes with them, so that nothing
here needs a time zone database or a clock. Early closes are not known: an order waits, and the last bars are missing.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

from tapeline_common.events import SessionsScheduled

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
DAY_NS = 86_400 * SECOND_NS
WEEK_DAYS = 7
THURSDAY = 3
"""1970-01-01 was one; weeks here begin on Mondays."""

MOST_WEEKS = 10
"""No market closes for longer."""


@dataclass(slots=True)
class Hours:
    """Sessions of one calendar.

    Attributes:
        current: the session found last, as (open, close): bars come in order, so it mostly is the next one's too.
    """

    scheduled: SessionsScheduled
    current: tuple[int, int] = (0, 0)
    since_ns: list[int] = field(init=False)
    closed: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        self.since_ns = [since_ns for since_ns, _ in self.scheduled.offsets]
        self.closed = frozenset(self.scheduled.closed)

    def session_at(self, time_ns: int) -> tuple[int, int] | None:
        """Open and close of the session that this moment is in, else of the next one. The close is not in it."""
        monday = (self._local(time_ns) // DAY_NS + THURSDAY) // WEEK_DAYS * WEEK_DAYS - THURSDAY
        for week in range(-1, MOST_WEEKS):
            for open_minute, close_minute in self.scheduled.weekly:
                first_day = monday + week * WEEK_DAYS
                if first_day + open_minute // 1_440 in self.closed:
                    continue
                close_ns = self._utc(first_day * DAY_NS + close_minute * MINUTE_NS)
                if close_ns > time_ns:
                    return self._utc(first_day * DAY_NS + open_minute * MINUTE_NS), close_ns
        return None

    def meets(self, open_ns: int, close_ns: int) -> bool:
        """Whether a bar lies in a session, in part at least. Bars are asked about in order of time."""
        if not self.current[0] <= open_ns < self.current[1]:
            self.current = self.session_at(open_ns) or (0, 0)
        return self.current[0] < close_ns and open_ns < self.current[1]

    def bars_between(self, start_ns: int, end_ns: int, length_ns: int) -> int:
        """How many bars of a grid from ``start_ns`` on, up to ``end_ns``, lie in a session, in part at least."""
        count, at_ns = 0, start_ns
        while at_ns < end_ns:
            session = self.session_at(at_ns)
            if session is None or session[0] >= end_ns:
                break
            if session[0] >= at_ns + length_ns:
                at_ns += (session[0] - at_ns) // length_ns * length_ns
                continue
            until_ns = min(session[1], end_ns)
            inside = -(-(until_ns - at_ns) // length_ns)
            count += inside
            at_ns += inside * length_ns
        return count

    def _offset_ns(self, time_ns: int) -> int:
        """How far local time is ahead of UTC. Before the first offset that is given, the first."""
        index = max(0, bisect_right(self.since_ns, time_ns) - 1)
        return self.scheduled.offsets[index][1] * SECOND_NS

    def _local(self, time_ns: int) -> int:
        return time_ns + self._offset_ns(time_ns)

    def _utc(self, local_ns: int) -> int:
        """Sessions do not begin or end in the hour in which clocks are changed; there the later offset holds."""
        guess_ns = local_ns - self._offset_ns(local_ns)
        return local_ns - self._offset_ns(guess_ns)
