"""Backtests are sessions too: models, funding and borrowing, which take days of bars, are found on their tapes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from tapeline_common.cli import tapeline
from tapeline_common.simulation_faults import Dice
from tapeline_lab.parity.diff_report import DiffReport

HOUR_NS = 3_600_000_000_000
START_NS = 1_700_000_000_000_000_000 // HOUR_NS * HOUR_NS
HOURS = 600

CONFIG = """
[run]
name = "days"
currency = "USDT"
[feed]
kind = "files"
timeframe = "1h"
[venue]
borrow_rate = "0.1"
[regime]
train_bars = 250
refit_bars = 120
[[instrument]]
name = "BTC/USDT"
data = "bars.csv"
funding = "funding.csv"
tick_size = "0.01"
lot_size = "0.001"
[[strategy]]
name = "trend"
kind = "trend_follow"
instruments = ["BTC/USDT"]
size = "1"
parameters = { trend = 30, atr = 10, short = true }
[[strategy]]
name = "bulls"
kind = "ema_cross"
instruments = ["BTC/USDT"]
size = "1"
regimes = ["BULL", "CHOP"]
parameters = { fast = 3, slow = 9 }
"""


def bars() -> str:
    """A random walk of hourly bars."""
    dice, close, rows = Dice(3, "hours"), 10_000, ["ts,open,high,low,close,volume"]
    for index in range(HOURS):
        before, close = close, max(5_000, close + dice.below(201) - 100)
        low, high = sorted((before, close))
        prices = ",".join(f"{cents / 100:.2f}" for cents in (before, high + 5, low - 5, close))
        rows.append(f"{START_NS + index * HOUR_NS},{prices},{50 + dice.below(50)}")
    return "\n".join(rows) + "\n"


def rates(rate: str) -> str:
    times = range(START_NS + 8 * HOUR_NS, START_NS + HOURS * HOUR_NS, 8 * HOUR_NS)
    return "\n".join(["ts,rate", *(f"{time_ns},{rate}" for time_ns in times)]) + "\n"


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("days")
    (folder / "bars.csv").write_text(bars())
    (folder / "funding.csv").write_text(rates("0.0001"))
    config = CONFIG.replace("bars.csv", str(folder / "bars.csv")).replace("funding.csv", str(folder / "funding.csv"))
    (folder / "tapeline.toml").write_text(config)
    words = ["backtest", "--config", folder / "tapeline.toml", "--record", folder / "days.tape", "--json"]
    told = CliRunner().invoke(tapeline, [str(word) for word in words])
    assert told.exit_code == 0, told.output
    return folder / "days.tape"


def told(tape: Path, *words: str) -> DiffReport:
    result = CliRunner().invoke(tapeline, ["diff", str(tape), "--json", "--limit", "100000", *words])
    assert result.exit_code in (0, 1), result.output
    report = msgspec.json.decode(result.stdout, type=DiffReport)
    assert sum((row.equity for row in report.causes.values()), Decimal(0)) == report.equity_gap
    return report


def test_a_backtests_tape_is_made_again(tape: Path) -> None:
    """Models, promotions, funding, borrowing: 100.00 %, with models from the record and with models fitted anew."""
    report = told(tape)

    assert (report.parity_percent, report.same) == (Decimal("100.00"), report.decisions)
    assert report.kinds["REGIME"].same > 300
    assert report.kinds["FUNDING"].same > 20
    assert told(tape, "--refit").same == report.same


def test_other_training_is_the_model(tape: Path) -> None:
    """Models asked for at other bars: they are fitted, and what they decide otherwise is MODEL."""
    report = told(tape, "--set", "regime.refit_bars=60")

    assert set(report.causes) == {"MODEL"}
    assert report.causes["MODEL"].decisions > 0
    assert {row.event for row in report.differences if row.origin} & {"TrainingRequested", "RegimeUpdated"}


def test_other_funding_rates_are_funding(tape: Path, tmp_path: Path) -> None:
    """Each rate is twice as high today: FUNDING. The rates as they were change nothing."""
    same, double = tmp_path / "same.csv", tmp_path / "double.csv"
    same.write_text(rates("0.0001"))
    double.write_text(rates("0.0002"))

    report = told(tape, "--funding", str(double))

    assert told(tape, "--funding", str(same)).causes == {}
    assert set(report.causes) == {"FUNDING"}
    assert report.causes["FUNDING"].by_facts == len(range(8, HOURS, 8))
    assert report.equity_gap != 0


def test_dearer_borrowing_is_funding(tape: Path) -> None:
    """What short positions pay is FUNDING, though the venue charges it."""
    report = told(tape, "--set", "venue.borrow_rate=0.3")

    assert set(report.causes) == {"FUNDING"}
    assert report.equity_gap < 0
