"""A queue position: trades move it up from the front, cancels as assumed, and it never falls back."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_common.values import Side
from tapeline_marketdata.order_book import Diff, OrderBook, Snapshot
from tapeline_marketdata.queue_position import Cancels, QueuePosition
from tapeline_marketdata.trades import Trade


def book(bid: str = "10", ask: str = "8") -> OrderBook:
    found = OrderBook()
    found.take(Snapshot([("99", bid), ("98", "50")], [("101", ask), ("102", "50")]))
    return found


def resting(size: str = "3", cancels: Cancels = Cancels.BEHIND) -> QueuePosition:
    """A bid of 99 behind ten others."""
    return QueuePosition(Side.BUY, Decimal(99), Decimal(size), book(), cancels)


def trade(price: str, size: str, side: Side | None = Side.SELL) -> Trade:
    return Trade(1, Decimal(price), Decimal(size), side)


def test_an_order_joins_behind_all_that_rests() -> None:
    """At a level that nobody is at, it is the first."""
    assert resting().ahead == 10
    assert QueuePosition(Side.SELL, Decimal(100), Decimal(1), book()).ahead == 0
    assert QueuePosition(Side.SELL, Decimal(102), Decimal(1), book()).ahead == 50


def test_trades_at_the_price_take_from_the_front() -> None:
    """Ten are before us: of trades of 6, 5 and 7 the second reaches us by one, the third by what is left."""
    order = resting()
    assert [order.on_trade(trade("99", size)) for size in ("6", "5", "7", "9")] == [0, 1, 2, 0]
    assert (order.ahead, order.remaining) == (0, 0)


@pytest.mark.parametrize(
    "one",
    [trade("99.5", "100"), trade("101", "100", Side.BUY), trade("99", "100", Side.BUY)],
    ids=["before our price", "of the other side", "of our own side's takers"],
)
def test_other_trades_are_not_ours(one: Trade) -> None:
    """What is traded elsewhere, or by takers of our own side, moves nothing."""
    order = resting()
    assert (order.on_trade(one), order.ahead) == (0, 10)


@pytest.mark.parametrize("side", [Side.SELL, None])
def test_a_trade_beyond_the_price_fills_everything(side: Side | None) -> None:
    """Who sells at 98 has taken all of 99 first."""
    order = resting()
    assert order.on_trade(trade("98", "0.001", side)) == 3
    assert order.remaining == 0


def test_the_other_sides_best_at_the_price_fills_everything() -> None:
    """An offer at our price would have met us."""
    order, now = resting(), book()
    now.take(Diff([("99", "0")], [("99", "1")]))
    assert order.on_book(now) == 3


def test_a_smaller_level_is_all_that_can_be_before_us() -> None:
    """Cancels are behind us while they can be: from 10 to 14 to 6, at least four were before us."""
    order, now = resting(), book()
    for size, ahead in (("14", 10), ("10", 10), ("6", 6), ("9", 6), ("0", 0)):
        now.take(Diff([("99", size)], []))
        assert (order.on_book(now), order.ahead) == (0, ahead)


def test_cancels_can_be_taken_as_even() -> None:
    """Ten before us, ten behind us: of four that leave, two were before us; what was traded did not leave."""
    order, now = resting(cancels=Cancels.EVENLY), book()
    now.take(Diff([("99", "20")], []))
    order.on_book(now)
    now.take(Diff([("99", "16")], []))
    order.on_book(now)
    assert order.ahead == 8
    order.on_trade(trade("99", "4"))
    now.take(Diff([("99", "12")], []))
    order.on_book(now)
    assert order.ahead == 4


def test_a_book_that_is_not_ready_says_nothing() -> None:
    """After a gap the order stays where it was."""
    order = resting()
    assert (order.on_book(OrderBook()), order.ahead) == (0, 10)


def test_an_order_that_would_take_is_no_resting_order() -> None:
    """A bid at the best ask is a bug of the caller."""
    with pytest.raises(AssertionError, match="does not stand in a queue"):
        QueuePosition(Side.BUY, Decimal(101), Decimal(1), book())


STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=40)


@pytest.mark.parametrize("cancels", Cancels)
@given(steps=STEPS, size=st.integers(1, 5))
def test_it_only_moves_up_and_fills_no_more_than_was_traded(
    cancels: Cancels, steps: list[tuple[bool, int]], size: int
) -> None:
    """What is ahead never grows; fills sum to what is no longer remaining, and to no more than trades gave."""
    order, now = resting(str(size), cancels), book()
    traded, filled = Decimal(0), Decimal(0)
    for is_trade, amount in steps:
        before = order.ahead
        if is_trade:
            traded += amount
            filled += order.on_trade(trade("99", str(amount)))
        else:
            now.take(Diff([("99", str(amount))], []))
            filled += order.on_book(now)
        assert 0 <= order.ahead <= before
        assert filled == size - order.remaining <= traded


@given(steps=STEPS)
def test_the_worst_case_is_never_ahead_of_the_even_one(steps: list[tuple[bool, int]]) -> None:
    """With cancels behind us the order is filled by no trade that would not fill it with even cancels."""
    worst, even, now = resting("5"), resting("5", Cancels.EVENLY), book()
    for is_trade, amount in steps:
        if is_trade:
            worst.on_trade(trade("99", str(amount)))
            even.on_trade(trade("99", str(amount)))
        else:
            now.take(Diff([("99", str(amount))], []))
            worst.on_book(now)
            even.on_book(now)
        assert even.ahead <= worst.ahead
        assert even.remaining <= worst.remaining
