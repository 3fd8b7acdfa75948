"""Verification: walks the log and names the first position that is not what it must be.

Checked for every fact: positions without a gap; the chain (each row's previous hash and its own); the payload decodes;
every column equals what the payload says; stream versions count up without a gap; and, at the end, that nothing is
missing after the last row, which the projections' offset knows. Read only; any role that may read the tape can run it.

What is right is found out page by page, from columns that Postgres puts together; a page with something wrong in it is
walked row by row, which tells what. The walk alone is the naive twin.

A chain shows that rows were changed by somebody who did not recompute everything after them. Against an owner of the
database who recomputes all of it, only a head hash kept elsewhere helps.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import asyncpg
import msgspec

from tapeline_common.remembered import Remembered
from tapeline_common.verification import FirstFault, VerifyFault, VerifyResult
from tapeline_common.wire import GENESIS, Fact, decode_fact, decode_facts

PAGE = 2_000
FACTS_PER_TEXT = 100

_TURNS_TO_SEND = 3
"""Turns of the event loop after which a query is surely on its way; then Postgres works while we do."""

_TEXTS = ("id", "author", "stream", "type")
_NUMBERS = ("pos", "time_ns", "version", "cause", "correlation", "schema")
_ADDED_UP = ", ".join(
    [f"string_agg({name}, chr(10)) AS {name}" for name in _TEXTS]
    + [f"array_agg({name}) AS {name}" for name in _NUMBERS]
)


def page_query(most_facts: int) -> str:
    """The columns of the facts after ``$1`` up to ``$2``, at most so many, some facts in each row.

    Put together by Postgres: values, texts by line, hashes end to end.
    """
    return f"""
SELECT columns.* FROM generate_series($1::bigint, $1::bigint + {most_facts - 1}, {FACTS_PER_TEXT}) AS start,
LATERAL (
    SELECT count(*) AS facts, string_agg(payload, '\\x0a') AS lines,
        string_agg(prev_hash, '') AS prev_hash, string_agg(hash, '') AS hash,
        bool_and(octet_length(prev_hash) = 32 AND octet_length(hash) = 32) AS are_hashes,
        {_ADDED_UP}
    FROM (
        SELECT * FROM tape WHERE pos > start AND pos <= least(start + {FACTS_PER_TEXT}, $2) ORDER BY pos
    ) AS found
) AS columns
"""


_COLUMNS = "pos, time_ns, id, author, stream, version, cause, correlation, schema, type, prev_hash, hash, payload"


def rows_query() -> str:
    """The rows of the facts after ``$1`` up to ``$2``, as ``Walk.check`` takes them."""
    return f"SELECT {_COLUMNS} FROM tape WHERE pos > $1 AND pos <= $2 ORDER BY pos"


async def verify(dsn: str, *, after: int = 0, naive: bool = False) -> VerifyResult:
    """Check every fact with ``pos > after``; the row at ``after`` is taken as right. Safe beside a running ledger.

    Args:
        naive: walk row by row from the beginning: the slower twin.
    """
    connection = await asyncpg.connect(dsn)
    try:
        # One snapshot, so that facts recorded meanwhile are not taken for faults of the offsets.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _verify(connection, after, naive)
    finally:
        await connection.close()


async def _verify(connection: Any, after: int, naive: bool) -> VerifyResult:
    walk = Walk(after)
    if after:
        previous = await connection.fetchval("SELECT hash FROM tape WHERE pos = $1", after)
        if previous is None:
            missing = FirstFault(after, VerifyFault.POSITION_MISSING, f"no fact at {after} to start from")
            return VerifyResult(0, GENESIS, missing)
        walk.hash = previous
        rows = await connection.fetch(
            "SELECT stream, max(version) AS version FROM tape WHERE pos <= $1 GROUP BY stream ORDER BY max(pos)", after
        )
        walk.versions = Remembered((row["stream"], row["version"]) for row in rows)
    fault = await walk_on(connection, walk) if naive else await _verify_pages(connection, walk)
    if fault is not None:
        return VerifyResult(walk.pos - after, walk.hash, fault)
    promised = await connection.fetchval("SELECT coalesce(max(pos), 0) FROM projection_offset")
    if promised > walk.pos:
        detail = f"the tape ends at {walk.pos}, and {promised} facts were recorded"
        fault = FirstFault(walk.pos + 1, VerifyFault.POSITION_MISSING, detail)
    return VerifyResult(walk.pos - after, walk.hash, fault)


async def _verify_pages(connection: Any, walk: Walk) -> FirstFault | None:
    """Page by page to the end; the next page is put together by Postgres while this one is looked at."""
    head = await connection.fetchval("SELECT coalesce(max(pos), 0) FROM tape")
    query = await connection.prepare(page_query(PAGE))
    coming = asyncio.ensure_future(query.fetch(walk.pos, head))
    while True:
        columns = await coming
        after = walk.pos + PAGE
        if after < head:
            coming = asyncio.ensure_future(query.fetch(after, head))
            for _ in range(_TURNS_TO_SEND):
                await asyncio.sleep(0)
        if not walk.pass_over([row for row in columns if row["facts"]], min(after, head)):
            await asyncio.gather(coming, return_exceptions=True)
            return await walk_on(connection, walk)
        if walk.pos >= head:
            return None


async def walk_on(connection: Any, walk: Walk) -> FirstFault | None:
    """Row by row, to the first wrong one or the end."""
    query = await connection.prepare(f"SELECT {_COLUMNS} FROM tape WHERE pos > $1 ORDER BY pos LIMIT {PAGE}")
    while True:
        rows = await query.fetch(walk.pos)
        fault = walk.check(rows)
        if fault is not None or len(rows) < PAGE:
            return fault


class Walk:
    """How far the tape is known to be right."""

    def __init__(self, after: int) -> None:
        self.pos = after
        self.hash = GENESIS
        self.versions = Remembered()

    def pass_over(self, columns: Sequence[Any], until: int) -> bool:
        """Take all facts up to ``until`` in if they are right; else take none in, and say so."""
        payloads = [payload for row in columns for payload in row["lines"].split(b"\n")]
        if len(payloads) != until - self.pos or len(payloads) != sum(row["facts"] for row in columns):
            return False
        sha256, running = hashlib.sha256, self.hash
        digests = [running := sha256(running + payload).digest() for payload in payloads]
        stored = b"".join([row["hash"] for row in columns])
        if stored != b"".join(digests) or not all(row["are_hashes"] for row in columns):
            return False
        if b"".join([row["prev_hash"] for row in columns]) != (self.hash + stored)[: len(stored)]:
            return False
        try:
            facts = decode_facts(payloads)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if [fact.pos for fact in facts] != list(range(self.pos + 1, until + 1)) or not _say_the_same(facts, columns):
            return False
        known, latest = self.versions, dict[str, int]()
        for fact in facts:
            stream, version = fact.stream, fact.version
            if version != (latest.get(stream) or known.get(stream)) + 1:
                return False
            latest[stream] = version
        for stream, version in latest.items():
            known[stream] = version
        self.pos, self.hash = until, running
        return True

    def check(self, rows: Sequence[Any]) -> FirstFault | None:
        """Take the next rows in; stops before the first wrong one."""
        versions = self.versions
        pos, running = self.pos, self.hash
        fault = None
        for row in rows:
            *columns, previous, stored, payload = row
            pos += 1
            digest = hashlib.sha256(running + payload).digest()
            if columns[0] == pos and previous == running and stored == digest:
                fact = _decoded(payload)
                if isinstance(fact, Fact):
                    version = versions.get(fact.stream) + 1
                    if columns == _columns(fact) and fact.version == version:
                        versions[fact.stream] = version
                        running = digest
                        continue
            fault = self._fault(pos, running, columns, previous, stored, payload)
            pos -= 1
            break
        self.pos, self.hash = pos, running
        return fault

    def _fault(
        self, pos: int, running: bytes, columns: list[Any], previous: bytes, stored: bytes, payload: bytes
    ) -> FirstFault:
        """Find out what is wrong with the row that came for ``pos``; called for a wrong one only."""
        if columns[0] != pos:
            return FirstFault(pos, VerifyFault.POSITION_MISSING, f"after {pos - 1} comes {columns[0]}")
        if previous != running:
            detail = f"says the hash before it is {previous.hex()}, but it is {running.hex()}"
            return FirstFault(pos, VerifyFault.PREVIOUS_HASH_WRONG, detail)
        digest = hashlib.sha256(running + payload).digest()
        if stored != digest:
            detail = f"says its hash is {stored.hex()}, but its bytes give {digest.hex()}"
            return FirstFault(pos, VerifyFault.HASH_WRONG, detail)
        fact = _decoded(payload)
        if not isinstance(fact, Fact):
            return FirstFault(pos, VerifyFault.PAYLOAD_UNREADABLE, fact)
        for name, column, said in zip(_COLUMNS.split(", "), columns, _columns(fact), strict=False):
            if column != said:
                detail = f"column {name} holds {column!r}, the payload says {said!r}"
                return FirstFault(pos, VerifyFault.COLUMN_DIFFERS, detail)
        known = self.versions.get(fact.stream)
        detail = f"stream {fact.stream} goes from version {known} to {fact.version}"
        return FirstFault(pos, VerifyFault.VERSION_WRONG, detail)


def _say_the_same(facts: Sequence[Fact], columns: Sequence[Any]) -> bool:
    """Whether the columns hold what the facts say. Texts are compared as one, which tells them apart only as long as
    none has a line break."""
    for name in _NUMBERS:
        if list(map(attrgetter(name), facts)) != [number for row in columns for number in row[name]]:
            return False
    for name in _TEXTS:
        said = [type(fact.event).__name__ for fact in facts] if name == "type" else map(attrgetter(name), facts)
        text = "\n".join(said)
        if text != "\n".join([row[name] for row in columns]) or text.count("\n") != len(facts) - 1:
            return False
    return True


def _decoded(payload: bytes) -> Fact | str:
    try:
        return decode_fact(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return str(error)


def _columns(fact: Fact) -> list[Any]:
    return [
        fact.pos,
        fact.time_ns,
        fact.id,
        fact.author,
        fact.stream,
        fact.version,
        fact.cause,
        fact.correlation,
        fact.schema,
        type(fact.event).__name__,
    ]
