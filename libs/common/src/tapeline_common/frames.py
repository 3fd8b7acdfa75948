"""Frames: what the ledger and a service exchange in the replay realm, and the plan both read off the cores' tables.

A frame carries many facts to one service; its reply says how far the service has heard, what it said, and for how long
it will be silent. Which frames are sent is decided in ``tapeline_ledger.frame_gate``; what a service does with one is
in ``frame_follower``. This module connects to nothing and decides nothing.

``frames.<service>``          a ``Frame`` or a ``Preview``, to one service
``frames.answer.<service>``   its ``Reply`` or ``Forecast``
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tapeline_common.events import AUTHOR_OF, SAYS, Event
from tapeline_common.wire import AnyEvent, Fact
from tapeline_common.wiring import Service, in_author_order

ORDER: dict[str, int] = {author: index for index, author in enumerate(SAYS)}
"""Where an author stands when several answer one fact."""


class AuthorPlan(msgspec.Struct, frozen=True):
    """What one core (or worker) of a service may do, by names of event types.

    Attributes:
        answers: facts of others, and outside facts, that it may answer.
        confirms: its own recorded decisions that it may answer.
        promises: type it may promise to be silent about → for each such promise, the types that end it when heard
            (its own decisions never do).
    """

    author: str
    answers: tuple[str, ...]
    confirms: tuple[str, ...] = ()
    promises: dict[str, tuple[tuple[str, ...], ...]] = {}


class ServicePlan(msgspec.Struct, frozen=True):
    """One process of a replay.

    Attributes:
        hears: every type that is shown to it.
        goes_ahead: no other service can tell it anything, and it needs no positions: it may hear outside facts long
            before their turn.
    """

    name: str
    authors: tuple[AuthorPlan, ...]
    hears: tuple[str, ...]
    goes_ahead: bool


FramePlan = tuple[ServicePlan, ...]


class Outside(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An outside fact before it is recorded."""

    author: str
    time_ns: int
    event: AnyEvent


class Frame(msgspec.Struct, frozen=True, tag=True):
    """Facts in position order, for one service.

    Attributes:
        number: frames to one service count from 1.
        lines: outside facts that follow at ``lines_pos`` and the positions after it, if this service is silent and so
            far as everybody else surely is; they are not recorded yet.
        certain: facts up to this position stand whatever this service says. Those behind it stand only if the service
            is silent about everything before them: it stops at its first answer.
        next_pos: where the first answer to the last fact will stand; 0 if that cannot be told.
        limits: type → place (``ORDER``) of the first author elsewhere who may answer it; answers of authors before
            that have certain positions. Types that are left out are answered by nobody else. None: stop in any case.
    """

    number: int
    facts: tuple[Fact, ...]
    certain: int
    lines: tuple[Outside, ...] = ()
    lines_pos: int = 0
    next_pos: int = 0
    limits: dict[str, int] | None = None


class Said(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One author's answer to the fact at position ``cause``; never empty."""

    author: str
    cause: int
    events: tuple[AnyEvent, ...]


class Reply(msgspec.Struct, frozen=True, tag=True):
    """What came of a frame.

    Attributes:
        heard: the last fact of the frame, or of its lines, that was heard.
        ran: (position, type) of facts beyond ``heard`` that this service knew by itself, and heard as well: its own
            answers, and the outside facts that follow when nobody has more to say.
        said: answers in the order in which they were given.
        quiet: author → type → for each promise in the plan, the last stamp, in UTC nanoseconds, for which it holds.
    """

    number: int
    heard: int
    ran: tuple[tuple[int, str], ...] = ()
    said: tuple[Said, ...] = ()
    quiet: dict[str, dict[str, tuple[int, ...]]] = {}


class Preview(msgspec.Struct, frozen=True, tag=True):
    """Outside facts for a service that goes ahead, in order."""

    number: int
    facts: tuple[Outside, ...]


class Forecast(msgspec.Struct, frozen=True, tag=True):
    """The answers to a preview: for each outside fact, one entry for each question that will be put to the service in
    the chain of that fact, in the order in which they will be put."""

    number: int
    answers: tuple[tuple[tuple[AnyEvent, ...], ...], ...]


_encoder = msgspec.json.Encoder()
_to_service: msgspec.json.Decoder[Frame | Preview] = msgspec.json.Decoder(Frame | Preview)
_from_service: msgspec.json.Decoder[Reply | Forecast] = msgspec.json.Decoder(Reply | Forecast)

encode = _encoder.encode
decode_for_service = _to_service.decode
decode_reply = _from_service.decode


class _RawFrame(msgspec.Struct, frozen=True, tag="Frame"):
    number: int
    facts: tuple[msgspec.Raw, ...]
    certain: int
    lines: tuple[msgspec.Raw, ...]
    lines_pos: int
    next_pos: int
    limits: dict[str, int] | None


def encode_frame(frame: Frame, facts: Iterable[bytes], lines: Iterable[bytes]) -> bytes:
    """A frame whose facts and lines are encoded already; those in ``frame`` itself are not looked at."""
    raw_facts, raw_lines = tuple(map(msgspec.Raw, facts)), tuple(map(msgspec.Raw, lines))
    raw = _RawFrame(frame.number, raw_facts, frame.certain, raw_lines, frame.lines_pos, frame.next_pos, frame.limits)
    return encode(raw)


class _RawPreview(msgspec.Struct, frozen=True, tag="Preview"):
    number: int
    facts: tuple[msgspec.Raw, ...]


def encode_preview(number: int, facts: Iterable[bytes]) -> bytes:
    """A preview of facts that are encoded already."""
    return encode(_RawPreview(number, tuple(map(msgspec.Raw, facts))))


def plan_of(services: Iterable[Service]) -> FramePlan:
    """Who hears what, who may answer it, and who may go ahead: read off the tables of these services."""
    known = tuple(services)
    inside = {author for service in known for author in _speakers(service)}
    return tuple(_service_plan(service, inside) for service in known)


def _service_plan(service: Service, inside: set[str]) -> ServicePlan:
    plans = [AuthorPlan(worker.author, (worker.asked_by.__name__,)) for worker in service.workers]
    hears = {worker.asked_by: None for worker in service.workers}
    for core in in_author_order(service.cores):
        hears.update(dict.fromkeys(core.hears))
        plans.append(
            AuthorPlan(
                core.name,
                tuple(event.__name__ for event in core.decides),
                tuple(event.__name__ for event in core.confirms),
                {
                    promised.__name__: tuple(
                        tuple(event.__name__ for event in core.hears if event in quiet.ended_by) for quiet in promises
                    )
                    for promised, promises in core.quiet.items()
                },
            )
        )
    own = set(_speakers(service))
    told_by_others = [event for event in hears if AUTHOR_OF[event] in inside - own]
    return ServicePlan(
        service.name,
        tuple(sorted(plans, key=lambda plan: ORDER[plan.author])),
        tuple(event.__name__ for event in hears),
        goes_ahead=not told_by_others and not any(core.reads_position for core in service.cores),
    )


def _speakers(service: Service) -> list[str]:
    """Cores and workers; adapters are the outside world."""
    return [core.name for core in service.cores] + [worker.author for worker in service.workers]


def may_answer(plan: AuthorPlan, event: type[Event], *, caused: bool) -> bool:
    """Whether an author is to be asked about a fact; ``caused``: the fact has a cause."""
    own = caused and AUTHOR_OF[event] == plan.author
    return event.__name__ in (plan.confirms if own else plan.answers)
