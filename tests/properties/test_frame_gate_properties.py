"""Frames give the tape of the plain lock step, byte for byte, whatever the cores, the frames and the order of replies.

The cores here are generated: some depend on positions, some promise silence until a time, some hear only what comes
from outside and go ahead; several may share a service, and services may answer their own facts. This is the test the
replay over the wire rests on: what NATS and Postgres add is carrying and keeping.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_common.core import Core, Quiet, Stamp
from tapeline_common.events import (
    AUTHOR_OF,
    Event,
    FeedOpened,
    FeedResumed,
    LimitBreached,
    PresetRegistered,
    TradingHalted,
    TrainingFailed,
    TrainingRequested,
)
from tapeline_common.follower import Follower
from tapeline_common.frame_follower import Forecaster, FrameFollower
from tapeline_common.frames import Preview, decode_for_service, plan_of
from tapeline_common.loop import Loop
from tapeline_common.sequencer import Admitted, Recorded, Sequencer
from tapeline_common.values import HaltReason, InstrumentId, Realm, StrategyId, TrainingFault
from tapeline_common.wire import Answer, Draft
from tapeline_common.wiring import Service, Worker
from tapeline_ledger.frame_gate import FrameGate
from tapeline_ledger.lockstep import Ask, LockStep

ORCHID = InstrumentId("ORCHID")
MOST_ANSWERS = 25
"""A core that has heard this much falls silent, so that every tape ends."""

MAKE: dict[type[Event], Callable[[str], Event]] = {
    FeedOpened: lambda n: FeedOpened(ORCHID, "file", "1m", n),
    FeedResumed: lambda n: FeedResumed(ORCHID, len(n)),
    TrainingFailed: lambda n: TrainingFailed(ORCHID, next(iter(TrainingFault)), n),
    TrainingRequested: lambda n: TrainingRequested(ORCHID, int(n.replace("-", ""))),
    PresetRegistered: lambda n: PresetRegistered(StrategyId("ema"), n, {}),
    LimitBreached: lambda n: LimitBreached(HaltReason.DAILY_LOSS, n, "0"),
    TradingHalted: lambda n: TradingHalted(HaltReason.DAILY_LOSS, n),
}
SAID_BY: dict[str, tuple[type[Event], ...]] = {
    "regime": (TrainingRequested,),
    "bandit": (PresetRegistered,),
    "risk": (LimitBreached, TradingHalted),
}
OUTSIDE = (FeedOpened, FeedResumed, TrainingFailed, LimitBreached)
HEARD = tuple(MAKE)

Rule = tuple[type[Event], int, int]
"""What is said, once in how many times, and counted from where."""


@dataclass(slots=True)
class Memory:
    """Everything that can make a difference later: how much was heard, when last, and when to wake."""

    heard: list[str] = field(default_factory=list)
    wakes_ns: int = 0


@dataclass(frozen=True, slots=True)
class Toy:
    """A generated core.

    Attributes:
        learns: types it learns and does not answer.
        rules: type → what it answers, depending on all it heard and (unless ``blind``) on positions.
        timed: types it answers at the first stamp past ``wakes_ns``; between those it promises silence.
    """

    name: str
    learns: tuple[type[Event], ...]
    rules: dict[type[Event], tuple[Rule, ...]]
    timed: dict[type[Event], int]
    blind: bool

    def core(self) -> Core[Memory]:
        own = SAID_BY[self.name]
        decides: dict[type[Event], Any] = dict.fromkeys(self.timed, self.wake)
        decides.update(dict.fromkeys(self.rules, self.decide))
        return Core(
            self.name,
            Memory,
            dict.fromkeys((*self.learns, *decides, *own), self.learn),
            decides,
            {kind: decide for kind, decide in decides.items() if kind in own},
            quiet={
                kind: (Quiet(lambda state: state.wakes_ns - 1, ended_by=frozenset(self.timed)),)
                for kind in self.timed
                if kind not in self.rules
            },
            reads_position=not self.blind,
        )

    def learn(self, state: Memory, event: Event, stamp: Stamp) -> None:
        where = "" if self.blind else str(stamp.pos)
        state.heard.append(f"{type(event).__name__}{where}")
        if type(event) in self.timed and stamp.time_ns >= state.wakes_ns:
            state.wakes_ns = stamp.time_ns + self.timed[type(event)]
            state.heard.append("woken")

    def wake(self, state: Memory, event: Event, stamp: Stamp) -> Sequence[Event]:
        """Says something at the fact that woke it, which ``learn`` has just noted."""
        if len(state.heard) >= MOST_ANSWERS or state.heard[-1] != "woken":
            return ()
        return [MAKE[SAID_BY[self.name][0]](f"{len(state.heard)}")]

    def decide(self, state: Memory, event: Event, stamp: Stamp) -> Sequence[Event]:
        where = 0 if self.blind else stamp.pos
        count = len(state.heard)
        if count >= MOST_ANSWERS:
            return ()
        return [
            MAKE[said](f"{where}{count}")
            for said, period, offset in self.rules[type(event)]
            if (count + where) % period == offset % period
        ]


def toy_of(name: str) -> st.SearchStrategy[Toy]:
    rule = st.tuples(st.sampled_from(SAID_BY[name]), st.integers(1, 7), st.integers(0, 6))
    return st.builds(
        Toy,
        st.just(name),
        st.lists(st.sampled_from(HEARD), unique=True, max_size=4).map(tuple),
        st.dictionaries(st.sampled_from(HEARD), st.lists(rule, min_size=1, max_size=2).map(tuple), max_size=3),
        st.dictionaries(
            st.sampled_from([kind for kind in HEARD if kind not in SAID_BY[name]]), st.integers(1, 60), max_size=2
        ),
        st.booleans(),
    )


def fit(job: int) -> Sequence[Event]:
    """A worker's work: fails every third time."""
    return [] if job % 3 else [MAKE[TrainingFailed](str(job))]


WORKER = Worker("trainer", TrainingRequested, "regime", lambda state, _event: len(state.heard), fit)


def platform_of(toys: tuple[Toy, ...], homes: tuple[int, ...], *, works: bool) -> list[Service]:
    """Cores in up to three services: one process may speak for several authors, and regime may have a worker."""
    services: dict[int, list[Core[Any]]] = {}
    for toy, home in zip(toys, homes, strict=True):
        services.setdefault(home, []).append(toy.core())
    return [
        Service(f"service-{home}", tuple(cores), (WORKER,) if works and cores[0].name == "regime" else ())
        for home, cores in services.items()
    ]


platforms = st.builds(
    platform_of,
    st.tuples(*map(toy_of, SAID_BY)),
    st.tuples(*(st.integers(0, 2) for _ in SAID_BY)),
    works=st.booleans(),
)
scripts = st.lists(
    st.tuples(st.sampled_from((FeedOpened, FeedOpened, FeedOpened, *OUTSIDE)), st.integers(0, 9)), max_size=40
)

Script = list[tuple[type[Event], int]]


def lines(script: Script) -> list[tuple[str, Event, str, int]]:
    """Author, event, id and stamp of each outside fact."""
    found, clock_ns = [], 0
    for number, (kind, later_ns) in enumerate(script):
        clock_ns += later_ns
        found.append((AUTHOR_OF[kind], MAKE[kind](str(number)), f"outside-{number}", clock_ns))
    return found


def cores_of(services: Sequence[Service]) -> list[Core[Any]]:
    return [core for service in services for core in service.cores]


def lock_step(services: Sequence[Service], script: Script) -> list[bytes]:
    """The naive twin: one follower per core and ``LockStep``, every answer awaited, one fact at a time."""
    followers = {core.name: Follower(core) for core in cores_of(services)}
    workers = [worker for service in services for worker in service.workers]
    plan = {name: [event.__name__ for event in follower.core.hears] for name, follower in followers.items()}
    plan.update({worker.author: [worker.asked_by.__name__] for worker in workers})
    gate = LockStep(Sequencer(Realm.REPLAY), plan)
    tape: list[Recorded] = []
    asks = deque(
        Ask(author, Answer(0, (Draft(event, identity),), time_ns=time_ns))
        for author, event, identity, time_ns in lines(script)
    )
    told = 0
    while asks or told < len(tape):
        if told < len(tape):
            fact = tape[told].fact
            told += 1
            said = [
                (worker.author, worker.run(worker.prepare(followers[worker.core].state, fact.event)))
                for worker in workers
                if type(fact.event) is worker.asked_by
            ]
            said += [
                (name, follower.hear(fact))
                for name, follower in followers.items()
                if type(fact.event) in follower.core.hears
            ]
            for author, events in said:
                gate.offer(Ask(author, Answer(fact.pos, tuple(map(Draft, events)))), {}, fact)
        else:
            gate.offer(asks.popleft(), {}, None)
        for _, result in gate.advance(0):
            assert isinstance(result, Admitted), result
            tape.extend(result.new)
    return [recorded.payload for recorded in tape]


def loop(services: Sequence[Service], script: Script) -> list[bytes]:
    tape: list[Recorded] = []
    gear = Loop(cores_of(services), [w for service in services for w in service.workers], tape.append)
    for author, event, identity, time_ns in lines(script):
        gear.say(author, event, identity, time_ns)
    return [recorded.payload for recorded in tape]


Choose = Callable[[int], int]


class Replay:
    """The gate with its services around it; ``choose`` says who acts next. Frames travel encoded, as on the wire."""

    def __init__(self, services: Sequence[Service], *, most: int) -> None:
        plan = plan_of(services)
        self.gate = FrameGate(plan, most=most)
        ahead = {each.name for each in plan if each.goes_ahead}
        self.heard_by = {
            service.name: Forecaster(service) if service.name in ahead else FrameFollower(service)
            for service in services
        }
        self.tape: list[Recorded] = []

    def run(self, script: Script, choose: Choose) -> list[bytes]:
        waiting = deque(lines(script))
        frames: list[tuple[str, bytes]] = []
        previews: list[tuple[str, bytes]] = []
        while True:
            previews += [(name, payload) for name, _, payload in self.gate.previews()]
            if not frames:
                requests = self.gate.requests()
                frames = [(each.service, each.encode()) for each in requests]
            self.tape.extend(self.gate.take_certain())
            able = [*["feed"] * bool(waiting), *["preview"] * bool(previews), *["frame"] * bool(frames)]
            if not able:
                assert self.gate.is_settled
                return [recorded.payload for recorded in self.tape]
            self.act(able[choose(len(able))], waiting, previews, frames, choose)

    def act(self, what: str, waiting: Any, previews: Any, frames: Any, choose: Choose) -> None:
        if what == "feed":
            for _ in range(min(len(waiting), 1 + choose(10))):
                assert self.gate.feed(*waiting.popleft()) is None
            return
        name, payload = (previews if what == "preview" else frames).pop(0 if what == "preview" else choose(len(frames)))
        message = decode_for_service(payload)
        follower: Any = self.heard_by[name]
        answer = follower.hear(message)
        if isinstance(message, Preview):
            self.gate.take_forecast(name, answer)
        else:
            self.gate.take(name, answer)


@settings(max_examples=100, deadline=None)
@given(platforms, scripts, st.sampled_from((1, 2, 7, 256)), st.randoms(use_true_random=False))
def test_frames_give_the_tape_of_the_lock_step(services: list[Service], script: Script, most: int, order: Any) -> None:
    """Any cores, any grouping into services, frames of any size, replies in any order: the bytes of the naive twin."""
    expected = lock_step(services, script)
    assert loop(services, script) == expected
    replay = Replay(services, most=most)
    assert replay.run(script, order.randrange) == expected
    assert replay.gate.sequencer.pos == len(expected)
