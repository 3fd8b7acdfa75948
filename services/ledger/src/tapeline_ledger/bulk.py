"""Recording a run into a Postgres log in bulk: the same rows as the ledger writes, a few thousand facts a commit.

The run hands its facts over and goes on; a thread of this module's own starts the server (where the place is a folder),
commits, and at the end verifies the whole log against the run's last hash. The log must be empty: a tape is one run.
Nothing is judged and nothing announced here, the run's own sequencer has done that.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
import numpy as np

from tapeline_common.events import RunStarted
from tapeline_common.recording import RecordingFailed, RecordingRefused
from tapeline_common.sequencer import Recorded
from tapeline_common.servers import ServerFailed
from tapeline_common.values import Realm
from tapeline_common.wire import GENESIS, chain, decode_fact
from tapeline_ledger.at_rest import Access, postgres_of
from tapeline_ledger.migrate import MigrationRefused, in_tapeline, migrate
from tapeline_ledger.store import LOCK, CommitRefused, NotDurable, Overtaken, Store
from tapeline_ledger.verify import verify

if TYPE_CHECKING:
    from tapeline_common.recording import Lengths

BATCH_FACTS = 5_000
QUEUED_BATCHES = 4

ABANDON_S = 30.0
"""How long a failed run waits for its last commit; a server that is gone would keep it for ever."""

_EXPECTED = (OSError, ServerFailed, asyncpg.PostgresError, asyncpg.InterfaceError, MigrationRefused, NotDurable)
_LOST = (*_EXPECTED, CommitRefused, Overtaken)


class PostgresRecorder:
    """A recorder whose facts go to Postgres.

    Args:
        place: a folder, which gets a Postgres of its own, or a connection string.
        replace: a folder's tape of an earlier replay is dropped; a live tape never is, nor a tape behind a string.
        report: told what takes long, such as a server that went away.

    Raises ``RecordingRefused`` at once and ``RecordingFailed`` from later calls.
    """

    def __init__(self, place: Path | str, *, replace: bool = False, report: Callable[[str], None]) -> None:
        self.place = place
        self._replace = replace
        self._report = report
        self._batch: list[Recorded] = []
        self._pos = 0
        self._hash = GENESIS
        self._failure: BaseException | None = None
        self._queue: queue.Queue[list[Recorded] | None] = queue.Queue(QUEUED_BATCHES)
        self._opened: Future[None] = Future()
        self._ended_well = False
        self._over = False
        self._thread = threading.Thread(target=self._work, name="tape to Postgres", daemon=True)
        self._thread.start()
        try:
            self._opened.result()
        except _EXPECTED as trouble:
            raise RecordingRefused(f"{self.name} cannot be recorded to: {trouble}") from trouble

    @property
    def name(self) -> str:
        """The place for people: a connection string goes without its password."""
        if isinstance(self.place, Path):
            return str(self.place)
        parts = urlsplit(self.place)
        return f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"

    def take(self, recorded: Recorded) -> None:
        """See ``recording.Recorder``."""
        self._batch.append(recorded)
        if len(self._batch) >= BATCH_FACTS:
            self._cut()

    def take_block(self, payloads: bytes, lengths: Lengths, head_hash: bytes | None = None) -> None:
        """See ``recording.Recorder``. Every fact gets a row with its hash, so the block is chained in any case."""
        bounds: list[int] = [0, *np.cumsum(np.asarray(lengths, dtype=np.int64)).tolist()]
        head = self._batch[-1].hash if self._batch else self._hash
        for start, stop in pairwise(bounds):
            payload = payloads[start:stop]
            head = chain(head, payload)
            self.take(Recorded(decode_fact(payload), payload, head))
        assert head_hash is None or head == head_hash, "the block's hash is not that of its facts"

    def close(self) -> None:
        """Commit what is left and verify the whole log."""
        if self._batch:
            self._cut()
        self._ended_well = True
        self._queue.put(None)
        self._thread.join()
        self._raise_failure()

    def abandon(self) -> None:
        """Commit what is left without verifying it. Raises nothing, and gives a server that is gone up."""
        with suppress(queue.Full):
            if self._batch:
                self._queue.put(self._batch, timeout=ABANDON_S)
            self._queue.put(None, timeout=ABANDON_S)
        self._thread.join(ABANDON_S)

    def _cut(self) -> None:
        self._raise_failure()
        self._queue.put(self._batch)
        self._pos, self._hash = self._batch[-1].fact.pos, self._batch[-1].hash
        self._batch = []

    def _raise_failure(self) -> None:
        if isinstance(self._failure, _LOST):
            raise RecordingFailed(
                f"recording to {self.name} stopped: {self._failure}; the log is whole as far as it goes"
            ) from self._failure
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        """The thread: whatever ends it early, it goes on taking, so that the run is never stuck."""
        try:
            asyncio.run(self._record())
        except BaseException as trouble:
            self._failure = trouble
            if not self._opened.done():
                self._opened.set_exception(trouble)
                return
            while not self._over and self._queue.get() is not None:
                pass

    async def _record(self) -> None:
        async with self._database() as access:
            store = await Store.open(access.ledger, self._report)
            self._opened.set_result(None)
            try:
                # Nothing else runs in this loop, so it may wait for the run here.
                while (batch := self._queue.get()) is not None:
                    await store.append(batch)
                self._over = True
            finally:
                await store.close()
            if self._ended_well:
                await self._check(access)

    async def _check(self, access: Access) -> None:
        result = await verify(access.ledger)
        if result.fault is not None or (result.facts, result.head_hash) != (self._pos, self._hash):
            raise RecordingFailed(
                f"{self.name} holds {result.facts} facts with hash {result.head_hash.hex()}, the run had {self._pos} "
                f"with {self._hash.hex()}: {result.fault}"
            )

    @asynccontextmanager
    async def _database(self) -> AsyncIterator[Access]:
        if isinstance(self.place, Path):
            async with postgres_of(self.place, create=True) as access:
                if self._replace:
                    await _drop_replay(access)
                await _refuse_used(access.owner, self.name, "--force replaces the tape of an earlier backtest")
                yield access
            return
        await migrate_if_empty(self.place)
        await _refuse_used(self.place, self.name, "a log cannot be emptied, so name a fresh database")
        yield Access(self.place, self.place)


async def migrate_if_empty(dsn: str) -> None:
    """Make the tables in a database that has none; needs a superuser then, because roles are made."""
    connection = await asyncpg.connect(dsn, timeout=5.0)
    try:
        migrated = await connection.fetchval("SELECT to_regclass('public.tape') IS NOT NULL")
    finally:
        await connection.close()
    if not migrated:
        await migrate(dsn)


async def _refuse_used(dsn: str, name: str, fix: str) -> None:
    connection = await asyncpg.connect(dsn, timeout=5.0)
    try:
        head = await connection.fetchval("SELECT coalesce(max(pos), 0) FROM tape")
        if head:
            raise RecordingRefused(f"{name} holds a tape of {head} facts already: {fix}")
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            raise RecordingRefused(f"a ledger runs on {name}: name a fresh database, or stop it")
    finally:
        await connection.close()


async def _drop_replay(access: Access) -> None:
    """Start anew where an earlier replay was recorded. A live tape is somebody's money and stays."""
    connection = await asyncpg.connect(access.owner)
    try:
        payload = await connection.fetchval("SELECT payload FROM tape ORDER BY pos LIMIT 1")
    finally:
        await connection.close()
    if payload is None:
        return
    event = decode_fact(payload).event
    if not isinstance(event, RunStarted) or event.realm is not Realm.REPLAY:
        raise RecordingRefused("the folder holds a live tape, which is never replaced: name another folder")
    server = access.owner.rpartition("/")[0] + "/postgres"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute("DROP DATABASE tapeline WITH (FORCE)")
        await connection.execute("CREATE DATABASE tapeline")
    finally:
        await connection.close()
    await migrate(in_tapeline(server))
