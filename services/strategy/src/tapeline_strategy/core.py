"""Strategies: from bars, regimes and presets to proposed orders, and a reason whenever a signal is not acted on.

Every configured instance has a seat at each of its instruments: its indicators, its own position and its own open
orders. A bar moves the indicators; then, once for each bar, the wanted exposure is compared with what is held plus all
that is still open, and the difference is proposed as one market order.

It deliberately judges no risk, knows no prices of its own orders, and sends nothing. What a strategy computes is in
the SDK's ``step``; this module never looks inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from math import nan
from typing import Any

from tapeline_common import control
from tapeline_common.bar_block import Passing
from tapeline_common.core import Core, Quiet, Stamp
from tapeline_common.events import (
    BarClosed,
    Event,
    FeedOpened,
    FlattenRequested,
    InstrumentListed,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderProposed,
    OrderRefused,
    OrderRejected,
    OrderTerms,
    OrderWithheld,
    Parameters,
    ParameterValue,
    PresetChosen,
    PresetRegistered,
    RegimeUpdated,
    StrategyConfigured,
    StrategyDisableRequested,
    StrategyEnableRequested,
    TradeDeclined,
)
from tapeline_common.money import ZERO, plain, round_down
from tapeline_common.values import (
    Decline,
    InstrumentId,
    OrderId,
    Purpose,
    Regime,
    Side,
    StrategyId,
    TradingState,
)
from tapeline_strategy import pairs, passing
from tapeline_strategy.catalogue import StrategyUnknown, find
from tapeline_strategy.pairs import Pair, check_legs, pair_of
from tapeline_strategy.sdk import ParameterInvalid, check_bars, validate

MAX_OPEN_ORDERS = 2
"""Open orders of one instance on one instrument: one being filled and the one that reverses it."""

RETRY_BARS = 10
"""Bars before a target that was refused is proposed again: a passing cause has passed, a lasting one does not flood."""

OWN = ""
"""Name of the reading made with the instance's own parameters; presets have longer names."""


@dataclass(slots=True)
class Reading:
    """One setting of a strategy following one instrument. ``target`` is its latest answer; NaN: no opinion yet."""

    parameters: tuple[ParameterValue, ...]
    memory: Any
    target: float = nan


@dataclass(slots=True)
class Working:
    """An order of ours that is not over. ``remaining`` is signed: negative sells."""

    remaining: Decimal
    target: Decimal
    purpose: Purpose


@dataclass(slots=True)
class Seat:
    """One instance at one instrument.

    Attributes:
        readings: the instance's own parameters and every registered preset, all following the bars.
        acting: name of the reading whose target counts; ``decision`` names the preset decision it acts under.
        lacks_preset: the instance wants a preset and none has been chosen that it can run.
        chosen: (preset, decision) that takes over when the seat is flat with nothing in flight.
        target: the acting reading's target after the latest bar.
        settled: a target that surely needs no order; any other (NaN always) is looked at exactly.
        said: reason and target of the latest TradeDeclined, until there is something new to say.
        refused: target that was refused, why, and at which count of ``bars``.
        decides_at: position of the fact at which this bar is decided; 0 while the bar's regime is awaited.
        regime_missed: a bar passed without its regime; bars are decided without waiting until the regime speaks again.
        pair: shared with the other leg's seat, where the instance trades two instruments as one.
    """

    strategy: StrategyId
    instrument: InstrumentId
    kind: str
    timeframe: str
    size: Decimal
    regimes: tuple[Regime, ...]
    readings: dict[str, Reading]
    lacks_preset: bool
    acting: str = OWN
    decision: str = ""
    chosen: tuple[str, str] | None = None
    position: Decimal = ZERO
    working: dict[OrderId, Working] = field(default_factory=dict)
    target: float = nan
    settled: float = 0.0
    said: tuple[Decline, Decimal] | None = None
    refused: tuple[Decimal, str, int] | None = None
    bars: int = 0
    bar_open_ns: int = 0
    decides_at: int = 0
    is_waiting: bool = False
    regime_missed: bool = False
    pair: Pair | None = None


@dataclass(slots=True)
class State:
    """Seats by instrument and instance; nothing configured means nothing is ever proposed.

    Attributes:
        faults: why a configured instance, or (instance, preset), cannot run.
        presets: registered presets of each instance, also of instances that are configured later.
        orders: whose order it is, for each order that is not over.
        stale_after_ns: how long after its opening a bar of an instrument decides nothing any more; 0: never.
    """

    trading: TradingState = TradingState.HALTED
    seats: dict[InstrumentId, dict[StrategyId, Seat]] = field(default_factory=dict)
    presets: dict[StrategyId, dict[str, Parameters]] = field(default_factory=dict)
    faults: dict[tuple[StrategyId, str], str] = field(default_factory=dict)
    disabled: dict[StrategyId, str] = field(default_factory=dict)
    lots: dict[InstrumentId, Decimal | None] = field(default_factory=dict)
    regimes: dict[InstrumentId, Regime] = field(default_factory=dict)
    orders: dict[OrderId, tuple[InstrumentId, StrategyId]] = field(default_factory=dict)
    stale_after_ns: dict[InstrumentId, int] = field(default_factory=dict)

    def seat_of(self, strategy: StrategyId, instrument: InstrumentId) -> Seat | None:
        return self.seats.get(instrument, {}).get(strategy)

    def seats_of(self, strategy: StrategyId) -> list[Seat]:
        return [seats[strategy] for seats in self.seats.values() if strategy in seats]


# ---- deciders ----------------------------------------------------------------------------------------------------


def decide(state: State, event: BarClosed | RegimeUpdated, stamp: Stamp) -> Sequence[Event]:
    """Decide the bar with the seats whose turn it is. The path of a quiet bar: compare one float."""
    seats = state.seats.get(event.instrument)
    if seats is None:
        return ()
    pos = stamp.pos
    said: list[Event] = []
    for seat in seats.values():
        if seat.decides_at != pos:
            continue
        if seat.pair is not None:
            pairs.decide(state, seat, stamp, said, _conclude, _is_there)
        elif seat.target != seat.settled or state.trading is not TradingState.RUNNING:
            _conclude(state, seat, stamp, said)
    return said


def decide_flatten(state: State, _event: Event, stamp: Stamp) -> Sequence[Event]:
    """Close every position that no flattening order covers yet."""
    said: list[Event] = []
    for seats in state.seats.values():
        for seat in seats.values():
            _flatten(state, seat, stamp, said)
    return said


def decide_fill(state: State, event: OrderFilled, stamp: Stamp) -> Sequence[Event]:
    """A fill that arrives while flattening (the venue was faster than the cancel) is flattened as well."""
    if state.trading is not TradingState.FLATTENING:
        return ()
    said: list[Event] = []
    seat = state.seat_of(event.strategy, event.instrument)
    if seat is not None:
        _flatten(state, seat, stamp, said)
    return said


def decide_configured(state: State, event: StrategyConfigured, _stamp: Stamp) -> Sequence[Event]:
    """An instance that cannot run says so at once, for each of its instruments."""
    fault = state.faults.get((event.strategy, OWN))
    if fault is None:
        return ()
    return [_declined(event.strategy, instrument, fault) for instrument in event.instruments]


def decide_preset(state: State, event: PresetRegistered, _stamp: Stamp) -> Sequence[Event]:
    """A preset that its strategy cannot run says so at once."""
    fault = state.faults.get((event.strategy, event.preset))
    if fault is None:
        return ()
    return [_declined(seat.strategy, seat.instrument, fault) for seat in state.seats_of(event.strategy)]


def _declined(strategy: StrategyId, instrument: InstrumentId, fault: str) -> TradeDeclined:
    return TradeDeclined(strategy, instrument, Decline.PARAMETERS_INVALID, 0, ZERO, fault)


def _conclude(state: State, seat: Seat, stamp: Stamp, said: list[Event]) -> None:
    """Compare the wanted exposure with position and open orders; propose the difference or say why not."""
    if state.trading is TradingState.FLATTENING:
        _flatten(state, seat, stamp, said)
    if seat.target != seat.target:
        return
    expected = _expected(seat)
    wanted = quantity_of(seat)
    if wanted == expected:
        return
    refusal = _closed_door(state, seat) or _bar_is_stale(state, seat, stamp)
    allowed = wanted
    if refusal is None:
        refusal = _regime_bars(state, seat)
        if refusal is not None:
            allowed = _reduced(expected, wanted)
            if allowed == wanted:
                refusal = None
        if allowed != expected:
            held_back = _propose(state, seat, stamp, said, expected, allowed)
            refusal = held_back or refusal
    if refusal is not None and seat.said != (refusal[0], wanted):
        reason, detail = refusal
        said.append(TradeDeclined(seat.strategy, seat.instrument, reason, seat.bar_open_ns, wanted, detail))


def _closed_door(state: State, seat: Seat) -> tuple[Decline, str] | None:
    """Why this instance may propose nothing at all."""
    if state.trading is not TradingState.RUNNING:
        return Decline.TRADING_HALTED, f"trading is {state.trading}"
    if seat.strategy in state.disabled:
        return Decline.STRATEGY_DISABLED, state.disabled[seat.strategy]
    if seat.lacks_preset:
        preset = seat.chosen[0] if seat.chosen is not None else ""
        fault = state.faults.get((seat.strategy, preset)) if preset else None
        if fault is not None:
            return Decline.PARAMETERS_INVALID, fault
        return Decline.PRESET_MISSING, f"preset {preset!r} is not registered" if preset else "no preset is chosen"
    return None


def _bar_is_stale(state: State, seat: Seat, stamp: Stamp) -> tuple[Decline, str] | None:
    """Whether a later bar has closed since: history at the start, and what was missed while the feed was away, moves
    indicators and regimes but is nothing to act on. Said of exits, too: the latest bar, moments later, decides them."""
    stale_after_ns = state.stale_after_ns.get(seat.instrument, 0)
    if not stale_after_ns or stamp.time_ns - seat.bar_open_ns <= stale_after_ns:
        return None
    return Decline.INPUT_STALE, "the bar is of the past: a later one has closed since"


def _regime_bars(state: State, seat: Seat) -> tuple[Decline, str] | None:
    """Why this instance may not take on exposure."""
    if not seat.regimes:
        return None
    regime = state.regimes.get(seat.instrument, Regime.UNKNOWN)
    if regime is not Regime.UNKNOWN:
        if seat.regime_missed:
            return Decline.INPUT_STALE, "the regime of an earlier bar never came"
        if regime in seat.regimes:
            return None
    return barred_by(seat.regimes, regime)


def barred_by(regimes: tuple[Regime, ...], regime: str) -> tuple[Decline, str]:
    """What an instance that trades in ``regimes`` says of another one."""
    if regime == Regime.UNKNOWN:
        return Decline.REGIME_UNKNOWN, "no regime is known"
    return Decline.REGIME_BLOCKED, f"regime {regime} is none of {', '.join(regimes)}"


def _reduced(expected: Decimal, wanted: Decimal) -> Decimal:
    """The part of a change that only takes exposure off: towards zero, never beyond and never away from it."""
    if expected > 0:
        return min(expected, max(wanted, ZERO))
    return max(expected, min(wanted, ZERO))


def _propose(
    state: State, seat: Seat, stamp: Stamp, said: list[Event], expected: Decimal, target: Decimal
) -> tuple[Decline, str] | None:
    """Propose the order from ``expected`` to ``target``, or return why not."""
    if seat.refused is not None:
        refused_target, reason, since = seat.refused
        if refused_target == target and seat.bars - since < RETRY_BARS:
            return Decline.ORDER_REFUSED, reason
    if len(seat.working) >= MAX_OPEN_ORDERS:
        return Decline.ORDER_IN_FLIGHT, f"{len(seat.working)} orders are open: {', '.join(seat.working)}"
    change = target - expected
    lot = state.lots.get(seat.instrument)
    quantity = round_down(abs(change), lot)
    if quantity == 0:
        return Decline.QUANTITY_BELOW_LOT, f"{plain(abs(change))} is less than one lot of {lot}"
    side = Side.BUY if change > 0 else Side.SELL
    terms = OrderTerms(seat.strategy, seat.instrument, side, plain(quantity), decision=seat.decision)
    said.append(_order(state, seat, stamp, said, terms, target))
    return None


def _flatten(state: State, seat: Seat, stamp: Stamp, said: list[Event]) -> None:
    """Propose what closes the filled position, less what flattening orders already cover."""
    covering = [order.remaining for order in seat.working.values() if order.purpose is Purpose.FLATTEN]
    uncovered = seat.position + sum(covering, ZERO)
    if uncovered * seat.position <= 0:
        return
    terms = OrderTerms(
        seat.strategy,
        seat.instrument,
        Side.SELL if uncovered > 0 else Side.BUY,
        plain(min(abs(uncovered), abs(seat.position))),
        reduce_only=True,
        purpose=Purpose.FLATTEN,
        decision=seat.decision,
    )
    said.append(_order(state, seat, stamp, said, terms, ZERO))


def _order(
    state: State, seat: Seat, stamp: Stamp, said: list[Event], terms: OrderTerms, target: Decimal
) -> OrderProposed:
    index = sum(isinstance(event, OrderProposed) for event in said) if said else 0
    name = f"{seat.strategy}-{stamp.pos}-{index}" if index else f"{seat.strategy}-{stamp.pos}"
    regime = state.regimes.get(seat.instrument, Regime.UNKNOWN)
    return OrderProposed(OrderId(name), terms, stamp.time_ns, seat.bar_open_ns, target, regime)


def _expected(seat: Seat) -> Decimal:
    """What the seat will hold once all its open orders are filled. Counting them so keeps it from ordering twice."""
    expected = seat.position
    for order in seat.working.values():
        expected += order.remaining
    return expected


def _is_there(seat: Seat) -> bool:
    """Whether nothing has to be ordered for what is wanted."""
    return quantity_of(seat) == _expected(seat)


def quantity_of(seat: Seat) -> Decimal:
    """The wanted position."""
    target = seat.target
    if not -1.0 <= target <= 1.0:
        raise ValueError(f"strategy {seat.strategy!r} ({seat.kind}) wants an exposure of {target}, outside [-1, 1]")
    return _share(target, seat.size)


@lru_cache(maxsize=1024)  # most strategies want one of two or three exposures, and each is asked for twice
def _share(target: float, size: Decimal) -> Decimal:
    """A target's share of a size. It is taken as the shortest decimal that reads back as the same float."""
    # Adding zero turns -0.0 into 0.0, which would otherwise leave its sign on the tape.
    return plain(Decimal(repr(target + 0.0)) * size)


# ---- evolvers ----------------------------------------------------------------------------------------------------


def learn_bar(state: State, bar: BarClosed, stamp: Stamp) -> None:
    """Move every reading of every seat that this bar is for."""
    seats = state.seats.get(bar.instrument)
    if seats is None:
        return
    timeframe = bar.timeframe
    numbers: tuple[float, float, float, float, float] | None = None
    for seat in seats.values():
        if seat.timeframe != timeframe:
            continue
        if numbers is None:
            numbers = (float(bar.open), float(bar.high), float(bar.low), float(bar.close), float(bar.volume))
        if seat.pair is not None:
            pairs.learn_bar(state, seat, find(seat.kind), bar, numbers, stamp)
            continue
        step = find(seat.kind).step
        readings = seat.readings
        for reading in readings.values():
            reading.target = step(reading.memory, *reading.parameters, *numbers)
        target = readings[seat.acting].target
        if target != seat.target:
            seat.target = target
            seat.said = None
            seat.refused = None
        seat.bars += 1
        seat.bar_open_ns = bar.open_ns
        if seat.regimes:
            seat.regime_missed = seat.regime_missed or seat.is_waiting
            seat.is_waiting = not seat.regime_missed and _is_regime_known(state, seat)
            seat.decides_at = 0 if seat.is_waiting else stamp.pos
        else:
            seat.decides_at = stamp.pos


def _is_regime_known(state: State, seat: Seat) -> bool:
    return state.regimes.get(seat.instrument, Regime.UNKNOWN) is not Regime.UNKNOWN


def learn_regime(state: State, event: RegimeUpdated, stamp: Stamp) -> None:
    state.regimes[event.instrument] = event.regime
    for seat in state.seats.get(event.instrument, {}).values():
        if event.bar_open_ns < seat.bar_open_ns:
            continue  # the regime is catching up; this bar's is still to come
        seat.regime_missed = False
        if seat.is_waiting and event.bar_open_ns == seat.bar_open_ns:
            seat.is_waiting = False
            seat.decides_at = stamp.pos


def learn_configured(state: State, event: StrategyConfigured, _stamp: Stamp) -> None:
    """Give the instance its seats. Configured anew, it starts with fresh indicators and keeps positions and orders."""
    state.faults.pop((event.strategy, OWN), None)
    for seat in state.seats_of(event.strategy):
        seat.timeframe = ""  # no bar has it: a seat the instance is no longer bound to follows nothing
    try:
        values = validate(find(event.kind), event.parameters)
        check_bars(find(event.kind), event.timeframe)
        check_legs(find(event.kind), len(event.instruments), is_bound=bool(event.regimes) or event.uses_presets)
    except (StrategyUnknown, ParameterInvalid) as fault:
        state.faults[event.strategy, OWN] = str(fault)
        return
    pair = pair_of(find(event.kind), event, find(event.kind).start(values))
    for instrument in event.instruments:
        seat = Seat(
            event.strategy,
            instrument,
            event.kind,
            event.timeframe,
            event.size,
            event.regimes,
            {OWN: _reading(event.kind, values)},
            lacks_preset=event.uses_presets,
            pair=pair,
        )
        for preset, parameters in state.presets.get(event.strategy, {}).items():
            _add_preset(state, seat, preset, parameters)
        before = state.seat_of(event.strategy, instrument)
        if before is not None:
            _take_over(seat, before)
        state.seats.setdefault(instrument, {})[event.strategy] = seat


def _take_over(seat: Seat, before: Seat) -> None:
    """Positions, open orders and the choice of a preset outlive a change of configuration."""
    seat.position, seat.working = before.position, before.working
    seat.chosen = before.chosen
    if seat.lacks_preset and before.acting in seat.readings:
        seat.acting, seat.decision, seat.lacks_preset = before.acting, before.decision, before.lacks_preset
    _unsettle(seat)


def _reading(kind: str, values: Parameters) -> Reading:
    return Reading(tuple(values.values()), find(kind).start(values))


def learn_preset(state: State, event: PresetRegistered, _stamp: Stamp) -> None:
    state.presets.setdefault(event.strategy, {})[event.preset] = event.parameters
    for seat in state.seats_of(event.strategy):
        _add_preset(state, seat, event.preset, event.parameters)


def _add_preset(state: State, seat: Seat, preset: str, parameters: Parameters) -> None:
    """A preset changes some of the instance's own parameters and keeps the others."""
    strategy = find(seat.kind)
    names = (parameter.name for parameter in strategy.parameters)
    own = dict(zip(names, seat.readings[OWN].parameters, strict=True))
    try:
        values = validate(strategy, {**own, **parameters})
    except ParameterInvalid as fault:
        state.faults[seat.strategy, preset] = f"preset {preset!r}: {fault}"
        return
    state.faults.pop((seat.strategy, preset), None)
    seat.readings[preset] = _reading(seat.kind, values)


def learn_preset_chosen(state: State, event: PresetChosen, _stamp: Stamp) -> None:
    seat = state.seat_of(event.strategy, event.instrument)
    if seat is not None:
        seat.chosen = (event.preset, event.decision)
        _adopt_preset(seat)


def _adopt_preset(seat: Seat) -> None:
    """Switch to the chosen preset while nothing is held or open: a trade ends under the preset it began with."""
    if seat.chosen is None or seat.position or seat.working:
        return
    preset, decision = seat.chosen
    if preset not in seat.readings:
        seat.acting, seat.decision, seat.lacks_preset = OWN, "", True
        return
    seat.acting, seat.decision, seat.lacks_preset, seat.chosen = preset, decision, False, None
    seat.target = seat.readings[preset].target
    seat.said = None


def learn_proposed(state: State, event: OrderProposed, _stamp: Stamp) -> None:
    terms = event.terms
    state.orders[event.order] = (terms.instrument, terms.strategy)
    seat = state.seats[terms.instrument][terms.strategy]
    seat.working[event.order] = Working(terms.side.sign * terms.quantity, event.target, terms.purpose)
    seat.said = None
    _unsettle(seat)
    if terms.purpose is Purpose.SIGNAL:
        seat.refused = None
        if event.target == quantity_of(seat):
            seat.settled = seat.target


def learn_declined(state: State, event: TradeDeclined, _stamp: Stamp) -> None:
    seat = state.seat_of(event.strategy, event.instrument)
    if seat is None:
        return
    seat.said = (event.reason, event.target)
    if seat.pair is not None and seat.pair.fault and event.reason is Decline.LEG_MISSING:
        seat.pair.is_told = True
    if event.reason is Decline.QUANTITY_BELOW_LOT:
        seat.settled = seat.target  # nothing but another target or another position can make it a lot


def learn_fill(state: State, event: OrderFilled, _stamp: Stamp) -> None:
    seat = state.seat_of(event.strategy, event.instrument)
    if seat is None:
        return
    filled = event.side.sign * event.quantity
    seat.position += filled
    order = seat.working.get(event.order)
    if order is None:
        _unsettle(seat)  # a fill can follow a cancel: the venue was faster
    elif abs(order.remaining) > event.quantity:
        order.remaining -= filled
    else:
        if order.remaining != filled:
            _unsettle(seat)
        del seat.working[event.order], state.orders[event.order]
    _adopt_preset(seat)


def learn_order_over(state: State, event: OrderCanceled | OrderExpired | OrderWithheld, _stamp: Stamp) -> None:
    """What was not filled never will be."""
    _release(state, event.order, f"{event.order} ended unfilled: {type(event).__name__}")


def learn_refused(state: State, event: OrderRefused, _stamp: Stamp) -> None:
    _keep_refusal(state, event.order, f"risk refused {event.order}: {event.reason}")


def learn_rejected(state: State, event: OrderRejected, _stamp: Stamp) -> None:
    _keep_refusal(state, event.order, f"the venue rejected {event.order}: {event.reason}")


def _keep_refusal(state: State, order: OrderId, detail: str) -> None:
    owner = state.orders.get(order)
    if owner is None:
        return
    seat = state.seats[owner[0]][owner[1]]
    working = seat.working[order]
    if working.purpose is Purpose.SIGNAL:
        seat.refused = (working.target, detail, seat.bars)
    _release(state, order, detail)


def _release(state: State, order: OrderId, why: str) -> None:
    """An order is over without being filled; what is wanted of a pair that was being entered ends with it."""
    owner = state.orders.pop(order, None)
    if owner is None:
        return
    seat = state.seats[owner[0]][owner[1]]
    working = seat.working.pop(order)
    if seat.pair is not None and working.target and working.purpose is Purpose.SIGNAL:
        pairs.fail(seat.pair, why)
    _unsettle(seat)
    _adopt_preset(seat)


def _unsettle(seat: Seat) -> None:
    """What the seat will hold has changed: only "flat" is known to be satisfied, and only if it is."""
    seat.settled = 0.0 if _expected(seat) == 0 else nan


def learn_feed(state: State, event: FeedOpened, _stamp: Stamp) -> None:
    state.stale_after_ns[event.instrument] = event.stale_after_ns


def learn_listed(state: State, event: InstrumentListed, _stamp: Stamp) -> None:
    state.lots[event.instrument] = event.lot_size


def learn_control(state: State, event: Event, _stamp: Stamp) -> None:
    state.trading = control.AFTER[type(event)]
    if state.trading is TradingState.RUNNING:
        for seats in state.seats.values():
            for seat in seats.values():
                seat.refused = None


def learn_disabled(state: State, event: StrategyDisableRequested, _stamp: Stamp) -> None:
    state.disabled[event.strategy] = f"disabled by {event.issuer}: {event.reason}"


def learn_enabled(state: State, event: StrategyEnableRequested, _stamp: Stamp) -> None:
    state.disabled.pop(event.strategy, None)


CORE: Core[State] = Core(
    name="strategy",
    initial=State,
    evolves={
        **dict.fromkeys(control.AFTER, learn_control),
        InstrumentListed: learn_listed,
        FeedOpened: learn_feed,
        StrategyConfigured: learn_configured,
        StrategyDisableRequested: learn_disabled,
        StrategyEnableRequested: learn_enabled,
        BarClosed: learn_bar,
        RegimeUpdated: learn_regime,
        PresetRegistered: learn_preset,
        PresetChosen: learn_preset_chosen,
        OrderProposed: learn_proposed,
        TradeDeclined: learn_declined,
        OrderRefused: learn_refused,
        OrderWithheld: learn_order_over,
        OrderRejected: learn_rejected,
        OrderFilled: learn_fill,
        OrderCanceled: learn_order_over,
        OrderExpired: learn_order_over,
    },
    decides={
        FlattenRequested: decide_flatten,
        StrategyConfigured: decide_configured,
        PresetRegistered: decide_preset,
        BarClosed: decide,
        RegimeUpdated: decide,
        OrderFilled: decide_fill,
    },
    passing=Passing(passing.silent_until, passing.take_bars),
    quiet={OrderFilled: (Quiet(passing.quiet_about_fills, ended_by=frozenset(control.AFTER)),)},
)
