"""A read-only connection to the database, for whoever looks at it beside the recorder.

The recorder's connections are its own: what is slow here holds up nothing there. One query at a time; a connection that
was lost is opened anew by the next query.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0

_TROUBLE = (
    OSError,
    EOFError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresError,
)
"""Whatever it is, the connection is not used again."""


class Unreachable(Exception):
    """Postgres did not answer, or would not. The message says what it said."""


class Inspection:
    """Queries over one connection of the runtime role, which may change nothing through it."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Any = None
        self._one_at_a_time = asyncio.Lock()

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """The rows. Raises ``Unreachable``."""
        async with self._one_at_a_time:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connect()
                return list(await self._connection.fetch(query, *arguments))
            except _TROUBLE as trouble:
                self._drop()
                raise Unreachable(f"{type(trouble).__name__}: {trouble}") from trouble
            except asyncio.CancelledError:
                self._drop()  # an answer may be on its way that nobody waits for
                raise

    async def close(self) -> None:
        """Let go at once; nothing is under way that could be lost."""
        self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _connect(self) -> Any:
        return await asyncpg.connect(
            self._dsn,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={
                "application_name": "tapeline-inspection",
                "default_transaction_read_only": "on",
                # Pages are read in position order: a planner without fresh statistics would sort the whole tape.
                "enable_sort": "off",
                "jit": "off",
            },
        )
