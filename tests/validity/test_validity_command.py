"""``tapeline validity``: every figure follows from the records of the studies, and every trial on them counts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.backtesting import write_bars

from tapeline_common.cli import tapeline
from tapeline_lab.search import Study, load
from tapeline_lab.validity import (
    backtest_overfitting,
    deflated,
    effective_trials,
    moments,
    sharpe_ratios,
    superior_predictive_ability,
    superior_trials,
)
from tapeline_lab.validity.sources import SourceUnusable, read_history

HOUR_MS = 3_600_000
FIRST_MS = 1_700_006_400_000
"""A midnight."""

GRID = ("-s", "ema_cross", "-p", "fast=3..9:3", "-p", "slow=20,40", "--fee", "0.001", "--cash", "1000")


def bars(path: Path, days: int, seed: int) -> Path:
    """Hours of a price that wanders upwards."""
    closes = 100 * np.exp(np.cumsum(0.004 * np.random.default_rng(seed).standard_normal(24 * days) + 0.0003))
    rows, before = [], 100.0
    for hour, close in enumerate(np.round(closes, 2).tolist()):
        rows.append((FIRST_MS + hour * HOUR_MS, before, max(before, close), min(before, close), close, 50.0))
        before = close
    return write_bars(path, rows)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(tapeline, [str(each) for each in arguments])


def must(*arguments: object) -> Result:
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    return done


def said(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(must("validity", *arguments, "--json").stdout)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files, a sweep of each, and a walk-forward of the first."""
    found = tmp_path_factory.mktemp("studies")
    for name, seed in (("BTCUSD", 5), ("ETHUSD", 6)):
        file = bars(found / f"{name}.parquet", 120, seed)
        must("sweep", *GRID, "--rank-by", "sharpe", "--data", file, "--study", found / name)
    must("walk-forward", *GRID, "--data", found / "BTCUSD.parquet", "--folds", "3", "--study", found / "walk")
    return found


def best_of(study: Study) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The matrix of a study's trials, and its best column by Sharpe ratio."""
    matrix = study.returns()
    return matrix, matrix[:, int(np.argmax(sharpe_ratios(matrix)))]


def test_every_figure_is_the_functions_own(folder: Path) -> None:
    """Trials of both studies are counted, six for each; the other figures are those of the first one's matrix."""
    study = load(folder / "BTCUSD")
    matrix, best = best_of(study)
    (one, other) = said(folder / "BTCUSD", folder / "ETHUSD")["searches"]
    assert (one["trials"], one["counted"], other["counted"]) == (6, 12, 12)
    assert (one["instrument"], one["searched"], one["days"]) == ("BTC/USD", ["fast", "slow"], len(matrix))
    worth = 2 * effective_trials(matrix)
    expected = deflated(moments(best), float(np.var(sharpe_ratios(matrix), ddof=1)), worth)
    assert one["effective"] == pytest.approx(worth)
    assert one["sharpe"] == pytest.approx(moments(best).sharpe * math.sqrt(365))
    assert (one["luck"], one["deflated"]) == pytest.approx((expected.benchmark * math.sqrt(365), expected.probability))
    assert one["overfitting"] == backtest_overfitting(matrix).probability
    assert one["over_nothing"] == superior_predictive_ability(matrix, seed=0).consistent
    assert one["better_than_nothing"] == len(superior_trials(matrix, seed=0))
    assert (one["over_holding"], one["outside_sharpe"]) == (None, None)


def test_holding_is_at_the_same_volatility(folder: Path) -> None:
    """The instrument's own daily returns, scaled; the verdict says with how much of the money."""
    (one,) = said(folder / "BTCUSD", "--data", folder / "BTCUSD.parquet")["searches"]
    matrix, best = best_of(load(folder / "BTCUSD"))
    import polars

    closes = polars.read_parquet(folder / "BTCUSD.parquet")["close"].cast(float).to_numpy()
    held = np.diff(np.concatenate([closes[:1], closes[23::24]])) / np.concatenate([closes[:1], closes[23:-1:24]])
    assert one["holding_sharpe"] == pytest.approx(moments(held).sharpe * math.sqrt(365))
    share = min(1.0, np.std(best) / np.std(held))
    assert one["holding_share"] == pytest.approx(share)
    assert one["over_holding"] == superior_predictive_ability(matrix, share * held, seed=0).consistent
    assert any(f"holding with {share:.0%}".replace("%", " %") in words for words in one["words"])


def test_days_of_a_walk_forward_were_not_searched(folder: Path) -> None:
    """Inside and outside are those of the walk-forward's own result."""
    (one,) = said(folder / "BTCUSD", "--walk", folder / "walk")["searches"]
    stitched = must("walk-forward", *GRID, "--data", folder / "BTCUSD.parquet", "--folds", "3", "--json").stdout
    (walk,) = json.loads(stitched)["walks"]
    inside, outside = load(folder / "walk").walked("BTC/USD", "1h", "ema_cross")
    assert outside.tolist() == walk["returns"]
    assert one["outside_sharpe"] == pytest.approx(walk["sharpe"])
    assert one["outside_t"] == pytest.approx(walk["t_statistic"])
    assert one["inside_sharpe"] == pytest.approx(moments(inside).sharpe * math.sqrt(365))
    assert any("it was not chosen by, its Sharpe ratio is" in words for words in one["words"])


def test_the_tests_of_a_walk_forward_can_be_resampled(folder: Path) -> None:
    """Its own daily returns on its own days; a sweep's days were chosen by, and are refused."""
    stitched = must("walk-forward", *GRID, "--data", folder / "BTCUSD.parquet", "--folds", "3", "--json").stdout
    (walk,) = json.loads(stitched)["walks"]
    history = read_history(folder / "walk")
    assert history.returns[:, 0].tolist() == walk["returns"]
    assert history.days.tolist() == list(range(int(history.days[0]), int(history.days[0]) + walk["days"]))
    assert int(history.days[0]) * 86_400_000_000_000 == walk["folds"][0]["test_from_ns"]
    assert (history.accounts, history.periods_per_year) == (("BTC/USD",), 365.0)
    with pytest.raises(SourceUnusable, match="holds 0 walk-forwards"):
        read_history(folder / "BTCUSD")


def test_people_get_a_column_for_each_search_and_its_verdict(folder: Path) -> None:
    printed = must("validity", folder / "BTCUSD", folder / "ETHUSD").stdout
    for text in ("BTC/USD", "ETH/USD", "trials counted / here", "12 / 6", "(DSR)", "(PBO)", "(SPA)", "(StepM)", "…"):
        assert (text in printed) == (text != "…"), printed
    assert printed.count("ema_cross on ") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing",), "holds no study"),
        (("BTCUSD", "--data", "ETHUSD.parquet"), "none of the --data files is BTCUSD.parquet"),
        (("ETHUSD", "--walk", "walk"), "none of the --walk folders has ETH/USD 1h"),
        (("walk",), "name the folder of a sweep"),
    ],
)
def test_what_cannot_be_judged_is_said(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    """One message, and no verdict."""
    named = [each if each.startswith("--") else folder / each for each in arguments]
    done = call("validity", *named)
    assert done.exit_code in (2, 4)
    assert words in done.output.replace("\n", " ")
