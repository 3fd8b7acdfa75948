"""The bytes of a fact: golden, read back whole, refused when they are not a fact of this version."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_common.events import HaltRequested, RunStarted
from tapeline_common.values import Realm
from tapeline_common.wire import (
    GENESIS,
    Answer,
    Draft,
    Fact,
    Progress,
    chain,
    chain_naive,
    decode_answer,
    decode_event,
    decode_fact,
    decode_progress,
    encode,
    position_of,
)

HALT = HaltRequested("mara", "storm")
FACT = Fact(12, 1_700_000_000_000_000_001, "halt-7", "operator", "run", 3, 0, 12, 1, HALT)
BYTES = (
    b'{"pos":12,"time_ns":1700000000000000001,"id":"halt-7","author":"operator","stream":"run","version":3,"cause":0,'
    b'"correlation":12,"schema":1,"event":{"type":"HaltRequested","issuer":"mara","reason":"storm"}}'
)


def test_golden_bytes() -> None:
    """The envelope's bytes never change: the chain of every tape is computed over them."""
    assert encode(FACT) == BYTES
    assert decode_fact(BYTES) == FACT
    assert chain(GENESIS, BYTES).hex() == hashlib.sha256(bytes(32) + BYTES).hexdigest()


@pytest.mark.parametrize("message", [Answer(3, (Draft(HALT),), after=2, expected={"run": 4}), Answer(0, ())])
def test_answer_read_back(message: Answer) -> None:
    """An answer comes out of its bytes as it went in."""
    assert decode_answer(encode(message)) == message


def test_event_and_progress_read_back() -> None:
    """So do a bare event and a progress report."""
    assert decode_event(encode(HALT)) == HALT
    assert decode_progress(encode(Progress("risk", 9))) == Progress("risk", 9)


@pytest.mark.parametrize(
    "payload",
    [
        BYTES.replace(b'"schema":1', b'"schema":1,"extra":1'),
        BYTES.replace(b"HaltRequested", b"HaltGuessed"),
        BYTES.replace(b'"cause":0,', b""),
        BYTES.replace(b'"pos":12', b'"pos":"12"'),
        BYTES[:-1],
        b"",
    ],
)
def test_no_fact_of_this_version(payload: bytes) -> None:
    """Unknown fields, unknown events, missing fields, wrong types and torn bytes are refused, never guessed at."""
    with pytest.raises(msgspec.MsgspecError):
        decode_fact(payload)


def test_position_of() -> None:
    """The position is read off the first field."""
    assert position_of(BYTES) == 12


@pytest.mark.parametrize("payload", [b"", b'{"time_ns":1,"pos":2}', b'{"pos":', b'{"pos":x,'])
def test_position_of_something_else(payload: bytes) -> None:
    """What is not a fact has no position."""
    with pytest.raises(ValueError, match=r"."):
        position_of(payload)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_chain_equals_the_plain_way(payloads: list[bytes]) -> None:
    """Extending hash by hash gives what the naive twin gives for the whole."""
    head = GENESIS
    for payload in payloads:
        head = chain(head, payload)
    assert head == chain_naive(payloads)


@given(st.text(max_size=60), st.text(max_size=60), st.integers(min_value=0, max_value=2**62))
def test_any_text_survives(issuer: str, reason: str, pos: int) -> None:
    """Any text of an operator survives the wire, and the position is still found."""
    fact = Fact(pos, 0, "x", "operator", "run", 1, 0, pos, 1, HaltRequested(issuer, reason))
    assert decode_fact(encode(fact)) == fact
    assert position_of(encode(fact)) == pos


def test_realm_is_text() -> None:
    """Closed words travel as their names, readable by a person."""
    assert b'"realm":"REPLAY"' in encode(RunStarted("r", "t", Realm.REPLAY, 1, "USDT", "1"))
