"""An adapter's door on a tape in memory: processes that die at a chosen request, and sleepers that do not sleep."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tapeline_common.events import Event, FeedOpened, InstrumentListed
from tapeline_common.follower import Follower
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.values import InstrumentId
from tapeline_common.wire import Answer, Draft
from tapeline_common.wiring import Adapter
from tapeline_marketdata.core import CORE, State

BTC, ETH = InstrumentId("BTC-USDT_sim"), InstrumentId("ETH-USDT_sim")
BINANCE_BTC = InstrumentId("BTC-USDT_binance")


class Killed(Exception):
    """The process ends here."""


class TapeDoor:
    """A door on a tape in memory whose core hears nothing back while the feed runs: the worst lag there is.

    A new door on the same tape is a restart. ``kill_at``: the number of the request in which the process dies, having
    reached the tape (``lost`` false) or not.
    """

    def __init__(self, tape: MemoryTape, *, kill_at: int = 10**9, lost: bool = False) -> None:
        self.tape = tape
        self.said: list[tuple[str, ...]] = []
        self._follower = Follower(CORE)
        self._kill_at = kill_at
        self._lost = lost
        self.hear()

    def hear(self) -> None:
        for fact in self.tape.facts[self._follower.heard :]:
            self._follower.hear(fact)

    @property
    def state(self) -> State:
        return self._follower.state

    async def say(self, facts: Sequence[tuple[str, Event]]) -> None:
        self.said.append(tuple(identity for identity, _ in facts))
        dies = len(self.said) == self._kill_at
        if dies and self._lost:
            raise Killed
        receipt = self.tape.record("marketdata", Answer(0, tuple(Draft(event, identity) for identity, event in facts)))
        assert receipt.ok, receipt
        if dies:
            raise Killed


class Sleeper:
    """Notes its waits and ends the feed after ``turns`` of them."""

    def __init__(self, turns: int = 10**9) -> None:
        self.waits: list[float] = []
        self._turns = turns

    async def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)
        if len(self.waits) >= self._turns:
            raise Killed

    def clock(self) -> float:
        """Seconds since the start: no time passes but in sleeps."""
        return sum(self.waits)


def listed(*instruments: InstrumentId) -> MemoryTape:
    """A live tape that begins with the listing of these instruments."""
    tape = MemoryTape()
    drafts = [Draft(listing(instrument), f"instrument:{instrument}#1") for instrument in instruments]
    assert tape.record("marketdata", Answer(0, tuple(drafts))).ok
    return tape


def listing(instrument: InstrumentId) -> InstrumentListed:
    base, quote = instrument.partition("_")[0].split("-")
    return InstrumentListed(instrument, f"{base}/{quote}", "sim", base, quote)


def outside(tape: MemoryTape) -> list[tuple[str, Event]]:
    """Everything on the tape after the listings, in order, with ids."""
    return [(fact.id, fact.event) for fact in tape.facts if not isinstance(fact.event, InstrumentListed)]


def events(tape: MemoryTape) -> list[Event]:
    return [event for _, event in outside(tape) if not isinstance(event, FeedOpened)]


async def run_until_killed(adapter: Adapter, door: TapeDoor) -> TapeDoor:
    with pytest.raises(Killed):
        await adapter.run(door)
    return door
