"""Today's cores over a recorded session: its outside facts, its timetable, simulated fills.

Like the loop gear, every core hears facts in position order, learns them and decides. Unlike it, an answer is recorded
when the record has it recorded: a live session's services take time, and orders that came a bar later then must come a
bar later now. An answer that the record does not know is recorded at once. Without differences the tape that comes out
is the recorded one, byte for byte.

An author can be made to answer some questions as it did then (``Replies``); it then learns that answer instead of
deciding. It does no I/O and writes to nobody's tape.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tapeline_backtest.runner import SERVICES
from tapeline_common.core import Core, Stamp, confirm, learn, learn_all, step
from tapeline_common.events import (
    SAYS,
    Event,
    LiquidationOrdered,
    OrderProposed,
    OrderSubmitted,
    OrderWithheld,
)
from tapeline_common.sequencer import Recorded, Sequencer
from tapeline_common.values import OrderId, Realm
from tapeline_common.wire import Fact, encode
from tapeline_common.wiring import Worker, in_author_order
from tapeline_execution.core import client_order_id
from tapeline_lab.parity.naming import WORD, Names
from tapeline_lab.parity.record import Question, Record, Saying
from tapeline_ledger.core import CORE as LEDGER_CORE

AUTHORS = {author: index for index, author in enumerate(SAYS)}

Replies = Callable[[str, str], Sequence[Fact] | None]
"""(author, name of the fact asked about) → the recorded answer to give, or ``None``: decide. Empty: say nothing."""


@dataclass(frozen=True, slots=True)
class Gear:
    """The code of today: what decides."""

    cores: tuple[Core[Any], ...]
    workers: tuple[Worker, ...]

    def without(self, author: str) -> Gear:
        return Gear(tuple(core for core in self.cores if core.name != author), self.workers)


def installed_gear() -> Gear:
    """The cores that a backtest runs, and the ledger's books."""
    cores = in_author_order([LEDGER_CORE, *(core for service in SERVICES for core in service.cores)])
    return Gear(cores, tuple(worker for service in SERVICES for worker in service.workers))


@dataclass(slots=True)
class Seat:
    """A core with its state and clock; both as ``Follower`` keeps them."""

    core: Core[Any]
    state: Any
    clock_ns: int = 0


@dataclass(slots=True)
class Ran:
    """A tape that a rerun made.

    Attributes:
        under_way: answers left out because the record ends while they could have been on their way.
        jobs: what each worker was given, by the name of the fact that asked.
        states: of every core at the end, by author.
    """

    recorded: list[Recorded] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    under_way: int = 0
    jobs: dict[str, Any] = field(default_factory=dict)
    states: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> list[Fact]:
        return [each.fact for each in self.recorded]

    @property
    def tape_hash(self) -> str:
        return self.recorded[-1].hash.hex()


@dataclass(frozen=True, slots=True)
class _Pending:
    cause: Fact
    key: str
    events: Sequence[Event]


class Rerun:
    """One rerun.

    Args:
        script: outside facts in order.
        lock_step: record every answer at once, as a backtest does, whatever the record's timetable says.
        replies: questions that are answered from the record.
        jobs: with ``lock_step``, the jobs of the same questions in the session's own time. A worker that is given
            another job here, because it is asked earlier than then, does it, whatever the record answers; so does one
            that was still at it when the record ended.
        refit: with ``judged``, judge the workers as well: fit every model again.
        judged: is given what today's code would have said to each question that was answered from the record and that
            it answers otherwise.
        watch: called with each fact once it has been heard by all.
    """

    def __init__(
        self,
        record: Record,
        gear: Gear,
        script: Sequence[Saying],
        *,
        replies: Replies = lambda _author, _key: None,
        lock_step: bool = False,
        jobs: Mapping[str, Any] | None = None,
        judged: dict[Question, Sequence[Event]] | None = None,
        refit: bool = False,
        watch: Callable[[Fact], None] | None = None,
    ) -> None:
        self._record = record
        self._gear = gear
        self._script = script
        self._replies = replies
        self._timetable: Mapping[Question, int] = {} if lock_step else record.timetable
        self._lock_step = lock_step
        self._jobs = jobs or {}
        self._judged = judged
        self._refit = refit
        self._watch = watch
        self._sequencer = Sequencer(Realm.REPLAY)
        self._queues: dict[str, deque[_Pending]] = {author: deque() for author in SAYS}
        self._clients: dict[OrderId, str] = {}
        self._cursor = 0
        self.seats = {core.name: Seat(core, core.initial()) for core in gear.cores}
        self._hearing: dict[type[Event], list[Seat]] = {
            event: [seat for seat in self.seats.values() if event in seat.core.hears]
            for events in SAYS.values()
            for event in events
        }
        self._workers = {worker.asked_by: worker for worker in gear.workers if worker.core in self.seats}
        self.ran = Ran(states={name: seat.state for name, seat in self.seats.items()})

    def run(self) -> Ran:
        """To the end of the script and of everything that follows from it."""
        slots: list[tuple[tuple[int, int], Saying | Question]] = [(each.at, each) for each in self._script]
        slots += [((pos, 1), question) for question, pos in self._timetable.items()]
        slots.sort(key=lambda slot: slot[0])
        for (pos, _), due in slots:
            self._cursor = pos
            if isinstance(due, Saying):
                self._say(due)
            else:
                self._release(due)
            self._release_unscheduled()
        return self.ran

    # ---- recording -------------------------------------------------------------------------------------------

    def _say(self, saying: Saying) -> None:
        time_ns = max(saying.time_ns, self._sequencer.clock_ns)
        self._take(self._sequencer.record(saying.author, saying.event, saying.id, 0, 0, time_ns))

    def _release(self, question: Question) -> None:
        """The moment at which the record has this answer. Whatever its author owes from before comes first."""
        author, key = question
        queue = self._queues[author]
        if author not in self.seats:  # a worker: its jobs run side by side and end in any order
            for pending in [each for each in queue if each.key == key]:
                queue.remove(pending)
                self._answer(author, pending)
            return
        if any(pending.key == key for pending in queue):
            while queue:
                pending = queue.popleft()
                self._answer(author, pending)
                if pending.key == key:
                    return

    def _release_unscheduled(self) -> None:
        """Record what no moment to come is kept for, in the order of the lock step: by cause, then by author."""
        while True:
            due = [
                (queue[0].cause.pos, AUTHORS[author], author)
                for author, queue in self._queues.items()
                if queue and self._timetable.get((author, queue[0].key), -1) <= self._cursor
            ]
            if not due:
                return
            author = min(due)[2]
            pending = self._queues[author].popleft()
            if not self._lock_step and self._record.may_be_under_way(author, pending.key):
                self.ran.under_way += 1
            else:
                self._answer(author, pending)

    def _answer(self, author: str, pending: _Pending) -> None:
        for recorded in self._sequencer.record_answer(author, pending.events, pending.cause):
            self._take(recorded)

    # ---- hearing ---------------------------------------------------------------------------------------------

    def _take(self, recorded: Recorded) -> None:
        fact = recorded.fact
        self.ran.recorded.append(recorded)
        key = self.ran.names.add(fact)
        event = fact.event
        if isinstance(event, OrderSubmitted | LiquidationOrdered):
            self._clients[event.order] = event.client_order_id
        for seat in self._hearing[type(event)]:
            decisions = self._heard(seat, fact, key)
            if decisions:
                self._queues[seat.core.name].append(_Pending(fact, key, decisions))
        worker = self._workers.get(type(event))
        if worker is not None:
            self._work(worker, fact, key)
        if self._watch is not None:
            self._watch(fact)

    def _heard(self, seat: Seat, fact: Fact, key: str) -> Sequence[Event]:
        seat.clock_ns = max(seat.clock_ns, fact.time_ns)
        stamp = Stamp(fact.pos, seat.clock_ns)
        core, state, event = seat.core, seat.state, fact.event
        is_own = fact.author == core.name and fact.cause > 0
        reply = self._replies(core.name, key)
        said = None if reply is None else self._in_this_tape(reply, fact)
        if said is None:
            return confirm(core, state, event, stamp) if is_own else step(core, state, event, stamp)
        if not is_own:
            learn(core, state, event, stamp)
        if self._judged is not None:
            decide = (core.confirms if is_own else core.decides).get(type(event))
            self._judge((core.name, key), said, () if decide is None else decide(state, event, stamp))
        learn_all(core, state, said, stamp)
        return said

    def _judge(self, question: Question, said: Sequence[Event], decided: Sequence[Event]) -> None:
        assert self._judged is not None, "asked only where somebody wants to know"
        if [*map(encode, said)] != [*map(encode, decided)] and not (not said and self._record.fell_silent(*question)):
            self._judged[question] = decided

    def _work(self, worker: Worker, fact: Fact, key: str) -> None:
        reply = self._replies(worker.author, key)
        job = self.ran.jobs[key] = worker.prepare(self.seats[worker.core].state, fact.event)
        is_under_way = self._record.may_be_under_way(worker.author, key)
        if reply is None or (self._lock_step and (is_under_way or self._jobs.get(key, job) != job)):
            events = worker.run(job)
        else:
            events = [each.event for each in reply]
            self.ran.under_way += is_under_way
            if self._judged is not None and self._refit:
                self._judge((worker.author, key), events, worker.run(job))
        if events:
            self._queues[worker.author].append(_Pending(fact, key, events))

    def _in_this_tape(self, reply: Sequence[Fact], cause: Fact) -> list[Event] | None:
        """A recorded answer with this tape's ids; ``None`` if it is about an order that this tape does not have."""
        said: list[Event] = []
        for index, fact in enumerate(reply):
            event = fact.event
            if type(event).about != "order":
                detail = getattr(event, "detail", "")
                own = WORD.sub(self._own_id, detail)
                said.append(event if own == detail else msgspec.structs.replace(event, detail=own))
                continue
            changed = self._about_order(event, index, reply, cause)
            if changed is None:
                return None
            said.append(changed)
        return said

    def _own_id(self, word: re.Match[str]) -> str:
        name = self._record.names.orders.get(OrderId(word[0]))
        return word[0] if name is None else self.ran.names.order_ids.get(name, OrderId(word[0]))

    def _about_order(self, event: Any, index: int, reply: Sequence[Fact], cause: Fact) -> Event | None:
        if isinstance(event, OrderProposed | LiquidationOrdered):
            maker = event.terms.strategy if isinstance(event, OrderProposed) else "liquidation"
            number = event.order.removeprefix(f"{maker}-{reply[index].cause}")
            renamed: Event = msgspec.structs.replace(event, order=OrderId(f"{maker}-{cause.pos}{number}"))
            return renamed
        order_id = self.ran.names.order_ids.get(self._record.names.orders[event.order])
        if order_id is None:
            return None
        given: dict[str, Any] = {"order": order_id}
        if isinstance(event, OrderSubmitted):
            given["approval"] = cause.pos
            given["client_order_id"] = client_order_id(self._record.started.tape, order_id, cause.pos)
        elif hasattr(event, "client_order_id"):
            client = self._clients.get(order_id)
            if client is None and isinstance(event, OrderWithheld):
                client = client_order_id(self._record.started.tape, order_id, cause.pos)
            given["client_order_id"] = event.client_order_id if client is None else client
        about_it: Event = msgspec.structs.replace(event, **given)
        return about_it
