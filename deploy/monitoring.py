"""Prometheus and Alertmanager beside ``tapeline up``, without Docker: ``python deploy/monitoring.py --data .tapeline``.

Writes their configurations into the data folder, made from the very files that the containers use, and prints the two
commands that start them. Targets come from ``prometheus/targets.json``, which the running stack keeps; alerts go to the
stack's own notifier. Nothing is started, and no password is written: the token stays in its file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parent
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Receiver:
    """Who takes alerts: a URL, and the file that holds its bearer token."""

    url: str
    token_file: Path


def prometheus_configuration(data: Path, prometheus: str, alertmanager: str) -> dict[str, Any]:
    """That of the containers, for the stack on ``data``. Addresses are ``host:port``."""
    configuration: dict[str, Any] = _parsed(DEPLOY / "prometheus/prometheus.yml")
    configuration["rule_files"] = [str(DEPLOY / "prometheus" / pattern) for pattern in configuration["rule_files"]]
    configuration["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    addresses = {"prometheus": prometheus, "alertmanager": alertmanager}
    for job in configuration["scrape_configs"]:
        if job["job_name"] in addresses:
            job["static_configs"][0]["targets"] = [addresses[job["job_name"]]]
        else:
            del job["static_configs"], job["relabel_configs"]
            targets = data.resolve() / "prometheus" / "targets.json"
            job["file_sd_configs"] = [{"files": [str(targets)], "refresh_interval": "5s"}]
    return configuration


def alertmanager_configuration(receiver: Receiver) -> dict[str, Any]:
    """That of the containers, for another receiver."""
    configuration: dict[str, Any] = _parsed(DEPLOY / "alertmanager/alertmanager.yml")
    for webhook in configuration["receivers"][0]["webhook_configs"]:
        webhook["url"] = receiver.url
        webhook["http_config"]["authorization"]["credentials_file"] = str(receiver.token_file.resolve())
    return configuration


def notifier_of(data: Path) -> Receiver | None:
    """The notifier of the stack on ``data``; ``None`` before the stack ran with one."""
    port_file, token_file = data / "ports" / "notifier-alerts", data / "secrets" / "notifier-token"
    if not port_file.is_file() or not token_file.is_file():
        return None
    return Receiver(f"http://{HOST}:{port_file.read_text().strip()}/alerts", token_file)


def write(data: Path, prometheus: str, alertmanager: str, receiver: Receiver) -> Mapping[str, Path]:
    """Write both configurations; returns where they are, by program."""
    contents = {
        "prometheus": prometheus_configuration(data, prometheus, alertmanager),
        "alertmanager": alertmanager_configuration(receiver),
    }
    written = {}
    for name, content in contents.items():
        folder = data.resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        written[name] = folder / f"{name}.yml"
        written[name].write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return written


def commands(written: Mapping[str, Path], prometheus: str, alertmanager: str) -> list[list[str]]:
    """How to start Alertmanager and Prometheus on what was written; both keep their data beside it."""
    rules, routes = written["prometheus"], written["alertmanager"]
    return [
        [
            "prometheus-alertmanager",
            f"--config.file={routes}",
            f"--storage.path={routes.parent / 'data'}",
            f"--web.listen-address={alertmanager}",
            "--cluster.listen-address=",
        ],
        [
            "prometheus",
            f"--config.file={rules}",
            f"--storage.tsdb.path={rules.parent / 'data'}",
            f"--web.listen-address={prometheus}",
        ],
    ]


def _parsed(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Configure Prometheus and Alertmanager for a stack of `tapeline up`.")
    parser.add_argument("--data", type=Path, default=Path(".tapeline"), help="data folder of the stack")
    parser.add_argument("--prometheus", default=f"{HOST}:9090", help="where Prometheus shall listen")
    parser.add_argument("--alertmanager", default=f"{HOST}:9093", help="where Alertmanager shall listen")
    asked = parser.parse_args()
    receiver = notifier_of(asked.data)
    if receiver is None:
        print(f"{asked.data} has no notifier yet: start `tapeline up` on it first", file=sys.stderr)  # noqa: T201
        return 1
    written = write(asked.data, asked.prometheus, asked.alertmanager, receiver)
    for command in commands(written, asked.prometheus, asked.alertmanager):
        print(" ".join(command))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
