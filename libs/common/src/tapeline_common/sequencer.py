"""The rules of the tape: who may say what, which position, stamp, version and hash a fact gets.

Pure: the ledger (Postgres and NATS), the tape in memory and the loop gear all put their facts through this one class,
which is why they agree. It neither stores nor publishes; whoever calls it must do so before telling anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tapeline_common import subjects
from tapeline_common.events import AUTHOR_OF, SAYS, STREAMS, Event
from tapeline_common.remembered import Remembered
from tapeline_common.values import AppendRefusal, Realm
from tapeline_common.wire import GENESIS, Answer, Draft, Fact, chain, encode

MAX_ID_LENGTH = 200
"""Natural keys are built from names and times; anything longer is a mistake or an attack."""


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """A fact as it enters the log: the envelope, the stored bytes and the head hash after it."""

    fact: Fact
    payload: bytes
    hash: bytes


class Admitted(msgspec.Struct, frozen=True, gc=False):
    """``positions`` of all facts of the answer, in its order; ``new`` holds only those not on the tape before."""

    positions: tuple[int, ...]
    new: tuple[Recorded, ...]


class Refused(msgspec.Struct, frozen=True, gc=False):
    reason: AppendRefusal
    detail: str


class Needs(msgspec.Struct, frozen=True, gc=False):
    """What must be looked up in the log before an answer can be judged."""

    ids: tuple[str, ...] = ()
    cause: int | None = None


@dataclass(slots=True)
class Sequencer:
    """Head of a tape.

    Attributes:
        streams: stream → version of its latest fact.
        answered: the latest cause each author has answered with facts.
        link: (head hash, payload) → next head hash. Whoever chains payloads in bulk collects them here instead, and
            then ``hash`` means nothing until it is set from there.
    """

    realm: Realm
    pos: int = 0
    hash: bytes = GENESIS
    clock_ns: int = 0
    streams: Remembered = field(default_factory=Remembered)
    answered: dict[str, int] = field(default_factory=dict)
    link: Callable[[bytes, bytes], bytes] = chain

    @property
    def versions(self) -> dict[str, int]:
        """Versions of the newest streams: the dictionary itself, for whoever counts on in bulk."""
        return self.streams.recent

    def version(self, stream: str) -> int:
        """Of the latest fact of a stream; 0 for one without facts."""
        return self.streams.recent.get(stream) or self.streams.packed(stream) or 0

    def settle(self) -> None:
        """Keep streams that have not been new for long in little memory: nearly all are those of ended orders."""
        if len(self.streams.recent) >= 2 * self.streams.kept:
            self.streams.pack()

    def needs(self, author: str, answer: Answer) -> Needs:
        """Ids whose presence on the tape is not known for certain, and the cause whose stamp is inherited.

        One id more than the answer has facts: a shorter answer than the recorded one is no repetition of it.
        """
        if answer.cause == 0:
            return Needs(ids=tuple([draft.id for draft in answer.facts]))
        if answer.cause > self.answered.get(author, 0):
            return Needs(cause=answer.cause)
        return Needs(ids=consequence_ids(author, answer.cause, len(answer.facts) + 1), cause=answer.cause)

    def admit(
        self, author: str, answer: Answer, *, now_ns: int, known: Mapping[str, Fact], cause: Fact | None
    ) -> Admitted | Refused:
        """Judge an answer and, if it stands, give its facts their places.

        Args:
            now_ns: wall clock, used as the stamp of outside facts in the live realm.
            known: facts already on the tape among ``needs(...).ids``.
            cause: the fact answered, if it is on the tape.
        """
        refused = self._judge(author, answer, cause)
        if refused is not None:
            return refused
        if answer.cause == 0:
            return self._admit_outside(author, answer, now_ns, known)
        assert cause is not None  # judged above
        return self._admit_consequences(author, answer, known, cause)

    def record(self, author: str, event: Event, identity: str, cause: int, correlation: int, time_ns: int) -> Recorded:
        """Give one fact the next place. ``correlation`` 0 means: it is its own root."""
        pos = self.pos + 1
        kind = type(event)
        stream = STREAMS[kind](event)
        version = self.version(stream) + 1
        fact = Fact(pos, time_ns, identity, author, stream, version, cause, correlation or pos, kind.schema, event)
        payload = encode(fact)
        self.pos = pos
        self.hash = self.link(self.hash, payload)
        self.versions[stream] = version
        if time_ns > self.clock_ns:
            self.clock_ns = time_ns
        if cause and cause > self.answered.get(author, 0):
            self.answered[author] = cause
        return Recorded(fact, payload, self.hash)

    def record_answer(self, author: str, events: Iterable[Event], cause: Fact) -> list[Recorded]:
        """Give the facts of one answer the next places: ``record`` for each, with what they share looked up once."""
        cause_pos, correlation, time_ns = cause.pos, cause.correlation, cause.time_ns
        versions, link, prefix = self.versions, self.link, f"{author}:{cause_pos}:"
        answer: list[Recorded] = []
        for index, event in enumerate(events):
            pos = self.pos + 1
            kind = type(event)
            stream = STREAMS[kind](event)
            version = (versions.get(stream) or self.version(stream)) + 1
            identity = f"{prefix}{index}"
            fact = Fact(pos, time_ns, identity, author, stream, version, cause_pos, correlation, kind.schema, event)
            payload = encode(fact)
            self.pos = pos
            self.hash = head = link(self.hash, payload)
            versions[stream] = version
            answer.append(Recorded(fact, payload, head))
        if answer:
            self.clock_ns = max(self.clock_ns, time_ns)
            self.answered[author] = max(cause_pos, self.answered.get(author, 0))
        return answer

    def record_outside(self, author: str, drafts: Iterable[Draft], time_ns: int) -> list[Recorded]:
        """Give several outside facts the next places: ``record`` for each, with what they share looked up once."""
        versions, link, pos, head = self.versions, self.link, self.pos, self.hash
        new: list[Recorded] = []
        for draft in drafts:
            event = draft.event
            pos += 1
            kind = type(event)
            stream = STREAMS[kind](event)
            version = (versions.get(stream) or self.version(stream)) + 1
            fact = Fact(pos, time_ns, draft.id, author, stream, version, 0, pos, kind.schema, event)
            payload = encode(fact)
            head = link(head, payload)
            versions[stream] = version
            new.append(Recorded(fact, payload, head))
        self.pos, self.hash = pos, head
        self.clock_ns = max(self.clock_ns, time_ns)
        return new

    def pass_over(self, streams: Mapping[str, int], time_ns: int) -> None:
        """Give the next places to outside facts rendered elsewhere: how many of each stream, and their last stamp."""
        for stream, count in streams.items():
            self.pos += count
            self.versions[stream] = self.version(stream) + count
        self.clock_ns = max(self.clock_ns, time_ns)

    def run_ahead(self, pos: int, versions: Mapping[str, int], time_ns: int) -> None:
        """Take over the head after facts recorded elsewhere: its position, the streams they moved, their last stamp."""
        self.pos = pos
        self.versions.update(versions)
        self.clock_ns = max(self.clock_ns, time_ns)

    def resume(self, facts: Iterable[tuple[Fact, bytes]]) -> None:
        """Take over the head of a tape from its facts and stored bytes, in order."""
        for fact, payload in facts:
            self.pos = fact.pos
            self.hash = chain(self.hash, payload)
            self.versions[fact.stream] = fact.version
            self.clock_ns = max(self.clock_ns, fact.time_ns)
            if fact.cause:
                self.answered[fact.author] = max(fact.cause, self.answered.get(fact.author, 0))

    def _judge(self, author: str, answer: Answer, cause: Fact | None) -> Refused | None:
        if author not in SAYS:
            return Refused(AppendRefusal.AUTHOR_UNKNOWN, f"author {author!r} is none of {', '.join(SAYS)}")
        versions = self.versions
        for draft in answer.facts:
            event = draft.event
            kind = type(event)
            if AUTHOR_OF[kind] != author:
                return Refused(
                    AppendRefusal.NOT_YOUR_EVENT,
                    f"{kind.__name__} is said by {AUTHOR_OF[kind]!r} only, not by {author!r}",
                )
            stream = STREAMS[kind](event)
            if stream not in versions and not subjects.is_token(stream):  # one that has facts was looked at before
                return Refused(
                    AppendRefusal.STREAM_INVALID,
                    f"{kind.__name__} is about {stream!r}; a stream is letters, digits, - and _",
                )
        for stream, version in answer.expected.items():
            if self.version(stream) != version:
                return Refused(
                    AppendRefusal.VERSION_CONFLICT,
                    f"stream {stream!r} has version {self.version(stream)}, expected {version}",
                )
        if answer.cause == 0:
            return None
        if cause is None or answer.cause > self.pos:
            return Refused(AppendRefusal.CAUSE_UNKNOWN, f"position {answer.cause} is not on the tape (head {self.pos})")
        if answer.time_ns is not None:
            return Refused(AppendRefusal.TIME_NOT_ALLOWED, "a consequence inherits the stamp of its cause")
        return None

    def _admit_outside(self, author: str, answer: Answer, now_ns: int, known: Mapping[str, Fact]) -> Admitted | Refused:
        if self.realm is Realm.LIVE and answer.time_ns is not None:
            return Refused(AppendRefusal.TIME_NOT_ALLOWED, "the live realm stamps outside facts; leave time_ns out")
        if self.realm is Realm.REPLAY and answer.time_ns is None:
            return Refused(AppendRefusal.TIME_NOT_ALLOWED, "the replay realm needs the replay clock's time_ns")
        time_ns = now_ns if answer.time_ns is None else answer.time_ns
        if self.realm is Realm.REPLAY and time_ns < self.clock_ns:
            return Refused(
                AppendRefusal.TIME_NOT_ALLOWED, f"time_ns {time_ns} lies before the tape's clock {self.clock_ns}"
            )
        if not known and _are_distinct(answer.facts):
            new = self.record_outside(author, answer.facts, max(time_ns, self.clock_ns))
            return Admitted(tuple(range(new[0].fact.pos, self.pos + 1)), tuple(new))
        return self._admit_repeated(author, answer, time_ns, known)

    def _admit_repeated(
        self, author: str, answer: Answer, time_ns: int, known: Mapping[str, Fact]
    ) -> Admitted | Refused:
        """Outside facts some of which may be on the tape already, or twice in the answer: one by one."""
        seen: dict[str, Event] = {}
        for draft in answer.facts:
            if not draft.id or len(draft.id) > MAX_ID_LENGTH:
                return Refused(
                    AppendRefusal.ID_MISSING,
                    f"an outside {type(draft.event).__name__} needs an id of 1 to {MAX_ID_LENGTH} characters",
                )
            recorded = known.get(draft.id)
            previous = seen.get(draft.id) if recorded is None else recorded.event
            if previous is not None and previous != draft.event:
                return _conflict(draft.id)
            seen[draft.id] = draft.event
        time_ns = max(time_ns, self.clock_ns)
        placed = {identity: fact.pos for identity, fact in known.items()}
        new = []
        for draft in answer.facts:
            if draft.id not in placed:
                recorded_now = self.record(author, draft.event, draft.id, 0, 0, time_ns)
                placed[draft.id] = recorded_now.fact.pos
                new.append(recorded_now)
        return Admitted(tuple([placed[draft.id] for draft in answer.facts]), tuple(new))

    def _admit_consequences(
        self, author: str, answer: Answer, known: Mapping[str, Fact], cause: Fact
    ) -> Admitted | Refused:
        if any(draft.id for draft in answer.facts):
            return Refused(AppendRefusal.ID_CONFLICT, "the ids of consequences are derived; leave id out")
        *ids, beyond = consequence_ids(author, answer.cause, len(answer.facts) + 1)
        if known:
            is_same = all(i in known and known[i].event == d.event for i, d in zip(ids, answer.facts, strict=True))
            if is_same and beyond not in known:
                return Admitted(tuple([known[i].pos for i in ids]), ())
            return _conflict(next(iter(known)))
        answered = self.answered.get(author, 0)
        if answer.after is not None and (answer.after != answered or answer.cause <= answered):
            return Refused(
                AppendRefusal.OUT_OF_ORDER,
                f"{author} answers {answer.cause} after {answer.after}, but the tape has its answer to {answered}",
            )
        new = tuple(self.record_answer(author, [draft.event for draft in answer.facts], cause))
        return Admitted(tuple([recorded.fact.pos for recorded in new]), new)


def consequence_ids(author: str, cause: int, count: int) -> tuple[str, ...]:
    # Of a list, here and above: Python cuts a tuple made of a generator to its length, and then keeps 2,000 of each.
    return tuple([f"{author}:{cause}:{index}" for index in range(count)])


def _are_distinct(drafts: Sequence[Draft]) -> bool:
    """Whether every fact has an id of the right length and no two have the same."""
    lengths = [len(draft.id) for draft in drafts]
    if not lengths or min(lengths) == 0 or max(lengths) > MAX_ID_LENGTH:
        return False
    return len(drafts) == 1 or len({draft.id for draft in drafts}) == len(drafts)


def _conflict(identity: str) -> Refused:
    return Refused(AppendRefusal.ID_CONFLICT, f"id {identity!r} is on the tape with other content")
