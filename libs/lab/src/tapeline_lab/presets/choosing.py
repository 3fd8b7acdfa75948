"""Which settings become presets: centres of plateaus that lie apart from each other.

A setting is worth what its surroundings are worth: the median score of its nearest neighbours, itself included. Only
those count that nothing near is worth more than, so neighbours of one good place give one preset, and a lonely peak
gives none. The bandit needs choices that differ, not the best one thrice: there may be fewer than were asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tapeline_lab.presets.trials import Setting
from tapeline_lab.search.sensitivity import LEAST_NEIGHBOURS, NEIGHBOURS_SHARE

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A setting, the median score of its ``neighbours`` settings, and how far the nearest other choice is."""

    setting: Setting
    plateau: float
    neighbours: int
    apart: float | None


def places_of(settings: Sequence[Setting]) -> Floats:
    """Where each setting lies: shape (settings, parameters), every parameter from 0 to 1 over the values tried.

    Parameters that were not varied are left out; truths lie at 0 and 1.
    """
    names = list(settings[0].parameters)
    columns = np.array([[float(setting.parameters[name]) for name in names] for setting in settings])
    low, width = columns.min(axis=0), np.ptp(columns, axis=0)
    varied = width > 0
    places: Floats = (columns[:, varied] - low[varied]) / width[varied]
    return places


def plateaus_of(settings: Sequence[Setting], places: Floats) -> tuple[Floats, int]:
    """The median score of each setting's nearest neighbours, itself included, and how many these are."""
    scores = np.array([setting.score for setting in settings])
    count = min(len(settings), max(LEAST_NEIGHBOURS, round(NEIGHBOURS_SHARE * len(settings))))
    plateaus = np.empty(len(settings))
    for index, place in enumerate(places):
        distances = np.sum((places - place) ** 2, axis=1)
        nearest = np.argsort(distances, kind="stable")[:count]
        plateaus[index] = np.median(scores[nearest])
    return plateaus, count


def choose(settings: Sequence[Setting], most: int, apart: float, *, needs_gain: bool) -> list[Chosen]:
    """At most ``most`` settings, the best plateau first.

    Args:
        apart: least distance of two choices in the parameter in which they differ most, as a share of the values tried.
        needs_gain: only plateaus above zero, and settings above zero themselves.
    """
    places = places_of(settings)
    plateaus, count = plateaus_of(settings, places)
    scores = np.array([setting.score for setting in settings])
    taken: list[int] = []
    for index in np.lexsort((-scores, -plateaus)).tolist():
        if len(taken) == most:
            break
        if needs_gain and (plateaus[index] <= 0 or scores[index] <= 0):
            continue
        distances = np.max(np.abs(places - places[index]), axis=1, initial=0.0)
        better = (plateaus > plateaus[index]) | ((plateaus == plateaus[index]) & (scores > scores[index]))
        if not better[distances < apart].any() and all(distances[other] >= apart for other in taken):
            taken.append(index)
    return [
        Chosen(
            settings[index],
            float(plateaus[index]),
            count,
            min((_distance(places[index], places[other]) for other in taken if other != index), default=None),
        )
        for index in taken
    ]


def _distance(one: Floats, other: Floats) -> float:
    return float(np.max(np.abs(one - other), initial=0.0))
