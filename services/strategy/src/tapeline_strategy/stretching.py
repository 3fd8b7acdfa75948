"""The strategy core over a stretch: one seat that trades with its own parameters and has no order open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapeline_common.stretch import Stretch
from tapeline_common.values import Decline, InstrumentId, StrategyId, TradingState
from tapeline_strategy.core import quantity_of

if TYPE_CHECKING:
    from tapeline_strategy.core import Seat, State


BARRED = (Decline.REGIME_BLOCKED, Decline.REGIME_UNKNOWN)
"""What a seat may have said of its target where a stretch begins."""


def plain_seat(state: State, strategy: StrategyId, instrument: InstrumentId) -> Seat | None:
    """The seat, if nothing but a new target or another regime can make it speak."""
    seat = state.seat_of(strategy, instrument)
    if seat is None or state.trading is not TradingState.RUNNING or strategy in state.disabled:
        return None
    is_plain = (
        len(seat.readings) == 1
        and not seat.regime_missed
        and not seat.lacks_preset
        and seat.chosen is None
        and not seat.working
        and (seat.said is None or (seat.said[0] in BARRED and seat.said[1] == quantity_of(seat)))
        and seat.refused is None
        and not seat.is_waiting
    )
    return seat if is_plain else None


def learn_stretch(state: State, stretch: Stretch) -> None:
    seat = state.seats[stretch.instrument][stretch.strategy]
    (reading,) = seat.readings.values()
    reading.memory, reading.target = stretch.memory, stretch.target
    seat.target, seat.settled = stretch.target, stretch.settled
    seat.said = None if stretch.said is None else (stretch.said, quantity_of(seat))
    seat.position = stretch.position
    seat.bars += stretch.bars
    seat.bar_open_ns = stretch.bar.open_ns
    seat.decides_at = stretch.decided_pos
