"""The ledger in the replay realm: drives ``FrameGate`` over NATS and commits what is certain in bulk.

Services hear frames on ``frames.<service>`` and answer on ``frames.answer.<service>``; whoever feeds the replay asks
``ledger.append.<author>`` as in the live realm, and gets receipts once its facts are durable. Nothing acts on the
outside world in a replay, so services go on while the facts they heard are still on their way to the disk; the feeder
is not told of a fact before it is there.

A replay begins at the first fact. On a log that holds facts already, it decides them anew and compares: it goes on
where the log ends, or stops because something else was decided. There is no mirror and nothing is announced on
``tape.>``: a replay's log is read from the ledger.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from tapeline_common import subjects
from tapeline_common.frame_follower import FrameFollower
from tapeline_common.frames import Forecast, FramePlan, Reply, decode_reply
from tapeline_common.sequencer import Recorded
from tapeline_common.tape import Receipt
from tapeline_common.tape_nats import (
    decode_answers,
    decode_read_request,
    encode_read_error,
    encode_receipts,
)
from tapeline_common.values import AppendRefusal
from tapeline_common.wire import Answer, Draft
from tapeline_common.wiring import Service
from tapeline_ledger.frame_gate import MOST, FrameGate, ReplayBroken
from tapeline_ledger.frame_services import Request
from tapeline_ledger.hardening import fault_of
from tapeline_ledger.server import (
    MOST_REPLY_BYTES,
    PENDING_BYTES,
    PENDING_MESSAGES,
    PROGRESS_S,
    Progress,
    encoded_page,
)
from tapeline_ledger.store import Store

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

MOST_FACTS_PER_COMMIT = 10_000
LEAST_FACTS_PER_COMMIT = 1_000
"""Facts a commit waits for while there is more to decide: each commit has a cost of its own."""

MOST_UNCOMMITTED = 50_000
"""Facts that may be ahead of the disk, so that memory stays bounded."""

RESEND_S = 5.0
"""How long a reply may take before the frame is sent again: NATS may lose it, and a repetition is answered alike."""


@dataclass(slots=True)
class _Batch:
    """One request of the feeder: its receipts as they come."""

    inbox: str
    single: bool
    receipts: list[Receipt | None]
    missing: int

    def settle(self, index: int, receipt: Receipt) -> None:
        self.receipts[index] = receipt
        self.missing -= 1


class ReplayServer:
    """One replay. ``run`` it; everything else is called by NATS.

    Args:
        books: the service whose core sits in this process; its frames need no message.
        most: facts a frame may hold ahead of what is certain.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        plan: FramePlan,
        *,
        books: Service,
        now_ns: Callable[[], int],
        most: int = MOST,
    ) -> None:
        self.gate = FrameGate(plan, most=most)
        self._client = client
        self._store = store
        self._books = books.name
        self._books_follower = FrameFollower(books)
        self._now_ns = now_ns
        self._begin = store.head
        self._places: deque[tuple[_Batch, int]] = deque()
        self._replies: deque[tuple[str, Reply | Forecast]] = deque()
        self._awaited: dict[tuple[str, int], bytes] = {}
        self._asked = 0
        self._uncommitted: deque[Recorded] = deque()
        self._woken = asyncio.Event()
        self._to_commit = asyncio.Event()
        self._committed = asyncio.Event()
        self._encoder = msgspec.json.Encoder()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set. Raises what must stop the replay."""
        try:
            async with asyncio.TaskGroup() as tasks:
                jobs = [
                    tasks.create_task(work)
                    for work in (self._drive(), self._commit_all(), self._tell_progress(), self._resend())
                ]
                await self._listen()
                await stop.wait()
                for job in jobs:
                    job.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _listen(self) -> None:
        for subject, handle in (
            (subjects.APPEND_ALL, self._on_append),
            (subjects.READ, self._on_read),
            (subjects.FRAME_ANSWERS_ALL, self._on_answer),
        ):
            await self._client.subscribe(
                subject, cb=handle, pending_msgs_limit=PENDING_MESSAGES, pending_bytes_limit=PENDING_BYTES
            )
        # nats-py sends the PING of a flush ahead of commands that wait in its buffer; the second one is behind them.
        await self._client.flush()
        await self._client.flush()

    # ---- going on ----------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        """Take replies in, ask what is missing next, hand over what is certain; sleep when there is nothing to do."""
        gate = self.gate
        while True:
            self._woken.clear()
            while self._replies:
                self._take(*self._replies.popleft())
            for name, number, payload in gate.previews():
                await self._send(name, number, payload)
            while not self._asked:
                requests = gate.requests()
                self._hand_over()
                for request in requests:
                    await self._ask(request)
                if not requests:
                    break
            while len(self._uncommitted) > MOST_UNCOMMITTED:
                self._committed.clear()
                await self._committed.wait()
            await self._woken.wait()

    async def _ask(self, request: Request) -> None:
        if request.service == self._books:
            self.gate.take(request.service, self._books_follower.hear(request.whole()))
            return
        self._asked += 1
        await self._send(request.service, request.frame.number, request.encode())

    async def _send(self, service: str, number: int, payload: bytes) -> None:
        self._awaited[service, number] = payload
        await self._client.publish(subjects.frames(service), payload)

    async def _on_answer(self, message: Msg) -> None:
        service = message.subject[len(subjects.FRAME_ANSWERS) :]
        reply = decode_reply(message.data)
        if self._awaited.pop((service, reply.number), None) is not None:  # else sent again though it had arrived
            self._replies.append((service, reply))
            self._woken.set()

    def _take(self, service: str, reply: Reply | Forecast) -> None:
        if not isinstance(reply, Reply):
            self.gate.take_forecast(service, reply)
            return
        for said in reply.said:
            fault = fault_of(Answer(said.cause, tuple(Draft(event) for event in said.events)))
            if fault is not None:
                raise ReplayBroken(f"{said.author}'s answer to {said.cause}: {fault}")
        self.gate.take(service, reply)
        self._asked -= 1

    async def _resend(self) -> None:
        before: set[tuple[str, int]] = set()
        while True:
            await asyncio.sleep(RESEND_S)
            for key in [key for key in self._awaited if key in before]:
                await self._client.publish(subjects.frames(key[0]), self._awaited[key])
            before = set(self._awaited)

    # ---- committing --------------------------------------------------------------------------------------------

    def _hand_over(self) -> None:
        """Give the committer what is certain; it begins when enough is there, or nothing more can be decided now."""
        self._uncommitted.extend(self.gate.take_certain())
        if len(self._uncommitted) >= LEAST_FACTS_PER_COMMIT or not self.gate.waiting:
            self._to_commit.set()

    async def _commit_all(self) -> None:
        while True:
            await self._to_commit.wait()
            self._to_commit.clear()
            if not self._uncommitted:
                continue
            many = [self._uncommitted.popleft() for _ in range(min(len(self._uncommitted), MOST_FACTS_PER_COMMIT))]
            await self._commit(many)
            self._committed.set()
            await self._settle(many)
            self._hand_over()

    async def _commit(self, many: Sequence[Recorded]) -> None:
        """Make facts durable; those the log had at the start are compared with it instead."""
        begin = self._begin
        known = max(0, begin.pos - many[0].fact.pos + 1)
        if 0 < known <= len(many) and many[known - 1].hash != begin.hash:
            raise ReplayBroken(
                f"what is decided now is not what is recorded here up to position {begin.pos}: "
                "the bars, the configuration or the code are others; replay into an empty folder"
            )
        if known < len(many):
            await self._store.append(many[known:])

    async def _settle(self, many: Sequence[Recorded]) -> None:
        """Tell the feeder which of its facts are durable, and everybody how far the tape is."""
        for recorded in many:
            if recorded.fact.cause == 0:
                batch, index = self._places.popleft()
                batch.settle(index, Receipt((recorded.fact.pos,)))
                await self._reply(batch)
        await self._send_progress()

    # ---- the feeder and readers --------------------------------------------------------------------------------

    async def _on_append(self, message: Msg) -> None:
        author = message.subject[len(subjects.APPEND) :]
        answers, single = decode_answers(message.data)
        batch = _Batch(message.reply, single, [None] * len(answers), len(answers))
        for index, answer in enumerate(answers):
            refused = answer if isinstance(answer, Receipt) else self._feed(author, answer)
            if refused is None:
                self._places.append((batch, index))
            else:
                batch.settle(index, refused)
        await self._reply(batch)
        self._woken.set()

    def _feed(self, author: str, answer: Answer) -> Receipt | None:
        """Take one outside fact in, or say why not."""
        if answer.cause or len(answer.facts) != 1 or answer.expected:
            detail = "a replay is fed outside facts, one an answer; services answer with frames"
            return Receipt(refusal=AppendRefusal.OUT_OF_ORDER, detail=detail)
        if answer.time_ns is None:
            detail = "the replay realm needs the replay clock's time_ns"
            return Receipt(refusal=AppendRefusal.TIME_NOT_ALLOWED, detail=detail)
        fault = fault_of(answer)
        if fault is not None:
            return Receipt(refusal=AppendRefusal.MALFORMED, detail=fault)
        (draft,) = answer.facts
        refused = self.gate.feed(author, draft.event, draft.id, answer.time_ns)
        return None if refused is None else Receipt(refusal=refused.reason, detail=refused.detail)

    async def _reply(self, batch: _Batch) -> None:
        if batch.inbox and not batch.missing:
            receipts = [receipt for receipt in batch.receipts if receipt is not None]
            await self._client.publish(batch.inbox, encode_receipts(receipts, single=batch.single))

    async def _on_read(self, message: Msg) -> None:
        try:
            request = decode_read_request(message.data)
        except ValueError as error:
            await self._client.publish(message.reply, encode_read_error(str(error)))
            return
        most_bytes = min(MOST_REPLY_BYTES, self._client.max_payload - 1_000)
        await self._client.publish(message.reply, await encoded_page(self._store, request, most_bytes))

    async def _tell_progress(self) -> None:
        while True:
            await self._send_progress()
            await asyncio.sleep(PROGRESS_S)

    async def _send_progress(self) -> None:
        pos = self._store.head.pos
        is_done = self.gate.is_settled and not self._uncommitted and self.gate.certain == pos
        progress = Progress(
            service="ledger",
            pos=pos,
            head=pos,
            settled=pos if is_done else max(0, pos - 1),
            time_ns=self._now_ns(),
            mirror=0,
            books_pos=self.gate.certain,
        )
        await self._client.publish(subjects.progress("ledger"), self._encoder.encode(progress))
