"""A service of the replay realm as a process: hears the frames the ledger sends it, and replies.

It reads no log and restores nothing: a replay begins at the first fact. Started anew in mid-run it cannot know what it
missed, so it stops, and the run ends with that; run again, the replay is decided anew and compared with what is
recorded. What is done with a frame is in ``frame_follower``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from tapeline_common import subjects
from tapeline_common.bus import client_state
from tapeline_common.frame_follower import Forecaster, FrameFollower
from tapeline_common.frames import Forecast, Frame, Preview, Reply, decode_for_service, encode
from tapeline_common.metrics_common import BUS
from tapeline_common.process import Process, connect
from tapeline_common.wire import Progress
from tapeline_common.wire import encode as encode_progress
from tapeline_common.wiring import Service

if TYPE_CHECKING:
    from nats.aio.msg import Msg

PROGRESS_S = 0.25
"""How often a service says how far it has heard: a launcher waits for the first time."""

KEPT_REPLIES = 4
"""Replies that can be sent again, when the ledger asks once more because one was lost."""


class Hearer:
    """What a service does with messages: new ones are heard once, repeated ones get the same reply."""

    def __init__(self, service: Service) -> None:
        self.heard = 0
        self._service = service
        self._follower: FrameFollower | None = None
        self._forecaster: Forecaster | None = None
        self._replies: OrderedDict[bytes, bytes] = OrderedDict()

    def hear(self, payload: bytes) -> bytes:
        """The reply to a message. Raises what a core raised, and ``frame_follower.OutOfStep``."""
        reply = self._replies.get(payload)
        if reply is None:
            reply = self._replies[payload] = encode(self._answer(decode_for_service(payload)))
            if len(self._replies) > KEPT_REPLIES:
                self._replies.popitem(last=False)
        return reply

    def _answer(self, message: Frame | Preview) -> Reply | Forecast:
        if isinstance(message, Preview):
            self._forecaster = self._forecaster or Forecaster(self._service)
            return self._forecaster.hear(message)
        self._follower = self._follower or FrameFollower(self._service)
        reply = self._follower.hear(message)
        self.heard = reply.ran[-1][0] if reply.ran else reply.heard
        return reply


async def replay(process: Process) -> None:
    """Follow frames until cancelled."""
    service = process.service
    client = await connect(process)
    hearer = Hearer(service)
    process.metrics.expose(BUS, lambda: client_state(client))
    process.metrics.follow(lambda: (hearer.heard, hearer.heard))
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        try:
            # Models are fitted where they are asked for, and that must not keep the connection from answering.
            reply = await asyncio.to_thread(hearer.hear, message.data) if service.workers else hearer.hear(message.data)
        except Exception as trouble:
            process.metrics.stopped.set(1)
            if not failed.done():
                failed.set_exception(trouble)
            return
        await client.publish(subjects.frame_answer(service.name), reply)

    await client.subscribe(subjects.frames(service.name), cb=take)
    # nats-py sends the PING of a flush ahead of commands that wait in its buffer; the second one is behind them.
    await client.flush()
    await client.flush()
    try:
        while not failed.done():
            await client.publish(subjects.progress(service.name), encode_progress(Progress(service.name, hearer.heard)))
            await asyncio.wait({failed}, timeout=PROGRESS_S)
        await failed
    finally:
        await client.close()
