"""Runs whose every decision, fill and fee is written down: behaviour changes on purpose or not at all.

``python -m tests.scenarios.golden`` (``make golden``) says what moved and writes the file anew. Its difference belongs
into the review of whatever moved it. The bars are the synthetic market's, which are the same on every machine; regimes
and presets are left out, whose numbers depend on a linear algebra library.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from tests.gears import file_of, settings_of

from tapeline_backtest.feed import Source, script
from tapeline_backtest.runner import run_loop
from tapeline_common.events import OrderFilled, OrderProposed
from tapeline_common.opening import instrument_id, opening_facts
from tapeline_common.sequencer import Recorded
from tapeline_common.settings import RiskTable, Settings, VenueTable
from tapeline_common.values import InstrumentId, Realm
from tapeline_common.wiring import checked
from tapeline_lab.bias.tapes import Kept
from tapeline_ledger import core as ledger
from tapeline_marketdata.files import BarFile
from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec, bars_from

FILE = Path(__file__).with_name("golden.json")
BARS = 600
SEED = 20_261_121
MINUTE_NS = 60 * 10**9

FREE = VenueTable(Decimal(0), Decimal(0), Decimal(0), None)
COSTLY = VenueTable(
    maker_fee=Decimal("-0.0001"),
    taker_fee=Decimal("0.0005"),
    slippage_bps=Decimal(1),
    participation=Decimal("0.1"),
    half_spread_bps=Decimal("0.5"),
    volume_impact=Decimal("0.1"),
    borrow_rate=Decimal("0.05"),
    latency_ms=250,
)
TIGHT = RiskTable(
    max_position=Decimal(4), max_daily_loss=Decimal(450), max_drawdown=Decimal(600), cool_down_ms=1_200_000
)

RUNS: dict[str, tuple[str, dict[str, Any], VenueTable, RiskTable | None]] = {
    "buy_and_hold, free": ("buy_and_hold", {}, FREE, None),
    "ema_cross, free": ("ema_cross", {"fast": 10, "slow": 30}, FREE, None),
    "ema_cross, costs": ("ema_cross", {"fast": 10, "slow": 30}, COSTLY, None),
    "ema_cross, limits": ("ema_cross", {"fast": 5, "slow": 20}, COSTLY, TIGHT),
    "momentum_breakout, costs": ("momentum_breakout", {}, COSTLY, None),
    "trend_follow, costs": ("trend_follow", {}, COSTLY, None),
    "donchian, free": ("donchian", {}, FREE, None),
    "bollinger_reversion, costs": ("bollinger_reversion", {}, COSTLY, None),
    "rsi_reversion, costs": ("rsi_reversion", {}, COSTLY, None),
    "macd, limits": ("macd", {}, COSTLY, TIGHT),
    "kumo_breaker, free": ("kumo_breaker", {}, FREE, None),
    "dca, costs": ("dca", {}, COSTLY, None),
}


class Golden(msgspec.Struct, frozen=True):
    """What is written down of a run.

    Attributes:
        decisions: bar, side, quantity and type of each proposed order.
        fills: bar, side, quantity and price of each fill; ``fees`` are theirs.
    """

    decisions: list[str]
    fills: list[str]
    fees: list[str]
    final_cash: str
    final_equity: str
    facts: int
    tape_hash: str


def bars() -> BarFile:
    """A market that does a bit of everything within its bars: volatile, so that limits are reached."""
    spec = SyntheticSpec(
        instrument=InstrumentId("GOLD"), start_price=Decimal(2_000), annual_volatility=6.0, usual_volume=40.0
    )
    market = SyntheticMarket(SEED, [spec])
    made = list(bars_from(market, market.start(), BARS))
    rows = [
        (index, *(float(text) for text in (bar.open, bar.high, bar.low, bar.close, bar.volume)))
        for index, bar in enumerate(made)
    ]
    return file_of(rows, made[0].open_ns)


def run(name: str, file: BarFile) -> Golden:
    kind, parameters, venue, risk = RUNS[name]
    settings: Settings = checked(settings_of(kind, parameters, size=Decimal(3), venue=venue, risk=risk))
    kept = Kept()
    source = Source(instrument_id(settings.instrument[0]), "golden", file, "golden")
    opening = opening_facts(settings, realm=Realm.REPLAY, code_version="golden")
    finished = run_loop(script(opening, [source]), recorder=kept)
    first_ns = int(file.columns.open_ns[0])
    assert finished.facts is not None
    assert finished.tape_hash is not None
    return Golden(
        decisions=[_decision(each, first_ns) for each in kept.facts if isinstance(each.fact.event, OrderProposed)],
        fills=[_fill(each, first_ns) for each in kept.facts if isinstance(each.fact.event, OrderFilled)],
        fees=[str(each.fact.event.fee) for each in kept.facts if isinstance(each.fact.event, OrderFilled)],
        final_cash=str(ledger.cash(finished.states["ledger"])),
        final_equity=str(ledger.equity(finished.states["ledger"])),
        facts=finished.facts,
        tape_hash=finished.tape_hash,
    )


def _bar(recorded: Recorded, first_ns: int) -> int:
    """Number of the bar that closed then, from 0."""
    return (recorded.fact.time_ns - first_ns) // MINUTE_NS - 1


def _decision(recorded: Recorded, first_ns: int) -> str:
    event = recorded.fact.event
    assert isinstance(event, OrderProposed)
    terms = event.terms
    return f"{_bar(recorded, first_ns)} {terms.side} {terms.quantity} {terms.order_type}"


def _fill(recorded: Recorded, first_ns: int) -> str:
    event = recorded.fact.event
    assert isinstance(event, OrderFilled)
    return f"{_bar(recorded, first_ns)} {event.side} {event.quantity} at {event.price}"


def moved(before: Golden, after: Golden) -> str | None:
    """The first thing that is another, in the order in which one follows from the other; ``None`` if nothing is."""
    for what, old, new in (
        ("decision", before.decisions, after.decisions),
        ("fill", before.fills, after.fills),
        ("fee of fill", before.fees, after.fees),
    ):
        for number in range(max(len(old), len(new))):
            was, now = (each[number] if number < len(each) else "not there" for each in (old, new))
            if was != now:
                return f"{what} {number + 1} of {len(old)}: was {was}, is {now} ({len(new)} in all now)"
    for what in ("final_cash", "final_equity"):
        was, now = getattr(before, what), getattr(after, what)
        if was != now:
            return f"{what}: was {was}, is {now}, with the same fills and fees"
    if before != after:
        return (
            f"hash only: {before.facts} facts before, {after.facts} now; decisions, fills and money are the same, and"
            " something else on the tape is said in other bytes"
        )
    return None


def stored() -> dict[str, Golden]:
    return msgspec.json.decode(FILE.read_bytes(), type=dict[str, Golden])


def renew() -> list[str]:
    """Write the file anew; what moved, in words."""
    before = stored() if FILE.exists() else {}
    file = bars()
    after = {name: run(name, file) for name in RUNS}
    FILE.write_bytes(msgspec.json.format(msgspec.json.encode(after), indent=1) + b"\n")
    changes = [f"{name}: gone" for name in before if name not in after]
    for name, golden in after.items():
        words = moved(before[name], golden) if name in before else "new"
        if words is not None:
            changes.append(f"{name}: {words}")
    return changes


if __name__ == "__main__":
    for line in renew() or ["nothing moved"]:
        print(line)
