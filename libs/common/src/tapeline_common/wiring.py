"""What a service is made of, as data: its cores, its workers and its adapters.

A gear reads this to run the service; ``describe`` reads it to draw it. Nothing here connects or starts anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from tapeline_common.core import Core
from tapeline_common.events import SAYS, Event
from tapeline_common.measures import NOTHING, Measures
from tapeline_common.wire import Fact, Heard


class Door(Protocol):
    """What an adapter may do: look at its core's state, and ask for outside facts to be recorded."""

    @property
    def state(self) -> Any:
        """The state of the core the adapter belongs to. Read only."""

    async def say(self, facts: Sequence[tuple[str, Event]]) -> None:
        """Have outside facts recorded, each with its natural key. Returns once they are on the tape."""


class Adapter(Protocol):
    """Something of the outside world: a feed, a venue. Runs until cancelled; an exception stops the service."""

    async def run(self, door: Door) -> None: ...


class Listener(Protocol):
    """Hears facts and says none: what a service without a core is made of."""

    @property
    def hears(self) -> tuple[type[Event], ...]:
        """The types it is given."""

    def hear(self, fact: Fact | Heard) -> None:
        """Take the next fact, in position order, from the first of the tape on. An exception stops the service."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Slow work (model fitting) asked for by a fact; what it finds comes back as facts of its own author.

    ``prepare`` runs at the asking fact's position and takes what is needed out of the core's state; ``run`` gets only
    that, so it may happen in another process and must be deterministic. ``timed_as`` names the histogram of the
    service's measures that its runs are timed by; empty: they are not.
    """

    author: str
    asked_by: type[Event]
    core: str
    prepare: Callable[[Any, Any], Any]
    run: Callable[[Any], Sequence[Event]]
    timed_as: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the live topology.

    Attributes:
        name: folder, package suffix, compose service, metric label: the same one word.
        adapters: makes (core name, adapter) pairs from the settings; called once, when the service starts.
        process: runs the service instead of the ordinary follower; the ledger's, which is the sequencer.
        measures: what is exposed about this service beside what all services expose. An adapter that is
            ``measures.Told`` tells its own numbers.
    """

    name: str
    cores: tuple[Core[Any], ...]
    workers: tuple[Worker, ...] = ()
    adapters: Callable[[Any], Sequence[tuple[str, Adapter]]] | None = None
    adapter_authors: tuple[str, ...] = ()
    process: Callable[[Any], Awaitable[None]] | None = None
    measures: Measures = NOTHING

    @property
    def authors(self) -> tuple[str, ...]:
        """Everybody this service speaks for, in the order of ``events.SAYS``."""
        speaking = {core.name for core in self.cores} | {worker.author for worker in self.workers}
        speaking.update(self.adapter_authors)
        return tuple(author for author in SAYS if author in speaking)

    def core(self, name: str) -> Core[Any]:
        return next(core for core in self.cores if core.name == name)


def in_author_order(cores: Sequence[Core[Any]]) -> tuple[Core[Any], ...]:
    """The fixed order in which answers to one fact are recorded in the replay realm."""
    order = list(SAYS)
    return tuple(sorted(cores, key=lambda core: order.index(core.name)))


def installed_services() -> dict[str, Service]:
    """The services installed in this environment (entry point group ``tapeline.services``), by name."""
    found = sorted(entry_points(group="tapeline.services"), key=lambda entry: entry.name)
    return {entry.name: entry.load() for entry in found}


def checked(settings: Any) -> Any:
    """Settings after every installed check (entry point group ``tapeline.checks``): complete, or refused.

    Raises ``settings.ConfigurationInvalid``.
    """
    for entry in sorted(entry_points(group="tapeline.checks"), key=lambda entry: entry.name):
        settings = entry.load()(settings)
    return settings
