"""A service's core: what it knows, what it concludes, how it learns.

A core is a deterministic function of the tape. It is synchronous and does no I/O; it reads no clock, draws no random
number and logs nothing. Time is the stamp of the fact at hand, chance is ``chance.draw``, ids are derived. Carrying
facts to a core, and its decisions to the ledger, is the business of the gears (``loop``, ``service``), not of this
module.

The laws every gear keeps:

* A core hears facts in position order.
* ``step`` = learn the fact, decide, learn our own decisions at once (not where they later lie on the tape).
* When a core's own decision is reached on the tape, the core is asked once more (``confirms``): this is the last
  moment to withhold an effect, after everything recorded before it has been heard.
* A core's clock is the running maximum of the stamps it heard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from tapeline_common import money  # noqa: F401  (sets the exact decimal context for every core)
from tapeline_common.events import SAYS, Event

if TYPE_CHECKING:
    from tapeline_common.bar_block import Passing

S = TypeVar("S")

Decide = Callable[[S, Any, "Stamp"], Sequence[Event]]
"""Reads the state and returns facts. Never writes."""

Evolve = Callable[[S, Any, "Stamp"], None]
"""Writes the state and returns nothing."""


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """Where and when a fact is handled.

    Attributes:
        pos: position on the tape of the fact at hand; a core's own new decisions are learnt with their cause's stamp.
        time_ns: the core's clock in UTC nanoseconds: the latest stamp it has heard, including this one.
    """

    pos: int
    time_ns: int


NEVER, FOREVER = -1, 2**63 - 1
"""Ends of a promise: none is given; it holds whatever the time."""


@dataclass(frozen=True, slots=True)
class Quiet(Generic[S]):
    """A core's promise that it will not answer facts of one type for a while (lookahead, in the words of parallel
    simulation). A replay then need not ask it before going on. A promise never changes what is decided: the facts are
    still heard and decided on, and an answer against the promise stops the run.

    Attributes:
        until: the last stamp, in UTC nanoseconds, for which the promise holds in this state; ``NEVER`` and ``FOREVER``
            are its ends. Reads the state, never writes.
        ended_by: what ends the promise when it is heard: everything that could move ``until`` to an earlier stamp.
            The core's own decisions need not be named; a promise is given anew after each.
    """

    until: Callable[[S], int]
    ended_by: frozenset[type[Event]] = frozenset()


@dataclass(frozen=True, slots=True)
class Core(Generic[S]):
    """One author's tables: what it hears, what it may say, and the functions in between.

    Attributes:
        name: the author whose facts this core says; one of ``events.SAYS``.
        initial: makes the state of a core that has heard nothing.
        evolves: how each heard (or own) fact changes the state.
        decides: what is concluded from each heard fact.
        confirms: asked when one of our own recorded facts is reached on the tape.
        passing: how it passes over bars it is silent about; ``None``: it hears each of them.
        quiet: promises of silence, by the type that will not be answered; one that holds is enough.
        reads_position: False promises that the core never looks at ``Stamp.pos``; such a core may hear facts in a
            replay before their positions are known. It is held to that: there its stamps have none.
    """

    name: str
    initial: Callable[[], S]
    evolves: Mapping[type[Event], Evolve[S]]
    decides: Mapping[type[Event], Decide[S]]
    confirms: Mapping[type[Event], Decide[S]] = field(default_factory=dict)
    passing: Passing[S] | None = None
    quiet: Mapping[type[Event], tuple[Quiet[S], ...]] = field(default_factory=dict)
    reads_position: bool = True

    def __post_init__(self) -> None:
        if self.name not in SAYS:
            raise ValueError(f"core {self.name!r} is no author; events.SAYS names {', '.join(SAYS)}")
        own = set(self.says)
        foreign = [event.__name__ for event in self.confirms if event not in own]
        if foreign:
            raise ValueError(f"core {self.name!r} confirms facts of others: {', '.join(foreign)}")
        undecided = [event.__name__ for event in self.quiet if event not in self.decides]
        if undecided:
            raise ValueError(f"core {self.name!r} promises silence where it decides nothing: {', '.join(undecided)}")

    @property
    def says(self) -> tuple[type[Event], ...]:
        """The event types this core may record."""
        return SAYS[self.name]

    @property
    def hears(self) -> tuple[type[Event], ...]:
        """Every event type that reaches this core, its own included, in table order and without repeats."""
        return tuple(dict.fromkeys([*self.evolves, *self.decides, *self.confirms]))

    def may_answer(self, event: type[Event], *, caused: bool) -> bool:
        """Whether the tables have a row by which this core could answer a fact; our own decisions are only confirmed.

        Args:
            caused: the fact has a cause, so under our own name it is our own decision.
        """
        return event in (self.confirms if caused and event in self.says else self.decides)


def keep_clock(_state: object, _event: Event, _stamp: Stamp) -> None:
    """Learn nothing but the time: hearing a fact is what moves a core's clock."""


def learn(core: Core[S], state: S, event: Event, stamp: Stamp) -> None:
    """Let the state take in one fact; facts the core has no row for leave it as it is."""
    evolve = core.evolves.get(type(event))
    if evolve is not None:
        evolve(state, event, stamp)


def learn_all(core: Core[S], state: S, events: Iterable[Event], stamp: Stamp) -> None:
    evolves = core.evolves
    for event in events:  # ``learn``, in place: every decision of every core passes here
        evolve = evolves.get(type(event))
        if evolve is not None:
            evolve(state, event, stamp)


def step(core: Core[S], state: S, event: Event, stamp: Stamp) -> Sequence[Event]:
    """Handle one fact of somebody else (or an outside fact): learn it, decide, learn what was decided.

    Returns the decisions, in order; they are asked to be recorded as one answer.
    """
    learn(core, state, event, stamp)
    decide = core.decides.get(type(event))
    if decide is None:
        return ()
    decisions = decide(state, event, stamp)
    learn_all(core, state, decisions, stamp)
    return decisions


def confirm(core: Core[S], state: S, event: Event, stamp: Stamp) -> Sequence[Event]:
    """Reach our own recorded decision on the tape: it is known already, so only ask whether it still holds."""
    ask = core.confirms.get(type(event))
    if ask is None:
        return ()
    decisions = ask(state, event, stamp)
    learn_all(core, state, decisions, stamp)
    return decisions
