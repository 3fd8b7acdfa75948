"""Log files that stay small while their writer runs, without losing a line.

The supervisor moves a large file aside; the writer notices that its standard error is no longer the file of that name,
and opens the name anew. What it writes in between goes to the file that was moved. No signal is needed, so a process
that has only just started cannot be killed by one, and no pipe, so a supervisor that is busy cannot hold a service up.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

LOOK_S = 1.0
"""How often a writer looks whether its file was moved."""

_STDOUT, _STDERR = 1, 2


def aside(log: Path, number: int) -> Path:
    """Where a log is kept after it was moved aside; 1 is the latest."""
    return log.with_name(f"{log.name}.{number}")


def rotate(log: Path, files: int) -> None:
    """Move a log aside, those moved before by one place, and delete what is beyond ``files``."""
    aside(log, files).unlink(missing_ok=True)
    for number in range(files - 1, 0, -1):
        if aside(log, number).exists():
            aside(log, number).replace(aside(log, number + 1))
    if log.exists():
        log.replace(aside(log, 1))


def rotate_if_large(log: Path, largest_bytes: int, files: int) -> bool:
    """``rotate`` a log that has grown beyond ``largest_bytes``; whether it was."""
    try:
        if log.stat().st_size <= largest_bytes:
            return False
    except FileNotFoundError:
        return False
    rotate(log, files)
    return True


async def follow_name(log: Path) -> None:
    """Keep this process's standard output and error in the file of this name, whatever is moved; until cancelled."""
    while True:
        reopen_if_moved(log)
        await asyncio.sleep(LOOK_S)


def reopen_if_moved(log: Path) -> bool:
    """Open the file of this name for standard output and error if they go elsewhere; whether they did."""
    ours = os.fstat(_STDERR)
    try:
        named = log.stat()
    except FileNotFoundError:
        named = None
    if named is not None and (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino):
        return False
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for ending in (_STDOUT, _STDERR):
        os.dup2(descriptor, ending)
    os.close(descriptor)
    return True
