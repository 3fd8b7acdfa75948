"""Who may answer when: the two ways of taking answers, free running (live) and lock step (replay).

Pure: the recorder asks ``offer`` with what it looked up, then ``advance`` for everything that can be admitted now, in
order; it commits and announces what comes out.

Lock step is what makes a run over NATS equal to the loop gear, byte for byte: facts are handled strictly breadth first
in position order; for each fact every author that hears it must have answered (an empty answer says "nothing"); answers
are recorded in the fixed order of authors; the next outside fact is taken only when every fact on the tape is handled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from tapeline_common.events import SAYS
from tapeline_common.sequencer import Admitted, Refused, Sequencer, consequence_ids
from tapeline_common.values import AppendRefusal
from tapeline_common.wire import Answer, Fact

Plan = Mapping[str, Sequence[str]]
"""Author → names of the event types it answers, its own included if its core hears them or is asked to confirm them."""


class Ask(msgspec.Struct, frozen=True, eq=False):
    """An answer waiting to be judged. ``ticket`` belongs to whoever asked."""

    author: str
    answer: Answer
    ticket: Any = None


Judged = tuple[Ask, Admitted | Refused]


class Gate(Protocol):
    """What free running and lock step have in common."""

    sequencer: Sequencer

    def offer(self, ask: Ask, known: Mapping[str, Fact], cause: Fact | None) -> None: ...

    def advance(self, now_ns: int) -> list[Judged]: ...

    @property
    def settled(self) -> int:
        """Every fact up to this position has all its answers on the tape (free running: cannot be told, the head)."""


class FreeRunning:
    """Live: answers are admitted as they come."""

    def __init__(self, sequencer: Sequencer) -> None:
        self.sequencer = sequencer
        self._waiting: list[tuple[Ask, Mapping[str, Fact], Fact | None]] = []

    @property
    def settled(self) -> int:
        return self.sequencer.pos

    def offer(self, ask: Ask, known: Mapping[str, Fact], cause: Fact | None) -> None:
        """``known`` may cover more ids than this ask's: it is shared by all asks of a group."""
        self._waiting.append((ask, known, cause))

    def advance(self, now_ns: int) -> list[Judged]:
        fresh: dict[str, Fact] = {}
        judged: list[Judged] = []
        for ask, looked_up, cause in self._waiting:
            ids = self.sequencer.needs(ask.author, ask.answer).ids
            known: dict[str, Fact] = {}
            if not (looked_up.keys().isdisjoint(ids) and fresh.keys().isdisjoint(ids)):
                known = {i: fact for i in ids if (fact := looked_up.get(i) or fresh.get(i)) is not None}
            result = self.sequencer.admit(ask.author, ask.answer, now_ns=now_ns, known=known, cause=cause)
            if isinstance(result, Admitted):
                fresh.update({recorded.fact.id: recorded.fact for recorded in result.new})
            judged.append((ask, result))
        self._waiting.clear()
        return judged


@dataclass(slots=True)
class _Awaited:
    """The fact at hand, and who has still to answer it, in order."""

    fact: Fact
    authors: deque[str]


class LockStep:
    """Replay: one fact at a time, breadth first.

    Args:
        plan: who answers what; authors in any order.
        handled: facts already on the tape, from the last one that was answered (or the first) to the head.
    """

    def __init__(self, sequencer: Sequencer, plan: Plan, handled: Iterable[Fact] = ()) -> None:
        self.sequencer = sequencer
        self._hearers: dict[str, tuple[str, ...]] = {}
        for author in SAYS:
            for name in plan.get(author, ()):
                self._hearers[name] = (*self._hearers.get(name, ()), author)
        self._queue: deque[Fact] = deque()
        self._current: _Awaited | None = None
        self._early: dict[int, dict[str, Ask]] = {}
        self._outside: deque[Ask] = deque()
        self._judged: list[Judged] = []
        self._pending_ids: dict[str, int] = {}
        self._known: dict[str, Fact] = {}
        self.settled = sequencer.pos
        self._resume(list(handled))

    def offer(self, ask: Ask, known: Mapping[str, Fact], cause: Fact | None) -> None:
        """Take an answer in. ``known``: facts on the tape among the ids the sequencer needs to look up."""
        if ask.answer.cause == 0:
            self._offer_outside(ask, known)
            return
        handled = ask.answer.cause <= self.settled
        if handled or self._has_answered(ask):
            self._judged.append((ask, self._answer_again(ask, known, cause)))
            return
        refused = self._refuse(ask, cause)
        if refused is not None:
            self._judged.append((ask, refused))
            return
        early = self._early.setdefault(ask.answer.cause, {})
        if ask.author in early:
            refused = Refused(
                AppendRefusal.OUT_OF_ORDER, f"{ask.author} has answered {ask.answer.cause} once more since"
            )
            self._judged.append((early[ask.author], refused))
        early[ask.author] = ask

    def advance(self, now_ns: int) -> list[Judged]:
        """Handle facts until an answer is missing and admit what came; ``now_ns`` is not used in this realm."""
        while self._handle_current() or self._next_fact() or self._next_outside(now_ns):
            pass
        judged, self._judged = self._judged, []
        return judged

    @property
    def waits_for(self) -> tuple[int, tuple[str, ...]]:
        """The position at hand and the authors whose answers are missing; (0, ()) when every fact is handled."""
        if self._current is None:
            return 0, ()
        missing = [author for author in self._current.authors if author not in self._answers_to(self._current.fact.pos)]
        return self._current.fact.pos, tuple(missing)

    def _resume(self, facts: list[Fact]) -> None:
        if not facts:
            return
        # The last cause on the tape was answered up to some author; the silence of those before it was an answer.
        last_cause = max((fact.cause for fact in facts), default=0)
        said = [fact.author for fact in facts if fact.cause == last_cause and last_cause]
        self._queue.extend(fact for fact in facts if fact.pos >= last_cause)
        self.settled = self._queue[0].pos - 1
        self._next_fact()
        if self._current is not None and self._current.fact.pos == last_cause and said:
            order = list(SAYS)
            latest = max(order.index(author) for author in said)
            self._current.authors = deque(a for a in self._current.authors if order.index(a) > latest)

    def _offer_outside(self, ask: Ask, known: Mapping[str, Fact]) -> None:
        for draft in ask.answer.facts:
            self._pending_ids[draft.id] = self._pending_ids.get(draft.id, 0) + 1
            if draft.id in known:
                self._known[draft.id] = known[draft.id]
        self._outside.append(ask)

    def _refuse(self, ask: Ask, cause: Fact | None) -> Refused | None:
        """Answers nobody waits for: to what is not on the tape, or from somebody the plan does not name."""
        if cause is None or ask.answer.cause > self.sequencer.pos:
            detail = f"position {ask.answer.cause} is not on the tape (head {self.sequencer.pos})"
            return Refused(AppendRefusal.CAUSE_UNKNOWN, detail)
        name = type(cause.event).__name__
        if ask.author not in self._hearers.get(name, ()):
            return Refused(
                AppendRefusal.OUT_OF_ORDER, f"by the plan of this replay {ask.author} does not answer {name}"
            )
        return None

    def _has_answered(self, ask: Ask) -> bool:
        current = self._current
        return current is not None and ask.answer.cause == current.fact.pos and ask.author not in current.authors

    def _answer_again(self, ask: Ask, known: Mapping[str, Fact], cause: Fact | None) -> Admitted | Refused:
        """A repeated answer to a fact that is handled: the same again is a success, anything else is too late."""
        drafts = ask.answer.facts
        if not drafts:
            return Admitted((), ())
        if consequence_ids(ask.author, ask.answer.cause, 1)[0] not in known:
            detail = f"{ask.author} answered {ask.answer.cause} with nothing, or was not asked"
            return Refused(AppendRefusal.OUT_OF_ORDER, detail)
        return self.sequencer.admit(ask.author, ask.answer, now_ns=0, known=known, cause=cause)

    def _answers_to(self, pos: int) -> dict[str, Ask]:
        return self._early.get(pos, {})

    def _handle_current(self) -> bool:
        """Admit the answers to the fact at hand, in order, as far as they are here. True when all were.

        A refused answer is no answer: its author is waited for until it says something that stands.
        """
        current = self._current
        if current is None:
            return False
        answers = self._answers_to(current.fact.pos)
        while current.authors and current.authors[0] in answers:
            ask = answers.pop(current.authors[0])
            if self._judge(ask, {}, current.fact, 0):
                current.authors.popleft()
        if current.authors:
            return False
        self._early.pop(current.fact.pos, None)
        self.settled = current.fact.pos
        self._current = None
        return True

    def _next_fact(self) -> bool:
        if self._current is not None or not self._queue:
            return False
        fact = self._queue.popleft()
        self._current = _Awaited(fact, deque(self._hearers.get(type(fact.event).__name__, ())))
        return True

    def _next_outside(self, now_ns: int) -> bool:
        if self._current is not None or self._queue or not self._outside:
            return False
        ask = self._outside.popleft()
        known = {draft.id: self._known[draft.id] for draft in ask.answer.facts if draft.id in self._known}
        self._judge(ask, known, None, now_ns)
        for draft in ask.answer.facts:
            self._pending_ids[draft.id] -= 1
            if not self._pending_ids[draft.id]:
                del self._pending_ids[draft.id]
                self._known.pop(draft.id, None)
        return True

    def _judge(self, ask: Ask, known: Mapping[str, Fact], cause: Fact | None, now_ns: int) -> bool:
        result = self.sequencer.admit(ask.author, ask.answer, now_ns=now_ns, known=known, cause=cause)
        if isinstance(result, Admitted):
            for recorded in result.new:
                self._queue.append(recorded.fact)
                if recorded.fact.id in self._pending_ids:
                    self._known[recorded.fact.id] = recorded.fact
        self._judged.append((ask, result))
        return isinstance(result, Admitted)
