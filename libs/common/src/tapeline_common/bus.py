"""Connecting nats-py the way a trading system needs it. One of the two doors to nats-py (the other is ``tape_nats``).

For commands, replays and whatever else is not in a hurry; the live path has a client of its own, ``nats_client``.

A client never gives up reconnecting, notices a dead peer within seconds, and reports a permission violation as what it
is: a wrong configuration or a break-in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.errors import Error

RECONNECT_WAIT_S = 0.25
PING_INTERVAL_S = 5
MAX_OUTSTANDING_PINGS = 2
PENDING_BYTES = 8 * 1024 * 1024
"""What may wait in the client while the server is away; a request that waited too long is asked again by its id."""

OnError = Callable[[Exception], Awaitable[None]]
ClientTrouble = Error
"""What calls of a connected client raise when the connection does not hold."""


@dataclass(frozen=True, slots=True)
class ClientState:
    """What is exposed of a connection, in the words of ``nats_client``; nats-py does not time its pings."""

    is_connected: bool
    reconnects: int
    round_trip_s: float | None = None


def client_state(client: Client) -> ClientState:
    return ClientState(client.is_connected, client.stats["reconnects"])


async def connect(
    url: str,
    *,
    name: str,
    seed_file: str = "",
    on_error: OnError | None = None,
    on_reconnect: Callable[[], Awaitable[None]] | None = None,
) -> Client:
    """Connect as ``name`` with its nkey seed and its own inbox prefix. Waits for the server for as long as it takes."""

    async def quiet(_error: Exception) -> None:
        return None

    options: dict[str, Any] = {"nkeys_seed": seed_file} if seed_file else {}
    if on_reconnect is not None:
        options["reconnected_cb"] = on_reconnect
    client = Client()
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
