"""Recorded runs beside each other, and each beside holding what it traded: figures, differences and their intervals.

A run is a tape of a backtest, of paper or of live trading, or the folder that ``tapeline report --to`` wrote of one.
Everything is computed from daily closes, so that runs, holding and their differences are of the same kind. Holding is
an equal amount of each of the run's instruments, bought at its first close, at no cost. Nothing is run again here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from tapeline_backtest.report import DAY_NS
from tapeline_common.values import Realm
from tapeline_lab.reports import series
from tapeline_lab.search.figures import Floats
from tapeline_lab.validity.series import Ints

LEAST_DAYS = 30
"""Returns from which on a bootstrapped interval says something."""

FIGURES = ("annual_return", "sharpe")
"""What differences are told of."""

CURVE, REPORT, MANIFEST = "equity.parquet", "report.json", "manifest.json"


class RunUnusable(Exception):
    """A run cannot be compared. The message names it, what is wrong, and the fix."""


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One run day by day.

    Attributes:
        name: the path as it was given.
        realm: whose clock stamped it: REPLAY for a backtest, LIVE for paper and live trading.
        day: UTC days since 1970, shape (n,), as ``returns`` and ``market`` (holding what it traded).
        year: trading days in a year.
    """

    name: str
    realm: str
    day: Ints
    returns: Floats
    market: Floats
    year: int
    trades: int


class DailyFigures(msgspec.Struct, frozen=True):
    """Of daily returns; ``None`` where a figure is not defined."""

    total_return: float
    annual_return: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown: float


class Difference(msgspec.Struct, frozen=True):
    """One figure less another's, on the same days, and 95 % of what it is when both are resampled by the same blocks.

    ``low`` and ``high`` are ``None`` on fewer than ``LEAST_DAYS`` days, or where one side never moves.
    """

    value: float | None
    low: float | None
    high: float | None
    days: int

    @property
    def is_told_apart(self) -> bool:
        """Whether chance alone does not make such a difference, at 95 %."""
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


class RunRow(msgspec.Struct, frozen=True):
    """A run, holding what it traded on the same days, and the differences by name of the figure.

    ``over_first``: this run less the first one of the call, on the days in common; empty for the first.
    """

    name: str
    realm: str
    first_day_ns: int
    last_day_ns: int
    days: int
    trades: int
    figures: DailyFigures
    hold: DailyFigures
    over_hold: dict[str, Difference]
    over_first: dict[str, Difference]


class RunComparison(msgspec.Struct, frozen=True):
    """What ``--json`` prints for recorded runs: rows in the order of the call."""

    seed: int
    rows: list[RunRow]


def side_by_side(runs: Sequence[RecordedRun], seed: int) -> RunComparison:
    """Raises ``RunUnusable`` if a run has no whole day in common with the first."""
    first, *_ = runs
    return RunComparison(seed, [_row(run, None if run is first else first, seed) for run in runs])


def _row(run: RecordedRun, first: RecordedRun | None, seed: int) -> RunRow:
    return RunRow(
        name=run.name,
        realm=run.realm,
        first_day_ns=int(run.day[0]) * DAY_NS,
        last_day_ns=int(run.day[-1]) * DAY_NS,
        days=len(run.day),
        trades=run.trades,
        figures=figures_of(run.returns, run.year),
        hold=figures_of(run.market, run.year),
        over_hold=_differences(run.returns, run.market, run.year, seed),
        over_first={} if first is None else _over(run, first, seed),
    )


def _over(run: RecordedRun, first: RecordedRun, seed: int) -> dict[str, Difference]:
    _, mine, others = np.intersect1d(run.day, first.day, return_indices=True)
    if not len(mine):
        raise RunUnusable(f"{run.name} and {first.name} have no day in common: give runs of the same time")
    return _differences(run.returns[mine], first.returns[others], min(run.year, first.year), seed)


def figures_of(returns: Floats, year: int) -> DailyFigures:
    """Figures of daily returns, shape (n,)."""
    enough = len(returns) >= 2
    return DailyFigures(
        total_return=series.cumulative_return(returns),
        annual_return=series.annual_return(returns, year),
        sharpe=series.sharpe(returns, year) if enough else None,
        sortino=series.sortino(returns, year) if enough else None,
        calmar=series.calmar(returns, year) if enough else None,
        max_drawdown=series.max_drawdown(returns),
    )


def _differences(mine: Floats, other: Floats, year: int, seed: int) -> dict[str, Difference]:
    return {name: _difference(name, mine, other, year, seed) for name in FIGURES}


def _difference(name: str, mine: Floats, other: Floats, year: int, seed: int) -> Difference:
    from tapeline_lab.validity import bootstrap_difference

    days = len(mine)
    if days < LEAST_DAYS or not (np.ptp(mine) and np.ptp(other)):
        one, two = (getattr(figures_of(returns, year), name) for returns in (mine, other))
        return Difference(None if one is None or two is None else one - two, None, None, days)
    found = bootstrap_difference(mine, other, name, seed=seed, periods_per_year=float(year))
    return Difference(found.estimate, found.low, found.high, days)


# ---- reading -----------------------------------------------------------------------------------------------------


def read_recorded(path: Path) -> RecordedRun:
    """A tape, a data folder, or the folder or ``report.json`` of a report.

    Raises ``RunUnusable``. A tape that cannot be read ends the command as it ends ``tapeline report``.
    """
    folder = path.parent if path.name == REPORT else path
    if (folder / REPORT).is_file() and (folder / CURVE).is_file():
        return _of_report(path, folder)
    from tapeline_lab.reports.command import read_run
    from tapeline_lab.reports.metrics import daily, year_of

    session = read_run(path, path)
    by_day = daily(session)
    return RecordedRun(
        name=str(path),
        realm=session.started.realm.value,
        day=by_day.day,
        returns=by_day.returns,
        market=by_day.market,
        year=year_of(session),
        trades=session.report.trades,
    )


def _of_report(path: Path, folder: Path) -> RecordedRun:
    import polars

    from tapeline_backtest.report import day_ends, returns_of

    curve = polars.read_parquet(folder / CURVE)
    if "market" not in curve.columns:
        raise RunUnusable(f"{path}: {CURVE} has no column market: write the report anew with `tapeline report --to`")
    time_ns = curve["time"].dt.epoch("ns").to_numpy()
    ends = day_ends(time_ns)
    equity, market = (curve[name].to_numpy() for name in ("equity", "market"))
    told = msgspec.json.decode((folder / REPORT).read_bytes())
    manifest = folder / MANIFEST
    realm = msgspec.json.decode(manifest.read_bytes())["realm"] if manifest.is_file() else Realm.REPLAY.value
    return RecordedRun(
        name=str(path),
        realm=realm,
        day=(time_ns[ends] - 1) // DAY_NS,
        returns=returns_of(np.concatenate([equity[:1], equity[ends]])),
        market=returns_of(np.concatenate([market[:1], market[ends]])),
        year=int(told["metrics"]["periods_per_year"]),
        trades=int(told["report"]["trades"]),
    )
