"""Where a report's tape lies: a file, a folder that ``backtest --record`` or ``tapeline up`` left, or a running stack.

Opens and reads, and changes nothing; the Postgres of a stopped folder is started for as long as it is read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from tapeline_common.embedded import running_stack
from tapeline_common.operator_client import operator
from tapeline_common.tape import TapeReader
from tapeline_common.tape_file import TapeFile


class RunNotFound(Exception):
    """There is no tape to report on; the message names the place and the fix."""


@asynccontextmanager
async def tape_of(run: Path | None, stack: Path) -> AsyncIterator[tuple[TapeReader, str]]:
    """The tape of a run and what to call it. run: a file or a folder; None for the stack that runs on ``stack``.

    Raises ``RunNotFound``, ``TapeFileUnreadable``, ``NotRunning``, ``ServerFailed``.
    """
    if run is None or (run.is_dir() and running_stack(run) is not None):
        async with operator(stack if run is None else run) as client:
            yield client.tape, f"the stack on {stack if run is None else run}"
        return
    file = _file_of(run)
    if file is not None:
        with TapeFile(file) as tape:
            if tape.warning:
                click.echo(tape.warning, err=True)
            yield tape, str(file)
        return
    async with _stopped(run) as tape_at_rest:
        yield tape_at_rest, str(run)


def _file_of(run: Path) -> Path | None:
    """The tape file named, or the only one of the folder; None where a database may be meant."""
    if not run.exists():
        raise RunNotFound(f"{run} does not exist: name a .tape file of `backtest --record`, a folder, or use --live")
    if run.is_file():
        return run
    found = sorted(run.glob("*.tape"))
    if len(found) > 1:
        raise RunNotFound(f"{run} holds {len(found)} tapes ({found[0].name}, {found[1].name}, ...): name one of them")
    return found[0] if found else None


@asynccontextmanager
async def _stopped(folder: Path) -> AsyncIterator[TapeReader]:
    from tapeline_ledger.at_rest import at_rest, postgres_of
    from tapeline_ledger.store import Store

    if not at_rest(folder):
        raise RunNotFound(f"{folder} holds no tape: name a .tape file or the data folder of a stack")
    async with postgres_of(folder) as access:
        store = await Store.look(access.ledger, lambda what: click.echo(what, err=True))
        try:
            yield store
        finally:
            await store.close()
