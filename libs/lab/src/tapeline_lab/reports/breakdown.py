"""A run told apart by calendar: what the account gained in each day, week, month, year or weekday, and its trades.

Times are UTC. A trade belongs to the period in which it closed; weeks are ISO weeks.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.report import DAY_NS
from tapeline_backtest.session import Trade

EPOCH = date(1970, 1, 1)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Period(StrEnum):
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"
    WEEKDAY = "weekday"


class PeriodRow(msgspec.Struct, frozen=True):
    """One period. ``change`` is of equity (open positions included), ``profit`` of the trades closed in it."""

    name: str
    change: float
    trades: int
    wins: int
    draws: int
    losses: int
    profit: float


def period_name(day: int, period: Period) -> str:
    """Such as 2024-03-11, 2024-W11, 2024-03, 2024, Monday; day counts from 1970."""
    moment = EPOCH + timedelta(days=day)
    if period is Period.DAY:
        return moment.isoformat()
    if period is Period.WEEK:
        year, week, _ = moment.isocalendar()
        return f"{year}-W{week:02d}"
    if period is Period.MONTH:
        return f"{moment.year}-{moment.month:02d}"
    return str(moment.year) if period is Period.YEAR else WEEKDAYS[moment.weekday()]


def compounded(days: Ints, returns: Floats, period: Period) -> list[tuple[str, float]]:
    """Return of each period, in order of time (weekdays from Monday on)."""
    grown: dict[str, float] = {}
    for day, change in zip(days.tolist(), returns.tolist(), strict=True):
        name = period_name(day, period)
        grown[name] = grown.get(name, 1.0) * (1.0 + change)
    found = [(name, growth - 1.0) for name, growth in grown.items()]
    return sorted(found, key=lambda row: WEEKDAYS.index(row[0])) if period is Period.WEEKDAY else found


def breakdown(days: Ints, returns: Floats, trades: Sequence[Trade], period: Period) -> list[PeriodRow]:
    closed: dict[str, list[float]] = {}
    for trade in trades:
        closed.setdefault(period_name((trade.closed_ns - 1) // DAY_NS, period), []).append(float(trade.net))
    rows = []
    for name, change in compounded(days, returns, period):
        net = closed.get(name, [])
        wins, losses = sum(one > 0 for one in net), sum(one < 0 for one in net)
        rows.append(PeriodRow(name, change, len(net), wins, len(net) - wins - losses, losses, sum(net)))
    return rows
