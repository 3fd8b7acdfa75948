"""How much a result depends on the exact setting: trials all around one, and the middle of what is good.

A peak that its neighbours do not share is luck. What is recommended is the setting with the best surroundings: of all
that were tried, the one whose nearest neighbours have the highest median.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from tapeline_common.events import Parameters, ParameterValue, TrialFinished
from tapeline_lab.search.objectives import Objective, best_of, score_of, value_of
from tapeline_strategy.sdk import Parameter, Strategy

Floats = npt.NDArray[np.float64]

LEVELS = 33
"""Values of a fractional parameter between its ends: an odd number, so that the centre is one of them."""

NEIGHBOURS_SHARE = 0.1
LEAST_NEIGHBOURS = 5


class Point(msgspec.Struct, frozen=True):
    """One setting of the surface; ``value`` is ``None`` where the objective is not defined."""

    parameters: Parameters
    value: float | None
    net_profit: float


class Sensitivity(msgspec.Struct, frozen=True):
    """What ``--json`` prints of a strategy on an instrument.

    Attributes:
        median: of the objective over the neighbourhood, the centre included.
        plateau_ratio: median over peak, where the peak is above zero; from 0.7 on the peak stands on a plateau.
        profitable: share of the settings that earned something.
        recommended: centre of the plateau; absent where even the peak is not above zero.
        surface: every setting that was tried, the centre first.
    """

    strategy: str
    instrument: str
    timeframe: str
    objective: str
    within: float
    points: int
    centre: Parameters
    centre_value: float | None
    peak: Parameters | None
    peak_value: float | None
    median: float | None
    plateau_ratio: float | None
    profitable: float
    recommended: Parameters | None
    recommended_value: float | None
    surface: list[Point]


def neighbourhood(strategy: Strategy, centre: Parameters, within: float, held: Sequence[str]) -> dict[str, list[str]]:
    """Values around a setting, by parameter: ``within`` (a fraction) to both sides, inside the declared bounds.

    Truths, parameters that are ``held`` and those that are zero stay as they are: a share of zero is no distance.
    """
    return {
        parameter.name: [str(centre[parameter.name])]
        if parameter.name in held or parameter.type is bool
        else _around(parameter, centre[parameter.name], within)
        for parameter in strategy.parameters
    }


def _around(parameter: Parameter, value: ParameterValue, within: float) -> list[str]:
    middle = float(value)
    width = abs(middle) * within
    low, high = max(parameter.low, middle - width), min(parameter.high, middle + width)
    if parameter.type is int:
        return [str(each) for each in range(int(np.ceil(low)), int(np.floor(high)) + 1)]
    return [repr(each) for each in dict.fromkeys(np.linspace(low, high, LEVELS).tolist())]


def surface_of(trials: Sequence[TrialFinished], centre: Parameters, objective: Objective, within: float) -> Sensitivity:
    """What the trials of one strategy on one instrument tell, the centre's first. At least one trial."""
    first = trials[0]
    scores = [score_of(trial.figures, objective) for trial in trials]
    defined = [(trial, float(score)) for trial, score in zip(trials, scores, strict=True) if score is not None]
    peak = best_of(list(trials), lambda trial: trial.figures, objective)
    median = float(np.median([score for _, score in defined])) if defined else None
    turned = -1.0 if objective is Objective.MAX_DRAWDOWN else 1.0
    peak_score = None if peak is None else float(score_of(peak.figures, objective) or 0.0)
    is_worth = peak_score is not None and (peak_score > 0.0 or objective is Objective.MAX_DRAWDOWN)
    chosen = _middle(defined, centre, within) if is_worth else None
    ratio = median / peak_score if median is not None and peak_score is not None and peak_score > 0.0 else None
    return Sensitivity(
        strategy=first.strategy,
        instrument=first.instrument,
        timeframe=first.timeframe,
        objective=objective.value,
        within=within,
        points=len(trials),
        centre=centre,
        centre_value=_value(first, objective) if first.parameters == centre else None,
        peak=None if peak is None else peak.parameters,
        peak_value=None if peak is None else _value(peak, objective),
        median=None if median is None else median * turned,
        plateau_ratio=ratio,
        profitable=float(np.mean([trial.figures.net_profit > 0 for trial in trials])),
        recommended=None if chosen is None else chosen.parameters,
        recommended_value=None if chosen is None else _value(chosen, objective),
        surface=[
            Point(trial.parameters, _value(trial, objective), float(trial.figures.net_profit)) for trial in trials
        ],
    )


def _value(trial: TrialFinished, objective: Objective) -> float | None:
    value = value_of(trial.figures, objective)
    return None if value is None else float(value)


def _middle(defined: Sequence[tuple[TrialFinished, float]], centre: Parameters, within: float) -> TrialFinished:
    """The trial whose nearest neighbours, itself included, have the highest median; the first of equal ones.

    Distances are in widths of the neighbourhood. At its edge a point's neighbours lie on one side only, and the median
    of what is known is not the median of what is there; so of two equal points the one nearer to the middle is taken.
    """
    names = [name for name, value in centre.items() if not isinstance(value, bool) and float(value) != 0.0]
    places = np.array(
        [
            [(float(trial.parameters[name]) / float(centre[name]) - 1.0) / within for name in names]
            for trial, _ in defined
        ]
    ).reshape(len(defined), len(names))
    scores = np.array([score for _, score in defined])
    count = min(len(defined), max(LEAST_NEIGHBOURS, round(NEIGHBOURS_SHARE * len(defined))))
    best, chosen = (-np.inf, -np.inf), 0
    for index, place in enumerate(places):
        distances = np.sum((places - place) ** 2, axis=1)
        nearest = np.argsort(distances, kind="stable")[:count]
        worth = (float(np.median(scores[nearest])), -float(np.sum(place**2)))
        if worth > best:
            best, chosen = worth, index
    return defined[chosen][0]
