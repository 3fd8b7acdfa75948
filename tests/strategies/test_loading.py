"""Strategies from folders are found, told apart, refused with file and line, and recorded with the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.strategy_runs import random_bars

from tapeline_backtest.command import backtest
from tapeline_common import strategy_folders
from tapeline_common.cli import tapeline
from tapeline_common.settings import ConfigurationInvalid, InstrumentTable, Settings, StrategiesTable, StrategyTable
from tapeline_common.version import code_version
from tapeline_strategy import catalogue, loading
from tapeline_strategy.configuration import checked
from tapeline_strategy.loading import StrategyFileInvalid

HOLDS = """
from tapeline_strategy.sdk import Strategy

def step(_memory, _open, _high, _low, _close, _volume):
    return {wanted}

STRATEGY = Strategy("{name}", "Wants the same always.", (), lambda _: 1, lambda _: [], step)
"""


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins without folders, and leaves no module, path or strategy behind."""
    monkeypatch.delenv(strategy_folders.VARIABLE, raising=False)
    modules, paths = set(sys.modules), list(sys.path)
    yield
    os.environ.pop(strategy_folders.VARIABLE, None)
    for name in set(sys.modules) - modules:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parts[:2] == ("/", "tmp"):
            del sys.modules[name]
    sys.path[:] = paths
    catalogue.forget()


def holds(folder: Path, name: str, wanted: str = "1.0", *, file: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{file or name}.py"
    path.write_text(HOLDS.format(name=name, wanted=wanted))
    return path


def bars_of(folder: Path, count: int = 60) -> Path:
    rows = random_bars(5, count)
    path = folder / "BTCUSD.csv"
    lines = [f"{1_700_006_400 + 60 * minute},{','.join(map(str, row))}" for minute, row in enumerate(rows)]
    path.write_text("\n".join(["ts,open,high,low,close,volume", *lines]))
    return path


def test_a_folders_strategies_are_known_once_it_is_in_use(tmp_path: Path) -> None:
    """Before it is named it is unknown; then its strategy is found, and says where it comes from."""
    path = holds(tmp_path, "ten_percent", "0.1")
    with pytest.raises(catalogue.StrategyUnknown):
        catalogue.find("ten_percent")

    loading.use([tmp_path])

    assert catalogue.find("ten_percent").step([], 1.0, 1.0, 1.0, 1.0, 1.0) == 0.1
    assert catalogue.origin("ten_percent") == str(path)
    assert catalogue.find("ema_cross").name == "ema_cross"


def test_files_import_each_other_and_tests_are_left_alone(tmp_path: Path) -> None:
    """A file whose name begins with _ is not looked into but can be imported; one that begins with test_ is not run."""
    (tmp_path / "_share_of_all.py").write_text("SHARE = 0.25\n")
    (tmp_path / "test_nothing.py").write_text("raise SystemExit\n")
    path = holds(tmp_path, "quarter", "SHARE")
    path.write_text(f"from _share_of_all import SHARE\n{path.read_text()}")

    loading.use([tmp_path])

    assert catalogue.find("quarter").step([], 1.0, 1.0, 1.0, 1.0, 1.0) == 0.25


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n\ny = x / 0\n", "broken_file.py, line 3: ZeroDivisionError: division by zero"),
        ("def f(:\n", "broken_file.py, line 1: SyntaxError"),
        (
            "\nimport not_there_at_all\n",
            "broken_file.py, line 2: ModuleNotFoundError: No module named 'not_there_at_all'",
        ),
        ("from freqtrade.strategy import IStrategy\n", "leave its base class away"),
        ("VALUE = 1\n", "broken_file.py: defines no strategy"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """The message names file and line, what went wrong there, or what is missing; nothing is skipped."""
    (tmp_path / "broken_file.py").write_text(text)

    loading.use([tmp_path])

    with pytest.raises(StrategyFileInvalid) as refused:
        catalogue.installed()

    assert said in str(refused.value)


def test_the_line_is_the_users_own(tmp_path: Path) -> None:
    """Where the error arises in a package, the line shown is the last one of the folder's."""
    (tmp_path / "no_class.py").write_text(
        "from tapeline_strategy.sdk import from_class\n\nSTRATEGY = from_class(object)\n"
    )

    with pytest.raises(StrategyFileInvalid, match=r"no_class\.py, line 3: TypeError: strategy class object has no 'na"):
        loading.strategies_of_file(tmp_path / "no_class.py")


def test_one_name_for_two_strategies_is_refused_with_both_places(tmp_path: Path) -> None:
    """Against a built-in strategy and against another file: the message says where each of them is."""
    mine = holds(tmp_path, "ema_cross", file="mine")
    loading.use([tmp_path])
    with pytest.raises(catalogue.StrategyClash) as clash:
        catalogue.installed()
    assert f"one in tapeline-strategy (tapeline_strategy.ema_cross:STRATEGY) and one in {mine}" in str(clash.value)

    mine.unlink()
    first, second = holds(tmp_path, "twin", file="first_twin"), holds(tmp_path, "twin", file="second_twin")
    with pytest.raises(catalogue.StrategyClash, match=f"one in {first} and one in {second}"):
        catalogue.installed()


@pytest.mark.parametrize(("file", "said"), [("json", "'json' exists already"), ("my-own", "no Python name")])
def test_a_file_cannot_hide_a_module(tmp_path: Path, file: str, said: str) -> None:
    """A file named like a module of Python, or by no name a module can have, is refused."""
    holds(tmp_path, "named", file=file)

    with pytest.raises(StrategyFileInvalid, match=said):
        loading.strategies_of_file(tmp_path / f"{file}.py")


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, what: str) -> None:
    """The message names it and says what to name instead."""
    path = tmp_path / "there"
    if what == "a file":
        path.write_text("")

    with pytest.raises(ConfigurationInvalid, match=f"strategy folder {path} is {what}: name the folder"):
        loading.use([path])


def test_the_code_version_names_what_was_loaded(tmp_path: Path) -> None:
    """The digest covers every source of the folder, not where the folder lies, and not its tests."""
    plain = code_version()
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        holds(folder, "holds_all")
        (folder / "test_holds_all.py").write_text(folder.name)

    loading.use([one])
    named = code_version()
    assert named.startswith(f"{plain}.strategies.")
    assert strategy_folders.digest([one]) == strategy_folders.digest([other]) == named.rpartition(".")[2]

    (one / "_constants.py").write_text("A = 1\n")
    assert code_version() != named
    assert strategy_folders.digest([]) == ""


def test_a_configuration_names_folders(tmp_path: Path) -> None:
    """``[strategies] paths`` makes kinds known before they are checked, here and in processes started from here."""
    holds(tmp_path, "from_settings")
    settings = Settings(
        instrument=(InstrumentTable("BTC/USDT"),),
        strategies=StrategiesTable((str(tmp_path),)),
        strategy=(StrategyTable("mine", "from_settings", ("BTC/USDT",), Decimal(1)),),
    )

    assert checked(settings).strategy == settings.strategy
    assert os.environ[strategy_folders.VARIABLE] == str(tmp_path)
    shown = subprocess.run(
        [sys.executable, "-m", "tapeline_common.cli", "list-strategies", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(shown.stdout)["from_settings"]["defined_in"] == str(tmp_path / "from_settings.py")


def test_a_backtest_of_a_folders_strategy_records_its_code(tmp_path: Path) -> None:
    """It runs, and the same bars under changed code of the folder are another tape."""
    folder = tmp_path / "mine"
    path = holds(folder, "mine_alone")
    call = ["-s", "mine_alone", "--strategy-path", str(folder), "--data", str(bars_of(tmp_path)), "--json"]

    first = CliRunner().invoke(backtest, call)
    again = CliRunner().invoke(backtest, call)
    path.write_text(path.read_text() + "# another thought\n")
    changed = CliRunner().invoke(backtest, call)

    runs = [json.loads(result.stdout) for result in (first, again, changed)]
    assert [run["fills"] for run in runs] == [1, 1, 1]
    assert runs[0]["tape_hash"] == runs[1]["tape_hash"] != runs[2]["tape_hash"]


def test_a_broken_file_ends_the_command_with_one_message(tmp_path: Path) -> None:
    """The command line shows file and line, no traceback, and the exit code of a configuration."""
    (tmp_path / "broken_at_once.py").write_text("1 / 0\n")
    call = ["backtest", "-s", "anything", "--strategy-path", str(tmp_path), "--data", "none.csv"]

    done = subprocess.run([sys.executable, "-m", "tapeline_common.cli", *call], capture_output=True, text=True)

    assert done.returncode == 4
    assert done.stderr.strip().endswith(
        f"{tmp_path / 'broken_at_once.py'}, line 1: ZeroDivisionError: division by zero"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("template", ["class", "step"])
def test_a_new_strategy_and_its_test_run_at_once(tmp_path: Path, template: str) -> None:
    """What new-strategy writes passes its own test, trades in a backtest, and is never written over."""
    runner, name = CliRunner(), f"mine_by_{template}"
    written = runner.invoke(
        tapeline, ["new-strategy", name, "--template", template, "--folder", str(tmp_path), "--json"]
    )
    files = [Path(path) for path in json.loads(written.stdout)["written"]]
    assert [path.name for path in files] == [f"{name}.py", f"test_{name}.py"]

    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert "4 passed" in tested.stdout, tested.stdout
    data = bars_of(tmp_path, 1000)
    call = ["-s", name, "--strategy-path", str(tmp_path), "--data", str(data), "--param", "length=20", "--json"]
    ran = runner.invoke(backtest, call)
    assert json.loads(ran.stdout)["trades"] > 0, ran.output
    assert catalogue.find(name).is_numeric == (template == "step")

    again = runner.invoke(tapeline, ["new-strategy", name, "--folder", str(tmp_path)])
    assert again.exit_code == 2
    assert f"is taken by {files[0]}" in again.output


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My_Own", "use small letters"),
        ("2x", "use small letters"),
        ("ema_cross", "is taken"),
        ("json", "of Python itself"),
    ],
)
def test_a_name_that_would_not_work_is_refused(tmp_path: Path, name: str, said: str) -> None:
    """Before anything is written."""
    result = CliRunner().invoke(tapeline, ["new-strategy", name, "--folder", str(tmp_path / "made")])

    assert result.exit_code == 2
    assert said in result.output
    assert not (tmp_path / "made").exists()
