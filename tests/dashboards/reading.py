"""The committed dashboards, read as Grafana would: panels, queries, and variables substituted."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deploy.grafana.board import Prom
from deploy.grafana.boards import BOARDS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/grafana/dashboards"

Dashboards = dict[str, dict[str, Any]]
Panel = dict[str, Any]


def committed() -> Dashboards:
    """Dashboards by the names of their files."""
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels_of(dashboard: dict[str, Any], *, rows: bool = False) -> Iterator[Panel]:
    """All panels; ``rows``: the titles of sections as well."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row" or rows)


def queries_of(dashboards: Dashboards, language: str) -> Iterator[tuple[str, str]]:
    """(where, query) of each query; ``expr`` is Prometheus' language, ``rawSql`` Postgres'."""
    for name, dashboard in dashboards.items():
        for panel in panels_of(dashboard):
            for target in panel.get("targets", []):
                if language in target:
                    yield f"{name}: {panel['title']}", target[language]
        for annotation in dashboard["annotations"].get("list", []):
            if language in annotation:
                yield f"{name}: annotation {annotation['name']}", annotation[language]


QUIET = {
    query.expr: query.quiet
    for board in BOARDS
    for panel in board.panels
    for query in panel.queries
    if isinstance(query, Prom) and query.quiet
}
"""Queries that may return nothing on a stack that is well, and why: they wait for an event."""


# ---- PromQL ----------------------------------------------------------------------------------------------------------

_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_NAME = re.compile(r"(?<![\w.$:])([a-zA-Z_:][\w:]*)(\s*\()?")
_WORDS = {"and", "or", "unless", "bool", "offset", "group_left", "group_right"}


def metrics_in(expr: str) -> set[str]:
    """The series an expression reads: names that are no functions, labels or words of the language."""
    bare = _GROUPING.sub(" ", re.sub(r"\{[^}]*\}|\[[^]]*\]", " ", _STRING.sub('""', expr)))
    return {name for name, call in _NAME.findall(bare) if not call and name not in _WORDS}


def matched_labels(expr: str) -> Iterator[tuple[str, str]]:
    """(series, label) of every matcher in braces."""
    for name, matchers in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expr):
        for label in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", _STRING.sub("", matchers)):
            yield name, label


def grouped_labels(expr: str) -> set[str]:
    """Labels named in ``by (...)`` and ``on (...)``."""
    return {
        label.strip()
        for inside in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr)
        for label in inside.split(",")
        if label.strip()
    }


def promql(expr: str, *, window: str) -> str:
    """An expression with Grafana's variables filled in: everything is chosen."""
    for name in ("$__rate_interval", "$__range", "$__interval"):
        expr = expr.replace(name, window)
    return re.sub(r"\$\{?(instrument|strategy|service)(:\w+)?\}?", ".*", expr)


def sql(text: str, *, from_ns: int, to_ns: int) -> str:
    """A statement with Grafana's macros and variables filled in: everything is chosen."""
    text = text.replace("$__unixEpochNanoFrom()", str(from_ns)).replace("$__unixEpochNanoTo()", str(to_ns))
    return re.sub(r"\$\{(instrument|strategy):regex\}", ".*", text)
