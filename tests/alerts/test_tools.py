"""Prometheus' and Alertmanager's own tools accept the rules, their unit tests and the configurations."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from tests.alerts.rules import ROOT, RULES, UNIT_TESTS, alerts

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(300)]

ALERTMANAGER = ROOT / "deploy/alertmanager/alertmanager.yml"


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: deploy/monitoring_tools.sh installs it on Debian")
    return found


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_rules_are_accepted() -> None:
    """``promtool check rules``."""
    done = run(tool("promtool"), "check", "rules", *sorted(RULES.glob("*.yml")))
    assert done.returncode == 0, done.stderr


def test_the_configuration_is_accepted() -> None:
    """``promtool check config``: Prometheus for containers, with all its rule files."""
    done = run(tool("promtool"), "check", "config", "deploy/prometheus/prometheus.yml")
    assert done.returncode == 0, done.stderr
    assert f"{len(list(RULES.glob('*.yml')))} rule files found" in done.stdout


@pytest.mark.parametrize("file", sorted(UNIT_TESTS.glob("*.yml")), ids=lambda file: file.stem)
def test_the_unit_tests_of_the_rules_hold(file: Path) -> None:
    """``promtool test rules``: what fires, fires with these labels and words; what must be quiet, is."""
    done = run(tool("promtool"), "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def mutant(folder: Path, file: str, old: str, new: str) -> Iterator[Path]:
    """The rules and their tests in another folder, one line of a rule changed."""
    shutil.copytree(RULES, folder / "rules")
    shutil.copytree(UNIT_TESTS, folder / "tests")
    text = (folder / "rules" / file).read_text(encoding="utf-8")
    assert old in text
    (folder / "rules" / file).write_text(text.replace(old, new), encoding="utf-8")
    yield folder / "tests" / file


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("host.yml", "< 0.15", "< 0.1"),
        ("host.yml", "< 0.15", "<= 0.15"),
        ("host.yml", "last_over_time(tapeline_disk_free_bytes[15m])", "tapeline_disk_free_bytes"),
        ("host.yml", "for: 10s", "for: 30s"),
        ("models.yml", "tapeline_drift_detected == 1", "tapeline_drift_detected == 0"),
        ("models.yml", "for: 10s", "for: 0s"),
        ("market_data.yml", "/ 2, 30), 600)", "/ 2, 60), 600)"),
        ("market_data.yml", "/ 2, 30), 600)", "/ 2, 30), 900)"),
    ],
)
def test_a_changed_rule_is_caught(tmp_path: Path, file: str, old: str, new: str) -> None:
    """The unit tests can fail: another threshold, another comparison, another wait, a forgotten guard."""
    promtool = tool("promtool")
    with mutant(tmp_path, file, old, new) as tests:
        assert run(promtool, "test", "rules", tests).returncode != 0


def test_alertmanager_accepts_its_configuration() -> None:
    """``amtool check-config``."""
    done = run(tool("amtool"), "check-config", ALERTMANAGER)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_routed_by_its_severity() -> None:
    """Pages go out within five seconds, tickets gather, the Watchdog comes every minute; all to the notifier."""
    amtool = tool("amtool")
    configuration = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    routes = configuration["route"]["routes"]
    waits = {str(route["matchers"][0]): route["group_wait"] for route in routes}
    assert waits == {'alertname = "Watchdog"': "0s", 'severity = "page"': "2s", 'severity = "ticket"': "15s"}
    assert [receiver["name"] for receiver in configuration["receivers"]] == ["notifier"]
    one_of_each = {rule.labels["severity"]: rule.name for rule in alerts()}
    assert one_of_each["info"] == "Watchdog"
    for severity, name in one_of_each.items():
        asked = ["config", "routes", "test", "--config.file", ALERTMANAGER, "--verify.receivers=notifier"]
        done = run(amtool, *asked, f"alertname={name}", f"severity={severity}")
        assert done.returncode == 0, (name, done.stdout + done.stderr)


def test_the_installer_says_what_it_did() -> None:
    """deploy/monitoring_tools.sh succeeds where everything is there, and says so."""
    for name in ("promtool", "amtool", "prometheus", "prometheus-alertmanager"):
        tool(name)
    done = run("sh", "deploy/monitoring_tools.sh")
    assert done.returncode == 0
    assert done.stdout.startswith("monitoring tools: all there")
