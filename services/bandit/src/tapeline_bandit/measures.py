"""What the bandit measures: which presets it chose, how likely each was, and what they earned.

What one strategy chose for several instruments is told together: a preset is in use if it is on any of them, and
beliefs are those of the strategy's latest choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tapeline_common.core import Stamp
from tapeline_common.events import PresetChosen, PresetRewarded
from tapeline_common.measures import Kind, Labels, Measure, Measures, Number, Watched
from tapeline_common.values import InstrumentId, StrategyId

ARM = ("strategy", "preset")
CHOSEN = "once a preset was chosen"
REWARD = "planned risks"


def _gauge(name: str, text: str, unit: str = "") -> Measure:
    return Measure(name=name, kind=Kind.GAUGE, text=text, labels=ARM, unit=unit, appears=CHOSEN)


IN_USE = _gauge("tapeline_preset_in_use", "1 for what was chosen last on any instrument, 0 for the other presets")
PROPENSITY = _gauge(
    "tapeline_preset_propensity", "Probability with which the latest choice drew a preset", "probability"
)
MEAN = _gauge("tapeline_preset_mean", "Expected reward of a preset at the latest choice", REWARD)
DEVIATION = _gauge("tapeline_preset_deviation", "Standard deviation of that expectation", REWARD)
REWARD_SUM = _gauge("tapeline_preset_reward_sum", "Sum of a preset's rewards on this tape; it may fall", REWARD)


class Choices:
    """The latest choices, and the rewards of the whole tape."""

    def __init__(self) -> None:
        self._latest: dict[StrategyId, PresetChosen] = {}
        self._in_use: dict[StrategyId, dict[InstrumentId, str]] = {}
        self._rewards: dict[Labels, float] = {}

    def heard(self, event: Any, _stamp: Stamp) -> None:
        match event:
            case PresetChosen():
                self._latest[event.strategy] = event
                self._in_use.setdefault(event.strategy, {})[event.instrument] = event.preset
            case PresetRewarded():
                labels = event.strategy, event.preset
                self._rewards[labels] = self._rewards.get(labels, 0.0) + event.reward

    def samples(self, _now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        for strategy, choice in self._latest.items():
            in_use = set(self._in_use[strategy].values())
            for index, preset in enumerate(choice.presets):
                labels = (strategy, preset)
                yield IN_USE.name, labels, float(preset in in_use)
                yield PROPENSITY.name, labels, choice.propensities[index]
                yield MEAN.name, labels, choice.means[index]
                yield DEVIATION.name, labels, choice.deviations[index]
                yield REWARD_SUM.name, labels, self._rewards.get(labels, 0.0)


def _make_choices(_states: Mapping[str, Any], _clock: Callable[[], int]) -> Choices:
    return Choices()


MEASURES = Measures(
    tables=(
        Measure(
            name="tapeline_preset_chosen_total",
            kind=Kind.COUNTER,
            text="Times that a preset was chosen",
            labels=ARM,
            unit="choices",
            count={PresetChosen: lambda seen: (seen.event.strategy, seen.event.preset)},
        ),
        Measure(
            name="tapeline_preset_rewards_total",
            kind=Kind.COUNTER,
            text="Rewards that a preset got",
            labels=ARM,
            unit="rewards",
            count={PresetRewarded: lambda seen: (seen.event.strategy, seen.event.preset)},
        ),
    ),
    watches=(
        Watched(
            measures=(IN_USE, PROPENSITY, MEAN, DEVIATION, REWARD_SUM),
            hears=(PresetChosen, PresetRewarded),
            make=_make_choices,
        ),
    ),
)
