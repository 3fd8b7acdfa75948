"""Recorded runs beside each other and beside holding: figures by hand, differences that are told apart or are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from tests.backtesting import backtest, synthetic_file
from tests.lab_parity.sessions import live_facts, write_tape
from tests.lab_search.studies import COSTS, as_hours

from tapeline_lab.reports.command import report_command
from tapeline_lab.search.compare_command import compare
from tapeline_lab.search.recorded import (
    LEAST_DAYS,
    DailyFigures,
    Difference,
    RecordedRun,
    RunUnusable,
    figures_of,
    side_by_side,
)
from tapeline_marketdata.files import read_bars

DAYS = 250


def chance(seed: int) -> Any:
    return np.random.Generator(np.random.PCG64(seed)).normal(0.0005, 0.01, DAYS)


def run(name: str, returns: Any, **changes: Any) -> RecordedRun:
    """Held beside a market of its own, day by day from the first of 2024."""
    day = 19_723 + np.arange(len(returns), dtype=np.int64)
    made = RecordedRun(name, "REPLAY", day, returns, chance(1)[: len(returns)], 365, 7)
    return replace(made, **changes)


# ---- figures and differences -------------------------------------------------------------------------------------


def test_figures_by_hand() -> None:
    """Half a percent up and one down, twice, in a year of four days."""
    returns = np.array([0.005, -0.01, 0.005, -0.01])
    growth = (1.005 * 0.99) ** 2
    found = figures_of(returns, 4)
    assert found.total_return == pytest.approx(growth - 1)
    assert found.annual_return == pytest.approx(growth - 1)
    assert found.sharpe == pytest.approx(-0.0025 / np.std(returns, ddof=1) * 2)
    assert found.max_drawdown == pytest.approx(1 - 0.99 * 1.005 * 0.99)
    assert figures_of(np.zeros(5), 4) == DailyFigures(0.0, 0.0, None, None, None, 0.0)


def test_what_is_better_every_day_is_told_apart() -> None:
    """A quarter of a percent a day on top of the market: the interval lies above zero and holds the difference."""
    market = chance(1)
    comparison = side_by_side([run("better", market + 0.0025)], seed=3)
    for found in comparison.rows[0].over_hold.values():
        assert found.is_told_apart
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert 0 < found.low < found.value < found.high


def test_the_interval_is_that_of_the_difference_and_not_of_two_runs() -> None:
    """What both share cancels: resampled by the same days it is far narrower than the run's own."""
    market = chance(1)
    near = np.random.Generator(np.random.PCG64(8)).normal(0.0, 0.0005, DAYS)
    (close, apart) = side_by_side([run("near", market + near), run("other", chance(2))], seed=3).rows
    widths = [one.over_hold["sharpe"].high - one.over_hold["sharpe"].low for one in (close, apart)]  # type: ignore[operator]
    assert widths[0] * 5 < widths[1]
    assert not apart.over_hold["sharpe"].is_told_apart


def test_the_difference_of_equals_is_nothing() -> None:
    """A run beside itself: zero, on every resample, and the first has nothing before it."""
    first, again = side_by_side([run("one", chance(4)), run("same", chance(4))], seed=0).rows
    assert first.over_first == {}
    assert again.over_first == {name: Difference(0.0, 0.0, 0.0, DAYS) for name in ("annual_return", "sharpe")}
    assert not again.over_first["sharpe"].is_told_apart


def test_the_same_seed_says_the_same() -> None:
    """And another one nearly the same."""
    runs = [run("one", chance(4)), run("other", chance(5))]
    assert side_by_side(runs, 1) == side_by_side(runs, 1)
    assert side_by_side(runs, 1) != side_by_side(runs, 2)


def test_runs_are_compared_on_the_days_they_share() -> None:
    """The second began a hundred days later; on other days the first's results do not count."""
    returns = chance(4)
    late = run("late", returns[100:], day=run("", returns).day[100:], market=chance(1)[100:])
    assert side_by_side([run("whole", returns), late], 0).rows[1].over_first["sharpe"] == Difference(0.0, 0.0, 0.0, 150)
    with pytest.raises(RunUnusable, match="late and whole have no day in common"):
        side_by_side([run("whole", returns), replace(late, day=late.day + 1000)], 0)


def test_few_days_and_no_trades_have_no_interval() -> None:
    """The difference is told, where it is defined, and nothing is said of chance."""
    (few, idle) = side_by_side([run("few", chance(4)[:10]), run("idle", np.zeros(DAYS))], 0).rows
    assert few.over_hold["sharpe"].value is not None
    assert (few.over_hold["sharpe"].low, few.over_hold["sharpe"].high) == (None, None)
    assert idle.over_hold["sharpe"] == Difference(None, None, None, DAYS)
    assert idle.over_hold["annual_return"].value is not None


# ---- the command -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recorded backtests of forty days in hours, and the report of the first."""
    folder = tmp_path_factory.mktemp("recorded")
    file = as_hours(synthetic_file(folder / "minutes.parquet", 960), folder / "BTCUSD.parquet")
    for name, slow in (("quick", 20), ("calm", 60)):
        backtest(
            *("-s", "ema_cross", "-p", "fast=6", "-p", f"slow={slow}", "--data", str(file)),
            *COSTS, "--record", str(folder / f"{name}.tape"),
        )  # fmt: skip
    done = CliRunner().invoke(report_command, [str(folder / "quick.tape"), "--to", str(folder / "report")])
    assert done.exit_code == 0, done.output
    return folder


def compared(*arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(compare, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


def test_tapes_are_compared_with_holding_and_with_each_other(folder: Path) -> None:
    """Each row is its own backtest's; holding is the same bars' first and last close."""
    quick, calm = compared(str(folder / "quick.tape"), str(folder / "calm.tape"))
    closes = read_bars(folder / "BTCUSD.parquet").columns.close
    for row in (quick, calm):
        assert (row["realm"], row["days"]) == ("REPLAY", 40)
        assert row["hold"]["total_return"] == pytest.approx(closes[-1] / closes[0] - 1)
        assert row["over_hold"]["sharpe"]["low"] < row["over_hold"]["sharpe"]["high"]
    assert quick["trades"] > calm["trades"]
    sharpe = calm["over_first"]["sharpe"]
    assert sharpe["value"] == pytest.approx(calm["figures"]["sharpe"] - quick["figures"]["sharpe"])
    assert sharpe["low"] <= sharpe["value"] <= sharpe["high"]


@pytest.mark.parametrize("place", ["report", "report/report.json"])
def test_a_report_is_the_run_it_is_of(folder: Path, place: str) -> None:
    """The folder and the file say what the tape says, to the last digit."""
    of_tape, of_report = compared(str(folder / "quick.tape"), str(folder / place))
    assert {**of_report, "name": "", "over_first": {}} == {**of_tape, "name": ""}
    assert of_report["over_first"]["sharpe"]["value"] == 0.0


def test_a_live_tape_takes_part(folder: Path, tmp_path: Path) -> None:
    """What paper or live trading recorded is read as it lies; too short for an interval, and said to be live."""
    (live,) = compared(str(write_tape(tmp_path / "live.tape", live_facts(1))))
    assert live["realm"] == "LIVE"
    assert live["days"] < LEAST_DAYS
    assert live["over_hold"]["sharpe"]["low"] is None
    assert live["hold"]["total_return"] != 0.0


def test_the_table_says_who_is_told_apart(folder: Path) -> None:
    """Runs, holding, and the differences."""
    done = CliRunner().invoke(compare, [str(folder / "quick.tape"), str(folder / "calm.tape")])
    assert done.exit_code == 0, done.output
    for words in ("2 recorded runs, by daily closes", "holding the same", "the first run", "told apart"):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-s", "ema_cross"), 2, "recorded runs are compared as they are"),
        (("--data", "x.csv"), 2, "record the other side with `tapeline backtest --record`"),
        (("{}/missing.tape",), 4, "missing.tape does not exist"),
        (("{}/BTCUSD.parquet",), 4, "BTCUSD.parquet"),
        (("{}/old",), 4, "equity.parquet has no column market"),
    ],
)
def test_a_wrong_call_ends_with_one_message(folder: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    """Which names the run and the fix."""
    old = folder / "old"
    old.mkdir(exist_ok=True)
    (old / "report.json").write_bytes((folder / "report" / "report.json").read_bytes())
    pl.read_parquet(folder / "report" / "equity.parquet").drop("market").write_parquet(old / "equity.parquet")
    given = [each.replace("{}", str(folder)) for each in arguments]
    done = CliRunner().invoke(compare, [str(folder / "quick.tape"), *given])
    assert done.exit_code == code, done.output
    assert message in done.stderr
