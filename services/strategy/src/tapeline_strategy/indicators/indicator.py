"""What an indicator is: a named rule that turns bars, one at a time, into one or more numbers.

An ``Indicator`` is data. Its ``step`` is a plain function of numbers over a list of floats: called bar by bar it is the
incremental form, compiled over columns (``tapeline_backtest.indicator_columns``) the vectorised one, and both are the
same arithmetic. It knows nothing of orders or strategies, and of no bar but those it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from tapeline_common.events import Parameters, ParameterValue
from tapeline_strategy.sdk import Parameter, checked_parameters

Value: TypeAlias = "float | tuple[float, ...]"

BAR_INPUTS = ("open", "high", "low", "close", "volume")
OTHER, SESSION = "other", "session"
"""Inputs that no bar has: a second series, and a number that changes when a session begins (such as the UTC day)."""

CLOSE = ("close",)
HLC = ("high", "low", "close")
HLCV = ("high", "low", "close", "volume")

LONGEST = 5000

ACHELIS = "S. B. Achelis, Technical Analysis from A to Z, 1995"
WILDER = "J. W. Wilder, New Concepts in Technical Trading Systems, 1978"
"""The two books that most formulas are from."""


class Family(StrEnum):
    """What an indicator is about; the order of the documentation."""

    AVERAGE = "average"
    MOMENTUM = "momentum"
    VOLATILITY = "volatility"
    TREND = "trend"
    VOLUME = "volume"
    SERIES = "series"


class Recall(StrEnum):
    """How far back a value reaches."""

    WINDOW = "window"
    """The last ``warm_up`` bars decide it and no others."""
    FADING = "fading"
    """Every bar so far, the older the less: begun later, it comes to the same value."""
    ENDLESS = "endless"
    """Every bar since the first: begun later, it may stay another value. Compare changes, not levels."""


def _agree(_parameters: Parameters) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Indicator:
    """A kind of indicator.

    Attributes:
        name: the word by which it is asked for.
        description: one sentence for a person choosing.
        source: who published the formula, and where.
        inputs: what ``step`` takes of each bar. A single ``close`` may be any series.
        outputs: names of what ``step`` returns; one number, or a tuple if there are several.
        step: (memory, *parameter values in declared order, *inputs) → outputs, NaN while too few bars were seen.
        size: parameter values → how many floats of memory it needs.
        bars: parameter values → how many bars it needs before every output is a number.
        recall: how far back a value reaches.
        difference: where its values differ from TA-Lib's function for the same thing.
        check: parameters, each within its bounds → what is wrong between them, or ``None``.
    """

    name: str
    family: Family
    description: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    step: Callable[..., Value]
    size: Callable[..., int]
    bars: Callable[..., int]
    recall: Recall = Recall.WINDOW
    difference: str = ""
    check: Callable[[Parameters], str | None] = _agree

    def validate(self, given: Mapping[str, ParameterValue]) -> Parameters:
        """Every parameter in declared order, typed: as given, else its default.

        Raises:
            ParameterInvalid: an unknown name, a value of another type or out of bounds, or values that do not go
                together.
        """
        return checked_parameters(f"indicator {self.name!r}", self.parameters, self.check, given)

    def start(self, parameters: Parameters) -> list[float]:
        """Fresh memory."""
        return [0.0] * self.size(*parameters.values())

    def warm_up(self, parameters: Parameters) -> int:
        """How many bars it needs before every output is a number; with ``session`` inputs, at the least."""
        return self.bars(*parameters.values())


def length(default: int, low: int = 2, about: str = "length of the window in bars", name: str = "length") -> Parameter:
    """A parameter that is a number of bars."""
    return Parameter(name, int, default, low, LONGEST, about)


def factor(name: str, default: float, low: float, high: float, about: str) -> Parameter:
    """A parameter that is a plain number."""
    return Parameter(name, float, default, low, high, about)


def fast_below_slow(parameters: Parameters) -> str | None:
    """The check of what has a ``fast`` and a ``slow`` length."""
    fast, slow = parameters["fast"], parameters["slow"]
    return None if fast < slow else f"fast is {fast} and slow is {slow}, but fast must be less than slow"  # type: ignore[operator]
