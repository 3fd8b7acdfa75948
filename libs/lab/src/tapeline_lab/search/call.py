"""What the commands of a search have in common: options, and how a call becomes files, spaces, a recipe and a study.

Bad input ends with one message and exit code 2 (the call is wrong) or 4 (data or configuration). Results are printed
by the commands themselves.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import numpy as np

from tapeline_backtest.command import ONE, ZERO, Amount, end, settings_of_call, settings_of_config
from tapeline_common.events import Parameters, StudyGround, StudyOpened
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_USAGE
from tapeline_common.settings import ConfigurationInvalid, Settings
from tapeline_common.values import SearchMethod, StudyKind
from tapeline_common.version import code_version
from tapeline_lab.progress import time_left
from tapeline_lab.search.bench import Bench, DataFile, Gear, Ground, Recipe, days_of, read_file
from tapeline_lab.search.conduct import Conducted, Plan, RecordDiffers, conduct
from tapeline_lab.search.fleet import Fleet, FleetFailed, local
from tapeline_lab.search.objectives import Objective
from tapeline_lab.search.period import FOREVER_NS, Period, PeriodType
from tapeline_lab.search.record import Folder, Record, StudyRefused, Trial, Unrecorded, write_summary
from tapeline_lab.search.space import GridInvalid, Space, settled_by, space_of, values_of
from tapeline_marketdata.columns import BadFile, file_digest
from tapeline_marketdata.files import BarFile
from tapeline_marketdata.timeframe import UnknownTimeframe
from tapeline_strategy.catalogue import StrategyUnknown, find
from tapeline_strategy.sdk import ParameterInvalid, Strategy, close_match

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

EXIT_INTERRUPTED = 130

ACCOUNT_OPTIONS = (
    click.option(
        "-s", "--strategy", "strategies", multiple=True,
        help="Strategy kind, such as ema_cross; repeatable. `tapeline list-strategies` names them all.",
    ),
    click.option(
        "-p", "--param", "params", multiple=True, metavar="NAME=VALUES",
        help="Values of a parameter: fast=5..14, slow=20..65:5 or fast=5,8,13; repeatable. KIND.NAME=... is for one"
        " strategy of several.",
    ),
    click.option(
        "--data", "data", multiple=True, help="Parquet or CSV file of bars; each file is an account of its own."
    ),
    click.option("--instrument", "names", multiple=True, help="Name such as BTC/USD for each --data, in order."),
    click.option("--period", "periods", type=PeriodType(), multiple=True, help="Only these bars, in UTC; repeatable."),
    click.option(
        "--warm-up", type=click.IntRange(min=0),
        help="Bars heard before a part of the data, without trading, where there are so many; what the slowest setting"
        " takes to settle unless given.",
    ),
    click.option(
        "-i", "--timeframe", "timeframes", multiple=True,
        help="Bars to decide on, made of the file's if those are shorter; repeatable.",
    ),
    click.option("--size", type=Amount(above=ZERO), default=ONE, show_default=True, help="Quantity at full exposure."),
    click.option("--cash", type=Amount(least=ZERO), default=Decimal(1_000_000), show_default=True),
    click.option(
        "--fee", type=Amount(least=ZERO), default=ZERO, show_default=True, help="Maker and taker fee, fraction."
    ),
    click.option("--slippage-bps", type=Amount(least=ZERO), default=ZERO, show_default=True, help="On taker fills."),
    click.option("--participation", type=Amount(above=ZERO), help="Most of a bar's volume our fills may take."),
    click.option("-c", "--config", type=click.Path(path_type=Path), help="A tapeline.toml: the same file as live."),
)  # fmt: skip
"""What is traded, and how."""

SEARCH_OPTIONS = (
    click.option(
        "--method", type=click.Choice([each.value.lower() for each in SearchMethod]), default="grid", show_default=True,
        help="How settings are chosen from the values.",
    ),
    click.option(
        "--trials", type=click.IntRange(min=1), default=100, show_default=True,
        help="Settings of each strategy, for every method but grid.",
    ),
)  # fmt: skip

RUN_OPTIONS = (
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything drawn."),
    click.option(
        "--study", "--resume", "study", type=click.Path(path_type=Path, file_okay=False),
        help="Record every trial in this folder; a study that is there already goes on where it ended.",
    ),
    click.option(
        "--gear", type=click.Choice(["auto", *(each.value for each in Gear)]), default="auto", show_default=True,
        help="auto: the kernel gear for what it can run, else the loop gear.",
    ),
    click.option("--on", "where", type=click.Choice(["local", "ray"]), default="local", show_default=True),
    click.option("--workers", type=click.IntRange(min=1), help="Threads or processes; one for each core unless given."),
    click.option("--json", "to_json", is_flag=True, help="Print one JSON object, for programs."),
)  # fmt: skip


def with_options(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Options in the order in which help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@contextmanager
def one_message() -> Iterator[None]:
    """Expected trouble ends the command with its message and exit code."""
    try:
        yield
    except (GridInvalid, ParameterInvalid, StrategyUnknown) as trouble:
        raise click.UsageError(str(trouble)) from trouble
    except (BadFile, UnknownTimeframe, ConfigurationInvalid) as trouble:
        end(str(trouble), EXIT_CONFIGURATION)
    except StudyRefused as trouble:
        end(str(trouble), EXIT_USAGE)
    except (FleetFailed, RecordDiffers) as trouble:
        end(str(trouble), EXIT_ERROR)


# ---- what is traded ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """What a call trades: settings for one account, the strategies by turns, and the files."""

    settings: Settings
    strategies: tuple[Strategy, ...]
    own: tuple[dict[str, Any], ...]
    """Parameters that the configuration gives each strategy."""
    files: tuple[DataFile, ...]
    bars: tuple[BarFile, ...]

    def recipe(self, grounds: Sequence[Ground], gear: Gear, objective: Objective, *, is_strict: bool) -> Recipe:
        lists_trades = objective is Objective.SQN
        modules = tuple(sorted({module_of(strategy) for strategy in self.strategies}))
        return Recipe(self.settings, modules, self.files, tuple(grounds), gear, is_strict, lists_trades)


def account_of(call: Mapping[str, Any]) -> Account:
    """Raises ``ConfigurationInvalid``, ``BadFile``, ``StrategyUnknown`` and click's errors."""
    given = {**call, "params": (), "strategy": next(iter(call["strategies"]), None)}
    if call["config"] is None:
        settings, files = settings_of_call(given)
    else:
        settings, files = settings_of_config(call["config"], given)
    if len(settings.strategy) != 1:
        raise ConfigurationInvalid(f"a search runs one [[strategy]] at a time, not {len(settings.strategy)}")
    (table,) = settings.strategy
    kinds = dict.fromkeys(call["strategies"] or (table.kind,))
    strategies = tuple(find(kind) for kind in kinds)
    own = tuple(dict(table.parameters) if kind == table.kind else {} for kind in kinds)
    settings = msgspec.structs.replace(
        settings,
        run=msgspec.structs.replace(settings.run, seed=call["seed"]),
        strategy=(msgspec.structs.replace(table, parameters={}, preset=()),),
    )
    found, bars = _files(settings, files, call)
    return Account(settings, strategies, own, found, bars)


def _files(
    settings: Settings, files: dict[str, str], call: Mapping[str, Any]
) -> tuple[tuple[DataFile, ...], tuple[BarFile, ...]]:
    """Every instrument in every timeframe, in the order of the call."""
    found, bars = [], []
    for table in settings.instrument:
        path = files[table.name]
        digest = file_digest(path)
        for timeframe in call["timeframes"] or ("",):
            made = read_file(path, timeframe)
            said = settings.feed.timeframe
            if call["config"] is not None and not timeframe and made.facts.timeframe != said:
                raise ConfigurationInvalid(
                    f"{call['config'].name}: key feed.timeframe is {said}, the bars of {path} are "
                    f"{made.facts.timeframe}: set it to that, or say --timeframe {said}"
                )
            found.append(DataFile(table.name, path, timeframe, digest))
            bars.append(made)
    return tuple(found), tuple(bars)


def spaces_of(account: Account, params: Sequence[str]) -> list[Space]:
    """The values to try of each strategy. Raises ``GridInvalid``, ``ParameterInvalid`` and click's errors."""
    given: list[dict[str, list[str]]] = [{name: [str(value)] for name, value in own.items()} for own in account.own]
    for text in params:
        name, separator, values = text.partition("=")
        if not separator or not name or not values:
            raise click.UsageError(f"--param {text!r}: write NAME=VALUES, such as fast=5..14 or slow=20,30,50")
        for index in _meant(account.strategies, name):
            given[index][name.rpartition(".")[2]] = values_of(values)
    return [space_of(strategy, own) for strategy, own in zip(account.strategies, given, strict=True)]


def _meant(strategies: Sequence[Strategy], name: str) -> list[int]:
    """Which strategies a parameter is of: those that have it, or the one named before the dot."""
    kind, _, own = name.rpartition(".")
    meant = [
        index
        for index, strategy in enumerate(strategies)
        if (not kind or strategy.name == kind) and any(parameter.name == own for parameter in strategy.parameters)
    ]
    if not meant and len(strategies) > 1:
        known = [f"{each.name}.{parameter.name}" for each in strategies for parameter in each.parameters]
        raise ParameterInvalid(f"no strategy of the call has a parameter {name!r}{close_match(name, known)}")
    return meant or [0]


def heard_before(call: Mapping[str, Any], spaces: Sequence[Space]) -> int:
    """Bars that a trial hears before the bars it trades on, so that it does not matter where these begin."""
    given: int | None = call["warm_up"]
    return max((settled_by(space) for space in spaces), default=0) if given is None else given


def whole_grounds(account: Account, periods: Sequence[Period], heard: int) -> list[Ground]:
    """Every file in every period, in the order of the call. Raises ``ConfigurationInvalid``."""
    found = []
    for index, bars in enumerate(account.bars):
        for period in periods or (Period(0, FOREVER_NS),):
            first, stop = np.searchsorted(bars.columns.open_ns, (period.from_ns, period.to_ns)).tolist()
            if first == stop:
                raise ConfigurationInvalid(f"{account.files[index].path}: no bar opens in that --period")
            found.append(Ground(index, first, stop, min(heard, first)))
    return found


# ---- the study ---------------------------------------------------------------------------------------------------


def bench_of(account: Account, grounds: Sequence[Ground], objective: Objective, gear: str) -> Bench:
    """A bench in the gear that was asked for; ``auto`` tries the kernel gear."""
    from tapeline_backtest.kernel import KernelRefused

    if gear != "loop":
        bench = Bench(account.recipe(grounds, Gear.KERNEL, objective, is_strict=gear == "kernel"), account.bars)
        try:
            bench.try_kernel([strategy.name for strategy in account.strategies])
            return bench
        except KernelRefused as trouble:
            if gear == "kernel":
                end(str(trouble), EXIT_CONFIGURATION)
    return Bench(account.recipe(grounds, Gear.LOOP, objective, is_strict=False), account.bars)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a study looks for, besides what it trades."""

    kind: StudyKind
    method: SearchMethod
    spaces: Sequence[Space]
    candidates: int
    skipped: int
    objective: Objective
    total: int


def opened(account: Account, bench: Bench, asked: Asked, trials: Sequence[int], folder: Path | None) -> StudyOpened:
    """The first fact of a study. trials: most on each ground. folder: of its record, which alone needs the code."""
    grounds = tuple(
        study_ground(account, ground, most) for ground, most in zip(bench.recipe.grounds, trials, strict=True)
    )
    made = StudyOpened(
        study="",
        kind=asked.kind,
        method=asked.method,
        strategies=tuple(strategy.name for strategy in account.strategies),
        space={space.strategy.name: space.described() for space in asked.spaces},
        candidates=asked.candidates,
        skipped=asked.skipped,
        objective=asked.objective.value,
        seed=account.settings.run.seed,
        gear=bench.recipe.gear.value,
        code_version="" if folder is None else code_of(account.strategies),
        configuration=configuration_of(account.settings),
        grounds=grounds,
        total=asked.total,
    )
    name = hashlib.sha256(msgspec.json.encode(made)).hexdigest()[:12]
    return msgspec.structs.replace(made, study=f"{asked.kind.value.lower().replace('_', '-')}-{name}")


def study_ground(account: Account, ground: Ground, trials: int) -> StudyGround:
    file, bars = account.files[ground.file], account.bars[ground.file].part(ground.first, ground.stop)
    return StudyGround(
        instrument=file.instrument,
        source=Path(file.path).name,
        digest=file.digest,
        timeframe=bars.facts.timeframe,
        part=ground.part,
        fold=ground.fold,
        first_open_ns=int(bars.columns.open_ns[0]),
        last_close_ns=int(bars.closes_ns(len(bars) - 1, len(bars))[0]),
        bars=len(bars),
        warm_up_bars=ground.warm_up_bars,
        days=len(days_of(bars)),
        trials=trials,
    )


def bars_of(account: Account, where: StudyGround) -> BarFile:
    """The bars that a ground's trials can trade on."""
    for file, bars in zip(account.files, account.bars, strict=True):
        if (file.instrument, bars.facts.timeframe) == (where.instrument, where.timeframe):
            first = int(np.searchsorted(bars.columns.open_ns, where.first_open_ns))
            return bars.part(first, first + where.bars)
    raise AssertionError(f"{where.instrument} {where.timeframe} is in none of the files")


def configuration_of(settings: Settings) -> str:
    """Settings as JSON, without the places of files and without what a study says elsewhere."""
    instruments = tuple(
        msgspec.structs.replace(table, data="", detail=Path(table.detail).name, funding=Path(table.funding).name)
        for table in settings.instrument
    )
    return msgspec.json.encode(msgspec.structs.replace(settings, instrument=instruments)).decode()


DECIDING = ("bench", "figures", "resample", "space", "searching", "walk_forward", "sensitivity")
"""Modules of this package that a trial, or the choice of the next one, depends on."""


def code_of(strategies: Sequence[Strategy]) -> str:
    """Version of everything that results depend on: services, gears, searches, and the strategies' own modules."""
    import tapeline_backtest

    folder = Path(__file__).parent
    sources = sorted(Path(str(tapeline_backtest.__file__)).parent.rglob("*.py"))
    sources += [folder / f"{name}.py" for name in DECIDING]
    sources += [Path(str(sys.modules[module_of(strategy)].__file__)) for strategy in strategies]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.name}\n".encode())
        digest.update(source.read_bytes())
    return f"{code_version()}.{digest.hexdigest()[:12]}"


def module_of(strategy: Strategy) -> str:
    """Module that a strategy is written in: of its step, or of its class."""
    if strategy.is_numeric:
        return strategy.step.__module__
    defaults: Parameters = {parameter.name: parameter.default for parameter in strategy.parameters}
    return type(strategy.start(defaults)).__module__


def fleet_of(bench: Bench, where: str, workers: int | None) -> Fleet:
    """Raises ``FleetFailed``."""
    if where == "ray":
        from tapeline_lab.search.ray_fleet import RayFleet

        return RayFleet(bench.recipe, workers)
    return local(bench, workers or os.cpu_count() or 1)


def run_study(
    call: Mapping[str, Any],
    bench: Bench,
    about: StudyOpened,
    plan: Callable[[Record], Plan[T]],
    best: Callable[[list[Trial]], int],
) -> Conducted[T]:
    """Conduct a study as the call asks for: where, recorded or not, with progress on a terminal."""
    folder: Path | None = call["study"]
    started = time.perf_counter()
    fleet = fleet_of(bench, call["where"], call["workers"])
    try:
        if folder is None:
            record = Unrecorded()
            return conduct(about, plan(record), record, fleet, best, time_left())
        days = [days_of(bench.files[ground.file].part(ground.first, ground.stop)) for ground in bench.recipe.grounds]
        with Folder(folder, about, days) as kept:
            done = conduct(about, plan(kept), kept, fleet, best, time_left())
        write_summary(folder, _summary(call, about, done, time.perf_counter() - started))
        return done
    finally:
        fleet.close()


def _summary(call: Mapping[str, Any], about: StudyOpened, done: Conducted[Any], elapsed_s: float) -> dict[str, Any]:
    from tapeline_lab.search.study import load

    study = load(call["study"])
    return {
        "study": about.study,
        "kind": about.kind,
        "objective": about.objective,
        "total": about.total,
        "finished": len(study.trials),
        "refused": len(study.refused),
        "is_complete": study.is_complete,
        "best": None if study.finished is None else study.finished.best,
        "tape_hash": study.tape_hash,
        "on": call["where"],
        "elapsed_s": round(elapsed_s, 3),
        "repeated": done.repeated,
    }
