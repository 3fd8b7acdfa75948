"""Runs one backtest in the kernel gear and tells of it in the words of the tape: the report is the same function.

Orders, fills and trades become the facts that the loop gear would have recorded about them (ids excepted), and the
ledger's own books are folded over the fills: what they say at the end must be what the kernel's whole numbers say.
There is no tape, hence no count of facts and no hash.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np

from tapeline_backtest import kernel_loop as loop
from tapeline_backtest.feed import Source
from tapeline_backtest.kept import flows_by_instrument, results_by_instrument
from tapeline_backtest.kernel import KernelFault, KernelRefused, Market, Outcome, Plan, market_of, plan_of, prepare, run
from tapeline_backtest.report import Collected
from tapeline_backtest.runner import Finished
from tapeline_backtest.wide import BASE
from tapeline_common.core import Stamp, learn
from tapeline_common.events import BarClosed, Event, OrderFilled
from tapeline_common.money import ZERO, plain
from tapeline_common.values import DataFault, InstrumentId, Liquidity, OrderId, Side
from tapeline_ledger import core as ledger


def run_kernel(opening: Sequence[Event], sources: Sequence[Source]) -> Finished:
    """Run a configuration over its one file of bars. Raises ``KernelRefused``."""
    plan = plan_of(opening)
    if len(sources) != 1:
        count = len(sources)
        raise KernelRefused(KernelFault.SEVERAL_INSTRUMENTS, f"the kernel gear runs one file of bars, not {count}")
    market = market_of(sources[0], plan)
    prepare(plan.strategy)
    started = time.perf_counter()
    outcome = run(plan, market, record=True)
    elapsed_s = time.perf_counter() - started
    collected, books = told(opening, sources[0], plan, market, outcome)
    return Finished(collected, books, None, None, elapsed_s)


def told(
    opening: Sequence[Event], source: Source, plan: Plan, market: Market, outcome: Outcome
) -> tuple[Collected, ledger.State]:
    """What the report needs of a run: its facts, and the ledger's books after them."""
    collected = Collected(submitted=outcome.orders)
    collected.refused = Counter(outcome.refused)
    collected.declined = Counter(outcome.declined)
    gaps = _gaps(source)
    if gaps:
        collected.data_faults[DataFault.GAP] = gaps
    books = ledger.CORE.initial()
    start_ns = int(market.open_ns[0])
    for event in opening:
        learn(ledger.CORE, books, event, Stamp(0, start_ns))
    for pos, (time_ns, fill) in enumerate(filled(plan, market, outcome), 1):
        learn(ledger.CORE, books, fill, Stamp(pos, time_ns))
        collected.fills.append((time_ns, fill))
        trade = ledger.closed_trade(books, fill, pos)
        if trade is not None:
            collected.trades.append(trade)
    learn(ledger.CORE, books, _last_bar(source), Stamp(len(collected.fills) + 1, int(market.close_ns[-1])))
    _check(collected, books, source.instrument, outcome)
    return collected, books


def _check(collected: Collected, books: ledger.State, instrument: InstrumentId, outcome: Outcome) -> None:
    """Both sets of books were kept apart and must agree; anything else is a bug."""
    flow = flows_by_instrument(collected.fills.sums()).get(instrument)
    results = results_by_instrument(collected.trades.sums()).get(instrument)
    fees, slippage = (ZERO, ZERO) if flow is None else (flow.fees, flow.slippage)
    trades, gain, loss = (0, ZERO, ZERO) if results is None else (results.trades, results.gain, results.loss)
    assert ledger.equity(books) == outcome.final_equity, "the kernel's equity differs from the ledger's"
    assert ledger.cash(books) == outcome.final_cash, "the kernel's cash differs from the ledger's"
    assert fees == outcome.fees, "the kernel's fees differ from the fills'"
    assert slippage == outcome.slippage, "the kernel's slippage differs from the fills'"
    assert trades == outcome.trades, "the kernel's trades differ from the ledger's"
    assert gain == outcome.profit, "the kernel's gains differ from the ledger's"
    assert loss == outcome.loss, "the kernel's losses differ from the ledger's"


def filled(plan: Plan, market: Market, outcome: Outcome) -> Iterator[tuple[int, OrderFilled]]:
    """Each fill as its fact, with the closing time of its bar."""
    rows = outcome.fill_rows
    times = market.close_ns[rows[:, loop.FILL_BAR]].tolist()
    for index, ((bar, signed, high, low, order), time_ns) in enumerate(zip(rows.tolist(), times, strict=True)):
        quantity = plain(Decimal(abs(signed)).scaleb(-outcome.units.quantity))
        price = plain(Decimal(high * BASE + low).scaleb(-outcome.units.price))
        undisturbed = Decimal(market.prices.opens.at(bar)).scaleb(-market.prices.decimals)
        yield (
            time_ns,
            OrderFilled(
                order=OrderId(f"{plan.name}-{order}"),
                client_order_id=f"{order}",
                strategy=plan.name,
                instrument=plan.listing.instrument,
                trade_id=f"{order}-{index}",
                side=Side.BUY if signed > 0 else Side.SELL,
                quantity=quantity,
                price=price,
                fee=plain(price * quantity * plan.venue.taker_fee),
                fee_currency=plan.listing.quote,
                liquidity=Liquidity.TAKER,
                slippage=plain(abs(price - undisturbed)),
            ),
        )


def _gaps(source: Source) -> int:
    """Stretches of missing bars, each of which the replay says once."""
    length_ns = source.file.facts.timeframe_ns
    return int(np.count_nonzero(np.diff(source.file.columns.open_ns) != length_ns)) if length_ns else 0


def _last_bar(source: Source) -> BarClosed:
    return next(source.file.bars(source.instrument, len(source.file) - 1))
