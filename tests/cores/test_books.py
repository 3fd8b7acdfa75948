"""The double-entry books: what an entry may be, and what a position is after each fill."""

import decimal
from decimal import Decimal

import pytest

from tapeline_common.events import OrderFilled, TradeClosed
from tapeline_common.values import InstrumentId, Liquidity, OrderId, PositionSide, Side, StrategyId
from tapeline_ledger.books import (
    Books,
    BooksViolated,
    Position,
    Posting,
    balance,
    funding_payments,
    imbalances,
    is_open,
    post,
    post_capital,
    post_fill,
    post_funding,
)

D = Decimal
BITCOIN = InstrumentId("btc-usd")
TREND = StrategyId("trend")
OTHER = StrategyId("other")


def fill(
    side: Side,
    quantity: str,
    price: str,
    *,
    fee: str = "0",
    fee_currency: str = "USD",
    trade_id: str = "t1",
    strategy: StrategyId = TREND,
) -> OrderFilled:
    return OrderFilled(
        order=OrderId(f"order-{trade_id}"),
        client_order_id="c",
        strategy=strategy,
        instrument=BITCOIN,
        trade_id=trade_id,
        side=side,
        quantity=D(quantity),
        price=D(price),
        fee=D(fee),
        fee_currency=fee_currency,
        liquidity=Liquidity.TAKER,
        slippage=D(0),
    )


def books_after(*fills: OrderFilled, times_ns: tuple[int, ...] = ()) -> tuple[Books, list[TradeClosed]]:
    """Books with these fills posted (decision ``d<i>``, at time i unless told), and the trades they closed."""
    books, trades = Books(), []
    for index, each in enumerate(fills):
        time_ns = times_ns[index] if times_ns else index
        closed = post_fill(books, each, "BTC", "USD", each.fee, f"d{index}", time_ns)
        if closed is not None:
            trades.append(closed)
    assert imbalances(books) == {}
    return books, trades


def position_after(*fills: OrderFilled) -> Position:
    return books_after(*fills)[0].positions[BITCOIN][TREND]


# ---- entries -----------------------------------------------------------------------------------------------------


def test_a_fill_posts_both_legs_the_fee_and_their_contras() -> None:
    """Every account a fill touches, to the last digit; each currency sums to zero."""
    books, _ = books_after(fill(Side.BUY, "0.3", "100.01", fee="0.030003"))
    assert books.balances == {
        "position:trend:btc-usd": {"BTC": D("0.3")},
        "market:btc-usd": {"BTC": D("-0.3"), "USD": D("30.003")},
        "cash": {"USD": D("-30.033003")},
        "fees": {"USD": D("0.030003")},
    }


def test_a_fee_in_a_third_currency_is_posted_in_that_currency() -> None:
    """The quote leg does not carry a fee paid in something else."""
    books, _ = books_after(fill(Side.SELL, "2", "50", fee="0.1", fee_currency="BNB"))
    assert balance(books, "cash", "USD") == D(100)
    assert balance(books, "cash", "BNB") == D("-0.1")
    assert balance(books, "fees", "BNB") == D("0.1")


def test_a_rebate_is_income() -> None:
    """A negative fee adds to cash."""
    books, _ = books_after(fill(Side.BUY, "1", "50", fee="-0.01"))
    assert balance(books, "cash", "USD") == D("-49.99")


def test_an_entry_that_does_not_sum_to_zero_raises_and_posts_nothing() -> None:
    """A lost contra posting cannot get into the books, in production either."""
    books = Books()
    with pytest.raises(BooksViolated, match=r"sums to 0\.01 USD"):
        post(books, (Posting("cash", "USD", D("1.01")), Posting("fees", "USD", D(-1))))
    assert books == Books()


def test_amounts_of_different_currencies_do_not_make_up_for_each_other() -> None:
    """One dollar out and one coin in is no balanced entry."""
    with pytest.raises(BooksViolated):
        post(Books(), (Posting("cash", "USD", D(-1)), Posting("cash", "BTC", D(1))))


def test_a_balance_that_would_have_to_round_raises() -> None:
    """Sixty digits are enough for markets; a sixty-first is refused, not rounded."""
    books = Books()
    post_capital(books, "USD", D(10) ** 59)
    with pytest.raises(decimal.Inexact):
        post_capital(books, "USD", D("0.01"))


@pytest.mark.parametrize("quantity", ["0", "-1", "NaN"])
def test_a_fill_that_moves_nothing_forward_raises(quantity: str) -> None:
    """The side carries the sign: a quantity that is not above zero is a bug of whoever reported it."""
    with pytest.raises((BooksViolated, decimal.InvalidOperation)):
        post_fill(Books(), fill(Side.BUY, quantity, "1"), "BTC", "USD", D(0), "", 0)


def test_funding_the_account_and_withdrawing_meet_at_zero() -> None:
    """Capital is the source of cash."""
    books = Books()
    post_capital(books, "USD", D("1000.5"))
    assert books.balances == {"cash": {"USD": D("1000.5")}, "capital": {"USD": D("-1000.5")}}
    post_capital(books, "USD", D("-1000.5"))
    assert imbalances(books) == {}
    assert balance(books, "cash", "USD") == 0


# ---- positions ---------------------------------------------------------------------------------------------------


def test_adding_moves_the_average_price() -> None:
    """One at 100 and three at 104 average 103; nothing is realised."""
    position = position_after(fill(Side.BUY, "1", "100"), fill(Side.BUY, "3", "104", trade_id="t2"))
    assert (position.quantity, position.average_price, position.realised_pnl) == (D(4), D(103), D(0))


def test_reducing_leaves_the_average_price_and_realises() -> None:
    """Average cost: one of four sold at 113 realises ten."""
    position = position_after(fill(Side.BUY, "4", "103"), fill(Side.SELL, "1", "113", trade_id="t2"))
    assert (position.quantity, position.average_price, position.realised_pnl) == (D(3), D(103), D(10))
    assert (position.cash, position.cost) == (D("-299"), D(309))


def test_adding_after_reducing_realises_nothing_more() -> None:
    """The realised part stays what it was; the average is that of what is held."""
    fills = (fill(Side.BUY, "4", "103"), fill(Side.SELL, "1", "113"), fill(Side.BUY, "1", "107"))
    position = position_after(*fills)
    assert (position.quantity, position.average_price, position.realised_pnl) == (D(4), D(104), D(10))


def test_a_short_gains_when_the_price_falls() -> None:
    """Signs hold on the other side of zero."""
    position = position_after(fill(Side.SELL, "2", "100"), fill(Side.BUY, "1", "90"))
    assert (position.quantity, position.average_price, position.realised_pnl) == (D(-1), D(100), D(10))


def test_thirds_are_exact_once_flat() -> None:
    """An average that cannot be written out costs nothing: the closed trade is the sum of its cash flows."""
    fills = (
        fill(Side.BUY, "3", "100"),
        fill(Side.SELL, "1", "100.1"),
        fill(Side.BUY, "5", "100.33"),
        fill(Side.SELL, "7", "99.7"),
    )
    books, trades = books_after(*fills)
    cash_flows = -D(300) + D("100.1") - D("501.65") + D("697.9")
    assert [trade.pnl for trade in trades] == [cash_flows]
    assert books.positions[BITCOIN][TREND].realised_pnl == cash_flows
    assert not is_open(books)


def test_a_trade_closes_flat_to_flat() -> None:
    """The whole fact: volume-weighted prices, times of the first and last fill, the opening order's decision."""
    _, trades = books_after(
        fill(Side.SELL, "1", "110", fee="1"),
        fill(Side.SELL, "1", "130", fee="1"),
        fill(Side.BUY, "2", "100", fee="2"),
        times_ns=(10, 20, 30),
    )
    assert trades == [
        TradeClosed(
            trade="trend-btc-usd-1",
            strategy=TREND,
            instrument=BITCOIN,
            side=PositionSide.SHORT,
            quantity=D(2),
            entry_price=D(120),
            exit_price=D(100),
            opened_ns=10,
            closed_ns=30,
            pnl=D(40),
            fees=D(4),
            decision="d0",
        )
    ]


def test_a_fill_through_zero_closes_one_trade_and_opens_the_next() -> None:
    """Its fee is split by quantity, both parts sum to the whole, and the next trade has this fill's decision."""
    fills = (fill(Side.BUY, "1", "100"), fill(Side.SELL, "3", "110", fee="0.1"), fill(Side.BUY, "2", "105"))
    books, trades = books_after(*fills)
    first, second = trades
    assert (first.trade, first.side, first.quantity, first.pnl, first.decision) == (
        "trend-btc-usd-1",
        PositionSide.LONG,
        D(1),
        D(10),
        "d0",
    )
    assert (second.trade, second.side, second.quantity, second.pnl, second.decision) == (
        "trend-btc-usd-2",
        PositionSide.SHORT,
        D(2),
        D(10),
        "d1",
    )
    assert (second.opened_ns, second.closed_ns) == (1, 2)
    assert first.fees != second.fees
    assert first.fees + second.fees == D("0.1") == books.positions[BITCOIN][TREND].total_fees


def test_a_fill_to_exactly_flat_opens_nothing() -> None:
    """Flat is flat: no basis, no decision, no fees left for the next trade."""
    books, trades = books_after(fill(Side.BUY, "1.50", "100", fee="1"), fill(Side.SELL, "1.5", "100", fee="1"))
    assert len(trades) == 1
    assert books.positions[BITCOIN][TREND] == Position(trades=1, total_fees=D(2), opened_ns=0)


def test_strategies_hold_their_own_positions() -> None:
    """Two strategies on opposite sides of one instrument do not close each other."""
    books, trades = books_after(fill(Side.BUY, "1", "100"), fill(Side.SELL, "1", "101", strategy=OTHER))
    assert trades == []
    assert [(name, held.quantity) for name, held in books.positions[BITCOIN].items()] == [(TREND, D(1)), (OTHER, D(-1))]


# ---- funding -----------------------------------------------------------------------------------------------------


def test_longs_pay_shorts_and_the_trade_remembers() -> None:
    """Posted per strategy, in order of first fills, and told by the trade apart from its result."""
    books, _ = books_after(fill(Side.BUY, "2", "100"), fill(Side.SELL, "1", "100", strategy=OTHER))
    assert post_funding(books, BITCOIN, "USD", D("0.0001"), D(110)) == [(TREND, D("-0.022")), (OTHER, D("0.011"))]
    assert balance(books, "funding", "USD") == D("0.011")
    assert imbalances(books) == {}
    closed = post_fill(books, fill(Side.SELL, "2", "100"), "BTC", "USD", D(0), "", 9)
    assert closed is not None
    assert (closed.pnl, closed.funding) == (D(0), D("-0.022"))


def test_nobody_pays_funding_when_flat_or_at_rate_zero() -> None:
    """No open position or no rate: no posting."""
    books, _ = books_after(fill(Side.BUY, "1", "100"), fill(Side.SELL, "1", "100"))
    assert funding_payments(books, BITCOIN, D("0.0001"), D(110)) == []
    books, _ = books_after(fill(Side.BUY, "1", "100"))
    assert post_funding(books, BITCOIN, "USD", D("0.0000"), D(110)) == []
    assert "funding" not in books.balances
