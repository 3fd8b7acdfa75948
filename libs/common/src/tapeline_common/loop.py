"""The loop gear: every core in one process, facts in position order, breadth first.

Gives the same tape as the wire gear in the replay realm: a fact is shown to all cores that hear it in the fixed order
of authors, their answers join the end of the queue, and the next outside fact is taken only when the queue is empty.
This is the fast path of ``Follower`` (its naive twin, see tests/parity). It does no I/O; a recorder may keep the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from tapeline_common.bar_block import BarBlock, Echo
from tapeline_common.core import Core, Decide, Evolve, Stamp, keep_clock, learn_all
from tapeline_common.events import AUTHOR_OF, SAYS, BarClosed, Event
from tapeline_common.sequencer import Recorded, Sequencer
from tapeline_common.values import Realm
from tapeline_common.wire import Fact
from tapeline_common.wiring import Worker

Keep = Callable[[Recorded], None]
"""Called with every recorded fact, in order: keeps bytes, folds a report, or both."""


class _Seat(NamedTuple):
    """A core in the loop, or a worker looking at its core's state. A tuple, because each fact unpacks several."""

    author: str
    core: Core[Any] | None
    state: Any
    evolve: Evolve[Any] | None
    decide: Decide[Any] | None


class Loop:
    """Runs cores over outside facts.

    Args:
        cores: any order; answers are always recorded in the order of ``events.SAYS``.
        workers: run inline, at the position of the fact that asks for them.
        keep: sees every fact as it is recorded.
    """

    def __init__(self, cores: Sequence[Core[Any]], workers: Sequence[Worker] = (), keep: Keep | None = None) -> None:
        self.sequencer = Sequencer(Realm.REPLAY)
        self.states: dict[str, Any] = {core.name: core.initial() for core in cores}
        self._keep = keep
        self._queue: deque[Fact] = deque()
        self._outside = {event: self._seats(event, cores, workers, outside=True) for event in AUTHOR_OF}
        self._consequence = {event: self._seats(event, cores, workers, outside=False) for event in AUTHOR_OF}
        hearing = [core for seat in self._outside[BarClosed] if (core := seat.core) is not None]
        self._passing = [
            (core.name, core.passing, self.states[core.name]) for core in hearing if core.passing is not None
        ]
        self.can_pass = len(self._passing) == len(hearing)
        """Whether every core that learns from bars knows how to pass over them."""

    def say(self, author: str, event: Event, identity: str, time_ns: int) -> None:
        """Record an outside fact and everything that follows from it."""
        assert time_ns >= self.sequencer.clock_ns, f"replay clock went back: {time_ns} < {self.sequencer.clock_ns}"
        recorded = self.sequencer.record(author, event, identity, 0, 0, time_ns)
        if self._keep is not None:
            self._keep(recorded)
        self._follow(recorded.fact)

    def silent_until(self, block: BarBlock, start: int, stop: int, but: Collection[str] = ()) -> int:
        """The row, from ``start`` to ``stop``, before which no core (``but`` these) would say anything to any bar."""
        block.is_echoed = False
        for name, passing, state in self._passing:
            if name not in but:
                stop = passing.silent_until(state, block, start, stop)
            if stop <= start:
                return start
        return stop

    def take(self, block: BarBlock, start: int, stop: int, last: Stamp, but: Collection[str] = ()) -> Echo | None:
        """Let every core (``but`` these) learn rows it is silent about. Nothing is recorded.

        Returns:
            What one of them said to each row.
        """
        echo: Echo | None = None
        for name, passing, state in self._passing:
            if name not in but:
                echo = passing.take(state, block, start, stop, last) or echo
        if echo is not None:
            stamp = Stamp(last.pos + 1, last.time_ns)
            for seat in self._consequence[type(echo.last)]:
                if seat.evolve is not None:
                    seat.evolve(seat.state, echo.last, stamp)
        return echo

    def _follow(self, fact: Fact) -> None:
        """Show an outside fact to whoever hears it, then what follows from it, until nothing does."""
        queue, routes = self._queue, self._outside
        while True:
            event = fact.event
            seats = routes[type(event)]
            if seats:
                stamp = Stamp(fact.pos, fact.time_ns)
                for seat in seats:
                    author, core, state, evolve, decide = seat
                    if evolve is not None:
                        evolve(state, event, stamp)
                    if decide is not None:
                        decisions = decide(state, event, stamp)
                        if decisions:
                            if core is not None:
                                learn_all(core, state, decisions, stamp)
                            self._answer(author, fact, decisions)
            if not queue:
                return
            fact, routes = queue.popleft(), self._consequence

    def _answer(self, author: str, fact: Fact, decisions: Sequence[Event]) -> None:
        keep, queue = self._keep, self._queue
        for recorded in self.sequencer.record_answer(author, decisions, fact):
            if keep is not None:
                keep(recorded)
            queue.append(recorded.fact)

    def _seats(
        self, event: type[Event], cores: Sequence[Core[Any]], workers: Sequence[Worker], *, outside: bool
    ) -> tuple[_Seat, ...]:
        seats = []
        for core in cores:
            state = self.states[core.name]
            if AUTHOR_OF[event] == core.name and not outside:
                evolve, decide = None, core.confirms.get(event)  # learnt already, right after its cause
            else:
                evolve, decide = core.evolves.get(event), core.decides.get(event)
            if evolve is keep_clock:
                evolve = None  # the replay clock never goes back, so the stamp at hand is the core's clock already
            if evolve is not None or decide is not None:
                seats.append(_Seat(core.name, core, state, evolve, decide))
        for worker in workers:
            if worker.asked_by is event:
                seats.append(_Seat(worker.author, None, self.states[worker.core], None, _inline(worker)))
        order = list(SAYS)
        return tuple(sorted(seats, key=lambda seat: order.index(seat.author)))


def _inline(worker: Worker) -> Callable[[Any, Any, Stamp], Sequence[Event]]:
    def work(state: Any, event: Any, _stamp: Stamp) -> Sequence[Event]:
        return worker.run(worker.prepare(state, event))

    return work
