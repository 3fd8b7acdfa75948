"""What the marketdata service knows: how far each feed has come, as the tape says it.

The core decides nothing. Bars and feed reports come from adapters as outside facts under this author's name; hearing
them back gives the watermarks from which an adapter goes on after a restart. Nothing is kept anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tapeline_common.core import Core, Stamp
from tapeline_common.events import BarClosed, FeedInterrupted, FeedOpened, FeedResumed, InstrumentListed
from tapeline_common.values import FeedTroubleKind, InstrumentId


@dataclass(slots=True)
class State:
    """Where the feeds are.

    Attributes:
        bars: the last accepted bar of each (instrument, timeframe).
        listed: the instruments that may be spoken of.
        opened: the latest word on where an instrument's bars come from.
        troubles: what is wrong with a feed since it last worked, in the order in which it was said; absent if nothing.
        reports: how many facts about an instrument's feed (opened, interrupted, resumed) there are; numbers their ids.
    """

    bars: dict[tuple[InstrumentId, str], BarClosed] = field(default_factory=dict)
    listed: dict[InstrumentId, InstrumentListed] = field(default_factory=dict)
    opened: dict[InstrumentId, FeedOpened] = field(default_factory=dict)
    troubles: dict[InstrumentId, tuple[FeedTroubleKind, ...]] = field(default_factory=dict)
    reports: dict[InstrumentId, int] = field(default_factory=dict)


# ---- evolve ------------------------------------------------------------------------------------------------------


def move_watermark(state: State, event: BarClosed, stamp: Stamp) -> None:
    state.bars[event.instrument, event.timeframe] = event


def list_instrument(state: State, event: InstrumentListed, stamp: Stamp) -> None:
    state.listed[event.instrument] = event


def note_source(state: State, event: FeedOpened, stamp: Stamp) -> None:
    state.opened[event.instrument] = event
    _count_report(state, event.instrument)


def note_trouble(state: State, event: FeedInterrupted, stamp: Stamp) -> None:
    known = state.troubles.get(event.instrument, ())
    if event.kind not in known:
        state.troubles[event.instrument] = (*known, event.kind)
    _count_report(state, event.instrument)


def end_trouble(state: State, event: FeedResumed, stamp: Stamp) -> None:
    state.troubles.pop(event.instrument, None)
    _count_report(state, event.instrument)


def _count_report(state: State, instrument: InstrumentId) -> None:
    state.reports[instrument] = state.reports.get(instrument, 0) + 1


CORE: Core[State] = Core(
    name="marketdata",
    initial=State,
    evolves={
        BarClosed: move_watermark,
        InstrumentListed: list_instrument,
        FeedOpened: note_source,
        FeedInterrupted: note_trouble,
        FeedResumed: end_trouble,
    },
    decides={},
)
