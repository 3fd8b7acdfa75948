"""Step by step: what is shown are the states that the services had, whole and in order."""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Any

import click
import msgspec
import numpy as np
import pytest
from tests.lab_parity.sessions import live_session

from tapeline_common.events import OrderTerms
from tapeline_common.follower import Follower, answers_of
from tapeline_common.values import InstrumentId, Side, StrategyId
from tapeline_lab.parity import stepping
from tapeline_lab.parity.rerun import installed_gear
from tapeline_lab.parity.stepping import Step, differences, plain, walk

SEED = 10
NAMES = [core.name for core in installed_gear().cores]


def steps_of(start: int = 1, cores: list[str] | None = None) -> list[Step]:
    shown: list[Step] = []
    walk(live_session(SEED), installed_gear(), shown.append, start, cores or NAMES)
    return shown


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """A nested state by paths to its leaves."""
    if isinstance(value, dict) and value:
        return {key: leaf for name, each in value.items() for key, leaf in flat(each, f"{path}.{name}").items()}
    return {path: value}


def test_every_fact_is_shown_once_and_in_order() -> None:
    """From the first to the last, or from where it begins."""
    assert [step.fact for step in steps_of()] == list(live_session(SEED).facts)
    assert [step.fact.pos for step in steps_of(400)] == list(range(400, live_session(SEED).head + 1))


def test_states_are_those_that_the_services_had() -> None:
    """At the end each core is where a restore from the whole tape leaves it: answers are learnt, not decided anew."""
    record = live_session(SEED)
    seen: dict[str, Any] = {}
    gear = installed_gear()

    for core in gear.cores:
        follower = Follower(core)
        answers = answers_of(core.name, record.facts)
        for fact in record.facts:
            follower.recall(fact, answers.get(fact.pos, ()))
        seen[core.name] = plain(follower.state)

    from tapeline_lab.parity.rerun import Rerun

    said = record.outside()
    rerun = Rerun(record, gear, said, replies=lambda author, key: record.answers.get((author, key), ()))
    rerun.run()
    assert {name: plain(seat.state) for name, seat in rerun.seats.items()} == seen


def test_before_and_after_join() -> None:
    """What a step shows as before is what was left after the steps before it."""
    known: dict[tuple[str, str], Any] = {}
    for step in steps_of():
        for core, changes in step.changes.items():
            for path, (before, after) in changes.items():
                if "[" in path:
                    continue  # places in a list move with it
                if (core, path) in known and not isinstance(before, dict | list):
                    assert known[core, path] == before
                for deeper in [each for each in known if each[0] == core and each[1].startswith(f"{path}.")]:
                    del known[deeper]
                known[core, path] = after


def test_only_the_cores_asked_for() -> None:
    """--core risk: nothing of others; a core that learnt nothing shows nothing."""
    assert {core for step in steps_of(cores=["risk"]) for core in step.changes} == {"risk"}


def test_a_fact_that_nobody_hears_changes_nothing() -> None:
    """A halt moves trading everywhere; a TradeDeclined only its strategy."""
    steps = steps_of()
    declined = [step for step in steps if type(step.fact.event).__name__ == "TradeDeclined"]
    halted = next(step for step in steps if type(step.fact.event).__name__ == "HaltRequested")

    assert all(not step.changes for step in declined), "learnt right after its cause, and heard by nobody else"
    assert halted.changes["risk"]["trading"] == ("RUNNING", "HALTED")
    assert {"strategy", "risk", "execution", "venue"} <= halted.changes.keys()


def test_plain_reads_all_that_states_are_made_of() -> None:
    """Structs, decimals, enums, arrays, deques and keys of several parts; nothing of it stays an object."""
    terms = OrderTerms(StrategyId("s"), InstrumentId("i"), Side.BUY, Decimal("1.5"))
    found = plain({("a", 1): deque([terms], 5), "array": np.array([[1.5]]), "set": {"b", "a"}, "none": None})

    assert msgspec.json.decode(msgspec.json.encode(found)) == found
    assert found["a 1"][0]["side"] == "BUY"
    assert (found["array"], found["set"]) == ([[1.5]], ["a", "b"])


def test_a_window_that_slid_is_told_by_its_ends() -> None:
    """One left, one came; grown lists show what is new; others are compared place by place."""
    assert dict(differences([1, 2, 3], [2, 3, 4])) == {"[0]": (1, None), "[2]": (None, 4)}
    assert dict(differences({"a": [1]}, {"a": [1, 2]})) == {"a[1]": (None, 2)}
    assert dict(differences([1, {"x": 1}], [1, {"x": 2}])) == {"[1].x": (1, 2)}
    assert dict(differences({"a": 1}, {"b": 1})) == {"a": (1, None), "b": (None, 1)}
    assert dict(differences([1, 2], [1, 2])) == {}


def test_a_person_steps_jumps_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter goes one on, n 3 three, p 30 to a position (back as well), anything else shows what there is, q ends."""
    words = iter(["", "n 3", "p 30", "what", "p 5", "q"])
    printed: list[int] = []
    said: list[str] = []
    monkeypatch.setattr(click, "prompt", lambda *_args, **_named: next(words))
    monkeypatch.setattr(click, "echo", lambda text="", **_named: said.append(str(text)))
    monkeypatch.setattr(stepping, "print_step", lambda step: printed.append(step.fact.pos))
    shown = stepping._Shown(live_session(SEED).head, None, to_json=False, is_asking=True)

    start = 10
    while True:
        try:
            walk(live_session(SEED), installed_gear(), shown.show, start, ["risk"])
        except stepping._GoTo as jump:
            start = jump.pos
            continue
        except stepping._Ended:
            break

    assert printed == [10, 11, 12, 13, 14, 30, 5]
    assert said.count(stepping.HELP) == 2
