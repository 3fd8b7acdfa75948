"""A compose project under test: commands, what its containers are doing, and the operator's view from this machine.

Every project has a name, ports and images of its own, so that a stack somebody runs from this checkout is left alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tapeline_common.operator_client import NotRunning, OperatorClient, operator
from tapeline_common.tape import ReadRequest, TapeUnavailable

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180.0
"""For anything that comes by itself; machines that test are busy."""

STARTED_S = time.monotonic()


def say(what: str) -> None:
    """Progress, for whoever watches a test that takes minutes."""
    sys.stderr.write(f"[{time.monotonic() - STARTED_S:5.0f} s] {what}\n")
    sys.stderr.flush()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def eventually(check: Callable[[], bool], what: str, within_s: float = PATIENCE_S) -> None:
    """Wait for progress: look again until it is so."""
    deadline_s = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline_s, f"not within {within_s:.0f} s: {what}"
        time.sleep(0.25)


@dataclass
class Project:
    """One compose file, run as project ``name`` with ``settings`` in its environment."""

    file: str
    name: str
    settings: Mapping[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        return ["docker", "compose", "--project-name", self.name, "--file", self.file, *arguments]

    def try_run(self, *arguments: str, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env={**os.environ, **self.settings, **(settings or {})},
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *arguments: str, settings: Mapping[str, str] | None = None) -> str:
        """Run to the end and return what it printed; anything but exit code 0 fails the test with its words."""
        done = self.try_run(*arguments, settings=settings)
        words = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}\n{words}"
        return done.stdout

    def containers(self) -> dict[str, dict[str, Any]]:
        """Service → what the engine knows of its container."""
        ids = self.run("ps", "--all", "--quiet").split()
        if not ids:
            return {}
        known = json.loads(subprocess.run(["docker", "inspect", *ids], capture_output=True, check=True).stdout)
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in known}

    def remains(self) -> list[str]:
        """Containers, volumes and networks of this project that exist."""
        label = f"label=com.docker.compose.project={self.name}"
        asked = (["ps", "--all"], ["volume", "ls"], ["network", "ls"])
        lists = [subprocess.run(["docker", *one, "--quiet", "--filter", label], capture_output=True) for one in asked]
        return [line for listed in lists for line in listed.stdout.decode().split()]

    def down(self) -> None:
        self.run("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "30")

    def last_words(self) -> str:
        """The end of every log, for a failure nobody can look into afterwards."""
        return self.try_run("logs", "--no-color", "--tail", "15").stdout


@dataclass
class LiveStack(Project):
    """The live stack: its operator's keys are lent to this process, which reaches it through the published port."""

    keys: Path = Path()

    def __post_init__(self) -> None:
        ports = {f"{name}_PORT": str(free_port()) for name in ("NATS", "PROMETHEUS", "ALERTMANAGER", "GRAFANA")}
        self.settings = {**ports, "TAPELINE_VERSION": "compose-test", **self.settings}

    def operator(self, *arguments: str) -> str:
        return self.run("run", "--rm", "--no-deps", "operator", *arguments)

    def borrow_keys(self) -> None:
        for name in ("operator.nk", "signer.nk"):
            (self.keys / name).write_text(self.operator("cat", f"/run/tapeline/{name}"))
            (self.keys / name).chmod(0o600)

    def ask(self, work: Callable[[OperatorClient], Any]) -> Any:
        """Await ``work`` as the operator; None while nobody answers."""
        os.environ.update(
            TAPELINE_NATS_URL=f"nats://127.0.0.1:{self.settings['NATS_PORT']}",
            TAPELINE_NATS_SEED_FILE=str(self.keys / "operator.nk"),
            TAPELINE_SIGNER_SEED_FILE=str(self.keys / "signer.nk"),
        )

        async def asked() -> Any:
            async with operator(Path()) as client:
                return await work(client)

        try:
            return asyncio.run(asked())
        except (NotRunning, TapeUnavailable, TimeoutError, OSError):
            return None
        finally:
            for name in ("URL", "SEED_FILE"):
                os.environ.pop(f"TAPELINE_NATS_{name}")
            os.environ.pop("TAPELINE_SIGNER_SEED_FILE")

    def head(self) -> int:
        """The last position, 0 while the ledger does not answer."""

        async def look(client: OperatorClient) -> int:
            return (await client.tape.read(ReadRequest(after=0, limit=1))).head

        return int(self.ask(look) or 0)

    def heard(self, services: Collection[str]) -> dict[str, int]:
        """How far each service says it has heard."""
        found: dict[str, int] = self.ask(lambda client: client.progress(services, 2.0)) or {}
        return found

    def prometheus(self, path: str) -> Any:
        """A page of Prometheus' interface: what it says in ``data``; None while it does not answer."""
        url = f"http://127.0.0.1:{self.settings['PROMETHEUS_PORT']}/api/v1/{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                return json.load(reply)["data"]
        except OSError:
            return None


def unhealthy(containers: Mapping[str, dict[str, Any]], services: Sequence[str]) -> list[str]:
    """Services whose container does not run, or is not healthy (yet)."""
    return [
        name
        for name in services
        if name not in containers or containers[name]["State"].get("Health", {}).get("Status") != "healthy"
    ]
