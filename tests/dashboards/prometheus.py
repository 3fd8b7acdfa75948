"""A real Prometheus (Debian's package) for a test: it scrapes given targets every second and answers queries."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Target:
    """A service to be scraped."""

    service: str
    address: str
    path: str = "/metrics"


class QueryRefused(Exception):
    """Prometheus cannot parse or run a query; the message is its own."""


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, what: str, **parameters: str) -> Any:
        address = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as refused:
            if refused.code not in (400, 422):
                raise  # it is not ready yet
            raise QueryRefused(json.load(refused)["error"]) from refused

    def formatted(self, expr: str) -> str:
        """The expression as Prometheus writes it; raises ``QueryRefused`` if it is none."""
        text: str = self.ask("format_query", query=expr)
        return text

    def series(self, expr: str) -> list[dict[str, Any]]:
        """What the expression gives now; raises ``QueryRefused``."""
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return found

    def wait_for(self, expr: str, why: str, patience_s: float = PATIENCE_S) -> None:
        """Wait for progress: until the expression gives something."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                if self.series(expr):
                    return
            except OSError:
                pass  # it has not opened its port yet
            assert time.monotonic() < deadline, f"not within {patience_s:.0f} s: {why}"
            time.sleep(0.1)


@contextmanager
def running_prometheus(folder: Path, targets: Sequence[Target], rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Skips the test, with the reason, where there is no prometheus on this machine."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no prometheus on this machine: apt-get install prometheus")
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {
                "job_name": "tapeline",
                "honor_labels": True,
                "static_configs": [
                    {
                        "targets": [target.address],
                        "labels": {"service": target.service, "__metrics_path__": target.path},
                    }
                    for target in targets
                ],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        server = Prometheus(f"http://{address}")
        server.wait_for("vector(1)", f"prometheus answers; its log:\n{(folder / 'prometheus.log').read_text()}")
        yield server
    finally:
        process.terminate()
        process.wait(20)
