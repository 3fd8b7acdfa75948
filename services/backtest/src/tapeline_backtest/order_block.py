"""Block mode with orders: stretches of bars in which a strategy trades, computed and told by compiled code.

Where a run is one strategy on one instrument under rules that the kernel gear knows, and no order is open, the whole
chain from bar to books runs compiled (``order_loop``) until something happens that only the exact path knows. Before a
stretch the state of every core that takes part becomes the kernel's numbers; after it, each learns what came of it
(``learn_stretch``). Amounts are exact throughout, and the tape is the same to the last byte.

A strategy that trades in some regimes only decides each bar by what the regime core says of it. That is filtered ahead
of the stretch, and once more when the core takes its bars; the two must agree.

It decides nothing: which states a stretch may begin in is said beside each core.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache, partial
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tapeline_backtest import kernel, order_loop
from tapeline_backtest import kernel_loop as of_kernel
from tapeline_backtest.bar_columns import Chunk
from tapeline_backtest.compiled import CompilationRefused, parameter_kinds, specialised
from tapeline_backtest.feed import Source, gap_before
from tapeline_backtest.machine_code import FLOATS, INT_TABLE, INTS, Kind
from tapeline_backtest.order_facts import FillRows, TradeRows, amount_of
from tapeline_backtest.order_layouts import order_layouts
from tapeline_backtest.rendering import Layout, name_of
from tapeline_backtest.report import Collected
from tapeline_backtest.wide import BASE, HIGHEST
from tapeline_common.bar_block import BarBlock, Echo
from tapeline_common.core import Stamp
from tapeline_common.events import (
    RUN_STREAM,
    EquityMarked,
    Event,
    OrderTerms,
    RunStarted,
    TradeClosed,
    stream_of,
)
from tapeline_common.loop import Loop
from tapeline_common.money import ZERO
from tapeline_common.opening import Opening
from tapeline_common.stretch import FilledOrder, OpenTrade, Stretch
from tapeline_common.values import Decline, OrderId, Regime, Side
from tapeline_common.wire import Fact, encode
from tapeline_execution import stretching as execution
from tapeline_execution.core import client_order_id
from tapeline_execution.venue import Book as VenueBook
from tapeline_ledger import stretching as ledger
from tapeline_ledger.books import Position
from tapeline_ledger.core import cash
from tapeline_regime import stretching as regime
from tapeline_regime.core import REGIMES
from tapeline_regime.core import State as RegimeState
from tapeline_regime.filtering import Prepared
from tapeline_risk import stretching as risk
from tapeline_risk.core import Book as RiskBook
from tapeline_strategy import stretching as strategy
from tapeline_strategy.core import Seat
from tapeline_strategy.sdk import Strategy

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TOLD_ROWS = 16_384
"""Facts about orders that a stretch has room for; where they are used up, the next one begins."""

LONGEST_PRICE = 10**28
"""A price of more digits would be rounded where the ledger divides."""

LAST_VERSION = 5
"""Facts in the stream of an order that was filled whole: proposed, approved, submitted, accepted, filled."""

TRADING = ("venue", "ledger", "strategy", "risk")
"""The cores whose work a stretch does; the others pass over its bars."""

HOUR_NS = order_loop.HOUR_NS

ORDER_COLUMNS = (
    order_loop.LAYOUT,
    order_loop.ORDER_POS,
    order_loop.APPROVAL_POS,
    order_loop.SUBMISSION_POS,
    order_loop.A_LOW,
    order_loop.ROOT,
    order_loop.POS,
)
"""What the cores learn of an order, in the row of its fill."""

DECLINES = {of_kernel.DECLINED_BLOCKED: Decline.REGIME_BLOCKED, of_kernel.DECLINED_UNKNOWN: Decline.REGIME_UNKNOWN}
"""What a stretch may hold of what the strategy declines, by the kernel's number of it."""

DECLINE_ROWS = {
    order_loop.REGIME_BLOCKED: Decline.REGIME_BLOCKED,
    order_loop.REGIME_UNKNOWN: Decline.REGIME_UNKNOWN,
}

NEVER = 2**62
"""A bar that is never reached."""


@dataclass(frozen=True, slots=True)
class Told:
    """A stretch as it goes to the tape.

    Attributes:
        runs, rows: as ``order_loop`` wrote them.
        gaps: the facts of its rows about missing bars, encoded.
        echo: what was said to each bar from ``start`` on.
    """

    start: int
    runs: Ints
    rows: Ints
    gaps: list[bytes]
    echo: Echo | None


@cache
def _compiled(kind: Strategy) -> Any:
    books: tuple[Kind, ...] = (INTS, FLOATS, INTS)
    arguments: tuple[Kind, ...] = (FLOATS, parameter_kinds(kind), (FLOATS,) * 5, (INTS,) * 6, *(INTS,) * 5)
    arguments += (*books, FLOATS, *books, INT_TABLE, INT_TABLE, INT_TABLE, INT_TABLE)
    arguments += ("int64", "int64", "int64", "boolean", "int64", "int64")
    modules = ("scan_loop", "wide", "kernel_loop", "order_loop")
    return specialised(kind, tuple(f"tapeline_backtest.{name}" for name in modules), "follow", "int64", *arguments)


def order_path(
    opening: Sequence[Opening], sources: Sequence[Source], loop: Loop, collected: Collected
) -> OrderPath | None:
    """The order path of a run, or ``None`` where it is not one that the kernel knows."""
    events: list[Event] = [each.event for each in opening]
    try:
        plan = kernel.plan_of(events, has_regimes=True)
        if len(sources) != 1:
            return None
        market = kernel.market_of(sources[0], plan)
        rules, units = kernel.rules_of(plan, market)
        follow = _compiled(plan.strategy)
    except (kernel.KernelRefused, CompilationRefused):
        return None
    if market.prices.largest * int(rules[of_kernel.PRICE_UP]) * 2 >= LONGEST_PRICE:
        return None
    (started,) = [event for event in events if isinstance(event, RunStarted)]
    return OrderPath(plan, sources[0], market, rules, units, follow, started.tape, loop, collected)


class OrderPath:
    """Runs through stretches of one plan.

    Attributes:
        orders: how many lived and ended in its stretches.
        layouts: of the rows that it tells, behind bars and echoes.
        prefix: what its client order ids are hashes of, up to the position in the order's name.
    """

    def __init__(
        self,
        plan: kernel.Plan,
        source: Source,
        market: kernel.Market,
        rules: Ints,
        units: kernel.Units,
        follow: Any,
        tape: str,
        loop: Loop,
        collected: Collected,
    ) -> None:
        self.orders = 0
        self.layouts: list[Layout] = order_layouts(plan, units)
        self.prefix = f"{tape}|{plan.name}-".encode()
        self._plan = plan
        self._source = source
        # Not the market itself, which holds more columns than are needed here.
        self._exact = market.prices
        self._rules = rules
        self._units = units
        self._follow = follow
        self._tape = tape
        self._loop = loop
        self._collected = collected
        self._fill_rows, self._trade_rows = FillRows(plan, units, tape), TradeRows(plan, units)
        self._parameters = tuple(plan.parameters.values())
        self._regimes = _RegimesAhead(plan.regimes)
        self._valid_ns = plan.limits.approval_valid_ms * 1_000_000
        self._book, self._kept_book = (np.zeros(of_kernel.BOOK, dtype=np.int64) for _ in range(2))
        self._seat, self._kept_seat = (np.zeros(of_kernel.SEAT, dtype=np.float64) for _ in range(2))
        self._notes, self._kept_notes = (np.zeros(order_loop.NOTES, dtype=np.int64) for _ in range(2))
        self._rows = np.zeros((TOLD_ROWS, order_loop.ROW), dtype=np.int64)
        self._runs = np.zeros((TOLD_ROWS, order_loop.RUN), dtype=np.int64)
        self._orders = np.zeros((1, 2), dtype=np.int64)
        self._fills = np.zeros((TOLD_ROWS, of_kernel.FILL), dtype=np.int64)
        # Of a function that does not know this object: a cycle would keep the columns long after the run.
        self._terms = lru_cache(maxsize=64)(partial(_terms_of, plan, units))
        self._streams = (
            (order_loop.INSTRUMENT_VERSION, str(plan.listing.instrument)),
            (order_loop.RUN_VERSION, RUN_STREAM),
            (order_loop.STRATEGY_VERSION, str(plan.name)),
        )
        allowed = market.allowed
        self._allowed = None if allowed is None else kernel.scaled(allowed, units.quantity)
        self._first_row = -1
        self._prices: tuple[Ints, ...] = ()

    # ---- where a stretch may begin -------------------------------------------------------------------------------

    def run(self, chunk: Chunk, block: BarBlock, k: int, stop: int) -> tuple[int, Told | None]:
        """Run from bar ``k`` of a chunk of one lane, at most to ``stop``.

        Returns:
            The bar where the exact path goes on (``k``: nothing was done), and what is to be recorded.
        """
        states = self._loop.states
        plan, instrument = self._plan, block.instrument
        seat = strategy.plain_seat(states["strategy"], plan.name, instrument)
        risk_book = risk.plain_book(states["risk"], plan.name, instrument)
        position = ledger.plain_position(states["ledger"], plan.name, instrument)
        venue_book = execution.plain_book(states["venue"], states["execution"], instrument)
        if seat is None or risk_book is None or position is None or venue_book is None:
            return k, None
        stop = bisect_left(chunk.close_ns.data, states["risk"].day_ends_ns, k, stop)
        stop = bisect_left(chunk.open_ns.data, states["venue"].next_day_ns, k, stop)
        stop = self._loop.silent_until(block, k, stop, but=TRADING)
        if stop <= k or not self._set_books(seat, risk_book, position, venue_book):
            return k, None
        before = states["strategy"].regimes.get(instrument, Regime.UNKNOWN)
        if seat.regimes and (before is Regime.UNKNOWN) == block.is_echoed:
            return k, None
        is_late = bool(seat.regimes) and block.is_echoed
        self._notes[order_loop.IS_LATE] = is_late
        barred = self._regimes.barred(states["regime"], chunk, block, k, is_late=is_late)
        (reading,) = seat.readings.values()
        memory = np.array(reading.memory, dtype=np.float64)
        last = _units(Decimal(risk_book.price or "0"), self._exact.decimals)
        if last is None:
            return k, None
        after = self._follow(
            memory,
            self._parameters,
            tuple(chunk.numbers),
            self._prices_of(chunk),
            chunk.open_ns,
            _hours(chunk.close_ns, states["ledger"].hour_end_ns, k, stop),
            np.array([*chunk.gaps, NEVER], dtype=np.int64),
            barred,
            self._rules,
            self._book,
            self._seat,
            self._notes,
            np.empty_like(memory),
            self._kept_book,
            self._kept_seat,
            self._kept_notes,
            self._rows,
            self._runs,
            self._orders,
            self._fills,
            k,
            stop,
            self._valid_ns,
            block.is_echoed,
            *divmod(last, BASE),
        )
        if after == k:
            return k, None
        return after, self._learn(chunk, block, k, after, memory, before, is_late=is_late)

    def _prices_of(self, chunk: Chunk) -> tuple[Ints, ...]:
        """The kernel's prices, by row of the chunk."""
        first = chunk.file_rows[0]
        if first != self._first_row:
            after = first + len(chunk)
            exact = self._exact.part(first, after)
            # Where nothing is limited any column will do: it is not read.
            allowed = chunk.close_ns if self._allowed is None else self._allowed[first:after]
            self._first_row, self._prices = first, (*exact.opens, *exact.closes, allowed, chunk.close_ns)
        return self._prices

    def _set_books(self, seat: Seat, risk_book: RiskBook, position: Position, venue_book: VenueBook) -> bool:
        """The cores' states as the kernel's numbers; ``False`` if they are not the same, or not whole."""
        states, units, plan = self._loop.states, self._units, self._plan
        account = cash(states["ledger"])
        held = seat.position
        is_same = (
            risk_book.position == position.quantity == venue_book.positions.get(plan.name, ZERO) == held
            and states["venue"].balances.get(plan.listing.quote) == account
        )
        limits, watched = plan.limits, states["risk"]
        book, notes = self._book, self._notes
        book[:] = 0
        price = position.basis_value / held if held else ZERO
        amounts = [
            (book, of_kernel.CASH_HIGH, account, units.money),
            (book, of_kernel.FEES_HIGH, position.total_fees, units.money),
            (book, of_kernel.REFERENCE_HIGH, watched.reference, units.money),
            (book, of_kernel.HIGHEST_HIGH, account if limits.max_drawdown is None else watched.highest, units.money),
            (notes, order_loop.ENTRY_HIGH, price, units.price),
            (notes, order_loop.TRADE_FEES_HIGH, position.fees, units.money),
            (notes, order_loop.RESULT_HIGH, position.closed_pnl, units.price + units.quantity),
        ]
        for numbers, place, amount, decimals in amounts:
            if not _put(numbers, place, amount, decimals):
                return False
        whole = _units(held, units.quantity)
        if not is_same or whole is None or abs(whole) >= BASE:
            return False
        book[of_kernel.POSITION] = whole
        book[of_kernel.EXIT_NS] = risk_book.exits.get(plan.name, 0)
        book[of_kernel.DAY_END_NS] = watched.day_ends_ns
        book[of_kernel.REFUSED_AT] = -1
        if seat.said is not None:
            book[of_kernel.SAID] = next(code for code, reason in DECLINES.items() if reason is seat.said[0])
        floats = self._seat
        floats[of_kernel.TARGET], floats[of_kernel.SETTLED] = seat.target, seat.settled
        is_quiet = seat.target == seat.settled and not (self._rules[of_kernel.IS_WATCHED] and held)
        floats[of_kernel.QUIET] = seat.target if is_quiet else np.nan
        floats[of_kernel.MONEY_UNITS], floats[of_kernel.QUANTITY_UNITS] = 10.0**units.money, 10.0**units.quantity
        sequencer = self._loop.sequencer
        notes[order_loop.HEAD] = sequencer.pos
        notes[order_loop.TOLD] = notes[order_loop.RUNS] = 0
        for place, stream in self._streams:
            notes[place] = sequencer.versions.get(stream, 0)
        notes[order_loop.OPENED_NS] = position.opened_ns
        notes[order_loop.NUMBER_OF_TRADES] = position.trades
        return True

    # ---- what came of it -----------------------------------------------------------------------------------------

    def _learn(
        self, chunk: Chunk, block: BarBlock, start: int, after: int, memory: Floats, before: Regime, *, is_late: bool
    ) -> Told:
        """Let every core learn bars ``start`` to ``after``, and the head of the tape move on."""
        states, notes = self._loop.states, self._notes
        rows = self._rows[: notes[order_loop.TOLD]].copy()
        runs = self._runs[: notes[order_loop.RUNS]].copy()
        last = Stamp(_last_bar(rows, runs, after, block.is_echoed), block.close_ns[after - 1])
        echo = self._loop.take(block, start, after, last, but=TRADING)
        _name_regimes(rows, start, before, echo, is_late=is_late)
        decided_pos = last.pos
        if is_late:
            assert echo is not None, "its bars are echoed"
            assert self._regimes.were(echo.chosen, start, after), "what was looked ahead at is what is said"
            decided_pos = _last_echo(rows, last.pos)
        orders, closed = self._collect(rows)
        stretch = self._stretch(block, start, after, last, decided_pos, memory, rows, orders, closed)
        strategy.learn_stretch(states["strategy"], stretch)
        risk.learn_stretch(states["risk"], stretch)
        ledger.learn_stretch(states["ledger"], stretch)
        execution.learn_stretch(states["venue"], states["execution"], stretch)
        versions = {stream: int(notes[place]) for place, stream in self._streams if notes[place]}
        versions.update(dict.fromkeys([each.order for each in orders], LAST_VERSION))
        self._loop.sequencer.run_ahead(int(notes[order_loop.HEAD]), versions, last.time_ns)
        return Told(start, runs, rows, self._gaps(chunk, rows), echo)

    def _gaps(self, chunk: Chunk, rows: Ints) -> list[bytes]:
        """What is said before bars that others are missing before, as encoded facts."""
        encoded: list[bytes] = []
        for row in rows[rows[:, order_loop.LAYOUT] == order_loop.GAP].tolist():
            gap = gap_before(self._source, chunk.file_rows[0] + row[order_loop.BAR], None)
            assert gap is not None, "without trading hours every missing bar is one"
            pos, event = row[order_loop.POS], gap.event
            version, schema = row[order_loop.VERSION], type(event).schema
            fact = Fact(pos, gap.time_ns, gap.id, gap.author, stream_of(event), version, 0, pos, schema, event)
            encoded.append(encode(fact))
            self._collected.take(fact)
        return encoded

    def _collect(self, rows: Ints) -> tuple[list[FilledOrder], TradeClosed | None]:
        """Fills and trades for the report; returns the orders, and the trade that the last fill closed."""
        layouts = rows[:, order_loop.LAYOUT]
        trades = rows[(layouts == order_loop.CLOSED) | (layouts == order_loop.CLOSED_SHORT)]
        fills = rows[(layouts == order_loop.FILLED) | (layouts == order_loop.FILLED_SALE)]
        if len(fills):
            if not self._collected.fills.ends_with(self._fill_rows):
                self._fill_rows = FillRows(self._plan, self._units, self._tape)
                self._collected.fills.begin(self._fill_rows)
            self._fill_rows.add(fills)
        if len(trades):
            if not self._collected.trades.ends_with(self._trade_rows):
                self._trade_rows = TradeRows(self._plan, self._units)
                self._collected.trades.begin(self._trade_rows)
            self._trade_rows.add(trades)
        for layout, reason in DECLINE_ROWS.items():
            if count := int(np.count_nonzero(layouts == layout)):
                self._collected.declined[reason] += count
        orders = self._orders_of(fills)
        self._collected.submitted += len(orders)
        self.orders += len(orders)
        is_closing = len(trades) and trades[-1, order_loop.CAUSE] == fills[-1, order_loop.POS]
        return orders, self._trade_rows.event(trades[-1]) if is_closing else None

    def _orders_of(self, fills: Ints) -> list[FilledOrder]:
        tape, terms, prefix = self._tape, self._terms, f"{self._plan.name}-"
        orders: list[FilledOrder] = []
        for layout, order, approval, submission, quantity, bar_pos, filled_pos in fills[:, ORDER_COLUMNS].tolist():
            name = OrderId(f"{prefix}{order}")
            client = client_order_id(tape, name, approval)
            orders.append(FilledOrder(name, client, f"v{submission}-1", terms(layout, quantity), bar_pos, filled_pos))
        return orders

    def _stretch(
        self,
        block: BarBlock,
        start: int,
        after: int,
        last: Stamp,
        decided_pos: int,
        memory: Floats,
        rows: Ints,
        orders: list[FilledOrder],
        closed: TradeClosed | None,
    ) -> Stretch:
        book, notes, units = self._book.tolist(), self._notes.tolist(), self._units
        position = amount_of(book[of_kernel.POSITION], units.quantity)
        paid = _amount(book, of_kernel.FEES_HIGH, units.money)
        before = ledger.fees_of(self._loop.states["ledger"], self._plan.name, block.instrument)
        trade = None
        if position:
            price = _amount(notes, order_loop.ENTRY_HIGH, units.price)
            fees = _amount(notes, order_loop.TRADE_FEES_HIGH, units.money)
            trade = OpenTrade(price, fees, notes[order_loop.OPENED_NS])
        hours = rows[
            (rows[:, order_loop.LAYOUT] == order_loop.MARKED) & (rows[:, order_loop.CAUSE] == rows[:, order_loop.ROOT])
        ]
        mark, marked_pos = None, 0
        if len(hours):
            row = hours[-1].tolist()
            marked_pos = row[order_loop.ROOT]
            mark = EquityMarked(
                row[order_loop.OTHER_NS],
                _amount(row, order_loop.A_HIGH, units.money),
                _amount(row, order_loop.B_HIGH, units.money),
                _amount(row, order_loop.C_HIGH, units.price + units.quantity),
            )
        highest = None
        if self._plan.limits.max_drawdown is not None:
            highest = _amount(book, of_kernel.HIGHEST_HIGH, units.money)
        return Stretch(
            strategy=self._plan.name,
            instrument=block.instrument,
            last=last,
            bar=block.bar(after - 1),
            bars=after - start,
            orders=orders,
            position=position,
            cash=_amount(book, of_kernel.CASH_HIGH, units.money),
            matched_pos=orders[-1].bar_pos if orders else 0,
            paid=paid - before,
            open=trade,
            trades=notes[order_loop.NUMBER_OF_TRADES],
            closed_pnl=_amount(notes, order_loop.RESULT_HIGH, units.price + units.quantity),
            closed=closed,
            exited_ns=book[of_kernel.EXIT_NS],
            highest=highest,
            mark=mark,
            marked_pos=marked_pos,
            hour_end_ns=((last.time_ns - 1) // HOUR_NS + 1) * HOUR_NS,
            memory=memory.tolist(),
            target=_float(self._seat[of_kernel.TARGET]),
            settled=_float(self._seat[of_kernel.SETTLED]),
            said=DECLINES.get(book[of_kernel.SAID]),
            decided_pos=decided_pos,
        )


class _RegimesAhead:
    """What the regime at each bar keeps a strategy from. Filtered once a chunk, unless the model changes within it."""

    def __init__(self, traded: Sequence[Regime]) -> None:
        self._barred_by = np.array([0 if each in traded else of_kernel.DECLINED_BLOCKED for each in REGIMES])
        self._is_trading_always = not traded
        self._chunk: Chunk | None = None
        self._model: Prepared | None = None
        self._first = 0
        self._chosen = self._barred = np.empty(0, dtype=np.int64)

    def barred(self, state: RegimeState, chunk: Chunk, block: BarBlock, k: int, *, is_late: bool) -> Ints:
        """By row of a chunk, from ``k`` on: 0 where it may take on exposure, or the kernel's number of the decline.

        Args:
            is_late: whether a regime is known and every bar echoed; otherwise none is.
        """
        model = regime.model_of(state, block.instrument) if is_late else None
        if self._chunk is chunk and self._model is model and (k >= self._first or not is_late):
            return self._barred
        self._chunk, self._model, self._first = chunk, model, k
        self._barred = np.zeros(len(chunk), dtype=np.int64)
        if is_late:
            self._chosen = regime.regimes_ahead(state, block, k, len(chunk))
            self._barred[k:] = self._barred_by[self._chosen]
        elif not self._is_trading_always:
            self._barred[:] = of_kernel.DECLINED_UNKNOWN
        return self._barred

    def were(self, chosen: Ints, start: int, stop: int) -> bool:
        """Whether the regimes of rows ``start`` to ``stop`` came out as they were seen."""
        return np.array_equal(self._chosen[start - self._first : stop - self._first], chosen)


def _terms_of(plan: kernel.Plan, units: kernel.Units, layout: int, quantity: int) -> OrderTerms:
    side = Side.SELL if layout == order_loop.FILLED_SALE else Side.BUY
    return OrderTerms(plan.name, plan.listing.instrument, side, amount_of(quantity, units.quantity))


def _last_bar(rows: Ints, runs: Ints, after: int, is_echoed: bool) -> int:
    """Position of the bar before ``after``: the end of the last run, or a bar that has rows of its own."""
    if len(runs):
        _, first, bars, pos, _ = runs[-1].tolist()
        if first + bars == after:
            return int(pos + (bars - 1) * (1 + is_echoed))
    return int(rows[rows[:, order_loop.LAYOUT] == order_loop.BARS][-1, order_loop.POS])


def _last_echo(rows: Ints, bar_pos: int) -> int:
    """Position of what was said to the last bar, which is at ``bar_pos``."""
    last = rows[(rows[:, order_loop.LAYOUT] == order_loop.ECHOES) & (rows[:, order_loop.ROOT] == bar_pos)]
    return int(last[-1, order_loop.POS]) if len(last) else bar_pos + 1


def _name_regimes(rows: Ints, start: int, before: Regime, echo: Echo | None, *, is_late: bool) -> None:
    """An echo names its own regime; so does what is decided upon it, and what is decided before it that before it."""
    rows[:, order_loop.REGIME] = name_of(before)
    if echo is None:
        return
    bars = rows[:, order_loop.BAR] - start
    if is_late:
        rows[:, order_loop.REGIME] = echo.chosen[bars]
        return
    rows[:, order_loop.REGIME] = np.where(bars > 0, echo.chosen[bars - 1], name_of(before))
    echoes = rows[:, order_loop.LAYOUT] == order_loop.ECHOES
    rows[echoes, order_loop.REGIME] = echo.chosen[bars[echoes]]


def _hours(close_ns: Ints, hour_end_ns: int, start: int, stop: int) -> Ints:
    """Bars from ``start`` to ``stop`` that are the first after the end of an hour, then one beyond them all."""
    hours = (close_ns[start:stop] - 1) // HOUR_NS
    before = np.concatenate([[hour_end_ns // HOUR_NS - 1], hours[:-1]])
    return np.append(np.flatnonzero(hours > before) + start, NEVER).astype(np.int64)


def _float(number: np.float64) -> float:
    """The one NaN for every NaN, so that states which hold it are equal."""
    return nan if number != number else float(number)


def _units(amount: Decimal, decimals: int) -> int | None:
    """A whole number of units, if it is one."""
    scaled = amount.scaleb(decimals)
    whole = int(scaled)
    return whole if whole == scaled else None


def _put(numbers: Ints, place: int, amount: Decimal, decimals: int) -> bool:
    """Write an amount as two limbs, if it is a whole number of units that fits."""
    whole = _units(amount, decimals)
    if whole is None or abs(whole) >= HIGHEST * BASE:
        return False
    numbers[place], numbers[place + 1] = divmod(whole, BASE)
    return True


def _amount(numbers: Sequence[int], place: int, decimals: int) -> Decimal:
    return amount_of(numbers[place] * BASE + numbers[place + 1], decimals)
