"""What a strategy is: a named function of bars and parameters that says how much exposure it wants.

A ``Strategy`` is data: parameters with types and bounds, and three functions. It knows nothing of orders, positions,
money, regimes or other strategies; turning a wanted exposure into orders is the core's business. It keeps nothing but
the memory it is handed, so many settings of one strategy run side by side and a restart repeats it exactly.

The built-in ones write ``step`` as a plain function of numbers over a list of floats (no dicts, no closures, no other
functions but such ones, as ``indicators.blocks`` are), so that the same source can be compiled; ``from_class`` makes a
strategy of a small class instead.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from tapeline_common.events import Parameters, ParameterValue

Number = bool | int | float

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_TYPE_NAMES: dict[type[Number], str] = {int: "a whole number", float: "a number", bool: "true or false"}


class ParameterInvalid(ValueError):
    """A parameter that a strategy cannot run with. The message names strategy, parameter, value and fix."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One setting of a strategy.

    Attributes:
        type: ``int``, ``float`` or ``bool``.
        low, high: inclusive bounds; of no meaning for ``bool``.
    """

    name: str
    type: type[Number]
    default: Number
    low: Number
    high: Number
    description: str


def _agree(_parameters: Parameters) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Strategy:
    """A kind of strategy.

    Attributes:
        name: the word by which configuration asks for it.
        description: one sentence for a person choosing.
        warm_up: parameters → how many bars it needs before its first opinion.
        start: parameters → fresh memory: a list of floats, or any plain object for strategies that are not numeric.
        step: (memory, *parameter values in declared order, open, high, low, close, volume) → wanted exposure in
            [-1, 1] of the instance's size, or NaN for "no opinion yet". Called once for every bar, in order; changes
            nothing but the memory; the value depends on the bars so far and on nothing else.
        check: parameters, each within its bounds → what is wrong between them, or ``None``.
        is_numeric: ``step`` is a plain function of numbers that may be compiled.
        timeframe: the only length of bars it is written for, such as ``5m``; empty: any.
        both: for a strategy that trades two instruments as one, instead of ``step``: (memory, *parameter values, the
            five numbers of the first instrument's bar, those of the second's) → wanted exposure of each. Called once
            for every time that both have a bar of.
        settles: parameters → after how many bars what it computes no longer depends on where they began, to the
            precision of ``settling``; ``None``: with its first opinion, as everything over a window does. It is asked
            with ``settles_after``.
        carries: places of its memory, as its module or its attributes name them, that keep what an earlier bar decided
            until something else happens: the side held, a stop, an anchor. No number of bars settles these, because a
            run that begins in the middle of a trade does not hold it.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]
    warm_up: Callable[[Parameters], int]
    start: Callable[[Parameters], Any]
    step: Callable[..., float]
    check: Callable[[Parameters], str | None] = _agree
    is_numeric: bool = True
    timeframe: str = ""
    both: Callable[..., tuple[float, float]] | None = None
    settles: Callable[[Parameters], int] | None = None
    carries: tuple[str, ...] = ()


def settles_after(strategy: Strategy, parameters: Parameters) -> int:
    """Bars to be heard before its decisions depend on nothing older, but for what it carries; never below warm-up.

    The warm-up is only when it first says anything: an exponential average still remembers its first bar then.
    """
    first = strategy.warm_up(parameters)
    return first if strategy.settles is None else max(first, strategy.settles(parameters))


def check_bars(strategy: Strategy, timeframe: str) -> None:
    """Raises ``ParameterInvalid`` if a strategy cannot decide on bars of this length."""
    if strategy.timeframe not in ("", timeframe):
        raise ParameterInvalid(
            f"strategy {strategy.name!r} is written for bars of {strategy.timeframe}, not of {timeframe}"
        )


def validate(strategy: Strategy, given: Mapping[str, ParameterValue]) -> Parameters:
    """Every parameter of a strategy in declared order, typed: as given, else its default.

    Text is read as a value of the parameter's type (``"10"``, ``"0.5"``, ``"true"``), as a command line gives it.

    Raises:
        ParameterInvalid: an unknown name, a value of another type or out of bounds, or values that do not go together.
    """
    return checked_parameters(f"strategy {strategy.name!r}", strategy.parameters, strategy.check, given)


def checked_parameters(
    owner: str,
    declared: tuple[Parameter, ...],
    check: Callable[[Parameters], str | None],
    given: Mapping[str, ParameterValue],
) -> Parameters:
    """``validate`` for anything that declares parameters; ``owner`` begins every message, such as ``strategy 'x'``."""
    known = {parameter.name: parameter for parameter in declared}
    for name in given:
        if name not in known:
            raise ParameterInvalid(_unknown(owner, list(known), name))
    values: Parameters = {
        name: _value(owner, parameter, given.get(name, parameter.default)) for name, parameter in known.items()
    }
    clash = check(values)
    if clash is not None:
        raise ParameterInvalid(f"{owner}: {clash}")
    return values


def close_match(word: str, known: list[str]) -> str:
    """A sentence naming what was probably meant, or nothing."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _unknown(owner: str, known: list[str], name: str) -> str:
    listed = ", ".join(known) if known else "none"
    return f"{owner} has no parameter {name!r}{close_match(name, known)} (it has: {listed})"


def _value(owner: str, parameter: Parameter, given: ParameterValue) -> Number:
    value = _typed(parameter.type, given)
    is_bool = parameter.type is bool
    if value is not None and (is_bool or parameter.low <= value <= parameter.high):
        return value
    bounds = "" if is_bool else f" from {parameter.low} to {parameter.high}"
    raise ParameterInvalid(
        f"{owner}: parameter {parameter.name!r} is {given!r}, "
        f"but must be {_TYPE_NAMES[parameter.type]}{bounds} ({parameter.description})"
    )


def _typed(kind: type[Number], given: ParameterValue) -> Number | None:
    """The value in the parameter's type, or ``None`` if it is none of that type."""
    if kind is bool:
        return _truth(given)
    if isinstance(given, bool):
        return None
    try:
        value = float(given)
        if not math.isfinite(value):
            return None
        if kind is float:
            return value
        # Through int where possible: a float holds whole numbers exactly only up to 2**53.
        return int(given) if isinstance(given, str | int) else _whole(value)
    except (ValueError, OverflowError):
        return None


def _whole(value: float) -> int | None:
    return int(value) if value.is_integer() else None


def _truth(given: ParameterValue) -> bool | None:
    if isinstance(given, bool):
        return given
    word = given.strip().lower() if isinstance(given, str) else None
    if word in _TRUE:
        return True
    return False if word in _FALSE else None


class Bar(NamedTuple):
    """One closed bar, as a strategy class sees it."""

    open: float
    high: float
    low: float
    close: float
    volume: float


class BarStrategy(Protocol):
    """What a strategy written as a class looks like. One object is made for each instrument and setting.

    ``__init__`` takes the parameters by name. What the object keeps in its attributes must be plain data (numbers,
    text, lists, tuples, dicts, deques): it is part of a state that is compared and restored.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]

    def on_bar(self, bar: Bar) -> float:
        """Wanted exposure in [-1, 1] after this bar, or NaN for "no opinion yet"."""
        ...


def from_class(
    written: type[Any],
    *,
    warm_up: Callable[[Parameters], int] = lambda _parameters: 0,
    check: Callable[[Parameters], str | None] = _agree,
    settles: Callable[[Parameters], int] | None = None,
    carries: tuple[str, ...] = (),
) -> Strategy:
    """A strategy of a class such as ``BarStrategy`` describes; ``carries`` names attributes.

    Raises:
        TypeError: the class lacks ``name``, ``description``, ``parameters`` or ``on_bar``, or its ``__init__`` does not
            take exactly the declared parameters.
    """
    title = written.__name__
    for attribute in ("name", "description", "parameters", "on_bar"):
        if not hasattr(written, attribute):
            raise TypeError(
                f"strategy class {title} has no {attribute!r}; it needs name, description, parameters, on_bar"
            )
    declared: tuple[Parameter, ...] = written.parameters
    names = tuple(parameter.name for parameter in declared)
    taken = tuple(inspect.signature(written).parameters)
    if taken != names:
        raise TypeError(f"strategy class {title} declares the parameters {names}, but its __init__ takes {taken}")
    return Strategy(
        name=written.name,
        description=written.description,
        parameters=declared,
        warm_up=warm_up,
        start=lambda parameters: written(**parameters),
        step=_step_object,
        check=check,
        is_numeric=False,
        settles=settles,
        carries=carries,
    )


def _step_object(memory: BarStrategy, *numbers: Any) -> float:
    return memory.on_bar(Bar(*numbers[-len(Bar._fields) :]))
