"""The client's short ways, over a real server: messages handed over as they are read, and groups published at once."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from nats.errors import ConnectionClosedError
from tests.conftest import TESTER_SEED

from tapeline_common import bus
from tapeline_common.servers import until
from tapeline_common.servers_nats import NatsServer

pytestmark = pytest.mark.servers

Connected = Callable[..., Awaitable[bus.DirectClient]]


@pytest.fixture(name="connected")
def connected_fixture(tmp_path: Path, request: pytest.FixtureRequest) -> Connected:
    """Connects as the one user of the test's server."""
    server: NatsServer = request.getfixturevalue("bus")
    seed = tmp_path / "seed"
    seed.write_text(TESTER_SEED)

    async def make(on_error: bus.OnError | None = None) -> bus.DirectClient:
        return await bus.connect(server.url, name="tester", seed_file=str(seed), on_error=on_error)

    return make


async def test_a_group_arrives_whole_and_in_order(connected: Connected) -> None:
    """Listening gives what an ordinary subscription gives; headers arrive; what is too big is counted and left out."""
    client = await connected()
    heard: list[tuple[str, bytes]] = []
    queued: list[tuple[str, bytes, str]] = []

    async def take(message: object) -> None:
        queued.append((message.subject, message.data, (message.header or {}).get("Place", "")))  # type: ignore[attr-defined]

    await client.listen("bench.a.>", lambda subject, payload: heard.append((subject, payload)))
    await client.subscribe("bench.a.>", cb=take)
    await client.flush()
    messages = [(f"bench.a.{n % 3}", b"x" * n, bus.header_block("Place", str(n)) if n % 2 else b"") for n in range(500)]
    huge = ("bench.a.huge", b"x" * (client.max_payload + 1), b"")
    assert await bus.publish_all(client, [*messages[:200], huge, *messages[200:]]) == 1
    assert await until(lambda: len(heard) == len(queued) == 500, 10)
    assert heard == [(subject, payload) for subject, payload, _ in messages]
    assert queued == [(subject, payload, str(n) if n % 2 else "") for n, (subject, payload, _) in enumerate(messages)]
    await client.close()


async def test_an_error_while_hearing_is_reported_and_hearing_goes_on(connected: Connected) -> None:
    """One bad message neither ends the connection nor hides the next one."""
    errors: list[str] = []
    heard: list[bytes] = []

    async def report(error: Exception) -> None:
        errors.append(str(error))

    def hear(_subject: str, payload: bytes) -> None:
        if payload == b"bad":
            raise ValueError("no fact")
        heard.append(payload)

    client = await connected(report)
    await client.listen("bench.b", hear)
    await client.flush()
    await bus.publish_all(client, [("bench.b", payload, b"") for payload in (b"1", b"bad", b"2")])
    assert await until(lambda: heard == [b"1", b"2"], 10)
    assert errors == ["no fact"]
    await client.close()


async def test_a_closed_client_says_so(connected: Connected) -> None:
    """Nobody believes that a group went out that did not."""
    client = await connected()
    await client.close()
    with pytest.raises(ConnectionClosedError):
        await bus.publish_all(client, [("bench.c", b"", b"")])
