"""The record of a study: its facts in a tape file, and the daily returns of every trial beside it.

A folder has ``study.tape``, ``study.json``, and for each ground ``returns-<ground>.npy`` (days x trials, binary64) and
``days-<ground>.npy`` (the UTC days of its rows). Facts are stamped with the close of the last bar of all, the moment of
which they speak, and stand in the order of their numbers; so the tape of a study that was killed and went on, or ran
elsewhere, is the same to the last byte. Clocks, workers and places are in ``study.json`` only.

A trial's returns are written before its fact. What is not vouched for by a fact on the tape did not happen.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from tapeline_common.events import Event, StudyFinished, StudyOpened, TrialFinished, TrialRefused
from tapeline_common.sequencer import Sequencer
from tapeline_common.tape_file import TapeDamaged, TapeFile, TapeFileUnreadable
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_common.values import Realm
from tapeline_common.wire import decode_fact
from tapeline_lab.search.figures import Floats, returns_digest

Days = npt.NDArray[np.int64]

AUTHOR = "laboratory"
TAPE, SUMMARY = "study.tape", "study.json"

FLUSH_S = 0.25
"""What a kill may cost: trials that ended within the last such moment are run again."""

Trial = TrialFinished | TrialRefused


class StudyRefused(Exception):
    """The folder cannot hold this study. The message names it and the fix; nothing was changed."""


class Record(Protocol):
    """Where a study's trials go."""

    known: Sequence[Trial]
    """Trials that were recorded before, in the order of their numbers."""

    def take(self, trial: Trial, returns: Floats | None) -> None:
        """The next trial; returns of a finished one, shape (days,)."""

    def keep(self, number: int, returns: Floats) -> None:
        """Returns that will be asked for again, where they are not recorded anyway."""

    def returns(self, trial: TrialFinished) -> Floats:
        """Daily returns of a trial, shape (days,)."""

    def finish(self, event: StudyFinished) -> None:
        """Every trial is there. Said again of a finished study, it changes nothing."""


class Unrecorded:
    """Keeps nothing on disk: for a quick look."""

    def __init__(self) -> None:
        self.known: Sequence[Trial] = ()
        self._kept: dict[int, Floats] = {}

    def take(self, trial: Trial, returns: Floats | None) -> None:
        pass

    def keep(self, number: int, returns: Floats) -> None:
        self._kept[number] = returns

    def returns(self, trial: TrialFinished) -> Floats:
        return self._kept[trial.number]

    def finish(self, event: StudyFinished) -> None:
        pass


class Folder:
    """A study's folder; a context manager.

    Opened again with the same ``StudyOpened``, it goes on where its tape ends. The old tape is copied to a new file,
    which replaces it whole, before anything is added.

    Raises:
        StudyRefused: the folder holds another study, something else, or is in use.
    """

    def __init__(self, path: Path, opened: StudyOpened, days: Sequence[Days]) -> None:
        """days: UTC days of each ground, int64, shape (days of the ground,)."""
        self.path = path
        self.opened = opened
        self._stamp_ns = max(ground.last_close_ns for ground in opened.grounds)
        self._sequencer = Sequencer(Realm.REPLAY)
        self._writer: TapeWriter | None = None
        self._columns: dict[int, int] = {}
        self._filled = [0] * len(opened.grounds)
        self._lock = _locked(path)
        try:
            recorded = _recorded(path / TAPE, opened)
            self._matrices = [self._matrix(ground) for ground in range(len(opened.grounds))]
            self.known: Sequence[Trial] = self._vouched([fact for fact in recorded if isinstance(fact, Trial)])
            is_complete = len(self.known) == len(recorded) - 1 and isinstance(recorded[-1], StudyFinished)
            if not is_complete:
                self._begin(days)
        except BaseException:
            os.close(self._lock)
            raise
        self._flushed_s = time.monotonic()

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """What was taken stays; only ``finish`` gives the tape its end."""
        try:
            if self._writer is not None:
                self._writer.abandon()
        finally:
            self._flush_matrices()
            os.close(self._lock)

    def take(self, trial: Trial, returns: Floats | None) -> None:
        self._put(trial, returns)
        if time.monotonic() - self._flushed_s >= FLUSH_S:
            self._tape.flush()
            self._flushed_s = time.monotonic()

    def keep(self, number: int, returns: Floats) -> None:
        """They are in the matrix."""

    def returns(self, trial: TrialFinished) -> Floats:
        found: Floats = np.array(self._matrices[trial.ground][:, self._columns[trial.number]])
        return found

    def finish(self, event: StudyFinished) -> None:
        if self._writer is None:
            return
        self._flush_matrices()
        self._say(event, "finished")
        self._writer.close()
        self._writer = None

    @property
    def _tape(self) -> TapeWriter:
        assert self._writer is not None, "a finished study takes no trials"
        return self._writer

    def _put(self, trial: Trial, returns: Floats | None) -> None:
        """The returns first: a fact that names them vouches for them."""
        column = self._filled[trial.ground]
        self._filled[trial.ground] = column + 1
        if isinstance(trial, TrialFinished):
            self._columns[trial.number] = column
        self._matrices[trial.ground][:, column] = np.nan if returns is None else returns
        self._say(trial, f"trial:{trial.number}")

    def _say(self, event: Event, identity: str) -> None:
        self._tape.take(self._sequencer.record(AUTHOR, event, identity, 0, 0, self._stamp_ns))

    def _begin(self, days: Sequence[Days]) -> None:
        """A new tape with what is known, in the place of the old one."""
        for ground, known in enumerate(days):
            np.save(self.path / f"days-{ground}.npy", known)
        beside = self.path / f"{TAPE}.new"
        beside.unlink(missing_ok=True)
        self._writer = TapeWriter(beside)
        self._say(self.opened, "opened")
        for trial in self.known:
            self._say(trial, f"trial:{trial.number}")
        self._writer.flush()
        beside.replace(self.path / TAPE)

    def _matrix(self, ground: int) -> Any:
        """The returns of a ground's trials, mapped from their file; it is made if it is not there."""
        about = self.opened.grounds[ground]
        path, shape = self.path / f"returns-{ground}.npy", (about.days, about.trials)
        if path.exists():
            with suppress(ValueError, OSError):
                found = np.lib.format.open_memmap(path, mode="r+")
                if found.shape == shape and found.dtype == np.float64:
                    return found
        # A column is one trial's and is written at once: columns first.
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=shape, fortran_order=True)

    def _vouched(self, recorded: Sequence[Trial]) -> list[Trial]:
        """Recorded trials up to the first whose returns are not those that its fact names."""
        kept: list[Trial] = []
        for trial in recorded:
            column = self._filled[trial.ground]
            if isinstance(trial, TrialFinished):
                if returns_digest(self._matrices[trial.ground][:, column]) != trial.returns:
                    break
                self._columns[trial.number] = column
            self._filled[trial.ground] = column + 1
            kept.append(trial)
        return kept

    def _flush_matrices(self) -> None:
        for matrix in self._matrices:
            matrix.flush()


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """``study.json``, whole or not at all."""
    beside = folder / f"{SUMMARY}.new"
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
    beside.replace(folder / SUMMARY)


def read_facts(path: Path) -> tuple[list[Event], TapeFile]:
    """What a study's tape says, as far as it is whole, and the file, closed. Raises ``TapeFileUnreadable``."""
    with TapeFile(path) as tape:
        facts: list[Event] = []
        with suppress(TapeDamaged):
            for index in range(len(tape.segments)):
                facts += [decode_fact(line).event for line in tape.lines(index)]
        return facts, tape


def _recorded(path: Path, opened: StudyOpened) -> list[Event]:
    """What is on a tape of this very study after its opening; nothing if there is no tape."""
    if not path.exists():
        return []
    try:
        facts, _ = read_facts(path)
    except (TapeFileUnreadable, msgspec.MsgspecError) as trouble:
        raise StudyRefused(f"{path} is no tape of a study ({trouble}): name another folder") from trouble
    if not facts:
        return []
    if facts[0] != opened:
        raise StudyRefused(_difference(path, facts[0], opened))
    return facts[1:]


def _difference(path: Path, found: Event, opened: StudyOpened) -> str:
    if not isinstance(found, StudyOpened):
        return f"{path} is no tape of a study: name another folder"
    names = [field for field in StudyOpened.__struct_fields__ if field != "study"]
    different = [name for name in names if getattr(found, name) != getattr(opened, name)]
    return (
        f"{path.parent} holds study {found.study}, which differs in {', '.join(different)}: name another folder, "
        "or make the same call with the same files and code to go on with it"
    )


def _locked(path: Path) -> int:
    """The folder, made if need be, as this process's alone."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        held = os.open(path, os.O_RDONLY)
    except OSError as trouble:
        raise StudyRefused(f"--study {path} cannot be made ({trouble.strerror}): name a folder of yours") from trouble
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise StudyRefused(f"--study {path} is in use by another process: wait for it, or name another") from None
    return held
