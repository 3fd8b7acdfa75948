"""The restarter, beside a small double of Docker's engine on a socket of its own."""

from __future__ import annotations

import importlib.util
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType
from urllib.parse import parse_qs, urlsplit

import pytest

ROOT = Path(__file__).parents[2]


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("restarter", ROOT / "deploy" / "restarter.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


restarter = loaded()


@dataclass
class Container:
    service: str
    exit_code: int = 137
    policy: str = "unless-stopped"
    project: str = "oak"
    status: str = "exited"
    refuses: bool = False


@dataclass
class EngineDouble:
    """``started``: services that were started, in order."""

    path: Path
    containers: dict[str, Container] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)

    def listed(self, filters: dict[str, list[str]]) -> list[object]:
        project = filters["label"][0].partition("=")[2]
        return [
            {"Id": name, "Labels": {restarter.PROJECT: one.project, restarter.SERVICE: one.service}}
            for name, one in self.containers.items()
            if one.project == project and one.status in filters["status"]
        ]

    def inspected(self, name: str) -> object:
        one = self.containers[name]
        return {
            "State": {"ExitCode": one.exit_code},
            "HostConfig": {"RestartPolicy": {"Name": one.policy}},
            "Config": {"Labels": {restarter.PROJECT: one.project}},
        }


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineDouble]:
    double = EngineDouble(tmp_path / "engine.sock")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            where = urlsplit(self.path)
            name = where.path.split("/")[2]
            if name == "json":
                self.answer(200, double.listed(json.loads(parse_qs(where.query)["filters"][0])))
            elif name in double.containers:
                self.answer(200, double.inspected(name))
            else:
                self.answer(404, {"message": f"No such container: {name}"})

        def do_POST(self) -> None:
            one = double.containers[self.path.split("/")[2]]
            assert self.path.endswith("/start")
            if one.refuses:
                self.answer(500, {"message": "no space left"})
                return
            double.started.append(one.service)
            one.status = "running"
            self.answer(204, None)

        def answer(self, status: int, body: object) -> None:
            content = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with socketserver.ThreadingUnixStreamServer(str(double.path), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield double
        server.shutdown()


def test_what_was_killed_is_started_again(engine: EngineDouble) -> None:
    """Each killed container of the project, once: what runs again is left alone."""
    engine.containers = {"a": Container("risk"), "b": Container("nats", policy="always")}
    restarter.look(str(engine.path), "oak")
    restarter.look(str(engine.path), "oak")
    assert engine.started == ["risk", "nats"]


@pytest.mark.parametrize(
    "container",
    [
        Container("risk", exit_code=0),
        Container("risk", exit_code=1),
        Container("risk", exit_code=143),
        Container("migrate", policy="no"),
        Container("migrate", policy="on-failure"),
        Container("risk", project="elm"),
        Container("risk", status="running"),
    ],
    ids=["ended", "failed", "stopped", "one shot", "on failure", "another project", "runs"],
)
def test_everything_else_stays_as_it_is(engine: EngineDouble, container: Container) -> None:
    """A person who wants a container down says stop; what is not meant to run on is not started."""
    engine.containers = {"a": container}
    restarter.look(str(engine.path), "oak")
    assert engine.started == []


def test_one_that_cannot_be_started_holds_up_no_other(engine: EngineDouble, capsys: pytest.CaptureFixture[str]) -> None:
    """Its trouble is told with the engine's own words."""
    engine.containers = {"a": Container("risk", refuses=True), "b": Container("nats")}
    restarter.look(str(engine.path), "oak")
    assert engine.started == ["nats"]
    said = capsys.readouterr().err
    assert "risk was killed, and cannot be started: POST /containers/a/start: 500" in said
    assert "no space left" in said


def test_outside_a_project_it_ends_with_a_word(engine: EngineDouble, capsys: pytest.CaptureFixture[str]) -> None:
    """It looks after the project it belongs to, and after nothing else."""
    assert restarter.main(str(engine.path)) == 1
    assert restarter.main(str(engine.path.with_name("nothing.sock"))) == 1
    assert "no Compose project to look after" in capsys.readouterr().err
