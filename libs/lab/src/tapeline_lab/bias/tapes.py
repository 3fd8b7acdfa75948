"""A whole run of the loop gear as a subject: what every service said of each bar.

The tape is decided from a table of bars, and its facts are put to the bar that they follow from. Without look-ahead
the tape of the first bars is how the tape of all of them begins, to the last byte, positions and causes included.
Bars and the facts before the first of them are input, not output, and are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from tapeline_backtest.feed import Source, script
from tapeline_backtest.runner import run_loop
from tapeline_common.calendars import session_openings
from tapeline_common.events import SAYS, BarClosed
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.sequencer import Recorded
from tapeline_common.settings import Settings
from tapeline_common.values import Realm
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.tables import INSTRUMENT, PRICES, TIME, Column, Table
from tapeline_marketdata.files import BarColumns, BarFile, FileFacts
from tapeline_marketdata.timeframe import parse_timeframe

CONSEQUENCES = tuple(
    sorted(
        event.__name__ for author, said in SAYS.items() if author not in ("marketdata", "operator") for event in said
    )
)
"""Types of facts that are said of bars: everything but what comes from outside."""


def tape_subject(settings: Settings) -> Subject:
    """A configuration as a subject. Its table has the names of ``[[instrument]]`` in ``instrument``, if several."""
    title = f"tape of {', '.join(table.name for table in settings.strategy)}"
    return Subject(title, lambda table: said_by_bar(settings, table), takes_nan=False)


def said_by_bar(settings: Settings, table: Table) -> Table:
    """Each type of fact as a column: the stored bytes of what followed from a bar, joined; ``None`` where nothing."""
    recorder = Following(_rows(settings, table))
    run_loop(script(_opening(settings), _sources(settings, table)), recorder=recorder)
    return recorder.columns(len(table[TIME]))


def facts_of(settings: Settings, table: Table) -> list[Recorded]:
    """The whole tape of a run over a table of bars."""
    recorder = Kept()
    run_loop(script(_opening(settings), _sources(settings, table)), recorder=recorder)
    return recorder.facts


class Kept:
    """A recorder that keeps the facts in memory."""

    def __init__(self) -> None:
        self.facts: list[Recorded] = []

    def take(self, recorded: Recorded) -> None:
        self.facts.append(recorded)

    def take_block(self, payloads: bytes, lengths: object, head_hash: bytes | None = None) -> None:
        raise AssertionError("the exact path says one fact at a time")

    def close(self) -> None: ...

    def abandon(self) -> None: ...


class Following(Kept):
    """A recorder that puts every fact to the bar that it follows from.

    What follows from another outside fact (a gap that the next bar ends) is put to the next bar: it is said when that
    bar is known.
    """

    def __init__(self, rows: dict[tuple[str, int], int]) -> None:
        super().__init__()
        self._rows = rows
        self._row: int | None = None
        self._pending: list[Recorded] = []
        self._said: dict[str, dict[int, list[bytes]]] = {}

    def take(self, recorded: Recorded) -> None:
        event = recorded.fact.event
        if recorded.fact.cause == 0:
            self._row = self._rows[(event.instrument, event.open_ns)] if isinstance(event, BarClosed) else None
            if self._row is not None:
                pending, self._pending = self._pending, []
                for earlier in pending:
                    self._keep(earlier, self._row)
            return
        if self._row is None:
            self._pending.append(recorded)
        else:
            self._keep(recorded, self._row)

    def _keep(self, recorded: Recorded, row: int) -> None:
        kind = type(recorded.fact.event).__name__
        self._said.setdefault(kind, {}).setdefault(row, []).append(recorded.payload)

    def columns(self, bars: int) -> Table:
        """One column for each type of fact that a service says, also for those nobody said."""
        found: Table = {}
        for kind in CONSEQUENCES:
            column: Column = np.full(bars, None, dtype=object)
            for row, payloads in self._said.get(kind, {}).items():
                column[row] = b"\n".join(payloads)
            found[kind] = column
        return found


def _opening(settings: Settings) -> list[Any]:
    opening = opening_facts(settings, realm=Realm.REPLAY, code_version="examined")
    return [*opening, *session_openings(settings)]


def _rows(settings: Settings, table: Table) -> dict[tuple[str, int], int]:
    tokens = {one.name: instrument_id(one) for one in settings.instrument}
    names = table.get(INSTRUMENT)
    owners: Sequence[str] = (
        [settings.instrument[0].name] * len(table[TIME]) if names is None else [str(name) for name in names]
    )
    moments = table[TIME].tolist()
    return {(tokens[name], moment): row for row, (name, moment) in enumerate(zip(owners, moments, strict=True))}


def _sources(settings: Settings, table: Table) -> list[Source]:
    """The bars of each instrument as a source; an instrument without any is left out."""
    found = []
    names = table.get(INSTRUMENT)
    for one in settings.instrument:
        rows = slice(None) if names is None else np.flatnonzero(names == one.name)
        file = file_of({key: column[rows] for key, column in table.items()}, settings.feed.timeframe)
        if len(file):
            found.append(Source(instrument_id(one), "examined", file, "examined"))
    return found


def file_of(table: Table, timeframe: str, decimals: int | None = None) -> BarFile:
    """Bars as a file of them, prices and volumes as the shortest decimals of the floats."""
    import pyarrow as pa

    floats = {
        name: np.ascontiguousarray(table[name] if decimals is None else np.round(table[name], decimals))
        for name in (*PRICES, "volume")
    }
    open_ns = np.ascontiguousarray(table[TIME])
    length_ns = parse_timeframe(timeframe)
    facts = FileFacts(
        path="examined", format="table", rows=len(open_ns), time_column=TIME, time_unit="ns", timeframe=timeframe,
        timeframe_ns=length_ns, first_open_ns=int(open_ns[0]) if len(open_ns) else 0,
        last_open_ns=int(open_ns[-1]) if len(open_ns) else 0, gaps=0, missing_bars=0, grid_offset_ns=0,
        off_grid_bars=0, notes=(),
    )  # fmt: skip
    return BarFile(facts, BarColumns(open_ns, floats, {name: pa.array(column) for name, column in floats.items()}))


def with_timeframe(settings: Settings, timeframe: str) -> Settings:
    """The same settings, deciding on bars of that length."""
    return msgspec.structs.replace(settings, feed=msgspec.structs.replace(settings.feed, timeframe=timeframe))
