"""Alertmanager's groups as messages, the watch over the alert that always fires, summaries, and the numbers kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tapeline_notifier.alerts import PayloadRefused, Watch, message_of, read_group
from tapeline_notifier.counts import MOST_NAMES, Counts
from tapeline_notifier.measures import MEASURES
from tapeline_notifier.message import Kind, Message, Severity, collapsed, located, message, wanted

NOW_NS = 1_700_000_000_000_000_000


def alert(name: str, severity: str = "page", status: str = "firing", **notes: str) -> dict[str, Any]:
    labels = {
        "alertname": name,
        "severity": severity,
        **{key: notes.pop(key) for key in ("instrument",) if key in notes},
    }
    return {"status": status, "labels": labels, "annotations": notes, "startsAt": "2026-11-21T13:00:00Z"}


def post(*alerts: dict[str, Any], **more: Any) -> bytes:
    group = {"version": "4", "status": "firing", "receiver": "tapeline", "alerts": list(alerts), **more}
    return json.dumps(group).encode()


def told(*alerts: dict[str, Any], **more: Any) -> Message | None:
    return message_of(read_group(post(*alerts, **more)), NOW_NS)


def test_a_group_is_one_message() -> None:
    """Firing alerts first, each with severity, summary and runbook; what the group has in common is kept."""
    found = told(
        alert("FeedStale", "ticket", "resolved", summary="bars come again", instrument="BTC-USD"),
        alert("FeedStale", summary="no bars for 60 s", runbook_url="docs/runbooks/feed.md", instrument="ETH-USD"),
        alert("LedgerDown", summary="the ledger is down"),
        commonLabels={"cluster": "home"},
    )
    assert found == Message(
        Kind.ALERT,
        Severity.PAGE,
        "FIRING FeedStale, LedgerDown, 1 resolved",
        "firing page: FeedStale [ETH-USD]: no bars for 60 s (docs/runbooks/feed.md)\n"
        "firing page: LedgerDown: the ledger is down\n"
        "resolved ticket: FeedStale [BTC-USD]: bars come again",
        NOW_NS,
        labels={"cluster": "home"},
    )


def test_the_end_of_a_page_reaches_who_had_the_page() -> None:
    """A resolved group has the severity of its alerts, so nobody keeps waiting."""
    found = told(alert("LedgerDown", "critical", "resolved"), alert("Other", "ticket", "resolved"))
    assert found is not None
    assert (found.title, found.severity) == ("RESOLVED LedgerDown, Other", Severity.PAGE)


def test_an_unknown_severity_is_a_ticket() -> None:
    """Somebody wrote the alert: it is not dropped for its label, or for having no name."""
    found = told({"status": "firing", "labels": {"severity": "purple"}})
    assert found is not None
    assert (found.severity, found.text) == (Severity.TICKET, "firing ticket: unnamed")


def test_the_watchdog_is_never_forwarded() -> None:
    """Neither alone nor among others."""
    assert told(alert("Watchdog", "none")) is None
    found = told(alert("Watchdog", "none"), alert("LedgerDown"))
    assert found is not None
    assert found.text == "firing page: LedgerDown"


def test_a_thousand_alerts_are_one_message_of_bearable_length() -> None:
    """The first twenty, and how many more; also those that Alertmanager left out."""
    found = told(*(alert(f"Alert{number}", summary="x" * 300) for number in range(1000)), truncatedAlerts=7)
    assert found is not None
    assert found.title == "FIRING Alert0, Alert1, Alert2, Alert3, Alert4 and 995 more"
    assert len(found.text) <= 3_500
    short = told(*(alert(f"Alert{number}") for number in range(1000)), truncatedAlerts=7)
    assert short is not None
    assert short.text.splitlines()[-2:] == ["and 980 more alerts", "7 more were left out by Alertmanager"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": "4"}',
        b'{"version": "3", "status": "firing", "alerts": []}',
        b'{"version": 4, "status": "firing", "alerts": []}',
        b'{"version": "4", "status": "maybe", "alerts": []}',
        b'{"version": "4", "status": "firing", "alerts": [{"status": "firing"}]}',
        b'{"version": "4", "status": "firing", "alerts": [{"status": "firing", "labels": {"a": 1}}]}',
    ],
)
def test_what_is_no_payload_is_refused_with_a_reason(body: bytes) -> None:
    """Never taken for a group, never another exception."""
    with pytest.raises(PayloadRefused, match=r"."):
        read_group(body)


def test_unknown_fields_of_a_payload_are_passed_over() -> None:
    """A newer Alertmanager may add some."""
    assert read_group(post(alert("LedgerDown"), notificationReason="new")).alerts[0].name == "LedgerDown"


# ---- the watch ---------------------------------------------------------------------------------------------------


def test_silence_is_told_once_and_so_is_its_end() -> None:
    """From the start on: a pipeline that never worked is as silent as one that broke."""
    watch = Watch(180.0, started_s=10.0)
    assert watch.look(190.0, NOW_NS) is None
    first = watch.look(190.1, NOW_NS)
    assert first is not None
    assert (first.kind, first.severity, first.title) == (
        Kind.ALERT,
        Severity.PAGE,
        "FIRING alert pipeline is silent",
    )
    assert watch.look(9_999.0, NOW_NS) is None
    back = watch.saw(10_000.0, NOW_NS)
    assert back is not None
    assert (back.severity, back.title) == (Severity.PAGE, "RESOLVED alert pipeline is silent")


def test_a_watchdog_that_comes_is_quiet() -> None:
    """Each one starts the wait anew."""
    watch = Watch(180.0, started_s=0.0)
    for minute in range(1, 60):
        assert watch.saw(minute * 60.0, NOW_NS) is None
        assert watch.look(minute * 60.0 + 59.0, NOW_NS) is None


def test_without_patience_nothing_is_expected() -> None:
    """0: alerts are not set up, as with plain ``tapeline up``."""
    assert Watch(0.0, started_s=0.0).look(1e9, NOW_NS) is None


# ---- who gets what, and summaries --------------------------------------------------------------------------------

TRADE = message(Kind.TRADE, Severity.INFO, "Bought 1 oak", "at 100", time_ns=1, position=7)
ASKED = message(Kind.CONTROL, Severity.INFO, "Halt: asked by operator", "a drill", time_ns=2, position=8)
HALT = message(Kind.CONTROL, Severity.PAGE, "Trading halted", "DAILY_LOSS\nmore", time_ns=2, position=9)
ALERT = message(Kind.ALERT, Severity.TICKET, "FIRING Slow", "x", time_ns=3)


@pytest.mark.parametrize(
    ("sends", "gets"),
    [
        (("trade",), [TRADE]),
        (("control",), [HALT]),
        (("page",), [HALT]),
        (("ticket",), [ALERT]),
        (("page", "control"), [HALT]),
        (("model",), []),
    ],
)
def test_who_gets_a_message(sends: tuple[str, ...], gets: list[Message]) -> None:
    """By its kind, or by its severity."""
    assert [one for one in (TRADE, HALT, ALERT) if wanted(one, sends)] == gets


def test_a_summary_names_what_waited() -> None:
    """Pages first, trades last; all but trades with their first line, and the position tells which fact it was."""
    found = collapsed([TRADE, ALERT, ASKED, HALT], dropped=2)
    assert found.title == "6 more, 1 page, 1 ticket among them"
    assert found.severity is Severity.PAGE
    assert found.text == (
        "- Trading halted [9]: DAILY_LOSS\n- FIRING Slow: x\n"
        "- Halt: asked by operator [8]: a drill\n- Bought 1 oak [7]\n"
        "2 older ones stand in notifications.jsonl only"
    )


def test_a_long_summary_ends_in_a_count() -> None:
    """What it does not name stands in the file."""
    assert collapsed([TRADE] * 37, dropped=0).text.endswith("\nand 17 more in notifications.jsonl")
    assert collapsed([TRADE] * 37, dropped=0).title == "37 more"


def test_a_message_is_sent_with_its_position() -> None:
    """The same position twice is the same message; an alert has none."""
    assert located(TRADE).text == "at 100\nposition 7"
    assert located(ALERT) == ALERT


# ---- numbers -----------------------------------------------------------------------------------------------------


def test_samples_are_there_before_anything_happens() -> None:
    """Every kind and outcome of every destination begins at zero, so that the first one is an increase."""
    counts = Counts(destinations=("slack",))
    samples = list(counts.samples(0))
    zeros = [labels for name, labels, value in samples if name == "tapeline_notifications_total" and value == 0]
    assert len(zeros) == 4 * 3
    counts.notifications["slack", "trade", "sent"] += 1
    counts.waiting["slack"] = lambda: (2, 1.5)
    counts.saw_alert("LedgerDown", "firing")
    after = {(name, labels): value for name, labels, value in counts.samples(0)}
    assert after["tapeline_notifications_total", ("slack", "trade", "sent")] == 1
    assert after["tapeline_notifications_pending", ("slack",)] == 2
    assert after["tapeline_notification_age_seconds", ("slack",)] == 1.5
    assert after["tapeline_alerts_received_total", ("LedgerDown", "firing")] == 1
    assert after["tapeline_destinations", ()] == 1
    assert after["tapeline_watchdog_time_seconds", ()] == 0
    assert {name for name, _ in after} == {measure.name for measure in MEASURES.all}


def test_names_from_outside_are_bounded() -> None:
    """However many alerts somebody invents, the series stay few; known ones are still counted."""
    counts = Counts()
    for number in range(MOST_NAMES * 2):
        counts.saw_alert(f"Alert{number}", "firing")
    counts.saw_alert("Alert0", "firing")
    assert len(counts.alerts) == MOST_NAMES + 1
    assert counts.alerts["Alert0", "firing"] == 2
    assert counts.alerts["other", "firing"] == MOST_NAMES
