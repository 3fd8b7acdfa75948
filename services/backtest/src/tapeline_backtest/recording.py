"""``--record``: where a backtest's tape goes, and what the report says of it.

A path ending in ``.tape`` is a file. Nothing is recorded unless asked for, and what is there already is not replaced
unless that is asked for as well. The formats are the common package's and the ledger's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tapeline_backtest.report import Record
from tapeline_common.recording import Recorder
from tapeline_common.tape_file_writer import TapeFileFailed, TapeFileRefused, TapeWriter

SUFFIX = ".tape"


class RecordRefused(Exception):
    """There is nowhere to record to; the message names the value and the fix."""


class RecordFailed(Exception):
    """Recording stopped in the middle of the run; the message says what is kept."""


class Recording(Recorder, Protocol):
    """A recorder that can say what it has made."""

    def record(self) -> Record: ...


class FileRecording(TapeWriter):
    """A tape file, as the report names it."""

    def record(self) -> Record:
        return Record(kind="file", place=str(self.path), bytes=self.written)


@contextmanager
def recording(place: str | None, *, force: bool) -> Iterator[Recording | None]:
    """A recorder for the block, closed if the block ends well; None where nothing is asked for.

    Raises ``RecordRefused`` before the block and ``RecordFailed`` from it.
    """
    if place is None:
        if force:
            raise RecordRefused("--force replaces what --record names: give --record as well, or leave it out")
        yield None
        return
    try:
        recorder = _opened(place, force)
    except TapeFileRefused as trouble:
        raise RecordRefused(str(trouble)) from trouble
    try:
        yield recorder
        recorder.close()
    except TapeFileFailed as trouble:
        raise RecordFailed(str(trouble)) from trouble
    except BaseException:
        recorder.abandon()
        raise


def _opened(place: str, force: bool) -> Recording:
    path = Path(place)
    if path.suffix != SUFFIX:
        raise RecordRefused(f"--record {place}: name a file that ends in {SUFFIX}, or postgres:FOLDER, or postgres:DSN")
    return FileRecording(path, replace=force)
