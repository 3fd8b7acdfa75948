"""Trades and books from files: what is detected is said, every bad trade is named, and no digit is lost."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tapeline_common.values import DataFault, Side
from tapeline_marketdata.bar_rules import parse_rule
from tapeline_marketdata.built_bars import NOT_TRADED, build_bars, write_bars
from tapeline_marketdata.checks import Rejected
from tapeline_marketdata.columns import BadFile, FileFault
from tapeline_marketdata.depth_files import read_depth
from tapeline_marketdata.files import read_bars, source_detail
from tapeline_marketdata.order_book import Diff, Snapshot
from tapeline_marketdata.trade_files import RejectedTrade, TradeFile, read_trades
from tapeline_marketdata.trades import REMEMBERED_IDS, Trade, TradeChecker

NOON = 1_700_049_600 * 10**9
"""2023-11-15 12:00 UTC."""
Given = tuple[int, str, str, str, str]
GOOD: Given = (NOON, "100.50", "0.250", "buy", "7")

CSV = """ts,price,size,side,trade_id
1700049600000,100.50,0.250,buy,7
1700049600000,100.40,1,sell,8
1700049601500,1e2,1e-7,BUY,9
"""


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "trades.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def verdict(*given: Any, after: Given | None = None, sided: bool = True) -> Trade | Rejected:
    checker = TradeChecker(sided)
    if after is not None:
        assert isinstance(checker.check(*after), Trade)
    return checker.check(*given)


# ---- the checker -------------------------------------------------------------------------------------------------


def test_a_good_trade_is_taken_as_printed() -> None:
    """Price and size keep their digits, the side is the taker's."""
    found = verdict(*GOOD)
    assert found == Trade(NOON, Decimal("100.50"), Decimal("0.250"), Side.BUY, "7")
    assert isinstance(found, Trade)
    assert (str(found.price), str(found.size)) == ("100.50", "0.250")


@pytest.mark.parametrize(
    ("fault", "given"),
    [
        (DataFault.NOT_A_NUMBER_TEXT, (NOON, "abc", "1", "buy", "1")),
        (DataFault.NOT_A_NUMBER_TEXT, (NOON, "100", "", "buy", "1")),
        (DataFault.NOT_A_NUMBER_TEXT, (NOON, "1e2", "1", "buy", "1")),
        (DataFault.NOT_FINITE, (NOON, "NaN", "1", "buy", "1")),
        (DataFault.NON_POSITIVE_PRICE, (NOON, "0", "1", "buy", "1")),
        (DataFault.NON_POSITIVE_PRICE, (NOON, "-1", "1", "buy", "1")),
        (DataFault.NON_POSITIVE_SIZE, (NOON, "100", "0.000", "buy", "1")),
        (DataFault.NON_POSITIVE_SIZE, (NOON, "100", "-2", "buy", "1")),
        (DataFault.SIDE_MISSING, (NOON, "100", "1", "", "1")),
        (DataFault.SIDE_MISSING, (NOON, "100", "1", "maybe", "1")),
        (DataFault.OUT_OF_ORDER, (NOON - 1, "100", "1", "buy", "8")),
        (DataFault.DUPLICATE, GOOD),
        (DataFault.REVISED, (NOON, "100.51", "0.250", "buy", "7")),
        (DataFault.REVISED, (NOON + 5, "100.50", "0.250", "buy", "7")),
    ],
)
def test_a_bad_trade_is_refused_with_its_reason(fault: DataFault, given: Given) -> None:
    """Each fault has its own reason; the good trade before it makes no difference to the others."""
    found = verdict(*given, after=GOOD)
    assert isinstance(found, Rejected)
    assert found.fault is fault


@pytest.mark.parametrize(
    "given",
    [
        (NOON, "100.50", "0.250", "buy", "8"),
        (NOON, "0.00000001", "0.00000001", "s", "8"),
        (NOON + 1, "100.50", "0.250", "Sell", ""),
    ],
)
def test_what_is_just_right_is_taken(given: Given) -> None:
    """A second trade of the same time, the smallest numbers, a trade without id."""
    assert isinstance(verdict(*given, after=GOOD), Trade)


def test_a_source_without_sides_needs_none() -> None:
    """Where no trade has a side, none is missing."""
    assert verdict(NOON, "1", "1", sided=False) == Trade(NOON, Decimal(1), Decimal(1))


def test_a_refused_trade_hides_no_good_one() -> None:
    """A wrong time in the future is not remembered if its trade is refused for something else."""
    checker = TradeChecker()
    assert isinstance(checker.check(NOON + 10**15, "0", "1", "buy", "1"), Rejected)
    assert isinstance(checker.check(NOON, "1", "1", "buy", "1"), Trade)


def test_ids_are_remembered_for_a_while() -> None:
    """Memory is bounded: an id is known again for so many trades, and new after that."""
    checker = TradeChecker()
    for number in range(REMEMBERED_IDS + 1):
        assert isinstance(checker.check(NOON, "1", "1", "buy", str(number)), Trade)
    assert isinstance(checker.check(NOON, "1", "1", "buy", "1"), Rejected)
    assert isinstance(checker.check(NOON, "1", "1", "buy", "0"), Trade)


# ---- files of trades ---------------------------------------------------------------------------------------------


def trades_in(file: TradeFile) -> list[Trade]:
    found = list(file.trades())
    assert all(isinstance(one, Trade) for one in found)
    return found  # type: ignore[return-value]


def test_a_csv_of_trades(csv: Callable[..., Path]) -> None:
    """Milliseconds are detected, texts are kept, exponents written out, sides understood in any case."""
    file = read_trades(csv(CSV))
    assert trades_in(file) == [
        Trade(NOON, Decimal("100.50"), Decimal("0.250"), Side.BUY, "7"),
        Trade(NOON, Decimal("100.40"), Decimal("1"), Side.SELL, "8"),
        Trade(NOON + 1_500_000_000, Decimal("100"), Decimal("0.0000001"), Side.BUY, "9"),
    ]
    assert (file.facts.time_unit, file.facts.sided, file.facts.notes) == (
        "ms",
        True,
        ("ts is in ms since the epoch, detected by magnitude",),
    )


def test_an_exchanges_own_archive(csv: Callable[..., Path]) -> None:
    """Binance's columns: id, price, qty, time, is_buyer_maker, of which the last says the side the other way round."""
    text = (
        "id,price,qty,quote_qty,time,is_buyer_maker\n1,100,2,200,1700049600000,true\n2,101,3,303,1700049600001,False\n"
    )
    assert [(one.side, one.size) for one in trades_in(read_trades(csv(text)))] == [
        (Side.SELL, Decimal(2)),
        (Side.BUY, Decimal(3)),
    ]


def test_what_a_file_does_not_say_is_noted(csv: Callable[..., Path]) -> None:
    """Without sides and ids the trades are read, and both are said to be missing."""
    file = read_trades(csv("timestamp,price,amount\n1700049600.25,100,1\n1700049600.25,100,1\n"))
    assert [one.time_ns for one in trades_in(file)] == [NOON + 250_000_000] * 2
    assert file.facts.notes[1:] == (
        "no column says the taker's side",
        "no column has the trades' ids, so a repeated trade cannot be told from a second one",
    )


def test_rows_that_are_no_market_trades_are_left_out(tmp_path: Path) -> None:
    """Insurance fund and deleveraging rows are counted, not traded; row numbers stay those of the file."""
    columns = {
        "ts": [NOON, NOON + 1, NOON + 2],
        "price": [100.0, 0.0, 0.0],
        "size": [1.0, 0.0, 1.0],
        "side": ["buy", "sell", "buy"],
        "exec_type": ["MARKET", "INSURANCE_FUND", "MARKET"],
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "trades.parquet")
    file = read_trades(tmp_path / "trades.parquet")
    assert (len(file), file.facts.rows, file.facts.left_out) == (2, 3, 1)
    with pytest.raises(BadFile, match=r"trades.parquet: row 3: NON_POSITIVE_PRICE: price is 0: a price is above 0"):
        list(file.trades())


BAD_ROW = CSV.replace("1700049601500,1e2", "1700049599000,1e2")


def test_a_bad_trade_is_named_with_its_row(csv: Callable[..., Path]) -> None:
    """Strict reading stops at the first bad row, with row, line, reason and fix."""
    file = read_trades(csv(BAD_ROW))
    with pytest.raises(BadFile) as caught:
        list(file.trades())
    assert caught.value.fault is FileFault.BAD_TRADE
    assert "trades.csv: row 3 (line 4): OUT_OF_ORDER: trade at" in caught.value.message
    assert caught.value.message.endswith(": correct or remove the row")


def test_otherwise_a_bad_trade_is_a_value(csv: Callable[..., Path]) -> None:
    """Read without strictness it stands between the good ones with its row and reason."""
    found = list(read_trades(csv(BAD_ROW)).trades(strict=False))
    assert [type(one) for one in found] == [Trade, Trade, RejectedTrade]
    assert isinstance(found[2], RejectedTrade)
    assert (found[2].row, found[2].rejected.fault) == (2, DataFault.OUT_OF_ORDER)


@pytest.mark.parametrize(
    ("text", "fault", "named"),
    [
        ("ts,price,size\n", FileFault.EMPTY, "a header but no trades"),
        ("ts,price\n1700049600000,1\n", FileFault.MISSING_COLUMN, "missing column size (or qty"),
        ("ts,price,size\nsoon,1,1\n", FileFault.TIME_UNIT_UNKNOWN, "'soon' is no time"),
        ("1700049600,1,1\n", FileFault.MISSING_COLUMN, "for trades ts,price,size,side"),
    ],
)
def test_a_file_that_is_none_is_named(csv: Callable[..., Path], text: str, fault: FileFault, named: str) -> None:
    """Faults of the whole file raise, with the fix."""
    with pytest.raises(BadFile) as caught:
        read_trades(csv(text))
    assert caught.value.fault is fault
    assert named in caught.value.message


# ---- bars built from files ---------------------------------------------------------------------------------------


def many_trades(rows: int = 1000) -> str:
    lines = [
        f"{1700049600000 + row * 137},{100 + row * 7 % 13}.{row % 10}0,0.{1 + row % 9},{'sb'[row % 2]},{row}"
        for row in range(rows)
    ]
    return "\n".join(["ts,price,size,side,trade_id", *lines]) + "\n"


@pytest.mark.parametrize(
    "rule", ["time:1s", "time:5s:carry", "tick:7", "volume:3", "value:500", "imbalance:20", "renko:3"]
)
def test_bars_written_are_bars_read(csv: Callable[..., Path], tmp_path: Path, rule: str) -> None:
    """What is built from trades and written reads back as the same bars, of the same name, times and digits."""
    built = build_bars(csv(many_trades()), parse_rule(rule))
    write_bars(built, tmp_path / "bars.parquet")
    again = read_bars(tmp_path / "bars.parquet")
    assert list(again.bars("X")) == list(built.bars("X"))  # type: ignore[arg-type]
    assert (again.facts.timeframe, again.facts.timeframe_ns) == (built.facts.timeframe, built.facts.timeframe_ns)
    assert (len(again), again.close_ns.tolist()) == (len(built), built.close_ns.tolist())


def test_time_bars_can_be_written_as_csv(csv: Callable[..., Path], tmp_path: Path) -> None:
    """CSV holds bars of a fixed length; others need Parquet, and the error says so."""
    path = csv(many_trades())
    built = build_bars(path, parse_rule("time:1s"))
    write_bars(built, tmp_path / "bars.csv")
    assert list(read_bars(tmp_path / "bars.csv").bars("X")) == list(built.bars("X"))  # type: ignore[arg-type]
    with pytest.raises(BadFile, match=r"cannot say that its bars are tick-7: write a .parquet file"):
        write_bars(build_bars(path, parse_rule("tick:7")), tmp_path / "bars.csv")


def test_the_tape_says_what_bars_were_built_from(csv: Callable[..., Path]) -> None:
    """Digest, number of bars, rule, and the trades used and left over."""
    built = build_bars(csv(many_trades(100)), parse_rule("tick:7"))
    assert (
        source_detail(built, "0af") == "sha256 0af; 14 bars; time unit ms; built from 100 trades by tick:7, 2 left over"
    )
    assert (built.trades, built.left_over, built.facts.rows) == (100, 2, 14)


def test_bricks_warn_of_their_prices(csv: Callable[..., Path]) -> None:
    """Renko bars say that their prices need not have been traded; other bars have nothing to say."""
    path = csv(many_trades(100))
    assert build_bars(path, parse_rule("renko:3")).facts.notes[1:] == (NOT_TRADED,)
    assert build_bars(path, parse_rule("tick:7")).facts.notes[1:] == ()


def test_too_few_trades_make_no_bar(csv: Callable[..., Path]) -> None:
    """A file that closes no bar is refused with both ways out."""
    with pytest.raises(BadFile, match=r"its 100 trades close no bar by tick:101: give more of them, or a smaller bar"):
        build_bars(csv(many_trades(100)), parse_rule("tick:101"))


def test_trades_are_not_taken_for_bars(csv: Callable[..., Path]) -> None:
    """Who gives a file of trades for one of bars is told how bars are built."""
    with pytest.raises(BadFile, match=r"holds trades .*: say how bars are built from them, as in --bars time:1m"):
        read_bars(csv(CSV))


# ---- files of books ----------------------------------------------------------------------------------------------

DEPTH = """timestamp,first_update_id,last_update_id,side,update_type,price,qty,pu
1700049600000,5,10,b,snap,99.50,1.000,-1
1700049600000,5,10,a,snap,100.00,2,-1
1700049600100,11,13,b,set,99.50,0.000,10
1700049600100,11,13,a,set,99.9,1,10
1700049600200,14,14,a,set,99.9,0,-1
"""


def test_a_file_of_depth_is_messages(csv: Callable[..., Path]) -> None:
    """Rows of one message come together; what it follows is said, or counted from its first id."""
    file = read_depth(csv(DEPTH))
    assert (file.rows, len(file)) == (5, 3)
    assert [(one.time_ns - NOON, one.book) for one in file.messages()] == [
        (0, Snapshot([("99.50", "1.000")], [("100.00", "2")], 10)),
        (100_000_000, Diff([("99.50", "0.000")], [("99.9", "1")], 10, 13)),
        (200_000_000, Diff([], [("99.9", "0")], 13, 14)),
    ]


@pytest.mark.parametrize(
    ("text", "fault", "named"),
    [
        (DEPTH.replace("10,a,snap", "10,left,snap"), FileFault.BAD_SIDE, "row 2, column side: 'left' is no side"),
        (DEPTH.replace("update_type", "kind"), FileFault.MISSING_COLUMN, "missing column is_snapshot (or update_type)"),
        (DEPTH.replace("11,13,a", "11,x,a"), FileFault.NOT_A_NUMBER, "column last_update_id"),
        (DEPTH.splitlines()[0] + "\n", FileFault.EMPTY, "no levels"),
    ],
)
def test_a_bad_file_of_depth_is_named(csv: Callable[..., Path], text: str, fault: FileFault, named: str) -> None:
    """Faults of the file raise; what is wrong with a message is for the book to say."""
    with pytest.raises(BadFile) as caught:
        read_depth(csv(text))
    assert caught.value.fault is fault
    assert named in caught.value.message
