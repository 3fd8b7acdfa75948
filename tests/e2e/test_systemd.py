"""The stack as a system service: what systemd is told, and units that it takes."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
from tests.e2e.test_stack import CONFIG

from tapeline_common import systemd
from tapeline_common.cli import tapeline

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
PROGRAM = "/opt/tapeline/.venv/bin/tapeline"
KNOWN_REMARKS = ("Special user nobody configured",)

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """systemd's end of the socket."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return listening


def test_what_is_told_arrives_as_one_message(told: socket.socket) -> None:
    """Assignments a line each; a status stays one line whatever is in it."""
    systemd.notify(systemd.READY, systemd.status("a\nb"), systemd.more_time(1.5))
    assert told.recv(1000) == b"READY=1\nSTATUS=a b\nEXTEND_TIMEOUT_USEC=1500000"


def test_without_systemd_or_with_a_dead_one_nothing_happens(
    told: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack started by hand tells nobody, and a socket without a reader stops nothing."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    systemd.notify(systemd.READY)
    monkeypatch.delenv("NOTIFY_SOCKET")
    systemd.notify(systemd.READY)
    assert not systemd.is_watched()
    with pytest.raises(BlockingIOError):
        told.recv(1000)


@pytest.mark.servers
async def test_up_says_that_it_is_ready_lives_and_stops(told: socket.socket, tmp_path: Path) -> None:
    """In this order, with a status for people; once every service follows the tape and not before."""
    tmp_path.chmod(0o755)
    (tmp_path / "tapeline.toml").write_text(CONFIG)
    command = ("up", "--data", str(tmp_path / "data"), "--config", str(tmp_path / "tapeline.toml"))
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tapeline_common.cli", *command)
    said: list[str] = []

    async def hear(what: str) -> None:
        while not any(what in message.split("\n") for message in said):
            said.append((await asyncio.get_running_loop().sock_recv(told, 10_000)).decode())

    try:
        async with asyncio.timeout(120):
            await hear(systemd.ALIVE)
            process.send_signal(signal.SIGTERM)
            await hear(systemd.STOPPING)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    words = [line for message in said for line in message.split("\n")]
    ready, stopping = words.index(systemd.READY), words.index(systemd.STOPPING)
    alive = [index for index, word in enumerate(words) if word == systemd.ALIVE]
    assert alive
    assert ready < alive[0] <= alive[-1] < stopping
    assert any(re.match(r"STATUS=facts \d+, orders", word) for word in words)


def remarks(folder: Path, *units: str) -> list[str]:
    """What systemd has to say about units, other than what these tests bring about themselves."""
    checked = subprocess.run(
        ["systemd-analyze", "verify", *(str(folder / unit) for unit in units)], capture_output=True, text=True
    )
    said = checked.stderr.splitlines()
    return [line for line in said if str(folder) in line and not any(known in line for known in KNOWN_REMARKS)]


def as_installed(folder: Path) -> Path:
    """The units with a program and a user that this machine has."""
    for path in UNITS.glob("tapeline*"):
        text = path.read_text().replace(PROGRAM, "/bin/true")
        text = re.sub(r"^(User|Group)=.*$", r"\1=nobody", text, flags=re.MULTILINE).replace("Group=nobody", "")
        (folder / path.name).write_text(text)
    return folder


@needs_systemd
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """No unknown key, no bad value, no missing program."""
    assert remarks(as_installed(tmp_path), "tapeline.service", "tapeline-backup.service", "tapeline-backup.timer") == []


@needs_systemd
def test_a_wrong_unit_is_caught(tmp_path: Path) -> None:
    """The check can fail: on a misspelt key."""
    unit = as_installed(tmp_path) / "tapeline.service"
    unit.write_text(unit.read_text().replace("NoNewPrivileges=", "NoNewPriviledges="))
    assert any("NoNewPriviledges" in remark for remark in remarks(tmp_path, "tapeline.service"))


@needs_systemd
def test_the_units_are_hardened(tmp_path: Path) -> None:
    """systemd's own estimate of what a broken-in process could still reach, 0 to 10, stays below 2.5."""
    as_installed(tmp_path)
    for name in ("tapeline.service", "tapeline-backup.service"):
        said = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", str(tmp_path / name)], capture_output=True, text=True
        )
        found = re.search(r"Overall exposure level for .*: ([\d.]+)", said.stdout)
        assert found is not None, said.stderr
        assert float(found[1]) < 2.5


def test_the_units_call_commands_that_exist() -> None:
    """Every call of ours in a unit is one that the command line takes."""
    found = 0
    for path in sorted(UNITS.glob("*.service")):
        for call in re.findall(rf"{PROGRAM} ([^\n']*)", path.read_text()):
            name, *words = shlex.split(call)
            command = tapeline.get_command(click.Context(tapeline), name)
            assert command is not None, call
            command.make_context(name, words)
            found += 1
    assert found == 2
