"""Names on the bus: what can be a token, and that a subject tells its event without being decoded."""

import pytest

from tapeline_common import subjects
from tapeline_common.events import EVENT_BY_NAME


@pytest.mark.parametrize("text", ["BTC-USDT_paper", "a", "x" * 100])
def test_token(text: str) -> None:
    """Letters, digits, dash and underscore, at most a hundred."""
    assert subjects.is_token(text)


@pytest.mark.parametrize("text", ["", "BTC/USDT", "a.b", "*", ">", "a b", "x" * 101, "é", "a\n"])
def test_no_token(text: str) -> None:
    """Whatever NATS would read as structure, wildcard or white space is no token."""
    assert not subjects.is_token(text)


def test_event_of_every_tape_subject() -> None:
    """The event's name is read back off the subject, for every event there is."""
    names = [subjects.event_of(subjects.tape("risk", name, "stream-1")) for name in EVENT_BY_NAME]
    assert names == list(EVENT_BY_NAME)


def test_subjects_are_as_documented() -> None:
    """Subjects are an interface: other clients publish and subscribe by these texts."""
    assert subjects.tape("risk", "OrderApproved", "o-1") == "tape.risk.OrderApproved.o-1"
    assert subjects.append("risk") == "ledger.append.risk"
    assert subjects.progress("risk") == "progress.risk"
    assert subjects.control("halt") == "control.halt"
