"""What is possible and yet worth a look: spikes, jumps, suspected splits, runs of equal prices, a changed timeframe.

Every rule is relative to the bars around it (the median absolute return of a block of bars), so that one threshold
serves a currency's minutes and a coin's days. Nothing here is proof; all of it are warnings, but a timeframe that
changes within the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tapeline_lab.data.flaws import Flaw, Tally
from tapeline_marketdata.files import NUMBER_COLUMNS, BarColumns

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

BLOCK = 512
"""Bars whose returns are taken together for what is usual."""

LEAST_STEPS = 32
"""Rows that a block needs for its timeframe to be judged."""

MAD_TO_SIGMA = 1.4826
"""Of a normal distribution: standard deviation over median absolute deviation."""

RETURNED = 0.7
"""A spike is a move of which the next bar takes back at least so much."""

SPLITS = (2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 1.5)
"""New shares for one old one, as companies do it; 1.5 is three for two. Reverse splits are the same upside down."""

SPLIT_TOLERANCE = 0.03
"""How far a jump may be from a split's ratio, as a fraction: the market also moved that night."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """spike: in robust standard deviations of the bars around. stale: bars with one and the same price in a row."""

    spike: float = 25.0
    stale: int = 20


def note_oddities(columns: BarColumns, length_ns: int, thresholds: Thresholds, tally: Tally) -> None:
    """Put every oddity into the tally. length_ns: of the bars, 0 if they have no fixed one."""
    _note_volumes(columns, tally)
    _note_stale(columns, thresholds.stale, tally)
    _note_moves(columns, thresholds.spike, tally)
    if length_ns:
        _note_drift(columns.open_ns, length_ns, tally)


def _note_volumes(columns: BarColumns, tally: Tally) -> None:
    empty = np.flatnonzero(columns.volume == 0)
    if not len(empty):
        return
    if len(empty) == len(columns):
        tally.add(Flaw.ZERO_VOLUME, "no bar has a volume: limits on participation cannot work", count=len(empty))
        return
    moved = columns.high[empty] != columns.low[empty]
    detail = f"volume 0; in {np.count_nonzero(moved):,} of {len(empty):,} such bars the price moved all the same"
    _add_rows(tally, Flaw.ZERO_VOLUME, empty, columns.open_ns, detail)


def _note_stale(columns: BarColumns, least: int, tally: Tally) -> None:
    """Runs of bars that are one price, the same in all of them."""
    flat = (columns.high == columns.low) & (columns.open == columns.close) & (columns.high == columns.close)
    same = np.zeros(len(columns), dtype=np.bool_)
    same[1:] = flat[1:] & flat[:-1] & (columns.close[1:] == columns.close[:-1])
    edges = np.flatnonzero(np.diff(same.astype(np.int8), prepend=0, append=0))
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if stop - start + 1 >= least:
            price = columns.texts("close", start, start + 1)[0]
            tally.add(
                Flaw.STALE_RUN,
                f"{stop - start + 1} bars in a row at {price}",
                row=start - 1,
                time_ns=int(columns.open_ns[start - 1]),
            )


def _note_moves(columns: BarColumns, spike: float, tally: Tally) -> None:
    """Moves far beyond what is usual around them: taken back at once, at a split's ratio, or just large."""
    usable = np.ones(len(columns), dtype=np.bool_)
    for name in NUMBER_COLUMNS[:4]:
        values: Floats = getattr(columns, name)
        usable &= np.isfinite(values) & (values > 0)
    rows = np.flatnonzero(usable)
    if len(rows) < LEAST_STEPS:
        return
    opens, highs, lows, closes = (np.log(getattr(columns, name)[rows]) for name in NUMBER_COLUMNS[:4])
    overnight, moves = opens[1:] - closes[:-1], np.diff(closes)
    large = spike * _usual(moves)
    after = np.append(closes[2:] - closes[1:-1], 0.0)
    returned = (np.abs(moves) > large) & (-after * np.sign(moves) >= RETURNED * np.abs(moves))
    wick = np.maximum(highs[1:] - np.maximum(opens, closes)[1:], np.minimum(opens, closes)[1:] - lows[1:])
    at = rows[1:]
    for row in np.flatnonzero(returned | (wick > large)).tolist():
        size = max(abs(float(moves[row])) if returned[row] else 0.0, float(wick[row]))
        tally.add(
            Flaw.SPIKE,
            f"away by a factor of {math.exp(size):.4g} and back within a bar or two; {spike:g} usual moves are"
            f" {math.exp(float(large[row])):.4g}",
            row=int(at[row]),
            time_ns=int(columns.open_ns[at[row]]),
        )
    before_back = np.concatenate(([False], returned[:-1]))  # the way back from a spike is no jump of its own
    for row in np.flatnonzero((np.abs(overnight) > large) & ~returned & ~before_back).tolist():
        step = float(np.exp(overnight[row]))
        ratio = _split(step)
        said = "" if ratio is None else f": near {ratio}, so prices before and after are not of one scale"
        tally.add(
            Flaw.JUMP if ratio is None else Flaw.SPLIT_SUSPECTED,
            f"opens at {step:.4g} times the close before{said}",
            row=int(at[row]),
            time_ns=int(columns.open_ns[at[row]]),
        )


def _usual(moves: Floats) -> Floats:
    """Robust standard deviation of the moves around each: of its block, and at least half of the whole file's."""
    sizes = np.abs(moves)
    whole = float(np.median(sizes))
    usual = np.empty(len(sizes), dtype=np.float64)
    for start in range(0, len(sizes), BLOCK):
        usual[start : start + BLOCK] = float(np.median(sizes[start : start + BLOCK]))
    return MAD_TO_SIGMA * np.maximum(np.maximum(usual, whole / 2), 1e-6)


def _split(step: float) -> str | None:
    """The split whose ratio this is, as people write it, or nothing."""
    for shares in SPLITS:
        name = "3 for 2" if shares == 1.5 else f"{shares:g} for 1"
        if abs(step * shares - 1.0) <= SPLIT_TOLERANCE:
            return f"a split of {name}"
        if abs(step / shares - 1.0) <= SPLIT_TOLERANCE:
            return f"a reverse split of {name}"
    return None


def _note_drift(open_ns: Ints, length_ns: int, tally: Tally) -> None:
    """Stretches whose rows mostly lie closer together, or further apart, than the file's timeframe says."""
    for start, steps in _blocks(np.diff(open_ns)):
        forward = steps[steps > 0]
        if len(forward) < LEAST_STEPS:
            continue
        lengths, counts = np.unique(forward, return_counts=True)
        most = int(lengths[np.argmax(counts)])
        if most != length_ns:
            detail = (
                f"from here on rows are mostly {most / 1e9:g} s apart, the file's timeframe is {length_ns / 1e9:g} s"
            )
            tally.add(Flaw.TIMEFRAME_DRIFT, detail, row=start, time_ns=int(open_ns[start]), count=len(steps))


def _blocks(steps: Ints) -> Iterator[tuple[int, Ints]]:
    for start in range(0, len(steps), BLOCK):
        yield start, steps[start : start + BLOCK]


def _add_rows(tally: Tally, flaw: Flaw, rows: Ints, open_ns: Ints, detail: str) -> None:
    first, last = int(rows[0]), int(rows[-1])
    tally.add(flaw, detail, row=first, time_ns=int(open_ns[first]), count=len(rows))
    if last != first:
        tally.add(flaw, detail, row=last, time_ns=int(open_ns[last]), count=0)


def rows_of(tally: Tally, flaw: Flaw, flags: Flags, open_ns: Ints, detail: str) -> None:
    """Every flagged row as one finding; nothing where there is none."""
    rows = np.flatnonzero(flags)
    if len(rows):
        _add_rows(tally, flaw, rows, open_ns, detail)
