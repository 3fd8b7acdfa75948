"""Bars in blocks: how a core passes over many bars at once when it has nothing to say to any of them.

A replay spends most of its time on bars at which nothing happens. A core that can tell ahead of time where its silence
ends, and that can learn silent bars together, says so with a ``Passing``; a gear may then skip the single steps. Both
functions are fast twins of hearing the bars one by one, and are tested to be equal to it.

This module has no gear and no core in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tapeline_common.core import Stamp
from tapeline_common.events import BarClosed, Event, ParameterValue
from tapeline_common.values import DecimalText, InstrumentId

S = TypeVar("S")

Floats = NDArray[np.float64]


class Steps(Protocol):
    """A strategy's ``step`` over many bars of a block at once."""

    def silent_until(
        self, memory: Sequence[float], parameters: tuple[ParameterValue, ...], start: int, stop: int, settled: float
    ) -> int:
        """Row of the first bar whose target is not ``settled``, or ``stop``. Changes nothing."""
        ...

    def after(
        self, memory: Sequence[float], parameters: tuple[ParameterValue, ...], start: int, stop: int
    ) -> tuple[list[float], float]:
        """Memory after bars ``start`` to ``stop`` (at least one), and the target of the last of them."""
        ...


@dataclass(frozen=True, slots=True)
class Echo:
    """One fact of the same type said to each of several bars. To hear the last of them is to have heard them all.

    Attributes:
        last: what was said to the last bar.
        chosen: shape (bars,), which of the values of its enumeration each fact has.
        numbers: shape (bars, n), the floats of each fact, in the order of its fields.
    """

    author: str
    last: Event
    chosen: NDArray[np.int64]
    numbers: Floats


BarFilter = Callable[[Any, Any, Any, int, int], tuple[Floats, Floats, Floats]]
"""(features, model, belief, start, stop) → observations, beliefs, log likelihoods of the rows; moves the features."""


@dataclass(slots=True)
class BarBlock:
    """Consecutive bars of one instrument, by row. Each is stamped with its closing time.

    Attributes:
        open_ns, close_ns: shape (rows,), UTC ns; reading one gives a plain int.
        closes: shape (rows,), float64.
        bar: row → the bar as a fact.
        close_text: row → the closing price as printed.
        steps: kind of strategy → its compiled form, or ``None`` if there is none.
        bar_filter: loads the compiled regime filter; returns ``None`` where there is none that is exact.
        is_echoed: set by the core that will say an ``Echo`` to the rows, for those that hear it.
    """

    instrument: InstrumentId
    timeframe: str
    open_ns: Sequence[int]
    close_ns: Sequence[int]
    closes: Floats
    bar: Callable[[int], BarClosed]
    close_text: Callable[[int], DecimalText]
    steps: Callable[[str], Steps | None]
    bar_filter: Callable[[], BarFilter | None]
    is_echoed: bool = False


@dataclass(frozen=True, slots=True)
class Passing(Generic[S]):
    """How a core passes over bars.

    Attributes:
        silent_until: (state, block, start, stop) → the row where its silence may end, from ``start`` to ``stop``: it
            would say nothing (but its echo) to any bar before that row, and ``take`` can learn them. Changes nothing.
            Too small a row costs time and nothing else.
        take: (state, block, start, stop, last) learns rows ``start`` to ``stop`` (at least one), all of them silent;
            ``last`` is the stamp of the last. Returns what it said to each of them, if it did.
    """

    silent_until: Callable[[S, BarBlock, int, int], int]
    take: Callable[[S, BarBlock, int, int, Stamp], Echo | None]
