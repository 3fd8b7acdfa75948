"""Our client for the live path: it agrees with nats-py over a real server, and survives whatever ends its line."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from nats.aio.client import Client
from tests.conftest import TESTER_KEY, TESTER_SEED
from tests.integration.nats_double import HERE, nats_double

from tapeline_common import nats_client
from tapeline_common.nats_client import Away, Closed, NatsClient, NobodyListens, ServerSaid, TooMuchWaits
from tapeline_common.nats_protocol import Message, ProtocolBroken, header_block
from tapeline_common.servers import until
from tapeline_common.servers_nats import NatsServer, NatsUser, new_nkey

pytestmark = pytest.mark.servers

Connect = Callable[..., Awaitable[NatsClient]]


@pytest.fixture(name="trouble")
def trouble_fixture() -> list[Exception]:
    """What clients reported."""
    return []


@pytest.fixture(name="join")
async def join_fixture(tmp_path: Path, trouble: list[Exception]) -> AsyncIterator[Connect]:
    """Connects to a server as the tests' user; closed after the test."""
    clients: list[NatsClient] = []

    async def report(error: Exception) -> None:
        trouble.append(error)

    async def make(url: str, *, name: str = "tester", seed: str = TESTER_SEED) -> NatsClient:
        seed_file = tmp_path / f"{name}.nk"
        seed_file.write_text(seed)
        client = await nats_client.connect(url, name=name, seed_file=str(seed_file) if seed else "", on_error=report)
        clients.append(client)
        return client

    yield make
    for client in clients:
        await client.close()


@pytest.fixture(name="own")
async def own_fixture(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A server of the test's own, to be killed: the tester may do everything, ``narrow`` may do nothing but ask."""
    seed, key = new_nkey()
    (tmp_path / "narrow-seed").write_text(seed)
    tester = NatsUser("tester", TESTER_KEY, publish=(">",), subscribe=(">",))
    narrow = NatsUser("narrow", key, publish=("open.>",), subscribe=())
    server = NatsServer(tmp_path / "own", users=[tester, narrow])
    await server.start()
    yield server
    await server.stop()


async def test_a_group_arrives_whole_and_in_order(
    bus: NatsServer, join: Connect, connect: Callable[[], Awaitable[Client]]
) -> None:
    """What we send, nats-py hears as we do, headers and replies included; what is too big is counted and left out."""
    client, other = await join(bus.url), await connect()
    heard: list[tuple[str, bytes, bytes]] = []
    queued: list[tuple[str, bytes, str]] = []

    async def take(message: Any) -> None:
        queued.append((message.subject, message.data, (message.header or {}).get("Place", "")))

    await client.listen("bench.a.>", lambda message: heard.append((message.subject, message.data, message.header)))
    await other.subscribe("bench.a.>", cb=take)
    await other.flush()
    await other.flush()
    await client.flush()
    messages = [(f"bench.a.{n % 3}", b"x" * n, header_block("Place", str(n)) if n % 2 else b"") for n in range(500)]
    huge = ("bench.a.huge", b"x" * (client.max_payload + 1), b"")
    assert client.send([*messages[:200], huge, *messages[200:]]) == 1
    assert await until(lambda: len(heard) == len(queued) == 500, 10)
    assert heard == messages
    assert queued == [(subject, data, str(n) if n % 2 else "") for n, (subject, data, _) in enumerate(messages)]


async def test_requests_are_answered_whoever_asks(
    bus: NatsServer, join: Connect, connect: Callable[[], Awaitable[Client]]
) -> None:
    """Ours asks nats-py and the other way round; hundreds of questions at once get each its own answer."""
    client, other = await join(bus.url), await connect()

    async def reply(message: Any) -> None:
        await other.publish(message.reply, b"theirs " + message.data)

    await other.subscribe("bench.theirs", cb=reply)
    await other.flush()
    await other.flush()
    await client.listen("bench.ours", lambda asked: void(client.send([(asked.reply, b"ours " + asked.data, b"")])))
    await client.flush()
    asks = [client.request("bench.theirs", b"%d" % n, timeout=10) for n in range(300)]
    assert [reply.data for reply in await asyncio.gather(*asks)] == [b"theirs %d" % n for n in range(300)]
    assert (await other.request("bench.ours", b"7", timeout=10)).data == b"ours 7"
    assert not client._asks


def void(_value: object) -> None:
    return None


async def test_questions_without_an_answer(bus: NatsServer, join: Connect) -> None:
    """That nobody listens is said at once; silence ends in time; the impatient are forgotten; too big is refused."""
    client = await join(bus.url)
    with pytest.raises(NobodyListens, match=r"bench\.nobody"):
        await client.request("bench.nobody", b"", timeout=10)
    await client.listen("bench.silent", lambda message: None)
    with pytest.raises(TimeoutError, match=r"bench\.silent"):
        await client.request("bench.silent", b"", timeout=0.05)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await client.request("bench.silent", b"", timeout=0.1)
    assert await until(lambda: not client._asks, 10)
    with pytest.raises(ValueError, match="the server takes"):
        client.request("bench.silent", b"x" * (client.max_payload + 1), timeout=1)
    with pytest.raises(ValueError, match="the server takes"):
        await client.publish("bench.silent", b"x" * (client.max_payload + 1))


async def test_an_error_while_hearing_is_reported_and_hearing_goes_on(
    bus: NatsServer, join: Connect, trouble: list[Exception]
) -> None:
    """One bad message neither ends the connection nor hides the next one."""
    client = await join(bus.url)
    heard: list[bytes] = []

    def hear(message: Message) -> None:
        if message.data == b"bad":
            raise ValueError("no fact")
        heard.append(message.data)

    await client.listen("bench.b", hear)
    client.send([("bench.b", data, b"") for data in (b"1", b"bad", b"2")])
    assert await until(lambda: heard == [b"1", b"2"], 10)
    assert [str(error) for error in trouble] == ["no fact"]


async def test_who_stopped_listening_hears_nothing_more(bus: NatsServer, join: Connect) -> None:
    """Not even what was on its way; others go on."""
    client = await join(bus.url)
    stopped: list[bytes] = []
    going_on: list[bytes] = []
    listening = await client.listen("bench.c", lambda message: stopped.append(message.data))
    await client.listen("bench.c", lambda message: going_on.append(message.data))
    client.send([("bench.c", b"1", b"")])
    assert await until(lambda: stopped == going_on == [b"1"], 10)
    client.send([("bench.c", b"2", b"")])
    listening.stop()
    listening.stop()
    client.send([("bench.c", b"3", b"")])
    assert await until(lambda: going_on == [b"1", b"2", b"3"], 10)
    assert stopped == [b"1"]


async def test_a_closed_client_says_so(bus: NatsServer, join: Connect) -> None:
    """What was sent before goes out; nobody believes that something went out that did not; questions end."""
    client, other = await join(bus.url), await join(bus.url)
    heard: list[bytes] = []
    await other.listen("bench.d", lambda message: heard.append(message.data))
    await other.flush()
    reply = client.request("bench.d", b"last", timeout=10)
    await client.close()
    await client.close()
    assert client.is_closed
    assert not client.is_connected
    with pytest.raises(Closed):
        await reply
    with pytest.raises(Closed):
        client.send([("bench.d", b"", b"")])
    with pytest.raises(Closed):
        await client.flush()
    assert await until(lambda: heard == [b"last"], 10)


async def test_a_killed_server_is_found_again(
    own: NatsServer, join: Connect, trouble: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions on the way end at once; what is said meanwhile is kept, within bounds; listeners hear again."""
    client = await join(own.url)
    heard: list[bytes] = []
    await client.listen("bench.e", lambda message: heard.append(message.data))
    await client.listen("bench.silent", lambda message: None)
    stopped = await client.listen("bench.e", lambda message: heard.append(b"stopped"))
    await client.flush()
    reply = client.request("bench.silent", b"", timeout=30)
    await own.kill()
    with pytest.raises(Away):
        await reply
    assert not client.is_connected
    with pytest.raises(Away):
        await client.flush()
    stopped.stop()
    client.send([("bench.e", b"kept", b"")])
    await client.listen("bench.late", lambda message: heard.append(b"late"))
    monkeypatch.setattr(nats_client, "KEPT_BYTES", 1_000)
    with pytest.raises(TooMuchWaits):
        client.send([("bench.e", b"x" * 1_000, b"")])
    await own.start()
    assert await until(lambda: heard == [b"kept"], 20)
    client.send([("bench.e", b"after", b""), ("bench.late", b"", b"")])
    assert await until(lambda: heard == [b"kept", b"after", b"late"], 10)
    assert isinstance(trouble[0], Away)
    assert client.reconnects == 1


async def test_a_permission_violation_is_reported_as_what_it_is(
    own: NatsServer, join: Connect, trouble: list[Exception], tmp_path: Path
) -> None:
    """Neither publishing nor listening beyond one's rights passes in silence, and what is allowed still works."""
    client = await join(own.url, name="narrow", seed=(tmp_path / "narrow-seed").read_text())
    await client.listen("tape.>", lambda message: None)
    client.send([("tape.forged", b"", b""), ("open.door", b"", b"")])
    await client.flush()
    said = sorted(str(error).lower() for error in trouble)
    assert all(isinstance(error, ServerSaid) for error in trouble)
    assert 'permissions violation for publish to "tape.forged"' in said[0]
    assert 'permissions violation for subscription to "tape.>"' in said[1]


async def test_a_stranger_does_not_get_in(
    own: NatsServer, join: Connect, trouble: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key the server does not know: reported, and tried again for as long as it takes."""
    monkeypatch.setattr(nats_client, "RECONNECT_WAIT_S", 0.01)
    joining = asyncio.ensure_future(join(own.url, seed=new_nkey()[0]))
    assert await until(lambda: len(trouble) >= 3, 10)
    assert any("authorization violation" in str(error).lower() for error in trouble)
    assert not joining.done()
    joining.cancel()


async def test_a_mute_peer_is_dropped_and_connected_anew(
    join: Connect, trouble: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that vanished answers no ping: noticed after a few, and the next connection subscribes again."""
    monkeypatch.setattr(nats_client, "PING_INTERVAL_S", 0.02)
    monkeypatch.setattr(nats_client, "RECONNECT_WAIT_S", 0.01)
    async with nats_double() as double:
        client = await join(double.url, seed="")
        await client.listen("tape.>", lambda message: None)
        double.is_mute = True
        assert await until(lambda: client.reconnects > 0, 10)
        double.is_mute = False
        assert await until(lambda: client.is_connected, 10)
        assert "pings unanswered" in str(trouble[0])
        assert double.said.count(b"SUB tape.> 1") >= 2
        await client.close()


async def test_what_is_no_nats_ends_the_connection(
    join: Connect, trouble: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program on the port: said in words, and tried again."""
    monkeypatch.setattr(nats_client, "RECONNECT_WAIT_S", 0.01)
    async with nats_double(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as double:
        joining = asyncio.ensure_future(join(double.url, seed=""))
        assert await until(lambda: any(isinstance(error, ProtocolBroken) for error in trouble), 10)
        assert not joining.done()
        joining.cancel()


async def test_user_and_password_come_from_the_address(join: Connect) -> None:
    """For servers without nkeys; an nkey is used where there is one, and signs the server's nonce."""
    async with nats_double() as double:
        await join(double.url.replace("//", "//alice:p%40ss@"), name="alice", seed="")
        await join(double.url)
        assert [(said["name"], said["user"], said["pass"], bool(said["sig"])) for said in double.options] == [
            ("alice", "alice", "p@ss", False),
            ("tester", "", "", True),
        ]


async def test_tls_is_spoken_where_it_is_asked_for(join: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is checked against the certificate, and nothing but the greeting travels in the clear."""
    monkeypatch.setenv("SSL_CERT_FILE", str(HERE / "localhost.pem"))
    async with nats_double(tls=True) as double:
        client = await join(double.url, seed="")
        await client.publish("tape.a", b"hello")
        await client.flush()
        assert double.said[-2:] == [b"PUB tape.a 5", b"hello"]
        await client.close()


async def test_an_unknown_certificate_is_refused(
    join: Connect, trouble: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody in between: reported, and nothing is said to it."""
    monkeypatch.setattr(nats_client, "RECONNECT_WAIT_S", 0.01)
    async with nats_double(tls=True) as double:
        joining = asyncio.ensure_future(join(double.url, seed=""))
        assert await until(lambda: any("certificate" in str(error).lower() for error in trouble), 10)
        joining.cancel()
        assert double.options == []


def test_it_works_on_the_loop_that_services_run_on(bus: NatsServer, tmp_path: Path) -> None:
    """uvloop's transports are not asyncio's: the same hello goes round."""
    seed_file = tmp_path / "seed"
    seed_file.write_text(TESTER_SEED)

    async def round_trip() -> bytes:
        client = await nats_client.connect(bus.url, name="tester", seed_file=str(seed_file))
        await client.listen("bench.u", lambda asked: void(client.send([(asked.reply, asked.data, b"")])))
        reply = await client.request("bench.u", b"x" * 100_000, timeout=10)
        await client.close()
        return reply.data

    assert uvloop.run(round_trip()) == b"x" * 100_000
