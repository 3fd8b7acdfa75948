"""Lock step over any interleaving gives the loop gear's tape, byte for byte."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_common.core import Core, Stamp
from tapeline_common.events import (
    EVENT_BY_NAME,
    Event,
    FeedOpened,
    FeedResumed,
    LimitBreached,
    PresetRegistered,
    TradingHalted,
    TradingResumed,
    TrainingFailed,
    TrainingRequested,
)
from tapeline_common.follower import Follower, answers_of
from tapeline_common.loop import Loop
from tapeline_common.sequencer import Admitted, Recorded, Refused, Sequencer
from tapeline_common.values import (
    AppendRefusal,
    HaltReason,
    InstrumentId,
    Realm,
    StrategyId,
    TrainingFault,
)
from tapeline_common.wire import Answer, Draft, Fact
from tapeline_ledger.lockstep import Ask, LockStep, Plan

ORCHID = InstrumentId("ORCHID")

MAKE: dict[str, Callable[[int], Event]] = {
    "FeedOpened": lambda n: FeedOpened(ORCHID, "file", "1m", str(n)),
    "FeedResumed": lambda n: FeedResumed(ORCHID, n),
    "TrainingFailed": lambda n: TrainingFailed(ORCHID, next(iter(TrainingFault)), str(n)),
    "TrainingRequested": lambda n: TrainingRequested(ORCHID, n),
    "PresetRegistered": lambda n: PresetRegistered(StrategyId("ema"), str(n), {}),
    "LimitBreached": lambda n: LimitBreached(HaltReason.DAILY_LOSS, str(n), "0"),
    "TradingHalted": lambda n: TradingHalted(HaltReason.DAILY_LOSS, str(n)),
    "TradingResumed": lambda n: TradingResumed(str(n)),
}
SAID_BY = {
    "trainer": ["TrainingFailed"],
    "regime": ["TrainingRequested"],
    "bandit": ["PresetRegistered"],
    "risk": ["LimitBreached", "TradingHalted", "TradingResumed"],
}
OUTSIDE = ["FeedOpened", "FeedResumed", "LimitBreached", "TrainingFailed"]
AUTHOR = {"FeedOpened": "marketdata", "FeedResumed": "marketdata", "LimitBreached": "risk", "TrainingFailed": "trainer"}

Table = dict[str, dict[str, tuple[tuple[str, int], ...]]]
"""Author → heard event → what it says about it: (event, once in so many times)."""


@dataclass(slots=True)
class Heard:
    """A toy state: how much was heard, and when last."""

    count: int = 0
    time_ns: int = 0


def toy(author: str, table: dict[str, tuple[tuple[str, int], ...]]) -> Core[Heard]:
    """A core whose answers depend on everything it has heard and on its clock."""

    def evolve(state: Heard, event: Event, stamp: Stamp) -> None:
        state.count += 1
        state.time_ns = stamp.time_ns

    def decide_with(rules: tuple[tuple[str, int], ...]) -> Callable[[Heard, Event, Stamp], Sequence[Event]]:
        def decide(state: Heard, event: Event, stamp: Stamp) -> Sequence[Event]:
            # A core that has heard 20 facts falls silent, so that every tape ends.
            return [
                MAKE[name](state.count + stamp.time_ns)
                for name, period in rules
                if (state.count + stamp.pos) % period == 0 and state.count < 20
            ]

        return decide

    deciders = {EVENT_BY_NAME[name]: decide_with(rules) for name, rules in table.items()}
    own = {EVENT_BY_NAME[name] for name in SAID_BY[author]}
    return Core(
        name=author,
        initial=Heard,
        evolves={EVENT_BY_NAME[name]: evolve for name in [*table, *SAID_BY[author]]},
        decides=deciders,
        confirms={event: decide for event, decide in deciders.items() if event in own},
    )


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """For each author, what it hears and how it answers."""
    found: Table = {}
    for author, says in SAID_BY.items():
        heard = draw(st.lists(st.sampled_from(list(MAKE)), unique=True, min_size=2, max_size=6))
        rule = st.tuples(st.sampled_from(says), st.integers(1, 4))
        found[author] = {name: tuple(draw(st.lists(rule, min_size=1, max_size=2))) for name in heard}
    return found


outside_facts = st.lists(st.sampled_from(OUTSIDE), min_size=2, max_size=8)


def loop_tape(cores: Sequence[Core[Any]], outside: Sequence[str]) -> list[Recorded]:
    tape: list[Recorded] = []
    loop = Loop(cores, keep=tape.append)
    for number, name in enumerate(outside):
        loop.say(AUTHOR[name], MAKE[name](number), f"outside-{number}", number * 10)
    return tape


class World:
    """Services around a lock step: whoever has something to do is chosen by the test."""

    def __init__(self, cores: Sequence[Core[Any]]) -> None:
        self.plan: Plan = {core.name: [event.__name__ for event in core.hears] for core in cores}
        self.tape: list[Recorded] = []
        self.by_id: dict[str, Fact] = {}
        self.cores = cores
        self.followers = [Follower(core) for core in cores]
        self.inboxes: list[deque[Fact]] = [deque() for _ in cores]
        self.outside: deque[Ask] = deque()
        self.refused: list[Refused] = []
        self.gate = LockStep(Sequencer(Realm.REPLAY), self.plan)

    def feed(self, outside: Sequence[str]) -> None:
        for number, name in enumerate(outside):
            answer = Answer(0, (Draft(MAKE[name](number), f"outside-{number}"),), time_ns=number * 10)
            self.outside.append(Ask(AUTHOR[name], answer))

    def offer(self, ask: Ask) -> None:
        needs = self.gate.sequencer.needs(ask.author, ask.answer)
        known = {identity: self.by_id[identity] for identity in needs.ids if identity in self.by_id}
        cause = ask.answer.cause
        self.gate.offer(ask, known, self.tape[cause - 1].fact if 0 < cause <= len(self.tape) else None)
        for _, result in self.gate.advance(0):
            if isinstance(result, Refused):
                self.refused.append(result)
                continue
            for recorded in result.new:
                self.tape.append(recorded)
                self.by_id[recorded.fact.id] = recorded.fact
                for inbox in self.inboxes:
                    inbox.append(recorded.fact)

    def act(self, choose: Callable[[int], int]) -> bool:
        """Let somebody with something to do take one step; False when nobody has."""
        able = [index for index, inbox in enumerate(self.inboxes) if inbox]
        able += [-1] if self.outside else []
        if not able:
            return False
        who = able[choose(len(able))]
        if who < 0:
            self.offer(self.outside.popleft())
            return True
        fact = self.inboxes[who].popleft()
        author = self.cores[who].name
        decisions = self.followers[who].hear(fact)
        if type(fact.event).__name__ in self.plan[author]:
            self.offer(Ask(author, Answer(fact.pos, tuple(Draft(decision) for decision in decisions))))
        return True

    def restart(self) -> None:
        """Kill everything; restore services and lock step from the tape."""
        facts = [recorded.fact for recorded in self.tape]
        sequencer = Sequencer(Realm.REPLAY)
        sequencer.resume((recorded.fact, recorded.payload) for recorded in self.tape)
        after = max(0, max(sequencer.answered.values(), default=0) - 1)
        self.gate = LockStep(sequencer, self.plan, [fact for fact in facts if fact.pos > after])
        self.inboxes = [deque() for _ in self.cores]
        for index, core in enumerate(self.cores):
            answers = answers_of(core.name, facts)
            last = max(answers, default=0)
            self.followers[index] = Follower(core)
            for fact in facts[:last]:
                self.followers[index].recall(fact, answers.get(fact.pos, ()))
            self.inboxes[index].extend(fact for fact in facts if fact.pos > last)


@settings(max_examples=150, deadline=None)
@given(table=tables(), outside=outside_facts, order=st.randoms(use_true_random=False))
def test_lock_step_gives_the_tape_of_the_loop(table: Table, outside: list[str], order: Any) -> None:
    """Whatever the services' speed, and however far ahead the outside facts are sent, the bytes are the loop's."""
    cores = [toy(author, rules) for author, rules in table.items()]
    expected = loop_tape(cores, outside)
    world = World(cores)
    world.feed(outside)
    while world.act(order.randrange):
        pass
    assert [recorded.payload for recorded in world.tape] == [recorded.payload for recorded in expected]
    assert world.gate.sequencer.hash == (expected[-1].hash if expected else b"")
    assert world.refused == []
    assert world.gate.settled == len(expected)
    assert world.gate.waits_for == (0, ())


@settings(max_examples=150, deadline=None)
@given(
    table=tables(), outside=outside_facts, order=st.randoms(use_true_random=False), lives=st.lists(st.integers(1, 25))
)
def test_a_restart_of_everything_goes_on_with_the_same_tape(
    table: Table, outside: list[str], order: Any, lives: list[int]
) -> None:
    """Killed anywhere and restored from what was recorded, services and lock step end at the loop's tape."""
    cores = [toy(author, rules) for author, rules in table.items()]
    world = World(cores)
    world.feed(outside)
    everything = list(world.outside)
    for steps in lives:
        for _ in range(steps):
            world.act(order.randrange)
        world.restart()
        world.outside = deque(everything)  # whoever feeds does not know how far it came, and says all of it again
    while world.act(order.randrange):
        pass
    assert [recorded.payload for recorded in world.tape] == [r.payload for r in loop_tape(cores, outside)]


def test_a_lock_step_in_another_order_of_authors_is_caught() -> None:
    """The comparison can fail: a plan that forgets an author gives another tape than the loop."""
    rules: Table = {
        "regime": {"FeedOpened": (("TrainingRequested", 1),)},
        "risk": {"FeedOpened": (("LimitBreached", 1),)},
    }
    cores = [toy(author, table) for author, table in rules.items()]
    world = World(cores)
    world.gate = LockStep(Sequencer(Realm.REPLAY), {"regime": world.plan["regime"]})
    world.feed(["FeedOpened"])
    while world.act(lambda count: count - 1):
        pass
    assert [r.payload for r in world.tape] != [r.payload for r in loop_tape(cores, ["FeedOpened"])]


def lock_step() -> LockStep:
    return LockStep(Sequencer(Realm.REPLAY), {"risk": ["FeedOpened"], "regime": ["FeedOpened"]})


def fed(gate: LockStep) -> Fact:
    """One fact that risk and regime must answer."""
    gate.offer(Ask("marketdata", Answer(0, (Draft(MAKE["FeedOpened"](1), "feed"),), time_ns=5)), {}, None)
    ((_, result),) = gate.advance(0)
    assert isinstance(result, Admitted)
    return result.new[0].fact


def test_it_waits_for_everybody_who_hears() -> None:
    """An answer that came early is kept; nothing is recorded until the authors before it have answered."""
    gate = lock_step()
    fact = fed(gate)
    gate.offer(Ask("risk", Answer(1, (Draft(MAKE["TradingHalted"](1)),))), {}, fact)
    assert gate.advance(0) == []
    assert gate.waits_for == (1, ("regime",))
    gate.offer(Ask("regime", Answer(1, ())), {}, fact)
    assert [ask.author for ask, _ in gate.advance(0)] == ["regime", "risk"]
    assert (gate.settled, gate.sequencer.pos) == (2, 2)


def test_it_refuses_who_is_not_asked() -> None:
    """By the plan bandit does not answer a FeedOpened, and nobody answers what is not on the tape."""
    gate = lock_step()
    fact = fed(gate)
    gate.offer(Ask("bandit", Answer(1, ())), {}, fact)
    gate.offer(Ask("risk", Answer(9, ())), {}, None)
    results = [result for _, result in gate.advance(0)]
    assert all(isinstance(result, Refused) for result in results[1:])
    assert [r.reason for r in results if isinstance(r, Refused)][-1] is AppendRefusal.CAUSE_UNKNOWN


@pytest.mark.parametrize("facts", [(), (Draft(MAKE["TradingHalted"](1)),)], ids=["nothing", "something"])
def test_a_repeated_answer_gets_the_same_receipt(facts: tuple[Draft, ...]) -> None:
    """A service that lost the reply asks again and is told the same; another answer is too late."""
    gate = lock_step()
    fact = fed(gate)
    gate.offer(Ask("regime", Answer(1, ())), {}, fact)
    gate.offer(Ask("risk", Answer(1, facts)), {}, fact)
    first = [result for _, result in gate.advance(0) if isinstance(result, Admitted)][-1]
    known = {recorded.fact.id: recorded.fact for recorded in first.new}
    gate.offer(Ask("risk", Answer(1, facts)), known, fact)
    ((_, again),) = gate.advance(0)
    assert again == Admitted(first.positions, ())
    other = Answer(1, (Draft(MAKE["TradingResumed"](7)),))
    gate.offer(Ask("risk", other), known, fact)
    ((_, late),) = gate.advance(0)
    assert isinstance(late, Refused)
