"""``World(seed)``: whole services in one thread, with everything going wrong, the same way every time.

The ledger is the tape in memory behind the real sequencer, in the live realm; every service is made of real cores. A
world first runs with faults (safety: nothing wrong may ever be recorded), then without (liveness: everybody reaches the
head and owes nothing), and then the tape is checked against a clean replay. Each seed draws its own mix of faults and
its own grouping of cores into processes, so that rare combinations are met.

No asyncio, no NATS, no Postgres: what those do is covered by the tests of the real stack. What a process does is in
``simulation_process``, what must hold in ``simulation_checks``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from tapeline_common import simulation_checks as checks
from tapeline_common.core import Core
from tapeline_common.events import Event
from tapeline_common.simulation_faults import RATES, Dice, Fault
from tapeline_common.simulation_process import (
    IDLE,
    AnswerRefused,
    Append,
    Ask,
    Life,
    Process,
    Read,
    Rest,
    append,
)
from tapeline_common.tape import Receipt
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.testing import fingerprint
from tapeline_common.values import AppendRefusal
from tapeline_common.wire import Answer, Draft, Fact
from tapeline_common.wiring import Worker, in_author_order

Invariant: TypeAlias = Callable[[list[Fact]], str | None]
"""Looks at a whole tape and returns what is wrong with it, or None."""

TICK_NS = 1_000_000
"""Mean time between two steps of a world: services answer within milliseconds."""

HOUR_NS = 3_600_000_000_000

HEALED_STEPS = 100_000
"""Steps in which a healed world must come to rest; a few thousand are usual."""


class Violation(AssertionError):
    """Something that must hold did not. The message names the seed, which reproduces it exactly."""


@dataclass(frozen=True, slots=True)
class Saying:
    """An outside fact to be recorded. The simulated clock shows at least ``time_ns`` when it is first said."""

    author: str
    event: Event
    id: str
    time_ns: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run without a violation: the tape, and how often each fault struck."""

    facts: list[Fact]
    payloads: list[bytes]
    head_hash: bytes
    faults: dict[Fault, int]


@dataclass(slots=True, eq=False)
class _Actor:
    """A life that is being lived: what it waits for, and the step before which it does not go on."""

    life: Life
    ask: Ask
    not_before: int = 0


@dataclass(slots=True, eq=False)
class _Copy:
    """A running process, its jobs and the announcements on their way to it: (step due, number, position)."""

    process: Process
    main: _Actor
    is_extra: bool
    jobs: list[_Actor] = field(default_factory=list)
    bus: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Late:
    """A request that its sender has given up on and that will arrive all the same."""

    due: int
    ask: Append
    after_lost_answer: bool


class World:
    """Services, a ledger and a feed, driven by one seed.

    Args:
        seed: decides everything that is not decided by the cores.
        cores: all cores; the seed groups them into processes.
        feeds: outside facts; each feed keeps its order, the seed interleaves them.
        workers: belong to the process of their core.
        invariants: asked about the whole tape at the end.
    """

    def __init__(
        self,
        seed: int,
        cores: Sequence[Core[Any]],
        feeds: Sequence[Sequence[Saying]],
        *,
        workers: Sequence[Worker] = (),
        invariants: Sequence[Invariant] = (),
    ) -> None:
        self.seed = seed
        self.tape = MemoryTape()
        self.faults: dict[Fault, int] = dict.fromkeys(Fault, 0)
        self._cores = in_author_order(cores)
        self._workers = workers
        self._invariants = invariants
        self._dice = Dice(seed, "world")
        self._rates = {fault: self._draw_rate(rate) for fault, rate in RATES.items()}
        self._pace = 0.05 + 0.35 * self._dice.unit()
        self._inbox_limit = 2 + self._dice.below(8 if self._dice.unit() < 0.3 else 200)
        self._page_limit = 1 + self._dice.below(100)
        self._services = self._draw_services()
        self._settled = dict.fromkeys(self._services, 0)
        self._feeds = [_Actor(life, next(life)) for life in map(self._feed, filter(None, feeds))]
        self._copies: list[_Copy] = []
        self._starts: list[tuple[int, str]] = [(0, name) for name in self._services]
        self._late: list[_Late] = []
        self._probes: list[checks.Probe] = []
        self._step = 0
        self._number = 0
        self._down_until = 0
        self._steps_asked = 0

    def run(self, steps: int) -> Outcome:
        """So many steps with faults, then healed until all is quiet. Raises ``Violation``."""
        self._steps_asked = steps
        while self._step < steps:
            self._one_step()
        self._heal()
        self._come_to_rest()
        self._check()
        payloads = [recorded.payload for recorded in self.tape.records]
        return Outcome(self.tape.facts, payloads, self.tape.head_hash, self.faults)

    # ---- what the seed draws ---------------------------------------------------------------------------------

    def _draw_rate(self, highest: float) -> float:
        return highest * self._dice.unit() if self._dice.unit() < 0.6 else 0.0

    def _draw_services(self) -> dict[str, tuple[Core[Any], ...]]:
        groups: list[list[Core[Any]]] = []
        for core in self._cores:
            if groups and self._dice.unit() < 0.2:
                groups[self._dice.below(len(groups))].append(core)
            else:
                groups.append([core])
        return {"+".join(core.name for core in group): tuple(group) for group in groups}

    def _strikes(self, fault: Fault) -> bool:
        rate = self._rates[fault]
        if rate and self._dice.unit() < rate:
            self.faults[fault] += 1
            return True
        return False

    # ---- one step --------------------------------------------------------------------------------------------

    def _one_step(self) -> None:
        self._step += 1
        self.tape.now_ns += self._dice.below(2 * TICK_NS)
        self._disturb()
        self._deliver_late()
        for due in [start for start in self._starts if start[0] <= self._step]:
            self._starts.remove(due)
            self._start(due[1])
        feeds = [feed for feed in self._feeds if feed.not_before <= self._step]
        if feeds and self._dice.unit() < self._pace:
            self._resume_feed(feeds[self._dice.below(len(feeds))])
            return
        ready = [copy for copy in self._copies if self._is_ready(copy)]
        if ready:
            self._resume_copy(ready[self._dice.below(len(ready))])

    def _disturb(self) -> None:
        if self._strikes(Fault.CLOCK_BACK):
            self.tape.now_ns = max(0, self.tape.now_ns - self._dice.below(HOUR_NS))
        if self._strikes(Fault.LEDGER_DOWN):
            self._down_until = self._step + self._dice.below(100)
        if self._copies:
            copy = self._copies[self._dice.below(len(self._copies))]
            if self._dice.unit() < 0.05:
                copy.process.saw_head(self.tape.head)
            if self._strikes(Fault.FROZEN):
                copy.main.not_before = self._step + self._dice.below(400)
            if self._strikes(Fault.KILLED):
                self.faults[_kind_of_death(copy)] += 1
                self._kill(copy)
            elif self._strikes(Fault.SECOND_COPY) and not copy.is_extra:
                self._start(copy.process.name, is_extra=True)
            elif self._settled[copy.process.name] > 0 and self._strikes(Fault.SILENT_COPY):
                silent_through = self._settled[copy.process.name] + self._dice.below(30)
                self._start(copy.process.name, is_extra=True, silent_through=silent_through)

    def _is_ready(self, copy: _Copy) -> bool:
        while copy.bus and copy.bus[0][0] <= self._step:
            self._put(copy, heapq.heappop(copy.bus)[2])
        if any(job.not_before <= self._step for job in copy.jobs):
            return True
        process = copy.process
        if process.limit is not None:
            settled = self._settled[process.name]
            process.limit = None if settled >= process.silent_through else settled
        return copy.main.not_before <= self._step and (copy.main.ask is not IDLE or process.heard < process.head)

    # ---- processes -------------------------------------------------------------------------------------------

    def _start(self, name: str, *, is_extra: bool = False, silent_through: int = 0) -> None:
        cores = self._services[name]
        names = {core.name for core in cores}
        process = Process(
            name,
            cores,
            [worker for worker in self._workers if worker.core in names],
            inbox_limit=self._inbox_limit,
            page_limit=self._page_limit,
            silent_through=silent_through,
        )
        if silent_through:
            # It may not overtake the honest copy while it is silent: silence is no answer only where one is recorded.
            process.limit = self._settled[name]
        life = process.life()
        self._copies.append(_Copy(process, _Actor(life, next(life)), is_extra))

    def _kill(self, copy: _Copy) -> None:
        self.faults[Fault.WORKER_KILLED] += len(copy.jobs)
        self._end(copy)
        if not copy.is_extra:
            self._starts.append((self._step + self._dice.below(60), copy.process.name))

    def _end(self, copy: _Copy) -> None:
        for actor in [copy.main, *copy.jobs]:
            actor.life.close()
        self._copies.remove(copy)

    def _resume_copy(self, copy: _Copy) -> None:
        overflows = copy.process.overflows
        try:
            self._resume_one_of(copy)
        except AnswerRefused as refused:
            if refused.reason is not AppendRefusal.OUT_OF_ORDER or not copy.process.lost:
                raise self._violation(f"service {copy.process.name}: {refused}") from refused
            self.faults[Fault.SILENT_COPY_REFUSED] += 1
            self._end(copy)
            self._start(copy.process.name, is_extra=True)
            return
        self.faults[Fault.INBOX_OVERFLOWN] += copy.process.overflows - overflows
        self._settle(copy)
        for life in copy.process.jobs:
            copy.jobs.append(_Actor(life, next(life), self._step + self._dice.below(100)))
        copy.process.jobs.clear()

    def _resume_one_of(self, copy: _Copy) -> None:
        jobs = [job for job in copy.jobs if job.not_before <= self._step]
        if jobs and (copy.main.not_before > self._step or self._dice.unit() < 0.3):
            job = jobs[self._dice.below(len(jobs))]
            if not self._resume(job, copy) and copy in self._copies:
                copy.jobs.remove(job)
            return
        if self._dice.below(32) == 0:
            self._probe(copy)
        self._resume(copy.main, copy)

    def _probe(self, copy: _Copy) -> None:
        for name, follower in copy.process.followers.items():
            self._probes.append((name, follower.heard, fingerprint(follower.state)))

    def _settle(self, copy: _Copy) -> None:
        """What an honest copy has heard is answered on the tape, for good."""
        if not copy.process.silent_through:
            name = copy.process.name
            self._settled[name] = max(self._settled[name], copy.process.heard)

    def _resume(self, actor: _Actor, copy: _Copy | None) -> bool:
        """Give an actor what it waits for and let it live up to the next wait. False when its life is over."""
        reply: Any = None
        ask = actor.ask
        if isinstance(ask, Append):
            reply = self._append(ask, copy)
            if copy is not None and copy not in self._copies:
                return False
        elif isinstance(ask, Read):
            if self._down_until > self._step:
                self.faults[Fault.READ_WHILE_DOWN] += 1
            else:
                reply = self.tape.page(ask.request)
        if reply is None and not isinstance(ask, Rest):
            actor.not_before = self._step + self._dice.below(20)
        try:
            actor.ask = actor.life.send(reply)
        except StopIteration:
            return False
        except AnswerRefused:
            raise
        except Exception as trouble:
            who = "a feed" if copy is None else f"service {copy.process.name}"
            raise self._violation(f"{who} stopped: {type(trouble).__name__}: {trouble}") from trouble
        return True

    # ---- the feed --------------------------------------------------------------------------------------------

    def _feed(self, sayings: Sequence[Saying]) -> Life:
        for saying in sayings:
            yield Rest(is_idle=False)
            self.tape.now_ns = max(self.tape.now_ns, saying.time_ns)
            yield from append(saying.author, Answer(0, (Draft(saying.event, saying.id),)))

    def _resume_feed(self, feed: _Actor) -> None:
        try:
            if not self._resume(feed, None):
                self._feeds.remove(feed)
        except AnswerRefused as refused:
            raise self._violation(f"a feed: {refused}") from refused

    # ---- the ledger and its bus ------------------------------------------------------------------------------

    def _append(self, ask: Append, copy: _Copy | None) -> Receipt | None:
        """One request to record: what became of it is not always told."""
        after_lost = copy is not None and ask.author in copy.process.lost
        if self._down_until > self._step:
            self.faults[Fault.APPEND_WHILE_DOWN] += 1
            if self._dice.below(4) == 0:  # a client keeps what it could not send, and sends it when it can
                self._late.append(_Late(self._down_until, ask, after_lost))
            return None
        if self._strikes(Fault.REQUEST_LOST):
            return None
        if self._strikes(Fault.REQUEST_LATE):
            self._late.append(_Late(self._step + self._dice.below(200), ask, after_lost))
            return None
        receipt = self._record(ask, after_lost)
        if copy is not None and self._strikes(Fault.KILLED_AFTER_APPEND):
            self._kill(copy)
            return None
        return None if self._strikes(Fault.REPLY_LOST) else receipt

    def _deliver_late(self) -> None:
        for late in [late for late in self._late if max(late.due, self._down_until) <= self._step]:
            self._late.remove(late)
            receipt = self._record(late.ask, late.after_lost_answer)
            if receipt.refusal is AppendRefusal.OUT_OF_ORDER and late.after_lost_answer:
                self.faults[Fault.SILENT_COPY_REFUSED] += 1
            elif not receipt.ok:
                raise self._violation(
                    f"late answer of {late.ask.author} to {late.ask.answer.cause}: {receipt.refusal} {receipt.detail}"
                )

    def _record(self, ask: Append, after_lost_answer: bool) -> Receipt:
        head = self.tape.head
        receipt = self.tape.record(ask.author, ask.answer)
        if after_lost_answer and self.tape.head > head:
            raise self._violation(f"a copy of {ask.author} lost an answer and could still record another")
        for pos in range(head + 1, self.tape.head + 1):
            for copy in self._copies:
                self._announce(copy, pos)
        return receipt

    def _announce(self, copy: _Copy, pos: int) -> None:
        if self._strikes(Fault.ANNOUNCEMENT_LOST):
            return
        for _ in range(2 if self._strikes(Fault.ANNOUNCEMENT_DOUBLED) else 1):
            if self._strikes(Fault.ANNOUNCEMENT_LATE):
                self._number += 1
                heapq.heappush(copy.bus, (self._step + self._dice.below(100), self._number, pos))
            else:
                self._put(copy, pos)

    def _put(self, copy: _Copy, pos: int) -> None:
        recorded = self.tape.records[pos - 1]
        copy.process.put(pos, type(recorded.fact.event).__name__, recorded.payload)

    # ---- the end ---------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        """No more faults: every service runs once, the ledger is up, and what was on its way arrives."""
        self._rates = dict.fromkeys(self._rates, 0.0)
        self._down_until = 0
        for copy in [copy for copy in self._copies if copy.is_extra]:
            self._end(copy)
        self._starts = [(0, name) for _, name in self._starts]
        self._late = [replace(late, due=0) for late in self._late]
        for actor in [*self._feeds, *(actor for copy in self._copies for actor in [copy.main, *copy.jobs])]:
            actor.not_before = 0

    def _come_to_rest(self) -> None:
        limit = self._step + HEALED_STEPS
        while not self._is_at_rest():
            if self._step >= limit:
                heard = {copy.process.name: copy.process.heard for copy in self._copies}
                raise self._violation(f"liveness: healed, but not at rest: head {self.tape.head}, heard {heard}")
            self._one_step()
            for copy in self._copies:
                copy.process.saw_head(self.tape.head)

    def _is_at_rest(self) -> bool:
        if self._feeds or self._starts or self._late:
            return False
        return all(
            copy.process.heard == self.tape.head and copy.main.ask is IDLE and not copy.jobs for copy in self._copies
        )

    def _check(self) -> None:
        facts = self.tape.facts
        payloads = [recorded.payload for recorded in self.tape.records]
        for copy in self._copies:
            self._probe(copy)
        findings = {
            "chain": checks.chain_wrong(payloads, self.tape.head_hash),
            "order": checks.order_wrong(facts),
            "answers": checks.answers_wrong(facts),
        }
        for core in self._cores:
            findings[f"decisions of {core.name}"] = checks.decisions_wrong(core, payloads, self._workers, self._probes)
            prefixes = (self._dice.below(len(facts) + 1), len(facts))
            findings[f"restore of {core.name}"] = checks.restored_wrong(core, payloads, prefixes)
        for invariant in self._invariants:
            findings[getattr(invariant, "__name__", "invariant")] = invariant(facts)
        wrong = checks.first_wrong(findings)
        if wrong is not None:
            raise self._violation(wrong)

    def _violation(self, what: str) -> Violation:
        return Violation(
            f"seed {self.seed}, step {self._step}, head {self.tape.head}: {what}\n"
            f"reproduce: the same World({self.seed}, ...).run({self._steps_asked})"
        )


def _kind_of_death(copy: _Copy) -> Fault:
    ask = copy.main.ask
    if isinstance(ask, Append):
        return Fault.KILLED_BEFORE_APPEND
    if not copy.process.is_restored:
        return Fault.KILLED_RESTORING
    return Fault.KILLED_CATCHING_UP if isinstance(ask, Read) else Fault.KILLED_FOLLOWING
