"""Which observations a model may learn from, and which it is tried on.

- ``walk_forward``: learn from the past, try on what follows. The result of record.
- ``purged``: k folds, each tried once (Lopez de Prado, *Advances in Financial Machine Learning*, 7.4). -
  ``combinatorial``: every choice of k of N groups is tried once (CPCV, the same, 12.4), which gives several paths
  over the
  whole history instead of one. For research and selection.

An observation's label is known over a span of time, such as the days a position is held. Training observations whose
span meets a span that is tried are *purged*, so are ``embargo`` observations after it. Models with a hidden state
leak through that state too: with ``warm_up``, so many bars before each tested block are kept from training, for the
filter to run over from its stationary law (``Split.warm_up``), and training blocks are to be fitted as separate
sequences (``Split.train_blocks``).

``audit`` looks for leaks in any split, however it was made, without using anything above it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from tapeline_lab.validity.series import Ints, SeriesInvalid

Block = tuple[int, int]
"""First observation and the one after the last."""


@dataclass(frozen=True, slots=True)
class Labels:
    """From when until when each label takes to be known, both included: shapes (n,), in any unit of time.

    ``start`` must not fall and ``end`` must not be before it. Raises ``SeriesInvalid``.
    """

    start: Ints
    end: Ints

    def __post_init__(self) -> None:
        if self.start.ndim != 1 or self.start.shape != self.end.shape or not len(self.start):
            raise SeriesInvalid(f"label spans have the shapes {self.start.shape} and {self.end.shape}: give equal ones")
        if (np.diff(self.start) < 0).any():
            raise SeriesInvalid("label spans are out of order: sort observations by their start")
        if (self.end < self.start).any():
            raise SeriesInvalid(
                f"the label span at index {int(np.argmax(self.end < self.start))} ends before it begins"
            )

    def __len__(self) -> int:
        return len(self.start)


def labels(count: int, horizon: int = 0) -> Labels:
    """Spans of observations that are each labelled by what happens in the ``horizon`` bars after them."""
    if count < 1 or horizon < 0:
        raise SeriesInvalid(f"{count} observations with a horizon of {horizon}: use at least 1 and 0")
    start = np.arange(count, dtype=np.int64)
    return Labels(start, start + horizon)


def spans(start: ArrayLike, end: ArrayLike) -> Labels:
    """Spans from times, such as those at which trades were opened and closed."""
    return Labels(np.asarray(start, dtype=np.int64), np.asarray(end, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Split:
    """One way to learn and try. Blocks are half open.

    Attributes:
        train: indices of the observations to learn from, ascending.
        test: blocks to try on.
        warm_up: for each of them, the block before it over which a filter runs; empty at the start of the history.
    """

    train: Ints
    test: tuple[Block, ...]
    warm_up: tuple[Block, ...]

    @property
    def test_indices(self) -> Ints:
        return np.concatenate([np.arange(first, stop) for first, stop in self.test])

    @property
    def train_blocks(self) -> tuple[Block, ...]:
        """Unbroken stretches of ``train``: each is a sequence of its own."""
        if not len(self.train):
            return ()
        breaks = np.flatnonzero(np.diff(self.train) != 1)
        firsts = [0, *(breaks + 1).tolist()]
        lasts = [*breaks.tolist(), len(self.train) - 1]
        return tuple((int(self.train[a]), int(self.train[b]) + 1) for a, b in zip(firsts, lasts, strict=True))


@dataclass(frozen=True, slots=True)
class Combinatorial:
    """Splits of CPCV and the paths through them.

    Attributes:
        splits: one for each choice of tested groups, in lexical order.
        groups: blocks of observations.
        paths: shape (paths, groups): which split's forecast each path takes for each group. Every tested group of every
            split is in exactly one path.
    """

    splits: tuple[Split, ...]
    groups: tuple[Block, ...]
    paths: Ints


def purged(spans: Labels, folds: int, *, embargo: int = 0, warm_up: int = 0) -> tuple[Split, ...]:
    """K folds without leaks, each tried once."""
    blocks = _groups(len(spans), folds, "folds")
    _checked(embargo, warm_up)
    return tuple(_split(spans, (block,), embargo, warm_up) for block in blocks)


def combinatorial(
    spans: Labels, groups: int = 6, tested: int = 2, *, embargo: int = 0, warm_up: int = 0
) -> Combinatorial:
    """Every choice of ``tested`` of ``groups``: C(N, k) splits and C(N, k)·k/N paths."""
    blocks = _groups(len(spans), groups, "groups")
    _checked(embargo, warm_up)
    if not 1 <= tested < groups:
        raise SeriesInvalid(f"tested is {tested}: it must be from 1 to {groups - 1}, one less than the groups")
    choices = list(itertools.combinations(range(groups), tested))
    splits = tuple(_split(spans, [blocks[number] for number in choice], embargo, warm_up) for choice in choices)
    # The j-th split that tries a group gives the j-th path its forecast.
    paths = np.empty((math.comb(groups, tested) * tested // groups, groups), dtype=np.int64)
    for group in range(groups):
        paths[:, group] = [number for number, choice in enumerate(choices) if group in choice]
    return Combinatorial(splits, tuple(blocks), paths)


def walk_forward(
    spans: Labels, train: int, test: int, *, step: int | None = None, anchored: bool = False, warm_up: int = 0
) -> tuple[Split, ...]:
    """Learn from ``train`` observations, try on the next ``test``, go on by ``step``.

    Args:
        step: how far to go on; ``test`` unless given, so that the tested blocks follow each other without a gap.
        anchored: learn from the first observation on instead of from the latest ``train``.
        warm_up: bars before each tested block for a filter to run over. The past may be learnt from, so they are not
            kept from training here.

    A last block that is shorter than ``test`` is tried as it is.
    """
    step = test if step is None else step
    if train < 1 or test < 1 or step < 1:
        raise SeriesInvalid(f"train {train}, test {test}, step {step}: each must be at least 1")
    _checked(0, warm_up)
    if train >= len(spans):
        raise SeriesInvalid(f"train is {train}: with {len(spans)} observations nothing is left to try")
    found = []
    for first in range(train, len(spans), step):
        block = (first, min(first + test, len(spans)))
        past = np.zeros(len(spans), dtype=bool)
        past[0 if anchored else first - train : first] = True
        kept = past & ~_overlapping(spans, block)
        found.append(Split(np.flatnonzero(kept), (block,), ((max(first - warm_up, 0), first),)))
    return tuple(found)


def _split(spans: Labels, blocks: Sequence[Block], embargo: int, warm_up: int) -> Split:
    kept = np.ones(len(spans), dtype=bool)
    merged = _merged(blocks)
    for first, stop in merged:
        kept[first:stop] = False
        kept[max(first - warm_up, 0) : first] = False
        kept &= ~_overlapping(spans, (first, stop))
        after = int(np.searchsorted(spans.start, np.max(spans.end[first:stop]), side="right"))
        kept[after : after + embargo] = False
    return Split(np.flatnonzero(kept), merged, tuple((max(first - warm_up, 0), first) for first, _ in merged))


def _overlapping(spans: Labels, block: Block) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Observations whose span meets the time that a block's spans take."""
    low, high = spans.start[block[0]], np.max(spans.end[block[0] : block[1]])
    meets: np.ndarray[tuple[int], np.dtype[np.bool_]] = (spans.start <= high) & (spans.end >= low)
    return meets


def _merged(blocks: Sequence[Block]) -> tuple[Block, ...]:
    found: list[Block] = []
    for first, stop in blocks:
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((first, stop))
    return tuple(found)


def _groups(count: int, groups: int, what: str) -> list[Block]:
    if not 2 <= groups <= count:
        raise SeriesInvalid(f"{what} is {groups}: it must be from 2 to the {count} observations")
    edges = [count * number // groups for number in range(groups + 1)]
    return list(itertools.pairwise(edges))


def _checked(embargo: int, warm_up: int) -> None:
    if embargo < 0 or warm_up < 0:
        raise SeriesInvalid(f"embargo {embargo}, warm_up {warm_up}: both must be zero or more")


# ---- the auditor -------------------------------------------------------------------------------------------------


class LeakKind(StrEnum):
    """What a training observation shares with the observations it is tried on."""

    SAME_OBSERVATION = "SAME_OBSERVATION"
    SPAN_OVERLAPS = "SPAN_OVERLAPS"
    WITHIN_EMBARGO = "WITHIN_EMBARGO"
    WITHIN_WARM_UP = "WITHIN_WARM_UP"


@dataclass(frozen=True, slots=True)
class Leak:
    """Training observation ``train`` knows something of the tested observation ``test``."""

    kind: LeakKind
    train: int
    test: int


def audit(spans: Labels, train: ArrayLike, test: ArrayLike, *, embargo: int = 0, warm_up: int = 0) -> tuple[Leak, ...]:
    """Every training observation that leaks, with its first reason; nothing for an honest split.

    Args:
        train, test: indices of observations, of any splitter.
        embargo, warm_up: what was promised; 0 for walk-forward, whose training ends before what is tried.
    """
    learnt, tried = (np.unique(np.asarray(each, dtype=np.int64)) for each in (train, test))
    for name, each in (("train", learnt), ("test", tried)):
        if len(each) and not (each[0] >= 0 and each[-1] < len(spans)):
            raise SeriesInvalid(f"{name} names observations outside 0 to {len(spans) - 1}")
    is_tried = np.zeros(len(spans), dtype=bool)
    is_tried[tried] = True
    found = [Leak(LeakKind.SAME_OBSERVATION, int(one), int(one)) for one in learnt[is_tried[learnt]]]
    others = learnt[~is_tried[learnt]]
    if len(tried) and len(others):
        found += _span_leaks(spans, others, tried)
        known = {leak.train for leak in found}
        near = {
            **_near(spans, tried, warm_up, LeakKind.WITHIN_WARM_UP),
            **_near(spans, tried, embargo, LeakKind.WITHIN_EMBARGO),
        }
        found += [near[one] for one in others.tolist() if one in near and one not in known]
    return tuple(sorted(found, key=lambda leak: leak.train))


def _span_leaks(spans: Labels, others: Ints, tried: Ints) -> list[Leak]:
    """For each training span: of the tried spans that begin before it ends, does the one that ends last reach it?"""
    ends = spans.end[tried]
    latest = np.maximum.accumulate(ends)
    holder = np.maximum.accumulate(np.where(ends == latest, np.arange(len(tried)), 0))
    before = np.searchsorted(spans.start[tried], spans.end[others], side="right") - 1
    meets = (before >= 0) & (latest[np.maximum(before, 0)] >= spans.start[others])
    return [
        Leak(LeakKind.SPAN_OVERLAPS, int(one), int(tried[holder[place]]))
        for one, place in zip(others[meets], before[meets], strict=True)
    ]


def _near(spans: Labels, tried: Ints, reach: int, kind: LeakKind) -> dict[int, Leak]:
    """Observations within ``reach`` of a tried one: before it begins (warm-up) or after its span ends (embargo)."""
    found: dict[int, Leak] = {}
    for one in tried.tolist() if reach else ():
        if kind is LeakKind.WITHIN_WARM_UP:
            places = range(max(one - reach, 0), one)
        else:
            after = int(np.searchsorted(spans.start, spans.end[one], side="right"))
            places = range(after, min(after + reach, len(spans)))
        for place in places:
            found.setdefault(place, Leak(kind, place, one))
    return found
