"""What turns measurements into comparisons: medians of paired ratios, ranks, turns and tables."""

from __future__ import annotations

import pytest
from bench.measure import (
    Row,
    Section,
    in_turn,
    markdown,
    markdown_table,
    median_ratio,
    number_text,
    plain_table,
    quantile,
)
from hypothesis import given
from hypothesis import strategies as st

TWICE = Row("loop", "bars/s", (200.0, 220.0, 90.0), "peer 1.0", (100.0, 100.0, 50.0), "same | orders")
ALONE = Row("loop", "bars/s", (200.0,), "peer 2.0", (), "not installed")


def test_the_ratio_is_the_median_of_the_turns_ratios() -> None:
    """2.0, 2.2 and 1.8 give 2.0: one slow turn of the machine moves both sides and not the ratio."""
    assert median_ratio((200.0, 220.0, 90.0), (100.0, 100.0, 50.0)) == 2.0


def test_turns_that_do_not_pair_are_refused() -> None:
    """A side with a turn missing cannot be paired by order, so there is no ratio to give."""
    with pytest.raises(ValueError, match="shorter"):
        median_ratio((1.0, 2.0), (1.0,))


def test_nothing_beside_gives_no_ratio() -> None:
    """A peer that could not be measured has no ratio; it is not shown as zero or one."""
    assert ALONE.ratio is None


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=9), st.floats(0.5, 100))
def test_a_common_factor_of_both_sides_changes_no_ratio(values: list[float], slower: float) -> None:
    """A machine that is slower for a whole turn leaves the ratio as it is."""
    theirs = [3.0 * value for value in values]
    before = median_ratio(values, theirs)
    after = median_ratio([value / slower for value in values], [value / slower for value in theirs])
    assert before == pytest.approx(after)


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0), (0.01, 1.0)])
def test_a_quantile_is_the_smallest_value_that_enough_values_do_not_exceed(share: float, value: float) -> None:
    """Nearest rank of 1, 2, 3, 4: never a value that was not measured."""
    assert quantile([4.0, 2.0, 1.0, 3.0], share) == value


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    """There is no rank for it."""
    with pytest.raises(AssertionError, match="not in"):
        quantile([1.0], share)


def test_everybody_goes_first_once() -> None:
    """Over as many rounds as there are names each is first once, and each round names all of them."""
    names = ("ours", "one", "two")
    rounds = [in_turn(number, names) for number in range(3)]
    assert rounds == [("ours", "one", "two"), ("one", "two", "ours"), ("two", "ours", "one")]


def test_no_names_have_no_turns() -> None:
    """An empty round stays empty."""
    assert in_turn(2, ()) == ()


@pytest.mark.parametrize(
    ("value", "text"), [(525_600.4, "525,600"), (100.0, "100"), (10.333, "10.3"), (1.0, "1"), (0.1234, "0.12")]
)
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    """Large figures without decimals, small ones with two or three digits."""
    assert number_text(value) == text


def test_the_table_shows_medians_the_ratio_and_what_was_not_measured() -> None:
    """A peer without turns has a dash for its figure and for the ratio, and the reason stands beside it."""
    assert markdown_table([TWICE, ALONE]).splitlines() == [
        "| what | unit | ours | beside | theirs | ours / theirs | turns | note |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| loop | bars/s | 200 | peer 1.0 | 100 | 2x | 3 | same \\| orders |",
        "| loop | bars/s | 200 | peer 2.0 | - | - | 1 | not installed |",
    ]


def test_the_plain_table_is_aligned_and_leaves_notes_out() -> None:
    """Every column starts at the same place in every line."""
    lines = plain_table([TWICE, ALONE]).splitlines()
    assert lines == [
        "what  unit    ours  beside    theirs  ours / theirs  turns",
        "loop  bars/s  200   peer 1.0  100     2x             3",
        "loop  bars/s  200   peer 2.0  -       -              1",
    ]


def test_a_document_has_each_section_with_its_notes() -> None:
    """Title, table, sentences, in this order."""
    text = markdown([Section("Loop gear", (ALONE,), ("A sentence.",))])
    assert text == f"## Loop gear\n\n{markdown_table([ALONE])}\n\nA sentence."
