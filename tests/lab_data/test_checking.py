"""``check-data`` finds each kind of fault where it is, stays quiet on clean data, and tells errors from warnings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab_data.bars import FIRST_NS, MINUTE_NS, Row, broken_csv, invoke, rows, write_csv

from tapeline_common.values import DataFault
from tapeline_lab.data.check_command import check_data
from tapeline_lab.data.checking import Rules, check_file
from tapeline_lab.data.flaws import WARNINGS, Flaw

NOW_NS = FIRST_NS + 10**6 * MINUTE_NS
RULES = Rules(now_ns=NOW_NS)


def test_every_fault_of_the_feed_has_its_name_here() -> None:
    """One rule, one name: what a live feed refuses is called the same on disk."""
    assert {fault.value for fault in DataFault} <= {flaw.value for flaw in Flaw}


def test_a_clean_file_has_no_findings(tmp_path: Path) -> None:
    checked = check_file(write_csv(tmp_path / "a.csv", rows(2_000)), RULES)
    assert (checked.findings, checked.rows, checked.timeframe) == ((), 2_000, "1m")


def put(row: int, column: int, text: str) -> Callable[[list[Row]], None]:
    def change(content: list[Row]) -> None:
        content[row][column] = text

    return change


def cut(first: int, stop: int) -> Callable[[list[Row]], None]:
    def change(content: list[Row]) -> None:
        del content[first:stop]

    return change


def twice(content: list[Row]) -> None:
    content.insert(50, list(content[50]))


def revised(content: list[Row]) -> None:
    content.insert(51, [*content[50][:5], "9"])


def swapped(content: list[Row]) -> None:
    content[50], content[51] = content[51], content[50]


def frozen(content: list[Row]) -> None:
    for row in content[100:130]:
        row[1:5] = [content[100][1]] * 4


def spiked(content: list[Row]) -> None:
    content[100][2] = "180.00"


def split(content: list[Row]) -> None:
    """Prices from bar 100 on are a quarter."""
    for row in content[100:]:
        row[1:5] = [f"{float(text) / 4:.4f}" for text in row[1:5]]


def jumped(content: list[Row]) -> None:
    for row in content[100:]:
        row[1:5] = [f"{float(text) * 1.37:.4f}" for text in row[1:5]]


@pytest.mark.parametrize(
    ("flaw", "change", "row"),
    [
        (Flaw.GAP, cut(50, 60), 51),
        (Flaw.DUPLICATE, twice, 52),
        (Flaw.REVISED, revised, 52),
        (Flaw.OUT_OF_ORDER, swapped, 52),
        (Flaw.HIGH_BELOW_LOW, put(50, 2, "1.00"), 51),
        (Flaw.NON_POSITIVE_PRICE, put(50, 3, "0"), 51),
        (Flaw.NEGATIVE_VOLUME, put(50, 5, "-1"), 51),
        (Flaw.NOT_A_NUMBER_TEXT, put(50, 1, "abc"), 51),
        (Flaw.NOT_FINITE, put(50, 4, "NaN"), 51),
        (Flaw.OFF_GRID, put(50, 0, str(FIRST_NS + 50 * MINUTE_NS + 7)), 51),
        (Flaw.ZERO_VOLUME, put(50, 5, "0"), 51),
        (Flaw.STALE_RUN, frozen, 101),
        (Flaw.SPIKE, spiked, 101),
        (Flaw.SPLIT_SUSPECTED, split, 101),
        (Flaw.JUMP, jumped, 101),
    ],
)
def test_each_fault_is_found_at_its_row(
    flaw: Flaw, change: Callable[[list[Row]], None], row: int, tmp_path: Path
) -> None:
    found = {finding.flaw: finding for finding in check_file(broken_csv(tmp_path / "a.csv", change), RULES).findings}
    assert found[flaw].first_row == row
    assert set(found) - {flaw} <= {Flaw.GAP, Flaw.OUT_OF_ORDER}  # a bar that is refused leaves a gap behind


def test_a_gap_says_how_many_bars_and_since_when(tmp_path: Path) -> None:
    (gap,) = check_file(broken_csv(tmp_path / "a.csv", cut(50, 60)), RULES).findings
    assert (gap.count, gap.first_ns) == (10, FIRST_NS + 50 * MINUTE_NS)


def test_what_lies_in_the_future_is_an_error(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", rows(100))
    (found,) = check_file(path, Rules(now_ns=FIRST_NS + 90 * MINUTE_NS)).findings
    assert (found.flaw, found.count, found.first_row) == (Flaw.FUTURE_TIME, 10, 91)
    assert found.flaw not in WARNINGS


def test_a_timeframe_that_changes_within_the_file_is_told(tmp_path: Path) -> None:
    content = rows(2_000)
    later = [[str(FIRST_NS + (2_000 + 5 * index) * MINUTE_NS), *row[1:]] for index, row in enumerate(rows(600))]
    found = check_file(write_csv(tmp_path / "a.csv", [*content, *later]), RULES).findings
    assert Flaw.TIMEFRAME_DRIFT in {finding.flaw for finding in found}


def test_a_weekend_is_a_gap_only_for_a_market_that_never_closes(tmp_path: Path) -> None:
    """Two weeks of a currency's hours, Sunday 22:00 to Friday 22:00 UTC (17:00 in New York, winter)."""
    hour_ns = 60 * MINUTE_NS
    week = [row for row in rows(14 * 24, hour_ns) if _in_hours(int(row[0]))]
    path = write_csv(tmp_path / "EURUSD.csv", week)
    always = check_file(path, RULES)
    assert {finding.flaw for finding in always.findings} == {Flaw.GAP}
    assert check_file(path, Rules(now_ns=NOW_NS, calendar="24/5")).findings == ()


def _in_hours(open_ns: int) -> bool:
    hour = (open_ns - FIRST_NS) // (3_600 * 10**9)  # since Monday 00:00 UTC
    return hour % 168 < 118 or hour % 168 >= 166


def test_prices_of_another_file_are_compared_bar_by_bar(tmp_path: Path) -> None:
    """Also with one of finer bars, which is made longer first."""
    minutes = write_csv(tmp_path / "minutes.csv", rows(600))
    own = rows(600)
    own[300][2] = "120.00"
    path = write_csv(tmp_path / "own.csv", own)
    (found,) = (one for one in check_file(path, Rules(NOW_NS, against=minutes)).findings if one.flaw is Flaw.DIFFERS)
    assert (found.count, found.first_row) == (1, 301)
    assert check_file(minutes, Rules(NOW_NS, against=minutes)).findings == ()


def test_bars_that_only_one_of_two_files_has(tmp_path: Path) -> None:
    whole, part = write_csv(tmp_path / "whole.csv", rows(100)), broken_csv(tmp_path / "part.csv", cut(40, 42), 100)
    here = {one.flaw: one.count for one in check_file(part, Rules(NOW_NS, against=whole)).findings}
    there = {one.flaw: one.count for one in check_file(whole, Rules(NOW_NS, against=part)).findings}
    assert here == {Flaw.GAP: 2, Flaw.MISSING_HERE: 2}
    assert there == {Flaw.MISSING_THERE: 2}


def test_known_values_must_be_there_to_the_last_digit(tmp_path: Path) -> None:
    content = rows(100)
    path = write_csv(tmp_path / "a.csv", content)
    good = write_csv(tmp_path / "good.csv", [[content[7][0], content[7][4] + "0", ""]], "ts,close,volume")
    bad = write_csv(tmp_path / "bad.csv", [[content[7][0], "1.23"], [str(FIRST_NS - 1), "1"]], "ts,close")
    assert check_file(path, Rules(NOW_NS, spots=good)).findings == ()
    found = check_file(path, Rules(NOW_NS, spots=bad)).findings
    assert [(one.flaw, one.first_row) for one in found] == [(Flaw.SPOT_DIFFERS, 8), (Flaw.SPOT_MISSING, 0)]


def test_trades_are_judged_by_the_trades_own_checker(tmp_path: Path) -> None:
    header = "ts,price,size,side,trade_id"
    good = [[str(FIRST_NS + index), "100.5", "0.25", "buy", str(index)] for index in range(20)]
    bad = [list(row) for row in good]
    bad[5][2] = "0"
    assert check_file(write_csv(tmp_path / "good.csv", good, header), RULES).findings == ()
    (found,) = check_file(write_csv(tmp_path / "bad.csv", bad, header), RULES).findings
    assert (found.flaw, found.first_row) == (Flaw.NON_POSITIVE_SIZE, 6)


def test_the_exit_code_tells_errors_from_warnings(tmp_path: Path) -> None:
    clean = write_csv(tmp_path / "clean.csv", rows(100))
    gap = broken_csv(tmp_path / "gap.csv", cut(50, 60))
    bad = broken_csv(tmp_path / "bad.csv", twice)
    assert invoke(check_data, clean).exit_code == 0
    assert invoke(check_data, gap).exit_code == 0
    assert invoke(check_data, gap, "--strict").exit_code == 1
    assert invoke(check_data, bad).exit_code == 1
    told = json.loads(invoke(check_data, tmp_path, "--json").stdout)
    assert (len(told["files"]), told["errors"], told["warnings"]) == (3, 1, 1)


def test_wrong_calls_are_refused_with_one_message(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", rows(10))
    assert invoke(check_data, tmp_path / "nowhere.csv").exit_code == 4
    assert invoke(check_data, path, "--calendar", "MOON").exit_code == 4
    assert invoke(check_data, path, path.with_name("b.csv")).exit_code == 4
    unreadable = tmp_path / "b.csv"
    unreadable.write_text("", encoding="utf-8")
    assert invoke(check_data, unreadable).exit_code == 1
