"""The loop gear equals the naive loop: one follower per core, one tape in memory, a queue. Byte for byte."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_common.core import Core, Stamp
from tapeline_common.events import (
    AUTHOR_OF,
    EquityMarked,
    Event,
    HaltRequested,
    LifecycleViolated,
    OrderAccepted,
    TradingResumed,
    TrainingRequested,
)
from tapeline_common.follower import Follower
from tapeline_common.loop import Loop
from tapeline_common.sequencer import Recorded
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.testing import fingerprint
from tapeline_common.values import InstrumentId, OrderId, Realm
from tapeline_common.wire import Answer, Draft
from tapeline_common.wiring import in_author_order

MOST_STEPS = 3
"""Generated cores answer answers; a chain of causes ends after so many."""


def make(kind: type[Event], depth: int, text: str) -> Event:
    """An event that carries its depth in the chain of causes, and what its author knew."""
    made: dict[type[Event], Event] = {
        HaltRequested: HaltRequested(str(depth), text),
        OrderAccepted: OrderAccepted(OrderId("o"), str(depth), text),
        EquityMarked: EquityMarked(depth, Decimal(len(text)), Decimal(1), Decimal(2)),
        TrainingRequested: TrainingRequested(InstrumentId("BTC"), depth),
        TradingResumed: TradingResumed(str(depth)),
        LifecycleViolated: LifecycleViolated(OrderId("o"), None, str(depth), text),
    }
    return made[kind]


def depth_of(event: Any) -> int:
    fields = ("issuer", "client_order_id", "marked_ns", "bars", "event", "detail")
    return next(int(getattr(event, name)) for name in fields if hasattr(event, name))


SAID: dict[str, type[Event]] = {
    "venue": OrderAccepted,
    "ledger": EquityMarked,
    "regime": TrainingRequested,
    "risk": TradingResumed,
    "execution": LifecycleViolated,
}
HEARD: tuple[type[Event], ...] = (HaltRequested, *SAID.values())


@dataclass(slots=True)
class Memory:
    """Everything heard, in order: any difference in what a core is shown, or when, shows in what it says."""

    heard: list[tuple[str, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rules:
    """A generated core: what it hears, and how many facts it answers each with when the count fits."""

    name: str
    learns: tuple[type[Event], ...]
    answers: dict[type[Event], tuple[int, int]]

    def core(self) -> Core[Memory]:
        own = SAID[self.name]
        decides = {kind: self.decide for kind in self.answers if kind is not own}
        confirms = {kind: self.decide for kind in self.answers if kind is own}
        return Core(self.name, Memory, dict.fromkeys(self.learns, learn), decides, confirms)

    def decide(self, state: Memory, event: Event, stamp: Stamp) -> Sequence[Event]:
        depth = depth_of(event) + 1
        every, count = self.answers[type(event)]
        if depth > MOST_STEPS or len(state.heard) % every:
            return ()
        return [make(SAID[self.name], depth, f"{stamp.time_ns}:{len(state.heard)}:{n}") for n in range(count)]


def learn(state: Memory, event: Event, stamp: Stamp) -> None:
    state.heard.append((type(event).__name__, stamp.pos, stamp.time_ns))


def rules_of(name: str) -> st.SearchStrategy[Rules]:
    kinds = st.sampled_from(HEARD)
    return st.builds(
        Rules,
        st.just(name),
        st.lists(kinds, unique=True).map(tuple),
        st.dictionaries(kinds, st.tuples(st.integers(1, 3), st.integers(0, 2)), max_size=3),
    )


platforms = st.lists(st.sampled_from(list(SAID)), unique=True, min_size=1).flatmap(
    lambda names: st.tuples(*map(rules_of, names))
)
# Outside facts: mostly an operator's, and some that an adapter says under a core's own name.
outside = st.lists(
    st.tuples(st.sampled_from((HaltRequested, HaltRequested, OrderAccepted)), st.integers(0, 5)), max_size=8
)


def run_naive(cores: Sequence[Core[Any]], sayings: list[tuple[type[Event], int]]) -> tuple[list[bytes], list[str]]:
    tape = MemoryTape(Realm.REPLAY)
    followers = [Follower(core) for core in in_author_order(cores)]
    clock_ns = 0
    for number, (kind, later_ns) in enumerate(sayings):
        clock_ns += later_ns
        event = make(kind, 0, "outside")
        tape.record(AUTHOR_OF[kind], Answer(0, (Draft(event, f"x{number}"),), time_ns=clock_ns))
        queue = deque([tape.facts[-1]])
        while queue:
            fact = queue.popleft()
            for follower in followers:
                decisions = follower.hear(fact)
                if decisions:
                    head = tape.head
                    receipt = tape.record(follower.core.name, Answer(fact.pos, tuple(map(Draft, decisions))))
                    assert receipt.ok, receipt
                    queue.extend(tape.facts[head:])
    return [recorded.payload for recorded in tape.records], [fingerprint(follower.state) for follower in followers]


def run_loop(cores: Sequence[Core[Any]], sayings: list[tuple[type[Event], int]]) -> tuple[list[bytes], list[str]]:
    kept: list[Recorded] = []
    loop = Loop(cores, keep=kept.append)
    clock_ns = 0
    for number, (kind, later_ns) in enumerate(sayings):
        clock_ns += later_ns
        loop.say(AUTHOR_OF[kind], make(kind, 0, "outside"), f"x{number}", clock_ns)
    states = [fingerprint(loop.states[core.name]) for core in in_author_order(cores)]
    return [recorded.payload for recorded in kept], states


@settings(deadline=None, max_examples=150)
@given(platforms, outside)
def test_loop_equals_naive_loop(platform: tuple[Rules, ...], sayings: list[tuple[type[Event], int]]) -> None:
    """Whatever the cores and the facts: same bytes on the tape, same states at the end."""
    cores = [rules.core() for rules in platform]
    assert run_loop(cores, sayings) == run_naive(cores, sayings)
