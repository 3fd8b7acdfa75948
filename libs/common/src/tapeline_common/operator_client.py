"""The operator's side of a running stack: reads the tape, watches progress, sends control requests.

Used by the command line. Which stack, and with which keys, is told by the environment where a launcher has provisioned
it (containers), else by the data folder of ``tapeline up``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from tapeline_common import bus, subjects
from tapeline_common.control_request import LOOSENING, Action, ControlReply, ControlRequest, sign
from tapeline_common.embedded import Running, operator_seed_file, running_stack, signer_seed_file
from tapeline_common.permissions import OPERATOR
from tapeline_common.servers_nats import load_or_create_nkey
from tapeline_common.settings import environment
from tapeline_common.tape_nats import NatsTape
from tapeline_common.values import Realm
from tapeline_common.wire import decode_progress, encode
from tapeline_common.wiring import installed_services

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

REPLY_S = 10.0
"""How long a control request may take, acknowledgements included."""

CONNECT_S = 10.0
"""How long a stack named by the environment may take to let us in."""


class NotRunning(Exception):
    """No stack runs on this data folder, or none answers where the environment says."""


class CannotSign(Exception):
    """The request loosens something and there is no key to sign it with; nothing was sent."""


class NoReply(Exception):
    """The ledger did not answer in time; the request may or may not have been recorded."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Which stack, and the files with the keys that open it. ``signer_file`` is None where nothing can be signed."""

    running: Running
    seed_file: Path
    signer_file: Path | None


class OperatorClient:
    """One connection as the operator."""

    def __init__(self, reach: Reach, client: Client) -> None:
        self.running = reach.running
        self.tape = NatsTape(client)
        self.client = client
        self._signer_file = reach.signer_file

    async def control(self, action: Action, request: ControlRequest) -> ControlReply:
        """Send a request, signed where it loosens. Raises ``NoReply``, ``CannotSign``."""
        if action in LOOSENING:
            request = sign(action, request, self._signer_seed(), now_ns=time.time_ns())  # noqa: TID251  (the operator's own clock dates the request)
        try:
            reply = await self.client.request(subjects.control(action), encode(request), timeout=REPLY_S)
        except TimeoutError as trouble:
            raise NoReply(f"no reply to {action} within {REPLY_S:.0f} s") from trouble
        return msgspec.json.decode(reply.data, type=ControlReply)

    def _signer_seed(self) -> str:
        if self._signer_file is None or not self._signer_file.exists():
            raise CannotSign(
                f"{self._signer_file or 'TAPELINE_SIGNER_SEED_FILE'} is not there: this request must be signed with "
                f"the operator's key"
            )
        return load_or_create_nkey(self._signer_file)[0]

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


def provisioned_reach(variables: Mapping[str, str]) -> Reach | None:
    """The stack that the environment names, as ``tapeline provision`` wrote it for the operator; None if it names none.

    Raises ``ConfigurationInvalid``.
    """
    if "TAPELINE_NATS_URL" not in variables:
        return None
    env = environment(dict(variables))
    running = Running(
        pid=0,
        created=0.0,
        nats_url=env.nats_url,
        realm=Realm.LIVE,
        services=dict.fromkeys(installed_services(), 0),
        metrics={},
    )
    signer = Path(env.signer_seed_file) if env.signer_seed_file else None
    return Reach(running, Path(env.nats_seed_file), signer)


def reach_of(folder: Path) -> Reach:
    """The stack of the environment, else the one that runs on a data folder. Raises ``NotRunning``."""
    provisioned = provisioned_reach(os.environ)
    if provisioned is not None:
        return provisioned
    running = running_stack(folder)
    if running is None:
        raise NotRunning(f"nothing runs on {folder}: start it with `tapeline up --data {folder}`")
    return Reach(running, operator_seed_file(folder), signer_seed_file(folder))


@asynccontextmanager
async def operator(folder: Path) -> AsyncIterator[OperatorClient]:
    """Connect to the stack of the environment, else to the one that runs on a data folder. Raises ``NotRunning``."""
    reach = reach_of(folder)
    url = reach.running.nats_url
    if not reach.seed_file.is_file():
        raise NotRunning(f"{reach.seed_file} is not there: it should hold the operator's key for {url}")
    try:
        async with asyncio.timeout(CONNECT_S):
            client = await bus.connect(url, name=OPERATOR, seed_file=str(reach.seed_file))
    except TimeoutError:
        raise NotRunning(f"{url} does not answer within {CONNECT_S:.0f} s: is the stack up?") from None
    try:
        yield OperatorClient(reach, client)
    finally:
        await client.close()
