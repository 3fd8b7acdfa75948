"""Luck: what the same strategy earns where there is nothing to earn, and what chance earns with the same trades.

Three questions. Does it earn or lose on fair markets? A mean Sharpe ratio away from zero there is bias in the pipeline,
in either direction: labels that know the future and are traded a bar late lose. Does it earn more on the bars as they
were than on the same bars in another order? And do its entries earn more than entries at random, of the same number,
lengths and sides? The last two give p-values as (k + 1) / (n + 1), which no number of draws makes zero (B. Phipson and
G. Smyth, "Permutation p-values should never be zero", 2010).

A p-value says how often chance does as well. It knows nothing of how many strategies were tried before this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec
import numpy as np
from numpy.typing import NDArray

from tapeline_lab.bias.findings import Finding, Kind
from tapeline_lab.bias.nulls import independent, mirrored, permuted, resampled
from tapeline_lab.bias.tables import TIME, Table, checked
from tapeline_lab.progress import Progress

Floats = NDArray[np.float64]

SERIES = 200
DRAWS = 2_000
BLOCK = 1
LEAST_BARS = 50
STANDARD_ERRORS = 2.0


class Null(StrEnum):
    """A kind of market with nothing to earn."""

    RESAMPLED = "RESAMPLED"
    MIRRORED = "MIRRORED"
    INDEPENDENT = "INDEPENDENT"


@dataclass(frozen=True)
class Segment:
    """One stay in the market: held from the open of bar ``start`` to that of bar ``stop``; short below zero."""

    start: int
    stop: int
    quantity: float


@dataclass(frozen=True)
class Performer:
    """What is tested.

    Attributes:
        returns: bars → what it earns on them without costs, as simple returns of equal periods, shape (periods,).
        periods_per_year: how many of these periods a year has.
        segments: bars → its stays there.
    """

    name: str
    returns: Callable[[Table], Floats]
    periods_per_year: float
    segments: Callable[[Table], Sequence[Segment]]

    def sharpe(self, table: Table) -> float:
        """Annual Sharpe ratio; 0 where nothing was earned or lost."""
        returns = self.returns(table)
        spread = float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
        return 0.0 if spread == 0.0 else float(np.mean(returns)) / spread * math.sqrt(self.periods_per_year)


class NullTest(msgspec.Struct, frozen=True, kw_only=True):
    """Sharpe ratios on fair markets. ``is_fair``: their mean is within two standard errors of zero.

    ``again``: the mean over as many other series, drawn where the first was not within; both have to miss zero on the
    same side before that is called bias, since one batch in twenty misses it by chance.
    """

    null: Null
    series: int
    mean_sharpe: float
    standard_error: float
    again: float | None
    is_fair: bool


class PermutationTest(msgspec.Struct, frozen=True, kw_only=True):
    """The Sharpe ratio on the bars as they were, among those on shuffled blocks of them that keep the drift."""

    sharpe: float
    series: int
    block: int
    as_good: int
    p_value: float


class RandomEntryTest(msgspec.Struct, frozen=True, kw_only=True):
    """What the stays earned before costs, in quote currency, among as many of the same lengths at random places."""

    trades: int
    earned: float
    draws: int
    as_good: int
    p_value: float


class Significance(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that was asked of one strategy. ``random_entry`` is ``None`` where there was no trade."""

    subject: str
    bars: int
    seed: int
    nulls: tuple[NullTest, ...]
    permutation: PermutationTest
    random_entry: RandomEntryTest | None
    findings: tuple[Finding, ...]

    @property
    def is_clean(self) -> bool:
        return not self.findings


def significance(
    performer: Performer,
    table: Table,
    *,
    series: int = SERIES,
    draws: int = DRAWS,
    block: int = BLOCK,
    seed: int = 0,
    progress: Progress | None = None,
) -> Significance:
    """Ask the three questions.

    Args:
        table: bars of one instrument.
        series: markets drawn for each null and for the permutation test.
        draws: random placements of the stays.
        block: bars that stay together in the permutation test, which then grants the dependence within them to chance.

    Raises:
        ValueError: too few bars for two blocks, or fewer than 50.
    """
    bars = len(checked(table)[TIME])
    if bars < max(LEAST_BARS, 2 * block + 1):
        raise ValueError(f"{bars} bars are too few to be shuffled in blocks of {block}: give at least twice as many")
    steps = _Steps(progress, (len(Null) + 1) * series)
    nulls = tuple(null_test(performer, table, null, series, seed, steps) for null in Null)
    permutation = permutation_test(performer, table, series, block, seed, steps)
    segments = performer.segments(table)
    entry = random_entry_test(segments, table, draws, seed) if segments else None
    return Significance(
        subject=performer.name,
        bars=bars,
        seed=seed,
        nulls=nulls,
        permutation=permutation,
        random_entry=entry,
        findings=tuple(_finding(performer.name, test, table) for test in nulls if not test.is_fair),
    )


class _Steps:
    """Counts the markets that were run."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def take(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))


def null_test(
    performer: Performer, table: Table, null: Null, series: int, seed: int, steps: _Steps | None = None
) -> NullTest:
    """The mean Sharpe ratio over fair markets, two-sided."""
    steps = steps or _Steps(None, series)
    mean, error = _batch(performer, table, null, range(series), seed, steps)
    again = None
    is_fair = abs(mean) <= STANDARD_ERRORS * error
    if not is_fair:
        again, other = _batch(performer, table, null, range(series, 2 * series), seed, steps)
        is_fair = abs(again) <= STANDARD_ERRORS * other or (again > 0) != (mean > 0)
    return NullTest(
        null=null, series=series, mean_sharpe=mean, standard_error=error, again=again, is_fair=is_fair
    )  # fmt: skip


def _batch(
    performer: Performer, table: Table, null: Null, numbers: range, seed: int, steps: _Steps
) -> tuple[float, float]:
    """Mean and standard error of Sharpe ratios whose deviation is that of all series together.

    A ratio of its own deviation would not be zero on average: where gains come with more volatility than losses, as in
    trends, short series have a mean below zero.
    """
    means, variances = np.empty(len(numbers)), np.empty(len(numbers))
    for place, number in enumerate(numbers):
        returns = performer.returns(_MARKETS[null](table, _seed(seed, number)))
        means[place], variances[place] = (returns.mean(), returns.var()) if len(returns) else (0.0, 0.0)
        steps.take()
    spread = math.sqrt(float(variances.mean()))
    ratios = means / spread * math.sqrt(performer.periods_per_year) if spread else np.zeros(len(means))
    return float(ratios.mean()), float(ratios.std(ddof=1) / math.sqrt(len(ratios)))


def permutation_test(
    performer: Performer, table: Table, series: int, block: int, seed: int, steps: _Steps | None = None
) -> PermutationTest:
    """How often the bars in another order, ending at the same price, are traded as well."""
    steps = steps or _Steps(None, series)
    observed, as_good = performer.sharpe(table), 0
    for number in range(series):
        market = permuted(table, _seed(seed, -1 - number), block)
        as_good += performer.sharpe(market) >= observed
        steps.take()
    return PermutationTest(
        sharpe=observed, series=series, block=block, as_good=as_good, p_value=(as_good + 1) / (series + 1)
    )


def random_entry_test(segments: Sequence[Segment], table: Table, draws: int, seed: int) -> RandomEntryTest:
    """How often stays of the same lengths, sizes and sides earn as much at random places, in random order.

    The time out of the market is divided at random between them; they never overlap. Prices are opens.
    """
    opens = table["open"]
    lengths = np.array([segment.stop - segment.start for segment in segments])
    quantities = np.array([segment.quantity for segment in segments])
    starts = np.array([segment.start for segment in segments])
    earned = float(np.sum(quantities * (opens[starts + lengths] - opens[starts])))
    chance = np.random.Generator(np.random.Philox([seed, 2]))
    free = len(opens) - 1 - int(lengths.sum())
    as_good = 0
    for _ in range(draws):
        order = chance.permutation(len(segments))
        gaps = np.sort(chance.integers(0, free + 1, len(segments)))
        placed = gaps + np.concatenate([[0], np.cumsum(lengths[order])[:-1]])
        as_good += float(np.sum(quantities[order] * (opens[placed + lengths[order]] - opens[placed]))) >= earned
    return RandomEntryTest(
        trades=len(segments), earned=earned, draws=draws, as_good=as_good, p_value=(as_good + 1) / (draws + 1)
    )


_MARKETS: dict[Null, Callable[[Table, int], Table]] = {
    Null.RESAMPLED: resampled,
    Null.MIRRORED: mirrored,
    Null.INDEPENDENT: independent,
}


def _seed(seed: int, number: int) -> int:
    """Different for every series of every test of a seed."""
    return (seed * 1_000_003 + number) % 2**63


def _finding(subject: str, test: NullTest, table: Table) -> Finding:
    detail = f"mean Sharpe {test.mean_sharpe:+.2f} (standard error {test.standard_error:.2f}) on {test.series} fair "
    detail += f"markets, {test.null.value.lower()}, and {test.again:+.2f} on as many others"
    return Finding(
        kind=Kind.NULL_EARNS, subject=subject, column="", bar=0, time_ns=int(table[TIME][0]), detail=detail,
        worst=test.mean_sharpe,
    )  # fmt: skip
