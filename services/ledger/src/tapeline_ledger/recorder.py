"""The ledger at work: takes answers, judges them, commits them in groups, announces the facts, then replies.

One group at a time: everything that arrived while the last group was committed. Nothing is announced before it is
durable, and nobody is told "recorded" before it was announced. A small group is told at once, before anything else is
done; a large one while the next is committed. Our own books core sits in the same process: it hears each group after it
is committed, and its decisions go into the next group like anybody's.

No NATS here and no SQL: see ``server`` and ``store``. The control door plugs in at ``append_local``.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tapeline_common.core import Core
from tapeline_common.events import SAYS, Event
from tapeline_common.follower import Follower
from tapeline_common.measures import COUNTS, Distribution
from tapeline_common.metrics import Metrics
from tapeline_common.sequencer import Admitted, Recorded, Refused
from tapeline_common.tape import ReadRequest, Receipt
from tapeline_common.tape_pages import READ_FACTS, pages
from tapeline_common.tape_restore import Said, read_said, verified
from tapeline_common.values import AppendRefusal, Realm
from tapeline_common.wire import Answer, Draft, Fact, Heard, decode_fact
from tapeline_ledger.hardening import fault_of
from tapeline_ledger.lockstep import Ask, FreeRunning, Gate, Judged, LockStep, Plan
from tapeline_ledger.store import CommitRefused, Store

MOST_ASKS_PER_GROUP = 2_000
MOST_ASKS_WAITING = 50_000
"""Answers that may wait for a group; beyond that they are refused at once, so that memory stays bounded."""

MOST_TOLD_AT_ONCE = 40
"""Answers and facts of a group that is told before the next one is taken: somebody waits for each, and it takes less
time than another task would. Telling a larger group costs more than a commit, so both happen together."""

BOOKS = "ledger"
"""The author whose facts are said in this process."""

UNKNOWN_AUTHOR = "unknown"
"""Under this name refusals of authors are counted that the tables do not know."""

KEPT_FACTS = 2_000
"""The latest facts are kept at hand, because nearly all answers are about them; older ones are read from the log. Not
more of them: what is kept is what memory fragments around until it has been through there a few times."""

Reply = Callable[[tuple[Receipt, ...]], None]


class Bus(Protocol):
    """What the recorder tells others, and when. Nothing here waits."""

    def announce(self, new: Sequence[Recorded]) -> None:
        """These facts are durable now."""

    def finished(self, new: Sequence[Recorded]) -> None:
        """A group is through: facts and replies may go out. ``new`` may be empty."""


@dataclass(slots=True, eq=False)
class Request:
    """What somebody asked for in one message: its answers, and the receipts as they come."""

    receipts: list[Receipt | None]
    reply: Reply
    missing: int

    def settle(self, index: int, receipt: Receipt) -> None:
        self.receipts[index] = receipt
        self.missing -= 1
        if self.missing == 0:
            self.reply(tuple([receipt for receipt in self.receipts if receipt is not None]))


@dataclass(frozen=True, slots=True)
class Slot:
    """One answer's place in a request."""

    request: Request
    index: int

    def settle(self, receipt: Receipt) -> None:
        self.request.settle(self.index, receipt)


@dataclass(slots=True)
class Counts:
    """What happened since the start, for metrics.

    Attributes:
        refused: answers that were not recorded, by author and reason.
        commit_seconds, commit_facts: of each group that was committed.
        publish_seconds: from the end of a commit until its facts were handed to the bus.
    """

    facts: int = 0
    groups: int = 0
    refused: Counter[tuple[str, AppendRefusal]] = field(default_factory=Counter)
    commit_seconds: Distribution = field(default_factory=Distribution)
    commit_facts: Distribution = field(default_factory=lambda: Distribution(COUNTS))
    publish_seconds: Distribution = field(default_factory=Distribution)


class Recorder:
    """The one place where facts enter the tape. Make it with ``start``, then ``run`` it."""

    def __init__(
        self,
        store: Store,
        gate: Gate,
        realm: Realm,
        bus: Bus,
        now_ns: Callable[[], int],
        metrics: Metrics | None = None,
    ) -> None:
        self.store = store
        self.counts = Counts()
        self._gate = gate
        self._realm = realm
        self._bus = bus
        self._now_ns = now_ns
        self._waiting: deque[Ask] = deque()
        self._local: deque[Ask] = deque()
        self._arrived = asyncio.Event()
        self._recent: deque[Fact] = deque(maxlen=KEPT_FACTS)
        self._books: Follower[Any] | None = None
        self._books_hear: frozenset[type[Event]] = frozenset()
        self._telling: asyncio.Task[None] | None = None
        self._finished = asyncio.Event()
        self._metrics = metrics or Metrics("ledger")

    @classmethod
    async def start(
        cls,
        store: Store,
        *,
        realm: Realm,
        bus: Bus,
        now_ns: Callable[[], int],
        plan: Plan | None = None,
        books: Core[Any] | None = None,
        metrics: Metrics | None = None,
    ) -> Recorder:
        """Take over the head of the log; ``plan`` is required in the replay realm and refused in the live one."""
        started_s = time.perf_counter()
        assert (plan is not None) == (realm is Realm.REPLAY), "a plan belongs to the replay realm, and only there"
        sequencer = await store.load(realm)
        gate: Gate = FreeRunning(sequencer)
        if plan is not None:
            after = max(0, max(sequencer.answered.values(), default=0) - 1)
            gate = LockStep(sequencer, plan, [fact async for fact in _facts_after(store, after)])
        recorder = cls(store, gate, realm, bus, now_ns, metrics)
        if books is not None:
            await recorder._restore_books(books)
        recorder._metrics.restored(time.perf_counter() - started_s)
        return recorder

    @property
    def head(self) -> int:
        return self.store.head.pos

    @property
    def head_time_ns(self) -> int:
        """Stamp of the last fact: the tape's stamps never fall. 0 on an empty tape."""
        return self._gate.sequencer.clock_ns

    @property
    def settled(self) -> int:
        """Replay: every fact up to here has all its answers. Live: the head."""
        return self._gate.settled

    async def finish(self) -> None:
        """Return when nothing waits to be recorded (in lock step, answers may still be awaited)."""
        await self._finished.wait()

    @property
    def books(self) -> Follower[Any] | None:
        return self._books

    def submit(self, author: str, answers: Sequence[Answer | Receipt], reply: Reply, *, local: bool = False) -> None:
        """Take a request in; ``reply`` gets one receipt for each answer.

        Args:
            answers: a ``Receipt`` stands for an answer that was refused before it could be read.
            local: from within this process (books, control door): goes first, and is never refused for lack of room.
        """
        request = Request([None] * len(answers), reply, len(answers))
        queue = self._local if local else self._waiting
        for index, answer in enumerate(answers):
            refused = answer if isinstance(answer, Receipt) else self._refuse_at_the_door(answer, local)
            if refused is not None:
                self._count_refusal(author, refused)
                request.settle(index, refused)
            elif isinstance(answer, Answer):
                queue.append(Ask(author, answer, Slot(request, index)))
        if queue:
            self._finished.clear()
            self._arrived.set()

    async def append_local(self, author: str, answer: Answer) -> Receipt:
        """Record for somebody in this process (the control door); returns when the facts are durable and announced."""
        done: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

        def reply(receipts: tuple[Receipt, ...]) -> None:
            if not done.done():
                done.set_result(receipts[0])

        self.submit(author, [answer], reply, local=True)
        return await done

    async def run(self) -> None:
        """Commit group after group until cancelled. Raises what must stop the ledger (``store.Overtaken``)."""
        try:
            while True:
                while not self._waiting and not self._local:
                    await self._told()
                    if not self._waiting and not self._local:
                        self._finished.set()
                        self._arrived.clear()
                        await self._arrived.wait()
                self._finished.clear()
                group = _take(self._local, MOST_ASKS_PER_GROUP)
                group += _take(self._waiting, MOST_ASKS_PER_GROUP - len(group))
                await self._group(group)
                await asyncio.sleep(0)  # let the requests of the meantime arrive, whether or not the group had to wait
        finally:
            if self._telling is not None:
                self._telling.cancel()

    def _refuse_at_the_door(self, answer: Answer, local: bool) -> Receipt | None:
        fault = fault_of(answer)
        if fault is not None:
            return Receipt(refusal=AppendRefusal.MALFORMED, detail=fault)
        if not local and len(self._waiting) >= MOST_ASKS_WAITING:
            detail = f"{len(self._waiting)} answers wait to be recorded; ask again later"
            return Receipt(refusal=AppendRefusal.NOT_WRITABLE, detail=detail)
        return None

    async def _group(self, asks: Sequence[Ask]) -> None:
        known, causes = await self._look_up(asks)
        for ask in asks:
            self._gate.offer(ask, known, causes.get(ask.answer.cause))
        judged = self._gate.advance(self._now_ns())
        new = [recorded for _, result in judged if isinstance(result, Admitted) for recorded in result.new]
        if new:
            started_s = time.perf_counter()
            try:
                await self.store.append(new)
            except CommitRefused as refused:
                await self._after_refused_commit(judged, refused)
                return
            self._count_commit(len(new), time.perf_counter() - started_s)
            if self._realm is Realm.LIVE:  # a replay ends
                self._gate.sequencer.settle()
        committed_s = time.perf_counter()
        await self._told()
        is_small = len(judged) + len(new) <= MOST_TOLD_AT_ONCE
        if is_small:
            self._tell(judged, new, committed_s)
        if new:
            facts = [recorded.fact for recorded in new]
            self._recent.extend(facts)
            self._tell_books(facts)
        if not is_small:
            self._telling = asyncio.create_task(self._tell_later(judged, new, committed_s))

    def _tell(self, judged: Sequence[Judged], new: Sequence[Recorded], committed_s: float) -> None:
        """Announce, then reply."""
        if new:
            self._bus.announce(new)
        for ask, result in judged:
            self._settle(ask, result)
        self._bus.finished(new)
        if new:
            self.counts.publish_seconds.observe(time.perf_counter() - committed_s)

    async def _tell_later(self, judged: Sequence[Judged], new: Sequence[Recorded], committed_s: float) -> None:
        """``_tell`` while the next group is on its way to the disk."""
        self._tell(judged, new, committed_s)

    def _count_commit(self, facts: int, took_s: float) -> None:
        self.counts.facts += facts
        self.counts.groups += 1
        self.counts.commit_facts.observe(facts)
        self.counts.commit_seconds.observe(took_s)

    async def _told(self) -> None:
        """Wait until the last group is told; raises what went wrong there."""
        if self._telling is not None:
            await self._telling
            self._telling = None

    async def _look_up(self, asks: Sequence[Ask]) -> tuple[dict[str, Fact], dict[int, Fact]]:
        """Facts of the log that the asks name: by id, and as the cause they answer."""
        ids: dict[str, None] = {}
        causes: dict[int, None] = {}
        for ask in asks:
            needs = self._gate.sequencer.needs(ask.author, ask.answer)
            ids.update(dict.fromkeys(needs.ids))
            if needs.cause is not None and needs.cause <= self.head:
                causes[needs.cause] = None
        known = await self.store.by_ids(list(ids)) if ids else {}
        recent, beyond = self._recent, self.head + 1
        found = {pos: recent[pos - beyond] for pos in causes if beyond - pos <= len(recent)}
        if len(found) < len(causes):
            found.update(await self.store.facts_at([pos for pos in causes if pos not in found]))
        return known, found

    async def _after_refused_commit(self, judged: Sequence[Judged], refused: CommitRefused) -> None:
        """Go back to the durable head. One answer spoilt the group: record the others, each in a group of its own."""
        if self._realm is Realm.REPLAY:
            raise refused  # lock step cannot take a fact back; a replay starts anew
        self._gate.sequencer = await self.store.load(self._realm)
        if len(judged) == 1:
            self._settle(judged[0][0], Refused(AppendRefusal.NOT_WRITABLE, str(refused)))
            self._bus.finished(())
            return
        for ask, _ in judged:
            await self._group([ask])

    def _settle(self, ask: Ask, result: Admitted | Refused) -> None:
        if isinstance(result, Admitted):
            ask.ticket.settle(Receipt(positions=result.positions))
        else:
            receipt = Receipt(refusal=result.reason, detail=result.detail)
            self._count_refusal(ask.author, receipt)
            ask.ticket.settle(receipt)

    def _count_refusal(self, author: str, receipt: Receipt) -> None:
        if receipt.refusal is not None:
            self.counts.refused[author if author in SAYS else UNKNOWN_AUTHOR, receipt.refusal] += 1

    async def _restore_books(self, core: Core[Any]) -> None:
        """Bring the books to the head and put the answers they owe into the first group.

        The whole chain is verified on the way: nothing is recorded behind a past that was changed.
        """
        books = Follower(core)
        said = await read_said(self.store.read, core.name)
        self._books = books
        self._books_hear = frozenset(core.hears)
        self._metrics.bind({core.name: books.state})
        names = {event.__name__ for event in (*core.hears, *self._metrics.hears)}
        async for through, facts in verified(self.store.read, names, [said]):
            if through <= said.last_answered:
                books.recall_all(facts, said.answers)
            else:
                self._restore_each(books, facts, said)
            self._metrics.recalled(facts)

    def _restore_each(self, books: Follower[Any], facts: Sequence[Heard], said: Said) -> None:
        """Facts of which some are unanswered: one at a time."""
        for fact in facts:
            if fact.pos <= said.last_answered:
                books.recall(fact, said.answers.get(fact.pos, ()))
            elif type(fact.event) in self._books_hear:
                self._hear_for_books(fact)

    def _tell_books(self, facts: Sequence[Fact]) -> None:
        """Let the books hear what was recorded, and count all of it."""
        metrics = self._metrics
        for fact in facts:
            if type(fact.event) in self._books_hear:
                self._hear_for_books(fact)
            metrics.heard(fact)
            if fact.author == BOOKS:
                metrics.said(fact.event)

    def _hear_for_books(self, fact: Fact | Heard) -> None:
        """Let the books hear a fact that they have not answered; in lock step silence is said, too."""
        assert self._books is not None
        started_s = time.perf_counter()
        decisions = self._books.hear(fact)
        said_s = time.perf_counter()
        self._metrics.step_seconds.observe(said_s - started_s)
        if not decisions and self._realm is Realm.LIVE:
            return

        def reply(receipts: tuple[Receipt, ...]) -> None:
            _must_stand(receipts)
            self._metrics.append_seconds.observe(time.perf_counter() - said_s)

        answer = Answer(fact.pos, tuple([Draft(event) for event in decisions]))
        self.submit(self._books.core.name, [answer], reply, local=True)


def _take(queue: deque[Ask], most: int) -> list[Ask]:
    return [queue.popleft() for _ in range(min(len(queue), most))]


def _must_stand(receipts: tuple[Receipt, ...]) -> None:
    """The books' own answers cannot be refused; if one is, the ledger stops at that position rather than skip it."""
    for receipt in receipts:
        if not receipt.ok:
            raise RuntimeError(f"the answer of the books was refused: {receipt.refusal} {receipt.detail}")


async def _facts_after(store: Store, after: int) -> AsyncIterator[Fact]:
    async for page in pages(store.read, ReadRequest(after=after, limit=READ_FACTS)):
        for payload in page.facts:
            yield decode_fact(payload)
