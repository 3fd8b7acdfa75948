"""What a backtest found, computed from its tape alone, so that every gear's report is the same function.

Money is exact (Decimal, from the ledger's books); the equity curve and the ratios derived from it are floats. Sharpe
and the other per-day statistics use UTC days: returns of daily closing equity, sample deviation (ddof 1), annualised by
the calendar's trading days, risk-free rate zero; they are absent when there are fewer than two daily returns.

This module folds and computes. It judges nothing and prints nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.feed import Source
from tapeline_backtest.kept import (
    Flow,
    Kept,
    Results,
    flows_by_instrument,
    kept_fills,
    kept_trades,
    results_by_instrument,
)
from tapeline_common.core import Stamp, learn
from tapeline_common.events import (
    BorrowPosted,
    DataRejected,
    Event,
    FundingPosted,
    OrderFilled,
    OrderRefused,
    OrderRejected,
    OrderSubmitted,
    TradeClosed,
    TradeDeclined,
)
from tapeline_common.money import ZERO, plain
from tapeline_common.values import InstrumentId
from tapeline_common.wire import Fact
from tapeline_ledger import core as ledger
from tapeline_marketdata.shelf import IN_MEMORY, Shelf

DAY_NS = 86_400_000_000_000
TRADING_DAYS = {"24/7": 365, "24/5": 260, "XNYS": 252, "NYSE": 252}
"""Days of trading in a year, by calendar; unknown calendars count as 365."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class InstrumentReport(msgspec.Struct, frozen=True):
    """One instrument's share of the result. Money in account currency."""

    name: str
    bars: int
    fills: int
    trades: int
    wins: int
    losses: int
    net_pnl: Decimal
    fees: Decimal
    open_quantity: Decimal
    market_change: float


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the tape was recorded: a file of so many bytes, or a Postgres log."""

    kind: str
    place: str
    bytes: int | msgspec.UnsetType = msgspec.UNSET


class Report(msgspec.Struct, frozen=True):
    """The result of one run. Times are UTC ns, ratios are fractions (0.1 is ten percent)."""

    strategy: str
    parameters: dict[str, int | float | str | bool]
    bars: int
    first_open_ns: int
    last_close_ns: int
    orders: int
    fills: int
    trades: int
    refused: dict[str, int]
    declined: dict[str, int]
    data_faults: dict[str, int]
    start_cash: Decimal
    fees: Decimal
    slippage: Decimal
    funding: Decimal
    borrowing: Decimal
    final_cash: Decimal
    final_equity: Decimal
    net_profit: Decimal
    total_return: float
    max_drawdown: float
    max_drawdown_amount: float
    max_drawdown_from_ns: int
    max_drawdown_to_ns: int
    sharpe: float | None
    sortino: float | None
    annual_return: float | None
    annual_volatility: float | None
    calmar: float | None
    exposure_share: float
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    best_trade: Decimal | None
    worst_trade: Decimal | None
    market_change: float
    instruments: dict[str, InstrumentReport]
    facts: int | None
    tape_hash: str | None
    gear: str
    elapsed_s: float
    bars_per_s: float
    record: Record | msgspec.UnsetType = msgspec.UNSET


@dataclass(slots=True)
class Collected:
    """What the report needs of a tape: everything but the bars, and the ledger's state at the end."""

    fills: Kept[tuple[int, OrderFilled], Flow] = field(default_factory=kept_fills)
    trades: Kept[TradeClosed, Results] = field(default_factory=kept_trades)
    submitted: int = 0
    funding: Decimal = ZERO
    borrowing: Decimal = ZERO
    funded: list[tuple[int, Decimal]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    declined: Counter[str] = field(default_factory=Counter)
    data_faults: Counter[str] = field(default_factory=Counter)

    def take(self, fact: Fact) -> None:
        taken = TAKES.get(type(fact.event))
        if taken is not None:
            taken(self, fact.event, fact.time_ns)

    def _fill(self, event: OrderFilled, time_ns: int) -> None:
        self.fills.append((time_ns, event))

    def _trade(self, event: TradeClosed, _time_ns: int) -> None:
        self.trades.append(event)

    def _submission(self, _event: OrderSubmitted, _time_ns: int) -> None:
        self.submitted += 1

    def _funding(self, event: FundingPosted, time_ns: int) -> None:
        self.funding += event.amount
        self.funded.append((time_ns, event.amount))

    def _borrowing(self, event: BorrowPosted, time_ns: int) -> None:
        self.borrowing += event.amount
        self.funded.append((time_ns, event.amount))

    def _refusal(self, event: OrderRefused | OrderRejected, _time_ns: int) -> None:
        self.refused[event.reason] += 1

    def _decline(self, event: TradeDeclined, _time_ns: int) -> None:
        self.declined[event.reason] += 1

    def _data_fault(self, event: DataRejected, _time_ns: int) -> None:
        self.data_faults[event.fault] += 1


TAKES: dict[type[Event], Callable[[Collected, Any, int], None]] = {
    OrderFilled: Collected._fill,
    TradeClosed: Collected._trade,
    OrderSubmitted: Collected._submission,
    FundingPosted: Collected._funding,
    BorrowPosted: Collected._borrowing,
    OrderRefused: Collected._refusal,
    OrderRejected: Collected._refusal,
    TradeDeclined: Collected._decline,
    DataRejected: Collected._data_fault,
}
"""What a report is made of; no other fact is looked at. (collected, event, time_ns)"""


def fold_books(facts: Sequence[Fact]) -> ledger.State:
    """The ledger's state after a tape, for gears that ran it elsewhere."""
    state = ledger.CORE.initial()
    for fact in facts:
        learn(ledger.CORE, state, fact.event, Stamp(fact.pos, fact.time_ns))
    return state


@dataclass(frozen=True, slots=True)
class Run:
    """What the gear knows about the run."""

    strategy: str
    parameters: dict[str, int | float | str | bool]
    names: dict[InstrumentId, str]
    calendars: dict[InstrumentId, str]
    start_cash: Decimal
    sources: Sequence[Source]
    facts: int | None
    tape_hash: str | None
    gear: str
    elapsed_s: float


def report(run: Run, collected: Collected, books: ledger.State) -> Report:
    flows, results = flows_by_instrument(collected.fills.sums()), results_by_instrument(collected.trades.sums())
    curve = equity_curve(run, flows, collected.funded)
    drawdown, amount, high, low = max_drawdown(curve.equity, curve.shelf)
    days = daily_returns(curve)
    year = min((TRADING_DAYS.get(calendar, 365) for calendar in run.calendars.values()), default=365)
    volatility = deviation(days) if len(days) >= 2 else None
    sharpe, sortino = daily_ratios(days, year)
    annual = _annual_return(curve, year, len(days)) if len(days) >= 2 else None
    trades = sum(each.trades for each in results.values())
    gain = sum((each.gain for each in results.values()), ZERO)
    loss = sum((each.loss for each in results.values()), ZERO)
    final_equity = plain(ledger.equity(books))
    bars = sum(len(one.file) for one in run.sources)
    first = [float(one.file.columns.close[0]) for one in run.sources]
    last = [float(one.file.columns.close[-1]) for one in run.sources]
    return Report(
        strategy=run.strategy,
        parameters=run.parameters,
        bars=bars,
        first_open_ns=min(int(one.file.columns.open_ns[0]) for one in run.sources),
        last_close_ns=int(curve.time_ns[-1]),
        orders=collected.submitted,
        fills=len(collected.fills),
        trades=trades,
        refused=dict(sorted(collected.refused.items())),
        declined=dict(sorted(collected.declined.items())),
        data_faults=dict(sorted(collected.data_faults.items())),
        start_cash=run.start_cash,
        fees=plain(sum((each.fees for each in flows.values()), ZERO)),
        slippage=plain(sum((each.slippage for each in flows.values()), ZERO)),
        funding=plain(collected.funding),
        borrowing=plain(collected.borrowing),
        final_cash=plain(ledger.cash(books)),
        final_equity=final_equity,
        net_profit=plain(final_equity - run.start_cash),
        total_return=float((final_equity - run.start_cash) / run.start_cash) if run.start_cash else 0.0,
        max_drawdown=drawdown,
        max_drawdown_amount=amount,
        max_drawdown_from_ns=int(curve.time_ns[high]),
        max_drawdown_to_ns=int(curve.time_ns[low]),
        sharpe=sharpe,
        sortino=sortino,
        annual_return=annual,
        annual_volatility=volatility * math.sqrt(year) if volatility is not None else None,
        calmar=annual / drawdown if annual is not None and drawdown > 0 else None,
        exposure_share=float(np.mean(curve.invested)),
        win_rate=sum(each.wins for each in results.values()) / trades if trades else None,
        profit_factor=float(gain / -loss) if loss else None,
        expectancy=float(gain + loss) / trades if trades else None,
        best_trade=plain(max(each.best for each in results.values())) if trades else None,
        worst_trade=plain(min(each.worst for each in results.values())) if trades else None,
        market_change=float(np.mean([b / a - 1.0 for a, b in zip(first, last, strict=True)])),
        instruments={
            name: _instrument(run, token, flows.get(token), results.get(token)) for token, name in run.names.items()
        },
        facts=run.facts,
        tape_hash=run.tape_hash,
        gear=run.gear,
        elapsed_s=round(run.elapsed_s, 6),
        bars_per_s=round(bars / run.elapsed_s, 1) if run.elapsed_s else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Curve:
    """Equity at every closing time of any instrument: shapes (n,); ``shelf`` is where they lie."""

    time_ns: Ints
    equity: Floats
    invested: NDArray[np.bool_]
    shelf: Shelf = IN_MEMORY


def equity_curve(run: Run, flows: Mapping[InstrumentId, Flow], funded: Sequence[tuple[int, Decimal]]) -> Curve:
    """Cash after the fills of each bar plus positions at its close. funded: amounts posted, with their times."""
    closes = [one.file.close_ns for one in run.sources]
    shelf = run.sources[0].file.columns.shelf if len(closes) == 1 else IN_MEMORY
    time_ns = closes[0] if len(closes) == 1 else np.unique(np.concatenate(closes))
    holdings, payments = [], []
    for close_ns, one in zip(closes, run.sources, strict=True):
        flow = flows.get(one.instrument)
        if flow is not None:
            payments.append(_Moves(flow.time_ns, -flow.paid))
            holdings.append(_Holding(close_ns, one.file.columns.close, _Moves(flow.time_ns, flow.moved)))
    times, amounts = [at_ns for at_ns, _ in funded], [float(amount) for _, amount in funded]
    payments.append(_Moves(np.array(times, dtype=np.int64), np.array(amounts)))
    equity, invested = shelf.room(len(time_ns), np.float64), shelf.room(len(time_ns), np.bool_)
    before = 0.0
    for part in shelf.parts(len(time_ns)):
        some_ns, is_last = time_ns[part], part.stop == len(time_ns)
        cash = np.zeros(len(some_ns))
        for payment in payments:
            payment.add_to(cash, some_ns, is_last=is_last)
        cash[0] += before
        np.cumsum(cash, out=cash)
        before = cash[-1]
        value = np.zeros(len(cash))
        for holding in holdings:
            held = holding.quantity(some_ns, is_last=is_last)
            invested[part] |= held != 0.0
            value += held * holding.price(some_ns)
        equity[part] = cash + float(run.start_cash) + value
    return Curve(time_ns, equity, invested, shelf)


class _Moves:
    """Amounts that belong to the first time of a curve that is not before theirs, told part by part.

    What comes after the last time belongs to that: live, fills follow the last bar.
    """

    def __init__(self, time_ns: Ints, amounts: Floats) -> None:
        order = np.argsort(time_ns, kind="stable")
        self._time_ns = time_ns[order]
        self._amounts = amounts[order]
        self._told = 0

    def add_to(self, numbers: Floats, time_ns: Ints, *, is_last: bool) -> None:
        """Add each to the number at its time. Parts are asked for in their order."""
        first, all_of_them = self._told, len(self._time_ns)
        self._told = all_of_them if is_last else int(np.searchsorted(self._time_ns, time_ns[-1], side="right"))
        some = slice(first, self._told)
        places = np.minimum(np.searchsorted(time_ns, self._time_ns[some]), len(time_ns) - 1)
        np.add.at(numbers, places, self._amounts[some])


class _Holding:
    """What is held of one instrument along a curve, told part by part."""

    def __init__(self, close_ns: Ints, closes: Floats, moved: _Moves) -> None:
        """close_ns, closes: of its bars. moved: signed quantities of its fills."""
        self._close_ns = close_ns
        self._closes = closes
        self._moved = moved
        self._before = 0.0

    def quantity(self, time_ns: Ints, *, is_last: bool) -> Floats:
        """At each time of a part; parts are asked for in their order."""
        held = np.zeros(len(time_ns))
        self._moved.add_to(held, time_ns, is_last=is_last)
        held[0] += self._before
        np.cumsum(held, out=held)
        self._before = held[-1]
        held[np.abs(held) < 1e-12] = 0.0
        return held

    def price(self, time_ns: Ints) -> Floats:
        """Last close at each time; zero before the first."""
        last = np.searchsorted(self._close_ns, time_ns, side="right") - 1
        price: Floats = np.where(last >= 0, self._closes[np.maximum(last, 0)], 0.0)
        return price


def max_drawdown(equity: Floats, shelf: Shelf = IN_MEMORY) -> tuple[float, float, int, int]:
    """Largest fall from a running high: (fraction of the high, amount, index of the high, index of the low)."""
    deepest, amount, high, low = -1.0, 0.0, 0, 0
    highest, highest_at = -math.inf, 0
    for part in shelf.parts(len(equity)):
        some = equity[part]
        highs = np.maximum(np.maximum.accumulate(some), highest)
        fall = np.divide(highs - some, highs, out=np.zeros_like(some), where=highs > 0)
        lowest = int(np.argmax(fall))
        if fall[lowest] > deepest:
            deepest, amount, low = float(fall[lowest]), float(highs[lowest] - some[lowest]), part.start + lowest
            high = part.start + int(np.argmax(highs == highs[lowest])) if highs[lowest] > highest else highest_at
        if highs[-1] > highest:
            highest, highest_at = highs[-1], part.start + int(np.argmax(some))
    return deepest, amount, high, low


def daily_returns(curve: Curve) -> Floats:
    """Returns of the last equity of each UTC day; the first day's is measured from the first equity of the curve."""
    closing = [curve.equity[:1]]
    before = None
    for part in curve.shelf.parts(len(curve.time_ns)):
        time_ns, equity = curve.time_ns[part], curve.equity[part]
        if before == (time_ns[0] - 1) // DAY_NS:
            # The day goes on: what ended the part before did not end it.
            closing[-1] = closing[-1][:-1]
        before = (time_ns[-1] - 1) // DAY_NS
        closing.append(equity[day_ends(time_ns)])
    return returns_of(np.concatenate(closing))


def day_ends(time_ns: Ints) -> Ints:
    """Index of the last of ascending times in each UTC day that has one. Midnight belongs to the day it ends."""
    first, last = (int(one - 1) // DAY_NS for one in (time_ns[0], time_ns[-1]))
    midnights = np.arange(first + 1, last + 2, dtype=np.int64) * DAY_NS
    ends: Ints = np.unique(np.searchsorted(time_ns, midnights, side="right") - 1)
    return ends


def returns_of(closing: Floats) -> Floats:
    """Returns between neighbouring equities; zero where there was nothing to earn on."""
    before = closing[:-1]
    returns: Floats = np.divide(np.diff(closing), before, out=np.zeros(len(before)), where=before > 0)
    return returns


def daily_ratios(days: Floats, year: int) -> tuple[float | None, float | None]:
    """Sharpe and Sortino ratio of daily returns, annualised; absent with fewer than two."""
    if len(days) < 2:
        return None, None
    mean = float(np.mean(days))
    return _ratio(mean, deviation(days), year), _ratio(mean, _downside(days), year)


def deviation(days: Floats) -> float:
    """Sample deviation; exactly zero of equal numbers, whose mean may differ from them in the last bit."""
    return float(np.std(days, ddof=1)) if np.ptp(days) else 0.0


def _annual_return(curve: Curve, year: int, days: int) -> float | None:
    growth = float(curve.equity[-1] / curve.equity[0]) if curve.equity[0] > 0 else 0.0
    return float(growth ** (year / days) - 1.0) if growth > 0 else None


def _ratio(mean: float, deviation: float, year: int) -> float | None:
    return mean / deviation * math.sqrt(year) if deviation > 0 else None


def _downside(days: Floats) -> float:
    return float(np.sqrt(np.mean(np.minimum(days, 0.0) ** 2)))


def _instrument(run: Run, token: InstrumentId, flow: Flow | None, results: Results | None) -> InstrumentReport:
    columns = next(one.file.columns for one in run.sources if one.instrument == token)
    return InstrumentReport(
        name=run.names[token],
        bars=len(columns),
        fills=0 if flow is None else len(flow.time_ns),
        trades=0 if results is None else results.trades,
        wins=0 if results is None else results.wins,
        losses=0 if results is None else results.losses,
        net_pnl=ZERO if results is None else plain(results.gain + results.loss),
        fees=ZERO if flow is None else plain(flow.fees),
        open_quantity=ZERO if flow is None else plain(flow.quantity),
        market_change=float(columns.close[-1] / columns.close[0] - 1.0),
    )
