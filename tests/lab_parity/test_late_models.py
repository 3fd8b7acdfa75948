"""Models that come late: a busy session asks for a fit some bars after it was due, waits long, and may end before it.

In the session's own time that is as recorded; in lock step the fits are those of a backtest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache

import pytest

from tapeline_common.events import (
    ModelRegistered,
    OrderFilled,
    TrainingRequested,
)
from tapeline_common.loop import Loop
from tapeline_common.opening import opening_facts
from tapeline_common.sequencer import Recorded
from tapeline_common.settings import parse
from tapeline_common.values import InstrumentId, Realm
from tapeline_common.wire import Fact, encode
from tapeline_lab.parity.causes import Cause
from tapeline_lab.parity.diff import Switches, diff
from tapeline_lab.parity.record import Question, Record, record_of
from tapeline_lab.parity.rerun import Rerun, installed_gear
from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec, bars_from

CONFIG = """
[run]
name = "late"
seed = 5
[[instrument]]
name = "BTC/USDT"
tick_size = "0.01"
[[instrument]]
name = "ETH/USDT"
tick_size = "0.01"
[regime]
train_bars = 250
refit_bars = 60
[[strategy]]
name = "cross"
kind = "ema_cross"
instruments = ["BTC/USDT", "ETH/USDT"]
size = "0.1"
parameters = { fast = 3, slow = 8 }
regimes = ["BULL", "CHOP"]
"""
BARS = 800
BTC, ETH = InstrumentId("BTC-USDT_sim"), InstrumentId("ETH-USDT_sim")
ASKED_LATER = 9
FITTED_LATER = {BTC: 120, ETH: 60}
"""By how many facts the regime service lags, and how many a fit takes: of two at once, that asked for later ends first.
A bar of each instrument is at least two facts."""


@cache
def in_lock_step() -> Sequence[Fact]:
    """The loop gear's tape, whose realm says that it was live: what every session here is compared with."""
    gear, kept = installed_gear(), list[Recorded]()
    loop = Loop(gear.cores, gear.workers, kept.append)
    starts = {BTC: Decimal(60000), ETH: Decimal(3000)}
    market = SyntheticMarket(5, [SyntheticSpec(instrument=one, start_price=price) for one, price in starts.items()])
    bars = list(bars_from(market, market.start(), BARS))
    for each in opening_facts(parse(CONFIG), realm=Realm.LIVE, code_version="test"):
        loop.say(each.author, each.event, f"{each.slot}#1", bars[0].open_ns)
    for bar in bars:
        loop.say("marketdata", bar, f"bar:{bar.instrument}:1m:{bar.open_ns}", bar.close_ns)
    return tuple(recorded.fact for recorded in kept)


def of_kind(facts: Sequence[Fact], *kinds: type) -> list[Fact]:
    return [fact for fact in facts if isinstance(fact.event, kinds)]


def lateness(record: Record, question: Question) -> int:
    author, key = question
    if author != "trainer":
        return ASKED_LATER if author == "regime" else 0
    asked = record.facts[record.positions[key] - 1].event
    assert isinstance(asked, TrainingRequested)
    return FITTED_LATER[asked.instrument]


@cache
def late_session(cut_before_model: int | None = None) -> Record:
    """The same outside facts in a session that was slow.

    Args:
        cut_before_model: the session ends before this registration, counted from 0; others may be there already.
    """
    prompt = record_of(in_lock_step())
    timetable = {question: pos + lateness(prompt, question) for question, pos in prompt.timetable.items()}
    facts = Rerun(replace(prompt, timetable=timetable), installed_gear(), prompt.outside()).run().facts
    if cut_before_model is not None:
        facts = facts[: of_kind(facts, ModelRegistered)[cut_before_model].pos - 1]
    return record_of(facts)


def instruments_of(facts: Sequence[Fact], kind: type[TrainingRequested | ModelRegistered]) -> list[str]:
    return [fact.event.instrument for fact in facts if isinstance(fact.event, kind)]


def windows_of(facts: Sequence[Fact]) -> list[tuple[str, int]]:
    """Of each model: its instrument, and when the last bar that it was fitted to opened."""
    models = [fact.event for fact in facts if isinstance(fact.event, ModelRegistered)]
    return sorted((model.instrument, model.last_open_ns) for model in models)


def payloads(facts: Sequence[Fact]) -> list[bytes]:
    return [encode(fact) for fact in facts]


@pytest.mark.parametrize("refit", [False, True])
def test_in_its_own_time_a_late_session_is_as_recorded(refit: bool) -> None:
    """The models come from later windows than in a backtest; fitted again, from the same later windows."""
    late = late_session()
    windows = zip(windows_of(late.facts), windows_of(in_lock_step()), strict=True)
    assert all(one == other and later > sooner for (one, later), (other, sooner) in windows)

    found = diff(late, installed_gear(), Switches(refit=refit))

    assert found.is_same
    assert payloads(found.today.facts) == payloads(late.facts)


@pytest.mark.parametrize("cut_before_model", [None, 0, 1, 3])
def test_in_lock_step_its_models_are_those_of_a_backtest(cut_before_model: int | None) -> None:
    """Asked at once, and answered although the session ended before: the loop gear's tape, to the last byte.

    All that is otherwise is put down to latency.
    """
    late = late_session(cut_before_model)

    found = diff(late, installed_gear(), Switches(lock_step=True))

    heard = of_kind(late.facts, *(type(saying.event) for saying in late.outside()))[-1]
    prompt = in_lock_step()
    until = next(fact.pos for fact in prompt if (fact.author, fact.id) == (heard.author, heard.id))
    today = payloads(found.today.facts)
    assert today[:until] == payloads(prompt[:until])
    assert len(of_kind(found.today.facts, OrderFilled)) > len(of_kind(late.facts, OrderFilled))
    assert {share.cause for share in found.shares if share.gap or share.changed} == {Cause.LATENCY}


@pytest.mark.parametrize("cut_before_model", [0, 1])
def test_a_fit_under_way_at_the_end_is_not_judged(cut_before_model: int) -> None:
    """Of two fits side by side the one asked for later may be done sooner: the other is under way all the same."""
    late = late_session(cut_before_model)
    assert instruments_of(late.facts, TrainingRequested) == [BTC, ETH]
    assert instruments_of(late.facts, ModelRegistered) == [ETH][:cut_before_model]

    found = diff(late, installed_gear(), Switches(refit=True))

    assert found.is_same
    assert found.under_way >= 2 - cut_before_model
    assert payloads(found.today.facts) == payloads(late.facts)
