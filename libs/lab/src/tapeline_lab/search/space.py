"""Which settings of a strategy are tried: grids, and points drawn from a grid by a seeded sequence.

A dimension is a list of values in order. Whatever chooses from it chooses an index, so every method draws from the same
finite space, and a point has the same parameters whoever chose it. Nothing is run here.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

import numpy as np

from tapeline_common.events import Parameters, ParameterValue
from tapeline_common.money import plain
from tapeline_common.values import SearchMethod
from tapeline_strategy.sdk import ParameterInvalid, Strategy, settles_after, validate

MOST_RUNS = 1_000_000
"""A larger grid is a mistake, or a question for another tool."""

DRAWS_A_POINT = 200
"""How often a point is drawn before what was found is taken for all there is."""


class GridInvalid(ValueError):
    """A grid that cannot be understood or is too large. The message names the text, and how to write it."""


_RANGE = re.compile(r"(?P<low>[^.:,\s]+(?:\.\d+)?)\.\.(?P<high>[^:,\s]+?)(?::(?P<step>\S+))?")


def values_of(text: str) -> list[str]:
    """Values of ``1,2,5``, ``5..14``, ``20..65:5`` or any of them joined by commas; both ends of a range included."""
    return [value for part in text.split(",") for value in _expanded(part.strip(), text)]


def _expanded(part: str, text: str) -> Iterator[str]:
    found = _RANGE.fullmatch(part)
    if found is None:
        if not part or ".." in part:
            raise GridInvalid(f"{text!r}: write values as 5,8,13, a range as 5..14, or with a step as 20..65:5")
        yield part
        return
    try:
        low, high, step = (Decimal(found[name] or "1") for name in ("low", "high", "step"))
    except InvalidOperation:
        raise GridInvalid(f"{text!r}: the ends and the step of a range are numbers, such as 20..65:5") from None
    is_finite = low.is_finite() and high.is_finite() and step.is_finite()
    if not (is_finite and step > 0 and low <= high < low + step * MOST_RUNS):
        raise GridInvalid(f"{text!r}: a range goes upwards in steps above 0, such as 20..65:5")
    while low <= high:
        yield str(plain(low))
        low += step


@dataclass(frozen=True, slots=True)
class Space:
    """Everything that may be tried of one strategy.

    Attributes:
        dimensions: values by parameter, typed, in declared order, without repetitions.
    """

    strategy: Strategy
    dimensions: dict[str, tuple[ParameterValue, ...]]

    @property
    def size(self) -> int:
        """Points, those included whose values do not go together."""
        return int(np.prod([len(values) for values in self.dimensions.values()], dtype=object))

    def at(self, indices: Sequence[int]) -> Parameters | None:
        """The point with these indices, one for each dimension; ``None`` if its values do not go together."""
        chosen = {name: values[index] for (name, values), index in zip(self.dimensions.items(), indices, strict=True)}
        try:
            return validate(self.strategy, chosen)
        except ParameterInvalid:
            return None

    def described(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(map(str, values)) for name, values in self.dimensions.items()}


def space_of(strategy: Strategy, given: Mapping[str, Sequence[str]]) -> Space:
    """Raises ``ParameterInvalid`` for an unknown parameter or a value that is wrong by itself."""
    alone = replace(strategy, check=lambda _parameters: None)
    order = [parameter.name for parameter in strategy.parameters]
    dimensions = {}
    for name, values in sorted(given.items(), key=lambda item: order.index(item[0]) if item[0] in order else -1):
        dimensions[name] = tuple(dict.fromkeys(validate(alone, {name: value})[name] for value in values))
    return Space(strategy, dimensions)


def settled_by(space: Space) -> int:
    """Bars after which every setting has settled: what the largest values take, as longer windows take longer."""
    alone = replace(space.strategy, check=lambda _parameters: None)
    return settles_after(alone, validate(alone, {name: max(values) for name, values in space.dimensions.items()}))


def grid(space: Space) -> tuple[list[Parameters], int]:
    """Every combination that goes together, the last parameter changing fastest, and how many were left out.

    Raises:
        GridInvalid: too many combinations.
    """
    if space.size > MOST_RUNS:
        raise GridInvalid(
            f"{space.size:,} combinations of parameters are more than {MOST_RUNS:,}: make the steps larger, "
            "or draw some with --method"
        )
    ranges = [range(len(values)) for values in space.dimensions.values()]
    points = [space.at(indices) for indices in itertools.product(*ranges)]
    kept = [point for point in points if point is not None]
    return kept, len(points) - len(kept)


def drawn(space: Space, method: SearchMethod, count: int, seed: int) -> tuple[list[Parameters], int]:
    """Up to ``count`` different points that go together, in the order of their drawing, and how many others came up.

    RANDOM draws from Philox; SOBOL is Sobol's sequence with Owen's scrambling (scipy), which spreads points evenly
    (I. M. Sobol, 1967; A. B. Owen, 1998). Fewer points come back where the space has no more.
    """
    sizes = np.array([len(values) for values in space.dimensions.values()], dtype=np.int64)
    if not len(sizes):
        return grid(space)
    seen: dict[tuple[int, ...], Parameters | None] = {}
    kept: list[Parameters] = []
    for unit in itertools.islice(_points(method, len(sizes), seed), count * DRAWS_A_POINT):
        if len(kept) == count or len(seen) == space.size:
            break
        indices = tuple(np.minimum((unit * sizes).astype(np.int64), sizes - 1).tolist())
        if indices in seen:
            continue
        seen[indices] = space.at(indices)
        point = seen[indices]
        if point is not None:
            kept.append(point)
    return kept, len(seen) - len(kept)


POINTS_AT_ONCE = 256


def _points(method: SearchMethod, dimensions: int, seed: int) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Points of the unit cube, without an end."""
    if method is SearchMethod.RANDOM:
        chance = np.random.Generator(np.random.Philox(seed))
        while True:
            yield from chance.random((POINTS_AT_ONCE, dimensions))
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.Generator(np.random.Philox(seed)))
    while True:
        yield from sequence.random(POINTS_AT_ONCE)
