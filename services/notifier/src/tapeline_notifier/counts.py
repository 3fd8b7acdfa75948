"""The notifier's numbers, kept plain and told when somebody looks (``measures`` says what they mean)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tapeline_common.measures import Labels
from tapeline_notifier.measures import OUTCOMES
from tapeline_notifier.message import Kind

MOST_NAMES = 500
"""Different alert names that are counted by themselves: they come from outside."""


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

    def samples(self, _now_ns: int) -> Iterator[tuple[str, Labels, float]]:
        """Every sample now; outcomes that did not happen yet are there, as zeros."""
        yield "tapeline_destinations", (), float(len(self.destinations))
        yield "tapeline_watchdog_time_seconds", (), self.watchdog_time_s
        for destination in self.destinations:
            pending, oldest_s = self.waiting[destination]() if destination in self.waiting else (0, 0.0)
            yield "tapeline_notifications_pending", (destination,), float(pending)
            yield "tapeline_notification_age_seconds", (destination,), oldest_s
            for kind in Kind:
                for outcome in OUTCOMES:
                    labels = (destination, kind.value, outcome)
                    yield "tapeline_notifications_total", labels, float(self.notifications[labels])
        for alert, count in self.alerts.items():
            yield "tapeline_alerts_received_total", alert, float(count)
