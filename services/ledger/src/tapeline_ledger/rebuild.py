"""Rebuild: folds the whole tape into fresh projection tables and compares them with the stored ones.

A fold of the tape equals every projection, always; this proves it, and with ``replace`` repairs it. Comparing works
beside a running ledger, on one snapshot. Replacing needs the ledger to be down, because two writers of the same rows
would undo each other; the ledger's own lock is taken to make sure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

from tapeline_common.wire import decode_fact
from tapeline_ledger.projections import NAMES
from tapeline_ledger.store import LOCK
from tapeline_ledger.tables import Tables

PAGE = 20_000
MOST_DIFFERENCES = 20
"""Differences shown in full per table and side; the counts are always complete."""


class LedgerRunning(Exception):
    """The projections cannot be replaced while a ledger writes them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows of one table that the fold does not have (``stored``) or that the table lacks (``refolded``)."""

    table: str
    stored: int
    refolded: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """``rows`` of the refolded tables by name; ``differences`` is empty when all tables agree."""

    facts: int
    rows: dict[str, int]
    differences: tuple[Difference, ...]
    replaced: bool


async def rebuild(dsn: str, *, replace: bool = False) -> RebuildResult:
    """Refold and compare, as any role that may read; with ``replace``, as the runtime role, store what was refolded.

    Raises ``LedgerRunning`` if they are to be replaced while a ledger holds the tape.
    """
    connection = await asyncpg.connect(dsn)
    try:
        if replace and not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            raise LedgerRunning("a ledger holds this tape: stop it before the projections are replaced")
        await connection.execute("SET default_transaction_read_only = off")  # temporary tables are made, nothing else
        async with connection.transaction(isolation="repeatable_read"):
            for name in NAMES:
                await connection.execute(f"CREATE TEMP TABLE {name} (LIKE public.{name} INCLUDING ALL) ON COMMIT DROP")
            facts = await _refold(connection)
            rows = {name: await connection.fetchval(f"SELECT count(*) FROM pg_temp.{name}") for name in NAMES}
            found = [await _difference(connection, name) for name in NAMES]
            if replace:
                await _replace(connection, facts)
        differences = tuple(difference for difference in found if difference is not None)
        return RebuildResult(facts, rows, differences, replace)
    finally:
        await connection.close()


async def _refold(connection: Any) -> int:
    """Fold every fact into the temporary tables, which hide the stored ones of the same names."""
    tables = Tables()
    pos = 0
    query = await connection.prepare(f"SELECT pos, payload FROM public.tape WHERE pos > $1 ORDER BY pos LIMIT {PAGE}")
    while rows := await query.fetch(pos):
        await tables.write(connection, [decode_fact(row["payload"]) for row in rows])
        pos = int(rows[-1]["pos"])
    return pos


async def _difference(connection: Any, name: str) -> Difference | None:
    sides = []
    for ours, other in (("public", "pg_temp"), ("pg_temp", "public")):
        only = f"(SELECT * FROM {ours}.{name} EXCEPT SELECT * FROM {other}.{name})"
        count = await connection.fetchval(f"SELECT count(*) FROM {only} AS extra")
        examples = await connection.fetch(f"SELECT extra::text AS row FROM {only} AS extra LIMIT {MOST_DIFFERENCES}")
        sides.append((count, [example["row"] for example in examples]))
    (stored, stored_rows), (refolded, refolded_rows) = sides
    if not stored and not refolded:
        return None
    shown = [f"stored {row}" for row in stored_rows] + [f"refolded {row}" for row in refolded_rows]
    return Difference(name, stored, refolded, tuple(shown))


async def _replace(connection: Any, facts: int) -> None:
    for name in NAMES:
        await connection.execute(f"DELETE FROM public.{name}")
        await connection.execute(f"INSERT INTO public.{name} SELECT * FROM pg_temp.{name}")
    await connection.execute("UPDATE public.projection_offset SET pos = $1", facts)
