"""Shared by tests of studies: a Python strategy that only the loop gear runs, and studies without a command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, ClassVar

from click.testing import CliRunner
from tests.backtesting import tapeline, write_bars

from tapeline_common.events import StudyOpened, TrialFinished
from tapeline_common.tape_file import TapeFile
from tapeline_common.tape_file_verify import verify_file
from tapeline_common.wire import decode_fact
from tapeline_lab.search.record import TAPE
from tapeline_lab.search.sweep_command import sweep_command
from tapeline_marketdata.files import read_bars
from tapeline_strategy.catalogue import add
from tapeline_strategy.sdk import Bar, Parameter, from_class

COLUMNS = ("open", "high", "low", "close", "volume")
COSTS = ("--fee", "0.001", "--slippage-bps", "1.5", "--size", "0.5")


class Momentum:
    """Long after a rise over some bars; raises in its hundredth bar if it is told to."""

    name: ClassVar[str] = "test_momentum"
    description: ClassVar[str] = "Long while the close is above that of some bars before."
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("bars", int, 10, 1, 500, "how far back"),
        Parameter("breaks", bool, False, 0, 1, "whether it raises"),
    )

    def __init__(self, bars: int, breaks: bool) -> None:
        self.bars = bars
        self.breaks = breaks
        self.closes: list[float] = []

    def on_bar(self, bar: Bar) -> float:
        self.closes.append(bar.close)
        if self.breaks and len(self.closes) == 100:
            raise ZeroDivisionError("the hundredth bar")
        if len(self.closes) <= self.bars:
            return float("nan")
        return 1.0 if bar.close > self.closes[-1 - self.bars] else 0.0


MOMENTUM = from_class(Momentum)
add(MOMENTUM)


def as_hours(minutes: Path, path: Path, changed: tuple[int, float] | None = None) -> Path:
    """A file of minutes told as hours. changed: from which row on prices are how many times as high."""
    columns = read_bars(minutes).columns
    rows = list(zip(*(getattr(columns, name).tolist() for name in COLUMNS), strict=True))
    row, factor = changed or (len(rows), 1.0)
    factors = [factor if index >= row else 1.0 for index in range(len(rows))]
    return write_bars(
        path,
        [
            (1_704_067_200_000 + 3_600_000 * index, *(price * times for price in prices), volume)
            for index, ((*prices, volume), times) in enumerate(zip(rows, factors, strict=True))
        ],
    )


def swept(*arguments: str, strategy: str = "ema_cross") -> dict[str, Any]:
    """The JSON object of a sweep in this process that must succeed."""
    done = CliRunner().invoke(sweep_command, ["-s", strategy, *arguments, "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def in_process(*arguments: str, timeout_s: float = 170) -> subprocess.CompletedProcess[str]:
    """A sweep in a process of its own."""
    return tapeline("sweep", "-s", "ema_cross", *arguments, timeout_s=timeout_s)


def facts_of(folder: Path) -> list[Any]:
    """Every event on a study's tape, which must be whole."""
    assert verify_file(folder / TAPE).fault is None
    with TapeFile(folder / TAPE) as tape:
        return [decode_fact(line).event for index in range(len(tape.segments)) for line in tape.lines(index)]


def opened_of(folder: Path) -> StudyOpened:
    opened = facts_of(folder)[0]
    assert isinstance(opened, StudyOpened)
    return opened


def trials_of(folder: Path) -> list[TrialFinished]:
    return [fact for fact in facts_of(folder) if isinstance(fact, TrialFinished)]
