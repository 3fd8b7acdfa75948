"""``tapeline tail | show | why``: reading the tape of a running stack, or a tape file without any.

``why`` walks from a fact to the outside fact at its root, and from there to everything that followed: the answer to
"why did it (not) trade?".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from tapeline_common.commands_shared import as_json, data_folder, fail, tape_option, time_text
from tapeline_common.events import EVENT_BY_NAME
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_NOT_RUNNING, EXIT_TIMEOUT, EXIT_USAGE
from tapeline_common.operator_client import NotRunning, OperatorClient, operator
from tapeline_common.tape import ReadRequest, TapeReader, TapeUnavailable
from tapeline_common.wire import Fact, decode_fact

CHAIN_FACTS = 5_000
"""How far after a root its consequences are looked for; a chain ends within a few facts."""


def with_operator(folder: Path, work: Callable[[OperatorClient], Awaitable[None]]) -> None:
    """Run ``work`` against the running stack; trouble ends the command with its exit code."""

    async def connected() -> None:
        async with operator(folder) as client:
            await work(client)

    try:
        asyncio.run(connected())
    except NotRunning as trouble:
        fail(str(trouble), EXIT_NOT_RUNNING)
    except (TapeUnavailable, TimeoutError) as trouble:
        fail(f"the ledger did not answer in time: {trouble}", EXIT_TIMEOUT)
    except KeyboardInterrupt:
        return


def with_tape(folder: Path, file: Path | None, work: Callable[[TapeReader], Awaitable[None]]) -> None:
    """Run ``work`` on a tape file if one is named, else on the running stack's tape; trouble ends the command."""
    if file is None:
        with_operator(folder, lambda client: work(client.tape))
        return
    from tapeline_common.tape_file import TapeDamaged, TapeFile, TapeFileUnreadable

    async def reading(tape: TapeFile) -> None:
        await work(tape)

    try:
        with TapeFile(file) as tape:
            if tape.warning:
                click.echo(tape.warning, err=True)
            asyncio.run(reading(tape))
    except TapeFileUnreadable as trouble:
        fail(str(trouble), EXIT_CONFIGURATION)
    except TapeDamaged as trouble:
        fail(f"{file}: {trouble}", EXIT_ERROR)


def fact_line(fact: Fact) -> str:
    """One fact on one line for people: position, time, author, event and its fields."""
    fields = msgspec.to_builtins(fact.event)
    name = fields.pop("type")
    said = " ".join(f"{key}={_short(value)}" for key, value in fields.items() if value not in (None, "", [], {}))
    cause = f" <- {fact.cause}" if fact.cause else ""
    return f"{fact.pos:>8}{cause:<11} {time_text(fact.time_ns)} {fact.author:<10} {name:<18} {said}"


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + " ".join(f"{key}={_short(one)}" for key, one in value.items() if one) + ")"
    text = str(value)
    return text if len(text) <= 160 else text[:157] + "..."


@click.command()
@data_folder
@tape_option
@click.option("-n", "--lines", default=20, show_default=True, help="Facts to print.")
@click.option("-f", "--follow", is_flag=True, help="Go on as facts are recorded; Ctrl-C ends it.")
@click.option("-t", "--type", "types", multiple=True, help="Only this event type; may be repeated.")
@as_json
def tail(data: Path, tape_file: Path | None, lines: int, follow: bool, types: tuple[str, ...], to_json: bool) -> None:
    """Print the latest facts."""
    _known_types(types)
    if follow and tape_file is not None:
        fail("--follow waits for a running stack; leave it out with --tape", EXIT_USAGE)

    async def work(tape: TapeReader) -> None:
        head = (await tape.read(ReadRequest(after=0, limit=1))).head
        found: list[bytes] = []
        until = head
        while until and len(found) < lines:
            after = max(0, until - max(1000, lines * 2))
            page: list[bytes] = []
            through = after
            while through < until:
                read = await tape.read(ReadRequest(through, limit=5000, types=types, until=until))
                page += read.facts
                through = read.through
            found = page + found
            until = after
        for payload in found[-lines:]:
            click.echo(payload if to_json else fact_line(decode_fact(payload)))
        after = head
        while follow:
            read = await tape.read(ReadRequest(after, limit=1000, types=types))
            for payload in read.facts:
                click.echo(payload if to_json else fact_line(decode_fact(payload)))
            after = read.through
            await asyncio.sleep(0.2)

    with_tape(data, tape_file, work)


@click.command()
@click.argument("position", type=click.IntRange(min=1))
@data_folder
@tape_option
@as_json
def show(position: int, data: Path, tape_file: Path | None, to_json: bool) -> None:
    """Print the fact at POSITION, whole."""

    async def work(tape: TapeReader) -> None:
        payload = await _payload_at(tape, position)
        click.echo(payload if to_json else msgspec.json.format(payload, indent=2))

    with_tape(data, tape_file, work)


@click.command()
@click.argument("position", type=click.IntRange(min=1))
@data_folder
@tape_option
@as_json
def why(position: int, data: Path, tape_file: Path | None, to_json: bool) -> None:
    """Explain the fact at POSITION: its causes up to the outside fact, and all that followed from that."""

    async def work(tape: TapeReader) -> None:
        fact = decode_fact(await _payload_at(tape, position))
        root = fact.correlation
        until = max(position, root) + CHAIN_FACTS
        related = [decode_fact(await _payload_at(tape, root))] if root != position else [fact]
        through = root
        while True:
            read = await tape.read(ReadRequest(through, limit=5000, until=until))
            related += [one for one in map(decode_fact, read.facts) if one.correlation == root]
            through = read.through
            if through >= min(until, read.head):
                break
        life = await _life_of_order(tape, fact)
        if to_json:
            click.echo(msgspec.json.encode({"chain": related, "order": life}))
            return
        for line in explain(related, position):
            click.echo(line)
        if life:
            click.echo(f"\norder {fact.stream}:")
        for one in life:
            click.echo(f"{'->' if one.pos == position else '  '} {fact_line(one).strip()}")

    with_tape(data, tape_file, work)


def explain(related: list[Fact], position: int) -> list[str]:
    """The tree of causes below a root, one fact a line; an arrow marks the one asked about."""
    children: dict[int, list[Fact]] = {}
    for fact in related[1:]:
        children.setdefault(fact.cause, []).append(fact)
    lines: list[str] = []

    def walk(fact: Fact, depth: int) -> None:
        mark = "->" if fact.pos == position else "  "
        lines.append(f"{mark} {'   ' * depth}{fact_line(fact).strip()}")
        for child in children.get(fact.pos, ()):
            walk(child, depth + 1)

    walk(related[0], 0)
    return lines


async def _life_of_order(tape: TapeReader, fact: Fact) -> list[Fact]:
    """Everything recorded about the order a fact is about, from its proposal on; empty for other facts.

    A fill's cause is the bar that filled it; why the order exists is told by its proposal, which lies further back.
    """
    if type(fact.event).about != "order":
        return []
    until = fact.pos
    while until > 0:
        after = max(0, until - CHAIN_FACTS)
        asked = ReadRequest(after, limit=1, until=until, types=("OrderProposed",), stream=fact.stream)
        proposal = (await tape.read(asked)).facts
        if proposal:
            start = decode_fact(proposal[0])
            reason = await tape.read(ReadRequest(start.cause - 1, limit=1, until=start.cause))
            life = await tape.read(ReadRequest(start.pos - 1, limit=1000, stream=fact.stream))
            return [decode_fact(payload) for payload in (*reason.facts, *life.facts)]
        until = after
    return []


async def _payload_at(tape: TapeReader, position: int) -> bytes:
    read = await tape.read(ReadRequest(after=position - 1, limit=1, until=position))
    if not read.facts:
        fail(f"there is no position {position}; the tape ends at {read.head}", EXIT_ERROR)
    return read.facts[0]


def _known_types(types: tuple[str, ...]) -> None:
    for name in types:
        if name not in EVENT_BY_NAME:
            fail(f"no event type is called {name!r}; `tapeline describe` lists them", EXIT_USAGE)
