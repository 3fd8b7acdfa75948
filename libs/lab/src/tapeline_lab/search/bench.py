"""The workbench of one process: a study's files, read once, and trials run on them in either gear.

A ``Recipe`` says everything a trial follows from and can be sent to another process or machine, which reads the same
files and refuses any that differ. A trial is an account of its own. What it comes to does not depend on who runs it,
nor on what ran before it. Nothing is recorded here.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from functools import cache
from math import nan
from typing import Any

import msgspec
import numpy as np

from tapeline_backtest import batch, kernel
from tapeline_backtest.command import BLOCKS_FROM_BARS, source_of
from tapeline_backtest.compiled import memory_of, scan
from tapeline_backtest.feed import Source, script
from tapeline_backtest.kept import flows_by_instrument, results_by_instrument
from tapeline_backtest.kernel import KernelRefused, Market, Outcome, Plan, Units
from tapeline_backtest.kernel_runner import told
from tapeline_backtest.runner import Finished, run_blocks, run_loop
from tapeline_backtest.wide import BASE, LIMB
from tapeline_common.calendars import session_openings
from tapeline_common.events import Parameters, TradeClosed, TrialFigures
from tapeline_common.money import ZERO, plain
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.settings import InstrumentTable, Settings
from tapeline_common.values import Realm, TrialPart, TrialRefusal
from tapeline_common.version import code_version
from tapeline_common.wiring import checked
from tapeline_lab.search.figures import Floats, Sums, figures_of
from tapeline_lab.search.resample import resampled
from tapeline_ledger import core as ledger
from tapeline_marketdata.columns import BadFile, FileFault, file_digest
from tapeline_marketdata.files import BarFile, read_bars
from tapeline_marketdata.timeframe import parse_timeframe
from tapeline_strategy.catalogue import add, find
from tapeline_strategy.sdk import ParameterInvalid, Strategy, validate

DAY_NS = 86_400_000_000_000


class Gear(StrEnum):
    KERNEL = "kernel"
    LOOP = "loop"


class DataFile(msgspec.Struct, frozen=True):
    """An instrument's bars: a file, and the timeframe that is made of it, empty for the file's own."""

    instrument: str
    path: str
    timeframe: str
    digest: str


class Ground(msgspec.Struct, frozen=True):
    """Rows ``first`` to ``stop`` of a file's bars, on which trials trade; they hear ``warm_up_bars`` before them."""

    file: int
    first: int
    stop: int
    warm_up_bars: int = 0
    part: TrialPart = TrialPart.WHOLE
    fold: int = -1


class Task(msgspec.Struct, frozen=True):
    """One trial to run. ``keeps_returns``: whoever asked wants its daily returns back, recorded or not."""

    ground: int
    strategy: str
    parameters: Parameters
    keeps_returns: bool = False


class Ran(msgspec.Struct, frozen=True):
    """What a trial came to. returns: daily, shape (days,)."""

    figures: TrialFigures
    returns: Any


class NotRun(msgspec.Struct, frozen=True):
    reason: TrialRefusal
    detail: str


Result = Ran | NotRun


class Recipe(msgspec.Struct, frozen=True):
    """What trials follow from.

    Attributes:
        settings: of a backtest; each trial puts its own instrument and strategy in.
        modules: to import first, for strategies that are added by hand.
        is_strict: refuse what the gear cannot run, instead of handing it to the loop gear.
        lists_trades: whether the result of every trade is needed.
    """

    settings: Settings
    modules: tuple[str, ...]
    files: tuple[DataFile, ...]
    grounds: tuple[Ground, ...]
    gear: Gear
    is_strict: bool
    lists_trades: bool


def read_file(path: str, timeframe: str) -> BarFile:
    """Bars of a file, made longer if ``timeframe`` asks for it. Raises ``BadFile`` and ``UnknownTimeframe``."""
    if not timeframe:
        return read_bars(path)
    wanted_ns = parse_timeframe(timeframe)
    try:
        file = read_bars(path)
    except BadFile as trouble:
        if trouble.fault is not FileFault.TIMEFRAME_UNKNOWN:
            raise
        return read_bars(path, timeframe=timeframe)
    own_ns = file.facts.timeframe_ns
    if own_ns == wanted_ns:
        return file
    if own_ns and wanted_ns > own_ns and wanted_ns % own_ns == 0:
        return resampled(file, wanted_ns)
    return read_bars(path, timeframe=timeframe)


class Bench:
    """Files and markets of a recipe, made when they are first asked for. May be shared by threads."""

    def __init__(self, recipe: Recipe, files: Sequence[BarFile] = ()) -> None:
        """files: the recipe's, if they are read already. Raises ``BadFile`` if one is not the recipe's."""
        self.recipe = recipe
        for module in recipe.modules:
            importlib.import_module(module)
        if not files:
            for one in recipe.files:
                found = file_digest(one.path)
                if found != one.digest:
                    raise BadFile(
                        FileFault.UNREADABLE,
                        f"{one.path}: SHA-256 {found[:12]}, the study's is {one.digest[:12]}: put the same file there",
                    )
            files = [read_file(one.path, one.timeframe) for one in recipe.files]
        self.files = list(files)
        self._lock = threading.RLock()
        self._plans: dict[tuple[int, str], Plan] = {}
        self._markets: dict[int, Market] = {}
        self._parts: dict[int, Market] = {}

    def run(self, tasks: Sequence[Task]) -> list[Result]:
        """Run trials of one strategy on one ground, in the study's gear."""
        if self.recipe.gear is Gear.LOOP:
            return [self._alone(task) for task in tasks]
        try:
            return list(self._in_kernel(tasks))
        except (KernelRefused, ParameterInvalid):  # One of them; which it is, is found out one by one.
            return [self._alone(task) for task in tasks]

    def _alone(self, task: Task) -> Result:
        """Run a trial by itself; what the kernel gear refuses goes to the loop gear, unless that was ruled out."""
        try:
            validate(find(task.strategy), task.parameters)
        except ParameterInvalid as trouble:
            return NotRun(TrialRefusal.NOT_TOGETHER, str(trouble))
        if self.recipe.gear is Gear.KERNEL:
            try:
                return self._in_kernel([task])[0]
            except KernelRefused as trouble:
                if self.recipe.is_strict:
                    return NotRun(TrialRefusal.GEAR_REFUSED, str(trouble))
        return self._in_loop(task)

    def try_kernel(self, strategies: Sequence[str]) -> None:
        """Raises ``KernelRefused`` if one of these strategies cannot be compiled, or some file's money is too long."""
        for strategy in strategies:
            (kernel if self.recipe.lists_trades else batch).prepare(find(strategy))
            for ground in range(len(self.recipe.grounds)):
                plan = self._plan(self.recipe.grounds[ground].file, strategy)
                market = self._market(ground, plan)
                _, units = kernel.rules_of(plan, market)
                if market.allowed is not None:
                    kernel.scaled(market.allowed, units.quantity)

    # ---- settings ----------------------------------------------------------------------------------------------------

    def _table(self, file: int) -> InstrumentTable:
        name = self.recipe.files[file].instrument
        return next(table for table in self.recipe.settings.instrument if table.name == name)

    def _settings(self, file: int, strategy: str, parameters: Parameters) -> Settings:
        """An account with one instrument and one strategy, which decides on the file's bars."""
        settings, table = self.recipe.settings, self._table(file)
        own = msgspec.structs.replace(
            settings.strategy[0], name=strategy, kind=strategy, instruments=(table.name,), parameters=parameters
        )
        feed = msgspec.structs.replace(settings.feed, timeframe=self.files[file].facts.timeframe)
        alone: Settings = checked(msgspec.structs.replace(settings, feed=feed, instrument=(table,), strategy=(own,)))
        return alone

    # ---- kernel gear -------------------------------------------------------------------------------------------------

    def _plan(self, file: int, strategy: str) -> Plan:
        with self._lock:
            if (file, strategy) not in self._plans:
                opening = opening_facts(self._settings(file, strategy, {}), realm=Realm.REPLAY, code_version="")
                self._plans[file, strategy] = kernel.plan_of([each.event for each in opening])
            return self._plans[file, strategy]

    def _market(self, ground: int, plan: Plan) -> Market:
        """The bars of a ground. What of a plan goes into it is the same for every strategy."""
        with self._lock:
            if ground not in self._parts:
                where = self.recipe.grounds[ground]
                if where.file not in self._markets:
                    source = self._source(where.file, self.files[where.file])
                    self._markets[where.file] = kernel.market_of(source, plan)
                self._parts[ground] = self._markets[where.file].part(where.first, where.stop)
            return self._parts[ground]

    def _in_kernel(self, tasks: Sequence[Task]) -> list[Ran]:
        """Raises ``KernelRefused`` and ``ParameterInvalid`` if one of them cannot be run."""
        first = tasks[0]
        where = self.recipe.grounds[first.ground]
        plan = self._plan(where.file, first.strategy)
        market = self._market(first.ground, plan)
        plans = [replace(plan, parameters=validate(plan.strategy, task.parameters)) for task in tasks]
        memories = self._memories(where, plans)
        if self.recipe.lists_trades:
            given: Sequence[Floats | None] = memories or [None] * len(plans)
            runs = zip(plans, given, strict=True)
            outcomes = [kernel.run(each, market, record=True, memory=memory) for each, memory in runs]
        else:
            outcomes = batch.run_batch(plan, market, [each.parameters for each in plans], memories)
        return [self._told(where, each, market, one) for each, one in zip(plans, outcomes, strict=True)]

    def _memories(self, where: Ground, plans: Sequence[Plan]) -> list[Floats] | None:
        """What each remembers of the bars before the ground."""
        if not where.warm_up_bars:
            return None
        columns, start = self._markets[where.file].columns, where.first - where.warm_up_bars
        return [warmed(each.strategy, each.parameters, columns, start, where.first) for each in plans]

    def _told(self, where: Ground, plan: Plan, market: Market, outcome: Outcome) -> Ran:
        results = None
        if self.recipe.lists_trades:
            settings = self._settings(where.file, plan.strategy.name, plan.parameters)
            opening = opening_facts(settings, realm=Realm.REPLAY, code_version="")
            source = self._source(where.file, self.files[where.file].part(where.first, where.stop))
            collected, _ = told([each.event for each in opening], source, plan, market, outcome)
            results = [result_of(trade) for trade in collected.trades]
        sums = Sums(
            cash=plan.cash,
            final_equity=outcome.final_equity,
            fees=outcome.fees,
            slippage=outcome.slippage,
            gain=outcome.profit,
            loss=outcome.loss,
            orders=outcome.orders,
            fills=outcome.fills,
            trades=outcome.trades,
            wins=outcome.wins,
            invested_bars=outcome.invested_bars,
            max_drawdown=outcome.max_drawdown,
            daily=outcome.daily,
            refused=outcome.refused,
            declined=outcome.declined,
            results=results,
        )
        return Ran(*figures_of(sums, plan.listing.calendar, market.columns[3]))

    # ---- loop gear ---------------------------------------------------------------------------------------------------

    def _source(self, file: int, part: BarFile) -> Source:
        table, one = self._table(file), self.recipe.files[file]
        made = source_of(table, one.path, lambda _path: part)
        return replace(made, digest=one.digest)

    def _units(self, task: Task) -> Units | None:
        """The kernel gear's units for a trial; ``None`` for what that gear does not know."""
        try:
            plan = self._plan(self.recipe.grounds[task.ground].file, task.strategy)
            return kernel.rules_of(plan, self._market(task.ground, plan))[1]
        except KernelRefused:
            return None

    def _in_loop(self, task: Task) -> Result:
        where = self.recipe.grounds[task.ground]
        heard = self.files[where.file].part(where.first - where.warm_up_bars, where.stop)
        source = self._source(where.file, heard)
        strategy = find(task.strategy)
        if where.warm_up_bars or not strategy.is_numeric:
            strategy = held_back(task.strategy, where.warm_up_bars)
        settings = self._settings(where.file, strategy.name, task.parameters)
        opening = [
            *opening_facts(settings, realm=Realm.REPLAY, code_version=code_version()),
            *session_openings(settings),
        ]
        is_plain = source.detail is None and source.funding is None
        try:
            if is_plain and strategy.is_numeric and len(heard) >= BLOCKS_FROM_BARS:
                finished = run_blocks(opening, [source])
            else:
                finished = run_loop(script(opening, [source]))
        except StrategyFailed as trouble:
            return NotRun(TrialRefusal.FAILED, str(trouble))
        traded = heard.part(where.warm_up_bars, len(heard))
        table = settings.instrument[0]
        units = self._units(task)
        sums = sums_of(finished, settings, traded, units, lists_trades=self.recipe.lists_trades)
        return Ran(*figures_of(sums, table.calendar, traded.columns.close))


def warmed(strategy: Strategy, parameters: Parameters, columns: Any, start: int, stop: int) -> Floats:
    """A strategy's memory after bars ``start`` to ``stop``, compiled. Raises ``CompilationRefused``."""
    memory = memory_of(strategy, parameters)
    run: Any = scan(strategy)
    values = tuple(parameters.values())
    settled = nan
    while start < stop:
        start, settled = run(memory, values, columns, start, stop, settled)
        start += 1
    return memory


class StrategyFailed(Exception):
    """A strategy raised. The message names it, its parameters' effect is the caller's to tell, and what it raised."""


@cache
def held_back(kind: str, bars: int) -> Strategy:
    """A strategy that hears its first ``bars`` without an opinion; known to this process by a name of its own.

    What it raises is told as ``StrategyFailed``, so that it is not taken for a fault of the gear.
    """
    strategy = find(kind)

    def start(parameters: Parameters) -> Any:
        return [strategy.start(parameters), bars]

    def step(memory: Any, *numbers: Any) -> float:
        try:
            target = strategy.step(memory[0], *numbers)
        except Exception as trouble:
            raise StrategyFailed(f"strategy {kind!r}: {type(trouble).__name__}: {trouble}") from trouble
        if memory[1] > 0:
            memory[1] -= 1
            return nan
        return target

    made = replace(strategy, name=f"{kind}_after_{bars}", start=start, step=step, is_numeric=False)
    add(made)
    return made


def sums_of(
    finished: Finished, settings: Settings, traded: BarFile, units: Units | None, *, lists_trades: bool
) -> Sums:
    """What a run of the loop gear came to on the bars it could trade on.

    units: those of the kernel gear, so that the curve has that gear's bits; ``None`` for what it does not know.
    """
    collected, books = finished.collected, finished.books
    token = instrument_id(settings.instrument[0])
    flow = flows_by_instrument(collected.fills.sums()).get(token)
    result = results_by_instrument(collected.trades.sums()).get(token)
    cash, held = _curve_parts(finished, settings, traded, units)
    equity = cash + held * traded.columns.close
    peaks = np.maximum.accumulate(np.maximum(equity, float(settings.run.cash)))
    falls = np.divide(peaks - equity, peaks, out=np.zeros_like(equity), where=peaks > 0)
    return Sums(
        cash=settings.run.cash,
        final_equity=plain(ledger.equity(books)),
        fees=ZERO if flow is None else plain(flow.fees),
        slippage=ZERO if flow is None else plain(flow.slippage),
        gain=ZERO if result is None else plain(result.gain),
        loss=ZERO if result is None else plain(result.loss),
        orders=collected.submitted,
        fills=len(collected.fills),
        trades=0 if result is None else result.trades,
        wins=0 if result is None else result.wins,
        invested_bars=int(np.count_nonzero(held)),
        max_drawdown=float(np.max(falls)),
        daily=equity[day_ends(traded)],
        refused=collected.refused,
        declined=collected.declined,
        results=[result_of(trade) for trade in collected.trades] if lists_trades else None,
    )


def result_of(trade: TradeClosed) -> Decimal:
    """What a trade came to after fees and funding."""
    return trade.pnl - trade.fees + trade.funding


def _curve_parts(finished: Finished, settings: Settings, traded: BarFile, units: Units | None) -> tuple[Floats, Floats]:
    """Cash and position after each bar, shape (bars,) each."""
    moves = [
        (time_ns, -fill.side.sign * fill.quantity * fill.price - fill.fee, fill.side.sign * fill.quantity)
        for time_ns, fill in finished.collected.fills
    ]
    moves += [(time_ns, amount, ZERO) for time_ns, amount in finished.collected.funded]
    moves.sort(key=lambda move: move[0])
    cash, held = settings.run.cash, ZERO
    cashes, helds = [_shown(cash, units)], [0.0]
    for _, paid, moved in moves:
        cash += paid
        held += moved
        cashes.append(_shown(cash, units))
        helds.append(float(held) if units is None else int(held.scaleb(units.quantity)) / 10.0**units.quantity)
    times = np.array([time_ns for time_ns, _, _ in moves], dtype=np.int64)
    after = np.searchsorted(times, traded.close_ns, side="right")
    return np.array(cashes)[after], np.array(helds)[after]


def _shown(cash: Decimal, units: Units | None) -> float:
    """Cash as ``kernel_loop.show`` turns it into a float."""
    if units is None:
        return float(cash)
    high, low = divmod(int(cash.scaleb(units.money)), BASE)
    return (high * LIMB + low) / 10.0**units.money


def day_ends(file: BarFile) -> Any:
    """Row of the last bar of each UTC day by closing time, a bar that closes at midnight ending its day."""
    days = (file.close_ns - 1) // DAY_NS
    return np.append(np.flatnonzero(np.diff(days)), len(days) - 1)


def days_of(file: BarFile) -> Any:
    """UTC days since 1970 that ``day_ends`` are the ends of, int64."""
    return (file.close_ns[day_ends(file)] - 1) // DAY_NS
