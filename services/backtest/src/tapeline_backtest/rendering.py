"""The bytes of many bars' facts at once, compiled: what ``wire.encode`` would write for each of them.

A bar's fact is the same text but for nine numbers and five printed prices. The text between them is taken from the
encoder itself (``Layout``), so that nothing here knows the names or the order of fields. It renders bars only; facts
that came one by one are copied between them as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tapeline_common.events import BarClosed, stream_of
from tapeline_common.values import DecimalText, InstrumentId
from tapeline_common.wire import Fact, encode

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

DIGITS: Final = 20
"""Most characters of a 64-bit integer."""

AUTHOR: Final = "marketdata"

_POS, _OPEN_NS, _CLOSE_NS, _VERSION, _TEXT = range(5)


def bar_id(instrument: InstrumentId, timeframe: str, open_ns: int) -> str:
    """The natural key of a bar."""
    return f"bar:{instrument}:{timeframe}:{open_ns}"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a bar of one instrument is written: constant pieces, and what stands between them.

    Attributes:
        pieces, ends: the constant texts behind each other, and where each ends; one more than there are ``fields``.
        fields: what follows each piece, in order.
        size: bytes of a fact without its printed numbers, at most.
    """

    pieces: Bytes
    ends: Ints
    fields: Ints
    size: int


def layout(instrument: InstrumentId, timeframe: str) -> Layout:
    """Found by encoding a bar of marks that appear nowhere else."""
    marks = {field: int(str(field + 1) * 16) for field in (_POS, _OPEN_NS, _CLOSE_NS, _VERSION)}
    text = "<text>"
    open_ns, close_ns, pos = marks[_OPEN_NS], marks[_CLOSE_NS], marks[_POS]
    bar = BarClosed(instrument, timeframe, open_ns, close_ns, *[DecimalText(text)] * 5)
    identity = bar_id(instrument, timeframe, open_ns)
    fact = Fact(pos, close_ns, identity, AUTHOR, stream_of(bar), marks[_VERSION], 0, pos, BarClosed.schema, bar)
    rest = encode(fact).decode()
    found = {str(mark): field for field, mark in marks.items()} | {text: _TEXT}
    pieces: list[bytes] = []
    fields: list[int] = []
    while True:
        places = [(rest.find(mark), mark) for mark in found if mark in rest]
        if not places:
            break
        place, mark = min(places)
        pieces.append(rest[:place].encode())
        fields.append(found[mark])
        rest = rest[place + len(mark) :]
    pieces.append(rest.encode())
    joined = b"".join(pieces)
    size = len(joined) + DIGITS * len(fields)
    return Layout(
        np.frombuffer(joined, dtype=np.uint8),
        np.cumsum([len(piece) for piece in pieces]),
        np.array(fields, dtype=np.int64),
        size,
    )


@njit(cache=True, nogil=True)
def _write_int(out: Bytes, at: int, number: int) -> int:
    size = 1
    power = 10
    while size < 19 and number >= power:
        size += 1
        power *= 10
    place = at + size
    while place > at:
        place -= 1
        out[place] = 48 + number % 10
        number //= 10
    return at + size


@njit(cache=True, nogil=True)
def render(
    out: Bytes,
    ends: Ints,
    segments: Ints,
    versions: Ints,
    whole: Bytes,
    whole_ends: Ints,
    lanes: Ints,
    rows: Ints,
    open_ns: Ints,
    close_ns: Ints,
    texts: Bytes,
    text_starts: Ints,
    pieces: Bytes,
    piece_ends: Ints,
    piece_first: Ints,
    fields: Ints,
    field_count: int,
) -> int:
    """Write facts in the order of the tape.

    Args:
        out: large enough for all.
        ends: shape (facts,), set to where each fact ends in ``out``.
        segments: shape (segments, 4): how many whole facts are copied before this run of bars (counted from the first
            one), first bar, number of bars, position of the first bar.
        versions: shape (segments, lanes), the stream's version before the run; counted up here.
        whole, whole_ends: facts that are there already, and where each ends.
        lanes, rows: which lane (instrument) and which row each bar is, in the order of the tape.
        open_ns, close_ns: by row.
        texts, text_starts: printed numbers; number k of row r is ``text_starts[k, r]`` to ``text_starts[k, r + 1]``.
        pieces, piece_ends, piece_first: all layouts' pieces, and the first one of each lane; ``fields`` in the same
            order with ``field_count`` fields a lane.

    Returns:
        Bytes written.
    """
    at = 0
    fact = 0
    copied = 0
    copied_bytes = 0
    for segment in range(len(segments)):
        upto = segments[segment, 0]
        while copied < upto:
            stop = whole_ends[copied]
            for index in range(copied_bytes, stop):
                out[at] = whole[index]
                at += 1
            copied_bytes = stop
            copied += 1
            ends[fact] = at
            fact += 1
        first = segments[segment, 1]
        pos = segments[segment, 3]
        for bar in range(first, first + segments[segment, 2]):
            lane = lanes[bar]
            row = rows[bar]
            versions[segment, lane] += 1
            column = 0
            piece = piece_first[lane]
            begin = piece_ends[piece - 1] if piece > 0 else 0
            for field in range(field_count):
                end = piece_ends[piece]
                for index in range(begin, end):
                    out[at] = pieces[index]
                    at += 1
                begin = end
                piece += 1
                kind = fields[lane * field_count + field]
                if kind == _TEXT:
                    for index in range(text_starts[column, row], text_starts[column, row + 1]):
                        out[at] = texts[index]
                        at += 1
                    column += 1
                elif kind == _OPEN_NS:
                    at = _write_int(out, at, open_ns[row])
                elif kind == _CLOSE_NS:
                    at = _write_int(out, at, close_ns[row])
                elif kind == _VERSION:
                    at = _write_int(out, at, versions[segment, lane])
                else:
                    at = _write_int(out, at, pos)
            for index in range(begin, piece_ends[piece]):
                out[at] = pieces[index]
                at += 1
            ends[fact] = at
            fact += 1
            pos += 1
    return at


def joined(layouts: list[Layout]) -> tuple[Any, ...]:
    """All lanes' layouts as ``render`` takes them: pieces, ends, first piece of each lane, fields, fields a lane."""
    counts = [len(one.ends) for one in layouts]
    sizes = np.cumsum([0, *(len(one.pieces) for one in layouts)])
    ends = np.concatenate([one.ends + size for one, size in zip(layouts, sizes[:-1], strict=True)])
    return (
        np.concatenate([one.pieces for one in layouts]),
        ends.astype(np.int64),
        np.cumsum([0, *counts[:-1]]).astype(np.int64),
        np.concatenate([one.fields for one in layouts]),
        len(layouts[0].fields),
    )
