"""What the commands of this package share: their options, the bars and strategies that a call means, and their end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

import click
import msgspec

from tapeline_backtest.command import ONE, ZERO, Amount, deciding_on, settings_of_call, settings_of_config
from tapeline_common.events import Parameters
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_OK
from tapeline_common.settings import ConfigurationInvalid, Settings
from tapeline_common.wiring import checked
from tapeline_lab.bias.subjects import PipelineUnknown, Subject, find_pipeline
from tapeline_lab.bias.tables import Frame, Table, panel_of, table_of
from tapeline_lab.bias.traces import joined, strategy_subject
from tapeline_marketdata.columns import BadFile
from tapeline_marketdata.files import BarFile, read_bars
from tapeline_strategy.catalogue import StrategyUnknown, find
from tapeline_strategy.commands import strategy_path
from tapeline_strategy.sdk import ParameterInvalid, Strategy, validate

Command = TypeVar("Command", bound=Callable[..., Any])


class Judged(Protocol):
    """What an analysis says at the least."""

    @property
    def is_clean(self) -> bool: ...


Found = TypeVar("Found", bound=Judged)

DEFAULT_CASH = 1_000_000

_OPTIONS = (
    click.option("-s", "--strategy", help="Strategy kind, such as ema_cross; `tapeline list-strategies` names all."),
    click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A parameter; repeatable."),
    click.option("--data", "data", multiple=True, help="Parquet or CSV file of bars; repeat for several instruments."),
    click.option("--instrument", "names", multiple=True, help="Name such as BTC/USD for each --data, in order."),
    click.option("-i", "--timeframe", help="Length of the files' bars, where it cannot be told from them."),
    click.option("-c", "--config", type=click.Path(path_type=Path), help="A tapeline.toml: the same file as live."),
    click.option("--size", type=Amount(above=ZERO), default=ONE, show_default=True, help="Quantity at full exposure."),
    click.option("--cash", type=Amount(least=ZERO), default=DEFAULT_CASH, show_default=True),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything drawn."),
    click.option(
        "--pipeline", metavar="PLACE", help="Instead of a strategy: FILE.py:NAME or module:NAME, a function of bars."
    ),
    click.option(
        "--frame",
        type=click.Choice([each.value for each in Frame]),
        default="polars",
        show_default=True,
        help="What the pipeline takes.",
    ),
)


def of_a_subject(command: Command) -> Command:
    """The options that say which strategy or research code on which bars, and ``--json``."""
    command = click.option("--json", "to_json", is_flag=True, help="Print one JSON object, for programs.")(command)
    for option in reversed((strategy_path, *_OPTIONS)):
        command = option(command)
    return command


@dataclass(frozen=True)
class Called:
    """A call's settings and bars, by the names of the instruments."""

    settings: Settings
    files: dict[str, BarFile]

    def table(self, last_bars: int | None = None) -> Table:
        """The bars of all instruments as one table; only the last ones of each if so many are asked for."""
        tables = {name: table_of(file, last_bars) for name, file in self.files.items()}
        return next(iter(tables.values())) if len(tables) == 1 else panel_of(tables)


def called(call: dict[str, Any]) -> Called:
    """Settings and bars of a call; both as ``tapeline backtest`` would have them, without costs.

    Raises:
        click.UsageError, ConfigurationInvalid, BadFile, UnknownTimeframe: as ``tapeline backtest``.
    """
    costless = {"fee": ZERO, "slippage_bps": ZERO, "participation": None, **call}
    config = call["config"]
    settings, paths = settings_of_config(config, costless) if config is not None else settings_of_call(costless)
    files = {name: read_bars(path, timeframe=call["timeframe"]) for name, path in paths.items()}
    lengths = {file.facts.timeframe for file in files.values()}
    if len(lengths) > 1:
        raise click.UsageError(f"the files have bars of {', '.join(sorted(lengths))}: give files of one timeframe")
    return Called(deciding_on(checked(settings), next(iter(files.values())), config), files)


@dataclass(frozen=True)
class Asked:
    """One strategy of a call, or one instrument of it: what is examined, on which bars."""

    strategy: Strategy
    parameters: Parameters
    subject: Subject
    files: tuple[BarFile, ...]

    def table(self, last_bars: int | None = None) -> Table:
        """Its bars; of a strategy of two legs those that both have."""
        tables = [table_of(file, last_bars) for file in self.files]
        return tables[0] if len(tables) == 1 else joined(*tables)


def asked(run: Called) -> list[Asked]:
    """Every strategy on each of its instruments, one of two legs on both together."""
    found = []
    for one in run.settings.strategy:
        strategy = find(one.kind)
        parameters = validate(strategy, one.parameters)
        subject = strategy_subject(strategy, parameters)
        files = tuple(run.files[name] for name in one.instruments)
        grouped = [files] if strategy.both is not None else [(file,) for file in files]
        found += [Asked(strategy, parameters, subject, each) for each in grouped]
    return found


def pipeline_of(call: dict[str, Any]) -> tuple[Subject, dict[str, BarFile]]:
    """Research code of a call, and its files by name. Raises ``PipelineUnknown`` and what reading a file raises."""
    if call["strategy"] or call["config"]:
        raise click.UsageError("--pipeline takes the place of --strategy and --config: leave them away")
    if not call["data"]:
        raise click.UsageError("name at least one file of bars with --data")
    subject = find_pipeline(call["pipeline"], Frame(call["frame"]), call.get("at_open", ()))
    names = call["names"] or call["data"]
    files = zip(names, call["data"], strict=False)
    return subject, {name: read_bars(path, timeframe=call["timeframe"]) for name, path in files}


def conclude(
    analyse: Callable[[], Sequence[Found]], show: Callable[[Sequence[Found]], None], *, to_json: bool
) -> NoReturn:
    """Analyse, print, and end with 0 if all of it is clean, else 1; expected trouble ends with its message."""
    try:
        found = analyse()
    except (StrategyUnknown, ParameterInvalid, PipelineUnknown) as trouble:
        raise click.UsageError(str(trouble)) from trouble
    except (BadFile, ConfigurationInvalid, ValueError) as trouble:
        click.echo(str(trouble), err=True)
        sys.exit(EXIT_CONFIGURATION)
    is_clean = all(one.is_clean for one in found)
    if to_json:
        click.echo(msgspec.json.encode({"is_clean": is_clean, "analyses": found}))
    else:
        show(found)
    sys.exit(EXIT_OK if is_clean else EXIT_ERROR)


def alone(settings: Settings, name: str) -> Settings:
    """The settings with one instrument only."""
    tables = tuple(table for table in settings.instrument if table.name == name)
    strategies = tuple(
        msgspec.structs.replace(one, instruments=(name,)) for one in settings.strategy if name in one.instruments
    )
    return msgspec.structs.replace(settings, instrument=tables, strategy=strategies)
