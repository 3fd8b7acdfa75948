"""Indicators over whole columns: an indicator's own ``step``, compiled with the loop over the bars.

The same arithmetic as bar by bar, so the same bits. ``machine_code`` keeps the result on disk: the first use of an
indicator takes about a second on a machine, later ones a few milliseconds in each process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeline_backtest.machine_code import FLOAT_TABLE, FLOATS, Kind, Routine, digest_of, load
from tapeline_common.events import ParameterValue
from tapeline_strategy import indicators
from tapeline_strategy.indicators import Indicator
from tapeline_strategy.sdk import Number

Floats = npt.NDArray[np.float64]

_KINDS: dict[type[Number], Kind] = {int: "int64", float: "float64", bool: "boolean"}


class ColumnsInvalid(ValueError):
    """Columns that an indicator cannot run over. The message names indicator, column and fix."""


def over(name: str, columns: Mapping[str, npt.ArrayLike], **parameters: ParameterValue) -> dict[str, Floats]:
    """Every output of an indicator, a value for each bar: NaN while it is warming up.

    Args:
        columns: what the indicator takes of each bar, by name; others are passed over. A column that holds ``close``
            may be any series. ``session`` is a number that changes when a session begins, such as ``time_ns //
            86_400_000_000_000``.

    Raises:
        IndicatorUnknown: there is none of that name.
        ParameterInvalid: the parameters do not fit it.
        ColumnsInvalid: a column is missing, not one-dimensional, of another length, or holds what is not finite.
    """
    indicator = indicators.find(name)
    values = indicator.validate(parameters)
    taken = _taken(indicator, columns)
    table = np.empty((len(indicator.outputs), len(taken[0])), dtype=np.float64)
    memory = np.array(indicator.start(values) or [0.0], dtype=np.float64)
    _routine(name)(memory, *values.values(), *taken, table)
    return dict(zip(indicator.outputs, table, strict=True))


def _taken(indicator: Indicator, columns: Mapping[str, npt.ArrayLike]) -> list[Floats]:
    taken: list[Floats] = []
    for name in indicator.inputs:
        if name not in columns:
            known = ", ".join(columns) or "none"
            raise ColumnsInvalid(f"indicator {indicator.name!r} needs a column {name!r}; given: {known}")
        column = np.ascontiguousarray(columns[name], dtype=np.float64)
        if column.ndim != 1 or (taken and len(column) != len(taken[0])):
            raise ColumnsInvalid(
                f"indicator {indicator.name!r}: column {name!r} has the shape {column.shape}; all must be of one length"
            )
        if not np.isfinite(column).all():
            place = int(np.argmin(np.isfinite(column)))
            raise ColumnsInvalid(
                f"indicator {indicator.name!r}: column {name!r} is {column[place]} at bar {place}; fill or drop it"
            )
        taken.append(column)
    return taken


@cache
def _routine(name: str) -> Routine:
    """The loop over the bars of one indicator as machine code."""
    indicator = indicators.find(name)
    text = _loop_text(indicator)
    arguments: list[Kind] = [
        FLOATS,
        *(_KINDS[parameter.type] for parameter in indicator.parameters),
        *(FLOATS for _ in indicator.inputs),
        FLOAT_TABLE,
    ]
    return load(
        f"indicator_{name}", digest_of(text, name, _sources()), partial(_loop, text, indicator), "int64", arguments
    )


def _loop_text(indicator: Indicator) -> str:
    """The loop over the bars, written out for the number of parameters, inputs and outputs."""
    parameters = [f"parameter_{index}" for index in range(len(indicator.parameters))]
    inputs = [f"input_{index}" for index in range(len(indicator.inputs))]
    cells = ", ".join(f"table[{index}, bar]" for index in range(len(indicator.outputs)))
    given = ", ".join(["memory", *parameters, *(f"{each}[bar]" for each in inputs)])
    return (
        f"def loop({', '.join(['memory', *parameters, *inputs, 'table'])}):\n"
        f"    for bar in range(table.shape[1]):\n"
        f"        {cells} = step({given})\n"
        f"    return table.shape[1]\n"
    )


def _loop(text: str, indicator: Indicator) -> Any:
    namespace: dict[str, Any] = {"__name__": "tapeline_compiled", "step": indicator.step}
    exec(compile(text, f"<{indicator.name}>", "exec"), namespace)  # noqa: S102 (the text is written above)
    return namespace["loop"]


@cache
def _sources() -> str:
    """Text of every module of indicators: what an indicator is made of, and a little more."""
    folder = resources.files(indicators)
    files = sorted((each for each in folder.iterdir() if each.name.endswith(".py")), key=lambda each: each.name)
    return "\0".join(each.read_text(encoding="utf-8") for each in files)
