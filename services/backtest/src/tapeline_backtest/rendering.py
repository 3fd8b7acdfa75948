"""The bytes of many bars' facts at once, compiled: what ``wire.encode`` would write for each of them.

A bar's fact is the same text but for some numbers, and so is the regime's echo of it. The text between them is taken
from the encoder itself (``Layout``), so that nothing here knows the names or the order of fields. Facts that came one
by one are copied between them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.machine_code import BYTES, INT_TABLE, INTS, Routine, routine
from tapeline_common.events import BarClosed, RegimeUpdated, stream_of
from tapeline_common.values import DecimalText, InstrumentId, Regime
from tapeline_common.wire import Fact, encode
from tapeline_regime.core import REGIMES

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

DIGITS: Final = 20
"""Most characters of a 64-bit integer."""

FLOAT_LETTERS: Final = 26
"""Most characters of a float64 as JSON."""

AUTHOR: Final = "marketdata"
ECHO_NUMBERS: Final = len(REGIMES) + 1

_POS, _BAR_POS, _OPEN_NS, _CLOSE_NS, _VERSION, _PRINTED, _NUMBER, _CHOSEN = range(8)


def bar_id(instrument: InstrumentId, timeframe: str, open_ns: int) -> str:
    """The natural key of a bar."""
    return f"bar:{instrument}:{timeframe}:{open_ns}"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a fact is written: constant pieces, and what stands between them (one less than there are pieces)."""

    pieces: tuple[bytes, ...]
    fields: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes at most, without a bar's printed numbers."""
        return sum(map(len, self.pieces)) + FLOAT_LETTERS * len(self.fields)


def _mark(field: int) -> int:
    return int(str(field + 1) * 16)


def bar_layout(instrument: InstrumentId, timeframe: str) -> Layout:
    """Found by encoding a bar of marks that appear nowhere else."""
    printed = "<printed>"
    pos, open_ns, close_ns = _mark(_BAR_POS), _mark(_OPEN_NS), _mark(_CLOSE_NS)
    bar = BarClosed(instrument, timeframe, open_ns, close_ns, *[DecimalText(printed)] * 5)
    identity = bar_id(instrument, timeframe, open_ns)
    fact = Fact(pos, close_ns, identity, AUTHOR, stream_of(bar), _mark(_VERSION), 0, pos, BarClosed.schema, bar)
    marks = {str(_mark(field)): field for field in (_BAR_POS, _OPEN_NS, _CLOSE_NS, _VERSION)}
    return _split(encode(fact).decode(), marks | {printed: _PRINTED})


def echo_layout(last: RegimeUpdated) -> Layout:
    """The same for the regime's answers to bars of one instrument under one model."""
    numbers = [0.1234567890123 + index for index in range(ECHO_NUMBERS)]
    cause, close_ns = _mark(_BAR_POS), _mark(_CLOSE_NS)
    said = RegimeUpdated(last.instrument, _mark(_OPEN_NS), Regime.UNKNOWN, tuple(numbers[:-1]), last.model, numbers[-1])
    fact = Fact(
        _mark(_POS),
        close_ns,
        f"regime:{cause}:0",
        "regime",
        stream_of(said),
        _mark(_VERSION),
        cause,
        cause,
        RegimeUpdated.schema,
        said,
    )
    marks = {str(_mark(field)): field for field in (_POS, _BAR_POS, _OPEN_NS, _CLOSE_NS, _VERSION)}
    marks |= {str(number): _NUMBER for number in numbers} | {Regime.UNKNOWN.value: _CHOSEN}
    return _split(encode(fact).decode(), marks)


def _split(text: str, marks: dict[str, int]) -> Layout:
    pieces: list[bytes] = []
    fields: list[int] = []
    while True:
        places = [(text.find(mark), mark) for mark in marks if mark in text]
        if not places:
            break
        place, mark = min(places)
        pieces.append(text[:place].encode())
        fields.append(marks[mark])
        text = text[place + len(mark) :]
    return Layout((*pieces, text.encode()), tuple(fields))


@dataclass(frozen=True, slots=True)
class Table:
    """Several layouts as compiled code takes them.

    Attributes:
        text, ends: all pieces behind each other, and where each ends.
        first_piece, first_field: of each layout, and behind them how many there are.
    """

    text: Bytes
    ends: Ints
    first_piece: Ints
    fields: Ints
    first_field: Ints


def table(layouts: Sequence[Layout]) -> Table:
    pieces = [piece for one in layouts for piece in one.pieces]
    return Table(
        np.frombuffer(bytearray().join(pieces), dtype=np.uint8),
        np.cumsum([len(piece) for piece in pieces], dtype=np.int64),
        np.cumsum([0, *(len(one.pieces) for one in layouts)], dtype=np.int64),
        np.array([field for one in layouts for field in one.fields], dtype=np.int64),
        np.cumsum([0, *(len(one.fields) for one in layouts)], dtype=np.int64),
    )


def printed_numbers(numbers: Floats) -> tuple[Bytes, Ints]:
    """Floats as the encoder writes them, separated by one letter, and where each begins (one more than there are)."""
    text = np.frombuffer(bytearray(msgspec.json.encode(numbers.ravel().tolist())), dtype=np.uint8)
    return text, np.concatenate([[1], np.flatnonzero(text == ord(",")) + 1, [len(text)]]).astype(np.int64)


_NAMES = np.frombuffer(bytearray().join(regime.value.encode() for regime in REGIMES), dtype=np.uint8)
_NAME_STARTS = np.cumsum([0, *(len(regime.value) for regime in REGIMES)], dtype=np.int64)


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


def _copy(out: Bytes, at: int, text: Bytes, start: int, stop: int) -> int:
    for index in range(start, stop):
        out[at] = text[index]
        at += 1
    return at


def render(
    out: Bytes,
    ends: Ints,
    runs: Ints,
    versions: Ints,
    echo_layouts: Ints,
    echo_rows: Ints,
    whole: Bytes,
    whole_ends: Ints,
    lanes: Ints,
    rows: Ints,
    open_ns: Ints,
    close_ns: Ints,
    printed: Bytes,
    printed_starts: Ints,
    echo_text: Bytes,
    echo_starts: Ints,
    chosen: Ints,
    text: Bytes,
    piece_ends: Ints,
    first_piece: Ints,
    fields: Ints,
    first_field: Ints,
    names: Bytes,
    name_starts: Ints,
) -> int:
    """Write facts in the order of the tape.

    Args:
        out: large enough for all.
        ends: shape (facts,), set to where each fact ends in ``out``.
        runs: shape (runs, 4): how many whole facts are copied before this run of bars (counted from the first one),
            first bar, number of bars, position of the first bar.
        versions: shape (runs, lanes), each lane's stream version before the run; counted up here.
        echo_layouts: shape (runs, lanes), the layout of the facts that answer each bar; -1 where none does.
        echo_rows: shape (runs, lanes), what to add to a row to find its echo among all echoes.
        whole, whole_ends: facts that are there already, and where each ends.
        lanes, rows: lane and row of each bar in the order of the tape; a lane's number is that of its bars' layout.
        open_ns, close_ns: by row.
        printed, printed_starts: printed number n of row r is ``printed_starts[n, r]`` to ``printed_starts[n, r + 1]``.
        echo_text, echo_starts: from ``printed_numbers``, and ``chosen`` of each echo.
        text, piece_ends, first_piece, fields, first_field: a ``Table``.
        names, name_starts: what ``chosen`` chooses from.

    Returns:
        Bytes written.
    """
    at = 0
    fact = 0
    copied = 0
    begin = 0
    for run in range(len(runs)):
        while copied < runs[run, 0]:
            at = _copy(out, at, whole, begin, whole_ends[copied])
            begin = whole_ends[copied]
            copied += 1
            ends[fact] = at
            fact += 1
        pos = runs[run, 3]
        for bar in range(runs[run, 1], runs[run, 1] + runs[run, 2]):
            lane = lanes[bar]
            row = rows[bar]
            bar_pos = pos
            layout = lane
            while layout >= 0:
                versions[run, lane] += 1
                piece = first_piece[layout]
                start = piece_ends[piece - 1] if piece > 0 else 0
                column = 0
                echo = row + echo_rows[run, lane]
                for index in range(first_field[layout], first_field[layout + 1]):
                    at = _copy(out, at, text, start, piece_ends[piece])
                    start = piece_ends[piece]
                    piece += 1
                    field = fields[index]
                    if field == _POS:
                        at = _write_int(out, at, pos)
                    elif field == _BAR_POS:
                        at = _write_int(out, at, bar_pos)
                    elif field == _OPEN_NS:
                        at = _write_int(out, at, open_ns[row])
                    elif field == _CLOSE_NS:
                        at = _write_int(out, at, close_ns[row])
                    elif field == _VERSION:
                        at = _write_int(out, at, versions[run, lane])
                    elif field == _PRINTED:
                        at = _copy(out, at, printed, printed_starts[column, row], printed_starts[column, row + 1])
                        column += 1
                    elif field == _NUMBER:
                        number = echo * ECHO_NUMBERS + column
                        at = _copy(out, at, echo_text, echo_starts[number], echo_starts[number + 1] - 1)
                        column += 1
                    else:
                        name = chosen[echo]
                        at = _copy(out, at, names, name_starts[name], name_starts[name + 1])
                at = _copy(out, at, text, start, piece_ends[piece])
                ends[fact] = at
                fact += 1
                pos += 1
                layout = echo_layouts[run, lane] if layout == lane else -1
    return at


def names() -> tuple[Bytes, Ints]:
    """The regimes by number."""
    return _NAMES, _NAME_STARTS


@cache
def compiled_render() -> Routine:
    """``render`` as machine code."""
    return routine(
        render,
        "int64",
        *(BYTES, INTS, INT_TABLE, INT_TABLE, INT_TABLE, INT_TABLE, BYTES, INTS, INTS, INTS, INTS, INTS),
        *(BYTES, INT_TABLE, BYTES, INTS, INTS, BYTES, INTS, INTS, INTS, INTS, BYTES, INTS),
    )
