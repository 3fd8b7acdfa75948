"""Compiled strategies: a strategy's own ``step`` turned into machine code, with the same result to the last bit.

A loop (``scan_loop``, ``kernel_loop``) is ordinary Python that calls ``advance``. For one strategy, ``advance`` and the
loop become the text of a module of their own, which numba compiles as a whole: IEEE arithmetic in the order of the
source, no reassociation, no fused multiply-add, errors as in Python. What could differ from the interpreter by a bit
(powers, transcendental functions) is refused rather than approximated.

``machine_code`` keeps the result on disk, named by a digest of everything that went into it.
"""

from __future__ import annotations

import ast
import builtins
import dis
import importlib.util
import math
import re
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeline_backtest.machine_code import BYTES, FLOATS, INTS, Kind, NotCompilable, Routine, digest_of, load
from tapeline_common.events import Parameters
from tapeline_strategy.sdk import Number, Strategy

Floats = npt.NDArray[np.float64]
Columns = tuple[Floats, Floats, Floats, Floats, Floats]
"""open, high, low, close, volume: contiguous, writable, of one length."""

Scan = Callable[[Floats, tuple[Number, ...], Columns, int, int, float], tuple[int, float]]

EXACT_BUILTINS = ("abs", "bool", "float", "int", "len", "max", "min", "range")
EXACT_MATH = ("ceil", "copysign", "fabs", "floor", "inf", "isfinite", "isinf", "isnan", "nan", "sqrt", "trunc")
"""What ``step`` may call: results that every correct implementation agrees on to the last bit."""


class CompilationFault(StrEnum):
    """Why a strategy cannot be compiled."""

    NOT_NUMERIC = "NOT_NUMERIC"
    CLOSURE = "CLOSURE"
    FOREIGN_NAME = "FOREIGN_NAME"
    POWER = "POWER"
    NOT_TYPED = "NOT_TYPED"


class CompilationRefused(Exception):
    """A strategy that runs in the loop gear only. The message names strategy, cause and way out."""

    def __init__(self, fault: CompilationFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def scan(strategy: Strategy) -> Scan:
    """``scan_loop.scan`` of this strategy, compiled or taken from disk; once a process.

    Raises:
        CompilationRefused: its ``step`` is not a plain function of numbers.
    """
    compiled: Scan = _scan(strategy)
    return compiled


@cache
def _scan(strategy: Strategy) -> Any:
    arguments = (FLOATS, parameter_kinds(strategy), (FLOATS,) * 5, "int64", "int64", "float64")
    return specialised(strategy, ("tapeline_backtest.scan_loop",), "scan", ("int64", "float64"), *arguments)


def memory_of(strategy: Strategy, parameters: dict[str, Any]) -> Floats:
    """Fresh memory of a strategy as compiled code takes it."""
    return np.array(strategy.start(parameters), dtype=np.float64)


def parameter_kinds(strategy: Strategy) -> tuple[Kind, ...]:
    """How a strategy's parameter values in declared order are passed to compiled code."""
    of: dict[type, Kind] = {int: "int64", float: "float64", bool: "boolean"}
    return tuple(of[parameter.type] for parameter in strategy.parameters)


def column_kinds(strategy: Strategy) -> tuple[Kind, ...]:
    """How the parameter values of many runs are passed to compiled code, one array for each parameter."""
    return tuple(_COLUMNS[parameter.type] for parameter in strategy.parameters)


def columns_of(strategy: Strategy, grid: Sequence[Parameters]) -> tuple[npt.NDArray[Any], ...]:
    """The parameter values of many runs, one array for each parameter in declared order."""
    return tuple(
        np.array([parameters[each.name] for parameters in grid], dtype=_COLUMNS[each.type].partition("[")[0])
        for each in strategy.parameters
    )


_COLUMNS: dict[type, str] = {int: INTS, float: FLOATS, bool: BYTES}


def specialised(strategy: Strategy, templates: tuple[str, ...], name: str, returns: Kind, *arguments: Kind) -> Routine:
    """Function ``name`` of the template modules, with ``advance`` of this strategy, compiled for these arguments.

    Every function of the templates may call every other; they are compiled into one another.
    """
    step = _checked(strategy)
    text = _module_text(strategy, templates)
    digest = digest_of(text, name, returns, arguments, [_function_parts(each) for each in _functions(step)])
    title = re.sub(r"\W", "_", f"{name}_{strategy.name}")
    try:
        return load(title, digest, partial(_function, text, name, step), returns, arguments)
    except NotCompilable as trouble:
        raise CompilationRefused(
            CompilationFault.NOT_TYPED,
            f"strategy {strategy.name!r} cannot be compiled ({trouble}); use the loop gear",
        ) from trouble


def _function(text: str, name: str, step: FunctionType) -> Any:
    """A function of the text, which knows ``step``."""
    namespace: dict[str, Any] = {"__name__": "tapeline_compiled", "step": step}
    exec(compile(text, f"<{name}>", "exec"), namespace)  # noqa: S102 (the text is the template, see above)
    return namespace[name]


# ---- what may be compiled ----------------------------------------------------------------------------------------


def _checked(strategy: Strategy) -> FunctionType:
    """The strategy's ``step`` if compiling cannot change a bit of what it computes."""
    if not strategy.is_numeric or not isinstance(strategy.step, FunctionType):
        raise _refused(strategy, CompilationFault.NOT_NUMERIC, "its step is no plain function of numbers")
    for function in _functions(strategy.step):
        _check(strategy, function)
    return strategy.step


def _functions(step: FunctionType) -> list[FunctionType]:
    """The step, and every plain function that it or one of them calls by name, each once."""
    found = [step]
    for function in found:
        for _, value in _names(function):
            if isinstance(value, FunctionType) and value not in found:
                found.append(value)
    return found


def _check(strategy: Strategy, function: FunctionType) -> None:
    """Refuse what compiling might change in the step or a function that it calls."""
    title = "its step" if function is strategy.step else f"its step calls {function.__name__}, which"
    if function.__code__.co_freevars or function.__defaults__ or function.__kwdefaults__:
        raise _refused(strategy, CompilationFault.CLOSURE, f"{title} has free variables or default arguments")
    for name, value in _names(function):
        if not _is_exact(value) and not isinstance(value, FunctionType):
            known = ", ".join(("a plain function", *EXACT_BUILTINS, *EXACT_MATH))
            raise _refused(strategy, CompilationFault.FOREIGN_NAME, f"{title} uses {name!r}, not a number, {known}")
    if any(op.opname == "BINARY_OP" and op.argrepr in ("**", "**=") for op in dis.get_instructions(function)):
        raise _refused(strategy, CompilationFault.POWER, f"{title} uses **, which libraries round differently")


def _refused(strategy: Strategy, fault: CompilationFault, why: str) -> CompilationRefused:
    return CompilationRefused(fault, f"strategy {strategy.name!r} cannot be compiled: {why}; use the loop gear")


def _names(step: FunctionType) -> Iterator[tuple[str, Any]]:
    """Every global name of the code and what it stands for; attributes only of the module ``math``."""
    operations = list(dis.get_instructions(step))
    for operation, after in zip(operations, [*operations[1:], None], strict=True):
        if operation.opname not in ("LOAD_GLOBAL", "LOAD_NAME"):
            continue
        name = str(operation.argval)
        value = step.__globals__.get(name, getattr(builtins, name, None))
        if value is math and after is not None and after.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            yield f"math.{after.argval}", getattr(math, str(after.argval), None)
        else:
            yield name, value


def _is_exact(value: object) -> bool:
    return (
        type(value) in (bool, int, float)
        or any(value is getattr(builtins, name) for name in EXACT_BUILTINS)
        or any(value is getattr(math, name) for name in EXACT_MATH)
    )


# ---- the module of one strategy and loop -------------------------------------------------------------------------


def _module_text(strategy: Strategy, templates: tuple[str, ...]) -> str:
    """The templates as one module, with the strategy's own ``advance`` and ``parameters_of`` behind them."""
    values = "".join(f"parameters[{index}], " for index in range(len(strategy.parameters)))
    of_run = "".join(
        f"parameters[{index}][run]{' != 0' if parameter.type is bool else ''}, "
        for index, parameter in enumerate(strategy.parameters)
    )
    return (
        "from __future__ import annotations\n"
        + "".join(_template_text(template) for template in templates)
        + "\n\ndef advance(memory, parameters, open, high, low, close, volume):\n"
        + f"    return step(memory, {values}open, high, low, close, volume)\n"
        + f"\n\ndef parameters_of(parameters, run):\n    return ({of_run})\n"
    )


def _template_text(template: str) -> str:
    """A template without its imports of other templates, which stand before it in the same module."""
    found = importlib.util.find_spec(template)
    assert found is not None, f"{template} is part of this package"
    assert found.origin is not None, f"{template} is a file"
    text = Path(found.origin).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(("__future__", "tapeline_backtest")):
            assert node.end_lineno is not None, "the parser says where a statement ends"
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "".join(lines)


def _function_parts(function: FunctionType) -> tuple[object, ...]:
    """All that decides what a function computes, but for the functions it calls, which are named."""
    values = {
        name: value.__qualname__ if isinstance(value, FunctionType) else repr(value) for name, value in _names(function)
    }
    return (function.__qualname__, _code_parts(function.__code__), sorted(values.items()))


def _code_parts(code: CodeType) -> tuple[str, ...]:
    constants = [_code_parts(each) if isinstance(each, CodeType) else each for each in code.co_consts]
    return (code.co_code.hex(), repr(constants), repr(code.co_names), repr(code.co_varnames))
