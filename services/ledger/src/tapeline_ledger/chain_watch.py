"""Verifies the log at rest, over and over, while the ledger records: nobody has to remember to run `tapeline verify`.

Every stored row is read and hashed again, from the first fact to the head, in small pieces with pauses, by the walk of
``verify``; the hashing happens in a thread. The walk ends at a head that this process remembers with its hash, so a log
whose chain was recomputed as a whole is found out as well, as long as the ledger runs. What is found is told and kept;
the next pass begins at the first fact again. Nothing is repaired, and nothing is stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from tapeline_common.verification import FirstFault, VerifyFault
from tapeline_ledger.inspection import Inspection, Unreachable
from tapeline_ledger.store import Head
from tapeline_ledger.verify import Walk, page_query, rows_query

PIECE_FACTS = 40
"""Facts of one piece. Decoding them holds the interpreter for a fraction of a millisecond, and the bytes that came from
Postgres, which asyncpg keeps until the next answer, find room in the heap (``embedded.ALLOCATOR``)."""

SHARE = 0.05
"""Of the time that verification may take."""

MOST_PAUSE_S = 0.06
"""However slow the machine is for the moment: a tape of ten thousand facts is passed within twenty seconds."""

BETWEEN_PASSES_S = 1.0
AWAY_S = 5.0
"""How long to wait for a Postgres that does not answer."""

_PIECE = page_query(PIECE_FACTS)
_ROWS = rows_query()

Sleep = Callable[[float], Awaitable[object]]


class ChainWatch:
    """Passes over the log. ``run`` it beside the recorder.

    Args:
        head: the last fact known to be durable, and its hash.
        now_ns: the wall clock, UTC nanoseconds.

    Attributes:
        verified_ns: when the last complete pass without a fault ended; 0 before the first.
        fault: what the last pass that found something found, until a pass finds nothing.
        passes: complete passes, with or without a fault.
    """

    def __init__(
        self,
        inspection: Inspection,
        head: Callable[[], Head],
        logger: structlog.typing.FilteringBoundLogger,
        now_ns: Callable[[], int],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.verified_ns = 0
        self.fault: FirstFault | None = None
        self.passes = 0
        self._inspection = inspection
        self._head = head
        self._logger = logger
        self._now_ns = now_ns
        self._sleep = sleep
        self._walk = Walk(0)
        self._passed_to = 0

    @property
    def verified_pos(self) -> int:
        """Every fact up to here is known to be right: by the last complete pass, or the one under way."""
        return max(self._passed_to, self._walk.pos)

    async def run(self) -> None:
        """Pass after pass until cancelled; waits for Postgres where it is away, and goes on where it was."""
        while True:
            self._walk = Walk(0)
            await self._conclude(await self._pass(self._head()))
            await self._sleep(BETWEEN_PASSES_S)

    async def _pass(self, end: Head) -> FirstFault | None:
        """Walk to ``end``. Returns what is wrong first, if anything is."""
        walk = self._walk
        while walk.pos < end.pos:
            started_s = time.perf_counter()
            try:
                fault = await self._take_piece(walk, end)
            except Unreachable as away:
                self._logger.warning("verification waits for Postgres", pos=walk.pos, reason=str(away))
                await self._sleep(AWAY_S)
                continue
            if fault is not None:
                return fault
            took_s = time.perf_counter() - started_s
            await self._sleep(min(took_s * (1 - SHARE) / SHARE, MOST_PAUSE_S))
        if walk.hash != end.hash:
            detail = f"the chain gives {walk.hash.hex()} there, and {end.hash.hex()} was recorded by this ledger"
            return FirstFault(end.pos, VerifyFault.HASH_WRONG, detail)
        return None

    async def _take_piece(self, walk: Walk, end: Head) -> FirstFault | None:
        until = min(walk.pos + PIECE_FACTS, end.pos)
        columns = await self._inspection.fetch(_PIECE, walk.pos, until)
        found = [row for row in columns if row["facts"]]
        if await asyncio.to_thread(walk.pass_over, found, until):
            return None
        rows = await self._inspection.fetch(_ROWS, walk.pos, until)
        fault = await asyncio.to_thread(walk.check, rows)
        if fault is None and walk.pos < until:
            detail = f"the tape ends at {walk.pos}, and {end.pos} facts were recorded"
            fault = FirstFault(walk.pos + 1, VerifyFault.POSITION_MISSING, detail)
        return fault

    async def _conclude(self, fault: FirstFault | None) -> None:
        self.passes += 1
        if fault is not None:
            self._passed_to = fault.pos - 1
            self._walk = Walk(0)
            if fault != self.fault:
                self._logger.error("chain broken", pos=fault.pos, fault=fault.reason, detail=fault.detail)
            self.fault = fault
            return
        if self.fault is not None:
            self._logger.warning("chain whole again", pos=self._walk.pos, before=self.fault.pos)
        self.fault = None
        self._passed_to = self._walk.pos
        self.verified_ns = self._now_ns()
