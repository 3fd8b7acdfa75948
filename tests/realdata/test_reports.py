"""Reports of recorded minutes: the tape of a run in blocks says what the run said, and no fill is impossible."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from tests.reports.test_reading import HOW, assert_adds_up

import tapeline_backtest
from tapeline_lab.reports.checks import Weight, findings
from tapeline_lab.reports.metrics import daily, metrics

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
BITCOIN = DATA / "crypto" / "bitfinex" / "1m" / "BTCUSD_2018-01_2019-07.parquet"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not BITCOIN.is_file(), reason=f"no recorded minutes at {BITCOIN} (set TAPELINE_DATA)"),
]


def test_bitcoin_minutes_read_back_are_the_run() -> None:
    """773,837 bars in compiled blocks, orders included: every figure again from the tape, and honest fills."""
    result = tapeline_backtest.run(
        "momentum_breakout", BITCOIN, parameters={"lookback": 1_000, "exit_lookback": 400}, fee="0.001", slippage_bps=1
    )
    session = result.session
    assert replace(session.report, **HOW) == replace(result.report, **HOW)
    assert_adds_up(session)
    found = metrics(session)
    assert found.trades.trades > 50
    assert found.days > 500
    assert all(value is None or value == value for value in msgspec.structs.astuple(found))
    # Single coins are more than some of these minutes had; that is found, and is the size, not the venue.
    wrong = [one for one in findings(session, daily(session).returns.tolist()) if one.weight is Weight.WRONG]
    assert [one.doubt for one in wrong if one.doubt != "FILL_ABOVE_VOLUME"] == []
