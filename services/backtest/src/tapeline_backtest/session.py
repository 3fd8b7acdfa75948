"""A recorded run as a report looks at it: bars, orders, fills, trades and decisions, and the report made of them.

``session_reading`` makes one of a tape. Times are the market's: what a bar caused happened when that bar closed. In a
backtest that is the stamp. Live, the ledger stamps with the wall clock, and a simulated market's own clock may run at
another speed. What no bar caused (a fill that a real venue reported) has its stamp.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.report import Curve, Report
from tapeline_common.events import Event, FeedOpened, InstrumentListed, RunStarted, StrategyConfigured
from tapeline_common.money import ZERO
from tapeline_common.values import InstrumentId, OrderId, PositionSide, Purpose, Realm, Regime, Side, StrategyId

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Order(msgspec.Struct):
    """One order's life. ``status`` is the type of the last fact that changed it, such as ``OrderFilled``.

    Attributes:
        reason: why it was refused, rejected, withheld, cancelled or liquidated; empty otherwise.
        preset: the preset under which it was decided; empty without presets.
    """

    order: OrderId
    pos: int
    time_ns: int
    strategy: StrategyId
    instrument: InstrumentId
    side: Side
    type: str
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    time_in_force: str
    purpose: Purpose
    regime: Regime
    preset: str
    status: str = "OrderProposed"
    reason: str = ""
    filled: Decimal = ZERO
    value: Decimal = ZERO


class Fill(msgspec.Struct, frozen=True):
    """One execution, and the bar that caused it (absent for a fill that a real venue reported).

    Attributes:
        slippage: adverse, in quote currency per unit.
        bar_low, bar_high, bar_volume: of the bar that filled it; NaN without one.
        bar_pos: that bar's position, 0 without one.
    """

    pos: int
    time_ns: int
    order: OrderId
    strategy: StrategyId
    instrument: InstrumentId
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    liquidity: str
    slippage: Decimal
    costs: dict[str, float]
    bar_pos: int
    bar_low: float
    bar_high: float
    bar_volume: float


class Trade(msgspec.Struct, frozen=True):
    """A position from flat to flat. ``exit`` is why the closing order existed (``exit_reason``)."""

    trade: str
    pos: int
    strategy: StrategyId
    instrument: InstrumentId
    side: PositionSide
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    opened_ns: int
    closed_ns: int
    pnl: Decimal
    fees: Decimal
    funding: Decimal
    entry_order: OrderId
    exit_order: OrderId
    preset: str
    regime: Regime
    exit: str

    @property
    def net(self) -> Decimal:
        """What the report counts a trade as; funding is told apart."""
        return self.pnl - self.fees


class Decision(msgspec.Struct, frozen=True):
    """What somebody decided, or declined and why. ``what`` is the fact's type."""

    pos: int
    time_ns: int
    author: str
    what: str
    strategy: str = ""
    instrument: str = ""
    order: str = ""
    reason: str = ""
    target: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars of one instrument and timeframe as columns of shape (n,)."""

    timeframe: str
    open_ns: Ints
    close_ns: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats


@dataclass(frozen=True, slots=True)
class OpenPosition:
    """What was held when the tape ended. ``worth`` is at the last price."""

    strategy: StrategyId
    instrument: InstrumentId
    quantity: Decimal
    average_price: Decimal
    last_price: Decimal
    opened_ns: int
    profit: Decimal
    worth: Decimal


@dataclass(slots=True)
class Session:
    """Everything that a report is made of.

    Attributes:
        regimes: instrument → (time_ns, regime) where it changed.
        opening: configuration facts as they stand on the tape, for a manifest.
        facts, head_hash: position of the last fact read, and the hash of the chain there, which was verified.
    """

    started: RunStarted
    code_versions: tuple[str, ...]
    listings: dict[InstrumentId, InstrumentListed]
    strategies: dict[StrategyId, StrategyConfigured]
    feeds: tuple[FeedOpened, ...]
    opening: tuple[Event, ...]
    bars: dict[InstrumentId, Bars]
    orders: list[Order]
    fills: list[Fill]
    trades: list[Trade]
    decisions: list[Decision]
    open_positions: list[OpenPosition]
    regimes: dict[InstrumentId, list[tuple[int, Regime]]]
    report: Report
    curve: Curve
    facts: int
    head_hash: str
    halts: list[tuple[int, str]] = field(default_factory=list)

    @property
    def is_replay(self) -> bool:
        return self.started.realm is Realm.REPLAY

    def name(self, instrument: InstrumentId) -> str:
        return self.listings[instrument].name
