"""Recorded books through the book code: wherever the exchange said its best bid and offer, ours are the same.

Binance USDⓈ-M futures, 2024-08-08: 175,940 level updates in 2,858 depth messages (two and a half minutes), beside the
exchange's own stream of best bid and offer (bookTicker), which says every change with the book's update id. The last
word up to a depth message's id is what the book must show after it: both prices and both sizes.
"""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from bisect import bisect_right
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tapeline_common.values import Side
from tapeline_marketdata.bars import decimal_text
from tapeline_marketdata.depth_files import read_depth
from tapeline_marketdata.order_book import Applied, BookFault, Diff, Held, Level, OrderBook, Refused, Snapshot
from tapeline_marketdata.queue_position import Cancels, QueuePosition
from tapeline_marketdata.trade_files import read_trades
from tapeline_marketdata.trades import Trade

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
TICKS = DATA / "ticks" / "binance_usdm"
DEPTH = TICKS / "BTCUSDT_PERP_20240808_l2.parquet"
BEST = TICKS / "BTCUSDT_PERP_20240808_bbo.parquet"
TRADES = TICKS / "BTCUSDT_PERP_20240808_trades.parquet"
RAW = DATA / "raw" / "hftbacktest" / "usdm_btcusdt_20240808_first20s.jsonl.gz"
BYBIT = DATA / "raw" / "nautilus" / "bybit_xrpusdt-ob500.data.zip"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DEPTH.is_file(), reason=f"no recorded book at {DEPTH} (set TAPELINE_DATA)"),
]

Best = tuple[Level | None, Level | None]


class Recorded:
    """What the exchange said its best bid and offer were, by update id."""

    def __init__(self, said: list[tuple[int, Best]]) -> None:
        self.ids = [update_id for update_id, _ in said]
        self.best = [best for _, best in said]

    def at(self, update_id: int) -> Best | None:
        """The best as of this update; None before the recording begins."""
        index = bisect_right(self.ids, update_id) - 1
        return self.best[index] if index >= 0 else None


def number(value: Any) -> Decimal:
    return Decimal(value if isinstance(value, str) else decimal_text(value))


def best_of(bid: Any, bid_size: Any, ask: Any, ask_size: Any) -> Best:
    return (number(bid), number(bid_size)), (number(ask), number(ask_size))


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    rows = pyarrow.parquet.read_table(BEST).to_pylist()
    names = ("bid", "bid_size", "ask", "ask_size")
    return Recorded([(row["update_id"], best_of(*(row[name] for name in names))) for row in rows])


@pytest.fixture(scope="module")
def messages() -> list[Snapshot | Diff]:
    return [message.book for message in read_depth(DEPTH).messages()]


def compared(messages: list[Snapshot | Diff], recorded: Recorded) -> tuple[int, int, list[Refused]]:
    """Comparisons, differences, and what the book refused."""
    book, count, different, refused = OrderBook(), 0, 0, []
    for message in messages:
        outcome = book.take(message)
        if isinstance(outcome, Refused):
            refused.append(outcome)
        said = recorded.at(book.sequence) if book.sequence is not None else None
        if said is not None:
            count += 1
            different += (book.best_bid, book.best_ask) != said
    return count, different, refused


def test_every_recorded_step_has_the_recorded_best_bid_and_offer(
    messages: list[Snapshot | Diff], recorded: Recorded
) -> None:
    """175,940 level updates: at each of the 2,852 steps that have a book, prices and sizes are the recorded ones."""
    assert read_depth(DEPTH).rows == 175_940
    assert compared(messages, recorded) == (2852, 0, [])


def test_the_stream_bridges_to_its_snapshot(messages: list[Snapshot | Diff]) -> None:
    """Six messages came before the snapshot of 2,000 levels; two of them reach beyond it and are applied."""
    book = OrderBook()
    outcomes = [book.take(message) for message in messages]
    assert outcomes[:7] == [*(Held(waiting) for waiting in range(1, 7)), Applied(2)]
    assert set(outcomes[7:]) == {Applied(1)}


def test_the_whole_book_is_that_of_plain_dictionaries(messages: list[Snapshot | Diff]) -> None:
    """After the last message every level of both sides is what a dictionary of the levels holds."""
    book = OrderBook()
    for message in messages:
        book.take(message)
    start = next(at for at, message in enumerate(messages) if isinstance(message, Snapshot))
    snapshot = messages[start].sequence
    assert snapshot is not None
    applied = [message for message in messages if isinstance(message, Snapshot) or (message.sequence or 0) > snapshot]
    applied.sort(key=lambda message: not isinstance(message, Snapshot))
    twin: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
    for message in applied:
        for side, levels in zip(twin, (message.bids, message.asks), strict=True):
            side.update((Decimal(price), Decimal(size)) for price, size in levels)
    bids, asks = ({price: size for price, size in side.items() if size} for side in twin)
    assert book.bid_levels() == sorted(bids.items(), reverse=True)
    assert book.ask_levels() == sorted(asks.items())
    assert (len(bids), len(asks)) == (3318, 3180)


def test_a_lost_message_is_a_gap(messages: list[Snapshot | Diff], recorded: Recorded) -> None:
    """Without one of 2,858 messages the book is refused at the next one, and never shows a wrong best."""
    count, different, refused = compared(messages[:1000] + messages[1001:], recorded)
    assert (count, different) == (994, 0)
    assert [each.fault for each in refused] == [BookFault.SEQUENCE_GAP]


def test_one_lost_level_is_noticed(messages: list[Snapshot | Diff], recorded: Recorded) -> None:
    """The comparison can fail: without the one level update that made a new best bid, later steps differ."""
    book, at = OrderBook(), 0
    for at, message in enumerate(messages):
        before = book.best_bid
        book.take(message)
        if at > 500 and before is not None and book.best_bid is not None and book.best_bid[0] > before[0]:
            break
    message = messages[at]
    assert isinstance(message, Diff)
    assert book.best_bid is not None
    best = book.best_bid[0]
    kept = [level for level in message.bids if Decimal(level[0]) != best]
    assert len(kept) == len(message.bids) - 1
    damaged = Diff(kept, message.asks, message.after, message.sequence)
    _, different, _ = compared([*messages[:at], damaged, *messages[at + 1 :]], recorded)
    assert different >= 1


def test_as_the_exchange_printed_it() -> None:
    """The raw stream's first 20 s, JSON texts untouched: the same holds, digits and trailing zeros included."""
    book, said, count = OrderBook(), Recorded([]), 0
    stream: list[dict[str, Any]] = []
    with gzip.open(RAW, "rt") as lines:
        for line in lines:
            found = json.loads(line.partition(" ")[2])
            stream.append(found.get("data", found))
    tickers = [one for one in stream if one.get("e") == "bookTicker"]
    said = Recorded([(one["u"], best_of(one["b"], one["B"], one["a"], one["A"])) for one in tickers])
    for one in stream:
        if "lastUpdateId" in one:
            book.take(Snapshot(one["bids"], one["asks"], one["lastUpdateId"]))
        elif one["e"] == "depthUpdate":
            book.take(Diff(one["b"], one["a"], one["pu"], one["u"]))
        else:
            continue
        best = said.at(book.sequence) if book.sequence is not None else None
        if best is not None:
            count += 1
            assert (book.best_bid, book.best_ask) == best
            assert str(book.best_bid) == str(best[0])
    assert count == 378


def test_bybit_counts_every_message() -> None:
    """Bybit's 500 levels: a snapshot and 49 deltas, numbered one by one, are a book at every step."""
    with zipfile.ZipFile(BYBIT) as archive:
        lines = archive.read(archive.namelist()[0]).decode().splitlines()
    book = OrderBook()
    for line in lines:
        found = json.loads(line)
        data = found["data"]
        if found["type"] == "snapshot":
            outcome = book.take(Snapshot(data["b"], data["a"], data["u"]))
        else:
            outcome = book.take(Diff(data["b"], data["a"], data["u"] - 1, data["u"]))
        assert isinstance(outcome, Applied), outcome
        assert (len(book.bid_levels()), len(book.ask_levels())) == (500, 500)
    assert len(lines) == 50


def test_recorded_trades_and_books_move_orders_up_the_queue() -> None:
    """Imagined orders at the best prices, two every 20 messages, through the recorded trades and the book beside them.

    No order is ahead of one with better assumptions, and whatever filled was traded: at its price as much as stood
    before it and it asked for, or beyond its price.
    """
    depth = pyarrow.parquet.read_table(DEPTH, columns=["trade_ms", "msg_seq"]).to_pydict()
    message_ms = dict(zip(depth["msg_seq"], depth["trade_ms"], strict=True))
    trades = [one for one in read_trades(TRADES).trades() if isinstance(one, Trade)]
    trade_ms = pyarrow.parquet.read_table(TRADES, columns=["trade_ms"])["trade_ms"].to_pylist()
    book, orders, at, filled = OrderBook(), list[Imagined](), 0, 0
    for number, message in enumerate(read_depth(DEPTH).messages()):
        while at < len(trades) and trade_ms[at] <= message_ms[number]:
            for order in orders:
                order.trade(trades[at])
            at += 1
        book.take(message.book)
        for order in orders:
            order.see(book)
        if book.ready and number % 20 == 0:
            orders += [Imagined(side, book) for side in Side]
        filled += sum(order.is_filled for order in orders)
        orders = [order for order in orders if not order.is_filled]
    assert (at, filled, len(orders)) == (5152, 243, 41)


class Imagined:
    """One order by both assumptions, and what was traded since it joined."""

    def __init__(self, side: Side, book: OrderBook) -> None:
        best = book.best_bid if side is Side.BUY else book.best_ask
        assert best is not None
        self.size = Decimal("0.5")
        self.ahead = best[1]
        self.both = [QueuePosition(side, best[0], self.size, book, cancels) for cancels in Cancels]
        self.traded = Decimal(0)
        self.passed = False

    def trade(self, trade: Trade) -> None:
        order = self.both[0]
        if trade.side is not order.side:
            self.passed = self.passed or (order.price - trade.price) * order.side.sign > 0
            self.traded += trade.size if trade.price == order.price else 0
        self._judge([order.on_trade(trade) for order in self.both])

    def see(self, book: OrderBook) -> None:
        order = self.both[0]
        other = book.best_ask if order.side is Side.BUY else book.best_bid
        self.passed = self.passed or (other is not None and (order.price - other[0]) * order.side.sign >= 0)
        self._judge([order.on_book(book) for order in self.both])

    @property
    def is_filled(self) -> bool:
        return self.both[0].remaining == 0

    def _judge(self, fills: list[Decimal]) -> None:
        worst, even = self.both
        assert even.ahead <= worst.ahead <= self.ahead
        assert even.remaining <= worst.remaining
        if any(fills) and not self.passed:
            assert self.traded >= self.size - even.remaining
