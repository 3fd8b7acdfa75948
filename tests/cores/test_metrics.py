"""What a scrape sees: stable names, and numbers that Prometheus can use, taken where they do not change meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from tests.trading import bar

from tapeline_common import logs
from tapeline_common import metrics as metrics_module
from tapeline_common.core import Stamp
from tapeline_common.events import BarClosed, Event, HaltRequested
from tapeline_common.measures import LATENCIES, Distribution, Kind, Labels, Measure, Measures, Number, Seen, Watched
from tapeline_common.metrics import Metrics, ScrapeFailed
from tapeline_common.metrics_common import BUS
from tapeline_common.servers import free_port
from tapeline_common.wire import Heard

NOW_NS = 1_700_000_000_000_000_000


def samples(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#") and "_created" not in line)
    return {name: float(value) for name, _, value in lines}


def page(metrics: Metrics) -> dict[str, float]:
    return samples(generate_latest(metrics.registry).decode())


def heard(event: Event, pos: int = 1, time_ns: int = NOW_NS) -> Heard:
    return Heard(pos, time_ns, "marketdata", 0, event)


class Closes:
    """Remembers the last bar of each instrument; tells when it closed."""

    def __init__(self, states: Mapping[str, Any]) -> None:
        self.states = states
        self.seen: list[tuple[str, int]] = []

    def heard(self, event: Any, stamp: Stamp) -> None:
        self.seen.append((event.close, stamp.pos))

    def samples(self, now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        yield "tapeline_closes", (), float(len(self.seen))


def count_bar(seen: Seen) -> Labels | None:
    return (seen.event.instrument,) if seen.event.close != "13" else None


BARS = Measure(
    name="tapeline_bars_total", kind=Kind.COUNTER, text="x", labels=("instrument",), count={BarClosed: count_bar}
)
AGES = Measure(
    name="tapeline_age_seconds",
    kind=Kind.HISTOGRAM,
    text="x",
    edges=(1.0, 10.0),
    observe={BarClosed: lambda seen: ((), (seen.now_ns - seen.stamp.time_ns) / 1e9)},
)
HELD = Measure(
    name="tapeline_held",
    kind=Kind.GAUGE,
    text="x",
    labels=("instrument",),
    of="risk",
    read=lambda state, now_ns: [((name,), quantity) for name, quantity in state.held.items()],
    is_zero_without=True,
)
CLOSES = Measure(name="tapeline_closes", kind=Kind.GAUGE, text="x")


def measuring(*tables: Measure, watches: tuple[Watched, ...] = (), **more: Any) -> Metrics:
    return Metrics("risk", Measures(tables, watches), clock=lambda: NOW_NS, **more)


def test_everything_counted_is_in_the_page() -> None:
    """Golden: each number every process has, under its name and labels."""
    metrics = Metrics("risk", says=[HaltRequested])
    metrics.follow(lambda: (7, 9))
    metrics.append_retries.inc()
    metrics.expose(BUS, lambda: SimpleNamespace(is_connected=True, reconnects=2, round_trip_s=0.25))
    metrics.heard(heard(bar(1), 1))
    metrics.heard(heard(bar(2), 2))
    found = page(metrics)
    found = {name: value for name, value in found.items() if "_seconds" not in name and not name.startswith("process_")}
    info = next(name for name in found if name.startswith("tapeline_build_info"))
    assert "code_version=" in info
    assert found.pop(info) == 1
    kinds = ("authentication", "connection", "other", "permission_violation", "slow_consumer")
    assert found == {
        'tapeline_facts_total{author="marketdata",direction="heard",event="BarClosed",service="risk"}': 2,
        'tapeline_facts_total{author="operator",direction="said",event="HaltRequested",service="risk"}': 0,
        'tapeline_position{service="risk"}': 7,
        'tapeline_lag_facts{service="risk"}': 2,
        'tapeline_stopped{service="risk"}': 0,
        'tapeline_append_retries_total{service="risk"}': 1,
        'tapeline_gap_reads_total{service="risk"}': 0,
        'tapeline_nats_connected{service="risk"}': 1,
        'tapeline_nats_reconnects_total{service="risk"}': 2,
        **{f'tapeline_nats_errors_total{{kind="{kind}",service="risk"}}': 0 for kind in kinds},
        **{f'tapeline_log_messages_total{{level="{level}",service="risk"}}': 0 for level in logs_counted()},
    }


def logs_counted() -> tuple[str, ...]:
    return ("warning", "error", "critical")


def test_the_system_is_asked_under_prometheus_own_names() -> None:
    """CPU, memory, descriptors and start of this process, with its service."""
    found = page(Metrics("risk"))
    names = ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds")
    assert all(found[f'process_{name}{{service="risk"}}'] > 0 for name in names)


@pytest.mark.parametrize("seconds", [0.0, 0.00001, 0.000011, 0.0024, 0.0025, 0.3, 5.0, 5.1, 60.0])
def test_durations_fall_where_prometheus_would_put_them(seconds: float) -> None:
    """Against the client library's own histogram: same buckets, same count, same sum."""
    registry = CollectorRegistry()
    twin = Histogram("tapeline_step_seconds", "twin", ("service",), registry=registry, buckets=LATENCIES).labels("risk")
    metrics = Metrics("risk")
    for value in (seconds, 0.001, seconds):
        twin.observe(value)
        metrics.step_seconds.observe(value)
    wanted = samples(generate_latest(registry).decode())
    assert {name: value for name, value in page(metrics).items() if "step_seconds" in name} == wanted


# ---- measures ------------------------------------------------------------------------------------------------------


def test_a_counter_counts_what_it_is_asked_about() -> None:
    """It acts on its event, refuses one of them, and is quiet about others."""
    metrics = measuring(BARS)
    for event in (bar(1), bar(2, close="13"), HaltRequested("alice", "drill")):
        metrics.heard(heard(event))
    found = {name: value for name, value in page(metrics).items() if "bars_total" in name}
    assert found == {f'tapeline_bars_total{{instrument="{bar(1).instrument}",service="risk"}}': 1}


def test_a_histogram_observes_the_fact_with_its_stamp_and_the_clock() -> None:
    metrics = measuring(AGES)
    metrics.heard(heard(bar(1), time_ns=NOW_NS - 2_000_000_000))
    found = {name: value for name, value in page(metrics).items() if "age_seconds" in name}
    assert found == {
        'tapeline_age_seconds_bucket{le="1.0",service="risk"}': 0,
        'tapeline_age_seconds_bucket{le="10.0",service="risk"}': 1,
        'tapeline_age_seconds_bucket{le="+Inf",service="risk"}': 1,
        'tapeline_age_seconds_count{service="risk"}': 1,
        'tapeline_age_seconds_sum{service="risk"}': 2,
    }


def test_a_gauge_reads_the_state_once_it_is_restored() -> None:
    """While the past is folded its state is of no meaning; label sets that are left out are zero."""
    metrics = measuring(HELD, known=[{"instrument": "a"}, {"instrument": "b"}, {"strategy": "s"}])
    metrics.bind({"risk": SimpleNamespace(held={"a": 3})})
    zero = {f'tapeline_held{{instrument="{name}",service="risk"}}': 0.0 for name in "ab"}
    assert {name: value for name, value in page(metrics).items() if "held" in name} == zero
    metrics.restored(1.5)
    found = page(metrics)
    assert found['tapeline_held{instrument="a",service="risk"}'] == 3
    assert found['tapeline_held{instrument="b",service="risk"}'] == 0
    assert found['tapeline_restore_seconds{service="risk"}'] == 1.5


@pytest.mark.parametrize("restores", [True, False])
def test_a_watch_hears_the_past_if_it_asks_for_it(restores: bool) -> None:
    """Counters do not: they tell what this process has seen."""
    made: list[Closes] = []

    def make(states: Mapping[str, Any], _clock: Any) -> Closes:
        made.append(Closes(states))
        return made[0]

    watched = Watched(measures=(CLOSES,), hears=(BarClosed,), make=make, restores=restores)
    metrics = measuring(BARS, watches=(watched,))
    metrics.bind({"risk": None})
    metrics.recalled([heard(bar(1), 1), heard(HaltRequested("alice", "drill"), 2)])
    metrics.heard(heard(bar(2, close="102"), 3))
    assert made[0].seen == ([(bar(1).close, 1)] if restores else []) + [("102", 3)]
    found = page(metrics)
    assert found['tapeline_closes{service="risk"}'] == 1 + restores
    assert found[f'tapeline_bars_total{{instrument="{bar(1).instrument}",service="risk"}}'] == 1


def test_counters_of_closed_lists_and_configured_names_start_at_zero() -> None:
    """Every pair that belongs together, crossed with every reason; what nobody named comes when it happens."""
    refused = Measure(
        name="tapeline_refusals_total",
        kind=Kind.COUNTER,
        text="x",
        labels=("strategy", "instrument", "reason"),
        values={"reason": ("STALE", "HALTED")},
    )
    known = [{"strategy": "s", "instrument": "a"}, {"strategy": "t", "instrument": "b"}, {"instrument": "c"}]
    found = [name for name in page(measuring(refused, known=known)) if "refusals" in name]
    assert found == [
        f'tapeline_refusals_total{{instrument="{instrument}",reason="{reason}",service="risk",strategy="{strategy}"}}'
        for strategy, instrument in (("s", "a"), ("t", "b"))
        for reason in ("STALE", "HALTED")
    ]


def test_what_is_told_must_be_declared() -> None:
    """A name nobody declared, or labels that do not fit, fail the scrape rather than appear."""
    metrics = measuring(CLOSES)
    told: list[tuple[str, Labels, Number]] = [("tapeline_closes", (), Distribution((1.0,)))]
    metrics.tell(SimpleNamespace(samples=lambda now_ns: told))
    told[:] = [("tapeline_closes", (), 4.0)]
    assert page(metrics)['tapeline_closes{service="risk"}'] == 4
    told[:] = [("tapeline_opens", (), 4.0)]
    with pytest.raises(ValueError, match="tapeline_opens, which risk does not declare"):
        page(metrics)
    told[:] = [("tapeline_closes", ("a",), 4.0)]
    with pytest.raises(ValueError, match="tapeline_closes has the labels"):
        page(metrics)


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        ({"name": "tapeline_x", "kind": Kind.COUNTER}, "end in _total"),
        ({"name": "tapeline_x_total", "kind": Kind.GAUGE}, "end in _total"),
        ({"name": "tapeline_x", "kind": Kind.HISTOGRAM}, "have edges"),
        ({"name": "tapeline_x", "kind": Kind.HISTOGRAM, "edges": (2.0, 1.0)}, "rising order"),
        ({"name": "tapeline_x", "kind": Kind.GAUGE, "labels": ("service",)}, "has the labels"),
        ({"name": "tapeline_x", "kind": Kind.GAUGE, "values": {"reason": ("A",)}}, "has the labels"),
        ({"name": "tapeline_x", "kind": Kind.GAUGE, "count": {BarClosed: count_bar}}, "counted by counters"),
    ],
)
def test_a_measure_that_cannot_be_is_refused(faulty: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Measure(text="x", **faulty)


def test_a_fact_nobody_measures_costs_one_look_up() -> None:
    """A count of operations, not of time: the tables are asked once, and no clock is read."""

    class Counting(dict[Any, Any]):
        asked = 0

        def get(self, *arguments: Any) -> Any:
            self.asked += 1
            return super().get(*arguments)

        def __getitem__(self, key: Any) -> Any:
            self.asked += 1
            return super().__getitem__(key)

    def no_clock() -> int:
        raise AssertionError("the clock was read")

    metrics = Metrics("risk", Measures((BARS,)), hears=[HaltRequested], clock=no_clock)
    metrics._heard = Counting(metrics._heard)
    for pos in range(1, 101):
        metrics.heard(heard(HaltRequested("alice", "drill"), pos))
    assert metrics._heard.asked == 100
    assert metrics._heard[HaltRequested].count == 100


def test_lag_is_how_long_the_service_has_not_come_to_the_head_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """It grows while stuck, starts anew once the head of then is reached, and is 0 at the head."""
    now, at = [100.0], [5, 5]
    monkeypatch.setattr(metrics_module.time, "monotonic", lambda: now[0])
    metrics = Metrics("risk")
    metrics.follow(lambda: (at[0], at[1]))

    def lag(heard_pos: int, head: int, now_s: float) -> float:
        at[:], now[0] = [heard_pos, head], now_s
        return page(metrics)['tapeline_lag_seconds{service="risk"}']

    assert [lag(5, 5, 100.0), lag(5, 9, 101.0), lag(8, 20, 104.0), lag(9, 20, 105.0), lag(9, 30, 106.5)] == [
        0.0,
        0.0,
        3.0,
        0.0,
        1.5,
    ]
    assert lag(30, 30, 107.0) == 0.0


# ---- scrapes -------------------------------------------------------------------------------------------------------


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text: str = reply.read().decode()
        return text


async def test_numbers_are_taken_in_the_event_loop() -> None:
    """A reader runs where the state changes, and never beside it."""
    threads: list[threading.Thread] = []

    def read(state: object, now_ns: int) -> list[tuple[Labels, float]]:
        threads.append(threading.current_thread())
        return [((), 1.0)]

    metrics = measuring(Measure(name="tapeline_where", kind=Kind.GAUGE, text="x", of="risk", read=read))
    metrics.expose("risk", lambda: None)
    port = free_port()
    metrics.start()
    metrics.serve(port)
    try:
        assert 'tapeline_where{service="risk"} 1.0' in await asyncio.to_thread(scrape, port)
    finally:
        metrics.stop()
    assert threads == [threading.main_thread()]


async def test_a_blocked_event_loop_fails_the_scrape_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with the reason, and all is well once the loop goes on: its delay is then known."""
    monkeypatch.setattr(metrics_module, "SCRAPE_S", 0.05)
    metrics = Metrics("risk")
    port = free_port()
    metrics.start()
    metrics.serve(port)
    failed: list[urllib.error.HTTPError] = []

    def ask() -> None:
        try:
            scrape(port)
        except urllib.error.HTTPError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(30)  # the loop is blocked for as long as the scrape takes
    assert [(error.code, error.read().decode()) for error in failed] == [
        (503, "the event loop of risk has been busy for 0.05 s\n")
    ]
    blocked_until = time.monotonic() + 0.6
    while time.monotonic() < blocked_until:
        pass
    monkeypatch.setattr(metrics_module, "SCRAPE_S", 10.0)
    found = samples(await asyncio.to_thread(scrape, port))
    assert found['tapeline_event_loop_lag_seconds{service="risk"}'] > 0.05
    metrics.stop()


def test_a_loop_that_is_over_fails_the_scrape() -> None:
    async def work() -> Metrics:
        metrics = Metrics("risk")
        metrics.start()
        return metrics

    metrics = asyncio.run(work())
    with pytest.raises(ScrapeFailed, match="risk is ending"):
        page(metrics)


def test_lines_are_counted_by_level(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line that is written, and none that is filtered."""
    levels: list[str] = []
    logger = logs.configure("risk", "warning", levels.append)
    logger.info("quiet")
    logger.warning("w")
    logger.error("e")
    logger.critical("c")
    assert levels == ["warning", "error", "critical"]
