"""How far a command has come: one line on a terminal, with the time left, that is written over."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeAlias

import click

Progress: TypeAlias = Callable[[int, int], None]
"""Called with what is done and how much there is, as far as that is known."""

SHOWN_EVERY_S = 0.1


def time_left(what: str = "runs", title: str = "") -> Progress | None:
    """Says "done of total ``what``" after ``title``; ``None`` where a program or a file takes standard error."""
    if not sys.stderr.isatty():
        return None
    started_s = shown_s = time.monotonic()
    before: int | None = None

    def show(done: int, total: int) -> None:
        nonlocal shown_s, before
        now_s = time.monotonic()
        if before is None:
            before = done - 1
        if done < total and now_s - shown_s < SHOWN_EVERY_S:
            return
        shown_s = now_s
        left = _left(done - before, total - done, now_s - started_s)
        click.echo(f"\r{title}{done:>12,} of {total:,} {what}{left}", nl=done >= total, err=True)

    return show


def _left(done: int, left: int, elapsed_s: float) -> str:
    """How much longer it takes if it goes on like this; blanks over what was said before at the end."""
    if done <= 0 or left <= 0:
        return " " * 24
    seconds = round(left * elapsed_s / done)
    hours, minutes = divmod(seconds // 60, 60)
    return f", {hours}:{minutes:02}:{seconds % 60:02} left    "
