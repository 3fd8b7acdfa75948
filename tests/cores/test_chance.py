"""Chance is a function of seed, position and salt: the same numbers always, and numbers that look like chance."""

import hashlib
import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_common import chance
from tapeline_common.chance import draw, normals

SEED = 20260101
CHI_SQUARE_99_DF_ABOVE_999 = 148.23  # chi-square, 99 degrees of freedom, upper 0.1 %

seeds = st.integers(min_value=-(2**70), max_value=2**70)
positions = st.integers(min_value=0, max_value=2**64 - 1)


def numpy_words(seed: int, position: int, salt: str, count: int) -> list[int]:
    """The oracle: numpy's Philox with the documented key and counter."""
    key = int.from_bytes(hashlib.sha256(f"{seed}\0{salt}".encode()).digest()[:16], "little")
    words: list[int] = np.random.Philox(key=key, counter=position << 64).random_raw(count).tolist()
    return words


def test_golden_values() -> None:
    """The numbers never change: a tape recorded today replays in ten years, on any machine."""
    assert draw(7, 9, "x") == 0.7242979455772836
    assert draw(0, 0, "") == 0.4340884750358859
    assert draw(-1, 2**64 - 1, "é") == 0.7872164430399916
    assert normals(7, 9, "x", 4) == (0.5956574202686721, -1.413152359519143, -0.24081374111547238, 2.4272929105681746)


def test_philox_known_answers() -> None:
    """The ten rounds give the words published with the Random123 library, for the counters used here."""
    assert chance._philox(0, 0, 0, 0) == (
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    )


@given(seeds, positions, st.text(max_size=20), st.integers(min_value=0, max_value=9))
def test_words_equal_numpy(seed: int, position: int, salt: str, count: int) -> None:
    """Word for word the raw stream of numpy's Philox, over block boundaries and at the ends of the ranges."""
    assert chance._words(seed, position, salt, count) == numpy_words(seed, position, salt, count)


@given(seeds, positions)
def test_draw_stays_in_range(seed: int, position: int) -> None:
    """0 <= draw < 1, in whole multiples of 2^-53."""
    value = draw(seed, position, "range")
    assert 0.0 <= value < 1.0
    assert (value * 2**53).is_integer()


def test_order_of_calls_does_not_matter() -> None:
    """Nothing is remembered: asking backwards, twice, or with other questions in between gives the same answers."""
    questions = list(itertools.product((1, 2), range(5), ("fill", "arm")))
    forwards = {question: draw(*question) for question in questions}
    backwards = {}
    for question in reversed(questions):
        normals(*question, 3)
        draw(*question)
        backwards[question] = draw(*question)
    assert backwards == forwards
    assert len(set(forwards.values())) == len(questions)


def test_more_normals_extend_fewer() -> None:
    """The first numbers do not depend on how many are asked for, and none is asked for in peace."""
    assert normals(SEED, 3, "path", 10)[:7] == normals(SEED, 3, "path", 7)
    assert normals(SEED, 3, "path", 0) == ()


def test_uniformity() -> None:
    """1e5 draws at consecutive positions fill 100 equal cells as chance would."""
    cells = np.bincount([int(100 * draw(SEED, position, "cells")) for position in range(100_000)], minlength=100)
    assert cells.size == 100
    assert float(((cells - 1000.0) ** 2 / 1000.0).sum()) < CHI_SQUARE_99_DF_ABOVE_999


@pytest.mark.parametrize(
    ("one", "other"),
    [((SEED, 0, "a"), (SEED, 0, "b")), ((SEED, 0, "a"), (SEED, 1, "a")), ((SEED, 0, "a"), (SEED + 1, 0, "a"))],
    ids=["salts", "positions", "seeds"],
)
def test_streams_are_independent(one: tuple[int, int, str], other: tuple[int, int, str]) -> None:
    """Pairs from two streams that differ in one part fill a 10 x 10 table as independent pairs would."""
    pairs = zip(
        (draw(one[0], one[1] + position, one[2]) for position in range(20_000)),
        (draw(other[0], other[1] + position, other[2]) for position in range(20_000)),
        strict=True,
    )
    cells = np.bincount([10 * int(10 * x) + int(10 * y) for x, y in pairs], minlength=100)
    assert float(((cells - 200.0) ** 2 / 200.0).sum()) < CHI_SQUARE_99_DF_ABOVE_999


def test_seed_and_salt_do_not_run_together() -> None:
    """Seed 1 with salt "2x" and seed 12 with salt "x" are different streams."""
    assert draw(1, 0, "2x") != draw(12, 0, "x")


def test_normal_quantile_equals_the_standard_library() -> None:
    """The quantile agrees with statistics.NormalDist to 1e-15, in the centre, the shoulders and the far tails."""
    tails = [digit * 10.0**-power for power in range(1, 16) for digit in range(1, 10)]
    for probability in [*tails, *(1.0 - tail for tail in tails if tail < 0.5), *(i / 997 for i in range(1, 997))]:
        expected = statistics.NormalDist().inv_cdf(probability)
        assert chance._normal_quantile(probability) == pytest.approx(expected, rel=1e-15, abs=1e-15)


def test_normal_moments_and_tails() -> None:
    """1e5 normals have the mean, variance, fourth moment and 2-sigma tail of the law, within four standard errors."""
    sample = np.array(normals(SEED, 0, "moments", 100_000))
    assert abs(sample.mean()) < 4 * math.sqrt(1 / 1e5)
    assert abs((sample**2).mean() - 1) < 4 * math.sqrt(2 / 1e5)
    assert abs((sample**4).mean() - 3) < 4 * math.sqrt(96 / 1e5)
    assert abs((np.abs(sample) > 2).mean() - 0.0455) < 4 * math.sqrt(0.0455 * 0.9545 / 1e5)


@pytest.mark.parametrize("position", [-1, 2**64])
def test_position_out_of_range(position: int) -> None:
    """A position that does not fit its word of the counter is a bug, said with its value."""
    with pytest.raises(ValueError, match=rf"position is {position}; it must be"):
        draw(SEED, position, "x")


def test_negative_count() -> None:
    """A negative count is a bug, said with its value."""
    with pytest.raises(ValueError, match=r"count is -1; it must be 0 or more"):
        normals(SEED, 0, "x", -1)
