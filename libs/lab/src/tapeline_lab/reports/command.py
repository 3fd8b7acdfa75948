"""``tapeline report``: the long report of a recorded run, of a backtest, of paper or of live trading alike.

Exit codes are the shared ones: 2 the call is wrong, 3 nothing runs, 4 the tape cannot be used, 5 no answer in time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from tapeline_backtest.session import Session
from tapeline_backtest.session_reading import NothingRecorded, read_session
from tapeline_common.commands_shared import as_json, counted_line, fail, write_json
from tapeline_common.exits import (
    EXIT_CONFIGURATION,
    EXIT_ERROR,
    EXIT_NOT_RUNNING,
    EXIT_TIMEOUT,
    EXIT_USAGE,
)
from tapeline_common.operator_client import NotRunning
from tapeline_common.servers import ServerFailed
from tapeline_common.tape import TapeUnavailable
from tapeline_common.tape_file import TapeDamaged, TapeFileUnreadable
from tapeline_common.tape_pages import ChainBroken
from tapeline_lab.reports.breakdown import Period
from tapeline_lab.reports.source import RunNotFound, tape_of

INTERRUPTED = 130
"""What a shell expects of a command that Ctrl-C ended."""

FULL = (Period.MONTH, Period.YEAR, Period.WEEKDAY)
"""What the page and ``report.json`` tell apart when nothing else is asked for."""


@click.command("report")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--live", is_flag=True, help="Report on the stack that runs on --data, up to now.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".tapeline"),
    show_default=True,
    help="With --live: data folder of the stack.",
)
@click.option(
    "--breakdown",
    "periods",
    multiple=True,
    type=click.Choice([period.value for period in Period]),
    help="A table by day, week, month, year or weekday; repeatable.",
)
@click.option(
    "--study",
    "studies",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a study that this run came from, a search or a walk-forward; repeatable.",
)
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), help="Write page and files here.")
@as_json
def report_command(
    run: Path | None,
    live: bool,
    data: Path,
    periods: tuple[str, ...],
    studies: tuple[Path, ...],
    folder: Path | None,
    to_json: bool,
) -> None:
    """Report on RUN: a .tape file, a folder of `backtest --record`, or the data folder of a stack."""
    if (run is None) is not live:
        fail("name a RUN, or --live for the stack that runs: one of them", EXIT_USAGE)
    session = read_run(run, data)
    from tapeline_lab.reports.judgement import StudyUnusable, judge
    from tapeline_lab.reports.metrics import daily
    from tapeline_lab.reports.view import view

    asked = [Period(period) for period in periods]
    try:
        judged = judge(session, daily(session), studies, is_drawn=folder is not None)
    except StudyUnusable as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    found = view(
        session, [*asked, *(FULL if folder is not None else ())], judged.verdict, judged.grid, judged.intervals
    )
    written: list[str] = []
    if folder is not None:
        from tapeline_lab.reports.artefacts import write_artefacts

        try:
            written = write_artefacts(folder, found, judged.extras)
        except OSError as trouble:
            fail(f"--to {folder} cannot be written ({trouble.strerror}): name a folder of yours", EXIT_ERROR)
    if to_json:
        write_json(found.document)
        return
    from tapeline_lab.reports.console import print_document

    shown = {period.value for period in asked}
    print_document(found.document, shown)
    for path in written:
        click.echo(f"wrote {path}")


def read_run(run: Path | None, data: Path) -> Session:
    """The session of a run, or of the stack on ``data``; expected trouble ends the command with one message."""

    async def reading() -> Session:
        async with tape_of(run, data) as (tape, _place):
            return await read_session(tape, progress=counted_line("facts"))

    try:
        return asyncio.run(reading())
    except NotRunning as trouble:
        fail(str(trouble), EXIT_NOT_RUNNING)
    except (RunNotFound, TapeFileUnreadable, NothingRecorded) as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    except (TapeDamaged, ChainBroken, ServerFailed) as trouble:
        fail(str(trouble), EXIT_ERROR)
    except (TapeUnavailable, TimeoutError) as trouble:
        fail(f"the ledger did not answer in time: {trouble}", EXIT_TIMEOUT)
    except KeyboardInterrupt:
        fail("interrupted: nothing was written", INTERRUPTED)
