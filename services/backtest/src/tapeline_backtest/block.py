"""Block mode of the loop gear: bars to which no core would say anything are passed over together.

A strategy's compiled ``step`` runs ahead to the next bar where something can happen; there the exact path takes over.
The cores learn the silent bars at once (``Core.passing``), and the facts of those bars are rendered and chained by
compiled code in another thread while the cores go on. The tape is the same to the last byte, whatever was passed over.

It decides nothing: where silence ends is said by the cores.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.bar_columns import CHUNK_BARS, CLOSE, Chunk, chunks
from tapeline_backtest.chain_block import HASH_BYTES, link_chain
from tapeline_backtest.compiled import CompilationRefused, parameter_types, specialised
from tapeline_backtest.feed import Source, gap_before
from tapeline_backtest.rendering import AUTHOR, DIGITS, bar_id, joined, layout, render
from tapeline_common.bar_block import BarBlock, Steps
from tapeline_common.core import Stamp
from tapeline_common.events import ParameterValue
from tapeline_common.loop import Loop
from tapeline_strategy.catalogue import find
from tapeline_strategy.sdk import Strategy

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
T = TypeVar("T")

Sink = Callable[[Bytes, Ints], None]
"""Takes facts in bulk: their bytes behind each other, and where each ends. Called in order, from one other thread."""

WAITING_JOBS = 3
"""Chunks that may wait to be rendered; more would only fill memory."""


class BulkTape:
    """Renders and chains the facts of a tape in bulk, one chunk after the other, in a thread of its own.

    Facts that the cores said come in by ``take``, runs of bars by ``pass_over``; ``flush`` hands a chunk over.
    """

    def __init__(self, sources: Sequence[Source], sink: Sink | None) -> None:
        layouts = [layout(one.instrument, one.file.facts.timeframe) for one in sources]
        self._bar_bytes = np.array([one.size for one in layouts])
        self._layouts = joined(layouts)
        self._lanes = len(sources)
        self._sink = sink
        self._head = np.zeros(HASH_BYTES, dtype=np.uint8)
        self._chain = link_chain()
        self._thread = ThreadPoolExecutor(1, "tape")
        self._jobs: list[Future[None]] = []
        self._whole: list[bytes] = []
        self._segments: list[tuple[int, int, int, int]] = []
        self._versions: list[list[int]] = []

    def take(self, head: bytes, payload: bytes) -> bytes:
        """One fact that is encoded already. Stands in for ``wire.chain``: the hash it returns means nothing."""
        self._whole.append(payload)
        return head

    def pass_over(self, first: int, count: int, pos: int, versions: list[int]) -> None:
        """Bars of the current chunk. ``versions``: of each lane's stream before them."""
        self._segments.append((len(self._whole), first, count, pos))
        self._versions.append(versions)

    def flush(self, chunk: Chunk | None) -> None:
        """Everything since the last flush, with the chunk its bars are of (``None``: there were none)."""
        while len(self._jobs) >= WAITING_JOBS:
            self._jobs.pop(0).result()
        whole, segments, versions = self._whole, self._segments, self._versions
        self._whole, self._segments, self._versions = [], [], []
        self._jobs.append(self._thread.submit(self._write, chunk, whole, segments, versions))

    def head(self) -> bytes:
        """The hash after everything flushed so far."""
        while self._jobs:
            self._jobs.pop(0).result()
        return self._head.tobytes()

    def close(self) -> None:
        self._thread.shutdown()

    def _write(
        self,
        chunk: Chunk | None,
        whole: list[bytes],
        segments: list[tuple[int, int, int, int]],
        versions: list[list[int]],
    ) -> None:
        # A writable array, as the rendered ones are: compiled code is specific to that.
        copied = np.frombuffer(bytearray().join(whole), dtype=np.uint8)
        copied_ends = np.cumsum([len(payload) for payload in whole], dtype=np.int64)
        if chunk is None:
            payloads, ends = copied, copied_ends
        else:
            payloads, ends = self._render(chunk, copied, copied_ends, segments, versions)
        if len(ends):
            self._chain(self._head, payloads, ends)
            if self._sink is not None:
                self._sink(payloads, ends)

    def _render(
        self,
        chunk: Chunk,
        copied: Bytes,
        copied_ends: Ints,
        segments: list[tuple[int, int, int, int]],
        versions: list[list[int]],
    ) -> tuple[Bytes, Ints]:
        table = np.array([*segments, (len(copied_ends), 0, 0, 0)], dtype=np.int64)
        bars = int(table[:, 2].sum())
        room = len(copied) + bars * int(self._bar_bytes.max() + DIGITS) + len(chunk.texts)
        out = np.empty(room, dtype=np.uint8)
        ends = np.empty(len(copied_ends) + bars, dtype=np.int64)
        size = render(
            out,
            ends,
            table,
            np.array([*versions, [0] * self._lanes], dtype=np.int64),
            copied,
            copied_ends,
            chunk.lanes,
            chunk.rows,
            chunk.open_ns,
            chunk.close_ns,
            chunk.texts,
            chunk.text_starts,
            *self._layouts,
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


def _ahead(strategy: Strategy) -> Any:
    """The compiled loop of a strategy, or ``None`` where its ``step`` cannot be compiled."""
    from numba import types

    numbers = types.Array(types.float64, 2, "C")
    signature = (
        types.float64[::1],
        parameter_types(strategy),
        numbers,
        types.int64,
        types.int64,
        types.float64,
        types.boolean,
    )
    try:
        return specialised(strategy, "tapeline_backtest.ahead_loop", "ahead", signature)
    except CompilationRefused:
        return None


class BlockRun:
    """Feeds the bars of files to a loop, passing over what is silent.

    Args:
        loop: has heard the opening facts; its sequencer chains through ``tape``.
        progress: called after each chunk with the number of bars so far.

    Attributes:
        passed: bars that were passed over.
    """

    def __init__(
        self,
        loop: Loop,
        sources: Sequence[Source],
        tape: BulkTape,
        progress: Callable[[int], None] | None = None,
        chunk_bars: int = CHUNK_BARS,
    ) -> None:
        self.passed = 0
        self._loop = loop
        self._sources = sources
        self._tape = tape
        self._progress = progress
        self._chunk_bars = chunk_bars
        self._compiled: dict[str, Any] = {}
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
        self._tape.pass_over(k, stop - k, first_pos, [sequencer.versions.get(stream, 0) for stream in self._streams])
        counts: dict[str, int] = {}
        for lane, block in enumerate(blocks):
            row = next_rows[lane]
            after = bisect_left(order, stop, row, chunk.first_rows[lane + 1])
            if row == after:
                continue
            last = Stamp(first_pos + order[after - 1] - k, block.close_ns[after - 1])
            self._loop.take(block, row, after, last)
            counts[self._streams[lane]] = after - row
            next_rows[lane] = after
        last_lane, last_row = chunk.lanes[stop - 1], chunk.rows[stop - 1]
        sequencer.pass_over(counts, blocks[last_lane].close_ns[last_row])
        self.passed += stop - k

    def _say(self, chunk: Chunk, k: int, *, has_gap: bool) -> None:
        """One bar by the exact path."""
        lane, row = int(chunk.lanes[k]), int(chunk.rows[k])
        bar = chunk.bar(lane, row)
        if has_gap:
            gap = gap_before(self._sources[lane], chunk.file_rows[lane] + row - chunk.first_rows[lane])
            self._loop.say(gap.author, gap.event, gap.id, gap.time_ns)
        self._loop.say(AUTHOR, bar, bar_id(bar.instrument, bar.timeframe, bar.open_ns), bar.close_ns)

    def _blocks(self, chunk: Chunk) -> list[BarBlock]:
        """Each lane of a chunk as the cores see it."""
        open_ns, close_ns = chunk.open_ns.data, chunk.close_ns.data
        ready: dict[str, Steps | None] = {}

        def steps(kind: str) -> Steps | None:
            if kind not in ready:
                if kind not in self._compiled:
                    self._compiled[kind] = _ahead(find(kind))
                ahead = self._compiled[kind]
                ready[kind] = None if ahead is None else _CompiledSteps(ahead, chunk.numbers)
            return ready[kind]

        def block(lane: int, one: Source) -> BarBlock:
            return BarBlock(
                instrument=one.instrument,
                timeframe=one.file.facts.timeframe,
                open_ns=open_ns,
                close_ns=close_ns,
                closes=chunk.numbers[CLOSE],
                bar=lambda row: chunk.bar(lane, row),
                close_text=lambda row: chunk.text(CLOSE, row),
                steps=steps,
            )

        return [block(lane, one) for lane, one in enumerate(self._sources)]


def _one_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each made in another thread while the one before it is in use."""
    with ThreadPoolExecutor(1, "columns") as thread:
        source = iter(items)
        end = object()
        waiting: Future[Any] = thread.submit(next, source, end)
        while (item := waiting.result()) is not end:
            waiting = thread.submit(next, source, end)
            yield item
