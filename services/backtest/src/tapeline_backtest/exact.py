"""Columns of prices and volumes as whole numbers of their smallest unit: exactly the decimals of the file, or refused.

A binary float stands for its shortest decimal, as on the tape. Up to fifteen digits, a decimal and its float determine
each other (IEEE 754 binary64), so most columns are converted and proved by multiplication and division; the rest goes
through ``Decimal``, number by number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tapeline_backtest.wide import BASE, HIGHEST
from tapeline_marketdata.files import BarColumns
from tapeline_marketdata.shelf import IN_MEMORY, Shelf

Ints = npt.NDArray[np.int64]

MOST_DIGITS = 18
"""Digits of a whole number here: an int64 holds every number of so many."""

PROVABLE_DIGITS = 15
"""Digits within which a decimal and its binary64 float determine each other."""


class NotExact(ValueError):
    """A column that cannot be whole numbers of one unit within the digits there are. The message names it."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A column in whole numbers: ``units / 10 ** decimals``; ``units`` is int64 of shape (n,)."""

    units: Ints
    decimals: int
    shelf: Shelf = IN_MEMORY

    @property
    def largest(self) -> int:
        """Of their absolute values; 0 where there are none."""
        return _largest(self.units, self.shelf)

    def changed(self, change: Callable[[Ints], Ints], decimals: int) -> Whole:
        """The numbers that ``change`` makes of some of them, for all of them."""
        return Whole(_changed(self.units, change, self.shelf), decimals, self.shelf)


def _largest(units: Ints, shelf: Shelf) -> int:
    return max((int(np.max(np.abs(units[part]))) for part in shelf.parts(len(units))), default=0)


def _changed(units: Ints, change: Callable[[Ints], Ints], shelf: Shelf) -> Ints:
    changed = shelf.room(len(units), np.int64)
    for part in shelf.parts(len(units)):
        changed[part] = change(units[part])
    return changed


def whole_column(columns: BarColumns, name: str) -> Whole:
    """A number column of a file, exactly. Raises ``NotExact``."""
    return _by_proof(columns, name) or whole_numbers([Decimal(text) for text in columns.texts(name)], name)


class Limbs(NamedTuple):
    """A column of whole numbers as ``wide`` has them: int64 of shape (n,) each."""

    high: Ints
    low: Ints

    def part(self, start: int, stop: int) -> Limbs:
        return Limbs(self.high[start:stop], self.low[start:stop])

    def at(self, row: int) -> int:
        return int(self.high[row]) * BASE + int(self.low[row])


@dataclass(frozen=True, slots=True)
class Prices:
    """Opens and closes in one unit, its decimals, and the largest of them."""

    opens: Limbs
    closes: Limbs
    decimals: int
    largest: int

    def part(self, start: int, stop: int) -> Prices:
        """Those of some bars; none of them is above the largest of all."""
        return replace(self, opens=self.opens.part(start, stop), closes=self.closes.part(start, stop))


def price_columns(columns: BarColumns) -> Prices:
    """Opens and closes of a file, exactly. Raises ``NotExact``."""
    opens, open_decimals = _units(columns, "open")
    closes, close_decimals = _units(columns, "close")
    decimals = max(open_decimals, close_decimals)
    first, first_largest = _limbs(opens, 10 ** (decimals - open_decimals), "open", columns.shelf)
    last, last_largest = _limbs(closes, 10 ** (decimals - close_decimals), "close", columns.shelf)
    return Prices(first, last, decimals, max(first_largest, last_largest))


def _units(columns: BarColumns, name: str) -> tuple[list[int] | Ints, int]:
    """A column in units of its last decimal, of any length, and the decimals."""
    found = _by_proof(columns, name)
    if found is not None:
        return found.units, found.decimals
    values = [Decimal(text) for text in columns.texts(name)]
    decimals = max(decimals_of(value) for value in values)
    return [int(value.scaleb(decimals)) for value in values], decimals


def _limbs(units: list[int] | Ints, factor: int, name: str, shelf: Shelf) -> tuple[Limbs, int]:
    """The numbers times a factor, and the largest of them."""
    largest = (max(units) if isinstance(units, list) else _largest(units, shelf)) * factor
    if not isinstance(units, list) and largest < BASE:
        low = units if factor == 1 else _changed(units, lambda some: some * np.int64(factor), shelf)
        # Zeros that nobody writes to need no memory, if they are asked for as such.
        return Limbs(np.zeros(len(units), dtype=np.int64), low), largest
    if largest >= HIGHEST * BASE:
        raise NotExact(f"column {name!r} needs more than 36 digits")
    numbers = units if isinstance(units, list) else units.tolist()
    highs, lows = zip(*(divmod(number * factor, BASE) for number in numbers), strict=True)
    return Limbs(np.array(highs, dtype=np.int64), np.array(lows, dtype=np.int64)), largest


def whole_numbers(values: Sequence[Decimal], name: str) -> Whole:
    """Decimals in units of the finest of them. Raises ``NotExact``."""
    decimals = max((decimals_of(value) for value in values), default=0)
    units = [int(value.scaleb(decimals)) for value in values]
    if any(abs(unit) >= 10**MOST_DIGITS for unit in units):
        raise NotExact(f"column {name!r} needs more than {MOST_DIGITS} digits ({decimals} of them decimals)")
    return Whole(np.array(units, dtype=np.int64), decimals)


def allowances(columns: BarColumns, share: Decimal, lot: Decimal | None) -> Whole:
    """Most that all fills of each bar may take: that share of its volume, in whole lots. Raises ``NotExact``.

    Volumes often have more digits than an int64; with lots only the count of them has to fit. A float tells it unless
    it lies next to a whole number: there the decimals are asked.
    """
    try:
        volumes = whole_column(columns, "volume")
    except NotExact as trouble:
        if lot is None:
            raise NotExact(f"{trouble}; with a lot size participation is counted in lots") from trouble
        return _lots_by_float(columns, share, lot)
    shared, unit = int(share.scaleb(decimals_of(share))), volumes.decimals + decimals_of(share)
    largest = volumes.largest
    if lot is None:
        if largest * shared >= 10**MOST_DIGITS:
            raise NotExact(f"column 'volume' times participation needs more than {MOST_DIGITS} digits; set a lot size")
        return volumes.changed(lambda some: some * np.int64(shared), unit)
    common = max(unit, decimals_of(lot))
    factor, step = shared * 10 ** (common - unit), int(lot.scaleb(common))
    if largest * factor >= 10**MOST_DIGITS or step >= 10**MOST_DIGITS:
        return _lots_by_float(columns, share, lot)
    return _of_lots(volumes.changed(lambda some: some * np.int64(factor) // np.int64(step), 0), lot)


def _lots_by_float(columns: BarColumns, share: Decimal, lot: Decimal) -> Whole:
    """Three roundings are within 1e-15 of a quotient; within 1e-9 of a whole number it is computed exactly."""
    shelf = columns.shelf
    lots = shelf.room(len(columns), np.int64)
    for part in shelf.parts(len(columns)):
        quotients = columns.volume[part] * float(share) / float(lot)
        if quotients.max() >= 1e15:
            raise NotExact("column 'volume' holds more than 1e15 lots in a bar")
        lots[part] = np.floor(quotients).astype(np.int64)
        close_calls = np.flatnonzero(np.abs(quotients - np.rint(quotients)) <= 1e-9 * np.maximum(quotients, 1.0))
        if len(close_calls):
            texts = columns.texts("volume", part.start, part.stop)
            for row in close_calls.tolist():
                lots[part.start + row] = int(Decimal(texts[row]) * share // lot)
    return _of_lots(Whole(lots, 0, shelf), lot)


def _of_lots(lots: Whole, lot: Decimal) -> Whole:
    decimals = decimals_of(lot)
    unit = int(lot.scaleb(decimals))
    if lots.largest * unit >= 10**MOST_DIGITS:
        raise NotExact(f"column 'volume' in units of the lot needs more than {MOST_DIGITS} digits")
    return lots.changed(lambda some: some * np.int64(unit), decimals)


def decimals_of(value: Decimal) -> int:
    """Decimal places of a number, trailing zeros not counted."""
    return max(0, -int(value.normalize().as_tuple().exponent))


def _by_proof(columns: BarColumns, name: str) -> Whole | None:
    """Fewest decimals in which every number is whole and has at most fifteen digits; ``None`` if there are none."""
    if columns.longest_text(name) > PROVABLE_DIGITS + 1:
        return None
    floats: npt.NDArray[np.float64] = getattr(columns, name)
    shelf = columns.shelf
    decimals = 0
    for part in shelf.parts(len(floats)):
        found = _decimals_by_proof(floats[part], decimals)
        if found is None:
            return None
        decimals = found
    unit = 10.0**decimals
    units = shelf.room(len(floats), np.int64)
    for part in shelf.parts(len(floats)):
        rounded = np.rint(floats[part] * unit)
        if not (np.all(np.abs(rounded) < 10.0**PROVABLE_DIGITS) and np.array_equal(rounded / unit, floats[part])):
            return None
        units[part] = rounded
    return Whole(units, decimals, shelf)


def _decimals_by_proof(floats: npt.NDArray[np.float64], least: int) -> int | None:
    """Fewest decimals, but not fewer than ``least``, in which every number may be whole."""
    open_rows = floats
    for decimals in range(least, PROVABLE_DIGITS + 1):
        unit = 10.0**decimals
        open_rows = open_rows[np.rint(open_rows * unit) / unit != open_rows]
        if not len(open_rows):
            return decimals
    return None
