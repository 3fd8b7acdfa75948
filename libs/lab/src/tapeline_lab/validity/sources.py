"""Where a history to resample comes from: a recorded tape, a report's folder, a walk-forward, or a file of returns.

From a tape, equity is the ledger's own after every fact, taken at the end of each UTC day, so that the returns are
those of the backtest's report; paper and live tapes give theirs in the same way. Nothing here computes a statistic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tapeline_backtest.report import DAY_NS, TRADING_DAYS, returns_of
from tapeline_common.core import Stamp, learn
from tapeline_common.events import AccountFunded, BarClosed, InstrumentListed, OrderFilled, RegimeUpdated, TradeClosed
from tapeline_common.tape import ReadRequest
from tapeline_common.tape_file import TapeDamaged, TapeFile, TapeFileUnreadable
from tapeline_common.values import TrialPart
from tapeline_common.wire import Fact, decode_fact
from tapeline_lab.progress import Progress
from tapeline_lab.search.record import TAPE
from tapeline_lab.validity.series import Floats, Ints
from tapeline_ledger import core as ledger

if TYPE_CHECKING:
    import polars

PAGE_FACTS = 10_000
NONE = np.zeros(0)
NO_DAYS = np.zeros(0, dtype=np.int64)
TIMES = ("ts", "timestamp", "time", "date", "datetime", "time_ns", "day")
CURVE = "equity"
MOST_RETURN = 10.0
"""A thousand percent in a day: larger numbers are prices, or something else."""

RESULTS = ("net", "pnl")
"""Results of trades: after costs, or before fees and funding, which then have columns of their own."""

LABEL = "regime"


class SourceUnusable(Exception):
    """There is no history to resample. The message names the file, what is wrong and what would do."""


@dataclass(frozen=True, slots=True)
class History:
    """What was found.

    Attributes:
        returns: per day, shape (days, accounts); none where only trades are known.
        accounts: names of the columns.
        days: number of each row's UTC day, shape (days,); none where times are not known.
        regimes: each day's label, or nothing.
        trades: results of closed trades after costs, in order of closing.
        start_equity: before the first of them; ``None`` where it is not known.
        periods_per_year: of the instruments' calendar; ``None`` where it is not known.
    """

    returns: Floats
    accounts: tuple[str, ...]
    days: Ints
    regimes: tuple[str, ...]
    trades: Floats
    start_equity: float | None
    periods_per_year: float | None


def read_history(path: Path, regime_of: str | None = None, progress: Progress | None = None) -> History:
    """A tape file, the folder of a report or a walk-forward, or a CSV or Parquet file. Raises ``SourceUnusable``.

    Args:
        regime_of: of a tape with several instruments, the one whose regimes label the days; the first unless given.
    """
    if not path.exists():
        raise SourceUnusable(f"{path} is not there: name a .tape file, the folder of a report, or a file of returns")
    if path.is_dir():
        return _from_study(path) if (path / TAPE).exists() else _from_folder(path)
    if path.suffix == ".tape":
        return _from_tape(path, regime_of, progress)
    if path.suffix in (".csv", ".parquet"):
        return _from_frame(path, _frame(path))
    raise SourceUnusable(f"{path}: name a .tape file, the folder of a report, or a .csv or .parquet file")


def together(histories: Sequence[tuple[Path, History]]) -> History:
    """Accounts of several sources on the days they have in common, with the first one's regimes.

    Raises ``SourceUnusable`` if one does not say its days, or if no two days are common.
    """
    (_, first), *_ = histories
    if len(histories) == 1:
        return first
    for path, one in histories:
        if not len(one.days):
            raise SourceUnusable(f"{path} does not say its days, by which several sources go together")
    days = reduce(np.intersect1d, [one.days for _, one in histories])
    if len(days) < 2:
        names = ", ".join(str(path) for path, _ in histories)
        raise SourceUnusable(f"{names} have {len(days)} days in common: at least 2 are needed")
    rows = [np.flatnonzero(np.isin(one.days, days)) for _, one in histories]
    years = [one.periods_per_year for _, one in histories if one.periods_per_year is not None]
    return History(
        returns=np.hstack([one.returns[places] for (_, one), places in zip(histories, rows, strict=True)]),
        accounts=tuple(name for _, one in histories for name in one.accounts),
        days=days,
        regimes=tuple(first.regimes[place] for place in rows[0].tolist()) if first.regimes else (),
        trades=NONE,
        start_equity=None,
        periods_per_year=min(years, default=None),
    )


# ---- tapes -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Days:
    """A fold of a tape: equity and regime at the end of each UTC day, and closed trades."""

    regime_of: str | None
    books: ledger.State = field(default_factory=ledger.CORE.initial)
    closing: list[float] = field(default_factory=list)
    days: list[int] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    trades: list[float] = field(default_factory=list)
    calendars: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    start_equity: float | None = None
    regime: str = ""
    end_ns: int = 0
    has_bars: bool = False

    def take(self, fact: Fact) -> None:
        """Learn one fact; the first bar or fill after the end of a day closes it.

        A bar counts by its own close: live, the day's last one is stamped a moment after midnight.
        """
        event = fact.event
        if self.has_bars and isinstance(event, BarClosed | OrderFilled):
            at_ns = event.close_ns if isinstance(event, BarClosed) else fact.time_ns
            if at_ns > self.end_ns:
                self.close_day()
                self.end_ns = -(-at_ns // DAY_NS) * DAY_NS
        if type(event) in ledger.CORE.evolves:
            learn(ledger.CORE, self.books, event, Stamp(fact.pos, fact.time_ns))
        match event:
            case BarClosed() if not self.has_bars:
                self.has_bars = True
                self.closing.append(float(ledger.equity(self.books)))
                self.end_ns = -(-event.close_ns // DAY_NS) * DAY_NS
            case TradeClosed():
                self.trades.append(float(event.pnl - event.fees + event.funding))
            case AccountFunded():
                self.start_equity = float(ledger.equity(self.books))
            case InstrumentListed():
                self.calendars[str(event.instrument)] = event.calendar
                self.names[str(event.instrument)] = event.name
            case RegimeUpdated() if self._is_asked_for(str(event.instrument)):
                self.regime = event.regime.value
            case _:
                pass

    def close_day(self) -> None:
        self.closing.append(float(ledger.equity(self.books)))
        self.days.append(self.end_ns // DAY_NS - 1)
        self.labels.append(self.regime)

    def _is_asked_for(self, instrument: str) -> bool:
        if self.regime_of is None:
            return instrument == next(iter(self.names), instrument)
        return self.regime_of in (instrument, self.names.get(instrument))


def _from_tape(path: Path, regime_of: str | None, progress: Progress | None) -> History:
    days = _Days(regime_of)
    try:
        for fact in _facts(path, progress):
            days.take(fact)
    except TapeFileUnreadable as trouble:
        raise SourceUnusable(str(trouble)) from trouble
    except TapeDamaged as trouble:
        raise SourceUnusable(f"{path}: {trouble}") from trouble
    if not days.has_bars:
        raise SourceUnusable(f"{path}: the tape has no bar, so there is no day to resample")
    if regime_of is not None and regime_of not in (*days.names, *days.names.values()):
        raise SourceUnusable(
            f"{path}: no instrument is called {regime_of}: use one of {', '.join(days.names.values())}"
        )
    days.close_day()
    known = [label for label in days.labels if label]
    return History(
        returns=returns_of(np.array(days.closing))[:, None],
        accounts=(path.stem,),
        days=np.array(days.days, dtype=np.int64),
        regimes=tuple(label or "UNKNOWN" for label in days.labels) if known else (),
        trades=np.array(days.trades),
        start_equity=days.start_equity,
        periods_per_year=float(min((TRADING_DAYS.get(one, 365) for one in days.calendars.values()), default=365)),
    )


def _facts(path: Path, progress: Progress | None) -> Iterator[Fact]:
    with TapeFile(path) as tape:
        after = 0
        while after < tape.head:
            page = tape.page(ReadRequest(after=after, limit=PAGE_FACTS))
            for line in page.facts:
                yield decode_fact(line)
            after = page.through
            if progress is not None:
                progress(after, tape.head)


# ---- frames ------------------------------------------------------------------------------------------------------


def _from_folder(folder: Path) -> History:
    """``equity.parquet`` and ``trades.parquet`` as a report leaves them."""
    curve, closed = folder / "equity.parquet", folder / "trades.parquet"
    if not curve.is_file():
        raise SourceUnusable(f"{folder} has no equity.parquet: name the folder that `tapeline report --to` wrote")
    history = _from_frame(curve, _frame(curve))
    if not closed.is_file():
        return history
    return replace(history, trades=_from_frame(closed, _frame(closed)).trades)


def _from_study(folder: Path) -> History:
    """The tests of a walk-forward, one after the other: days on which nothing was searched."""
    from tapeline_lab.search.study import StudyUnreadable, load

    try:
        study = load(folder)
        walks = {
            (ground.instrument, ground.timeframe): index
            for index, ground in enumerate(study.grounds)
            if ground.part is TrialPart.OUT_OF_SAMPLE
        }
        strategies = study.opened.strategies
        if len(walks) != 1 or len(strategies) != 1:
            raise SourceUnusable(
                f"{folder} holds {len(walks) * len(strategies)} walk-forwards: name the study of one, "
                "of one strategy on one instrument; days that a sweep chose by are no history to resample"
            )
        ((instrument, timeframe), ground), (strategy,) = next(iter(walks.items())), strategies
        _, outside = study.walked(instrument, timeframe, strategy)
        days = study.tested_days(instrument, timeframe)
    except StudyUnreadable as trouble:
        raise SourceUnusable(str(trouble)) from trouble
    if len(days) != len(outside):
        raise SourceUnusable(f"{folder} is not complete: run the walk-forward to its end")
    return History(outside[:, None], (instrument,), days, (), NONE, None, float(study.year(ground)))


def _frame(path: Path) -> polars.DataFrame:
    import polars

    try:
        if path.suffix == ".csv":
            return polars.read_csv(path, try_parse_dates=True)
        return polars.read_parquet(path)
    except (OSError, polars.exceptions.PolarsError) as trouble:
        raise SourceUnusable(f"{path} cannot be read: {str(trouble).partition(chr(10))[0]}") from trouble


def _from_frame(path: Path, frame: polars.DataFrame) -> History:
    """``equity`` is a curve, ``net`` or ``pnl`` results of trades, ``regime`` labels; other numbers are returns."""
    import polars

    columns = {name.lower(): name for name in frame.columns}
    numbers = [name for name in frame.columns if frame.schema[name].is_numeric() and name.lower() not in TIMES]
    labels = columns.get(LABEL)
    if CURVE in columns:
        return _from_curve(path, frame, columns)
    if any(name in columns for name in RESULTS):
        return History(np.zeros((0, 1)), (path.stem,), NO_DAYS, (), _results(frame, columns), None, None)
    numbers = [name for name in numbers if name != labels]
    if not numbers:
        raise SourceUnusable(
            f"{path} has the columns {', '.join(frame.columns)}: "
            f"it needs a column of returns, `{CURVE}` or `{RESULTS[1]}`"
        )
    blanks = [name for name in numbers if frame[name].is_null().any()]
    if blanks:
        raise SourceUnusable(f"{path}: column {blanks[0]} has empty rows: fill them or leave those days out")
    returns = np.ascontiguousarray(frame.select(polars.col(numbers).cast(polars.Float64)).to_numpy())
    for name, column in zip(numbers, returns.T, strict=True):
        if len(column) and (np.min(column) < -1.0 or np.max(column) > MOST_RETURN):
            raise SourceUnusable(
                f"{path}: column {name} has values from {np.min(column):g} to {np.max(column):g}, "
                f"which are no returns: give fractions (0.01 is one percent), or name a curve `{CURVE}`"
            )
    at = _times(frame, columns)
    days = NO_DAYS if at is None else _days_of(path, frame[at])
    if (np.diff(days) <= 0).any():
        raise SourceUnusable(f"{path}: column {at} is not in order, one row a day")
    named = tuple(str(one) for one in frame[labels]) if labels else ()
    return History(returns, tuple(numbers), days, named, NONE, None, None)


def _from_curve(path: Path, frame: polars.DataFrame, columns: dict[str, str]) -> History:
    """Returns of a curve, by UTC day if it says its times, else from row to row."""
    import polars

    curve = frame[columns[CURVE]].cast(polars.Float64)
    if curve.is_null().any() or len(curve) < 2:
        raise SourceUnusable(f"{path}: column {columns[CURVE]} needs two rows or more and no empty one")
    equity = curve.to_numpy()
    at = _times(frame, columns)
    last, days = np.arange(len(equity)), NO_DAYS
    if at is not None:
        days = _days_of(path, frame[at])
        last = np.flatnonzero(np.append(np.diff(days) != 0, True))
        # The first day's return is measured from the first moment, as in a report; dates have no moments.
        last = last if frame.schema[at] == polars.Date else np.concatenate([[0], last])
    label = columns.get(LABEL)
    return History(
        returns=returns_of(equity[last])[:, None],
        accounts=(path.stem,),
        days=days[last[1:]] if len(days) else NO_DAYS,
        regimes=tuple(str(frame[label][int(row)]) for row in last[1:]) if label else (),
        trades=NONE,
        start_equity=float(equity[0]),
        periods_per_year=None,
    )


def _times(frame: polars.DataFrame, columns: dict[str, str]) -> str | None:
    """The column of times, if it has any: names without a meaning to us stay names."""
    name = next((columns[name] for name in TIMES if name in columns), None)
    return None if name is None or (name.lower() == "day" and not frame.schema[name].is_temporal()) else name


def _days_of(path: Path, times: polars.Series) -> Ints:
    """Number of the UTC day that each moment ends or lies in; a day's last moment is the midnight after it."""
    import polars

    if times.dtype == polars.String:
        try:
            times = times.str.to_date()
        except polars.exceptions.PolarsError as trouble:
            raise SourceUnusable(f"{path}: column {times.name} has no dates such as 2024-01-31") from trouble
    kind = times.dtype
    if kind == polars.Date:
        return times.cast(polars.Int32).to_numpy().astype(np.int64)
    if kind.is_integer():
        moments = times.to_numpy().astype(np.int64)
    elif kind == polars.Datetime:
        moments = times.dt.epoch("ns").to_numpy()
    else:
        raise SourceUnusable(f"{path}: column {times.name} has no times: use dates, ISO times or UTC nanoseconds")
    found: Ints = (moments - 1) // DAY_NS
    return found


def _results(frame: polars.DataFrame, columns: dict[str, str]) -> Floats:
    """Results of trades after costs."""
    import polars

    net, before = RESULTS
    if net in columns:
        return frame[columns[net]].cast(polars.Float64).to_numpy()
    total = frame[columns[before]].cast(polars.Float64).to_numpy().copy()
    if "fees" in columns:
        total -= frame[columns["fees"]].cast(polars.Float64).to_numpy()
    if "funding" in columns:
        total += frame[columns["funding"]].cast(polars.Float64).to_numpy()
    return total
