"""Reads files of funding rates of a perpetual: when each took effect, the rate, and the mark price if the file has it.

CSV or Parquet; times as in files of bars. Strict: times in order, rates below one, everything a number; a file that
cannot be used is refused with the row named. It knows no bars: which price stands in for a mark price that is missing
is the business of whoever says the facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tapeline_marketdata.columns import BadFile, FileFault, numbers_of, read_table, texts_of, times_ns, whole
from tapeline_marketdata.files import TIME_COLUMNS

TIMES = (*TIME_COLUMNS, "funding_time", "calc_time")
RATES = ("rate", "funding_rate", "last_funding_rate")
MARKS = ("mark_price", "mark")


@dataclass(frozen=True, slots=True)
class FundingFile:
    """Rates in order of time. ``marks`` is ``None`` for a file without mark prices."""

    path: str
    time_ns: npt.NDArray[np.int64]
    rates: tuple[Decimal, ...]
    marks: tuple[Decimal, ...] | None

    def __len__(self) -> int:
        return len(self.rates)


def read_funding(path: str | Path) -> FundingFile:
    """Raises ``BadFile``."""
    path = Path(path)
    table, _ = read_table(path)
    if table.num_rows == 0:
        raise BadFile(FileFault.EMPTY, f"{path}: the file has a header but no rates: give one with data")
    time_name, rate_name = _column(path, table, TIMES), _column(path, table, RATES)
    instants, _, _ = times_ns(path, time_name, whole(table.column(time_name)))
    late = np.flatnonzero(np.diff(instants) <= 0)
    if len(late):
        row = int(late[0]) + 2
        raise BadFile(
            FileFault.UNSORTED, f"{path}: row {row}, column {time_name}: not after the row before it: sort the file"
        )
    rates = _decimals(path, table, rate_name)
    for row, rate in enumerate(rates, start=1):
        if abs(rate) >= 1:
            raise BadFile(
                FileFault.NOT_A_NUMBER,
                f"{path}: row {row}, column {rate_name}: {rate}: a rate is a fraction, such as 0.0001",
            )
    mark_name = next((name for name in table.column_names if name.strip().lower() in MARKS), None)
    return FundingFile(str(path), instants, rates, None if mark_name is None else _decimals(path, table, mark_name))


def _column(path: Path, table: Any, known: tuple[str, ...]) -> str:
    found = {name.strip().lower(): name for name in table.column_names}
    for name in known:
        if name in found:
            return str(found[name])
    raise BadFile(
        FileFault.MISSING_COLUMN,
        f"{path}: missing column {known[0]} (or {', '.join(known[1:])}); it has {', '.join(table.column_names)}: "
        f"rename or add it",
    )


def _decimals(path: Path, table: Any, name: str) -> tuple[Decimal, ...]:
    printed, floats = numbers_of(path, name, whole(table.column(name)))
    bad = np.flatnonzero(~np.isfinite(floats))
    texts = texts_of(printed)
    if len(bad):
        row = int(bad[0])
        raise BadFile(
            FileFault.NOT_A_NUMBER, f"{path}: row {row + 1}, column {name}: {texts[row]!r}: write a plain number"
        )
    return tuple(Decimal(text) for text in texts)
