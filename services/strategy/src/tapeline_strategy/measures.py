"""What strategies measure: what became of each bar, and why signals were not acted on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tapeline_common.core import Stamp
from tapeline_common.events import BarClosed, OrderProposed, RegimeUpdated, TradeDeclined
from tapeline_common.measures import Kind, Labels, Measure, Measures, Number, Watched
from tapeline_common.values import Decline, InstrumentId, Purpose, Side, StrategyId
from tapeline_strategy.core import State

QUIET, PROPOSED, DECLINED = "quiet", "proposed", "declined"

JUDGED = Measure(
    name="tapeline_bars_judged_total",
    kind=Kind.COUNTER,
    text="Bars that a strategy decided on, by what it said: nothing new (declining again for the same reason is no "
    "news), an order, or a reason for none. A quiet bar is counted when the next one comes",
    labels=("strategy", "outcome"),
    values={"outcome": (QUIET, PROPOSED, DECLINED)},
    unit="bars",
)


class Judgements:
    """Counts what became of each bar of each seat.

    A core never counts, and says nothing about a quiet bar; but whatever is said of a bar comes before the next one.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._counts: dict[Labels, float] = {}
        self._open: dict[tuple[InstrumentId, StrategyId], str] = {}

    def heard(self, event: Any, stamp: Stamp) -> None:
        match event:
            case OrderProposed(terms=terms) if terms.purpose is Purpose.SIGNAL:
                self._said(terms.instrument, terms.strategy, PROPOSED)
            case TradeDeclined():
                self._said(event.instrument, event.strategy, DECLINED)
            case BarClosed() | RegimeUpdated():
                for strategy, seat in self._state.seats.get(event.instrument, {}).items():
                    if seat.decides_at == stamp.pos:
                        self._close(event.instrument, strategy)
                        self._open[event.instrument, strategy] = QUIET

    def _said(self, instrument: InstrumentId, strategy: StrategyId, outcome: str) -> None:
        """An order outweighs the reason why it was not a larger one."""
        if self._open.get((instrument, strategy)) in (QUIET, DECLINED):
            self._open[instrument, strategy] = outcome

    def _close(self, instrument: InstrumentId, strategy: StrategyId) -> None:
        outcome = self._open.pop((instrument, strategy), None)
        if outcome is not None:
            self._counts[strategy, outcome] = self._counts.get((strategy, outcome), 0.0) + 1.0

    def samples(self, _now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        counts = dict(self._counts)
        for (_, strategy), outcome in self._open.items():
            if outcome == PROPOSED:  # nothing outweighs it any more
                counts[strategy, outcome] = counts.get((strategy, outcome), 0.0) + 1.0
        return [(JUDGED.name, labels, count) for labels, count in counts.items()]


def _make_judgements(states: Mapping[str, Any], _clock: Callable[[], int]) -> Judgements:
    return Judgements(states["strategy"])


MEASURES = Measures(
    tables=(
        Measure(
            name="tapeline_declines_total",
            kind=Kind.COUNTER,
            text="Signals not acted on, counted when the reason is new",
            labels=("strategy", "reason"),
            values={"reason": tuple(Decline)},
            unit="declines",
            count={TradeDeclined: lambda seen: (seen.event.strategy, seen.event.reason)},
        ),
        Measure(
            name="tapeline_proposals_total",
            kind=Kind.COUNTER,
            text="Orders proposed, those that flatten included",
            labels=("strategy", "side"),
            values={"side": tuple(Side)},
            unit="orders",
            count={OrderProposed: lambda seen: (seen.event.terms.strategy, seen.event.terms.side)},
        ),
    ),
    watches=(
        Watched(
            measures=(JUDGED,),
            hears=(BarClosed, RegimeUpdated, OrderProposed, TradeDeclined),
            make=_make_judgements,
            restores=False,
        ),
    ),
)
