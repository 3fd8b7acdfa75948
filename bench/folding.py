"""What the tape itself makes a service keep: the size of each core's state after so many facts.

A core remembers some things for good (ids of decided orders, counted fills), because a repetition may come however
late. That is growth, and no leak: it is a function of the facts. So it is measured as one: the recorded tape is folded
anew, under ``tracemalloc``, and the bytes that the state holds are read at chosen positions. What the ledger's process
keeps beside its core (stream versions, its latest facts) is folded the same way, without the few hundred order rows
that it has at hand. Rounding by the allocator is not in these figures, so they are a little low.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from tapeline_common.core import Core
from tapeline_common.follower import Follower
from tapeline_common.permissions import LEDGER
from tapeline_common.remembered import Remembered
from tapeline_common.wire import Fact, Heard, decode_facts, heard_decoder
from tapeline_common.wiring import Service
from tapeline_ledger import recorder, store

PAGE = 5_000

Hear = Callable[[Any, bytes], None]
Decode = Callable[[list[bytes]], list[Any]]


@dataclass
class LedgerKeeps:
    """What the ledger's process holds beside its books: the same collections, filled by the same rules."""

    versions: Remembered = field(default_factory=Remembered)
    watched: Remembered = field(default_factory=Remembered)
    latest: deque[tuple[Fact, bytes]] = field(default_factory=lambda: deque(maxlen=store.KEPT_FACTS))
    recent: deque[Fact] = field(default_factory=lambda: deque(maxlen=recorder.KEPT_FACTS))

    def hear(self, fact: Fact, payload: bytes) -> None:
        self.versions[fact.stream] = fact.version
        self.watched[fact.stream] = fact.version
        self.latest.append((fact, payload))
        self.recent.append(fact)


def _core_hears(core: Core[Any]) -> Hear:
    follower: Follower[Any] = Follower(core)

    def hear(fact: Fact | Heard, _payload: bytes) -> None:
        follower.hear(fact)

    return hear


def hearers(service: Service) -> tuple[list[Hear], Decode]:
    """Everything in a service's process that remembers facts, and how far it decodes them."""
    if service.name == LEDGER:
        return [*map(_core_hears, service.cores), LedgerKeeps().hear], decode_facts
    heard = {event.__name__ for core in service.cores for event in core.hears}
    return [_core_hears(core) for core in service.cores], heard_decoder(heard)


def held_mib(service: Service, payloads: Sequence[bytes], positions: Sequence[int]) -> list[float]:
    """MiB that the service's process keeps of the facts up to each of ``positions`` (ascending)."""
    gc.collect()
    tracemalloc.start()
    try:
        hears, decode = hearers(service)
        sizes = []
        before = 0
        for position in positions:
            for facts, kept in _pages(payloads[before:position], decode):
                for fact, payload in zip(facts, kept, strict=True):
                    for hear in hears:
                        hear(fact, payload)
                del facts, kept
            before = position
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0] / 2**20)
        return sizes
    finally:
        tracemalloc.stop()


def _pages(payloads: Sequence[bytes], decode: Decode) -> Iterator[tuple[list[Any], list[bytes]]]:
    for start in range(0, len(payloads), PAGE):
        # Copies: a live process has received these bytes itself and holds them itself.
        page = [bytes(bytearray(payload)) for payload in payloads[start : start + PAGE]]
        yield decode(page), page


async def read_tape(dsn: str) -> list[bytes]:
    """Stored bytes of the whole tape."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch("SELECT payload FROM tape ORDER BY pos")
        return [row["payload"] for row in rows]
    finally:
        await connection.close()
