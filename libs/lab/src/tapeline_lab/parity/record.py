"""A recorded session as a rerun needs it: outside facts, the answers of every author, and when each was recorded.

On a live tape an answer lies where the ledger recorded it, some facts after its cause: services take time. That is a
fact of the session like its bars, so the timetable is part of the record. A live tape also ends in the middle: the last
bars were heard by services that had no time to answer. An answer that could still have been on its way is not judged.

Reading tapes is ``runs``; deciding anything again is ``rerun``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tapeline_common.events import Event, RunStarted, TrainingRequested
from tapeline_common.values import Realm
from tapeline_common.wire import Fact
from tapeline_lab.parity.naming import Names

Question = tuple[str, str]
"""Who was asked, and the name of the fact that asked."""


class NoSession(Exception):
    """A tape that cannot be rerun; the message says why."""


@dataclass(frozen=True, slots=True)
class Saying:
    """An outside fact and its place among the recorded ones: ``(pos, 0)`` lies just before the recorded ``pos``,
    ``(pos, 1)`` is that fact itself and ``(pos, 2)`` just after it."""

    at: tuple[int, int]
    author: str
    id: str
    event: Event
    time_ns: int


@dataclass(frozen=True, slots=True)
class Record:
    """A recorded tape.

    Attributes:
        facts: all of them, in position order; ``names`` has their names.
        answers: the facts of each answer.
        timetable: the position at which each answer was recorded.
        is_live: outside facts were stamped by the wall clock, and the tape may end with answers on their way.
        has_real_venue: fills came from outside, not from the simulated venue.
    """

    facts: Sequence[Fact]
    names: Names
    started: RunStarted
    answers: Mapping[Question, Sequence[Fact]]
    timetable: Mapping[Question, int]
    positions: Mapping[str, int]
    is_live: bool
    has_real_venue: bool
    _last_answered: Mapping[str, int] = field(default_factory=dict)
    _longest_wait: int = 1
    _silent_from: dict[str, int] = field(default_factory=dict)

    @property
    def head(self) -> int:
        return self.facts[-1].pos

    def outside(self) -> list[Saying]:
        """What came from outside, the venue's own reports left out."""
        return [_saying(fact) for fact in self.facts if not fact.cause and fact.author != "venue"]

    def reports(self) -> list[Saying]:
        """What a real venue reported."""
        return [_saying(fact) for fact in self.facts if not fact.cause and fact.author == "venue"]

    def end_of_answer(self, pos: int) -> int:
        """Position of the last fact of the answer that a fact belongs to: an answer is recorded whole."""
        fact = self.facts[pos - 1]
        whole = self.answers.get((fact.author, self.names.keys[fact.cause])) if fact.cause else None
        return pos if whole is None else whole[-1].pos

    def may_be_under_way(self, author: str, key: str) -> bool:
        """Whether a missing answer could have been recorded had the session gone on: its author had answered nothing
        later, and either somebody had needed as long before, or the author is known to have fallen silent.

        The trainer may have answered later questions: models are fitted side by side and end in any order.
        """
        pos = self.positions.get(key)
        if not self.is_live or pos is None:
            return False
        if self._is_fit(author, pos):
            return (author, key) not in self.answers
        if pos <= self._last_answered.get(author, 0):
            return False
        return pos > self.head - self._longest_wait or pos >= self._silent_from.get(author, self.head + 1)

    def fell_silent(self, author: str, key: str) -> bool:
        """Note that an author owes this answer and never gave it; whether it gave none later either.

        Services of a session end one after the other, while bars still come: the last to end go on for a while.
        """
        pos = self.positions[key]
        if not self.is_live:
            return False
        if self._is_fit(author, pos):
            return True
        if pos <= self._last_answered.get(author, 0):
            return False
        self._silent_from[author] = min(pos, self._silent_from.get(author, pos))
        return True

    def _is_fit(self, author: str, pos: int) -> bool:
        return author == "trainer" and isinstance(self.facts[pos - 1].event, TrainingRequested)


def _saying(fact: Fact) -> Saying:
    return Saying((fact.pos, 1), fact.author, fact.id, fact.event, fact.time_ns)


def record_of(facts: Sequence[Fact]) -> Record:
    """Look at a whole tape once. Raises ``NoSession``."""
    if not facts or not isinstance(facts[0].event, RunStarted):
        raise NoSession("the tape does not begin with RunStarted: nothing was ever started on it")
    started = facts[0].event
    names = Names()
    answers: dict[Question, list[Fact]] = {}
    timetable: dict[Question, int] = {}
    positions: dict[str, int] = {}
    answered: dict[str, int] = {}
    longest = 1
    for fact in facts:
        key = names.add(fact)
        positions[key] = fact.pos
        if fact.cause:
            question = (fact.author, names.keys[fact.cause])
            answers.setdefault(question, []).append(fact)
            if question not in timetable:
                timetable[question] = fact.pos
                answered[fact.author] = max(answered.get(fact.author, 0), fact.cause)
                longest = max(longest, fact.pos - fact.cause) if fact.author != "trainer" else longest
    return Record(
        facts=facts,
        names=names,
        started=started,
        answers=answers,
        timetable=timetable,
        positions=positions,
        is_live=started.realm is Realm.LIVE,
        has_real_venue=any(fact.author == "venue" and not fact.cause for fact in facts),
        _last_answered=answered,
        _longest_wait=longest,
    )
