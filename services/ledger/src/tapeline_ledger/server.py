"""The ledger on NATS: subscriptions, replies, announcements, progress. It connects to nothing by itself.

What is asked for, and how it is encoded, is in ``tapeline_common.tape_nats``; what is done about it, in ``recorder``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from tapeline_common import preceding, subjects
from tapeline_common.core import Core
from tapeline_common.metrics import Metrics
from tapeline_common.nats_client import BusError, Listening, NatsClient
from tapeline_common.nats_protocol import Message, header_block
from tapeline_common.preceding import Preceding
from tapeline_common.sequencer import Recorded
from tapeline_common.tape import ReadRequest, Receipt
from tapeline_common.tape_nats import (
    decode_answers,
    decode_read_request,
    encode_page,
    encode_read_error,
    encode_receipts,
    encode_stretch,
)
from tapeline_common.values import AppendRefusal, Realm
from tapeline_ledger.lockstep import Plan
from tapeline_ledger.mirror import Mirror, MirrorLimits, MirrorState
from tapeline_ledger.recorder import Recorder
from tapeline_ledger.store import Store

if TYPE_CHECKING:
    from nats.js import JetStreamContext

PROGRESS_S = 0.25
"""Progress is told at least this often, so that silence means trouble."""

PROGRESS_PAUSE_S = 0.02
"""Live, the head is told this long after a commit: it only matters to who missed the commit's last fact, and wakes
everybody. In lock step it is told after each commit, because the replay's end is read off it."""

MOST_REPLY_BYTES = 4_000_000
MOST_REQUEST_BYTES = 4_000_000
STOP_TIMEOUT_S = 5.0
PENDING_MESSAGES = 200_000
PENDING_BYTES = 512 * 1024 * 1024


_USUAL_LIMITS = MirrorLimits()


class Progress(msgspec.Struct, frozen=True):
    """Told on ``progress.ledger``.

    Attributes:
        pos: the last fact announced; what ``before`` says holds up to here.
        head: the last durable fact. It may be further than ``pos`` while a large group is being announced.
        before: what lies before the next fact, as said with announcements (``preceding``): whoever hears none of the
            latest facts need not read them to know that.
        settled: in the replay realm every fact up to here has all its answers, so a run has ended when
            ``settled == head`` and nothing more is fed; live it is the head.
    """

    service: str
    pos: int
    head: int
    settled: int
    time_ns: int
    mirror: int
    books_pos: int
    before: str = ""


@dataclass(slots=True)
class ServerCounts:
    """What happened on the bus since the start, for metrics."""

    requests: int = 0
    malformed: int = 0
    reads: int = 0
    reads_refused: int = 0
    unsent: Counter[str] = field(default_factory=Counter)


class Server:
    """A recorder with its doors. ``recorder.append_local`` is the door for control requests."""

    def __init__(
        self,
        client: NatsClient,
        store: Store,
        *,
        realm: Realm,
        plan: Plan | None,
        now_ns: Callable[[], int],
        books: Core[Any] | None,
        streams: JetStreamContext | None,
        report: Callable[[str], None],
        mirror_limits: MirrorLimits,
        metrics: Metrics | None = None,
    ) -> None:
        self.counts = ServerCounts()
        self.recorder: Recorder
        self.listening = asyncio.Event()
        self._client = client
        self._store = store
        self._realm = realm
        self._plan = plan
        self._now_ns = now_ns
        self._books = books
        self._mirror = None if streams is None else Mirror(client, streams, store, report, mirror_limits)
        self._report = report
        self._metrics = metrics
        self._encoder = msgspec.json.Encoder()
        self._outbox: list[tuple[str, bytes, bytes]] = []
        self._before = Preceding(store.head.pos)
        self._moved = asyncio.Event()
        self._reading: set[asyncio.Task[None]] = set()

    @property
    def mirror_state(self) -> MirrorState | None:
        return None if self._mirror is None else self._mirror.state

    @property
    def announced(self) -> int:
        """Position of the last fact handed to the bus."""
        return self._before.through

    async def start(self) -> None:
        """Restore from the log, then listen."""
        self.recorder = await Recorder.start(
            self._store,
            realm=self._realm,
            bus=self,
            now_ns=self._now_ns,
            plan=self._plan,
            books=self._books,
            metrics=self._metrics,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then finish what waits. Raises what stopped the recorder."""
        try:
            async with asyncio.TaskGroup() as tasks:
                jobs = [tasks.create_task(self.recorder.run()), tasks.create_task(self._tell_progress())]
                if self._mirror is not None:
                    jobs.append(tasks.create_task(self._mirror.run()))
                listening = await self._listen()
                await stop.wait()
                for subscription in listening:
                    subscription.stop()
                await self._let_finish()
                for job in jobs:
                    job.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            reading = list(self._reading)
            for read in reading:
                read.cancel()  # a read that goes on would open the store again
            await asyncio.gather(*reading, return_exceptions=True)

    async def _listen(self) -> list[Listening]:
        found = [
            await self._client.listen(subjects.APPEND_ALL, self._on_append),
            await self._client.listen(subjects.READ, self._on_read),
        ]
        await self._client.flush()
        self.listening.set()
        return found

    async def _let_finish(self) -> None:
        try:
            await asyncio.wait_for(self.recorder.finish(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._report("stopped with answers not recorded; whoever asked will ask again")

    def announce(self, new: Sequence[Recorded]) -> None:
        """Put facts into the outbox, with what lies before them where the type changes."""
        before = self._before
        for recorded in new:
            fact = recorded.fact
            name = type(fact.event).__name__
            subject = subjects.tape(fact.author, name, fact.stream)
            # Whoever hears a fact also hears the one of its type right before it: there is no gap to explain.
            header = b"" if name == before.last else header_block(preceding.HEADER, before.text)
            self._outbox.append((subject, recorded.payload, header))
            before.add(name, fact.pos)

    def finished(self, new: Sequence[Recorded]) -> None:
        """Facts and replies go out as one write, in this order: whoever asked hears its own facts no later."""
        self._send_outbox()
        if new:
            if self._realm is Realm.REPLAY:
                self._send_progress()
            else:
                self._moved.set()
            if self._mirror is not None:
                self._mirror.wake()

    def _on_append(self, message: Message) -> None:
        self.counts.requests += 1
        author = message.subject[len(subjects.APPEND) :]
        answers: Sequence[Any]
        if len(message.data) > MOST_REQUEST_BYTES:
            detail = f"a request of {len(message.data)} bytes; at most {MOST_REQUEST_BYTES}"
            answers, single = [Receipt(refusal=AppendRefusal.MALFORMED, detail=detail)], True
        else:
            answers, single = decode_answers(message.data)
        self.counts.malformed += sum(isinstance(answer, Receipt) for answer in answers)
        self.recorder.submit(author, answers, lambda receipts: self._reply(message.reply, receipts, single))
        self._send_outbox()  # what was refused at the door waits for no group

    def _reply(self, inbox: str, receipts: tuple[Receipt, ...], single: bool) -> None:
        if inbox:
            self._outbox.append((inbox, encode_receipts(receipts, single=single), b""))

    def _send_outbox(self) -> None:
        """Publish what waits, or count that it could not be: everything on the bus can be had from the log as well."""
        outbox, self._outbox = self._outbox, []
        if not outbox:
            return
        try:
            too_big = self._client.send(outbox)
        except BusError as error:
            self.counts.unsent[type(error).__name__] += len(outbox)
            return
        if too_big:
            self.counts.unsent["MaxPayloadError"] += too_big

    def _send(self, subject: str, payload: bytes) -> None:
        self._outbox.append((subject, payload, b""))
        self._send_outbox()

    def _on_read(self, message: Message) -> None:
        try:
            request = decode_read_request(message.data)
        except ValueError as error:
            self.counts.reads_refused += 1
            self._send(message.reply, encode_read_error(str(error)))
            return
        self.counts.reads += 1
        # Not awaited: the next page is fetched while this one is encoded and sent.
        reading = asyncio.create_task(self._read(message.reply, request))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)

    async def _read(self, inbox: str, request: ReadRequest) -> None:
        most_bytes = min(MOST_REPLY_BYTES, self._client.max_payload - 1_000)
        self._send(inbox, await encoded_page(self._store, request, most_bytes))

    async def _tell_progress(self) -> None:
        while True:
            self._send_progress()
            await asyncio.sleep(PROGRESS_PAUSE_S)
            try:
                async with asyncio.timeout(PROGRESS_S):  # wait_for of Python 3.11 can swallow a cancellation
                    await self._moved.wait()
            except TimeoutError:
                continue
            self._moved.clear()
            await asyncio.sleep(PROGRESS_PAUSE_S)

    def _send_progress(self) -> None:
        books = self.recorder.books
        progress = Progress(
            service="ledger",
            pos=self._before.through,
            head=self.recorder.head,
            settled=self.recorder.settled,
            time_ns=self._now_ns(),
            mirror=0 if self._mirror is None else self._mirror.state.pos,
            books_pos=0 if books is None else books.heard,
            before=self._before.text,
        )
        self._send(subjects.progress("ledger"), self._encoder.encode(progress))


async def encoded_page(store: Store, request: ReadRequest, most_bytes: int) -> bytes:
    """The reply to a read request."""
    if request.chained:
        stretch = await store.stretch(request, most_bytes)
        return encode_stretch(stretch.lines, stretch.through, stretch.head, stretch.hash)
    return encode_page(await store.read(request, most_bytes))


async def serve(
    client: NatsClient,
    store: Store,
    *,
    realm: Realm,
    now_ns: Callable[[], int],
    stop: asyncio.Event,
    plan: Plan | None = None,
    books: Core[Any] | None = None,
    streams: JetStreamContext | None = None,
    report: Callable[[str], None] = lambda _: None,
    mirror_limits: MirrorLimits = _USUAL_LIMITS,
    started: Callable[[Server], None] = lambda _: None,
    metrics: Metrics | None = None,
) -> None:
    """Run the ledger over a connected client and an opened store until ``stop`` is set.

    Args:
        plan: replay realm only: who answers which types (``lockstep.Plan``).
        books: the core that speaks as ``ledger``.
        streams: manages JetStream over a connection of its own; ``None``: no mirror is kept.
        started: called once the log is restored, with the server: its ``recorder.append_local`` records for the
            control door, its counts are for metrics.
        metrics: counts every fact that is recorded.
    """
    server = Server(
        client,
        store,
        realm=realm,
        plan=plan,
        now_ns=now_ns,
        books=books,
        streams=streams,
        report=report,
        mirror_limits=mirror_limits,
        metrics=metrics,
    )
    await server.start()
    started(server)
    await server.run(stop)
