"""What Alertmanager posts (webhook payload, version 4), and the one message that a group of alerts becomes.

Also the watch over the alert that always fires: while ``Watchdog`` comes, the way from Prometheus to here works. Pure:
the receiver hands bytes and times in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from tapeline_notifier.message import Kind, Message, Severity, clipped, gravest, listed, message

WATCHDOG = "Watchdog"
"""Name of the alert that always fires; it is never forwarded."""

VERSION = "4"

_PAGES = ("page", "critical")
_MOST_SUMMARY = 240


class PayloadRefused(Exception):
    """What was posted cannot be read as alerts. The message says why, for the sender."""


class Alert(msgspec.Struct, frozen=True):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}

    @property
    def name(self) -> str:
        return clipped(self.labels.get("alertname", ""), 100) or "unnamed"

    @property
    def severity(self) -> Severity:
        """A severity that is not ours is a ticket: an alert that somebody wrote is nothing to keep quiet about."""
        return Severity.PAGE if self.labels.get("severity") in _PAGES else Severity.TICKET


class Group(msgspec.Struct, frozen=True, rename="camel"):
    """One post. ``truncated_alerts``: how many Alertmanager left out."""

    version: str
    status: Literal["firing", "resolved"]
    alerts: tuple[Alert, ...]
    group_labels: dict[str, str] = {}
    common_labels: dict[str, str] = {}
    truncated_alerts: int = 0


_decoder = msgspec.json.Decoder(Group)


def read_group(body: bytes) -> Group:
    """Raises ``PayloadRefused`` for whatever is no webhook payload of version 4."""
    try:
        group = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as trouble:
        raise PayloadRefused(f"not a webhook payload of Alertmanager: {clipped(str(trouble), 300)}") from None
    if group.version != VERSION:
        raise PayloadRefused(f"version {clipped(group.version, 20)!r} of the payload: only {VERSION!r} is known")
    return group


def message_of(group: Group, time_ns: int) -> Message | None:
    """One message about all alerts of a group, firing ones first; none if there is nothing to forward."""
    alerts = [alert for alert in group.alerts if alert.name != WATCHDOG]
    if not alerts:
        return None
    firing = [alert for alert in alerts if alert.status == "firing"]
    resolved = [alert for alert in alerts if alert.status == "resolved"]
    if firing:
        title = f"FIRING {_names(firing)}" + (f", {len(resolved)} resolved" if resolved else "")
    else:
        title = f"RESOLVED {_names(resolved)}"
    text = listed([_line(alert) for alert in (*firing, *resolved)], "more alerts")
    if group.truncated_alerts > 0:
        text += f"\n{group.truncated_alerts} more were left out by Alertmanager"
    severity = gravest([alert.severity for alert in firing or resolved])
    labels = {clipped(key, 100): clipped(value, 200) for key, value in group.common_labels.items()}
    return message(Kind.ALERT, severity, title, text, time_ns=time_ns, labels=labels)


def _names(alerts: Sequence[Alert]) -> str:
    counts: dict[str, int] = {}
    for alert in alerts:
        counts[alert.name] = counts.get(alert.name, 0) + 1
    named = [f"{name} ({count})" if count > 1 else name for name, count in counts.items()]
    return ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")


def _line(alert: Alert) -> str:
    """Status, severity, name, where, what, and the page that says what to do."""
    notes = alert.annotations
    where = " ".join(
        clipped(alert.labels[label], 60) for label in ("service", "instrument", "instance") if alert.labels.get(label)
    )
    summary = clipped(notes.get("summary") or notes.get("description") or "", _MOST_SUMMARY)
    runbook = clipped(notes.get("runbook_url") or notes.get("runbook") or "", 200)
    said = f"{alert.status} {alert.severity.value}: {alert.name}" + (f" [{where}]" if where else "")
    return said + (f": {summary}" if summary else "") + (f" ({runbook})" if runbook else "")


class Watch:
    """Whether the alert that always fires still comes.

    Args:
        patience_s: how long it may be missing; 0: it is not expected.
        started_s: when the watch began, by any clock that only moves on; the first alert has as long from there.
    """

    def __init__(self, patience_s: float, started_s: float) -> None:
        self.patience_s = patience_s
        self._seen_s = started_s
        self._silent = False

    def saw(self, now_s: float, time_ns: int) -> Message | None:
        """The alert came. A message if that ends a silence."""
        self._seen_s = now_s
        if not self._silent:
            return None
        self._silent = False
        text = f"{WATCHDOG} comes again: alerts reach the notifier."
        return message(Kind.ALERT, Severity.PAGE, "RESOLVED alert pipeline is silent", text, time_ns=time_ns)

    def look(self, now_s: float, time_ns: int) -> Message | None:
        """A message, once, if the alert is missing for too long."""
        if not self.patience_s or self._silent or now_s - self._seen_s <= self.patience_s:
            return None
        self._silent = True
        text = (
            f"No {WATCHDOG} for {self.patience_s:g} s. No alert can be trusted to arrive: look at Prometheus and "
            "Alertmanager."
        )
        return message(Kind.ALERT, Severity.PAGE, "FIRING alert pipeline is silent", text, time_ns=time_ns)
