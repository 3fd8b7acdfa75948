"""``tapeline check-data``: whether files of market data are fit to decide on.

Exit code 0: nothing, or only warnings; 1: at least one error (with ``--strict``, or warning); 2: the call is wrong;
4: a file or folder is not there, or the calendar is not known.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec

from tapeline_common.calendars import ALWAYS
from tapeline_common.commands_shared import as_json, fail, write_json
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR
from tapeline_common.settings import ConfigurationInvalid
from tapeline_lab.data.catalogue import FORMATS, files_in
from tapeline_lab.data.checking import Rules, check_file, hours_of_calendar
from tapeline_lab.data.flaws import Checked, Severity
from tapeline_lab.data.kinds import DataKind
from tapeline_lab.data.oddities import Thresholds
from tapeline_lab.data.printing import Lines, day_text, progress
from tapeline_marketdata.timeframe import UnknownTimeframe, parse_timeframe

NOT_CHECKED = (DataKind.QUOTES, DataKind.OTHER)


class Judged(msgspec.Struct, frozen=True):
    """What ``--json`` prints."""

    files: list[Checked]
    errors: int
    warnings: int


@click.command("check-data")
@click.argument("places", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--calendar", default=ALWAYS, show_default=True, help="When the market trades: 24/7, 24/5, XNYS.")
@click.option("-i", "--timeframe", help="Length of the bars, where it cannot be told from them.")
@click.option(
    "--against", type=click.Path(path_type=Path), help="Another file of the same bars, to compare prices with."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0.0, min_open=False),
    default=0.001,
    show_default=True,
    help="How far prices may be from --against, as a fraction.",
)
@click.option("--spot", type=click.Path(path_type=Path), help="File of ts and values known from elsewhere.")
@click.option("--spike", type=click.FloatRange(1.0), default=25.0, show_default=True, help="Usual moves to a spike.")
@click.option("--stale", type=click.IntRange(2), default=20, show_default=True, help="Equal bars that are told.")
@click.option("--strict", is_flag=True, help="Warnings end with exit code 1 as well.")
@as_json
def check_data(
    places: tuple[Path, ...],
    calendar: str,
    timeframe: str | None,
    against: Path | None,
    tolerance: float,
    spot: Path | None,
    spike: float,
    stale: int,
    strict: bool,
    to_json: bool,
) -> None:
    """Check files of market data, or all of them in a folder: faults with their rows, and an exit code."""
    rules = Rules(
        now_ns=time.time_ns(),  # noqa: TID251  (what is later has not happened yet; nothing is decided by it)
        calendar=calendar,
        timeframe=timeframe,
        against=against,
        tolerance=tolerance,
        spots=spot,
        thresholds=Thresholds(spike, stale),
    )
    paths = _paths(places)
    if len(paths) > 1 and (against is not None or spot is not None):
        raise click.UsageError("--against and --spot are for one file: name it alone")
    try:
        hours_of_calendar(calendar)
        if timeframe is not None:
            parse_timeframe(timeframe)
    except (ConfigurationInvalid, UnknownTimeframe) as trouble:
        fail(str(trouble).replace("key instrument[0].calendar", "--calendar"), EXIT_CONFIGURATION)
    shown, found = progress(len(paths), "files", quiet=to_json), []
    for done, path in enumerate(paths, start=1):
        found.append(check_file(path, rules))
        shown(done)
    judged = Judged(found, sum(one.errors for one in found), sum(one.warnings for one in found))
    if to_json:
        write_json(judged)
    else:
        _print(judged)
    if judged.errors or (strict and judged.warnings):
        sys.exit(EXIT_ERROR)


def _paths(places: tuple[Path, ...]) -> list[Path]:
    found: list[Path] = []
    for place in places:
        if not place.exists():
            fail(f"{place}: no such file or folder: name files of market data", EXIT_CONFIGURATION)
        found += files_in(place) if place.is_dir() else [place]
    if not found:
        fail(f"{', '.join(map(str, places))}: no {', '.join(FORMATS)} file in it", EXIT_CONFIGURATION)
    return list(dict.fromkeys(found))


def _print(judged: Judged) -> None:
    for one in judged.files:
        said = ", ".join(part for part in (one.kind.value, one.timeframe, f"{one.rows:,} rows") if part)
        state = "clean" if one.kind not in NOT_CHECKED else "not checked"
        if one.findings:
            state = f"{one.errors} kinds of error, {one.warnings} of warning"
        click.echo(f"{one.path}: {said}: {state}")
        for note in one.notes:
            click.echo(f"    {note}")
        if one.findings:
            click.echo(_table(one))
    click.echo(f"{len(judged.files):,} files: {judged.errors:,} kinds of error, {judged.warnings:,} of warning")


def _table(one: Checked) -> str:
    lines = Lines("    ", "What", "-Count", "-First row", "First (UTC)", "-Last row", "Last (UTC)", "The first of them")
    for finding in one.findings:
        mark = "    ERROR" if finding.severity is Severity.ERROR else "    warning"
        lines.add(
            mark,
            finding.flaw.value,
            f"{finding.count:,}",
            f"{finding.first_row:,}" if finding.first_row else "",
            day_text(finding.first_ns or None),
            f"{finding.last_row:,}" if finding.last_row else "",
            day_text(finding.last_ns or None),
            finding.detail,
        )
    return lines.text()
