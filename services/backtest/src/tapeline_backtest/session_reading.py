"""Folds a tape into a ``Session``: a backtest's, paper trading's or live trading's, through any ``TapeReader``.

The report is ``report.report``, so a backtest's and its tape's are the same figures from the same function. The chain
is verified on the way. Reads only; judges nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_backtest.feed import Source
from tapeline_backtest.kept import flows_by_instrument
from tapeline_backtest.report import TAKES, Collected, Run, equity_curve, report
from tapeline_backtest.session import Bars, Decision, Fill, OpenPosition, Order, Session, Trade
from tapeline_common.core import Stamp, learn
from tapeline_common.events import (
    AccountFunded,
    BanditConfigured,
    BarClosed,
    CodeDeployed,
    CostsConfigured,
    Event,
    FeedOpened,
    FillCosts,
    InstrumentListed,
    LimitsSet,
    LiquidationOrdered,
    OrderAccepted,
    OrderApproved,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderProposed,
    OrderRefused,
    OrderRejected,
    OrderSubmitted,
    OrderTerms,
    OrderWithheld,
    PresetChosen,
    RegimeConfigured,
    RegimeUpdated,
    RunStarted,
    SessionsScheduled,
    StrategyConfigured,
    TradeClosed,
    TradeDeclined,
    TradingHalted,
    TradingResumed,
    VenueConfigured,
)
from tapeline_common.money import ZERO
from tapeline_common.tape import Page, ReadRequest, TapeReader
from tapeline_common.tape_file import TapeFile
from tapeline_common.tape_pages import Chain, pages
from tapeline_common.values import InstrumentId, OrderId, Purpose, Regime, StrategyId
from tapeline_common.wire import Heard, heard_decoder
from tapeline_ledger import core as ledger
from tapeline_marketdata.files import BarColumns, BarFile, facts_of
from tapeline_marketdata.timeframe import UnknownTimeframe, parse_timeframe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

READ_FACTS = 5_000


class NothingRecorded(Exception):
    """The tape has no run with bars yet; the message says what is missing."""


async def read_session(tape: TapeReader, *, progress: Callable[[int, int], None] | None = None) -> Session:
    """Fold a whole tape. progress: called with (position read, head).

    Raises ``NothingRecorded`` for a tape without a run or a bar, ``ChainBroken`` for one that was changed.
    """
    reading = _Reading()
    async for page in pages(tape.read, ReadRequest(after=0, limit=READ_FACTS, chained=True)):
        reading.take(page)
        if progress is not None:
            progress(page.through, page.head)
    return reading.session()


def session_of(tape: TapeFile) -> Session:
    """``read_session`` of a file without waiting, for callers in whose thread an event loop runs already."""
    reading = _Reading()
    while reading.chain.pos < tape.head:
        reading.take(tape.page(ReadRequest(after=reading.chain.pos, limit=READ_FACTS, chained=True)))
    return reading.session()


class _Reading:
    """Pages verified and folded."""

    def __init__(self) -> None:
        self.chain = Chain()
        self._fold = _Fold()
        self._decode = heard_decoder({kind.__name__ for kind in HEARS})

    def take(self, page: Page) -> None:
        self.chain.take(page)
        for heard in self._decode(page.facts):
            self._fold.take(heard)

    def session(self) -> Session:
        return self._fold.session(self.chain.pos, self.chain.hash.hex())


class _Columns:
    """Bars of one timeframe while they are read."""

    def __init__(self) -> None:
        self.times = array("q")
        self.numbers = array("d")

    def add(self, bar: BarClosed) -> None:
        self.times.extend((bar.open_ns, bar.close_ns))
        self.numbers.extend((float(bar.open), float(bar.high), float(bar.low), float(bar.close), float(bar.volume)))

    def bars(self, timeframe: str) -> Bars:
        times = np.frombuffer(self.times, dtype=np.int64).reshape(-1, 2)
        numbers = np.frombuffer(self.numbers, dtype=np.float64).reshape(-1, 5)
        return Bars(timeframe, *(np.ascontiguousarray(column) for column in (*times.T, *numbers.T)))


_BarMark = tuple[int, int, float, float, float]
"""Position, closing time, low, high and volume of a bar."""


class _Closing(NamedTuple):
    """What is known of a trade when its last fill is heard. entry, exit: order and market time."""

    entry: tuple[OrderId, int]
    exit: tuple[OrderId, int]
    is_turn: bool


class _Fold:
    """What is known so far; ``TAKEN`` says which method hears which fact."""

    def __init__(self) -> None:
        self.books = ledger.CORE.initial()
        self.collected = Collected()
        self.started: RunStarted | None = None
        self.codes: list[str] = []
        self.opening: list[Event] = []
        self.cash = ZERO
        self.listings: dict[InstrumentId, InstrumentListed] = {}
        self.strategies: dict[StrategyId, StrategyConfigured] = {}
        self.feeds: list[FeedOpened] = []
        self.columns: dict[tuple[InstrumentId, str], _Columns] = {}
        self.last_bar: dict[InstrumentId, _BarMark] = {}
        self.market_ns = 0
        self.orders: dict[OrderId, Order] = {}
        self.fills: list[Fill] = []
        self.trades: list[Trade] = []
        self.decisions: list[Decision] = []
        self.entries: dict[tuple[StrategyId, InstrumentId], tuple[OrderId, int]] = {}
        self.closing: dict[int, _Closing] = {}
        self.held: dict[tuple[StrategyId, InstrumentId], Decimal] = {}
        self.presets: dict[str, str] = {}
        self.regimes: dict[InstrumentId, list[tuple[int, Regime]]] = {}
        self.halts: list[tuple[int, str]] = []

    def take(self, heard: Heard) -> None:
        event = heard.event
        kind = type(event)
        if kind in ledger.CORE.evolves:
            learn(ledger.CORE, self.books, event, Stamp(heard.pos, heard.time_ns))
        taken = _TAKEN.get(kind)
        if taken is not None:
            taken(self, event, heard)
        collects = TAKES.get(kind)
        if collects is not None:
            collects(self.collected, event, self._market_ns(heard))

    def _market_ns(self, heard: Heard) -> int:
        """When it happened on the market's clock."""
        return max(self.market_ns, heard.time_ns) if heard.cause == 0 else self.market_ns or heard.time_ns

    # ---- configuration

    def _start(self, event: RunStarted, _heard: Heard) -> None:
        self.started = event
        self.codes.append(event.code_version)
        self.opening.append(event)

    def _deploy(self, event: CodeDeployed, _heard: Heard) -> None:
        self.codes.append(event.code_version)

    def _fund(self, event: AccountFunded, _heard: Heard) -> None:
        self.cash += event.amount
        self.opening.append(event)

    def _list(self, event: InstrumentListed, _heard: Heard) -> None:
        self.listings[event.instrument] = event
        self.opening.append(event)

    def _configure(self, event: StrategyConfigured, _heard: Heard) -> None:
        self.strategies[event.strategy] = event
        self.opening.append(event)

    def _configured(self, event: Event, _heard: Heard) -> None:
        self.opening.append(event)

    def _feed(self, event: FeedOpened, _heard: Heard) -> None:
        self.feeds.append(event)

    # ---- market

    def _bar(self, event: BarClosed, heard: Heard) -> None:
        key = event.instrument, event.timeframe
        columns = self.columns.get(key)
        if columns is None:
            columns = self.columns[key] = _Columns()
        columns.add(event)
        self.market_ns = max(self.market_ns, event.close_ns)
        self.last_bar[event.instrument] = (
            heard.pos,
            event.close_ns,
            float(event.low),
            float(event.high),
            float(event.volume),
        )

    def _regime(self, event: RegimeUpdated, heard: Heard) -> None:
        known = self.regimes.setdefault(event.instrument, [])
        if not known or known[-1][1] is not event.regime:
            known.append((self._market_ns(heard), event.regime))

    # ---- orders

    def _propose(self, event: OrderProposed, heard: Heard) -> None:
        self._order(event.order, event.terms, event.regime, heard)
        terms = event.terms
        self._decide(heard, terms.strategy, terms.instrument, event.order, terms.purpose, event.target)

    def _liquidate(self, event: LiquidationOrdered, heard: Heard) -> None:
        self._order(event.order, event.terms, Regime.UNKNOWN, heard).status = "LiquidationOrdered"
        self._decide(heard, event.terms.strategy, event.terms.instrument, event.order, Purpose.LIQUIDATION)

    def _order(self, name: OrderId, terms: OrderTerms, regime: Regime, heard: Heard) -> Order:
        order = self.orders[name] = Order(
            order=name,
            pos=heard.pos,
            time_ns=self._market_ns(heard),
            strategy=terms.strategy,
            instrument=terms.instrument,
            side=terms.side,
            type=terms.order_type,
            quantity=terms.quantity,
            limit_price=terms.limit_price,
            stop_price=terms.stop_price,
            time_in_force=terms.time_in_force,
            purpose=terms.purpose,
            regime=regime,
            preset=self.presets.get(terms.decision, ""),
        )
        return order

    def _changed(self, event: Any, heard: Heard) -> None:
        """A later fact of an order's life."""
        order = self.orders.get(event.order)
        if order is None:
            if not isinstance(event, OrderApproved | OrderSubmitted):
                return
            order = self._order(event.order, event.terms, Regime.UNKNOWN, heard)
        order.status = type(event).__name__
        order.reason = getattr(event, "reason", "")
        if isinstance(event, OrderRefused | OrderRejected | OrderWithheld):
            self._decide(heard, order.strategy, order.instrument, event.order, event.reason)

    def _fill(self, event: OrderFilled, heard: Heard) -> None:
        if not ledger.is_counted_at(self.books, event, heard.pos):
            return
        bar = self.last_bar.get(event.instrument)
        if bar is None or bar[0] != heard.cause:
            bar = (0, self._market_ns(heard), np.nan, np.nan, np.nan)
        fill = Fill(
            pos=heard.pos,
            time_ns=bar[1],
            order=event.order,
            strategy=event.strategy,
            instrument=event.instrument,
            side=event.side,
            quantity=event.quantity,
            price=event.price,
            fee=event.fee,
            liquidity=event.liquidity,
            slippage=event.slippage,
            costs={} if event.costs is None else _floats(event.costs),
            bar_pos=bar[0],
            bar_low=bar[2],
            bar_high=bar[3],
            bar_volume=bar[4],
        )
        self.fills.append(fill)
        order = self.orders.get(event.order)
        if order is not None:
            order.filled += event.quantity
            order.value += event.quantity * event.price
            order.status = "OrderFilled"
        self._hold(fill)

    def _hold(self, fill: Fill) -> None:
        """Which order opened what is held, and which trade this fill closes: the ledger says so later."""
        key = fill.strategy, fill.instrument
        before = self.held.get(key, ZERO)
        after = self.held[key] = before + fill.quantity * fill.side.sign
        is_turn = bool(before and after) and (before > 0) is not (after > 0)
        if before and (is_turn or not after):
            self.closing[fill.pos] = _Closing(self.entries[key], (fill.order, fill.time_ns), is_turn)
        if after and (is_turn or not before):
            self.entries[key] = (fill.order, fill.time_ns)

    def _trade(self, event: TradeClosed, heard: Heard) -> None:
        closing = self.closing.pop(heard.cause)
        (entry, opened_ns), (exit_order, closed_ns) = closing.entry, closing.exit
        entered, left = self.orders.get(entry), self.orders.get(exit_order)
        self.trades.append(
            Trade(
                trade=event.trade,
                pos=heard.pos,
                strategy=event.strategy,
                instrument=event.instrument,
                side=event.side,
                quantity=event.quantity,
                entry_price=event.entry_price,
                exit_price=event.exit_price,
                opened_ns=opened_ns,
                closed_ns=closed_ns,
                pnl=event.pnl,
                fees=event.fees,
                funding=event.funding,
                entry_order=entry,
                exit_order=exit_order,
                preset=self.presets.get(event.decision, ""),
                regime=Regime.UNKNOWN if entered is None else entered.regime,
                exit="unknown" if left is None else exit_reason(left.purpose, left.type, is_turn=closing.is_turn),
            )
        )

    # ---- decisions

    def _decline(self, event: TradeDeclined, heard: Heard) -> None:
        self._decide(heard, event.strategy, event.instrument, "", event.reason, event.target)

    def _preset(self, event: PresetChosen, heard: Heard) -> None:
        self.presets[event.decision] = event.preset
        self._decide(heard, event.strategy, event.instrument, "", event.preset)

    def _halt(self, event: TradingHalted, heard: Heard) -> None:
        self.halts.append((self._market_ns(heard), event.reason))
        self._decide(heard, reason=event.reason)

    def _resume(self, _event: TradingResumed, heard: Heard) -> None:
        self._decide(heard)

    def _decide(
        self,
        heard: Heard,
        strategy: str = "",
        instrument: str = "",
        order: str = "",
        reason: str = "",
        target: Decimal | None = None,
    ) -> None:
        self.decisions.append(
            Decision(
                heard.pos,
                self._market_ns(heard),
                heard.author,
                type(heard.event).__name__,
                strategy,
                instrument,
                order,
                str(reason),
                target,
            )
        )

    # ---- the end

    def session(self, facts: int, head_hash: str) -> Session:
        if self.started is None:
            raise NothingRecorded("the tape has no run: it does not begin with RunStarted")
        bars = self._bars()
        if not bars:
            raise NothingRecorded("the tape has no bars yet, so there is nothing to report")
        run = self._run(bars, facts, head_hash)
        flows = flows_by_instrument(self.collected.fills.sums())
        return Session(
            started=self.started,
            code_versions=tuple(self.codes),
            listings=self.listings,
            strategies=self.strategies,
            feeds=tuple(self.feeds),
            opening=tuple(self.opening),
            bars=bars,
            orders=list(self.orders.values()),
            fills=self.fills,
            trades=self.trades,
            decisions=self.decisions,
            open_positions=self._open_positions(),
            regimes=self.regimes,
            report=report(run, self.collected, self.books),
            curve=equity_curve(run, flows, self.collected.funded),
            facts=facts,
            head_hash=head_hash,
            halts=self.halts,
        )

    def _bars(self) -> dict[InstrumentId, Bars]:
        """Of each instrument the bars that strategies hear; where none is bound to it, the longest ones."""
        found: dict[InstrumentId, Bars] = {}
        bound = self.strategies.values()
        wanted = {instrument: each.timeframe for each in bound for instrument in each.instruments}
        for instrument in self.listings:
            frames = [timeframe for each, timeframe in self.columns if each == instrument]
            if frames:
                timeframe = wanted.get(instrument, "")
                if timeframe not in frames:
                    timeframe = max(frames, key=_length_ns)
                found[instrument] = self.columns[instrument, timeframe].bars(timeframe)
        return found

    def _run(self, bars: dict[InstrumentId, Bars], facts: int, head_hash: str) -> Run:
        strategies = list(self.strategies.values())
        listed = {token: self.listings[token] for token in bars}
        return Run(
            strategy=", ".join(each.strategy for each in strategies),
            parameters=strategies[0].parameters if len(strategies) == 1 else {},
            names={token: listing.name for token, listing in listed.items()},
            calendars={token: listing.calendar for token, listing in listed.items()},
            start_cash=self.cash,
            sources=[_source(token, some) for token, some in bars.items()],
            facts=facts,
            tape_hash=head_hash,
            gear="tape",
            elapsed_s=0.0,
        )

    def _open_positions(self) -> list[OpenPosition]:
        found = []
        for instrument, holders in self.books.books.positions.items():
            price = Decimal(self.books.prices[instrument])
            for strategy, position in holders.items():
                if not position.quantity:
                    continue
                worth = position.quantity * price
                found.append(
                    OpenPosition(
                        strategy,
                        instrument,
                        position.quantity,
                        position.average_price,
                        price,
                        self.entries.get((strategy, instrument), (OrderId(""), position.opened_ns))[1],
                        position.cash + worth - position.fees + position.funding,
                        worth,
                    )
                )
        return found


def exit_reason(purpose: str, order_type: str, *, is_turn: bool) -> str:
    """Why a trade ended: ``signal``, ``turn`` (into the other direction), ``stop``, ``limit``, ``flatten``, ..."""
    if purpose != Purpose.SIGNAL:
        return purpose.lower()
    if order_type != "MARKET":
        return order_type.lower()
    return "turn" if is_turn else "signal"


def _floats(costs: FillCosts) -> dict[str, float]:
    return {name: float(value) for name, value in msgspec.structs.asdict(costs).items()}


def _length_ns(timeframe: str) -> int:
    try:
        return parse_timeframe(timeframe)
    except UnknownTimeframe:
        return 0


def _source(instrument: InstrumentId, bars: Bars) -> Source:
    """The bars as the report takes them. Their texts are not kept: nothing is said of them again."""
    numbers = {"open": bars.open, "high": bars.high, "low": bars.low, "close": bars.close, "volume": bars.volume}
    length = bars.timeframe, _length_ns(bars.timeframe)
    facts = facts_of(Path("tape"), "tape", "open_ns", "ns", length, bars.open_ns, ())
    return Source(instrument, "tape", BarFile(facts, BarColumns(bars.open_ns, numbers, {}), bars.close_ns), "")


_TAKEN: dict[type[Event], Callable[[_Fold, Any, Heard], None]] = {
    RunStarted: _Fold._start,
    CodeDeployed: _Fold._deploy,
    AccountFunded: _Fold._fund,
    InstrumentListed: _Fold._list,
    StrategyConfigured: _Fold._configure,
    VenueConfigured: _Fold._configured,
    CostsConfigured: _Fold._configured,
    SessionsScheduled: _Fold._configured,
    LimitsSet: _Fold._configured,
    RegimeConfigured: _Fold._configured,
    BanditConfigured: _Fold._configured,
    FeedOpened: _Fold._feed,
    BarClosed: _Fold._bar,
    RegimeUpdated: _Fold._regime,
    OrderProposed: _Fold._propose,
    LiquidationOrdered: _Fold._liquidate,
    OrderApproved: _Fold._changed,
    OrderRefused: _Fold._changed,
    OrderWithheld: _Fold._changed,
    OrderSubmitted: _Fold._changed,
    OrderAccepted: _Fold._changed,
    OrderRejected: _Fold._changed,
    OrderCanceled: _Fold._changed,
    OrderExpired: _Fold._changed,
    OrderFilled: _Fold._fill,
    TradeClosed: _Fold._trade,
    TradeDeclined: _Fold._decline,
    PresetChosen: _Fold._preset,
    TradingHalted: _Fold._halt,
    TradingResumed: _Fold._resume,
}

HEARS = frozenset({*ledger.CORE.evolves, *TAKES, *_TAKEN})
"""The types that are decoded; of any other only its existence is noticed."""
