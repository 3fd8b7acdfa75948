"""What turns measurements into comparisons: medians of paired ratios, ranks, turns and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench import __main__ as command
from bench.measure import (
    Row,
    Section,
    as_data,
    failures,
    in_turn,
    markdown,
    markdown_table,
    median_ratio,
    number_text,
    plain_table,
    quantile,
)
from bench.quiet import Meter, others_percent, settle
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

TWICE = Row("loop", "bars/s", (200.0, 220.0, 90.0), "peer 1.0", (100.0, 100.0, 50.0), "same | orders")
ALONE = Row("loop", "bars/s", (200.0,), "peer 2.0", (), "not installed")


def test_the_ratio_is_the_median_of_the_turns_ratios() -> None:
    """2.0, 2.2 and 1.8 give 2.0: one slow turn of the machine moves both sides and not the ratio."""
    assert median_ratio((200.0, 220.0, 90.0), (100.0, 100.0, 50.0)) == 2.0


def test_turns_that_do_not_pair_are_refused() -> None:
    """A side with a turn missing cannot be paired by order, so there is no ratio to give."""
    with pytest.raises(ValueError, match="shorter"):
        median_ratio((1.0, 2.0), (1.0,))


def test_nothing_beside_gives_no_ratio() -> None:
    """A peer that could not be measured has no ratio; it is not shown as zero or one."""
    assert ALONE.ratio is None


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=9), st.floats(0.5, 100))
def test_a_common_factor_of_both_sides_changes_no_ratio(values: list[float], slower: float) -> None:
    """A machine that is slower for a whole turn leaves the ratio as it is."""
    theirs = [3.0 * value for value in values]
    before = median_ratio(values, theirs)
    after = median_ratio([value / slower for value in values], [value / slower for value in theirs])
    assert before == pytest.approx(after)


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (1.0, 4.0), (0.01, 1.0)])
def test_a_quantile_is_the_smallest_value_that_enough_values_do_not_exceed(share: float, value: float) -> None:
    """Nearest rank of 1, 2, 3, 4: never a value that was not measured."""
    assert quantile([4.0, 2.0, 1.0, 3.0], share) == value


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    """There is no rank for it."""
    with pytest.raises(AssertionError, match="not in"):
        quantile([1.0], share)


def test_everybody_goes_first_once() -> None:
    """Over as many rounds as there are names each is first once, and each round names all of them."""
    names = ("ours", "one", "two")
    rounds = [in_turn(number, names) for number in range(3)]
    assert rounds == [("ours", "one", "two"), ("one", "two", "ours"), ("two", "ours", "one")]


def test_no_names_have_no_turns() -> None:
    """An empty round stays empty."""
    assert in_turn(2, ()) == ()


@pytest.mark.parametrize(
    ("value", "text"), [(525_600.4, "525,600"), (100.0, "100"), (10.333, "10.3"), (1.0, "1"), (0.1234, "0.12")]
)
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    """Large figures without decimals, small ones with two or three digits."""
    assert number_text(value) == text


def test_the_table_shows_medians_the_ratio_and_what_was_not_measured() -> None:
    """A peer without turns has a dash for its figure and for the ratio, and the reason stands beside it."""
    assert markdown_table([TWICE, ALONE]).splitlines() == [
        "| what | unit | ours | beside | theirs | ours / theirs | turns | note |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| loop | bars/s | 200 | peer 1.0 | 100 | 2x | 3 | same \\| orders |",
        "| loop | bars/s | 200 | peer 2.0 | - | - | 1 | not installed |",
    ]


def test_the_plain_table_is_aligned_and_leaves_notes_out() -> None:
    """Every column starts at the same place in every line."""
    lines = plain_table([TWICE, ALONE]).splitlines()
    assert lines == [
        "what  unit    ours  beside    theirs  ours / theirs  turns",
        "loop  bars/s  200   peer 1.0  100     2x             3",
        "loop  bars/s  200   peer 2.0  -       -              1",
    ]


def test_a_document_has_each_section_with_its_notes() -> None:
    """Title, table, sentences, in this order."""
    text = markdown([Section("Loop gear", (ALONE,), ("A sentence.",))])
    assert text == f"## Loop gear\n\n{markdown_table([ALONE])}\n\nA sentence."


# ---- what failed -------------------------------------------------------------------------------------------------

APART = Row("loop", "bars/s", (200.0,), "peer 3.0", (100.0,), "same orders", "7 orders, theirs 8")
BROKEN = Section("Restore", (), failed="AssertionError: another tape")


def test_a_failed_row_has_figures_and_no_ratio() -> None:
    """Times of different work say nothing about each other: the reason stands where the note would."""
    assert APART.ratio is None
    assert markdown_table([APART]).splitlines()[2] == (
        "| loop | bars/s | 200 | peer 3.0 | 100 | failed | 1 | failed: 7 orders, theirs 8 |"
    )


def test_failures_are_those_of_rows_and_of_sections() -> None:
    """One sentence each, in order; a peer that is only missing is none."""
    assert failures([Section("Race", (TWICE, APART, ALONE)), BROKEN]) == (
        "Race: loop beside peer 3.0: 7 orders, theirs 8",
        "Restore: AssertionError: another tape",
    )
    assert failures([Section("Race", (TWICE, ALONE))]) == ()


def test_a_section_that_broke_is_in_the_document() -> None:
    """Its title and the reason instead of a table."""
    assert markdown([BROKEN]) == "## Restore\n\nFailed: AssertionError: another tape"


def test_programs_get_every_value_and_the_ratio() -> None:
    """What the tables show as medians is there turn by turn."""
    (data,) = as_data([Section("Race", (TWICE, APART), ("A sentence.",))])
    assert (data["title"], data["failed"], data["notes"]) == ("Race", "", ("A sentence.",))
    assert [(each["ours"], each["ratio"], each["failed"]) for each in data["rows"]] == [
        ((200.0, 220.0, 90.0), 2.0, ""),
        ((200.0,), None, "7 orders, theirs 8"),
    ]


# ---- a quiet machine ---------------------------------------------------------------------------------------------


def test_a_quiet_machine_is_not_waited_for() -> None:
    """Looked at once, and nothing to say."""
    told: list[str] = []
    settle(told.append, lambda _seconds: 3.0)
    assert told == []


def test_a_machine_that_becomes_quiet_is_waited_for() -> None:
    """Servers of the section before are still writing: looked at until they have gone."""
    seen, told = iter([80.0, 30.0, 2.0]), list[str]()
    settle(told.append, lambda _seconds: next(seen))
    assert (list(seen), told) == ([], [])


def test_a_machine_that_stays_busy_is_measured_all_the_same() -> None:
    """Nobody waits for ever, and whoever looks on is told."""
    told: list[str] = []
    settle(told.append, lambda _seconds: 55.0, patience_s=0.0)
    assert told == ["other programs keep 55 % of the cores busy: measuring all the same"]


@pytest.mark.parametrize(
    ("idle_s", "own_s", "percent"), [(12.0, 5.0, 15.0), (15.0, 5.0, 0.0), (15.2, 5.0, 0.0), (0.0, 0.0, 100.0)]
)
def test_others_took_what_was_neither_idle_nor_ours(idle_s: float, own_s: float, percent: float) -> None:
    """Of twenty seconds of cores; clocks that tick apart never make it negative."""
    assert others_percent(20.0, idle_s, own_s) == percent


def test_a_meter_that_was_just_made_has_a_share() -> None:
    """Real clocks, no time to speak of: still a percentage."""
    assert 0.0 <= Meter().others_percent() <= 100.0


# ---- the command -------------------------------------------------------------------------------------------------


def _command(monkeypatch: pytest.MonkeyPatch, sections: dict[str, Section | Exception], *arguments: str) -> Result:
    """``python -m bench`` with sections that take no time."""

    def section(found: Section | Exception) -> Section:
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(command, "SECTIONS", {name: lambda *_, one=one: section(one) for name, one in sections.items()})
    monkeypatch.setattr(command, "settle", lambda _say: None)
    monkeypatch.setattr(command, "compile_all", lambda _say: None)
    monkeypatch.setattr(Meter, "others_percent", lambda _self: 4.4)
    return CliRunner().invoke(command.main, arguments)


FINE = Section("Race", (TWICE,), ("A sentence.",))
MEANWHILE = "Other programs took 4 % of the cores meanwhile."


def test_a_run_without_failures_ends_with_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table and its sentences are on standard output."""
    found = _command(monkeypatch, {"loop": FINE})
    assert found.exit_code == 0
    assert found.stdout == f"\nRace\n{plain_table([TWICE])}\n\nA sentence.\n{MEANWHILE}\n"


def test_a_failed_row_ends_with_one_after_everything_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other sections' figures are there, and the last words say what failed."""
    found = _command(monkeypatch, {"loop": Section("First", (APART,)), "gears": FINE})
    assert found.exit_code == 1
    assert found.stdout.endswith(f"\nRace\n{plain_table([TWICE])}\n\nA sentence.\n{MEANWHILE}\n")
    assert found.stderr.splitlines()[-1] == "failed: First: loop beside peer 3.0: 7 orders, theirs 8"


def test_a_section_that_breaks_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare assertion in a measurement costs that section only, and the exit code says so."""
    found = _command(monkeypatch, {"restore": AssertionError("another tape"), "gears": FINE})
    assert found.exit_code == 1
    assert "\nrestore\nfailed: AssertionError: another tape\n" in found.stdout
    assert "A sentence." in found.stdout


def test_json_is_all_there_is_on_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """One object with the machine, every section and what failed."""
    found = _command(monkeypatch, {"loop": FINE, "gears": Section("First", (APART,))}, "--json")
    data = json.loads(found.stdout)
    assert [each["title"] for each in data["sections"]] == ["Race", "First"]
    assert data["failures"] == ["First: loop beside peer 3.0: 7 orders, theirs 8"]
    assert data["machine"]["cores"] > 0
    assert found.exit_code == 1


def test_one_section_can_be_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are not begun."""
    found = _command(monkeypatch, {"loop": FINE, "restore": AssertionError("not asked for")}, "--only", "loop")
    assert found.exit_code == 0


@pytest.mark.parametrize("less", [("--only", "loop"), ("--quick",)])
def test_the_document_is_not_written_of_less_than_everything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, less: tuple[str, ...]
) -> None:
    """Published figures are of all measurements at full size, in one run."""
    monkeypatch.setattr(command, "DOCUMENT", tmp_path / "benchmarks.md")
    assert _command(monkeypatch, {"loop": FINE}, "--write", *less).exit_code == 2
    assert not (tmp_path / "benchmarks.md").exists()


def test_the_document_says_where_and_what_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Everything a reader needs is written by the command: nothing is added by hand."""
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "DOCUMENT", tmp_path / "docs" / "benchmarks.md")
    assert _command(monkeypatch, {"loop": Section("First", (APART,), ("Why.",))}, "--write").exit_code == 1
    text = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert "- machine: " in text
    assert "- failed: First: loop beside peer 3.0: 7 orders, theirs 8\n" in text
    assert text.endswith(f"## First\n\n{markdown_table([APART])}\n\nWhy.\n\n{MEANWHILE}\n")
