"""What other parts of the laboratory hand to a report: read off their plain data, and left out where they are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reports.samples import small_run

from tapeline_lab.reports.checks import Grid
from tapeline_lab.reports.extras import Fold
from tapeline_lab.reports.judgement import StudyUnusable, folds_of, grid_of, judge, surface_of
from tapeline_lab.reports.metrics import daily


@dataclass(frozen=True)
class Figures:
    sharpe: float | None


@dataclass(frozen=True)
class Trial:
    parameters: dict[str, Any]
    figures: Figures
    ground: int = 0
    strategy: str = "ema_cross"


@dataclass(frozen=True)
class Ground:
    part: str
    fold: int


@dataclass(frozen=True)
class Study:
    """The parts of a study that reports read."""

    trials: list[Trial]
    grounds: list[Ground] = field(default_factory=list)
    objective: str = "sharpe"

    def on(self, ground: int) -> list[Trial]:
        return [trial for trial in self.trials if trial.ground == ground]

    def best(self, ground: int | None = None) -> Trial | None:
        some = self.trials if ground is None else self.on(ground)
        return max(some, key=lambda trial: trial.figures.sharpe or 0.0) if some else None


def swept() -> Study:
    """Two parameters with three and two values, and a third that is looked through."""
    return Study(
        [
            Trial({"fast": fast, "slow": slow, "short": short}, Figures(fast / 10 + slow / 100 - short))
            for fast in (5, 10, 20)
            for slow in (30, 60)
            for short in (0, 1)
            if (fast, slow) != (20, 30)
        ]
    )


def test_the_grid_of_a_study() -> None:
    """Values in order, and what was chosen."""
    study = swept()
    chosen = {"fast": 20, "slow": 60, "short": 0}
    assert grid_of(study, study.best()) == Grid({"fast": [5, 10, 20], "slow": [30, 60], "short": [0, 1]}, chosen)


def test_the_surface_of_a_study() -> None:
    """The best over the third parameter; what was not tried has no value."""
    study = swept()
    surface = surface_of(study, study.best())
    assert surface is not None
    assert (surface.x_name, surface.y_name, surface.chosen) == ("fast", "slow", (20.0, 60.0))
    assert surface.values == pytest.approx(np.array([[0.8, 1.3, np.nan], [1.1, 1.6, 2.6]]), nan_ok=True)


def test_one_parameter_has_no_surface() -> None:
    """A line is not a surface."""
    study = Study([Trial({"fast": fast}, Figures(1.0)) for fast in (5, 10)])
    assert surface_of(study, study.best()) is None


def test_the_folds_of_a_walk() -> None:
    """The best in training and what was tested after it; a fold without a test is left out."""
    grounds = [Ground("IN_SAMPLE", 0), Ground("OUT_OF_SAMPLE", 0), Ground("IN_SAMPLE", 1)]
    trials = [
        Trial({"fast": 5}, Figures(1.0)),
        Trial({"fast": 9}, Figures(2.0)),
        Trial({"fast": 9}, Figures(0.5), ground=1),
        Trial({"fast": 5}, Figures(3.0), ground=2),
    ]
    found = folds_of(Study(trials, grounds))
    assert found is not None
    assert list(found.folds) == [Fold("fold 1", 2.0, 0.5)]
    assert folds_of(Study(trials, [Ground("WHOLE", -1)])) is None


def test_a_folder_that_holds_no_study_is_refused(tmp_path: Path) -> None:
    """With its name."""
    session = small_run().session
    with pytest.raises(StudyUnusable, match=str(tmp_path)):
        judge(session, daily(session), [tmp_path], is_drawn=False)


def test_too_few_days_are_not_judged() -> None:
    """Three days support no verdict and no resampling."""
    session = small_run().session
    found = judge(session, daily(session), is_drawn=True)
    assert (found.verdict, found.extras.fan) == (None, None)
