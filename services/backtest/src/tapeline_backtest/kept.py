"""Fills and trades of a run, kept for its report: every one of them whole, but not as an object.

What a tape says one fact after the other is kept as bytes, what a stretch tells at once as columns of the smallest
integers that hold them. Both give every event back, equal to the last digit, and say what they add up to; sums of
money are exact. Nothing is judged here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_common.events import OrderFilled, TradeClosed
from tapeline_common.money import ZERO
from tapeline_common.values import InstrumentId

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

E = TypeVar("E")
S = TypeVar("S")
E_co = TypeVar("E_co", covariant=True)
S_co = TypeVar("S_co", covariant=True)

BLOCK_ROWS = 4096
"""Events whose columns are packed together, or read back together: enough to be quick, few enough to be small."""

_ENCODER = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True)
class Flow:
    """What some fills of one instrument moved.

    Attributes:
        time_ns, moved, paid: shape (fills,): UTC ns, signed quantity, and price times it plus fee, as floats.
        quantity, fees, slippage: their sums; the first is signed.
    """

    instrument: InstrumentId
    time_ns: Ints
    moved: Floats
    paid: Floats
    quantity: Decimal
    fees: Decimal
    slippage: Decimal


@dataclass(frozen=True, slots=True)
class Results:
    """What some trades of one instrument came to, fees taken off. ``gain`` and ``loss`` are the sums of either sign."""

    instrument: InstrumentId
    trades: int
    wins: int
    losses: int
    gain: Decimal
    loss: Decimal
    best: Decimal
    worst: Decimal


class Part(Protocol[E_co, S_co]):
    """Events that follow each other, and what they add up to."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[E_co]: ...

    def sums(self) -> Iterable[S_co]: ...


class Kept(Generic[E, S]):
    """Events in the order in which they were said; equal if the events are.

    Args:
        kind: type of an event.
        add_up: sums of some events.
    """

    def __init__(self, kind: Any, add_up: Callable[[Sequence[E]], Iterable[S]]) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._add_up = add_up
        self._parts: list[Part[E, S]] = []
        self._last: _Said[E, S] | None = None

    def append(self, event: E) -> None:
        if self._last is None:
            self._last = _Said(self._decoder, self._add_up)
            self._parts.append(self._last)
        self._last.append(event)

    def begin(self, part: Part[E, S]) -> None:
        """Go on with a part that others fill, until the next ``append``."""
        self._parts.append(part)
        self._last = None

    def ends_with(self, part: Part[E, S]) -> bool:
        return bool(self._parts) and self._parts[-1] is part

    def sums(self) -> Iterator[S]:
        for part in self._parts:
            yield from part.sums()

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[E]:
        for part in self._parts:
            yield from part

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Kept):
            return NotImplemented
        return len(self) == len(other) and all(one == its for one, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


class _Said(Generic[E, S]):
    """Events that were said one by one, as bytes."""

    __slots__ = ("_add_up", "_bytes", "_decoder", "_ends")

    def __init__(self, decoder: msgspec.msgpack.Decoder[E], add_up: Callable[[Sequence[E]], Iterable[S]]) -> None:
        self._decoder = decoder
        self._add_up = add_up
        self._bytes = bytearray()
        self._ends = array("q")

    def append(self, event: E) -> None:
        self._bytes += _ENCODER.encode(event)
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[E]:
        start, whole = 0, memoryview(self._bytes)
        for end in self._ends:
            yield self._decoder.decode(whole[start:end])
            start = end

    def sums(self) -> Iterator[S]:
        some: list[E] = []
        for event in self:
            some.append(event)
            if len(some) == BLOCK_ROWS:
                yield from self._add_up(some)
                some = []
        yield from self._add_up(some)


class Columns:
    """A table of integers that grows at its end; what is behind lies in the smallest types that hold it."""

    def __init__(self) -> None:
        self._packed: list[list[tuple[int, NDArray[Any]]]] = []
        self._open: list[Ints] = []
        self._open_rows = 0
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, rows: Ints) -> None:
        """Rows of shape (n, columns), which are not copied."""
        self._open.append(rows)
        self._open_rows += len(rows)
        self._rows += len(rows)
        if self._open_rows >= BLOCK_ROWS:
            self._packed.append(_packed(np.concatenate(self._open)))
            self._open, self._open_rows = [], 0

    def blocks(self) -> Iterator[Ints]:
        """All rows in order, some at a time."""
        for block in self._packed:
            yield np.stack([column.astype(np.int64) + lowest for lowest, column in block], axis=1)
        if self._open:
            yield np.concatenate(self._open)


def _packed(rows: Ints) -> list[tuple[int, NDArray[Any]]]:
    """Each column as its lowest number and the distances to it. Numbers are less than 2**63 apart."""
    found: list[tuple[int, NDArray[Any]]] = []
    for column in rows.T:
        lowest, highest = int(column.min()), int(column.max())
        found.append((lowest, (column - lowest).astype(np.min_scalar_type(highest - lowest))))
    return found


def kept_fills() -> Kept[tuple[int, OrderFilled], Flow]:
    """Fills, each with the time it is stamped with."""
    return Kept(tuple[int, OrderFilled], _flows)


def kept_trades() -> Kept[TradeClosed, Results]:
    return Kept(TradeClosed, _results)


def _flows(fills: Sequence[tuple[int, OrderFilled]]) -> Iterator[Flow]:
    for instrument in dict.fromkeys(fill.instrument for _, fill in fills):
        some = [each for each in fills if each[1].instrument == instrument]
        signed = [fill.quantity * fill.side.sign for _, fill in some]
        paid = [float(fill.price * fill.quantity) * fill.side.sign + float(fill.fee) for _, fill in some]
        yield Flow(
            instrument,
            np.array([time_ns for time_ns, _ in some], dtype=np.int64),
            np.array([float(quantity) for quantity in signed]),
            np.array(paid),
            sum(signed, ZERO),
            sum((fill.fee for _, fill in some), ZERO),
            sum((fill.slippage * fill.quantity for _, fill in some), ZERO),
        )


def _results(trades: Sequence[TradeClosed]) -> Iterator[Results]:
    for instrument in dict.fromkeys(trade.instrument for trade in trades):
        yield results_of(instrument, [trade.pnl - trade.fees for trade in trades if trade.instrument == instrument])


def results_of(instrument: InstrumentId, net: Sequence[Decimal]) -> Results:
    """What trades that came to these amounts add up to; at least one."""
    gains, losses = [pnl for pnl in net if pnl > 0], [pnl for pnl in net if pnl < 0]
    return Results(
        instrument, len(net), len(gains), len(losses), sum(gains, ZERO), sum(losses, ZERO), max(net), min(net)
    )


def flows_by_instrument(flows: Iterable[Flow]) -> dict[InstrumentId, Flow]:
    """All fills of each instrument together, in their order."""
    parts: dict[InstrumentId, list[Flow]] = {}
    for flow in flows:
        parts.setdefault(flow.instrument, []).append(flow)
    return {
        instrument: Flow(
            instrument,
            np.concatenate([each.time_ns for each in some]),
            np.concatenate([each.moved for each in some]),
            np.concatenate([each.paid for each in some]),
            sum((each.quantity for each in some), ZERO),
            sum((each.fees for each in some), ZERO),
            sum((each.slippage for each in some), ZERO),
        )
        for instrument, some in parts.items()
    }


def results_by_instrument(results: Iterable[Results]) -> dict[InstrumentId, Results]:
    """All trades of each instrument together."""
    found: dict[InstrumentId, Results] = {}
    for one in results:
        other = found.get(one.instrument)
        if other is not None:
            one = Results(
                one.instrument,
                one.trades + other.trades,
                one.wins + other.wins,
                one.losses + other.losses,
                one.gain + other.gain,
                one.loss + other.loss,
                max(one.best, other.best),
                min(one.worst, other.worst),
            )
        found[one.instrument] = one
    return found
