"""The tape as its users see it: ask for facts to be recorded, read what was recorded, follow what is announced.

Two implementations pass the same contract suite: ``tape_memory`` (tests, simulation) and ``tape_nats`` (a client of
the ledger service); ``tape_file`` has the reading half. This module only names the protocol; the rules of admission are
in ``sequencer``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from tapeline_common.values import AppendRefusal
from tapeline_common.wire import Answer, Fact


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reply to an append: the positions of the answer's facts, or why nothing was recorded."""

    positions: tuple[int, ...] = ()
    refusal: AppendRefusal | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        return self.refusal is None


class ReadRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks for facts with ``pos > after``, in position order.

    Attributes:
        types: event names wanted; empty means all.
        author: only this author's facts; empty means everybody's.
        stream: only facts about this; empty means about anything.
        until: last position wanted; 0 means the head.
        chained: give the hash of the chain as well; only where every fact is wanted, since nobody can verify a part.
    """

    after: int
    limit: int = 1000
    types: tuple[str, ...] = ()
    author: str = ""
    until: int = 0
    stream: str = ""
    chained: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Facts of one read.

    Attributes:
        facts: encoded facts that matched, in position order.
        through: every position up to here has been looked at; read on with ``after=through``.
        head: position of the tape's last fact when the page was read.
        hash: of the chain after the fact at ``through``, as the log has it; empty unless it was asked for.
    """

    facts: tuple[bytes, ...]
    through: int
    head: int
    hash: bytes = b""


class TapeUnavailable(Exception):
    """The ledger did not answer in time: the outcome is unknown, and asking again with the same ids is safe."""


class TapeReader(Protocol):
    """A tape that can be read."""

    async def read(self, request: ReadRequest) -> Page: ...


class Tape(TapeReader, Protocol):
    """Record and read. Raises ``TapeUnavailable`` where the answer may or may not have been recorded."""

    async def append(self, author: str, answer: Answer) -> Receipt: ...


async def read_all(tape: TapeReader, *, types: Sequence[str] = (), author: str = "", after: int = 0) -> list[bytes]:
    """Every matching fact from ``after`` to the head, page after page; ``tape_pages`` is the fast way."""
    facts: list[bytes] = []
    while True:
        page = await tape.read(ReadRequest(after=after, limit=5000, types=tuple(types), author=author))
        facts.extend(page.facts)
        after = page.through
        if after >= page.head:
            return facts


def matches(fact: Fact, request: ReadRequest) -> bool:
    """Whether a fact is asked for; the plain meaning of a read that every store must agree with."""
    return (
        fact.pos > request.after
        and (not request.until or fact.pos <= request.until)
        and (not request.types or type(fact.event).__name__ in request.types)
        and (not request.author or fact.author == request.author)
        and (not request.stream or fact.stream == request.stream)
    )
