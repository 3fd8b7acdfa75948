"""Programs as a user starts them: what they print, the time of the whole process, and its own peak memory.

Each runs below a launcher of its own (``bench.launcher``) in a process group of its own. One that fails, hangs or says
nothing is a value with the reason: the other measurements go on.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from bench.environments import ROOT

LAUNCHER = Path(__file__).with_name("launcher.py")

PATIENCE_S = 600.0
"""The longest program here takes a minute on a busy machine."""

GRACE_S = 20.0
"""For a program that is asked to end: it may have servers to stop."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that did its work.

    Attributes:
        said: the last line of its standard output, one JSON object.
        process_s: from its start to its end, imports included.
        peak_mib: largest resident memory of the process.
    """

    said: dict[str, Any]
    process_s: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A program that did not do its work."""

    reason: str


def run(command: Sequence[str], patience_s: float = PATIENCE_S) -> Ended | Failed:
    """Run a program to its end, which comes after ``patience_s`` at the latest."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        taken = _launched(command, patience_s, out, errors)
        if taken is None:
            return Failed(f"not done within {patience_s:g} s")
        code, process_s, peak_bytes = taken
        if code:
            return Failed(f"ended with {code}: {_last_line(errors) or 'no message'}")
        try:
            said = msgspec.json.decode(_last_line(out), type=dict[str, Any])
        except msgspec.MsgspecError:
            return Failed("its last line is no JSON object")
        return Ended(said, process_s, peak_bytes / 2**20)


def _launched(
    command: Sequence[str], patience_s: float, out: IO[bytes], errors: IO[bytes]
) -> tuple[int, float, int] | None:
    """Exit code, seconds and peak in bytes; ``None`` for a program that had to be ended."""
    reading, writing = os.pipe()
    with open(reading, "rb") as told:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), str(writing), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                cwd=ROOT,
                pass_fds=(writing,),
                start_new_session=True,
            )
        finally:
            os.close(writing)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)
        code, process_s, peak_bytes = told.readline().split() or (b"1", b"0", b"0")
        return int(code), float(process_s), int(peak_bytes)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing running, whether time ran out or somebody pressed Ctrl-C."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _last_line(stream: IO[bytes]) -> str:
    stream.seek(0)
    lines = stream.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
