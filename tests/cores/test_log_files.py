"""Logs are moved aside while somebody writes them: small files, and no line lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tapeline_common.log_files import aside, rotate, rotate_if_large

WRITER = """
import asyncio, sys
from pathlib import Path
from tapeline_common import log_files

log_files.LOOK_S = 0.001

async def main():
    following = asyncio.create_task(log_files.follow_name(Path(sys.argv[1])))
    for line in sys.stdin:
        print(line.rstrip(), "x" * 100, file=sys.stderr, flush=True)
        print(file=sys.stdout, flush=True)
        await asyncio.sleep(0.001)
    following.cancel()

asyncio.run(main())
"""


def test_no_line_is_lost_while_files_are_moved(tmp_path: Path) -> None:
    """A process writes on while its file is moved again and again: all files together hold every line, in order."""
    log = tmp_path / "risk.log"
    with log.open("ab") as output:
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(log)], stdin=subprocess.PIPE, stdout=output, stderr=output, text=True
        )
    assert writer.stdin is not None
    writer.stdin.write("".join(f"{number}\n" for number in range(600)))
    writer.stdin.close()
    moved = 0
    while writer.poll() is None:
        moved += rotate_if_large(log, 2_000, 1_000)
    assert writer.returncode == 0
    files = [aside(log, number) for number in range(moved, 0, -1)]
    lines = "".join(path.read_text() for path in [*files, log] if path.exists()).split()
    assert [word for word in lines if word.isdecimal()] == [str(number) for number in range(600)]
    assert moved > 5


def test_only_so_many_are_kept_and_the_latest_has_number_one(tmp_path: Path) -> None:
    """Each move shifts the others; what is beyond the number goes."""
    log = tmp_path / "risk.log"
    for word in ("first", "second", "third", "fourth"):
        log.write_text(word)
        rotate(log, 2)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "risk.log.1": "fourth",
        "risk.log.2": "third",
    }


def test_a_small_log_and_a_missing_one_stay(tmp_path: Path) -> None:
    """Nothing is moved at the limit, and nothing is made."""
    log = tmp_path / "risk.log"
    assert not rotate_if_large(log, 10, 2)
    log.write_text("0123456789")
    assert not rotate_if_large(log, 10, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["risk.log"]
    assert rotate_if_large(log, 9, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["risk.log.1"]
