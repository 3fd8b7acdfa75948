"""Measured programs: each timed and weighed by itself, ended when it hangs, run in rotated rounds, compared first."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet
import pytest
from bench import bars, floor, kept_code, ours, processes, sweeps
from bench.bars import repeated_bars, synthetic_bars
from bench.environments import Missing
from bench.processes import Ended, Failed, run
from bench.rounds import (
    Command,
    in_rounds,
    process_s,
    row,
    same_orders,
    same_result,
    same_result_with_regimes,
    same_tape,
)

PLAIN = (sys.executable, "-I", "-S", "-c")
SAYS = 'print("loading"); print(\'{"elapsed_s": 0.5, "orders": 7}\')'


def program(text: str) -> tuple[str, ...]:
    """A peer in a line of Python that imports next to nothing."""
    return (*PLAIN, text)


def ended(said: dict[str, object], process_s: float = 1.0) -> Ended:
    return Ended(said, process_s, 10.0)


# ---- one program -------------------------------------------------------------------------------------------------


def test_a_program_is_told_by_its_last_line() -> None:
    """What it printed before is not part of the answer; time and memory were taken."""
    done = run(program(SAYS))
    assert isinstance(done, Ended)
    assert done.said == {"elapsed_s": 0.5, "orders": 7}
    assert done.process_s > 0


def test_the_peak_memory_is_the_programs_own() -> None:
    """A small program started by a large one is small: the parent's peak is not the child's."""
    held = b"\1" * (256 * 2**20)
    done = run(program("print('{}')"))
    assert isinstance(done, Ended)
    assert 1 < done.peak_mib < 64 < len(held) / 2**20


def test_the_peak_memory_outlives_the_moment_it_was_needed() -> None:
    """Memory given back before the end still counts."""
    done = run(program("held = b'1' * (128 * 2**20); del held; print('{}')"))
    assert isinstance(done, Ended)
    assert 128 <= done.peak_mib < 192


def test_a_program_that_fails_gives_its_last_words() -> None:
    """The reason is what a reader of the table needs: exit code and last line."""
    assert run(program("import sys; sys.exit('no such bars')")) == Failed("ended with 1: no such bars")


def test_a_program_that_is_killed_gives_the_signal() -> None:
    """Out of memory looks like this: no words, a negative code."""
    assert run(program("import os; os.kill(os.getpid(), 9)")) == Failed("ended with -9: no message")


@pytest.mark.parametrize("text", ["", "print('done')", "print('[1]')", "print('{}'); print()  ; print('42')"])
def test_a_program_that_says_no_object_failed(text: str) -> None:
    """Silence and chatter are no result."""
    assert run(program(text)) == Failed("its last line is no JSON object")


def test_a_program_that_is_not_there_failed() -> None:
    """A value like any other failure, and no exception."""
    failed = run(("/nowhere/python",))
    assert isinstance(failed, Failed)
    assert "/nowhere/python" in failed.reason


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    """It gets the request to end and may tidy up; nothing is left running."""
    trace = tmp_path / "trace"
    text = f"""
import os, signal, sys, time
def end(*_):
    open({str(trace)!r}, "a").write(" tidied")
    sys.exit()
signal.signal(signal.SIGTERM, end)
open({str(trace)!r}, "w").write(str(os.getpid()))
while True: time.sleep(10)
"""
    assert run(program(text), patience_s=3.0) == Failed("not done within 3 s")
    process, word = trace.read_text().split()
    assert word == "tidied"
    assert not _runs(int(process))


def test_a_program_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is ignored is followed by one that cannot be."""
    monkeypatch.setattr(processes, "GRACE_S", 0.1)
    trace = tmp_path / "trace"
    text = f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open({str(trace)!r}, "w").write(str(os.getpid()))
while True: time.sleep(10)
"""
    assert run(program(text), patience_s=3.0) == Failed("not done within 3 s")
    process = int(trace.read_text())
    until = time.monotonic() + 10
    while _runs(process):
        assert time.monotonic() < until, "still there"


def _runs(process: int) -> bool:
    """Whether there is such a process, one that nobody waited for apart."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


# ---- rounds ------------------------------------------------------------------------------------------------------


def test_rounds_are_rotated_and_a_program_that_failed_is_not_run_again(tmp_path: Path) -> None:
    """Everybody is first in turn; who failed once has no runs at all, and who is missing never ran."""
    trace = tmp_path / "trace"
    note = f"open({str(trace)!r}, 'a').write('%s '); print('{{}}')"
    commands: dict[str, Command] = {
        "one": program(note % "one"),
        "two": program(note % "two" + "; raise SystemExit(3)"),
        "gone": Missing("not installed: no network"),
        "three": program(note % "three"),
    }
    said: list[str] = []
    runs = in_rounds(3, commands, said.append)
    assert trace.read_text().split() == ["one", "two", "three", "three", "one", "three", "one"]
    assert {name: len(each) for name, each in runs.items() if isinstance(each, tuple)} == {"one": 3, "three": 3}
    assert runs["two"] == Failed("ended with 3: no message")
    assert runs["gone"] == Missing("not installed: no network")
    assert said[:3] == ["gone: not installed: no network", said[1], "two: ended with 3: no message"]


def test_a_program_that_fails_late_keeps_no_runs(tmp_path: Path) -> None:
    """Half of the rounds cannot be paired with all of the others."""
    flag = tmp_path / "flag"
    text = f"import os; f = {str(flag)!r}; os.path.exists(f) and os._exit(1); open(f, 'w').close(); print('{{}}')"
    assert in_rounds(2, {"late": program(text)}, lambda _: None) == {"late": Failed("ended with 1: no message")}


# ---- rows --------------------------------------------------------------------------------------------------------

SAME = ended({"orders": 7, "final_equity": "10.00", "tape_hash": "ab"})
ALIKE = ended({"orders": 7, "final_equity": 10.004, "tape_hash": "ab"}, 2.0)
MORE = ended({"orders": 8, "final_equity": 10.0, "tape_hash": "ab"})
RICHER = ended({"orders": 7, "final_equity": 10.01, "tape_hash": "ab"})
OTHER = ended({"orders": 7, "final_equity": 10.0, "tape_hash": "cd"})


def test_sides_that_agree_have_a_ratio_and_a_note() -> None:
    """Pairs are made in the order of the rounds."""
    found = row(
        "loop", "s", {"us": (SAME, ALIKE), "peer": (ALIKE, ALIKE)}, ("us", "peer"), process_s, same_result, "ok"
    )
    assert (found.ours, found.theirs, found.ratio, found.note) == ((1.0, 2.0), (2.0, 2.0), 0.75, "ok")
    assert found.failed == ""


def test_a_disagreement_in_any_round_fails_the_row() -> None:
    """The second pair traded something else: no ratio, and the reason instead of the note."""
    found = row("loop", "s", {"us": (SAME, SAME), "peer": (ALIKE, MORE)}, ("us", "peer"), process_s, same_result, "ok")
    assert (found.ratio, found.note, found.failed) == (None, "", "7 orders, theirs 8")


def test_a_peer_that_is_missing_is_no_failure() -> None:
    """There is no ratio and the reason is a note: nothing was found to be wrong."""
    found = row("loop", "s", {"us": (SAME,), "peer": Missing("no wheel")}, ("us", "peer"), process_s, same_result, "ok")
    assert (found.ours, found.theirs, found.ratio, found.note, found.failed) == ((1.0,), (), None, "no wheel", "")


@pytest.mark.parametrize("broken", ["us", "peer"])
def test_a_side_that_failed_fails_the_row(broken: str) -> None:
    """Ours as well as theirs; the reason says whose it is."""
    runs = {"us": (SAME,), "peer": (ALIKE,)} | {broken: Failed("not done within 600 s")}
    found = row("loop", "s", runs, ("us", "peer"), process_s, same_result, "ok")
    assert (found.ratio, found.note, found.failed) == (None, "", f"{broken}: not done within 600 s")


def test_results_are_compared_to_half_a_cent() -> None:
    """Sums of floats may be off by less; an order or a cent is another result, and bytes are bytes."""
    assert [same_orders(SAME, other) for other in (ALIKE, RICHER, MORE)] == [None, None, "7 orders, theirs 8"]
    assert [same_result(SAME, other) for other in (ALIKE, OTHER)] == [None, None]
    assert same_result(SAME, RICHER) == "final equity 10.00, theirs 10.01"
    assert same_result(SAME, MORE) == "7 orders, theirs 8"
    assert [same_tape(SAME, ALIKE), same_tape(SAME, OTHER)] == [None, "not the same tape"]


def test_a_filter_that_never_began_is_no_filter() -> None:
    """The row with regimes stands only if they were said to nearly every bar."""
    check = same_result_with_regimes(100)
    filtered, idle, plain = (ended({"orders": 7, "final_equity": "10.00", "facts": facts}) for facts in (291, 203, 200))
    assert check(filtered, plain) is None
    assert check(idle, plain) == "3 facts more, for 100 bars"


@pytest.mark.parametrize(
    ("theirs", "objection"),
    [
        ({"runs": 2, "best_equity": 12.004, "worst_equity": 8.0}, None),
        ({"runs": 3, "best_equity": 12.0, "worst_equity": 8.0}, "runs 2.00, theirs 3.00"),
        ({"runs": 2, "best_equity": 12.5, "worst_equity": 8.0}, "best equity 12.00, theirs 12.50"),
        ({"runs": 2, "best_equity": 12.0, "worst_equity": 7.0}, "worst equity 8.00, theirs 7.00"),
    ],
)
def test_a_sweep_is_compared_by_runs_best_and_worst(theirs: dict[str, object], objection: str | None) -> None:
    """A peer that skipped a pair, or ran one differently at either end, is not the same sweep."""
    ours = ended({"results": [{"final_equity": "8.00"}, {"final_equity": "12.00"}]})
    assert sweeps.same_extremes(ours, ended(theirs)) == objection


@pytest.mark.parametrize(
    ("busy", "text"),
    [((0.4, 0.9), "theirs on 1 core"), ((1.04,), "theirs on 1 core"), ((1.9, 1.2), "theirs on 2 cores")],
)
def test_a_sweeps_row_says_over_how_many_cores_the_other_side_ran(busy: tuple[float, ...], text: str) -> None:
    """Processor time over wall time, at its highest; a core that others shared is still one."""
    assert sweeps.cores_of(tuple(ended({"busy_cores": each}) for each in busy)) == text


# ---- bars --------------------------------------------------------------------------------------------------------


def test_repeated_bars_are_one_market_without_a_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forwards, backwards, forwards: every minute once, and where it turns a bar opens where the last one closed."""
    monkeypatch.setattr(bars, "CACHE", tmp_path)
    once = synthetic_bars(50, lambda _: None)
    first = pyarrow.parquet.read_table(once).to_pydict()
    long = pyarrow.parquet.read_table(repeated_bars(once, 120)).to_pydict()
    assert list(long) == ["ts", "open", "high", "low", "close", "volume"]
    assert [at - first["ts"][0] for at in long["ts"]] == [60_000 * minute for minute in range(120)]
    assert long["close"][:50] == first["close"]
    assert long["close"][50:100] == first["open"][::-1]
    assert long["open"][50:100] == first["close"][::-1]
    assert long["high"][50:100] == first["high"][::-1]
    assert long["close"][100:] == first["close"][:20]
    assert (long["open"][50], long["open"][100]) == (long["close"][49], long["close"][99])
    assert all(Decimal(str(low)) <= Decimal(str(high)) for low, high in zip(long["low"], long["high"], strict=True))
    assert not list(tmp_path.glob("*.partial"))


# ---- what is kept ------------------------------------------------------------------------------------------------


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The commands that compiling ran, in an empty cache and without peers."""
    commands: list[Sequence[str]] = []

    def ran(command: Sequence[str]) -> Ended:
        commands.append(command)
        return ended({})

    for module in (bars, kept_code, ours):
        monkeypatch.setattr(module, "CACHE", tmp_path)
    monkeypatch.setattr(kept_code, "run", ran)
    monkeypatch.setattr(kept_code, "installed", lambda _peer: Missing("no network"))
    return commands


def test_code_is_compiled_once(compiled: list[Sequence[str]]) -> None:
    """Blocks, blocks with limits and regimes, the kernel and the sweep, all on a few bars; and not again."""
    kept_code.compile_all(lambda _: None)
    assert [command[3] for command in compiled] == ["backtest", "backtest", "backtest", "sweep"]
    kept_code.compile_all(lambda _: None)
    assert len(compiled) == 4


def test_changed_code_is_compiled_again(compiled: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the first round after a change would pay for it."""
    kept_code.compile_all(lambda _: None)
    monkeypatch.setattr(kept_code, "code_version", lambda: "another")
    kept_code.compile_all(lambda _: None)
    assert len(compiled) == 8


def test_code_that_cannot_be_compiled_is_tried_again(
    compiled: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is stamped; the reason is told now and stands in a row later."""
    monkeypatch.setattr(kept_code, "run", lambda _command: Failed("ended with 1: no compiler"))
    told: list[str] = []
    kept_code.compile_all(told.append)
    assert told[-1] == "ended with 1: no compiler"
    assert not list(bars.CACHE.glob("compiled-for.txt"))


def test_the_floor_reads_every_column_in_every_pass(tmp_path: Path) -> None:
    """The sum proves it: nothing was skipped, or it would be no floor."""
    columns = {name: [float(at), 2.0] for at, name in enumerate(floor.COLUMNS)}
    path = tmp_path / "bars.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"ts": [0, 60_000], **columns}), path)
    done = run((sys.executable, "-m", "bench.floor", str(path), "3"))
    assert isinstance(done, Ended)
    assert done.said["total"] == sum(map(sum, columns.values())) * 3 + sum(range(5))
