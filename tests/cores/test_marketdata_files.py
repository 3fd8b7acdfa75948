"""Files of bars: what is detected is said, every fault names its row and its fix, and no digit is lost.

All of it holds for short files, whose columns are in memory, and for long ones, whose columns are on disk and gone
through in parts.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapeline_common.events import BarClosed
from tapeline_common.values import DataFault
from tapeline_marketdata import columns as columns_module
from tapeline_marketdata import files as files_module
from tapeline_marketdata import shelf as shelf_module
from tapeline_marketdata.bars import decimal_text
from tapeline_marketdata.checks import Checker, Rejected
from tapeline_marketdata.columns import BadFile, FileFault, file_digest, texts_of
from tapeline_marketdata.files import NUMBER_COLUMNS, read_bars
from tapeline_marketdata.timeframe import UnknownTimeframe

MINUTE_NS = 60 * 10**9
FIRST_S = 1_700_000_040

Columns = dict[str, list[Any]]
Writer = Callable[[Columns], Path]


def columns(rows: int = 4, **changes: list[Any]) -> Columns:
    """Good minutes from 2023-11-14 22:14 UTC, with whole columns changed."""
    good: Columns = {
        "ts": [(FIRST_S + 60 * row) * 1000 for row in range(rows)],
        "open": [100.5 + row for row in range(rows)],
        "high": [102.0 + row for row in range(rows)],
        "low": [99.0 + row for row in range(rows)],
        "close": [101.25 + row for row in range(rows)],
        "volume": [1e-07 * (row + 1) for row in range(rows)],
    }
    return {**good, **changes}


@pytest.fixture(autouse=True, params=["short", "long"])
def length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """``long``: every file is, and a part of one has two rows."""
    if request.param == "long":
        monkeypatch.setattr(files_module, "LONG_ROWS", 1)
        for module in (columns_module, shelf_module):
            monkeypatch.setattr(module, "PART_ROWS", 2)
    return str(request.param)


@pytest.fixture
def parquet(tmp_path: Path) -> Writer:
    def write(data: Columns) -> Path:
        path = tmp_path / "bars.parquet"
        pa.parquet.write_table(pa.table(data), path)
        return path

    return write


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "bars.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


CSV = """ts,open,high,low,close,volume
1700000040000,100.50,102.00,99.00,101.25,0.00001000
1700000100000,101.50,103.00,100.00,102.25,1e-7
"""


def test_parquet_floats_become_their_shortest_text(parquet: Writer) -> None:
    """Milliseconds are detected, the minute is inferred, 101.0 prints as 101 and 1e-07 without exponent."""
    file = read_bars(parquet(columns(2)))

    opens = [FIRST_S * 10**9, FIRST_S * 10**9 + MINUTE_NS]
    assert list(file.bars("X")) == [
        BarClosed("X", "1m", opens[0], opens[0] + MINUTE_NS, "100.5", "102", "99", "101.25", "0.0000001"),
        BarClosed("X", "1m", opens[1], opens[1] + MINUTE_NS, "101.5", "103", "100", "102.25", "0.0000002"),
    ]
    assert (file.facts.format, file.facts.time_unit, file.facts.timeframe) == ("parquet", "ms", "1m")


def test_csv_keeps_the_decimals_that_it_prints(csv: Callable[..., Path]) -> None:
    """0.00001000 stays eight decimals long; only the exponent is written out."""
    bars = list(read_bars(csv(CSV)).bars("X"))
    assert [(one.open, one.volume) for one in bars] == [("100.50", "0.00001000"), ("101.50", "0.0000001")]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_are_found_in_the_header(delimiter: str, csv: Callable[..., Path]) -> None:
    """Semicolons and tabs are read like commas."""
    assert list(read_bars(csv(CSV.replace(",", delimiter))).bars("X")) == list(read_bars(csv(CSV)).bars("X"))


def test_a_compressed_csv_with_a_byte_order_mark_and_spaces_is_read(tmp_path: Path, csv: Callable[..., Path]) -> None:
    """What spreadsheets and data vendors add around a table does not matter."""
    path = tmp_path / "packed.csv.gz"
    path.write_bytes(gzip.compress(("\ufeff" + CSV.replace(",", ", ").replace("\n", "\r\n")).encode()))
    assert list(read_bars(path).bars("X")) == list(read_bars(csv(CSV)).bars("X"))


@pytest.mark.parametrize("name", ["ts", "Timestamp", "DATE", "time", "datetime", "open_time"])
def test_the_time_column_has_several_names_and_any_case(name: str, parquet: Writer) -> None:
    """The usual names are accepted; a name that is not ts is said."""
    data = columns()
    data = {name: data.pop("ts"), **{key.upper(): values for key, values in data.items()}}
    facts = read_bars(parquet(data)).facts
    assert facts.time_column == name
    assert any("open time taken from" in note for note in facts.notes) == (name != "ts")


TIMES = {
    "s": [FIRST_S, FIRST_S + 60],
    "ms": [FIRST_S * 10**3, (FIRST_S + 60) * 10**3],
    "us": [FIRST_S * 10**6, (FIRST_S + 60) * 10**6],
    "ns": [FIRST_S * 10**9, (FIRST_S + 60) * 10**9],
    "s as float": [float(FIRST_S), FIRST_S + 60.0],
    "ms as float": [FIRST_S * 1e3, (FIRST_S + 60) * 1e3],
    "decimal": [Decimal(FIRST_S), Decimal(FIRST_S + 60)],
    "text of s": [str(FIRST_S), str(FIRST_S + 60)],
    "text of float s": [f"{FIRST_S}.0", f"{FIRST_S + 60}.0"],
    "iso": ["2023-11-14 22:14:00", "2023-11-14 22:15:00"],
    "iso Z": ["2023-11-14T22:14:00Z", "2023-11-14T22:15:00Z"],
    "iso offset": ["2023-11-14T23:14:00+01:00", "2023-11-14T23:15:00+01:00"],
    "timestamp[s]": pa.array([FIRST_S, FIRST_S + 60], pa.timestamp("s")),
    "timestamp[us] UTC": pa.array([FIRST_S * 10**6, (FIRST_S + 60) * 10**6], pa.timestamp("us", "UTC")),
    "timestamp[ns] New York": pa.array(
        [FIRST_S * 10**9, (FIRST_S + 60) * 10**9], pa.timestamp("ns", "America/New_York")
    ),
}


@pytest.mark.parametrize("kind", TIMES)
def test_every_form_of_time_gives_the_same_open_times(kind: str, parquet: Writer) -> None:
    """Units by magnitude, timestamps by type, text by form: the same two minutes, and what was found is said."""
    file = read_bars(parquet(columns(2, ts=TIMES[kind])))
    assert file.columns.open_ns.tolist() == [FIRST_S * 10**9, (FIRST_S + 60) * 10**9]
    assert file.facts.notes[0].startswith("ts is ")


def test_dates_are_midnights_in_utc(csv: Callable[..., Path]) -> None:
    """A daily file with plain dates is the commonest of all."""
    text = "Date,Open,High,Low,Close,Volume\n2024-01-01,1,2,1,2,5\n2024-01-02,2,2,1,1,5\n2024-01-03,1,2,1,2,5\n"
    facts = read_bars(csv(text)).facts
    assert (facts.first_open_ns, facts.timeframe, facts.rows) == (1_704_067_200 * 10**9, "1d", 3)


@pytest.mark.parametrize(
    ("kind", "values", "texts"),
    [
        (pa.float32(), [0.1, 100.0], ["0.1", "100"]),
        (pa.decimal128(12, 4), [Decimal("0.1000"), Decimal("100.0000")], ["0.1000", "100.0000"]),
        (pa.int32(), [1, 100], ["1", "100"]),
        (pa.string(), ["0.10", "1e2"], ["0.10", "100"]),
        (pa.dictionary(pa.int8(), pa.string()), ["0.10", "100"], ["0.10", "100"]),
    ],
)
def test_numbers_of_every_storage_type_keep_their_own_text(
    kind: Any, values: list[Any], texts: list[str], parquet: Writer
) -> None:
    """A float32 prints as it is short (0.1), decimals and text exactly as stored, whole numbers as such."""
    file = read_bars(parquet(columns(2, volume=pa.array(values, kind))))
    assert file.columns.texts("volume") == texts
    assert file.columns.volume.tolist() == [float(text) for text in texts]


@given(st.lists(st.floats(), min_size=1))
def test_the_fast_way_to_text_equals_the_plain_one(numbers: list[float]) -> None:
    """Arrow's printing, slice by slice, is decimal_text for any float whatever."""
    assert texts_of(pa.array(numbers, pa.float64())) == [decimal_text(number) for number in numbers]


def test_a_null_is_no_number() -> None:
    """A missing number becomes an empty text, which the checker refuses."""
    assert texts_of(pa.array([1.5, None])) == ["1.5", ""]


def test_slices_hold_plain_python_numbers_and_cover_every_row(parquet: Writer) -> None:
    """No numpy scalar reaches a bar, slices are at most as long as asked for, and a start row is honoured."""
    file = read_bars(parquet(columns(10)))
    slices = list(file.slices("X", size=4))
    assert [len(one) for one in slices] == [4, 4, 2]
    assert [bar for one in slices for bar in one] == list(file.bars("X"))
    assert list(file.bars("X", start=7)) == list(file.bars("X"))[7:]
    assert {type(value) for one in slices for bar in one for value in (bar.open_ns, bar.open)} == {int, str}


def test_gaps_are_counted_not_refused(parquet: Writer) -> None:
    """Two gaps with three missing bars: said in the facts, and every bar is there."""
    minutes = [0, 1, 3, 4, 5, 8]
    file = read_bars(parquet(columns(6, ts=[(FIRST_S + 60 * minute) * 1000 for minute in minutes])))
    assert (len(file), file.facts.gaps, file.facts.missing_bars) == (6, 2, 3)


def test_a_given_timeframe_wins_and_a_strange_one_is_said(parquet: Writer) -> None:
    """One row cannot tell its timeframe; a file of five-minute distances called 1m is read so, with a note."""
    assert read_bars(parquet(columns(1)), timeframe="1m").facts.timeframe == "1m"
    sparse = read_bars(parquet(columns(3, ts=[(FIRST_S + 300 * row) * 1000 for row in range(3)])), timeframe="1m")
    assert sparse.facts.gaps == 2
    assert "most rows are 300 s apart" in sparse.facts.notes[-1]


def test_an_unknown_timeframe_is_refused_before_reading(parquet: Writer) -> None:
    """The caller's word is judged first."""
    with pytest.raises(UnknownTimeframe, match="'5min'"):
        read_bars(parquet(columns()), timeframe="5min")


def test_a_grid_of_its_own_is_reported_for_the_checker(parquet: Writer) -> None:
    """Bars that open at second 7 are on a grid of their own, which the checker can be given."""
    file = read_bars(parquet(columns(ts=[(FIRST_S + 7 + 60 * row) * 1000 for row in range(4)])))
    checker = Checker(MINUTE_NS, offset_ns=file.facts.grid_offset_ns)
    assert file.facts.grid_offset_ns == 7 * 10**9
    assert not [one for one in file.bars("X") if isinstance(checker.check(one), Rejected)]


def changed(name: str, row: int, value: Any) -> Columns:
    data = columns()
    data[name] = [*data[name][:row], value, *data[name][row + 1 :]]
    return data


MINUTES_MS = columns()["ts"]

BAD_ROWS = [
    (FileFault.UNSORTED, changed("ts", 2, MINUTES_MS[0] - 60_000), 3, "ts"),
    (FileFault.DUPLICATE_TIME, changed("ts", 2, MINUTES_MS[1]), 3, "ts"),
    (FileFault.BARS_OVERLAP, changed("ts", 3, MINUTES_MS[2] + 30_000), 4, "ts"),
    (FileFault.NOT_A_NUMBER, changed("open", 1, None), 2, "open"),
    (FileFault.NOT_FINITE, changed("close", 1, math.inf), 2, "close"),
    (FileFault.NON_POSITIVE_PRICE, changed("low", 2, 0.0), 3, "low"),
    (FileFault.NON_POSITIVE_PRICE, changed("low", 2, -1.0), 3, "low"),
    (FileFault.NEGATIVE_VOLUME, changed("volume", 0, -0.5), 1, "volume"),
    (FileFault.HIGH_BELOW_LOW, changed("high", 3, 1.0), 4, "high"),
    (FileFault.OPEN_OUTSIDE_RANGE, changed("open", 1, 103.5), 2, "open"),
    (FileFault.CLOSE_OUTSIDE_RANGE, changed("close", 1, 99.5), 2, "close"),
]


@pytest.mark.parametrize(("fault", "data", "row", "column"), BAD_ROWS)
def test_a_bad_row_is_refused_by_row_column_value_and_fix(
    fault: FileFault, data: Columns, row: int, column: str, parquet: Writer
) -> None:
    """One line names the file, the first bad row (counted from 1), the column, the value, and what to do."""
    path = parquet(data)
    with pytest.raises(BadFile) as error:
        read_bars(path, timeframe="1m")
    assert error.value.fault is fault
    assert re.fullmatch(rf"{re.escape(str(path))}: row {row}, column {column}: [^\n]+: [^\n]+", str(error.value))


@pytest.mark.parametrize(("fault", "data", "row", "column"), BAD_ROWS)
def test_the_row_after_a_good_part_is_not_blamed(
    fault: FileFault, data: Columns, row: int, column: str, parquet: Writer
) -> None:
    """Without its bad row and what follows, the same file is good."""
    before = {name: values[: row - 1] for name, values in data.items()}
    if row > 1:
        assert len(read_bars(parquet(before), timeframe="1m")) == row - 1


EXPECTED_FACTS = {
    FileFault.UNSORTED: DataFault.OUT_OF_ORDER,
    FileFault.DUPLICATE_TIME: DataFault.REVISED,
    FileFault.BARS_OVERLAP: DataFault.OFF_GRID,
    FileFault.NOT_A_NUMBER: DataFault.NOT_A_NUMBER_TEXT,
    FileFault.NOT_FINITE: DataFault.NOT_FINITE,
    FileFault.NON_POSITIVE_PRICE: DataFault.NON_POSITIVE_PRICE,
    FileFault.NEGATIVE_VOLUME: DataFault.NEGATIVE_VOLUME,
    FileFault.HIGH_BELOW_LOW: DataFault.HIGH_BELOW_LOW,
    FileFault.OPEN_OUTSIDE_RANGE: DataFault.OPEN_OUTSIDE_RANGE,
    FileFault.CLOSE_OUTSIDE_RANGE: DataFault.CLOSE_OUTSIDE_RANGE,
}


@pytest.mark.parametrize(("fault", "data", "row", "column"), BAD_ROWS)
def test_a_lenient_read_leaves_the_bad_row_to_the_checker(
    fault: FileFault, data: Columns, row: int, column: str, parquet: Writer
) -> None:
    """Not strict, every row comes through and the checker rejects exactly the bad one, for the matching reason."""
    checker = Checker(MINUTE_NS)
    verdicts = [checker.check(one) for one in read_bars(parquet(data), timeframe="1m", strict=False).bars("X")]
    rejected = {number: verdict.fault for number, verdict in enumerate(verdicts, 1) if isinstance(verdict, Rejected)}
    assert rejected == {row: EXPECTED_FACTS[fault]}


def test_nan_in_parquet_is_not_finite_with_its_row(parquet: Writer) -> None:
    """A NaN is named as such."""
    with pytest.raises(BadFile, match="row 2, column volume: NaN: write a plain decimal") as error:
        read_bars(parquet(changed("volume", 1, math.nan)))
    assert error.value.fault is FileFault.NOT_FINITE


@pytest.mark.parametrize(
    ("cell", "fault", "shown"),
    [
        ("nan", FileFault.NOT_FINITE, "NaN"),
        ("inf", FileFault.NOT_FINITE, "Infinity"),
        ("abc", FileFault.NOT_A_NUMBER, "'abc'"),
        ("1_000", FileFault.NOT_A_NUMBER, "'1_000'"),
        ("", FileFault.NOT_A_NUMBER, "nothing"),
    ],
)
def test_a_bad_cell_of_a_csv_is_shown_with_its_line(
    cell: str, fault: FileFault, shown: str, csv: Callable[..., Path]
) -> None:
    """The line number of an editor is given beside the row, and the cell as it is printed."""
    path = csv(CSV.replace("102.25", cell))
    with pytest.raises(BadFile) as error:
        read_bars(path)
    assert error.value.fault is fault
    assert f"row 2 (line 3), column close: {shown}" in str(error.value)


def test_the_first_bad_row_is_named_whatever_is_wrong_later(parquet: Writer) -> None:
    """A check that runs first must not hide an earlier row of another kind."""
    data = changed("ts", 3, MINUTES_MS[2])
    data["volume"][1] = -1.0
    with pytest.raises(BadFile, match="row 2, column volume"):
        read_bars(parquet(data))


@pytest.mark.parametrize(
    ("ts", "row", "shown"),
    [
        ([20240101, 20240102], 1, "20240101"),
        ([FIRST_S * 1000, (FIRST_S + 60) * 10**6], 2, "read in ms like row 1"),
        ([FIRST_S, 99_999_999_999], 2, "99999999999"),
        ([FIRST_S * 1000, None], 2, "nothing"),
        ([float(FIRST_S), math.nan], 2, "nan"),
        (["2024-01-01T00:00:00Z", "02/01/2024"], 2, "'02/01/2024'"),
        (["yesterday", "today"], 1, "'yesterday'"),
        ([True, False], 1, "bool"),
        ([-5, 60_000], 1, "-5"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_time_that_cannot_be_understood_is_never_guessed(
    ts: list[Any], row: int, shown: str, strict: bool, parquet: Writer
) -> None:
    """Too small, mixed units, beyond the tape's range, missing, or no date: refused, strict or not, with the row."""
    with pytest.raises(BadFile) as error:
        read_bars(parquet(columns(2, ts=ts)), strict=strict)
    assert error.value.fault is FileFault.TIME_UNIT_UNKNOWN
    assert f"row {row}, column ts: " in str(error.value)
    assert shown in str(error.value)


def fault_and_message(path: Path) -> tuple[FileFault, str]:
    with pytest.raises(BadFile) as error:
        read_bars(path, strict=False)
    assert "\n" not in str(error.value)
    return error.value.fault, str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """Path and fix; a directory is no file either."""
    fault, message = fault_and_message(tmp_path / "nothing.parquet")
    assert fault is FileFault.MISSING_FILE
    assert "nothing.parquet: no such file or directory" in message
    assert fault_and_message(tmp_path)[0] is FileFault.MISSING_FILE


def test_a_file_of_another_kind_is_named(csv: Callable[..., Path]) -> None:
    """Text called .parquet, a damaged Parquet file, and ragged CSV are unreadable, not crashes."""
    assert fault_and_message(csv(CSV, "bars.parquet"))[0] is FileFault.UNREADABLE
    assert fault_and_message(csv("PAR1 but nothing else", "damaged.parquet"))[0] is FileFault.UNREADABLE
    assert fault_and_message(csv(CSV + "1,2\n", "ragged.csv"))[0] is FileFault.UNREADABLE


def test_binary_rubbish_is_no_bar_file(tmp_path: Path) -> None:
    """Whatever the bytes are, the answer is one of the closed faults."""
    path = tmp_path / "rubbish.bin"
    path.write_bytes(bytes(range(256)) * 40)
    assert fault_and_message(path)[0] in (FileFault.UNREADABLE, FileFault.MISSING_COLUMN)


def test_missing_columns_are_all_named_at_once(parquet: Writer) -> None:
    """One message for all of them, beside what the file has."""
    data = columns()
    del data["high"], data["volume"]
    fault, message = fault_and_message(parquet(data))
    assert fault is FileFault.MISSING_COLUMN
    assert "missing column high, volume; it has ts, open, low, close" in message


def test_a_missing_time_column_lists_its_names(parquet: Writer) -> None:
    """The accepted names are in the message."""
    data = columns()
    data["when"] = data.pop("ts")
    assert "missing column ts (or timestamp, open_time, datetime, date, time)" in fault_and_message(parquet(data))[1]


def test_a_csv_without_header_is_told_apart_from_one_without_columns(csv: Callable[..., Path]) -> None:
    """Exchange dumps often have no header: the fix is one line."""
    fault, message = fault_and_message(csv(CSV.split("\n", 1)[1]))
    assert fault is FileFault.MISSING_COLUMN
    assert "put the header line ts,open,high,low,close,volume above it" in message


def test_two_columns_of_one_meaning_are_not_chosen_from(parquet: Writer) -> None:
    """Close and close could be raw and adjusted: the reader does not guess."""
    fault, message = fault_and_message(parquet({**columns(), "Close": [1.0] * 4}))
    assert fault is FileFault.AMBIGUOUS_COLUMN
    assert "'close' and 'Close'" in message


def test_an_empty_file_is_named_with_or_without_header(csv: Callable[..., Path], parquet: Writer) -> None:
    """No bytes, only a header, no rows: all empty."""
    empty = {name: pa.array([], pa.float64()) for name in ("ts", *NUMBER_COLUMNS)}
    paths = (csv("", "no.csv"), csv(CSV.split("\n", 1)[0] + "\n", "header.csv"), parquet(empty))
    assert [fault_and_message(path)[0] for path in paths] == [FileFault.EMPTY] * 3


def test_one_row_without_timeframe_is_asked_for_it(parquet: Writer) -> None:
    """One bar has no distance to measure."""
    fault, message = fault_and_message(parquet(columns(1)))
    assert fault is FileFault.TIMEFRAME_UNKNOWN
    assert "timeframe 1m" in message


def test_a_column_that_holds_no_numbers_is_named(parquet: Writer) -> None:
    """A list column is not a price."""
    fault, message = fault_and_message(parquet(columns(close=[[1.0]] * 4)))
    assert fault is FileFault.NOT_A_NUMBER
    assert "column close" in message


def test_the_digest_is_of_the_bytes(csv: Callable[..., Path]) -> None:
    """SHA-256 of the file, so that anyone can check it with another tool; a missing file is a BadFile."""
    path = csv(CSV)
    assert file_digest(path) == hashlib.sha256(CSV.encode()).hexdigest()
    with pytest.raises(BadFile):
        file_digest(path.parent / "nothing.csv")


def test_reading_twice_gives_the_same_bars(parquet: Writer) -> None:
    """The same file is the same stream of bars."""
    rows = np.arange(3000)
    path = parquet(
        columns(
            3000,
            open=(100 + np.sin(rows)).tolist(),
            high=[102.0] * 3000,
            low=[98.0] * 3000,
            close=(100 + np.cos(rows)).tolist(),
        )
    )
    assert list(read_bars(path).bars("X")) == list(read_bars(path).bars("X"))
