"""Runs a worker's job in a child process of its own: slow, isolated, and gone when it is done or its parent dies.

One process per job rather than a pool: jobs are minutes apart, and nothing may outlive a service that is killed.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any

from tapeline_common.events import Event

Run = Callable[[Any], Sequence[Event]]


class WorkerDied(Exception):
    """The child ended without a result; the message holds its exit code."""


async def run_in_child(run: Run, job: Any) -> Sequence[Event]:
    """Call ``run(job)`` in a spawned process. What it raises is raised here; both must be picklable."""
    return await asyncio.to_thread(_run, run, job)


def _run(run: Run, job: Any) -> Sequence[Event]:
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, run, job), daemon=True)
    process.start()
    theirs.close()
    try:
        outcome: Sequence[Event] | BaseException = ours.recv()
    except EOFError as gone:
        process.join()
        raise WorkerDied(f"worker ended with exit code {process.exitcode} and no result") from gone
    process.join()
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _child(connection: Connection, run: Run, job: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome: Any = run(job)
    except Exception as trouble:
        outcome = trouble
    connection.send(outcome)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
