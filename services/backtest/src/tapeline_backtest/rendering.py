"""The bytes of many bars' facts at once, compiled: what ``wire.encode`` would write for each of them.

A bar's fact is the same text but for some numbers, and so is the regime's echo of it. The text between them is taken
from the encoder itself (``Layout``), so that nothing here knows the names or the order of fields. Facts that came one
by one are copied between them as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.chain_block import HASH_BYTES, sha256
from tapeline_backtest.machine_code import BYTES, INT_TABLE, INTS, Routine, inlined, routine
from tapeline_backtest.order_loop import (
    APPROVAL_POS,
    BAR,
    CAUSE,
    ECHO,
    GAP,
    LAYOUT,
    OPEN_NS,
    ORDER_POS,
    POS,
    REGIME,
    ROW,
    TIME_NS,
    VERSION,
)
from tapeline_backtest.writing import LETTERS, STRIDE, copy, copy_short, write_amount, write_int
from tapeline_common.events import BarClosed, RegimeUpdated, stream_of
from tapeline_common.values import DecimalText, InstrumentId, Regime
from tapeline_common.wire import Fact, encode
from tapeline_marketdata.files import NUMBER_COLUMNS
from tapeline_regime.core import REGIMES

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

AUTHOR: Final = "marketdata"
ECHO_NUMBERS: Final = len(REGIMES) + 1
CLIENT_LETTERS: Final = 32

RUN_COLUMNS: Final = 5
LANE_COLUMNS: Final = 3
"""Of ``render``'s table of runs: columns of each run, and behind them columns of each of its lanes."""

INTEGER, PRINTED, ECHOED, CHOSEN, AMOUNT, CLIENT = range(6)
"""What may stand between the pieces of a layout: a whole number of the row, the next printed number of its bar, the
next float of its echo, a name, an exact amount, a client order id."""


class Field(NamedTuple):
    """One thing that differs between facts of a layout.

    Attributes:
        place: where the row has it; of an echo's float or name, -1.
        number: of an amount, the decimals of its unit; of a printed number or an echo's float, which one.
    """

    kind: int
    place: int = -1
    number: int = 0


def bar_id(instrument: InstrumentId, timeframe: str, open_ns: int) -> str:
    """The natural key of a bar."""
    return f"bar:{instrument}:{timeframe}:{open_ns}"


@dataclass(frozen=True, slots=True)
class Layout:
    """How a fact is written: constant pieces, and what stands between them (one less than there are pieces)."""

    pieces: tuple[bytes, ...]
    fields: tuple[Field, ...]

    @property
    def size(self) -> int:
        """Bytes at most, without a bar's printed numbers."""
        return sum(map(len, self.pieces)) + LETTERS * len(self.fields)


def mark(place: int) -> int:
    """A number that stands for a place of the row while a layout is found."""
    return int(str(place + 10) * 8)


def bar_layout(instrument: InstrumentId, timeframe: str) -> Layout:
    """Found by encoding a bar of marks that appear nowhere else."""
    printed = [DecimalText(f"<printed {number}>") for number in range(len(NUMBER_COLUMNS))]
    pos, open_ns, close_ns = mark(POS), mark(OPEN_NS), mark(TIME_NS)
    bar = BarClosed(instrument, timeframe, open_ns, close_ns, *printed)
    identity = bar_id(instrument, timeframe, open_ns)
    fact = Fact(pos, close_ns, identity, AUTHOR, stream_of(bar), mark(VERSION), 0, pos, BarClosed.schema, bar)
    marks = whole_numbers(POS, OPEN_NS, TIME_NS, VERSION)
    marks |= {text: Field(PRINTED, number=number) for number, text in enumerate(printed)}
    return split(encode(fact).decode(), marks)


def echo_layout(last: RegimeUpdated) -> Layout:
    """The same for the regime's answers to bars of one instrument under one model."""
    numbers = [0.1234567890123 + index for index in range(ECHO_NUMBERS)]
    cause, close_ns = mark(CAUSE), mark(TIME_NS)
    said = RegimeUpdated(last.instrument, mark(OPEN_NS), Regime.UNKNOWN, tuple(numbers[:-1]), last.model, numbers[-1])
    fact = Fact(
        mark(POS),
        close_ns,
        f"regime:{cause}:0",
        "regime",
        stream_of(said),
        mark(VERSION),
        cause,
        cause,
        RegimeUpdated.schema,
        said,
    )
    marks = whole_numbers(POS, CAUSE, OPEN_NS, TIME_NS, VERSION)
    marks |= {str(number): Field(ECHOED, number=index) for index, number in enumerate(numbers)}
    return split(encode(fact).decode().replace(UNKNOWN_REGIME, MARKED_REGIME), marks | {REGIME_MARK: Field(CHOSEN)})


REGIME_MARK: Final = "<regime>"
UNKNOWN_REGIME: Final = f'"regime":"{Regime.UNKNOWN.value}"'
MARKED_REGIME: Final = f'"regime":"{REGIME_MARK}"'
"""A name has no quotes in it, so nothing else in a fact looks like this."""


def whole_numbers(*places: int) -> dict[str, Field]:
    """Marks of places that are written as they are."""
    return {str(mark(place)): Field(INTEGER, place) for place in places}


def split(text: str, marks: dict[str, Field]) -> Layout:
    """Cut an encoded fact at its marks."""
    pieces: list[bytes] = []
    fields: list[Field] = []
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
        text, ends: all pieces behind each other (and room for ``copy_short``), and where each ends.
        first_piece, first_field: of each layout, and behind them how many there are.
        fields: shape (fields, 3), as in ``Field``.
    """

    text: Bytes
    ends: Ints
    first_piece: Ints
    fields: Ints
    first_field: Ints


def table(layouts: Sequence[Layout]) -> Table:
    pieces = [piece for one in layouts for piece in one.pieces]
    return Table(
        np.frombuffer(bytearray().join([*pieces, bytes(STRIDE)]), dtype=np.uint8),
        np.cumsum([len(piece) for piece in pieces], dtype=np.int64),
        np.cumsum([0, *(len(one.pieces) for one in layouts)], dtype=np.int64),
        np.array([field for one in layouts for field in one.fields], dtype=np.int64),
        np.cumsum([0, *(len(one.fields) for one in layouts)], dtype=np.int64),
    )


_CHOICES: Final = (*REGIMES, Regime.UNKNOWN)
_NAMES = np.frombuffer(bytearray().join(regime.value.encode() for regime in _CHOICES), dtype=np.uint8)
_NAME_STARTS = np.cumsum([0, *(len(regime.value) for regime in _CHOICES)], dtype=np.int64)


def name_of(regime: Regime) -> int:
    """Its number among the names that compiled code writes."""
    return _CHOICES.index(regime)


def names() -> tuple[Bytes, Ints]:
    """The regimes by number."""
    return _NAMES, _NAME_STARTS


def _write_client(out: Bytes, at: int, prefix: Bytes, order_pos: int, approval_pos: int) -> int:
    """``tapeline_execution.core.client_order_id``: of the text in ``prefix``, the order's number, a bar, a number."""
    message = np.empty(len(prefix) + 2 * LETTERS, dtype=np.uint8)
    digest = np.empty(HASH_BYTES, dtype=np.uint8)
    size = copy(message, 0, prefix, 0, len(prefix))
    size = write_int(message, size, order_pos)
    message[size] = 124
    size = write_int(message, size + 1, approval_pos)
    sha256(message, size, digest)
    for index in range(CLIENT_LETTERS):
        half = (np.int64(digest[index // 2]) >> (4 * (1 - index % 2))) & 15
        out[at] = half + 48 if half < 10 else half + 87
        at += 1
    return at


@inlined
def _write_fact(
    out: Bytes,
    at: int,
    row: Ints,
    written: Ints,
    bar: int,
    echo: int,
    choice: int,
    prefix: Bytes,
    printed: Bytes,
    printed_starts: Ints,
    echo_text: Bytes,
    echo_starts: Ints,
    text: Bytes,
    piece_ends: Ints,
    first_piece: Ints,
    fields: Ints,
    first_field: Ints,
    names: Bytes,
    name_starts: Ints,
) -> int:
    """One fact: what its layout says of the places of ``row``.

    Args:
        written: of each place its latest number, and where that begins and ends in ``out``: most are written again.
    """
    layout = row[LAYOUT]
    piece = first_piece[layout]
    start = piece_ends[piece - 1] if piece > 0 else 0
    for index in range(first_field[layout], first_field[layout + 1]):
        at = copy_short(out, at, text, start, piece_ends[piece])
        start = piece_ends[piece]
        piece += 1
        kind, place, number = fields[index, 0], fields[index, 1], fields[index, 2]
        if kind == INTEGER:
            if written[place, 0] == row[place]:
                at = copy_short(out, at, out, written[place, 1], written[place, 2])
                continue
            written[place, 0], written[place, 1] = row[place], at
            at = write_int(out, at, row[place])
            written[place, 2] = at
        elif kind == PRINTED:
            at = copy_short(out, at, printed, printed_starts[number, bar], printed_starts[number, bar + 1])
        elif kind == ECHOED:
            number += echo * ECHO_NUMBERS
            at = copy(out, at, echo_text, echo_starts[number], echo_starts[number + 1] - 1)
        elif kind == CHOSEN:
            at = copy(out, at, names, name_starts[choice], name_starts[choice + 1])
        elif kind == AMOUNT:
            at = write_amount(out, at, row[place], row[place + 1], number)
        else:
            at = _write_client(out, at, prefix, row[ORDER_POS], row[APPROVAL_POS])
    return copy_short(out, at, text, start, piece_ends[piece])


def render(
    out: Bytes,
    ends: Ints,
    runs: Ints,
    lane_count: int,
    told: Ints,
    prefix: Bytes,
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
        runs: shape (runs, 5 + 3 lanes): how many told facts, then how many whole facts are written before this run of
            bars (both counted from the first one), first bar, number of bars, position of the first bar; of each lane
            its stream's version before the run (counted up here); of each lane the layout of the facts that answer its
            bars, -1 where none does; of each lane what to add to a row to find its echo among all echoes.
        told: rows as in ``order_loop``; ``prefix`` is what their client order ids begin with, see ``_write_client``.
        whole, whole_ends: facts that are there already, and where each ends; a told one that is a ``GAP`` is the
            next of them.
        lanes, rows: lane and row of each bar in the order of the tape; a lane's number is that of its bars' layout.
        open_ns, close_ns: by row.
        printed, printed_starts: printed number n of row r is ``printed_starts[n, r]`` to ``printed_starts[n, r + 1]``;
            behind the last one there is room for ``copy_short``.
        echo_text, echo_starts: from ``shortest.printed_numbers``, and ``chosen`` of each echo.
        text, piece_ends, first_piece, fields, first_field: a ``Table``.
        names, name_starts: what ``chosen`` chooses from.

    Returns:
        Bytes written.
    """
    at = 0
    fact = 0
    copied = 0
    begin = 0
    rendered = 0
    row = np.zeros(ROW, dtype=np.int64)
    written = np.full((ROW, 3), -1, dtype=np.int64)
    for run in range(len(runs)):
        while rendered < runs[run, 0]:
            one = told[rendered]
            rendered += 1
            if one[LAYOUT] == GAP:
                at = copy(out, at, whole, begin, whole_ends[copied])
                begin = whole_ends[copied]
                copied += 1
                ends[fact] = at
                fact += 1
                continue
            at = _write_fact(
                out,
                at,
                one,
                written,
                one[BAR],
                one[ECHO],
                one[REGIME],
                prefix,
                printed,
                printed_starts,
                echo_text,
                echo_starts,
                text,
                piece_ends,
                first_piece,
                fields,
                first_field,
                names,
                name_starts,
            )
            ends[fact] = at
            fact += 1
        while copied < runs[run, 1]:
            at = copy(out, at, whole, begin, whole_ends[copied])
            begin = whole_ends[copied]
            copied += 1
            ends[fact] = at
            fact += 1
        row[POS] = runs[run, 4]
        for bar in range(runs[run, 2], runs[run, 2] + runs[run, 3]):
            lane = lanes[bar]
            place = rows[bar]
            version = RUN_COLUMNS + lane
            echo_layout = runs[run, version + lane_count]
            echo = place + runs[run, version + 2 * lane_count]
            row[CAUSE] = row[POS]
            row[OPEN_NS] = open_ns[place]
            row[TIME_NS] = close_ns[place]
            row[LAYOUT] = lane
            while row[LAYOUT] >= 0:
                runs[run, version] += 1
                row[VERSION] = runs[run, version]
                at = _write_fact(
                    out,
                    at,
                    row,
                    written,
                    place,
                    echo,
                    chosen[echo] if row[LAYOUT] != lane else 0,
                    prefix,
                    printed,
                    printed_starts,
                    echo_text,
                    echo_starts,
                    text,
                    piece_ends,
                    first_piece,
                    fields,
                    first_field,
                    names,
                    name_starts,
                )
                ends[fact] = at
                fact += 1
                row[POS] += 1
                row[LAYOUT] = echo_layout if row[LAYOUT] == lane else -1
    return at


@cache
def compiled_render() -> Routine:
    """``render`` as machine code."""
    facts = (BYTES, INTS, INT_TABLE, "int64", INT_TABLE, BYTES, BYTES, INTS)
    bars = (INTS, INTS, INTS, INTS, BYTES, INT_TABLE)
    texts = (BYTES, INTS, INTS, BYTES, INTS, INTS, INT_TABLE, INTS, BYTES, INTS)
    return routine(render, "int64", *facts, *bars, *texts, allocates=True)
