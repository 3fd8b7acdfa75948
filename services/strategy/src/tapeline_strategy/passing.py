"""Strategies over many bars at once: how long every seat stays settled, and what its indicators are then.

A seat is settled while its target is one that surely needs no order. Settled bars change indicators and counters only,
so the compiled ``step`` can run over them. Everything else (a target without opinion, a refusal to retry, a regime to
wait for, an instance whose ``step`` is not compiled) is heard bar by bar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tapeline_common.bar_block import BarBlock
from tapeline_common.core import FOREVER, NEVER, Stamp
from tapeline_common.values import Regime, TradingState

if TYPE_CHECKING:
    from tapeline_strategy.core import Seat, State


def silent_until(state: State, block: BarBlock, start: int, stop: int) -> int:
    """To the first bar that moves the target of some seat of this instrument away from the settled one."""
    seats = state.seats.get(block.instrument)
    if seats is None:
        return stop
    if state.trading is not TradingState.RUNNING:
        return start
    for seat in seats.values():
        if seat.timeframe != block.timeframe:
            if block.is_echoed:
                return start
            continue
        if seat.target != seat.settled or (seat.regimes and not _waits_as_usual(state, block, seat)):
            return start
        steps = block.steps(seat.kind)
        if steps is None:
            return start
        reading = seat.readings[seat.acting]
        stop = steps.silent_until(reading.memory, reading.parameters, start, stop, seat.settled)
        if stop == start:
            return start
    return stop


def _waits_as_usual(state: State, block: BarBlock, seat: Seat) -> bool:
    """Either no regime is known and none is said, or each bar's regime comes right after it."""
    return _is_regime_known(state, block) == block.is_echoed and not (block.is_echoed and seat.regime_missed)


def _is_regime_known(state: State, block: BarBlock) -> bool:
    return state.regimes.get(block.instrument, Regime.UNKNOWN) is not Regime.UNKNOWN


def take_bars(state: State, block: BarBlock, start: int, stop: int, last: Stamp) -> None:
    """Move every reading over the bars; the acting one's target is the settled one after each of them."""
    for seat in state.seats.get(block.instrument, {}).values():
        if seat.timeframe != block.timeframe:
            continue
        steps = block.steps(seat.kind)
        assert steps is not None, "silent_until refused a seat without compiled steps"
        for reading in seat.readings.values():
            reading.memory, reading.target = steps.after(reading.memory, reading.parameters, start, stop)
        seat.bars += stop - start
        seat.bar_open_ns = block.open_ns[stop - 1]
        seat.decides_at = last.pos
        if seat.regimes:
            seat.regime_missed = seat.regime_missed or seat.is_waiting
            seat.is_waiting = block.is_echoed
            seat.decides_at = 0 if block.is_echoed else last.pos


def quiet_about_fills(state: State) -> int:
    """A fill is only answered while flattening."""
    return NEVER if state.trading is TradingState.FLATTENING else FOREVER
