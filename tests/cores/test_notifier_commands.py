"""``tapeline notify`` and ``tapeline notifications``: what a person at the keyboard is told, and the exit codes."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.cores.test_notifier_journal import TIME, halt

from tapeline_common.servers import free_port
from tapeline_notifier.commands import notifications, notify
from tapeline_notifier.journal import Journal

CANARY = "c4n4ry-s3cr3t"


class Taking(http.server.BaseHTTPRequestHandler):
    """Takes every message, and keeps its title."""

    titles: list[str]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.titles.append(body["title"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def hook() -> Iterator[http.server.HTTPServer]:
    Taking.titles = []
    server = http.server.HTTPServer(("127.0.0.1", 0), Taking)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def destinations(folder: Path, **ports: int) -> Path:
    file = folder / "destinations.toml"
    file.write_text(
        "".join(
            f'[[destination]]\nname = "{name}"\nurl = "json://127.0.0.1:{port}/{CANARY}"\nsends = ["page"]\n'
            for name, port in ports.items()
        )
    )
    return file


def test_a_test_message_reaches_each_destination(tmp_path: Path, hook: http.server.HTTPServer) -> None:
    """Whatever they ask for; exit code 0 when all have it."""
    file = destinations(tmp_path, oak=hook.server_port, elm=hook.server_port)
    done = CliRunner().invoke(notify, ["--test", "--destinations", str(file)])
    assert (done.exit_code, done.output) == (0, "oak: sent\nelm: sent\n")
    assert Taking.titles == ["Tapeline: a test message"] * 2


def test_what_is_not_reached_is_named_with_a_hint(tmp_path: Path, hook: http.server.HTTPServer) -> None:
    """Exit code 1, for programs as JSON; the URL is not shown."""
    file = destinations(tmp_path, oak=hook.server_port, gone=free_port())
    done = CliRunner().invoke(notify, ["--test", "--data", str(tmp_path), "--destinations", str(file)])
    assert done.exit_code == 1
    assert done.output.splitlines()[0] == "oak: sent"
    assert done.output.splitlines()[1].startswith("gone: unreachable; no connection")
    as_json = CliRunner().invoke(notify, ["--test", "--data", str(tmp_path), "--json"])
    assert json.loads(as_json.output) == [
        {"destination": "oak", "outcome": "sent", "status": 0},
        {"destination": "gone", "outcome": "unreachable", "status": 0},
    ]
    assert CANARY not in done.output + as_json.output


def test_nobody_to_tell_and_nothing_to_say(tmp_path: Path) -> None:
    """No destinations is a configuration to mend; no --test is a wrong use."""
    nobody = CliRunner().invoke(notify, ["--test", "--data", str(tmp_path)])
    assert (nobody.exit_code, "NO DESTINATIONS" in nobody.output) == (4, True)
    nothing = CliRunner().invoke(notify, ["--data", str(tmp_path)])
    assert (nothing.exit_code, "--test" in nothing.output) == (2, True)


def test_the_latest_notifications_are_printed(tmp_path: Path) -> None:
    """With what became of them; as JSON the lines as they stand in the file, joined."""
    journal = Journal(tmp_path / "notifier")
    for number in (1, 2, 3):
        journal.append(halt(number), TIME, ("oak",))
    journal.settled([3], "oak", "sent")
    done = CliRunner().invoke(notifications, ["--data", str(tmp_path), "-n", "2"])
    assert done.output == (
        f"{TIME} control page   halt 2 [2] (oak pending)\n    oak\n    elm\n"
        f"{TIME} control page   halt 3 [3] (oak sent)\n    oak\n    elm\n"
    )
    as_json = CliRunner().invoke(notifications, ["--data", str(tmp_path), "-n", "1", "--json"])
    (only,) = json.loads(as_json.output)
    assert (only["title"], only["deliveries"]) == ("halt 3", {"oak": "sent"})


def test_a_folder_without_notifications_is_named(tmp_path: Path) -> None:
    """Exit code 1, and where it looked."""
    done = CliRunner().invoke(notifications, ["--data", str(tmp_path)])
    assert done.exit_code == 1
    assert str(tmp_path / "notifier") in done.output
