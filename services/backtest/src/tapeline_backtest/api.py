"""Backtests from Python: ``tapeline_backtest.run(...)`` and a result to look at, for notebooks and scripts.

The same settings, gears and files as ``tapeline backtest``; bars may also be polars frames. Every run keeps its whole
tape, in a file of the caller's choice or in a temporary one that goes with the result.

What the laboratory adds (``metrics``, ``plot``) comes by entry points, so this package does not know it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from tapeline_backtest import frames
from tapeline_backtest.command import REFUSALS, prepare, report_of, run_prepared
from tapeline_backtest.recording import SUFFIX
from tapeline_backtest.report import Report
from tapeline_backtest.session import Session
from tapeline_backtest.session_reading import session_of
from tapeline_common.commands_tape import explain, fact_line
from tapeline_common.events import ParameterValue
from tapeline_common.recording import RecordingFailed, RecordingRefused
from tapeline_common.tape import ReadRequest
from tapeline_common.tape_file import TapeFile
from tapeline_common.tape_file_writer import TapeWriter
from tapeline_common.wire import decode_fact, decode_facts
from tapeline_strategy.catalogue import add
from tapeline_strategy.sdk import Strategy, from_class

if TYPE_CHECKING:
    import polars as pl

Amount: TypeAlias = "int | float | str | Decimal"
"""A float is taken as it prints: 0.001 is exactly 0.001."""

DataFile: TypeAlias = "str | Path | pl.DataFrame"

GROUP = "tapeline.results"
"""Entry points that add to a result: name → function of a ``Session``."""

CHAIN_FACTS = 5_000
"""How far after a root its consequences are looked for; a chain ends within a few facts."""

BAR_COLUMNS = ("ts", "open", "high", "low", "close", "volume")

OPTIONS: dict[str, Any] = {
    "maker_fee": None,
    "half_spread_bps": None,
    "volume_impact": None,
    "root_impact": None,
    "borrow_rate": None,
    "latency_ms": None,
    "intrabar": None,
    "participation": None,
}
"""Costs and fill rules that ``tapeline backtest`` has options for, by the same names."""


class RunRefused(ValueError):
    """The call cannot be run; the message names what is wrong, and the fix."""


@dataclass(frozen=True)
class Result:
    """A finished run. Frames are polars; their money is float64, the exact decimals are on the tape.

    Attributes:
        report: every figure of ``tapeline backtest``.
        tape_path: the tape file; gone with this result if it is a temporary one.
    """

    report: Report
    tape_path: Path
    _kept: Any = field(repr=False, default=None)

    @cached_property
    def tape(self) -> TapeFile:
        """The tape, opened for reading."""
        return TapeFile(self.tape_path)

    @cached_property
    def session(self) -> Session:
        """The run read back from its tape."""
        return session_of(self.tape)

    @property
    def metrics(self) -> Any:
        """Every figure that the laboratory knows: ``tapeline_lab.reports.metrics.Metrics``."""
        return _of_laboratory("metrics")(self.session)

    @cached_property
    def trades(self) -> pl.DataFrame:
        return frames.trades_frame(self.session)

    @cached_property
    def fills(self) -> pl.DataFrame:
        return frames.fills_frame(self.session)

    @cached_property
    def orders(self) -> pl.DataFrame:
        return frames.orders_frame(self.session)

    @cached_property
    def decisions(self) -> pl.DataFrame:
        """Proposals, refusals, declined signals, chosen presets and halts, with their reasons."""
        return frames.decisions_frame(self.session)

    @cached_property
    def equity(self) -> pl.DataFrame:
        return frames.equity_frame(self.session)

    def plot(self) -> Any:
        """Equity, market and drawdown as a plotly figure."""
        return _of_laboratory("plot")(self.session)

    def why(self, position: int) -> str:
        """The causes of the fact at a position and all that followed, as ``tapeline why`` tells them.

        Raises LookupError for a position that the tape does not have.
        """
        if not 1 <= position <= self.tape.head:
            raise LookupError(f"there is no position {position}; the tape has 1 to {self.tape.head}")
        fact = decode_fact(self._payloads(position, position)[0])
        until = min(max(position, fact.correlation) + CHAIN_FACTS, self.tape.head)
        chain = decode_facts(self._payloads(fact.correlation, until))
        told = explain([one for one in chain if one.correlation == fact.correlation], position)
        if type(fact.event).about == "order":
            life = self.tape.page(ReadRequest(after=0, limit=1000, stream=fact.stream)).facts
            told += ["", f"order {fact.stream}:", *(fact_line(decode_fact(payload)) for payload in life)]
        return "\n".join(told)

    def _payloads(self, first: int, last: int) -> tuple[bytes, ...]:
        return self.tape.page(ReadRequest(after=first - 1, limit=last - first + 1, until=last)).facts


def run(
    strategy: str | Strategy | type[Any] | None = None,
    data: DataFile | Sequence[DataFile] | Mapping[str, DataFile] = (),
    *,
    parameters: Mapping[str, ParameterValue] | None = None,
    size: Amount = 1,
    cash: Amount = 1_000_000,
    fee: Amount = 0,
    slippage_bps: Amount = 0,
    instruments: str | Sequence[str] = (),
    timeframe: str | None = None,
    config: str | Path | None = None,
    tape: str | Path | None = None,
    replace: bool = False,
    **options: Any,
) -> Result:
    """Run a strategy over bars in the loop gear.

    Args:
        strategy: a kind such as ``"ema_cross"``, a ``Strategy``, or a class with ``on_bar``; not with ``config``.
        data: a file or a frame of bars, several, or instrument name → file or frame. Frames have the columns ts (a
            time, or epoch numbers), open, high, low, close, volume.
        instruments: names such as ``"BTC/USDT"`` for ``data`` in order, where they are not taken from the file names.
        config: a tapeline.toml instead of strategy, parameters, size and cash.
        tape: keep the tape in this file, whose name ends in .tape; ``replace`` an earlier one.
        options: further costs and fill rules as of ``tapeline backtest``: ``OPTIONS`` names them.

    Raises:
        RunRefused: the call, the data or the configuration is wrong; the message names it and the fix.
    """
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise RunRefused(f"unknown option {unknown[0]!r}: there are {', '.join(OPTIONS)}")
    numbers = {"size": size, "cash": cash, "fee": fee, "slippage_bps": slippage_bps}
    kept = tempfile.TemporaryDirectory(prefix="tapeline-")
    with _refusing():
        names, paths = _data(data, instruments, Path(kept.name))
        call: dict[str, Any] = {
            **OPTIONS,
            **{name: _amount(name, value) for name, value in options.items()},
            **{name: _amount(name, value) for name, value in numbers.items()},
            "strategy": _kind(strategy),
            "params": tuple(f"{name}={_text(value)}" for name, value in (parameters or {}).items()),
            "data": paths,
            "names": names,
            "detail": (),
            "funding": (),
            "rule": None,
            "timeframe": timeframe,
            "config": None if config is None else Path(config),
        }
        prepared = prepare(call)
        path = Path(kept.name) / f"run{SUFFIX}" if tape is None else Path(tape)
        if path.suffix != SUFFIX:
            raise RunRefused(f"tape={str(tape)!r}: name a file that ends in {SUFFIX}")
        recorder = TapeWriter(path, replace=replace)
        try:
            finished = run_prepared(prepared, recorder)
        except BaseException:
            recorder.abandon()
            raise
        recorder.close()
    return Result(report_of(prepared, finished, "loop"), path, kept)


@contextmanager
def _refusing() -> Iterator[None]:
    """Every refusal of the command line as one exception."""
    try:
        yield
    except click.ClickException as trouble:
        raise RunRefused(trouble.format_message()) from trouble
    except (*REFUSALS, RecordingRefused, RecordingFailed) as trouble:
        raise RunRefused(str(trouble)) from trouble


def _kind(strategy: str | Strategy | type[Any] | None) -> str | None:
    if strategy is None or isinstance(strategy, str):
        return strategy
    known = strategy if isinstance(strategy, Strategy) else from_class(strategy)
    add(known)
    return known.name


def _amount(name: str, value: Any) -> Any:
    """Decimals of numbers; what is no amount (a path within the bar, milliseconds) as it is."""
    if value is None or name in ("intrabar", "latency_ms"):
        return value
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        raise RunRefused(f"{name} is {value!r}, which is no number such as 0.001") from None
    if not number.is_finite() or (number < 0 and name != "maker_fee") or (number == 0 and name == "size"):
        raise RunRefused(f"{name} is {value!r}: give a finite number {'above' if name == 'size' else 'of at least'} 0")
    return number


def _text(value: ParameterValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _data(
    data: DataFile | Sequence[DataFile] | Mapping[str, DataFile], instruments: str | Sequence[str], folder: Path
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and paths of the instruments; frames are written to the folder first."""
    names = (instruments,) if isinstance(instruments, str) else tuple(instruments)
    if isinstance(data, Mapping):
        if names:
            raise RunRefused("instruments are named by `data` already: leave `instruments` out")
        names, some = tuple(data), list(data.values())
    else:
        some = list(data) if isinstance(data, Sequence) and not isinstance(data, str) else [data]
    if not names and any(_is_frame(one) for one in some):
        raise RunRefused("a frame has no name: give `instruments`, such as BTC/USDT, or data={'BTC/USDT': frame}")
    paths = [_written(one, folder / f"{place}") if _is_frame(one) else str(one) for place, one in enumerate(some)]
    return names, tuple(paths)


def _is_frame(one: Any) -> bool:
    return not isinstance(one, str | Path)


def _written(frame: Any, folder: Path) -> str:
    """A frame of bars as a CSV file, whose text is the same everywhere, so that the tape's hash is too."""
    import polars

    if not isinstance(frame, polars.DataFrame):
        raise RunRefused(f"data of type {type(frame).__name__}: give a path or a polars DataFrame")
    missing = [name for name in BAR_COLUMNS if name not in frame.columns]
    if missing:
        raise RunRefused(f"the frame has no column {missing[0]!r}: it needs {', '.join(BAR_COLUMNS)}")
    ts = frame["ts"]
    if isinstance(ts.dtype, polars.Datetime | polars.Date):
        ts = ts.cast(polars.Datetime("ns")).cast(polars.Int64)
    folder.mkdir()
    frame.select(ts.alias("ts"), *BAR_COLUMNS[1:]).write_csv(folder / "frame.csv")
    return str(folder / "frame.csv")


def _of_laboratory(name: str) -> Any:
    for entry in entry_points(group=GROUP, name=name):
        return entry.load()
    raise ImportError(f"`{name}` needs the laboratory: install tapeline-lab")
