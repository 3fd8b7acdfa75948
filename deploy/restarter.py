"""Starts containers of its own Compose project again that somebody killed. Opt-in: ``--profile restarter``.

The engine restarts what died by itself, and takes ``docker kill`` for a person's will, whatever the restart policy.
This asks the engine every few seconds which containers of the project ended by SIGKILL although their policy is to run,
and starts those. What ended in any other way is left alone: a person who wants a container down says ``stop``.

It speaks to the engine's socket and nothing else, keeps nothing, and decides nothing by time. Standard library only: it
runs from the same image as the one-shot containers, without a network.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import time
from typing import Any
from urllib.parse import quote

POLL_S = 2.0
TIMEOUT_S = 30.0
KILLED = 137
"""Exit code of what SIGKILL ended: 128 + 9."""

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"


class Engine(http.client.HTTPConnection):
    """The engine's HTTP interface, through its socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def ask(path: str, method: str, what: str) -> Any:
    """The engine's answer, read as JSON; ``None`` where there is none to read. Raises ``OSError`` if it refuses."""
    engine = Engine(path)
    try:
        engine.request(method, what)
        answer = engine.getresponse()
        body = answer.read()
    except http.client.HTTPException as trouble:
        raise OSError(f"the engine broke off: {trouble}") from trouble
    finally:
        engine.close()
    if answer.status >= 400:
        raise OSError(f"{method} {what.partition('?')[0]}: {answer.status} {body.decode(errors='replace').strip()}")
    return json.loads(body) if body else None


def killed(path: str, project: str) -> list[tuple[str, str]]:
    """(id, service) of the project's containers that were killed and are meant to run."""
    filters = json.dumps({"label": [f"{PROJECT}={project}"], "status": ["exited"]})
    found = []
    for one in ask(path, "GET", f"/containers/json?all=1&filters={quote(filters)}"):
        known = ask(path, "GET", f"/containers/{one['Id']}/json")
        policy = known["HostConfig"]["RestartPolicy"]["Name"]
        if known["State"]["ExitCode"] == KILLED and policy in ("always", "unless-stopped"):
            found.append((one["Id"], one["Labels"].get(SERVICE, one["Id"])))
    return found


def look(path: str, project: str) -> None:
    """Start what was killed; trouble with one container keeps no other from being started."""
    for container, service in killed(path, project):
        try:
            ask(path, "POST", f"/containers/{container}/start")
            say(f"{service} was killed, and is started again")
        except OSError as trouble:
            say(f"{service} was killed, and cannot be started: {trouble}")


def own_project(path: str) -> str:
    """The Compose project that this container belongs to."""
    labels = ask(path, "GET", f"/containers/{socket.gethostname()}/json")["Config"]["Labels"]
    return str(labels[PROJECT])


def say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def main(path: str) -> int:
    try:
        project = own_project(path)
    except (OSError, KeyError) as trouble:
        say(f"no Compose project to look after: {trouble!r}; run this by Compose, with the engine's socket at {path}")
        return 1
    say(f"looking after project {project}")
    while True:
        try:
            look(path, project)
        except OSError as trouble:
            say(f"the engine is not to be asked: {trouble}")
        time.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main(os.environ.get("DOCKER_SOCKET", "/var/run/docker.sock")))
