"""Connecting to NATS the way a trading system needs it. One of the two doors to nats-py (the other is ``tape_nats``).

A client never gives up reconnecting, notices a dead peer within seconds, and reports a permission violation as what it
is: a wrong configuration or a break-in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, OutboundBufferLimitError

RECONNECT_WAIT_S = 0.25
PING_INTERVAL_S = 5
MAX_OUTSTANDING_PINGS = 2
PENDING_BYTES = 8 * 1024 * 1024
"""What may wait in the client while the server is away; a request that waited too long is asked again by its id."""

OnError = Callable[[Exception], Awaitable[None]]

Hear = Callable[[str, bytes], None]
"""Takes subject and payload of a message. Must return at once: nothing else is read from the server meanwhile."""


class DirectClient(Client):
    """A client that can also hand messages over as they are read, without a queue and a task in between.

    On the way of a fact through many processes, a turn of the event loop in each of them is most of what it costs to
    hear and skip it. What nats-py does for its own subscriptions is left as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._direct: dict[int, Hear] = {}

    async def listen(self, subject: str, hear: Hear) -> None:
        """Subscribe for good; ``hear`` is called for each message, in the order of their arrival."""

        async def queued(message: Msg) -> None:  # what came before the subscription's number was known
            hear(message.subject, message.data)

        subscription = await self.subscribe(subject, cb=queued)
        self._direct[subscription._id] = hear

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        hear = self._direct.get(sid)
        if hear is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        try:
            hear(subject.decode(), bytes(data))
        except Exception as error:  # as nats-py does for its callbacks: reading goes on, and the error is reported
            await self._error_cb(error)


async def publish_all(client: Client, messages: Sequence[tuple[str, bytes, bytes]]) -> int:
    """Publish (subject, payload, header block) in order and as one write; returns how many were too big to be sent.

    nats-py looks at each message's subject and wakes its writer for each; for a group of facts, whose subjects are
    built from checked tokens, that costs more than committing them. An empty header block means none; see
    ``header_block``. Raises what ``publish`` raises once the connection is closed, or away for too long.
    """
    if client.is_closed:
        raise ConnectionClosedError
    parts: list[bytes] = []
    sent = size = 0
    most = client.max_payload
    for subject, payload, header in messages:
        total = len(header) + len(payload)
        if total > most:
            continue
        size += total
        sent += 1
        if header:
            parts.append(f"HPUB {subject} {len(header)} {total}\r\n".encode())
            parts.append(header)
        else:
            parts.append(f"PUB {subject} {total}\r\n".encode())
        parts.append(payload)
        parts.append(b"\r\n")
    if not client.is_connected and client._pending_data_size + size > client._max_pending_size:
        raise OutboundBufferLimitError
    client.stats["out_msgs"] += sent
    client.stats["out_bytes"] += size
    await client._send_command(b"".join(parts))
    await client._flush_pending()
    return len(messages) - sent


def header_block(name: str, value: str) -> bytes:
    """One header as NATS carries it."""
    return f"NATS/1.0\r\n{name}: {value}\r\n\r\n".encode()


async def connect(
    url: str,
    *,
    name: str,
    seed_file: str = "",
    on_error: OnError | None = None,
    on_reconnect: Callable[[], Awaitable[None]] | None = None,
) -> DirectClient:
    """Connect as ``name`` with its nkey seed and its own inbox prefix. Waits for the server for as long as it takes."""

    async def quiet(_error: Exception) -> None:
        return None

    options: dict[str, Any] = {"nkeys_seed": seed_file} if seed_file else {}
    if on_reconnect is not None:
        options["reconnected_cb"] = on_reconnect
    client = DirectClient()
    await client.connect(
        url,
        name=name,
        inbox_prefix=f"_INBOX.{name}".encode(),
        max_reconnect_attempts=-1,
        reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # a fraction of a second is taken as well
        ping_interval=PING_INTERVAL_S,
        max_outstanding_pings=MAX_OUTSTANDING_PINGS,
        pending_size=PENDING_BYTES,
        allow_reconnect=True,
        error_cb=on_error or quiet,
        **options,
    )
    return client
