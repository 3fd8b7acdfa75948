"""A replay over the wire whose processes are killed ends with a message, and run again it ends with the same tape."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import urllib.request
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from tests.backtesting import EMA, backtest, synthetic_file, tapeline

from tapeline_common.servers import until

pytestmark = [pytest.mark.servers, pytest.mark.slow]

BARS = 30_000
SAME = ("orders", "fills", "trades", "fees", "final_equity", "facts", "tape_hash")


def recorded(folder: Path) -> float:
    """Facts on the tape of a running replay, as its ledger's metrics have it; 0 while it is not up."""
    try:
        port = json.loads((folder / "running.json").read_bytes())["metrics"]["ledger"]
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        return 0.0
    found = re.search(r"^tapeline_position\{.*\} (\S+)", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def killed_midway(call: list[str], folder: Path, victim: str) -> tuple[int | None, str, str]:
    """Start a replay and kill one of its processes once some of its facts are recorded: exit code, output, errors."""
    replay = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tapeline_common.cli", *call), stdout=PIPE, stderr=PIPE
    )
    assert await until(lambda: recorded(folder) > 1_000 or replay.returncode is not None, 60)
    assert replay.returncode is None, "the replay was over before anything was killed: give it more bars"
    os.kill(json.loads((folder / "running.json").read_bytes())["services"][victim], signal.SIGKILL)
    output, trouble = await asyncio.wait_for(replay.communicate(), 60)
    return replay.returncode, output.decode(), trouble.decode()


@pytest.mark.parametrize("victim", ["risk", "ledger"])
async def test_a_killed_replay_says_so_and_is_finished_by_the_next_one(tmp_path: Path, victim: str) -> None:
    """kill -9 of a process: exit code 1 and a message that names it. Run again on the same log: the loop's very tape.
    Another replay on that log is refused."""
    file = synthetic_file(tmp_path / "BTCUSD_sim.parquet", BARS)
    folder = tmp_path / "servers"
    call = [*EMA, "--fee", "0.001", "--data", str(file)]
    wire = [*call, "--gear", "wire", "--folder", str(folder)]

    code, output, trouble = await killed_midway(["backtest", *wire, "--json"], folder, victim)
    assert (code, output) == (1, "")
    assert re.fullmatch(rf"{victim} stopped during the replay.*; run it again\n", trouble)

    loop, again = backtest(*call), backtest(*wire)
    assert {name: again[name] for name in SAME} == {name: loop[name] for name in SAME}

    other = tapeline("backtest", *wire, "--slippage-bps", "5", "--json")
    assert other.returncode == 1
    assert re.search(r"what is decided now is not what is recorded here up to position \d+", other.stderr)
