"""Splits leak nothing, by an auditor that is shown to find every kind of leak; index sets of independent libraries."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_lab.validity import SeriesInvalid, splits
from tapeline_lab.validity.splits import Labels, Leak, LeakKind, Split, audit, combinatorial, labels, purged, spans


def indices(found: tuple[Split, ...]) -> list[tuple[list[int], list[int]]]:
    return [(split.train.tolist(), split.test_indices.tolist()) for split in found]


# ---- index sets ----------------------------------------------------------------------------------------------------


def test_purged_folds_equal_purgedcv() -> None:
    """purgedcv 0.1.11, PurgedKFold(4) over 24 days whose labels take two days, half open."""
    first, *_, last = indices(purged(labels(24, 1), 4))
    assert first == (list(range(7, 24)), list(range(6)))
    assert last == (list(range(17)), list(range(18, 24)))
    assert indices(purged(labels(24, 1), 4))[1] == ([*range(5), *range(13, 24)], list(range(6, 12)))


def test_combinatorial_splits_equal_skfolio() -> None:
    """skfolio 1.12.2, CombinatorialPurgedCV(6, 2, purged_size=2, embargo_size=1) over 60 days, and its paths."""
    found = combinatorial(labels(60, 2), 6, 2, embargo=1)
    assert len(found.splits) == 15
    assert indices(found.splits)[0] == (list(range(23, 60)), list(range(20)))
    assert indices(found.splits)[6] == (
        [*range(8), 23, 24, 25, 26, 27, *range(43, 60)],
        [*range(10, 20), *range(30, 40)],
    )
    assert [found.paths[:, group].tolist() for group in (0, 1, 2)] == [
        [0, 1, 2, 3, 4],
        [0, 5, 6, 7, 8],
        [1, 5, 9, 10, 11],
    ]


@pytest.mark.parametrize(("groups", "tested", "count", "paths"), [(6, 2, 15, 5), (10, 8, 45, 36), (6, 1, 6, 1)])
def test_how_many_splits_and_paths(groups: int, tested: int, count: int, paths: int) -> None:
    """C(N, k) splits and C(N, k)·k/N paths; each tested group of each split is in exactly one path."""
    found = combinatorial(labels(100), groups, tested)
    assert len(found.splits) == count == math.comb(groups, tested)
    assert found.paths.shape == (paths, groups)
    used = [(int(split), group) for group in range(groups) for split in found.paths[:, group]]
    wanted = [
        (number, group)
        for number, choice in enumerate(itertools.combinations(range(groups), tested))
        for group in choice
    ]
    assert sorted(used) == sorted(wanted)


# ---- no split leaks ------------------------------------------------------------------------------------------------


@st.composite
def some_labels(draw: st.DrawFn) -> Labels:
    """Observations at any times, some at the same one, with labels of any length."""
    count = draw(st.integers(12, 60))
    chance = np.random.RandomState(draw(st.integers(0, 100_000)))
    start = np.cumsum(chance.randint(0, 4, count))
    return spans(start, start + chance.randint(0, 9, count))


@given(some_labels(), st.integers(2, 6), st.integers(0, 4), st.integers(0, 4))
def test_no_training_label_knows_of_what_is_tried(found: Labels, groups: int, embargo: int, warm_up: int) -> None:
    """Folds and every combination of groups, with any embargo and warm-up."""
    made = [
        *purged(found, groups, embargo=embargo, warm_up=warm_up),
        *combinatorial(found, groups, groups // 2, embargo=embargo, warm_up=warm_up).splits,
    ]
    for split in made:
        assert audit(found, split.train, split.test_indices, embargo=embargo, warm_up=warm_up) == ()
        assert not set(split.train.tolist()) & set(split.test_indices.tolist())
    tried = np.concatenate([split.test_indices for split in made[:groups]])
    assert sorted(tried.tolist()) == list(range(len(found)))


@given(some_labels(), st.integers(1, 20), st.integers(1, 10), st.booleans())
def test_walking_forward_learns_from_the_past_alone(found: Labels, train: int, test: int, anchored: bool) -> None:
    """Training ends before what is tried begins, labels included; everything after the first training is tried once."""
    train = min(train, len(found) - 1)
    made = splits.walk_forward(found, train, test, anchored=anchored, warm_up=3)
    for split in made:
        ((first, stop),) = split.test
        assert (split.train < first).all()
        assert audit(found, split.train, split.test_indices) == ()
        assert split.warm_up == ((max(first - 3, 0), first),)
        assert len(split.train) <= (first if anchored else train)
        assert stop - first <= test
    assert np.concatenate([split.test_indices for split in made]).tolist() == list(range(train, len(found)))


def test_anchored_and_rolling_differ_in_where_they_begin() -> None:
    """Twenty observations, ten to learn from, five to try."""
    rolling = splits.walk_forward(labels(20), 10, 5)
    anchored = splits.walk_forward(labels(20), 10, 5, anchored=True)
    assert [(split.train[0], split.train[-1]) for split in rolling] == [(0, 9), (5, 14)]
    assert [(split.train[0], split.train[-1]) for split in anchored] == [(0, 9), (0, 14)]
    assert [split.test for split in anchored] == [((10, 15),), ((15, 20),)]


def test_a_filter_warms_up_on_bars_nobody_learnt_from() -> None:
    """Twenty bars before each tested block are kept from training, and training falls into separate sequences."""
    split = combinatorial(labels(120), 6, 2, warm_up=5).splits[6]
    assert split.test == ((20, 40), (60, 80))
    assert split.warm_up == ((15, 20), (55, 60))
    assert split.train_blocks == ((0, 15), (40, 55), (80, 120))


# ---- the auditor can fail ------------------------------------------------------------------------------------------


def test_plain_folds_are_caught() -> None:
    """Mutant: k folds without purging, on labels of five bars, leak on both sides of what is tried."""
    found = audit(labels(40, 5), [*range(10), *range(20, 40)], range(10, 20))
    assert [leak.train for leak in found] == [5, 6, 7, 8, 9, 20, 21, 22, 23, 24]
    assert {leak.kind for leak in found} == {LeakKind.SPAN_OVERLAPS}


def test_shuffled_folds_are_caught() -> None:
    """Mutant: shuffled folds leak nearly everywhere."""
    order = np.random.RandomState(0).permutation(100)
    assert len(audit(labels(100, 3), order[:80], order[80:])) > 50


def test_an_observation_on_both_sides_is_caught() -> None:
    """Mutant: a fold that overlaps what is tried."""
    assert audit(labels(10), [0, 1, 2, 3], [3, 4]) == (Leak(LeakKind.SAME_OBSERVATION, 3, 3),)


def test_a_missing_embargo_is_caught() -> None:
    """Mutant: purged, but the observation after what is tried is learnt from."""
    assert audit(labels(10), [7, 8], [3, 4, 5], embargo=2) == (Leak(LeakKind.WITHIN_EMBARGO, 7, 5),)
    assert audit(labels(10), [8, 9], [3, 4, 5], embargo=2) == ()


def test_a_missing_warm_up_is_caught() -> None:
    """Mutant: a model learnt from the bars that its filter warms up on."""
    assert audit(labels(10), [0, 4], [5, 6], warm_up=2) == (Leak(LeakKind.WITHIN_WARM_UP, 4, 5),)
    assert audit(labels(10), [0, 1, 2], [5, 6], warm_up=2) == ()


def test_one_long_label_among_short_ones_is_caught() -> None:
    """What matters is the tried label that ends last, not the one that begins last."""
    found = spans([0, 1, 2, 3, 9], [0, 8, 2, 3, 9])
    assert audit(found, [3], [1, 2]) == (Leak(LeakKind.SPAN_OVERLAPS, 3, 1),)
    assert audit(found, [4], [1, 2]) == ()


@given(some_labels(), st.integers(0, 10_000))
def test_the_auditor_equals_a_comparison_of_all_pairs(found: Labels, seed: int) -> None:
    """For any two sets of observations, however scattered."""
    sides = np.random.RandomState(seed).randint(0, 3, len(found))
    train, test = np.flatnonzero(sides == 0), np.flatnonzero(sides == 1)
    pairs = {
        int(one)
        for one in train
        for other in test
        if found.start[one] <= found.end[other] and found.end[one] >= found.start[other]
    }
    assert {leak.train for leak in audit(found, train, test)} == pairs


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_what_cannot_be_split_is_refused() -> None:
    """By name, with what would do."""
    for call, said in (
        (lambda: purged(labels(5), 6), "folds is 6"),
        (lambda: combinatorial(labels(20), 6, 6), "tested is 6"),
        (lambda: purged(labels(5), 2, embargo=-1), "embargo -1"),
        (lambda: splits.walk_forward(labels(5), 5, 1), "nothing is left to try"),
        (lambda: splits.walk_forward(labels(5), 0, 1), "at least 1"),
        (lambda: labels(0), "at least 1 and 0"),
        (lambda: spans([0, 2, 1], [3, 3, 3]), "out of order"),
        (lambda: spans([0, 2], [0, 1]), "index 1 ends before it begins"),
        (lambda: spans([0, 2], [3]), "give equal ones"),
        (lambda: audit(labels(5), [5], [0]), "train names observations outside 0 to 4"),
    ):
        with pytest.raises(SeriesInvalid, match=said):
            call()
