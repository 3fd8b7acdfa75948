"""Deciding a tape again: the same core agrees, another is named with its position, unanswered facts are left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tapeline_common.core import Core, Stamp
from tapeline_common.events import BarClosed, Event, TradeDeclined
from tapeline_common.loop import Loop
from tapeline_common.recheck import Difference, Recheck, recheck
from tapeline_common.sequencer import Recorded
from tapeline_common.values import DecimalText, Decline, InstrumentId, StrategyId
from tapeline_common.wire import Fact

DOGE = InstrumentId("DOGE")


@dataclass
class Count:
    bars: int = 0


def learn(state: Count, event: BarClosed, stamp: Stamp) -> None:
    state.bars += 1


def declined(detail: str) -> TradeDeclined:
    return TradeDeclined(StrategyId("shy"), DOGE, Decline.REGIME_UNKNOWN, 0, Decimal(1), detail)


def every(bars: int) -> Core[Count]:
    """A core that speaks at every so many bars."""

    def decide(state: Count, event: BarClosed, stamp: Stamp) -> Sequence[Event]:
        return (declined(str(state.bars)),) if state.bars % bars == 0 else ()

    return Core("strategy", Count, {BarClosed: learn}, {BarClosed: decide})


def tape_of(core: Core[Count], bars: int) -> list[Fact]:
    kept: list[Recorded] = []
    loop = Loop([core], keep=kept.append)
    one = DecimalText("1")
    for index in range(bars):
        bar = BarClosed(DOGE, "1m", index, index + 1, one, one, one, one, one)
        loop.say("marketdata", bar, f"bar:{index}", index + 1)
    return [recorded.fact for recorded in kept]


def test_the_same_core_agrees_with_every_answer() -> None:
    """All answers are counted and none differs."""
    assert recheck(every(3), (), tape_of(every(3), 10)) == [Recheck("strategy", 10, 3, None)]


def test_another_core_is_named_at_its_first_difference() -> None:
    """The position, what was recorded and what is decided now."""
    facts = tape_of(every(3), 10)

    (result,) = recheck(every(2), (), facts)

    assert result.difference == Difference(2, "BarClosed", (), (declined("2"),))


def test_facts_after_the_last_answer_are_left_alone() -> None:
    """On a living tape their answers may still be on the way."""
    facts = tape_of(every(4), 7)

    assert recheck(every(4), (), facts[:4]) == [Recheck("strategy", 4, 0, None)]
