"""The compiled hash chain against the standard library's SHA-256."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the chain is compiled")

from tapeline_backtest import chain_block as compiled
from tapeline_common.wire import chain_naive

needs_sha = pytest.mark.skipif(not compiled.has_sha_instructions(), reason="this processor has no SHA Extensions")

PADDING_EDGES = [bytes(size) for size in (0, 1, 22, 23, 24, 31, 32, 33, 54, 55, 56, 63, 64, 87, 88, 95, 96, 97)]


def head_after(chain: object, payloads: list[bytes]) -> bytes:
    head = np.zeros(compiled.HASH_BYTES, dtype=np.uint8)
    joined = np.frombuffer(b"".join(payloads), dtype=np.uint8)
    ends = np.cumsum([len(payload) for payload in payloads], dtype=np.int64)
    assert callable(chain)
    chain(head, joined, ends)
    return head.tobytes()


@needs_sha
@settings(deadline=None)  # the first call compiles
@example(PADDING_EDGES)
@given(st.lists(st.binary(max_size=700), max_size=8))
def test_the_processors_own_instructions_give_the_same_chain(payloads: list[bytes]) -> None:
    """Any payloads, above all those whose last block is just full or just not, are chained as hashlib does."""
    assert head_after(compiled.compiled_chain(), payloads) == chain_naive(payloads)


@settings(deadline=None)  # the first call compiles
@example(PADDING_EDGES)
@given(st.lists(st.binary(max_size=700), max_size=8))
def test_the_standard_library_gives_the_same_chain(payloads: list[bytes]) -> None:
    """What runs on other processors is the same chain."""
    assert head_after(compiled.chain_with_hashlib, payloads) == chain_naive(payloads)


@needs_sha
def test_one_bit_changes_the_head() -> None:
    """A chain that did not look at every byte would pass the tests above only by luck of their inputs."""
    payloads = [bytes(range(200)), bytes(100)]
    right = head_after(compiled.compiled_chain(), payloads)
    for position in range(200):
        wrong = bytearray(payloads[0])
        wrong[position] ^= 1
        assert head_after(compiled.compiled_chain(), [bytes(wrong), payloads[1]]) != right


def test_a_chain_goes_on_where_it_was_left() -> None:
    """Two calls on one head are one call on all payloads."""
    payloads = [b"first", b"second " * 30, b"third"]
    head = np.zeros(compiled.HASH_BYTES, dtype=np.uint8)
    for payload in payloads:
        compiled.link_chain()(head, np.frombuffer(payload, dtype=np.uint8), np.array([len(payload)]))
    assert head.tobytes() == chain_naive(payloads)
