"""Shared by tests of recorded data: small clean files of bars, and the one thing that is then broken in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner, Result

FIRST_NS = 1_704_067_200 * 10**9
"""2024-01-01, a Monday."""

MINUTE_NS = 60 * 10**9

Row = list[str]


def rows(count: int, step_ns: int = MINUTE_NS) -> list[Row]:
    """ts, open, high, low, close, volume: a price that wanders by hundredths, exact in decimals."""
    made = []
    last = 10_000
    for index in range(count):
        close = last + (index * 7919) % 13 - 6
        high, low = max(last, close) + 3, min(last, close) - 2
        made.append(
            [str(FIRST_NS + index * step_ns), *(_hundredths(value) for value in (last, high, low, close)), "1.250"]
        )
        last = close
    return made


def _hundredths(value: int) -> str:
    return f"{value // 100}.{value % 100:02d}"


def write_csv(path: Path, content: list[Row], header: str = "ts,open,high,low,close,volume") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in content)]) + "\n", encoding="utf-8")
    return path


def broken_csv(path: Path, change: Callable[[list[Row]], None], count: int = 200) -> Path:
    """A clean file but for one change."""
    content = rows(count)
    change(content)
    return write_csv(path, content)


def invoke(command: object, *arguments: object) -> Result:
    """A command in this process."""
    return CliRunner().invoke(command, [str(each) for each in arguments])  # type: ignore[arg-type]
