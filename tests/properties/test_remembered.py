"""What is kept for good is found for good: ``Remembered`` against a dictionary."""

from __future__ import annotations

import sys
import tracemalloc
from random import Random
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from tapeline_common import remembered as remembered_module
from tapeline_common.remembered import Remembered

NAMES = st.text(st.characters(codec="utf-8"), max_size=6)


@given(st.lists(st.tuples(NAMES, st.integers(0, 2**62))), st.integers(1, 5))
def test_it_is_a_dictionary_that_never_forgets(numbers: list[tuple[str, int]], kept: int) -> None:
    """Every name has its latest number however many came since, and no other name has any."""
    remembered, naive = Remembered(kept=kept), dict[str, int]()
    for name, number in numbers:
        remembered[name] = naive[name] = number
        assert len(remembered.recent) < 2 * kept
    assert {name: remembered.get(name) for name in naive} == naive
    assert all(name in remembered for name in naive)
    absent = [name + "!" for name in naive if name + "!" not in naive]
    assert [remembered.get(name, -1) for name in absent] == [-1] * len(absent)
    assert not any(name in remembered for name in absent)


@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False), st.integers(1, 20), st.sampled_from([1, 2, 7, 4096]))
def test_names_that_come_again_are_packed_once(chance: Random, kept: int, merged_at_once: int) -> None:
    """A thousand numbers for three hundred names, merged in pieces of any size."""
    remembered, naive = Remembered(kept=kept), dict[str, int]()
    with patch.object(remembered_module, "MERGED_AT_ONCE", merged_at_once):
        for number in range(1_000):
            name = f"ema-{chance.randrange(300)}"
            remembered[name] = naive[name] = number
        remembered.kept = 0
        remembered.pack()
    assert {name: remembered.get(name) for name in naive} == naive
    for run in remembered._runs:
        digests = run.digests.tolist()
        assert digests == sorted(set(digests))


@given(st.dictionaries(NAMES, st.integers(0, 9), max_size=30), st.integers(1, 5), st.integers(1, 5))
def test_equal_means_the_same_names_and_numbers(numbers: dict[str, int], kept: int, other: int) -> None:
    """However much of it is packed, and in whatever order it came."""
    one = Remembered(numbers.items(), kept)
    assert one == Remembered(reversed(numbers.items()), other)
    for name in numbers:
        assert one != Remembered({**numbers, name: 10}.items(), other)
        assert one != Remembered(((each, number) for each, number in numbers.items() if each != name), other)


def test_a_hundred_thousand_names_take_little_more_than_their_digests() -> None:
    """At most 20 bytes each; the runs are few, so a look-up stays cheap."""
    remembered = Remembered((f"ema-{number}", number) for number in range(100_000))
    runs = remembered._runs
    packed = sum(each.nbytes for run in runs for each in (run.digests, run.numbers))
    assert packed <= 20 * (100_000 - len(remembered.recent))
    assert len(runs) <= 10
    assert sys.getsizeof(remembered.recent) < 1_000_000
    assert [remembered.get(f"ema-{number}", -1) for number in range(0, 100_000, 997)] == list(range(0, 100_000, 997))


def test_merging_needs_little_beside_what_it_merges() -> None:
    """What is needed for a moment is kept by the process as well: not three times what is remembered."""
    remembered = Remembered()
    tracemalloc.start()
    try:
        for number in range(2**16 + 256):
            remembered[f"ema-{number}"] = number % 7
        kept, highest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(remembered._runs) == 1, "all of it was merged last"
    assert highest < 2.6 * kept
