"""Recorded data as it is: every file is listed, every fault that is told is real, and checks pass where they should."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tapeline_lab.data.catalogue import entry_of, files_in
from tapeline_lab.data.checking import Rules, check_file
from tapeline_lab.data.conversion import convert
from tapeline_lab.data.flaws import Flaw, Severity
from tapeline_lab.data.kinds import DataKind
from tapeline_marketdata.files import read_bars
from tapeline_marketdata.timeframe import parse_timeframe

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
HOURS = DATA / "crypto" / "binance" / "1h" / "BTCUSDT_2017-08_2022-12.parquet"
DAYS = DATA / "crypto" / "binance" / "1d" / "BTCUSDT_2020.parquet"
STOCK = DATA / "equity" / "yahoo" / "1d" / "AAPL_2013_2023.parquet"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not HOURS.is_file(), reason=f"no recorded hours at {HOURS} (set TAPELINE_DATA)"),
]

RULES = Rules(now_ns=1_900_000_000 * 10**9)


def test_every_parquet_file_is_listed_for_what_it_is() -> None:
    """No trouble, and for each kind of folder the kind that lies in it."""
    entries = {path: entry_of(path) for path in files_in(DATA) if path.suffix == ".parquet"}
    assert [entry.trouble for entry in entries.values() if entry.trouble] == []
    for part, kind in (("funding", DataKind.FUNDING), ("_l2", DataKind.BOOK), ("_trades", DataKind.TRADES)):
        assert {entry.kind for path, entry in entries.items() if part in str(path)} == {kind}


def test_bars_listed_are_the_bars_read() -> None:
    """What footers and first rows say is what reading the whole file finds."""
    for path in files_in(DATA):
        entry = entry_of(path)
        if path.suffix == ".parquet" and entry.kind is DataKind.BARS:
            facts = read_bars(path, strict=False).facts
            assert (entry.rows, entry.first_ns, entry.last_ns, entry.timeframe) == (
                facts.rows,
                facts.first_open_ns,
                facts.last_open_ns,
                facts.timeframe,
            )


def test_recorded_bars_have_no_errors() -> None:
    """Outages of the exchange are gaps; days of the stock exchange have none by its calendar."""
    hours = check_file(HOURS, RULES)
    assert hours.errors == 0
    assert Flaw.GAP in {finding.flaw for finding in hours.findings}
    stock = check_file(STOCK, Rules(RULES.now_ns, calendar="XNYS"))
    assert [finding for finding in stock.findings if finding.severity is Severity.ERROR] == []
    assert Flaw.GAP not in {finding.flaw for finding in stock.findings}


def test_hours_make_the_exchange_own_days(tmp_path: Path) -> None:
    """Resampled hours against recorded days, bar by bar; days in which the exchange was down may differ."""
    convert(HOURS, tmp_path / "days.parquet", resample_ns=parse_timeframe("1d"))
    found = {one.flaw: one for one in check_file(DAYS, Rules(RULES.now_ns, against=tmp_path / "days.parquet")).findings}
    assert Flaw.MISSING_THERE not in found
    assert Flaw.DIFFERS not in found or found[Flaw.DIFFERS].count <= 3
