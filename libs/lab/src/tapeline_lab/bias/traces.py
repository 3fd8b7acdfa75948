"""A strategy of the SDK as a subject: every place of its memory, and the exposure it wants, after each bar.

Numbers are float64, and so are the values of indicators that an object keeps; what is neither (lists and deques) is
told as text. A strategy of two legs takes a table that has the bars of both. Nothing is judged here.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tapeline_common.events import Parameters
from tapeline_lab.bias.subjects import Handover, Subject
from tapeline_lab.bias.tables import PRICES, TIME, Table
from tapeline_strategy.indicators.catalogue import find as find_indicator
from tapeline_strategy.indicators.running import Running
from tapeline_strategy.sdk import Strategy

EXPOSURE = "exposure"
MEMORY = "memory."
SECOND = "second_"
"""Before the names of the second leg's columns, of bars as of exposure."""

BAR = (*PRICES, "volume")


class StepFailed(Exception):
    """A strategy's step raised an error on a bar of plain numbers."""


def strategy_subject(strategy: Strategy, parameters: Parameters) -> Subject:
    """A strategy as a subject. Raises ``ValueError`` if it is said to carry what its memory does not have."""
    memory = strategy.start(parameters)
    names, rings = memory_names(strategy, memory)
    unknown = [name for name in strategy.carries if name not in names]
    if unknown:
        raise ValueError(f"strategy {strategy.name!r} carries {unknown[0]!r}, but remembers {', '.join(names)}")
    handover = Handover(
        columns=tuple(f"{MEMORY}{name}" for name in strategy.carries),
        carried=partial(_carried, strategy, parameters),
        run=partial(trace, strategy, parameters),
    )
    return Subject(
        strategy.name,
        partial(trace, strategy, parameters),
        handover=handover if strategy.carries else None,
        rings={f"{MEMORY}{stem}": tuple(f"{MEMORY}{name}" for name in places) for stem, places in rings.items()},
    )


def trace(
    strategy: Strategy, parameters: Parameters, table: Table, row: int = -1, carried: dict[str, Any] | None = None
) -> Table:
    """Memory and wanted exposure after each bar, shape (n,) each.

    Where a bar of NaN stops a strategy, as it would stop the service, the rows from there on have no value.

    Args:
        row, carried: before the bar in this row the memory is given these places of another run's.
    """
    memory = strategy.start(parameters)
    names, _ = memory_names(strategy, memory)
    kept: list[list[Any]] = []
    exposures = np.full((len(table[TIME]), 1 if strategy.both is None else 2), np.nan)
    for number, bar in enumerate(_bars(strategy, table)):
        if number == row:
            _hand_over(names, memory, carried or {})
        try:
            exposures[number] = _answer(strategy, parameters, memory, bar)
        except Exception as trouble:
            if all(value == value for value in bar):
                raise StepFailed(f"strategy {strategy.name!r} fails at bar {number}: {trouble!r}") from trouble
            break
        kept.append(_values(names, memory))
    said = _columns(_titles(names, memory), kept, len(exposures), is_numeric=strategy.is_numeric)
    said[EXPOSURE] = exposures[:, 0].copy()
    if strategy.both is not None:
        said[f"{SECOND}{EXPOSURE}"] = exposures[:, 1].copy()
    return said


def joined(first: Table, second: Table) -> Table:
    """The bars of two legs at the times that both have one of, the second's under names of its own."""
    _, ones, others = np.intersect1d(first[TIME], second[TIME], return_indices=True)
    table = {name: column[ones] for name, column in first.items()}
    return {**table, **{f"{SECOND}{name}": second[name][others] for name in BAR}}


def _bars(strategy: Strategy, table: Table) -> Any:
    names = BAR if strategy.both is None else (*BAR, *(f"{SECOND}{name}" for name in BAR))
    return zip(*(table[name].tolist() for name in names), strict=True)


def _answer(strategy: Strategy, parameters: Parameters, memory: Any, bar: Sequence[float]) -> Any:
    return (strategy.both or strategy.step)(memory, *parameters.values(), *bar)


# ---- what is carried ---------------------------------------------------------------------------------------------


def _carried(strategy: Strategy, parameters: Parameters, table: Table) -> dict[str, Any]:
    """The places that a strategy carries, after all the bars of a table."""
    memory = strategy.start(parameters)
    for bar in _bars(strategy, table):
        _answer(strategy, parameters, memory, bar)
    names, _ = memory_names(strategy, memory)
    return {name: copy.deepcopy(_place(names, memory, name)) for name in strategy.carries}


def _place(names: Sequence[str], memory: Any, name: str) -> Any:
    return memory[names.index(name)] if isinstance(memory, list) else getattr(memory, name)


def _hand_over(names: Sequence[str], memory: Any, carried: dict[str, Any]) -> None:
    for name, value in carried.items():
        if isinstance(memory, list):
            memory[names.index(name)] = value
        else:
            setattr(memory, name, copy.deepcopy(value))


# ---- memories as columns -----------------------------------------------------------------------------------------

RING = "ring"


def memory_names(strategy: Strategy, memory: Any) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The places of a memory, and those of them that are rings.

    Places are called as the strategy's module calls them (``_BARS, _FAST = 0, 1``), else by number. From a place whose
    name begins with ``ring`` on, the rest of a list are rings: where a bar lies in them depends on the first bar.
    """
    if not isinstance(memory, list):
        return _attributes(memory), {}
    given: dict[int, list[str]] = {}
    for name, value in getattr(strategy.step, "__globals__", {}).items():
        if name.startswith("_") and name[1:].isupper() and type(value) is int:
            given.setdefault(value, []).append(name[1:].lower())
    unique = {place: found[0] for place, found in given.items() if len(found) == 1}
    names = [unique.get(place, str(place)) for place in range(len(memory))]
    first = next((place for place, name in enumerate(names) if name.startswith(RING)), len(names))
    stem = "".join(names[first : first + 1])
    names[first:] = [f"{stem}.{number}" for number in range(len(names) - first)]
    return names, {stem: tuple(names[first:])} if stem else {}


def _attributes(memory: Any) -> list[str]:
    slots = getattr(type(memory), "__slots__", ())
    return list(slots) if slots else list(vars(memory))


def _titles(names: Sequence[str], memory: Any) -> list[str]:
    """What each of ``_values`` is called: an indicator's outputs by their names."""
    if isinstance(memory, list):
        return list(names)
    found = []
    for name in names:
        value = getattr(memory, name)
        outputs = find_indicator(value.name).outputs if isinstance(value, Running) else ()
        found += [f"{name}.{output}" for output in outputs] or [name]
    return found


def _values(names: Sequence[str], memory: Any) -> list[Any]:
    """Everything that is remembered, as numbers where it is one."""
    if isinstance(memory, list):
        return list(memory)
    found: list[Any] = []
    for name in names:
        value = getattr(memory, name)
        if isinstance(value, Running):
            found += value.value if isinstance(value.value, tuple) else (value.value,)
        else:
            found.append(value if isinstance(value, bool | int | float) else repr(value))
    return found


def _columns(titles: Sequence[str], kept: list[list[Any]], bars: int, *, is_numeric: bool) -> Table:
    """Every place after each bar; nothing after the bar that stopped the strategy."""
    if is_numeric:
        numbers = np.full((bars, len(titles)), np.nan)
        if kept and titles:
            numbers[: len(kept)] = kept
        return {f"{MEMORY}{title}": numbers[:, place].copy() for place, title in enumerate(titles)}
    columns: Table = {}
    for place, title in enumerate(titles):
        column: list[Any] = [row[place] for row in kept]
        columns[f"{MEMORY}{title}"] = np.array([*column, *[None] * (bars - len(column))], dtype=object)
    return columns
