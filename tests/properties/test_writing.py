"""Numbers written by compiled code read as Python prints them."""

from __future__ import annotations

import hashlib
import math
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the writers are compiled")

from tapeline_backtest import chain_block, writing
from tapeline_backtest.machine_code import BYTES, NOTHING, Routine, routine
from tapeline_backtest.wide import BASE, HIGHEST
from tapeline_common.money import plain
from tapeline_marketdata.columns import texts_of

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


def written(write: Any, floats: list[float]) -> tuple[list[str] | None, bytes]:
    """The texts, ``None`` where it gave up, and what stands behind the room that it was given."""
    room = len(floats) * writing.PLAIN_LETTERS
    out, starts = np.full(room + 40, 120, dtype=np.uint8), np.empty(len(floats) + 1, dtype=np.int64)
    size = write(np.array(floats), out, starts)
    spans = zip(starts.tolist(), starts[1:].tolist(), strict=False)
    return None if size < 0 else [out[first:stop].tobytes().decode() for first, stop in spans], out[room:].tobytes()


SHORT = st.builds(lambda units, decimals: units / 10.0**decimals, st.integers(0, 10**15 - 3), st.integers(0, 14))


@settings(deadline=None)
@example([0.0, -0.0, 5000.0, 0.1, 1e-15, 0.000012345678901])
@example([123456789.123456, 5000.02, 0.1, 1e14, 99.5])
@given(st.lists(SHORT, min_size=1, max_size=20))
def test_floats_of_few_digits_are_printed_as_files_of_bars_print_them(floats: list[float]) -> None:
    """Whatever decimals stand beside each other: what Arrow makes of them, without exponents, and no letter more."""
    texts, behind = written(writing.compiled_floats(), floats)
    assert texts == texts_of(pa.array(floats)) or (texts is None and max(floats) > 9e12)
    assert behind == b"x" * 40


@pytest.mark.parametrize("other", [0.1 + 0.2, 1e15, -1.5, 5e-324, math.nan, math.inf, 2.0**60, 1.0 / 3.0])
def test_a_float_of_more_digits_is_left_to_others(other: float) -> None:
    assert written(writing.compiled_floats(), [5000.02, other, 1.0])[0] is None


def test_floats_that_were_not_proved_would_be_printed_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: without the division, the decimals of the number before would do for any other."""
    floats = [5000.02, 1.2345]
    assert written(writing.plain_floats, floats)[0] == ["5000.02", "1.2345"]
    monkeypatch.setattr(writing, "_is_whole", lambda _number, decimals: decimals == 2)
    assert written(writing.plain_floats, floats)[0] == ["5000.02", "1.23"]
