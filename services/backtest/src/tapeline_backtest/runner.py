"""Runs a script through the loop gear: one process, every core, the tape encoded and hashed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tapeline_backtest.bar_columns import CHUNK_BARS
from tapeline_backtest.feed import Outside, Source, hours_of, opening_script
from tapeline_backtest.report import TAKES, Collected
from tapeline_bandit.service import SERVICE as BANDIT
from tapeline_common.loop import Loop
from tapeline_common.opening import Opening
from tapeline_common.recording import Recorder
from tapeline_common.sequencer import Recorded
from tapeline_common.wiring import Service, in_author_order
from tapeline_execution.service import SERVICE as EXECUTION
from tapeline_ledger.core import CORE as LEDGER_CORE
from tapeline_ledger.core import State as LedgerState
from tapeline_regime.service import SERVICE as REGIME
from tapeline_risk.service import SERVICE as RISK
from tapeline_strategy.service import SERVICE as STRATEGY

SERVICES: tuple[Service, ...] = (EXECUTION, REGIME, BANDIT, STRATEGY, RISK)
"""The services whose cores a replay runs, besides the ledger's books."""

PROGRESS_FACTS = 20_000

SWITCH_INTERVAL_S = 0.0001
"""How long block mode's threads wait for the interpreter. They need it for moments between long compiled calls, and
with Python's own 5 ms the cores end up waiting for them."""

Progress = Callable[[int], None]
"""Called now and then with the number of outside facts said so far."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a gear hands to the report; ``None`` for count and hash where it kept no tape.

    Attributes:
        passed: bars that block mode passed over.
        passed_orders: orders that lived and ended within them.
        states: of every core at the end, by author, where they are in this process.
    """

    collected: Collected
    books: LedgerState
    facts: int | None
    tape_hash: str | None
    elapsed_s: float
    passed: int = 0
    passed_orders: int = 0
    states: Mapping[str, Any] = field(default_factory=dict)


def run_loop(script: Iterable[Outside], progress: Progress | None = None, recorder: Recorder | None = None) -> Finished:
    """Feed the script to the loop gear; ``recorder`` gets every fact, and is left open."""
    collected = Collected()
    loop = _loop(collected, recorder)
    started = time.perf_counter()
    for said, outside in enumerate(script):
        loop.say(outside.author, outside.event, outside.id, outside.time_ns)
        if progress is not None and said % PROGRESS_FACTS == 0:
            progress(said)
    elapsed_s = time.perf_counter() - started
    sequencer = loop.sequencer
    return Finished(
        collected, loop.states["ledger"], sequencer.pos, sequencer.hash.hex(), elapsed_s, states=loop.states
    )


def run_blocks(
    opening: Sequence[Opening],
    sources: Sequence[Source],
    progress: Progress | None = None,
    recorder: Recorder | None = None,
    chunk_bars: int = CHUNK_BARS,
) -> Finished:
    """The same script by block mode: the same tape, found faster on long files. Compiled code is loaded here."""
    from tapeline_backtest.block import BlockRun, BulkTape, prepare
    from tapeline_backtest.order_block import order_path

    prepare(opening)
    collected = Collected()
    loop = _loop(collected, None)
    assert loop.can_pass, "every core of a replay knows how to pass over bars"
    orders = order_path(opening, sources, loop, collected)
    tape = BulkTape(sources, recorder, orders)
    loop.sequencer.link = tape.take
    started = time.perf_counter()
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        for outside in opening_script(opening, sources):
            loop.say(outside.author, outside.event, outside.id, outside.time_ns)
        tape.flush(None)
        run = BlockRun(loop, sources, tape, hours_of(opening), progress, chunk_bars, orders)
        run.run()
        tape_hash = tape.head().hex()
    finally:
        tape.close()
        sys.setswitchinterval(interval_s)
    elapsed_s = time.perf_counter() - started
    return Finished(
        collected,
        loop.states["ledger"],
        loop.sequencer.pos,
        tape_hash,
        elapsed_s,
        run.passed,
        0 if orders is None else orders.orders,
        loop.states,
    )


def _loop(collected: Collected, recorder: Recorder | None) -> Loop:
    record = None if recorder is None else recorder.take

    def keep(recorded: Recorded) -> None:
        fact = recorded.fact
        taken = TAKES.get(type(fact.event))  # ``collected.take``, in place: this sees every bar
        if taken is not None:
            taken(collected, fact.event, fact.time_ns)
        if record is not None:
            record(recorded)

    cores = in_author_order([LEDGER_CORE, *(core for service in SERVICES for core in service.cores)])
    return Loop(cores, [worker for service in SERVICES for worker in service.workers], keep)
