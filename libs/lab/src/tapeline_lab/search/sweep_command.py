"""``tapeline sweep``: strategies with many parameters, on many files, timeframes and periods.

Bad input ends with one message and exit code 2 (the call is wrong) or 4 (the data or configuration is, or the kernel
gear was demanded and cannot run it). An interrupted sweep prints what is done and ends with 130, as a shell has it for
Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from tapeline_common.events import StudyGround, StudyOpened, TrialFinished
from tapeline_common.values import SearchMethod, StudyKind
from tapeline_lab.search.call import (
    ACCOUNT_OPTIONS,
    EXIT_INTERRUPTED,
    RUN_OPTIONS,
    SEARCH_OPTIONS,
    Asked,
    account_of,
    bench_of,
    heard_before,
    one_message,
    opened,
    run_study,
    spaces_of,
    whole_grounds,
    with_options,
)
from tapeline_lab.search.conduct import Conducted, Plan
from tapeline_lab.search.objectives import Objective, best_of, ranked
from tapeline_lab.search.record import Trial
from tapeline_lab.search.searching import Search, search_of, searched
from tapeline_strategy.commands import strategy_path


class Sweep(msgspec.Struct, frozen=True):
    """What ``--json`` prints. ``results`` are ranked; they do not depend on workers, place or interruptions.

    ``data`` names every file, timeframe and period by the file's SHA-256 and the bars that were taken of it.
    """

    strategy: str
    method: str
    rank_by: str
    runs: int
    done: int
    skipped: int
    refused: int
    is_interrupted: bool
    data: list[StudyGround]
    results: list[dict[str, Any]]
    gear: str
    workers: int
    on: str
    study: str | None
    repeated: int
    elapsed_s: float
    bars_per_s: float


@click.command("sweep")
@strategy_path
@with_options(*ACCOUNT_OPTIONS, *SEARCH_OPTIONS)
@click.option(
    "--rank-by",
    "--objective",
    "rank_by",
    type=click.Choice([each.value for each in Objective]),
    default="net_profit",
    show_default=True,
    help="What is looked for, best first.",
)
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, help="Rows of the table.")
@with_options(*RUN_OPTIONS)
def sweep_command(to_json: bool, rank_by: str, top: int, **call: Any) -> None:
    """Run strategies with many parameters, each run a backtest of its own, and rank them."""
    objective = Objective(rank_by)
    with one_message():
        account = account_of(call)
        spaces = spaces_of(account, call["params"])
        method = SearchMethod(call["method"].upper())
        searches = [search_of(space, method, call["trials"], objective, call["seed"]) for space in spaces]
        grounds = whole_grounds(account, call["periods"], heard_before(call, spaces))
        if not any(search.count for search in searches):
            skipped = sum(search.skipped for search in searches)
            raise click.UsageError(f"none of the {skipped:,} combinations of parameters go together")
        bench = bench_of(account, grounds, objective, call["gear"])
        settings = sum(search.count for search in searches)
        skipped = sum(search.skipped for search in searches)
        asked = Asked(StudyKind.SWEEP, method, spaces, settings, skipped, objective, settings * len(grounds))
        about = opened(account, bench, asked, [settings] * len(grounds), call["study"])
        started = time.perf_counter()

        def best(trials: list[Trial]) -> int:
            finished = [trial for trial in trials if isinstance(trial, TrialFinished)]
            found = best_of(finished, lambda trial: trial.figures, objective)
            return -1 if found is None else found.number

        done = run_study(call, bench, about, lambda _: swept(searches, range(len(grounds))), best)
    result = _result(call, about, done, objective, time.perf_counter() - started)
    if to_json:
        click.echo(msgspec.json.encode(result))
    else:
        from tapeline_lab.search.tables import print_sweep

        print_sweep(result, top)
    if done.is_interrupted:
        sys.exit(EXIT_INTERRUPTED)


def swept(searches: Sequence[Search], grounds: Sequence[int]) -> Plan[None]:
    """One strategy after the other."""
    for search in searches:
        yield from searched(search, grounds)


def row_of(trial: TrialFinished) -> dict[str, Any]:
    """A trial as one flat object."""
    return {
        "number": trial.number,
        "strategy": trial.strategy,
        "parameters": trial.parameters,
        "instrument": trial.instrument,
        "timeframe": trial.timeframe,
        "first_open_ns": trial.first_open_ns,
        "last_close_ns": trial.last_close_ns,
        **msgspec.structs.asdict(trial.figures),
    }


def _result(
    call: dict[str, Any], about: StudyOpened, done: Conducted[None], objective: Objective, elapsed_s: float
) -> Sweep:
    finished = done.finished
    new = [trial for trial in finished if trial.number >= done.repeated]
    folder: Path | None = call["study"]
    return Sweep(
        strategy=", ".join(about.strategies),
        method=about.method.value.lower(),
        rank_by=objective.value,
        runs=about.total,
        done=len(finished),
        skipped=about.skipped,
        refused=len(done.trials) - len(finished),
        is_interrupted=done.is_interrupted,
        data=list(about.grounds),
        results=[row_of(trial) for trial in ranked(finished, lambda trial: trial.figures, objective)],
        gear=about.gear,
        workers=call["workers"] or os.cpu_count() or 1,
        on=call["where"],
        study=None if folder is None else str(folder),
        repeated=done.repeated,
        elapsed_s=round(elapsed_s, 6),
        bars_per_s=round(sum(trial.figures.bars for trial in new) / elapsed_s, 1),
    )
