"""What the notifier measures: what was told to whom, what still waits, and whether alerts come in at all.

All of it is told by ``counts.Counts``; nothing is read off the tape.
"""

from __future__ import annotations

from tapeline_common.measures import Kind, Measure, Measures
from tapeline_notifier import message

SENT, FAILED, DROPPED = OUTCOMES = ("sent", "failed", "dropped")

DESTINATION = ("destination",)
PER_DESTINATION = "for each destination"

MEASURES = Measures(
    tables=(
        Measure(
            name="tapeline_notifications_total",
            kind=Kind.COUNTER,
            text="Messages by what became of them; failed ones are tried again and count once, a message told in a "
            "summary counts as sent",
            labels=("destination", "kind", "outcome"),
            values={"kind": tuple(kind.value for kind in message.Kind), "outcome": OUTCOMES},
            unit="messages",
            appears=PER_DESTINATION,
        ),
        Measure(
            name="tapeline_notifications_pending",
            kind=Kind.GAUGE,
            text="Messages that wait to be delivered",
            labels=DESTINATION,
            unit="messages",
            appears=PER_DESTINATION,
        ),
        Measure(
            name="tapeline_notification_age_seconds",
            kind=Kind.GAUGE,
            text="How long the oldest waiting message has waited",
            labels=DESTINATION,
            appears=PER_DESTINATION,
        ),
        Measure(
            name="tapeline_destinations",
            kind=Kind.GAUGE,
            text="Destinations that are configured, the file not counted",
            unit="destinations",
        ),
        Measure(
            name="tapeline_alerts_received_total",
            kind=Kind.COUNTER,
            text="Alerts that Alertmanager posted",
            labels=("alertname", "status"),
            values={"status": ("firing", "resolved")},
            unit="alerts",
            appears="once an alert came",
        ),
        Measure(
            name="tapeline_watchdog_time_seconds",
            kind=Kind.GAUGE,
            text="When the alert that always fires came last; 0 for never",
        ),
    ),
)
