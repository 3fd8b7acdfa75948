"""``tapeline replay --check``: decide the whole tape again with the installed code, and compare bit for bit.

``--step`` shows it fact by fact instead; whoever can do that joins through the entry point group ``tapeline.replay``.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import msgspec

from tapeline_common.commands_shared import as_json, data_folder, fail, tape_option
from tapeline_common.commands_tape import with_tape
from tapeline_common.exits import EXIT_ERROR, EXIT_OK, EXIT_USAGE
from tapeline_common.recheck import Recheck, code_versions, recheck
from tapeline_common.tape import TapeReader, read_all
from tapeline_common.version import code_version
from tapeline_common.wire import Fact, decode_fact
from tapeline_common.wiring import installed_services


@click.command("replay")
@click.argument("run", required=False)
@data_folder
@tape_option
@click.option("--check", is_flag=True, help="Decide everything again and compare with what was recorded.")
@click.option("--step", is_flag=True, help="Show every fact and what it changed in each core.")
@click.option("--at", metavar="POSITION|TIME", help="With --step: begin here.")
@click.option("--core", "cores", multiple=True, help="With --step: only this core; may be repeated.")
@click.option("--steps", type=click.IntRange(min=1), help="With --step: end after so many.")
@as_json
def replay(
    run: str | None,
    data: Path,
    tape_file: Path | None,
    check: bool,
    step: bool,
    at: str | None,
    cores: tuple[str, ...],
    steps: int | None,
    to_json: bool,
) -> None:
    """Decide a tape again with today's code (exit code 1 if any decision differs), or go through it fact by fact.

    RUN is a tape file or a data folder, instead of --tape or --data.
    """
    if check == step:
        raise click.UsageError("say what to do with the tape: --check or --step")
    if step:
        _step_through(run or str(tape_file or data), at=at, cores=cores, steps=steps, to_json=to_json)
        return
    if at is not None or cores or steps is not None:
        raise click.UsageError("--at, --core and --steps belong to --step")
    if run is not None:
        data, tape_file = (data, Path(run)) if Path(run).is_file() else (Path(run), None)
    _check(data, tape_file, to_json)


def _step_through(run: str, **options: Any) -> None:
    found = [*entry_points(group="tapeline.replay", name="step")]
    if not found:
        fail("--step comes with the package tapeline-lab, which is not installed here", EXIT_USAGE)
    found[0].load()(run, **options)


def _check(data: Path, tape_file: Path | None, to_json: bool) -> None:
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
