"""Floats written by compiled code read as the encoder prints them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("numba", reason="the writers are compiled")

from tapeline_backtest import shortest

POWERS_OF_TWO = 2.0 ** np.arange(-1074, 1024)
POWERS_OF_TEN = np.array([float(f"1e{power}") for power in range(-323, 309)])


def texts(numbers: NDArray[np.float64]) -> list[str]:
    out, starts = shortest.printed_numbers(numbers)
    return [out[first : stop - 1].tobytes().decode() for first, stop in pairwise(starts)]


def by_encoder(numbers: NDArray[np.float64]) -> list[str]:
    return msgspec.json.encode(numbers.tolist()).decode()[1:-1].split(",")


@settings(deadline=None)  # the first call compiles
@example([0.0, -0.0, 5e-324, 1.7976931348623157e308, 1e-5, 1e-6, 1e15, 1e16, 1.5e16, 1e23, 2.0**53])
@given(st.lists(st.floats(), min_size=1, max_size=50))
def test_any_float_is_printed_as_the_encoder_does(numbers: list[float]) -> None:
    """Signs, exponents and what is no number included."""
    assert texts(np.array(numbers)) == by_encoder(np.array(numbers))


@pytest.mark.parametrize("numbers", [POWERS_OF_TWO, POWERS_OF_TEN], ids=["of two", "of ten"])
def test_every_power_and_its_neighbours_are_printed_as_the_encoder_does(numbers: NDArray[np.float64]) -> None:
    """Below a power of two floats are twice as dense; powers of ten lie at the border of the shorter decimals."""
    for each in (numbers, np.nextafter(numbers, 0.0), np.nextafter(numbers, np.inf)):
        assert texts(each) == by_encoder(each)


def test_a_hundred_thousand_random_floats_are_printed_as_the_encoder_does() -> None:
    """All bit patterns are as likely here, and in the second half those of probabilities."""
    chance = np.random.default_rng(1)
    patterns = chance.integers(-(2**63), 2**63 - 1, 50_000).view(np.float64)
    for numbers in (patterns, np.exp(-100.0 * chance.random(50_000))):
        assert texts(numbers) == by_encoder(numbers)


def in_python(high: int, low: int, number: int) -> int:
    """What the instructions of ``_product`` do."""
    high, low, number = (each % 2**64 for each in (int(high), int(low), int(number)))
    product = high * number + (low * number >> 64)
    return product >> 64 | (product % 2**64 > 1)


def interpreted(numbers: NDArray[np.float64]) -> list[str]:
    out, starts = np.zeros(len(numbers) * 26 + 48, dtype=np.uint8), np.zeros(len(numbers) + 1, dtype=np.int64)
    shortest.write_floats(numbers.view(np.int64).tolist(), out, starts)
    return [out[first : stop - 1].tobytes().decode() for first, stop in pairwise(starts)]


def test_a_wrong_power_of_ten_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: only 32 bits of it are right."""
    numbers = np.concatenate([np.random.default_rng(2).random(300), POWERS_OF_TWO[::7], POWERS_OF_TEN[::3]])
    expected = by_encoder(numbers)

    def differs(product: Any) -> bool:
        monkeypatch.setattr(shortest, "_product", product)
        return interpreted(numbers) != expected

    assert not differs(in_python)
    assert differs(lambda high, low, number: in_python(high >> 32 << 32, low, number))
