"""What execution measures: where orders stand, how long things take, and what fills cost against the decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from tapeline_common.core import Stamp
from tapeline_common.events import (
    CancelSubmitted,
    Event,
    LiquidationOrdered,
    OrderAccepted,
    OrderApproved,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderOutcomeUnknown,
    OrderRejected,
    OrderSubmitted,
    OrderWithheld,
)
from tapeline_common.measures import (
    LATENCIES,
    NS_PER_S,
    WAITS,
    Distribution,
    Kind,
    Labels,
    Measure,
    Measures,
    Number,
    Reading,
    Seen,
    Watched,
)
from tapeline_common.values import (
    CancelReason,
    InstrumentId,
    Liquidity,
    OrderId,
    OrderState,
    OrderType,
    Purpose,
    Rejection,
    StrategyId,
    Withheld,
)
from tapeline_execution import venue
from tapeline_execution.core import State, find

EXECUTION, VENUE = "execution", "venue"
OPEN_STATES = tuple(state for state in OrderState if not state.is_terminal)
FINAL_STATES = tuple(state for state in OrderState if state.is_terminal)

SLIPPAGE_EDGES = (-100.0, -50.0, -20.0, -10.0, -5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
BPS = 10_000

OVER: tuple[type[Event], ...] = (OrderRejected, OrderCanceled, OrderExpired, OrderWithheld)


# ---- counted -------------------------------------------------------------------------------------------------------


def _orders(state: State, _now_ns: int) -> Reading:
    counts = dict.fromkeys(OPEN_STATES, 0)
    for order in state.open.values():
        counts[order.state] += 1
    return [((state,), float(count)) for state, count in counts.items()]


def _unknown(state: State, _now_ns: int) -> Reading:
    return [((), float(sum(order.state is OrderState.UNKNOWN for order in state.open.values())))]


def _finished(seen: Seen) -> Labels | None:
    """The state in which a report ended an order; ``None`` if it did not, or was a surprise."""
    state: State = seen.states[EXECUTION]
    order = find(state, seen.event.order)
    if order is None or not order.state.is_terminal:
        return None
    is_surprise = state.surprise is not None and not isinstance(seen.event, OrderWithheld)
    return None if is_surprise else (order.state,)


def _filled(seen: Seen) -> Labels | None:
    if seen.states[EXECUTION].surprise is not None:
        return None
    return seen.event.strategy, seen.event.liquidity


def _since_bar(seen: Seen) -> tuple[Labels, float] | None:
    """What flattens follows a request, not a bar."""
    if seen.event.terms.purpose is not Purpose.SIGNAL:
        return None
    return (), (seen.now_ns - seen.stamp.time_ns) / NS_PER_S


TABLES: tuple[Measure, ...] = (
    Measure(
        name="tapeline_orders",
        kind=Kind.GAUGE,
        text="Open orders, by where they stand",
        labels=("state",),
        values={"state": OPEN_STATES},
        unit="orders",
        of=EXECUTION,
        read=_orders,
        appears="once restored",
    ),
    Measure(
        name="tapeline_orders_finished_total",
        kind=Kind.COUNTER,
        text="Orders that came to an end, by how",
        labels=("state",),
        values={"state": FINAL_STATES},
        unit="orders",
        count=dict.fromkeys((*OVER, OrderFilled), _finished),
    ),
    Measure(
        name="tapeline_unknown_orders",
        kind=Kind.GAUGE,
        text="Orders of which nobody can say whether the venue has them",
        unit="orders",
        of=EXECUTION,
        read=_unknown,
        appears="once restored",
    ),
    Measure(
        name="tapeline_orders_submitted_total",
        kind=Kind.COUNTER,
        text="Orders submitted",
        labels=("strategy", "type"),
        values={"type": tuple(OrderType)},
        unit="orders",
        count={OrderSubmitted: lambda seen: (seen.event.terms.strategy, seen.event.terms.order_type)},
    ),
    Measure(
        name="tapeline_orders_withheld_total",
        kind=Kind.COUNTER,
        text="Approved orders that were not sent after all",
        labels=("reason",),
        values={"reason": tuple(Withheld)},
        unit="orders",
        count={OrderWithheld: lambda seen: (seen.event.reason,)},
    ),
    Measure(
        name="tapeline_order_rejects_total",
        kind=Kind.COUNTER,
        text="Orders that the venue rejected",
        labels=("reason",),
        values={"reason": tuple(Rejection)},
        unit="orders",
        count={OrderRejected: lambda seen: (seen.event.reason,)},
    ),
    Measure(
        name="tapeline_cancels_submitted_total",
        kind=Kind.COUNTER,
        text="Cancellations asked for",
        labels=("reason",),
        values={"reason": tuple(CancelReason)},
        unit="cancels",
        count={CancelSubmitted: lambda seen: (seen.event.reason,)},
    ),
    Measure(
        name="tapeline_fills_total",
        kind=Kind.COUNTER,
        text="Fills of orders that could fill",
        labels=("strategy", "liquidity"),
        values={"liquidity": tuple(Liquidity)},
        unit="fills",
        count={OrderFilled: _filled},
    ),
    Measure(
        name="tapeline_bar_to_order_seconds",
        kind=Kind.HISTOGRAM,
        text="Wall time from the stamp of a bar until the submission that follows from it is recorded and heard here",
        edges=LATENCIES,
        observe={OrderSubmitted: _since_bar},
    ),
)

# ---- ages of open orders -------------------------------------------------------------------------------------------

UNKNOWN_AGE = Measure(
    name="tapeline_unknown_order_age_seconds",
    kind=Kind.GAUGE,
    text="How long the oldest order of unknown outcome has been that; 0 without any",
)
OPEN_AGE = Measure(
    name="tapeline_oldest_open_order_seconds",
    kind=Kind.GAUGE,
    text="Time since the stamp of the oldest open order's submission; 0 without any",
)

MOST_STALE = 1_000
"""Orders that are over and whose times are still kept, before they are looked for."""


class OrderTimes:
    """When open orders were submitted, and since when the outcome of some is unknown."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._submitted_ns: dict[OrderId, int] = {}
        self._unknown_ns: dict[OrderId, int] = {}

    def heard(self, event: Any, stamp: Stamp) -> None:
        match event:
            case OrderSubmitted() | LiquidationOrdered():
                self._submitted_ns[event.order] = stamp.time_ns
                if len(self._submitted_ns) > 2 * len(self._state.open) + MOST_STALE:
                    self._forget()
            case OrderOutcomeUnknown():
                self._unknown_ns.setdefault(event.order, stamp.time_ns)
            case _:
                self._unknown_ns.pop(event.order, None)

    def samples(self, now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        self._forget()
        unknown = [
            self._unknown_ns[order.order]
            for order in self._state.open.values()
            if order.state is OrderState.UNKNOWN and order.order in self._unknown_ns
        ]
        yield UNKNOWN_AGE.name, (), _age_s(unknown, now_ns)
        yield OPEN_AGE.name, (), _age_s(self._submitted_ns.values(), now_ns)

    def _forget(self) -> None:
        still_open = self._state.open
        for times in (self._submitted_ns, self._unknown_ns):
            for order in [order for order in times if order not in still_open]:
                del times[order]


def _age_s(times_ns: Iterable[int], now_ns: int) -> float:
    return max(0, now_ns - min(times_ns, default=now_ns)) / NS_PER_S


# ---- quality of fills ----------------------------------------------------------------------------------------------

TO_FILL = Measure(
    name="tapeline_order_to_fill_seconds",
    kind=Kind.HISTOGRAM,
    text="Wall time from the recorded submission to an order's first fill, both as heard here",
    edges=WAITS,
)
SLIPPAGE = Measure(
    name="tapeline_fill_slippage_bps",
    kind=Kind.HISTOGRAM,
    text="How much worse a fill was than the last close heard when its order was approved (the bar it was decided on, "
    "unless another one came in between); negative if better, so the sum may fall",
    labels=("strategy",),
    edges=SLIPPAGE_EDGES,
)


class FillQuality:
    """How long orders wait for their first fill, and how far fills are from the price at the decision.

    Orders submitted before this process started are left out.
    """

    def __init__(self, states: Mapping[str, Any], clock: Callable[[], int]) -> None:
        self._state: State = states[EXECUTION]
        self._venue: venue.State = states[VENUE]
        self._clock = clock
        self._submitted_ns: dict[OrderId, int] = {}
        self._reference: dict[OrderId, Decimal] = {}
        self._to_fill = Distribution(TO_FILL.edges)
        self._slippage: dict[StrategyId, Distribution] = {}

    def heard(self, event: Any, _stamp: Stamp) -> None:
        match event:
            case OrderApproved():
                close = self._last_close(event.terms.instrument)
                if close is not None:
                    self._reference[event.order] = close
            case OrderSubmitted():
                self._submitted_ns[event.order] = self._clock()
            case OrderFilled():
                self._take_fill(event)
            case _:
                self._forget(event.order)

    def _take_fill(self, fill: OrderFilled) -> None:
        submitted_ns = self._submitted_ns.pop(fill.order, None)
        if submitted_ns is not None:
            self._to_fill.observe((self._clock() - submitted_ns) / NS_PER_S)
        reference = self._reference.get(fill.order)
        if reference is not None:
            worse = fill.side.sign * (fill.price - reference) / reference * BPS
            self._slippage.setdefault(fill.strategy, Distribution(SLIPPAGE.edges)).observe(float(worse))
        if fill.order not in self._state.open:
            self._forget(fill.order)

    def _forget(self, order: OrderId) -> None:
        self._submitted_ns.pop(order, None)
        self._reference.pop(order, None)

    def _last_close(self, instrument: InstrumentId) -> Decimal | None:
        book = self._venue.books.get(instrument)
        return None if book is None or book.bar is None else Decimal(book.bar.close)

    def samples(self, _now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        yield TO_FILL.name, (), self._to_fill
        for strategy, distribution in self._slippage.items():
            yield SLIPPAGE.name, (strategy,), distribution


def _make_times(states: Mapping[str, Any], _clock: Callable[[], int]) -> OrderTimes:
    return OrderTimes(states[EXECUTION])


MEASURES = Measures(
    tables=TABLES,
    watches=(
        Watched(
            measures=(UNKNOWN_AGE, OPEN_AGE),
            hears=(
                OrderSubmitted,
                LiquidationOrdered,
                OrderOutcomeUnknown,
                OrderAccepted,
                OrderFilled,
                *OVER,
            ),
            make=_make_times,
        ),
        Watched(
            measures=(TO_FILL, SLIPPAGE),
            hears=(OrderApproved, OrderSubmitted, OrderFilled, *OVER),
            make=FillQuality,
            restores=False,
        ),
    ),
)
