"""Sensitivity tells a plateau from a peak; a comparison measures everybody on the same bars."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from tests.backtesting import synthetic_file
from tests.lab_search.studies import COSTS, swept

from tapeline_common.events import TrialFigures, TrialFinished
from tapeline_lab.search import load
from tapeline_lab.search.compare_command import compare
from tapeline_lab.search.objectives import Objective
from tapeline_lab.search.sensitivity import neighbourhood, surface_of
from tapeline_lab.search.sensitivity_command import sensitivity
from tapeline_marketdata.files import read_bars
from tapeline_strategy.catalogue import find

CENTRE = {"fast": 100, "slow": 200}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_file(tmp_path_factory.mktemp("bars") / "BTCUSD.parquet", 3000)


def trial(fast: int, slow: int, sharpe: float | None, profit: int = 1) -> TrialFinished:
    plain: dict[str, Any] = {field.name: 0 for field in msgspec.structs.fields(TrialFigures)}
    figures = TrialFigures(**{**plain, "sharpe": sharpe, "net_profit": Decimal(profit)})
    parameters = {"fast": fast, "slow": slow}
    return TrialFinished("s", 0, "ema_cross", parameters, "BTC/USD", "1m", 0, 0, 0, 0, figures, "")  # type: ignore[arg-type]


def surface(height: Any) -> list[TrialFinished]:
    """The centre, then a grid around it; height of (fast, slow)."""
    points = [(100, 200), *((f, s) for f in range(80, 121, 4) for s in range(160, 241, 8) if (f, s) != (100, 200))]
    return [trial(fast, slow, height(fast, slow)) for fast, slow in points]


def test_the_middle_of_a_plateau_is_recommended() -> None:
    """Not the spike beside it: one setting of 9 amid nothing, and a wide stretch of 2 elsewhere."""

    def height(fast: int, slow: int) -> float:
        if (fast, slow) == (84, 168):
            return 9.0
        return 2.0 if fast >= 104 and slow >= 208 else 0.1

    found = surface_of(surface(height), CENTRE, Objective.SHARPE, 0.2)
    assert (found.peak, found.peak_value) == ({"fast": 84, "slow": 168}, 9.0)
    assert found.recommended is not None
    assert found.recommended["fast"] >= 104
    assert found.recommended["slow"] >= 208
    assert found.plateau_ratio == pytest.approx(0.1 / 9.0)


def test_a_flat_surface_is_all_plateau() -> None:
    """Its ratio is one and its middle is the centre."""
    found = surface_of(surface(lambda _fast, _slow: 1.5), CENTRE, Objective.SHARPE, 0.2)
    assert (found.plateau_ratio, found.recommended, found.profitable) == (1.0, CENTRE, 1.0)


def test_losses_have_no_plateau() -> None:
    """A ratio of two losses would praise the smaller one."""
    found = surface_of(surface(lambda _fast, _slow: -1.0), CENTRE, Objective.SHARPE, 0.2)
    assert (found.plateau_ratio, found.recommended) == (None, None)


def test_a_neighbourhood_keeps_to_the_bounds() -> None:
    """A fifth to both sides, whole numbers whole, truths and held parameters as they are."""
    around = neighbourhood(find("ema_cross"), {"fast": 10, "slow": 30}, 0.2, [])
    assert around == {"fast": [*map(str, range(8, 13))], "slow": [*map(str, range(24, 37))]}
    held = neighbourhood(find("ema_cross"), {"fast": 2, "slow": 30}, 0.5, ["slow"])
    assert held == {"fast": ["2", "3"], "slow": ["30"]}
    mixed = neighbourhood(find("trend_follow"), _defaults("trend_follow"), 0.2, [])
    assert mixed["short"] == ["False"]
    assert float(mixed["stop_atr"][len(mixed["stop_atr"]) // 2]) == 3.0


def _defaults(kind: str) -> dict[str, Any]:
    return {parameter.name: parameter.default for parameter in find(kind).parameters}


def test_the_command_tries_the_surroundings(tmp_path: Path, file: Path) -> None:
    """The centre first, each setting once, all on the record and as a sweep has them."""
    call = ["-s", "ema_cross", "-p", "fast=10", "-p", "slow=30", *COSTS, "--data", str(file)]
    done = CliRunner().invoke(sensitivity, [*call, "--method", "grid", "--study", str(tmp_path / "s"), "--json"])
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)
    study = load(tmp_path / "s")
    assert study.trials[0].parameters == found["centre"] == {"fast": 10, "slow": 30}
    assert found["points"] == study.trial_count == 5 * 13
    settings = {(point["parameters"]["fast"], point["parameters"]["slow"]) for point in found["surface"]}
    assert settings == {(fast, slow) for fast in range(8, 13) for slow in range(24, 37)}
    swept_too = swept("-p", "fast=8..12", "-p", "slow=24..36", *COSTS, "--data", str(file), "--rank-by", "sharpe")
    assert found["peak_value"] == swept_too["results"][0]["sharpe"]


def test_several_values_are_no_centre(file: Path) -> None:
    """One message that says what to give."""
    done = CliRunner().invoke(sensitivity, ["-s", "ema_cross", "-p", "fast=5..9", "--data", str(file)])
    assert done.exit_code == 2
    assert "give one value, the centre" in done.stderr


def test_holding_is_the_yardstick(tmp_path: Path, file: Path) -> None:
    """Strategies and a study's best beside holding, each as its own backtest has it."""
    folder = tmp_path / "searched"
    best = swept("-p", "fast=4..9", *COSTS, "--data", str(file), "--study", str(folder))["results"][0]
    call = ["-s", "ema_cross", "-s", "trend_follow", "--with", str(folder), *COSTS, "--data", str(file)]
    done = CliRunner().invoke(compare, [*call, "--rank-by", "total_return", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    by_name = {row["name"]: row for row in rows}
    assert set(by_name) == {"hold", "ema_cross", "trend_follow", "ema_cross of searched"}
    assert [row["total_return"] for row in rows] == sorted((row["total_return"] for row in rows), reverse=True)
    closes = read_bars(file).columns.close
    assert by_name["hold"]["total_return"] == closes[-1] / closes[0] - 1
    searched = by_name["ema_cross of searched"]
    assert (searched["parameters"], searched["total_return"]) == (best["parameters"], best["total_return"])
    assert searched["excess_return"] == best["total_return"] - by_name["hold"]["total_return"]
    assert np.isfinite(by_name["hold"]["max_drawdown"])


def test_studies_alone_bring_their_own_settings(tmp_path: Path, file: Path) -> None:
    """Nobody asked for a default setting beside them."""
    swept("-p", "fast=4..9", *COSTS, "--data", str(file), "--study", str(tmp_path / "searched"))
    call = ["--with", str(tmp_path / "searched"), *COSTS, "--data", str(file), "--json"]
    done = CliRunner().invoke(compare, call)
    assert done.exit_code == 0, done.output
    assert {row["name"] for row in json.loads(done.stdout)["rows"]} == {"hold", "ema_cross of searched"}


def test_a_folder_without_a_study_takes_no_part(tmp_path: Path, file: Path) -> None:
    """Exit code 4 and its name."""
    done = CliRunner().invoke(compare, ["--with", str(tmp_path), "--data", str(file)])
    assert done.exit_code == 4
    assert f"--with {tmp_path}" in done.stderr
