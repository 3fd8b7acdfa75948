"""What the ledger refuses before it judges: values that a store or a core could not hold."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tapeline_common.events import (
    BalanceReported,
    BarClosed,
    Event,
    HaltRequested,
    InstrumentLimits,
    LimitsSet,
    ModelRegistered,
    RegimeUpdated,
)
from tapeline_common.values import InstrumentId, ModelId, Regime
from tapeline_common.wire import Answer, Draft
from tapeline_ledger.hardening import MAX_FACTS, fault_of

BTC = InstrumentId("BTC-USDT")
BAR = BarClosed(BTC, "1m", 0, 60, "100", "101.5", "99.25", "-1e-05", "0")


def one(event: Event, identity: str = "a") -> Answer:
    return Answer(0, (Draft(event, identity),))


@pytest.mark.parametrize(
    "event",
    [
        BAR,
        HaltRequested("alice", "üñí 漢字\nsecond line"),
        LimitsSet(max_position=Decimal("1E+39"), instruments={BTC: InstrumentLimits(Decimal("1E-40"))}),
        RegimeUpdated(BTC, 0, Regime.UNKNOWN, (), None, None),
        ModelRegistered(ModelId("m"), BTC, {"means": [[1.5, -2e300]]}, 1, 0, 0, -1.0, 3),
    ],
)
def test_honest_facts_pass(event: Event) -> None:
    """Ordinary values, in every place a value can be, are not complained about."""
    assert fault_of(one(event)) is None


@pytest.mark.parametrize(
    ("event", "words"),
    [
        *[
            (msgspec.structs.replace(BAR, close=text), f"BarClosed.close: {text[:60]!r} is no decimal number")
            for text in ("NaN", "Infinity", "", "1,5", " 1", "1 2", "1" * 41, "1e999", "٣", "1\n")
        ],
        (msgspec.structs.replace(BAR, open_ns=2**63), "BarClosed.open_ns: 9223372036854775808 does not fit 64 bits"),
        (LimitsSet(max_position=Decimal("1E+40")), "LimitsSet.max_position: 1E+40 has more than 40 digits"),
        (LimitsSet(instruments={BTC: InstrumentLimits(Decimal("sNaN"))}), "LimitsSet.instruments: sNaN is not finite"),
        (BalanceReported("x", {"U\0": Decimal(1)}), "BalanceReported.balances: a text with a zero byte"),
        (HaltRequested("alice", "x" * 4_001), "HaltRequested.reason: a text of 4001 characters; at most 4000"),
    ],
)
def test_what_no_store_can_hold_is_named(event: Event, words: str) -> None:
    """The complaint names the event, the field and the value."""
    assert fault_of(one(event)) == words


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(-1, ()), "cause -1"),
        (Answer(2**63, ()), "is no position"),
        (Answer(0, (), time_ns=-1), "time_ns -1"),
        (one(HaltRequested("a", "b"), "x" * 201), "at most 200"),
        (one(HaltRequested("a", "b"), "tab\tid"), "printable"),
        (Answer(1, (Draft(HaltRequested("a", "b")),) * (MAX_FACTS + 1)), "10001 facts"),
    ],
)
def test_an_answer_out_of_bounds_is_refused(answer: Any, words: str) -> None:
    """Positions, stamps, ids and the number of facts have bounds."""
    assert words in (fault_of(answer) or "")
