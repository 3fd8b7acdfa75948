"""Halting needs no ceremony; loosening needs the operator's signature, fresh, unused, over exactly this request."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_common.chance import draw
from tapeline_common.control_request import (
    LOOSENING,
    VALID_FUTURE_NS,
    VALID_PAST_NS,
    Action,
    ControlRequest,
    Refused,
    event_of,
    judge,
    sign,
)
from tapeline_common.events import HaltRequested, ResumeRequested
from tapeline_common.servers_nats import new_nkey
from tapeline_common.values import ControlRefusal
from tapeline_common.wire import encode

SEED, PUBLIC = new_nkey()
NOW_NS = 1_800_000_000_000_000_000
WANTED = ControlRequest(reason="drill over", strategy="cross", model="m", instrument="BTC")


def reason_of(action: str, body: bytes, *, last_sequence: int = 0, now_ns: int = NOW_NS) -> ControlRefusal | None:
    judged = judge(action, body, public_key=PUBLIC, last_sequence=last_sequence, now_ns=now_ns)
    return judged.reason if isinstance(judged, Refused) else None


@pytest.mark.parametrize("action", sorted(LOOSENING))
def test_a_signed_request_is_taken_once(action: Action) -> None:
    """The operator's signature is accepted; the same request again is not."""
    signed = sign(action, WANTED, SEED, now_ns=NOW_NS)

    assert reason_of(action, encode(signed)) is None
    assert reason_of(action, encode(signed), last_sequence=signed.sequence) is ControlRefusal.SEQUENCE_USED


def test_a_halt_needs_no_signature() -> None:
    """Any JSON body will do, an empty one too, and the fact says who and why."""
    judged = judge("halt", b'{"reason": "smoke"}', public_key=PUBLIC, last_sequence=0, now_ns=NOW_NS)

    assert not isinstance(judged, Refused)
    assert event_of(*judged) == HaltRequested("operator", "smoke")
    assert reason_of("halt", b"") is None


def test_a_resume_without_a_signature_is_refused() -> None:
    """Not even a well-formed one changes anything."""
    assert reason_of("resume", b'{"reason": "please"}') is ControlRefusal.SIGNATURE_MISSING


def test_another_key_is_refused() -> None:
    """A signature proves nothing unless it is the operator's."""
    stranger = sign(Action.RESUME, WANTED, new_nkey()[0], now_ns=NOW_NS)

    assert reason_of("resume", encode(stranger)) is ControlRefusal.SIGNATURE_INVALID


def test_a_signature_is_for_one_action() -> None:
    """What allows to resume does not allow to promote."""
    signed = sign(Action.RESUME, WANTED, SEED, now_ns=NOW_NS)

    assert reason_of("promote", encode(signed)) is ControlRefusal.SIGNATURE_INVALID


@pytest.mark.parametrize(
    ("age_ns", "refused"),
    [
        (VALID_PAST_NS, None),
        (VALID_PAST_NS + 1, ControlRefusal.EXPIRED),
        (-VALID_FUTURE_NS, None),
        (-VALID_FUTURE_NS - 1, ControlRefusal.EXPIRED),
    ],
)
def test_only_fresh_requests_count(age_ns: int, refused: ControlRefusal | None) -> None:
    """Good for thirty seconds, and at most five ahead of our clock."""
    signed = sign(Action.RESUME, WANTED, SEED, now_ns=NOW_NS)

    assert reason_of("resume", encode(signed), now_ns=NOW_NS + age_ns) is refused


@pytest.mark.parametrize(
    ("action", "body", "refused"),
    [
        ("resume", b"{", ControlRefusal.MALFORMED),
        ("resume", b'{"reson": "typo"}', ControlRefusal.MALFORMED),
        ("resume", b'{"reason": 1}', ControlRefusal.MALFORMED),
        ("halt", b"[1]", ControlRefusal.MALFORMED),
        ("selfdestruct", b"{}", ControlRefusal.ACTION_UNKNOWN),
    ],
)
def test_what_cannot_be_read_is_refused(action: str, body: bytes, refused: ControlRefusal) -> None:
    """A closed reason for each, and no exception."""
    assert reason_of(action, body) is refused


@given(
    field=st.sampled_from(["issuer", "reason", "strategy", "model", "instrument"]),
    text=st.text(max_size=20),
    shift=st.integers(-10, 10),
)
@settings(max_examples=200, deadline=None)
def test_any_change_breaks_the_signature(field: str, text: str, shift: int) -> None:
    """Whatever is altered after signing, the request is refused unless nothing was altered."""
    signed = sign(Action.RESUME, WANTED, SEED, now_ns=NOW_NS)
    altered = msgspec.structs.replace(signed, **{field: text, "sequence": signed.sequence + shift})

    if altered == signed:
        assert reason_of("resume", encode(altered)) is None
    else:
        assert reason_of("resume", encode(altered)) is ControlRefusal.SIGNATURE_INVALID


def test_ten_thousand_forgeries_have_no_effect() -> None:
    """Random signatures and replays of an old one are all refused."""
    old = sign(Action.RESUME, WANTED, SEED, now_ns=NOW_NS)
    for number in range(10_000):
        forged = base64.b64encode(round(draw(1, number, "forgery") * 2**512).to_bytes(65)[:64]).decode()
        request = msgspec.structs.replace(old, signature=forged, sequence=NOW_NS + number)
        assert reason_of("resume", encode(request), last_sequence=old.sequence) is ControlRefusal.SIGNATURE_INVALID


def test_the_recorded_fact_carries_the_proof() -> None:
    """Sequence and signature are on the tape, so that anybody can check them later."""
    signed = sign(Action.RESUME, WANTED, SEED, now_ns=NOW_NS)

    assert event_of(Action.RESUME, signed) == ResumeRequested("operator", "drill over", NOW_NS, signed.signature)


@pytest.mark.parametrize("action", [Action.PROMOTE, Action.ROLLBACK, Action.DISABLE_STRATEGY, Action.ENABLE_STRATEGY])
def test_an_action_without_its_object_is_refused(action: Action) -> None:
    """Promoting nothing is malformed, and the message says what is missing."""
    refused = event_of(action, ControlRequest())

    assert isinstance(refused, Refused)
    assert refused.reason is ControlRefusal.MALFORMED
