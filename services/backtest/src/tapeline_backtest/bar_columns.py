"""Bars of several files as columns, in the order in which a replay says them, a chunk at a time.

What a chunk holds is bounded, however long the files are. Nothing is decided or recorded here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.feed import Source
from tapeline_backtest.writing import PLAIN_LETTERS, compiled_floats
from tapeline_common.events import BarClosed
from tapeline_common.values import DecimalText
from tapeline_marketdata.files import NUMBER_COLUMNS, BarColumns

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

CHUNK_BARS = 8_192

SPARE_BYTES = 16

CLOSE = NUMBER_COLUMNS.index("close")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bars that follow each other on the tape.

    Each source is a lane, and its bars lie behind each other in the rows; ``k`` counts bars in the order of the tape.

    Attributes:
        lanes, rows: shape (bars,), lane and row of bar k.
        order: shape (rows,), the k of each row.
        first_rows: first row of each lane, and behind them the number of rows.
        file_rows: row in its file of each lane's first bar.
        gaps: k of every bar that comes after missing ones, in order.
        open_ns, close_ns: shape (rows,), UTC ns.
        numbers: shape (5, rows): open, high, low, close, volume.
        texts, text_starts: the numbers as printed; number n of row r is ``text_starts[n, r]`` to ``[n, r + 1]``. Behind
            the last one there are ``SPARE_BYTES`` more, for those who copy in strides.
    """

    sources: Sequence[Source]
    lanes: Ints
    rows: Ints
    order: Ints
    first_rows: list[int]
    file_rows: list[int]
    gaps: list[int]
    open_ns: Ints
    close_ns: Ints
    numbers: Floats
    texts: Bytes
    text_starts: Ints
    _letters: bytes
    _starts: memoryview[int]

    def __len__(self) -> int:
        return len(self.rows)

    def bar(self, lane: int, row: int) -> BarClosed:
        """A bar as a fact."""
        one = self.sources[lane]
        numbers = [self.text(number, row) for number in range(len(NUMBER_COLUMNS))]
        return BarClosed(
            one.instrument, one.file.facts.timeframe, int(self.open_ns[row]), int(self.close_ns[row]), *numbers
        )

    def text(self, number: int, row: int) -> DecimalText:
        """One number as printed."""
        starts = self._starts
        return DecimalText(self._letters[starts[number, row] : starts[number, row + 1]].decode("ascii"))


def chunks(sources: Sequence[Source], size: int = CHUNK_BARS) -> Iterator[Chunk]:
    """All bars of the sources by closing time; bars that close together in the order of the sources."""
    begun = [0] * len(sources)
    for chosen in _lanes(sources, size):
        counts = np.bincount(chosen, minlength=len(sources)).tolist()
        yield _chunk(sources, chosen, begun, counts)
        for one in sources:
            one.file.columns.shelf.give_back()
        begun = [start + count for start, count in zip(begun, counts, strict=True)]


def _lanes(sources: Sequence[Source], size: int) -> Iterator[Ints]:
    """The lane of each bar in the order of the tape, ``size`` bars at a time."""
    if len(sources) == 1:
        bars = len(sources[0].file)
        for first in range(0, bars, size):
            yield np.zeros(min(size, bars - first), dtype=np.int64)
        return
    begun = np.zeros(len(sources), dtype=np.int64)
    while True:
        ahead = [one.file.closes_ns(start, start + size) for one, start in zip(sources, begun.tolist(), strict=True)]
        lanes = np.repeat(np.arange(len(sources)), [len(close_ns) for close_ns in ahead])
        if not len(lanes):
            return
        # Stable, so that bars of the same time keep the order of their lanes.
        chosen = lanes[np.argsort(np.concatenate(ahead), kind="stable")[:size]]
        begun += np.bincount(chosen, minlength=len(sources))
        yield chosen


def _chunk(sources: Sequence[Source], lanes: Ints, begun: list[int], counts: list[int]) -> Chunk:
    first_rows = [0, *np.cumsum(counts).tolist()]
    order = np.argsort(lanes, kind="stable") if len(sources) > 1 else np.arange(len(lanes))
    rows = np.empty(len(lanes), dtype=np.int64)
    rows[order] = np.arange(len(lanes))
    spans = [(one, start, start + count) for one, start, count in zip(sources, begun, counts, strict=True)]
    open_ns = np.concatenate([one.file.columns.open_ns[start:stop] for one, start, stop in spans])
    after_gap = np.concatenate([_after_gap(one, start, stop) for one, start, stop in spans])
    numbers = np.empty((len(NUMBER_COLUMNS), len(lanes)))
    text_starts = np.empty((len(NUMBER_COLUMNS), len(lanes) + 1), dtype=np.int64)
    texts: list[Bytes] = []
    written = 0
    for index, name in enumerate(NUMBER_COLUMNS):
        for lane, (one, start, stop) in enumerate(spans):
            row, after = first_rows[lane], first_rows[lane + 1]
            numbers[index, row:after] = getattr(one.file.columns, name)[start:stop]
            joined, starts = _texts(one.file.columns, name, start, stop)
            text_starts[index, row : after + 1] = starts + written
            texts.append(joined)
            written += len(joined)
    joined_texts = np.concatenate([*texts, np.zeros(SPARE_BYTES, dtype=np.uint8)])
    return Chunk(
        sources=sources,
        lanes=lanes,
        rows=rows,
        order=order,
        first_rows=first_rows,
        file_rows=begun,
        gaps=np.sort(order[after_gap]).tolist(),
        open_ns=open_ns,
        close_ns=np.concatenate([one.file.closes_ns(start, stop) for one, start, stop in spans]),
        numbers=numbers,
        texts=joined_texts,
        text_starts=text_starts,
        _letters=joined_texts.tobytes(),
        _starts=text_starts.data,
    )


def _texts(columns: BarColumns, name: str, start: int, stop: int) -> tuple[Bytes, Ints]:
    """``BarColumns.text_bytes``, by compiled code where it can."""
    if columns.is_binary(name):
        floats: Floats = getattr(columns, name)[start:stop]
        out = np.empty(len(floats) * PLAIN_LETTERS, dtype=np.uint8)
        starts = np.empty(len(floats) + 1, dtype=np.int64)
        size = compiled_floats()(floats, out, starts)
        if size >= 0:
            return out[:size], starts
    return columns.text_bytes(name, start, stop)


def _after_gap(one: Source, start: int, stop: int) -> NDArray[np.bool_]:
    """Which of the bars from ``start`` to ``stop`` do not open when the one before closed, if bars have a length."""
    opens, length_ns = one.file.columns.open_ns, one.file.facts.timeframe_ns
    if not length_ns:
        return np.zeros(stop - start, dtype=np.bool_)
    steps = np.diff(opens[start - 1 : stop]) if start else np.diff(opens[:stop], prepend=opens[:1] - length_ns)
    flags: NDArray[np.bool_] = steps != length_ns
    return flags
