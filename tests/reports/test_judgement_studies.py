"""A report and the studies its run came from: each run finds its own bars, settings and folds in them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.backtesting import write_bars

import tapeline_backtest
from tapeline_backtest.session import Session
from tapeline_common.cli import tapeline
from tapeline_lab.reports.judgement import Judgement, StudyUnusable, judge
from tapeline_lab.reports.metrics import daily
from tapeline_lab.search import load

HOUR_MS, FIRST_MS = 3_600_000, 1_700_006_400_000
"""The first bar opens at a midnight."""

DAYS = 120
GRID = ("-s", "ema_cross", "-p", "fast=3..9:3", "-p", "slow=20,30,40", "--fee", "0.001", "--rank-by", "sharpe")
CHOSEN = {"fast": 6, "slow": 30}


def bars(path: Path, seed: int, first_day: int = 0) -> Path:
    """Hours of a price that wanders upwards."""
    closes = 100 * np.exp(np.cumsum(0.004 * np.random.default_rng(seed).standard_normal(24 * DAYS) + 0.0003))
    rows, before = [], 100.0
    for hour, close in enumerate(np.round(closes, 2).tolist(), 24 * first_day):
        rows.append((FIRST_MS + hour * HOUR_MS, before, max(before, close), min(before, close), close, 50.0))
        before = close
    return write_bars(path, rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sweep and one walk-forward of two coins, and days of the second that neither has seen."""
    found = tmp_path_factory.mktemp("studies")
    (found / "later").mkdir()
    bars(found / "later" / "ETHUSD.parquet", 7, DAYS)
    files = [bars(found / "BTCUSD.parquet", 5), bars(found / "ETHUSD.parquet", 6)]
    data = [each for file in files for each in ("--data", str(file))]
    walk = [each for each in GRID if each not in ("--rank-by", "sharpe")]
    for arguments in (
        ("sweep", *GRID, *data, "--study", str(found / "sweep")),
        ("walk-forward", *walk, *data, "--folds", "3", "--study", str(found / "walk")),
    ):
        done = CliRunner().invoke(tapeline, arguments)
        assert done.exit_code == 0, done.output
    return found


def ran(file: Path) -> Session:
    return tapeline_backtest.run("ema_cross", file, parameters=CHOSEN, fee="0.001").session


def words(found: Judgement) -> str:
    return "\n".join(found.verdict.words)


def test_a_run_is_judged_by_the_search_on_its_own_bars(folder: Path) -> None:
    """Of the second coin: its grid, its surface, its folds, the run's own setting, and every trial of both coins."""
    session = ran(folder / "ETHUSD.parquet")
    found = judge(session, daily(session), [folder / "sweep", folder / "walk"], is_drawn=False)
    sweep, walk = load(folder / "sweep"), load(folder / "walk")
    assert found.grid is not None
    assert found.grid.chosen == CHOSEN
    surface = found.extras.surface
    assert surface is not None
    own = {(t.parameters["slow"], t.parameters["fast"]): t.figures.sharpe for t in sweep.on(1)}
    names = (surface.x_name, surface.y_name)
    drawn = {
        tuple(value for _, value in sorted(zip(names, (x, y), strict=True), reverse=True)): surface.values[row, column]
        for row, y in enumerate(surface.y)
        for column, x in enumerate(surface.x)
    }
    assert drawn == pytest.approx(own)
    folds = found.extras.folds
    assert folds is not None
    tests = [index for index, ground in enumerate(walk.grounds) if ground.instrument == "ETH/USD"][1::2]
    assert [fold.out_of_sample for fold in folds.folds] == [walk.on(index)[0].figures.sharpe for index in tests]
    assert f"It is one of {sweep.trial_count} recorded trials" in words(found)
    _, outside = walk.walked("ETH/USD", "1h", "ema_cross")
    ratio = float(np.mean(outside) / np.std(outside, ddof=1)) * math.sqrt(365)
    assert f"it was not chosen by, its Sharpe ratio is {ratio:.2f}" in words(found)


def test_days_that_no_search_saw_are_outside(folder: Path) -> None:
    """The run is the only one on its days, and beside it stands what the same setting did where it was found."""
    session = ran(folder / "later" / "ETHUSD.parquet")
    found = judge(session, daily(session), [folder / "sweep"], is_drawn=False)
    (inside,) = (trial for trial in load(folder / "sweep").on(1) if trial.parameters == CHOSEN)
    assert "It is the only variant that was tried." in words(found)
    assert f"on those it was chosen by {inside.figures.sharpe:.2f}" in words(found)


def test_without_a_search_the_last_training_of_a_walk_forward_is_one(folder: Path) -> None:
    """Its tests count as outside, its trials as chances for luck, and what is drawn is its last training."""
    session = ran(folder / "ETHUSD.parquet")
    found = judge(session, daily(session), [folder / "walk"], is_drawn=False)
    walk = load(folder / "walk")
    trainings = [index for index, ground in enumerate(walk.grounds) if ground.instrument == "ETH/USD"][::2]
    surface = found.extras.surface
    assert found.grid is not None
    assert found.grid.is_tried
    assert surface is not None
    assert np.nanmax(surface.values) == max(trial.figures.sharpe or 0.0 for trial in walk.on(trainings[-1]))
    assert "it was not chosen by, its Sharpe ratio is" in words(found)
    assert f"It is one of {walk.trial_count} recorded trials" in words(found)


def test_a_study_of_other_bars_is_refused(folder: Path) -> None:
    """Its trials say nothing of this run."""
    session = ran(bars(folder / "SOLUSD.parquet", 8))
    with pytest.raises(
        StudyUnusable,
        match=r"has results of ema_cross on BTC/USD 1h, ema_cross on ETH/USD 1h, this run is ema_cross on SOL",
    ):
        judge(session, daily(session), [folder / "sweep"], is_drawn=False)
