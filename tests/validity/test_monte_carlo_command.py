"""``tapeline monte-carlo``: what it reads, what it says to people and to programs, and what it refuses."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
from click.testing import CliRunner, Result
from tests.backtesting import write_bars
from tests.tape_files import NOON_NS, write

from tapeline_common.cli import tapeline
from tapeline_common.events import AccountFunded, BarClosed, InstrumentListed, RegimeUpdated, RunStarted
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.values import InstrumentId, Realm, Regime
from tapeline_common.wire import Answer, Draft
from tapeline_lab.validity.sources import SourceUnusable, read_history, together

HOUR_MS = 3_600_000
DAY_NS = 86_400_000_000_000
BTC = InstrumentId("BTC-USD_sim")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(tapeline, ["monte-carlo", *arguments])


def said(*arguments: str) -> dict[str, Any]:
    done = call(*arguments, "--json", "--runs", "200")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A recorded backtest of forty days of hours that end in the middle of a day, and its report."""
    folder = tmp_path_factory.mktemp("run")
    closes = [100.0 + round(8 * math.sin(hour / 9) + hour / 100, 2) for hour in range(40 * 24 + 7)]
    first_ms = 1_700_006_400_000  # a midnight
    rows = [
        (first_ms + hour * HOUR_MS, closes[max(hour - 1, 0)], close + 9, close - 9, close, 50.0)
        for hour, close in enumerate(closes)
    ]
    bars = write_bars(folder / "BTCUSD.parquet", rows)
    tape = folder / "run.tape"
    arguments = ["backtest", "-s", "ema_cross", "-p", "fast=5", "-p", "slow=20", "--size", "50", "--cash", "10000"]
    done = CliRunner().invoke(
        tapeline, [*arguments, "--fee", "0.001", "--data", str(bars), "--record", str(tape), "--json"]
    )
    assert done.exit_code == 0, done.stderr
    return tape, json.loads(done.stdout)


def test_a_tapes_returns_are_those_of_its_report(recorded: tuple[Path, dict[str, Any]]) -> None:
    """The recorded column is the backtest's own Sharpe ratio, return, and number of trades."""
    tape, report = recorded
    history = read_history(tape)
    assert history.periods_per_year == 365.0
    assert len(history.returns) == 41
    assert len(history.trades) == report["trades"] > 10
    assert history.start_equity == 10_000.0
    found = said(str(tape))
    assert found["sharpe"]["observed"] == pytest.approx(report["sharpe"], rel=1e-9)
    assert found["total_return"]["observed"] == pytest.approx(report["total_return"], rel=1e-9)


def test_trades_of_a_tape_in_another_order(recorded: tuple[Path, dict[str, Any]]) -> None:
    """All end where the closed trades did: what is still open is no trade yet."""
    tape, _ = recorded
    history = read_history(tape)
    found = said(str(tape), "--method", "trades")
    assert found["method"] == "shuffle"
    assert found["horizon"] == len(history.trades)
    assert found["total_return"]["p5"] == pytest.approx(float(np.sum(history.trades)) / 10_000.0)
    assert said(str(tape), "--method", "trades", "--replace")["method"] == "trades"


def test_the_same_seed_prints_the_same(recorded: tuple[Path, dict[str, Any]]) -> None:
    """And another seed does not."""
    tape, _ = recorded
    assert said(str(tape), "--seed", "3") == said(str(tape), "--seed", "3")
    assert said(str(tape), "--seed", "3") != said(str(tape), "--seed", "4")


def test_people_get_a_table(recorded: tuple[Path, dict[str, Any]]) -> None:
    """Quantiles, the recorded history, and the odds in words."""
    tape, _ = recorded
    done = call(str(tape), "--runs", "100", "--horizon", "20", "--block", "3", "--ruin", "0.2")
    assert done.exit_code == 0
    for text in ("100 histories of 20 days", "max drawdown", "recorded", "ruin (a loss of 20%)", "blocks of 3.0 days"):
        assert text in done.stdout


def tape_with_regimes(path: Path) -> Path:
    """Thirty days of one bar each, stamped as live, a moment late: ten of BULL, ten of BEAR, ten of CHOP."""
    tape = MemoryTape()
    tape.now_ns = NOON_NS

    def record(author: str, event: Any, cause: int = 0) -> int:
        draft = Draft(event, "" if cause else f"outside-{len(tape.records)}")
        receipt = tape.record(author, Answer(cause, (draft,)))
        assert receipt.ok, receipt
        return len(tape.records)

    record("operator", RunStarted("r", "t", Realm.REPLAY, 0, "USD", ""))
    record("operator", AccountFunded("main", "USD", Decimal(1000)))
    record("marketdata", InstrumentListed(BTC, "BTC/USD", "sim", "BTC", "USD"))
    midnight = (NOON_NS // DAY_NS + 1) * DAY_NS
    kinds = (Regime.BULL, Regime.BEAR, Regime.CHOP)
    one = "100"
    for day in range(30):
        open_ns, close_ns = midnight + day * DAY_NS, midnight + (day + 1) * DAY_NS
        tape.now_ns = close_ns + 300_000_000
        bar = record("marketdata", BarClosed(BTC, "1d", open_ns, close_ns, *(one for _ in range(5))))
        record("regime", RegimeUpdated(BTC, open_ns, kinds[day // 10], (1.0, 0.0, 0.0), None, None), cause=bar)
    return write(path, tape.records)


def test_regimes_of_a_tape_label_its_days(tmp_path: Path) -> None:
    """The regime that was believed at the end of each day."""
    tape = tape_with_regimes(tmp_path / "regimes.tape")
    assert read_history(tape).regimes == ("BULL",) * 10 + ("BEAR",) * 10 + ("CHOP",) * 10
    assert set(said(str(tape), "--method", "joint")["regimes"]) == {"BULL", "BEAR", "CHOP"}
    assert said(str(tape), "--method", "joint", "--regime-of", "BTC/USD")["method"] == "joint"
    wrong = call(str(tape), "--method", "joint", "--regime-of", "ETH/USD")
    assert (wrong.exit_code, "use one of BTC/USD" in wrong.stderr) == (4, True)


# ---- files ---------------------------------------------------------------------------------------------------------

RETURNS = 0.01 * np.random.RandomState(51).standard_normal(60)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_returns_in_a_file(tmp_path: Path, suffix: str) -> None:
    """A column of times is none of returns; two columns are two accounts."""
    frame = polars.DataFrame(
        {"date": [f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(60)], "a": RETURNS, "b": -RETURNS}
    )
    path = tmp_path / f"returns.{suffix}"
    frame.write_csv(path) if suffix == "csv" else frame.write_parquet(path)
    history = read_history(path)
    assert history.accounts == ("a", "b")
    assert history.returns.shape == (60, 2)
    assert said(str(path))["max_drawdown"]["observed"] < 0.02


def test_a_curve_is_taken_by_the_day(tmp_path: Path) -> None:
    """Two moments a day: the day's return is from last to last; midnight belongs to the day that ended."""
    times = np.arange(1, 9) * (DAY_NS // 2)
    equity = np.array([100.0, 110.0, 105.0, 121.0, 120.0, 133.1, 130.0, 146.41])
    path = tmp_path / "equity.parquet"
    polars.DataFrame({"time_ns": times, "equity": equity}).write_parquet(path)
    history = read_history(path)
    assert history.returns[:, 0].tolist() == pytest.approx([0.1, 0.1, 0.1, 0.1])
    assert history.start_equity == 100.0


def test_a_reports_curve_begins_with_its_first_moment(tmp_path: Path) -> None:
    """Times as a report writes them: the first day has one moment and earned nothing; dates have no moments."""
    equity = [100.0, 110.0, 121.0]
    moments = polars.Series("time", [DAY_NS, 2 * DAY_NS, 3 * DAY_NS]).cast(polars.Datetime("ns", "UTC"))
    path = tmp_path / "equity.parquet"
    polars.DataFrame({"time": moments, "equity": equity}).write_parquet(path)
    assert read_history(path).returns[:, 0].tolist() == pytest.approx([0.0, 0.1, 0.1])
    days = tmp_path / "days.csv"
    days.write_text("date,equity\n2024-01-01,100\n2024-01-02,110\n2024-01-03,121\n")
    assert read_history(days).returns[:, 0].tolist() == pytest.approx([0.1, 0.1])


def test_results_after_costs_are_taken_as_they_are(tmp_path: Path) -> None:
    """A column `net` beside `pnl` and `fees`."""
    path = tmp_path / "trades.parquet"
    polars.DataFrame({"pnl": [5.0], "fees": [1.0], "net": [3.9]}).write_parquet(path)
    assert read_history(path).trades.tolist() == [3.9]


def test_the_folder_of_a_report(tmp_path: Path) -> None:
    """Its curve and its trades, after fees."""
    polars.DataFrame({"equity": [100.0, 101.0, 99.0]}).write_parquet(tmp_path / "equity.parquet")
    trades = polars.DataFrame({"pnl": ["5", "-3"], "fees": ["1", "1"], "funding": ["0", "0.5"]})
    trades.write_parquet(tmp_path / "trades.parquet")
    history = read_history(tmp_path)
    assert history.trades.tolist() == [4.0, -3.5]
    assert history.returns[:, 0].tolist() == pytest.approx([0.01, -2 / 101])
    assert said(str(tmp_path), "--method", "trades")["horizon"] == 2


def test_several_sources_are_a_portfolio(tmp_path: Path, recorded: tuple[Path, dict[str, Any]]) -> None:
    """On the days they have in common, each an account; days that only one has are left out."""
    tape, _ = recorded
    whole = read_history(tape)
    days = [str(day) for day in whole.days.astype("datetime64[D]")]
    assert days[0] == "2023-11-15"
    path = tmp_path / "carry.csv"
    path.write_text("date,carry\n" + "".join(f"{day},0.001\n" for day in ["2023-11-01", *days[5:]]))
    found = together([(tape, whole), (path, read_history(path))])
    assert found.accounts == ("run", "carry")
    assert np.array_equal(found.returns[:, 0], whole.returns[5:, 0])
    assert found.returns[:, 1].tolist() == [0.001] * (len(days) - 5)
    assert (found.days.tolist(), found.periods_per_year) == (whole.days[5:].tolist(), 365.0)
    assert said(str(tape), str(path))["horizon"] == len(days) - 5
    refused = call(str(tape), str(path), "--method", "trades")
    assert (refused.exit_code, "of one account" in refused.stderr) == (4, True)


def test_sources_without_common_days_are_refused(tmp_path: Path, recorded: tuple[Path, dict[str, Any]]) -> None:
    """And those that do not say theirs."""
    tape, _ = recorded
    for content, text in (
        ("r\n0.01\n0.02\n", "does not say its days"),
        ("date,r\n2001-01-01,0.01\n", "0 days in common"),
    ):
        path = tmp_path / "returns.csv"
        path.write_text(content)
        refused = call(str(tape), str(path))
        assert (refused.exit_code, text in refused.stderr) == (4, True), refused.stderr


def test_results_of_trades_in_a_file(tmp_path: Path) -> None:
    """They need to know what the account had."""
    path = tmp_path / "trades.csv"
    path.write_text("pnl\n10\n-5\n3\n")
    refused = call(str(path), "--method", "trades")
    assert (refused.exit_code, "give --equity" in refused.stderr) == (4, True)
    assert said(str(path), "--method", "trades", "--equity", "100")["total_return"]["observed"] == pytest.approx(0.08)
    refused = call(str(path))
    assert (refused.exit_code, "use --method trades" in refused.stderr) == (4, True)


@pytest.mark.parametrize(
    ("content", "arguments", "code", "text"),
    [
        ("r\n0.01\n0.02\n", ("--method", "joint"), 4, "no regimes"),
        ("r\n0.01\n0.02\n", ("--method", "trades"), 4, "no closed trades of one account"),
        ("r\n0.01\n\n", (), 4, "empty rows"),
        ("open,close\n100,101\n102,99\n", (), 4, "column open has values from 100 to 102, which are no returns"),
        ("r\n0.5\n-1.2\n", (), 4, "from -1.2 to 0.5, which are no returns"),
        ("date,r\nx,0.01\ny,0.02\n", (), 4, "column date has no dates"),
        ("date,r\n2024-01-02,0.01\n2024-01-01,0.02\n", (), 4, "column date is not in order"),
        ("name\nx\n", (), 4, "it needs a column of returns"),
        ("r\n0.01\n0.02\n", ("--block", "3"), 4, "block is 3.0"),
        ("r\n0.01\n0.02\n", ("--replace",), 2, "--replace means nothing with --method block"),
        ("r\n0.01\n0.02\n", ("--method", "trades", "--horizon", "5"), 2, "--horizon means nothing"),
        ("r\n0.01\n0.02\n", ("--regime-of", "BTC/USD"), 2, "--regime-of means nothing"),
        ("r\n0.01\n0.02\n", ("--ruin", "0"), 2, "ruin"),
        ("r\n0.01\n0.02\n", ("--runs", "0"), 2, "runs"),
    ],
)
def test_what_cannot_be_resampled_is_refused(
    tmp_path: Path, content: str, arguments: tuple[str, ...], code: int, text: str
) -> None:
    """One message that names the file or the option, and the exit code of its kind."""
    path = tmp_path / "returns.csv"
    path.write_text(content)
    done = call(str(path), *arguments)
    assert (done.exit_code, text in done.stderr) == (code, True), done.stderr


def test_a_file_that_is_no_history_is_refused(tmp_path: Path) -> None:
    """Other suffixes, damaged files, folders of something else, and tapes without bars."""
    for name, content in (("notes.txt", "x"), ("broken.parquet", "x"), ("broken.tape", "x")):
        (tmp_path / name).write_text(content)
        with pytest.raises(SourceUnusable, match=name):
            read_history(tmp_path / name)
    with pytest.raises(SourceUnusable, match=r"equity\.parquet"):
        read_history(tmp_path)
    from tests.tape_files import numbered

    with pytest.raises(SourceUnusable, match="no bar"):
        read_history(write(tmp_path / "halts.tape", numbered(3)))
