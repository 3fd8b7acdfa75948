"""One service hearing frames of a replay: steps its cores through many facts, and stops where others must know first.

Pure, like ``Follower``, which it drives; the shell around it is in ``replay_service``. A service that goes ahead is a
``Forecaster`` instead: it hears outside facts before they have positions.

Going on alone: where nobody else can say anything between a service's answer and what follows it, the service knows
the positions of its own facts and hears them at once, and then the outside fact behind them. That saves a round trip
for each link of a chain that stays within one service.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from tapeline_common.core import Core, confirm, step
from tapeline_common.events import Event
from tapeline_common.follower import Follower
from tapeline_common.frames import ORDER, Forecast, Frame, Outside, Preview, Reply, Said
from tapeline_common.wire import Fact
from tapeline_common.wiring import Service, Worker, in_author_order

NO_LIMIT = len(ORDER)


JOINED_MIDWAY = "a replay cannot be joined midway"


class OutOfStep(Exception):
    """A frame that does not follow the last one: this process, or the ledger's, was started anew in mid-run."""


class FrameFollower:
    """A service's cores and workers, and how far they have heard."""

    def __init__(self, service: Service) -> None:
        self._followers = {core.name: Follower(core) for core in in_author_order(service.cores)}
        self._workers = {worker.author: worker for worker in service.workers}
        self._seats = sorted([*self._followers, *self._workers], key=ORDER.__getitem__)
        asked = (worker.asked_by for worker in service.workers)
        self._hears = frozenset([*(event for core in service.cores for event in core.hears), *asked])
        self._number = 0

    def state(self, author: str) -> Any:
        """State of one of the cores."""
        return self._followers[author].state

    def hear(self, frame: Frame) -> Reply:
        """Step through a frame. Raises ``OutOfStep``."""
        if frame.number != self._number + 1:
            raise OutOfStep(f"frame {frame.number} came after frame {self._number}; {JOINED_MIDWAY}")
        self._number = frame.number
        said: list[Said] = []
        ran: list[tuple[int, str]] = []
        facts = (*frame.facts, *_placed(frame))
        heard = 0
        for index, fact in enumerate(facts):
            if said and fact.pos > frame.certain:
                break
            heard = fact.pos
            answers = self._step(fact)
            if answers:
                first = not said
                said.extend(answers)
                if first:
                    ran = self._go_on(frame, facts, index, answers, said)
                    if ran:
                        break
        return Reply(frame.number, heard, tuple(ran), tuple(said), self._promises())

    def _step(self, fact: Fact) -> list[Said]:
        """Everybody's answer to one fact, in the order of authors."""
        answers = []
        for author in self._seats:
            follower = self._followers.get(author)
            decisions = self._work(author, fact) if follower is None else follower.hear(fact)
            if decisions:
                answers.append(Said(author, fact.pos, tuple(decisions)))
        return answers

    def _work(self, author: str, fact: Fact) -> Sequence[Event]:
        worker = self._workers[author]
        if type(fact.event) is not worker.asked_by:
            return ()
        return worker.run(worker.prepare(self._followers[worker.core].state, fact.event))

    def _promises(self) -> dict[str, dict[str, tuple[int, ...]]]:
        return {
            name: {
                event.__name__: tuple([quiet.until(follower.state) for quiet in promises])
                for event, promises in follower.core.quiet.items()
            }
            for name, follower in self._followers.items()
            if follower.core.quiet
        }

    # ---- going on alone --------------------------------------------------------------------------------------

    def _go_on(
        self, frame: Frame, facts: Sequence[Fact], index: int, answers: Sequence[Said], said: list[Said]
    ) -> list[tuple[int, str]]:
        """Hear our own answers to the fact at ``index``, and what follows from them, as far as positions are certain.

        Returns the positions heard, with their types.
        """
        cause = facts[index]
        if frame.limits is None:
            return []
        rest = _Rest(facts, index)
        if index == len(facts) - 1:
            if not frame.next_pos:
                return []
            chain = _Chain(frame.next_pos, frame.limits)
            chain.place(cause, answers)
        elif rest.is_outside and facts[index + 1].pos > frame.certain:
            chain = _Chain(cause.pos + 1, frame.limits)
            chain.place(cause, answers, limited=False)  # nobody else answered: the next fact is an outside one
        else:
            return []
        ran: list[tuple[int, str]] = []
        while True:
            fact = chain.take() or rest.take(chain)
            if fact is None:
                return ran
            if type(fact.event) in self._hears:
                ran.append((fact.pos, type(fact.event).__name__))
            found = self._step(fact)
            said.extend(found)
            chain.place(fact, found)


class _Chain:
    """Facts whose positions one service knows by itself.

    Attributes:
        pos: the next free position.
        is_closed: nobody else can have said anything so far.
    """

    def __init__(self, pos: int, limits: Mapping[str, int]) -> None:
        self.pos = pos
        self.is_closed = True
        self._limits = limits
        self._queue: deque[Fact] = deque()

    def take(self) -> Fact | None:
        return self._queue.popleft() if self._queue else None

    def place(self, cause: Fact, answers: Sequence[Said], *, limited: bool = True) -> None:
        """Queue the answers to a fact, as far as nobody else may answer it before them."""
        limit = self._limits.get(type(cause.event).__name__, NO_LIMIT) if limited else NO_LIMIT
        for answer in answers:
            if not self.is_closed or ORDER[answer.author] > limit:
                self.is_closed = False
                return
            for event in answer.events:
                self._queue.append(_provisional(self.pos, cause.time_ns, answer.author, cause.pos, event))
                self.pos += 1
        if limit < NO_LIMIT:
            self.is_closed = False


class _Rest:
    """The outside facts of a frame that follow one another without a gap: nobody has anything to say between them."""

    def __init__(self, facts: Sequence[Fact], index: int) -> None:
        self._facts = facts
        self._index = index

    @property
    def is_outside(self) -> bool:
        if self._index + 1 >= len(self._facts):
            return False
        this, following = self._facts[self._index], self._facts[self._index + 1]
        return following.cause == 0 and following.pos == this.pos + 1

    def take(self, chain: _Chain) -> Fact | None:
        """The outside fact behind a chain that has ended, at the position it gets now."""
        if not chain.is_closed or not self.is_outside:
            return None
        self._index += 1
        fact = self._facts[self._index]
        moved = _provisional(chain.pos, fact.time_ns, fact.author, 0, fact.event)
        chain.pos += 1
        return moved


def _placed(frame: Frame) -> Iterator[Fact]:
    """The lines of a frame, at the positions they have while we are silent."""
    for pos, line in enumerate(frame.lines, frame.lines_pos):
        yield _provisional(pos, line.time_ns, line.author, 0, line.event)


def _provisional(pos: int, time_ns: int, author: str, cause: int, event: Event) -> Fact:
    """A fact as its own service hears it early: no core looks at the parts that are left empty."""
    return Fact(pos, time_ns, "", author, "", 0, cause, 0, 0, event)


# ---- going ahead -----------------------------------------------------------------------------------------------------


class TimeStamp(msgspec.Struct, frozen=True, gc=False):
    """A stamp without a position, for cores that promised not to look at it."""

    time_ns: int


class Forecaster:
    """A service that nobody else tells anything: answers outside facts before they are on the tape."""

    def __init__(self, service: Service) -> None:
        self._cores = in_author_order(service.cores)
        self._hears = {core.name: frozenset(core.hears) for core in self._cores}
        self._states = {core.name: core.initial() for core in self._cores}
        self._clocks_ns = dict.fromkeys(self._states, 0)
        self._workers = {worker.asked_by: worker for worker in service.workers}
        self._number = 0

    def hear(self, preview: Preview) -> Forecast:
        """Answer outside facts and everything that follows from them within this service. Raises ``OutOfStep``."""
        if preview.number != self._number + 1:
            raise OutOfStep(f"preview {preview.number} came after {self._number}; {JOINED_MIDWAY}")
        self._number = preview.number
        return Forecast(preview.number, tuple(self._chain(outside) for outside in preview.facts))

    def _chain(self, outside: Outside) -> tuple[tuple[Event, ...], ...]:
        answers: list[tuple[Event, ...]] = []
        queue: deque[tuple[str, Event, bool]] = deque([(outside.author, outside.event, False)])
        while queue:
            author, event, caused = queue.popleft()
            for speaker, decisions in self._ask(author, event, outside.time_ns, caused=caused):
                answers.append(decisions)
                queue.extend((speaker, decision, True) for decision in decisions)
        return tuple(answers)

    def _ask(self, author: str, event: Event, time_ns: int, *, caused: bool) -> list[tuple[str, tuple[Event, ...]]]:
        """What everybody who may answer says, in the order of authors; silence included."""
        found: list[tuple[str, tuple[Event, ...]]] = []
        worker = self._workers.get(type(event))
        for core in self._cores:
            if worker is not None and ORDER[worker.author] < ORDER[core.name]:
                found.append(self._work(worker, event))
                worker = None
            decisions = self._hear(core, author, event, time_ns, caused=caused)
            if core.may_answer(type(event), caused=caused):
                found.append((core.name, tuple(decisions)))
        if worker is not None:
            found.append(self._work(worker, event))
        return found

    def _hear(self, core: Core[Any], author: str, event: Event, time_ns: int, *, caused: bool) -> Sequence[Event]:
        if type(event) not in self._hears[core.name]:
            return ()
        self._clocks_ns[core.name] = max(self._clocks_ns[core.name], time_ns)
        stamp: Any = TimeStamp(self._clocks_ns[core.name])
        handle = confirm if caused and author == core.name else step
        return handle(core, self._states[core.name], event, stamp)

    def _work(self, worker: Worker, event: Event) -> tuple[str, tuple[Event, ...]]:
        return worker.author, tuple(worker.run(worker.prepare(self._states[worker.core], event)))
