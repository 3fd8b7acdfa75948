"""The door for control requests: ``control.<action>``, judged, recorded, and answered with who has heard it.

An accepted request becomes an outside fact of the operator; a refused one changes nothing and says why. The reply waits
a moment for the services to hear the position, because "halted" is only true once they have. Who may publish here is
NATS's business; whether a loosening request is the operator's is checked by its signature.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from tapeline_common import subjects
from tapeline_common.control_request import Action, ControlReply, Refused, event_of, judge
from tapeline_common.events import PromotionRequested, ResumeRequested, RollbackRequested, StrategyEnableRequested
from tapeline_common.nats_client import BusError, NatsClient
from tapeline_common.nats_protocol import Message
from tapeline_common.tape import ReadRequest
from tapeline_common.values import ControlRefusal
from tapeline_common.wire import Answer, Draft, decode_fact, decode_progress, encode
from tapeline_ledger.recorder import Recorder
from tapeline_ledger.store import Store

ACKNOWLEDGE_S = 2.0
"""How long the reply waits for services to hear a request."""

SILENT_S = 5.0
"""A service that said nothing for so long is not waited for; it is listed as not having heard."""

VERBS = tuple(Action)
UNKNOWN_VERB = "unknown"
"""Under this name requests are counted whose action there is not."""

RECORDED, REFUSED = "recorded", "refused"

LOOSENING = (ResumeRequested, StrategyEnableRequested, PromotionRequested, RollbackRequested)


@dataclass(slots=True)
class Door:
    """Listens on ``control.*`` and ``progress.*`` once opened.

    Attributes:
        public_key: the operator's signing key; only its holder can loosen anything.
        last_sequence: highest sequence of a recorded loosening request, so that none works twice.
        heard: service → (position, when it said so by the event loop's clock).
        requests, refusals: what came, by action and whether it was recorded, and why it was not.
    """

    client: NatsClient
    recorder: Recorder
    public_key: str
    now_ns: Callable[[], int]
    logger: structlog.typing.FilteringBoundLogger
    last_sequence: int = 0
    heard: dict[str, tuple[int, float]] = field(default_factory=dict)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: Counter[ControlRefusal] = field(default_factory=Counter)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _answering: set[asyncio.Task[None]] = field(default_factory=set)
    _one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def open(self, store: Store) -> None:
        """Learn the sequences used so far, then listen."""
        self.last_sequence = await last_sequence(store)
        await self.client.listen(subjects.PROGRESS_ALL, self._on_progress)
        await self.client.listen(subjects.CONTROL_ALL, self._on_request)

    def ages_s(self) -> dict[str, float]:
        """Service → seconds since it last said how far it has heard."""
        now_s = asyncio.get_running_loop().time()
        return {name: now_s - when for name, (_, when) in self.heard.items()}

    def _on_progress(self, message: Message) -> None:
        progress = decode_progress(message.data)
        self.heard[progress.service] = (progress.pos, asyncio.get_running_loop().time())
        self._moved.set()

    def _on_request(self, message: Message) -> None:
        task = asyncio.create_task(self._answer(message))
        self._answering.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        if not task.cancelled() and (trouble := task.exception()) is not None:
            self.logger.error("control", reason=str(trouble), exc_info=trouble)

    async def _answer(self, message: Message) -> None:
        action = message.subject.removeprefix(subjects.CONTROL)
        async with self._one_at_a_time:
            reply = await self._record(action, message.data)
        self._count(reply)
        self.logger.info("control", action=action, position=reply.position, outcome=reply.refusal or "recorded")
        if reply.position:
            reply = await self._acknowledged(reply)
        if message.reply:
            with suppress(BusError):  # what took effect can be read off the tape as well
                await self.client.publish(message.reply, encode(reply))

    def _count(self, reply: ControlReply) -> None:
        verb = reply.action if reply.action in VERBS else UNKNOWN_VERB
        self.requests[verb, REFUSED if reply.refusal else RECORDED] += 1
        if reply.refusal:
            self.refusals[reply.refusal] += 1

    async def _record(self, action: str, body: bytes) -> ControlReply:
        now_ns = self.now_ns()
        judged = judge(action, body, public_key=self.public_key, last_sequence=self.last_sequence, now_ns=now_ns)
        if isinstance(judged, Refused):
            return ControlReply(action, refusal=judged.reason, detail=judged.detail)
        event = event_of(*judged)
        if isinstance(event, Refused):
            return ControlReply(action, refusal=event.reason, detail=event.detail)
        receipt = await self.recorder.append_local("operator", Answer(0, (Draft(event, f"control:{action}:{now_ns}"),)))
        if not receipt.ok:
            return ControlReply(action, refusal=ControlRefusal.NOT_RECORDED, detail=receipt.detail)
        if isinstance(event, LOOSENING):
            self.last_sequence = event.sequence
        return ControlReply(action, position=receipt.positions[0])

    async def _acknowledged(self, reply: ControlReply) -> ControlReply:
        """The reply once all living services have heard its position, or time is up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ACKNOWLEDGE_S
        while True:
            self._moved.clear()
            living = [name for name, (_, when) in self.heard.items() if loop.time() - when < SILENT_S]
            behind = [name for name in living if self.heard[name][0] < reply.position]
            if not behind or loop.time() >= deadline:
                break
            try:
                await asyncio.wait_for(self._moved.wait(), deadline - loop.time())
            except TimeoutError:
                continue
        heard = sorted(name for name, (pos, _) in self.heard.items() if pos >= reply.position)
        waiting = sorted(name for name in self.heard if name not in heard)
        return ControlReply(reply.action, reply.position, tuple(heard), tuple(waiting))


async def last_sequence(store: Store) -> int:
    """Highest sequence among the recorded loosening requests; 0 on a tape without any."""
    types = tuple(event.__name__ for event in LOOSENING)
    after, highest = 0, 0
    while True:
        page = await store.read(ReadRequest(after, limit=5000, types=types))
        for event in (decode_fact(payload).event for payload in page.facts):
            assert isinstance(event, LOOSENING)
            highest = max(highest, event.sequence)
        after = page.through
        if after >= page.head:
            return highest
