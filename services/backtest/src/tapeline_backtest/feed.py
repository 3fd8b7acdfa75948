"""The replay clock's script: opening facts and bars of several files, in the one order in which they are recorded.

A bar is said when it closes. Bars that close together are said in the order of their instruments. Missing bars become
facts. Files are read strictly: a backtest on bad data is refused, with the row named. Nothing is recorded here.

Funding rates are said when they took effect, after the bars that close then. A rate without a mark price of its own is
of the last close before it.

Where an instrument has finer bars as well, they are said before the bar that they make up, if they make up all of it:
the venue then fills on them and not on that bar. A bar whose detail is incomplete is said alone and fills by itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_common.events import DataRejected, Event, FeedOpened, FundingPublished, SessionsScheduled
from tapeline_common.hours import Hours
from tapeline_common.opening import Opening
from tapeline_common.values import DataFault, InstrumentId
from tapeline_marketdata.columns import file_digest
from tapeline_marketdata.files import BarFile, source_detail
from tapeline_marketdata.funding import FundingFile


class Outside(msgspec.Struct, frozen=True, gc=False):
    """An outside fact as the replay clock says it."""

    author: str
    id: str
    event: Event
    time_ns: int


@dataclass(frozen=True, slots=True)
class Detail:
    """Finer bars of an instrument.

    Attributes:
        used: shape (rows,): whether a row belongs to a bar that it and its neighbours make up completely.
        covered: how many bars have their detail.
    """

    path: str
    file: BarFile
    digest: str
    used: NDArray[np.bool_]
    covered: int


@dataclass(frozen=True, slots=True)
class Source:
    """One instrument's bars and what the tape says of where they came from."""

    instrument: InstrumentId
    path: str
    file: BarFile
    digest: str
    detail: Detail | None = None
    funding: FundingFile | None = None

    @property
    def opened(self) -> FeedOpened:
        facts = self.file.facts
        return FeedOpened(
            instrument=self.instrument,
            source=self.path.replace("\\", "/").rpartition("/")[2],
            timeframe=facts.timeframe,
            detail=source_detail(self.file, self.digest),
        )

    @property
    def detail_opened(self) -> FeedOpened:
        assert self.detail is not None, "asked only where there is detail"
        facts = self.detail.file.facts
        return FeedOpened(
            instrument=self.instrument,
            source=self.detail.path.replace("\\", "/").rpartition("/")[2],
            timeframe=facts.timeframe,
            detail=f"sha256 {self.detail.digest}; detail of {self.detail.covered} of {len(self.file)} bars; "
            f"time unit {facts.time_unit}",
        )


def source(instrument: InstrumentId, path: str, file: BarFile) -> Source:
    return Source(instrument, path, file, file_digest(path))


class DetailUnusable(Exception):
    """Finer bars that are none. The message names the file, its timeframe and the fix."""


def detail(path: str, file: BarFile, coarse: BarFile) -> Detail:
    """Which rows of a file of finer bars make up which bar. Raises ``DetailUnusable``."""
    fine_ns, coarse_ns = file.facts.timeframe_ns, coarse.facts.timeframe_ns
    if fine_ns >= coarse_ns or coarse_ns % fine_ns:
        raise DetailUnusable(
            f"{path}: its bars of {file.facts.timeframe} cannot make up bars of {coarse.facts.timeframe}: "
            f"give a file of shorter bars that divide them"
        )
    opens, fine = coarse.columns.open_ns, file.columns.open_ns
    belongs = np.searchsorted(opens, fine, side="right") - 1
    offset = fine - opens[np.maximum(belongs, 0)]
    inside = (belongs >= 0) & (offset < coarse_ns) & (offset % fine_ns == 0)
    counts = np.bincount(belongs[inside], minlength=len(opens))
    complete = counts == coarse_ns // fine_ns
    used = inside & complete[np.maximum(belongs, 0)]
    return Detail(path, file, file_digest(path), used, int(np.count_nonzero(complete)))


def script(opening: Sequence[Opening], sources: Sequence[Source]) -> Iterator[Outside]:
    """Everything a replay says, in order: configuration, sources, then bars by closing time."""
    hours = hours_of(opening)
    yield from opening_script(opening, sources)
    if len(sources) == 1:
        yield from bars_of(sources[0], hours.get(sources[0].instrument))
        return
    lanes = [_lane(lane, bars_of(one, hours.get(one.instrument))) for lane, one in enumerate(sources)]
    for _, _, outside in heapq.merge(*lanes, key=lambda entry: entry[:2]):
        yield outside


def _lane(lane: int, bars: Iterator[Outside]) -> Iterator[tuple[int, int, Outside]]:
    return ((outside.time_ns, lane, outside) for outside in bars)


def bars_of(one: Source, hours: Hours | None = None) -> Iterator[Outside]:
    """One instrument's bars; finer ones before the bar that they make up, funding after the bars that close then."""
    lanes = [_bars_of(one, hours)]
    if one.detail is not None:
        lanes.insert(0, _detail_of(one, one.detail))
    if one.funding is not None:
        lanes.append(_funding_of(one, one.funding))
    return lanes[0] if len(lanes) == 1 else heapq.merge(*lanes, key=lambda outside: outside.time_ns)


def _bars_of(one: Source, hours: Hours | None) -> Iterator[Outside]:
    """One file's bars, each gap said before the bar that ends it. What lies outside trading hours is no gap."""
    facts = one.file.facts
    length_ns = facts.timeframe_ns
    prefix = f"bar:{one.instrument}:{facts.timeframe}:"
    expected_ns = int(one.file.columns.open_ns[0])
    for bars in one.file.slices(one.instrument):
        for raw in bars:
            open_ns, close_ns = raw.open_ns, raw.close_ns
            if length_ns and open_ns != expected_ns:
                gap = _gap(one, expected_ns, open_ns, close_ns, hours)
                if gap is not None:
                    yield gap
            expected_ns = close_ns
            yield Outside("marketdata", f"{prefix}{open_ns}", raw, close_ns)


def hours_of(opening: Sequence[Opening]) -> dict[InstrumentId, Hours]:
    """When each instrument trades that does not always."""
    return {each.event.instrument: Hours(each.event) for each in opening if isinstance(each.event, SessionsScheduled)}


def _gap(one: Source, expected_ns: int, open_ns: int, close_ns: int, hours: Hours | None) -> Outside | None:
    length_ns = one.file.facts.timeframe_ns
    missing = (open_ns - expected_ns) // length_ns
    if hours is not None:
        missing = hours.bars_between(expected_ns, open_ns, length_ns)
        if not missing:
            return None
    gap = DataRejected(one.instrument, DataFault.GAP, expected_ns, f"{missing} bars missing")
    return Outside("marketdata", f"gap:{one.instrument}:{expected_ns}", gap, close_ns)


def gap_before(one: Source, row: int, hours: Hours | None) -> Outside | None:
    """What is said before bar ``row`` of a file, which does not open when the one before it closed."""
    opens, length_ns = one.file.columns.open_ns, one.file.facts.timeframe_ns
    open_ns = int(opens[row])
    return _gap(one, int(opens[row - 1]) + length_ns, open_ns, open_ns + length_ns, hours)


def opening_script(opening: Sequence[Opening], sources: Sequence[Source]) -> Iterator[Outside]:
    """What a replay says before the first bar: configuration and sources."""
    start_ns = min(int(each.file.columns.open_ns[0]) for each in sources)
    for each in opening:
        yield Outside(each.author, f"{each.slot}#1", each.event, start_ns)
    for one in sources:
        yield Outside("marketdata", f"feed:{one.instrument}", one.opened, start_ns)
        if one.detail is not None:
            yield Outside("marketdata", f"detail:{one.instrument}", one.detail_opened, start_ns)
        if one.funding is not None:
            yield Outside("marketdata", f"funding:{one.instrument}", _funding_opened(one, one.funding), start_ns)


def _detail_of(one: Source, finer: Detail) -> Iterator[Outside]:
    """The finer bars that are used."""
    prefix = f"bar:{one.instrument}:{finer.file.facts.timeframe}:"
    start = 0
    for bars in finer.file.slices(one.instrument):
        used = finer.used[start : start + len(bars)]
        start += len(bars)
        for index in np.flatnonzero(used).tolist():
            bar = bars[index]
            yield Outside("marketdata", f"{prefix}{bar.open_ns}", bar, bar.close_ns)


def _funding_opened(one: Source, funding: FundingFile) -> FeedOpened:
    return FeedOpened(
        instrument=one.instrument,
        source=funding.path.replace("\\", "/").rpartition("/")[2],
        timeframe="funding",
        detail=f"sha256 {file_digest(funding.path)}; {len(funding)} rates",
    )


def _funding_of(one: Source, funding: FundingFile) -> Iterator[Outside]:
    """The rates that took effect while there were bars."""
    priced = one.file if one.detail is None else one.detail.file
    close_ns = priced.columns.open_ns + priced.facts.timeframe_ns
    last_ns = int(one.file.columns.open_ns[-1]) + one.file.facts.timeframe_ns
    rows = np.searchsorted(close_ns, funding.time_ns, side="right") - 1
    for index, (time_ns, row) in enumerate(zip(funding.time_ns.tolist(), rows.tolist(), strict=True)):
        if row < 0 or time_ns > last_ns:
            continue
        close = priced.columns.texts("close", row, row + 1)[0]
        mark = Decimal(close) if funding.marks is None else funding.marks[index]
        event = FundingPublished(one.instrument, funding.rates[index], mark)
        yield Outside("marketdata", f"funding:{one.instrument}:{time_ns}", event, time_ns)


def bar_count(sources: Sequence[Source]) -> int:
    return sum(len(one.file) for one in sources)
