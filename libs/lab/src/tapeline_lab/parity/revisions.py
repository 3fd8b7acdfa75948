"""Changes of market data: the bars, or funding rates, of a session as a file has them today.

Sources revise what they published, and a feed that was interrupted never brought some bars at all. A recorded bar that
the file has otherwise is revised; a bar between the first and the last recorded one that only the file has is said
before the next recorded bar of its instrument, with that one's stamp; a bar that the file lacks stays as recorded.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from decimal import Decimal

from tapeline_common.events import BarClosed, FundingPublished, InstrumentListed
from tapeline_common.values import InstrumentId
from tapeline_lab.parity.changes import Change
from tapeline_lab.parity.record import Record
from tapeline_marketdata.files import read_bars
from tapeline_marketdata.funding import read_funding

PRICES = ("open", "high", "low", "close", "volume")


class FileMisfits(Exception):
    """A file that is not of this session. The message names it, what it has and what is needed."""


def instruments_of(record: Record, files: Sequence[str], names: Sequence[str]) -> list[tuple[InstrumentId, str]]:
    """Which file is of which instrument: as named, else in the order in which the session listed them.

    Raises ``FileMisfits``.
    """
    known = {fact.event.name: fact.event for fact in record.facts if isinstance(fact.event, InstrumentListed)}
    chosen = list(names) or list(known)[: len(files)]
    if len(chosen) != len(files):
        raise FileMisfits(f"{len(files)} files for {len(chosen)} instruments: give --instrument for each")
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise FileMisfits(f"--instrument {unknown[0]}: the session had {', '.join(known)}")
    return [(known[name].instrument, path) for name, path in zip(chosen, files, strict=True)]


def revised_bars(record: Record, instrument: InstrumentId, path: str) -> list[Change]:
    """How an instrument's bars differ from a file's. Raises ``FileMisfits`` and what reading the file raises."""
    heard = [
        (fact, fact.event)
        for fact in record.facts
        if isinstance(fact.event, BarClosed) and fact.event.instrument == instrument
    ]
    timeframes = sorted({bar.timeframe for _, bar in heard})
    file = read_bars(path, timeframe=timeframes[0] if len(timeframes) == 1 else None)
    today = {bar.open_ns: bar for bar in file.bars(instrument)}
    of_file = file.facts.timeframe
    heard = [(fact, bar) for fact, bar in heard if bar.timeframe == of_file]
    known = {bar.open_ns for _, bar in heard}
    if not known & today.keys():
        raise FileMisfits(
            f"{path} has bars of {of_file} and none of those that the session heard ({', '.join(timeframes)})"
        )
    unheard = sorted(today.keys() - known)
    changes: list[Change] = []
    before_ns = heard[0][1].open_ns
    for fact, bar in heard:
        late = unheard[bisect_right(unheard, before_ns) : bisect_left(unheard, bar.open_ns)]
        for index, open_ns in enumerate(late):
            at, identity = (fact.pos, index - len(late)), f"bar:{instrument}:{of_file}:{open_ns}"
            changes.append(Change(at, "marketdata", identity, fact.time_ns, None, today[open_ns]))
        before_ns = bar.open_ns
        revised = today.get(bar.open_ns)
        if revised is not None and _differs(bar, revised):
            changes.append(Change((fact.pos, 1), "marketdata", fact.id, fact.time_ns, bar, revised))
    return changes


def _differs(heard: BarClosed, today: BarClosed) -> bool:
    """Whether a number differs: 100.50 and 100.5 are the same price."""
    return any(Decimal(getattr(heard, name)) != Decimal(getattr(today, name)) for name in PRICES)


def revised_funding(record: Record, instrument: InstrumentId, path: str) -> list[Change]:
    """How an instrument's funding rates differ from a file's."""
    rates = read_funding(path)
    today = dict(zip(rates.time_ns.tolist(), range(len(rates)), strict=True))
    changes = []
    for fact in record.facts:
        event = fact.event
        if not isinstance(event, FundingPublished) or event.instrument != instrument:
            continue
        said_ns = int(fact.id.rpartition(":")[2])
        index = today.get(said_ns)
        if index is None:
            continue
        mark = event.mark_price if rates.marks is None else rates.marks[index]
        published = FundingPublished(instrument, rates.rates[index], mark)
        if published != event:
            changes.append(Change((fact.pos, 1), "marketdata", fact.id, fact.time_ns, event, published))
    return changes
