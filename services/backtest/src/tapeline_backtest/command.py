"""``tapeline backtest``: one strategy over files of bars, in the loop gear or over real NATS and Postgres.

Bad input ends with one message and exit code 2 (the call is wrong) or 4 (the data or configuration is).
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from msgspec.structs import replace

from tapeline_backtest.feed import DetailUnusable, Outside, Source, bar_count, detail, script, source
from tapeline_backtest.recording import recording
from tapeline_backtest.report import Report, Run, report
from tapeline_backtest.runner import Finished, Progress, run_blocks, run_loop
from tapeline_common.calendars import session_openings
from tapeline_common.commands_shared import counted_line
from tapeline_common.events import Parameters
from tapeline_common.exits import EXIT_CONFIGURATION, EXIT_ERROR, EXIT_USAGE
from tapeline_common.opening import Opening, instrument_id, opening_facts
from tapeline_common.recording import Recorder, RecordingFailed, RecordingRefused
from tapeline_common.settings import (
    ConfigurationInvalid,
    FeedTable,
    InstrumentTable,
    RegimeTable,
    RiskTable,
    RunTable,
    Settings,
    StrategyTable,
    VenueTable,
    load,
)
from tapeline_common.values import IntrabarPath, Realm
from tapeline_common.version import code_version
from tapeline_common.whole_file import write_whole
from tapeline_common.wiring import checked
from tapeline_marketdata.bar_rules import BarRule, parse_rule, rule_of
from tapeline_marketdata.built_bars import build_bars
from tapeline_marketdata.columns import BadFile, columns_in, is_trades
from tapeline_marketdata.files import BarFile, read_bars
from tapeline_marketdata.funding import read_funding
from tapeline_marketdata.timeframe import UnknownTimeframe
from tapeline_strategy.commands import strategy_path
from tapeline_strategy.configuration import on_their_bars

QUOTES = ("USDT", "USDC", "BUSD", "USD", "EUR", "GBP", "JPY", "BTC", "ETH")
"""Currencies recognised at the end of a file's symbol; anything else is taken to be priced in USD."""


BLOCKS_FROM_BARS = 200_000
"""From how many bars on loading the compiler pays."""


class Amount(click.ParamType):  # type: ignore[type-arg]
    """A decimal number, exact as written."""

    name = "number"

    def __init__(self, *, least: Decimal | None = None, above: Decimal | None = None) -> None:
        self._least = least
        self._above = above

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            self.fail(f"{value!r} is not a number such as 0.001", param, ctx)
        if not number.is_finite():
            self.fail(f"{value!r} is not a finite number", param, ctx)
        if self._least is not None and number < self._least:
            self.fail(f"{value} is below {self._least}", param, ctx)
        if self._above is not None and number <= self._above:
            self.fail(f"{value} is not above {self._above}", param, ctx)
        return number


ZERO, ONE = Decimal(0), Decimal(1)


@click.command("backtest")
@click.option("-s", "--strategy", help="Strategy kind, such as ema_cross; `tapeline list-strategies` names them all.")
@strategy_path
@click.option("-p", "--param", "params", multiple=True, metavar="NAME=VALUE", help="A strategy parameter; repeatable.")
@click.option("--size", type=Amount(above=ZERO), default=ONE, show_default=True, help="Quantity at full exposure.")
@click.option("--cash", type=Amount(least=ZERO), default=Decimal(1_000_000), show_default=True)
@click.option("--fee", type=Amount(least=ZERO), default=ZERO, show_default=True, help="Maker and taker fee, fraction.")
@click.option("--slippage-bps", type=Amount(least=ZERO), default=ZERO, show_default=True, help="On taker fills.")
@click.option("--maker-fee", type=Amount(), help="Instead of --fee, for fills that rested; below zero a rebate.")
@click.option("--half-spread-bps", type=Amount(least=ZERO), help="Half the spread, paid by takers.")
@click.option("--volume-impact", type=Amount(least=ZERO), help="Impact by our squared share of the bar's volume: 0.1.")
@click.option("--root-impact", type=Amount(least=ZERO), help="Impact by the square-root law: about 1.")
@click.option("--borrow-rate", type=Amount(least=ZERO), help="Cost of a short position in a year, as a fraction.")
@click.option("--latency-ms", type=click.IntRange(min=0), help="How long an order is on its way to the venue.")
@click.option("--intrabar", type=click.Choice(["worst", "adaptive"]), help="Path within a bar; worst where not said.")
@click.option("--participation", type=Amount(above=ZERO), help="Most of a bar's volume our fills may take.")
@click.option("--data", "data", multiple=True, help="Parquet or CSV file of bars; repeat for several instruments.")
@click.option("--bars", "rule", metavar="RULE", help="The files hold trades: build bars, such as tick:500 or time:1m.")
@click.option("--instrument", "names", multiple=True, help="Name such as BTC/USD for each --data, in order.")
@click.option("--detail", multiple=True, help="File of finer bars to fill on; repeat for several, in order.")
@click.option("--funding", multiple=True, help="File of funding rates; repeat for several, in order.")
@click.option("-i", "--timeframe", help="Length of the files' bars, where it cannot be told from them.")
@click.option("-c", "--config", type=click.Path(path_type=Path), help="A tapeline.toml: the same file as live.")
@click.option("--gear", type=click.Choice(["loop", "wire", "kernel"]), default="loop", show_default=True)
@click.option(
    "--blocks/--no-blocks",
    default=None,
    help="Loop gear: pass over uneventful bars in compiled blocks. Same tape; by default on long files only.",
)
@click.option("--folder", type=click.Path(path_type=Path), help="Wire gear: keep its servers' data here.")
@click.option(
    "--record", metavar="PLACE", help="Keep the tape: FILE.tape, postgres, postgres:FOLDER or postgresql://..."
)
@click.option("--force", is_flag=True, help="With --record: replace an earlier backtest's tape.")
@click.option(
    "--report", "report_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here, as JSON."
)
@click.option("--json", "to_json", is_flag=True, help="Print one JSON object, for programs.")
def backtest(
    to_json: bool,
    report_file: Path | None,
    gear: str,
    blocks: bool | None,
    folder: Path | None,
    config: Path | None,
    **call: Any,
) -> None:
    """Run a strategy over recorded bars and report what it would have done."""
    call["config"] = config
    try:
        prepared = prepare(call)
    except REFUSALS as trouble:
        end(str(trouble), EXIT_CONFIGURATION)
    opening, sources, said = prepared.opening, prepared.sources, _progress(bar_count(prepared.sources))
    try:
        with recording(call["record"], force=call["force"]) as kept:
            recorder = None if kept is None else kept.recorder
            if gear == "loop":
                finished = _run_loop(opening, sources, blocks, said, recorder)
            elif gear == "kernel":
                finished = _run_kernel(opening, sources, recorder)
            else:
                finished = _run_wire(script(opening, sources), folder, said, recorder)
    except RecordingRefused as trouble:
        end(str(trouble), EXIT_USAGE)
    except RecordingFailed as trouble:
        end(str(trouble), EXIT_ERROR)
    result = report_of(prepared, finished, gear)
    if kept is not None:
        result = msgspec.structs.replace(result, record=kept.described())
    if report_file is not None:
        _write_report(report_file, result)
    if to_json:
        click.echo(msgspec.json.encode(result))
    else:
        from tapeline_backtest.tables import print_report

        print_report(result)


REFUSALS = (BadFile, UnknownTimeframe, ConfigurationInvalid, DetailUnusable)
"""What is wrong with files or configuration; the message says what, and the fix."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """Checked settings, the files they name, and the facts they begin a tape with."""

    settings: Settings
    sources: list[Source]
    opening: list[Opening]


def prepare(call: dict[str, Any]) -> Prepared:
    """Everything of a call that can be wrong, looked at before anything runs. Raises ``REFUSALS`` and UsageError."""
    config = call["config"]
    settings, files = settings_of_config(config, call) if config is not None else settings_of_call(call)
    settings = checked(_with_costs(_with_files(settings, call), call))
    sources = _sources(settings, files, call["timeframe"], _rule(settings, files, call))
    settings = on_their_bars(deciding_on(settings, sources[0].file, config))
    sessions = session_openings(settings)
    opening = [*opening_facts(settings, realm=Realm.REPLAY, code_version=code_version()), *sessions]
    return Prepared(settings, sources, opening)


def run_prepared(prepared: Prepared, recorder: Recorder | None, progress: Progress | None = None) -> Finished:
    """In the loop gear; in blocks where the bars are many."""
    return _run_loop(prepared.opening, prepared.sources, None, progress, recorder)


def _run_loop(
    opening: Sequence[Opening],
    sources: list[Source],
    blocks: bool | None,
    progress: Progress | None,
    recorder: Recorder | None,
) -> Finished:
    if blocks is None:
        blocks = bar_count(sources) >= BLOCKS_FROM_BARS
    # Finer bars and funding come between the others, which blocks are not made for.
    if blocks and all(one.detail is None and one.funding is None for one in sources):
        return run_blocks(opening, sources, progress, recorder)
    return run_loop(script(opening, sources), progress, recorder)


def _run_kernel(opening: Sequence[Opening], sources: list[Source], recorder: Recorder | None) -> Finished:
    from tapeline_backtest.kernel import KernelRefused
    from tapeline_backtest.kernel_runner import run_kernel

    if recorder is not None:
        end("the kernel gear has no tape to --record: use --gear loop", EXIT_USAGE)
    try:
        return run_kernel([each.event for each in opening], sources)
    except KernelRefused as trouble:
        end(str(trouble), EXIT_CONFIGURATION)


def _run_wire(
    lines: Iterable[Outside], folder: Path | None, progress: Progress | None, recorder: Recorder | None
) -> Finished:
    from tapeline_backtest.wire_runner import WireFailed, run_wire
    from tapeline_common.commands_run import default_config

    try:
        return run_wire(lines, default_config(), folder, progress, recorder)
    except WireFailed as trouble:
        end(str(trouble), EXIT_ERROR)


def _write_report(path: Path, result: Report) -> None:
    """Whole or not at all: a report that is there belongs to a run that ended."""
    try:
        write_whole(path, msgspec.json.encode(result) + b"\n")
    except OSError as trouble:
        end(f"--report {path} cannot be written ({trouble.strerror}): name a file in a folder of yours", EXIT_ERROR)


def end(message: str, code: int) -> NoReturn:
    click.echo(message, err=True)
    sys.exit(code)


def _progress(total: int) -> Progress | None:
    """Bars done; it is told of outside facts, a few of which are no bars."""
    show = counted_line("bars")
    return None if show is None else lambda said: show(min(said, total), total)


# ---- settings ----------------------------------------------------------------------------------------------------


def settings_of_call(call: dict[str, Any]) -> tuple[Settings, dict[str, str]]:
    """Settings of a call without a configuration file: one strategy on all its files, and no limits."""
    if not call["strategy"]:
        raise click.UsageError("name a strategy with --strategy, or a configuration with --config")
    if not call["data"]:
        raise click.UsageError("name at least one file of bars with --data")
    if call["names"] and len(call["names"]) != len(call["data"]):
        raise click.UsageError(f"{len(call['names'])} --instrument for {len(call['data'])} --data: give one for each")
    names = call["names"] or tuple(named_after(path) for path in call["data"])
    currency = names[0].partition("/")[2].partition(":")[0]
    if not currency or any(name.partition("/")[2].partition(":")[0] != currency for name in names):
        raise click.UsageError(f"all instruments must be written base/quote with one quote currency, not {names}")
    if len(set(names)) != len(names):
        raise click.UsageError(f"two files are of one instrument ({', '.join(names)}): name them with --instrument")
    settings = Settings(
        run=RunTable(name="backtest", seed=0, currency=currency, cash=call["cash"]),
        feed=FeedTable(kind="files"),
        venue=VenueTable(call["fee"], call["fee"], call["slippage_bps"], call["participation"]),
        risk=RiskTable(),
        regime=RegimeTable(enabled=False),
        instrument=tuple(InstrumentTable(name) for name in names),
        strategy=(
            StrategyTable(
                name=call["strategy"],
                kind=call["strategy"],
                instruments=tuple(names),
                size=call["size"],
                parameters=_parameters(call["params"]),
            ),
        ),
    )
    return settings, dict(zip(names, call["data"], strict=True))


def settings_of_config(path: Path, call: dict[str, Any]) -> tuple[Settings, dict[str, str]]:
    """The same configuration as live; the files come from it, or from --data and --instrument."""
    settings = load(path)
    files = {table.name: table.data for table in settings.instrument if table.data}
    files.update(zip(call["names"], call["data"], strict=False))
    missing = [table.name for table in settings.instrument if table.name not in files]
    if missing:
        raise ConfigurationInvalid(
            f"{path.name}: no bars for {', '.join(missing)}: set `data` in its [[instrument]], "
            f"or give --instrument and --data"
        )
    return settings, files


COSTS = ("maker_fee", "half_spread_bps", "volume_impact", "root_impact", "borrow_rate", "latency_ms")
"""Options that replace the key of the same name in ``[venue]``, with a configuration file or without."""


def _with_costs(settings: Settings, call: dict[str, Any]) -> Settings:
    given = {name: call[name] for name in COSTS if call[name] is not None}
    if call["intrabar"] is not None:
        given["intrabar"] = IntrabarPath(call["intrabar"].upper())
    maker_fee = given.get("maker_fee", ZERO)
    if not -ONE < maker_fee < ONE:
        raise click.UsageError(f"--maker-fee {maker_fee}: use a fraction of notional between -1 (a rebate) and 1")
    return msgspec.structs.replace(settings, venue=msgspec.structs.replace(settings.venue, **given))


def _with_files(settings: Settings, call: dict[str, Any]) -> Settings:
    """Files of --detail and --funding belong to the instruments of --instrument, else to all of them, in order."""
    names = call["names"] or [table.name for table in settings.instrument]
    given: dict[str, dict[str, str]] = {}
    for key in ("detail", "funding"):
        if len(call[key]) > len(names):
            raise click.UsageError(f"{len(call[key])} --{key} for {len(names)} instruments: give one for each")
        for name, path in zip(names, call[key], strict=False):
            given.setdefault(name, {})[key] = path
    instruments = tuple(msgspec.structs.replace(table, **given.get(table.name, {})) for table in settings.instrument)
    return msgspec.structs.replace(settings, instrument=instruments)


def named_after(path: str) -> str:
    """Instrument named by a file such as ``BTCUSDT_2020.parquet``: ``BTC/USDT``."""
    symbol = re.split(r"[_.]", re.split(r"[/\\]", path)[-1])[0].upper() or "ASSET"
    for quote in QUOTES:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return f"{symbol.removesuffix(quote).rstrip('-')}/{quote}"
    return f"{symbol}/USD"


def _parameters(params: tuple[str, ...]) -> Parameters:
    given: Parameters = {}
    for text in params:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise click.UsageError(f"--param {text!r}: write NAME=VALUE, such as fast=10")
        given[name] = value
    return given


def _rule(settings: Settings, files: dict[str, str], call: dict[str, Any]) -> BarRule | None:
    """How bars are built from files of trades: as --bars says, or as the configured timeframe does for a live run."""
    if call["rule"] is not None:
        if call["timeframe"] is not None:
            raise click.UsageError("--bars says how long bars are: leave --timeframe away")
        return parse_rule(call["rule"])
    if call["config"] is None or not all(is_trades(columns_in(Path(path))) for path in files.values()):
        return None
    return rule_of(settings.feed.timeframe)


def _sources(settings: Settings, files: dict[str, str], timeframe: str | None, rule: BarRule | None) -> list[Source]:
    def read(path: str) -> BarFile:
        return read_bars(path, timeframe=timeframe) if rule is None else build_bars(path, rule)

    sources = [source_of(table, files[table.name], read) for table in settings.instrument]
    lengths = {one.file.facts.timeframe for one in sources}
    if len(lengths) > 1:
        raise ConfigurationInvalid(f"the files have bars of {', '.join(sorted(lengths))}: give files of one timeframe")
    return sources


def deciding_on(settings: Settings, file: BarFile, config: Path | None) -> Settings:
    """Strategies decide on the bars that the files have. A configuration says so itself, and must say the same."""
    found, said = file.facts.timeframe, settings.feed.timeframe
    if config is not None and found != said:
        raise ConfigurationInvalid(
            f"{config.name}: key feed.timeframe is {said}, so no strategy would hear the files' bars of {found}:"
            f" set it to {found}, or give files of {said}"
        )
    return replace(settings, feed=replace(settings.feed, timeframe=found))


def source_of(table: InstrumentTable, path: str, read: Callable[[str], BarFile]) -> Source:
    """An instrument's bars, with whatever else is configured to come with them."""
    bars = read(path)
    one = source(instrument_id(table), path, bars)
    return dataclasses.replace(
        one,
        detail=detail(table.detail, read_bars(table.detail), bars) if table.detail else None,
        funding=read_funding(table.funding) if table.funding else None,
    )


def report_of(prepared: Prepared, finished: Finished, gear: str) -> Report:
    settings, sources = prepared.settings, prepared.sources
    tokens = {instrument_id(table): table for table in settings.instrument}
    return report(
        Run(
            strategy=", ".join(table.name for table in settings.strategy),
            parameters=settings.strategy[0].parameters if len(settings.strategy) == 1 else {},
            names={token: table.name for token, table in tokens.items()},
            calendars={token: table.calendar for token, table in tokens.items()},
            start_cash=settings.run.cash,
            sources=sources,
            facts=finished.facts,
            tape_hash=finished.tape_hash,
            gear=gear,
            elapsed_s=finished.elapsed_s,
        ),
        finished.collected,
        finished.books,
    )
