"""Shared by tests of reports: one small backtest, and parts of sessions to build cases of."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from msgspec.structs import replace
from tests.backtesting import synthetic_file

import tapeline_backtest
from tapeline_backtest.report import Curve
from tapeline_backtest.session import Fill, Session, Trade
from tapeline_common.values import InstrumentId, OrderId, PositionSide, Regime, Side, StrategyId

NOON_NS = 1_704_110_400_000_000_000
"""2024-01-01 12:00 UTC."""

MINUTE_NS, DAY_NS = 60_000_000_000, 86_400_000_000_000
BTC = InstrumentId("BTC-USD_sim")
EMA = StrategyId("ema_cross")


@cache
def minutes(bars: int = 4_000) -> Path:
    """A file of the synthetic market's minutes, written once a process."""
    return synthetic_file(Path(mkdtemp(prefix="tapeline-reports-")) / "BTCUSD.parquet", bars)


@cache
def small_run() -> tapeline_backtest.Result:
    """Some three days of a moving average crossover with fees: about sixty trades."""
    return tapeline_backtest.run("ema_cross", minutes(), parameters={"fast": 10, "slow": 30}, fee="0.0005", size="0.01")


def session(**changes: Any) -> Session:
    """The small run's session with other parts."""
    return dataclasses.replace(small_run().session, **changes)


def trade(net: float, *, number: int = 1, hours: float = 1.0, side: PositionSide = PositionSide.LONG) -> Trade:
    """A trade of one unit bought at 100 that came to this after no fees."""
    opened_ns = NOON_NS + number * DAY_NS
    return Trade(
        trade=f"ema_cross-{number}",
        pos=100 + number,
        strategy=EMA,
        instrument=BTC,
        side=side,
        quantity=Decimal(1),
        entry_price=Decimal(100),
        exit_price=Decimal(100) + Decimal(str(net)),
        opened_ns=opened_ns,
        closed_ns=opened_ns + int(hours * 60) * MINUTE_NS,
        pnl=Decimal(str(net)),
        fees=Decimal(0),
        funding=Decimal(0),
        entry_order=OrderId("entry"),
        exit_order=OrderId("exit"),
        preset="",
        regime=Regime.BULL,
        exit="signal",
    )


def fill(**changes: Any) -> Fill:
    """One unit bought at 100 in a bar from 99 to 101 with a volume of 1000."""
    plain = Fill(
        pos=50,
        time_ns=int(small_run().session.curve.time_ns[10]),
        order=OrderId("entry"),
        strategy=EMA,
        instrument=small_run().session.fills[0].instrument,
        side=Side.BUY,
        quantity=Decimal(1),
        price=Decimal(100),
        fee=Decimal(0),
        liquidity="TAKER",
        slippage=Decimal(0),
        costs={},
        bar_pos=49,
        bar_low=99.0,
        bar_high=101.0,
        bar_volume=1000.0,
    )
    return replace(plain, **changes)


def curve(equity: list[float], *, invested: list[bool] | None = None) -> Curve:
    """One equity a day."""
    times = NOON_NS + DAY_NS * np.arange(len(equity), dtype=np.int64)
    held = np.ones(len(equity), dtype=bool) if invested is None else np.array(invested)
    return Curve(times, np.array(equity), held)


def reported(**changes: Any) -> Any:
    """The small run's report with other figures."""
    return replace(small_run().session.report, **changes)
