"""The platform's own cores in the simulated world: everything goes wrong, and no promise about orders breaks."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from tapeline_bandit.core import CORE as BANDIT
from tapeline_common.core import Core
from tapeline_common.events import (
    AccountFunded,
    BanditConfigured,
    BarClosed,
    Event,
    FlattenRequested,
    HaltRequested,
    InstrumentListed,
    LimitsSet,
    OrderAccepted,
    OrderApproved,
    OrderFilled,
    OrderRefused,
    OrderSubmitted,
    Parameters,
    PositionChanged,
    PresetChosen,
    PresetRequested,
    ResumeRequested,
    RunStarted,
    StrategyConfigured,
    TradeClosed,
    TradingResumed,
    VenueConfigured,
)
from tapeline_common.simulation import Outcome, Saying, World
from tapeline_common.simulation_faults import Dice, Fault
from tapeline_common.simulation_invariants import ORDERS
from tapeline_common.values import DecimalText, InstrumentId, Realm, StrategyId
from tapeline_execution.core import CORE as EXECUTION
from tapeline_execution.venue import CORE as VENUE
from tapeline_ledger.core import CORE as LEDGER
from tapeline_risk.core import CORE as RISK
from tapeline_strategy.core import CORE as STRATEGY

SEEDS = 200
CHUNK = 50
STEPS = 3000
BARS = 60
MINUTE_NS = 60_000_000_000
START_NS = 1_700_000_000_000_000_000 // MINUTE_NS * MINUTE_NS

BTC = InstrumentId("BTC-USDT_paper")
ETH = InstrumentId("ETH-USDT_paper")
CROSS = StrategyId("cross")
PRESETS = StrategyId("presets")

CORES: list[Core[Any]] = [STRATEGY, RISK, EXECUTION, VENUE, LEDGER, BANDIT]


def opening(seed: int) -> list[Saying]:
    """What a run begins with: one venue, two instruments, money, limits, and two strategies that cross averages."""
    fast: Parameters = {"fast": 3, "slow": 8}
    limits = LimitsSet(max_order_notional=Decimal(5000), max_position=Decimal(20), approval_valid_ms=300_000)
    facts: list[tuple[str, Event]] = [
        ("operator", RunStarted("simulated", f"tape{seed}", Realm.LIVE, seed, "USDT", "1")),
        ("operator", VenueConfigured("paper", Decimal("0.0002"), Decimal("0.0005"), Decimal(1), Decimal("0.5"))),
        ("operator", AccountFunded("main", "USDT", Decimal(100_000))),
        ("operator", limits),
        ("operator", BanditConfigured(1.0, 0.5, 0.99, 0.05)),
    ]
    facts += [
        ("marketdata", InstrumentListed(BTC, "BTC/USDT", "paper", "BTC", "USDT", Decimal("0.01"), Decimal("0.001"))),
        ("marketdata", InstrumentListed(ETH, "ETH/USDT", "paper", "ETH", "USDT")),
        ("operator", StrategyConfigured(CROSS, "ema_cross", (BTC, ETH), "1m", Decimal(2), fast)),
        ("operator", StrategyConfigured(PRESETS, "ema_cross", (BTC,), "1m", Decimal(1), fast, (), True)),
        ("operator", PresetRequested(PRESETS, "quick", {"fast": 2, "slow": 5})),
        ("operator", PresetRequested(PRESETS, "calm", {"fast": 4, "slow": 9})),
    ]
    return [Saying(author, event, f"opening#{index}", START_NS) for index, (author, event) in enumerate(facts)]


def bars(seed: int) -> list[Saying]:
    """Random walks of one-minute bars, one bar of each instrument a minute."""
    dice = Dice(seed, "bars")
    closes = {BTC: 10_000, ETH: 2_000}
    sayings = []
    for index in range(BARS):
        for instrument, before in closes.items():
            close = max(100, before + dice.below(before // 25) - before // 50)
            closes[instrument] = close
            low, high = sorted((before, close))
            first, highest, lowest, last = (DecimalText(f"{cents / 100:.2f}") for cents in (before, high, low, close))
            open_ns = START_NS + index * MINUTE_NS
            volume = DecimalText(str(1 + dice.below(10)))
            bar = BarClosed(instrument, "1m", open_ns, open_ns + MINUTE_NS, first, highest, lowest, last, volume)
            sayings.append(Saying("marketdata", bar, f"{instrument}:{open_ns}", open_ns + MINUTE_NS))
    return sayings


def requests(seed: int) -> list[Saying]:
    """An operator who halts, flattens and resumes; more often the last, so that orders flow."""
    dice = Dice(seed, "operator")
    sayings = []
    for index in range(12):
        draw = dice.below(6)
        event: Event
        if draw == 0:
            event = HaltRequested("operator", "nervous")
        elif draw == 1:
            event = FlattenRequested("operator", "very nervous")
        else:
            event = ResumeRequested("operator", "calm again", index + 1, "signed")
        sayings.append(Saying("operator", event, f"request#{index}", START_NS + dice.below(BARS) * MINUTE_NS))
    return sorted(sayings, key=lambda saying: saying.time_ns)


def mixed(seed: int) -> list[Saying]:
    """The opening, then bars and requests in the order of their times: one feed, so that minutes pass evenly."""
    return opening(seed) + sorted([*bars(seed), *requests(seed)], key=lambda saying: saying.time_ns)


def run_platform(seed: int) -> Outcome:
    return World(seed, CORES, [mixed(seed)], invariants=ORDERS).run(STEPS)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_violation(first: int) -> None:
    """Orders are proposed, judged, sent, filled and booked through every fault, and no promise is broken."""
    struck = dict.fromkeys(Fault, 0)
    said: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        outcome = run_platform(seed)
        for fault, count in outcome.faults.items():
            struck[fault] += count
        said.update(type(fact.event).__name__ for fact in outcome.facts)
    print(f"seeds {first} to {first + CHUNK - 1}: {dict(said)}; {', '.join(f'{f} {n}' for f, n in struck.items())}")
    silent = {Fault.WORKER_KILLED}  # no core here has a worker
    assert [fault for fault, count in struck.items() if count == 0 and fault not in silent] == []
    flowing = (
        OrderApproved,
        OrderRefused,
        OrderSubmitted,
        OrderAccepted,
        OrderFilled,
        PositionChanged,
        TradeClosed,
        TradingResumed,
        PresetChosen,
    )
    assert [event.__name__ for event in flowing if said[event.__name__] == 0] == []


def test_same_seed_same_tape() -> None:
    """Twice the same seed gives the same bytes, with every core of the platform in it."""
    assert run_platform(42) == run_platform(42)
