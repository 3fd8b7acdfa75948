"""Numbers written by compiled code read as Python prints them."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the writers are compiled")

from tapeline_backtest import chain_block, writing
from tapeline_backtest.machine_code import BYTES, NOTHING, Routine, routine
from tapeline_backtest.wide import BASE, HIGHEST
from tapeline_common.money import plain

LARGEST = HIGHEST * BASE - 1


@cache
def compiled(name: str) -> Routine:
    """One of the writers; not at import, which would compile when tests are collected."""
    of: dict[str, tuple[Any, ...]] = {
        "amount": (writing.write_amount, "int64", BYTES, "int64", "int64", "int64", "int64"),
        "int": (writing.write_int, "int64", BYTES, "int64", "int64"),
        "sha256": (chain_block.sha256, NOTHING, BYTES, "int64", BYTES),
        "plain rounds": (chain_block._compress_plain, NOTHING, "uint32[::1]", BYTES, "int64", "int64"),
    }
    return routine(*of[name], allocates=True)


@settings(deadline=None)  # the first call compiles
@example(-1, 0)
@example(0, 9)
@example(100, 2)
@example(-1000, 10)
@example(-3885, 11)
@example(LARGEST, 0)
@example(-LARGEST, 29)
@example(BASE, 6)
@example(-BASE, 6)
@given(st.integers(-LARGEST, LARGEST), st.integers(0, 30))
def test_amounts_are_printed_as_plain_decimals(units: int, decimals: int) -> None:
    """Signs, zeros behind the point, zeros before it, and the exponent of very small numbers."""
    out = np.full(200, 120, dtype=np.uint8)
    size = compiled("amount")(out, 3, *divmod(units, BASE), decimals)
    expected = str(plain(Decimal(units).scaleb(-decimals))) if units else "0"
    assert out[3:size].tobytes().decode() == expected
    assert out[:3].tobytes() == b"xxx"


@settings(deadline=None)
@example(0)
@example(10**9 - 1)
@example(10**9)
@example(10**18)
@example(2**63 - 1)
@given(st.integers(0, 2**63 - 1))
def test_whole_numbers_are_printed_as_they_are(number: int) -> None:
    """However many billions are in them."""
    out = np.zeros(40, dtype=np.uint8)
    assert out[: compiled("int")(out, 0, number)].tobytes().decode() == str(number)


@settings(deadline=None)
@example(b"")
@example(bytes(55))
@example(bytes(56))
@example(bytes(64))
@given(st.binary(max_size=300))
def test_hashes_are_those_of_the_standard_library(message: bytes) -> None:
    """By the processor's own instructions where there are some, and in ordinary arithmetic everywhere."""
    data = np.frombuffer(bytearray(message + b"more"), dtype=np.uint8)
    digest = np.zeros(32, dtype=np.uint8)
    compiled("sha256")(data, len(message), digest)
    assert digest.tobytes() == hashlib.sha256(message).digest()


@settings(deadline=None)
@given(st.binary(min_size=64, max_size=256).map(lambda text: text[: len(text) // 64 * 64]))
def test_plain_rounds_are_those_of_the_instructions(blocks: bytes) -> None:
    """The rounds for processors without the instructions, against the standard library's padding of the same text."""
    data = np.frombuffer(bytearray(blocks + _padding(len(blocks))), dtype=np.uint8)
    state = chain_block._START.copy()
    compiled("plain rounds")(state, data, 0, len(data) // 64)
    words = state[chain_block._LANE_OF]
    assert words.astype(">u4").tobytes() == hashlib.sha256(blocks).digest()


def _padding(size: int) -> bytes:
    return b"\x80" + bytes(55) + (8 * size).to_bytes(8, "big")
