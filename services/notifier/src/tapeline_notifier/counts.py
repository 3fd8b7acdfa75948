"""The notifier's numbers, plain; whoever serves metrics reads ``samples``. See docs of the metrics for their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tapeline_notifier.message import Kind

SENT, FAILED, DROPPED = OUTCOMES = ("sent", "failed", "dropped")

MOST_NAMES = 500
"""Different alert names that are counted by themselves: they come from outside."""

Sample = tuple[str, dict[str, str], float]
"""Name without the prefix ``tapeline_``, labels, value."""


@dataclass(slots=True)
class Counts:
    """What was told.

    Attributes:
        destinations: names of those configured, without the file.
        notifications: (destination, kind, outcome) → messages. ``failed``: an attempt for it failed; it is tried again
            and counts once. A message told in a summary counts as sent.
        waiting: destination → asks how many messages wait and for how many seconds the oldest one does.
        alerts: (alert name, firing or resolved) → alerts received.
        watchdog_time_s: Unix time of the last Watchdog, 0 for never.
    """

    destinations: tuple[str, ...] = ()
    notifications: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    waiting: dict[str, Callable[[], tuple[int, float]]] = field(default_factory=dict)
    alerts: Counter[tuple[str, str]] = field(default_factory=Counter)
    watchdog_time_s: float = 0.0

    def saw_alert(self, name: str, status: str) -> None:
        known = (name, status) in self.alerts or len(self.alerts) < MOST_NAMES
        self.alerts[name if known else "other", status] += 1

    def samples(self) -> Iterator[Sample]:
        """Every sample now. Counters end in ``_total``; outcomes that did not happen yet are there, as zeros."""
        yield "destinations", {}, float(len(self.destinations))
        yield "watchdog_time_seconds", {}, self.watchdog_time_s
        for destination in self.destinations:
            pending, oldest_s = self.waiting[destination]() if destination in self.waiting else (0, 0.0)
            yield "notifications_pending", {"destination": destination}, float(pending)
            yield "notification_age_seconds", {"destination": destination}, oldest_s
            for kind in Kind:
                for outcome in OUTCOMES:
                    labels = {"destination": destination, "kind": kind.value, "outcome": outcome}
                    count = self.notifications[destination, kind.value, outcome]
                    yield "notifications_total", labels, float(count)
        for (name, status), count in list(self.alerts.items()):
            yield "alerts_received_total", {"alertname": name, "status": status}, float(count)
