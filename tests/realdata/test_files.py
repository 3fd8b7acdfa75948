"""Every recorded bar file loads, agrees with its index, and its faults are reported.

The data are found by TAPELINE_DATA, or in ``shared/data`` beside the checkout; elsewhere these tests are skipped.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tapeline_common.values import DataFault
from tapeline_marketdata.bars import decimal_text
from tapeline_marketdata.checks import Accepted, AcceptedAfterGap, Checker, Rejected
from tapeline_marketdata.columns import BadFile, FileFault
from tapeline_marketdata.files import NUMBER_COLUMNS, read_bars

DATA = Path(os.environ.get("TAPELINE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
INDEX = DATA / "INDEX.json"
ENTRIES: list[dict[str, Any]] = (
    [entry for entry in json.loads(INDEX.read_text()) if entry["kind"] == "bars"] if INDEX.is_file() else []
)

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(
        not ENTRIES, reason=f"no recorded market data: {INDEX} does not exist (set TAPELINE_DATA to a folder with one)"
    ),
]

EVERY_FILE = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["file"])
CHECKED_ROWS = 20_000
"""Bars per file that go through the checker one by one; the vectorised checks see all of them."""


def nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


@EVERY_FILE
def test_a_recorded_file_is_what_its_index_says(entry: dict[str, Any]) -> None:
    """Strictly read: rows, first and last bar, and timeframe match the index, so no fault is in it."""
    facts = read_bars(DATA / entry["file"]).facts
    assert (facts.rows, facts.timeframe, facts.first_open_ns, facts.last_open_ns) == (
        entry["rows"],
        entry["timeframe"],
        nanoseconds(entry["first"]),
        nanoseconds(entry["last"]),
    )
    assert facts.time_unit == "ms"


@EVERY_FILE
def test_the_checker_finds_the_gaps_and_nothing_else(entry: dict[str, Any]) -> None:
    """Bar by bar the checker reports as many missing bars as the columns show, and rejects none."""
    file = read_bars(DATA / entry["file"])
    checker = Checker(file.facts.timeframe_ns, offset_ns=file.facts.grid_offset_ns)
    bars = next(file.slices("X", size=CHECKED_ROWS))
    verdicts = [checker.check(one) for one in bars]
    missing = sum(verdict.missing_bars for verdict in verdicts if isinstance(verdict, AcceptedAfterGap))
    steps = np.diff(file.columns.open_ns[: len(bars)]) // file.facts.timeframe_ns
    assert [verdict for verdict in verdicts if not isinstance(verdict, Accepted | AcceptedAfterGap)] == []
    assert missing == int((steps - 1).sum())


@EVERY_FILE
def test_the_text_of_every_number_reads_back_exactly(entry: dict[str, Any]) -> None:
    """Text and float64 column are the same numbers, and the text is the shortest plain one."""
    columns = read_bars(DATA / entry["file"]).columns
    for name in NUMBER_COLUMNS:
        texts = columns.texts(name, 0, CHECKED_ROWS)
        values = getattr(columns, name)[:CHECKED_ROWS].tolist()
        assert list(map(float, texts)) == values
        assert texts[::37] == [decimal_text(value) for value in values[::37]]


def test_known_gaps_are_reported() -> None:
    """Bitfinex was down for 12,403 minutes of these eighteen months, in 9,350 gaps."""
    facts = read_bars(DATA / "crypto/bitfinex/1m/BTCUSD_2018-01_2019-07.parquet").facts
    assert (facts.gaps, facts.missing_bars, facts.off_grid_bars) == (9350, 12403, 0)


def test_damage_in_a_recorded_file_is_found(tmp_path: Path) -> None:
    """The real file with one bar damaged is refused by row, and leniently read the checker names the same bar."""
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.parquet.read_table(DATA / "crypto/binance/1h/BTCUSDT_2017-08_2022-12.parquet")
    highs = table.column("high").to_pylist()
    highs[4711] = table.column("low")[4711].as_py() - 1
    path = tmp_path / "damaged.parquet"
    damaged = table.set_column(table.column_names.index("high"), "high", pa.array(highs))
    pa.parquet.write_table(damaged, path)

    with pytest.raises(BadFile, match="row 4712, column high") as error:
        read_bars(path)
    assert error.value.fault is FileFault.HIGH_BELOW_LOW

    checker = Checker(3600 * 10**9)
    verdicts = [checker.check(one) for one in read_bars(path, strict=False).bars("X")]
    rejected = {row: verdict.fault for row, verdict in enumerate(verdicts, 1) if isinstance(verdict, Rejected)}
    assert rejected == {4712: DataFault.HIGH_BELOW_LOW}
    assert Counter(map(type, verdicts))[AcceptedAfterGap] == 28  # the file's own 27 gaps, and the one this bar leaves
