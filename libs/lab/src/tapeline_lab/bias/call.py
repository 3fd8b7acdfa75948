"""What the commands of this package share: their options, and the bars and strategies that a call means."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from tapeline_backtest.command import ONE, ZERO, Amount, deciding_on, settings_of_call, settings_of_config
from tapeline_common.settings import Settings
from tapeline_common.wiring import checked
from tapeline_lab.bias.lookahead import Progress
from tapeline_lab.bias.tables import Table, panel_of, table_of
from tapeline_marketdata.files import BarFile, read_bars

Command = TypeVar("Command", bound=Callable[..., Any])

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
)


def of_a_strategy(command: Command) -> Command:
    """The options that say which strategy on which bars."""
    for option in reversed(_OPTIONS):
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


def alone(settings: Settings, name: str) -> Settings:
    """The settings with one instrument only."""
    tables = tuple(table for table in settings.instrument if table.name == name)
    strategies = tuple(
        msgspec.structs.replace(one, instruments=(name,)) for one in settings.strategy if name in one.instruments
    )
    return msgspec.structs.replace(settings, instrument=tables, strategy=strategies)


def progress_of(title: str) -> Progress | None:
    """A line that is overwritten on a terminal; nothing where a program or a file takes standard error."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        click.echo(f"\r{title}: {done:>6,} of {total:,} runs", nl=done >= total, err=True)

    return show
