"""``tapeline list-data``: what market data lies in a folder.

Exit code 4 means that there is no such folder, or nothing in it.
"""

from __future__ import annotations

from pathlib import Path

import click

from tapeline_common.commands_shared import as_json, fail, write_json
from tapeline_common.exits import EXIT_CONFIGURATION
from tapeline_lab.data.catalogue import FORMATS, Entry, entry_of, files_in
from tapeline_lab.data.kinds import DataKind
from tapeline_lab.data.printing import Lines, day_text, progress, size_text


@click.command("list-data")
@click.argument("folder", type=click.Path(path_type=Path), default=Path("."))
@click.option(
    "--kind", "kinds", multiple=True, type=click.Choice([kind.value for kind in DataKind]), help="Only these."
)
@click.option(
    "--instrument", "wanted", multiple=True, metavar="TEXT", help="Only instruments whose name has this in it."
)
@as_json
def list_data(folder: Path, kinds: tuple[str, ...], wanted: tuple[str, ...], to_json: bool) -> None:
    """List bars, trades, funding rates, books and quotes in a folder and below."""
    if not folder.is_dir():
        fail(f"{folder}: no such folder: name one with market data", EXIT_CONFIGURATION)
    paths = list(files_in(folder))
    shown = progress(len(paths), "files", quiet=to_json)
    entries = []
    for done, path in enumerate(paths, start=1):
        entries.append(entry_of(path))
        shown(done)
    if not entries:
        fail(f"{folder}: holds no {', '.join(FORMATS)} file: name a folder with market data", EXIT_CONFIGURATION)
    found = [entry for entry in entries if _is_wanted(entry, kinds, wanted)]
    if to_json:
        write_json(found)
    else:
        _print(found, folder)


def _is_wanted(entry: Entry, kinds: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    name = entry.instrument.upper()
    return (not kinds or entry.kind in kinds) and (not wanted or any(text.upper() in name for text in wanted))


def _print(entries: list[Entry], folder: Path) -> None:
    shown = Lines("Kind", "Instrument", "Timeframe", "-Rows", "First (UTC)", "Last (UTC)", "-Missing", "-Size", "File")
    for entry in entries:
        path = Path(entry.path).relative_to(folder)
        if entry.trouble:
            shown.add("unreadable", "", "", "", "", "", "", size_text(entry.bytes), str(path))
            continue
        shown.add(*_cells(entry), str(path))
    click.echo(shown.text())
    for entry in entries:
        if entry.trouble:
            click.echo(entry.trouble)
    click.echo(
        f"{len(entries):,} files, {size_text(sum(entry.bytes for entry in entries))}; missing: bars that a market"
        " which never closes would have (tapeline check-data knows calendars)"
    )


def _cells(entry: Entry) -> tuple[str, ...]:
    missing = "" if entry.missing_bars is None else f"{entry.missing_bars:,}"
    return (
        entry.kind.value,
        entry.instrument,
        entry.timeframe,
        f"{entry.rows:,}",
        day_text(entry.first_ns),
        day_text(entry.last_ns),
        missing,
        size_text(entry.bytes),
    )
