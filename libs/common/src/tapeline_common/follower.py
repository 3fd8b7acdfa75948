"""One core following the tape: what a shell does for it, without any I/O.

The wire gear, the simulator and restore all drive this class, so there is one place where the laws of hearing live
(own decisions are known already; the clock never goes back; an answer is complete or absent). It neither reads nor
writes the tape: facts are handed in, decisions are handed back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, TypeVar

from tapeline_common.core import Core, Stamp, confirm, learn, learn_all, step
from tapeline_common.events import Event
from tapeline_common.wire import Fact, Heard

S = TypeVar("S")


class Follower(Generic[S]):
    """A core, its state and how far it has heard.

    Attributes:
        heard: position of the last fact handed in.
        clock_ns: the latest stamp among the facts that reached the core.
        answered: cause of this core's latest recorded (or just decided) non-empty answer.
    """

    def __init__(self, core: Core[S]) -> None:
        self.core = core
        self.state = core.initial()
        self.heard = 0
        self.clock_ns = 0
        self.answered = 0
        self._hears = frozenset(core.hears)

    def hear(self, fact: Fact | Heard) -> Sequence[Event]:
        """Take the next fact. Returns the decisions to be recorded as this core's answer to ``fact.pos``."""
        if not self._accept(fact):
            return ()
        stamp = Stamp(fact.pos, self.clock_ns)
        decisions = (
            confirm(self.core, self.state, fact.event, stamp)
            if self._is_own_decision(fact)
            else step(self.core, self.state, fact.event, stamp)
        )
        if decisions:
            self.answered = fact.pos
        return decisions

    def recall(self, fact: Fact | Heard, recorded: Sequence[Event]) -> None:
        """Take a fact whose answer is on the tape already: learn what was decided then, decide nothing now."""
        if not self._accept(fact):
            return
        stamp = Stamp(fact.pos, self.clock_ns)
        if not self._is_own_decision(fact):
            learn(self.core, self.state, fact.event, stamp)
        if recorded:
            learn_all(self.core, self.state, recorded, stamp)
            self.answered = fact.pos

    def recall_all(self, facts: Sequence[Heard], answers: Mapping[int, Sequence[Event]]) -> None:
        """``recall`` each of many facts, with the answers recorded to them by the position answered."""
        core, state, hears, evolves = self.core, self.state, self._hears, self.core.evolves
        heard, clock_ns, name = self.heard, self.clock_ns, self.core.name
        for fact in facts:
            pos = fact.pos
            assert pos > heard, f"{name} heard {heard} and was handed {pos}: facts come in order"
            heard = pos
            event = fact.event
            kind = type(event)
            if kind not in hears:
                continue
            if fact.time_ns > clock_ns:
                clock_ns = fact.time_ns
            stamp = Stamp(pos, clock_ns)
            evolve = evolves.get(kind)
            if evolve is not None and not (fact.cause and fact.author == name):
                evolve(state, event, stamp)
            if pos in answers:
                learn_all(core, state, answers[pos], stamp)
                self.answered = pos
        self.heard, self.clock_ns = heard, clock_ns

    def skip(self, pos: int) -> None:
        """Pass a position whose fact this core has no row for."""
        assert pos > self.heard, f"{self.core.name} heard {self.heard} and was handed {pos}: facts come in order"
        self.heard = pos

    def _accept(self, fact: Fact | Heard) -> bool:
        pos = fact.pos
        assert pos > self.heard, f"{self.core.name} heard {self.heard} and was handed {pos}: facts come in order"
        self.heard = pos
        if type(fact.event) not in self._hears:
            return False
        if fact.time_ns > self.clock_ns:
            self.clock_ns = fact.time_ns
        return True

    def _is_own_decision(self, fact: Fact | Heard) -> bool:
        # An outside fact under our own name (an adapter's) has no cause and is heard like anybody else's.
        return fact.author == self.core.name and fact.cause > 0


def answers_of(author: str, facts: Iterable[Fact]) -> dict[int, list[Event]]:
    """An author's recorded answers by the position they answer."""
    answers: dict[int, list[Event]] = {}
    for fact in facts:
        if fact.author == author and fact.cause:
            answers.setdefault(fact.cause, []).append(fact.event)
    return answers
