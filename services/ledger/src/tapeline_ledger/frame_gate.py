"""Which facts of a replay are certain, and whom to ask about many of them at once. Pure; the fast twin of ``LockStep``.

The tape is the same as in lock step: facts are handled strictly breadth first, the answers to a fact are recorded in
the fixed order of authors, and the next outside fact is taken when everything is handled. What differs is how an
author's answer becomes known. It is silent where its tables hold no answer; it may have promised silence
(``core.Quiet``); a service that nobody tells anything may have answered long before (``Forecast``); or it is asked.

A service is asked with a frame of facts, from the last one it heard. If it is the only one whose answer is missing, the
tape is continued as if it were silent, and it is sent all of that: it stops at its first answer, and what was recorded
behind that point is taken back. Nothing is ever shown to a service that could still be taken back, unless that service
alone can cause it; so no service has to forget anything, and every fact leaves here (``take_certain``) for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tapeline_common import subjects
from tapeline_common.core import FOREVER, NEVER
from tapeline_common.events import AUTHOR_OF, EVENT_BY_NAME, SAYS, Event, stream_of
from tapeline_common.frames import (
    ORDER,
    Forecast,
    Frame,
    FramePlan,
    Outside,
    Reply,
    Said,
    encode,
    encode_preview,
    may_answer,
)
from tapeline_common.sequencer import MAX_ID_LENGTH, Recorded, Refused, Sequencer
from tapeline_common.values import AppendRefusal, Realm
from tapeline_common.wire import Fact
from tapeline_ledger.frame_services import (
    LEAST,
    NOT_VOID,
    Contested,
    KnownService,
    Line,
    Promise,
    Request,
    Turns,
    cover,
    known_service,
    were_given,
)

MOST = 256
"""Outside facts that a frame may be ahead of what is certain."""

OVERDUE = 2_000
"""Facts that may wait for a service nobody has a question for; then it is sent them, so that memory stays bounded."""

PREVIEW = 500
"""Outside facts of a preview."""

PREVIEWS = 2
"""Previews on the way to one service: the credit of those that go ahead."""

KEPT = 1_024
"""Handled facts that are dropped from memory together."""

_NOT_YET = (("?",),)
"""Stands for a forecast that has not come."""


class ReplayBroken(Exception):
    """A service did what its tables or promises rule out: the tape cannot be trusted from this position on."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where the tape stood when an author's silence was assumed."""

    turn: int
    head: int
    hash: bytes
    taken: int
    cursors: dict[str, int]


class FrameGate:
    """The replay's sequencer. ``feed`` it outside facts, send what ``previews`` and ``requests`` give, ``take`` the
    replies, and commit what ``take_certain`` gives.

    Args:
        most: outside facts a frame may be ahead of what is certain; 1 is lock step in all but name.
    """

    def __init__(self, plan: FramePlan, *, most: int = MOST) -> None:
        self.sequencer = Sequencer(Realm.REPLAY)
        self._services = {each.name: known_service(each) for each in plan}
        self._promises = {
            (author.author, EVENT_BY_NAME[name]): tuple(
                Promise(service, author.author, frozenset(map(EVENT_BY_NAME.__getitem__, voided_by)))
                for voided_by in promises
            )
            for service in self._services.values()
            for author in service.plan.authors
            for name, promises in author.promises.items()
        }
        self._voids = {
            event: tuple(
                promise for promises in self._promises.values() for promise in promises if event in promise.voided_by
            )
            for event in AUTHOR_OF
        }
        self._turns = {
            (event, caused): self._turns_of(event, caused=caused) for event in AUTHOR_OF for caused in (False, True)
        }
        self._hearers = {
            event: tuple(s for s in self._services.values() if event in s.hears and not s.plan.goes_ahead)
            for event in AUTHOR_OF
        }
        self._ahead = tuple(service for service in self._services.values() if service.plan.goes_ahead)
        for service in self._services.values():
            service.contested = self._contested(service)
            service.size = min(LEAST, most)
        self._most = most
        self._facts: list[Recorded] = []
        self._dropped = 0
        self._next = 1
        self._turn = 0
        self._lines: list[Line] = []
        self._lines_dropped = 0
        self._taken = 0
        self._cursors = dict.fromkeys((service.name for service in self._ahead), 0)
        self._fed_ns = 0
        self._certain = 0
        self._given = 0
        self._assumed: KnownService | None = None
        self._quiet_lines = 0
        self._marks: dict[int, _Mark] = {}

    # ---- what the driver sees ----------------------------------------------------------------------------------

    def feed(self, author: str, event: Event, identity: str, time_ns: int) -> Refused | None:
        """Take an outside fact in, or say why not. What is taken is recorded in the order of feeding."""
        refused = self._refuse(author, event, identity, time_ns)
        if refused is None:
            self._fed_ns = time_ns
            outside = Outside(author, time_ns, event)
            self._lines.append(Line(outside, identity, encode(outside)))
        return refused

    @property
    def fed(self) -> int:
        """Outside facts taken in so far."""
        return self._lines_dropped + len(self._lines)

    @property
    def waiting(self) -> int:
        """Outside facts that are not on the tape yet."""
        return self.fed - self._taken

    @property
    def certain(self) -> int:
        """Every fact up to here stands."""
        return self._certain

    @property
    def is_settled(self) -> bool:
        """Whether everything fed is on the tape, has all its answers, and was heard by every service."""
        return (
            not self.waiting
            and self._next > self.sequencer.pos == self._certain
            and not any(service.asked or service.pending for service in self._services.values())
        )

    def previews(self) -> list[tuple[str, int, bytes]]:
        """What may be sent ahead now: service, number, and the encoded ``Preview``."""
        found = ((service, self._preview(service)) for service in self._ahead)
        return [(service.name, service.number, payload) for service, payload in found if payload]

    def requests(self) -> list[Request]:
        """Go on as far as possible, and say whom to ask. Only when every request was answered."""
        assert not any(service.asked for service in self._services.values()), "a request is on its way"
        blocked = not self._advance(self._taken + self.waiting)
        self._set_certain(self.sequencer.pos)
        least = OVERDUE if blocked or self.waiting else 1
        asked = [service for service in self._services.values() if len(service.pending) >= least]
        if not blocked:
            return [self._request(service) for service in asked]
        missing = self._missing()
        if len(missing) == 1:
            others = [self._request(service) for service in asked if service is not missing[0]]
            return [self._extend(missing[0]), *others]
        last = self._asked_last(missing)
        asked += [service for service in missing if service not in asked]
        return [self._request(service) for service in asked if service is not last]

    def take(self, name: str, reply: Reply) -> None:
        """Take in what a service answered. Raises ``ReplayBroken``."""
        service = self._services[name]
        assert service.asked, f"{name} was not asked"
        service.asked = False
        last = max(self._certain, reply.said[0].cause) if reply.said else service.last_sent
        if not service.heard < reply.heard <= last or (reply.heard < last and not reply.said):
            raise ReplayBroken(f"{name} heard facts up to {reply.heard}, and was to stop at {last}")
        service.heard = service.answered = reply.heard
        for said in reply.said:
            self._check(service, said, reply)
            service.said[said.author, said.cause] = said.events
        service.pending = [recorded for recorded in service.pending if recorded.fact.pos > reply.heard]
        if reply.ran:
            service.ran.extend(reply.ran)
            service.answered = reply.ran[-1][0]
        if self._assumed is service:
            self._resolve(service, reply)
        self._take_promises(service, reply)

    def take_forecast(self, name: str, forecast: Forecast) -> None:
        """Take in the answers of a service that goes ahead. Raises ``ReplayBroken``."""
        service = self._services[name]
        lines = service.previews.popleft()
        if len(lines) != len(forecast.answers):
            raise ReplayBroken(f"{name} forecast {len(forecast.answers)} of {len(lines)} outside facts")
        service.answers.update(zip(lines, forecast.answers, strict=True))

    def take_certain(self) -> Sequence[Recorded]:
        """Facts that stand and were not given before, in order."""
        new = self._facts[self._given - self._dropped : self._certain - self._dropped]
        self._given = self._certain
        if self._assumed is None and self._next - 1 - self._dropped > KEPT:
            self._drop(min(self._next - 1, self._given))
        return new

    # ---- handling facts in order -------------------------------------------------------------------------------

    def _advance(self, most: int) -> bool:
        """Handle facts in order, taking outside facts up to the line ``most``. False when an answer is missing."""
        while True:
            if self._next > self.sequencer.pos and (self._taken >= most or not self._take_line()):
                return True
            if not self._handle():
                return False
            self._next += 1

    def _take_line(self) -> bool:
        """Record the next outside fact, if those who go ahead have answered it."""
        if not self.waiting:
            return False
        line = self._lines[self._taken - self._lines_dropped]
        outside = line.outside
        for service in self._ahead:
            if type(outside.event) in service.hears and self._taken not in service.answers:
                return False
        self._taken += 1
        self._cursors = dict.fromkeys(self._cursors, 0)
        self._keep(self.sequencer.record(outside.author, outside.event, line.id, 0, 0, outside.time_ns))
        return True

    def _handle(self) -> bool:
        """Record the answers to the fact at hand, in order. False when one is missing."""
        fact = self._facts[self._next - self._dropped - 1].fact
        turns = self._turns[type(fact.event), fact.cause > 0]
        while self._turn < len(turns):
            author, service, promises = turns[self._turn]
            if service.plan.goes_ahead:
                events = self._forecast_of(service)
            elif fact.pos <= service.answered:
                events = service.said.get((author, fact.pos), ())
            elif promises and cover(promises, fact):
                events = ()
            elif service is self._assumed:
                self._mark(fact.pos)
                events = ()
            else:
                return False
            for index, event in enumerate(events):
                identity = f"{author}:{fact.pos}:{index}"
                self._keep(self.sequencer.record(author, event, identity, fact.pos, fact.correlation, fact.time_ns))
            self._turn += 1
        self._turn = 0
        return True

    def _keep(self, recorded: Recorded) -> None:
        fact = recorded.fact
        self._facts.append(recorded)
        for promise in self._voids[type(fact.event)]:
            if promise.service.answered < fact.pos < promise.void_pos and promise.ends_with(fact):
                promise.void_pos = fact.pos

    def _forecast_of(self, service: KnownService) -> Sequence[Event]:
        """The next entry of the forecast for the chain at hand."""
        answers = service.answers[self._taken - 1]
        cursor = self._cursors[service.name]
        if cursor >= len(answers):
            raise ReplayBroken(f"{service.name} forecast {len(answers)} answers for a chain that asks for more")
        self._cursors[service.name] = cursor + 1
        return answers[cursor]

    # ---- whom to ask -------------------------------------------------------------------------------------------

    def _missing(self) -> list[KnownService]:
        """Services whose answer to a certain fact is missing, from the fact at hand on."""
        found: dict[str, KnownService] = {}
        for pos in range(self._next, self.sequencer.pos + 1):
            fact = self._facts[pos - self._dropped - 1].fact
            turns = self._turns[type(fact.event), fact.cause > 0]
            for _, service, promises in turns[self._turn if pos == self._next else 0 :]:
                if not (service.plan.goes_ahead or pos <= service.answered or cover(promises, fact)):
                    found[service.name] = service
        return list(found.values())

    def _asked_last(self, missing: Sequence[KnownService]) -> KnownService | None:
        """The only one of several that can promise nothing about the fact at hand: alone, it can go further.

        That holds only if the others may promise something once they were asked; if one of them did not the last
        time, all are asked at once.
        """
        fact = self._facts[self._next - self._dropped - 1].fact
        turns = self._turns[type(fact.event), fact.cause > 0][self._turn :]
        turns = tuple(turn for turn in turns if turn[1] in missing)
        found = {service.name: service for _, service, promises in turns if not promises}
        if len(found) != 1 or any(promises and not were_given(promises) for _, _, promises in turns):
            return None
        return next(iter(found.values()))

    def _request(self, service: KnownService) -> Request:
        """Everything certain that a service has not heard."""
        return self._to(service, tuple(service.pending), goes_on=self._next == self.sequencer.pos)

    def _extend(self, service: KnownService) -> Request:
        """Go on as if a service were silent, and send it all of that.

        Outside facts that nobody else answers need not be recorded for that: their positions can be counted.
        """
        assert not self._marks, "one assumption at a time"
        self._assumed = service
        self._advance(self._taken)
        self._quiet_lines = 0
        lines = self._lines_for(service) if self._next > self.sequencer.pos else ()
        if not lines:
            self._advance(min(self._taken + service.size, self.fed))
        tail = self._facts[self._certain - self._dropped :]
        recorded = (*service.pending, *(each for each in tail if type(each.fact.event) in service.hears))
        return self._to(service, recorded, lines, goes_on=self._next >= self.sequencer.pos)

    def _lines_for(self, service: KnownService) -> tuple[Line, ...]:
        """The next outside facts of one type, as long as everybody else is surely silent about those before."""
        found: list[Line] = []
        if not self.waiting:
            return ()
        kind = type(self._lines[self._taken - self._lines_dropped].outside.event)
        quiet_until_ns = self._others_quiet_until(kind, service)
        for number in range(self._taken, min(self._taken + service.size, self.fed)):
            line = self._lines[number - self._lines_dropped]
            hears = type(line.outside.event) is kind and kind in service.hears
            if not hears or not self._is_forecast_silent(kind, number):
                break
            found.append(line)
            if line.outside.time_ns > quiet_until_ns:
                break
            self._quiet_lines += 1
        return tuple(found)

    def _is_forecast_silent(self, kind: type[Event], number: int) -> bool:
        for service in self._ahead:
            if kind in service.hears and any(service.answers.get(number, _NOT_YET)):
                return False
        return True

    def _others_quiet_until(self, kind: type[Event], service: KnownService) -> int:
        """Up to which stamp nobody but this service and those who go ahead can answer outside facts of one type."""
        until_ns = FOREVER
        for _, other, promises in self._turns[kind, False]:
            if other is not service and not other.plan.goes_ahead:
                valid = [p.until_ns for p in promises if p.void_pos == NOT_VOID and kind not in p.voided_by]
                until_ns = min(until_ns, max(valid, default=NEVER))
        return until_ns

    def _to(
        self, service: KnownService, recorded: tuple[Recorded, ...], lines: tuple[Line, ...] = (), *, goes_on: bool
    ) -> Request:
        head = self.sequencer.pos
        service.number += 1
        service.asked = True
        service.last_sent = head + len(lines) if lines else recorded[-1].fact.pos
        next_pos = service.last_sent + 1 if goes_on and service.runs_on and service.last_sent >= head else 0
        clock_ns = lines[-1].outside.time_ns if lines else self.sequencer.clock_ns
        limits = self._limits(service, clock_ns) if service.runs_on else None
        frame = Frame(service.number, (), self._certain, (), head + 1, next_pos, limits)
        return Request(service.name, frame, recorded, lines)

    def _limits(self, service: KnownService, clock_ns: int) -> dict[str, int]:
        """For each type that somebody else may answer by now: the place of the first of them."""
        limits: dict[str, int] = {}
        for name, rivals in service.contested:
            for place, promises in rivals:
                if not any(each.until_ns >= clock_ns and each.void_pos == NOT_VOID for each in promises):
                    limits[name] = place
                    break
        return limits

    def _preview(self, service: KnownService) -> bytes:
        if len(service.previews) >= PREVIEWS:
            return b""
        until = min(self.fed, service.previewed + PREVIEW)
        lines = range(max(service.previewed, self._lines_dropped), until)
        heard = [line for line in lines if type(self._lines[line - self._lines_dropped].outside.event) in service.hears]
        service.previewed = until
        if not heard:
            return b""
        service.previews.append(heard)
        service.number += 1
        return encode_preview(service.number, [self._lines[line - self._lines_dropped].payload for line in heard])

    # ---- what was assumed --------------------------------------------------------------------------------------

    def _mark(self, pos: int) -> None:
        """Remember where the tape stands before a silence that is only assumed."""
        if pos not in self._marks:
            sequencer = self.sequencer
            self._marks[pos] = _Mark(self._turn, sequencer.pos, sequencer.hash, self._taken, dict(self._cursors))

    def _resolve(self, service: KnownService, reply: Reply) -> None:
        """The assumed silence was right, or it is taken back from the first answer on."""
        before, head = self._marks[min(self._marks)].taken, self.sequencer.pos
        self._assumed = None
        if reply.said:
            cause = reply.said[0].cause
            if cause in self._marks:
                self._rewind(cause)
            came = self._taken - before + max(0, cause - head - 1)
            self._take_quiet_lines(cause - head - 1)
            service.size = max(min(LEAST, self._most), min(self._most, (service.size + 3 * came) // 2))
        else:
            if self._taken - before + service.last_sent - head >= service.size:
                service.size = min(self._most, 2 * service.size)
            self._take_quiet_lines(service.last_sent - head)
        self._marks.clear()
        self._set_certain(self.sequencer.pos)

    def _take_quiet_lines(self, count: int) -> None:
        """Record the next outside facts as handled: of those that were sent, these met with silence everywhere."""
        until = self._taken + min(count, self._quiet_lines)
        while self._taken < until:
            line = self._lines[self._taken - self._lines_dropped]
            outside = line.outside
            self._taken += 1
            self._next += 1
            self._keep(self.sequencer.record(outside.author, outside.event, line.id, 0, 0, outside.time_ns))

    def _rewind(self, pos: int) -> None:
        mark, sequencer = self._marks[pos], self.sequencer
        keep = mark.head - self._dropped
        for recorded in reversed(self._facts[keep:]):
            sequencer.versions[recorded.fact.stream] -= 1
        del self._facts[keep:]
        sequencer.pos, sequencer.hash = mark.head, mark.hash
        sequencer.clock_ns = self._facts[-1].fact.time_ns
        self._next, self._turn, self._taken, self._cursors = pos, mark.turn, mark.taken, dict(mark.cursors)
        for promises in self._promises.values():
            for promise in promises:
                if promise.void_pos > mark.head:
                    promise.void_pos = NOT_VOID

    def _set_certain(self, pos: int) -> None:
        """Facts up to here stand: whoever hears them gets them with its next frame, unless it has heard them."""
        for recorded in self._facts[self._certain - self._dropped : pos - self._dropped]:
            fact = recorded.fact
            for service in self._hearers[type(fact.event)]:
                if fact.pos > service.answered:
                    service.pending.append(recorded)
                elif fact.pos > service.heard:
                    self._compare(service, fact)
        self._certain = pos

    def _compare(self, service: KnownService, fact: Fact) -> None:
        """What a service heard by itself is what the tape has there."""
        expected = service.ran.popleft() if service.ran else None
        if expected != (fact.pos, type(fact.event).__name__):
            raise ReplayBroken(
                f"{service.name} went on with {expected}, but the tape has {type(fact.event).__name__} at {fact.pos}"
            )

    # ---- what is taken in --------------------------------------------------------------------------------------

    def _refuse(self, author: str, event: Event, identity: str, time_ns: int) -> Refused | None:
        name = type(event).__name__
        if AUTHOR_OF[type(event)] != author:
            return Refused(
                AppendRefusal.NOT_YOUR_EVENT, f"{name} is said by {AUTHOR_OF[type(event)]!r}, not {author!r}"
            )
        if not subjects.is_token(stream_of(event)):
            return Refused(AppendRefusal.STREAM_INVALID, f"{name} is about {stream_of(event)!r}, which is no stream")
        if not 0 < len(identity) <= MAX_ID_LENGTH:
            return Refused(
                AppendRefusal.ID_MISSING, f"an outside {name} needs an id of 1 to {MAX_ID_LENGTH} characters"
            )
        if time_ns < self._fed_ns:
            detail = f"time_ns {time_ns} lies before the tape's clock {self._fed_ns}"
            return Refused(AppendRefusal.TIME_NOT_ALLOWED, detail)
        return None

    def _check(self, service: KnownService, said: Said, reply: Reply) -> None:
        """An answer is its author's to give, and to a fact whose silence nobody has counted on for good."""
        pos = said.cause
        if said.author not in {author.author for author in service.plan.authors}:
            raise ReplayBroken(f"{service.name} answers {pos} as {said.author}")
        for event in said.events:
            if AUTHOR_OF[type(event)] != said.author or not subjects.is_token(stream_of(event)):
                raise ReplayBroken(f"{said.author} may not say {event!r} (in answer to {pos})")
        if pos > reply.heard:
            is_open = any(pos == ran for ran, _ in reply.ran)
        elif self._assumed is service and (pos in self._marks or pos > self.sequencer.pos):
            is_open = True
        else:
            is_open = pos > self._next or (pos == self._next and self._has_turn(said.author))
        if not is_open:
            raise ReplayBroken(f"{said.author} answered {pos}, about which it had promised to be silent")

    def _has_turn(self, author: str) -> bool:
        fact = self._facts[self._next - self._dropped - 1].fact
        turns = self._turns[type(fact.event), fact.cause > 0]
        return any(author == name for name, _, _ in turns[self._turn :])

    def _take_promises(self, service: KnownService, reply: Reply) -> None:
        later = self._facts[max(0, service.answered - self._dropped) :]
        for author, promised in reply.quiet.items():
            for name, untils_ns in promised.items():
                promises = self._promises[author, EVENT_BY_NAME[name]]
                for promise, until_ns in zip(promises, untils_ns, strict=True):
                    promise.until_ns = until_ns
                    promise.void_pos = next((r.fact.pos for r in later if promise.ends_with(r.fact)), NOT_VOID)

    def _drop(self, pos: int) -> None:
        """Forget facts that are handled and given, and whatever was only needed for them."""
        del self._facts[: pos - self._dropped]
        self._dropped = pos
        for service in self._services.values():
            service.said = {key: events for key, events in service.said.items() if key[1] > pos}
        taken = self._taken - 1
        for line in range(self._lines_dropped, taken):
            for service in self._ahead:
                service.answers.pop(line, None)
        del self._lines[: taken - self._lines_dropped]
        self._lines_dropped = taken

    # ---- tables ------------------------------------------------------------------------------------------------

    def _turns_of(self, event: type[Event], *, caused: bool) -> Turns:
        found = [
            (author.author, service, self._promises.get((author.author, event), ()))
            for service in self._services.values()
            for author in service.plan.authors
            if may_answer(author, event, caused=caused)
        ]
        return tuple(sorted(found, key=lambda turn: ORDER[turn[0]]))

    def _contested(self, service: KnownService) -> tuple[Contested, ...]:
        """For the types a service may hear early: those elsewhere who may answer them, in order."""
        said = [event for author in service.plan.authors for event in SAYS[author.author]]
        outside = [event for event in service.hears if event not in said]
        found = []
        for event, caused in [*((event, True) for event in said), *((event, False) for event in outside)]:
            rivals = tuple(
                (ORDER[author], tuple(promise for promise in promises if not promise.voided_by.intersection(said)))
                for author, other, promises in self._turns[event, caused]
                if other is not service
            )
            if rivals:
                found.append((event.__name__, rivals))
        return tuple(found)
