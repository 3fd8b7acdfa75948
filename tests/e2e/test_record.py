"""A backtest's tape, recorded and read back by the commands that read a running stack's."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from tests.backtesting import EMA, backtest, synthetic_file, tapeline
from tests.tape_files import numbered, payloads_of, read, write

from tapeline_backtest.wire_runner import _finished
from tapeline_common import tape_file_format as form
from tapeline_common.cli import tapeline as command_line
from tapeline_common.commands_tape import fact_line
from tapeline_common.tape_file import TapeFile
from tapeline_common.tape_file_verify import verify_file
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_common.wire import decode_fact

BARS = 400


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_file(tmp_path_factory.mktemp("bars") / "bars.parquet", BARS)


@pytest.fixture(scope="module")
def recorded(bars: Path) -> tuple[Path, dict[str, Any]]:
    """A recorded run: its file and its report."""
    path = bars.with_name("run.tape")
    return path, backtest(*EMA, "--fee", "0.001", "--data", str(bars), "--record", str(path))


def call(*arguments: str) -> Result:
    """A command in this process."""
    return CliRunner().invoke(command_line, list(arguments))


def test_a_recorded_run_is_the_same_run(bars: Path, recorded: tuple[Path, dict[str, Any]]) -> None:
    """Recording changes nothing: same report but for the record, same hash as the file's."""
    path, found = recorded
    plain = backtest(*EMA, "--fee", "0.001", "--data", str(bars))
    assert found.pop("record") == {"kind": "file", "place": str(path), "bytes": path.stat().st_size}
    for timing in ("elapsed_s", "bars_per_s"):
        del found[timing], plain[timing]
    assert found == plain
    result = verify_file(path)
    assert (result.facts, result.head_hash.hex(), result.fault) == (plain["facts"], plain["tape_hash"], None)


def test_verify_reads_the_file(recorded: tuple[Path, dict[str, Any]]) -> None:
    """The same answer as for a log, for people and for programs."""
    path, found = recorded
    told = call("verify", "--tape", str(path))
    assert (told.exit_code, told.output.startswith(f"{found['facts']} facts verified in")) == (0, True)
    assert told.output.strip().endswith(f"head {found['tape_hash']}")
    answer = json.loads(call("verify", "--tape", str(path), "--json").output)
    del answer["elapsed_s"]
    assert answer == {"facts": found["facts"], "head_hash": found["tape_hash"], "fault": None}


def test_tail_and_show_print_the_facts(recorded: tuple[Path, dict[str, Any]]) -> None:
    """The lines of a running stack: the latest facts, of one type if asked, and one fact whole."""
    path, _ = recorded
    payloads = read(path)
    told = call("tail", "--tape", str(path), "-n", "7", "--json")
    assert told.output.splitlines() == [payload.decode() for payload in payloads[-7:]]
    assert call("tail", "--tape", str(path), "-n", "7").output.splitlines() == [
        fact_line(decode_fact(payload)) for payload in payloads[-7:]
    ]
    fills = [payload.decode() for payload in payloads if b'"type":"OrderFilled"' in payload]
    assert len(fills) > 3
    told = call("tail", "--tape", str(path), "--type", "OrderFilled", "-n", "3", "--json")
    assert told.output.splitlines() == fills[-3:]
    assert call("show", "3", "--tape", str(path), "--json").output.strip() == payloads[2].decode()
    assert call("show", "3", "--tape", str(path)).output.strip() == msgspec.json.format(payloads[2], indent=2).decode()


def test_why_explains_a_fill(recorded: tuple[Path, dict[str, Any]]) -> None:
    """From a fill to the bar at its root, and the order's life from its proposal on."""
    path, _ = recorded
    facts = [decode_fact(payload) for payload in read(path)]
    fill = next(fact for fact in facts if type(fact.event).__name__ == "OrderFilled")
    told = json.loads(call("why", str(fill.pos), "--tape", str(path), "--json").output)
    assert [one["pos"] for one in told["chain"]] == [one.pos for one in facts if one.correlation == fill.correlation]
    life = [one for one in facts if one.stream == fill.stream]
    assert [one["pos"] for one in told["order"]] == [life[0].cause, *(one.pos for one in life)]
    text = call("why", str(fill.pos), "--tape", str(path)).output
    assert f"-> {'   '}{fact_line(fill).strip()}" in text


def test_replay_decides_the_file_again(recorded: tuple[Path, dict[str, Any]]) -> None:
    """Every author's answers, all the same; a tape that was changed and chained anew differs and says where."""
    path, found = recorded
    told = call("replay", "--check", "--tape", str(path), "--json")
    answer = json.loads(told.output)
    assert (told.exit_code, answer["facts"]) == (0, found["facts"])
    assert {
        author["author"]: author["difference"] for author in answer["authors"] if author["agreed"]
    } == dict.fromkeys(["venue", "execution", "ledger", "risk", "strategy"])


def test_a_changed_tape_is_decided_otherwise(recorded: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """The check can fail: with one bar's close changed, the strategy's recorded answers are not today's."""
    path, _ = recorded
    changed = [
        payload.replace(b'"close":"', b'"close":"9') if b'"type":"BarClosed"' in payload else payload
        for payload in read(path)
    ]
    forged = tmp_path / "forged.tape"
    with TapeWriter(forged) as writer:
        writer.take_block(b"".join(changed[:200]), [len(one) for one in changed[:200]])
        rest = read(path)[200:]
        writer.take_block(b"".join(rest), [len(one) for one in rest])
    assert verify_file(forged).fault is None
    told = call("replay", "--check", "--tape", str(forged))
    assert told.exit_code == 1
    assert "DIFFERS at position" in told.output


@pytest.mark.parametrize("words", [("tail",), ("show", "1"), ("why", "1"), ("verify",), ("replay", "--check")])
def test_what_is_no_tape_ends_with_one_message(words: tuple[str, ...], tmp_path: Path, bars: Path) -> None:
    """A missing file and a file of something else: exit code 4, and the name."""
    for path, reason in ((tmp_path / "nowhere.tape", "No such file"), (bars, "it is no tape file")):
        told = call(*words, "--tape", str(path))
        assert told.exit_code == 4
        assert path.name in told.stderr
        assert reason in told.stderr
        assert told.stderr.count("\n") == 1
        assert told.stdout == ""


def test_a_file_without_its_end_is_read_and_says_so(tmp_path: Path) -> None:
    """The part that is there is printed, the warning goes to standard error, verify says no."""
    records = numbered(40)
    path = write(tmp_path / "cut.tape", records)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    head = verify_file(path).facts
    told = call("tail", "--tape", str(path), "-n", "2", "--json")
    assert (told.exit_code, told.stdout.splitlines()) == (
        0,
        [payload.decode() for payload in payloads_of(records)[head - 2 : head]],
    )
    assert "cut.tape has no end" in told.stderr
    assert f"it can be read up to position {head}" in told.stderr
    told = call("verify", "--tape", str(path))
    assert told.exit_code == 1
    assert f"position {head + 1} is wrong: END_MISSING" in told.stderr


def test_a_damaged_file_names_the_position(tmp_path: Path) -> None:
    """Reading and verifying end with exit code 1 and the first position that cannot be vouched for."""
    path = write(tmp_path / "bad.tape", numbered(40))
    with TapeFile(path) as tape:
        bad = tape.segments[2]
    data = bytearray(path.read_bytes())
    data[bad.offset + len(form.segment_frame(bad)) + 20] ^= 1
    path.write_bytes(data)
    for words in (("show", str(bad.last)), ("replay", "--check"), ("verify",)):
        told = call(*words, "--tape", str(path))
        assert told.exit_code == 1
        assert f"position {bad.first} " in told.stderr
        assert f"positions {bad.first} to {bad.last}" in told.stderr
    assert call("show", str(bad.first - 1), "--tape", str(path)).exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tail", "--follow", "--tape", "run.tape"), "--follow waits for a running stack"),
        (("verify", "--dsn-file", "dsn", "--tape", "run.tape"), "two tapes"),
        (("tail", "--type", "NoSuch", "--tape", "run.tape"), "no event type is called 'NoSuch'"),
    ],
)
def test_calls_that_cannot_be_meant_are_refused(words: tuple[str, ...], message: str) -> None:
    """Exit code 2 and what to leave out."""
    told = call(*words)
    assert (told.exit_code, message in told.stderr) == (2, True)


def test_what_is_there_already_is_kept(bars: Path, tmp_path: Path) -> None:
    """No run is begun that could not be recorded: the file stays, exit code 2; ``--force`` replaces a tape only."""
    path = write(tmp_path / "run.tape", numbered(3))
    run = ("backtest", *EMA, "--data", str(bars), "--json", "--record")
    told = call(*run, str(path))
    assert (told.exit_code, told.stdout) == (2, "")
    assert "run.tape is there already" in told.stderr
    assert read(path) == payloads_of(numbered(3))
    told = call(*run, str(path), "--force")
    assert json.loads(told.stdout)["facts"] == verify_file(path).facts > BARS


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("--record", "run.parquet"), "name a file that ends in .tape"),
        (("--record", "nowhere/run.tape"), "there is no folder nowhere"),
        (("--force",), "give --record as well"),
        (("--record", "postgresql://mara@127.0.0.1:1/x"), "127.0.0.1:1/x cannot be recorded to"),
        (("--record", "postgresql://mara@127.0.0.1:1/x", "--force"), "--force does not empty a database"),
    ],
)
def test_a_place_that_cannot_be_is_refused(bars: Path, place: tuple[str, ...], message: str) -> None:
    """Exit code 2 before anything runs."""
    told = call("backtest", *EMA, "--data", str(bars), "--json", *place)
    assert (told.exit_code, told.stdout) == (2, "")
    assert message in told.stderr


def test_a_full_disk_ends_the_run_and_leaves_what_was_written(bars: Path, tmp_path: Path) -> None:
    """Exit code 1, how far the file goes, and a file that says the same."""
    path = tmp_path / "run.tape"
    done = subprocess.run(
        [sys.executable, "-m", "tapeline_common.cli", "backtest", *EMA, "--data", str(bars), "--record", str(path)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8_192, 8_192)),
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    result = verify_file(path)
    assert f"up to position {result.facts}, without an end" in done.stderr
    assert result.fault is not None
    assert result.fault.reason == "END_MISSING"


def test_the_wire_gear_hands_its_facts_over(recorded: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """What the wire gear read back from its ledger is recorded as the loop gear's is: same facts, same hash."""
    path, found = recorded
    with TapeWriter(tmp_path / "wire.tape") as writer:
        finished = _finished(read(path), 1.0, writer)
    assert (finished.facts, finished.tape_hash) == (found["facts"], found["tape_hash"])
    assert read(tmp_path / "wire.tape") == read(path)
    assert verify_file(tmp_path / "wire.tape").head_hash.hex() == found["tape_hash"]


@pytest.mark.servers
def test_a_folder_keeps_the_run_in_postgres(bars: Path, tmp_path: Path) -> None:
    """A database of its own: the same hash, verified with nothing running; a second run is refused, or replaces it."""
    for each in (tmp_path, tmp_path.parent):
        each.chmod(0o755)
    place = f"postgres:{tmp_path / 'log'}"
    run = (*EMA, "--data", str(bars), "--record", place)
    found = backtest(*run)
    assert found["record"] == {"kind": "postgres", "place": str(tmp_path / "log")}
    assert found["tape_hash"] == backtest(*EMA, "--data", str(bars))["tape_hash"]
    verified = tapeline("verify", "--data", str(tmp_path / "log"), "--json")
    assert json.loads(verified.stdout)["head_hash"] == found["tape_hash"]
    again = tapeline("backtest", *run)
    assert (again.returncode, again.stdout) == (2, "")
    assert f"holds a tape of {found['facts']} facts already: --force" in again.stderr
    other = backtest(*run, "--fee", "0.002", "--force")
    verified = tapeline("verify", "--data", str(tmp_path / "log"), "--json")
    assert json.loads(verified.stdout)["head_hash"] == other["tape_hash"] != found["tape_hash"]
