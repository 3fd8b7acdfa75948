"""Every alert can be trusted: it is tested three ways, has a runbook, and rests on measures that exist."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest
from tests.alerts import rules
from tests.alerts.rules import AREAS, OTHERS, RUNBOOKS, SEVERITIES, Rule, alerts, metrics_in

from tapeline_common.catalogue import catalogue
from tapeline_common.cli import tapeline

ALERTS = {rule.name: rule for rule in alerts()}
SECTIONS = ("Meaning", "Meanwhile", "Check", "Act", "Verify")

EVENT_DRIVEN = {
    "tapeline_feed_expected_interval_seconds",  # of bars with a fixed length; FeedStale knows without it
    "tapeline_append_retries_total",
    "tapeline_gap_reads_total",
    "tapeline_limit",  # of limits that are set
    "tapeline_limit_used",
    "tapeline_books_differences",  # from the first reconciliation on
    "tapeline_orders_submitted_total",
    "tapeline_traded_notional_total",
    "tapeline_mirror_lag_facts",  # where there is a mirror
    "tapeline_notifications_total",  # of destinations that are configured
    "tapeline_watchdog_time_seconds",  # WatchdogNotArriving counts from the start of the process instead
    "prometheus_notifications_dropped_total",
    "prometheus_rule_evaluation_failures_total",
    "alertmanager_notifications_failed_total",
}
"""Series that pages rest on and that come with their event: nothing to miss before."""


def kinds_of(name: str) -> list[str]:
    """What the unit tests of an alert are called, behind its name."""
    return [test["name"].partition(": ")[2] for test in rules.unit_tests() if test["name"].startswith(f"{name}: ")]


def lacks(rule: Rule, kinds: list[str], known: set[str]) -> list[str]:
    """What is wrong with a rule; nothing if it can be trusted."""
    wrong = []
    if not any(kind.startswith("fires") for kind in kinds):
        wrong.append("no unit test in which it fires")
    if not any(kind.startswith("quiet") for kind in kinds):
        wrong.append("no unit test in which it stays quiet")
    if "series absent" not in kinds:
        wrong.append("no unit test without its series")
    if rule.waits and "quiet before its time" not in kinds:
        wrong.append("no unit test just below its `for`")
    if rule.labels.get("severity") not in SEVERITIES:
        wrong.append(f"severity is {rule.labels.get('severity')}: use one of {', '.join(SEVERITIES)}")
    if rule.labels.get("area") not in AREAS:
        wrong.append(f"area is {rule.labels.get('area')}: use one of {', '.join(AREAS)}")
    unknown = metrics_in(rule.expression) - known
    if unknown:
        wrong.append(f"nothing is called {', '.join(sorted(unknown))}")
    if rule.annotations.get("runbook") != f"{{{{ $externalLabels.runbooks }}}}/{rule.name}.md":
        wrong.append("its runbook is not the page of its name below the external label")
    if not (RUNBOOKS / f"{rule.name}.md").is_file():
        wrong.append(f"docs/runbooks/{rule.name}.md is missing")
    if "$value" not in rule.annotations.get("summary", "") or rule.annotations["summary"].count(". "):
        wrong.append("its summary is not one sentence with the value")
    return wrong


def known_series() -> set[str]:
    measured = {sample for measure in catalogue() for sample in measure.samples}
    return measured | OTHERS | {rule.name for rule in rules.rules() if not rule.is_alert}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_can_be_trusted(name: str) -> None:
    """Unit tests of three kinds, severity and area, known measures, a runbook and a summary with the value."""
    assert lacks(ALERTS[name], kinds_of(name), known_series()) == []


def test_recording_rules_rest_on_measures_that_exist() -> None:
    """The same for what is recorded for the goals of service."""
    unknown = {rule.name: metrics_in(rule.expression) - known_series() for rule in rules.rules() if not rule.is_alert}
    assert not {name: missing for name, missing in unknown.items() if missing}


def test_a_rule_that_lacks_something_is_caught() -> None:
    """The check can fail, in each of its ways."""
    good = ALERTS["ServiceDown"]
    kinds, known = kinds_of("ServiceDown"), known_series()

    def with_(**changes: Any) -> Rule:
        return Rule(**{**{name: getattr(good, name) for name in Rule.__dataclass_fields__}, **changes})

    assert lacks(good, kinds, known) == []
    for kind in ("fires", "series absent", "quiet before its time"):
        assert lacks(good, [other for other in kinds if other != kind], known), kind
    assert lacks(good, [other for other in kinds if not other.startswith("quiet")], known)
    assert lacks(with_(labels={**good.labels, "severity": "critical"}), kinds, known)
    assert lacks(with_(labels={**good.labels, "area": "misc"}), kinds, known)
    assert lacks(with_(expression="tapeline_postion > 5"), kinds, known) == ["nothing is called tapeline_postion"]
    assert lacks(with_(annotations={**good.annotations, "runbook": "docs/runbooks/ServiceDown.md"}), kinds, known)
    assert lacks(with_(annotations={**good.annotations, "summary": "a service is down"}), kinds, known)
    assert lacks(with_(name="ServiceGone"), kinds, known)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('up{job="tapeline"} == 0', {"up"}),
        ("sum by (service, le) (rate(a_bucket[5m])) > bool 0.5", {"a_bucket"}),
        ('a{x="b or c"} unless on (job, instance) d offset 25h', {"a", "d"}),
        ('label_replace(up == 1 unless on (job) e, "measure", "f", "", "")', {"up", "e"}),
        ("a:b:ratio5m > 14.4 * 0.01 and on () max(up offset 1h)", {"a:b:ratio5m", "up"}),
        ("time() - ((a > 0) or b) > 7 * 3600", {"a", "b"}),
    ],
)
def test_names_are_found_in_expressions(expression: str, names: set[str]) -> None:
    """Series only: no functions, labels, texts or keywords."""
    assert metrics_in(expression) == names


def test_names_are_unique() -> None:
    """One alert, one name, one runbook; no page is left over from an alert that is gone."""
    assert len(ALERTS) == len(alerts())
    pages = {page.stem for page in RUNBOOKS.glob("[A-Z]*.md")} - {"README"}
    assert pages == set(ALERTS)


def test_what_a_page_rests_on_cannot_vanish_unseen() -> None:
    """Each series of a page is missed by MeasureMissing, or asked for with ``absent``, or comes with its event."""
    missed = metrics_in(ALERTS["MeasureMissing"].expression)
    for rule in alerts():
        if rule.labels["severity"] == "page" and "absent(" not in rule.expression:
            assert metrics_in(rule.expression) - missed - EVENT_DRIVEN <= {"up"}, rule.name


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_whom_it_is_about(name: str) -> None:
    """In its unit tests every firing alert has a service: grouping and inhibition rest on it."""
    fired = [
        expected["exp_labels"]
        for test in rules.unit_tests()
        for check in test.get("alert_rule_test", ())
        if check["alertname"] == name
        for expected in check["exp_alerts"]
    ]
    assert fired
    assert all(labels.get("service") for labels in fired)


@pytest.mark.parametrize("name", ALERTS)
def test_a_runbook_has_its_sections_and_real_commands(name: str) -> None:
    """Meaning, meanwhile, check, act, verify, in this order; every ``tapeline ...`` in it is a command."""
    text = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert tuple(headings[: len(SECTIONS)]) == SECTIONS
    assert headings[len(SECTIONS) :] in ([], ["Afterwards"])
    known = set(tapeline.list_commands(click.Context(tapeline)))
    assert set(re.findall(r"(?:`|^|; )tapeline ([a-z][a-z-]*)", text, re.MULTILINE)) <= known


def test_links_between_runbooks_lead_somewhere() -> None:
    """A link names a page that is there, emergencies and checklists included."""
    missing = {}
    for page in RUNBOOKS.glob("*.md"):
        links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        lost = {link for link in links if not link.startswith("http") and not (page.parent / link).exists()}
        if lost:
            missing[page.name] = lost
    assert not missing


def test_the_index_lists_every_runbook() -> None:
    """docs/runbooks/README.md names each alert with its severity."""
    text = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", text, re.MULTILINE))
    assert listed == {rule.name: rule.labels["severity"] for rule in alerts()}


def test_the_reason_of_a_threshold_stands_beside_it() -> None:
    """Each alert has a comment above its expression, except where it shares the one of its twin."""
    twins = {"DailyLoss", "DrawdownNear", "Drawdown", "TrainingFailed"}
    without = []
    for rule in alerts():
        text = rule.file.read_text(encoding="utf-8")
        block = text.partition(f"- alert: {rule.name}\n")[2].partition("expr:")[0]
        if "# " not in block and rule.name not in twins:
            without.append(rule.name)
    assert not without
