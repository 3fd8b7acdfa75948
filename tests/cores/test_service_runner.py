"""A service that follows the tape hears each of its facts once and in order, whatever the bus lost, doubled or held
back; over a tape in memory, without any server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from tests.measuring import parsed
from tests.trading import BTC, MINUTE_NS, bar

from tapeline_common import subjects
from tapeline_common.core import Core, Stamp
from tapeline_common.events import BarClosed, DataRejected, Event, HaltRequested, LimitBreached, TradingHalted
from tapeline_common.measures import Kind, Measure, Measures, Watched
from tapeline_common.metrics import Metrics
from tapeline_common.preceding import Preceding
from tapeline_common.sequencer import Recorded
from tapeline_common.service import Runner, ServiceStopped
from tapeline_common.tape import Page, ReadRequest, Receipt, TapeUnavailable
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.values import DataFault, HaltReason, Realm
from tapeline_common.wire import Answer, Draft, Fact, Progress
from tapeline_common.wire import Heard as TapeHeard
from tapeline_common.wiring import Door, Service

LOGGER = structlog.get_logger()


@dataclass(slots=True)
class Heard:
    """Positions heard, in order."""

    positions: list[int] = field(default_factory=list)


def note(state: Heard, event: Event, stamp: Stamp) -> None:
    state.positions.append(stamp.pos)


def breach(state: Heard, event: BarClosed, stamp: Stamp) -> Sequence[Event]:
    """Says something at every third bar; a close of 13 is a bug."""
    if event.close == "13":
        raise ZeroDivisionError("thirteen")
    return [LimitBreached(HaltReason.DAILY_LOSS, "1", "2")] if is_third(event) else ()


RISK = Service("risk", (Core("risk", Heard, {BarClosed: note, TradingHalted: note}, {BarClosed: breach}),))


@dataclass
class Ledger(MemoryTape):
    """A tape in memory that announces like the ledger.

    Attributes:
        reads: how often it was read since it began.
        away: appends that find nobody.
    """

    def __init__(self) -> None:
        super().__init__(Realm.LIVE)
        self.before = Preceding(0)
        self.reads = 0
        self.away = 0
        self.told: list[tuple[str, bytes, str]] = []

    async def read(self, request: ReadRequest) -> Page:
        self.reads += 1
        return self.page(request)

    async def append(self, author: str, answer: Answer) -> Receipt:
        if self.away:
            self.away -= 1
            raise TapeUnavailable("nobody there")
        return self.say(author, answer)

    def say(self, author: str, answer: Answer) -> Receipt:
        first = self.head
        receipt = self.record(author, answer)
        self.told += [self.announcement(recorded) for recorded in self.records[first:]]
        return receipt

    def announcement(self, recorded: Recorded) -> tuple[str, bytes, str]:
        fact = recorded.fact
        event = type(fact.event).__name__
        before = "" if event == self.before.last else self.before.text
        self.before.add(event, fact.pos)
        return subjects.tape(fact.author, event, fact.stream), recorded.payload, before

    def say_bar(self, number: int, close: str = "100") -> None:
        self.say("marketdata", Answer(0, (Draft(bar(number, close=close), f"bar-{number}"),)))

    def say_halt(self, number: int) -> None:
        self.say("operator", Answer(0, (Draft(HaltRequested("alice", "drill"), f"halt-{number}"),)))


@dataclass
class Following:
    """A runner beside its ledger; what the ledger tells is delivered by the test."""

    ledger: Ledger
    runner: Runner
    progress: list[int]
    running: asyncio.Future[None]

    @property
    def heard(self) -> list[int]:
        state: Heard = self.runner.followers["risk"].state
        return state.positions

    def deliver(self, lose: Callable[[int], bool] = lambda number: False) -> None:
        told, self.ledger.told = self.ledger.told, []
        for number, announcement in enumerate(told):
            if not lose(number):
                self.runner.announced(*announcement)

    def name_head(self) -> None:
        self.runner.saw_head(self.ledger.before.through, self.ledger.before.text)

    async def caught_up(self) -> None:
        """Return when the runner has heard all there is, its own answers included."""
        for _ in range(10_000):
            self.deliver()
            self.name_head()
            if self.runner.heard == self.ledger.head and not self.ledger.told:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"heard {self.runner.heard} of {self.ledger.head}")


def following(check: Callable[[Following], Awaitable[None]]) -> None:
    """Run a check beside a runner that has restored an empty tape."""

    async def run() -> None:
        ledger, progress = Ledger(), list[int]()

        async def announce(said: Progress) -> None:
            progress.append(said.pos)

        restored = asyncio.Event()
        runner = Runner(
            RISK,
            ledger,
            realm=Realm.LIVE,
            metrics=Metrics("risk"),
            logger=LOGGER,
            announce=announce,
            restored=restored.set,
        )
        running = asyncio.ensure_future(runner.run())
        await restored.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ledger.reads = 0
        try:
            await check(Following(ledger, runner, progress, running))
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


def wanted(ledger: Ledger) -> list[int]:
    """What the core must have heard: the twin is a walk over the tape."""
    return [fact.pos for fact in ledger.facts if isinstance(fact.event, BarClosed | TradingHalted)]


def test_a_fact_is_heard_where_it_arrives_and_foreign_ones_are_passed_over() -> None:
    """Without a turn of the event loop; what lies between and is not ours costs neither a message nor a read."""

    async def check(at: Following) -> None:
        at.ledger.say_bar(1)
        for number in range(5):
            at.ledger.say_halt(number)
        at.ledger.say_bar(2)
        halts = range(1, 6)
        at.deliver(lose=lambda number: number in halts)
        assert (at.heard, at.runner.heard, at.ledger.reads) == ([1, 7], 7, 0)
        at.ledger.say_halt(9)
        at.name_head()
        assert (at.runner.heard, at.ledger.reads) == (8, 0)

    following(check)


def test_a_lost_fact_is_read_before_what_follows_it_is_heard() -> None:
    """The next announcement tells that one of ours is missing; the log has it."""

    async def check(at: Following) -> None:
        for number in (1, 2, 4):
            at.ledger.say_bar(number)
        at.deliver(lose=lambda number: number == 1)
        assert at.heard == [1]
        await at.caught_up()
        assert (at.heard, at.ledger.reads) == ([1, 2, 3], 1)
        assert at.runner._metrics.gap_reads.value == 1

    following(check)


class Bars:
    """A watch: how many bars it has heard, and how far the core was at each."""

    def __init__(self, states: Mapping[str, Any], _clock: Callable[[], int]) -> None:
        self.state: Heard = states["risk"]
        self.seen: list[tuple[int, int]] = []

    def heard(self, event: Event, stamp: Stamp) -> None:
        self.seen.append((stamp.pos, len(self.state.positions)))

    def samples(self, _now_ns: int) -> list[tuple[str, tuple[str, ...], float]]:
        return [("tapeline_watched_bars", (), float(len(self.seen)))]


class Due:
    """An adapter that has nothing to do, and something to tell."""

    async def run(self, door: Door) -> None:
        await asyncio.Event().wait()

    def samples(self, _now_ns: int) -> list[tuple[str, tuple[str, ...], float]]:
        return [("tapeline_due", (), 7.0)]


MEASURED = Measures(
    tables=(
        Measure(name="tapeline_bars_total", kind=Kind.COUNTER, text="x", count={BarClosed: lambda seen: ()}),
        Measure(name="tapeline_foreign_total", kind=Kind.COUNTER, text="x", count={DataRejected: lambda seen: ()}),
        Measure(name="tapeline_due", kind=Kind.GAUGE, text="x"),
    ),
    watches=(
        Watched(
            measures=(Measure(name="tapeline_watched_bars", kind=Kind.GAUGE, text="x"),), hears=(BarClosed,), make=Bars
        ),
    ),
)


async def test_the_restored_past_is_watched_and_not_counted() -> None:
    """Then both hear each bar once, after the core; a fact that only a measure wants is heard as well."""
    ledger = Ledger()
    for number in (1, 2, 4):
        ledger.say_bar(number)
    metrics = Metrics("risk", MEASURED)

    async def announce(_said: Progress) -> None:
        return None

    runner = Runner(
        RISK, ledger, realm=Realm.LIVE, metrics=metrics, logger=LOGGER, announce=announce, adapters=[("risk", Due())]
    )
    await runner.restore()
    told = parsed(generate_latest(metrics.registry).decode())
    names = ("bars_total", "watched_bars", "foreign_total", "due", "position", "lag_facts")
    assert [told[f"tapeline_{name}{{}}"] for name in names] == [0, 3, 0, 7, 3, 0]
    ledger.told.clear()
    ledger.say_bar(5)
    ledger.say("marketdata", Answer(0, (Draft(DataRejected(BTC, DataFault.GAP, 0, ""), "gap"),)))
    for announcement in ledger.told:
        runner.inbox.put(*announcement)
    runner._hear_announced()
    told = parsed(generate_latest(metrics.registry).decode())
    assert [told[f"tapeline_{name}{{}}"] for name in names] == [1, 4, 1, 7, 5, 0]
    watch = metrics._recalling[BarClosed][0]
    assert isinstance(watch, Bars)
    assert watch.seen == [(1, 3), (2, 3), (3, 3), (4, 4)], "in the past the core may be a page ahead, never behind"
    assert "DataRejected" in runner.follows


def test_a_lost_last_fact_is_noticed_when_the_ledger_names_its_head() -> None:
    """Nothing follows it, and it is heard all the same."""

    async def check(at: Following) -> None:
        at.ledger.say_bar(1)
        at.ledger.told.clear()
        at.name_head()
        await at.caught_up()
        assert (at.heard, at.ledger.reads) == ([1], 1)

    following(check)


def test_without_word_of_what_lies_before_the_log_is_read() -> None:
    """An announcement that says nothing of the gap before it is not trusted."""

    async def check(at: Following) -> None:
        at.ledger.say_halt(1)
        at.ledger.say_bar(1)
        (_, (subject, payload, _)), at.ledger.told = at.ledger.told, []
        at.runner.announced(subject, payload)
        assert at.heard == []
        await at.caught_up()
        assert (at.heard, at.ledger.reads) == ([2], 1)

    following(check)


def test_an_answer_is_asked_for_again_until_the_ledger_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded once, and the next fact waits for it."""
    monkeypatch.setattr("tapeline_common.service.RETRY_S", (0.0,))

    async def check(at: Following) -> None:
        at.ledger.away = 3
        at.ledger.say_bar(3)
        at.ledger.say_bar(4)
        at.deliver()
        assert at.heard == [1]
        await at.caught_up()
        said = [(fact.author, fact.cause) for fact in at.ledger.facts if fact.cause]
        assert (at.heard, said) == ([1, 2], [("risk", 1)])

    following(check)


def test_what_the_operator_asked_for_is_acknowledged_at_once() -> None:
    """No row of the core names it, and yet the operator learns that it was heard, before the regular report."""

    async def check(at: Following) -> None:
        at.ledger.say_halt(1)
        at.deliver()
        for _ in range(20):
            await asyncio.sleep(0)
        assert at.progress[-1] == 1

    following(check)


def test_a_bug_in_a_core_stops_the_service_where_it_is() -> None:
    """Also when the fact is heard in the callback that read it; nothing is heard afterwards."""

    async def check(at: Following) -> None:
        at.ledger.say_bar(1)
        at.ledger.say_bar(2, close="13")
        at.ledger.say_bar(4)
        at.deliver()
        assert at.heard == [1, 2]
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(at.running, 5)
        assert at.heard == [1, 2]

    following(check)


def test_a_refused_answer_stops_the_service() -> None:
    """The ledger knows a later answer of ours: somebody else runs as us."""

    async def check(at: Following) -> None:
        at.ledger.say_bar(3)
        at.ledger.say_bar(6)
        at.ledger.say("risk", Answer(2, (Draft(LimitBreached(HaltReason.DAILY_LOSS, "x", "y")),)))
        at.deliver()
        with pytest.raises(ServiceStopped, match="OUT_OF_ORDER"):
            await asyncio.wait_for(at.running, 5)

    following(check)


@given(
    kinds=st.lists(st.sampled_from(["bar", "halt"]), max_size=25),
    lost=st.sets(st.integers(0, 24)),
    doubled=st.sets(st.integers(0, 24)),
    late=st.sets(st.integers(0, 24)),
    pauses=st.sets(st.integers(0, 24)),
)
def test_every_fact_is_heard_once_and_in_order(
    kinds: list[str], lost: set[int], doubled: set[int], late: set[int], pauses: set[int]
) -> None:
    """Whatever is lost, doubled, reordered, and whenever the event loop turns: against a plain walk over the tape."""

    async def check(at: Following) -> None:
        held: list[tuple[str, bytes, str]] = []
        for number, kind in enumerate(kinds):
            (at.ledger.say_bar if kind == "bar" else at.ledger.say_halt)(number)
            told, at.ledger.told = at.ledger.told, []
            if number in late:
                held += told
                continue
            for announcement in [] if number in lost else told * (2 if number in doubled else 1):
                at.runner.announced(*announcement)
            if number in pauses:
                await asyncio.sleep(0)
        for announcement in held:
            at.runner.announced(*announcement)
        await at.caught_up()
        assert at.heard == wanted(at.ledger)
        answered = [fact.cause for fact in at.ledger.facts if fact.author == "risk"]
        assert answered == [
            fact.pos for fact in at.ledger.facts if fact.author == "marketdata" and is_third(fact.event)
        ]

    following(check)


def is_third(event: Event) -> bool:
    return isinstance(event, BarClosed) and event.open_ns // MINUTE_NS % 3 == 0


@dataclass
class Listening:
    """A listener that notes positions; a halt for the reason ``bug`` is one of its bugs."""

    positions: list[int] = field(default_factory=list)
    hears: tuple[type[Event], ...] = (HaltRequested,)

    def hear(self, fact: Fact | TapeHeard) -> None:
        if fact.event.reason == "bug":
            raise ZeroDivisionError("a bug")
        self.positions.append(fact.pos)


def test_a_listener_hears_the_tape_from_its_first_fact_and_nothing_else() -> None:
    """What was recorded before it began, what comes, and what was lost on the way: once and in order; it says none."""

    async def run() -> None:
        ledger, listener = Ledger(), Listening()
        for number in range(3):
            ledger.say_halt(number)
            ledger.say_bar(number)
        ledger.told.clear()

        async def announce(said: Progress) -> None:
            assert said.pos <= ledger.head

        restored = asyncio.Event()
        runner = Runner(
            Service("notifier", ()),
            ledger,
            realm=Realm.LIVE,
            metrics=Metrics("notifier"),
            logger=LOGGER,
            announce=announce,
            restored=restored.set,
            listener=listener,
        )
        running = asyncio.ensure_future(runner.run())
        try:
            await restored.wait()
            assert listener.positions == [1, 3, 5]
            assert "HaltRequested" in runner.follows
            assert "BarClosed" not in runner.follows
            at = Following(ledger, runner, [], running)
            ledger.say_halt(8)
            ledger.say_bar(8)
            ledger.say_halt(9)
            at.deliver(lose=lambda number: number == 0)
            await at.caught_up()
            assert (listener.positions, runner.heard, ledger.head) == ([1, 3, 5, 7, 9], 9, 9)
            ledger.say("operator", Answer(0, (Draft(HaltRequested("alice", "bug"), "halt-bug"),)))
            at.deliver()
            with pytest.raises(ZeroDivisionError):
                await running
            assert runner.heard == 9, "what it could not hear is not passed over"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
