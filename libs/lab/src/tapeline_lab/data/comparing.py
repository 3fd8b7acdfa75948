"""A file of bars beside another one of the same instrument, and beside single values known from elsewhere."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tapeline_lab.data.flaws import Flaw, Tally
from tapeline_lab.data.oddities import rows_of
from tapeline_lab.search.resample import resampled
from tapeline_marketdata.columns import BadFile, FileFault, find_columns, read_table, texts_of, times_ns, whole
from tapeline_marketdata.files import COLUMNS, NUMBER_COLUMNS, BarFile, read_bars

Floats = npt.NDArray[np.float64]


def note_against(file: BarFile, path: Path, tolerance: float, tally: Tally) -> None:
    """Prices that are further apart than ``tolerance``, and bars that only one of the two has, where both have some.

    Whichever has the shorter bars is made longer first. Volumes are not compared: venues differ in them.
    """
    ours, theirs = _alike(file, read_bars(path, strict=False))
    one, other = ours.columns, theirs.columns
    shared, mine, yours = np.intersect1d(one.open_ns, other.open_ns, return_indices=True)
    if not len(shared):
        tally.add(Flaw.DIFFERS, f"no bar opens at the same time as one of {path}: of one instrument and period?")
        return
    apart = np.zeros(len(shared), dtype=np.float64)
    for name in NUMBER_COLUMNS[:4]:
        left: Floats = getattr(one, name)[mine]
        right: Floats = getattr(other, name)[yours]
        with np.errstate(divide="ignore", invalid="ignore"):
            apart = np.fmax(apart, np.abs(left / right - 1.0))
    differs = np.zeros(len(one), dtype=np.bool_)
    differs[mine] = apart > tolerance
    worst = float(np.max(apart))
    detail = f"prices up to {worst:.3%} from {path}, {tolerance:.3%} are allowed"
    rows_of(tally, Flaw.DIFFERS, differs, one.open_ns, detail)
    first, last = max(one.open_ns[0], other.open_ns[0]), min(one.open_ns[-1], other.open_ns[-1])
    for flaw, here, there, said in (
        (Flaw.MISSING_THERE, one.open_ns, other.open_ns, f"bars that {path} does not have"),
        (Flaw.MISSING_HERE, other.open_ns, one.open_ns, f"bars that only {path} has; rows are those of that file"),
    ):
        missing = (here >= first) & (here <= last) & ~np.isin(here, there)
        rows_of(tally, flaw, missing, here, said)


def _alike(file: BarFile, other: BarFile) -> tuple[BarFile, BarFile]:
    """Both with bars of one length. Raises BadFile if neither makes up the other's."""
    ours, theirs = file.facts.timeframe_ns, other.facts.timeframe_ns
    if ours == theirs:
        return file, other
    return (file, resampled(other, ours)) if theirs < ours else (resampled(file, theirs), other)


def note_spots(file: BarFile, path: Path, tally: Tally) -> None:
    """Rows of ``ts`` and any of open, high, low, close, volume must be in the file, to the last digit.

    Empty cells are not compared. Raises BadFile for a file of spots that cannot be read.
    """
    table, _ = read_table(path)
    names = find_columns(path, table, COLUMNS, NUMBER_COLUMNS)
    wanted = [name for name in NUMBER_COLUMNS if name in names]
    if not wanted or table.num_rows == 0:
        raise BadFile(
            FileFault.MISSING_COLUMN,
            f"{path}: nothing to compare: give ts and at least one of {', '.join(NUMBER_COLUMNS)}, and a row",
        )
    times, _, _ = times_ns(path, names["ts"], whole(table.column(names["ts"])))
    places = {moment: row for row, moment in enumerate(file.columns.open_ns.tolist())}
    cells = {name: texts_of(_printed(whole(table.column(names[name])))) for name in wanted}
    for spot, moment in enumerate(times.tolist()):
        row = places.get(moment)
        if row is None:
            tally.add(Flaw.SPOT_MISSING, f"row {spot + 1} of {path}: no bar opens then", time_ns=moment)
            continue
        for name in wanted:
            known = cells[name][spot].strip()
            found = file.columns.texts(name, row, row + 1)[0]
            if known and not _same(known, found):
                tally.add(Flaw.SPOT_DIFFERS, f"{name} is {found}, {path} says {known}", row=row, time_ns=moment)


def _printed(column: Any) -> Any:
    """As text, but for binary floats, whose text ``texts_of`` makes."""
    is_float = pa.types.is_float64(column.type)
    return column if is_float else pc.fill_null(column.cast(pa.string()), "")


def _same(known: str, found: str) -> bool:
    try:
        return Decimal(known) == Decimal(found)
    except InvalidOperation:
        return False
