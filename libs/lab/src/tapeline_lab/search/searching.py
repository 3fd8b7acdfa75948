"""How settings are searched for on some grounds: all of a list, or asked of a sampler that learns from results.

Plans in the sense of ``conduct``: they yield tasks and are sent trials. The sampler is Optuna's, the one door to it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tapeline_common.events import Parameters, TrialFinished
from tapeline_common.values import SearchMethod
from tapeline_lab.search.bench import Task
from tapeline_lab.search.conduct import Plan
from tapeline_lab.search.objectives import Objective, score_of
from tapeline_lab.search.record import Trial
from tapeline_lab.search.space import Space, drawn, grid

ASKED_AT_ONCE = 8
"""Settings that a sampler gives before it hears of any: the same for any number of workers, so that it learns the same.
"""


@dataclass(frozen=True, slots=True)
class Search:
    """What is tried of one strategy.

    Attributes:
        settings: to be tried, in order; ``None`` where a sampler chooses ``count`` of them.
        skipped: settings that do not go together.
    """

    space: Space
    method: SearchMethod
    count: int
    settings: Sequence[Parameters] | None
    skipped: int
    objective: Objective
    seed: int

    @property
    def strategy(self) -> str:
        return self.space.strategy.name


def search_of(space: Space, method: SearchMethod, count: int, objective: Objective, seed: int) -> Search:
    """``count`` is of no meaning for a grid. Raises ``GridInvalid``."""
    if method is SearchMethod.BAYESIAN:
        return Search(space, method, count, None, 0, objective, seed)
    found, skipped = grid(space) if method is SearchMethod.GRID else drawn(space, method, count, seed)
    return Search(space, method, len(found), found, skipped, objective, seed)


def searched(search: Search, grounds: Sequence[int]) -> Plan[list[Trial]]:
    """Every setting on every ground: by ground, then in the order of the settings."""
    if search.settings is None:
        return (yield from _sampled(search, grounds))
    tasks = [Task(ground, search.strategy, parameters) for ground in grounds for parameters in search.settings]
    return (yield tasks)


def _sampled(search: Search, grounds: Sequence[int]) -> Plan[list[Trial]]:
    """Tree-structured Parzen estimator (Bergstra et al., 2011) over the indices of the dimensions' values.

    A setting's worth is its mean objective over all grounds. What has none on some ground counts as failed.
    """
    study = _study(search.seed)
    distributions = _distributions(search.space)
    trials: list[Trial] = []
    for first in range(0, search.count, ASKED_AT_ONCE):
        asked = [study.ask(distributions) for _ in range(min(ASKED_AT_ONCE, search.count - first))]
        tasks = [
            Task(ground, search.strategy, _chosen(search.space, each.params)) for each in asked for ground in grounds
        ]
        done = yield tasks
        trials += done
        for place, each in enumerate(asked):
            worth = _worth(done[place * len(grounds) : (place + 1) * len(grounds)], search.objective)
            _tell(study, each, worth)
    return trials


def _study(seed: int) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, multivariate=True)
    return optuna.create_study(direction="maximize", sampler=sampler)


def _distributions(space: Space) -> dict[str, Any]:
    """Numbers by their place in the order of their values, which a sampler may learn from; truths as a choice."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    return {
        name: CategoricalDistribution(list(range(len(values))))
        if isinstance(values[0], bool)
        else IntDistribution(0, len(values) - 1)
        for name, values in space.dimensions.items()
    }


def _chosen(space: Space, indices: dict[str, Any]) -> Parameters:
    """The parameters, with defaults where there is nothing to choose; values that clash are left for the trial."""
    defaults = {parameter.name: parameter.default for parameter in space.strategy.parameters}
    return {**defaults, **{name: space.dimensions[name][int(index)] for name, index in indices.items()}}


def _worth(trials: Sequence[Trial], objective: Objective) -> float | None:
    scores = [score_of(trial.figures, objective) if isinstance(trial, TrialFinished) else None for trial in trials]
    known = [float(score) for score in scores if score is not None]
    return sum(known) / len(known) if len(known) == len(scores) else None


def _tell(study: Any, asked: Any, worth: float | None) -> None:
    from optuna.trial import TrialState

    if worth is None:
        study.tell(asked, state=TrialState.FAIL)
    else:
        study.tell(asked, worth)
