"""With every cost, margin and trading hours set, the loop gear equals one follower per core: byte for byte."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.backtesting import synthetic_file

from tapeline_backtest.feed import Outside, script, source
from tapeline_backtest.runner import SERVICES
from tapeline_common.calendars import session_openings
from tapeline_common.events import LiquidationOrdered, OrderFilled, OrderRejected
from tapeline_common.follower import Follower
from tapeline_common.loop import Loop
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.sequencer import Recorded
from tapeline_common.settings import parse
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.testing import fingerprint
from tapeline_common.values import Realm
from tapeline_common.wire import Answer, Draft
from tapeline_common.wiring import in_author_order
from tapeline_ledger.core import CORE as LEDGER_CORE
from tapeline_ledger.hardening import fault_of
from tapeline_marketdata.files import read_bars

EVERYTHING = """
[run]
cash = "30000"
[feed]
kind = "files"
[regime]
enabled = false
[venue]
root_impact = "0.5"
volume_impact = "0.1"
half_spread_bps = "1"
latency_ms = 250
intrabar = "{path}"
borrow_rate = "0.2"
initial_margin = "0.2"
maintenance_margin = "0.2"
liquidation_fee = "0.001"
[[venue.fee_tier]]
traded = "0"
maker_fee = "-0.0001"
taker_fee = "0.0006"
[[venue.fee_tier]]
traded = "1000000"
maker_fee = "-0.0002"
taker_fee = "0.0004"
[[instrument]]
name = "BTC/USDT"
calendar = "24/5"
data = "x"
[[strategy]]
name = "follow"
kind = "ema_cross"
instruments = ["BTC/USDT"]
size = "2.5"
parameters = {{ fast = 5, slow = 12 }}
"""
CORES = in_author_order([LEDGER_CORE, *(core for service in SERVICES for core in service.cores)])


def sayings(file: Path, path: str) -> list[Outside]:
    settings = parse(EVERYTHING.format(path=path))
    opening = [*opening_facts(settings, realm=Realm.REPLAY, code_version="1"), *session_openings(settings)]
    token = instrument_id(settings.instrument[0])
    return list(script(opening, [source(token, str(file), read_bars(file))]))


def run_loop(said: Sequence[Outside]) -> tuple[list[Recorded], list[str]]:
    kept: list[Recorded] = []
    loop = Loop(CORES, keep=kept.append)
    for one in said:
        loop.say(one.author, one.event, one.id, one.time_ns)
    return kept, [fingerprint(loop.states[core.name]) for core in CORES]


def run_naive(said: Sequence[Outside]) -> tuple[list[bytes], list[str]]:
    tape = MemoryTape(Realm.REPLAY)
    followers: list[Follower[Any]] = [Follower(core) for core in CORES]
    for one in said:
        head = tape.head
        assert tape.record(one.author, Answer(0, (Draft(one.event, one.id),), time_ns=one.time_ns)).ok
        queue = deque(tape.facts[head:])
        while queue:
            fact = queue.popleft()
            for follower in followers:
                decisions = follower.hear(fact)
                if decisions:
                    head = tape.head
                    assert tape.record(follower.core.name, Answer(fact.pos, tuple(map(Draft, decisions)))).ok
                    queue.extend(tape.facts[head:])
    return [recorded.payload for recorded in tape.records], [fingerprint(follower.state) for follower in followers]


@pytest.mark.parametrize("path", ["WORST", "ADAPTIVE"])
def test_the_gears_agree_on_every_cost(tmp_path: Path, path: str) -> None:
    """The same bytes and the same states; the run is no idle one, and the ledger's door would take every fact of it."""
    said = sayings(synthetic_file(tmp_path / "bars.parquet", 1_500), path)
    kept, states = run_loop(said)
    assert ([recorded.payload for recorded in kept], states) == run_naive(said)
    events = [recorded.fact.event for recorded in kept]
    assert sum(isinstance(event, OrderFilled) and event.costs is not None for event in events) > 50
    assert [event.reason for event in events if isinstance(event, OrderRejected)]
    assert {LiquidationOrdered, OrderFilled} <= {type(event) for event in events}
    assert [fault for event in events if (fault := fault_of(Answer(0, (Draft(event),))))] == []
