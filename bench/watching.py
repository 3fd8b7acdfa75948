"""What processes use, read from outside: memory, descriptors, threads, processor time, and what their metrics say.

Resident memory counts pages that several processes share (libraries, Postgres's buffers) once for each of them; their
own memory, where the system tells it, leaves out what is shared by design: Postgres fills its `shared_buffers` as the
tape grows, and no further. Descriptors and threads are counts. Nothing is judged here.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from tapeline_common.embedded import Running

MIB = 2**20
SCRAPE_S = 2.0

SUPERVISOR = "supervisor"
SERVERS = ("nats-server", "postgres")


class Usage(msgspec.Struct, frozen=True):
    """One look at one program, which may be several processes (Postgres). ``cpu_s`` only ever grows.

    Attributes:
        own_mib: proportional share of anonymous memory; NaN where the system does not tell. Programs on disk are
            mapped by everybody who runs them, so a share of those changes with whoever else starts and ends.
        descriptors: of a service all it has open; of a server its sockets, because a database keeps files open as it
            likes, up to a setting of its own, and what our services can leak in it are connections.
    """

    rss_mib: float
    own_mib: float
    descriptors: int
    threads: int
    cpu_s: float


def programs(running: Running) -> dict[str, list[psutil.Process]]:
    """The processes of a running stack by the name of the program; those that end meanwhile are left out."""
    found: dict[str, list[psutil.Process]] = {}
    with suppress(psutil.NoSuchProcess):
        supervisor = psutil.Process(running.pid)
        found[SUPERVISOR] = [supervisor]
        for child in supervisor.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                for server in SERVERS:
                    if child.name() == server:
                        found.setdefault(server, []).append(child)
    for name, pid in running.services.items():
        with suppress(psutil.NoSuchProcess):
            found[name] = [psutil.Process(pid)]
    return found


def usage(processes: Iterable[psutil.Process]) -> Usage | None:
    """All of a program's processes together; ``None`` if none of them lives."""
    seen = [one for one in map(_usage, processes) if one is not None]
    if not seen:
        return None
    return Usage(
        sum(one.rss_mib for one in seen),
        sum(one.own_mib for one in seen),
        sum(one.descriptors for one in seen),
        sum(one.threads for one in seen),
        sum(one.cpu_s for one in seen),
    )


def _usage(process: psutil.Process) -> Usage | None:
    try:
        with process.oneshot():
            times = process.cpu_times()
            return Usage(
                process.memory_info().rss / MIB,
                _own_mib(process.pid),
                _sockets(process.pid) if process.name() in SERVERS else process.num_fds(),
                process.num_threads(),
                times.user + times.system,
            )
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return None


def _own_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return float("nan")
    kib = {name: int(size.split()[0]) for name, size in (line.split(":") for line in lines)}
    return kib["Pss_Anon"] / 1024 if "Pss_Anon" in kib else float("nan")


def _sockets(pid: int) -> int:
    """Open sockets of a process; all its descriptors where the system does not tell them apart."""
    folder = Path(f"/proc/{pid}/fd")
    if not folder.exists():
        return psutil.Process(pid).num_fds()
    count = 0
    for descriptor in folder.iterdir():
        with suppress(OSError):  # closed meanwhile
            count += os.readlink(descriptor).startswith("socket:")
    return count


def scraped(port: int, names: Sequence[str]) -> dict[str, float]:
    """Samples of these metrics from a service's own page; where a metric has several, the largest.

    What a service does not have, or does not answer in time, is left out.
    """
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_S) as page:
            text = page.read().decode()
    except (OSError, ValueError):
        return {}
    return of_page(text, names)


def of_page(text: str, names: Sequence[str]) -> dict[str, float]:
    """The same, of a page in Prometheus' text format."""
    found: dict[str, float] = {}
    wanted = frozenset(names)
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in wanted:
            value = float(line.rpartition(" ")[2])
            found[name] = max(value, found.get(name, value))
    return found


def pids_of(found: Mapping[str, Sequence[psutil.Process]], name: str) -> tuple[int, ...]:
    return tuple(process.pid for process in found.get(name, ()))
