"""Model drift: whether the bars still look as the promoted model foresees them.

Before a bar is folded into the belief, the model has said what return to expect: a mixture of its three emissions,
weighed by the predicted state probabilities. The probability of a return as low as the one that came (its PIT, Dawid
1984; Rosenblatt 1952) is uniform and independent from bar to bar as long as the model holds, whatever the regime does.
So it is the PITs that are watched, not the prices or features, whose level differs between regimes.

Only the return is scored, though the model also sees a volatility. Given the bars before, that volatility is a function
of the return: scoring both would count the same surprise twice, and the volatility's own PITs are not independent.

No fitted model is exact: returns have heavier tails than its Gaussians, and it is surer than it should be. That is no
drift. A PIT is therefore ranked among those of the bars the model was fitted on (``Reference``) and the rank turned
into a normal number of mean 0 and variance 1: the score. What is detected is a change since training.

Four detectors read the scores: CUSUMs of their level (both sides), of a wider and of a narrower scale, and ADWIN on
their size. This module says how far each is from its threshold. It decides nothing and says no fact: what follows from
drift (training anew, a rollback) is the operator's choice.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Final

from tapeline_regime.filtering import Belief, Prepared, predict, step

RETURN: Final = 0
"""The feature that is scored: the log return."""

SCORE_LIMIT: Final = 3.5
"""Largest score, either side. One wild bar is no drift: no bar may carry a CUSUM over its threshold alone. Ranks among
1,500 bars end at 3.4 anyway."""

LEAST_REFERENCE: Final = 200
"""Training bars under which their PITs are no reference: the least that a model is fitted on."""

LEVEL_SHIFT: Final = 0.5
"""Shift of the mean, in standard deviations of the score, that the level's CUSUM is quickest at."""

SCALE_RATIO: Final = 1.2
"""Standard deviation of the scores that the CUSUM of a wider scale is quickest at; its inverse is the
narrower one's. A change of volatility by half raises it to about 1.12: the model explains much of it as more BEAR."""

LEVEL_THRESHOLD: Final = 9.0
WIDER_THRESHOLD: Final = 5.0
NARROWER_THRESHOLD: Final = 6.5
LEVEL_DOUBT: Final = 1.0
SCALE_DOUBT: Final = 2.0
"""Thresholds in nats; and standard errors of the reference's mean and scale that are allowed for before anything counts
as drift, because what the training bars were is known no better than their number allows, and a wrong reference would
alarm for good.

Chosen together by simulation: eighty markets of three regimes (seeds 200 to 239 and 400 to 439 of ``market`` in
``tests/cores/test_regime_drift.py``), a model fitted to 2,000 bars of each, 6,000 bars after it. False alarms in 10,000
bars: level 0.4, wider 0.4, narrower 0.1, ADWIN 0. On forty others (500 to 539) they were 0.9 in all, and volatility
times 1.5 was found in 244 bars (median; one market in ten took more than 770). A market that became calmer is the least
urgent news, so it has the largest threshold of the two.
"""

CEILING: Final = 2.0
"""A CUSUM stops at so many thresholds, so that it comes down as soon after a drift as it went up."""

ADWIN_CONFIDENCE: Final = 0.002
"""Bound on the probability that a window of equal means is cut, at each bar (ADWIN's delta)."""

ADWIN_BUCKETS: Final = 5
"""Buckets of one size kept before two of them are merged (ADWIN's M)."""

ADWIN_LEAST: Final = 5
"""Scores on either side of a cut, at least."""

ADWIN_CLOCK: Final = 8
"""Scores between two looks for a cut. A look takes 55 us, which a restore would pay for every bar of the tape; a change
is found by ADWIN in hundreds of bars."""

ADWIN_HOLD_BARS: Final = 250
"""How long a cut is shown. A cut forgets what was before the change, so by itself it would be seen for one bar."""

DETECTORS: Final = ("level", "wider", "narrower", "adwin")

Score = tuple[str, float, float]
"""Detector, its statistic, and the threshold above which it says drift."""

_NORMAL = NormalDist()


def pit(prepared: Prepared, belief: Belief | None, value: float) -> float:
    """Probability, under the model, of a return of at most ``value`` at the next bar.

    Args:
        prepared: the model.
        belief: after the bar before, or None before the first.
        value: finite, in the return's own units.

    Returns:
        In [0, 1]: the mixture of the states' normal distribution functions under the predicted probabilities.
    """
    p0, p1, p2 = predict(prepared, belief)
    m0, m1, m2, h0, h1, h2 = prepared.columns[RETURN]
    return 0.5 * (
        p0 * math.erfc((m0 - value) * math.sqrt(h0))
        + p1 * math.erfc((m1 - value) * math.sqrt(h1))
        + p2 * math.erfc((m2 - value) * math.sqrt(h2))
    )


@dataclass(frozen=True, slots=True)
class Reference:
    """What the PITs of the training bars were: turns a PIT into a score.

    Attributes:
        pits: ascending; packed, because every model that can still be promoted has some.
        mean, deviation: of the normal numbers of the training bars' own ranks, so that their scores have mean 0 and
            variance 1.
    """

    pits: array[float]
    mean: float
    deviation: float

    def score(self, value: float) -> float:
        """In [-SCORE_LIMIT, SCORE_LIMIT]; equal PITs share the middle of their ranks."""
        return _limited((_normal_of_rank(self.pits, value) - self.mean) / self.deviation)


def reference(prepared: Prepared, observations: Iterable[Sequence[float]]) -> Reference | None:
    """The reference of a model, from the bars it was fitted on, oldest first. None if they are too few or all alike."""
    belief: Belief | None = None
    pits: list[float] = []
    for observation in observations:
        if math.isfinite(observation[RETURN]):
            pits.append(pit(prepared, belief, observation[RETURN]))
        belief, _ = step(prepared, belief, observation)
    count = len(pits)
    if count < LEAST_REFERENCE or min(pits) == max(pits):
        return None
    pits.sort()
    own = [_normal_of_rank(pits, value) for value in pits]
    mean = math.fsum(own) / count
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in own) / count)
    return Reference(array("d", pits), mean, deviation)


def _normal_of_rank(pits: Sequence[float], value: float) -> float:
    """The normal number of a value's rank among ascending ones, which are as far apart as the quantiles of as many."""
    half_rank = bisect_left(pits, value) + bisect_right(pits, value)
    return _NORMAL.inv_cdf((0.5 * half_rank + 0.5) / (len(pits) + 1))


def _limited(score: float) -> float:
    return min(max(score, -SCORE_LIMIT), SCORE_LIMIT)


def unreferenced(value: float) -> float:
    """The score of a PIT under a model whose training bars are not known: as if the model were exact."""
    return _limited(_NORMAL.inv_cdf(min(max(value, 1e-9), 1.0 - 1e-9)))


@dataclass(slots=True)
class Cusum:
    """Four CUSUMs of scores, each a log likelihood ratio against N(0, 1), in nats (Page 1954; Hawkins and Olwell 1998).

    ``higher`` and ``lower`` test for a mean of +-LEVEL_SHIFT, ``wider`` and ``narrower`` for a standard deviation of
    SCALE_RATIO and its inverse. Each starts at 0 and falls back to it: evidence for the model is not saved up.

    Attributes:
        count: scores that the reference rests on; the fewer, the more is allowed for (LEVEL_DOUBT, SCALE_DOUBT).
    """

    count: int = LEAST_REFERENCE
    higher: float = 0.0
    lower: float = 0.0
    wider: float = 0.0
    narrower: float = 0.0

    def push(self, score: float) -> None:
        mean_error, scale_error = LEVEL_DOUBT / math.sqrt(self.count), SCALE_DOUBT / math.sqrt(2 * self.count)
        cost = LEVEL_SHIFT * (mean_error + 0.5 * LEVEL_SHIFT)
        self.higher = _held(self.higher + LEVEL_SHIFT * score - cost, LEVEL_THRESHOLD)
        self.lower = _held(self.lower - LEVEL_SHIFT * score - cost, LEVEL_THRESHOLD)
        least, most = score / (1.0 + scale_error), score * (1.0 + scale_error)
        self.wider = _held(self.wider + 0.5 * least * least * _WIDER - _LOG_RATIO, WIDER_THRESHOLD)
        self.narrower = _held(self.narrower - 0.5 * most * most * _NARROWER + _LOG_RATIO, NARROWER_THRESHOLD)


_LOG_RATIO: Final = math.log(SCALE_RATIO)
_WIDER: Final = 1.0 - 1.0 / SCALE_RATIO**2
_NARROWER: Final = SCALE_RATIO**2 - 1.0


def _held(statistic: float, threshold: float) -> float:
    return min(max(statistic, 0.0), CEILING * threshold)


@dataclass(slots=True)
class Adwin:
    """ADWIN (Bifet and Gavalda 2007, algorithm ADWIN2): the longest recent window whose mean did not change.

    The window is kept as buckets of 1, 2, 4, ... values, at most ADWIN_BUCKETS of a size, so its memory grows with the
    logarithm of its length.

    Attributes:
        clock: values between two looks for a cut.
        rows: row i holds buckets of 2**i values, oldest first, each (sum, sum of squares).
        count, total, squares: of the whole window.
        ratio: the largest gap between two parts of the window, over what chance allows, at the last look.
        since_look: values taken since then.
    """

    clock: int = ADWIN_CLOCK
    rows: list[list[tuple[float, float]]] = field(default_factory=lambda: [[]])
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    ratio: float = 0.0
    since_look: int = 0

    def push(self, value: float) -> None:
        """Take a value; at a look, forget the oldest ones as long as their mean differs from that of the rest."""
        self.rows[0].append((value, value * value))
        self.count += 1
        self.total += value
        self.squares += value * value
        self._merge()
        self.since_look += 1
        if self.since_look < self.clock:
            return
        self.since_look = 0
        self.ratio = ratio = self._largest_ratio()
        while ratio > 1.0:
            self._forget_oldest()
            ratio = self._largest_ratio()

    def _merge(self) -> None:
        for row, buckets in enumerate(self.rows):
            if len(buckets) <= ADWIN_BUCKETS:
                return
            (first, first_squares), (second, second_squares) = buckets[:2]
            del buckets[:2]
            if row + 1 == len(self.rows):
                self.rows.append([])
            self.rows[row + 1].append((first + second, first_squares + second_squares))

    def _forget_oldest(self) -> None:
        total, squares = self.rows[-1].pop(0)
        self.count -= 2 ** (len(self.rows) - 1)
        self.total -= total
        self.squares -= squares
        while len(self.rows) > 1 and not self.rows[-1]:
            del self.rows[-1]

    def _largest_ratio(self) -> float:
        """Over all cuts between buckets: the gap of the two means over its bound (equation 3.1 with the variance)."""
        count, total = self.count, self.total
        if count < 2 * ADWIN_LEAST:
            return 0.0
        mean = total / count
        variance = max(0.0, self.squares / count - mean * mean)
        confidence = math.log(2.0 * math.log(count) / ADWIN_CONFIDENCE)
        spread, bias = 2.0 * variance * confidence, 2.0 / 3.0 * confidence
        largest, before, before_total = 0.0, 0, 0.0
        for row in range(len(self.rows) - 1, -1, -1):
            size = 1 << row
            for bucket_total, _ in self.rows[row]:
                before += size
                before_total += bucket_total
                after = count - before
                if after < ADWIN_LEAST:
                    return largest
                if before < ADWIN_LEAST:
                    continue
                width = 1.0 / (before - ADWIN_LEAST + 1) + 1.0 / (after - ADWIN_LEAST + 1)
                gap = abs(before_total / before - (total - before_total) / after)
                ratio = gap / (math.sqrt(spread * width) + bias * width)
                if ratio > largest:
                    largest = ratio
        return largest


@dataclass(slots=True)
class Drift:
    """The detectors of one instrument's promoted model; a new one at each promotion.

    Attributes:
        reference: of the model's training bars; None: its scores are taken as if the model were exact.
        bars: scored so far.
    """

    reference: Reference | None = None
    bars: int = 0
    cusum: Cusum = field(init=False)
    adwin: Adwin = field(default_factory=Adwin)
    _shown: float = 0.0
    _shown_until: int = 0

    def __post_init__(self) -> None:
        self.cusum = Cusum(LEAST_REFERENCE if self.reference is None else len(self.reference.pits))

    def push(self, prepared: Prepared, belief: Belief | None, observation: Sequence[float]) -> None:
        """Score one bar. A return that is not finite says nothing and is passed over, as the filter does.

        Args:
            prepared: the promoted model.
            belief: before the bar is folded into it.
            observation: the bar's features, in their own units.
        """
        value = observation[RETURN]
        if not math.isfinite(value):
            return
        probability = pit(prepared, belief, value)
        known = self.reference
        self.take(unreferenced(probability) if known is None else known.score(probability))

    def take(self, score: float) -> None:
        """One score, N(0, 1) and independent of those before as long as nothing drifts."""
        self.bars += 1
        self.cusum.push(score)
        self.adwin.push(abs(score))
        if self.adwin.ratio > 1.0:
            self._shown, self._shown_until = self.adwin.ratio, self.bars + ADWIN_HOLD_BARS

    def scores(self) -> tuple[Score, ...]:
        """Each detector's statistic and threshold; above it, the detector says drift."""
        cusum = self.cusum
        cut = max(self._shown, self.adwin.ratio) if self.bars < self._shown_until else self.adwin.ratio
        return (
            ("level", max(cusum.higher, cusum.lower), LEVEL_THRESHOLD),
            ("wider", cusum.wider, WIDER_THRESHOLD),
            ("narrower", cusum.narrower, NARROWER_THRESHOLD),
            ("adwin", cut, 1.0),
        )

    @property
    def detected(self) -> bool:
        return any(statistic > threshold for _, statistic, threshold in self.scores())
