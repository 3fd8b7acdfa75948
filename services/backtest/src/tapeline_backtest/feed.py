"""The replay clock's script: opening facts and bars of several files, in the one order in which they are recorded.

A bar is said when it closes. Bars that close together are said in the order of their instruments. Missing bars become
facts. Files are read strictly: a backtest on bad data is refused, with the row named. Nothing is recorded here.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from tapeline_common.events import DataRejected, Event, FeedOpened
from tapeline_common.opening import Opening
from tapeline_common.values import DataFault, InstrumentId
from tapeline_marketdata.columns import file_digest
from tapeline_marketdata.files import BarFile, source_detail


class Outside(msgspec.Struct, frozen=True, gc=False):
    """An outside fact as the replay clock says it."""

    author: str
    id: str
    event: Event
    time_ns: int


@dataclass(frozen=True, slots=True)
class Source:
    """One instrument's bars and what the tape says of where they came from."""

    instrument: InstrumentId
    path: str
    file: BarFile
    digest: str

    @property
    def opened(self) -> FeedOpened:
        facts = self.file.facts
        return FeedOpened(
            instrument=self.instrument,
            source=self.path.replace("\\", "/").rpartition("/")[2],
            timeframe=facts.timeframe,
            detail=source_detail(self.file, self.digest),
        )


def source(instrument: InstrumentId, path: str, file: BarFile) -> Source:
    return Source(instrument, path, file, file_digest(path))


def script(opening: Sequence[Opening], sources: Sequence[Source]) -> Iterator[Outside]:
    """Everything a replay says, in order: configuration, sources, then bars by closing time."""
    yield from opening_script(opening, sources)
    if len(sources) == 1:
        yield from bars_of(sources[0])
        return
    lanes = [((outside.time_ns, lane, outside) for outside in bars_of(one)) for lane, one in enumerate(sources)]
    for _, _, outside in heapq.merge(*lanes, key=lambda entry: entry[:2]):
        yield outside


def bars_of(one: Source) -> Iterator[Outside]:
    """One file's bars, each gap said before the bar that ends it."""
    facts = one.file.facts
    length_ns = facts.timeframe_ns
    prefix = f"bar:{one.instrument}:{facts.timeframe}:"
    expected_ns = int(one.file.columns.open_ns[0])
    for bars in one.file.slices(one.instrument):
        for raw in bars:
            open_ns, close_ns = raw.open_ns, raw.close_ns
            if length_ns and open_ns != expected_ns:
                yield _gap(one, expected_ns, open_ns, close_ns)
            expected_ns = close_ns
            yield Outside("marketdata", f"{prefix}{open_ns}", raw, close_ns)


def _gap(one: Source, expected_ns: int, open_ns: int, close_ns: int) -> Outside:
    missing = (open_ns - expected_ns) // one.file.facts.timeframe_ns
    gap = DataRejected(one.instrument, DataFault.GAP, expected_ns, f"{missing} bars missing")
    return Outside("marketdata", f"gap:{one.instrument}:{expected_ns}", gap, close_ns)


def gap_before(one: Source, row: int) -> Outside:
    """What is said before bar ``row`` of a file, which does not open when the one before it closed."""
    opens, length_ns = one.file.columns.open_ns, one.file.facts.timeframe_ns
    open_ns = int(opens[row])
    return _gap(one, int(opens[row - 1]) + length_ns, open_ns, open_ns + length_ns)


def opening_script(opening: Sequence[Opening], sources: Sequence[Source]) -> Iterator[Outside]:
    """What a replay says before the first bar: configuration and sources."""
    start_ns = min(int(each.file.columns.open_ns[0]) for each in sources)
    for each in opening:
        yield Outside(each.author, f"{each.slot}#1", each.event, start_ns)
    for one in sources:
        yield Outside("marketdata", f"feed:{one.instrument}", one.opened, start_ns)


def bar_count(sources: Sequence[Source]) -> int:
    return sum(len(one.file) for one in sources)
