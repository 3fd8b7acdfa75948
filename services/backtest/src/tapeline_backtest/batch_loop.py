"""Many runs of one strategy over the same bars, side by side: what a sweep compiles.

Read as a template, as ``scan_loop`` and ``kernel_loop`` are, whose rules it takes; it adds none. ``kernel_loop.run`` is
its naive twin. What it does otherwise is done so that a processor has less to wait for:

* What a strategy wants depends on the bars alone. So four runs first go over a chunk of bars and keep only where their
  targets change. One run's arithmetic waits for its own last result; four take turns.
* Events are then handled run by run on bars that are still in the cache.
* A drawdown needs the highest and the lowest close of a stretch. A chunk's are found once for all runs; only where the
  equity has a new high is it followed bar by bar.
"""

from __future__ import annotations

from math import nan
from typing import Any

from tapeline_backtest.kernel_loop import (
    CASH,
    DONE,
    HELD,
    HELD_SINCE,
    INVESTED,
    PEAK,
    POSITION,
    QUIET,
    WORST,
    deeper,
    handle,
    show,
)
from tapeline_backtest.scan_loop import advance

CHUNK = 1024
"""Bars at a time: with all their columns and what is kept of them they fit into the second cache."""

LANES = 4
"""Runs that take turns in ``foresee``; their number is a multiple of it."""

LEVELS = 5
WIDEST = 2 ** (LEVELS - 1)
"""Extremes are kept of 1, 2, 4, ... bars from each bar on."""

# ---- progress of a run -------------------------------------------------------------------------------------------
NEXT_DAY, STATUS, PROGRESS = range(3)


def parameters_of(parameters: Any, run: int) -> Any:
    """The parameter values of a run, one column for each parameter."""
    raise NotImplementedError


def run_all(
    memories: Any,
    places: Any,
    parameters: Any,
    columns: Any,
    prices: Any,
    day_ends: Any,
    rules: Any,
    books: Any,
    seats: Any,
    progress: Any,
    depths: Any,
    orders: Any,
    fills: Any,
    daily: Any,
    bars: Any,
    targets: Any,
    lows: Any,
    highs: Any,
) -> None:
    """Run every run over all bars; how one ended is in its row of ``progress``.

    Args:
        memories, places: the memories behind each other, and where each begins; of a multiple of ``LANES`` runs, those
            beyond the last one for filling.
        columns, prices, day_ends, rules: as in ``kernel_loop``, the same for all.
        books, seats, daily: a row for each run.
        progress, depths: a row and a number for each run, zero.
        orders, fills: without rows.
        bars, targets: room for ``CHUNK + 1`` changes of each of ``LANES`` runs.
        lows, highs: room for ``LEVELS`` times ``CHUNK`` extremes.
    """
    runs, count = len(books), len(columns[3])
    for run in range(runs):
        show(books[run], seats[run])
        seats[run, PEAK] = depths[run] = seats[run, CASH]
        seats[run, WORST], seats[run, QUIET] = 0.0, nan
    for start in range(0, count, CHUNK):
        stop = min(start + CHUNK, count)
        find_extremes(columns[3], start, stop, lows, highs)
        for first in range(0, runs, LANES):
            foresee(memories, places, parameters, columns, first, start, stop, bars, targets)
            for run in range(first, min(first + LANES, runs)):
                if progress[run, STATUS] == DONE:
                    progress[run, STATUS] = follow(
                        start, stop, bars[run - first], targets[run - first], columns[3], lows, highs, prices, day_ends,
                        rules, books[run], seats[run], progress[run], depths[run : run + 1], orders, fills, daily[run],
                    )  # fmt: skip
    for run in range(runs):
        seats[run, WORST] = deeper(seats[run, PEAK], depths[run], seats[run, WORST])
        if books[run, POSITION] != 0:
            books[run, INVESTED] += count - books[run, HELD_SINCE]


def find_extremes(closes: Any, start: int, stop: int, lows: Any, highs: Any) -> None:
    """Lowest and highest of 1, 2, 4, ... closes from each bar of a chunk on."""
    for place in range(stop - start):
        lows[0, place] = highs[0, place] = closes[start + place]
    for level in range(1, LEVELS):
        half = 2 ** (level - 1)
        for place in range(stop - start - 2 * half + 1):
            low, other = lows[level - 1, place], lows[level - 1, place + half]
            lows[level, place] = low if low < other else other
            high, another = highs[level - 1, place], highs[level - 1, place + half]
            highs[level, place] = high if high > another else another


def foresee(
    memories: Any,
    places: Any,
    parameters: Any,
    columns: Any,
    first: int,
    start: int,
    stop: int,
    bars: Any,
    targets: Any,
) -> None:
    """Run four runs' strategies over a chunk; keep the bars where a target begins, the chunk's first among them.

    Behind the last one stands ``stop``. NaN differs from everything, itself included.
    """
    opens, highs, lows, closes, volumes = columns
    memory_a = memories[places[first] : places[first + 1]]
    memory_b = memories[places[first + 1] : places[first + 2]]
    memory_c = memories[places[first + 2] : places[first + 3]]
    memory_d = memories[places[first + 3] : places[first + 4]]
    values_a = parameters_of(parameters, first)
    values_b = parameters_of(parameters, first + 1)
    values_c = parameters_of(parameters, first + 2)
    values_d = parameters_of(parameters, first + 3)
    last_a = last_b = last_c = last_d = nan
    count_a = count_b = count_c = count_d = 0
    for bar in range(start, stop):
        open_, high, low, close, volume = opens[bar], highs[bar], lows[bar], closes[bar], volumes[bar]
        target_a = advance(memory_a, values_a, open_, high, low, close, volume)
        target_b = advance(memory_b, values_b, open_, high, low, close, volume)
        target_c = advance(memory_c, values_c, open_, high, low, close, volume)
        target_d = advance(memory_d, values_d, open_, high, low, close, volume)
        count_a = keep_change(0, count_a, bar, target_a, last_a, bars, targets)
        count_b = keep_change(1, count_b, bar, target_b, last_b, bars, targets)
        count_c = keep_change(2, count_c, bar, target_c, last_c, bars, targets)
        count_d = keep_change(3, count_d, bar, target_d, last_d, bars, targets)
        last_a, last_b, last_c, last_d = target_a, target_b, target_c, target_d
    bars[0, count_a] = bars[1, count_b] = bars[2, count_c] = bars[3, count_d] = stop


def keep_change(lane: int, count: int, bar: int, target: float, last: float, bars: Any, targets: Any) -> int:
    """Written in any case and kept if it is a change: no branch to guess."""
    bars[lane, count] = bar
    targets[lane, count] = target
    return count + int(target != last)


def follow(
    start: int,
    stop: int,
    bars: Any,
    targets: Any,
    closes: Any,
    lows: Any,
    highs: Any,
    prices: Any,
    day_ends: Any,
    rules: Any,
    book: Any,
    seat: Any,
    progress: Any,
    depth: Any,
    orders: Any,
    fills: Any,
    daily: Any,
) -> int:
    """Everything that a chunk of bars leads to in one run; as the loop of ``kernel_loop.run``."""
    bar, place, marked = start, 0, start
    while bar < stop:
        while bars[place + 1] <= bar:
            place += 1
        if targets[place] == seat[QUIET]:
            place += 1
            bar = bars[place]
            if bar == stop:
                break
        look(start, marked, bar, closes, lows, highs, day_ends, seat, progress, depth, daily)
        seat[WORST] = deeper(seat[PEAK], depth[0], seat[WORST])
        depth[0] = seat[PEAK]
        marked = bar
        status = handle(bar, targets[place], prices, rules, book, seat, orders, fills)
        if status != DONE:
            return status
        bar += 1
    look(start, marked, stop, closes, lows, highs, day_ends, seat, progress, depth, daily)
    return DONE


def look(
    chunk: int,
    start: int,
    stop: int,
    closes: Any,
    lows: Any,
    highs: Any,
    day_ends: Any,
    seat: Any,
    progress: Any,
    depth: Any,
    daily: Any,
) -> None:
    """The equity curve from bar ``start`` to ``stop`` of a chunk, over which nothing changes but prices.

    Rounded sums and products keep the order of what goes in: the extremes of the equity are at those of the close.
    """
    if start == stop:
        return
    cash, held = seat[CASH], seat[HELD]
    day = progress[NEXT_DAY]
    while 0 <= day_ends[day] < stop:
        daily[day] = cash + held * closes[day_ends[day]]
        day += 1
    progress[NEXT_DAY] = day
    if held == 0.0:
        start = stop - 1
    lowest, highest = extremes(start - chunk, stop - chunk, lows, highs)
    top = cash + held * (highest if held > 0.0 else lowest)
    bottom = cash + held * (lowest if held > 0.0 else highest)
    peak, low = seat[PEAK], depth[0]
    if top > peak:
        worst = seat[WORST]
        for bar in range(start, stop):
            equity = cash + held * closes[bar]
            if equity > peak:
                worst = deeper(peak, low, worst)
                peak = low = equity
            low = equity if equity < low else low
        seat[PEAK], seat[WORST], depth[0] = peak, worst, low
    elif bottom < low:
        depth[0] = bottom


def extremes(start: int, stop: int, lows: Any, highs: Any) -> tuple[float, float]:
    """Lowest and highest close of a stretch of a chunk, from pieces that overlap."""
    level = 0
    while level < LEVELS - 1 and 2 << level <= stop - start:
        level += 1
    last = stop - (1 << level)
    lowest, highest = lows[level, last], highs[level, last]
    for place in range(start, last, WIDEST):
        low, high = lows[level, place], highs[level, place]
        lowest = low if low < lowest else lowest
        highest = high if high > highest else highest
    return lowest, highest
