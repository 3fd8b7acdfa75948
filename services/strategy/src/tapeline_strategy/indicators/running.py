"""An indicator at work inside a strategy written as a class: its settings, its memory and its last value.

It is plain data (a name, numbers and a list), so a strategy may keep it in an attribute: it is compared, copied and
restored with the rest of its state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

from tapeline_common.events import ParameterValue
from tapeline_strategy.indicators.catalogue import CATALOGUE, find
from tapeline_strategy.sdk import Bar


def bar_by_bar(
    name: str, columns: Mapping[str, Sequence[float]], **parameters: ParameterValue
) -> dict[str, list[float]]:
    """Every output of an indicator over whole columns, interpreted; ``tapeline_backtest.indicator_columns`` is quicker.

    Raises:
        IndicatorUnknown: there is none of that name.
        ParameterInvalid: the parameters do not fit it.
        KeyError: a column that it needs is missing.
    """
    indicator = find(name)
    values = indicator.validate(parameters)
    memory, settings = indicator.start(values), tuple(values.values())
    bars = zip(*(columns[each] for each in indicator.inputs), strict=True)
    rows: list[Any] = [indicator.step(memory, *settings, *bar) for bar in bars]
    if len(indicator.outputs) == 1:
        return {indicator.outputs[0]: rows}
    return {output: [row[place] for row in rows] for place, output in enumerate(indicator.outputs)}


class Running:
    """One indicator with one setting, fed one bar at a time.

    ``Running("rsi", length=14).update(bar.close)`` takes the indicator's inputs in their order and returns its value: a
    number, or a tuple if it has several outputs; NaN while it is warming up.

    Attributes:
        name: of the indicator.
        parameters: their values in declared order.
        warm_up: bars before every output is a number.
        value: what the last ``update`` returned.

    Raises:
        IndicatorUnknown: there is none of that name.
        ParameterInvalid: the parameters do not fit it.
    """

    def __init__(self, name: str, **parameters: ParameterValue) -> None:
        indicator = find(name)
        values = indicator.validate(parameters)
        self.name = name
        self.parameters = tuple(values.values())
        self.warm_up = indicator.warm_up(values)
        self.memory = indicator.start(values)
        self.value: Any = nan if len(indicator.outputs) == 1 else (nan,) * len(indicator.outputs)

    def update(self, *inputs: float) -> Any:
        """Learn the next bar's inputs, in the order that the indicator declares them; the new value."""
        self.value = CATALOGUE[self.name].step(self.memory, *self.parameters, *inputs)
        return self.value

    def on_bar(self, bar: Bar, **more: float) -> Any:
        """``update`` with the inputs taken from a bar; what no bar has (``other``, ``session``) is given by name."""
        inputs = [more[name] if name in more else getattr(bar, name) for name in CATALOGUE[self.name].inputs]
        return self.update(*inputs)

    def __getitem__(self, output: str) -> float:
        """The last value of one output by its name, such as ``bands["upper"]``."""
        outputs = CATALOGUE[self.name].outputs
        if output not in outputs:
            raise KeyError(f"indicator {self.name!r} has no output {output!r} (it has: {', '.join(outputs)})")
        value: float = self.value if len(outputs) == 1 else self.value[outputs.index(output)]
        return value

    @property
    def is_ready(self) -> bool:
        """Whether every output is a number."""
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return all(value == value for value in values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Running) and repr(vars(self)) == repr(vars(other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Running({self.name!r}, parameters={self.parameters}, value={self.value})"
