"""The kernel's whole numbers are the decimals they stand for: limbs, columns and allowances."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_backtest.exact import NotExact, allowances, decimals_of, price_columns, whole_column
from tapeline_backtest.wide import (
    BASE,
    HIGHEST,
    at_least,
    difference,
    is_within,
    multiple,
    product,
    quotient,
    total,
)
from tapeline_common.money import round_down
from tapeline_marketdata import shelf as shelf_module
from tapeline_marketdata.files import NUMBER_COLUMNS, BarColumns
from tapeline_marketdata.shelf import Shelf

FACTORS = st.integers(-(BASE - 1), BASE - 1)
WIDE = st.integers(-HIGHEST * BASE, HIGHEST * BASE)
INT64 = 2**63


def value(limbs: tuple[int, int]) -> int:
    """The number of two limbs, each of which must fit an int64 and have its one form."""
    high, low = limbs
    assert -INT64 <= high < INT64
    assert 0 <= low < BASE
    return high * BASE + low


@given(FACTORS, FACTORS)
def test_a_product_is_exact(left: int, right: int) -> None:
    """Of any two factors."""
    assert value(product(left, right)) == left * right


@given(WIDE, WIDE)
def test_sums_differences_and_order_are_exact(left: int, right: int) -> None:
    """Within the bound nothing wraps, and whether a result is within it is told."""
    one, other = divmod(left, BASE), divmod(right, BASE)
    assert value(total(*one, *other)) == left + right
    assert value(difference(*one, *other)) == left - right
    assert at_least(*one, *other) == (left >= right)
    assert is_within(one[0])
    assert not is_within(HIGHEST + 1)
    assert not is_within(-HIGHEST - 1)


@given(FACTORS, FACTORS, st.integers(-(10**6), 10**6))
def test_a_multiple_is_exact(left: int, right: int, factor: int) -> None:
    """Of a product whose multiple is within the bound."""
    high, low = product(left, right)
    if abs(high * factor) <= HIGHEST:
        assert value(multiple(high, low, factor)) == left * right * factor


@given(st.integers(1, HIGHEST * BASE), st.integers(1, 2**50 - 2), st.integers(0, 3))
def test_a_quotient_is_the_floor(step: int, count: int, off: int) -> None:
    """Next to a whole number of steps as well, where the float quotient may be off by one."""
    number = max(1, min(step * count + off - 1, HIGHEST * BASE))
    if number // step < 2**50:
        assert quotient(*divmod(number, BASE), *divmod(step, BASE)) == number // step


# ---- columns -----------------------------------------------------------------------------------------------------


def columns_of(volumes: list[Any]) -> BarColumns:
    """Bars whose volume is as given: floats, or texts as a file prints them; other columns are ones."""
    ones = np.ones(len(volumes))
    floats = dict.fromkeys(("open", "high", "low", "close"), ones)
    floats["volume"] = np.array([float(volume) for volume in volumes])
    printed = {name: pa.array(column) for name, column in floats.items()} | {"volume": pa.array(volumes)}
    return BarColumns(np.arange(len(volumes), dtype=np.int64), floats, printed)


SHORT_DECIMALS = st.decimals(0, 10**7, places=4, allow_nan=False, allow_infinity=False)
LONG_DECIMALS = st.integers(0, 10**17).flatmap(
    lambda number: st.integers(0, 17).map(lambda places: Decimal(number).scaleb(-places))
)


@given(st.lists(SHORT_DECIMALS, min_size=1, max_size=20))
def test_a_column_of_floats_is_its_shortest_decimals(volumes: list[Decimal]) -> None:
    """What the tape prints, in units of the last decimal."""
    columns = columns_of([float(volume) for volume in volumes])
    whole = whole_column(columns, "volume")
    assert [Decimal(unit).scaleb(-whole.decimals) for unit in whole.units.tolist()] == volumes
    assert whole.decimals == max(decimals_of(volume) for volume in volumes)


@given(st.lists(LONG_DECIMALS, min_size=1, max_size=20))
def test_a_column_of_texts_is_exact_or_refused(volumes: list[Decimal]) -> None:
    """Decimals that no float holds are kept; more than eighteen digits in one unit are refused, never rounded."""
    columns = columns_of([f"{volume:f}" for volume in volumes])
    places = max(decimals_of(volume) for volume in volumes)
    if any(volume.scaleb(places) >= 10**18 for volume in volumes):
        with pytest.raises(NotExact, match="column 'volume' needs more than 18 digits"):
            whole_column(columns, "volume")
        return
    whole = whole_column(columns, "volume")
    assert [Decimal(unit).scaleb(-whole.decimals) for unit in whole.units.tolist()] == volumes


SHARES = st.sampled_from([Decimal(text) for text in ("0.1", "0.003", "1", "0.333", "0.05")])
LOTS = st.sampled_from([Decimal(text) for text in ("1", "0.001", "0.4", "0.03", "7", "0.00001")])


@given(st.lists(SHORT_DECIMALS | st.floats(0, 1e6).map(lambda number: Decimal(repr(number)))), SHARES, LOTS)
def test_allowances_are_those_of_the_venue(volumes: list[Decimal], share: Decimal, lot: Decimal) -> None:
    """Whole lots of a share of the volume, also where the volume has more digits than an int64, and next to a lot."""
    volumes = [*volumes, *(lot / share * count for count in (1, 3, 1000) if decimals_of(lot / share * count) < 15)]
    if not volumes:
        return
    found = allowances(columns_of([float(volume) for volume in volumes]), share, lot)
    expected = [round_down(share * Decimal(repr(float(volume))), lot) for volume in volumes]
    assert [Decimal(unit).scaleb(-found.decimals) for unit in found.units.tolist()] == expected


def test_without_lots_a_long_volume_is_refused() -> None:
    """The message names the way out."""
    with pytest.raises(NotExact, match="with a lot size participation is counted in lots"):
        allowances(columns_of([0.12345678901234567, 1e5]), Decimal("0.1"), None)


@given(st.lists(SHORT_DECIMALS, min_size=1, max_size=20), SHARES, st.none() | LOTS, st.integers(1, 7))
def test_columns_on_disk_give_the_same_numbers(
    volumes: list[Decimal], share: Decimal, lot: Decimal | None, part: int
) -> None:
    """Gone through in parts of any length: volumes, what fills may take of them, and prices with their largest."""
    here = columns_of([float(volume) for volume in volumes])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf_module, "PART_ROWS", part)
        on_disk = BarColumns(
            here.open_ns, {name: getattr(here, name) for name in NUMBER_COLUMNS}, here._printed, Shelf(is_open=True)
        )
        for found, expected in (
            (whole_column(on_disk, "volume"), whole_column(here, "volume")),
            (allowances(on_disk, share, lot), allowances(here, share, lot)),
        ):
            assert (found.units.tolist(), found.decimals) == (expected.units.tolist(), expected.decimals)
            assert found.largest == expected.largest == max(found.units.tolist())
    prices, same = price_columns(on_disk), price_columns(here)
    assert prices.opens.low.tolist() == same.opens.low.tolist()
    assert (prices.decimals, prices.largest) == (same.decimals, same.largest) == (0, 1)
