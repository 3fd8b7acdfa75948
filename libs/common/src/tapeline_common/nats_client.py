"""A NATS client for the live path: messages are handed over as they are read, and what is sent goes out at once.

Between a fact and the answer to it lie six processes, each woken for a few instructions; what a client library does
for each message (queues, tasks, a look at every subject) then costs more than the work. This one has none of that: a
subscription is a function called while the socket is read, a publication is a write. It reconnects for ever, notices
a dead peer within seconds, keeps a bounded amount of what is said while the server is away, and reports permission
violations as what they are.

It does what the platform needs of one server: no clusters, no JetStream, no queue groups, no coroutines as listeners.
Whatever is not in a hurry uses nats-py, by ``bus``.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import nkeys

from tapeline_common import nats_protocol as protocol
from tapeline_common.nats_protocol import Message, Parser, ProtocolBroken, ServerInfo

RECONNECT_WAIT_S = 0.25
CONNECT_TIMEOUT_S = 2.0
PING_INTERVAL_S = 5.0
MOST_PINGS_OUT = 2
"""Pings without an answer after which the peer counts as dead."""

FLUSH_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
KEPT_BYTES = 8 * 1024 * 1024
"""What may wait in the client while the server is away; a request that waited too long is asked again by its id."""

MOST_UNSENT_BYTES = 256 * 1024 * 1024
"""What may wait for a server that reads too slowly; several times the largest page of facts for each service."""

DEFAULT_PORT = 4222

Hear = Callable[[Message], None]
"""Takes a message. Must return at once: nothing else is read from the server meanwhile."""

OnError = Callable[[Exception], Awaitable[None]]


class BusError(Exception):
    """The bus could not do what was asked; nobody can say whether a message arrived."""


class Closed(BusError):
    """The client was closed."""


class Away(BusError):
    """The connection is lost, or was lost before the reply came."""


class TooMuchWaits(BusError):
    """More waits to be sent than may be kept."""


class NobodyListens(BusError):
    """The server says that nobody is subscribed to what was asked."""


class ServerSaid(BusError):
    """An error of the server's, such as a permission violation."""


@dataclass(frozen=True, slots=True)
class Listening:
    """One subscription; ``stop`` ends it."""

    client: NatsClient
    number: int

    def stop(self) -> None:
        """No message is handed over any more, those already on the way included."""
        self.client._forget(self.number)


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request on its way."""

    subject: str
    reply: asyncio.Future[Message]
    alarm: asyncio.TimerHandle


class _Line(asyncio.Protocol):
    """One TCP connection, from its first byte to its last; the client outlives it."""

    def __init__(self, client: NatsClient) -> None:
        self.greeted: asyncio.Future[ServerInfo] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self.pings_out = 0
        self.parser = Parser(client._on_message, self._on_line)
        self._client = client
        self._pongs: deque[tuple[asyncio.Future[None], float]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed(data)
        except ProtocolBroken as broken:
            self._client._report(broken)
            self.drop()

    def connection_lost(self, error: Exception | None) -> None:
        lost = Away(f"the connection to NATS ended: {error or 'closed by the server'}")
        waits: list[asyncio.Future[Any]] = [self.greeted, *(answered for answered, _ in self._pongs)]
        for waiting in waits:
            if not waiting.done():
                waiting.set_exception(lost)
                waiting.exception()  # whoever waited no longer does not leave a warning behind
        self._client._lost(self, lost)

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    @property
    def unsent(self) -> int:
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    async def ping(self) -> None:
        """Return when the server has read all that was written before."""
        await self._send_ping()

    def keep_alive(self) -> None:
        """Ask the peer whether it lives; drop it if it has not answered for long."""
        if self.pings_out >= MOST_PINGS_OUT:
            self._client._report(Away(f"NATS left {self.pings_out} pings unanswered; connecting anew"))
            self.drop()
            return
        self._send_ping()

    def _send_ping(self) -> asyncio.Future[None]:
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append((answered, time.perf_counter()))  # the loop's own time has milliseconds
        self.pings_out += 1
        self.write(protocol.PING)
        return answered

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _on_line(self, line: bytes) -> None:
        if line == b"PING":
            self.write(protocol.PONG)
        elif line == b"PONG":
            self.pings_out = 0
            if self._pongs:
                answered, sent_s = self._pongs.popleft()
                self._client.round_trip_s = time.perf_counter() - sent_s
                if not answered.done():
                    answered.set_result(None)
        elif line.startswith(b"INFO "):
            if not self.greeted.done():
                self.greeted.set_result(protocol.decode_info(line))
        elif line.startswith(b"-ERR"):
            self._client._report(ServerSaid(line[5:].decode(errors="replace").strip("' ")))
        elif not line.startswith(b"+OK"):
            raise ProtocolBroken(f"no NATS server says {line[:40]!r}")


class NatsClient:
    """One user's connection to one server. Made by ``connect``.

    Attributes:
        max_payload: bytes of a message, headers included, that the server takes.
        reconnects: how often the connection was lost.
        round_trip_s: from the last PING to its PONG; ``None`` before the first.
    """

    def __init__(self, url: str, *, name: str, seed: bytes, on_error: OnError | None) -> None:
        self.max_payload = 0
        self.reconnects = 0
        self.round_trip_s: float | None = None
        self._url = urlsplit(url)
        self._name = name
        self._seed = seed
        self._on_error = on_error
        self._line: _Line | None = None
        self._closed = False
        self._listeners: dict[int, tuple[str, Hear]] = {}
        self._numbers = 0
        self._kept: list[bytes] = []
        self._kept_bytes = 0
        self._asks: dict[str, _Ask] = {}
        self._inbox = f"_INBOX.{name}.{secrets.token_hex(8)}."
        self._asked = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None

    # ---- saying and hearing ----------------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        return self._line is not None

    @property
    def is_closed(self) -> bool:
        return self._closed

    def send(self, messages: Sequence[tuple[str, bytes, bytes]]) -> int:
        """Publish (subject, data, header block) in order and as one write; returns how many were too big to be sent.

        Raises ``Closed``, and ``TooMuchWaits`` if the server has been away, or not reading, for too long.
        """
        commands = [
            protocol.publish(subject, data, header=header)
            for subject, data, header in messages
            if len(data) + len(header) <= self.max_payload
        ]
        self._write(b"".join(commands))
        return len(messages) - len(commands)

    async def publish(self, subject: str, data: bytes) -> None:
        """Publish one message. Raises ``ValueError`` if it is too big, and what ``send`` raises."""
        if self.send([(subject, data, b"")]):
            raise ValueError(f"{len(data)} bytes on {subject}: the server takes {self.max_payload}")

    async def listen(self, subject: str, hear: Hear) -> Listening:
        """Subscribe; ``hear`` is called for each message, in the order of their arrival."""
        self._numbers += 1
        self._listeners[self._numbers] = (subject, hear)
        if self._line is not None:
            self._line.write(protocol.subscribe(subject, self._numbers))
        return Listening(self, self._numbers)

    def request(self, subject: str, data: bytes, *, timeout: float, header: bytes = b"") -> asyncio.Future[Message]:
        """Publish a message at once; the future is the reply to it.

        It ends with ``TimeoutError``, with ``NobodyListens``, or with ``Away`` if the connection ended before the reply
        came. Unless nobody listens, the request may have been carried out all the same. Raises what ``publish`` raises.
        """
        if len(data) + len(header) > self.max_payload:
            raise ValueError(f"{len(data)} bytes on {subject}: the server takes {self.max_payload}")
        self._asked += 1
        token = str(self._asked)
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Message] = loop.create_future()
        self._write(protocol.publish(subject, data, self._inbox + token, header))
        self._asks[token] = _Ask(subject, reply, loop.call_later(timeout, self._time_out, token, timeout))
        return reply

    async def flush(self) -> None:
        """Return when the server has all that was said before, subscriptions included."""
        if self._line is None:
            raise Closed("closed") if self._closed else Away("not connected to NATS")
        async with asyncio.timeout(FLUSH_TIMEOUT_S):
            await self._line.ping()

    async def close(self) -> None:
        """Send what waits, then let go. Listeners hear nothing more; requests on the way end with ``Away``."""
        if self._closed:
            return
        self._closed = True
        self._listeners.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        line, self._line = self._line, None
        if line is not None:
            with suppress(BusError, TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await line.ping()
            line.drop()
        self._give_up_replies(Closed("the client was closed"))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- the connection --------------------------------------------------------------------------------------

    async def _connect_until_done(self) -> None:
        """Connect, however long that takes; what is the matter is reported when it changes."""
        said = ""
        while True:
            try:
                await self._connect_once()
                return
            except (OSError, TimeoutError, BusError, ProtocolBroken) as trouble:
                words = f"{type(trouble).__name__}: {trouble}"
                if words != said:
                    self._report(trouble)
                said = words
            await asyncio.sleep(RECONNECT_WAIT_S)

    async def _connect_once(self) -> None:
        loop = asyncio.get_running_loop()
        host, port = self._url.hostname or "127.0.0.1", self._url.port or DEFAULT_PORT
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, line = await loop.create_connection(lambda: _Line(self), host, port)
            try:
                info = await line.greeted
                if info.tls_required or self._url.scheme == "tls":
                    assert line.transport is not None
                    context = ssl.create_default_context()
                    secure = await loop.start_tls(line.transport, line, context, server_hostname=host)
                    assert secure is not None, "start_tls gives a transport unless it was closed meanwhile"
                    line.connection_made(secure)
                self.max_payload = info.max_payload
                line.write(protocol.connect(self._options(info)))
                line.write(protocol.subscribe(self._inbox + "*", 0))
                told = self._listeners.copy()
                for number, (subject, _) in told.items():
                    line.write(protocol.subscribe(subject, number))
                await line.ping()
            except BaseException:
                line.drop()
                raise
        kept, self._kept, self._kept_bytes = self._kept, [], 0
        self._line = line
        for number, (subject, _) in self._listeners.items():
            if number not in told:  # since we waited
                line.write(protocol.subscribe(subject, number))
        for number in told.keys() - self._listeners.keys():
            line.write(protocol.unsubscribe(number))
        if kept:
            line.write(b"".join(kept))
        self._watch(line)

    def _options(self, info: ServerInfo) -> protocol.ConnectOptions:
        if not self._seed:
            user, password = unquote(self._url.username or ""), unquote(self._url.password or "")
            return protocol.ConnectOptions(self._name, user=user, password=password)
        key = nkeys.from_seed(self._seed)
        signature = base64.urlsafe_b64encode(key.sign(info.nonce.encode())).decode().rstrip("=")
        return protocol.ConnectOptions(self._name, nkey=key.public_key.decode(), sig=signature)

    def _watch(self, line: _Line) -> None:
        if self._line is line:
            self._alarm = asyncio.get_running_loop().call_later(PING_INTERVAL_S, self._keep_alive, line)

    def _keep_alive(self, line: _Line) -> None:
        if self._line is line:
            line.keep_alive()
            self._watch(line)

    def _lost(self, line: _Line, lost: Away) -> None:
        if self._line is not line:
            return  # it never came to be ours, or is not any more
        self._line = None
        if self._alarm is not None:
            self._alarm.cancel()
        self._give_up_replies(lost)
        self._report(lost)
        self.reconnects += 1
        self._spawn(self._connect_until_done())

    def _write(self, data: bytes) -> None:
        line = self._line
        if line is None:
            if self._closed:
                raise Closed("the client was closed")
            if self._kept_bytes + len(data) > KEPT_BYTES:
                raise TooMuchWaits(f"{self._kept_bytes} bytes wait for the server to come back")
            self._kept.append(data)
            self._kept_bytes += len(data)
            return
        if line.unsent > MOST_UNSENT_BYTES:
            raise TooMuchWaits(f"{line.unsent} bytes wait for the server to read them")
        line.write(data)

    # ---- what arrives ----------------------------------------------------------------------------------------

    def _on_message(self, number: int, message: Message) -> None:
        if not number:
            self._on_reply(message)
            return
        found = self._listeners.get(number)
        if found is None:
            return  # unsubscribed, and still on the way
        try:
            found[1](message)
        except Exception as error:  # one bad message neither ends the connection nor hides the next one
            self._report(error)

    def _on_reply(self, message: Message) -> None:
        ask = self._asks.pop(message.subject[len(self._inbox) :], None)
        if ask is None:
            return  # too late
        ask.alarm.cancel()
        if ask.reply.done():
            return  # whoever asked was cancelled
        if message.nobody_listens:
            ask.reply.set_exception(NobodyListens(f"nobody is subscribed to {ask.subject}"))
        else:
            ask.reply.set_result(message)

    def _time_out(self, token: str, timeout_s: float) -> None:
        ask = self._asks.pop(token)
        if not ask.reply.done():
            ask.reply.set_exception(TimeoutError(f"no reply to {ask.subject} within {timeout_s} s"))

    def _forget(self, number: int) -> None:
        if self._listeners.pop(number, None) is not None and self._line is not None:
            self._line.write(protocol.unsubscribe(number))

    def _give_up_replies(self, reason: BusError) -> None:
        asks, self._asks = self._asks, {}
        for ask in asks.values():
            ask.alarm.cancel()
            if not ask.reply.done():
                ask.reply.set_exception(reason)

    def _report(self, trouble: Exception) -> None:
        if self._on_error is not None and not self._closed:
            self._spawn(self._on_error(trouble))

    def _spawn(self, work: Awaitable[None]) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def connect(url: str, *, name: str, seed_file: str = "", on_error: OnError | None = None) -> NatsClient:
    """Connect as ``name``, with its nkey seed and its own inbox prefix, or with the user and password of the URL.

    Waits for the server for as long as it takes; ``on_error`` is told what is the matter.
    """
    seed = Path(seed_file).read_bytes().strip() if seed_file else b""
    client = NatsClient(url, name=name, seed=seed, on_error=on_error)
    await client._connect_until_done()
    return client
