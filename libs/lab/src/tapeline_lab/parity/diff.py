"""``diff``: from a recorded session to what today's code makes of it, one cause switched after another.

Three kinds of runs, all over the session's outside facts and by its timetable:

1. *As it was.* Every author answers as recorded, and is asked beside it. Where today's code, given exactly the recorded
   past, would say something else, the recorded answer is noted: the session's decisions that this code does not make.
2. *The record made again*: today's code, with the noted answers in their places and every outside fact as recorded. The
   tape that comes out is the recorded one; what is left over is reported as CODE.
3. *One cause after the other*, in the order of ``Cause``: its noted answers are let go, its outside facts become
   today's. Everything that follows from that follows in the same run, so a refusal because of dearer fills belongs to
   the fills and not to risk.

The gap of a cause is the change of final equity in its run, so all gaps add up to the whole gap exactly. A decision
belongs to the cause whose run gave it its last value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tapeline_common.events import AccountFunded, EquityMarked, Event, OrderFilled
from tapeline_common.money import ZERO
from tapeline_common.wire import Fact
from tapeline_lab.parity.causes import FUNDING_SAID_BY_VENUE, OF_AUTHOR, Cause
from tapeline_lab.parity.changes import Change, all_causes, script
from tapeline_lab.parity.comparison import Decision, Moment, changed, decisions_of, origins
from tapeline_lab.parity.fees import at_todays_fees
from tapeline_lab.parity.naming import Names, same_but
from tapeline_lab.parity.record import Question, Record, Saying
from tapeline_lab.parity.rerun import Gear, Ran, Replies, Rerun
from tapeline_ledger import core as ledger

Progress = Callable[[str], None]

REPORTED = frozenset({Cause.FEE, Cause.FILL})
"""What a real venue reported, and a simulated one is asked for instead."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One decision that differs. ``recorded`` or ``today`` is ``None`` where only the other side made it.

    Attributes:
        is_origin: it follows from no other difference.
    """

    cause: Cause
    is_origin: bool
    recorded: Decision | None
    today: Decision | None

    @property
    def decision(self) -> Decision:
        found = self.recorded or self.today
        assert found is not None, "one side made it"
        return found


@dataclass(frozen=True, slots=True)
class Share:
    """What one cause did: by how much it moved the final equity, how many decisions changed in its run (another cause
    may have changed them again), and by which ways it came: questions answered otherwise by today's code, outside facts
    that are others, the timetable, a real venue in whose place there is a simulated one."""

    cause: Cause
    gap: Decimal
    changed: int
    by_code: int
    by_facts: int
    by_timetable: bool
    by_venue: bool


@dataclass(slots=True)
class Count:
    """Decisions of one kind: made then, made today, made alike, and made on either side."""

    recorded: int = 0
    today: int = 0
    same: int = 0
    decisions: int = 0


@dataclass(frozen=True, slots=True)
class Diff:
    """The whole comparison.

    Attributes:
        decisions: how many were made, on either side; ``same`` of them agree.
        counts: the same by kind.
        remainder: of the gap, what was left before any cause was switched; part of CODE's gap.
        under_way: answers that the end of the record cut off.
        today: the tape that today's code makes.
    """

    decisions: int
    same: int
    counts: Mapping[str, Count]
    differences: Sequence[Difference]
    shares: Sequence[Share]
    capital: Decimal
    recorded_equity: Decimal
    today_equity: Decimal
    remainder: Decimal
    under_way: int
    today: Ran

    @property
    def gap(self) -> Decimal:
        return self.today_equity - self.recorded_equity

    @property
    def is_same(self) -> bool:
        return not self.differences and self.gap == ZERO


@dataclass(frozen=True, slots=True)
class Switches:
    """What differs today, beside the code.

    Attributes:
        changes: of outside facts.
        lock_step: answers are recorded at once, as in a backtest.
        refit: models are fitted again instead of taken from the record.
        since: the first position from which on decisions are compared; before it all is as recorded.
    """

    changes: Sequence[Change] = ()
    lock_step: bool = False
    refit: bool = False
    since: int = 1


@dataclass(slots=True)
class _Bench:
    """A session and what is switched on it."""

    record: Record
    gear: Gear
    switches: Switches
    noted: dict[Question, Cause] = field(default_factory=dict)
    moments: dict[str, Moment] = field(default_factory=dict)
    jobs: dict[str, Any] = field(default_factory=dict)
    """Of the workers, in the latest run that kept the session's own time."""

    def script(self, causes: Collection[Cause]) -> list[Saying]:
        said = script(self.record, self.switches.changes, causes)
        if self.record.has_real_venue and Cause.FILL not in causes:
            reports = self.record.reports()
            if Cause.FEE in causes:
                reports = at_todays_fees(said, reports)
            said = sorted([*said, *reports], key=lambda saying: saying.at)
        self.moments.update({f"{saying.author}/{saying.id}": saying.at for saying in said})
        return said

    def gear_with(self, causes: Collection[Cause]) -> Gear:
        is_reported = self.record.has_real_venue and Cause.FILL not in causes
        return self.gear.without("venue") if is_reported else self.gear

    def run(self, causes: Collection[Cause]) -> Ran:
        lock_step = self.switches.lock_step and Cause.LATENCY in causes
        ran = Rerun(
            self.record,
            self.gear_with(causes),
            self.script(causes),
            replies=self._replies(causes),
            lock_step=lock_step,
            jobs=self.jobs,
        ).run()
        if not lock_step:
            self.jobs = ran.jobs
        return ran

    def note(self) -> None:
        """Run the session as it was, and note what today's code would not have said."""
        judged: dict[Question, Sequence[Event]] = {}
        Rerun(
            self.record,
            self.gear_with(()),
            self.script(()),
            replies=self._as_recorded,
            judged=judged,
            refit=self.switches.refit,
        ).run()
        for (author, key), decided in judged.items():
            if self.record.positions[key] >= self.switches.since:
                said = [fact.event for fact in self.record.answers.get((author, key), ())]
                self.noted[author, key] = _cause_of_code(author, said, decided)

    def _as_recorded(self, author: str, key: str) -> Sequence[Fact] | None:
        return self.record.answers.get((author, key), ()) if key in self.record.positions else None

    def _replies(self, causes: Collection[Cause]) -> Replies:
        positions, noted, since = self.record.positions, self.noted, self.switches.since

        def reply(author: str, key: str) -> Sequence[Fact] | None:
            cause = noted.get((author, key))
            if (cause is not None and cause not in causes) or positions.get(key, since) < since:
                return self._as_recorded(author, key)
            if author == "trainer" and not (self.switches.refit and Cause.MODEL in causes):
                return self._as_recorded(author, key)
            return None

        return reply

    def decisions(self, facts: Sequence[Fact], names: Names) -> dict[str, Decision]:
        """Those of a tape that are compared."""
        first = (self.switches.since, 0)
        found = decisions_of(facts, names, self.moments)
        return {key: each for key, each in found.items() if each.moment >= first} if first > (1, 0) else found

    @property
    def causes(self) -> list[Cause]:
        """Those that anything is switched for, in their order."""
        found = {*self.noted.values(), *all_causes(self.switches.changes)}
        if self.record.has_real_venue:
            found |= REPORTED
        if self.switches.lock_step:
            found.add(Cause.LATENCY)
        return [cause for cause in Cause if cause in found]


def _cause_of_code(author: str, said: Sequence[Event], decided: Sequence[Event]) -> Cause:
    """Which part of the code to name for an answer that it does not give."""
    if author != "venue":
        return OF_AUTHOR[author]
    if len(said) == len(decided) and all(
        one == other or (isinstance(one, OrderFilled) and same_but(one, other, "fee"))
        for one, other in zip(said, decided, strict=True)
    ):
        return Cause.FEE
    rest = [[each for each in events if not isinstance(each, FUNDING_SAID_BY_VENUE)] for events in (said, decided)]
    return Cause.FUNDING if rest[0] == rest[1] else Cause.FILL


def diff(record: Record, gear: Gear, switches: Switches, progress: Progress = lambda _: None) -> Diff:
    """Compare a recorded session with what today's code makes of it."""
    bench = _Bench(record, gear, switches)
    progress("as it was")
    bench.note()
    progress("the record made again")
    ran = bench.run(())
    recorded = bench.decisions(record.facts, record.names)
    before = bench.decisions(ran.facts, ran.names)
    recorded_equity = _recorded_equity(record, bench)
    equity = _equity(ran)
    remainder = equity - recorded_equity
    left = changed(recorded, before)
    owner = dict.fromkeys(left, Cause.CODE)
    roots = origins(left, gear.cores)
    counts = {Cause.CODE: len(left)}
    gaps = {Cause.CODE: remainder}
    switched: list[Cause] = []
    for cause in bench.causes:
        progress(f"{cause} as today")
        switched.append(cause)
        ran = bench.run(switched)
        after = bench.decisions(ran.facts, ran.names)
        moved = changed(before, after)
        owner.update(dict.fromkeys(moved, cause))
        counts[cause] = counts.get(cause, 0) + len(moved)
        roots = (roots - moved.keys()) | origins(moved, gear.cores)
        gaps[cause] = gaps.get(cause, ZERO) + _equity(ran) - equity
        equity, before = _equity(ran), after
    found = [
        Difference(owner[key], key in roots, recorded.get(key), before.get(key)) for key in changed(recorded, before)
    ]
    return Diff(
        decisions=len(recorded.keys() | before.keys()),
        same=len(recorded.keys() | before.keys()) - len(found),
        counts=_counts(recorded, before, {each.decision.key for each in found}),
        differences=sorted(found, key=lambda each: (each.decision.moment, each.decision.pos)),
        shares=[_share(cause, gaps.get(cause, ZERO), counts.get(cause, 0), bench) for cause in Cause],
        capital=_capital(record),
        recorded_equity=recorded_equity,
        today_equity=equity,
        remainder=remainder,
        under_way=ran.under_way,
        today=ran,
    )


def _share(cause: Cause, gap: Decimal, moved: int, bench: _Bench) -> Share:
    by_code = sum(each is cause for each in bench.noted.values())
    by_facts = sum(cause in change.causes for change in bench.switches.changes)
    by_timetable = bench.switches.lock_step and cause is Cause.LATENCY
    by_venue = bench.record.has_real_venue and cause in REPORTED
    return Share(cause, gap, moved, by_code, by_facts, by_timetable, by_venue)


def _counts(
    recorded: Mapping[str, Decision], today: Mapping[str, Decision], different: Collection[str]
) -> dict[str, Count]:
    counts: dict[str, Count] = {}
    for key, decision in {**recorded, **today}.items():
        count = counts.setdefault(decision.kind, Count())
        count.recorded += key in recorded
        count.today += key in today
        count.same += key not in different
        count.decisions += 1
    return counts


def _equity(ran: Ran) -> Decimal:
    books: ledger.State = ran.states["ledger"]
    return ledger.equity(books)


def _recorded_equity(record: Record, bench: _Bench) -> Decimal:
    """Final equity by the recorded books: today's books over the recorded facts, and what the last recorded mark says
    otherwise of the state it marks."""
    equity = ledger.equity(ledger.fold(record.facts))
    for fact in reversed(record.facts):
        if isinstance(fact.event, EquityMarked):
            if ("ledger", record.names.keys[fact.cause]) in bench.noted:
                equity += fact.event.equity - ledger.equity(ledger.fold(record.facts[: fact.cause]))
            break
    return equity


def _capital(record: Record) -> Decimal:
    funded = (fact.event for fact in record.facts if isinstance(fact.event, AccountFunded))
    return sum((event.amount for event in funded if event.currency == record.started.currency), ZERO)


def in_basis_points(shares: Sequence[Share], capital: Decimal) -> list[Decimal]:
    """Each gap in basis points of the capital, rounded so that they add up to the rounded whole."""
    points: list[Decimal] = []
    total, before = ZERO, ZERO
    for share in shares:
        total += share.gap
        rounded = basis_points(total, capital)
        points.append(rounded - before)
        before = rounded
    return points


def basis_points(gap: Decimal, capital: Decimal) -> Decimal:
    """To a ten-thousandth of a basis point, exactly."""
    if not capital:
        return ZERO
    scaled = gap * 100_000_000
    whole = int(scaled // capital) if scaled * capital >= 0 else -int(-scaled // capital)
    return Decimal(whole) / 10_000
