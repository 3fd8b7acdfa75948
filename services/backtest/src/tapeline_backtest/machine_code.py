"""Machine code of plain functions of numbers and arrays: made by numba once, kept on disk, run without numba.

numba's types and rules cost a process a second and a hundred mebibytes before the first call, also where everything is
compiled already. So only making code needs it: it hands over optimised LLVM code, which becomes an object file, and a
later process links that with llvmlite and calls it by numba's calling convention: ``int status(result*, error*,
arguments...)``, an array being (meminfo, parent, items, item size, data, shape..., strides...).

What a function may be: numbers and arrays in, numbers out. Its calls to other plain functions are compiled into it, and
arrays that it makes are malloc's. An error in compiled code (a division by zero, no memory) is an ``ArithmeticError``.
Nothing here knows what is computed.

numba is imported here, when something is compiled, and nowhere else.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import inspect
import os
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

Kind: TypeAlias = "str | tuple[Kind, ...]"
"""Type of a value as numba writes it, such as ``float64`` or ``int64[:, ::1]``; a tuple for a tuple."""

Function = TypeVar("Function", bound=Callable[..., Any])

BYTES: Final = "uint8[::1]"
INTS: Final = "int64[::1]"
FLOATS: Final = "float64[::1]"
INT_TABLE: Final = "int64[:, ::1]"
FLOAT_TABLE: Final = "float64[:, ::1]"
NOTHING: Final = "none"

_LETTERS: Final = {"int64": "q", "float64": "d", "boolean": "q", NOTHING: ""}
_LLVM: Final = {"int64": ("i64",), "float64": ("double",), "boolean": ("i8",)}
_LLVM_ARRAY: Final = ("ptr", "ptr", "i64", "i64", "ptr")

WORD_BYTES: Final = 8
_PROTOTYPE: Final = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)

DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Intrinsic:
    """Instructions that have no Python form. ``generate`` is as ``numba.extending.intrinsic`` wants it."""

    generate: Callable[..., Any]

    def __call__(self, *_arguments: Any) -> Any:
        raise NotImplementedError("runs compiled only")


_inlined: set[Any] = set()


def inlined(function: Function) -> Function:
    """Marks a function that is compiled into its callers, whatever its size."""
    _inlined.add(function)
    return function


class NotCompilable(Exception):
    """What numba says of a function that is not made of numbers and arrays of known types."""


class Routine:
    """A compiled function, called with NumPy arrays and numbers; the interpreter's lock is not held meanwhile.

    Arrays are checked to be of the declared type, contiguous, and must live until it returns.
    """

    def __init__(self, address: int, arguments: Sequence[Kind], returns: Kind) -> None:
        results = _letters(returns)
        self._plan = _plan(arguments)
        self._arguments = struct.Struct("".join(map(_letters, arguments)))
        self._results = struct.Struct(results)
        self._is_tuple, self._is_empty = isinstance(returns, tuple), not results
        self._first = WORD_BYTES * (len(results) + 1)
        self._call = _PROTOTYPE(address)
        self._free: list[tuple[bytearray, int]] = []

    def __call__(self, *arguments: Any) -> Any:
        flat: list[Any] = []
        _fill(flat, self._plan, arguments)
        words, address = self._free.pop() if self._free else self._words()
        self._arguments.pack_into(words, self._first, *flat)
        if self._call(address):
            raise ArithmeticError("an operation in compiled code failed, such as a division by zero")
        results = self._results.unpack_from(words)
        self._free.append((words, address))
        return results if self._is_tuple else None if self._is_empty else results[0]

    def _words(self) -> tuple[bytearray, int]:
        words = bytearray(self._first + self._arguments.size)
        return words, ctypes.addressof(ctypes.c_char.from_buffer(words))


def _plan(kinds: Sequence[Kind]) -> list[Any]:
    """How to pass arguments: an array's type and dimensions, ``None`` for a number, a plan for a tuple."""
    return [_plan(kind) if isinstance(kind, tuple) else _array(kind) for kind in kinds]


def _fill(flat: list[Any], plan: Sequence[Any], arguments: Sequence[Any]) -> None:
    for expected, argument in zip(plan, arguments, strict=True):
        if expected is None:
            flat.append(argument)
        elif type(expected) is list:
            _fill(flat, expected, argument)
        else:
            dtype, dimensions = expected
            if argument.dtype != dtype or argument.ndim != dimensions or not argument.flags.c_contiguous:
                raise TypeError(f"compiled code takes {expected}, not {argument.dtype} of shape {argument.shape}")
            flat += (0, 0, argument.size, argument.itemsize, _address(argument), *argument.shape, *argument.strides)


def _address(array: Any) -> int:
    """Of an array's data."""
    if array.size and array.flags.writeable:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    address: int = array.ctypes.data
    return address


def routine(
    function: Callable[..., Any], returns: Kind, *arguments: Kind, allocates: bool = False, name: str = ""
) -> Routine:
    """A function as machine code for these types, from disk where an earlier process kept it.

    Args:
        allocates: whether it makes arrays. Where none is made, none is counted in or out, and everything becomes one
            function: together four times as fast where every bar is an event. Otherwise only what is ``inlined`` is
            certain to be.
        name: begins the name of the kept file; the function's by default.

    Raises:
        NotCompilable: its types cannot be told.
    """
    digest = _digest_of(function, returns, arguments, allocates=allocates)
    return load(name or function.__name__, digest, lambda: function, returns, arguments, allocates=allocates)


def load(
    name: str,
    digest: str,
    make: Callable[[], Callable[..., Any]],
    returns: Kind,
    arguments: Sequence[Kind],
    *,
    allocates: bool = False,
) -> Routine:
    """The kept code of that digest, or that of the function which ``make`` returns."""
    symbol = f"{name}_{digest[:24]}"
    with _lock:
        if symbol not in _loaded:
            path = cache_folder() / f"{symbol}-{_machine()}.o"
            code = _kept(path)
            if code is None:
                code = object_code(module_of(make(), symbol, returns, arguments, allocates=allocates))
                _keep(path, code)
            engine = _engine()
            engine.add_object_file(_llvm().ObjectFileRef.from_data(code))
            engine.finalize_object()
            _loaded[symbol] = engine.get_function_address(symbol)
    return Routine(_loaded[symbol], arguments, returns)


@cache
def _llvm() -> Any:
    """llvmlite's binding, loaded when there is something to link."""
    from llvmlite import binding

    return binding


_lock = threading.Lock()
_loaded: dict[str, int] = {}
"""Addresses of what this process has linked, by name."""


# ---- calling -----------------------------------------------------------------------------------------------------


@cache
def _array(kind: str) -> tuple[np.dtype[Any], int] | None:
    """Element type and dimensions of a C array, ``None`` for anything else."""
    element, bracket, shape = kind.partition("[")
    return (np.dtype(element), shape.count(":") - 1) if bracket else None


def _letters(kind: Kind) -> str:
    """The words that a value of this kind is passed as, in the letters of ``struct``."""
    if isinstance(kind, tuple):
        return "".join(map(_letters, kind))
    array = _array(kind)
    return "q" * (5 + 2 * array[1]) if array else _LETTERS[kind]


# ---- making ------------------------------------------------------------------------------------------------------

_MEMORY: Final = """
declare ptr @malloc(i64)
declare void @free(ptr)

define ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %align) {
  %room = add i64 %size, 128
  %block = call ptr @malloc(i64 %room)
  %absent = icmp eq ptr %block, null
  br i1 %absent, label %done, label %fill
fill:
  store i64 1, ptr %block
  %start = ptrtoint ptr %block to i64
  %beyond = add i64 %start, 127
  %aligned = and i64 %beyond, -64
  %place = getelementptr i8, ptr %block, i64 24
  store i64 %aligned, ptr %place
  br label %done
done:
  ret ptr %block
}

define void @NRT_MemInfo_call_dtor(ptr %block) {
  call void @free(ptr %block)
  ret void
}
"""
"""Arrays made in compiled code, in place of numba's own runtime: a count of references first, the data's address as
fourth word, then the data, on a cache line."""


def module_of(
    function: Callable[..., Any], symbol: str, returns: Kind, arguments: Sequence[Kind], *, allocates: bool
) -> Any:
    """The function and all it calls as one optimised LLVM module, in which it is named ``symbol``."""
    import numba

    options = {"nogil": True, "_nrt": allocates, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    dispatcher = _dispatcher(function, options, is_all_inlined=not allocates, made={})
    try:
        dispatcher.compile(tuple(_numba_type(kind) for kind in arguments))
    except numba.core.errors.NumbaError as trouble:
        raise NotCompilable(_first_line(trouble)) from trouble
    (compiled,) = dispatcher.overloads.values()
    assert compiled.signature.return_type == _numba_type(returns), f"{symbol} returns {compiled.signature.return_type}"
    mangled = compiled.fndesc.llvm_func_name
    (text,) = dispatcher.inspect_llvm().values()
    module = _llvm().parse_assembly(text)
    found = [str(each.type) for each in module.get_function(mangled).arguments]
    expected = [each for kind in arguments for each in _llvm_types(kind)]
    assert found == ["ptr", "ptr", *expected], f"numba passes {found}, not {expected}"
    module.link_in(_llvm().parse_assembly(_MEMORY + _entry(symbol, mangled, len(_letters(returns)), expected)))
    for each in module.functions:
        if not each.is_declaration:
            each.linkage = "external" if each.name == symbol else "internal"
        elif not each.name.startswith("llvm."):
            # Linking would end the process without a word.
            assert _process_has(each.name), f"compiled {symbol} calls {each.name}, which only numba has"
    return module


def _llvm_types(kind: Kind) -> tuple[str, ...]:
    if isinstance(kind, tuple):
        return tuple(each for one in kind for each in _llvm_types(one))
    array = _array(kind)
    return (*_LLVM_ARRAY, *(["i64"] * 2 * array[1])) if array else _LLVM[kind]


def _entry(symbol: str, mangled: str, results: int, types: Sequence[str]) -> str:
    """A function of one argument, which calls the other with words of memory: results, error, then arguments."""
    loads = "".join(
        f"  %p{index} = getelementptr i64, ptr %words, i64 {results + 1 + index}\n"
        f"  %a{index} = load {each}, ptr %p{index}\n"
        for index, each in enumerate(types)
    )
    given = "".join(f", {each} %a{index}" for index, each in enumerate(types))
    return (
        f'declare i32 @"{mangled}"({", ".join(["ptr", "ptr", *types])})\n'
        f'define i32 @"{symbol}"(ptr %words) {{\n'
        f"  %error = getelementptr i64, ptr %words, i64 {results}\n{loads}"
        f'  %status = call i32 @"{mangled}"(ptr %words, ptr %error{given})\n'
        "  ret i32 %status\n}\n"
    )


def object_code(module: Any) -> bytes:
    """An object file for this processor."""
    code: bytes = _target_machine().emit_object(module)
    return code


def _numba_type(kind: Kind) -> Any:
    from numba import types

    if isinstance(kind, tuple):
        return types.Tuple(tuple(_numba_type(each) for each in kind))
    array = _array(kind)
    return types.Array(getattr(types, array[0].name), array[1], "C") if array else getattr(types, kind)


def _dispatcher(function: Any, options: dict[str, Any], *, is_all_inlined: bool, made: dict[Any, Any]) -> Any:
    """The same function for numba, in whose place of every function that it calls stands another such."""
    import numba
    from numba.extending import intrinsic

    known = dict(function.__globals__)
    copied = FunctionType(function.__code__, known, function.__name__, function.__defaults__)
    is_inlined = is_all_inlined or function in _inlined
    made[function] = numba.njit(forceinline=is_inlined, **options)(copied)
    for name, value in _named(function):
        if isinstance(value, Intrinsic) and value not in made:
            made[value] = intrinsic(value.generate)
        elif value not in made:
            _dispatcher(value, options, is_all_inlined=is_all_inlined, made=made)
        known[name] = made[value]
    return made[function]


def _first_line(trouble: Exception) -> str:
    lines = [line.strip() for line in str(trouble).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].startswith("Failed in") else lines[0]


def _named(function: Any) -> Iterator[tuple[str, Any]]:
    """Every plain function and intrinsic that a function names."""
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType | Intrinsic):
            yield name, value


def _process_has(name: str) -> bool:
    return hasattr(ctypes.CDLL(None), name)


# ---- linking -----------------------------------------------------------------------------------------------------


def _target_machine() -> Any:
    """As numba's own: everything that this processor has, no arithmetic but what is written."""
    llvm = _llvm()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    features = llvm.get_host_cpu_features().flatten()
    reloc = "static" if target.name.startswith("x86") else "default"
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=3, reloc=reloc, codemodel="jitdefault", jit=True
    )


@cache
def _engine() -> Any:
    return _llvm().create_mcjit_compiler(_llvm().parse_assembly(""), _target_machine())


# ---- keeping -----------------------------------------------------------------------------------------------------


@cache
def versions() -> str:
    """Whatever compiles, or is compiled."""
    packages = ("numba", "llvmlite", "numpy")
    return " ".join((sys.version, *(importlib.metadata.version(package) for package in packages)))


@cache
def _machine() -> str:
    llvm = _llvm()
    parts = f"{llvm.get_default_triple()} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    return hashlib.sha256(parts.encode()).hexdigest()[:8]


def digest_of(*parts: object) -> str:
    """Names code by everything that it depends on, this module and the compiler among it."""
    own = Path(__file__).read_bytes()
    return hashlib.sha256("\0".join((versions(), str(parts))).encode() + own).hexdigest()


def _digest_of(function: Any, returns: Kind, arguments: Sequence[Kind], *, allocates: bool) -> str:
    texts: dict[str, str] = {}
    numbers: list[str] = []
    _collect(function, texts, numbers, set())
    return digest_of(function.__qualname__, returns, arguments, allocates, sorted(texts.items()), sorted(numbers))


def _collect(function: Any, texts: dict[str, str], numbers: list[str], seen: set[Any]) -> None:
    """Source of every module that the function's own and called functions are of, and the numbers that they name."""
    if function in seen:
        return
    seen.add(function)
    if function.__module__ not in texts:
        texts[function.__module__] = Path(inspect.getfile(function)).read_text(encoding="utf-8")
    for name in _all_names(function.__code__):
        value = function.__globals__.get(name)
        if isinstance(value, bool | int | float | str | tuple | list):
            numbers.append(f"{function.__module__}.{name}={value!r}")
    for _, value in _named(function):
        _collect(value.generate if isinstance(value, Intrinsic) else value, texts, numbers, seen)


def _all_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_names(constant)


def _kept(path: Path) -> bytes | None:
    """Object code that was kept whole: what is cut short would take the process down."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    code = content[DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == content[:DIGEST_BYTES] else None


def _keep(path: Path, code: bytes) -> None:
    """Where nothing can be written, nothing is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(file.name, path)
    except OSError:
        return


def cache_folder() -> Path:
    """Where compiled code is kept: below ``NUMBA_CACHE_DIR``, or in the user's cache."""
    given = os.environ.get("NUMBA_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "tapeline" / "compiled"
