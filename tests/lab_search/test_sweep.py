"""A sweep is many backtests: same figures, in the order of the grid, however many workers there are."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner
from tests.backtesting import synthetic_file, write_bars

from tapeline_backtest.command import backtest as backtest_command
from tapeline_common.events import TrialFigures
from tapeline_lab.search import space as engine
from tapeline_lab.search.objectives import Objective, ranked
from tapeline_lab.search.space import GridInvalid, grid, space_of, values_of
from tapeline_lab.search.sweep_command import sweep_command
from tapeline_marketdata.columns import file_digest
from tapeline_marketdata.files import read_bars
from tapeline_strategy.ema_cross import STRATEGY
from tapeline_strategy.sdk import ParameterInvalid

COSTS = ("--fee", "0.001", "--slippage-bps", "1.5", "--size", "0.5")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_file(tmp_path_factory.mktemp("bars") / "BTCUSD.parquet", 3000)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_file(tmp_path_factory.mktemp("bars") / "ETHUSD.parquet", 2000, seed=5)


def printed(command: click.Command, *arguments: str) -> dict[str, Any]:
    """The JSON object of a command that must succeed, run in this process."""
    done = CliRunner().invoke(command, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def swept(*arguments: str) -> dict[str, Any]:
    return printed(sweep_command, "-s", "ema_cross", *arguments)


def backtest(*arguments: str) -> dict[str, Any]:
    return printed(backtest_command, *arguments)


# ---- the grid ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5..8", ["5", "6", "7", "8"]),
        ("20..65:15", ["20", "35", "50", "65"]),
        ("1..2:0.4", ["1", "1.4", "1.8"]),
        ("0.5..1:0.25", ["0.5", "0.75", "1"]),
        ("3", ["3"]),
        ("true,false", ["true", "false"]),
        ("2,5..6,30..40:10", ["2", "5", "6", "30", "40"]),
        ("-1..1", ["-1", "0", "1"]),
        ("7..7", ["7"]),
    ],
)
def test_values_are_written_as_lists_and_ranges(text: str, values: list[str]) -> None:
    """Both ends included, exact decimals, lists and ranges mixed."""
    assert values_of(text) == values


@pytest.mark.parametrize("text", ["", "5..", "..5", "5,,6", "9..5", "1..5:0", "1..5:-1", "a..b", "1...5", "1..9:nan"])
def test_values_that_are_none_are_refused(text: str) -> None:
    """With the text and how to write it."""
    with pytest.raises(GridInvalid, match=r"20\.\.65:5"):
        values_of(text)


def test_combinations_that_do_not_go_together_are_skipped_and_counted() -> None:
    """The last parameter changes fastest; a fast average that is not faster is left out."""
    found, skipped = grid(space_of(STRATEGY, {"fast": ["5", "10"], "slow": ["5", "10", "20"]}))
    assert found == [{"fast": 5, "slow": 10}, {"fast": 5, "slow": 20}, {"fast": 10, "slow": 20}]
    assert skipped == 3


def test_a_value_that_is_wrong_by_itself_is_refused() -> None:
    """It is a mistake of the caller, not a combination to skip; the other parameter's default is no excuse."""
    with pytest.raises(ParameterInvalid, match="'fast' is '1'"):
        space_of(STRATEGY, {"fast": ["5", "1"], "slow": ["30"]})
    with pytest.raises(ParameterInvalid, match="no parameter 'fats'; did you mean 'fast'"):
        space_of(STRATEGY, {"fats": ["5"]})
    assert grid(space_of(STRATEGY, {"fast": ["50"], "slow": ["100"]})) == ([{"fast": 50, "slow": 100}], 0)


def test_too_many_combinations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any of them is made."""
    monkeypatch.setattr(engine, "MOST_RUNS", 5)
    with pytest.raises(GridInvalid, match="6 combinations of parameters are more than 5"):
        grid(space_of(STRATEGY, {"fast": ["5", "6", "7"], "slow": ["20", "30"]}))


# ---- results -----------------------------------------------------------------------------------------------------

EXACT = ("bars", "orders", "fills", "trades", "fees", "slippage", "final_equity", "net_profit", "refused", "declined")
SAME = ("win_rate", "profit_factor", "exposure_share", "total_return", "market_change")
COLUMNS = ("open_ns", "open", "high", "low", "close", "volume")
CLOSE = ("max_drawdown", "sharpe", "sortino")


def test_every_run_is_the_backtest_of_its_parameters(file: Path) -> None:
    """Money and counts to the last digit, curve figures to float accuracy, in the loop gear's own words."""
    found = swept("-p", "fast=4,9", "-p", "slow=12..24:12", "--data", str(file), *COSTS)
    assert (found["runs"], found["done"], found["skipped"]) == (4, 4, 0)
    for row in found["results"]:
        fast, slow = row["parameters"]["fast"], row["parameters"]["slow"]
        report = backtest(*("-s", "ema_cross", "-p", f"fast={fast}", "-p", f"slow={slow}", "--data", str(file)), *COSTS)
        assert {name: row[name] for name in EXACT} == {name: report[name] for name in EXACT}
        assert [row[name] for name in SAME] == pytest.approx([report[name] for name in SAME], rel=1e-12)
        assert [row[name] for name in CLOSE] == pytest.approx([report[name] for name in CLOSE], rel=1e-9)


def test_instruments_and_periods_are_accounts_of_their_own(file: Path, other: Path, tmp_path: Path) -> None:
    """A run on a period is a backtest of a file that holds just that period: the first bar in, the last one out."""
    columns = read_bars(file).columns
    rows = list(zip(*(getattr(columns, name).tolist() for name in COLUMNS), strict=True))
    part = [(row[0] // 1_000_000, *row[1:]) for row in rows[100:700]]
    period = f"{iso(rows[100][0])}..{iso(rows[700][0])}"
    alone = backtest("-s", "ema_cross", "--data", str(write_bars(tmp_path / "BTCUSD.parquet", part)), *COSTS)
    grid = (
        "-p",
        "fast=10,11",
        "--data",
        str(file),
        "--data",
        str(other),
        "--period",
        period,
        "--period",
        "2000-01-01..",
    )

    found = swept(*grid, *COSTS, "--warm-up", "0")

    assert found["runs"] == 8
    assert [row["bars"] for row in found["results"]].count(600) == 4
    (same,) = [
        row
        for row in found["results"]
        if (row["instrument"], row["bars"], row["parameters"]["fast"]) == ("BTC/USD", 600, 10)
    ]
    assert {name: same[name] for name in EXACT} == {name: alone[name] for name in EXACT}


def test_where_a_period_begins_does_not_matter(file: Path, tmp_path: Path) -> None:
    """Its trades are those of a run that began long before it: bars before a period settle what is slow."""
    columns = read_bars(file).columns
    since, later = (iso(int(columns.open_ns[row])) for row in (350, 750))
    call = ("-p", "fast=4", "-p", "slow=30", "--data", str(file), *COSTS)
    (warm,) = swept(*call, "--period", f"{since}..{later}")["results"]
    (longer,) = swept(*call, "--period", f"{since}..{later}", "--warm-up", "300")["results"]
    (cold,) = swept(*call, "--period", f"{since}..{later}", "--warm-up", "0")["results"]
    assert warm == longer
    assert warm != cold


def iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).isoformat()


def test_the_data_are_named_by_digest(file: Path, other: Path) -> None:
    """Every file and period, so that two results can be told to be of the same bars."""
    found = printed(
        sweep_command, "-s", "ema_cross", "--data", str(file), "--data", str(other), "--period", "2024-01-02.."
    )
    assert [(each["source"], each["digest"]) for each in found["data"]] == [
        (path.name, file_digest(path)) for path in (file, other)
    ]
    bars = {each["instrument"]: each["bars"] for each in found["data"]}
    assert bars == {row["instrument"]: row["bars"] for row in found["results"]}


def test_the_kernel_gear_prints_the_loop_gears_report(file: Path) -> None:
    """Every figure but those of the tape and of the clock."""
    call = ("-s", "trend_follow", "-p", "short=true", "-p", "trend=30", "--data", str(file), *COSTS)
    loop, kernel = backtest(*call), backtest(*call, "--gear", "kernel")
    differing = {name for name in loop if loop[name] != kernel[name]}
    assert differing <= {"facts", "tape_hash", "gear", "elapsed_s", "bars_per_s"}
    assert (kernel["facts"], kernel["tape_hash"], kernel["gear"]) == (None, None, "kernel")


def test_results_do_not_depend_on_the_number_of_workers(file: Path) -> None:
    """Same rows in the same order; only the time they took differs."""
    grid = ("-p", "fast=3..9", "-p", "slow=10..40:5", "--data", str(file), *COSTS)
    assert swept(*grid, "--workers", "1")["results"] == swept(*grid, "--workers", "5")["results"]


def figures(**changes: Any) -> TrialFigures:
    plain = {field.name: 0 for field in msgspec.structs.fields(TrialFigures)}
    return TrialFigures(**{**plain, **changes})  # type: ignore[arg-type]


def test_ranking_is_stable_and_puts_the_unknown_last() -> None:
    """Best first, equal ones as in the grid, a smaller drawdown before a larger one."""
    rows = [
        figures(bars=1, sharpe=None, net_profit=Decimal(5), max_drawdown=0.3),
        figures(bars=2, sharpe=-1.0, net_profit=Decimal("5.01"), max_drawdown=0.1),
        figures(bars=3, sharpe=2.0, net_profit=Decimal(-7), max_drawdown=0.1),
        figures(bars=4, sharpe=-1.0, net_profit=Decimal(5), max_drawdown=0.0),
    ]

    def order(objective: Objective) -> list[int]:
        return [each.bars for each in ranked(rows, lambda row: row, objective)]

    assert order(Objective.SHARPE) == [3, 2, 4, 1]
    assert order(Objective.NET_PROFIT) == [2, 1, 4, 3]
    assert order(Objective.MAX_DRAWDOWN) == [4, 2, 3, 1]


# ---- the command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-p", "fast=9..5"), 2, "a range goes upwards"),
        (("-p", "fast"), 2, "write NAME=VALUES"),
        (("-p", "fats=1..3"), 2, "did you mean 'fast'?"),
        (("-p", "fast=40..50"), 2, "none of the 11 combinations of parameters go together"),
        (("--period", "2024-01-02..2024-01-01"), 2, "ends before it begins"),
        (("--period", "yesterday"), 2, "is no period such as 2019-01-01..2019-02-01"),
        (("--period", "1990-01-01..1990-02-01"), 4, "no bar opens in that --period"),
        (("--gear", "kernel", "--participation", "0.1", "--size", "0.123456789012345678"), 4, "more than 18 digits"),
    ],
)
def test_a_wrong_call_ends_with_one_message(file: Path, arguments: tuple[str, ...], code: int, message: str) -> None:
    """Exit code 2 for the call, 4 for what cannot be run; the message names the value and the fix."""
    done = CliRunner().invoke(sweep_command, ["-s", "ema_cross", "--data", str(file), *arguments])
    assert done.exit_code == code, done.output
    assert isinstance(done.exception, SystemExit)
    assert message in done.stderr


def test_an_interrupt_keeps_what_is_done(file: Path) -> None:
    """Ctrl-C in the middle, as the progress tells: exit code 130 and the rows so far, ranked."""
    call = [sys.executable, "-m", "tapeline_common.cli", "sweep", "-s", "ema_cross", "-p", "fast=2..60"]
    grid = ["-p", "slow=301..800", "--data", str(file), "--workers", "1"]
    reader, terminal = pty.openpty()
    with subprocess.Popen([*call, *grid, "--json"], stdout=subprocess.PIPE, stderr=terminal) as running:
        os.close(terminal)
        shown = os.read(reader, 4096)
        while b" of 29,500 runs" not in shown:
            shown += os.read(reader, 4096)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=60)
    os.close(reader)
    assert running.returncode == 130, shown
    found = json.loads(said)
    assert found["is_interrupted"] is True
    assert 0 < found["done"] == len(found["results"]) < found["runs"] == 59 * 500


HEAVY = ("numba", "llvmlite", "pandas", "scipy", "sklearn", "polars", "plotly", "optuna", "arch", "statsmodels")


def test_a_backtest_loads_nothing_heavy(file: Path) -> None:
    """Its report and the command line itself cost no compiler, and no library that only research needs."""
    program = (
        "import sys; from tapeline_common.cli import main; sys.argv = ['tapeline', 'backtest', '-s', 'ema_cross', "
        f"'--data', {str(file)!r}]\ntry: main()\nexcept SystemExit: pass\n"
        f"print([name for name in sys.modules if name.partition('.')[0] in {HEAVY!r}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
