"""Who runs trials: threads, processes, or a Ray cluster, behind one small protocol.

Results come back in the order of the tasks, whoever finished first, so whatever is made of them does not depend on the
fleet. Only a bounded number of tasks is out at a time. Nothing is recorded here, and no task is run twice.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import Any, Protocol

from tapeline_backtest.batch_loop import LANES
from tapeline_lab.search.bench import Bench, Gear, Recipe, Result, Task

BARS_A_PIECE = 2_000_000
"""Bars of all trials of a piece in the kernel gear: some ten milliseconds, so that handing over costs nothing."""

LEAST_A_PIECE, MOST_A_PIECE = 16, 128
"""Trials that the kernel gear runs side by side: what they share is paid by sixteen, and more of them would delay an
interrupt where there are many bars."""

PIECES_AHEAD = 4
"""Pieces handed to each worker ahead: enough to keep it busy, few enough to stop at once."""


class FleetFailed(Exception):
    """Trials cannot be run there. The message says why, and what to do."""


class Fleet(Protocol):
    """Runs trials."""

    def results(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """What each task came to, in their order. Raises ``FleetFailed``."""

    def close(self) -> None:
        """Let go of the workers; tasks that have not begun are dropped."""


def pieces(recipe: Recipe, tasks: Sequence[Task], workers: int) -> Iterator[Sequence[Task]]:
    """Tasks that are handed over together: neighbours of one strategy on one ground; in the loop gear one by one.

    In the kernel gear a multiple of ``LANES`` where it can be, and fewer towards the end, so that no worker waits long
    for the last one.
    """
    start = 0
    while start < len(tasks):
        ground, strategy = tasks[start].ground, tasks[start].strategy
        where = recipe.grounds[ground]
        size = 1
        if recipe.gear is Gear.KERNEL:
            most = min(MOST_A_PIECE, max(LEAST_A_PIECE, BARS_A_PIECE // (where.stop - where.first) // LANES * LANES))
            size = min(most, max(1, (len(tasks) - start) // (2 * workers * LANES)) * LANES)
        stop = start + 1
        while stop < min(len(tasks), start + size) and (tasks[stop].ground, tasks[stop].strategy) == (ground, strategy):
            stop += 1
        yield tasks[start:stop]
        start = stop


Later = Callable[[], list[Result]]


def in_order(
    hand_over: Callable[[Sequence[Task]], Later], work: Iterator[Sequence[Task]], ahead: int
) -> Iterator[Result]:
    """Results of pieces in their order, with at most ``ahead`` of them out."""
    out: deque[Later] = deque()
    for piece in work:
        out.append(hand_over(piece))
        if len(out) >= ahead:
            yield from out.popleft()()
    while out:
        yield from out.popleft()()


class Pool:
    """A fleet of an executor's workers. ``work`` runs a piece there."""

    def __init__(
        self, executor: Executor, work: Callable[[Sequence[Task]], list[Result]], recipe: Recipe, workers: int
    ) -> None:
        self._executor = executor
        self._work = work
        self._recipe = recipe
        self._workers = workers

    def results(self, tasks: Sequence[Task]) -> Iterator[Result]:
        def hand_over(piece: Sequence[Task]) -> Later:
            future: Future[list[Result]] = self._executor.submit(self._work, piece)
            return future.result

        return in_order(hand_over, pieces(self._recipe, tasks, self._workers), self._workers * PIECES_AHEAD)

    def close(self) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)


def local(bench: Bench, workers: int) -> Fleet:
    """Threads for the kernel gear, whose code holds no lock; processes for the loop gear, which is Python."""
    if bench.recipe.gear is Gear.KERNEL:
        return Pool(ThreadPoolExecutor(workers), bench.run, bench.recipe, workers)
    processes = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin, initargs=(bench.recipe,))
    return Pool(processes, _run_here, bench.recipe, workers)


# ---- in a worker process -----------------------------------------------------------------------------------------

_here: list[Bench] = []


def _begin(recipe: Recipe) -> None:
    """A worker's start. Ctrl-C is its parent's business, and a parent that was killed takes it along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None, "a worker has a parent"
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _here[:] = [Bench(recipe)]


def _end_with(sentinel: Any) -> None:
    wait([sentinel])
    os._exit(1)


def _run_here(piece: Sequence[Task]) -> list[Result]:
    return _here[0].run(piece)
