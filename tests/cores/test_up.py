"""`tapeline up` beside the stack: which configuration it takes, and that looking on costs no more with every day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nats.errors import ConnectionClosedError

from tapeline_common import commands_run
from tapeline_common.commands_run import _chosen_config, _Looker, _watch, default_config
from tapeline_common.events import HaltRequested
from tapeline_common.status import Counts
from tapeline_common.tape import Page, ReadRequest
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.wire import Answer, Draft


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_folders_own_configuration_comes_before_the_default(elsewhere: Path) -> None:
    """Given, else here, else the data folder's own, else the default: a restored folder goes on as it was."""
    data, given = elsewhere / "data", elsewhere / "given.toml"
    assert _chosen_config(data, None, None).read_text() == default_config()
    (data / "tapeline.toml").write_text("# own")
    assert _chosen_config(data, None, None) == data / "tapeline.toml"
    assert (data / "tapeline.toml").read_text() == "# own"
    (elsewhere / "tapeline.toml").write_text("# here")
    assert _chosen_config(data, None, None).read_text() == "# here"
    given.write_text("# given")
    assert _chosen_config(data, given, None) == given


async def test_looking_on_leaves_no_task_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the status is looked at, as many tasks run as before."""
    looks = 0
    stop = asyncio.Event()
    tasks: list[int] = []

    async def look() -> None:
        nonlocal looks
        looks += 1
        tasks.append(len(asyncio.all_tasks()))
        if looks == 50:
            stop.set()

    monkeypatch.setattr(commands_run, "STATUS_S", 0.0005)
    stack, looker = SimpleNamespace(failed=""), SimpleNamespace(look=look)
    assert await _watch(stack, looker, stop, None, True) == 0  # type: ignore[arg-type]
    assert tasks[-1] == tasks[0]


async def test_looks_share_a_connection_until_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection for many looks; after a failure, whose look tells nothing, the next makes another."""
    opened, closed = [], []
    tape = MemoryTape()

    @asynccontextmanager
    async def connect(_folder: object) -> AsyncIterator[Watched]:
        opened.append(Watched(tape))
        yield opened[-1]
        closed.append(opened[-1])

    monkeypatch.setattr(commands_run, "operator", connect)
    stack = SimpleNamespace(folder=Path(), children={"risk": SimpleNamespace(restarts=2)}, server_restarts={"nats": 1})
    async with _Looker(stack) as looker:  # type: ignore[arg-type]
        found = [await looker.look() for _ in range(3)]
        assert [status and status.restarts for status in found] == [{"nats": 1, "risk": 2}] * 3
        assert (len(opened), len(closed)) == (1, 0)

        opened[0].trouble = ConnectionClosedError()
        assert await looker.look() is None
        assert closed == opened
        assert await looker.look() is not None
        assert len(opened) == 2
    assert closed == opened


class Watched:
    """A running stack's client, of which only what a status needs is there."""

    def __init__(self, tape: MemoryTape) -> None:
        self.running = SimpleNamespace(services={"risk": 1})
        self.tape = self
        self.asked: list[int] = []
        self.trouble: Exception | None = None
        self._tape = tape

    async def progress(self, _services: object, _at_most_s: float) -> dict[str, int]:
        if self.trouble is not None:
            raise self.trouble
        return {"risk": 7}

    async def read(self, request: ReadRequest) -> Page:
        self.asked.append(request.after)
        return await self._tape.read(request)


async def test_a_status_reads_only_what_is_new_and_counts_the_same() -> None:
    """A second look begins where the first ended, and says what a first look at the whole tape says."""
    tape = MemoryTape()
    client: Any = Watched(tape)

    def grow(first: int, until: int) -> None:
        for number in range(first, until):
            draft = Draft(HaltRequested("mara", f"drill {number}"), f"halt-{number}")
            assert tape.record("operator", Answer(0, (draft,))).ok

    counts = Counts()
    grow(0, 10)
    assert (await counts.gather(client)).facts == 10
    grow(10, 25)
    later = await counts.gather(client)
    assert client.asked == [0, 10]
    assert later == await Counts().gather(client)
    assert later.facts == 25
