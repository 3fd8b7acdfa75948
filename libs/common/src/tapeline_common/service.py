"""The wire gear: one service as a process that follows the tape over NATS.

Restores its cores from the tape, then hears each fact in position order, asks the ledger to record what was decided,
and waits for that before the next fact (so a core never has two answers on the way). Lost, doubled or reordered
messages are seen by position and read again. A refused answer or an exception stops the process: the supervisor starts
it anew from the tape. Trading logic lives in cores; this module decides nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tapeline_common import logs, subjects
from tapeline_common.events import SAYS, Event
from tapeline_common.follower import Follower
from tapeline_common.measures import Told
from tapeline_common.metrics import Metrics
from tapeline_common.preceding import nothing_missed
from tapeline_common.tape import Page, ReadRequest, Receipt, Tape, TapeUnavailable
from tapeline_common.tape_restore import Said, read_said, verified
from tapeline_common.values import Realm
from tapeline_common.wire import Answer, Draft, Fact, Heard, Progress, decode_fact, position_of
from tapeline_common.wiring import Adapter, Listener, Service, Worker, in_author_order
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

    def put(self, subject: str, payload: bytes, before: str = "") -> None:
        pos = position_of(payload)
        if pos > self.head:
            self.head, self.before_end = pos, ""
        if len(self.announced) >= INBOX_LIMIT:
            self.announced.clear()  # all of it is in the log, and is read from there
        self.announced[pos] = (subject, payload, before)

    def saw_head(self, pos: int, before: str = "") -> None:
        if pos > self.head:
            self.head, self.before_end = pos, before


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """An answer on its way to the ledger."""

    author: str
    answer: Answer
    receipt: Coroutine[Any, Any, Receipt]
    started_s: float


class Runner:
    """One service following one tape.

    Args:
        tape: where answers are recorded and facts are read.
        announce: publishes this service's progress.
        adapters: (core name, adapter) pairs to run once restored.
        restored: called once the tape is folded, before it is followed.
        listener: hears beside the cores, and says nothing.
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
        listener: Listener | None = None,
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
        self._listener = listener
        self._workers = {worker.asked_by: worker for worker in service.workers}
        self._listens = frozenset(listener.hears if listener is not None else ())
        wanted = [*(event for core in service.cores for event in core.hears), *self._listens]
        self._types = frozenset(event.__name__ for event in [*wanted, *self._workers, *metrics.hears])
        self._after: dict[str, int] = dict.fromkeys(self.followers, 0)
        self._done: dict[str, set[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[None] | None = None
        self._acknowledge = asyncio.Event()
        self._said: list[Unrecorded] = []
        self._woken = asyncio.Event()
        self._is_operators = False
        """The fact at hand is the operator's, who waits for this service to have heard it."""
        self._is_idle = False
        """Nothing is on its way and the inbox is done: what arrives may be heard where it arrives."""
        metrics.bind({name: follower.state for name, follower in self.followers.items()})
        metrics.follow(lambda: (self.heard, max(self.heard, self.inbox.head)))
        for _, adapter in adapters:
            if isinstance(adapter, Told):
                metrics.tell(adapter)

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
            await self.restore()
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
            for said in self._said:
                said.receipt.close()

    # ---- restore ---------------------------------------------------------------------------------------------

    async def restore(self) -> None:
        """Fold the tape up to its head, and say what is still owed. Raises ``ChainBroken`` for a changed tape."""
        started = time.perf_counter()
        own = {name: await read_said(self._read, name) for name in self.followers}
        given = {worker.author: await read_said(self._read, worker.author) for worker in self.service.workers}
        self._after.update({name: said.last_answered for name, said in own.items()})
        self._done.update({author: set(said.answers) for author, said in given.items()})
        answered_to = min(self._after.values(), default=0)
        async for through, facts in verified(self._read, self._types, (*own.values(), *given.values())):
            self._listen(facts)
            if through <= answered_to and not (self._workers and any(map(self._is_work, facts))):
                for name, follower in self.followers.items():
                    follower.recall_all(facts, own[name].answers)
            else:
                await self._restore_each(facts, own)
            self._metrics.recalled(facts)
            self._advance(through)
        took_s = time.perf_counter() - started
        self._metrics.restored(took_s)
        self._logger.info("restored", pos=self.heard, seconds=round(took_s, 3))

    async def _restore_each(self, facts: Sequence[Heard], own: Mapping[str, Said]) -> None:
        """Facts of which some are unanswered, or ask for work: one at a time."""
        for fact in facts:
            for name, follower in self.followers.items():
                if fact.pos <= own[name].last_answered:
                    follower.recall(fact, own[name].answers.get(fact.pos, ()))
                else:
                    self._say(name, fact, follower.hear(fact))
                    await self._recorded()
            if self._workers:
                self._ask_worker(fact)

    # ---- follow ----------------------------------------------------------------------------------------------

    def announced(self, subject: str, payload: bytes, before: str = "") -> None:
        """A fact was announced. If it is the next one it is heard, and its answer sent, before this returns."""
        self.inbox.put(subject, payload, before)
        self._arrived()

    def saw_head(self, pos: int, before: str = "") -> None:
        """The ledger named the last position; ``before``: what lies up to there (``preceding``)."""
        self.inbox.saw_head(pos, before)
        self._arrived()

    def _arrived(self) -> None:
        if not self._is_idle:
            return  # whoever is at work looks into the inbox
        try:
            self._hear_announced()
        except Exception as trouble:
            self._fail(trouble)
            return
        if self._said or self.heard < self.inbox.head:
            self._is_idle = False
            self._woken.set()

    async def _follow(self) -> None:
        while True:
            self._hear_announced()
            if self._said:
                await self._recorded()
                self._advance(self.heard + 1)
            elif self.heard < self.inbox.head:
                await self._fill()
            else:
                self._woken.clear()
                self._is_idle = True
                await self._woken.wait()

    def _hear_announced(self) -> None:
        """Hear what is announced, in order, until an answer is on its way or something must be read from the log."""
        announced = self.inbox.announced
        while not self._said:
            found = announced.pop(self.heard + 1, None)
            if found is not None:
                self._take(*found)
            elif not self._pass_gap():
                return

    def _take(self, subject: str, payload: bytes, _before: str) -> None:
        """The next fact in order, as announced: skipped by its subject where no table names it."""
        self._is_operators = subjects.author_of(subject) == OPERATOR
        if subjects.event_of(subject) in self._types:
            self._hear(decode_fact(payload))
        if not self._said:  # else it is heard once the answer is recorded
            self._advance(self.heard + 1)

    def _gap(self) -> tuple[int, str]:
        """Where the positions end that are not announced here, and what lies up to there; (heard, "") without any."""
        announced = self.inbox.announced
        if announced:
            for pos in [pos for pos in announced if pos <= self.heard]:
                del announced[pos]
        if announced:
            following = min(announced)
            return following - 1, announced[following][2]
        return max(self.heard, self.inbox.head), self.inbox.before_end

    def _pass_gap(self) -> bool:
        """Pass over positions that did not arrive here, if it is known that none of them concerns us."""
        until, before = self._gap()
        if until <= self.heard or not nothing_missed(before, self.heard, self._types):
            return False
        self._advance(until)
        return True

    async def _fill(self) -> None:
        """Read from the log what may concern us and did not arrive."""
        until, _ = self._gap()
        self._metrics.gap_reads.inc()
        page = await self._read(ReadRequest(self.heard, limit=1000, types=tuple(sorted(self._types)), until=until))
        for payload in page.facts:
            self._hear(decode_fact(payload))
            await self._recorded()
        self._advance(page.through)

    def _hear(self, fact: Fact) -> None:
        """Let the cores hear a fact, and send their answers."""
        started_s = time.perf_counter()
        self._listen((fact,))
        decided = [(name, follower.hear(fact)) for name, follower in self.followers.items()]
        took_s = time.perf_counter() - started_s
        self._ask_worker(fact)  # before recording: in lock step our answer may have to wait for the worker's
        for name, decisions in decided:
            self._say(name, fact, decisions)
        self._metrics.step_seconds.observe(took_s)
        self._metrics.heard(fact)

    def _listen(self, facts: Sequence[Fact | Heard]) -> None:
        if self._listener is not None:
            for fact in facts:
                if type(fact.event) in self._listens:
                    self._listener.hear(fact)

    def _advance(self, pos: int) -> None:
        self.heard = pos
        if self._is_operators:
            self._is_operators = False
            self._acknowledge.set()
        for follower in self.followers.values():
            if follower.heard < pos:
                follower.skip(pos)

    # ---- record ----------------------------------------------------------------------------------------------

    def _say(self, author: str, fact: Fact | Heard, decisions: Sequence[Event]) -> None:
        lock_step = self._realm is Realm.REPLAY and type(fact.event) in self.followers[author].core.hears
        if not decisions and not lock_step:
            return
        answer = Answer(fact.pos, tuple(Draft(event) for event in decisions), after=self._after[author])
        if decisions:
            self._after[author] = fact.pos
        self._said.append(self._ask_ledger(author, answer))

    def _ask_ledger(self, author: str, answer: Answer) -> Unrecorded:
        return Unrecorded(author, answer, self._tape.append(author, answer), time.perf_counter())

    async def _recorded(self) -> None:
        """Wait until what was said is recorded."""
        said = self._said
        while said:
            await self._record(said[0])
            del said[0]

    async def append(self, author: str, answer: Answer) -> None:
        """Have an answer recorded, however long the ledger is away. A refusal stops the service."""
        await self._record(self._ask_ledger(author, answer))

    async def _record(self, said: Unrecorded) -> None:
        author, answer = said.author, said.answer
        attempt = 0
        receipt_to_come = said.receipt
        while True:
            try:
                receipt = await receipt_to_come
                break
            except TapeUnavailable as trouble:
                self._metrics.append_retries.inc()
                self._logger.warning("append unanswered", author=author, cause=answer.cause, reason=str(trouble))
                await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
                receipt_to_come = self._tape.append(author, answer)
        self._metrics.append_seconds.observe(time.perf_counter() - said.started_s)
        if not receipt.ok:
            raise ServiceStopped(f"{author}'s answer to {answer.cause} was refused: {receipt.refusal} {receipt.detail}")
        for draft, pos in zip(answer.facts, receipt.positions, strict=True):
            self._metrics.said(draft.event)
            logs.decision(
                self._logger, pos=pos, cause=answer.cause, author=author, event=draft.event, outcome="recorded"
            )

    # ---- workers ---------------------------------------------------------------------------------------------

    def _is_work(self, fact: Fact | Heard) -> bool:
        """Whether a worker is asked by this fact, and has not answered it."""
        worker = self._workers.get(type(fact.event))
        return worker is not None and fact.pos not in self._done.get(worker.author, ())

    def _ask_worker(self, fact: Fact | Heard) -> None:
        if not self._is_work(fact):
            return
        worker = self._workers[type(fact.event)]
        job = worker.prepare(self.followers[worker.core].state, fact.event)
        self._spawn(self._work(worker, fact.pos, job))

    async def _work(self, worker: Worker, pos: int, job: Any) -> None:
        started_s = time.perf_counter()
        if self._realm is Realm.REPLAY:
            found = await asyncio.to_thread(worker.run, job)  # all wait for it anyway: a child would only cost time
        else:
            found = await run_in_child(worker.run, job)
        if worker.timed_as:
            self._metrics.distribution(worker.timed_as).observe(time.perf_counter() - started_s)
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
        self._fail(task.exception() or ServiceStopped("a task failed"))

    def _fail(self, trouble: BaseException) -> None:
        self._is_idle = False
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(trouble)

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
