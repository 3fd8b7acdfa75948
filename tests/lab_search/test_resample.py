"""Longer bars are exactly what the shorter ones make them, and only of intervals that are over."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gears import MINUTE_NS, file_of

from tapeline_lab.search.bench import read_file
from tapeline_lab.search.resample import resampled
from tapeline_marketdata.columns import BadFile
from tapeline_marketdata.files import NUMBER_COLUMNS

FIRST_NS = 1_700_000_040_000_000_000 // (5 * MINUTE_NS) * (5 * MINUTE_NS)


@st.composite
def minutes(draw: st.DrawFn) -> list[tuple[int, float, float, float, float, float]]:
    """Bars of (minute, open, high, low, close, volume), some minutes missing."""
    at = sorted(draw(st.sets(st.integers(0, 40), min_size=12, max_size=41)))
    price = st.integers(1, 10_000).map(lambda units: units / 100)
    rows = []
    for minute in at:
        first, last, one, other = (draw(price) for _ in range(4))
        rows.append((minute, first, max(first, last, one), min(first, last, other), last, draw(price)))
    return rows


@settings(max_examples=60, deadline=None)
@given(rows=minutes())
def test_bars_are_made_of_theirs(rows: list[tuple[int, float, float, float, float, float]]) -> None:
    """The naive way: group by interval, leave out those whose beginning or end is not in the file."""
    groups: dict[int, list[tuple[int, float, float, float, float, float]]] = {}
    for row in rows:
        groups.setdefault(row[0] // 5, []).append(row)
    if rows[0][0] % 5:
        del groups[rows[0][0] // 5]
    last = rows[-1][0]
    if (last + 1) % 5:
        groups.pop(last // 5, None)
    file = file_of(rows, FIRST_NS)
    if not groups:
        with pytest.raises(BadFile, match="not one whole bar of 5m"):
            resampled(file, 5 * MINUTE_NS)
        return
    made = resampled(file, 5 * MINUTE_NS)
    assert made.facts.timeframe == "5m"
    assert made.columns.open_ns.tolist() == [FIRST_NS + group * 5 * MINUTE_NS for group in groups]
    expected = [
        (
            Decimal(repr(some[0][1])),
            max(Decimal(repr(row[2])) for row in some),
            min(Decimal(repr(row[3])) for row in some),
            Decimal(repr(some[-1][4])),
            sum((Decimal(repr(row[5])) for row in some), Decimal(0)),
        )
        for some in groups.values()
    ]
    texts = [[Decimal(text) for text in made.columns.texts(name)] for name in NUMBER_COLUMNS]
    assert list(zip(*texts, strict=True)) == expected
    for name in NUMBER_COLUMNS:
        assert getattr(made.columns, name).tolist() == [float(text) for text in made.columns.texts(name)]


def test_other_lengths_are_refused() -> None:
    """Bars that do not make up whole ones."""
    rows = [(minute, 1.0, 1.0, 1.0, 1.0, 1.0) for minute in range(10)]
    with pytest.raises(BadFile, match="give a multiple"):
        resampled(file_of(rows, FIRST_NS), 90_000_000_000)


def test_a_file_of_that_length_is_read_as_it_is(tmp_path: Path) -> None:
    """Asking for what is there changes nothing."""
    path = tmp_path / "BTCUSD.csv"
    lines = [f"{1_700_000_100 + 60 * minute},1.50,2.0,1.0,1.5,3" for minute in range(9)]
    path.write_text("\n".join(["ts,open,high,low,close,volume", *lines]) + "\n")
    assert read_file(str(path), "1m").columns.texts("open") == ["1.50"] * 9
    assert read_file(str(path), "3m").columns.texts("volume") == ["9", "9", "9"]
