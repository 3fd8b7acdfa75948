"""The committed dashboards are as generated, name what exists, and can be read; and each check can fail."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.grafana.board import SCREEN_ROWS
from deploy.grafana.boards import BOARDS
from deploy.grafana.generate import generated, stale
from tests.dashboards import checks
from tests.dashboards.known import labels_by_series
from tests.dashboards.reading import FOLDER, ROOT, Dashboards, committed, panels_of

PROVISIONING = ROOT / "deploy/grafana/provisioning"
NAMES = labels_by_series()
SOURCES: dict[str, str] = {
    source["uid"]: source["type"]
    for path in sorted((PROVISIONING / "datasources").glob("*.yml"))
    for source in yaml.safe_load(path.read_text())["datasources"]
}

Check = Callable[[Dashboards], list[str]]


def unknown_names(dashboards: Dashboards) -> list[str]:
    return checks.unknown_names(dashboards, NAMES)


def wrong_sources(dashboards: Dashboards) -> list[str]:
    return checks.wrong_sources(dashboards, SOURCES)


CHECKS: tuple[Check, ...] = (
    unknown_names,
    wrong_sources,
    checks.repeated_uids,
    checks.overlaps,
    checks.crowded,
    checks.unexplained,
    checks.reassuring,
    checks.unnamed_variables,
)


def test_generated_files_are_committed_as_they_are() -> None:
    """``make dashboards`` would change nothing, and leaves no file that nobody generates."""
    assert stale(ROOT) == []
    assert {path.name for path in FOLDER.glob("*.json")} == {f"{board.name}.json" for board in BOARDS}


def test_a_changed_and_a_forgotten_file_are_stale(tmp_path: Path) -> None:
    """The check can fail: on a file that differs, one that is missing, and one that is left over."""
    for path, text in generated().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert stale(tmp_path) == []
    folder = tmp_path / "deploy/grafana/dashboards"
    (folder / "risk.json").write_text((folder / "risk.json").read_text().replace("Halts", "Stops"))
    (folder / "bandit.json").unlink()
    (folder / "old.json").write_text("{}")
    assert {path.name for path in stale(tmp_path)} == {"risk.json", "bandit.json", "old.json"}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_wrong_with_the_dashboards(check: Check) -> None:
    """Names and labels exist, sources are provisioned, ids are unique, nothing overlaps, everything is explained."""
    assert check(committed()) == []


def spoilt(change: Callable[[dict[str, Any]], None]) -> Dashboards:
    """The committed dashboards with a panel of the overview changed: the first one below its first title."""
    dashboards = copy.deepcopy(committed())
    change(dashboards["overview.json"]["panels"][1])
    return dashboards


def misspell(panel: dict[str, Any]) -> None:
    panel["targets"][0]["expr"] = "max(tapeline_equitty)"


def mislabel(panel: dict[str, Any]) -> None:
    panel["targets"][0]["expr"] = 'max(tapeline_equity{instrument="BTC"})'


def misgroup(panel: dict[str, Any]) -> None:
    panel["targets"][0]["expr"] = "max by (instrument) (tapeline_equity)"


def move(panel: dict[str, Any]) -> None:
    panel["gridPos"]["x"] += 1


def ask_another(panel: dict[str, Any]) -> None:
    panel["targets"][0]["datasource"]["uid"] = "promethius"


def take_id(panel: dict[str, Any]) -> None:
    panel["id"] += 1


def forget_unit(panel: dict[str, Any]) -> None:
    del panel["fieldConfig"]["defaults"]["unit"]


def forget_runbook(panel: dict[str, Any]) -> None:
    panel["links"] = []


def use_undeclared(panel: dict[str, Any]) -> None:
    panel["targets"][0]["expr"] = 'max(tapeline_stopped{service=~"$service"})'


def show_the_past(panel: dict[str, Any]) -> None:
    panel["targets"][0]["instant"] = False


def look_well_unknown(panel: dict[str, Any]) -> None:
    panel["fieldConfig"]["defaults"]["mappings"].pop()


@pytest.mark.parametrize(
    ("change", "check", "said"),
    [
        (misspell, unknown_names, "overview.json: Trading: nobody measures tapeline_equitty"),
        (mislabel, unknown_names, "overview.json: Trading: tapeline_equity has no label instrument"),
        (misgroup, unknown_names, "overview.json: Trading: no series has a label instrument"),
        (move, checks.overlaps, "overview.json: Trading and Alerts that page overlap"),
        (ask_another, wrong_sources, "overview.json: Trading asks"),
        (take_id, checks.repeated_uids, "overview.json: 2 panels have the id 3"),
        (forget_unit, checks.unexplained, "overview.json: Trading has no unit"),
        (forget_runbook, checks.unexplained, "overview.json: Trading has no link to a runbook"),
        (show_the_past, checks.reassuring, "overview.json: Trading shows what was known last"),
        (look_well_unknown, checks.reassuring, "overview.json: Trading has no look for what is not known"),
        (use_undeclared, checks.unnamed_variables, "overview.json: nobody can choose $service"),
    ],
)
def test_a_spoilt_panel_is_found(change: Callable[[dict[str, Any]], None], check: Check, said: str) -> None:
    """Each check can fail, and only for its own reason."""
    dashboards = spoilt(change)
    assert [one for one in CHECKS if one(dashboards)] == [check]
    assert check(dashboards)[0].startswith(said)


def test_the_overview_is_one_screen_in_the_order_of_its_questions() -> None:
    """Safe, making money, healthy; nothing below the fold."""
    panels = committed()["overview.json"]["panels"]
    titles = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert titles == ["Is it safe?", "Is it making money?", "Is it healthy?"]
    assert max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) <= SCREEN_ROWS


def test_boards_are_alike() -> None:
    """UTC, asked again every ten seconds (a recorded backtest does not change), linked to each other, annotated."""
    for name, dashboard in committed().items():
        assert dashboard["timezone"] == "utc"
        assert dashboard["refresh"] == ("" if name == "backtests.json" else "10s")
        assert dashboard["tags"] == ["tapeline"]
        assert [(link["type"], link["tags"]) for link in dashboard["links"]] == [("dashboards", ["tapeline"])]
        marked = [one["name"] for one in dashboard["annotations"].get("list", [])]
        live = ["Not trading", "Promotions", "Restarts", "Deployments"]
        assert marked == ([] if name == "backtests.json" else live)


def test_what_is_provisioned_leads_to_the_files() -> None:
    """The provider reads the folder that a container mounts; the password of Postgres is in a file, not in the text."""
    provider = yaml.safe_load((PROVISIONING / "dashboards/tapeline.yml").read_text())["providers"][0]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    assert SOURCES == {"prometheus": "prometheus", "postgres": "grafana-postgresql-datasource"}
    postgres = yaml.safe_load((PROVISIONING / "datasources/postgres.yml").read_text())["datasources"][0]
    assert postgres["user"] == "tapeline_reader"
    assert postgres["secureJsonData"] == {"password": "$__file{/run/tapeline/reader-password}"}
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert {
        "./deploy/grafana/provisioning:/etc/grafana/provisioning:ro",
        "./deploy/grafana/dashboards:/etc/grafana/dashboards:ro",
    } <= set(compose["grafana"]["volumes"])
    assert postgres["url"].partition(":")[0] in compose


def test_runbooks_that_panels_link_exist() -> None:
    """Every link of a panel leads, through the variable ``runbooks``, to a page of the repository."""
    folder = ROOT / "docs/runbooks"
    linked = {
        link["url"].removeprefix("${runbooks}/")
        for dashboard in committed().values()
        for panel in panels_of(dashboard)
        for link in panel.get("links") or []
    }
    assert linked - {path.name for path in folder.glob("*.md")} == set()


def test_files_are_plain_json() -> None:
    """Keys in order, two spaces, a newline at the end: a change of a panel is a small difference to read."""
    for path in FOLDER.glob("*.json"):
        text = path.read_text()
        assert text == json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
