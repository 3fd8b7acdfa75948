"""Re-deciding: run a recorded tape through today's cores and compare every answer, byte for byte.

Restore learns what was decided; this decides it again, on purpose. For the same code and models there is no difference;
a difference names the first position where today's code would have done something else. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tapeline_common.core import Core
from tapeline_common.events import CodeDeployed, Event, RunStarted
from tapeline_common.follower import Follower, answers_of
from tapeline_common.wire import Fact, encode
from tapeline_common.wiring import Worker


class Difference(msgspec.Struct, frozen=True):
    """The first answer that differs."""

    pos: int
    event: str
    recorded: tuple[Event, ...]
    decided: tuple[Event, ...]


class Recheck(msgspec.Struct, frozen=True):
    """One author's result: facts heard, non-empty answers that agree, and the first that does not."""

    author: str
    heard: int
    agreed: int
    difference: Difference | None


def recheck(core: Core[Any], workers: Sequence[Worker], facts: Sequence[Fact]) -> list[Recheck]:
    """Decide a whole tape again: the core's result, then those of its workers.

    Facts after an author's last recorded answer are not judged: on a living tape their answers may still be on the way.
    """
    jobs = {worker.asked_by: worker for worker in workers if worker.core == core.name}
    authors = [core.name, *(worker.author for worker in jobs.values())]
    recorded = {author: answers_of(author, facts) for author in authors}
    agreed = dict.fromkeys(authors, 0)
    first: dict[str, Difference] = {}
    follower = Follower(core)
    heard = 0
    for fact in facts:
        decided = {core.name: follower.hear(fact)}
        heard += type(fact.event) in core.hears
        worker = jobs.get(type(fact.event))
        if worker is not None and fact.pos in recorded[worker.author]:
            decided[worker.author] = worker.run(worker.prepare(follower.state, fact.event))
        for author, events in decided.items():
            answer = recorded[author].get(fact.pos, ())
            if author in first or fact.pos > max(recorded[author], default=0):
                continue
            if [*map(encode, events)] != [*map(encode, answer)]:
                first[author] = Difference(fact.pos, type(fact.event).__name__, tuple(answer), tuple(events))
            elif answer:
                agreed[author] += 1
    return [Recheck(author, heard, agreed[author], first.get(author)) for author in authors]


def code_versions(facts: Sequence[Fact]) -> list[tuple[int, str]]:
    """Which code wrote the tape, and from which position on."""
    found = []
    for fact in facts:
        if isinstance(fact.event, RunStarted | CodeDeployed):
            found.append((fact.pos, fact.event.code_version))
    return found
