"""What must be true of a tape and of the services that wrote it, whatever happened to them.

Each check returns what is wrong, or None. They are plain functions over facts so that they can be run on a tape of any
origin, and each can be shown to fail on a spoilt one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from tapeline_common.core import Core
from tapeline_common.events import AUTHOR_OF, Event, stream_of
from tapeline_common.follower import Follower, answers_of
from tapeline_common.restore import restore
from tapeline_common.sequencer import consequence_ids
from tapeline_common.testing import fingerprint
from tapeline_common.wire import Fact, chain_naive, decode_fact, encode
from tapeline_common.wiring import Worker

Probe: TypeAlias = tuple[str, int, str]
"""Core, position it had heard, fingerprint of its state there; taken while the service ran."""


def chain_wrong(payloads: Sequence[bytes], head_hash: bytes) -> str | None:
    """The head hash is that of the stored bytes, computed the plain way."""
    naive = chain_naive(list(payloads))
    return None if naive == head_hash else f"head hash is {head_hash.hex()}, the stored bytes give {naive.hex()}"


def order_wrong(facts: Sequence[Fact]) -> str | None:
    """Positions and versions are gapless, ids unique, authors entitled, causes earlier, stamps and roots inherited."""
    versions: dict[str, int] = {}
    ids: set[str] = set()
    clock_ns = 0
    for index, fact in enumerate(facts):
        where = f"position {fact.pos} ({fact.id})"
        if fact.pos != index + 1:
            return f"{where} stands at place {index + 1}"
        if fact.id in ids:
            return f"{where} repeats an id"
        if fact.author != AUTHOR_OF[type(fact.event)]:
            return f"{where} is said by {fact.author}, who may not"
        if fact.stream != stream_of(fact.event) or fact.version != versions.get(fact.stream, 0) + 1:
            return f"{where} is version {fact.version} of {fact.stream!r} after {versions.get(fact.stream, 0)}"
        if fact.cause >= fact.pos:
            return f"{where} answers {fact.cause}, which is not before it"
        root = facts[fact.cause - 1] if fact.cause else None
        if (fact.correlation, fact.time_ns) != ((root.correlation, root.time_ns) if root else (fact.pos, fact.time_ns)):
            return f"{where} does not inherit the root and stamp of its cause {fact.cause}"
        if root is None and fact.time_ns < clock_ns:
            return f"{where} is stamped {fact.time_ns}, before the tape's clock {clock_ns}"
        ids.add(fact.id)
        versions[fact.stream] = fact.version
        clock_ns = max(clock_ns, fact.time_ns)
    return None


def answers_wrong(facts: Sequence[Fact]) -> str | None:
    """Each author answers a cause at most once, and the facts of that answer lie together."""
    answers: dict[tuple[str, int], list[Fact]] = {}
    for fact in facts:
        if fact.cause:
            answers.setdefault((fact.author, fact.cause), []).append(fact)
    for (author, cause), answer in answers.items():
        first = answer[0].pos
        places = [(fact.id, fact.pos) for fact in answer]
        whole = [
            (identity, first + index) for index, identity in enumerate(consequence_ids(author, cause, len(answer)))
        ]
        if places != whole:
            return f"{author} answered {cause} more than once, or in parts: {places}"
    return None


def decisions_wrong(
    core: Core[Any],
    payloads: Sequence[bytes],
    workers: Sequence[Worker] = (),
    probes: Iterable[Probe] = (),
) -> str | None:
    """A clean replay decides what was recorded, byte for byte, and passes through the states that were seen live."""
    facts = [decode_fact(payload) for payload in payloads]
    recorded = answers_of(core.name, facts)
    asked = {worker.asked_by: worker for worker in workers if worker.core == core.name}
    given = {worker.author: answers_of(worker.author, facts) for worker in asked.values()}
    seen: dict[int, list[str]] = {}
    for name, pos, state in probes:
        if name == core.name:
            seen.setdefault(pos, []).append(state)
    follower = Follower(core)
    for fact in facts:
        wrong = _differ(core.name, fact, follower.hear(fact), recorded.get(fact.pos, ()))
        worker = asked.get(type(fact.event))
        if wrong is None and worker is not None:
            found = worker.run(worker.prepare(follower.state, fact.event))
            wrong = _differ(worker.author, fact, found, given[worker.author].get(fact.pos, ()))
        if wrong is None and fact.pos in seen:
            wrong = states_wrong(core.name, fact.pos, fingerprint(follower.state), seen[fact.pos])
        if wrong is not None:
            return wrong
    return None


def restored_wrong(core: Core[Any], payloads: Sequence[bytes], prefixes: Iterable[int]) -> str | None:
    """Restored anywhere, a core owes exactly what was recorded later, and goes on to the state of a clean replay."""
    facts = [decode_fact(payload) for payload in payloads]
    recorded = answers_of(core.name, facts)
    for cut in prefixes:
        length = _end_of_answer(facts, cut)
        clean = Follower(core)
        for fact in facts[:length]:
            clean.hear(fact)
        follower, owed = restore(core, facts[:length])
        known = answers_of(core.name, facts[:length])
        expected = [(cause, answer) for cause, answer in recorded.items() if cause <= length and cause not in known]
        if [(cause, [*map(encode, answer)]) for cause, answer in owed] != [
            (cause, [*map(encode, answer)]) for cause, answer in expected
        ]:
            return f"{core.name} restored at {length} owes {owed}, but the tape goes on with {expected}"
        wrong = states_wrong(core.name, length, fingerprint(clean.state), [fingerprint(follower.state)])
        if wrong is not None:
            return f"restored: {wrong}"
    return None


def states_wrong(core: str, pos: int, expected: str, seen: Iterable[str]) -> str | None:
    for state in seen:
        if state != expected:
            same = next((i for i, (a, b) in enumerate(zip(state, expected, strict=False)) if a != b), len(expected))
            shown = slice(max(0, same - 200), same + 200)
            return f"{core}'s state at {pos} was\n  ..{state[shown]}..\na clean replay gives\n  ..{expected[shown]}.."
    return None


def _end_of_answer(facts: Sequence[Fact], length: int) -> int:
    """An answer is complete or absent: no tape ends in the middle of one."""
    while 0 < length < len(facts) and facts[length].cause and _answer(facts[length]) == _answer(facts[length - 1]):
        length += 1
    return length


def _answer(fact: Fact) -> tuple[str, int]:
    return fact.author, fact.cause


def _differ(author: str, fact: Fact, decided: Sequence[Event], recorded: Sequence[Event]) -> str | None:
    if [*map(encode, decided)] == [*map(encode, recorded)]:
        return None
    return (
        f"{author} answered {fact.pos} ({type(fact.event).__name__}) with\n  {list(recorded)}\n"
        f"a clean replay decides\n  {list(decided)}"
    )


def first_wrong(findings: Mapping[str, str | None]) -> str | None:
    """The first finding that is one, with the name of its check."""
    return next((f"{name}: {wrong}" for name, wrong in findings.items() if wrong is not None), None)
