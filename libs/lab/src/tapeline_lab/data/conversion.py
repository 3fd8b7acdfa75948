"""Makes one file of market data into another: CSV or Parquet, of the same bars or of longer ones. Whole or not at all.

Nothing is repaired on the way: bars are read strictly, so a file that a backtest refuses is refused here, and its
prices and volumes come out as the decimals that went in. Beside the result lies a manifest that names what it was made
from by its digest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tapeline_common.version import code_version
from tapeline_common.whole_file import whole_file, write_whole
from tapeline_lab.data.foreign import Written, is_foreign, read_foreign
from tapeline_lab.data.kinds import DataKind, kind_of
from tapeline_lab.search.period import Period
from tapeline_lab.search.resample import resampled
from tapeline_marketdata.built_bars import write_bars
from tapeline_marketdata.columns import BadFile, FileFault, columns_in, file_digest, read_table
from tapeline_marketdata.files import BarFile, read_bars

TARGETS = (".csv", ".parquet")
MANIFEST = ".manifest.json"
AS_IT_IS = Written()


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of a converted file, and what ``--json`` prints.

    Attributes:
        source, target: names without folders: both may be moved.
        left_out: rows of the source that are in no bar of the target: their bar is not whole, or beyond ``period``.
    """

    source: str
    source_sha256: str
    source_rows: int
    target: str
    target_sha256: str
    target_rows: int
    kind: DataKind
    timeframe: str
    made_from: str
    left_out: int
    first_open_ns: int | None
    last_open_ns: int | None
    notes: tuple[str, ...]
    code: str


class TargetExists(Exception):
    """There is a file already. The message says which, and how to replace it."""


def convert(
    source: Path,
    target: Path,
    *,
    timeframe: str | None = None,
    resample_ns: int | None = None,
    period: Period | None = None,
    written: Written = AS_IT_IS,
    replaces: bool = False,
) -> Conversion:
    """Write ``target`` (.csv or .parquet) and its manifest.

    Args:
        timeframe: of the source's bars, where it cannot be told from them.
        resample_ns: length of the target's bars, a multiple of the source's.
        period: only bars of the target that open in it; a bar that reaches beyond its end is left out.
        replaces: an earlier target may be written over.

    Raises:
        BadFile: the source or the name of the target will not do.
        TargetExists: and ``replaces`` is not set.
        OSError: the target cannot be written.
    """
    if target.suffix.lower() not in TARGETS:
        raise BadFile(FileFault.UNREADABLE, f"{target}: its name must end with {' or '.join(TARGETS)}")
    manifest = target.with_name(target.name + MANIFEST)
    if not replaces and (target.exists() or manifest.exists()):
        raise TargetExists(f"{target} or its manifest is there already: name another file, or say --force")
    digest = file_digest(source)
    with whole_file(target) as partial:
        told = _write(source, partial, timeframe, resample_ns, period, written)
        told = msgspec.structs.replace(
            told, source_sha256=digest, target=target.name, target_sha256=file_digest(partial)
        )
    write_whole(manifest, msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
    return told


def _write(
    source: Path,
    partial: Path,
    timeframe: str | None,
    resample_ns: int | None,
    period: Period | None,
    written: Written,
) -> Conversion:
    if is_foreign(source):
        file = _foreign_bars(source, partial, timeframe, written)
    else:
        kind = kind_of(columns_in(source))
        if kind is not DataKind.BARS:
            return _write_table(source, partial, kind, resample_ns, period)
        file = read_bars(source, timeframe=timeframe)
    rows, before = len(file), file.facts.timeframe
    opens, length_ns = file.columns.open_ns, file.facts.timeframe_ns
    if resample_ns is not None and resample_ns != length_ns:
        file, length_ns = resampled(file, resample_ns), resample_ns
    if period is not None:
        file = _within(file, period)
    used = (opens >= file.facts.first_open_ns) & (opens < file.facts.last_open_ns + max(length_ns, 1))
    write_bars(file, partial)
    facts = file.facts
    return Conversion(
        source=source.name,
        source_sha256="",
        source_rows=rows,
        target=partial.name,
        target_sha256="",
        target_rows=len(file),
        kind=DataKind.BARS,
        timeframe=facts.timeframe,
        made_from=f"bars of {before}",
        left_out=rows - int(used.sum()),
        first_open_ns=facts.first_open_ns,
        last_open_ns=facts.last_open_ns,
        notes=facts.notes,
        code=code_version(),
    )


def _within(file: BarFile, period: Period) -> BarFile:
    """Bars that open in a period and close by its end: a part that is held out shares no moment with the other."""
    opens = file.columns.open_ns
    first, stop = np.searchsorted(opens, (period.from_ns, period.to_ns)).tolist()
    if stop > first and int(file.closes_ns(stop - 1, stop)[0]) > period.to_ns:
        stop -= 1
    if first == stop:
        raise BadFile(FileFault.EMPTY, f"{file.facts.path}: no bar lies in that --period")
    return file.part(first, stop)


def _foreign_bars(source: Path, partial: Path, timeframe: str | None, written: Written) -> BarFile:
    """Through a Parquet file of our columns, so that there is one reader of bars, and one judge of them."""
    table = read_foreign(source, written)
    between = partial.with_name(partial.name + ".parquet")
    try:
        pa.parquet.write_table(table, between)
        return read_bars(between, timeframe=timeframe)
    except BadFile as trouble:
        raise BadFile(trouble.fault, trouble.message.replace(str(between), str(source))) from None
    finally:
        between.unlink(missing_ok=True)


def _write_table(
    source: Path, partial: Path, kind: DataKind, resample_ns: int | None, period: Period | None
) -> Conversion:
    """Trades, rates and books keep their columns; only the form of the file changes."""
    if resample_ns is not None:
        raise BadFile(
            FileFault.TIMEFRAME_UNKNOWN,
            f"{source}: holds {kind}, and no bars to make longer: tapeline bars builds bars from trades",
        )
    if period is not None:
        raise BadFile(FileFault.TIMEFRAME_UNKNOWN, f"{source}: holds {kind}; --period cuts bars: leave it away")
    table, _ = read_table(source)
    if partial.suffix.lower() == ".csv":
        pa.csv.write_csv(_as_text(table), partial, pa.csv.WriteOptions(quoting_style="needed"))
    else:
        pa.parquet.write_table(table, partial)
    return Conversion(
        source=source.name,
        source_sha256="",
        source_rows=table.num_rows,
        target=partial.name,
        target_sha256="",
        target_rows=table.num_rows,
        kind=kind,
        timeframe="",
        made_from=f"a table of {kind}",
        left_out=0,
        first_open_ns=None,
        last_open_ns=None,
        notes=(),
        code=code_version(),
    )


def _as_text(table: Any) -> Any:
    """Times as whole numbers: a CSV of ours says no time in words."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            whole = table.column(place).cast(pa.timestamp("ns", field.type.tz)).cast(pa.int64())
            table = table.set_column(place, field.name, whole)
    return table
