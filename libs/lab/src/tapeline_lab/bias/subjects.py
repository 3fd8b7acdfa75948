"""What is examined, as one kind of thing: a function from a table of bars to columns.

Functions on numpy, polars or pandas frames and Freqtrade-style strategies are wrapped; a strategy of the SDK becomes
its memory and its wanted exposure after each bar. ``tapes`` makes one of whole runs. Nothing is judged here.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from tapeline_common.events import Parameters
from tapeline_lab.bias.tables import INSTRUMENT, PRICES, TIME, Frame, Table, framed
from tapeline_strategy.sdk import Strategy

EXPOSURE = "exposure"


class Pipeline(Protocol):
    """Research code: bars in, columns out.

    It gets a frame with the columns ts (the open time), open, high, low, close, volume and, where there are several,
    instrument. It returns a frame, a dict of columns or an array, with a row for each bar; or with a column ts, and
    then a row counts as known when the bar that opens at its ts has closed.
    """

    def __call__(self, bars: Any, /) -> Any: ...


@dataclass(frozen=True)
class Subject:
    """Something to examine.

    Attributes:
        takes_nan: whether bars without numbers can be given to it.
        at_open: outputs that are said to be known when their bar opens; all others are known when it has closed.
    """

    name: str
    run: Callable[[Table], Any]
    takes_nan: bool = True
    at_open: tuple[str, ...] = ()


def pipeline_subject(
    pipeline: Pipeline, *, name: str = "", frame: Frame = Frame.NUMPY, at_open: tuple[str, ...] = ()
) -> Subject:
    """Research code as a subject; it is given its own copy of the bars each time."""
    title = name or getattr(pipeline, "__name__", type(pipeline).__name__)
    return Subject(title, lambda table: pipeline(framed(table, frame)), at_open=at_open)


# ---- strategies of the SDK ---------------------------------------------------------------------------------------


class StepFailed(Exception):
    """A strategy's step raised an error on a bar of plain numbers."""


def strategy_subject(strategy: Strategy, parameters: Parameters) -> Subject:
    """A strategy as a subject: every place of its memory, and the exposure it wants."""
    return Subject(strategy.name, lambda table: trace(strategy, parameters, table))


def trace(strategy: Strategy, parameters: Parameters, table: Table) -> Table:
    """Memory and wanted exposure after each bar, shape (n,) each.

    Numbers are float64. What is no number (the lists and deques of a strategy class) is told as text. Where a bar of
    NaN stops a strategy, as it would stop the service, the rows from there on have no value.
    """
    numbers = [table[name].tolist() for name in (*PRICES, "volume")]
    memory, values = strategy.start(parameters), tuple(parameters.values())
    names = memory_names(strategy, memory)
    exposures = np.full(len(table[TIME]), np.nan)
    kept: list[list[Any]] = []
    for row, bar in enumerate(zip(*numbers, strict=True)):
        try:
            exposures[row] = strategy.step(memory, *values, *bar)
        except Exception as trouble:
            if all(number == number for number in bar):
                raise StepFailed(f"strategy {strategy.name!r} fails at bar {row}: {trouble!r}") from trouble
            break
        kept.append(_values_of(memory))
    return {**_memory_columns(names, kept, len(exposures)), EXPOSURE: exposures}


def _memory_columns(names: list[str], kept: list[list[Any]], bars: int) -> Table:
    """Every place of the memory after each bar; nothing after the bar that stopped the strategy."""
    titles = [f"memory.{name}" for name in names]
    if kept and all(isinstance(value, float) for value in kept[0]):
        numbers = np.full((bars, len(names)), np.nan)
        numbers[: len(kept)] = kept
        return {title: numbers[:, place].copy() for place, title in enumerate(titles)}
    columns: Table = {}
    for place, title in enumerate(titles):
        column: list[Any] = [row[place] for row in kept]
        columns[title] = np.array([*column, *[None] * (bars - len(column))], dtype=object)
    return columns


def memory_names(strategy: Strategy, memory: Any) -> list[str]:
    """The places of a memory: as the strategy's module calls them (``_BARS, _FAST = 0, 1``), else by number."""
    if not isinstance(memory, list):
        return list(vars(memory))
    names: dict[int, list[str]] = {}
    for name, value in getattr(strategy.step, "__globals__", {}).items():
        if name.startswith("_") and name[1:].isupper() and type(value) is int:
            names.setdefault(value, []).append(name[1:].lower())
    unique = {place: found[0] for place, found in names.items() if len(found) == 1}
    return [unique.get(place, str(place)) for place in range(len(memory))]


def _values_of(memory: Any) -> list[Any]:
    if isinstance(memory, list):
        return list(memory)
    return [value if isinstance(value, bool | int | float) else repr(value) for value in vars(memory).values()]


# ---- code given by name ------------------------------------------------------------------------------------------


class PipelineUnknown(ValueError):
    """A name that leads to no pipeline. The message says what was looked for and how to write it."""


def find_pipeline(place: str, frame: Frame, at_open: tuple[str, ...] = ()) -> Subject:
    """The pipeline at ``FILE.py:NAME`` or ``package.module:NAME``: a function, or a Freqtrade-style strategy class.

    The code is run. Raises ``PipelineUnknown``.
    """
    source, separator, name = place.rpartition(":")
    if not separator or not source or not name:
        raise PipelineUnknown(f"--pipeline {place!r}: write FILE.py:FUNCTION or package.module:FUNCTION")
    module = _module(source, place)
    found = getattr(module, name, None)
    if found is None:
        public = [each for each, value in vars(module).items() if callable(value) and not each.startswith("_")]
        raise PipelineUnknown(f"--pipeline {place!r}: {source} has no {name!r} (it has: {', '.join(public) or 'none'})")
    if isinstance(found, type) and hasattr(found, "populate_indicators"):
        return pipeline_subject(populate_pipeline(found), name=name, frame=Frame.PANDAS, at_open=at_open)
    if not callable(found):
        raise PipelineUnknown(f"--pipeline {place!r}: {name} is {type(found).__name__}, not a function of bars")
    return pipeline_subject(found, name=name, frame=frame, at_open=at_open)


def _module(source: str, place: str) -> ModuleType:
    try:
        if not source.endswith(".py"):
            return importlib.import_module(source)
        path = Path(source)
        specification = importlib.util.spec_from_file_location(path.stem, path)
        assert specification is not None, "a name that ends in .py has a loader"
        assert specification.loader is not None, "the same"
        module = importlib.util.module_from_spec(specification)
        sys.modules[path.stem] = module  # dataclasses and pickles look their module up by name
        specification.loader.exec_module(module)
    except (ImportError, OSError, SyntaxError) as trouble:
        raise PipelineUnknown(f"--pipeline {place!r}: {source} cannot be loaded: {trouble}") from trouble
    return module


def populate_pipeline(written: type[Any], pair: str = "BTC/USDT") -> Pipeline:
    """A class with ``populate_indicators``, ``populate_entry_trend`` and ``populate_exit_trend`` as one pipeline.

    The three are called one after the other on the whole frame, with the time in ``date``, as research code calls them.
    """

    def populate(bars: Any) -> Any:
        strategy = written({}) if written.__init__ is not object.__init__ else written()
        frame = bars.rename(columns={TIME: "date"})
        frame = frame.drop(columns=[INSTRUMENT], errors="ignore")
        for step in ("populate_indicators", "populate_entry_trend", "populate_exit_trend"):
            if hasattr(strategy, step):
                frame = getattr(strategy, step)(frame, {"pair": pair})
        return frame.rename(columns={"date": TIME})

    return populate


def columns_as_pipeline(function: Callable[..., Any], **arguments: Any) -> Pipeline:
    """An indicator of price columns, such as ``f(close, length=14)``, as a pipeline; columns are found by its names."""
    wanted = [name for name in inspect.signature(function).parameters if name in (*PRICES, "volume")]

    def indicator(bars: Mapping[str, Any]) -> Any:
        said = function(**{name: bars[name] for name in wanted}, **arguments)
        if isinstance(said, tuple):
            return {f"{function.__name__} {number}": column for number, column in enumerate(said)}
        return said if isinstance(said, Mapping) else {function.__name__: said}

    return indicator
