"""Rows of ``order_loop`` as facts: fills and trades of a stretch for the report, kept as columns of integers.

Each gives its rows back as the events that the tape has, equal to the last digit, and adds them up without making
them. Sums are of whole numbers; floats are rounded once, as those of decimals are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest import order_loop
from tapeline_backtest.kept import Columns, Flow, Results
from tapeline_backtest.kernel import Plan, Units
from tapeline_backtest.wide import BASE
from tapeline_common.events import OrderFilled, TradeClosed
from tapeline_common.money import plain
from tapeline_common.values import Liquidity, OrderId, PositionSide, Side
from tapeline_execution.core import client_order_id

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

EXACT_FLOAT = 2**53
"""Below it every whole number is a float, so that a division rounds once."""

EXACT_POWER = 22
"""The highest power of ten that is a float."""

FILL_COLUMNS = (
    order_loop.LAYOUT,
    order_loop.TIME_NS,
    order_loop.ORDER_POS,
    order_loop.APPROVAL_POS,
    order_loop.SUBMISSION_POS,
    *range(order_loop.A_HIGH, order_loop.E_HIGH),
)
TRADE_COLUMNS = (
    order_loop.LAYOUT,
    order_loop.TIME_NS,
    order_loop.OTHER_NS,
    order_loop.NUMBER,
    *range(order_loop.A_HIGH, order_loop.ROW),
)


class FillRows:
    """Fills of stretches, from rows as ``order_loop`` wrote them."""

    def __init__(self, plan: Plan, units: Units, tape: str) -> None:
        self._plan = plan
        self._units = units
        self._tape = tape
        self._columns = Columns()

    def add(self, rows: Ints) -> None:
        self._columns.add(rows[:, FILL_COLUMNS])

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> Iterator[tuple[int, OrderFilled]]:
        units, plan = self._units, self._plan
        quantity_of = lru_cache(maxsize=64)(lambda units_: amount_of(units_, units.quantity))
        for block in self._columns.blocks():
            for layout, time_ns, order, approval, submission, *numbers in block.tolist():
                quantity, price, fee, slippage = _joined(numbers)
                name = OrderId(f"{plan.name}-{order}")
                yield (
                    time_ns,
                    OrderFilled(
                        order=name,
                        client_order_id=client_order_id(self._tape, name, approval),
                        strategy=plan.name,
                        instrument=plan.listing.instrument,
                        trade_id=f"v{submission}-1",
                        side=Side.SELL if layout == order_loop.FILLED_SALE else Side.BUY,
                        quantity=quantity_of(quantity),
                        price=amount_of(price, units.price),
                        fee=amount_of(fee, units.money),
                        fee_currency=plan.listing.quote,
                        liquidity=Liquidity.TAKER,
                        slippage=amount_of(slippage, units.price),
                    ),
                )

    def sums(self) -> Iterator[Flow]:
        units, places = self._units, len(FILL_COLUMNS) - 8
        for block in self._columns.blocks():
            quantities, prices, fees, slippages = (_wholes(block, place) for place in range(places, places + 8, 2))
            signs = np.where(block[:, 0] == order_loop.FILLED_SALE, -1, 1)
            values = [price * quantity for price, quantity in zip(prices, quantities, strict=True)]
            slipped = sum(slippage * quantity for slippage, quantity in zip(slippages, quantities, strict=True))
            signed = sum(quantity * sign for quantity, sign in zip(quantities, signs.tolist(), strict=True))
            notional = units.price + units.quantity
            yield Flow(
                self._plan.listing.instrument,
                block[:, 1].copy(),
                _floats(quantities, units.quantity) * signs,
                _floats(values, notional) * signs + _floats(fees, units.money),
                Decimal(signed).scaleb(-units.quantity),
                Decimal(sum(fees)).scaleb(-units.money),
                Decimal(slipped).scaleb(-notional),
            )


class TradeRows:
    """Trades that stretches closed, from rows as ``order_loop`` wrote them."""

    def __init__(self, plan: Plan, units: Units) -> None:
        self._plan = plan
        self._units = units
        self._columns = Columns()

    def add(self, rows: Ints) -> None:
        self._columns.add(rows[:, TRADE_COLUMNS])

    def __len__(self) -> int:
        return len(self._columns)

    def __iter__(self) -> Iterator[TradeClosed]:
        for block in self._columns.blocks():
            yield from map(self._event, block.tolist())

    def event(self, row: Ints) -> TradeClosed:
        """The event of a row as ``order_loop`` wrote it."""
        return self._event(row[list(TRADE_COLUMNS)].tolist())

    def _event(self, row: list[int]) -> TradeClosed:
        units, plan = self._units, self._plan
        layout, closed_ns, opened_ns, number, *numbers = row
        quantity, entry, exit_, pnl, fees = _joined(numbers)
        return TradeClosed(
            trade=f"{plan.name}-{plan.listing.instrument}-{number}",
            strategy=plan.name,
            instrument=plan.listing.instrument,
            side=PositionSide.SHORT if layout == order_loop.CLOSED_SHORT else PositionSide.LONG,
            quantity=amount_of(quantity, units.quantity),
            entry_price=amount_of(entry, units.price),
            exit_price=amount_of(exit_, units.price),
            opened_ns=opened_ns,
            closed_ns=closed_ns,
            pnl=amount_of(pnl, units.price + units.quantity),
            fees=amount_of(fees, units.money),
            decision="",
        )

    def sums(self) -> Iterator[Results]:
        units, places = self._units, len(TRADE_COLUMNS) - 4
        notional = units.price + units.quantity
        decimals = max(notional, units.money)
        pnl_up, fees_up = 10 ** (decimals - notional), 10 ** (decimals - units.money)
        for block in self._columns.blocks():
            results, fees = (_wholes(block, place) for place in (places, places + 2))
            net = [pnl * pnl_up - fee * fees_up for pnl, fee in zip(results, fees, strict=True)]
            gains, losses = [each for each in net if each > 0], [each for each in net if each < 0]
            amounts = (Decimal(each).scaleb(-decimals) for each in (sum(gains), sum(losses), max(net), min(net)))
            yield Results(self._plan.listing.instrument, len(net), len(gains), len(losses), *amounts)


def amount_of(units: int, decimals: int) -> Decimal:
    """``plain`` of so many units; faster, because a whole number tells whether it ends in zeros."""
    value = Decimal(f"{units}E-{decimals}").normalize()
    return plain(value) if units % 10 ** (decimals + 1) == 0 else value


def _joined(limbs: Sequence[int]) -> list[int]:
    return [high * BASE + low for high, low in zip(limbs[::2], limbs[1::2], strict=True)]


def _wholes(block: Ints, place: int) -> list[int]:
    """Numbers of which a block has two limbs each."""
    high, low = block[:, place], block[:, place + 1]
    lows: list[int] = low.tolist()
    if not high.any():
        return lows
    return [high * BASE + low for high, low in zip(high.tolist(), lows, strict=True)]


def _floats(units: Sequence[int], decimals: int) -> Floats:
    """Each number of units as the float nearest to it: Python divides whole numbers with one rounding."""
    if decimals <= EXACT_POWER and max(map(abs, units)) < EXACT_FLOAT:
        return np.array(units, dtype=np.float64) / float(10**decimals)
    unit = 10**decimals
    return np.array([each / unit for each in units])
