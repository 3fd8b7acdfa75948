"""Restore: from the tape to a live state.

Recorded beats recomputed: up to the last position a core answered, its recorded decisions are learnt as they stand
(silence there meant "nothing to say"). Everything after that position is still unanswered and is heard anew, which
gives the decisions the crash prevented. No snapshot is the truth; this fold is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from tapeline_common.core import Core
from tapeline_common.events import Event
from tapeline_common.follower import Follower, answers_of
from tapeline_common.wire import Fact

S = TypeVar("S")


def restore(core: Core[S], facts: Sequence[Fact]) -> tuple[Follower[S], list[tuple[int, Sequence[Event]]]]:
    """Fold a whole tape held in memory.

    Returns:
        The follower at the head, and the answers it owes: (position answered, decisions), in order.
    """
    follower = Follower(core)
    answers = answers_of(core.name, facts)
    owed = list(continue_from(follower, answers, facts))
    return follower, owed


def continue_from(
    follower: Follower[S], answers: Mapping[int, Sequence[Event]], facts: Iterable[Fact]
) -> Iterator[tuple[int, Sequence[Event]]]:
    """Hand facts to a follower in position order; yield each answer that is owed, as it is decided.

    Args:
        answers: every recorded answer of this core, by the position answered.
        facts: in position order, starting after ``follower.heard``; types the core does not hear may be left out.
    """
    last_answered = max(answers, default=0)
    for fact in facts:
        if fact.pos <= last_answered:
            follower.recall(fact, answers.get(fact.pos, ()))
        else:
            decisions = follower.hear(fact)
            if decisions:
                yield fact.pos, decisions
