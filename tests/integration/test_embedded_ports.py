"""A start tells which port another program took, before anything runs; of services that keep ending it says why."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

import pytest

from tapeline_common.embedded import Child, Stack
from tapeline_common.servers import HOST, ServerFailed

pytestmark = pytest.mark.servers


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    config = tmp_path / "tapeline.toml"
    config.write_text("")
    return Stack(tmp_path / "data", config)


@pytest.mark.parametrize("name", ["risk", "notifier-alerts"])
def test_a_taken_port_is_named_with_its_file_and_nothing_is_started(name: str, stack: Stack) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        file = stack.folder / "ports" / name
        file.parent.mkdir()
        file.write_text(f"{port}\n")
        words = f"port {port} on {HOST} is taken by another program: stop that one, or delete {file} to choose"
        with pytest.raises(ServerFailed, match=re.escape(words)):
            asyncio.run(stack.start())
    assert not stack.postgres.alive
    assert not stack.children


def test_ports_that_are_free_are_kept_from_start_to_start(stack: Stack) -> None:
    stack._refuse_taken_ports()
    chosen = {path.name: path.read_text() for path in (stack.folder / "ports").iterdir()}
    stack._refuse_taken_ports()
    assert chosen == {path.name: path.read_text() for path in (stack.folder / "ports").iterdir()}
    assert chosen.keys() >= {*stack.services, "notifier-alerts"}


def test_a_service_that_keeps_ending_is_told_with_its_last_words(stack: Stack) -> None:
    """One that is only late is told by its name."""
    stack.children = {"risk": Child("risk", {}, restarts=3), "ledger": Child("ledger", {})}
    log = stack.folder / "logs" / "risk.log"
    log.parent.mkdir()
    log.write_text("one\nOSError: no room\n")
    assert stack._described("risk") == "risk (ended 3 times; its last words: OSError: no room)"
    assert stack._described("ledger") == "ledger"
