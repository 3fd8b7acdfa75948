"""The bytes of a fact: one JSON object, the same on the bus, in the log and under the hash.

The envelope and the event are encoded together, so what a person reads with any NATS client is exactly what the chain
is computed over; columns of the log are copies for queries, and verification derives them again from these bytes.
``pos`` comes first, so a reader can tell the position without decoding.

This module does no I/O and decides nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import msgspec

from tapeline_common.events import AUTHOR_OF, Event

if TYPE_CHECKING:
    AnyEvent: TypeAlias = Event
else:
    AnyEvent = Union[tuple(AUTHOR_OF)]  # noqa: UP007  (the closed union, built from the tables)

GENESIS = bytes(32)
"""What the first fact of a tape is chained to."""


class Fact(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An event with its place on the tape.

    Attributes:
        pos: gapless position from 1; the only order there is.
        time_ns: stamp, UTC nanoseconds; consequences inherit the stamp of their cause.
        id: ``author:cause:index`` for consequences, a natural key for outside facts.
        version: how many facts this stream holds, this one included.
        cause: position of the fact that this one answers; 0 for outside facts.
        correlation: position of the outside fact at the root of the chain of causes.
    """

    pos: int
    time_ns: int
    id: str
    author: str
    stream: str
    version: int
    cause: int
    correlation: int
    schema: int
    event: AnyEvent


class Heard(msgspec.Struct, frozen=True, gc=False):
    """What of a fact reaches a core. The rest of the envelope belongs to the log, and is not decoded."""

    pos: int
    time_ns: int
    author: str
    cause: int
    event: Any


class Draft(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A fact that somebody asks to have recorded. ``id`` is required for outside facts and refused for consequences."""

    event: AnyEvent
    id: str = ""


class Answer(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """What an author asks the ledger to record, whole or not at all.

    Attributes:
        cause: position answered; 0 for outside facts.
        facts: in order; empty only in the replay realm, where "nothing to say" must be said.
        after: cause of this author's previous answer, if the author is a core: refused when the tape knows a later
            one, so that two copies of a service cannot both answer.
        time_ns: stamp for outside facts, replay realm only.
        expected: stream → version it must have before this answer.
    """

    cause: int
    facts: tuple[Draft, ...]
    after: int | None = None
    time_ns: int | None = None
    expected: dict[str, int] = {}


class Progress(msgspec.Struct, frozen=True, gc=False):
    """How far a service has heard; the ledger's own ``pos`` names the head. Never recorded.

    Attributes:
        settled: said by the ledger only: in the replay realm every fact up to here has all its answers.
        before: said by the live ledger only: what lies up to ``pos`` (``preceding``).
    """

    service: str
    pos: int
    settled: int = 0
    before: str = ""


_encoder = msgspec.json.Encoder()
_fact_decoder = msgspec.json.Decoder(Fact)
_facts_decoder = msgspec.json.Decoder(list[Fact])
_event_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyEvent)
_answer_decoder = msgspec.json.Decoder(Answer)

encode = _encoder.encode
"""JSON bytes of a fact, an event or an answer."""


def decode_fact(payload: bytes) -> Fact:
    """Raises ``msgspec.ValidationError`` (or ``DecodeError``) for bytes that are no fact of this version."""
    return _fact_decoder.decode(payload)


def decode_facts(payloads: Iterable[bytes]) -> list[Fact]:
    """``decode_fact`` of each, in one call."""
    return _facts_decoder.decode(b"[%b]" % b",".join(payloads))


def heard_decoder(names: Collection[str]) -> Callable[[Iterable[bytes]], list[Heard]]:
    """A decoder of many facts for somebody who hears the events of these names.

    Of other events, all that is kept is that there is one: it is of a type of its own, which no core has a row for.
    """
    kinds = tuple(kind if kind.__name__ in names else _unheard(kind.__name__) for kind in AUTHOR_OF)
    # The union is built from the tables, as ``AnyEvent`` is.
    shape = msgspec.defstruct("Heard", [("event", Union[kinds])], bases=(Heard,), frozen=True, gc=False)  # noqa: UP007
    decoder: msgspec.json.Decoder[list[Heard]] = msgspec.json.Decoder(list[shape])  # type: ignore[valid-type]

    def decode(payloads: Iterable[bytes]) -> list[Heard]:
        return decoder.decode(b"[%b]" % b",".join(payloads))

    return decode


def _unheard(name: str) -> type[msgspec.Struct]:
    return msgspec.defstruct(f"Unheard{name}", [], tag_field="type", tag=name, frozen=True, gc=False)


def decode_event(payload: bytes) -> Event:
    event: Event = _event_decoder.decode(payload)
    return event


def decode_answer(payload: bytes) -> Answer:
    return _answer_decoder.decode(payload)


def decode_progress(payload: bytes) -> Progress:
    return msgspec.json.decode(payload, type=Progress)


_PREFIX = b'{"pos":'


def position_of(payload: bytes) -> int:
    """Position of an encoded fact, read off its first field without decoding the rest."""
    if not payload.startswith(_PREFIX):
        raise ValueError(f"not a fact: it starts with {payload[:20]!r}, not with {_PREFIX!r}")
    return int(payload[len(_PREFIX) : payload.index(b",", len(_PREFIX))])


def chain(previous: bytes, payload: bytes) -> bytes:
    """Hash of a fact: SHA-256 over the previous fact's hash and this fact's stored bytes."""
    return sha256(previous + payload).digest()


def chain_all(previous: bytes, payloads: Iterable[bytes | bytearray]) -> bytes:
    """Hash after the last of many facts; ``chain`` of each in turn, without a call for each."""
    sha256 = hashlib.sha256
    for payload in payloads:
        previous = sha256(previous + payload).digest()
    return previous


def chain_naive(payloads: list[bytes]) -> bytes:
    """Head hash of a whole tape, computed the plain way: the twin that fast paths are tested against."""
    head = GENESIS
    for payload in payloads:
        digest = hashlib.sha256()
        digest.update(head)
        digest.update(payload)
        head = digest.digest()
    return head
