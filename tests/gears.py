"""Shared by tests that compare gears: one configuration run over the same bars in loop, block mode and kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from tapeline_backtest.feed import Source, script
from tapeline_backtest.kernel_runner import run_kernel
from tapeline_backtest.report import Run, report
from tapeline_backtest.runner import Finished, run_blocks, run_loop
from tapeline_common.events import OrderFilled, TradeClosed
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.sequencer import Recorded
from tapeline_common.settings import (
    FeedTable,
    InstrumentTable,
    RegimeTable,
    RiskTable,
    RunTable,
    Settings,
    StrategyTable,
    VenueTable,
)
from tapeline_common.values import OrderId, Realm
from tapeline_common.wire import Fact
from tapeline_marketdata.files import BarColumns, BarFile, FileFacts

NAME = "BTC/USD"
MINUTE_NS = 60_000_000_000
NOT_COMPARED = ("facts", "tape_hash", "gear", "elapsed_s", "bars_per_s")


def settings_of(
    kind: str,
    parameters: Mapping[str, Any],
    *,
    size: Decimal = Decimal(1),
    cash: Decimal = Decimal(1_000_000),
    venue: VenueTable | None = None,
    risk: RiskTable | None = None,
    tick_size: Decimal | None = None,
    lot_size: Decimal | None = None,
    min_notional: Decimal | None = None,
    timeframe: str = "1m",
) -> Settings:
    """One strategy on one instrument; without costs and limits unless given."""
    return Settings(
        run=RunTable(name="compared", currency="USD", cash=cash),
        feed=FeedTable(kind="files", timeframe=timeframe),
        venue=venue or VenueTable(Decimal(0), Decimal(0), Decimal(0), None),
        risk=risk or RiskTable(),
        regime=RegimeTable(enabled=False),
        instrument=(InstrumentTable(NAME, tick_size=tick_size, lot_size=lot_size, min_notional=min_notional),),
        strategy=(StrategyTable(kind, kind, (NAME,), size, dict(parameters)),),
    )


def part_of(file: BarFile, start: int, stop: int) -> BarFile:
    """Some bars of a file, as a file of their own."""
    old = file.columns
    floats = {name: getattr(old, name)[start:stop].copy() for name in ("open", "high", "low", "close", "volume")}
    printed = {name: old._printed[name][start:stop] for name in floats}
    return BarFile(file.facts, BarColumns(old.open_ns[start:stop].copy(), floats, printed))


def file_of(rows: list[tuple[Any, ...]], first_ns: int) -> BarFile:
    """Bars of (minute, open, high, low, close, volume) as a file; numbers as floats."""
    minutes, *numbers = zip(*rows, strict=True)
    open_ns = np.array([first_ns + minute * MINUTE_NS for minute in minutes], dtype=np.int64)
    floats = {
        name: np.array(column, dtype=np.float64)
        for name, column in zip(("open", "high", "low", "close", "volume"), numbers, strict=True)
    }
    printed = {name: pa.array(column) for name, column in floats.items()}
    facts = FileFacts(
        path="made.parquet", format="parquet", rows=len(rows), time_column="ts", time_unit="ns", timeframe="1m",
        timeframe_ns=MINUTE_NS, first_open_ns=int(open_ns[0]), last_open_ns=int(open_ns[-1]), gaps=0, missing_bars=0,
        grid_offset_ns=0, off_grid_bars=0, notes=(),
    )  # fmt: skip
    return BarFile(facts, BarColumns(open_ns, floats, printed))


class Facts:
    """A recorder that keeps what the exact path says."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def take(self, recorded: Recorded) -> None:
        self.facts.append(recorded.fact)

    def take_block(self, payloads: bytes, lengths: object, head_hash: bytes | None = None) -> None:
        raise AssertionError("the exact path says one fact at a time")

    def close(self) -> None: ...

    def abandon(self) -> None: ...


def facts_of(settings: Settings, file: BarFile) -> list[Fact]:
    """The exact path's tape."""
    source = Source(instrument_id(settings.instrument[0]), "made.parquet", file, "digest")
    recorder = Facts()
    run_loop(script(opening_facts(settings, realm=Realm.REPLAY, code_version="test"), [source]), recorder=recorder)
    return recorder.facts


@dataclass(frozen=True)
class Ran:
    """What a gear made of a run: fills and trades as facts (ids of orders left out), and the report as plain data."""

    fills: list[tuple[int, OrderFilled]]
    trades: list[TradeClosed]
    report: dict[str, Any]


def ran(settings: Settings, file: BarFile, gear: Callable[[list[Any], list[Source]], Finished]) -> Ran:
    (table,) = settings.instrument
    token = instrument_id(table)
    source = Source(token, "made.parquet", file, "digest")
    opening = opening_facts(settings, realm=Realm.REPLAY, code_version="test")
    finished = gear(opening, [source])
    run = Run(
        strategy=settings.strategy[0].name,
        parameters=settings.strategy[0].parameters,
        names={token: table.name},
        calendars={token: table.calendar},
        start_cash=settings.run.cash,
        sources=[source],
        facts=finished.facts,
        tape_hash=finished.tape_hash,
        gear="",
        elapsed_s=0.0,
    )
    told = msgspec.to_builtins(report(run, finished.collected, finished.books))
    fills = [
        (time_ns, msgspec.structs.replace(fill, order=OrderId(""), client_order_id="", trade_id=""))
        for time_ns, fill in finished.collected.fills
    ]
    shown = {name: value for name, value in told.items() if name not in NOT_COMPARED}
    return Ran(fills, list(finished.collected.trades), shown)


def in_loop(settings: Settings, file: BarFile) -> Ran:
    return ran(settings, file, lambda opening, sources: run_loop(script(opening, sources)))


def in_kernel(settings: Settings, file: BarFile) -> Ran:
    return ran(settings, file, lambda opening, sources: run_kernel([each.event for each in opening], sources))


def finished_in_both(
    settings: Settings, file: BarFile, chunk_bars: int = 8192, *, only_block: bool = False
) -> tuple[Finished, Finished]:
    """Exact path and block mode; ``only_block``: block mode twice over, for those who have the other already."""
    source = Source(instrument_id(settings.instrument[0]), "made.parquet", file, "digest")
    opening = opening_facts(settings, realm=Realm.REPLAY, code_version="test")
    block = run_blocks(opening, [source], chunk_bars=chunk_bars)
    return block if only_block else run_loop(script(opening, [source])), block


def assert_same(settings: Settings, file: BarFile) -> Ran:
    """All three give the same fills, trades and report, and loop and block mode the same tape and states."""

    def exactly(opening: list[Any], sources: list[Source]) -> Finished:
        exact, block = run_loop(script(opening, sources)), run_blocks(opening, sources)
        assert block.collected == exact.collected, settings
        assert block.states == exact.states, settings
        assert (block.facts, block.tape_hash) == (exact.facts, exact.tape_hash), settings
        return exact

    loop, kernel = ran(settings, file, exactly), in_kernel(settings, file)
    assert kernel.fills == loop.fills, settings
    assert kernel.trades == loop.trades, settings
    assert kernel.report == loop.report, settings
    return loop
