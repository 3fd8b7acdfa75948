"""Compiled strategies: a strategy's own ``step`` turned into machine code, with the same result to the last bit.

A loop (``scan_loop``, ``kernel_loop``) is ordinary Python that calls ``advance``. For one strategy, ``advance`` and the
loop become the text of a module of their own, which numba compiles as a whole: IEEE arithmetic in the order of the
source, no reassociation, no fused multiply-add, errors as in Python. What could differ from the interpreter by a bit
(powers, transcendental functions) is refused rather than approximated.

Code is kept on disk, so that a second process does not compile again. numba keeps it beside a source file and knows
nothing of functions that are put in from outside; hence a file per strategy and loop, named by a digest of everything
that went into it. Its folder is ``NUMBA_CACHE_DIR`` or the user's cache; where neither can be written, nothing is kept.

numba is imported here, when something is compiled, and nowhere else.
"""

from __future__ import annotations

import ast
import builtins
import dis
import hashlib
import importlib.metadata
import importlib.util
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeline_strategy.sdk import Number, Strategy

Floats = npt.NDArray[np.float64]
Columns = tuple[Floats, Floats, Floats, Floats, Floats]
"""open, high, low, close, volume: contiguous, writable, of one length."""

Scan = Callable[[Floats, tuple[Number, ...], Columns, int, int, float], tuple[int, float]]

EXACT_BUILTINS = ("abs", "bool", "float", "int", "len", "max", "min", "range")
EXACT_MATH = ("ceil", "copysign", "fabs", "floor", "inf", "isfinite", "isinf", "isnan", "nan", "sqrt", "trunc")
"""What ``step`` may call: results that every correct implementation agrees on to the last bit."""


OPTIONS: dict[str, Any] = {"_nrt": False, "forceinline": True}
"""Compiled code allocates nothing, so no array is counted in or out, and becomes one function: together four times as
fast where every bar is an event."""


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
    types = numba_types()
    floats = types.float64[::1]
    signature = (floats, parameter_types(strategy), types.UniTuple(floats, 5), types.int64, types.int64, types.float64)
    return specialised(strategy, ("tapeline_backtest.scan_loop",), "scan", signature)


def memory_of(strategy: Strategy, parameters: dict[str, Any]) -> Floats:
    """Fresh memory of a strategy as compiled code takes it."""
    return np.array(strategy.start(parameters), dtype=np.float64)


def parameter_types(strategy: Strategy) -> Any:
    """The numba type of a strategy's parameter values in declared order."""
    types = numba_types()
    of = {int: types.int64, float: types.float64, bool: types.boolean}
    return types.Tuple(tuple(of[parameter.type] for parameter in strategy.parameters))


def numba_types() -> Any:
    """numba's own vocabulary for signatures."""
    import numba

    return numba.types


def specialised(strategy: Strategy, templates: tuple[str, ...], name: str, signature: tuple[Any, ...]) -> Any:
    """Function ``name`` of the template modules, with ``advance`` of this strategy, compiled for one signature.

    Every function of the templates may call every other; they are compiled into one another.
    """
    import numba

    step = _checked(strategy)
    text = _module_text(strategy, templates)
    digest = _digest(step, text)
    module_name = f"tapeline_compiled_{strategy.name}_{digest[:24]}"
    path = _kept(f"{module_name}.py", text)
    module = ModuleType(module_name)
    module.__file__ = str(path or f"<{module_name}>")
    exec(compile(text, module.__file__, "exec"), module.__dict__)  # noqa: S102 (the text is the template, see above)
    # Cached code finds its module by name.
    sys.modules[module_name] = module
    namespace = module.__dict__
    namespace["step"] = numba.njit(**OPTIONS)(_moved(step, module_name))
    for other, function in list(namespace.items()):
        if isinstance(function, FunctionType) and function.__module__ == module_name and other != name:
            namespace[other] = numba.njit(**OPTIONS)(function)
    dispatcher = numba.njit(cache=path is not None, nogil=True, **OPTIONS)(namespace[name])
    try:
        dispatcher.compile(signature)
    except numba.core.errors.NumbaError as trouble:
        raise CompilationRefused(
            CompilationFault.NOT_TYPED,
            f"strategy {strategy.name!r} cannot be compiled ({_first_line(trouble)}); use the loop gear",
        ) from trouble
    return dispatcher


# ---- what may be compiled ----------------------------------------------------------------------------------------


def _checked(strategy: Strategy) -> FunctionType:
    """The strategy's ``step`` if compiling cannot change a bit of what it computes."""
    if not strategy.is_numeric or not isinstance(strategy.step, FunctionType):
        raise _refused(strategy, CompilationFault.NOT_NUMERIC, "its step is no plain function of numbers")
    step = strategy.step
    if step.__code__.co_freevars or step.__defaults__ or step.__kwdefaults__:
        raise _refused(strategy, CompilationFault.CLOSURE, "its step has free variables or default arguments")
    for name, value in _names(step):
        if not _is_exact(value):
            known = ", ".join((*EXACT_BUILTINS, *EXACT_MATH))
            raise _refused(strategy, CompilationFault.FOREIGN_NAME, f"its step uses {name!r}, not a number or {known}")
    if any(op.opname == "BINARY_OP" and op.argrepr in ("**", "**=") for op in dis.get_instructions(step)):
        raise _refused(strategy, CompilationFault.POWER, "its step uses **, which libraries round differently")
    return step


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


def _first_line(trouble: Exception) -> str:
    lines = [line.strip() for line in str(trouble).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].startswith("Failed in") else lines[0]


# ---- the module of one strategy and loop -------------------------------------------------------------------------


def _module_text(strategy: Strategy, templates: tuple[str, ...]) -> str:
    """The templates as one module, with the strategy's own ``advance`` behind them."""
    values = "".join(f"parameters[{index}], " for index in range(len(strategy.parameters)))
    return (
        "from __future__ import annotations\n"
        + "".join(_template_text(template) for template in templates)
        + "\n\ndef advance(memory, parameters, open, high, low, close, volume):\n"
        + f"    return step(memory, {values}open, high, low, close, volume)\n"
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


def _moved(step: FunctionType, module_name: str) -> FunctionType:
    """The same code as a function of the generated module, which is where cached code looks for it."""
    names = {name.partition(".")[0] for name, _ in _names(step)}
    known = {name: step.__globals__[name] for name in names if name in step.__globals__}
    moved = FunctionType(step.__code__, {**known, "__name__": module_name, "__builtins__": builtins}, step.__name__)
    moved.__module__ = module_name
    return moved


def _digest(step: FunctionType, text: str) -> str:
    """Names everything that the machine code depends on and numba's own cache does not look at."""
    parts = (
        *(importlib.metadata.version(package) for package in ("numba", "llvmlite", "numpy")),
        sys.version,
        repr(OPTIONS),
        text,
        *_code_parts(step.__code__),
        *sorted(f"{name}={value!r}" for name, value in _names(step)),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _code_parts(code: CodeType) -> tuple[str, ...]:
    return (code.co_code.hex(), repr(code.co_consts), repr(code.co_names), repr(code.co_varnames))


def _kept(name: str, text: str) -> Path | None:
    """The generated module as a file in a folder where numba may keep code beside it; ``None`` where none may be."""
    path = cache_folder() / name
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text and os.access(path.parent, os.W_OK):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, mode="w", encoding="utf-8", delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError:
        return None
    return path


def cache_folder() -> Path:
    """Where compiled code is kept: below ``NUMBA_CACHE_DIR``, or in the user's cache."""
    given = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "tapeline" / "compiled"
