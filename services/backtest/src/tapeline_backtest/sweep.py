"""Many runs of one strategy: parameters times instruments times periods, in the kernel gear, over all cores.

Runs share their columns: the workers are threads, and compiled code holds no lock. Every run is its own account. What
comes out depends on the runs alone: results are kept in the order of the grid, whoever finished first, and ranking is
stable. This module reads no files and prints nothing.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from enum import StrEnum

import msgspec
import numpy as np

from tapeline_backtest.batch import run_batch
from tapeline_backtest.batch_loop import LANES
from tapeline_backtest.kernel import Market, Outcome, Plan
from tapeline_backtest.report import TRADING_DAYS, daily_ratios, returns_of
from tapeline_common.events import Parameters
from tapeline_common.money import plain
from tapeline_strategy.sdk import ParameterInvalid, Strategy, validate

MOST_RUNS = 1_000_000
"""A larger grid is a mistake, or a question for another tool."""

QUEUED_BATCHES = 4
"""Batches handed to each worker ahead: enough to keep it busy, few enough to stop at once."""

MOST_TOGETHER = 16
"""Runs of a batch: what they share is paid by then, and more would delay progress and an interrupt."""

Progress = Callable[[int, int], None]
"""Called with runs done and runs in all."""


class GridInvalid(ValueError):
    """A grid that cannot be understood or is too large. The message names the text, and how to write it."""


class Rank(StrEnum):
    """By what results are ranked, best first; a drawdown is better the smaller it is."""

    NET_PROFIT = "net_profit"
    TOTAL_RETURN = "total_return"
    SHARPE = "sharpe"
    SORTINO = "sortino"
    MAX_DRAWDOWN = "max_drawdown"
    WIN_RATE = "win_rate"
    PROFIT_FACTOR = "profit_factor"


# ---- the grid ----------------------------------------------------------------------------------------------------

_RANGE = re.compile(r"(?P<low>[^.:,\s]+(?:\.\d+)?)\.\.(?P<high>[^:,\s]+?)(?::(?P<step>\S+))?")


def values_of(text: str) -> list[str]:
    """Values of ``1,2,5``, ``5..14``, ``20..65:5`` or any of them joined by commas; both ends of a range included."""
    return [value for part in text.split(",") for value in _expanded(part.strip(), text)]


def _expanded(part: str, text: str) -> Iterator[str]:
    found = _RANGE.fullmatch(part)
    if found is None:
        if not part or ".." in part:
            raise GridInvalid(f"{text!r}: write values as 5,8,13, a range as 5..14, or with a step as 20..65:5")
        yield part
        return
    try:
        low, high, step = (Decimal(found[name] or "1") for name in ("low", "high", "step"))
    except InvalidOperation:
        raise GridInvalid(f"{text!r}: the ends and the step of a range are numbers, such as 20..65:5") from None
    is_finite = low.is_finite() and high.is_finite() and step.is_finite()
    if not (is_finite and step > 0 and low <= high < low + step * MOST_RUNS):
        raise GridInvalid(f"{text!r}: a range goes upwards in steps above 0, such as 20..65:5")
    while low <= high:
        yield str(plain(low))
        low += step


def grid_of(strategy: Strategy, given: Mapping[str, Sequence[str]]) -> tuple[list[Parameters], int]:
    """Every combination of the values that the strategy can run with, the last parameter changing fastest.

    Returns:
        The combinations, complete and typed, and how many were left out because their values do not go together.

    Raises:
        GridInvalid: too many combinations.
        ParameterInvalid: an unknown parameter, or a value that is wrong by itself.
    """
    alone = replace(strategy, check=lambda _parameters: None)
    for name, values in given.items():
        for value in values:
            validate(alone, {name: value})
    count = int(np.prod([len(values) for values in given.values()], dtype=object)) if given else 1
    if count > MOST_RUNS:
        raise GridInvalid(f"{count:,} combinations of parameters are more than {MOST_RUNS:,}: make the steps larger")
    kept = []
    for values in itertools.product(*given.values()):
        try:
            kept.append(validate(strategy, dict(zip(given, values, strict=True))))
        except ParameterInvalid:
            continue
    return kept, count - len(kept)


# ---- runs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stretch:
    """One instrument in one period: what every combination of parameters is run on."""

    instrument: str
    calendar: str
    plan: Plan
    market: Market


class Row(msgspec.Struct, frozen=True):
    """The result of one run. Money in account currency, exact; ratios are fractions. Times are UTC ns."""

    parameters: Parameters
    instrument: str
    first_open_ns: int
    last_close_ns: int
    bars: int
    net_profit: Decimal
    total_return: float
    final_equity: Decimal
    fees: Decimal
    slippage: Decimal
    max_drawdown: float
    sharpe: float | None
    sortino: float | None
    orders: int
    fills: int
    trades: int
    win_rate: float | None
    profit_factor: float | None
    exposure_share: float
    market_change: float
    refused: dict[str, int]
    declined: dict[str, int]


def row_of(stretch: Stretch, parameters: Parameters, outcome: Outcome) -> Row:
    """What a run came to, in the words of the report."""
    market, cash = stretch.market, stretch.plan.cash
    profit = plain(outcome.final_equity - cash)
    closing = np.concatenate([[float(cash)], outcome.daily])
    sharpe, sortino = daily_ratios(returns_of(closing), TRADING_DAYS.get(stretch.calendar, 365))
    closes = market.columns[3]
    return Row(
        parameters=parameters,
        instrument=stretch.instrument,
        first_open_ns=int(market.open_ns[0]),
        last_close_ns=int(market.close_ns[-1]),
        bars=len(market),
        net_profit=profit,
        total_return=float(profit / cash) if cash else 0.0,
        final_equity=outcome.final_equity,
        fees=outcome.fees,
        slippage=outcome.slippage,
        max_drawdown=outcome.max_drawdown,
        sharpe=sharpe,
        sortino=sortino,
        orders=outcome.orders,
        fills=outcome.fills,
        trades=outcome.trades,
        win_rate=outcome.wins / outcome.trades if outcome.trades else None,
        profit_factor=float(outcome.profit / -outcome.loss) if outcome.loss else None,
        exposure_share=outcome.invested_bars / len(market),
        market_change=float(closes[-1] / closes[0] - 1.0),
        refused=dict(sorted(outcome.refused.items())),
        declined=dict(sorted(outcome.declined.items())),
    )


@dataclass(frozen=True, slots=True)
class Swept:
    """Rows in the order of the grid: by stretch, then by parameters; fewer than ``runs`` if it was interrupted."""

    rows: list[Row]
    runs: int
    is_interrupted: bool


def sweep(
    stretches: Sequence[Stretch], grid: Sequence[Parameters], workers: int, progress: Progress | None = None
) -> Swept:
    """Run every combination on every stretch. An interrupt (Ctrl-C) ends it early and keeps what is done.

    Raises:
        KernelRefused: a run that the kernel gear cannot do exactly. Nothing of the sweep is kept then.
    """
    runs = len(stretches) * len(grid)
    rows: dict[int, Row] = {}
    waiting = iter(batches(len(stretches), len(grid), workers))
    pending: dict[Future[list[Row]], int] = {}
    is_interrupted = False
    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                for stretch, first, last in itertools.islice(waiting, workers * QUEUED_BATCHES - len(pending)):
                    future = pool.submit(_together, stretches[stretch], grid[first:last])
                    pending[future] = stretch * len(grid) + first
                if not pending:
                    break
                for done in wait(pending, return_when=FIRST_COMPLETED).done:
                    rows.update(enumerate(done.result(), pending.pop(done)))
                if progress is not None:
                    progress(len(rows), runs)
        except KeyboardInterrupt:
            is_interrupted = True
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    for future, index in pending.items():
        if not future.cancelled():
            rows.update(enumerate(future.result(), index))
    return Swept([rows[index] for index in sorted(rows)], runs, is_interrupted)


def batches(stretches: int, runs: int, workers: int) -> Iterator[tuple[int, int, int]]:
    """What is run together: (stretch, first run, the one after the last).

    Batches become smaller towards the end, so that no worker waits long for the last one; a size is a multiple of
    ``LANES`` where it can be.
    """
    for stretch in range(stretches):
        first = 0
        while first < runs:
            left = (stretches - stretch) * runs - first
            size = min(MOST_TOGETHER, max(1, left // (2 * workers * LANES)) * LANES)
            yield stretch, first, min(first + size, runs)
            first += size


def _together(stretch: Stretch, grid: Sequence[Parameters]) -> list[Row]:
    outcomes = run_batch(stretch.plan, stretch.market, grid)
    return [row_of(stretch, parameters, outcome) for parameters, outcome in zip(grid, outcomes, strict=True)]


def ranked(rows: Sequence[Row], by: Rank) -> list[Row]:
    """Best first; rows without the figure last, equal ones in the order of the grid."""
    sign = -1 if by is Rank.MAX_DRAWDOWN else 1

    def key(row: Row) -> tuple[bool, Decimal | float]:
        figure: Decimal | float | None = getattr(row, by.value)
        return figure is None, 0.0 if figure is None else -sign * figure

    return sorted(rows, key=key)
