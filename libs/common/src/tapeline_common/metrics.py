"""Prometheus metrics that every service has. Names are stable and end in their unit.

Shells count and time; cores never do. Service-specific metrics are derived from facts elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

_FAST = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)


@dataclass(frozen=True)
class Metrics:
    """One process's metrics, in a registry of their own so that tests and several services can live side by side."""

    service: str
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        def make(kind: type, name: str, text: str, labels: tuple[str, ...] = (), **more: object) -> object:
            metric = kind(f"tapeline_{name}", text, ("service", *labels), registry=self.registry, **more)
            return metric if labels else metric.labels(self.service)

        set_field = object.__setattr__
        set_field(self, "_events", make(Counter, "events_total", "Facts heard or said", ("direction", "event")))
        set_field(self, "position", make(Gauge, "position", "Position of the last fact heard"))
        set_field(self, "lag_facts", make(Gauge, "lag_facts", "Facts between the head and the last fact heard"))
        set_field(self, "step_seconds", make(Histogram, "step_seconds", "Handling of one fact", buckets=_FAST))
        set_field(self, "append_seconds", make(Histogram, "append_seconds", "Recording of one answer", buckets=_FAST))
        set_field(self, "append_retries", make(Counter, "append_retries_total", "Appends whose outcome was unknown"))
        set_field(self, "stopped", make(Gauge, "stopped", "1 once the service stopped on an error, else 0"))

    position: Gauge = field(init=False)
    lag_facts: Gauge = field(init=False)
    step_seconds: Histogram = field(init=False)
    append_seconds: Histogram = field(init=False)
    append_retries: Counter = field(init=False)
    stopped: Gauge = field(init=False)
    _events: Counter = field(init=False)

    def heard(self, event: str) -> None:
        self._events.labels(self.service, "heard", event).inc()

    def said(self, event: str) -> None:
        self._events.labels(self.service, "said", event).inc()

    def serve(self, port: int) -> None:
        """Answer scrapes on ``port``; 0 means metrics are kept but not served."""
        if port:
            start_http_server(port, registry=self.registry)
