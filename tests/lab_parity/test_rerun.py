"""A rerun of a session by the code that made it is the session, whatever went wrong while it was recorded."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from tests.lab_parity.sessions import live_session

from tapeline_common.core import Core
from tapeline_common.events import BarClosed, OrderFilled
from tapeline_common.loop import Loop
from tapeline_common.sequencer import Recorded
from tapeline_common.wire import encode
from tapeline_execution.venue import CORE as VENUE
from tapeline_execution.venue import answer_bar
from tapeline_lab.parity.record import record_of
from tapeline_lab.parity.rerun import Gear, Ran, Rerun, installed_gear

SEEDS = range(10)


def bytes_of(ran: Ran) -> list[bytes]:
    return [recorded.payload for recorded in ran.recorded]


def dearer(gear: Gear) -> Gear:
    """A mutant: the venue fills every buy one tick dearer."""

    def answer(state: object, event: object, stamp: object) -> list[object]:
        found = answer_bar(state, event, stamp)  # type: ignore[arg-type]
        return [
            msgspec.structs.replace(each, price=each.price + each.side.sign * Decimal("0.01"))
            if isinstance(each, OrderFilled)
            else each
            for each in found
        ]

    mutant: Core[object] = replace(VENUE, decides={**VENUE.decides, BarClosed: answer})  # type: ignore[arg-type]
    return Gear(tuple(mutant if core.name == "venue" else core for core in gear.cores), gear.workers)


@pytest.mark.parametrize("seed", SEEDS)
def test_unchanged_code_makes_the_same_tape_to_the_last_byte(seed: int) -> None:
    """Positions, ids, stamps and content: services that were slow, killed and restored are slow again, no more."""
    record = live_session(seed)

    ran = Rerun(record, installed_gear(), record.outside()).run()

    assert bytes_of(ran) == [encode(fact) for fact in record.facts]


@pytest.mark.parametrize("seed", [6, 8])
def test_a_mutant_does_not(seed: int) -> None:
    """The check can fail: one tick in one rule of the venue changes the tape."""
    record = live_session(seed)

    ran = Rerun(record, dearer(installed_gear()), record.outside()).run()

    assert bytes_of(ran) != [encode(fact) for fact in record.facts]


@pytest.mark.parametrize("seed", SEEDS)
def test_in_lock_step_it_is_a_backtest_of_the_same_events(seed: int) -> None:
    """With answers at once, the rerun is the loop gear's tape of the same outside facts, to the last byte: the same
    orders, the same fills, the same equity."""
    record, gear = live_session(seed), installed_gear()
    kept: list[Recorded] = []
    loop = Loop(gear.cores, gear.workers, kept.append)
    for saying in record.outside():
        loop.say(saying.author, saying.event, saying.id, max(saying.time_ns, loop.sequencer.clock_ns))

    ran = Rerun(record, gear, record.outside(), lock_step=True).run()

    assert bytes_of(ran) == [recorded.payload for recorded in kept]


def test_the_end_of_a_live_tape_is_not_judged() -> None:
    """A tape cut between a cause and its answer: the answer is under way and neither recorded nor missed."""
    whole = live_session(6)
    proposal = next(fact for fact in reversed(whole.facts) if type(fact.event).__name__ == "OrderProposed")
    cut = record_of(whole.facts[: proposal.pos])

    ran = Rerun(cut, installed_gear(), cut.outside()).run()

    assert bytes_of(ran) == [encode(fact) for fact in cut.facts]
    assert ran.under_way >= 1
