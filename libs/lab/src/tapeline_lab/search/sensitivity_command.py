"""``tapeline sensitivity``: how much a result depends on the exact setting.

Exit codes as those of ``tapeline sweep``.
"""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from tapeline_common.events import Parameters, TrialFinished
from tapeline_common.values import SearchMethod, StudyKind
from tapeline_lab.search.bench import Task
from tapeline_lab.search.call import (
    ACCOUNT_OPTIONS,
    EXIT_INTERRUPTED,
    RUN_OPTIONS,
    Account,
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
from tapeline_lab.search.conduct import Plan
from tapeline_lab.search.objectives import Objective, best_of
from tapeline_lab.search.record import Trial
from tapeline_lab.search.sensitivity import Sensitivity, neighbourhood, surface_of
from tapeline_lab.search.space import Space, drawn, grid, space_of
from tapeline_strategy.commands import strategy_path
from tapeline_strategy.sdk import ParameterInvalid, validate


@click.command("sensitivity")
@strategy_path
@with_options(*ACCOUNT_OPTIONS)
@click.option("--within", type=click.FloatRange(0.01, 0.9), default=0.2, show_default=True, help="Share to both sides.")
@click.option("--points", type=click.IntRange(min=2), default=256, show_default=True, help="Settings, but for a grid.")
@click.option("--method", type=click.Choice(["sobol", "random", "grid"]), default="sobol", show_default=True)
@click.option("--hold", multiple=True, metavar="NAME", help="Leave this parameter as it is; repeatable.")
@click.option("--objective", type=click.Choice([each.value for each in Objective]), default="sharpe", show_default=True)
@with_options(*RUN_OPTIONS)
def sensitivity(to_json: bool, **call: Any) -> None:
    """Try settings all around one, and recommend the centre of the plateau instead of the peak."""
    objective = Objective(call["objective"])
    with one_message():
        account = account_of(call)
        if len(account.strategies) != 1:
            raise click.UsageError("sensitivity looks at one strategy: name one with --strategy")
        centre = _centre(account, call)
        settings, skipped, space = _settings(account, centre, call)
        grounds = whole_grounds(account, call["periods"], heard_before(call, [space]))
        bench = bench_of(account, grounds, objective, call["gear"])
        method = SearchMethod(call["method"].upper())
        total = len(settings) * len(grounds)
        asked = Asked(StudyKind.SENSITIVITY, method, [space], len(settings), skipped, objective, total)
        about = opened(account, bench, asked, [len(settings)] * len(grounds), call["study"])

        def plan(_: Any) -> Plan[list[Trial]]:
            return (yield [Task(each, space.strategy.name, one) for each in range(len(grounds)) for one in settings])

        done = run_study(call, bench, about, plan, lambda trials: _best(trials, objective))
    results = [
        surface_of(there, centre, objective, call["within"])
        for ground in range(len(grounds))
        if (there := [trial for trial in done.finished if trial.ground == ground])
    ]
    _print(results, to_json=to_json)
    if done.is_interrupted:
        sys.exit(EXIT_INTERRUPTED)


def _print(results: list[Sensitivity], *, to_json: bool) -> None:
    if to_json:
        click.echo(msgspec.json.encode(results))
        return
    from tapeline_lab.search.tables import print_sensitivity

    for result in results:
        print_sensitivity(result)


def _centre(account: Account, call: dict[str, Any]) -> Parameters:
    (space,) = spaces_of(account, call["params"])
    several = [name for name, values in space.dimensions.items() if len(values) > 1]
    if several:
        raise click.UsageError(f"--param {several[0]}: give one value, the centre; --within says how far around it")
    return validate(space.strategy, {name: values[0] for name, values in space.dimensions.items()})


def _settings(account: Account, centre: Parameters, call: dict[str, Any]) -> tuple[list[Parameters], int, Space]:
    """The centre first, then the settings around it, each once."""
    (strategy,) = account.strategies
    unknown = [name for name in call["hold"] if name not in centre]
    if unknown:
        raise ParameterInvalid(f"strategy {strategy.name!r} has no parameter {unknown[0]!r} to --hold")
    space = space_of(strategy, neighbourhood(strategy, centre, call["within"], call["hold"]))
    if call["method"] == "grid":
        found, skipped = grid(space)
    else:
        found, skipped = drawn(space, SearchMethod(call["method"].upper()), call["points"], call["seed"])
    return [centre, *(each for each in found if each != centre)], skipped, space


def _best(trials: list[Trial], objective: Objective) -> int:
    finished = [trial for trial in trials if isinstance(trial, TrialFinished)]
    best = best_of(finished, lambda trial: trial.figures, objective)
    return -1 if best is None else best.number
