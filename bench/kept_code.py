"""Compiles what a machine compiles once, before anything is measured: no round pays for it, ours or theirs.

Done again when our code has changed; a stamp below ``.bench/`` says for which code it was done.
"""

from __future__ import annotations

from collections.abc import Callable

from bench.bars import synthetic_bars
from bench.environments import CACHE, VECTORBT, Missing, installed
from bench.ours import backtest, configured_backtest, limits_and_regimes, peer_command, sweep
from bench.processes import Failed, run
from bench.race import YEAR
from tapeline_common.version import code_version

FEW_BARS = 2_000

Say = Callable[[str], None]


def compile_all(say: Say) -> None:
    stamp = CACHE / "compiled-for.txt"
    if stamp.is_file() and stamp.read_text() == code_version():
        return
    few = synthetic_bars(FEW_BARS, say)
    commands = (
        backtest(few, YEAR, "--blocks"),
        configured_backtest(few, limits_and_regimes(), "--blocks"),
        backtest(few, YEAR, "--gear", "kernel"),
        sweep(few, *map(str, YEAR)),
        peer_command(VECTORBT, installed(VECTORBT), few, *map(str, YEAR), "1"),
    )
    say("compiling, once for this code")
    for command in commands:
        if isinstance(command, Missing):
            continue
        ended = run(command)
        if isinstance(ended, Failed):  # measured again below, where the reason belongs to a row
            say(ended.reason)
            return
    stamp.write_text(code_version())
