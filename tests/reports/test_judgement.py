"""What other parts of the laboratory hand to a report: read off their plain data, and left out where they are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.reports.samples import DAY_NS, small_run

from tapeline_lab.reports.checks import Grid
from tapeline_lab.reports.extras import Fold
from tapeline_lab.reports.judgement import (
    StudiedRun,
    StudyUnusable,
    folds_of,
    grid_of,
    ground_of,
    judge,
    run_of,
    surface_of,
)
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
    instrument: str = "BTC/USD"
    timeframe: str = "1m"
    number: int = 0


@dataclass(frozen=True)
class Ground:
    part: str
    fold: int
    first_open_ns: int = 0
    last_close_ns: int = DAY_NS
    instrument: str = "BTC/USD"
    timeframe: str = "1m"
    days: int = 2


@dataclass(frozen=True)
class Study:
    """The parts of a study that reports read."""

    trials: list[Trial]
    grounds: list[Ground] = field(default_factory=lambda: [Ground("WHOLE", -1)])
    objective: str = "sharpe"
    folder: Path = Path("study")

    def on(self, ground: int) -> list[Trial]:
        return [trial for trial in self.trials if trial.ground == ground]

    def returns(self, ground: int) -> Any:
        """Each trial's returns are its number."""
        return np.array([[float(trial.number) for trial in self.on(ground)]] * self.grounds[ground].days)


def run(**parameters: Any) -> StudiedRun:
    return StudiedRun("ema_cross", parameters, "BTC/USD", "1m", 0, DAY_NS)


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
    """Values in order, the run's own, and whether it was among them."""
    values = {"fast": [5, 10, 20], "slow": [30, 60], "short": [0, 1]}
    tried, other = {"fast": 20, "slow": 60, "short": 0}, {"fast": 20, "slow": 30, "short": 0}
    assert grid_of(swept(), run(**tried), 0) == Grid(values, tried, True)
    assert grid_of(swept(), run(**other), 0) == Grid(values, other, False)


def test_the_surface_of_a_study() -> None:
    """The best over the third parameter; what was not tried has no value; the run's own point, not the best's."""
    surface = surface_of(swept(), run(fast=10, slow=30, short=1), 0)
    assert surface is not None
    assert (surface.x_name, surface.y_name, surface.chosen) == ("fast", "slow", (10.0, 30.0))
    assert surface.values == pytest.approx(np.array([[0.8, 1.3, np.nan], [1.1, 1.6, 2.6]]), nan_ok=True)
    elsewhere = surface_of(swept(), run(fast=7, slow=30, short=1), 0)
    assert elsewhere is not None
    assert elsewhere.chosen is None


def test_one_parameter_has_no_surface() -> None:
    """A line is not a surface."""
    assert surface_of(Study([Trial({"fast": fast}, Figures(1.0)) for fast in (5, 10)]), run(fast=5), 0) is None


def walked() -> Study:
    """Two folds; the second was spent in cash. Fast 9 was better in the first training, and lost half after it."""
    grounds = [
        Ground("IN_SAMPLE", 0),
        Ground("OUT_OF_SAMPLE", 0, DAY_NS, 2 * DAY_NS),
        Ground("IN_SAMPLE", 1),
        Ground("OUT_OF_SAMPLE", 1, 2 * DAY_NS, 3 * DAY_NS, days=3),
    ]
    trials = [
        Trial({"fast": 5}, Figures(1.0), number=1),
        Trial({"fast": 9}, Figures(2.0), number=2),
        Trial({"fast": 9}, Figures(0.5), ground=1, number=3),
        Trial({"fast": 5}, Figures(None), ground=2, number=4),
    ]
    return Study(trials, grounds)


def test_the_folds_of_a_walk() -> None:
    """What was chosen in training, there and in the test after it; a fold without a test is left out."""
    found = folds_of(walked(), run(fast=9))
    assert found is not None
    assert list(found.folds) == [Fold("1970-01-02 to 1970-01-02", 2.0, 0.5)]
    assert folds_of(swept(), run(fast=5)) is None


def test_the_ground_that_a_setting_was_chosen_on() -> None:
    """A walk's last training; else the run's own period; else the first there is."""
    assert ground_of(walked(), run(fast=9)) == 2
    two = Study([Trial({"fast": 5}, Figures(1.0), ground=ground) for ground in (0, 1)])
    two.grounds[:] = [Ground("WHOLE", -1, 7, 8), Ground("WHOLE", -1)]
    assert ground_of(two, run(fast=5)) == 1
    two.grounds[1] = Ground("WHOLE", -1, 7, 9)
    assert ground_of(two, run(fast=5)) == 0


def test_a_study_of_something_else_is_refused() -> None:
    """Its trials say nothing of this run's luck; the message names both."""
    session = small_run().session
    own = next(iter(session.listings.values())).name
    assert run_of(Study([Trial({}, Figures(1.0), instrument=own)]), session).strategy == "ema_cross"
    for trial in (Trial({}, Figures(1.0), strategy="grid", instrument=own), Trial({}, Figures(1.0), instrument="X/Y")):
        with pytest.raises(StudyUnusable, match=r"this run is ema_cross on .*: name the study that it came from"):
            run_of(Study([trial]), session)


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
