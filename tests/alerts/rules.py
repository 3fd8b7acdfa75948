"""The alert rules, their unit tests and their runbooks, read as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/rules"
UNIT_TESTS = ROOT / "deploy/prometheus/tests"
RUNBOOKS = ROOT / "docs/runbooks"

SEVERITIES = ("page", "ticket", "info")
AREAS = ("services", "ledger", "bus", "trading", "risk", "market-data", "models", "host", "alerting")

OTHERS = {
    "up",
    "ALERTS",
    "prometheus_notifications_dropped_total",
    "prometheus_rule_evaluation_failures_total",
    "prometheus_config_last_reload_successful",
    "alertmanager_notifications_failed_total",
    "alertmanager_config_last_reload_successful",
}
"""What Prometheus and Alertmanager say of themselves."""


@dataclass(frozen=True)
class Rule:
    """One alert or recording rule."""

    name: str
    file: Path
    expression: str
    waits: str
    labels: dict[str, str]
    annotations: dict[str, str]
    is_alert: bool


@cache
def rules() -> tuple[Rule, ...]:
    found = []
    for file in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            found += [_rule(file, each) for each in group["rules"]]
    return tuple(found)


def _rule(file: Path, each: dict[str, Any]) -> Rule:
    return Rule(
        name=each.get("alert") or each["record"],
        file=file,
        expression=each["expr"],
        waits=each.get("for", ""),
        labels=each.get("labels", {}),
        annotations=each.get("annotations", {}),
        is_alert="alert" in each,
    )


def alerts() -> tuple[Rule, ...]:
    return tuple(rule for rule in rules() if rule.is_alert)


@cache
def unit_tests() -> tuple[dict[str, Any], ...]:
    """Every group of every file for ``promtool test rules``."""
    found: list[dict[str, Any]] = []
    for file in sorted(UNIT_TESTS.glob("*.yml")):
        found += yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]
    return tuple(found)


_TEXTS = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS = re.compile(r"\{[^}]*\}")
_RANGES = re.compile(r"\[[^\]]*\]")
_LABEL_LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAMES = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*(?!\s*\()\b(?!\()")
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}


def metrics_in(expression: str) -> set[str]:
    """Names of the series that an expression of PromQL asks for."""
    left = expression
    for nothing in (_TEXTS, _MATCHERS, _RANGES, _LABEL_LISTS):
        left = nothing.sub(" ", left)
    left = re.sub(r"\boffset\s+\S+", " ", left)
    return {name for name in _NAMES.findall(left) if name not in _WORDS}
