"""The commands as they are called: what they print, their exit codes, and one clear message for whatever is wrong."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from tests.lab_parity.sessions import live_facts, write_tape

from tapeline_common.cli import tapeline
from tapeline_common.tape_file_verify import verify_file
from tapeline_lab.parity.commands import diff_command, fork_command
from tapeline_lab.parity.diff_report import DiffReport

SEED = 10


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return write_tape(tmp_path / "session.tape", live_facts(SEED))


def called(*words: Any) -> Result:
    return CliRunner().invoke(tapeline, [str(word) for word in words])


def test_they_are_commands_of_the_one_command_line() -> None:
    """`tapeline diff` and `tapeline fork`."""
    assert tapeline.get_command(None, "diff") is diff_command  # type: ignore[arg-type]
    assert tapeline.get_command(None, "fork") is fork_command  # type: ignore[arg-type]


def test_parity_ends_with_0(tape: Path) -> None:
    """All the same: 100.00 %, exit code 0, nothing listed."""
    told = called("diff", tape)

    assert told.exit_code == 0, told.output
    assert "parity 100.00 % of" in told.output
    assert "differences" not in told.output


def test_a_difference_ends_with_1(tape: Path) -> None:
    """The table of causes, the differences up to the limit, exit code 1."""
    told = called("diff", tape, "--slippage-ticks", 1, "--limit", 3)

    assert told.exit_code == 1
    assert "FILL" in told.output
    assert "differences, the first 3 of" in told.output
    assert "price" in told.output


def test_programs_get_one_object(tape: Path) -> None:
    """--json decodes as a DiffReport, whose shares add up, and has as many differences as asked for."""
    told = called(
        "diff", tape, "--json", "--set", "venue.taker_fee=0.001", "--set", "strategy.cross.slow=12", "--limit", 7
    )
    report = msgspec.json.decode(told.stdout, type=DiffReport)

    assert told.exit_code == 1
    assert sum((row.equity for row in report.causes.values()), Decimal(0)) == report.equity_gap
    assert sum((row.equity_bps for row in report.causes.values()), Decimal(0)) == report.equity_gap_bps
    assert set(report.causes) == {"FEE", "SIGNAL"}
    assert len(report.differences) == 7
    assert sum(row.decisions for row in report.causes.values()) == report.decisions - report.same


def test_a_configuration_file_is_compared_key_by_key(tape: Path, tmp_path: Path) -> None:
    """--config: what it says otherwise is switched; here a size, and presets that are not there any more."""
    config = tmp_path / "tapeline.toml"
    config.write_text("""
[run]
name = "simulated"
cash = "100000"
[venue]
participation = "1"
[risk]
max_order_notional = "5000"
max_position = "20"
approval_valid_ms = 30000000
[regime]
enabled = false
[bandit]
scale = 0.5
discount = 0.99
floor = 0.05
[[instrument]]
name = "BTC/USDT"
venue = "paper"
tick_size = "0.01"
lot_size = "0.001"
[[instrument]]
name = "ETH/USDT"
venue = "paper"
tick_size = "0.01"
lot_size = "0.001"
[[strategy]]
name = "cross"
kind = "ema_cross"
instruments = ["BTC/USDT", "ETH/USDT"]
size = "1"
parameters = { fast = 3, slow = 8 }
[[strategy]]
name = "picks"
kind = "ema_cross"
instruments = ["BTC/USDT"]
size = "1"
parameters = { fast = 3, slow = 8 }
""")
    report = msgspec.json.decode(called("diff", tape, "--json", "--config", config).stdout, type=DiffReport)

    by_facts = {cause: row.by_facts for cause, row in report.causes.items() if row.by_facts}
    assert set(by_facts) == {"FILL", "SIGNAL", "PRESET"}, "participation, sizes, presets"
    assert by_facts["PRESET"] == 3, "two presets and the strategy that used them"
    assert sum((row.equity for row in report.causes.values()), Decimal(0)) == report.equity_gap


def test_a_fork_is_reported_and_kept(tape: Path, tmp_path: Path) -> None:
    """Both sides, the first difference and a tape that verifies; the original is not touched."""
    before = tape.read_bytes()
    kept = tmp_path / "fork.tape"

    told = called("fork", tape, "--at", 250, "--set", "risk.max_position=0", "--record", kept)
    as_json = called("fork", tape, "--at", 250, "--set", "risk.max_position=0", "--json")

    assert told.exit_code == 0, told.output
    assert "MAX_POSITION" in told.output
    assert "decisions differ; the first:" in told.output
    found = msgspec.json.decode(as_json.stdout)
    assert found["forked"]["orders"] < found["unchanged"]["orders"]
    assert found["is_as_recorded"]
    assert verify_file(kept).head_hash.hex() == found["tape_hash"]
    assert tape.read_bytes() == before
    again = called("fork", tape, "--at", 250, "--set", "risk.max_position=0", "--record", kept)
    assert again.exit_code == 2
    assert "fork.tape" in again.output


def test_steps_are_lines_for_programs(tape: Path) -> None:
    """replay --step --json: one object a step, from a position, so many, of one core."""
    told = called("replay", tape, "--step", "--at", 100, "--steps", 5, "--core", "risk", "--json")

    steps = [msgspec.json.decode(line) for line in told.stdout.splitlines()]
    assert [step["fact"]["pos"] for step in steps] == [100, 101, 102, 103, 104]
    assert {core for step in steps for core in step["changes"]} <= {"risk"}


def test_steps_are_readable(tape: Path) -> None:
    """Without a terminal they are printed one after the other."""
    told = called("replay", tape, "--step", "--at", 100, "--steps", 2)

    assert told.exit_code == 0
    assert "OrderProposed" in told.output
    assert " -> " in told.output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("diff", "nowhere.tape"), 4, "nowhere.tape is not there: name a tape file"),
        (("diff", "{folder}"), 4, "holds no tape"),
        (("diff", "{text}"), 4, "no tape"),
        (("diff", "{tape}", "--data", "{text}"), 4, "text.csv"),
        (("diff", "{tape}", "--set", "risk.nothing=1"), 2, "no key 'nothing'"),
        (("diff", "{tape}", "--since", "9999999"), 2, "no position from 1 to"),
        (("diff", "{tape}", "--since", "2099-01-01"), 2, "nothing was recorded at or after 2099-01-01"),
        (("diff", "{tape}", "--config", "no.toml"), 4, "no.toml"),
        (("diff", "{tape}", "--config", "no.toml", "--set", "risk.max_position=1"), 2, "give one"),
        (("diff", "{tape}", "--config", "no.toml", "--since", "200"), 2, "give one"),
        (("fork", "{tape}", "--at", "250"), 2, "nothing is changed"),
        (("fork", "{tape}", "--at", "250", "--until", "200", "--set", "risk.max_position=1"), 2, "is not after"),
        (("fork", "{tape}", "--at", "250", "--set", "risk.max_position=1", "--record", "x.txt"), 2, "ends in .tape"),
        (("replay", "{tape}"), 2, "--check or --step"),
        (("replay", "{tape}", "--check", "--core", "risk"), 2, "belong to --step"),
        (("replay", "{tape}", "--step", "--core", "luck"), 2, "no core of that name; there are venue, ledger"),
        (("replay", "nowhere.tape", "--step"), 4, "is not there"),
    ],
)
def test_what_is_wrong_is_said_once(
    words: tuple[str, ...], code: int, message: str, tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message that names the thing, and the exit code of its kind; no traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.csv").write_text("this is neither\n")
    (tmp_path / "folder").mkdir()
    names = {"tape": tape, "folder": tmp_path / "folder", "text": tmp_path / "text.csv"}

    told = called(*(word.format(**names) for word in words))

    assert told.exit_code == code, told.output
    assert message in told.output
    assert "Traceback" not in told.output


def test_replay_check_takes_a_run_as_well(tape: Path) -> None:
    """`replay FILE --check` is `replay --check --tape FILE`."""
    assert called("replay", tape, "--check").output == called("replay", "--check", "--tape", tape).output
