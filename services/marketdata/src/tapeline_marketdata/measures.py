"""What marketdata measures: whether feeds are up and fresh, what was refused, and how exchanges take our requests.

When the next bar is due, and everything about requests, is told by the feeds themselves (``adapters``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tapeline_common.core import Stamp
from tapeline_common.events import BarClosed, DataRejected, FeedInterrupted
from tapeline_common.measures import NS_PER_S, WAITS, Kind, Labels, Measure, Measures, Number, Reading, Watched
from tapeline_common.values import DataFault, FeedTroubleKind, InstrumentId
from tapeline_marketdata.core import State
from tapeline_marketdata.exchange_figures import RequestOutcome

MARKETDATA = "marketdata"
EXCHANGE_FEEDS = "exchange feeds only"
FIRST_BAR = "after the first bar"


def _up(state: State, _now_ns: int) -> Reading:
    return [
        ((instrument,), float(instrument in state.opened and instrument not in state.troubles))
        for instrument in state.listed
    ]


def _prices(state: State, _now_ns: int) -> Reading:
    """The latest bar of any timeframe has the price."""
    latest: dict[InstrumentId, BarClosed] = {}
    for (instrument, _), bar in state.bars.items():
        if instrument not in latest or bar.close_ns > latest[instrument].close_ns:
            latest[instrument] = bar
    return [((instrument,), float(bar.close)) for instrument, bar in latest.items()]


def _told(name: str, text: str, *, appears: str, labels: Labels = ("instrument",)) -> Measure:
    return Measure(name=name, kind=Kind.GAUGE, text=text, labels=labels, appears=appears)


LAST_BAR = _told("tapeline_feed_last_bar_time_seconds", "When the last bar was recorded", appears=FIRST_BAR)
STALE = _told("tapeline_feed_stale_seconds", "Time since the last bar was recorded", appears=FIRST_BAR)
EXPECTED_INTERVAL = _told(
    "tapeline_feed_expected_interval_seconds",
    "Wall time from one bar to when the next one is due",
    appears="while the feed runs; not for bars without a fixed length",
)
DELAY = _told(
    "tapeline_feed_delay_seconds",
    "Time from the close of the newest bar to its arrival, by the exchange's clock",
    appears=EXCHANGE_FEEDS,
)
REQUESTS = Measure(
    name="tapeline_exchange_requests_total",
    kind=Kind.COUNTER,
    text="HTTP requests to an exchange, by what came of them",
    labels=("exchange", "outcome"),
    values={"outcome": tuple(RequestOutcome)},
    unit="requests",
    appears=EXCHANGE_FEEDS,
)
REQUEST_SECONDS = Measure(
    name="tapeline_exchange_request_seconds",
    kind=Kind.HISTOGRAM,
    text="Time of an HTTP request to an exchange, without the wait that keeps to its rate limit",
    labels=("exchange",),
    edges=WAITS,
    appears=EXCHANGE_FEEDS,
)
RATE_BUDGET = _told(
    "tapeline_rate_budget_used_ratio",
    "Share of the exchange's published rate limit that our requests of the last minute used",
    appears=EXCHANGE_FEEDS,
    labels=("exchange",),
)


class Arrivals:
    """When the last bar of each instrument came: its stamp, which the ledger gave it by the wall clock."""

    def __init__(self) -> None:
        self._latest_ns: dict[InstrumentId, int] = {}

    def heard(self, event: Any, stamp: Stamp) -> None:
        self._latest_ns[event.instrument] = stamp.time_ns

    def samples(self, now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        for instrument, time_ns in self._latest_ns.items():
            yield LAST_BAR.name, (instrument,), time_ns / NS_PER_S
            yield STALE.name, (instrument,), max(0, now_ns - time_ns) / NS_PER_S


def _make_arrivals(_states: Mapping[str, Any], _clock: Callable[[], int]) -> Arrivals:
    return Arrivals()


MEASURES = Measures(
    tables=(
        Measure(
            name="tapeline_feed_up",
            kind=Kind.GAUGE,
            text="1 while an instrument's feed is open and not interrupted, else 0",
            labels=("instrument",),
            of=MARKETDATA,
            read=_up,
            is_zero_without=True,
        ),
        EXPECTED_INTERVAL,
        DELAY,
        Measure(
            name="tapeline_bars_total",
            kind=Kind.COUNTER,
            text="Bars accepted",
            labels=("instrument",),
            unit="bars",
            count={BarClosed: lambda seen: (seen.event.instrument,)},
        ),
        Measure(
            name="tapeline_price",
            kind=Kind.GAUGE,
            text="Last close",
            labels=("instrument",),
            unit="quote currency",
            of=MARKETDATA,
            read=_prices,
            appears=FIRST_BAR,
        ),
        Measure(
            name="tapeline_data_rejected_total",
            kind=Kind.COUNTER,
            text="Bars and trades that were not accepted as they came, and gaps",
            labels=("instrument", "fault"),
            values={"fault": tuple(DataFault)},
            unit="facts",
            count={DataRejected: lambda seen: (seen.event.instrument, seen.event.fault)},
        ),
        Measure(
            name="tapeline_feed_interruptions_total",
            kind=Kind.COUNTER,
            text="Times that a feed was interrupted",
            labels=("instrument", "kind"),
            values={"kind": tuple(FeedTroubleKind)},
            unit="interruptions",
            count={FeedInterrupted: lambda seen: (seen.event.instrument, seen.event.kind)},
        ),
        REQUESTS,
        REQUEST_SECONDS,
        RATE_BUDGET,
    ),
    watches=(Watched(measures=(LAST_BAR, STALE), hears=(BarClosed,), make=_make_arrivals),),
)
