"""What every process exposes, whatever its service: where it is on the tape, how it keeps up, how it is.

Declarations only; ``metrics`` has the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tapeline_common.measures import LATENCIES, Kind, Measure, Reading
from tapeline_common.nats_trouble import NatsTrouble

BUS = "bus"
"""The process's connection to NATS, as a part that is exposed."""

LOG_LEVELS = ("warning", "error", "critical")


def _of_bus(attribute: str) -> Callable[[Any, int], Reading]:
    def read(bus: Any, _now_ns: int) -> Reading:
        value = getattr(bus, attribute)
        return [] if value is None else [((), float(value))]

    return read


POSITION: tuple[Measure, ...] = (
    Measure(
        name="tapeline_build_info",
        kind=Kind.GAUGE,
        text="1, with what runs: release, digest of the code, version of Python",
        labels=("version", "code_version", "python"),
    ),
    Measure(
        name="tapeline_facts_total",
        kind=Kind.COUNTER,
        text="Facts heard from the tape, own ones included (the ledger: all it recorded), and facts said and recorded; "
        "not counted in a replay",
        labels=("direction", "author", "event"),
        unit="facts",
    ),
    Measure(
        name="tapeline_position",
        kind=Kind.GAUGE,
        text="Position of the last fact heard or passed over; the ledger's is the head",
        unit="position",
    ),
    Measure(
        name="tapeline_lag_facts",
        kind=Kind.GAUGE,
        text="Facts between the last one heard and the head, as far as known",
    ),
    Measure(
        name="tapeline_lag_seconds",
        kind=Kind.GAUGE,
        text="For how long the service has not come to where the head was; 0 at the head",
    ),
    Measure(name="tapeline_stopped", kind=Kind.GAUGE, text="1 once the service stopped on an error, else 0"),
    Measure(name="tapeline_restore_seconds", kind=Kind.GAUGE, text="How long the last restore took; 0 before its end"),
    Measure(
        name="tapeline_step_seconds", kind=Kind.HISTOGRAM, text="Time to learn and decide one fact", edges=LATENCIES
    ),
    Measure(
        name="tapeline_append_seconds",
        kind=Kind.HISTOGRAM,
        text="Time from saying an answer to its receipt",
        edges=LATENCIES,
    ),
    Measure(
        name="tapeline_append_retries_total",
        kind=Kind.COUNTER,
        text="Appends whose outcome was unknown and that were asked again",
        unit="appends",
    ),
    Measure(
        name="tapeline_gap_reads_total",
        kind=Kind.COUNTER,
        text="Times that announcements were missed and read from the ledger instead",
        unit="reads",
    ),
)

PROCESS: tuple[Measure, ...] = (
    Measure(
        name="tapeline_event_loop_lag_seconds",
        kind=Kind.GAUGE,
        text="Longest delay of a timer in the last 15 seconds",
    ),
    Measure(
        name="tapeline_nats_connected",
        kind=Kind.GAUGE,
        text="1 while connected to NATS",
        of=BUS,
        read=_of_bus("is_connected"),
        is_zero_without=True,
    ),
    Measure(
        name="tapeline_nats_reconnects_total",
        kind=Kind.COUNTER,
        text="Times that the connection to NATS was lost",
        unit="times",
        of=BUS,
        read=_of_bus("reconnects"),
    ),
    Measure(
        name="tapeline_nats_errors_total",
        kind=Kind.COUNTER,
        text="Errors that the NATS client reported",
        labels=("kind",),
        values={"kind": tuple(NatsTrouble)},
        unit="errors",
    ),
    Measure(
        name="tapeline_nats_round_trip_seconds",
        kind=Kind.GAUGE,
        text="Time from the last PING to its PONG; one is sent every 5 seconds",
        of=BUS,
        read=_of_bus("round_trip_s"),
        appears="after the first PING; not in a replay",
    ),
    Measure(
        name="tapeline_log_messages_total",
        kind=Kind.COUNTER,
        text="Lines logged at these levels",
        labels=("level",),
        values={"level": LOG_LEVELS},
        unit="lines",
    ),
    Measure(name="process_cpu_seconds_total", kind=Kind.COUNTER, text="User and system CPU time of the process"),
    Measure(name="process_resident_memory_bytes", kind=Kind.GAUGE, text="Resident memory of the process"),
    Measure(name="process_open_fds", kind=Kind.GAUGE, text="Open file descriptors", unit="descriptors"),
    Measure(name="process_max_fds", kind=Kind.GAUGE, text="Most file descriptors that may be open", unit="descriptors"),
    Measure(name="process_start_time_seconds", kind=Kind.GAUGE, text="When the process started", unit="Unix seconds"),
)

COMMON = (*POSITION, *PROCESS)
"""What every process exposes."""
