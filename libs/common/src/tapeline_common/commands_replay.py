"""``tapeline replay --check``: decide the whole tape again with the installed code, and compare bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from tapeline_common.commands_shared import as_json, data_folder, tape_option
from tapeline_common.commands_tape import with_tape
from tapeline_common.exits import EXIT_ERROR, EXIT_OK
from tapeline_common.recheck import Recheck, code_versions, recheck
from tapeline_common.tape import TapeReader, read_all
from tapeline_common.version import code_version
from tapeline_common.wire import Fact, decode_fact
from tapeline_common.wiring import installed_services


@click.command("replay")
@data_folder
@tape_option
@click.option("--check", "_check", is_flag=True, required=True, help="Compare with what was recorded.")
@as_json
def replay(data: Path, tape_file: Path | None, _check: bool, to_json: bool) -> None:
    """Decide a tape again with today's code; exit code 1 if any decision differs."""
    codes: list[int] = []

    async def work(tape: TapeReader) -> None:
        facts = [decode_fact(payload) for payload in await read_all(tape)]
        results = _recheck_all(facts)
        codes.append(EXIT_ERROR if any(result.difference for result in results) else EXIT_OK)
        if to_json:
            versions = [{"from": pos, "code_version": version} for pos, version in code_versions(facts)]
            found = {"facts": len(facts), "code_version": code_version(), "written_by": versions, "authors": results}
            click.echo(msgspec.json.encode(found))
            return
        for pos, version in code_versions(facts):
            if version != code_version():
                click.echo(f"from position {pos} on the tape was written by {version}; this is {code_version()}")
        for result in results:
            click.echo(_line(result))

    with_tape(data, tape_file, work)
    sys.exit(codes[0] if codes else EXIT_ERROR)


def _recheck_all(facts: list[Fact]) -> list[Recheck]:
    return [
        result
        for service in installed_services().values()
        for core in service.cores
        for result in recheck(core, service.workers, facts)
    ]


def _line(result: Recheck) -> str:
    if result.difference is None:
        return f"{result.author:<11} heard {result.heard:>8}, {result.agreed:>6} answers decided again, all the same"
    different = result.difference
    recorded = ", ".join(type(event).__name__ for event in different.recorded) or "nothing"
    decided = ", ".join(type(event).__name__ for event in different.decided) or "nothing"
    return (
        f"{result.author:<11} DIFFERS at position {different.pos} ({different.event}): "
        f"recorded {recorded}, decides {decided}"
    )
