"""``--record``: where a backtest's tape goes, and what the report says of it.

A path that ends in ``.tape`` is a file; ``postgres`` stands for a log in a folder of its own or in a database. Nothing
is recorded unless asked for, and what is there already is not replaced unless that is asked for as well. The formats
are the common package's and the ledger's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from tapeline_backtest.report import Record
from tapeline_common.recording import Recorder, RecordingRefused
from tapeline_common.tape_file_writer import TapeWriter

SUFFIX = ".tape"
POSTGRES = "postgres"
POSTGRES_FOLDER = ".tapeline/backtest"
"""Where ``--record postgres`` keeps its database."""

SCHEMES = ("postgres://", "postgresql://")


@dataclass(frozen=True, slots=True)
class Recording:
    """An open recorder and what the report calls it."""

    recorder: Recorder
    kind: str
    place: str

    def described(self) -> Record:
        """For the report, once the recorder is closed."""
        written = self.recorder.written if isinstance(self.recorder, TapeWriter) else msgspec.UNSET
        return Record(self.kind, self.place, written)


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
    opened = _opened(place, force)
    try:
        yield opened
    except BaseException:
        opened.recorder.abandon()
        raise
    opened.recorder.close()


def _opened(place: str, force: bool) -> Recording:
    kind, _, where = place.partition(":")
    if place.startswith(SCHEMES):
        kind, where = POSTGRES, place
    if kind == POSTGRES:
        return _in_postgres(where, force)
    path = Path(place)
    if path.suffix != SUFFIX:
        raise RecordingRefused(f"--record {place}: name a file that ends in {SUFFIX}, or postgres:FOLDER, or a DSN")
    return Recording(TapeWriter(path, replace=force), "file", place)


def _in_postgres(where: str, force: bool) -> Recording:
    from tapeline_ledger.bulk import PostgresRecorder

    is_dsn = where.startswith(SCHEMES)
    if is_dsn and force:
        raise RecordingRefused("--force does not empty a database: name a fresh one")
    recorder = PostgresRecorder(
        where if is_dsn else Path(where or POSTGRES_FOLDER),
        replace=force,
        report=lambda said: click.echo(said, err=True),
    )
    return Recording(recorder, POSTGRES, recorder.name)
