"""``tapeline notify --test | notifications``: whether messengers work, and what people were told."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from tapeline_common.commands_shared import as_json, data_folder, fail, write_json
from tapeline_common.destinations import DESTINATIONS_NAME, NO_DESTINATIONS, Destination, load_destinations
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_USAGE
from tapeline_common.permissions import NOTIFIER
from tapeline_notifier.journal import Entry, joined, read_entries
from tapeline_notifier.message import Kind, Severity, message
from tapeline_notifier.messenger import HINT, AppriseMessenger, Attempt, Outcome


@click.command()
@data_folder
@click.option("--test", "is_test", is_flag=True, help="Send a test message to each destination.")
@click.option(
    "--destinations",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="TAPELINE_DESTINATIONS_FILE",
    help=f"Who is told [default: {DESTINATIONS_NAME} in the data folder].",
)
@as_json
def notify(data: Path, is_test: bool, destinations: Path | None, to_json: bool) -> None:
    """Try the messengers out: does a test message arrive? Needs no running stack."""
    if not is_test:
        fail("nothing to send: use --test for a test message to each destination", EXIT_USAGE)
    file = destinations or data / DESTINATIONS_NAME
    found = load_destinations(file)
    if not found:
        fail(NO_DESTINATIONS.format(file=file), EXIT_CONFIGURATION)
    attempts = asyncio.run(_try_all(found))
    if to_json:
        write_json(
            [
                {"destination": one.name, "outcome": attempt.outcome, "status": attempt.status}
                for one, attempt in zip(found, attempts, strict=True)
            ]
        )
    else:
        for one, attempt in zip(found, attempts, strict=True):
            hint = HINT.get(attempt.outcome, "")
            click.echo(f"{one.name}: {attempt}" + (f"; {hint}" if hint else ""))
    sys.exit(0 if all(attempt.outcome is Outcome.SENT for attempt in attempts) else EXIT_ERROR)


async def _try_all(found: Sequence[Destination]) -> list[Attempt]:
    messengers = [AppriseMessenger(index, one) for index, one in enumerate(found)]
    told = message(
        Kind.CONTROL,
        Severity.INFO,
        "Tapeline: a test message",
        "If you can read this, notifications reach you.",
        time_ns=time.time_ns(),  # noqa: TID251  (dates a test message)
    )
    return list(await asyncio.gather(*(one.send(told) for one in messengers)))


@click.command()
@data_folder
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TAPELINE_NOTIFIER_FOLDER",
    help=f"Where the notifier keeps its files [default: {NOTIFIER} in the data folder].",
)
@click.option("-n", "--lines", default=20, show_default=True, type=click.IntRange(min=1), help="Messages to print.")
@as_json
def notifications(data: Path, folder: Path | None, lines: int, to_json: bool) -> None:
    """Print the latest messages, and whether they were delivered. Needs no running stack."""
    place = folder or data / NOTIFIER
    if not place.is_dir():
        fail(f"no notifications in {place}: a stack writes them there once it has run", EXIT_ERROR)
    found = joined(read_entries(place), lines)
    if to_json:
        write_json(found)
    else:
        for entry in found:
            click.echo(_shown(entry))


def _shown(entry: Entry) -> str:
    """The title on one line with its circumstances, the text below it."""
    assert entry.kind is not None
    assert entry.severity is not None
    position = f" [{entry.position}]" if entry.position else ""
    went = ", ".join(f"{name} {outcome}" for name, outcome in entry.deliveries.items())
    first = f"{entry.time} {entry.kind.value:<7} {entry.severity.value:<6} {entry.title}{position}"
    text = "".join(f"\n    {line}" for line in entry.text.splitlines())
    return first + (f" ({went})" if went else "") + text
