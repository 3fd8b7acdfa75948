"""Prometheus metrics that every service has. Names are stable and end in their unit.

Shells count and time; cores never do. Service-specific metrics are derived from facts elsewhere. Numbers are kept plain
and become Prometheus' own objects when they are asked for: a scrape comes every few seconds, a fact in between is
counted several times, and nobody should wait for that.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

_FAST = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)
_EDGES = (*(repr(edge) for edge in _FAST), "+Inf")


@dataclass(slots=True)
class Number:
    """A value that goes up, or up and down."""

    value: float = 0.0

    def set(self, value: float) -> None:
        self.value = value

    def inc(self) -> None:
        self.value += 1


@dataclass(slots=True)
class Durations:
    """How many durations fell between the edges of ``_FAST``, and their sum in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * len(_EDGES))
    sum_s: float = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(_FAST, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Upper edge → how many took no longer."""
        return list(zip(_EDGES, accumulate(self.counts), strict=True))


@dataclass(eq=False)
class Metrics(Collector):
    """One process's metrics, in a registry of their own so that tests and several services can live side by side."""

    service: str
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    position: Number = field(default_factory=Number)
    lag_facts: Number = field(default_factory=Number)
    stopped: Number = field(default_factory=Number)
    append_retries: Number = field(default_factory=Number)
    step_seconds: Durations = field(default_factory=Durations)
    append_seconds: Durations = field(default_factory=Durations)
    _events: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.registry.register(self)

    def heard(self, event: str) -> None:
        self._events["heard", event] += 1

    def said(self, event: str) -> None:
        self._events["said", event] += 1

    def collect(self) -> Iterable[Metric]:
        """Called by the registry for each scrape, in a thread of its own: what changes meanwhile is copied first."""
        events = CounterMetricFamily("tapeline_events", "Facts heard or said", labels=("service", "direction", "event"))
        for (direction, event), count in self._events.copy().items():
            events.add_metric((self.service, direction, event), count)
        yield events
        for gauge, text, number in (
            ("position", "Position of the last fact heard", self.position),
            ("lag_facts", "Facts between the head and the last fact heard", self.lag_facts),
            ("stopped", "1 once the service stopped on an error, else 0", self.stopped),
        ):
            family = GaugeMetricFamily(f"tapeline_{gauge}", text, labels=("service",))
            family.add_metric((self.service,), number.value)
            yield family
        retries = CounterMetricFamily(
            "tapeline_append_retries", "Appends whose outcome was unknown", labels=("service",)
        )
        retries.add_metric((self.service,), self.append_retries.value)
        yield retries
        for name, text, durations in (
            ("step_seconds", "Handling of one fact", self.step_seconds),
            ("append_seconds", "Recording of one answer", self.append_seconds),
        ):
            histogram = HistogramMetricFamily(f"tapeline_{name}", text, labels=("service",))
            histogram.add_metric((self.service,), durations.buckets(), durations.sum_s)
            yield histogram

    def serve(self, port: int) -> None:
        """Answer scrapes on ``port``; 0 means metrics are kept but not served."""
        if port:
            start_http_server(port, registry=self.registry)
