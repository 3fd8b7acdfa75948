"""What a scrape sees: stable names, and numbers that Prometheus can use."""

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from tapeline_common.metrics import _FAST, Metrics


def samples(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#") and "_created" not in line)
    return {name: float(value) for name, _, value in lines}


def test_everything_counted_is_in_the_page() -> None:
    """Golden: each metric under its name and labels."""
    metrics = Metrics("risk")
    metrics.position.set(7)
    metrics.lag_facts.set(2)
    metrics.append_retries.inc()
    for event in ("BarClosed", "BarClosed", "OrderProposed"):
        metrics.heard(event)
    metrics.said("OrderApproved")
    page = samples(generate_latest(metrics.registry).decode())
    assert {name: value for name, value in page.items() if "seconds" not in name} == {
        'tapeline_events_total{direction="heard",event="BarClosed",service="risk"}': 2,
        'tapeline_events_total{direction="heard",event="OrderProposed",service="risk"}': 1,
        'tapeline_events_total{direction="said",event="OrderApproved",service="risk"}': 1,
        'tapeline_position{service="risk"}': 7,
        'tapeline_lag_facts{service="risk"}': 2,
        'tapeline_stopped{service="risk"}': 0,
        'tapeline_append_retries_total{service="risk"}': 1,
    }


@pytest.mark.parametrize("seconds", [0.0, 0.00001, 0.000011, 0.0024, 0.0025, 0.3, 5.0, 5.1, 60.0])
def test_durations_fall_where_prometheus_would_put_them(seconds: float) -> None:
    """Against the client library's own histogram: same buckets, same count, same sum."""
    registry = CollectorRegistry()
    twin = Histogram("tapeline_step_seconds", "twin", ("service",), registry=registry, buckets=_FAST).labels("risk")
    metrics = Metrics("risk")
    for value in (seconds, 0.001, seconds):
        twin.observe(value)
        metrics.step_seconds.observe(value)
    page = samples(generate_latest(metrics.registry).decode())
    wanted = samples(generate_latest(registry).decode())
    assert {name: value for name, value in page.items() if "step_seconds" in name} == wanted
