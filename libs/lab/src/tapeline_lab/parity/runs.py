"""Where a recorded session is read from: a tape file, the data folder of a running or stopped stack, or a database.

Reads only. A stopped stack's Postgres is started for as long as it is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tapeline_common.embedded import running_stack
from tapeline_common.operator_client import operator
from tapeline_common.tape import Page, ReadRequest, read_all
from tapeline_common.tape_file import TapeFile
from tapeline_common.wire import Fact, decode_facts

if TYPE_CHECKING:
    from tapeline_ledger.store import Store

SCHEMES = ("postgres://", "postgresql://")


class RunNotFound(Exception):
    """There is no tape at the place named. The message says what was looked for and what would do."""


def read_run(run: str) -> list[Fact]:
    """Every fact of a run, in position order.

    Raises ``RunNotFound``; what a tape file, a server or a database raise when they cannot be read passes through.
    """
    if run.startswith(SCHEMES):
        return decode_facts(asyncio.run(_of_database(run)))
    place = Path(run)
    if place.is_file():
        return decode_facts(_of_file(place))
    if not place.is_dir():
        raise RunNotFound(f"{run} is not there: name a tape file, a stack's data folder, or a postgresql:// address")
    if running_stack(place) is not None:
        return decode_facts(asyncio.run(_of_stack(place)))
    return decode_facts(asyncio.run(_at_rest(place)))


def _of_file(path: Path) -> Sequence[bytes]:
    with TapeFile(path) as tape:
        if tape.warning:
            click.echo(tape.warning, err=True)
        return asyncio.run(read_all(tape))


async def _of_stack(folder: Path) -> Sequence[bytes]:
    async with operator(folder) as client:
        return await read_all(client.tape)


async def _at_rest(folder: Path) -> Sequence[bytes]:
    from tapeline_ledger.at_rest import at_rest, postgres_of

    if not at_rest(folder):
        raise RunNotFound(f"{folder} holds no tape: name the folder that `tapeline up --data` was given")
    async with postgres_of(folder) as access:
        return await _of_database(access.ledger)


async def _of_database(dsn: str) -> Sequence[bytes]:
    from tapeline_ledger.store import Store

    store = await Store.look(dsn)
    try:
        return await read_all(_Reading(store))
    finally:
        await store.close()


class _Reading:
    """A store as a tape that can only be read."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, request: ReadRequest) -> Page:
        return await self._store.read(request)
