"""Fills and trades that are kept compactly: what comes back is what went in, and sums are those of the events."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tapeline_backtest.kept import (
    BLOCK_ROWS,
    Columns,
    flows_by_instrument,
    kept_fills,
    kept_trades,
    results_by_instrument,
)
from tapeline_backtest.order_facts import _floats
from tapeline_common.events import OrderFilled, TradeClosed
from tapeline_common.money import ZERO
from tapeline_common.values import InstrumentId, Liquidity, OrderId, PositionSide, Side, StrategyId

AMOUNTS = st.decimals(-(10**12), 10**12, places=8)
COUNTS = st.decimals("0.00000001", 10**9, places=8)
INSTRUMENTS = st.sampled_from([InstrumentId("GOOSE"), InstrumentId("SWAN")])
FILLS = st.builds(
    OrderFilled,
    order=st.just(OrderId("o-1")),
    client_order_id=st.text(max_size=5),
    strategy=st.just(StrategyId("s")),
    instrument=INSTRUMENTS,
    trade_id=st.just("t"),
    side=st.sampled_from(Side),
    quantity=COUNTS,
    price=COUNTS,
    fee=AMOUNTS,
    fee_currency=st.just("USD"),
    liquidity=st.sampled_from(Liquidity),
    slippage=COUNTS,
)
TRADES = st.builds(
    TradeClosed,
    trade=st.just("s-1"),
    strategy=st.just(StrategyId("s")),
    instrument=INSTRUMENTS,
    side=st.sampled_from(PositionSide),
    quantity=COUNTS,
    entry_price=COUNTS,
    exit_price=COUNTS,
    opened_ns=st.integers(0, 2**62),
    closed_ns=st.integers(0, 2**62),
    pnl=AMOUNTS,
    fees=AMOUNTS,
    decision=st.just(""),
)
WHOLE = st.integers(-(2**61), 2**61)


@given(st.lists(st.tuples(st.integers(0, 2**62), FILLS), max_size=12))
def test_fills_come_back_and_add_up(fills: list[tuple[int, OrderFilled]]) -> None:
    """Every fill to the last digit and in order; sums by instrument as the events have them."""
    kept = kept_fills()
    for each in fills:
        kept.append(each)
    flows = flows_by_instrument(kept.sums())

    assert list(kept) == fills
    assert [len(kept), bool(flows)] == [len(fills), bool(fills)]
    assert set(flows) == {fill.instrument for _, fill in fills}
    for instrument, flow in flows.items():
        some = [(time_ns, fill) for time_ns, fill in fills if fill.instrument == instrument]
        assert flow.time_ns.tolist() == [time_ns for time_ns, _ in some]
        assert flow.moved.tolist() == [float(fill.quantity) * fill.side.sign for _, fill in some]
        assert flow.fees == sum((fill.fee for _, fill in some), ZERO)
        assert flow.quantity == sum((fill.quantity * fill.side.sign for _, fill in some), ZERO)
        assert flow.slippage == sum((fill.slippage * fill.quantity for _, fill in some), ZERO)


@given(st.lists(TRADES, max_size=12))
def test_trades_come_back_and_add_up(trades: list[TradeClosed]) -> None:
    """Every trade to the last digit and in order; wins, losses, best and worst are of what is left after fees."""
    kept = kept_trades()
    for each in trades:
        kept.append(each)
    results = results_by_instrument(kept.sums())

    assert list(kept) == trades
    for instrument, result in results.items():
        net = [trade.pnl - trade.fees for trade in trades if trade.instrument == instrument]
        assert (result.trades, result.best, result.worst) == (len(net), max(net), min(net))
        assert result.gain + result.loss == sum(net, ZERO)
        assert (result.wins, result.losses) == (sum(each > 0 for each in net), sum(each < 0 for each in net))


@given(FILLS, FILLS)
def test_kept_events_are_equal_if_the_events_are(one: OrderFilled, other: OrderFilled) -> None:
    """Acts on one digit in one of them, and on one more; stays quiet about the same ones."""
    left, right = kept_fills(), kept_fills()
    for kept in (left, right):
        kept.append((1, one))
    assert left == right
    right.append((2, other))
    assert left != right
    left.append((2, msgspec.structs.replace(other, fee=other.fee + Decimal("0.00000001"))))
    assert left != right


@given(st.lists(st.lists(WHOLE, min_size=3, max_size=3), min_size=1, max_size=20))
def test_columns_of_integers_come_back(rows: list[list[int]]) -> None:
    """Whatever is packed, and whatever still waits to be."""
    table = np.array(rows, dtype=np.int64)
    columns = Columns()
    added = 0
    while added <= BLOCK_ROWS:
        columns.add(table)
        added += len(table)
    columns.add(table)

    whole = np.concatenate(list(columns.blocks()))
    assert np.array_equal(whole, np.concatenate([table] * ((added // len(table)) + 1)))
    assert len(columns) == len(whole)


@given(st.lists(st.integers(-(2**110), 2**110) | st.integers(-(2**40), 2**40), min_size=1), st.integers(0, 30))
def test_whole_numbers_become_the_floats_of_their_decimals(units: list[int], decimals: int) -> None:
    """One rounding, to the nearest."""
    assert _floats(units, decimals).tolist() == [float(Decimal(each).scaleb(-decimals)) for each in units]
