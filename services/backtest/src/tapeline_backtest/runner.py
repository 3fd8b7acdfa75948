"""Runs a script through the loop gear: one process, every core, the tape encoded and hashed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tapeline_backtest.feed import Outside
from tapeline_backtest.report import Collected
from tapeline_bandit.service import SERVICE as BANDIT
from tapeline_common.loop import Loop
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

Progress = Callable[[int], None]
"""Called now and then with the number of outside facts said so far."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a gear hands to the report; ``None`` for count and hash where it kept no tape."""

    collected: Collected
    books: LedgerState
    facts: int | None
    tape_hash: str | None
    elapsed_s: float


def run_loop(script: Iterable[Outside], progress: Progress | None = None) -> Finished:
    """Feed the script to the loop gear."""
    collected = Collected()
    take = collected.take

    def keep(recorded: Recorded) -> None:
        take(recorded.fact)

    cores = in_author_order([LEDGER_CORE, *(core for service in SERVICES for core in service.cores)])
    loop = Loop(cores, [worker for service in SERVICES for worker in service.workers], keep)
    started = time.perf_counter()
    for said, outside in enumerate(script):
        loop.say(outside.author, outside.event, outside.id, outside.time_ns)
        if progress is not None and said % PROGRESS_FACTS == 0:
            progress(said)
    elapsed_s = time.perf_counter() - started
    sequencer = loop.sequencer
    return Finished(collected, loop.states["ledger"], sequencer.pos, sequencer.hash.hex(), elapsed_s)
