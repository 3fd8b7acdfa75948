"""The strategy core over a stretch: one seat that trades with its own parameters and has no order open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapeline_common.stretch import Stretch
from tapeline_common.values import InstrumentId, StrategyId, TradingState

if TYPE_CHECKING:
    from tapeline_strategy.core import Seat, State


def plain_seat(state: State, strategy: StrategyId, instrument: InstrumentId) -> Seat | None:
    """The seat, if nothing but a new target can make it speak."""
    seat = state.seat_of(strategy, instrument)
    if seat is None or state.trading is not TradingState.RUNNING or strategy in state.disabled:
        return None
    is_plain = (
        len(seat.readings) == 1
        and not seat.regimes
        and not seat.lacks_preset
        and seat.chosen is None
        and not seat.working
        and seat.said is None
        and seat.refused is None
        and not seat.is_waiting
    )
    return seat if is_plain else None


def learn_stretch(state: State, stretch: Stretch) -> None:
    seat = state.seats[stretch.instrument][stretch.strategy]
    (reading,) = seat.readings.values()
    reading.memory, reading.target = stretch.memory, stretch.target
    seat.target, seat.settled = stretch.target, stretch.settled
    seat.position = stretch.position
    seat.bars += stretch.bars
    seat.bar_open_ns = stretch.bar.open_ns
    seat.decides_at = stretch.last.pos
