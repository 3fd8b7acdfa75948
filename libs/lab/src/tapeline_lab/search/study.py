"""A recorded study, read back: for reports, for statistics on its trials, and for whoever wants to check it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tapeline_backtest.report import TRADING_DAYS
from tapeline_common.events import StudyFinished, StudyGround, StudyOpened, TrialFinished, TrialRefused
from tapeline_common.tape_file import TapeFileUnreadable
from tapeline_common.values import TrialPart
from tapeline_lab.search.figures import returns_digest
from tapeline_lab.search.objectives import Objective, best_of
from tapeline_lab.search.record import TAPE, read_facts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class StudyUnreadable(Exception):
    """There is no study in this folder, or it was changed. The message names it and the reason."""


@dataclass(frozen=True, slots=True)
class Study:
    """Everything a folder holds of a study.

    Attributes:
        opened: what the study was to do; ``opened.grounds`` says on what.
        trials: finished ones, in the order of their numbers.
        refused: those that gave no result; they count as tried.
        finished: the last fact of a study that was carried out; absent while trials are missing.
        tape_hash: hash after the last fact, hexadecimal: the same for the same study, wherever and however it ran.
    """

    folder: Path
    opened: StudyOpened
    trials: tuple[TrialFinished, ...]
    refused: tuple[TrialRefused, ...]
    finished: StudyFinished | None
    tape_hash: str

    @property
    def trial_count(self) -> int:
        """How many trials were made: what a statistic of the best of them has to know."""
        return len(self.trials) + len(self.refused)

    @property
    def objective(self) -> Objective:
        return Objective(self.opened.objective)

    @property
    def grounds(self) -> tuple[StudyGround, ...]:
        return self.opened.grounds

    @property
    def is_complete(self) -> bool:
        """Whether every trial is there."""
        return self.finished is not None

    def best(self, ground: int | None = None) -> TrialFinished | None:
        """The first of the best trials, of one ground or of all."""
        return best_of(self.on(ground), lambda trial: trial.figures, self.objective)

    def on(self, ground: int | None) -> list[TrialFinished]:
        """Finished trials on a ground, in order; on all of them for ``None``."""
        return [trial for trial in self.trials if ground is None or trial.ground == ground]

    def year(self, ground: int) -> int:
        """Trading days in a year of a ground's instrument."""
        tables = msgspec.json.decode(self.opened.configuration)["instrument"]
        calendars = {table["name"]: table.get("calendar", "") for table in tables}
        return TRADING_DAYS.get(calendars.get(self.grounds[ground].instrument, ""), 365)

    def walked(self, instrument: str, timeframe: str, strategy: str) -> tuple[Floats, Floats]:
        """Daily returns of a walk-forward, one fold after the other: of each training's best, and of each test.

        A test for which its training chose nothing was spent in cash. Both are empty where nothing was walked.
        """
        inside, outside = [np.zeros(0)], [np.zeros(0)]
        for index, ground in enumerate(self.grounds):
            if (ground.instrument, ground.timeframe) != (instrument, timeframe):
                continue
            there = self.on(index)
            own = [number for number, trial in enumerate(there) if trial.strategy == strategy]
            if ground.part is TrialPart.IN_SAMPLE:
                best = best_of([there[number] for number in own], lambda trial: trial.figures, self.objective)
                if best is not None:
                    inside.append(self.returns(index)[:, there.index(best)])
            elif ground.part is TrialPart.OUT_OF_SAMPLE:
                outside.append(self.returns(index)[:, own[0]] if own else np.zeros(ground.days))
        return np.concatenate(inside), np.concatenate(outside)

    def tested_days(self, instrument: str, timeframe: str) -> Ints:
        """UTC days since 1970 of a walk-forward's tests, the rows of what ``walked`` finds outside."""
        return np.concatenate(
            [
                np.zeros(0, dtype=np.int64),
                *(
                    self.days(index)
                    for index, ground in enumerate(self.grounds)
                    if (ground.instrument, ground.timeframe, ground.part)
                    == (instrument, timeframe, TrialPart.OUT_OF_SAMPLE)
                ),
            ]
        )

    def returns(self, ground: int = 0) -> Floats:
        """Daily returns of the finished trials on a ground: shape (days, trials), columns in the order of ``on``.

        Raises:
            StudyUnreadable: the file is missing, or a column is not what its trial's fact vouches for.
        """
        path = self.folder / f"returns-{ground}.npy"
        try:
            matrix = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as trouble:
            raise StudyUnreadable(f"{path} cannot be read ({trouble}): run the study again") from trouble
        everything: list[Any] = sorted([*self.trials, *self.refused], key=lambda trial: trial.number)
        there = [trial for trial in everything if trial.ground == ground]
        columns = [index for index, trial in enumerate(there) if isinstance(trial, TrialFinished)]
        found: Floats = np.asarray(matrix[:, columns])
        for column, trial in zip(found.T, self.on(ground), strict=True):
            if returns_digest(column) != trial.returns:
                raise StudyUnreadable(f"{path}: the returns of trial {trial.number} are not those that it came to")
        return found

    def days(self, ground: int = 0) -> Ints:
        """UTC days since 1970 of the rows of ``returns``."""
        found: Ints = np.load(self.folder / f"days-{ground}.npy")
        return found


def load(folder: str | Path) -> Study:
    """The study in a folder, whole or as far as it went. Raises ``StudyUnreadable``."""
    folder = Path(folder)
    try:
        facts, tape = read_facts(folder / TAPE)
    except (TapeFileUnreadable, msgspec.MsgspecError) as trouble:
        raise StudyUnreadable(f"{folder} holds no study: {trouble}") from trouble
    if not facts or not isinstance(facts[0], StudyOpened):
        raise StudyUnreadable(f"{folder / TAPE} is the tape of no study: name a folder that --study made")
    return Study(
        folder,
        facts[0],
        tuple(fact for fact in facts if isinstance(fact, TrialFinished)),
        tuple(fact for fact in facts if isinstance(fact, TrialRefused)),
        facts[-1] if isinstance(facts[-1], StudyFinished) else None,
        tape.head_hash.hex(),
    )
