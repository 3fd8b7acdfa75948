"""How the servers and disks around the ledger are: asked every few seconds, for metrics only.

The ledger is the one process that reaches Postgres and NATS's monitoring pages. Whatever does not answer is told as
down, and what it would have said is left out; nothing here stops anything, and nobody decides by it.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from tapeline_common.measures import Labels, Number
from tapeline_ledger.inspection import Inspection, Unreachable

ASK_S = 5.0
"""How often the servers and disks are asked."""

ANSWER_S = 2.0
MOST_PAGE_BYTES = 1_000_000

_POSTGRES = """
SELECT pg_database_size(current_database()) AS size_bytes,
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS connections,
    (
        SELECT coalesce(extract(epoch FROM clock_timestamp() - min(xact_start)), 0) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
    ) AS oldest_transaction_s
"""

Page = TypeVar("Page", bound=msgspec.Struct)


class _Varz(msgspec.Struct):
    connections: int = 0
    slow_consumers: int = 0
    mem: int = 0


class _Jsz(msgspec.Struct):
    storage: int = 0


@dataclass(frozen=True, slots=True)
class Postgres:
    size_bytes: int
    connections: int
    oldest_transaction_s: float
    round_trip_s: float


@dataclass(frozen=True, slots=True)
class NatsServer:
    connections: int
    slow_consumers: int
    memory_bytes: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Disk:
    free_bytes: int
    size_bytes: int


class Surroundings:
    """What was seen last; ``None`` for what did not answer. ``run`` it beside the recorder.

    Args:
        nats_url: of the NATS server's monitoring pages; empty: it is not asked.
        volumes: name → a path on the volume.
    """

    def __init__(self, inspection: Inspection, nats_url: str, volumes: Mapping[str, Path]) -> None:
        self.postgres: Postgres | None = None
        self.nats: NatsServer | None = None
        self.disks: dict[str, Disk] = {}
        self._inspection = inspection
        self._nats_url = nats_url
        self._volumes = volumes

    async def run(self) -> None:
        """Look around until cancelled."""
        while True:
            await asyncio.gather(self._look_at_postgres(), self._look_at_nats(), self._look_at_disks())
            await asyncio.sleep(ASK_S)

    async def _look_at_postgres(self) -> None:
        try:
            started_s = time.perf_counter()
            async with asyncio.timeout(ANSWER_S):  # a frozen server closes no connection
                await self._inspection.fetch("SELECT 1")
            took_s = time.perf_counter() - started_s
            row = (await self._inspection.fetch(_POSTGRES))[0]
        except (Unreachable, TimeoutError):
            self.postgres = None
            return
        oldest_s = float(row["oldest_transaction_s"])
        self.postgres = Postgres(row["size_bytes"], row["connections"], oldest_s, took_s)

    async def _look_at_nats(self) -> None:
        if not self._nats_url:
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                varz = await get(f"{self._nats_url}/varz", _Varz)
                jsz = await get(f"{self._nats_url}/jsz", _Jsz)
        except (OSError, EOFError, TimeoutError, ValueError):
            self.nats = None
            return
        self.nats = NatsServer(varz.connections, varz.slow_consumers, varz.mem, jsz.storage)

    async def _look_at_disks(self) -> None:
        for name, path in self._volumes.items():
            try:
                usage = await asyncio.to_thread(shutil.disk_usage, path)
            except OSError:
                self.disks.pop(name, None)
            else:
                self.disks[name] = Disk(usage.free, usage.total)

    # ---- metrics ---------------------------------------------------------------------------------------------

    def samples(self, now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        postgres, nats = self.postgres, self.nats
        yield "tapeline_postgres_up", (), float(postgres is not None)
        if postgres is not None:
            yield "tapeline_postgres_size_bytes", (), postgres.size_bytes
            yield "tapeline_postgres_connections", (), postgres.connections
            yield "tapeline_postgres_oldest_transaction_seconds", (), postgres.oldest_transaction_s
            yield "tapeline_postgres_round_trip_seconds", (), postgres.round_trip_s
        if self._nats_url:
            yield "tapeline_nats_server_up", (), float(nats is not None)
        if nats is not None:
            yield "tapeline_nats_server_connections", (), nats.connections
            yield "tapeline_nats_server_slow_consumers_total", (), nats.slow_consumers
            yield "tapeline_nats_server_memory_bytes", (), nats.memory_bytes
            yield "tapeline_nats_stored_bytes", (), nats.stored_bytes
        for name, disk in self.disks.items():
            yield "tapeline_disk_free_bytes", (name,), disk.free_bytes
            yield "tapeline_disk_size_bytes", (name,), disk.size_bytes


async def get(url: str, page: type[Page]) -> Page:
    """A JSON page of a server nearby, over plain HTTP.

    Raises ``OSError`` or ``EOFError`` if nobody answers, ``ValueError`` for an answer that is not this page.
    """
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        writer.write(f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode())
        answer = await reader.read(MOST_PAGE_BYTES)
        while chunk := await reader.read(MOST_PAGE_BYTES):
            answer += chunk
            if len(answer) > MOST_PAGE_BYTES:
                raise ValueError(f"{url} answers with more than {MOST_PAGE_BYTES} bytes")
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)
    if len(status) < 2 or status[1] != b"200":
        raise ValueError(f"{url} answers {head[:80]!r}")
    return msgspec.json.decode(body, type=page)
