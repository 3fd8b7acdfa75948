"""Plain functions as machine code: the same results as interpreted, and arguments of other types are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="functions are compiled")

from tapeline_backtest import machine_code
from tapeline_backtest.machine_code import FLOATS, INT_TABLE, INTS, NOTHING, NotCompilable, routine

FACTOR = 3


def _scaled(value: float) -> float:
    return value * FACTOR


def mixed(floats: Any, table: Any, number: int, flag: bool, pair: tuple[int, float], columns: Any) -> tuple[int, float]:
    """Everything that can be passed, an array made on the way, and a call."""
    own = np.zeros(2)
    for index in range(len(floats)):
        own[0] += _scaled(floats[index])
    for row in range(table.shape[0]):
        for column in range(table.shape[1]):
            table[row, column] += number
            own[1] += columns[row % 2][column]
    return number + pair[0] if flag else number, own[0] * pair[1] + own[1]


KINDS = (FLOATS, INT_TABLE, "int64", "boolean", ("int64", "float64"), (INTS, INTS))
RETURNS = ("int64", "float64")


@settings(deadline=None)  # the first call compiles
@given(
    floats=st.lists(st.floats(-1e6, 1e6), max_size=5),
    number=st.integers(-1000, 1000),
    flag=st.booleans(),
    pair=st.tuples(st.integers(-9, 9), st.floats(-9, 9)),
)
def test_compiled_is_interpreted(floats: list[float], number: int, flag: bool, pair: tuple[int, float]) -> None:
    """Results are equal to the last bit, and so is what was written into arrays."""
    compiled = routine(mixed, RETURNS, *KINDS, allocates=True)
    values, columns = np.array(floats), (np.arange(3), np.arange(3) * 7)
    ours, theirs = np.arange(12).reshape(4, 3), np.arange(12).reshape(4, 3)
    assert compiled(values, ours, number, flag, pair, columns) == mixed(values, theirs, number, flag, pair, columns)
    assert ours.tolist() == theirs.tolist()


def nothing(_floats: Any) -> None:
    return


@pytest.mark.parametrize(
    "wrong",
    [np.zeros(4, dtype=np.float32), np.zeros((2, 2)), np.zeros(8)[::2], np.zeros(4, dtype=np.int64)],
    ids=["narrow", "table", "strided", "integers"],
)
def test_other_arrays_are_refused(wrong: Any) -> None:
    """Machine code reads memory as it was told to: an array of another type never gets there."""
    compiled = routine(nothing, NOTHING, FLOATS)
    assert compiled(np.zeros(4)) is None
    with pytest.raises(TypeError, match="compiled code takes"):
        compiled(wrong)


def _divided(one: float, other: float) -> float:
    return one / other


def test_an_error_in_compiled_code_is_raised() -> None:
    """As in Python, a division by zero has no result."""
    compiled = routine(_divided, "float64", "float64", "float64")
    assert compiled(1.0, 3.0) == 1.0 / 3.0
    with pytest.raises(ArithmeticError, match="division by zero"):
        compiled(1.0, 0.0)


def _odd(one: float) -> Any:
    return str(one) + one


def test_what_has_no_numeric_type_is_refused() -> None:
    """A function that is not one of numbers cannot be compiled, and says so."""
    with pytest.raises(NotCompilable):
        routine(_odd, "float64", "float64")


def _logarithm(one: float) -> float:
    return math.log(one)


def test_the_c_library_is_called() -> None:
    """Functions of the C library are those that Python itself calls."""
    compiled = routine(_logarithm, "float64", "float64")
    assert compiled(1.7) == math.log(1.7)


def test_code_is_named_by_the_numbers_that_it_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of the module is compiled in, also in a function that is only called: another one is other code."""
    before = machine_code._digest_of(mixed, RETURNS, KINDS, allocates=True)
    assert machine_code._digest_of(mixed, RETURNS, KINDS, allocates=True) == before
    monkeypatch.setitem(globals(), "FACTOR", 4)
    assert machine_code._digest_of(mixed, RETURNS, KINDS, allocates=True) != before
