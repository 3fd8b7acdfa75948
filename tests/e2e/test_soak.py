"""A small dose of the soak: the whole way from a running stack to a verdict."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(600)]


def test_two_minutes_find_every_program_and_say_how_little_they_know() -> None:
    """Each process is judged with an error, the lag after the burst is measured, and the chain verifies."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--minutes", "2", "--json"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode in (0, 1), done.stderr
    report = msgspec.json.decode(done.stdout)
    assert (report["faults"] == []) == (done.returncode == 0)
    assert not [fault for fault in report["faults"] if "exit code" in fault or "started again" in fault]
    found = {finding["program"]: finding for finding in report["findings"]}
    assert {"ledger", "risk", "marketdata", "nats-server", "postgres", "supervisor"} <= set(found)
    assert report["facts"] > 100
    assert found["risk"]["unexplained"]["low"] <= found["risk"]["unexplained"]["high"]
