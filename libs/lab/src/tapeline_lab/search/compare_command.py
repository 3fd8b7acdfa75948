"""``tapeline compare``: strategies and the best trials of studies side by side, and against holding the instrument.

Every contender is run on the same bars, so that rows can be compared. Runs that are recorded already are compared as
they are (``recorded``). Exit codes as those of ``tapeline sweep``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import numpy as np

from tapeline_backtest.command import end
from tapeline_backtest.report import TRADING_DAYS, daily_ratios, max_drawdown, returns_of
from tapeline_common.events import Parameters, StudyGround, StudyOpened, TrialFinished
from tapeline_common.exits import EXIT_CONFIGURATION
from tapeline_common.settings import ConfigurationInvalid
from tapeline_common.values import SearchMethod, StudyKind, TrialPart
from tapeline_lab.search.bench import Task, day_ends
from tapeline_lab.search.call import (
    ACCOUNT_OPTIONS,
    EXIT_INTERRUPTED,
    RUN_OPTIONS,
    Account,
    Asked,
    account_of,
    bars_of,
    bench_of,
    one_message,
    opened,
    run_study,
    spaces_of,
    whole_grounds,
    with_options,
)
from tapeline_lab.search.conduct import Plan
from tapeline_lab.search.figures import Floats, calmar
from tapeline_lab.search.objectives import Objective, best_of
from tapeline_lab.search.record import Record, Trial
from tapeline_lab.search.recorded import LEAST_DAYS
from tapeline_lab.search.study import StudyUnreadable, load
from tapeline_strategy.catalogue import find
from tapeline_strategy.commands import strategy_path
from tapeline_strategy.sdk import settles_after, validate

HOLD = "hold"
"""Name of the contender that buys at the first close with all of the cash, pays nothing, and holds."""


OF_A_CALL = ("strategies", "params", "studies", "data", "config", "periods", "timeframes", "study")
"""What is said of runs that are still to be made."""


class Contender(msgspec.Struct, frozen=True):
    """One row. ``excess_return``: total return less that of holding. Intervals are bootstrapped, if that is there."""

    name: str
    instrument: str
    timeframe: str
    parameters: Parameters
    total_return: float
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float
    trades: int | None
    excess_return: float
    sharpe_low: float | None
    sharpe_high: float | None


class Comparison(msgspec.Struct, frozen=True):
    """What ``--json`` prints."""

    rank_by: str
    rows: list[Contender]
    study: str | None


class Entry(NamedTuple):
    """Who takes part: under which name, which kind of strategy, and with what."""

    name: str
    kind: str
    parameters: Parameters


@click.command("compare")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path))
@strategy_path
@with_options(*ACCOUNT_OPTIONS)
@click.option(
    "--with",
    "studies",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of a study, whose best setting takes part, of a walk-forward that of its last training; repeatable.",
)
@click.option(
    "--rank-by",
    type=click.Choice(["total_return", "sharpe", "sortino", "calmar", "max_drawdown"]),
    default="sharpe",
    show_default=True,
)
@with_options(*RUN_OPTIONS)
def compare(runs: tuple[Path, ...], to_json: bool, rank_by: str, **call: Any) -> None:
    """Run strategies side by side on the same bars, with holding as the yardstick.

    With RUNS nothing is run: recorded runs (a .tape file, a folder of `backtest --record`, the data folder of a stack,
    or what `tapeline report --to` wrote) are put beside each other, and each beside holding what it traded.
    """
    if runs:
        _recorded(runs, call, to_json=to_json)
        return
    with one_message():
        found = [_of_study(folder) for folder in call["studies"]]
        named = call["strategies"]
        call["strategies"] = tuple(dict.fromkeys([*named, *(entry.kind for entry in found)]))
        account = account_of(call)
        # Studies alone bring their own settings: a default setting beside them would be a trial nobody asked for.
        entries = [*([] if found and not named else _named(account, call["params"], named)), *found]
        spaces = spaces_of(account, call["params"])
        grounds = whole_grounds(account, call["periods"], _heard_before(call, entries))
        bench = bench_of(account, grounds, Objective.SHARPE, call["gear"])
        total = len(entries) * len(grounds)
        asked = Asked(StudyKind.COMPARISON, SearchMethod.GRID, spaces, len(entries), 0, Objective.SHARPE, total)
        about = opened(account, bench, asked, [len(entries)] * len(grounds), call["study"])
        done = run_study(call, bench, about, lambda record: _plan(record, account, about, entries, call["seed"]), _best)
    if done.outcome is None:
        sys.exit(EXIT_INTERRUPTED)
    result = Comparison(rank_by, _ranked(done.outcome, rank_by), None if call["study"] is None else str(call["study"]))
    if to_json:
        click.echo(msgspec.json.encode(result))
    else:
        from tapeline_lab.search.tables import print_comparison

        print_comparison(result)


def _recorded(runs: Sequence[Path], call: Mapping[str, Any], *, to_json: bool) -> None:
    given = [
        name
        for name in ("strategies", "studies", "data", "params", "config", "study", "periods", "timeframes")
        if call[name]
    ]
    if given:
        raise click.UsageError(
            "recorded runs are compared as they are: leave strategies, data, periods and studies away, "
            " or record the other side with `tapeline backtest --record` and name it too"
        )
    from tapeline_lab.search.recorded import RunUnusable, read_recorded, side_by_side

    try:
        result = side_by_side([read_recorded(run) for run in runs], call["seed"])
    except RunUnusable as trouble:
        end(str(trouble), EXIT_CONFIGURATION)
    if to_json:
        click.echo(msgspec.json.encode(result))
    else:
        from tapeline_lab.search.tables import print_runs

        print_runs(result)


def _heard_before(call: Mapping[str, Any], entries: Sequence[Entry]) -> int:
    """Bars that all of them hear before they trade: what the slowest takes to settle."""
    given: int | None = call["warm_up"]
    settled = [settles_after(find(entry.kind), entry.parameters) for entry in entries]
    return max(settled, default=0) if given is None else given


def _of_study(folder: Path) -> Entry:
    try:
        study = load(folder)
        trainings = [index for index, each in enumerate(study.grounds) if each.part is TrialPart.IN_SAMPLE]
        best = study.best(trainings[-1] if trainings else None)
    except StudyUnreadable as trouble:
        raise ConfigurationInvalid(f"--with {folder}: {trouble}") from trouble
    if best is None:
        raise ConfigurationInvalid(f"--with {folder}: none of its trials has a value of what it looked for")
    return Entry(f"{best.strategy} of {folder.name}", best.strategy, best.parameters)


def _named(account: Account, params: Sequence[str], named: Sequence[str]) -> list[Entry]:
    entries = []
    for space in spaces_of(account, params):
        several = [name for name, values in space.dimensions.items() if len(values) > 1]
        if several:
            raise click.UsageError(f"--param {several[0]}: give one value; `tapeline sweep` tries several")
        if space.strategy.name in named or not named:
            chosen = {name: values[0] for name, values in space.dimensions.items()}
            entries.append(Entry(space.strategy.name, space.strategy.name, validate(space.strategy, chosen)))
    return entries


def _plan(
    record: Record, account: Account, about: StudyOpened, entries: Sequence[Entry], seed: int
) -> Plan[list[Contender]]:
    """Every contender on every ground, and the rows while the record can still be asked for returns."""
    grounds = range(len(about.grounds))
    trials = yield [
        Task(ground, entry.kind, entry.parameters, keeps_returns=True) for ground in grounds for entry in entries
    ]
    calendars = {table.name: table.calendar for table in account.settings.instrument}
    rows = []
    for ground in grounds:
        where = about.grounds[ground]
        year = TRADING_DAYS.get(calendars[where.instrument], 365)
        hold = _hold(account, where, year, seed)
        rows.append(hold)
        there = trials[ground * len(entries) : (ground + 1) * len(entries)]
        rows += [
            _row(entry, trial, record.returns(trial), year, hold.total_return, seed)
            for entry, trial in zip(entries, there, strict=True)
            if isinstance(trial, TrialFinished)
        ]
    return rows


def _row(entry: Entry, trial: TrialFinished, returns: Floats, year: int, held: float, seed: int) -> Contender:
    figures = trial.figures
    low, high = interval(returns, year, seed)
    return Contender(
        name=entry.name,
        instrument=trial.instrument,
        timeframe=trial.timeframe,
        parameters=trial.parameters,
        total_return=figures.total_return,
        sharpe=figures.sharpe,
        sortino=figures.sortino,
        calmar=figures.calmar,
        max_drawdown=figures.max_drawdown,
        trades=figures.trades,
        excess_return=figures.total_return - held,
        sharpe_low=low,
        sharpe_high=high,
    )


def _hold(account: Account, where: StudyGround, year: int, seed: int) -> Contender:
    """Bought at the first close with everything there is, at no cost."""
    bars = bars_of(account, where)
    closes = bars.columns.close
    returns = returns_of(np.concatenate([closes[:1], closes[day_ends(bars)]]))
    drawdown = max_drawdown(closes)[0]
    sharpe, sortino = daily_ratios(returns, year)
    low, high = interval(returns, year, seed)
    return Contender(
        name=HOLD,
        instrument=where.instrument,
        timeframe=where.timeframe,
        parameters={},
        total_return=float(closes[-1] / closes[0] - 1.0),
        sharpe=sharpe,
        sortino=sortino,
        calmar=calmar(returns, drawdown, year),
        max_drawdown=drawdown,
        trades=None,
        excess_return=0.0,
        sharpe_low=low,
        sharpe_high=high,
    )


def interval(returns: Floats, year: int, seed: int) -> tuple[float | None, float | None]:
    """95 % of the bootstrapped Sharpe ratios of these returns; nothing where they are too few or all the same."""
    if len(returns) < LEAST_DAYS or not np.ptp(returns):
        return None, None
    from tapeline_lab.validity import bootstrap_interval

    found = bootstrap_interval(returns, "sharpe", seed=seed, periods_per_year=float(year))
    return float(found.low), float(found.high)


def _ranked(rows: Sequence[Contender], by: str) -> list[Contender]:
    sign = 1.0 if by == "max_drawdown" else -1.0

    def key(row: Contender) -> tuple[bool, float]:
        value = getattr(row, by)
        return value is None, 0.0 if value is None else sign * value

    return sorted(rows, key=key)


def _best(trials: list[Trial]) -> int:
    finished = [trial for trial in trials if isinstance(trial, TrialFinished)]
    best = best_of(finished, lambda trial: trial.figures, Objective.SHARPE)
    return -1 if best is None else best.number
