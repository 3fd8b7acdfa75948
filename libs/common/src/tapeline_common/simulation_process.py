"""A service in the simulated world: the laws of the wire gear without its machinery.

The life of a process is a generator. Wherever ``service.Runner`` awaits, it yields what it asks for, and the world
answers, answers nothing (the ledger is away), or closes the generator (``kill -9``). So a process can be killed between
any two steps, and everything it knew dies with it. Keep this file line by line with ``service.Runner``.

No I/O, no clock, no chance of its own: which fault strikes when is decided in ``simulation``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tapeline_common.core import Core
from tapeline_common.events import Event
from tapeline_common.follower import Follower, answers_of
from tapeline_common.tape import Page, ReadRequest
from tapeline_common.values import AppendRefusal
from tapeline_common.wire import Answer, Draft, Fact, decode_fact
from tapeline_common.wiring import Worker, in_author_order


@dataclass(frozen=True, slots=True)
class Append:
    """Asks the ledger to record an answer. Replied with a ``Receipt``, or with None where nobody answered."""

    author: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Read:
    """Asks the ledger for facts. Replied with a ``Page``, or with None where nobody answered."""

    request: ReadRequest


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing owed. ``is_idle``: nothing to hear either, as far as the process knows."""

    is_idle: bool


Ask: TypeAlias = Append | Read | Rest
Life: TypeAlias = Generator[Ask, Any, None]

IDLE = Rest(is_idle=True)
BUSY = Rest(is_idle=False)


class AnswerRefused(Exception):
    """The ledger recorded nothing, and said why."""

    def __init__(self, author: str, answer: Answer, reason: AppendRefusal, detail: str) -> None:
        super().__init__(f"{author}'s answer to {answer.cause} was refused: {reason} {detail}")
        self.reason = reason


class Process:
    """One copy of a service: its cores and all that it remembers.

    Args:
        inbox_limit: announcements kept before all are dropped and read from the log instead.
        page_limit: facts of one read, so that catching up takes several.
        silent_through: drops its answers up to here, as no right build does; 0 for an honest copy.

    Attributes:
        heard: everything up to here is heard, and its answers are recorded.
        jobs: workers' lives that the world has not taken over yet.
        lost: authors that dropped an answer and had none recorded since.
        limit: hears nothing beyond; None for no limit.
    """

    def __init__(
        self,
        name: str,
        cores: Sequence[Core[Any]],
        workers: Sequence[Worker] = (),
        *,
        inbox_limit: int = 1000,
        page_limit: int = 100,
        silent_through: int = 0,
    ) -> None:
        self.name = name
        self.followers = {core.name: Follower(core) for core in in_author_order(cores)}
        self.workers = {worker.asked_by: worker for worker in workers}
        self.announced: dict[int, tuple[str, bytes]] = {}
        self.head = 0
        self.heard = 0
        self.jobs: list[Life] = []
        self.is_restored = False
        self.overflows = 0
        self.limit: int | None = None
        self.lost: set[str] = set()
        self.silent_through = silent_through
        self._inbox_limit = inbox_limit
        self._page_limit = page_limit
        self._types = frozenset(event.__name__ for event in [*_heard(cores), *self.workers])
        self._after: dict[str, int] = dict.fromkeys(self.followers, 0)
        self._done: dict[str, set[int]] = {}

    def put(self, pos: int, event_name: str, payload: bytes) -> None:
        """An announcement arrives."""
        self.saw_head(pos)
        if len(self.announced) >= self._inbox_limit:
            self.announced.clear()
            self.overflows += 1
        self.announced[pos] = (event_name, payload)

    def saw_head(self, pos: int) -> None:
        self.head = max(self.head, pos)

    def life(self) -> Life:
        """Restore, then follow for ever. Raises ``AnswerRefused``, or whatever a core raised."""
        yield from self._restore()
        self.is_restored = True
        while True:
            if self.limit is not None and self.heard >= self.limit:
                yield IDLE
                continue
            found = self.announced.pop(self.heard + 1, None)
            if found is not None:
                yield from self._take(*found)
            elif self.heard < self.head:
                yield from self._fill()
            else:
                yield IDLE

    def _restore(self) -> Life:
        answers: dict[str, dict[int, list[Event]]] = {}
        for name in self.followers:
            own = yield from self._read_all(name)
            answers[name] = answers_of(name, own)
            self._after[name] = max(answers[name], default=0)
        for worker in self.workers.values():
            given = yield from self._read_all(worker.author)
            self._done[worker.author] = {fact.cause for fact in given}
        while True:
            page = yield from self._read(self._request(self.limit or 0))
            for payload in page.facts:
                fact = decode_fact(payload)
                for name, follower in self.followers.items():
                    recorded = answers[name]
                    if fact.pos <= max(recorded, default=0):
                        follower.recall(fact, recorded.get(fact.pos, ()))
                    else:
                        yield from self._record(name, fact, follower.hear(fact))
                self._ask_worker(fact)
            self._advance(page.through)
            if page.through >= min(page.head, self.limit or page.head):
                return

    def _take(self, event_name: str, payload: bytes) -> Life:
        if event_name in self._types:
            yield from self._hear(decode_fact(payload))
            self._advance(self.heard + 1)
            yield BUSY
        else:
            self._advance(self.heard + 1)

    def _fill(self) -> Life:
        for pos in [pos for pos in self.announced if pos <= self.heard]:
            del self.announced[pos]
        until = min(self.announced, default=self.head + 1) - 1
        page = yield from self._read(self._request(min(until, self.limit or until)))
        for payload in page.facts:
            yield from self._hear(decode_fact(payload))
        self._advance(page.through)

    def _hear(self, fact: Fact) -> Life:
        decided = [(name, follower.hear(fact)) for name, follower in self.followers.items()]
        self._ask_worker(fact)
        for name, decisions in decided:
            yield from self._record(name, fact, decisions)

    def _advance(self, pos: int) -> None:
        self.heard = pos
        for follower in self.followers.values():
            if follower.heard < pos:
                follower.skip(pos)

    def _record(self, author: str, fact: Fact, decisions: Sequence[Event]) -> Life:
        if not decisions:
            return
        if fact.pos <= self.silent_through:
            if fact.pos > self._after[author]:
                self.lost.add(author)
            return
        answer = Answer(fact.pos, tuple(Draft(event) for event in decisions), after=self._after[author])
        self._after[author] = fact.pos
        yield from append(author, answer)
        self.lost.discard(author)

    def _ask_worker(self, fact: Fact) -> None:
        worker = self.workers.get(type(fact.event))
        if worker is None or fact.pos in self._done.get(worker.author, ()):
            return
        job = worker.prepare(self.followers[worker.core].state, fact.event)
        self.jobs.append(_work(worker, fact.pos, job))

    def _request(self, until: int) -> ReadRequest:
        return ReadRequest(self.heard, limit=self._page_limit, types=tuple(sorted(self._types)), until=until)

    def _read(self, request: ReadRequest) -> Generator[Ask, Any, Page]:
        while True:
            page: Page | None = yield Read(request)
            if page is not None:
                self.saw_head(page.head)
                return page

    def _read_all(self, author: str) -> Generator[Ask, Any, list[Fact]]:
        facts: list[Fact] = []
        after = 0
        while True:
            page = yield from self._read(ReadRequest(after, limit=5000, author=author))
            facts.extend(decode_fact(payload) for payload in page.facts)
            after = page.through
            if after >= page.head:
                return facts


def append(author: str, answer: Answer) -> Life:
    """Have an answer recorded, however often nobody answers. Raises ``AnswerRefused``."""
    while True:
        receipt = yield Append(author, answer)
        if receipt is None:
            continue
        if receipt.refusal is not None:
            raise AnswerRefused(author, answer, receipt.refusal, receipt.detail)
        return


def _work(worker: Worker, pos: int, job: Any) -> Life:
    yield BUSY  # the job runs later, and beside what the service hears meanwhile
    found = worker.run(job)
    yield from append(worker.author, Answer(pos, tuple(Draft(event) for event in found)))


def _heard(cores: Sequence[Core[Any]]) -> list[type[Event]]:
    return [event for core in cores for event in core.hears]
