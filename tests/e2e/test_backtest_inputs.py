"""Bad input ends a backtest with exit code 2 or 4 and one message that names the thing, the value and the fix."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tests.backtesting import EMA, backtest, tapeline, write_bars

MINUTE_MS = 60_000
Row = tuple[int, float, float, float, float, float]
FIRST_MS = 1_700_000_040_000
GOOD = [(FIRST_MS + index * MINUTE_MS, 100.0, 101.0, 99.0, 100.5, 10.0) for index in range(60)]


def run(file: Path, *more: str, strategy: str = "ema_cross") -> tuple[int, str]:
    done = tapeline("backtest", "--strategy", strategy, "--data", str(file), *more)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr.strip()


def changed(row: int, **values: float) -> list[Row]:
    names = ("ts", "open", "high", "low", "close", "volume")
    rows = [dict(zip(names, each, strict=True)) for each in GOOD]
    rows[row].update(values)
    return [tuple(each[name] for name in names) for each in rows]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        pytest.param(changed(7, close=math.nan), "close", id="nan"),
        pytest.param(changed(7, high=98.0, low=99.0, open=98.5, close=98.5), "high", id="high below low"),
        pytest.param([*GOOD[:5], GOOD[9], *GOOD[5:9], *GOOD[10:]], "row", id="unsorted"),
        pytest.param(changed(7, volume=-1.0), "volume", id="negative volume"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, rows: list[tuple[int, float, float, float, float, float]], named: str
) -> None:
    """A file with one bad row is refused with exit code 4 and one line that names it."""
    code, message = run(write_bars(tmp_path / "bars.parquet", rows))

    assert code == 4
    assert message.count("\n") == 0
    assert named in message.lower()
    assert "bars.parquet" in message


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    """A file without bars is refused with exit code 4."""
    file = tmp_path / "empty.csv"
    file.write_text("ts,open,high,low,close,volume\n")

    code, message = run(file)

    assert code == 4
    assert "empty.csv" in message


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """A file without a needed column is refused with exit code 4 and the column's name."""
    file = tmp_path / "bars.csv"
    file.write_text("ts,open,high,low,close\n1700000040000,1,1,1,1\n1700000100000,1,1,1,1\n")

    code, message = run(file)

    assert code == 4
    assert "volume" in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is refused with exit code 4 and its name."""
    code, message = run(tmp_path / "nowhere.parquet")

    assert code == 4
    assert "nowhere.parquet" in message


@pytest.mark.parametrize(
    ("more", "named"),
    [
        pytest.param(("--param", "fats=10"), "fats", id="unknown parameter"),
        pytest.param(("--param", "fast=ten"), "ten", id="parameter of the wrong type"),
        pytest.param(("--param", "fast=40", "--param", "slow=30"), "fast", id="parameters that contradict"),
        pytest.param(("--size", "-1"), "-1", id="negative size"),
        pytest.param(("--cash", "nan"), "nan", id="cash that is no number"),
        pytest.param(("--param", "fast"), "NAME=VALUE", id="parameter without a value"),
    ],
)
def test_a_bad_argument_is_named(tmp_path: Path, more: tuple[str, ...], named: str) -> None:
    """An argument that cannot be meant ends with exit code 2 or 4 and is quoted."""
    code, message = run(write_bars(tmp_path / "bars.parquet", GOOD), *more)

    assert code in (2, 4)
    assert named in message


def test_an_unknown_strategy_lists_the_known_ones(tmp_path: Path) -> None:
    """A misspelt strategy ends with exit code 2 or 4 and the names that exist."""
    code, message = run(write_bars(tmp_path / "bars.parquet", GOOD), strategy="ema_corss")

    assert code in (2, 4)
    assert "ema_corss" in message
    assert "trend_follow" in message


def test_good_input_is_quiet_on_standard_error(tmp_path: Path) -> None:
    """A good file runs with exit code 0 and no message."""
    code, message = run(write_bars(tmp_path / "bars.parquet", GOOD))

    assert (code, message) == (0, "")


CONFIG = """
[run]
name = "test"
currency = "USDT"
[[instrument]]
name = "BTC/USDT"
[[strategy]]
name = "cross"
kind = "ema_cross"
instruments = ["BTC/USDT"]
size = "1"
"""
WAVE = [100.0 + 10.0 * math.sin(index / 6.0) for index in range(200)]


@pytest.mark.parametrize("minutes", [1, 5, 60])
def test_bars_of_any_length_are_decided_on(tmp_path: Path, minutes: int) -> None:
    """The same prices as bars of another length give the same orders: no strategy waits for bars that never come."""
    step_ms = minutes * MINUTE_MS
    rows = [
        (FIRST_MS - FIRST_MS % step_ms + at * step_ms, price, price, price, price, 1.0) for at, price in enumerate(WAVE)
    ]
    found = backtest(*EMA, "--data", str(write_bars(tmp_path / "bars.parquet", rows)))

    assert (found["orders"], found["trades"]) == (9, 4)


def test_a_configuration_for_bars_of_another_length_is_refused(tmp_path: Path) -> None:
    """With a configuration the file's bars must be the ones its strategies decide on; the message names both."""
    rows = [(FIRST_MS + at * 5 * MINUTE_MS, *each[1:]) for at, each in enumerate(GOOD)]
    config = tmp_path / "tapeline.toml"
    config.write_text(CONFIG)

    done = tapeline(
        "backtest",
        "-c",
        str(config),
        "--instrument",
        "BTC/USDT",
        "--data",
        str(write_bars(tmp_path / "five.parquet", rows)),
    )

    assert done.returncode == 4
    assert done.stderr.strip() == (
        "tapeline.toml: key feed.timeframe is 1m, so no strategy would hear the files' bars of 5m: set it to 5m,"
        " or give files of 1m"
    )


def write_trades(path: Path, count: int = 600) -> Path:
    """A file of trades, four a second, whose prices go up and down."""
    lines = [
        f"{FIRST_MS + at * 250},{100 + 10 * math.sin(at / 40):.2f},0.{1 + at % 9},{'bs'[at % 2]},{at}"
        for at in range(count)
    ]
    path.write_text("\n".join(["ts,price,size,side,trade_id", *lines]) + "\n")
    return path


def test_bars_are_built_and_written_by_a_command(tmp_path: Path) -> None:
    """``tapeline bars`` says what it made, and a backtest takes the file as it takes the trades themselves."""
    trades, out = write_trades(tmp_path / "BTCUSD.csv"), tmp_path / "BTCUSD.parquet"
    done = tapeline("bars", str(trades), "--bars", "tick:7", "--out", str(out), "--json")
    made = json.loads(done.stdout)
    built = backtest(*EMA, "--data", str(trades), "--bars", "tick:7")
    read = backtest(*EMA, "--data", str(out))

    assert {name: made[name] for name in ("rule", "timeframe", "trades", "left_over", "bars", "out")} == {
        "rule": "tick:7",
        "timeframe": "tick-7",
        "trades": 600,
        "left_over": 5,
        "bars": 85,
        "out": str(out),
    }
    assert (built["bars"], built["fills"] > 0) == (85, True)
    assert (read["bars"], read["fills"], read["final_equity"]) == (85, built["fills"], built["final_equity"])


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        (("bars", "{trades}", "--bars", "tick:x"), 4, "'x' is not a whole number above 0"),
        (("bars", "{trades}", "--bars", "tick:601"), 4, "close no bar by tick:601"),
        (("bars", "{trades}"), 2, "--bars"),
        (("bars", "{trades}", "--bars", "tick:5", "--out", "{trades}/no/bars.parquet"), 1, "no/bars.parquet"),
        (("backtest", *EMA, "--data", "{trades}"), 4, "say how bars are built from them, as in --bars time:1m"),
        (("backtest", *EMA, "--data", "{trades}", "--bars", "time:1s", "-i", "1s"), 2, "leave --timeframe away"),
        (("backtest", *EMA, "--data", "{bars}", "--bars", "time:1h"), 4, "missing column price"),
    ],
)
def test_what_makes_no_bars_is_named(tmp_path: Path, call: tuple[str, ...], code: int, message: str) -> None:
    """One message with the value and the fix, and the exit code of its kind."""
    files = {
        "trades": str(write_trades(tmp_path / "trades.csv")),
        "bars": str(write_bars(tmp_path / "bars.parquet", GOOD)),
    }
    done = tapeline(*(part.format(**files) for part in call))
    assert "Traceback" not in done.stderr
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr


def test_a_bad_trade_ends_a_backtest(tmp_path: Path) -> None:
    """A repeated trade is refused with its row, line and reason."""
    path = write_trades(tmp_path / "trades.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:9], lines[8], *lines[9:]]) + "\n")

    code, message = run(path, "--bars", "tick:5")

    assert (code, message) == (
        4,
        f"{path}: row 9 (line 10): DUPLICATE: trade 7 came again unchanged: correct or remove the row",
    )


def test_a_configuration_names_the_bars_as_for_a_live_run(tmp_path: Path) -> None:
    """With ``feed.timeframe`` tick-7 the files are trades and the bars are built; the same file runs live."""
    trades = write_trades(tmp_path / "BTCUSDT.csv")
    config = tmp_path / "tapeline.toml"
    listed = f'[[instrument]]\ndata = "{trades}"'
    config.write_text(CONFIG.replace("[[instrument]]", listed) + '[feed]\nkind = "files"\ntimeframe = "tick-7"\n')

    found = backtest("-c", str(config))

    assert found["bars"] == 85
