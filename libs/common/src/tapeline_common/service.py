"""The wire gear: one service as a process that follows the tape over NATS.

Restores its cores from the tape, then hears each fact in position order, asks the ledger to record what was decided,
and waits for that before the next fact (so a core never has two answers on the way). Lost, doubled or reordered
messages are seen by position and read again. A refused answer or an exception stops the process: the supervisor starts
it anew from the tape. Trading logic lives in cores; this module decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tapeline_common import logs, subjects
from tapeline_common.events import SAYS, Event
from tapeline_common.follower import Follower, answers_of
from tapeline_common.metrics import Metrics
from tapeline_common.preceding import nothing_missed
from tapeline_common.tape import Page, ReadRequest, Tape, TapeUnavailable
from tapeline_common.tape_pages import READ_FACTS, pages
from tapeline_common.values import Realm
from tapeline_common.wire import Answer, Draft, Fact, Progress, decode_fact, position_of
from tapeline_common.wiring import Adapter, Service, Worker, in_author_order
from tapeline_common.worker import run_in_child

RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Waits between attempts to record the same answer while the ledger is away; the last one repeats."""

PROGRESS_S = 0.25
"""How often a service says how far it has heard, at least."""

PROGRESS_PAUSE_S = 0.1
"""Time between two such messages while facts come in: each wakes the ledger and whoever looks on. What the operator
asked for is acknowledged at once."""

OPERATOR = "operator"

INBOX_LIMIT = 20_000
"""Announcements kept before they are dropped and read from the ledger instead: memory stays bounded."""


class ServiceStopped(Exception):
    """A service cannot go on. The message says at which position and why."""


@dataclass(slots=True)
class Inbox:
    """Announced facts by position, waiting for their turn.

    Attributes:
        announced: position → subject, payload, and what lies before it (``preceding``).
        head: the last position anybody named.
        before_end: what lies up to ``head``, if the ledger said so with it; else empty.
    """

    announced: dict[int, tuple[str, bytes, str]] = field(default_factory=dict)
    head: int = 0
    before_end: str = ""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, subject: str, payload: bytes, before: str = "") -> None:
        pos = position_of(payload)
        if pos > self.head:
            self.head, self.before_end = pos, ""
        if len(self.announced) >= INBOX_LIMIT:
            self.announced.clear()  # all of it is in the log, and is read from there
        self.announced[pos] = (subject, payload, before)
        self.arrived.set()

    def saw_head(self, pos: int, before: str = "") -> None:
        if pos > self.head:
            self.head, self.before_end = pos, before
            self.arrived.set()


class Runner:
    """One service following one tape.

    Args:
        tape: where answers are recorded and facts are read.
        announce: publishes this service's progress.
        adapters: (core name, adapter) pairs to run once restored.
        restored: called once the tape is folded, before it is followed.
    """

    def __init__(
        self,
        service: Service,
        tape: Tape,
        *,
        realm: Realm,
        metrics: Metrics,
        logger: logs.Logger,
        announce: Callable[[Progress], Awaitable[None]],
        adapters: Sequence[tuple[str, Adapter]] = (),
        restored: Callable[[], None] = lambda: None,
    ) -> None:
        self.service = service
        self.inbox = Inbox()
        self.followers = {core.name: Follower(core) for core in in_author_order(service.cores)}
        self.heard = 0
        self._tape = tape
        self._realm = realm
        self._metrics = metrics
        self._logger = logger
        self._announce = announce
        self._adapters = adapters
        self._restored = restored
        self._workers = {worker.asked_by: worker for worker in service.workers}
        wanted = [event for core in service.cores for event in core.hears]
        self._types = frozenset(event.__name__ for event in [*wanted, *self._workers])
        self._after: dict[str, int] = dict.fromkeys(self.followers, 0)
        self._done: dict[str, set[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._acknowledge = asyncio.Event()

    @property
    def follows(self) -> tuple[str, ...]:
        """Names of the events to be announced to this service: what it hears, and what it must acknowledge."""
        acknowledged = {event.__name__ for event in SAYS[OPERATOR]}
        return tuple(sorted(self._types | acknowledged))

    async def run(self) -> None:
        """Restore, then follow until cancelled. Raises ``ServiceStopped`` or whatever a core raised."""
        self._failed = asyncio.get_running_loop().create_future()
        progress = self._spawn(self._report_progress())
        try:
            await self._restore()
            self._restored()
            for core, adapter in self._adapters:
                self._spawn(adapter.run(_Door(self, core)))
            follow = asyncio.ensure_future(self._follow())
            try:
                await asyncio.wait({follow, self._failed}, return_when=asyncio.FIRST_COMPLETED)
                await (self._failed if self._failed.done() else follow)
            finally:
                follow.cancel()
                await asyncio.gather(follow, return_exceptions=True)
        except Exception as trouble:
            self._metrics.stopped.set(1)
            self._logger.error("stopped", pos=self.heard, reason=str(trouble), exc_info=trouble)
            raise
        finally:
            progress.cancel()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- restore ---------------------------------------------------------------------------------------------

    async def _restore(self) -> None:
        """Fold the tape up to its head, then owe what is still unanswered."""
        started = time.perf_counter()
        answers: dict[str, dict[int, list[Event]]] = {}
        for name in self.followers:
            own = [decode_fact(payload) for payload in await self._read_all(author=name)]
            answers[name] = answers_of(name, own)
            self._after[name] = max(answers[name], default=0)
        for worker in self.service.workers:
            given = [decode_fact(payload) for payload in await self._read_all(author=worker.author)]
            self._done[worker.author] = {fact.cause for fact in given}
        last_answered = dict(self._after)
        request = ReadRequest(self.heard, limit=READ_FACTS, types=tuple(sorted(self._types)))
        async for page in pages(self._read, request):
            for payload in page.facts:
                fact = decode_fact(payload)
                for name, follower in self.followers.items():
                    if fact.pos <= last_answered[name]:
                        follower.recall(fact, answers[name].get(fact.pos, ()))
                    else:
                        await self._record(name, fact, follower.hear(fact))
                self._ask_worker(fact)
            self._advance(page.through)
        self._logger.info("restored", pos=self.heard, seconds=round(time.perf_counter() - started, 3))

    # ---- follow ----------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        inbox = self.inbox
        while True:
            found = inbox.announced.pop(self.heard + 1, None)
            if found is not None:
                await self._take(*found)
            elif self.heard < inbox.head:
                await self._pass_gap()
            else:
                inbox.arrived.clear()
                if self.heard >= inbox.head:
                    await inbox.arrived.wait()

    async def _take(self, subject: str, payload: bytes, _before: str) -> None:
        """The next fact in order, as announced: skipped by its subject where no table names it."""
        if subjects.event_of(subject) in self._types:
            await self._hear(decode_fact(payload))
        self._advance(self.heard + 1)
        if subjects.author_of(subject) == OPERATOR:
            self._acknowledge.set()

    async def _pass_gap(self) -> None:
        """Positions up to the next announcement did not arrive here: pass over them if none of them concerns us, or
        read them from the log."""
        announced = self.inbox.announced
        for pos in [pos for pos in announced if pos <= self.heard]:
            del announced[pos]
        following = min(announced, default=0)
        until = following - 1 if following else self.inbox.head
        before = announced[following][2] if following else self.inbox.before_end
        if nothing_missed(before, self.heard, self._types):
            self._advance(until)
            return
        page = await self._read(ReadRequest(self.heard, limit=1000, types=tuple(sorted(self._types)), until=until))
        for payload in page.facts:
            await self._hear(decode_fact(payload))
        self._advance(page.through)

    async def _hear(self, fact: Fact) -> None:
        started = time.perf_counter()
        decided = [(name, follower.hear(fact)) for name, follower in self.followers.items()]
        self._metrics.step_seconds.observe(time.perf_counter() - started)
        self._metrics.heard(type(fact.event).__name__)
        self._ask_worker(fact)  # before recording: in lock step our answer may have to wait for the worker's
        for name, decisions in decided:
            await self._record(name, fact, decisions)

    def _advance(self, pos: int) -> None:
        self.heard = pos
        for follower in self.followers.values():
            if follower.heard < pos:
                follower.skip(pos)
        self._metrics.position.set(pos)
        self._metrics.lag_facts.set(max(0, self.inbox.head - pos))

    # ---- record ----------------------------------------------------------------------------------------------

    async def _record(self, author: str, fact: Fact, decisions: Sequence[Event]) -> None:
        lock_step = self._realm is Realm.REPLAY and type(fact.event) in self.followers[author].core.hears
        if not decisions and not lock_step:
            return
        answer = Answer(fact.pos, tuple(Draft(event) for event in decisions), after=self._after[author])
        if decisions:
            self._after[author] = fact.pos
        await self.append(author, answer)

    async def append(self, author: str, answer: Answer) -> None:
        """Have an answer recorded, however long the ledger is away. A refusal stops the service."""
        attempt = 0
        started = time.perf_counter()
        while True:
            try:
                receipt = await self._tape.append(author, answer)
                break
            except TapeUnavailable as trouble:
                self._metrics.append_retries.inc()
                self._logger.warning("append unanswered", author=author, cause=answer.cause, reason=str(trouble))
                await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
        self._metrics.append_seconds.observe(time.perf_counter() - started)
        if not receipt.ok:
            raise ServiceStopped(f"{author}'s answer to {answer.cause} was refused: {receipt.refusal} {receipt.detail}")
        for draft, pos in zip(answer.facts, receipt.positions, strict=True):
            self._metrics.said(type(draft.event).__name__)
            logs.decision(
                self._logger, pos=pos, cause=answer.cause, author=author, event=draft.event, outcome="recorded"
            )

    # ---- workers ---------------------------------------------------------------------------------------------

    def _ask_worker(self, fact: Fact) -> None:
        worker = self._workers.get(type(fact.event))
        if worker is None or fact.pos in self._done.get(worker.author, ()):
            return
        job = worker.prepare(self.followers[worker.core].state, fact.event)
        self._spawn(self._work(worker, fact.pos, job))

    async def _work(self, worker: Worker, pos: int, job: Any) -> None:
        if self._realm is Realm.REPLAY:
            found = await asyncio.to_thread(worker.run, job)  # all wait for it anyway: a child would only cost time
        else:
            found = await run_in_child(worker.run, job)
        await self.append(worker.author, Answer(pos, tuple(Draft(event) for event in found)))

    # ---- shared ----------------------------------------------------------------------------------------------

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(task.exception() or ServiceStopped("a task failed"))

    async def _report_progress(self) -> None:
        said = -1
        quiet_s = 0.0
        while True:
            if self.heard != said or quiet_s >= PROGRESS_S:
                said, quiet_s = self.heard, 0.0
                await self._announce(Progress(self.service.name, said))
            try:
                async with asyncio.timeout(PROGRESS_PAUSE_S):  # wait_for of Python 3.11 can swallow a cancellation
                    await self._acknowledge.wait()
                self._acknowledge.clear()
            except TimeoutError:
                quiet_s += PROGRESS_PAUSE_S

    async def _read(self, request: ReadRequest) -> Page:
        attempt = 0
        while True:
            try:
                page = await self._tape.read(request)
            except TapeUnavailable as trouble:
                self._logger.warning("read unanswered", after=request.after, reason=str(trouble))
                await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
                continue
            return page

    async def _read_all(self, author: str) -> list[bytes]:
        request = ReadRequest(0, limit=READ_FACTS, author=author)
        return [payload async for page in pages(self._read, request) for payload in page.facts]


class _Door:
    """What an adapter sees of its service."""

    def __init__(self, runner: Runner, core: str) -> None:
        self._runner = runner
        self._core = core

    @property
    def state(self) -> Any:
        return self._runner.followers[self._core].state

    async def say(self, facts: Sequence[tuple[str, Event]]) -> None:
        await self._runner.append(self._core, Answer(0, tuple(Draft(event, identity) for identity, event in facts)))
