"""Every gap has its cause: what is changed alone is found alone, and together the shares add up to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.lab_parity.mutants import a_tick_dearer, half_the_equity, mutant, never_approving, without_fees
from tests.lab_parity.sessions import BTC, live_session, write_bars

from tapeline_common.events import BarClosed, OrderFilled
from tapeline_common.values import DecimalText
from tapeline_common.wire import Fact
from tapeline_lab.parity.causes import Cause
from tapeline_lab.parity.changes import Change, configured, latest
from tapeline_lab.parity.commands import without_control
from tapeline_lab.parity.comparison import KIND_OF, Kind
from tapeline_lab.parity.diff import Diff, Switches, basis_points, diff, in_basis_points
from tapeline_lab.parity.diff_report import percent, report_of
from tapeline_lab.parity.edits import edited, edits_of
from tapeline_lab.parity.record import Record, record_of
from tapeline_lab.parity.rerun import Gear, installed_gear
from tapeline_lab.parity.revisions import FileMisfits, instruments_of, revised_bars

SEED = 10
"""A session with 32 fills, presets, a halt and a resumption."""


def changes_of(record: Record, *sets: str, ticks: int = 0, latency_ms: int | None = None) -> list[Change]:
    return edited(record, edits_of(latest(configured(record)), sets, ticks, latency_ms))


def found(changes: Sequence[Change] = (), gear: Gear | None = None, *, lock_step: bool = False) -> Diff:
    return diff(live_session(SEED), gear or installed_gear(), Switches(changes, lock_step=lock_step))


def causes_of(result: Diff) -> set[Cause]:
    return {each.cause for each in result.differences}


def adds_up(result: Diff) -> bool:
    return sum(share.gap for share in result.shares) == result.gap


def fills_of(facts: Sequence[Fact]) -> list[OrderFilled]:
    return [fact.event for fact in facts if isinstance(fact.event, OrderFilled)]


def test_unchanged_code_is_100_percent() -> None:
    """Nothing is changed: every decision is the same, the gap is zero and the tape that comes out is the recorded."""
    result = found()

    assert result.is_same
    assert (result.differences, result.gap, result.same) == ([], 0, result.decisions)
    assert result.decisions > 150
    assert result.today.facts == list(live_session(SEED).facts)


def test_one_tick_of_slippage_is_the_fills() -> None:
    """Each fill is one tick dearer, nothing else is decided otherwise, and all of the gap belongs to FILL."""
    record = live_session(SEED)

    result = found(changes_of(record, ticks=1))

    recorded, today = fills_of(record.facts), fills_of(result.today.facts)
    assert [(after.price - before.price) * before.side.sign for before, after in zip(recorded, today, strict=True)] == [
        Decimal("0.01")
    ] * len(recorded)
    assert causes_of(result) == {Cause.FILL}
    assert {share.cause for share in result.shares if share.gap} == {Cause.FILL}
    assert adds_up(result)
    origins = [each for each in result.differences if each.is_origin]
    assert {each.decision.kind for each in origins} == {Kind.FILL}
    assert len(origins) == len(recorded), "each fill by itself, and nothing that only follows from one"


def test_a_tick_in_the_code_is_the_fills_too() -> None:
    """The same tick, not configured but in the venue's code: found by asking it with the recorded past."""
    result = found(gear=mutant(installed_gear(), "venue", a_tick_dearer))

    assert causes_of(result) == {Cause.FILL}
    assert adds_up(result)
    (share,) = [share for share in result.shares if share.gap]
    assert (share.cause, share.by_facts) == (Cause.FILL, 0)
    assert share.by_code == len(
        {fact.cause for fact in live_session(SEED).facts if isinstance(fact.event, OrderFilled)}
    )


def test_a_changed_preset_is_the_preset() -> None:
    """Other parameters of one preset: everything that follows, orders and refusals included, belongs to PRESET."""
    result = found(changes_of(live_session(SEED), "preset.picks.quick.fast=4", "preset.picks.quick.slow=12"))

    assert causes_of(result) == {Cause.PRESET}
    assert {share.cause for share in result.shares if share.gap} == {Cause.PRESET}
    assert adds_up(result)
    first = result.differences[0]
    assert (first.decision.event, first.is_origin) == ("PresetRegistered", True)
    assert any(each.decision.kind is Kind.INTENT and not each.is_origin for each in result.differences)


def test_a_revised_bar_is_the_input(tmp_path: Path) -> None:
    """One close is another today: INPUT_REVISED and nothing else. The unchanged bars of the file change nothing."""
    record = live_session(SEED)
    heard = [fact.event for fact in record.facts if isinstance(fact.event, BarClosed) and fact.event.instrument == BTC]
    low = DecimalText(str(Decimal(heard[20].low) - 9))
    revised = [msgspec.structs.replace(heard[20], low=low, close=low) if bar is heard[20] else bar for bar in heard]

    same = revised_bars(record, BTC, str(write_bars(tmp_path / "same.csv", heard)))
    changes = revised_bars(record, BTC, str(write_bars(tmp_path / "revised.csv", revised)))
    result = found(changes)

    assert same == []
    assert [(change.recorded, change.today) for change in changes] == [(heard[20], revised[20])]
    assert causes_of(result) == {Cause.INPUT_REVISED}
    assert {share.cause for share in result.shares if share.gap} == {Cause.INPUT_REVISED}
    assert adds_up(result)


def test_a_bar_that_was_never_heard_is_said_before_the_next(tmp_path: Path) -> None:
    """The file has a bar that the session lacks: it comes in its place, and what follows is INPUT_REVISED."""
    whole = live_session(SEED)
    heard = [fact.event for fact in whole.facts if isinstance(fact.event, BarClosed) and fact.event.instrument == BTC]
    file = write_bars(tmp_path / "more.csv", heard)
    filling = {fact.cause for fact in whole.facts if isinstance(fact.event, OrderFilled)}
    missing = next(fact.event for fact in whole.facts if fact.pos in filling and fact.event in heard)
    without = [change.at for change in revised_bars(whole, BTC, str(file))]
    pos = next(fact.pos for fact in whole.facts if fact.event == missing)
    cut = record_of(rerun_without(whole, pos))

    (change,) = revised_bars(cut, BTC, str(file))

    assert without == []
    assert (change.recorded, change.today) == (None, missing)
    result = diff(cut, installed_gear(), Switches([change]))
    assert causes_of(result) == {Cause.INPUT_REVISED}
    assert any(fact.event == missing for fact in result.today.facts)


def rerun_without(record: Record, pos: int) -> list[Fact]:
    """A session as it would have been without one of its outside facts."""
    from tapeline_lab.parity.rerun import Rerun

    said = [saying for saying in record.outside() if saying.at[0] != pos]
    return Rerun(record, installed_gear(), said).run().facts


def test_a_file_of_other_bars_is_refused(tmp_path: Path) -> None:
    """A file that has none of the session's bars, or is of no instrument of it, is no revision."""
    record = live_session(SEED)
    heard = [fact.event for fact in record.facts if isinstance(fact.event, BarClosed) and fact.event.instrument == BTC]
    later = [msgspec.structs.replace(bar, open_ns=bar.open_ns + 10**15) for bar in heard]
    with pytest.raises(FileMisfits, match="none of those that the session heard"):
        revised_bars(record, BTC, str(write_bars(tmp_path / "later.csv", later)))
    with pytest.raises(FileMisfits, match="DOGE/USDT: the session had BTC/USDT, ETH/USDT"):
        instruments_of(record, ["x.csv"], ["DOGE/USDT"])


ALONE = {
    Cause.FEE: ("venue.taker_fee=0.001",),
    Cause.FUNDING: ("venue.borrow_rate=40",),
    Cause.FILL: ("venue.slippage_bps=3",),
    Cause.LATENCY: ("venue.latency_ms=90000",),
    Cause.RISK: ("risk.max_position=1.5",),
    Cause.SIGNAL: ("strategy.cross.slow=12",),
    Cause.PRESET: ("preset.picks.calm.slow=20", "preset.picks.quick.slow=15"),
    Cause.CONTROL: ("run.cash=50000",),
}


@cache
def alone(cause: Cause) -> Diff:
    return found(changes_of(live_session(SEED), *ALONE[cause]))


@pytest.mark.parametrize("cause", ALONE)
def test_each_configured_cause_is_found_alone(cause: Cause) -> None:
    """One kind of setting is changed: every difference and all of the gap have that cause."""
    result = alone(cause)

    assert causes_of(result) in ({cause}, set())
    assert {share.cause for share in result.shares if share.gap} <= {cause}
    assert {share.cause for share in result.shares if share.by_facts} == {cause}
    assert adds_up(result)
    assert result.differences or cause is Cause.FUNDING, "the change shows"


def test_the_operators_hand_is_control() -> None:
    """Without the operator's halt and resumption the session had traded on: CONTROL."""
    result = found(without_control(live_session(SEED)))

    assert causes_of(result) == {Cause.CONTROL}
    assert adds_up(result)


def test_slow_answers_are_latency() -> None:
    """Answered at once, as in a backtest, the session is another one: LATENCY, by the timetable."""
    result = found(lock_step=True)

    assert causes_of(result) == {Cause.LATENCY}
    assert [share.cause for share in result.shares if share.by_timetable] == [Cause.LATENCY]
    assert adds_up(result)


@pytest.mark.parametrize(
    ("author", "bend", "cause"),
    [
        ("venue", without_fees, Cause.FEE),
        ("risk", never_approving, Cause.RISK),
        ("ledger", half_the_equity, Cause.CODE),
    ],
)
def test_other_code_is_found_where_it_decides(author: str, bend: object, cause: Cause) -> None:
    """One rule of one core is another today: its cause, by code, and everything that follows."""
    result = found(gear=mutant(installed_gear(), author, bend))  # type: ignore[arg-type]

    assert causes_of(result) == {cause}
    assert [share.cause for share in result.shares if share.by_code] == [cause]
    assert adds_up(result)


def test_what_follows_from_a_difference_is_no_new_cause() -> None:
    """Dearer fills reach a limit of the account: the refusals are risk's decisions, and FILL is their cause."""
    record = live_session(SEED)
    limits = "risk.max_drawdown"
    recorded = diff(record, installed_gear(), Switches(changes_of(record, f"{limits}=200")))
    session = record_of(recorded.today.facts)

    result = diff(session, installed_gear(), Switches(changes_of(session, ticks=300)))

    assert any(each.decision.author == "risk" for each in result.differences), "the limit was reached otherwise"
    assert causes_of(result) == {Cause.FILL}
    assert all(not each.is_origin for each in result.differences if each.decision.author == "risk")


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sets(st.sampled_from(list(ALONE)), min_size=2, max_size=4))
def test_shares_add_up_to_the_whole_gap_exactly(causes: set[Cause]) -> None:
    """Whatever is changed together: only those causes are named, and their shares sum to the gap, in money to the last
    digit and in rounded basis points as well."""
    record = live_session(SEED)
    result = found(changes_of(record, *(text for cause in sorted(causes) for text in ALONE[cause])))

    assert causes_of(result) <= causes
    assert adds_up(result)
    assert sum(in_basis_points(result.shares, result.capital)) == basis_points(result.gap, result.capital)
    assert result.same + len(result.differences) == result.decisions


def test_what_nobody_decided_otherwise_is_said_to_be_unknown() -> None:
    """A record that no code explains (a fact altered by hand) is CODE, with neither code nor facts behind it."""
    facts = list(live_session(SEED).facts)
    index = next(index for index, fact in enumerate(facts) if isinstance(fact.event, OrderFilled))
    facts[index] = msgspec.structs.replace(facts[index], time_ns=facts[index].time_ns + 1)

    result = diff(record_of(facts), installed_gear(), Switches())
    report = report_of("altered", record_of(facts), result, 5)

    assert causes_of(result) == {Cause.CODE}
    assert not result.is_same
    row = report.causes["CODE"]
    assert (row.by_code, row.by_facts, row.by_timetable) == (0, 0, False)


def as_if_real(facts: Sequence[Fact], fee: Decimal) -> list[Fact]:
    """A session on a real venue: its reports came from outside, with fees of its own."""
    real = []
    for fact in facts:
        if fact.author == "venue":
            event = msgspec.structs.replace(fact.event, fee=fee) if isinstance(fact.event, OrderFilled) else fact.event
            fact = msgspec.structs.replace(fact, cause=0, correlation=fact.pos, id=f"report#{fact.pos}", event=event)
        real.append(fact)
    return real


def test_a_real_venue_is_replaced_by_simulated_fills() -> None:
    """Reports from outside: other fees are FEE; that fills come otherwise, if they do, is FILL; no other is named."""
    record = record_of(as_if_real(live_session(SEED).facts, Decimal("0.07")))

    result = diff(record, installed_gear(), Switches())

    assert record.has_real_venue
    assert causes_of(result) <= {Cause.FEE, Cause.FILL, Cause.CODE}
    gaps = {share.cause: share.gap for share in result.shares}
    charged = sum((fill.fee for fill in fills_of(live_session(SEED).facts)), Decimal(0))
    assert gaps[Cause.FEE] == Decimal("0.07") * len(fills_of(record.facts)) - charged
    assert adds_up(result)


def test_since_leaves_what_was_before_alone() -> None:
    """Only decisions from a position on are compared, and before it every answer is the recorded one."""
    record = live_session(SEED)
    middle = record.facts[200].pos

    result = diff(record, installed_gear(), Switches(changes_of(record, "risk.max_position=0"), since=middle))

    assert all(each.decision.moment >= (middle, 0) for each in result.differences)
    assert causes_of(result) == {Cause.RISK}
    before = fills_of(record.facts[:middle])
    assert fills_of(result.today.facts)[: len(before)] == before


def test_a_percentage_is_rounded_down() -> None:
    """One difference in a million never reads 100.00; nothing to compare is no difference."""
    assert percent(999_999, 1_000_000) == Decimal("99.99")
    assert percent(7, 7) == Decimal("100.00")
    assert percent(0, 0) == Decimal("100.00")


def test_every_fact_of_a_service_is_of_some_kind() -> None:
    """No decision is left out because nobody counted its type."""
    from tapeline_common.events import SAYS

    others = ("operator", "marketdata", "laboratory")
    said = {event for author, events in SAYS.items() for event in events if author not in others}
    assert said == set(KIND_OF)
