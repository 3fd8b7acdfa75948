"""``tapeline diff`` and ``tapeline fork``: options and endings. What they compute is in ``diff`` and ``forking``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from tapeline_common.commands_shared import as_json, fail
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_NOT_RUNNING, EXIT_OK, EXIT_TIMEOUT, EXIT_USAGE
from tapeline_common.operator_client import NotRunning
from tapeline_common.recording import RecordingFailed, RecordingRefused
from tapeline_common.servers import ServerFailed
from tapeline_common.settings import ConfigurationInvalid
from tapeline_common.tape import TapeUnavailable
from tapeline_common.tape_file import TapeDamaged, TapeFileUnreadable
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_lab.parity.changes import Change, configured, latest
from tapeline_lab.parity.edits import EditInvalid, added_at, configured_by, edited, edits_of
from tapeline_lab.parity.record import NoSession, Record, record_of
from tapeline_lab.parity.rerun import Ran, installed_gear
from tapeline_lab.parity.revisions import FileMisfits, instruments_of, revised_bars, revised_funding
from tapeline_lab.parity.runs import RunNotFound, read_run
from tapeline_marketdata.columns import BadFile

_set = click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="Such as risk.max_position=0.5.")


@contextmanager
def trouble_ends() -> Iterator[None]:
    """Expected trouble ends the command with one message and its exit code."""
    try:
        yield
    except (NoSession, RunNotFound, TapeFileUnreadable, BadFile, FileMisfits, ConfigurationInvalid) as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    except (EditInvalid, RecordingRefused) as trouble:
        fail(str(trouble), EXIT_USAGE)
    except NotRunning as trouble:
        fail(str(trouble), EXIT_NOT_RUNNING)
    except (TapeUnavailable, TimeoutError) as trouble:
        fail(f"the tape could not be read in time: {trouble}", EXIT_TIMEOUT)
    except (TapeDamaged, ServerFailed, RecordingFailed) as trouble:
        fail(str(trouble), EXIT_ERROR)


@click.command("diff")
@click.argument("run")
@click.option("--data", "data", multiple=True, help="File of the bars as they are published today; may be repeated.")
@click.option("--instrument", "names", multiple=True, help="Name such as BTC/USDT for each --data, in order.")
@click.option("--funding", help="File of the first instrument's funding rates as they are published today.")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="Run the session under this tapeline.toml.")
@_set
@click.option("--slippage-ticks", type=click.IntRange(min=0), default=0, help="Ticks that takers pay on top.")
@click.option("--latency-ms", type=click.IntRange(min=0), help="How long an order is on its way to the venue.")
@click.option("--lock-step", is_flag=True, help="Answer at once, as a backtest does, not when the session did.")
@click.option("--without-control", is_flag=True, help="Leave the operator's halts, resumes and the like out.")
@click.option("--refit", is_flag=True, help="Fit models again instead of taking them from the record.")
@click.option("--since", metavar="POSITION|TIME", help="Take what was before as recorded, compare from here on.")
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Differences to show.")
@as_json
def diff_command(run: str, since: str | None, limit: int, to_json: bool, **call: Any) -> None:
    """Explain every gap between a recorded session and today's code; exit code 1 if there is one.

    RUN is a tape file, the data folder of a running or stopped stack, or a postgresql:// address.
    """
    from tapeline_lab.parity.diff import Switches, diff
    from tapeline_lab.parity.diff_report import print_report, report_of

    with trouble_ends():
        record = record_of(read_run(run))
        switches = Switches(
            _changes(record, since, call),
            lock_step=call["lock_step"],
            refit=call["refit"],
            since=1 if since is None else position_of(record, since),
        )
        found = diff(record, installed_gear(), switches, _progress())
    report = report_of(run, record, found, limit)
    if to_json:
        click.echo(msgspec.json.encode(report))
    else:
        print_report(report, limit)
    sys.exit(EXIT_OK if found.is_same else EXIT_ERROR)


def _changes(record: Record, since: str | None, call: dict[str, Any]) -> list[Change]:
    """Everything that the options put in the place of recorded facts."""
    current = latest(configured(record))
    if call["config"] is not None and since is not None:
        raise EditInvalid("--config holds from the first fact on, --since leaves what was before alone: give one")
    if call["config"] is not None:
        if call["sets"] or call["slippage_ticks"] or call["latency_ms"] is not None:
            raise EditInvalid("--config says everything that --set, --slippage-ticks and --latency-ms could: give one")
        changes = configured_by(record, call["config"])
    else:
        changes = edited(record, edits_of(current, call["sets"], call["slippage_ticks"], call["latency_ms"]))
    for instrument, path in instruments_of(record, call["data"], call["names"]):
        changes += revised_bars(record, instrument, path)
    if call["funding"] is not None:
        for instrument, path in instruments_of(record, [call["funding"]], call["names"][:1]):
            changes += revised_funding(record, instrument, path)
    if call["without_control"]:
        changes += without_control(record)
    return changes


def without_control(record: Record) -> list[Change]:
    """Leave out what the operator did, the configuration and money excepted."""
    from tapeline_common.opening import CONFIGURATION
    from tapeline_lab.parity.causes import OF_INPUT, Cause

    return [
        Change(saying.at, saying.author, saying.id, saying.time_ns, saying.event, None)
        for saying in record.outside()
        if OF_INPUT[type(saying.event)] is Cause.CONTROL and not isinstance(saying.event, CONFIGURATION)
    ]


def position_of(record: Record, text: str) -> int:
    """A position, or the first one at or after a UTC time. Raises ``EditInvalid``."""
    if text.isdecimal() and 1 <= int(text) <= record.head:
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as fault:
        message = f"{text} is no position from 1 to {record.head} and no time such as 2026-11-21T09:30"
        raise EditInvalid(message) from fault
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    time_ns = int(moment.timestamp() * 1_000_000) * 1_000
    found = next((fact.pos for fact in record.facts if not fact.cause and fact.time_ns >= time_ns), None)
    if found is None:
        raise EditInvalid(f"nothing was recorded at or after {text}")
    return found


def _progress() -> Callable[[str], None]:
    """Says on a terminal which run is under way; nothing where a program or a file takes standard error."""
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda what: click.echo(f"running the session: {what}", err=True)


@click.command("fork")
@click.argument("run")
@click.option("--at", "at", required=True, metavar="POSITION|TIME", help="Change the configuration after this.")
@_set
@click.option("--slippage-ticks", type=click.IntRange(min=0), default=0, help="Ticks that takers pay on top.")
@click.option("--latency-ms", type=click.IntRange(min=0), help="How long an order is on its way to the venue.")
@click.option("--until", metavar="POSITION|TIME", help="Follow both sides up to here; else to the end.")
@click.option("--record", "place", type=click.Path(path_type=Path, dir_okay=False), help="Keep the fork: FILE.tape.")
@click.option("--force", is_flag=True, help="With --record: replace a tape file.")
@as_json
def fork_command(
    run: str, at: str, sets: tuple[str, ...], slippage_ticks: int, latency_ms: int | None, until: str | None,
    place: Path | None, force: bool, to_json: bool,
) -> None:  # fmt: skip
    """What if: go on from a position of a recorded session under another configuration.

    RUN is a tape file, the data folder of a running or stopped stack, or a postgresql:// address. It is not changed.
    """
    from tapeline_lab.parity.fork_report import as_plain, encoded, print_fork
    from tapeline_lab.parity.forking import fork

    with trouble_ends():
        record = record_of(read_run(run))
        start = record.end_of_answer(position_of(record, at))
        end = record.head if until is None else position_of(record, until)
        if end <= start:
            raise EditInvalid(f"--until {until} is not after --at {at}: name a later position")
        edits = edits_of(latest(configured(record, start)), sets, slippage_ticks, latency_ms)
        if not edits:
            raise EditInvalid("nothing is changed: give --set KEY=VALUE, --slippage-ticks or --latency-ms")
        found = fork(record, installed_gear(), start, added_at(record, edits, start), end)
        if place is not None:
            _keep(found.tape, place, force)
    said = (*sets, *([f"slippage-ticks={slippage_ticks}"] if slippage_ticks else []))
    said += () if latency_ms is None else (f"latency-ms={latency_ms}",)
    if to_json:
        click.echo(encoded(as_plain(run, said, found, None if place is None else str(place))))
    else:
        print_fork(run, said, found, None if place is None else str(place))


def _keep(ran: Ran, place: Path, force: bool) -> None:
    if place.suffix != ".tape":
        raise RecordingRefused(f"--record {place}: name a file that ends in .tape")
    with TapeWriter(place, replace=force) as writer:
        for recorded in ran.recorded:
            writer.take(recorded)
