"""A study is its record: what was done is on its tape, what was killed goes on, and nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.backtesting import synthetic_file
from tests.lab_search.studies import COSTS, facts_of, in_process, swept, trials_of

from tapeline_common.events import StudyFinished, StudyOpened, TrialFinished
from tapeline_common.tape_file import TapeFile
from tapeline_lab.search import StudyUnreadable, load
from tapeline_lab.search.figures import returns_digest
from tapeline_lab.search.record import TAPE
from tapeline_lab.search.sweep_command import sweep_command

GRID = ("-p", "fast=3..9", "-p", "slow=10..40:5")
COUNT = 7 * 7


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_file(tmp_path_factory.mktemp("bars") / "BTCUSD.parquet", 3000)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, file: Path) -> Path:
    """A study that nothing interrupted."""
    folder = tmp_path_factory.mktemp("studies") / "whole"
    swept(*GRID, *COSTS, "--data", str(file), "--study", str(folder))
    return folder


def test_every_trial_is_a_fact(whole: Path, file: Path) -> None:
    """Opened, each trial in the order of the grid with the figures that are printed, finished."""
    opened, *trials, finished = facts_of(whole)
    printed = swept(*GRID, *COSTS, "--data", str(file))["results"]
    assert isinstance(opened, StudyOpened)
    assert (opened.total, opened.candidates, opened.strategies) == (COUNT, COUNT, ("ema_cross",))
    assert [trial.number for trial in trials] == list(range(COUNT))
    best = max(trials, key=lambda trial: (trial.figures.net_profit, -trial.number))
    assert finished == StudyFinished(opened.study, COUNT, 0, best.number)
    by_number = {row["number"]: row for row in printed}
    for trial in trials:
        row = by_number[trial.number]
        assert (row["parameters"], row["net_profit"]) == (trial.parameters, str(trial.figures.net_profit))
        assert row["sharpe"] == trial.figures.sharpe


def test_returns_are_what_their_facts_vouch_for(whole: Path) -> None:
    """One column a trial, days in rows, compounding to no more than the trial's own result."""
    study = load(whole)
    returns, days = study.returns(), study.days()
    assert returns.shape == (len(days), COUNT) == (study.grounds[0].days, study.trial_count)
    for column, trial in zip(returns.T, study.trials, strict=True):
        assert returns_digest(column) == trial.returns
        assert np.prod(1 + column) - 1 == pytest.approx(trial.figures.total_return, rel=1e-9)


def test_a_changed_return_is_found(whole: Path, tmp_path: Path) -> None:
    """Reading says which trial's returns are not what it came to; a study that goes on runs it again."""
    folder = _copied(whole, tmp_path)
    matrix = np.load(folder / "returns-0.npy", mmap_mode="r+")
    matrix[0, 3] += 1e-12
    matrix.flush()
    with pytest.raises(StudyUnreadable, match="trial 3 are not"):
        load(folder).returns()


def test_the_same_call_changes_nothing(whole: Path, tmp_path: Path, file: Path) -> None:
    """A finished study is read, not run: same results, every trial known, the tape as it was."""
    folder = _copied(whole, tmp_path)
    before = (folder / TAPE).read_bytes()
    again = swept(*GRID, *COSTS, "--data", str(file), "--study", str(folder))
    assert (again["repeated"], again["done"]) == (COUNT, COUNT)
    assert (folder / TAPE).read_bytes() == before


@pytest.mark.parametrize("kept", [0, 1, 17, COUNT - 1])
def test_a_cut_tape_is_completed(whole: Path, tmp_path: Path, file: Path, kept: int) -> None:
    """Whatever a kill left: known trials are not run again, and the end is the same to the last byte of the facts."""
    folder = _copied(whole, tmp_path)
    _cut(folder, kept)
    again = swept(*GRID, *COSTS, "--data", str(file), "--study", str(folder))
    assert (again["repeated"], again["done"]) == (kept, COUNT)
    assert facts_of(folder) == facts_of(whole)
    assert load(folder).tape_hash == load(whole).tape_hash
    assert np.array_equal(load(folder).returns(), load(whole).returns())


def test_a_trial_whose_returns_were_lost_is_run_again(whole: Path, tmp_path: Path, file: Path) -> None:
    """The facts after it as well, for they stand in order."""
    folder = _copied(whole, tmp_path)
    _cut(folder, 20)
    matrix = np.load(folder / "returns-0.npy", mmap_mode="r+")
    matrix[:, 11] = 0.5
    matrix.flush()
    again = swept(*GRID, *COSTS, "--data", str(file), "--study", str(folder))
    assert again["repeated"] == 11
    assert load(folder).tape_hash == load(whole).tape_hash


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("--fee", "0.002"), "configuration"),
        (("-p", "fast=3..10"), "space, candidates"),
        (("--rank-by", "sharpe"), "objective"),
        (("--seed", "1"), "seed"),
    ],
)
def test_another_study_is_refused(whole: Path, file: Path, change: tuple[str, ...], named: str) -> None:
    """The message says what differs; nothing is changed."""
    before = (whole / TAPE).read_bytes()
    call = ["-s", "ema_cross", *GRID, *COSTS, "--data", str(file), "--study", str(whole), *change]
    done = CliRunner().invoke(sweep_command, call)
    assert done.exit_code == 2
    assert f"differs in {named}" in done.stderr
    assert (whole / TAPE).read_bytes() == before


def test_other_data_are_refused(whole: Path, tmp_path: Path) -> None:
    """A file of the same name with other bars is other data."""
    other = synthetic_file(tmp_path / "BTCUSD.parquet", 3000, seed=5)
    call = ["-s", "ema_cross", *GRID, *COSTS, "--data", str(other), "--study", str(whole)]
    done = CliRunner().invoke(sweep_command, call)
    assert done.exit_code == 2
    assert "differs in grounds" in done.stderr


def test_a_folder_without_a_study_is_said(tmp_path: Path) -> None:
    """By name, with what to do."""
    with pytest.raises(StudyUnreadable, match="holds no study"):
        load(tmp_path)


def test_a_killed_sweep_goes_on(tmp_path: Path, file: Path) -> None:
    """kill -9 once some trials are on the tape: what they came to is kept, the rest is run, the tape is the same."""
    _killed_and_finished(tmp_path, file, ("-p", "fast=2..9", "-p", "slow=301..340"), 320)


@pytest.mark.slow
def test_a_killed_sweep_of_two_thousand_goes_on(tmp_path: Path) -> None:
    """The same on 2,000 trials of a longer file."""
    file = synthetic_file(tmp_path / "BTCUSD.parquet", 60_000)
    _killed_and_finished(tmp_path, file, ("-p", "fast=2..21", "-p", "slow=301..400"), 2000)


def _killed_and_finished(tmp_path: Path, file: Path, grid: tuple[str, ...], count: int) -> None:
    call = (*grid, *COSTS, "--data", str(file), "--json", "--workers", "1")
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    command = [sys.executable, "-m", "tests.lab_search.slowed", "sweep", "-s", "ema_cross", *call]
    with subprocess.Popen([*command, "--study", str(killed)], stdout=subprocess.DEVNULL) as running:
        recorded = _until_recorded(killed, running)
        os.kill(running.pid, signal.SIGKILL)
    assert running.returncode == -signal.SIGKILL
    study = load(killed)
    known = len(study.trials)
    assert recorded <= known < count
    assert not study.is_complete
    done = in_process(*call, "--study", str(killed))
    assert done.returncode == 0, done.stderr
    assert f'"repeated":{known},' in done.stdout
    assert in_process(*call, "--study", str(straight)).returncode == 0
    assert [trial.number for trial in trials_of(killed)] == list(range(count))
    assert load(killed).tape_hash == load(straight).tape_hash
    assert np.array_equal(load(killed).returns(), load(straight).returns())


def _until_recorded(folder: Path, running: subprocess.Popen[bytes]) -> int:
    """Wait for progress: some trials on the tape, not all of them."""
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        assert running.poll() is None, "the sweep ended before it could be killed"
        try:
            trials = len(load(folder).trials)
        except StudyUnreadable:
            trials = 0
        if trials >= 5:
            return trials
    raise AssertionError("no trial was recorded")


def _copied(whole: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _cut(folder: Path, kept: int) -> None:
    """Leave the tape as a kill after so many trials does: a segment of them and no end; their returns only."""
    from tapeline_common.sequencer import Sequencer
    from tapeline_common.tape_file_writer import TapeWriter
    from tapeline_common.values import Realm

    with TapeFile(folder / TAPE) as tape:
        stamp_ns = tape.segments[0].first_time_ns
    events = facts_of(folder)[: 1 + kept]
    sequencer = Sequencer(Realm.REPLAY)
    writer = TapeWriter(folder / TAPE, replace=True)
    for index, event in enumerate(events):
        identity = "opened" if index == 0 else f"trial:{index - 1}"
        writer.take(sequencer.record("laboratory", event, identity, 0, 0, stamp_ns))
    writer.abandon()
    matrix = np.load(folder / "returns-0.npy", mmap_mode="r+")
    matrix[:, kept:] = 0.0
    matrix.flush()
    assert all(isinstance(event, TrialFinished) for event in events[1:])
