"""``--record``: where a backtest's tape goes, and what the report says of it.

A path that ends in ``.tape`` is a file; ``postgres`` stands for a log in a folder of its own or in a database. Nothing
is recorded unless asked for, and what is there already is not replaced unless that is asked for as well. The formats
are the common package's and the ledger's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import click

from tapeline_backtest.report import Record
from tapeline_common.recording import Recorder, RecordingRefused
from tapeline_common.tape_file_writer import TapeWriter

SUFFIX = ".tape"
POSTGRES = "postgres"
POSTGRES_FOLDER = ".tapeline/backtest"
"""Where ``--record postgres`` keeps its database."""

SCHEMES = ("postgres://", "postgresql://")


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

    Raises ``RecordingRefused`` before the block and ``RecordingFailed`` from it.
    """
    if place is None:
        if force:
            raise RecordingRefused("--force replaces what --record names: give --record as well, or leave it out")
        yield None
        return
    recorder = _opened(place, force)
    try:
        yield recorder
    except BaseException:
        recorder.abandon()
        raise
    recorder.close()


def _opened(place: str, force: bool) -> Recording:
    kind, _, where = place.partition(":")
    if place.startswith(SCHEMES):
        kind, where = POSTGRES, place
    if kind == POSTGRES:
        return _in_postgres(where, force)
    path = Path(place)
    if path.suffix != SUFFIX:
        raise RecordingRefused(f"--record {place}: name a file that ends in {SUFFIX}, or postgres:FOLDER, or a DSN")
    return FileRecording(path, replace=force)


def _in_postgres(where: str, force: bool) -> Recording:
    from tapeline_ledger.bulk import PostgresRecorder

    class PostgresRecording(PostgresRecorder):
        """A Postgres log, as the report names it."""

        def record(self) -> Record:
            return Record(kind=POSTGRES, place=self.name)

    is_dsn = where.startswith(SCHEMES)
    if is_dsn and force:
        raise RecordingRefused("--force does not empty a database: name a fresh one")
    return PostgresRecording(
        where if is_dsn else Path(where or POSTGRES_FOLDER),
        replace=force,
        report=lambda said: click.echo(said, err=True),
    )
