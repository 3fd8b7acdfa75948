"""What a service measures, as data: names, labels and the functions that read a number off a state or a fact.

A measure is one of three kinds. A gauge is read off a state when somebody looks. A counter or a histogram looks at each
fact as it is heard from the tape, so it tells what this process has seen since it started; what a service folds when it
restores is not counted again. A ``Watch`` is for measures that need a memory of their own; it hears the restored past
as well, so what it tells is right at once.

Cores know nothing of this module and never count. Nothing here is exposed, timed or sampled: see ``metrics``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate, product
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from tapeline_common.core import Stamp
from tapeline_common.events import Event

NS_PER_S = 1_000_000_000

Labels: TypeAlias = tuple[str, ...]
"""Values of a measure's labels, in their order."""

LATENCIES = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Upper edges in seconds for what takes from microseconds to seconds."""

WAITS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3_600.0)
"""Upper edges in seconds for what may wait for minutes."""

COUNTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0)
"""Upper edges for how many there were of something."""


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Distribution:
    """How many values fell between fixed edges, and their sum. A value on an edge belongs below it."""

    __slots__ = ("counts", "edges", "sum")

    def __init__(self, edges: tuple[float, ...] = LATENCIES) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.edges, value)] += 1
        self.sum += value

    def cumulative(self) -> list[int]:
        """How many values were at most each edge; the last number is of all."""
        return list(accumulate(self.counts))


Number: TypeAlias = float | Distribution
Reading: TypeAlias = Iterable[tuple[Labels, Number]]


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A fact at the moment it was heard.

    Attributes:
        states: the service's cores' states by their names, this fact learnt.
        now_ns: the wall clock in UTC nanoseconds.
    """

    event: Any
    stamp: Stamp
    states: Mapping[str, Any]
    now_ns: int


def one(_seen: Seen) -> float:
    return 1.0


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One name under which something is exposed.

    At most one of ``read``, ``count`` and ``observe`` is given. Without any of them the number is told by a part of the
    process: a ``Watch``, an adapter, the shell.

    Attributes:
        name: as it is exposed; ends in its unit, and in ``_total`` for counters.
        text: what it means, in a sentence.
        labels: beside ``service``, which every sample has.
        values: label → all its values, where these are a closed list. Counters and histograms exist from the start,
            at zero, for every label set whose other labels the configuration names.
        unit: where the name does not end in it.
        edges: of a histogram: upper edges of its buckets.
        of: whose state is read: a core, or a part of the process that was exposed under this name.
        read: what the state says at a time (UTC ns), by label values.
        count: event → whose count a fact adds to, or ``None``. ``amount``: how much it adds.
        observe: event → label values and the value observed, or ``None``.
        is_zero_without: a gauge that is zero for known label sets that its reading leaves out.
        appears: when a sample exists; empty: from the start.
    """

    name: str
    kind: Kind
    text: str
    labels: Labels = ()
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unit: str = ""
    edges: tuple[float, ...] = ()
    of: str = ""
    read: Callable[[Any, int], Reading] | None = None
    count: Mapping[type[Event], Callable[[Seen], Labels | None]] = field(default_factory=dict)
    amount: Callable[[Seen], float] = one
    observe: Mapping[type[Event], Callable[[Seen], tuple[Labels, float] | None]] = field(default_factory=dict)
    is_zero_without: bool = False
    appears: str = ""

    def __post_init__(self) -> None:
        if self.name.endswith("_total") != (self.kind is Kind.COUNTER):
            raise ValueError(f"{self.name} is a {self.kind}: counters, and only they, end in _total")
        if bool(self.edges) != (self.kind is Kind.HISTOGRAM):
            raise ValueError(f"{self.name} is a {self.kind}: histograms, and only they, have edges")
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"{self.name} has edges {self.edges}: give each once, in rising order")
        foreign = [label for label in self.values if label not in self.labels]
        if foreign or "service" in self.labels:
            raise ValueError(f"{self.name} has the labels {self.labels}, not {foreign or 'service'}")
        sources = [bool(self.read), bool(self.count), bool(self.observe)]
        if sum(sources) > 1:
            raise ValueError(f"{self.name} is read, counted and observed: one of them")
        if (self.count and self.kind is not Kind.COUNTER) or (self.observe and self.kind is not Kind.HISTOGRAM):
            raise ValueError(f"{self.name} is a {self.kind}: facts are counted by counters, observed by histograms")


@runtime_checkable
class Told(Protocol):
    """A part of a process that tells its numbers when somebody looks; an adapter may be one."""

    def samples(self, now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        """(Name of a measure, label values, number); for a name told twice with the same labels the last one counts."""


class Watch(Told, Protocol):
    """Measures with a memory of their own. Hears facts in the order of the tape, each once."""

    def heard(self, event: Any, stamp: Stamp) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A watch before it is made.

    Attributes:
        measures: what it tells.
        hears: the events handed to it, after the service's cores have learnt them.
        make: makes one from the states of the service's cores, by their names, and a clock (UTC ns).
        restores: whether it also hears the past that the service restores from. If so, the states it sees meanwhile
            may be ahead of the fact at hand, by at most a page.
    """

    measures: tuple[Measure, ...]
    hears: tuple[type[Event], ...]
    make: Callable[[Mapping[str, Any], Callable[[], int]], Watch]
    restores: bool = True


@dataclass(frozen=True, slots=True)
class Measures:
    """Everything one service measures beside what all services do."""

    tables: tuple[Measure, ...] = ()
    watches: tuple[Watched, ...] = ()

    @property
    def all(self) -> tuple[Measure, ...]:
        return (*self.tables, *(measure for watched in self.watches for measure in watched.measures))

    @property
    def hears(self) -> frozenset[type[Event]]:
        """Every event that some measure looks at."""
        tables = (event for measure in self.tables for event in (*measure.count, *measure.observe))
        return frozenset([*tables, *(event for watched in self.watches for event in watched.hears)])


NOTHING = Measures()

Known: TypeAlias = Sequence[Mapping[str, str]]
"""What the configuration names, as rows of labels that belong together, such as a strategy and its instrument."""


def label_sets(measure: Measure, known: Known) -> list[Labels]:
    """The label values that are known before anything has happened: closed lists crossed with what is configured."""
    wanted = [label for label in measure.labels if label not in measure.values]
    rows = [row for row in known if all(label in row for label in wanted)] if wanted else [{}]
    found: dict[Labels, None] = {}
    for row in rows:
        choices = [measure.values.get(label) or (row[label],) for label in measure.labels]
        found.update(dict.fromkeys(product(*choices)))
    return list(found)


_UNITS = {
    "_time_seconds": "Unix seconds",
    "_seconds": "seconds",
    "_seconds_total": "seconds",
    "_bytes": "bytes",
    "_ratio": "fraction",
    "_bps": "basis points",
    "_facts": "facts",
}


def unit_of(measure: Measure) -> str:
    """The unit, for people: as given, or as the name ends; ``-`` for what is only a number."""
    if measure.unit:
        return measure.unit
    endings = [ending for ending in _UNITS if measure.name.endswith(ending)]
    return _UNITS[max(endings, key=len)] if endings else "-"


def one_hot(labels: Labels, present: str, values: Iterable[str]) -> Reading:
    """1 for the present value of the last label, 0 for the others."""
    return [((*labels, value), float(value == present)) for value in values]
