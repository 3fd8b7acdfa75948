"""The notifier's file and cursor: numbered, rotated, readable after a crash or a full disk, never half a cursor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tapeline_notifier import journal as module
from tapeline_notifier.journal import CursorDamaged, Entry, Journal, joined, read_entries
from tapeline_notifier.message import Kind, Message, Severity, message

TIME = "2026-11-21 13:00:00.000"


def halt(number: int) -> Message:
    return message(Kind.CONTROL, Severity.PAGE, f"halt {number}", "oak\nelm", time_ns=number, position=number)


def test_a_line_holds_the_message_and_where_it_goes(tmp_path: Path) -> None:
    """One JSON object a line, every field by its name; what became of it follows under the same number."""
    journal = Journal(tmp_path)
    assert journal.append(halt(7), TIME, ("slack", "mail")) == 1
    journal.settled([1], "slack", "sent")
    first, second = map(json.loads, (tmp_path / "notifications.jsonl").read_text().splitlines())
    assert first == {
        "number": 1,
        "time": TIME,
        "kind": "control",
        "severity": "page",
        "title": "halt 7",
        "text": "oak\nelm",
        "position": 7,
        "deliveries": {"slack": "pending", "mail": "pending"},
        "time_ns": 7,
    }
    assert second == {"number": 1, "deliveries": {"slack": "sent"}}
    (entry,) = joined(read_entries(tmp_path), 10)
    assert entry.deliveries == {"slack": "sent", "mail": "pending"}
    assert entry.message == halt(7)
    assert (tmp_path / "notifications.jsonl").stat().st_mode & 0o077 == 0


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    """A number names one message for good."""
    Journal(tmp_path).append(halt(1), TIME, ())
    again = Journal(tmp_path)
    assert (again.number, again.append(halt(2), TIME, ())) == (1, 2)
    assert [entry.title for entry in again.after(1)] == ["halt 2"]


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_line_that_a_crash_cut_is_passed_over(cut: int, tmp_path: Path) -> None:
    """And does not swallow the one that follows it."""
    journal = Journal(tmp_path)
    for number in (1, 2):
        journal.append(halt(number), TIME, ())
    path = tmp_path / "notifications.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    Journal(tmp_path).append(halt(3), TIME, ())
    titles = [entry.title for entry in read_entries(tmp_path)]
    assert titles == (["halt 1", "halt 2", "halt 3"] if cut == 1 else ["halt 1", "halt 3"])


def test_a_full_disk_costs_its_line_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number is used up, the file stays readable."""
    journal = Journal(tmp_path)
    monkeypatch.setattr(module.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        journal.append(halt(1), TIME, ())
    monkeypatch.undo()
    assert journal.append(halt(2), TIME, ()) == 2
    assert [entry.number for entry in read_entries(tmp_path)][-1] == 2


def test_files_are_rotated_and_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five beside the present one; reading takes them oldest first."""
    monkeypatch.setattr(module, "ROTATE_BYTES", 300)
    journal = Journal(tmp_path)
    for number in range(1, 41):
        journal.append(halt(number), TIME, ())
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["notifications.jsonl", *(f"notifications.jsonl.{age}" for age in range(1, 6))]
    numbers = [entry.number for entry in read_entries(tmp_path)]
    assert numbers == list(range(numbers[0], 41))
    assert 1 < numbers[0] < 40
    assert [entry.number for entry in joined(read_entries(tmp_path), 3)] == [38, 39, 40]
    assert Journal(tmp_path).number == 40


def test_the_cursor_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was being written when the process died does not count."""
    journal = Journal(tmp_path)
    assert journal.cursor.position is None, "it never followed a tape"
    journal.cursor.position, journal.cursor.delivered = 7, {"slack": 3}
    journal.keep()
    journal.cursor.position = 9

    def crash(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        journal.keep()
    again = Journal(tmp_path).cursor
    assert (again.position, again.delivered) == (7, {"slack": 3})


def test_a_damaged_cursor_is_named(tmp_path: Path) -> None:
    """Guessing where to go on would tell ten thousand old fills, or lose a halt."""
    (tmp_path / "cursor.json").write_text("{")
    with pytest.raises(CursorDamaged, match=r"cursor\.json cannot be read .*: delete it to begin at the head"):
        Journal(tmp_path)


def test_an_outcome_without_its_message_is_passed_over() -> None:
    """The message may stand in a file that is gone."""
    assert joined(iter([Entry(7, deliveries={"slack": "sent"})]), 10) == []
