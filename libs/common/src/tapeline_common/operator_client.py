"""The operator's side of a running stack: reads the tape, watches progress, sends control requests.

Used by the command line; holds the operator's keys of one data folder and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tapeline_common import bus, subjects
from tapeline_common.control_request import LOOSENING, Action, ControlReply, ControlRequest, sign
from tapeline_common.embedded import Running, operator_seed_file, running_stack, signer_seed
from tapeline_common.permissions import OPERATOR
from tapeline_common.tape_nats import NatsTape
from tapeline_common.wire import decode_progress, encode

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

REPLY_S = 10.0
"""How long a control request may take, acknowledgements included."""


class NotRunning(Exception):
    """No stack runs on this data folder."""


class NoReply(Exception):
    """The ledger did not answer in time; the request may or may not have been recorded."""


class OperatorClient:
    """One connection as the operator."""

    def __init__(self, folder: Path, running: Running, client: Client) -> None:
        self.running = running
        self.tape = NatsTape(client)
        self.client = client
        self._folder = folder

    async def control(self, action: Action, request: ControlRequest) -> ControlReply:
        """Send a request, signed where it loosens. Raises ``NoReply``."""
        if action in LOOSENING:
            request = sign(action, request, signer_seed(self._folder), now_ns=time.time_ns())  # noqa: TID251  (the operator's own clock dates the request)
        try:
            reply = await self.client.request(subjects.control(action), encode(request), timeout=REPLY_S)
        except TimeoutError as trouble:
            raise NoReply(f"no reply to {action} within {REPLY_S:.0f} s") from trouble
        return msgspec.json.decode(reply.data, type=ControlReply)

    async def progress(self, services: Collection[str], at_most_s: float) -> dict[str, int]:
        """What services say of how far they have heard; returns once each has spoken, or time is up."""
        heard: dict[str, int] = {}
        complete = asyncio.Event()

        async def take(message: Msg) -> None:
            progress = decode_progress(message.data)
            heard[progress.service] = progress.pos
            if heard.keys() >= set(services):
                complete.set()

        subscription = await self.client.subscribe(subjects.PROGRESS_ALL, cb=take)
        with suppress(TimeoutError):
            await asyncio.wait_for(complete.wait(), at_most_s)
        await subscription.unsubscribe()
        return heard


@asynccontextmanager
async def operator(folder: Path) -> AsyncIterator[OperatorClient]:
    """Connect to the stack that runs on a data folder. Raises ``NotRunning``."""
    running = running_stack(folder)
    if running is None:
        raise NotRunning(f"nothing runs on {folder}: start it with `tapeline up --data {folder}`")
    client = await bus.connect(running.nats_url, name=OPERATOR, seed_file=str(operator_seed_file(folder)))
    try:
        yield OperatorClient(folder, running, client)
    finally:
        await client.close()
