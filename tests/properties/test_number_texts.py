"""Numbers of a file as text, in bulk and one by one."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st

from tapeline_marketdata.bars import decimal_text
from tapeline_marketdata.columns import text_bytes_of, texts_of


def split(column: pa.ChunkedArray) -> list[str]:
    joined, starts = text_bytes_of(column)
    letters = joined.tobytes().decode("ascii")
    return [letters[start:stop] for start, stop in zip(starts.tolist(), starts.tolist()[1:], strict=False)]


@example([1e-7, 1e22, -0.0, 0.1, 100.0, -5.5])
@example([])
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True)))
def test_floats_read_the_same_in_bulk(numbers: list[float]) -> None:
    """As one by one, and as printed one by one without Arrow: exponents, signs, words and whole numbers included."""
    column = pa.chunked_array([pa.array(numbers, pa.float64())])
    assert split(column) == texts_of(column)
    assert texts_of(column) == [decimal_text(number) for number in numbers]


@example(["1.50", "+2", "007", "1e3", "-0"])
@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False).map(str)))
def test_printed_numbers_read_the_same_in_bulk(numbers: list[str]) -> None:
    """Decimals keep the form in which they were printed, where that is a plain one."""
    column = pa.chunked_array([pa.array(numbers, pa.string())])
    assert split(column) == texts_of(column)


@given(st.lists(st.floats(1, 1e6), min_size=3), st.data())
def test_a_slice_reads_as_that_part(numbers: list[float], data: st.DataObject) -> None:
    """Where a column begins in memory is of no meaning."""
    start = data.draw(st.integers(0, len(numbers)))
    column = pa.chunked_array([pa.array(numbers[:2], pa.float64()), pa.array(numbers[2:], pa.float64())])
    assert split(column[start:]) == texts_of(column)[start:]
