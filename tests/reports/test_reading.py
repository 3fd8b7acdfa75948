"""A tape read back is the run that made it: the same report, and rows that add up to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace
from tests.backtesting import backtest
from tests.reports.samples import minutes, small_run
from tests.tape_files import numbered, write

import tapeline_backtest
from tapeline_backtest.session import Session
from tapeline_backtest.session_reading import NothingRecorded, exit_reason, read_session, session_of
from tapeline_common.tape_file import TapeFile
from tapeline_common.tape_pages import ChainBroken
from tapeline_common.values import Purpose

HOW = {"gear": "", "elapsed_s": 0.0, "bars_per_s": 0.0, "record": msgspec.UNSET}


def test_the_report_of_a_tape_is_that_of_the_run() -> None:
    """Every figure, to the last digit; only how it ran is not on the tape."""
    assert replace(small_run().session.report, **HOW) == replace(small_run().report, **HOW)


def test_the_same_through_the_command_line(tmp_path: Path) -> None:
    """What `backtest --record` prints and what its tape says: orders of two directions, slippage and participation."""
    tape = tmp_path / "run.tape"
    costs = ("--fee", "0.001", "--slippage-bps", "2", "--participation", "0.05")
    wanted = ("--strategy", "trend_follow", "--param", "short=true", "--param", "trend=50", "--size", "0.2")
    said = backtest(*wanted, *costs, "--data", str(minutes()), "--record", str(tape))
    with TapeFile(tape) as file:
        found = session_of(file)
    told = msgspec.json.decode(msgspec.json.encode(found.report))
    assert {name: told[name] for name in told if name not in HOW} == {
        name: said[name] for name in said if name not in HOW
    }
    assert found.head_hash == said["tape_hash"]
    assert_adds_up(found)


def assert_adds_up(found: Session) -> None:
    """Rows that are told apart sum to what the books say."""
    report = found.report
    assert len(found.fills) == report.fills
    assert len(found.trades) == report.trades
    assert sum((fill.fee for fill in found.fills), Decimal(0)) == report.fees
    assert sum((fill.slippage * fill.quantity for fill in found.fills), Decimal(0)) == report.slippage
    held = sum((each.profit for each in found.open_positions), Decimal(0))
    assert sum((trade.net for trade in found.trades), held) == report.net_profit
    assert float(found.curve.equity[-1]) == pytest.approx(float(report.final_equity), rel=1e-12)
    orders = {order.order: order for order in found.orders}
    for trade in found.trades:
        assert orders[trade.entry_order].side.sign == (1 if trade.side == "LONG" else -1)
        assert orders[trade.exit_order].side is orders[trade.entry_order].side.opposite
        assert trade.opened_ns < trade.closed_ns


def test_rows_add_up_to_the_books() -> None:
    assert_adds_up(small_run().session)


def test_waiting_and_not_waiting_read_the_same() -> None:
    """The reader for running stacks and the one for files fold alike."""
    with TapeFile(small_run().tape_path) as tape:
        waited = asyncio.run(read_session(tape))
    assert waited.report == small_run().session.report
    assert waited.trades == small_run().session.trades
    assert waited.decisions == small_run().session.decisions


def test_a_changed_tape_is_not_reported_on() -> None:
    """A reader that gives other bytes than were chained is caught before anything is shown."""

    class Liar(TapeFile):
        def lines(self, index: int) -> list[bytes]:
            return [line.replace(b'"side":"BUY"', b'"side":"SELL"') for line in super().lines(index)]

        def hash_at(self, pos: int) -> bytes:
            return TapeFile(self.path).hash_at(pos)

    with Liar(small_run().tape_path) as tape, pytest.raises(ChainBroken):
        session_of(tape)


def test_a_tape_without_a_run_is_refused(tmp_path: Path) -> None:
    """Facts alone make no report."""
    with TapeFile(write(tmp_path / "halts.tape", numbered(3))) as tape, pytest.raises(NothingRecorded, match="no run"):
        session_of(tape)


@pytest.mark.parametrize(
    ("purpose", "order_type", "is_turn", "expected"),
    [
        (Purpose.SIGNAL, "MARKET", False, "signal"),
        (Purpose.SIGNAL, "MARKET", True, "turn"),
        (Purpose.SIGNAL, "STOP", False, "stop"),
        (Purpose.FLATTEN, "MARKET", False, "flatten"),
        (Purpose.LIQUIDATION, "MARKET", False, "liquidation"),
    ],
)
def test_exit_reasons(purpose: Purpose, order_type: str, is_turn: bool, expected: str) -> None:
    assert exit_reason(purpose, order_type, is_turn=is_turn) == expected


def frame(rows: Sequence[tuple[int, float]]) -> pl.DataFrame:
    """Bars that open and close at one price; (hour, price)."""
    hours, prices = zip(*rows, strict=True)
    return pl.DataFrame(
        {"ts": pl.Series([hour * 3_600_000 + 1_704_067_200_000 for hour in hours]), "open": prices, "high": prices}
        | {"low": prices, "close": prices, "volume": [1000.0] * len(prices)}
    ).with_columns(pl.from_epoch("ts", "ms"))


def test_a_frame_is_the_file_of_its_bars(tmp_path: Path) -> None:
    """The same bars as a frame and as a file: the same fills, trades and books."""
    prices = 100 + np.cumsum(np.random.Generator(np.random.PCG64(1)).normal(size=300)).round(2)
    bars = frame(list(enumerate(prices.tolist())))
    bars.write_parquet(tmp_path / "XYZUSD.parquet")
    wanted = {"parameters": {"fast": 3, "slow": 9}, "fee": 0.001}
    ours = tapeline_backtest.run("ema_cross", {"XYZ/USD": bars}, **wanted)
    files = tapeline_backtest.run("ema_cross", tmp_path / "XYZUSD.parquet", **wanted)
    assert ours.fills.drop("pos", "bar_pos").equals(files.fills.drop("pos", "bar_pos"))
    assert ours.report.final_equity == files.report.final_equity
    assert ours.report.trades > 3
    assert ours.report.tape_hash == tapeline_backtest.run("ema_cross", {"XYZ/USD": bars}, **wanted).report.tape_hash


def test_frames_hold_what_the_report_counts() -> None:
    """Rows, types and sums of every frame."""
    result = small_run()
    assert (len(result.trades), len(result.fills), len(result.orders)) == (
        result.report.trades,
        result.report.fills,
        result.report.orders,
    )
    assert result.fills["fee"].sum() == pytest.approx(float(result.report.fees))
    assert result.trades["net"].max() == pytest.approx(float(result.report.best_trade or 0))
    assert len(result.equity) == result.report.bars
    assert result.equity["drawdown"].max() == pytest.approx(result.report.max_drawdown)
    assert result.fills.schema["time"] == pl.Datetime("ns", "UTC")
    assert set(result.decisions["what"]) == {"OrderProposed"}


def test_a_run_without_trades_has_typed_frames() -> None:
    """Frames of nothing have the columns of frames of something."""
    still = tapeline_backtest.run("ema_cross", {"XYZ/USD": frame([(hour, 100.0) for hour in range(20)])})
    assert still.trades.schema == small_run().trades.schema
    assert still.trades.is_empty()


def test_why_tells_the_chain_of_a_fill() -> None:
    """From the bar to the fill; a position beyond the end is refused."""
    result = small_run()
    told = result.why(result.fills["pos"][0])
    assert "BarClosed" in told
    assert "-> " in told
    assert "OrderProposed" in told
    with pytest.raises(LookupError, match="there is no position 0"):
        result.why(0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strategy": "ema_cros"}, "did you mean 'ema_cross'"),
        ({"data": "nowhere.csv"}, "no such file"),
        ({"fee": -1}, "fee is -1"),
        ({"fee": "much"}, "fee is 'much'"),
        ({"parameters": {"fast": 50}}, "fast must be less than slow"),
        ({"leverage": 3}, "unknown option 'leverage'"),
        ({"data": frame([(0, 1.0)])}, "give `instruments`"),
        ({"data": {"XYZ/USD": frame([(0, 1.0)]).drop("close")}}, "no column 'close'"),
        ({"data": {"XYZ/USD": 7}}, "type int"),
        ({"tape": "run.txt"}, "ends in .tape"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) else None,
)
def test_bad_calls_are_refused_in_one_sentence(wrong: dict[str, object], said: str) -> None:
    """The value and the fix are named, and nothing has run."""
    call = {"strategy": "ema_cross", "data": minutes(), **wrong}
    with pytest.raises(tapeline_backtest.RunRefused, match=said):
        tapeline_backtest.run(**call)
