"""A stretch: bars that compiled code ran through for every core at once, orders included.

Within a stretch the orders of one strategy on one instrument are proposed, approved, accepted and filled whole, or
declined for the regime, and nothing else happens; no order is open where it begins or ends. Each core that takes part
says whether it is in a state from which that can be computed (``is_plain``) and learns what a stretch came to
(``learn_stretch``), which is a fast twin of hearing its facts one by one and is tested to be equal to it.

This module has no gear and no core in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from tapeline_common.core import Stamp
from tapeline_common.events import BarClosed, EquityMarked, OrderTerms, TradeClosed
from tapeline_common.values import Decline, InstrumentId, OrderId, StrategyId


class FilledOrder(NamedTuple):
    """An order that lived and ended within a stretch.

    Attributes:
        bar_pos, filled_pos: positions of the bar that filled it and of its one fill.
    """

    order: OrderId
    client_order_id: str
    trade_id: str
    terms: OrderTerms
    bar_pos: int
    filled_pos: int


@dataclass(frozen=True, slots=True)
class OpenTrade:
    """What is held at the end of a stretch: all of it was bought or sold by one fill, at one price."""

    price: Decimal
    fees: Decimal
    opened_ns: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """What the bars of a stretch came to. Money is in account currency, quantities in base units.

    Attributes:
        last, bar: the last bar and its stamp; ``bars`` is how many there were.
        orders: in the order of their fills.
        position: held after the last bar, signed.
        cash: the account's, after the last bar.
        matched_pos: position of the bar that filled the last of them.
        paid: fees of the orders' fills.
        open: the trade that is open after the last bar.
        trades, closed_pnl: of the strategy's position, since it first had one.
        closed: the trade that the last fill closed, if it did.
        exited_ns: when a position was last left or turned; 0 if that never happened.
        highest: highest equity at any bar, if drawdowns are limited.
        mark, marked_pos: the latest hour's mark, and the bar that it answered; position 0 if there was none.
        hour_end_ns: end of the UTC hour of the last bar.
        memory, target, settled: of the strategy.
        said: why it stands aside, if it said so of this target.
        decided_pos: position of the fact at which it decided the last bar: that bar, or the regime's echo of it.
    """

    strategy: StrategyId
    instrument: InstrumentId
    last: Stamp
    bar: BarClosed
    bars: int
    orders: Sequence[FilledOrder]
    position: Decimal
    cash: Decimal
    matched_pos: int
    paid: Decimal
    open: OpenTrade | None
    trades: int
    closed_pnl: Decimal
    closed: TradeClosed | None
    exited_ns: int
    highest: Decimal | None
    mark: EquityMarked | None
    marked_pos: int
    hour_end_ns: int
    memory: list[float]
    target: float
    settled: float
    said: Decline | None
    decided_pos: int
