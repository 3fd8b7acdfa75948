"""``convert-data`` keeps every digit, makes only whole bars, writes whole files or none, and says what it used."""

from __future__ import annotations

import gzip
import json
import zipfile
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from tests.lab_data.bars import FIRST_NS, MINUTE_NS, broken_csv, invoke, rows, write_csv

from tapeline_lab.data.convert_command import convert_data
from tapeline_marketdata.columns import file_digest
from tapeline_marketdata.files import NUMBER_COLUMNS, BarFile, read_bars


def texts(file: BarFile) -> list[list[str]]:
    return [file.columns.texts(name) for name in NUMBER_COLUMNS]


def test_there_and_back_is_the_same_bars(tmp_path: Path) -> None:
    """CSV to Parquet to CSV: times and texts, trailing zeros included."""
    source = write_csv(tmp_path / "a.csv", rows(300))
    assert invoke(convert_data, source, "-o", tmp_path / "a.parquet").exit_code == 0
    assert invoke(convert_data, tmp_path / "a.parquet", "-o", tmp_path / "b.csv").exit_code == 0
    first, last = read_bars(source), read_bars(tmp_path / "b.csv")
    assert texts(first) == texts(last)
    assert first.columns.open_ns.tolist() == last.columns.open_ns.tolist()


def test_longer_bars_are_exact_and_whole(tmp_path: Path) -> None:
    """Against sums and extremes written out; the bars cut off at both ends make none."""
    content = rows(100)[3:98]
    source, target = write_csv(tmp_path / "a.csv", content), tmp_path / "five.parquet"
    told = json.loads(invoke(convert_data, source, "-o", target, "--resample", "5m", "--json").stdout)
    made = read_bars(target, timeframe="5m")
    groups = [content[start : start + 5] for start in range(2, 92, 5)]
    assert made.columns.open_ns.tolist() == [int(group[0][0]) for group in groups]
    assert texts(made) == [
        [group[0][1] for group in groups],
        [max((row[2] for row in group), key=Decimal) for group in groups],
        [min((row[3] for row in group), key=Decimal) for group in groups],
        [group[-1][4] for group in groups],
        ["6.25" for _ in groups],
    ]
    assert (told["target_rows"], told["left_out"], told["timeframe"]) == (18, 5, "5m")


def test_a_period_is_cut_out_and_shares_no_moment_with_the_rest(tmp_path: Path) -> None:
    """Two halves of hours made of minutes: every whole bar is in one of them, none in both, digits as they were."""
    source = write_csv(tmp_path / "a.csv", rows(300))
    whole = tmp_path / "whole.parquet"
    invoke(convert_data, source, "-o", whole, "--resample", "1h")
    opens = read_bars(whole).columns.open_ns
    moment = datetime.fromtimestamp(int(opens[2]) // 10**9, UTC).strftime("%Y-%m-%dT%H:%M")
    told = []
    for name, period in (("before", f"..{moment}"), ("after", f"{moment}..")):
        arguments = (source, "-o", tmp_path / f"{name}.parquet", "--resample", "1h", "--period", period, "--json")
        told.append(json.loads(invoke(convert_data, *arguments).stdout))
    before, after = (read_bars(tmp_path / f"{name}.parquet", timeframe="1h") for name in ("before", "after"))
    assert [*before.columns.open_ns, *after.columns.open_ns] == opens.tolist()
    assert [a + b for a, b in zip(texts(before), texts(after), strict=True)] == texts(read_bars(whole))
    assert [(one["target_rows"], one["left_out"]) for one in told] == [
        (2, 180),
        (len(opens) - 2, 300 - 60 * (len(opens) - 2)),
    ]


def test_a_bar_that_reaches_beyond_a_period_is_left_out(tmp_path: Path) -> None:
    """An hour that opens within and closes after the end would tell of what is held out."""
    source = write_csv(tmp_path / "a.csv", rows(300))
    invoke(convert_data, source, "-o", tmp_path / "whole.csv", "--resample", "1h")
    opens = read_bars(tmp_path / "whole.csv").columns.open_ns
    moment = datetime.fromtimestamp(int(opens[1]) // 10**9 + 1800, UTC).strftime("%Y-%m-%dT%H:%M")
    invoke(convert_data, source, "-o", tmp_path / "b.csv", "--resample", "1h", "--period", f"..{moment}")
    assert read_bars(tmp_path / "b.csv", timeframe="1h").columns.open_ns.tolist() == opens[:1].tolist()


def test_a_period_without_bars_is_refused(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", rows(60))
    result = invoke(convert_data, source, "-o", tmp_path / "b.csv", "--period", "..1990-01-01")
    assert (result.exit_code, (tmp_path / "b.csv").exists()) == (4, False)
    assert "no bar lies in that --period" in result.output


def test_the_manifest_names_source_and_result_by_digest(tmp_path: Path) -> None:
    source, target = write_csv(tmp_path / "a.csv", rows(60)), tmp_path / "a.parquet"
    invoke(convert_data, source, "-o", target)
    told = json.loads((tmp_path / "a.parquet.manifest.json").read_text())
    assert (told["source_sha256"], told["target_sha256"]) == (file_digest(source), file_digest(target))
    assert (told["source"], told["target"], told["source_rows"]) == ("a.csv", "a.parquet", 60)


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
    source, target = write_csv(tmp_path / "a.csv", rows(60)), tmp_path / "a.parquet"
    target.write_text("mine")
    assert invoke(convert_data, source, "-o", target).exit_code == 1
    assert target.read_text() == "mine"
    assert invoke(convert_data, source, "-o", target, "--force").exit_code == 0
    assert len(read_bars(target)) == 60


def test_bad_bars_leave_nothing_behind(tmp_path: Path) -> None:
    """A file that a backtest refuses is refused, and neither result nor half of one is there."""
    source = broken_csv(tmp_path / "a.csv", lambda content: content[7].__setitem__(2, "1"))
    result = invoke(convert_data, source, "-o", tmp_path / "b.parquet")
    assert (result.exit_code, sorted(path.name for path in tmp_path.iterdir())) == (4, ["a.csv"])
    assert "row 8" in result.output


def test_bars_that_do_not_make_up_longer_ones_are_refused(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", rows(60, 2 * MINUTE_NS))
    assert invoke(convert_data, source, "-o", tmp_path / "b.csv", "--resample", "5m").exit_code == 4


@pytest.mark.parametrize("zipped", [False, True])
def test_freqtrade_json(zipped: bool, tmp_path: Path) -> None:
    """Numbers keep the digits that the file has."""
    content = json.dumps([[FIRST_NS // 10**6 + index * 60_000, 1.10, 1.2, 1.0, 1.15, 7] for index in range(10)])
    path = tmp_path / ("BTC_USDT-1m.json" + (".gz" if zipped else ""))
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    assert invoke(convert_data, path, "-o", tmp_path / "a.csv").exit_code == 0
    made = read_bars(tmp_path / "a.csv")
    assert [column[0] for column in texts(made)] == ["1.1", "1.2", "1.0", "1.15", "7"]
    assert int(made.columns.open_ns[0]) == FIRST_NS


def test_freqtrade_feather(tmp_path: Path) -> None:
    times = pa.array([FIRST_NS // 10**6 + index * 3_600_000 for index in range(30)]).cast(pa.timestamp("ms", "UTC"))
    columns = {"date": times, **{name: [0.1 + 0.2] * 30 for name in NUMBER_COLUMNS}}
    pyarrow.feather.write_feather(pa.table(columns), tmp_path / "ETH_USDT-1h.feather")
    assert invoke(convert_data, tmp_path / "ETH_USDT-1h.feather", "-o", tmp_path / "a.parquet").exit_code == 0
    made = read_bars(tmp_path / "a.parquet")
    assert (made.facts.timeframe, made.columns.texts("close")[0]) == ("1h", "0.30000000000000004")


def test_lean_zip(tmp_path: Path) -> None:
    """Times of a day in New York, prices ten thousand times as large."""
    lines = [f"{34_200_000 + index * 60_000},1234500,1235000,1234000,1234600,500" for index in range(10)]
    path = tmp_path / "20240131_trade.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("20240131_spy_minute_trade.csv", "\n".join(lines))
    arguments = (path, "-o", tmp_path / "a.csv", "--zone", "America/New_York", "--scale", "10000")
    assert invoke(convert_data, *arguments).exit_code == 0
    made = read_bars(tmp_path / "a.csv")
    assert int(made.columns.open_ns[0]) == 1_706_711_400 * 10**9  # 2024-01-31 14:30 UTC
    assert [column[0] for column in texts(made)] == ["123.45", "123.5", "123.4", "123.46", "500"]


def test_what_is_no_such_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip")
    assert invoke(convert_data, tmp_path / "a.zip", "-o", tmp_path / "a.csv").exit_code == 4
    assert invoke(convert_data, tmp_path / "none.csv", "-o", tmp_path / "a.csv").exit_code == 4
    assert invoke(convert_data, write_csv(tmp_path / "b.csv", rows(9)), "-o", tmp_path / "a.txt").exit_code == 4


def test_trades_keep_their_columns(tmp_path: Path) -> None:
    source = write_csv(tmp_path / "a.csv", [[str(FIRST_NS), "1.50", "2", "buy"]], "ts,price,size,side")
    assert invoke(convert_data, source, "-o", tmp_path / "a.parquet").exit_code == 0
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist() == [
        {"ts": str(FIRST_NS), "price": "1.50", "size": "2", "side": "buy"}
    ]
    assert invoke(convert_data, source, "-o", tmp_path / "b.parquet", "--resample", "5m").exit_code == 4
