"""Specifications of cores for tests: given these facts, when this one is heard, then exactly those follow.

Shipped to users because their strategies and services are tested the same way. The simulator of a whole world of
services is ``simulation``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import msgspec
import numpy as np

from tapeline_common.core import Core, Stamp, learn, learn_all
from tapeline_common.events import AUTHOR_OF, Event
from tapeline_common.remembered import Remembered

S = TypeVar("S")

SECOND_NS = 1_000_000_000


class StateWritten(AssertionError):
    """A decider changed the state it was only allowed to read."""


@dataclass(frozen=True, slots=True)
class at:  # noqa: N801  (reads as a word in a history: given(CORE, at(5), fact))
    """Moves the clock of a history to so many seconds."""

    seconds: float

    @property
    def time_ns(self) -> int:
        return round(self.seconds * SECOND_NS)


def fingerprint(state: Any) -> str:
    """Text that differs whenever two states differ, the order of their dicts included (it decides iteration)."""
    return repr(msgspec.to_builtins(state, str_keys=False, enc_hook=_plain, builtin_types=()))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, value.tobytes().hex()]
    if isinstance(value, Remembered):
        return list(value.content().items())
    if isinstance(value, deque):
        return [value.maxlen, list(value)]
    if hasattr(value, "__dict__"):
        return {type(value).__name__: vars(value)}
    raise TypeError(f"a core's state holds a {type(value).__name__}, which cannot be compared; use plain data")


@dataclass(frozen=True, slots=True)
class History(Generic[S]):
    """A core that has heard some facts."""

    core: Core[S]
    state: S
    pos: int
    time_ns: int

    def when(self, event: Event, *, seconds: float | None = None) -> Outcome[S]:
        """Let the core hear one more fact. A fact of its own author is asked for confirmation instead."""
        time_ns = self.time_ns if seconds is None else max(self.time_ns, at(seconds).time_ns)
        stamp = Stamp(self.pos + 1, time_ns)
        own = AUTHOR_OF[type(event)] == self.core.name and type(event) in self.core.confirms
        if not own:
            learn(self.core, self.state, event, stamp)
        decide = (self.core.confirms if own else self.core.decides).get(type(event))
        before = fingerprint(self.state)
        decisions = tuple(decide(self.state, event, stamp)) if decide is not None else ()
        if fingerprint(self.state) != before:
            raise StateWritten(f"{self.core.name} wrote its state while deciding on {type(event).__name__}")
        learn_all(self.core, self.state, decisions, stamp)
        return Outcome(replace(self, pos=stamp.pos, time_ns=time_ns), decisions)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[S]):
    """What followed from a fact."""

    history: History[S]
    decisions: tuple[Event, ...]

    def then(self, *expected: Event) -> History[S]:
        """Exactly these facts, in this order; the history goes on from here."""
        assert self.decisions == expected, f"expected {expected}\n but was {self.decisions}"
        return self.history

    def then_nothing(self) -> History[S]:
        return self.then()


def given(core: Core[S], *history: Event | at) -> History[S]:
    """A core that has learnt these facts, one position each, its own included. Nothing is decided on the way."""
    state = core.initial()
    pos, time_ns = 0, 0
    for item in history:
        if isinstance(item, at):
            time_ns = max(time_ns, item.time_ns)
            continue
        pos += 1
        learn(core, state, item, Stamp(pos, time_ns))
    return History(core, state, pos, time_ns)
