"""Strategies and research code as performers: their Sharpe ratio on any bars, and their stays in the market.

A strategy trades as in a backtest without costs: in the kernel gear where that can run it, else in the loop gear.
Research code says its ``position``, decided at a bar's close and earning from the next bar on, or its own ``returns``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.feed import Source, script
from tapeline_backtest.kernel import KernelRefused, Plan, market_of, plan_of, run
from tapeline_backtest.kernel_runner import run_kernel
from tapeline_backtest.report import TRADING_DAYS, returns_of
from tapeline_backtest.runner import Finished, run_loop
from tapeline_common.events import OrderFilled
from tapeline_common.opening import Opening, instrument_id, opening_facts
from tapeline_common.settings import Settings
from tapeline_common.values import Realm, Side
from tapeline_lab.bias.significance import Performer, Segment
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.suite import POSITION, RETURNS
from tapeline_lab.bias.tables import TIME, BadOutput, Table, output_of
from tapeline_lab.bias.tapes import file_of

Floats = NDArray[np.float64]

DAY_NS = 86_400_000_000_000
YEAR_DAYS = 365

QUANTITY_DECIMALS = 12
"""Sums of fills are rounded to these: what floats leave of a closed position is no stay in the market."""


def strategy_performer(settings: Settings) -> Performer:
    """One strategy on one instrument. Raises ``ValueError`` for several."""
    if len(settings.strategy) != 1 or len(settings.instrument) != 1:
        raise ValueError("significance tests one strategy on one instrument: give one of each")
    opening = opening_facts(settings, realm=Realm.REPLAY, code_version="examined")
    trader = _Trader(settings, opening)
    return Performer(settings.strategy[0].kind, trader.returns, trader.periods_per_year, trader.segments)


class _Trader:
    def __init__(self, settings: Settings, opening: Sequence[Opening]) -> None:
        self._settings, self._opening = settings, opening
        self.periods_per_year = TRADING_DAYS.get(settings.instrument[0].calendar, YEAR_DAYS)
        self._plan = self._kernel_plan()

    def _kernel_plan(self) -> Plan | None:
        try:
            return plan_of([each.event for each in self._opening])
        except KernelRefused:
            return None

    def _source(self, table: Table) -> Source:
        file = file_of(table, self._settings.feed.timeframe)
        return Source(instrument_id(self._settings.instrument[0]), "examined", file, "examined")

    def returns(self, table: Table) -> Floats:
        """Returns of daily closing equity."""
        cash = float(self._settings.run.cash)
        source = self._source(table)
        if self._plan is not None:
            try:
                daily = run(self._plan, market_of(source, self._plan), record=False).daily
                return returns_of(np.concatenate([[cash], daily]))
            except KernelRefused:
                self._plan = None
        finished = run_loop(script(self._opening, [source]))
        held = held_after(finished, source)
        close = table["close"]
        worth = cash + np.concatenate([[0.0], np.cumsum(_earned(held, table))])
        day = (table[TIME] + source.file.facts.timeframe_ns - 1) // DAY_NS
        ends = np.append(np.flatnonzero(np.diff(day)), len(close) - 1)
        return returns_of(np.concatenate([[cash], worth[ends + 1]]))

    def segments(self, table: Table) -> list[Segment]:
        source = self._source(table)
        if self._plan is not None:
            try:
                finished = run_kernel([each.event for each in self._opening], [source])
                return segments_of(held_after(finished, source))
            except KernelRefused:
                self._plan = None
        return segments_of(held_after(run_loop(script(self._opening, [source])), source))


def held_after(finished: Finished, source: Source) -> Floats:
    """Quantity held after the open of each bar, shape (n,): market orders fill there."""
    changes = np.zeros(len(source.file))
    close_ns = source.file.close_ns
    for time_ns, fill in finished.collected.fills:
        assert isinstance(fill, OrderFilled), "only fills are kept"
        signed = float(fill.quantity) * (1.0 if fill.side is Side.BUY else -1.0)
        changes[int(np.searchsorted(close_ns, time_ns))] += signed
    held: Floats = np.cumsum(changes).round(QUANTITY_DECIMALS)
    return held


def _earned(held: Floats, table: Table) -> Floats:
    """What a quantity held from each open on earns, marked at closes: shape (n,), one for each bar."""
    opens, closes = table["open"], table["close"]
    before = np.concatenate([[0.0], held[:-1]])
    last = np.concatenate([opens[:1], closes[:-1]])
    earned: Floats = before * (opens - last) + held * (closes - opens)
    return earned


def segments_of(held: Floats) -> list[Segment]:
    """Stays of unchanged quantity; the last ends with the bars."""
    edges = [0, *(np.flatnonzero(np.diff(held)) + 1).tolist(), len(held) - 1]
    return [
        Segment(start, stop, float(held[start]))
        for start, stop in pairwise(edges)
        if held[start] != 0.0 and stop > start
    ]


# ---- research code -----------------------------------------------------------------------------------------------


def pipeline_performer(subject: Subject, bar_length_ns: int) -> Performer:
    """Research code that says ``position`` for each bar, and ``returns`` if it computes its own."""

    def returns(table: Table) -> Floats:
        columns = _columns(subject, table)
        earned = columns.get(RETURNS)
        if earned is None:
            close = table["close"]
            earned = np.zeros(len(close))
            earned[1:] = np.nan_to_num(columns[POSITION][:-1]) * (close[1:] / close[:-1] - 1.0)
        return np.nan_to_num(earned)

    def segments(table: Table) -> list[Segment]:
        position = np.nan_to_num(_columns(subject, table)[POSITION])
        return segments_of(np.concatenate([[0.0], position[:-1]]))

    return Performer(subject.name, returns, YEAR_DAYS * DAY_NS / bar_length_ns, segments)


def _columns(subject: Subject, table: Table) -> Table:
    output = output_of(subject.run({name: column.copy() for name, column in table.items()}), table)
    if POSITION not in output.columns or len(output.time_ns) != len(table[TIME]):
        raise BadOutput(
            f"{subject.name} says {', '.join(output.columns)}: to be tested for luck it has to say a column "
            f"{POSITION!r} with a row for each bar, the exposure decided at its close"
        )
    return output.columns
