"""Verification: walks the log and names the first position that is not what it must be.

Checked for every fact: positions without a gap; the chain (each row's previous hash and its own); the payload decodes;
every column equals what the payload says; stream versions count up without a gap; and, at the end, that nothing is
missing after the last row, which the projections' offset knows. Read only; any role that may read the tape can run it.

A chain shows that rows were changed by somebody who did not recompute everything after them. Against an owner of the
database who recomputes all of it, only a head hash kept elsewhere helps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from tapeline_common.verification import FirstFault, VerifyFault, VerifyResult
from tapeline_common.wire import GENESIS, Fact, decode_fact

PAGE = 20_000

_COLUMNS = "pos, time_ns, id, author, stream, version, cause, correlation, schema, type, prev_hash, hash, payload"


async def verify(dsn: str, *, after: int = 0) -> VerifyResult:
    """Check every fact with ``pos > after``; the row at ``after`` is taken as right. Safe beside a running ledger."""
    connection = await asyncpg.connect(dsn)
    try:
        # One snapshot, so that facts recorded meanwhile are not taken for faults of the offsets.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await _walk(connection, after)
    finally:
        await connection.close()


async def _walk(connection: Any, after: int) -> VerifyResult:
    walk = _Walk(after)
    if after:
        previous = await connection.fetchval("SELECT hash FROM tape WHERE pos = $1", after)
        if previous is None:
            missing = FirstFault(after, VerifyFault.POSITION_MISSING, f"no fact at {after} to start from")
            return VerifyResult(0, GENESIS, missing)
        walk.hash = previous
        rows = await connection.fetch(
            "SELECT stream, max(version) AS version FROM tape WHERE pos <= $1 GROUP BY stream", after
        )
        walk.versions = {row["stream"]: row["version"] for row in rows}
    query = await connection.prepare(f"SELECT {_COLUMNS} FROM tape WHERE pos > $1 ORDER BY pos LIMIT {PAGE}")
    fault: FirstFault | None
    while True:
        rows = await query.fetch(walk.pos)
        fault = walk.check(rows)
        if fault is not None:
            return VerifyResult(walk.pos - after, walk.hash, fault)
        if len(rows) < PAGE:
            break
    promised = await connection.fetchval("SELECT coalesce(max(pos), 0) FROM projection_offset")
    fault = None
    if promised > walk.pos:
        detail = f"the tape ends at {walk.pos}, and {promised} facts were recorded"
        fault = FirstFault(walk.pos + 1, VerifyFault.POSITION_MISSING, detail)
    return VerifyResult(walk.pos - after, walk.hash, fault)


class _Walk:
    """How far the tape is known to be right."""

    def __init__(self, after: int) -> None:
        self.pos = after
        self.hash = GENESIS
        self.versions: dict[str, int] = {}

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
                    version = versions.get(fact.stream, 0) + 1
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
        known = self.versions.get(fact.stream, 0)
        detail = f"stream {fact.stream} goes from version {known} to {fact.version}"
        return FirstFault(pos, VerifyFault.VERSION_WRONG, detail)


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
