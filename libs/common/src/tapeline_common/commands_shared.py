"""Options and endings that all commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

data_folder = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".tapeline"),
    show_default=True,
    help="Data folder of the stack.",
)
tape_option = click.option(
    "--tape",
    "tape_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Read this tape file (of `backtest --record`) instead of a running stack.",
)
as_json = click.option("--json", "to_json", is_flag=True, help="Print one JSON value, for programs.")


def fail(message: str, code: int) -> NoReturn:
    """End the command with one message on standard error."""
    click.echo(message, err=True)
    sys.exit(code)


def counted_line(what: str) -> Callable[[int, int], None] | None:
    """A line that counts up and is overwritten on a terminal; nothing where a program or a file takes standard error.

    It is told how many of how many are done.
    """
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        click.echo(f"\r{done:>12,} of {total:,} {what}", nl=done >= total, err=True)

    return show


def time_text(time_ns: int) -> str:
    """UTC time of a stamp, to the millisecond."""
    from datetime import UTC, datetime

    moment = datetime.fromtimestamp(time_ns / 1e9, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{time_ns // 1_000_000 % 1000:03d}"


def write_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.encode(value))
