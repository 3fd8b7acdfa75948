"""Block mode of the loop gear: bars to which no core would say anything are passed over together.

A strategy's compiled ``step`` runs ahead to the next bar where something can happen; there the exact path takes over.
The cores learn the silent bars at once (``Core.passing``), and the facts of those bars are rendered and chained by
compiled code in another thread while the cores go on. The tape is the same to the last byte, whatever was passed over.

It decides nothing: where silence ends is said by the cores.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest import order_loop
from tapeline_backtest.bar_columns import CHUNK_BARS, CLOSE, Chunk, chunks
from tapeline_backtest.chain_block import HASH_BYTES, link_chain
from tapeline_backtest.compiled import CompilationRefused, parameter_kinds, specialised
from tapeline_backtest.feed import Source, gap_before
from tapeline_backtest.filter_loop import is_exact, run
from tapeline_backtest.machine_code import FLOAT_TABLE, FLOATS
from tapeline_backtest.order_block import OrderPath, Told
from tapeline_backtest.rendering import (
    AUTHOR,
    ECHO_NUMBERS,
    LANE_COLUMNS,
    RUN_COLUMNS,
    Layout,
    Table,
    bar_id,
    bar_layout,
    compiled_render,
    echo_layout,
    names,
    table,
)
from tapeline_backtest.shortest import printed_numbers
from tapeline_backtest.writing import compiled_floats
from tapeline_common.bar_block import BarBlock, BarFilter, Echo, Steps
from tapeline_common.core import Stamp
from tapeline_common.events import ParameterValue, RegimeConfigured, RegimeUpdated, StrategyConfigured
from tapeline_common.hours import Hours
from tapeline_common.loop import Loop
from tapeline_common.opening import Opening
from tapeline_common.recording import Recorder
from tapeline_common.values import InstrumentId
from tapeline_regime import trainer
from tapeline_regime.features import usable
from tapeline_strategy.catalogue import find
from tapeline_strategy.sdk import Strategy

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
T = TypeVar("T")

RECORDED_BYTES = 1 << 20
"""Handed to a recorder at once."""

SPARE_BYTES = 128
"""Compiled code writes an amount's digits behind the place where they end up."""

WAITING_JOBS = 2
"""Chunks that may wait to be rendered; more would only fill memory."""


@dataclass(slots=True)
class _Pending:
    """What came since the last flush.

    Attributes:
        whole: facts that are encoded already.
        told: facts about orders, as rows.
        runs: of bars passed over, as ``render`` takes them; ``open_runs`` are those that come behind.
        echoes, echoed: what was said to each of these bars, and how many there are.
    """

    whole: list[bytes] = field(default_factory=list)
    told: list[Ints] = field(default_factory=list)
    told_rows: int = 0
    told_echoes: int = 0
    told_gaps: int = 0
    runs: list[Ints] = field(default_factory=list)
    open_runs: list[list[int]] = field(default_factory=list)
    echoes: list[Echo] = field(default_factory=list)
    echoed: int = 0

    def close_runs(self) -> None:
        """Put the open runs into a table of their own."""
        if self.open_runs:
            self.runs.append(np.array(self.open_runs, dtype=np.int64))
            self.open_runs = []


class BulkTape:
    """Renders and chains the facts of a tape in bulk, one chunk after the other, in a thread of its own.

    Facts that the cores said come in by ``take``, runs of bars by ``pass_over``; ``flush`` hands a chunk over.
    """

    def __init__(self, sources: Sequence[Source], recorder: Recorder | None, orders: OrderPath | None = None) -> None:
        self._layouts = [bar_layout(one.instrument, one.file.facts.timeframe) for one in sources]
        if orders is not None:
            # In the place of echoes, of which there may be several kinds: they come behind.
            self._layouts += [Layout((b"",), ()), *orders.layouts]
        self._own_layouts = len(self._layouts)
        self._prefix = np.frombuffer(bytearray(b"" if orders is None else orders.prefix), dtype=np.uint8)
        self._echo_layouts: dict[tuple[int, object], int] = {}
        self._table = table(self._layouts)
        self._lanes = len(sources)
        self._recorder = recorder
        self._head = np.zeros(HASH_BYTES, dtype=np.uint8)
        self._chain = link_chain()
        self._thread = ThreadPoolExecutor(1, "tape")
        self._jobs: list[Future[None]] = []
        self._pending = _Pending()

    def take(self, head: bytes, payload: bytes) -> bytes:
        """One fact that is encoded already. Stands in for ``wire.chain``: the hash it returns means nothing."""
        self._pending.whole.append(payload)
        return head

    def pass_over(
        self, first: int, count: int, pos: int, versions: list[int], echoes: Sequence[tuple[int, int, Echo]]
    ) -> None:
        """Bars of the current chunk.

        Args:
            versions: of each lane's stream before them.
            echoes: (lane, its first row, what was said to each of its bars).
        """
        pending = self._pending
        layouts, rows = [-1] * self._lanes, [0] * self._lanes
        for lane, row, echo in echoes:
            layouts[lane] = self._echo_layout(lane, echo)
            rows[lane] = pending.echoed - row
            pending.echoes.append(echo)
            pending.echoed += len(echo.chosen)
        before = pending.told_rows, len(pending.whole)
        pending.open_runs.append([*before, first, count, pos, *versions, *layouts, *rows])

    def tell(self, told: Told) -> None:
        """A stretch of bars of the current chunk, with what was said about orders in it."""
        pending = self._pending
        layout, row = -1, 0
        if told.echo is not None:
            layout, row = self._echo_layout(0, told.echo), pending.echoed - told.start
            pending.echoes.append(told.echo)
            pending.echoed += len(told.echo.chosen)
            told.rows[:, order_loop.ECHO] = told.rows[:, order_loop.BAR] + row
            echoes = told.rows[:, order_loop.LAYOUT] == order_loop.ECHOES
            told.rows[echoes, order_loop.LAYOUT] = layout
            pending.told_echoes += int(np.count_nonzero(echoes))
        pending.close_runs()
        runs = np.zeros((1 + len(told.runs), RUN_COLUMNS + LANE_COLUMNS), dtype=np.int64)
        # First a run without bars: whole facts of before come before any that is told.
        runs[1:, 0], runs[1:, 2 : RUN_COLUMNS + 1] = told.runs[:, 0], told.runs[:, 1:]
        runs[:, 0] += pending.told_rows
        runs[:, 1] = len(pending.whole)
        runs[:, RUN_COLUMNS + 1 :] = layout, row
        pending.runs.append(runs)
        pending.whole.extend(told.gaps)
        pending.told_gaps += len(told.gaps)
        pending.told.append(told.rows)
        pending.told_rows += len(told.rows)

    def _echo_layout(self, lane: int, echo: Echo) -> int:
        last = echo.last
        assert isinstance(last, RegimeUpdated), "the only fact said to every bar"
        key = (lane, last.model)
        if key not in self._echo_layouts:
            self._echo_layouts[key] = len(self._layouts)
            self._layouts.append(echo_layout(last))
            self._table = table(self._layouts)
        return self._echo_layouts[key]

    def flush(self, chunk: Chunk | None) -> None:
        """Everything since the last flush, with the chunk its bars are of (``None``: there were none)."""
        while len(self._jobs) >= WAITING_JOBS:
            self._jobs.pop(0).result()
        pending, self._pending = self._pending, _Pending()
        sizes = np.array([one.size for one in self._layouts], dtype=np.int64)
        self._jobs.append(self._thread.submit(self._write, chunk, pending, self._table, sizes))

    def head(self) -> bytes:
        """The hash after everything flushed so far."""
        while self._jobs:
            self._jobs.pop(0).result()
        return self._head.tobytes()

    def close(self) -> None:
        self._thread.shutdown()

    def _write(self, chunk: Chunk | None, pending: _Pending, layouts: Table, sizes: Ints) -> None:
        # A writable array, as the rendered ones are: compiled code is specific to that.
        whole = np.frombuffer(bytearray().join(pending.whole), dtype=np.uint8)
        whole_ends = np.cumsum([len(payload) for payload in pending.whole], dtype=np.int64)
        if chunk is None:
            payloads, ends = whole, whole_ends
        else:
            payloads, ends = self._render(chunk, pending, whole, whole_ends, layouts, sizes)
        if self._recorder is None:
            if len(ends):
                self._chain(self._head, payloads, ends)
            return
        # In parts that a recorder takes whole, with the hash after each.
        start, first = 0, 0
        while first < len(ends):
            after = max(first + 1, int(np.searchsorted(ends, start + RECORDED_BYTES, side="right")))
            stop = int(ends[after - 1])
            part, part_ends = payloads[start:stop], ends[first:after] - start
            self._chain(self._head, part, part_ends)
            self._recorder.take_block(part.tobytes(), np.diff(part_ends, prepend=0), self._head.tobytes())
            start, first = stop, after

    def _render(
        self, chunk: Chunk, pending: _Pending, whole: Bytes, whole_ends: Ints, layouts: Table, sizes: Ints
    ) -> tuple[Bytes, Ints]:
        pending.close_runs()
        last = np.zeros((1, RUN_COLUMNS + LANE_COLUMNS * self._lanes), dtype=np.int64)
        runs = np.concatenate([*pending.runs, last])
        bars = int(runs[:, 3].sum())
        told = np.concatenate(pending.told) if pending.told else np.empty((0, order_loop.ROW), dtype=np.int64)
        facts = bars + pending.echoed - pending.told_echoes
        in_runs = np.concatenate([sizes[: self._lanes], sizes[self._own_layouts :]]).max()
        most = len(whole) + facts * int(in_runs) + int(sizes[told[:, order_loop.LAYOUT]].sum()) + len(chunk.texts)
        out = np.empty(most + SPARE_BYTES, dtype=np.uint8)
        ends = np.empty(len(whole_ends) + facts + len(told) - pending.told_gaps, dtype=np.int64)
        # It has no bars: what is left of the facts is written before it.
        runs[-1, :2] = len(told), len(whole_ends)
        numbers = [echo.numbers for echo in pending.echoes] or [np.empty((0, ECHO_NUMBERS))]
        chosen = [echo.chosen for echo in pending.echoes] or [np.empty(0, dtype=np.int64)]
        size = compiled_render()(
            out,
            ends,
            runs,
            self._lanes,
            told,
            self._prefix,
            whole,
            whole_ends,
            chunk.lanes,
            chunk.rows,
            chunk.open_ns,
            chunk.close_ns,
            chunk.texts,
            chunk.text_starts,
            *printed_numbers(np.concatenate(numbers)),
            np.concatenate(chosen),
            layouts.text,
            layouts.ends,
            layouts.first_piece,
            layouts.fields,
            layouts.first_field,
            *names(),
        )
        return out[:size], ends


class _CompiledSteps:
    """A strategy's compiled ``step`` over the numbers of one chunk."""

    def __init__(self, ahead: Any, numbers: Floats) -> None:
        self._ahead = ahead
        self._numbers = numbers

    def silent_until(
        self, memory: Sequence[float], parameters: tuple[ParameterValue, ...], start: int, stop: int, settled: float
    ) -> int:
        row: int = self._ahead(np.array(memory), parameters, self._numbers, start, stop, settled, True)[0]
        return row

    def after(
        self, memory: Sequence[float], parameters: tuple[ParameterValue, ...], start: int, stop: int
    ) -> tuple[list[float], float]:
        moved = np.array(memory)
        _, target = self._ahead(moved, parameters, self._numbers, start, stop, 0.0, False)
        return moved.tolist(), target


@cache
def _ahead(strategy: Strategy) -> Any:
    """The compiled loop of a strategy, or ``None`` where its ``step`` cannot be compiled."""
    arguments = (FLOATS, parameter_kinds(strategy), FLOAT_TABLE, "int64", "int64", "float64", "boolean")
    try:
        return specialised(strategy, ("tapeline_backtest.ahead_loop",), "ahead", ("int64", "float64"), *arguments)
    except CompilationRefused:
        return None


def prepare(opening: Iterable[Opening]) -> None:
    """Load what a replay configures: the strategies' compiled code (or make it), and what models are fitted with;
    and what every replay is written by."""
    compiled_floats()
    compiled_render()
    printed_numbers(np.empty(0))
    for each in opening:
        if isinstance(each.event, StrategyConfigured):
            _ahead(find(each.event.kind))
        elif isinstance(each.event, RegimeConfigured):
            trainer.load()
            is_exact()


class BlockRun:
    """Feeds the bars of files to a loop, passing over what is silent.

    Args:
        loop: has heard the opening facts; its sequencer chains through ``tape``.
        hours: when instruments trade that do not always: what lies outside is no gap.
        progress: called after each chunk with the number of bars so far.
        orders: runs through stretches of bars with orders in them, where the run is one for that.

    Attributes:
        passed: bars that were passed over.
    """

    def __init__(
        self,
        loop: Loop,
        sources: Sequence[Source],
        tape: BulkTape,
        hours: Mapping[InstrumentId, Hours],
        progress: Callable[[int], None] | None = None,
        chunk_bars: int = CHUNK_BARS,
        orders: OrderPath | None = None,
    ) -> None:
        self.passed = 0
        self._orders = orders
        self._loop = loop
        self._sources = sources
        self._tape = tape
        self._hours = hours
        self._progress = progress
        self._chunk_bars = chunk_bars
        self._streams = [str(one.instrument) for one in sources]

    def run(self) -> None:
        """All bars of all sources."""
        said = 0
        for chunk in _one_ahead(chunks(self._sources, self._chunk_bars)):
            self._run_chunk(chunk)
            self._tape.flush(chunk)
            said += len(chunk)
            if self._progress is not None:
                self._progress(said)

    def _run_chunk(self, chunk: Chunk) -> None:
        blocks = self._blocks(chunk)
        next_rows = chunk.first_rows[:-1]
        order = chunk.order.data
        gaps = chunk.gaps
        bars = len(chunk)
        k, next_gap = 0, 0
        while k < bars:
            while next_gap < len(gaps) and gaps[next_gap] < k:
                next_gap += 1
            limit = gaps[next_gap] if next_gap < len(gaps) else bars
            if self._orders is not None:
                after, told = self._orders.run(chunk, blocks[0], k, bars)
                if told is not None:
                    self._tape.tell(told)
                    self.passed += after - k
                    next_rows[0] = k = after
                    continue
            stop = self._silent_until(blocks, order, next_rows, chunk.first_rows, k, limit)
            if stop > k:
                self._pass_over(chunk, blocks, order, next_rows, k, stop)
                k = stop
            if k < bars:
                self._say(chunk, k, has_gap=k == limit)
                next_rows[chunk.lanes[k]] += 1
                k += 1

    def _silent_until(
        self,
        blocks: list[BarBlock],
        order: Sequence[int],
        next_rows: list[int],
        first_rows: list[int],
        k: int,
        stop: int,
    ) -> int:
        """The bar, from ``k`` to ``stop``, before which all bars of all lanes are silent."""
        for lane, block in enumerate(blocks):
            if stop == k:
                return k
            row = next_rows[lane]
            after = bisect_left(order, stop, row, first_rows[lane + 1])
            if row < after:
                silent = self._loop.silent_until(block, row, after)
                if silent < after:
                    stop = order[silent]
        return stop

    def _pass_over(
        self, chunk: Chunk, blocks: list[BarBlock], order: Sequence[int], next_rows: list[int], k: int, stop: int
    ) -> None:
        sequencer = self._loop.sequencer
        first_pos = sequencer.pos + 1
        versions = [sequencer.versions.get(stream, 0) for stream in self._streams]
        spans = [
            (lane, row, bisect_left(order, stop, row, chunk.first_rows[lane + 1])) for lane, row in enumerate(next_rows)
        ]
        places = _places(chunk, k, stop, [block.is_echoed for block in blocks])
        counts: dict[str, int] = {}
        echoes: list[tuple[int, int, Echo]] = []
        for lane, row, after in spans:
            if row == after:
                continue
            block = blocks[lane]
            last = Stamp(first_pos + places(order[after - 1]), block.close_ns[after - 1])
            echo = self._loop.take(block, row, after, last)
            assert (echo is not None) == block.is_echoed, "an echo is announced"
            if echo is not None:
                echoes.append((lane, row, echo))
            counts[self._streams[lane]] = (after - row) * (1 + block.is_echoed)
            next_rows[lane] = after
        self._tape.pass_over(k, stop - k, first_pos, versions, echoes)
        last_lane, last_row = chunk.lanes[stop - 1], chunk.rows[stop - 1]
        sequencer.pass_over(counts, blocks[last_lane].close_ns[last_row])
        self.passed += stop - k

    def _say(self, chunk: Chunk, k: int, *, has_gap: bool) -> None:
        """One bar by the exact path."""
        lane, row = int(chunk.lanes[k]), int(chunk.rows[k])
        bar = chunk.bar(lane, row)
        if has_gap:
            file_row = chunk.file_rows[lane] + row - chunk.first_rows[lane]
            gap = gap_before(self._sources[lane], file_row, self._hours.get(bar.instrument))
            if gap is not None:
                self._loop.say(gap.author, gap.event, gap.id, gap.time_ns)
        self._loop.say(AUTHOR, bar, bar_id(bar.instrument, bar.timeframe, bar.open_ns), bar.close_ns)

    def _blocks(self, chunk: Chunk) -> list[BarBlock]:
        """Each lane of a chunk as the cores see it."""
        open_ns, close_ns = chunk.open_ns.data, chunk.close_ns.data
        ready: dict[str, Steps | None] = {}
        closes = chunk.numbers[CLOSE]

        def steps(kind: str) -> Steps | None:
            if kind not in ready:
                ahead = _ahead(find(kind))
                ready[kind] = None if ahead is None else _CompiledSteps(ahead, chunk.numbers)
            return ready[kind]

        @cache
        def bar_filter() -> BarFilter | None:
            is_usable = is_exact() and usable(closes.min()) and usable(closes.max())
            return partial(run, closes) if is_usable else None

        def block(lane: int, one: Source) -> BarBlock:
            return BarBlock(
                instrument=one.instrument,
                timeframe=one.file.facts.timeframe,
                open_ns=open_ns,
                close_ns=close_ns,
                closes=closes,
                bar=lambda row: chunk.bar(lane, row),
                close_text=lambda row: chunk.text(CLOSE, row),
                steps=steps,
                bar_filter=bar_filter,
            )

        return [block(lane, one) for lane, one in enumerate(self._sources)]


def _places(chunk: Chunk, k: int, stop: int, is_echoed: list[bool]) -> Callable[[int], int]:
    """How many facts lie between bar ``k`` and a later one, up to ``stop``: bars, and echoes of some lanes' bars."""
    if not any(is_echoed):
        return lambda bar: bar - k
    if all(is_echoed):
        return lambda bar: 2 * (bar - k)
    before = np.concatenate([[0], np.cumsum(1 + np.array(is_echoed)[chunk.lanes[k:stop]])]).tolist()
    return lambda bar: before[bar - k]


def _one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each made in another thread while the one before it is in use."""
    with ThreadPoolExecutor(1, "columns") as thread:
        source = iter(items)
        end = object()
        waiting: Future[Any] = thread.submit(next, source, end)
        while (item := waiting.result()) is not end:
            waiting = thread.submit(next, source, end)
            yield item
