"""What is examined, as one kind of thing: a function from a table of bars to columns.

Functions on numpy, polars or pandas frames and Freqtrade-style classes are wrapped. ``traces`` makes one of a strategy
of the SDK, ``tapes`` of whole runs. Nothing is judged here.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from tapeline_lab.bias.tables import INSTRUMENT, PRICES, TIME, Frame, Table, framed


class Pipeline(Protocol):
    """Research code: bars in, columns out.

    It gets a frame with the columns ts (the open time), open, high, low, close, volume and, where there are several,
    instrument. It returns a frame, a dict of columns or an array, with a row for each bar; or with a column ts, and
    then a row counts as known when the bar that opens at its ts has closed.
    """

    def __call__(self, bars: Any, /) -> Any: ...


@dataclass(frozen=True)
class Handover:
    """How a run goes on from what another run has decided: with the same position, stop or anchor.

    Attributes:
        columns: outputs that are handed over, because no number of bars settles them.
        carried: bars → what a run on all of them holds afterwards.
        run: (bars, row, what is held) → as ``Subject.run``, but holding that from before the bar in that row on.
    """

    columns: tuple[str, ...]
    carried: Callable[[Table], Any]
    run: Callable[[Table, int, Any], Any]


@dataclass(frozen=True)
class Subject:
    """Something to examine.

    Attributes:
        takes_nan: whether bars without numbers can be given to it.
        at_open: outputs that are said to be known when their bar opens; all others are known when it has closed.
        handover: for what keeps decisions; without one, every output has to follow from the bars alone.
        rings: outputs, by a common name, that hold the same values in an order that depends on the first bar.
    """

    name: str
    run: Callable[[Table], Any]
    takes_nan: bool = True
    at_open: tuple[str, ...] = ()
    handover: Handover | None = None
    rings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def pipeline_subject(
    pipeline: Pipeline, *, name: str = "", frame: Frame = Frame.NUMPY, at_open: tuple[str, ...] = ()
) -> Subject:
    """Research code as a subject; it is given its own copy of the bars each time."""
    title = name or getattr(pipeline, "__name__", type(pipeline).__name__)
    return Subject(title, lambda table: pipeline(framed(table, frame)), at_open=at_open)


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
