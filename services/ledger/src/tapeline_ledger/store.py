"""The log in Postgres: one writer, group commits, reads. The only door to asyncpg, beside migrate, verify and rebuild.

A ``Store`` that is open for writing holds a session lock of the database, so there is one ledger; a second one waits.
Losing the connection during a commit leaves its outcome unknown: the store reconnects, takes the lock again (so the old
session is over and its transaction decided), looks at the head, and repeats the commit only if it is not there.
The rules of the tape are in ``sequencer``; this module neither judges nor announces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from tapeline_common.remembered import Remembered
from tapeline_common.sequencer import Recorded, Sequencer
from tapeline_common.tape import Page, ReadRequest
from tapeline_common.values import Realm
from tapeline_common.wire import GENESIS, Fact, decode_fact
from tapeline_ledger import commits
from tapeline_ledger.tables import Tables

LOCK = 0x7461_7065_6C69_6E65
"""Session-level advisory lock ("tapeline") of the one ledger that may write."""

PARTITION_AHEAD = 2_000_000
"""Positions for which a partition must exist before they are needed; half a minute of the fastest appending."""

MOST_FACTS_PER_PAGE = 20_000

KEPT_FACTS = 2_000
"""The latest facts are kept at hand with their bytes, for the mirror and for followers who missed a few."""

POLL_S = 0.2
"""How often a waiting ledger asks for the lock, and a disconnected one for the server."""

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 60.0

MOST_FACTS_PER_STATEMENT = 100
"""Larger groups go by COPY: more round trips, but less work for each row."""

_COLUMNS = tuple(name for name, _ in commits.TAPE)

_LOST = (
    OSError,
    EOFError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
)
"""Errors after which the connection is not to be trusted any more: closed, timed out, or the server is going down."""

_REFUSED = (ValueError, OverflowError)
"""Errors for which the rows are to blame, raised before they reach the server; some are connection errors by class."""

_DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


class NotDurable(Exception):
    """The server would acknowledge commits that a power failure can undo; the message names the setting."""


class CommitRefused(Exception):
    """Postgres rolled the group back: nothing of it is recorded."""


class Overtaken(Exception):
    """Another ledger has written to this tape while this one was disconnected: this process must start anew."""


FACTS_PER_TEXT = 64
_STRETCH = f"""
SELECT texts.facts, texts.lines, (SELECT hash FROM tape WHERE pos = $2) AS hash
FROM generate_series($1::bigint, $2::bigint - 1, {FACTS_PER_TEXT}) AS start,
LATERAL (
    SELECT count(*) AS facts, string_agg(payload, '\\x0a') AS lines
    FROM (
        SELECT payload FROM tape WHERE pos > start AND pos <= least(start + {FACTS_PER_TEXT}, $2) ORDER BY pos
    ) AS found
) AS texts
"""
"""Neighbouring facts put together by Postgres: a row for each fact would cost us several times as much. Texts of some
facts and not one of all, because fresh memory for megabytes costs more than what is done with it."""


_HEAD = "SELECT pos, hash FROM tape ORDER BY pos DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring facts, one a line, and the hash of the chain after the last of them (empty beyond the head)."""

    lines: bytes
    facts: int
    through: int
    head: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Position and hash of the last fact; 0 and ``GENESIS`` on an empty tape."""

    pos: int
    hash: bytes


Report = Callable[[str], None]
"""Told what the store is doing when that takes long: waiting for the lock, for the server."""


class Store:
    """The tape's log. Made by ``open``; ``head`` is the last fact known to be durable."""

    def __init__(self, dsn: str, report: Report) -> None:
        self._dsn = dsn
        self._report = report
        self._writer: Any = None
        self._reader: Any = None
        self._read_lock = asyncio.Lock()
        self._tables = Tables()
        self._prepared: dict[str, Any] = {}
        """Statements of the writer's session by their text: asyncpg's own way to them costs more than a small group."""
        self._partitioned_to = 0
        self._latest: list[Recorded] = []
        self._payload_bytes = 1
        """Mean size of the facts of the last page: what does not fit the next one need not be fetched."""
        self._commit_scope: asyncio.Timeout | None = None
        self.head = Head(0, GENESIS)

    @classmethod
    async def open(cls, dsn: str, report: Report = lambda _: None) -> Store:
        """Connect as the runtime role, wait until this is the only ledger, and find the head.

        Raises ``NotDurable`` if the server's settings would lose acknowledged facts.
        """
        store = cls(dsn, report)
        try:
            store.head = await store._take_over()
        except BaseException:
            await store.close()
            raise
        return store

    @classmethod
    async def look(cls, dsn: str, report: Report = lambda _: None) -> Store:
        """For reading what is recorded by now, beside a running ledger: takes no lock, and ``append`` is not for it.

        Any role that may read the tape can do this.
        """
        store = cls(dsn, report)
        store._reader = await _connect(dsn)
        store.head = _head_of(await store._reader.fetchrow(_HEAD))
        return store

    async def close(self) -> None:
        """Let go of the lock. Never waits long: a connection that does not close is dropped."""
        for connection in (self._writer, self._reader):
            if connection is not None:
                await _close(connection)
        self._writer = self._reader = None

    async def load(self, realm: Realm) -> Sequencer:
        """A sequencer at the head of the log."""
        rows = await self._fetch("SELECT stream, max(version) AS version FROM tape GROUP BY stream ORDER BY max(pos)")
        authors = await self._fetch("SELECT author, max(cause) AS cause FROM tape WHERE cause > 0 GROUP BY author")
        clock = await self._fetch("SELECT coalesce(max(time_ns), 0) AS time_ns FROM tape")
        return Sequencer(
            realm,
            pos=self.head.pos,
            hash=self.head.hash,
            clock_ns=clock[0]["time_ns"],
            streams=Remembered((row["stream"], row["version"]) for row in rows),
            answered={row["author"]: row["cause"] for row in authors},
        )

    async def append(self, records: Sequence[Recorded]) -> None:
        """Commit facts that follow the head, with everything projected from them, in one transaction.

        Returns when they are durable, however often the server went away meanwhile. Raises ``CommitRefused`` if
        Postgres would not take them, ``Overtaken`` if somebody else wrote.
        """
        assert records[0].fact.pos == self.head.pos + 1, f"{records[0].fact.pos} does not follow {self.head.pos}"
        wanted = Head(records[-1].fact.pos, records[-1].hash)
        while True:
            try:
                await self._commit_in_time(records)
                break
            except _REFUSED as error:
                raise await self._refuse(error) from error
            except _LOST as lost:
                self._report(f"lost Postgres during a commit ({type(lost).__name__}: {lost}); reconnecting")
                self._tables.forget()
                head = await self._take_over()
                if head == wanted:
                    break
                if head != self.head:
                    raise Overtaken(f"the head is {head.pos}, neither {self.head.pos} nor {wanted.pos}") from lost
            except asyncpg.PostgresError as error:
                raise await self._refuse(error) from error
        self.head = wanted
        self._latest += records
        del self._latest[:-KEPT_FACTS]

    async def read(self, request: ReadRequest, most_bytes: int = 0) -> Page:
        """Facts asked for, in position order; ``most_bytes`` (0: any) cuts the page, but never below one fact."""
        if request.chained:
            stretch = await self.stretch(request, most_bytes)
            facts = tuple(stretch.lines.split(b"\n")) if stretch.facts else ()
            return Page(facts, stretch.through, stretch.head, stretch.hash)
        head = self.head.pos
        until = min(request.until or head, head)
        conditions = ["pos > $1", "pos <= $2"]
        arguments: list[Any] = [request.after, until]
        if request.types:
            arguments.append(list(request.types))
            conditions.append(f"type = ANY(${len(arguments)})")
        if request.author:
            arguments.append(request.author)
            conditions.append(f"author = ${len(arguments)}")
        if request.stream:
            arguments.append(request.stream)
            conditions.append(f"stream = ${len(arguments)}")
        limit = min(request.limit, MOST_FACTS_PER_PAGE)
        if most_bytes:
            limit = min(limit, most_bytes // self._payload_bytes + 1)
        rows = await self._fetch(
            f"SELECT pos, payload FROM tape WHERE {' AND '.join(conditions)} ORDER BY pos LIMIT {limit:d}",
            *arguments,
        )
        if rows:
            self._payload_bytes = max(1, sum(len(row["payload"]) for row in rows) // len(rows))
        kept = _cut(rows, most_bytes)
        full = kept < len(rows) or len(rows) == limit
        through = rows[kept - 1]["pos"] if full else until
        return Page(tuple([row["payload"] for row in rows[:kept]]), max(through, request.after), head)

    async def stretch(self, request: ReadRequest, most_bytes: int = 0) -> Stretch:
        """What ``read`` gives to a chained request, without an object for each fact."""
        head = self.head.pos
        until = min(request.until or head, head)
        limit = min(request.limit, MOST_FACTS_PER_PAGE)
        if most_bytes:
            limit = min(limit, most_bytes // self._payload_bytes + 1)
        while True:
            through = max(request.after, min(request.after + limit, until))
            rows = await self._fetch(_STRETCH, request.after, through) if through > request.after else []
            facts = sum(row["facts"] for row in rows)
            lines = b"\n".join([row["lines"] for row in rows if row["facts"]])
            if facts:
                self._payload_bytes = len(lines) // facts + 1
            if not most_bytes or len(lines) <= most_bytes or limit == 1:
                break
            limit = max(1, limit // 2)
        if rows:
            return Stretch(lines, facts, through, head, rows[0]["hash"] or b"")
        return Stretch(b"", 0, through, head, await self._hash_at(through))

    async def _hash_at(self, pos: int) -> bytes:
        """Hash of the chain after a position; empty where there is none."""
        if pos == 0:
            return GENESIS
        rows = await self._fetch("SELECT hash FROM tape WHERE pos = $1", pos)
        return bytes(rows[0]["hash"]) if rows else b""

    async def by_ids(self, ids: Sequence[str]) -> dict[str, Fact]:
        """Which of these ids are on the tape, and their facts."""
        if not ids:
            return {}
        # One text instead of an array: asyncpg asks of each element of an array whether it is an array itself.
        joined = "\n".join(ids)
        assert joined.count("\n") == len(ids) - 1, "ids are printable, so none has a line break"
        rows = await self._fetch("SELECT id, payload FROM tape WHERE id = ANY(string_to_array($1, E'\\n'))", joined)
        return {row["id"]: decode_fact(row["payload"]) for row in rows}

    async def facts_at(self, positions: Sequence[int]) -> dict[int, Fact]:
        if not positions:
            return {}
        rows = await self._fetch("SELECT pos, payload FROM tape WHERE pos = ANY($1)", list(positions))
        return {row["pos"]: decode_fact(row["payload"]) for row in rows}

    async def fact_at(self, pos: int) -> Fact | None:
        return (await self.facts_at([pos])).get(pos)

    async def payloads_after(self, pos: int, limit: int) -> list[bytes]:
        """Stored bytes of the facts that follow a position, at most ``limit``."""
        kept = self.kept_after(pos, limit)
        if kept is not None:
            return [recorded.payload for recorded in kept]
        page = await self.read(ReadRequest(after=pos, limit=limit))
        return list(page.facts)

    def kept_after(self, pos: int, limit: int) -> list[Recorded] | None:
        """The facts that follow a position, at most ``limit``; ``None`` if they are only in the log."""
        first = self.head.pos - len(self._latest)
        if pos < first:
            return None
        return self._latest[pos - first : pos - first + limit]

    async def _commit_in_time(self, records: Sequence[Recorded]) -> None:
        """Commit, or raise ``TimeoutError`` as soon as the connection has ended: asyncpg can wait on for ever."""
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT_S) as self._commit_scope:
                await self._commit(records)
        finally:
            self._commit_scope = None

    async def _commit(self, records: Sequence[Recorded]) -> None:
        writer = self._writer
        if writer is None or writer.is_closed():
            raise asyncpg.InterfaceError("not connected")
        last = records[-1].fact.pos
        if last + PARTITION_AHEAD > self._partitioned_to:
            await self._make_partitions(last)
        rows = _rows(self.head.hash, records)
        facts = [recorded.fact for recorded in records]
        if len(records) <= MOST_FACTS_PER_STATEMENT:
            statement, arguments = commits.group(rows, await self._tables.changes(writer, facts))
            prepared = self._prepared.get(statement)
            if prepared is None:
                prepared = self._prepared[statement] = await writer.prepare(statement)
            await prepared.fetch(*arguments)
            return
        await writer.execute("BEGIN")
        await writer.copy_records_to_table("tape", records=rows, columns=_COLUMNS)
        await self._tables.write(writer, facts)
        # One round trip; the simple protocol takes no parameters, and a position is a number.
        await writer.execute(f"UPDATE projection_offset SET pos = {last:d}; COMMIT")

    async def _make_partitions(self, last: int) -> None:
        for wanted in (last, last + 2 * PARTITION_AHEAD):
            await self._writer.execute("SELECT tape_ensure_partition($1)", wanted)
        self._partitioned_to = last + 2 * PARTITION_AHEAD

    async def _refuse(self, error: Exception) -> CommitRefused:
        self._tables.forget()
        await self._roll_back()
        return CommitRefused(f"{type(error).__name__}: {error}")

    async def _roll_back(self) -> None:
        try:
            await self._writer.execute("ROLLBACK")
        except (*_LOST, asyncpg.PostgresError):
            await _close(self._writer)  # the next commit finds it closed and reconnects

    async def _fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Run a query on the reading connection, as often as it takes."""
        async with self._read_lock:
            while True:
                try:
                    if self._reader is None or self._reader.is_closed():
                        self._reader = await _connect(self._dsn)
                    return list(await self._reader.fetch(query, *arguments))
                except _REFUSED:
                    raise
                except _LOST as lost:
                    self._report(f"lost Postgres during a read ({type(lost).__name__}: {lost}); reconnecting")
                    if self._reader is not None:
                        await _close(self._reader)
                    await asyncio.sleep(POLL_S)

    def _writer_ended(self, connection: Any) -> None:
        if self._commit_scope is not None and connection is self._writer:
            self._commit_scope.reschedule(0.0)

    async def _take_over(self) -> Head:
        """Connect the writer, wait for the lock, and look at the head."""
        if self._writer is not None:
            await _close(self._writer)
        waiting = ""
        while True:
            try:
                if self._writer is None or self._writer.is_closed():
                    self._writer = await _connect(self._dsn)
                    self._prepared.clear()
                    self._writer.add_termination_listener(self._writer_ended)
                    await _check_durable(self._writer)
                if await self._writer.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                    return await self._read_head()
                reason = "another ledger holds the tape; waiting for it to end"
            except _LOST as lost:
                reason = f"Postgres does not answer ({type(lost).__name__}: {lost}); waiting for it"
            if reason != waiting:
                self._report(reason)
                waiting = reason
            await asyncio.sleep(POLL_S)

    async def _read_head(self) -> Head:
        return _head_of(await self._writer.fetchrow(_HEAD))


def _head_of(row: Any) -> Head:
    return Head(0, GENESIS) if row is None else Head(row["pos"], row["hash"])


def _rows(previous: bytes, records: Sequence[Recorded]) -> list[tuple[Any, ...]]:
    rows = []
    for recorded in records:
        fact = recorded.fact
        rows.append(
            (
                fact.pos,
                fact.stream,
                fact.version,
                fact.id,
                fact.author,
                type(fact.event).__name__,
                fact.schema,
                fact.time_ns,
                fact.cause,
                fact.correlation,
                recorded.payload,
                previous,
                recorded.hash,
            )
        )
        previous = recorded.hash
    return rows


def _cut(rows: Sequence[Any], most_bytes: int) -> int:
    """How many rows fit into ``most_bytes``; at least one, if there is one."""
    if not most_bytes:
        return len(rows)
    size = 0
    for index, row in enumerate(rows):
        size += len(row["payload"]) + 1
        if size > most_bytes and index:
            return index
    return len(rows)


async def _connect(dsn: str) -> Any:
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        server_settings={
            "application_name": "tapeline-ledger",
            "default_transaction_isolation": "read committed",
            "synchronous_commit": "on",
            # Pages are read in position order: a planner without fresh statistics would sort the whole tape for each.
            "enable_sort": "off",
            "jit": "off",
            # A ledger whose host vanished must not hold the lock for hours.
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        },
    )


async def _check_durable(connection: Any) -> None:
    for setting in _DURABLE:
        value = await connection.fetchval("SELECT current_setting($1)", setting)
        if value != "on":
            raise NotDurable(f"Postgres runs with {setting} = {value}: set it to on, or acknowledged facts can be lost")
    isolation = await connection.fetchval("SELECT current_setting('transaction_isolation')")
    if isolation != "read committed":
        raise NotDurable(f"Postgres runs transactions as {isolation}, read committed is needed")


async def _close(connection: Any) -> None:
    """Close within a second, or drop: asyncpg's ``close`` can wait for ever on a dead peer."""
    try:
        await asyncio.wait_for(connection.close(), timeout=1.0)
    except (*_LOST, asyncpg.PostgresError):
        connection.terminate()
