"""The three commands as a user calls them: exit codes, JSON, and one clear message where the call is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from tests.backtesting import synthetic_file
from tests.bias.bars import market, with_ready_made

from tapeline_lab.bias.lookahead_command import lookahead_command
from tapeline_lab.bias.recursive_command import recursive_command
from tapeline_lab.bias.significance_command import significance_command

FAST = ("-s", "ema_cross", "-p", "fast=3", "-p", "slow=8")
FEW = ("--bars", "80", "--cuts", "10", "--trade-cuts", "2")

RESEARCH = """
import polars as pl

def wrong(bars):
    return bars.select(pl.col("close").shift(-2).alias("ahead"))

def right(bars):
    return bars.select((pl.col("close") > pl.col("close").rolling_mean(5)).cast(pl.Float64).alias("position"))

def passing(bars):
    return bars.select("sentiment")

NUMBER = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bias")
    synthetic_file(folder / "BTCUSD.parquet", 500)
    synthetic_file(folder / "ETHUSD.parquet", 500, seed=4)
    (folder / "research.py").write_text(RESEARCH)
    pyarrow.parquet.write_table(pa.table(with_ready_made(market())), folder / "FEATURES.parquet")
    return folder


def run(command: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def said(result: Result, code: int) -> dict[str, Any]:
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_clean_strategy_ends_with_zero(folder: Path) -> None:
    """Strategy and tape, as a table and as JSON."""
    data = ("--data", str(folder / "BTCUSD.parquet"))
    shown = run(lookahead_command, *FAST, *FEW, *data)
    assert shown.exit_code == 0, shown.output
    assert "tape of ema_cross" in shown.stdout
    found = said(run(lookahead_command, *FAST, *FEW, *data, "--no-tape", "--json"), 0)
    assert found["is_clean"]
    assert [one["subject"] for one in found["analyses"]] == ["ema_cross"]


def test_a_leak_ends_with_one_and_is_named(folder: Path) -> None:
    """Kind, column and distance, for programs and for people."""
    arguments = ("--pipeline", f"{folder}/research.py:wrong", "--data", str(folder / "BTCUSD.parquet"), *FEW)
    (analysis,) = said(run(lookahead_command, *arguments, "--json"), 1)["analyses"]
    (finding,) = analysis["findings"]
    assert (finding["kind"], finding["column"], finding["farthest"]) == ("FUTURE_BARS", "ahead", 2)
    assert "bars up to 2 ahead matter" in run(lookahead_command, *arguments).stdout


def test_features_of_the_file_reach_the_pipeline(folder: Path) -> None:
    """A column made of returns to come is found although it comes ready-made."""
    arguments = ("--pipeline", f"{folder}/research.py:passing", "--data", str(folder / "FEATURES.parquet"))
    (analysis,) = said(run(lookahead_command, *arguments, "--cuts", "8", "--json"), 1)["analyses"]
    assert [finding["kind"] for finding in analysis["findings"]] == ["TARGET_LEAKAGE"]


def test_recursive_analysis_says_what_would_do(folder: Path) -> None:
    """Exit code 0 at what the strategy declares, 1 at its first opinion, and which warm-up would do."""
    data = ("--data", str(folder / "BTCUSD.parquet"), "--startup-candle", "99", "--startup-candle", "199", "--json")
    assert said(run(recursive_command, *FAST, *data), 0)["is_clean"]
    short = said(run(recursive_command, *FAST, *data, "--warm-up", "8"), 1)
    assert {finding["kind"] for finding in short["analyses"][0]["findings"]} == {"WARM_UP_SHORT"}
    assert all("would do" in finding["detail"] for finding in short["analyses"][0]["findings"])


def test_two_legs_are_examined_together(folder: Path) -> None:
    """Both files make one analysis, of the strategy and of its tape, and both exposures settle."""
    pair = ("-s", "pairs_reversion", "-p", "window=30")
    data = ("--data", str(folder / "BTCUSD.parquet"), "--data", str(folder / "ETHUSD.parquet"))
    found = said(run(lookahead_command, *pair, *FEW, *data, "--json"), 0)["analyses"]
    assert [one["subject"] for one in found] == ["pairs_reversion", "tape of pairs_reversion"]
    (settled,) = said(run(recursive_command, *pair, *data, "--json", "--startup-candle", "99"), 0)["analyses"]
    assert {"exposure", "second_exposure"} <= {column["column"] for column in settled["columns"]}


def test_significance_prints_every_test(folder: Path) -> None:
    """Of a strategy on two files, and of research code."""
    data = ("--data", str(folder / "BTCUSD.parquet"))
    two = (*data, "--data", str(folder / "ETHUSD.parquet"), "--series", "10", "--draws", "20")
    found = run(significance_command, *FAST, *two, "--json")
    assert found.exit_code in (0, 1), found.output
    analyses = json.loads(found.stdout)["analyses"]
    assert len(analyses) == 2
    assert all(0 < one["random_entry"]["p_value"] <= 1 for one in analyses)
    shown = run(
        significance_command, "--pipeline", f"{folder}/research.py:right", *data, "--series", "10", "--draws", "20"
    )
    assert "bars in another order" in shown.stdout


@pytest.mark.parametrize("command", [lookahead_command, recursive_command, significance_command])
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-s", "nothing", "--data", "{}/BTCUSD.parquet"), 4, "unknown strategy 'nothing'"),
        (("-s", "ema_cross", "-p", "fast=99", "--data", "{}/BTCUSD.parquet"), 4, "fast is 99"),
        (("-s", "ema_cross", "--data", "{}/missing.parquet"), 4, "missing.parquet"),
        (("--pipeline", "research.py", "--data", "{}/BTCUSD.parquet"), 2, "write FILE.py:FUNCTION"),
        (("--pipeline", "{}/research.py:nope", "--data", "{}/BTCUSD.parquet"), 2, "has no 'nope'"),
        (("--pipeline", "{}/research.py:NUMBER", "--data", "{}/BTCUSD.parquet"), 2, "NUMBER is int"),
        (("--pipeline", "{}/none.py:x", "--data", "{}/BTCUSD.parquet"), 2, "cannot be loaded"),
        (("-s", "ema_cross", "--pipeline", "a:b", "--data", "{}/BTCUSD.parquet"), 2, "takes the place of"),
    ],
)
def test_a_wrong_call_ends_with_one_message(
    command: click.Command, arguments: tuple[str, ...], code: int, words: str, folder: Path
) -> None:
    """Naming the thing and the fix."""
    done = run(command, *(part.replace("{}", str(folder)) for part in arguments))
    assert done.exit_code == code, done.output
    assert words in done.output
    assert "Traceback" not in done.output
