"""Prometheus and Alertmanager beside ``tapeline up`` get the containers' own rules and routes, with other addresses."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.alerts.desk import monitoring
from tests.alerts.rules import ROOT

PROMETHEUS, ALERTMANAGER = "127.0.0.1:9190", "127.0.0.1:9193"


def stack_folder(folder: Path) -> Path:
    """What a stack that ran once leaves, as far as it matters here."""
    for name, text in (("ports/notifier-alerts", "19110\n"), ("secrets/notifier-token", "orchid"), ("secrets/x", "")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def written(folder: Path) -> dict[str, Path]:
    receiver = monitoring.notifier_of(stack_folder(folder))
    assert receiver is not None
    return dict(monitoring.write(folder, PROMETHEUS, ALERTMANAGER, receiver))


def test_only_addresses_differ_from_the_containers(tmp_path: Path) -> None:
    """Rules, pace, relabelling and routes are the shipped ones; targets come from the stack's file."""
    files = written(tmp_path)
    made = yaml.safe_load(files["prometheus"].read_text())
    shipped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert made["global"] == shipped["global"]
    assert made["alerting"]["alert_relabel_configs"] == shipped["alerting"]["alert_relabel_configs"]
    assert made["alerting"]["alertmanagers"] == [{"static_configs": [{"targets": [ALERTMANAGER]}]}]
    assert [Path(pattern).parent for pattern in made["rule_files"]] == [ROOT / "deploy/prometheus/rules"]
    jobs = {job["job_name"]: job for job in made["scrape_configs"]}
    targets = str(tmp_path / "prometheus" / "targets.json")
    assert jobs["tapeline"] == {
        "job_name": "tapeline",
        "honor_labels": True,
        "file_sd_configs": [{"files": [targets], "refresh_interval": "5s"}],
    }
    assert jobs["prometheus"]["static_configs"][0]["targets"] == [PROMETHEUS]
    assert jobs["alertmanager"]["static_configs"][0]["targets"] == [ALERTMANAGER]
    routes = yaml.safe_load(files["alertmanager"].read_text())
    shipped_routes = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
    assert {**routes, "receivers": []} == {**shipped_routes, "receivers": []}
    (webhook,) = routes["receivers"][0]["webhook_configs"]
    assert webhook["url"] == "http://127.0.0.1:19110/alerts"
    assert webhook["http_config"]["authorization"]["credentials_file"] == str(tmp_path / "secrets" / "notifier-token")
    assert "orchid" not in files["alertmanager"].read_text()


@pytest.mark.monitoring
def test_the_tools_accept_what_is_written(tmp_path: Path) -> None:
    """``promtool check config`` and ``amtool check-config``."""
    files = written(tmp_path)
    for tool, command in (("promtool", ("check", "config")), ("amtool", ("check-config",))):
        program = shutil.which(tool)
        if program is None:
            pytest.skip(f"{tool} is not installed: deploy/monitoring_tools.sh installs it on Debian")
        file = files["prometheus" if tool == "promtool" else "alertmanager"]
        done = subprocess.run([program, *command, str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_folder_without_a_notifier_is_refused(tmp_path: Path) -> None:
    """One message that names the folder and the fix, and nothing written."""
    command = [sys.executable, str(ROOT / "deploy/monitoring.py"), "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path} has no notifier yet: start `tapeline up` on it first\n"
    assert not list(tmp_path.iterdir())
