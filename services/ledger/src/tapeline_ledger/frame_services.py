"""What ``FrameGate`` knows of each service: its plan, its promises, how far it has heard, and what it is sent.

Data and questions about it, all pure; what is concluded is in ``frame_gate``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import msgspec

from tapeline_common.core import NEVER
from tapeline_common.events import EVENT_BY_NAME, SAYS, Event
from tapeline_common.frames import Frame, Outside, ServicePlan, encode_frame
from tapeline_common.sequencer import Recorded
from tapeline_common.wire import Fact

LEAST = 8
"""Outside facts that the first frame to a service may be ahead; then it goes by how far the last ones came."""

NOT_VOID = 2**63
"""Void position of a promise that nothing has ended."""


@dataclass(frozen=True, slots=True)
class Line:
    """An outside fact that waits for its turn, and how it looks in frames."""

    outside: Outside
    id: str
    payload: bytes


@dataclass(slots=True, eq=False)
class Promise:
    """Silence about one type for stamps up to ``until_ns``, until the fact at ``void_pos`` is heard."""

    service: KnownService
    author: str
    voided_by: frozenset[type[Event]]
    until_ns: int = NEVER
    void_pos: int = NOT_VOID

    def covers(self, fact: Fact) -> bool:
        return fact.time_ns <= self.until_ns and fact.pos <= self.void_pos

    def ends_with(self, fact: Fact) -> bool:
        """Whether hearing this fact ends the promise; our own decisions were learnt before it was given."""
        return type(fact.event) in self.voided_by and not (fact.cause and fact.author == self.author)


Promises = tuple[Promise, ...]

Rival = tuple[int, Promises]
"""Place of an author elsewhere, and its promises that the facts in question do not end."""

Contested = tuple[str, tuple[Rival, ...]]
"""A type, and who else may answer it."""


@dataclass(slots=True, eq=False)
class KnownService:
    """One service as the gate knows it.

    Attributes:
        runs_on: it may answer its own facts, so it gains by hearing them early.
        contested: types whose answers by others could come between, with those who may give them.
        heard: the last fact it heard in a frame.
        answered: every fact up to here that it hears has its answer in ``said`` or was met with silence.
        pending: certain facts it has not heard.
        ran: (position, type) it heard by itself and that were not certain then.
        size: outside facts its next frame may be ahead.
        answers: outside line → its forecast; ``previewed``: lines before this one were sent; ``previews``: on the way.
    """

    plan: ServicePlan
    hears: frozenset[type[Event]]
    runs_on: bool
    contested: tuple[Contested, ...] = ()
    heard: int = 0
    answered: int = 0
    said: dict[tuple[str, int], tuple[Event, ...]] = field(default_factory=dict)
    pending: list[Recorded] = field(default_factory=list)
    ran: deque[tuple[int, str]] = field(default_factory=deque)
    size: int = LEAST
    last_sent: int = 0
    number: int = 0
    asked: bool = False
    answers: dict[int, tuple[tuple[Event, ...], ...]] = field(default_factory=dict)
    previewed: int = 0
    previews: deque[list[int]] = field(default_factory=deque)

    @property
    def name(self) -> str:
        return self.plan.name


Turns = tuple[tuple[str, KnownService, Promises], ...]
"""Who may answer a fact, in order."""


@dataclass(frozen=True, slots=True)
class Request:
    """A frame to be sent, with its facts and lines beside it, as they are recorded or encoded."""

    service: str
    frame: Frame
    recorded: tuple[Recorded, ...]
    lines: tuple[Line, ...] = ()

    def encode(self) -> bytes:
        return encode_frame(
            self.frame, [recorded.payload for recorded in self.recorded], [line.payload for line in self.lines]
        )

    def whole(self) -> Frame:
        """The frame with everything in it, for a service in this process."""
        return msgspec.structs.replace(
            self.frame,
            facts=tuple(recorded.fact for recorded in self.recorded),
            lines=tuple(line.outside for line in self.lines),
        )


def cover(promises: Promises, fact: Fact) -> bool:
    for promise in promises:  # noqa: SIM110  (the hot path: a generator costs more than the check)
        if promise.covers(fact):
            return True
    return False


def were_given(promises: Promises) -> bool:
    """Whether silence was promised at all the last time, or nobody has asked yet."""
    return any(promise.until_ns != NEVER for promise in promises) or not promises[0].service.heard


def known_service(plan: ServicePlan) -> KnownService:
    said = {event.__name__ for author in plan.authors for event in SAYS[author.author]}
    answered = {name for author in plan.authors for name in (*author.answers, *author.confirms)}
    return KnownService(plan, frozenset(map(EVENT_BY_NAME.__getitem__, plan.hears)), runs_on=bool(said & answered))
