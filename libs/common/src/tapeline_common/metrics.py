"""What one process exposes to Prometheus: the measures of its service, and those that every process has.

What is measured is data (``measures``); this module counts and answers scrapes. Numbers are kept plain and become
Prometheus' own objects when they are asked for: a scrape comes every few seconds, a fact in between is counted several
times, and nobody should wait for that.

A scrape arrives in a thread, while the event loop changes what is to be read. So numbers are taken in the loop, within
``SCRAPE_S``; a loop that is blocked for longer fails the scrape, because a process that does not get on must not look
alive. Only the text is made in the thread.
"""

from __future__ import annotations

import asyncio
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import psutil
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tapeline_common import __version__
from tapeline_common.core import Stamp
from tapeline_common.events import AUTHOR_OF, Event
from tapeline_common.measures import (
    NOTHING,
    Distribution,
    Kind,
    Known,
    Labels,
    Measure,
    Measures,
    Number,
    Seen,
    Told,
    Watch,
    label_sets,
)
from tapeline_common.metrics_common import COMMON
from tapeline_common.version import code_version
from tapeline_common.wire import Fact, Heard

SCRAPE_S = 2.0
"""How long the event loop may take to hand its numbers over; less than the patience of deploy/health.py."""

PULSE_S = 0.5
"""How often the event loop's timer runs by which its lag is known."""

LAG_WINDOW_S = 15.0
"""For how long the longest delay of that timer is remembered; a scrape interval or more."""


_BY_SYSTEM = frozenset(measure.name for measure in COMMON if measure.name.startswith("process_"))
"""What the operating system is asked for, in the thread of the scrape."""


class ScrapeFailed(Exception):
    """The event loop did not hand its numbers over in time, or is over."""


@dataclass(slots=True)
class Cell:
    """A number that goes up, or up and down."""

    value: float = 0.0

    def set(self, value: float) -> None:
        self.value = value

    def inc(self, by: float = 1.0) -> None:
        self.value += by


@dataclass(slots=True)
class Tally:
    """How often an event was heard, and who wants to see it."""

    count: int = 0
    watches: tuple[Watch, ...] = ()
    takers: tuple[Callable[[Seen], None], ...] = ()


Taken = list[tuple[Measure, list[tuple[Labels, Any]]]]
"""Measures with their samples; of a histogram: edges, numbers up to each edge, and the sum."""


class Metrics(Collector):
    """One process's metrics, in a registry of their own so that tests and several services can live side by side.

    Args:
        known: what the configuration names; counters of it exist from the start.
        hears, says: events that are counted from the start.
        clock: the wall clock, UTC nanoseconds.
    """

    def __init__(
        self,
        service: str,
        measures: Measures = NOTHING,
        *,
        known: Known = (),
        hears: Sequence[type[Event]] = (),
        says: Sequence[type[Event]] = (),
        clock: Callable[[], int] = time.time_ns,  # noqa: TID251  (dates of what is told, which nobody decides by)
    ) -> None:
        self.service = service
        self.registry = CollectorRegistry()
        self.hears = measures.hears
        self._measures = {measure.name: measure for measure in (*COMMON, *measures.all)}
        self._declared = measures
        self._clock = clock
        self._numbers: dict[str, dict[Labels, Cell | Distribution]] = {name: {} for name in self._measures}
        self._zeros: dict[str, dict[Labels, float]] = {}
        for measure in self._measures.values():
            self._start_at_zero(measure, known)
        self._states: dict[str, Any] = {}
        self._parts: dict[str, Callable[[], Any]] = {}
        self._tellers: list[Told] = []
        self._heard = {event: Tally() for event in hears}
        self._said = {event: Tally() for event in says}
        self._recalling: dict[type[Event], tuple[Watch, ...]] = {}
        self._pulse: Pulse | None = None
        self._progress: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._behind: tuple[int, float] | None = None
        self.stopped = self.number("tapeline_stopped")
        self.append_retries = self.number("tapeline_append_retries_total")
        self.gap_reads = self.number("tapeline_gap_reads_total")
        self.restore_seconds = self.number("tapeline_restore_seconds")
        self.step_seconds = self.distribution("tapeline_step_seconds")
        self.append_seconds = self.distribution("tapeline_append_seconds")
        labels = (__version__, code_version(), platform.python_version())
        self.number("tapeline_build_info", labels).set(1)
        for measure in measures.tables:
            self._look_at_facts(measure)
        self.registry.register(self)

    # ---- what is counted -------------------------------------------------------------------------------------

    def heard(self, fact: Fact | Heard) -> None:
        """A fact was heard from the tape and learnt by the cores. For an event nobody measures: one look-up."""
        event = type(fact.event)
        tally = self._heard.get(event)
        if tally is None:
            tally = self._heard[event] = Tally()
        tally.count += 1
        if tally.watches:
            stamp = Stamp(fact.pos, fact.time_ns)
            for watch in tally.watches:
                watch.heard(fact.event, stamp)
        if tally.takers:
            seen = Seen(fact.event, Stamp(fact.pos, fact.time_ns), self._states, self._clock())
            for take in tally.takers:
                take(seen)

    def said(self, event: Event) -> None:
        """A fact of this service's was recorded."""
        tally = self._said.get(type(event))
        if tally is None:
            tally = self._said[type(event)] = Tally()
        tally.count += 1

    def recalled(self, facts: Iterable[Fact | Heard]) -> None:
        """Facts of the past were folded: only watches hear them."""
        if not self._recalling:
            return
        for fact in facts:
            watches = self._recalling.get(type(fact.event))
            if watches:
                stamp = Stamp(fact.pos, fact.time_ns)
                for watch in watches:
                    watch.heard(fact.event, stamp)

    def number(self, name: str, labels: Labels = ()) -> Cell:
        """The number of this name and these label values, to be changed by the caller."""
        cells = self._numbers[name]
        found = cells.get(labels)
        if found is None:
            found = cells[labels] = Cell()
        assert isinstance(found, Cell), f"{name} is a histogram"
        return found

    def distribution(self, name: str, labels: Labels = ()) -> Distribution:
        """The histogram of this name and these label values."""
        cells = self._numbers[name]
        found = cells.get(labels)
        if found is None:
            found = cells[labels] = Distribution(self._measures[name].edges)
        assert isinstance(found, Distribution), f"{name} is no histogram"
        return found

    # ---- where numbers come from -----------------------------------------------------------------------------

    def bind(self, states: Mapping[str, Any]) -> None:
        """Before anything is heard: the cores' states, for watches and for what looks at facts. Called once."""
        assert not self._states, f"the metrics of {self.service} have their states"
        self._states.update(states)
        for watched in self._declared.watches:
            watch = watched.make(self._states, self._clock)
            self._tellers.append(watch)
            for event in watched.hears:
                tally = self._heard.setdefault(event, Tally())
                tally.watches = (*tally.watches, watch)
                if watched.restores:
                    self._recalling[event] = (*self._recalling.get(event, ()), watch)

    def restored(self, seconds: float) -> None:
        """The states are whole: from now on gauges read them."""
        self.restore_seconds.set(seconds)
        for name in self._states:
            self.expose(name, partial(self._states.__getitem__, name))

    def expose(self, name: str, part: Callable[[], Any]) -> None:
        """Gauges that are ``of`` this name read what ``part`` returns."""
        self._parts[name] = part

    def tell(self, told: Told) -> None:
        """Ask this part for its numbers from now on."""
        self._tellers.append(told)

    def follow(self, progress: Callable[[], tuple[int, int]]) -> None:
        """How far the service has heard, and the head."""
        self._progress = progress

    def _start_at_zero(self, measure: Measure, known: Known) -> None:
        sets = label_sets(measure, known)
        if measure.is_zero_without:
            self._zeros[measure.name] = dict.fromkeys(sets, 0.0)
        elif measure.kind is not Kind.GAUGE:
            for labels in sets:
                is_histogram = measure.kind is Kind.HISTOGRAM
                self._numbers[measure.name][labels] = Distribution(measure.edges) if is_histogram else Cell()

    def _look_at_facts(self, measure: Measure) -> None:
        for event, count in measure.count.items():
            self._add_taker(event, self._counting(measure, count))
        for event, observe in measure.observe.items():
            self._add_taker(event, self._observing(measure, observe))

    def _counting(self, measure: Measure, count: Callable[[Seen], Labels | None]) -> Callable[[Seen], None]:
        def take(seen: Seen) -> None:
            labels = count(seen)
            if labels is not None:
                self.number(measure.name, labels).value += measure.amount(seen)

        return take

    def _observing(
        self, measure: Measure, observe: Callable[[Seen], tuple[Labels, float] | None]
    ) -> Callable[[Seen], None]:
        def take(seen: Seen) -> None:
            observed = observe(seen)
            if observed is not None:
                self.distribution(measure.name, observed[0]).observe(observed[1])

        return take

    def _add_taker(self, event: type[Event], take: Callable[[Seen], None]) -> None:
        tally = self._heard.setdefault(event, Tally())
        tally.takers = (*tally.takers, take)

    # ---- scrapes ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """From now on numbers are taken in the running event loop, and its lag is measured. Needs ``stop``."""
        self._pulse = Pulse(asyncio.get_running_loop(), self._keep_lag)

    def stop(self) -> None:
        """The event loop ends: scrapes fail from now on."""
        if self._pulse is not None:
            self._pulse.stop()

    def serve(self, port: int) -> None:
        """Answer scrapes on ``port``; 0 means metrics are kept but not served."""
        if not port:
            return
        page = make_wsgi_app(self.registry)

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            try:
                text: Iterable[bytes] = page(environ, start_response)
            except ScrapeFailed as failed:
                start_response("503 Service Unavailable", [("Content-Type", "text/plain; charset=utf-8")])
                return [f"{failed}\n".encode()]
            return text

        server = make_server("0.0.0.0", port, answer, ThreadingWSGIServer, handler_class=_Silent)
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    def collect(self) -> Iterable[Metric]:
        """Called by the registry for each scrape. Raises ``ScrapeFailed``."""
        for measure, samples in self._taken():
            if measure.kind is Kind.HISTOGRAM:
                yield self._histogram(measure, samples)
                continue
            make = CounterMetricFamily if measure.kind is Kind.COUNTER else GaugeMetricFamily
            family = make(measure.name, measure.text, labels=("service", *measure.labels))
            for labels, value in samples:
                family.add_metric((self.service, *labels), value)
            yield family
        yield from self._of_process()

    def _taken(self) -> Taken:
        """The numbers as the event loop has them between two steps."""
        pulse = self._pulse
        if pulse is None:
            return self._take()
        done: Future[Taken] = Future()

        def take() -> None:
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(self._take())
                except BaseException as trouble:
                    done.set_exception(trouble)

        try:
            pulse.loop.call_soon_threadsafe(take)
        except RuntimeError as over:
            raise ScrapeFailed(f"{self.service} is ending: {over}") from None
        try:
            return done.result(SCRAPE_S)
        except TimeoutError:
            done.cancel()
            raise ScrapeFailed(f"the event loop of {self.service} has been busy for {SCRAPE_S:g} s") from None

    def _take(self) -> Taken:
        now_ns = self._clock()
        self._measure_itself()
        told: dict[str, dict[Labels, Number]] = {}
        for teller in self._tellers:
            for name, labels, number in teller.samples(now_ns):
                if name not in self._measures:
                    raise ValueError(f"{type(teller).__name__} tells {name}, which {self.service} does not declare")
                told.setdefault(name, {})[labels] = number
        return [
            (measure, self._samples(measure, told.get(name, {}), now_ns))
            for name, measure in self._measures.items()
            if name not in _BY_SYSTEM
        ]

    def _samples(self, measure: Measure, told: dict[Labels, Number], now_ns: int) -> list[tuple[Labels, Any]]:
        numbers: dict[Labels, Any] = {**self._zeros.get(measure.name, {}), **self._numbers[measure.name], **told}
        part = self._parts.get(measure.of)
        if measure.read is not None and part is not None:
            numbers.update(measure.read(part(), now_ns))
        found: list[tuple[Labels, Any]] = []
        for labels, number in numbers.items():
            if len(labels) != len(measure.labels):
                raise ValueError(f"{measure.name} has the labels {measure.labels}, and came with {labels}")
            if isinstance(number, Cell):
                found.append((labels, number.value))
            elif isinstance(number, Distribution):
                found.append((labels, (number.edges, number.cumulative(), number.sum)))
            else:
                found.append((labels, float(number)))
        return found

    def _measure_itself(self) -> None:
        heard, head = self._progress()
        self.number("tapeline_position").set(heard)
        self.number("tapeline_lag_facts").set(max(0, head - heard))
        self.number("tapeline_lag_seconds").set(self._keep_lag())
        self.number("tapeline_event_loop_lag_seconds").set(self._pulse.worst_s if self._pulse is not None else 0.0)
        for direction, tallies in (("heard", self._heard), ("said", self._said)):
            for event, tally in tallies.items():
                labels = (direction, AUTHOR_OF[event], event.__name__)
                self.number("tapeline_facts_total", labels).set(tally.count)

    def _keep_lag(self) -> float:
        """Seconds since the head was somewhere the service has not come to yet; called at each pulse and scrape."""
        heard, head = self._progress()
        now_s = time.monotonic()
        if self._behind is None or heard >= self._behind[0]:
            self._behind = (head, now_s) if heard < head else None
        return 0.0 if self._behind is None else now_s - self._behind[1]

    def _histogram(self, measure: Measure, samples: Sequence[tuple[Labels, Any]]) -> Metric:
        family = HistogramMetricFamily(measure.name, measure.text, labels=("service", *measure.labels))
        for labels, (edges, numbers, total) in samples:
            buckets = zip([*map(floatToGoString, edges), "+Inf"], numbers, strict=True)
            family.add_metric((self.service, *labels), list(buckets), total)
            if edges[0] < 0:  # OpenMetrics has no sum that may fall, so the client library leaves both out
                named = dict(zip(("service", *measure.labels), (self.service, *labels), strict=True))
                family.add_sample(f"{measure.name}_count", named, numbers[-1])
                family.add_sample(f"{measure.name}_sum", named, total)
        return family

    def _of_process(self) -> Iterable[Metric]:
        """What the operating system says of this process, under the names that Prometheus' clients use."""
        process = psutil.Process()
        with process.oneshot():
            times = process.cpu_times()
            values: list[tuple[str, float]] = [
                ("process_resident_memory_bytes", process.memory_info().rss),
                ("process_start_time_seconds", process.create_time()),
                ("process_cpu_seconds_total", times.user + times.system),
            ]
        with suppress(AttributeError, psutil.Error):  # Windows counts handles instead
            values.append(("process_open_fds", process.num_fds()))
        with suppress(ImportError):
            values.append(("process_max_fds", _most_fds()))
        for name, value in values:
            measure = self._measures[name]
            make = CounterMetricFamily if measure.kind is Kind.COUNTER else GaugeMetricFamily
            family = make(name, measure.text, labels=("service",))
            family.add_metric((self.service,), value)
            yield family


@dataclass(slots=True)
class Pulse:
    """A timer that knows how late it was, and what runs with it."""

    loop: asyncio.AbstractEventLoop
    beat: Callable[[], object]
    _due_s: float = 0.0
    _late: list[tuple[float, float]] = field(default_factory=list)
    _timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self._schedule()

    @property
    def worst_s(self) -> float:
        """The longest delay within ``LAG_WINDOW_S``, the one under way included."""
        now_s = self.loop.time()
        return max([now_s - self._due_s, 0.0, *(late_s for when, late_s in self._late if now_s - when <= LAG_WINDOW_S)])

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        self._due_s = self.loop.time() + PULSE_S
        self._timer = self.loop.call_at(self._due_s, self._run)

    def _run(self) -> None:
        now_s = self.loop.time()
        self._late = [(when, late_s) for when, late_s in self._late if now_s - when <= LAG_WINDOW_S]
        self._late.append((now_s, max(0.0, now_s - self._due_s)))
        self.beat()
        self._schedule()


class _Silent(WSGIRequestHandler):
    """Writes no line for each scrape."""

    def log_message(self, *_arguments: Any) -> None:
        return None


def _most_fds() -> float:
    """Raises ``ImportError`` on Windows, which has no such limit."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if soft == resource.RLIM_INFINITY else float(soft)
