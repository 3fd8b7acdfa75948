"""A walk-forward tests on what its search did not see, and only the tests count."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.backtesting import synthetic_file
from tests.lab_search.studies import COSTS, as_hours, swept, trials_of

from tapeline_common.values import TrialPart
from tapeline_lab.search import load
from tapeline_lab.search.bench import DAY_NS
from tapeline_lab.search.walk_forward import FoldsInvalid, Schedule, even_schedule, folds_of, t_statistic
from tapeline_lab.search.walk_forward_command import walk_forward
from tapeline_strategy.catalogue import find
from tapeline_strategy.sdk import settles_after

HOUR_NS = 3_600_000_000_000
GRID = ("-p", "fast=3,6,12", "-p", "slow=20,40")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hours, so that a hundred days are few bars: the synthetic market's minutes, told as hours."""
    folder = tmp_path_factory.mktemp("bars")
    return as_hours(synthetic_file(folder / "minutes.parquet", 2400), folder / "BTCUSD.parquet")


def walked(*arguments: str, strategy: str = "ema_cross") -> dict[str, Any]:
    done = CliRunner().invoke(walk_forward, ["-s", strategy, *arguments, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# ---- folds -------------------------------------------------------------------------------------------------------


@given(
    days=st.integers(3, 60),
    offset=st.integers(0, 23),
    train=st.integers(1, 20),
    test=st.integers(1, 10),
    purge=st.integers(0, 30),
    is_anchored=st.booleans(),
    warm_up=st.integers(0, 400),
    hears_training=st.booleans(),
)
def test_folds_never_overlap_their_tests(
    days: int, offset: int, train: int, test: int, purge: int, is_anchored: bool, warm_up: int, hears_training: bool
) -> None:
    """Every training ends the purge before its test; tests follow each other; whole days; warm-up is in the past."""
    open_ns = np.arange(offset, days * 24, dtype=np.int64) * HOUR_NS
    try:
        found = folds_of(open_ns, Schedule(train, test, is_anchored, purge, warm_up, hears_training), 0)
    except FoldsInvalid:
        assert train * 24 <= purge or train + test > days - (offset > 0)
        return
    pairs = list(zip(found[::2], found[1::2], strict=True))
    for inside, outside in pairs:
        assert (inside.part, outside.part) == (TrialPart.IN_SAMPLE, TrialPart.OUT_OF_SAMPLE)
        assert inside.fold == outside.fold
        assert inside.stop + purge == outside.first
        assert 0 <= outside.warm_up_bars <= outside.first
        assert open_ns[outside.first] % DAY_NS == 0
        assert outside.stop - outside.first == test * 24
        expected = max(warm_up, outside.first - inside.first) if hears_training else warm_up
        assert outside.warm_up_bars == min(expected, outside.first)
        assert inside.warm_up_bars == min(warm_up, inside.first)
    for (_, before), (_, after) in pairwise(pairs):
        assert before.stop == after.first
    starts = {inside.first for inside, _ in pairs}
    assert len(starts) == (1 if is_anchored else len(pairs))


def test_a_number_of_folds_is_that_many() -> None:
    """Days that are left over are trained on; too many are refused with how many days there are."""
    open_ns = np.arange(0, 100 * 24, dtype=np.int64) * HOUR_NS
    for folds in (1, 3, 7, 98):
        train, test = even_schedule(open_ns, folds)
        assert len(folds_of(open_ns, Schedule(train, test, False, 0, 0), 0)) == 2 * folds
    with pytest.raises(FoldsInvalid, match="99 folds need at least 101 days, the bars span 100"):
        even_schedule(open_ns, 99)


# ---- results -----------------------------------------------------------------------------------------------------


def test_stitched_tests_are_the_result(tmp_path: Path, file: Path) -> None:
    """The best of each training, by a sweep of that period; its test's returns one after the other."""
    folder = tmp_path / "study"
    found = walked(*GRID, *COSTS, "--data", str(file), "--train", "40d", "--test", "20d", "--study", str(folder))
    (walk,) = found["walks"]
    study = load(folder)
    assert [fold["fold"] for fold in walk["folds"]] == [0, 1, 2]
    stitched = []
    for fold, (inside, outside) in zip(walk["folds"], ((0, 1), (2, 3), (4, 5)), strict=True):
        first, last = (np.datetime64(study.grounds[inside].first_open_ns, "ns"), fold["train_to_ns"])
        period = f"{first}..{np.datetime64(last, 'ns')}"
        best = swept(*GRID, *COSTS, "--data", str(file), "--rank-by", "sharpe", "--period", period)["results"][0]
        assert fold["parameters"] == best["parameters"]
        assert fold["in_sample_sharpe"] == best["sharpe"]
        (tested,) = study.on(outside)
        assert tested.parameters == best["parameters"]
        assert fold["out_of_sample_return"] == tested.figures.total_return
        stitched += study.returns(outside)[:, 0].tolist()
    assert walk["returns"] == stitched
    assert (walk["days"], len(stitched)) == (60, 60)
    assert walk["total_return"] == pytest.approx(np.prod(1 + np.array(stitched)) - 1, rel=1e-12)
    assert walk["t_statistic"] == t_statistic(np.array(stitched))
    assert walk["t_statistic"] == pytest.approx(walk["sharpe"] * np.sqrt(60 / 365), rel=1e-12)


def test_nothing_is_known_of_what_comes(tmp_path: Path, file: Path) -> None:
    """Other prices from the last test on change neither the folds before nor what is chosen for the last."""
    call = (*GRID, *COSTS, "--train", "40d", "--test", "20d")
    minutes = synthetic_file(tmp_path / "minutes.parquet", 2400)
    other = as_hours(minutes, tmp_path / "BTCUSD.parquet", changed=(80 * 24, 2.0))
    (walk,), (changed,) = (walked(*call, "--data", str(path))["walks"] for path in (file, other))
    assert changed["folds"][:2] == walk["folds"][:2]
    assert changed["folds"][2]["parameters"] == walk["folds"][2]["parameters"]
    assert changed["returns"][:40] == walk["returns"][:40]
    assert changed["returns"][40:] != walk["returns"][40:], "the test has to feel other prices"


@pytest.mark.parametrize("warm_up", ["0", "100"])
def test_both_gears_warm_up_alike(tmp_path: Path, file: Path, warm_up: str) -> None:
    """A compiled strategy's memory and the bars that the loop gear hears come to the same trades."""
    call = ("-p", "fast=6", "-p", "slow=40", *COSTS, "--data", str(file), "--train", "60d", "--test", "40d")
    kernel, loop = (
        walked(*call, "--warm-up", warm_up, "--gear", gear, "--workers", "1")["walks"] for gear in ("kernel", "loop")
    )
    assert kernel == loop


def test_a_test_begins_warm(tmp_path: Path, file: Path) -> None:
    """With bars heard before it, a strategy can act from the first bar on; without, only when it has warmed up."""
    call = ("-p", "fast=6", "-p", "slow=400", "--data", str(file), "--train", "60d", "--test", "20d")
    walked(*call, "--study", str(tmp_path / "warm"))
    walked(*call, "--warm-up", "0", "--study", str(tmp_path / "cold"))
    warm, cold = (trials_of(tmp_path / name) for name in ("warm", "cold"))
    tests = [trial.ground for trial in warm if trial.ground % 2]
    assert len(tests) == 2
    for ground in tests:
        one, other = (next(t for t in trials if t.ground == ground) for trials in (warm, cold))
        assert one.figures.exposure_share > other.figures.exposure_share


def test_a_short_training_settles_on_the_bars_before_it(tmp_path: Path, file: Path) -> None:
    """A slow average hears more than its training, before the training and before the test; the record says so."""
    call = ("-p", "fast=6", "-p", "slow=60,90", "--data", str(file), "--train", "4d", "--test", "4d")
    walked(*call, "--study", str(tmp_path / "study"))
    settled = settles_after(find("ema_cross"), {"fast": 6, "slow": 90})
    study = load(tmp_path / "study")
    first_ns = study.grounds[0].first_open_ns
    for ground in study.grounds:
        there = (ground.first_open_ns - first_ns) // HOUR_NS
        assert ground.warm_up_bars == min(settled, there)
    assert study.grounds[-1].warm_up_bars == settled > 4 * 24


def test_efficiency_of_a_loss_is_undefined(tmp_path: Path, file: Path) -> None:
    """With fees that eat everything nothing is earned in sample: no ratio is told, and nothing divides by zero."""
    (walk,) = walked(*GRID, "--fee", "0.05", "--data", str(file), "--folds", "3")["walks"]
    assert walk["efficiency"] is None
    assert walk["degradation"] is None


def test_a_killed_walk_goes_on(tmp_path: Path, file: Path) -> None:
    """A search that learns, cut short: the same choices again, from the record."""
    call = (*GRID, *COSTS, "--data", str(file), "--folds", "3", "--method", "bayesian", "--trials", "6")
    whole = walked(*call, "--study", str(tmp_path / "study"))
    before = load(tmp_path / "study")
    tape = (tmp_path / "study/study.tape").read_bytes()
    (tmp_path / "study/study.tape").write_bytes(tape[:-200])
    again = walked(*call, "--study", str(tmp_path / "study"))
    assert again == whole
    assert load(tmp_path / "study").tape_hash == before.tape_hash


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--train", "40d"), 2, "give --train and --test together"),
        (("--train", "90d", "--test", "20d"), 2, "do not fit into the 100 days"),
        (("--folds", "99"), 2, "99 folds need at least 101 days"),
        (("--train", "4m", "--test", "1d"), 2, "is no length such as 90d"),
        (("--period", "2024-01-01.."), 2, "leave --period away"),
    ],
)
def test_a_wrong_call_ends_with_one_message(file: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    """Which names the value and the fix."""
    done = CliRunner().invoke(walk_forward, ["-s", "ema_cross", "--data", str(file), *arguments])
    assert done.exit_code == code, done.output
    assert message in done.stderr


# ---- printed -----------------------------------------------------------------------------------------------------


def test_a_table_keeps_every_digit(file: Path) -> None:
    """Nothing is cut off where a program or a file reads; what all folds have in common is said once."""
    call = ["-s", "trend_follow", "-p", "trend=20..60:20", "-p", "stop_atr=2,3", "--data", str(file), "--folds", "4"]
    done = CliRunner().invoke(walk_forward, call)
    assert done.exit_code == 0, done.output
    assert "…" not in done.stdout
    (walk,) = json.loads(CliRunner().invoke(walk_forward, [*call, "--json"]).stdout)["walks"]
    chosen = [fold["parameters"] for fold in walk["folds"]]
    same = [name for name in chosen[0] if len({str(each[name]) for each in chosen}) == 1]
    assert f"in every fold: {' '.join(f'{name}={chosen[0][name]}' for name in same)}" in done.stdout
    for each in chosen:
        assert " ".join(f"{name}={value}" for name, value in each.items() if name not in same) in done.stdout
