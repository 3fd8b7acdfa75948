"""How far the best of recorded searches may be believed: every statistic of a study, from its record alone.

The trials are counted from the tapes of the studies, never told by whoever wants to know. Nothing is run again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np

from tapeline_common.events import Parameters
from tapeline_common.values import TrialPart
from tapeline_lab.search.study import Study
from tapeline_lab.validity.evidence import CONFIDENCE, Evidence, verdict, weigh
from tapeline_lab.validity.series import Floats
from tapeline_lab.validity.sharpe import deflated, moments, probability_above, track_record
from tapeline_lab.validity.superior import superior_predictive_ability, superior_trials


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """The best trial of a search on one instrument, and what its record says of it. ``None``: could not be computed.

    Attributes:
        days: UTC days of the search.
        searched: values of each parameter of which more than one was tried, and the best trial's in ``parameters``.
        trials: on record in this study on this instrument; ``counted``: in all studies of the call.
        effective: how many independent trials the counted ones are worth.
        sharpe, sharpe_low, sharpe_high: annual, with its bootstrapped 95 % interval.
        probability: that the true Sharpe ratio is above zero (PSR).
        needed_days: record that such returns need for a PSR of 95 % (MinTRL); ``None`` if none would do.
        luck: annual Sharpe ratio expected of the best of so many worthless trials; ``deflated``: probability of being
            above it (DSR).
        overfitting: PBO.
        over_nothing, over_holding: p-values of Hansen's SPA; ``better_than_...``: how many trials StepM finds better.
        holding_share: part of the money that, held in the instrument, was as volatile as the best trial.
        inside_sharpe, outside_sharpe: annual, of a walk-forward: of what trainings chose, and of the tests after them.
        level, words: the verdict.
    """

    study: str
    strategy: str
    instrument: str
    timeframe: str
    days: int
    parameters: Parameters
    searched: tuple[str, ...]
    trades: int
    trials: int
    counted: int
    effective: float | None
    sharpe: float
    sharpe_low: float | None
    sharpe_high: float | None
    probability: float
    needed_days: float | None
    luck: float | None
    deflated: float | None
    overfitting: float | None
    over_nothing: float | None
    better_than_nothing: int | None
    holding_sharpe: float | None
    holding_share: float | None
    over_holding: float | None
    better_than_holding: int | None
    inside_sharpe: float | None
    outside_sharpe: float | None
    outside_days: int | None
    outside_t: float | None
    level: str
    words: tuple[str, ...]


def judged(
    study: Study, ground: int, *, counted: int, seed: int, walk: Study | None = None, holding: Floats | None = None
) -> Judged | None:
    """The best trial of a ground by the study's objective; ``None`` if it has no such trial.

    Args:
        counted: how many trials were made in all; at least those of the ground.
        walk: a walk-forward of the same strategy and instrument.
        holding: daily returns of holding the instrument, shape (days,).
    """
    best = study.best(ground)
    if best is None:
        return None
    where, year, matrix = study.grounds[ground], study.year(ground), study.returns(ground)
    returns = matrix[:, study.on(ground).index(best)]
    share = None if holding is None else _share(returns, holding)
    benchmark = None if holding is None or share is None else share * holding
    walked = None if walk is None else walk.walked(where.instrument, where.timeframe, best.strategy)
    inside, outside = (None, None) if walked is None or not len(walked[1]) else walked
    evidence = weigh(
        returns,
        seed=seed,
        periods_per_year=float(year),
        matrix=matrix,
        trials=counted,
        benchmark=benchmark,
        inside=inside if inside is not None and len(inside) > 1 else None,
        outside=outside,
    )
    held = "doing nothing" if share is None else f"holding with {share:.0%} of the money (the same volatility)"
    evidence = replace(evidence, trades=best.figures.trades, benchmark=held.replace("%", " %"))
    plain = evidence.superiority
    if benchmark is not None and plain is not None:
        plain = superior_predictive_ability(matrix, seed=seed).consistent
    found = verdict(evidence)
    outside_t = None
    if evidence.outside_sharpe is not None and evidence.outside_periods is not None:
        outside_t = evidence.outside_sharpe * math.sqrt(evidence.outside_periods / year)
    return Judged(
        study=str(study.folder),
        strategy=best.strategy,
        instrument=where.instrument,
        timeframe=where.timeframe,
        days=len(returns),
        parameters=best.parameters,
        searched=_searched(study, ground, best.strategy),
        trades=best.figures.trades,
        trials=matrix.shape[1],
        counted=counted,
        **_of_evidence(evidence, year),
        over_nothing=plain,
        better_than_nothing=None if plain is None else len(superior_trials(matrix, seed=seed)),
        holding_sharpe=None if holding is None else moments(holding).sharpe * math.sqrt(year),
        holding_share=share,
        over_holding=None if benchmark is None else evidence.superiority,
        better_than_holding=None
        if benchmark is None or plain is None
        else len(superior_trials(matrix, benchmark, seed=seed)),
        outside_t=outside_t,
        level=found.level.value,
        words=found.words,
    )


def whole_grounds(study: Study) -> list[int]:
    """Grounds of a study that are no fold of a walk-forward."""
    return [index for index, ground in enumerate(study.grounds) if ground.part is TrialPart.WHOLE]


def count(studies: Sequence[Study]) -> int:
    """Trials on the records of all studies, those without a result included."""
    return sum(study.trial_count for study in studies)


def _share(returns: Floats, holding: Floats) -> float | None:
    """Part of the money with which holding is as volatile as these returns, at most all of it."""
    own, held = float(np.std(returns)), float(np.std(holding))
    return min(1.0, own / held) if own > 0.0 and held > 0.0 else None


def _searched(study: Study, ground: int, strategy: str) -> tuple[str, ...]:
    tried: dict[str, set[object]] = {}
    for trial in study.on(ground):
        if trial.strategy == strategy:
            for name, value in trial.parameters.items():
                tried.setdefault(name, set()).add(value)
    return tuple(name for name, values in tried.items() if len(values) > 1)


def _of_evidence(evidence: Evidence, year: int) -> dict[str, Any]:
    """The figures that a verdict rests on."""
    own, interval = evidence.moments, evidence.sharpe
    needed = track_record(own, confidence=CONFIDENCE) if own.sharpe > 0.0 else math.inf
    trials = evidence.effective_trials or evidence.trials
    lucky = None
    if evidence.trial_variance is not None and trials is not None:
        lucky = deflated(own, evidence.trial_variance, trials)
    return {
        "effective": evidence.effective_trials,
        "sharpe": own.sharpe * math.sqrt(year),
        "sharpe_low": None if interval is None else float(interval.low),
        "sharpe_high": None if interval is None else float(interval.high),
        "probability": probability_above(own),
        "needed_days": None if math.isinf(needed) else needed,
        "luck": None if lucky is None else lucky.benchmark * math.sqrt(year),
        "deflated": None if lucky is None else lucky.probability,
        "overfitting": evidence.overfitting,
        "inside_sharpe": evidence.inside_sharpe,
        "outside_sharpe": evidence.outside_sharpe,
        "outside_days": evidence.outside_periods,
    }
