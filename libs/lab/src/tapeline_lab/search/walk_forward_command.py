"""``tapeline walk-forward``: search on the past, trade what was found on what comes next, again and again.

Exit codes as those of ``tapeline sweep``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import click
import msgspec
import numpy as np

from tapeline_common.events import StudyOpened, TrialFinished
from tapeline_common.values import SearchMethod, StudyKind, TrialPart
from tapeline_lab.search.bench import Ground
from tapeline_lab.search.call import (
    ACCOUNT_OPTIONS,
    EXIT_INTERRUPTED,
    RUN_OPTIONS,
    SEARCH_OPTIONS,
    Account,
    Asked,
    account_of,
    bars_of,
    bench_of,
    heard_before,
    one_message,
    opened,
    run_study,
    spaces_of,
    with_options,
)
from tapeline_lab.search.conduct import Plan
from tapeline_lab.search.figures import Floats
from tapeline_lab.search.objectives import Objective, best_of
from tapeline_lab.search.record import Record, Trial
from tapeline_lab.search.searching import Search, search_of
from tapeline_lab.search.walk_forward import (
    FoldResult,
    FoldsInvalid,
    Schedule,
    Tested,
    Walk,
    even_schedule,
    fold_result,
    folds_of,
    walk_of,
    walked,
)
from tapeline_strategy.commands import strategy_path


class WalkForward(msgspec.Struct, frozen=True):
    """What ``--json`` prints."""

    objective: str
    method: str
    trials: int
    settings: int
    is_anchored: bool
    gear: str
    study: str | None
    walks: list[Walk]


class DaysType(click.ParamType):  # type: ignore[type-arg]
    """A length in whole days: ``90d``, ``12w``."""

    name = "days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"([1-9]\d{0,4})([dw])", str(value))
        if found is None:
            self.fail(f"{value!r} is no length such as 90d or 12w", param, ctx)
        return int(found[1]) * (7 if found[2] == "w" else 1)


@click.command("walk-forward")
@strategy_path
@with_options(*ACCOUNT_OPTIONS, *SEARCH_OPTIONS)
@click.option(
    "--objective",
    type=click.Choice([each.value for each in Objective]),
    default="sharpe",
    show_default=True,
    help="What each training looks for.",
)
@click.option("--train", type=DaysType(), help="Length of a training, such as 180d or 26w.")
@click.option("--test", type=DaysType(), help="Length of a test.")
@click.option(
    "--folds", type=click.IntRange(min=1), default=5, show_default=True, help="Tests, where lengths are not given."
)
@click.option("--anchored/--rolling", default=False, show_default=True, help="Every training begins with the data.")
@click.option(
    "--purge", type=click.IntRange(min=0), default=0, show_default=True, help="Bars between training and test."
)
@with_options(*RUN_OPTIONS)
def walk_forward(to_json: bool, **call: Any) -> None:
    """Search on one period, trade the best setting on the next, and stitch the tests together."""
    objective = Objective(call["objective"])
    if call["periods"]:
        raise click.UsageError(
            "a walk-forward takes its periods from --train and --test: leave --period away; "
            "`tapeline convert-data --period` makes a file that ends earlier"
        )
    with one_message():
        account = account_of(call)
        spaces = spaces_of(account, call["params"])
        method = SearchMethod(call["method"].upper())
        searches = [search_of(space, method, call["trials"], objective, call["seed"]) for space in spaces]
        grounds = _grounds(account, call, heard_before(call, spaces))
        bench = bench_of(account, grounds, objective, call["gear"])
        settings, skipped = sum(each.count for each in searches), sum(each.skipped for each in searches)
        if not settings:
            raise click.UsageError(f"none of the {skipped:,} combinations of parameters go together")
        most = [settings if each.part is TrialPart.IN_SAMPLE else len(searches) for each in grounds]
        asked = Asked(StudyKind.WALK_FORWARD, method, spaces, settings, skipped, objective, sum(most))
        about = opened(account, bench, asked, most, call["study"])

        def plan(record: Record) -> Plan[list[list[Walk]]]:
            return _plan(record, searches, account, about, objective)

        done = run_study(call, bench, about, plan, lambda trials: _best_test(trials, about, objective))
    if done.outcome is None:
        click.echo(f"interrupted: {len(done.trials):,} of {about.total:,} runs done", err=True)
        sys.exit(EXIT_INTERRUPTED)
    result = WalkForward(
        objective=objective.value,
        method=call["method"],
        trials=len(done.trials),
        settings=settings,
        is_anchored=call["anchored"],
        gear=about.gear,
        study=None if call["study"] is None else str(call["study"]),
        walks=[walk for walks in done.outcome for walk in walks],
    )
    if to_json:
        click.echo(msgspec.json.encode(result))
    else:
        from tapeline_lab.search.tables import print_walk_forward

        print_walk_forward(result)


def _grounds(account: Account, call: dict[str, Any], heard: int) -> list[Ground]:
    if (call["train"] is None) != (call["test"] is None):
        raise click.UsageError("give --train and --test together, or neither and --folds")
    hears_training = call["warm_up"] is None
    grounds: list[Ground] = []
    try:
        for index, bars in enumerate(account.bars):
            open_ns = bars.columns.open_ns
            train, test = (call["train"], call["test"]) if call["train"] else even_schedule(open_ns, call["folds"])
            schedule = Schedule(train, test, call["anchored"], call["purge"], heard, hears_training)
            grounds += folds_of(open_ns, schedule, index)
    except FoldsInvalid as trouble:
        raise click.UsageError(str(trouble)) from trouble
    return grounds


def _plan(
    record: Record, searches: Sequence[Search], account: Account, about: StudyOpened, objective: Objective
) -> Plan[list[list[Walk]]]:
    """The walk, and its results while the record can still be asked for returns."""
    found = yield from walked(searches, about.grounds)
    calendars = {table.name: table.calendar for table in account.settings.instrument}

    def returns(each: Tested) -> Floats:
        if each.tested is None:
            return np.zeros(about.grounds[each.test].days)
        return record.returns(each.tested)

    def fold_of(each: Tested) -> FoldResult:
        train, test = about.grounds[each.train], about.grounds[each.test]
        times = (train.first_open_ns, train.last_close_ns, test.first_open_ns, test.last_close_ns)
        closes = bars_of(account, test).columns.close
        result = fold_result(each, objective, times, float(closes[-1] / closes[0] - 1.0))
        return msgspec.structs.replace(result, fold=test.fold)

    walks = []
    for search, folds in zip(searches, found, strict=True):
        by_file: dict[tuple[str, str], list[Tested]] = {}
        for each in folds:
            ground = about.grounds[each.test]
            by_file.setdefault((ground.instrument, ground.timeframe), []).append(each)
        walks.append(
            [
                walk_of(some, objective, calendars[name], returns, fold_of, (search.strategy, name, timeframe))
                for (name, timeframe), some in by_file.items()
            ]
        )
    return walks


def _best_test(trials: Sequence[Trial], about: StudyOpened, objective: Objective) -> int:
    tests = [
        trial
        for trial in trials
        if isinstance(trial, TrialFinished) and about.grounds[trial.ground].part is TrialPart.OUT_OF_SAMPLE
    ]
    best = best_of(tests, lambda trial: trial.figures, objective)
    return -1 if best is None else best.number
