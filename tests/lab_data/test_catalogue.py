"""``list-data`` says what is on disk without reading all of it, and never hides a file it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from tests.lab_data.bars import FIRST_NS, MINUTE_NS, invoke, rows, write_csv

from tapeline_lab.data.catalogue import entry_of
from tapeline_lab.data.kinds import DataKind, kind_of
from tapeline_lab.data.list_command import list_data

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("columns", "kind"),
    [
        (("ts", "open", "high", "low", "close", "volume"), DataKind.BARS),
        (("Date", "Open", "High", "Low", "Close", "Volume", "oi"), DataKind.BARS),
        (("ts", "price", "size", "side"), DataKind.TRADES),
        (("ts", "price", "size", "side", "is_snapshot", "last_update_id"), DataKind.BOOK),
        (("ts", "funding_rate"), DataKind.FUNDING),
        (("ts", "bid", "ask"), DataKind.QUOTES),
        (("ts", "strike", "bid", "ask"), DataKind.OTHER),
        (("ts", "AAPL", "MSFT"), DataKind.OTHER),
    ],
)
def test_the_kind_follows_from_the_columns(columns: tuple[str, ...], kind: DataKind) -> None:
    assert kind_of(columns) is kind


def test_a_csv_file_is_described_by_its_ends(tmp_path: Path) -> None:
    """A stretch of five minutes is missing between the first rows and the last: it is counted."""
    content = rows(3_000)
    del content[1_000:1_005]
    found = entry_of(write_csv(tmp_path / "BTCUSDT_1m.csv", content))
    assert (found.kind, found.instrument, found.timeframe, found.rows) == (DataKind.BARS, "BTC/USDT", "1m", 2_995)
    assert (found.first_ns, found.last_ns) == (FIRST_NS, FIRST_NS + 2_999 * MINUTE_NS)
    assert found.missing_bars == 5


def test_a_parquet_file_is_described_by_its_footer(tmp_path: Path) -> None:
    """Also with several groups of rows, of which only the first is looked into."""
    times = [1_577_836_800_000 + index * HOUR_MS for index in range(5_000)]
    columns = {"ts": times, **{name: [1.0] * 5_000 for name in ("open", "high", "low", "close", "volume")}}
    path = tmp_path / "ETHUSDT.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path, row_group_size=1_000)
    found = entry_of(path)
    assert (found.timeframe, found.rows, found.missing_bars) == ("1h", 5_000, 0)
    assert (found.first_ns, found.last_ns) == (times[0] * 10**6, times[-1] * 10**6)


def test_times_as_timestamps_and_without_statistics(tmp_path: Path) -> None:
    """What the footer does not say is read."""
    times = pa.array([index * 86_400_000 + 1_577_836_800_000 for index in range(40)]).cast(pa.timestamp("ms"))
    columns = {"date": times, **{name: [2.0] * 40 for name in ("open", "high", "low", "close", "volume")}}
    path = tmp_path / "SPY.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path, write_statistics=False)
    found = entry_of(path)
    assert (found.timeframe, found.rows, found.first_ns) == ("1d", 40, 1_577_836_800 * 10**9)


def test_a_file_that_cannot_be_read_is_listed_with_its_trouble(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"not a table")
    write_csv(tmp_path / "BTCUSD.csv", rows(10))
    result = invoke(list_data, tmp_path, "--json")
    assert result.exit_code == 0
    first, second = json.loads(result.stdout)
    assert (first["timeframe"], first["rows"]) == ("1m", 10)
    assert "not a Parquet file" in second["trouble"]


def test_an_empty_folder_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    assert invoke(list_data, tmp_path).exit_code == 4
    assert invoke(list_data, tmp_path / "nowhere").exit_code == 4


def test_kinds_and_names_choose(tmp_path: Path) -> None:
    write_csv(tmp_path / "BTCUSD.csv", rows(10))
    write_csv(tmp_path / "ETHUSD.csv", [[str(FIRST_NS), "1.5", "2", "buy"]], "ts,price,size,side")
    listed = json.loads(invoke(list_data, tmp_path, "--kind", "trades", "--json").stdout)
    assert [entry["instrument"] for entry in listed] == ["ETH/USD"]
    named = json.loads(invoke(list_data, tmp_path, "--instrument", "btc", "--json").stdout)
    assert [entry["kind"] for entry in named] == ["bars"]
