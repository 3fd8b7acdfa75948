"""A whole report as data: what the console prints, the page draws and ``--json`` says, computed once.

Other parts of the laboratory hand in what they found through plain data: a verdict, a grid, folds, a fan. What is not
handed in is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from tapeline_backtest.report import Report
from tapeline_backtest.session import Session
from tapeline_lab.reports.breakdown import Period, PeriodRow, breakdown
from tapeline_lab.reports.checks import Finding, Grid, findings
from tapeline_lab.reports.groups import Group, Groups, groups, total
from tapeline_lab.reports.metrics import Daily, Metrics, daily, metrics


class Said(Protocol):
    """One reason of a verdict. ``standing`` is DOUBTS, UNKNOWN, SUPPORTS or NEUTRAL."""

    @property
    def standing(self) -> str: ...

    @property
    def words(self) -> str: ...


class Verdict(Protocol):
    """What the evidence supports, as ``tapeline_lab.validity`` says it: the first sentence sums the others up."""

    @property
    def level(self) -> str: ...

    @property
    def words(self) -> Sequence[str]: ...

    @property
    def findings(self) -> Sequence[Said]: ...


class Reason(msgspec.Struct, frozen=True):
    """Why a verdict is what it is, and which way it points."""

    standing: str
    words: str


class Judged(msgspec.Struct, frozen=True):
    """A verdict as a report keeps it. ``words`` are its sentence and those of all reasons."""

    level: str
    words: tuple[str, ...]
    reasons: tuple[Reason, ...]


class Span(msgspec.Struct, frozen=True):
    """The 95 % interval of a figure."""

    low: float
    high: float


class LeftOpen(msgspec.Struct, frozen=True):
    """A position when the tape ended, at the last price. ``profit`` after fees and funding so far."""

    strategy: str
    instrument: str
    quantity: str
    average_price: float
    last_price: float
    opened_ns: int
    profit: float


class Document(msgspec.Struct, frozen=True):
    """What ``report.json`` holds. intervals: of headline figures, where there are days and trades enough."""

    verdict: Judged | None
    intervals: dict[str, Span]
    findings: tuple[Finding, ...]
    metrics: Metrics
    groups: Groups
    total: Group
    left_open: tuple[LeftOpen, ...]
    breakdown: dict[str, list[PeriodRow]]
    report: Report


class View(msgspec.Struct, frozen=True):
    """A document with what it was made of, for charts."""

    session: Session
    by_day: Daily
    document: Document


def view(
    session: Session,
    periods: Sequence[Period],
    verdict: Verdict | None = None,
    grid: Grid | None = None,
    intervals: Mapping[str, Span] | None = None,
) -> View:
    by_day = daily(session)
    document = Document(
        verdict=None if verdict is None else _judged(verdict),
        intervals=dict(intervals or {}),
        findings=findings(session, by_day.returns.tolist(), grid),
        metrics=metrics(session),
        groups=groups(session),
        total=total(session),
        left_open=tuple(
            LeftOpen(
                each.strategy,
                session.name(each.instrument),
                str(each.quantity),
                float(each.average_price),
                float(each.last_price),
                each.opened_ns,
                float(each.profit),
            )
            for each in session.open_positions
        ),
        breakdown={
            period.value: breakdown(by_day.day, by_day.returns, session.trades, period)
            for period in dict.fromkeys(periods)
        },
        report=session.report,
    )
    return View(session, by_day, document)


def _judged(verdict: Verdict) -> Judged:
    reasons = tuple(Reason(str(each.standing), each.words) for each in verdict.findings)
    return Judged(str(verdict.level), tuple(verdict.words), reasons)
