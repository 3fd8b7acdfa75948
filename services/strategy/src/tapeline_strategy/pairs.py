"""Two legs as one unit: one instance that hears two instruments, decides when it has a bar of both, and answers with
the orders of both legs at once.

An answer is recorded whole or not at all, so both intents are on the tape or neither. From there on each leg is an
order like any other, and one of them can fail. The leg risk policy, each step of it a fact with its reason:

    entry       both legs are proposed, or neither: a leg that cannot be keeps the other one back (LEG_MISSING)
    a leg ends  refused, rejected, withheld, expired or cancelled before it is filled: the trade is over (LEG_MISSING),
                and at the next bar of either leg whatever is held or open of both is closed
    a leg lags  still open ``LEG_BARS`` bars of the pair after the other one is done: the same
    after that  nothing is wanted until the strategy itself wants nothing, so a failed trade is not entered again
    exit        each leg by itself; one that is refused is proposed again like any other order

Only the difference between what is wanted and what is held plus open is ever proposed, so a leg that fills after all,
while the trade is being closed, is closed as well. A pair looks at no regimes and has no presets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tapeline_common.core import Stamp
from tapeline_common.events import BarClosed, Event, OrderProposed, StrategyConfigured, TradeDeclined
from tapeline_common.money import ZERO
from tapeline_common.values import Decline, InstrumentId, TradingState
from tapeline_strategy.sdk import ParameterInvalid, Strategy

if TYPE_CHECKING:
    from tapeline_strategy.core import Seat, State

LEGS = 2

LEG_BARS = 3
"""Bars of the pair that one leg may stay open alone: a large order needs a few bars, a lost one never comes."""

Bars = tuple[float, float, float, float, float]

Conclude = Callable[["State", "Seat", Stamp, list[Event]], None]
"""How the core turns what one seat wants into an order or a reason."""


@dataclass(slots=True)
class Pair:
    """What the two seats of one instance share.

    Attributes:
        bars: latest bar of each leg, with its open time.
        fault: why the trade is being closed, until the strategy wants nothing; ``is_told`` once it is on the tape.
        alone: bars of the pair for which exactly one leg has been open.
    """

    legs: tuple[InstrumentId, InstrumentId]
    memory: Any
    bars: dict[InstrumentId, tuple[int, Bars]] = field(default_factory=dict)
    fault: str = ""
    is_told: bool = False
    alone: int = 0


def check_legs(strategy: Strategy, instruments: int, *, is_bound: bool) -> None:
    """Raises ``ParameterInvalid`` if a strategy of two legs is not given exactly two instruments and nothing else.

    Args:
        is_bound: it is bound to regimes or presets.
    """
    if strategy.both is None:
        return
    if instruments != LEGS:
        raise ParameterInvalid(f"strategy {strategy.name!r} trades two instruments as one, not {instruments}: name two")
    if is_bound:
        raise ParameterInvalid(f"strategy {strategy.name!r} trades two instruments as one: no regimes, no presets")


def pair_of(strategy: Strategy, event: StrategyConfigured, memory: Any) -> Pair | None:
    """What the seats of a configured instance share, if it has two legs."""
    if strategy.both is None:
        return None
    first, second = event.instruments
    return Pair((first, second), memory)


def learn_bar(state: State, seat: Seat, strategy: Strategy, bar: BarClosed, numbers: Bars, stamp: Stamp) -> None:
    """Take one leg's bar; when both legs have the bar of one time, ask the strategy."""
    pair = seat.pair
    assert pair is not None, "the core asks for seats of pairs only"
    assert strategy.both is not None, "check_legs let it in"
    seat.bars += 1
    seat.bar_open_ns = bar.open_ns
    pair.bars[seat.instrument] = (bar.open_ns, numbers)
    seats = seats_of(state, seat)
    (first_ns, first), (second_ns, second) = (pair.bars.get(leg, (-1, numbers)) for leg in pair.legs)
    is_whole = first_ns == second_ns
    if is_whole or pair.fault or state.trading is not TradingState.RUNNING:
        seat.decides_at = stamp.pos
    if is_whole:
        reading = seat.readings[seat.acting]
        wanted = strategy.both(pair.memory, *reading.parameters, *first, *second)
        if pair.fault and wanted == (0.0, 0.0):
            pair.fault, pair.is_told = "", False
        _watch_legs(pair, seats)
        for one, target in zip(seats, wanted, strict=True):
            _want(one, target)
    if pair.fault:
        for one in seats:
            _want(one, 0.0)


def _want(seat: Seat, target: float) -> None:
    seat.readings[seat.acting].target = target
    if target != seat.target:
        seat.target = target
        seat.said = None
        seat.refused = None


def _watch_legs(pair: Pair, seats: list[Seat]) -> None:
    """Count how long one leg has been open alone; too long is a fault while the strategy holds a trade."""
    open_legs = [seat for seat in seats if seat.working]
    pair.alone = pair.alone + 1 if len(open_legs) == 1 else 0
    if pair.alone > LEG_BARS and open_legs[0].target != 0.0:
        fail(pair, f"the leg {open_legs[0].instrument} is still open {LEG_BARS} bars after the other one was done")


def fail(pair: Pair, why: str) -> None:
    """From now on both legs are closed, until the strategy wants nothing. The first reason stands."""
    pair.alone = 0
    if not pair.fault:
        pair.fault, pair.is_told = why, False


def seats_of(state: State, seat: Seat) -> list[Seat]:
    """Both seats of a pair, in the order of its legs."""
    assert seat.pair is not None, "the core asks for seats of pairs only"
    return [state.seats[leg][seat.strategy] for leg in seat.pair.legs]


def decide(
    state: State, seat: Seat, stamp: Stamp, said: list[Event], conclude: Conclude, is_there: Callable[[Seat], bool]
) -> None:
    """Conclude both legs: what is wanted of them with both orders or none, an exit leg by leg.

    Args:
        is_there: whether a leg holds, or has open, exactly what it wants.
    """
    pair = seat.pair
    assert pair is not None, "the core asks for seats of pairs only"
    seats = seats_of(state, seat)
    if pair.fault and not pair.is_told:
        said.append(_missing(seat, pair.fault))
    begun = len(said)
    for one in seats:
        if one.target != one.settled or state.trading is not TradingState.RUNNING:
            conclude(state, one, stamp, said)
    if pair.fault or not any(one.target == one.target and one.target != 0.0 for one in seats):
        return
    proposed = {event.terms.instrument for event in said[begun:] if isinstance(event, OrderProposed)}
    lacking = [one for one in seats if one.instrument not in proposed and not is_there(one)]
    if proposed and lacking:
        said[begun:] = [event for event in said[begun:] if not isinstance(event, OrderProposed)]
        for one in seats:
            why = f"the leg {lacking[0].instrument} cannot be proposed"
            if one.instrument in proposed and (one.said is None or one.said[0] is not Decline.LEG_MISSING):
                said.append(_missing(one, why))


def _missing(seat: Seat, why: str) -> TradeDeclined:
    return TradeDeclined(seat.strategy, seat.instrument, Decline.LEG_MISSING, seat.bar_open_ns, ZERO, why)
