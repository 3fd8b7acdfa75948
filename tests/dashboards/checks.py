"""What is wrong with dashboards, as sentences; empty lists where nothing is. Called on good and on spoilt ones."""

from collections import Counter
from collections.abc import Mapping
from itertools import combinations

from deploy.grafana.board import COLUMNS, SCREEN_ROWS, Colour
from tests.dashboards.reading import (
    Dashboards,
    Panel,
    grouped_labels,
    matched_labels,
    metrics_in,
    panels_of,
    queries_of,
)

PANELS_A_SCREEN = 16
BUILT_IN = {"instrument", "strategy", "service", "tape"}


def unknown_names(dashboards: Dashboards, labels_by_series: Mapping[str, set[str]]) -> list[str]:
    """Series that nobody measures, and labels that they do not have."""
    found = []
    for where, expr in queries_of(dashboards, "expr"):
        used = metrics_in(expr)
        found += [f"{where}: nobody measures {name}" for name in sorted(used - labels_by_series.keys())]
        found += [
            f"{where}: {name} has no label {label}"
            for name, label in matched_labels(expr)
            if name in labels_by_series and label not in labels_by_series[name]
        ]
        having = set[str]().union(*(labels_by_series.get(name, set()) for name in used))
        found += [f"{where}: no series has a label {label}" for label in sorted(grouped_labels(expr) - having)]
    return found


def repeated_uids(dashboards: Dashboards) -> list[str]:
    """Uids of dashboards, titles, and ids of panels within one that are not unique."""
    found = [
        f"{kind} {value} is used {times} times"
        for kind in ("uid", "title")
        for value, times in Counter(dashboard[kind] for dashboard in dashboards.values()).items()
        if times > 1
    ]
    for name, dashboard in dashboards.items():
        ids = Counter(panel["id"] for panel in panels_of(dashboard, rows=True))
        found += [f"{name}: {times} panels have the id {number}" for number, times in ids.items() if times > 1]
    return found


def wrong_sources(dashboards: Dashboards, provisioned: Mapping[str, str]) -> list[str]:
    """Queries to a data source that is not provisioned under that uid and type."""
    found = []
    for name, dashboard in dashboards.items():
        chosen = {
            f"${{{one['name']}}}": one["query"]
            for one in dashboard["templating"]["list"]
            if one["type"] == "datasource"
        }
        allowed = {**provisioned, **chosen}
        named = [(panel["title"], panel.get("datasource")) for panel in panels_of(dashboard) if panel["type"] != "text"]
        named += [(panel["title"], one["datasource"]) for panel in panels_of(dashboard) for one in _targets(panel)]
        named += [(one["name"], one["datasource"]) for one in dashboard["annotations"].get("list", [])]
        named += [(one["name"], one["datasource"]) for one in dashboard["templating"]["list"] if one["type"] == "query"]
        for what, source in named:
            if source is None or allowed.get(source["uid"]) != source["type"]:
                found.append(f"{name}: {what} asks {source}, provisioned are {dict(provisioned)}")
    return found


def overlaps(dashboards: Dashboards) -> list[str]:
    """Panels that stand on each other or outside of the grid."""
    found = []
    for name, dashboard in dashboards.items():
        found += [
            f"{name}: {one['title']} and {other['title']} overlap"
            for one, other in combinations(dashboard["panels"], 2)
            if _overlap(one["gridPos"], other["gridPos"])
        ]
        found += [
            f"{name}: {panel['title']} reaches out of the grid"
            for panel in dashboard["panels"]
            if panel["gridPos"]["x"] < 0 or panel["gridPos"]["x"] + panel["gridPos"]["w"] > COLUMNS
        ]
    return found


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


def crowded(dashboards: Dashboards) -> list[str]:
    """Places from which one screen down there are more panels than anybody looks at."""
    found = []
    for name, dashboard in dashboards.items():
        shown = [panel["gridPos"] for panel in dashboard["panels"] if panel["type"] != "row"]
        for top in sorted({place["y"] for place in shown}):
            count = sum(place["y"] < top + SCREEN_ROWS and place["y"] + place["h"] > top for place in shown)
            if count > PANELS_A_SCREEN:
                found.append(f"{name}: {count} panels on the screen from row {top}")
    return found


def unexplained(dashboards: Dashboards) -> list[str]:
    """Panels without a title, a unit or a description; coloured ones without a runbook or a word on what to do."""
    found = []
    for name, dashboard in dashboards.items():
        for panel in panels_of(dashboard):
            missing = [part for part in ("title", "description") if not panel.get(part)]
            if panel["type"] != "text" and not panel["fieldConfig"]["defaults"].get("unit"):
                missing.append("unit")
            if _colours(panel) & {"red", "orange"}:
                if not panel["links"] and not counts_alerts(panel):
                    missing.append("link to a runbook")
                if "What to do: " not in panel["description"]:
                    missing.append("what to do")
            found += [f"{name}: {panel.get('title')} has no {part}" for part in missing]
    return found


def reassuring(dashboards: Dashboards) -> list[str]:
    """Coloured numbers that would look well although nobody knows them: shown as they last were, or in green."""
    found = []
    for name, dashboard in dashboards.items():
        for panel in panels_of(dashboard):
            if panel["type"] not in ("stat", "bargauge") or panel["options"]["reduceOptions"]["calcs"] == ["diff"]:
                continue
            if not all(target["instant"] for target in panel["targets"]):
                found.append(f"{name}: {panel['title']} shows what was known last")
            mappings = panel["fieldConfig"]["defaults"]["mappings"]
            unknown = [one["options"] for one in mappings if one["type"] == "special"]
            if [one["result"]["color"] for one in unknown if one["match"] == "null+nan"] != [Colour.GREY]:
                found.append(f"{name}: {panel['title']} has no look for what is not known")
    return found


def unnamed_variables(dashboards: Dashboards) -> list[str]:
    """Variables that a query uses and its dashboard does not have."""
    found = []
    for name, dashboard in dashboards.items():
        declared = {one["name"] for one in dashboard["templating"]["list"]}
        text = str([panel.get("targets") for panel in panels_of(dashboard)])
        found += [
            f"{name}: nobody can choose ${variable}"
            for variable in sorted(BUILT_IN - declared)
            if f"${variable}" in text or f"${{{variable}" in text
        ]
    return found


def _targets(panel: Panel) -> list[dict[str, dict[str, str]]]:
    return panel.get("targets", [])


def counts_alerts(panel: Panel) -> bool:
    return any("ALERTS{" in target.get("expr", "") for target in panel.get("targets", []))


def _colours(panel: Panel) -> set[str]:
    """Colours of levels and of words."""
    defaults = panel["fieldConfig"]["defaults"]
    words = {
        word["color"]
        for mapping in defaults["mappings"]
        if mapping["type"] == "value"
        for word in mapping["options"].values()
    }
    return {step["color"] for step in defaults["thresholds"]["steps"]} | words
