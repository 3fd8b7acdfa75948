"""The door for alerts: who may post, what is taken, and that nothing posted ends it. Over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cores.test_notifier_alerts import alert, post
from tests.messengers import Scripted, until, webhook

from tapeline_common.commands_shared import time_text
from tapeline_common.destinations import Destination
from tapeline_common.events import HaltRequested
from tapeline_common.metrics import Metrics
from tapeline_common.process import Process
from tapeline_common.settings import ConfigurationInvalid, Environment, Settings
from tapeline_common.values import Realm
from tapeline_common.wire import Heard
from tapeline_notifier import process as module
from tapeline_notifier.alerts import Group, read_group
from tapeline_notifier.counts import Counts
from tapeline_notifier.delivery import Office
from tapeline_notifier.journal import Journal, read_entries
from tapeline_notifier.process import Notifier, TapeListener, run
from tapeline_notifier.receiver import MOST_BYTES, application, receiving
from tapeline_notifier.service import SERVICE

TOKEN = "sunflower"
LOGGER = structlog.get_logger()


@dataclass
class Door:
    """A receiver and what it took."""

    url: str
    client: aiohttp.ClientSession
    took: list[Group] = field(default_factory=list)

    async def post(
        self, body: bytes, token: str | None = f"Bearer {TOKEN}", path: str = "/alerts"
    ) -> tuple[int, dict[str, Any]]:
        headers = {} if token is None else {"Authorization": token}
        async with self.client.post(self.url + path, data=body, headers=headers) as answer:
            return answer.status, json.loads(await answer.read())


@asynccontextmanager
async def door() -> AsyncIterator[Door]:
    took: list[Group] = []
    served = application(TOKEN, took.append, LOGGER)
    async with receiving("127.0.0.1", 0, served) as port, aiohttp.ClientSession() as client:
        yield Door(f"http://127.0.0.1:{port}", client, took)


async def test_a_group_is_taken() -> None:
    """200 once it is written down, with how many alerts there were."""
    async with door() as at:
        assert await at.post(post(alert("LedgerDown"), alert("FeedStale"))) == (200, {"accepted": 2})
        assert [one.name for group in at.took for one in group.alerts] == ["LedgerDown", "FeedStale"]


@pytest.mark.parametrize(
    "token", [None, "", "Bearer", "sunflower", "Bearer sunflowers", "Basic sunflower", "Bearer sünflower"]
)
async def test_without_the_token_nothing_is_taken(token: str | None) -> None:
    """401, whatever else is wrong with the request."""
    async with door() as at:
        refused = 401, {"error": "wrong or missing bearer token"}
        assert await at.post(post(alert("LedgerDown")), token=token) == refused
        assert await at.post(b"x" * (MOST_BYTES + 1), token=token) == refused
        assert at.took == []


async def test_what_is_wrong_is_said_in_json() -> None:
    """Too large, no payload, another path, another method; the door stays open."""
    async with door() as at:
        assert await at.post(b"x" * (MOST_BYTES + 1)) == (413, {"error": f"a body may have {MOST_BYTES} bytes"})
        status, said = await at.post(b"{")
        assert (status, list(said)) == (400, ["error"])
        assert await at.post(b"{}", path="/other") == (404, {"error": "there is nothing here: POST /alerts"})
        async with at.client.get(at.url + "/alerts") as answer:
            assert (answer.status, await answer.json()) == (405, {"error": "only POST /alerts"})
        assert at.took == []
        assert (await at.post(post(alert("LedgerDown"))))[0] == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.sampled_from(["4", "firing", "Watchdog"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["version", "status", "alerts", "labels", "alertname", "annotations"])
            | st.text(max_size=4),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.binary(max_size=64) | JSON.map(lambda value: json.dumps(value).encode()), min_size=10, max_size=30))
def test_nothing_posted_ends_the_receiver(bodies: list[bytes]) -> None:
    """Any bytes and any JSON: taken or refused with a reason, and the next group is taken."""

    async def check() -> None:
        async with door() as at:
            for body in bodies:
                status, said = await at.post(body)
                assert (status, list(said)) in ((200, ["accepted"]), (400, ["error"]))
            assert (await at.post(post(alert("LedgerDown"))))[0] == 200

    asyncio.run(check())


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """408 after its time; who only opens connections holds nothing up."""
    monkeypatch.setattr("tapeline_notifier.receiver.BODY_S", 0.05)
    async with door() as at:

        async def never() -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with at.client.post(f"{at.url}/alerts", data=never(), headers=headers) as answer:
            assert answer.status == 408


# ---- the process -------------------------------------------------------------------------------------------------


def told_process(folder: Path, **variables: Any) -> Process:
    environment = Environment(notifier_folder=str(folder), **variables)
    return Process(SERVICE, environment, Settings(), LOGGER, Metrics("notifier"), asyncio.Event())


def office_on(folder: Path, hook: Scripted | None = None) -> Office:
    pairs = [] if hook is None else [(Destination("hook", "json://x", ("page", "control", "ticket")), hook)]
    return Office(Journal(folder), pairs, Counts(), LOGGER, time_text)


def titles(folder: Path) -> list[str]:
    return [entry.title for entry in read_entries(folder) if entry.title]


def halt(pos: int) -> Heard:
    return Heard(pos, pos, "operator", 0, HaltRequested("alice", f"drill {pos}"))


async def test_without_a_cursor_it_begins_at_the_head(tmp_path: Path) -> None:
    """Nobody wants ten thousand old halts; what comes after the head is told."""
    listener = TapeListener(office_on(tmp_path))
    listener.hear(halt(1))
    listener.hear(halt(2))
    assert listener.follow_on() == 2
    assert titles(tmp_path) == []
    listener.hear(halt(3))
    assert [entry.position for entry in read_entries(tmp_path) if entry.title] == [3]


async def test_with_a_cursor_it_goes_on_behind_it(tmp_path: Path) -> None:
    """What happened while it was away is told, what was told before is not."""
    office = office_on(tmp_path)
    first = TapeListener(office)
    first.follow_on()
    first.hear(halt(1))
    office.keep()
    again = TapeListener(office_on(tmp_path))
    for pos in (1, 2, 3):
        again.hear(halt(pos))
    assert again.follow_on() == 1
    assert [entry.position for entry in read_entries(tmp_path) if entry.title] == [1, 2, 3]


async def test_a_crash_before_the_cursor_tells_it_twice_with_the_same_position(tmp_path: Path) -> None:
    """Never not at all; the position is how a reader knows."""
    first = TapeListener(office_on(tmp_path))
    first.follow_on()
    first.hear(halt(1))
    again = TapeListener(office_on(tmp_path))
    again.hear(halt(1))
    assert [entry.position for entry in read_entries(tmp_path) if entry.title] == [1, 1]


async def test_a_shorter_tape_than_the_cursor_is_begun_at_its_head(tmp_path: Path) -> None:
    """Another tape in the same folder: silence up to a position it may never reach would be the worst answer."""
    office = office_on(tmp_path)
    first = TapeListener(office)
    first.follow_on()
    first.hear(halt(900))
    office.keep()
    other = TapeListener(office_on(tmp_path))
    other.hear(halt(5))
    assert other.follow_on() == 5
    other.hear(halt(6))
    assert [entry.position for entry in read_entries(tmp_path) if entry.title] == [900, 6]


@asynccontextmanager
async def notifier(
    folder: Path, monkeypatch: pytest.MonkeyPatch, follow: Callable[..., Awaitable[None]], **variables: Any
) -> AsyncIterator[tuple[Notifier, Scripted]]:
    """A notifier at work, with a tape that does as ``follow`` says."""
    monkeypatch.setattr(module, "follow", follow)
    monkeypatch.setattr(module, "AGAIN_S", (0.01,))
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    hook = Scripted()
    office = office_on(folder, hook)
    at_work = Notifier(told_process(folder, **variables), office, Counts())
    running = asyncio.create_task(at_work.run())
    try:
        yield at_work, hook
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_alerts_come_through_while_the_tape_cannot_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so once, however often it fails; alerts go on; and it says when it follows again."""
    tries, whole = [0], asyncio.Event()

    async def follow(_process: Process, _listener: TapeListener, restored: Callable[[], None]) -> None:
        tries[0] += 1
        if not whole.is_set():
            raise RuntimeError("position 7 is wrong")
        restored()
        await asyncio.Event().wait()

    async with notifier(tmp_path, monkeypatch, follow) as (at_work, hook):
        await until(lambda: tries[0] >= 3, "it was tried again and again")
        at_work.take_alerts(Group("4", "firing", ()))
        at_work.take_alerts(_group("LedgerDown"))
        await until(lambda: len(hook.got) == 2, "the alert is told")
        whole.set()
        await until(lambda: len(hook.got) == 3, "it follows again")
    assert [told.title for told in hook.got] == [
        "FIRING the notifier does not follow the tape",
        "FIRING LedgerDown",
        "RESOLVED the notifier follows the tape again",
    ]
    assert hook.got[0].text.startswith("at position 0: position 7 is wrong. ")


async def forever(_process: Process, _listener: TapeListener, restored: Callable[[], None]) -> None:
    restored()
    await asyncio.Event().wait()


def _group(*names: str) -> Group:
    return read_group(post(*(alert(name) for name in names)))


async def test_a_silent_pipeline_is_told_and_so_is_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Watchdog itself is counted and dated, and never forwarded."""
    async with notifier(tmp_path, monkeypatch, forever, watchdog_s=0.02) as (at_work, hook):
        await until(lambda: len(hook.got) == 2, "its start and the silence are told")
        at_work.take_alerts(_group("Watchdog"))
        await until(lambda: len(hook.got) >= 3, "the silence ends")
        assert at_work.counts.watchdog_time_s > 0
        assert at_work.counts.alerts["Watchdog", "firing"] == 1
    assert [told.title for told in hook.got[:3]] == [
        "Notifier started",
        "FIRING alert pipeline is silent",
        "RESOLVED alert pipeline is silent",
    ]


async def test_a_receiver_needs_a_token_and_a_free_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration that would believe anybody, or hear nobody, is refused by name."""
    monkeypatch.setattr(module, "follow", forever)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "token").write_text(TOKEN)
    for file, words in (("", "no token there"), ("none", "cannot be read"), ("empty", "no token there")):
        env = told_process(tmp_path, notifier_port=1, notifier_token_file=str(tmp_path / file) if file else "")
        with pytest.raises(ConfigurationInvalid, match=f"TAPELINE_NOTIFIER_TOKEN_FILE=.*{words}"):
            await run(env)
    async with webhook() as taken:
        env = told_process(tmp_path, notifier_port=taken.port, notifier_token_file=str(tmp_path / "token"))
        with pytest.raises(ConfigurationInvalid, match=r"TAPELINE_NOTIFIER_PORT=.*use a free port"):
            await run(env)


async def test_a_replay_is_not_told_about(tmp_path: Path) -> None:
    """No file, no connection, no receiver: it waits for its end."""
    process = told_process(tmp_path / "notifier", realm=Realm.REPLAY, notifier_port=1)
    process.stop.set()
    await run(process)
    assert not (tmp_path / "notifier").exists()
