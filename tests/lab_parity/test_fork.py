"""A fork is the record up to its position, and from there on only the change makes a difference."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from tests.lab_parity.mutants import a_tick_dearer, mutant
from tests.lab_parity.sessions import live_session

from tapeline_common.events import LimitsSet, OrderRefused, OrderSubmitted
from tapeline_common.tape_file_verify import verify_file
from tapeline_common.wire import encode
from tapeline_lab.parity.causes import Cause
from tapeline_lab.parity.changes import Change, configured, latest
from tapeline_lab.parity.commands import _keep
from tapeline_lab.parity.edits import EditInvalid, added_at, edits_of
from tapeline_lab.parity.forking import Fork, fork
from tapeline_lab.parity.record import Record, record_of
from tapeline_lab.parity.rerun import installed_gear

SEED = 10
AT = 250


def changed_at(record: Record, at: int, *sets: str) -> list[Change]:
    return added_at(record, edits_of(latest(configured(record, at)), sets), at)


def forked(*sets: str, at: int = AT, until: int | None = None) -> Fork:
    record = live_session(SEED)
    return fork(record, installed_gear(), at, changed_at(record, at, *sets), until or record.head)


@pytest.mark.parametrize("at", range(12, 440, 61))
def test_the_past_is_the_record_to_the_last_byte(at: int) -> None:
    """Wherever it forks, also between an order and its answers: the same facts up to there, then the changed one."""
    record = live_session(SEED)

    found = forked("risk.max_position=0.5", at=at)

    assert [encode(fact) for fact in found.tape.facts[:at]] == [encode(fact) for fact in record.facts[:at]]
    said = found.tape.facts[at].event
    assert isinstance(said, LimitsSet)
    assert said.max_position == Decimal("0.5")
    assert found.is_as_recorded


def test_an_answer_is_never_divided() -> None:
    """A position within an answer stands for the answer's end, wherever that is."""
    record = live_session(SEED)
    answers = [facts for facts in record.answers.values() if len(facts) > 1]

    assert answers
    for facts in answers:
        assert {record.end_of_answer(fact.pos) for fact in facts} == {facts[-1].pos}
    bar = next(fact for fact in record.facts if not fact.cause)
    assert record.end_of_answer(bar.pos) == bar.pos


def test_a_tighter_limit_refuses_what_was_approved() -> None:
    """The first difference is risk's, orders on their way go on, and both sides start from the same equity."""
    found = forked("risk.max_position=0")

    assert found.first is not None
    unchanged, other = found.first
    assert unchanged is None or unchanged.event == "OrderApproved"
    assert other is None or other.event == "OrderRefused"
    assert found.forked.orders < found.unchanged.orders
    assert sum(found.forked.refused.values()) > 0 == sum(found.unchanged.refused.values())
    after = [fact.event for fact in found.tape.facts[AT:]]
    assert sum(isinstance(event, OrderRefused) for event in after) == sum(found.forked.refused.values())
    assert sum(isinstance(event, OrderSubmitted) for event in after) == found.forked.orders
    for side in (found.unchanged, found.forked):
        assert side.equity - side.profit == found.equity_at


def test_a_change_that_limits_nothing_changes_nothing() -> None:
    """A limit far away: another fact on the tape, and every decision the same."""
    found = forked("risk.max_position=1000")

    assert (found.first, found.differing) == (None, 0)
    assert found.forked == found.unchanged


def test_until_ends_both_sides() -> None:
    """Nothing after the position is looked at, on either side. An answer has the stamp of its cause, so the last fact
    need not have the latest one."""
    found = forked("risk.max_position=0", until=300)

    recorded = [fact.time_ns for fact in live_session(SEED).facts]
    assert (found.at, found.until) == (AT, 300)
    assert max(fact.time_ns for fact in found.tape.facts) <= max(recorded[:300]) < max(recorded)
    assert found.is_as_recorded


def test_other_code_is_said() -> None:
    """Where today's code does not make the record, both sides are still alike but for the change, and it is said."""
    record = live_session(SEED)
    gear = mutant(installed_gear(), "venue", a_tick_dearer)

    found = fork(record, gear, AT, changed_at(record, AT, "risk.max_position=1000"), record.head)

    assert not found.is_as_recorded
    assert found.differing == 0


def test_a_fork_is_a_tape(tmp_path: Path) -> None:
    """It can be kept and verified, and forked again."""
    found = forked("strategy.cross.slow=12")
    _keep(found.tape, tmp_path / "fork.tape", force=False)

    verified = verify_file(tmp_path / "fork.tape")

    assert verified.fault is None
    assert (verified.facts, verified.head_hash.hex()) == (len(found.tape.facts), found.tape.tape_hash)
    again = record_of(found.tape.facts)
    assert fork(
        again, installed_gear(), 300, changed_at(again, 300, "risk.max_position=1000"), again.head
    ).is_as_recorded


def test_settings_that_were_stated_again_are_changed_everywhere() -> None:
    """A session whose limits were set anew in the middle: an edit holds for both, from the first fact on; and a fork
    changes what is stated after it as well."""
    from tapeline_lab.parity.changes import script
    from tapeline_lab.parity.edits import edited

    again = record_of(forked("risk.max_position=10").tape.facts)
    edits = edits_of(latest(configured(again)), ["risk.max_order_notional=7"])

    stated = [said for said in script(again, edited(again, edits), {Cause.RISK}) if isinstance(said.event, LimitsSet)]
    later = [
        said for said in script(again, added_at(again, edits, 100), {Cause.RISK}) if isinstance(said.event, LimitsSet)
    ]

    assert [(said.id, said.event.max_position, said.event.max_order_notional) for said in stated] == [
        ("limits#1", Decimal(20), Decimal(7)),
        ("limits#2", Decimal(10), Decimal(7)),
    ]
    assert [(said.id, said.event.max_position, said.event.max_order_notional) for said in later] == [
        ("limits#1", Decimal(20), Decimal(5000)),
        ("limits#3", Decimal(20), Decimal(7)),
        ("limits#2", Decimal(10), Decimal(7)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("risk.max_positon=1", "no key 'max_positon'"),
        ("risk.max_position", "write KEY=VALUE"),
        ("risk.max_position=many", "many"),
        ("risk.DOGE/USDT.max_position=1", "no instrument 'DOGE/USDT'; the session has BTC/USDT, ETH/USDT"),
        ("broker.name=x", "keys begin with risk, venue"),
        ("strategy.slow=9", "write strategy.NAME.KEY=VALUE; the session has cross, picks"),
        ("strategy.cross.slow=-1", "slow"),
        ("preset.picks.wild.fast=1", "picks.quick"),
        ("venue.spread=1", "no key venue.spread"),
        ("regime.train_bars=400", "learnt no regimes"),
        ("run.seed=4", "only cash can be changed"),
    ],
)
def test_a_setting_that_is_none_is_named(text: str, message: str) -> None:
    """One message with the option, what is wrong and what there is."""
    with pytest.raises(EditInvalid) as refused:
        edits_of(latest(configured(live_session(SEED))), [text])

    assert message in str(refused.value)
    assert text in str(refused.value)


def test_a_limit_of_one_instrument_leaves_the_other_alone() -> None:
    """risk.BTC/USDT.max_position limits BTC."""
    found = forked("risk.BTC/USDT.max_position=0")

    refused = {fact.event.instrument for fact in found.tape.facts[AT:] if isinstance(fact.event, OrderRefused)}
    assert refused == {"BTC-USDT_paper"}
