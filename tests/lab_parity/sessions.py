"""Recorded sessions for tests: live tapes from the simulated world, where services are slow, die and are restored."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from tapeline_bandit.core import CORE as BANDIT
from tapeline_common.core import Core
from tapeline_common.events import (
    AccountFunded,
    BanditConfigured,
    BarClosed,
    Event,
    HaltRequested,
    InstrumentListed,
    LimitsSet,
    PresetRequested,
    ResumeRequested,
    RunStarted,
    StrategyConfigured,
    VenueConfigured,
)
from tapeline_common.sequencer import Recorded
from tapeline_common.simulation import Saying, World
from tapeline_common.simulation_faults import Dice
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_common.values import DecimalText, InstrumentId, Realm, StrategyId
from tapeline_common.wire import GENESIS, Fact, chain, encode
from tapeline_execution.core import CORE as EXECUTION
from tapeline_execution.venue import CORE as VENUE
from tapeline_lab.parity.record import Record, record_of
from tapeline_ledger.core import CORE as LEDGER
from tapeline_risk.core import CORE as RISK
from tapeline_strategy.core import CORE as STRATEGY

MINUTE_NS = 60_000_000_000
START_NS = 1_700_000_000_000_000_000 // MINUTE_NS * MINUTE_NS
BTC, ETH = InstrumentId("BTC-USDT_paper"), InstrumentId("ETH-USDT_paper")
CROSS, PICKS = StrategyId("cross"), StrategyId("picks")
BARS = 90
STEPS = 6000
CORES: list[Core[Any]] = [STRATEGY, RISK, EXECUTION, VENUE, LEDGER, BANDIT]


def opening(seed: int) -> list[tuple[str, str, Event]]:
    """Slots as the platform names them, so that configuration can be found again."""
    limits = LimitsSet(max_order_notional=Decimal(5000), max_position=Decimal(20), approval_valid_ms=30_000_000)
    tick, lot = Decimal("0.01"), Decimal("0.001")
    return [
        ("operator", "run", RunStarted("simulated", f"tape{seed}", Realm.LIVE, seed, "USDT", "1")),
        ("marketdata", f"instrument:{BTC}", InstrumentListed(BTC, "BTC/USDT", "paper", "BTC", "USDT", tick, lot)),
        ("marketdata", f"instrument:{ETH}", InstrumentListed(ETH, "ETH/USDT", "paper", "ETH", "USDT", tick, lot)),
        ("operator", "venue:paper", VenueConfigured("paper", Decimal("0.0002"), Decimal("0.0005"), Decimal(1))),
        ("operator", "account", AccountFunded("main", "USDT", Decimal(100_000))),
        ("operator", "limits", limits),
        ("operator", "bandit", BanditConfigured(1.0, 0.5, 0.99, 0.05)),
        (
            "operator",
            f"strategy:{CROSS}",
            StrategyConfigured(CROSS, "ema_cross", (BTC, ETH), "1m", Decimal(2), {"fast": 3, "slow": 8}),
        ),
        (
            "operator",
            f"strategy:{PICKS}",
            StrategyConfigured(PICKS, "ema_cross", (BTC,), "1m", Decimal(1), {"fast": 3, "slow": 8}, (), True),
        ),
        ("operator", f"preset:{PICKS}:quick", PresetRequested(PICKS, "quick", {"fast": 2, "slow": 5})),
        ("operator", f"preset:{PICKS}:calm", PresetRequested(PICKS, "calm", {"fast": 4, "slow": 9})),
    ]


def bars(seed: int) -> list[BarClosed]:
    """Random walks of one-minute bars, one bar of each instrument a minute."""
    dice = Dice(seed, "bars")
    closes = {BTC: 10_000, ETH: 2_000}
    found = []
    for index in range(BARS):
        for instrument, before in closes.items():
            close = max(100, before + dice.below(before // 25) - before // 50)
            closes[instrument] = close
            low, high = sorted((before, close))
            prices = (DecimalText(f"{cents / 100:.2f}") for cents in (before, high, low, close))
            open_ns = START_NS + index * MINUTE_NS
            volume = DecimalText(str(100 + dice.below(10)))
            found.append(BarClosed(instrument, "1m", open_ns, open_ns + MINUTE_NS, *prices, volume))
    return found


def sayings(seed: int) -> list[Saying]:
    said = [Saying(author, event, f"{slot}#1", START_NS) for author, slot, event in opening(seed)]
    for bar in bars(seed):
        said.append(Saying("marketdata", bar, f"bar:{bar.instrument}:1m:{bar.open_ns}", bar.close_ns))
    halted = START_NS + 50 * MINUTE_NS
    said.append(Saying("operator", HaltRequested("operator", "lunch"), "request#1", halted))
    said.append(
        Saying("operator", ResumeRequested("operator", "back", 1, "signed"), "request#2", halted + 5 * MINUTE_NS)
    )
    return sorted(said, key=lambda each: each.time_ns)


@cache
def live_facts(seed: int) -> Sequence[Fact]:
    """A live tape with whatever goes wrong under this seed."""
    return tuple(World(seed, CORES, [sayings(seed)]).run(STEPS).facts)


@cache
def live_session(seed: int) -> Record:
    return record_of(live_facts(seed))


def write_tape(path: Path, facts: Sequence[Fact]) -> Path:
    """A tape file of these facts."""
    head = GENESIS
    with TapeWriter(path) as writer:
        for fact in facts:
            payload = encode(fact)
            head = chain(head, payload)
            writer.take(Recorded(fact, payload, head))
    return path


def write_bars(path: Path, chosen: Sequence[BarClosed]) -> Path:
    """A CSV file of bars."""
    rows = [f"{bar.open_ns},{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume}" for bar in chosen]
    path.write_text("\n".join(["ts,open,high,low,close,volume", *rows]) + "\n")
    return path
