"""What ``tapeline diff`` prints: tables for people, one object for programs. It computes nothing but percentages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from tapeline_common.commands_shared import time_text
from tapeline_common.recheck import code_versions
from tapeline_common.version import code_version
from tapeline_lab.parity.comparison import Decision, Kind
from tapeline_lab.parity.diff import Count, Diff, Difference, basis_points, in_basis_points
from tapeline_lab.parity.record import Record

WIDTH = 120
"""Columns where the output is no terminal."""


class KindRow(msgspec.Struct, frozen=True):
    """Decisions of one kind: how many then, how many today, how many the same; ``decisions`` of either side."""

    recorded: int
    today: int
    same: int
    decisions: int


class CauseRow(msgspec.Struct, frozen=True):
    """One cause.

    Attributes:
        changed: how many decisions changed when it was switched.
        decisions: how many of them it changed last, and still differ: those that it explains.
        origins: how many of these follow from no other difference.
        first: the earliest of them: its place in the record, or in today's tape if only that has it.
        equity: how far it moved the final equity, exactly; ``equity_bps`` in basis points of what was paid in.
        by_code: questions that today's code answers otherwise; ``by_facts``: outside facts that are others today;
            ``by_timetable``: answers come when a backtest has them; ``by_venue``: a simulated venue stands in for a
            real one.
    """

    changed: int
    decisions: int
    origins: int
    first: int | None
    equity: Decimal
    equity_bps: Decimal
    by_code: int
    by_facts: int
    by_timetable: bool
    by_venue: bool


class DifferenceRow(msgspec.Struct, frozen=True):
    """One decision that differs. ``fields``: (then, today) of what differs where both sides made it."""

    cause: str
    origin: bool
    kind: str
    event: str
    author: str
    time_ns: int
    name: str
    recorded_pos: int | None
    today_pos: int | None
    fields: dict[str, tuple[Any, Any]]


class DiffReport(msgspec.Struct, frozen=True):
    """The result of ``tapeline diff``. ``parity_percent`` is rounded down: 100 only if every decision is the same."""

    run: str
    facts: int
    code_version: str
    written_by: dict[int, str]
    parity_percent: Decimal
    decisions: int
    same: int
    under_way: int
    kinds: dict[str, KindRow]
    capital: Decimal
    recorded_equity: Decimal
    today_equity: Decimal
    equity_gap: Decimal
    equity_gap_bps: Decimal
    remainder: Decimal
    causes: dict[str, CauseRow]
    first: DifferenceRow | None
    differences: list[DifferenceRow]


def percent(same: int, decisions: int) -> Decimal:
    """Share in percent with two places, rounded down, so that a single difference never reads 100.00."""
    share = Decimal(100) if not decisions else Decimal(100 * same) / Decimal(decisions)
    return share.quantize(Decimal("0.01"), rounding=ROUND_FLOOR)


def report_of(run: str, record: Record, found: Diff, limit: int) -> DiffReport:
    points = in_basis_points(found.shares, found.capital)
    causes = {}
    for share, bps in zip(found.shares, points, strict=True):
        mine = [each for each in found.differences if each.cause is share.cause]
        if mine or share.gap or any((share.by_code, share.by_facts, share.by_timetable, share.by_venue)):
            causes[share.cause.value] = CauseRow(
                changed=share.changed,
                decisions=len(mine),
                origins=sum(each.is_origin for each in mine),
                first=mine[0].decision.pos if mine else None,
                equity=share.gap,
                equity_bps=bps,
                by_code=share.by_code,
                by_facts=share.by_facts,
                by_timetable=share.by_timetable,
                by_venue=share.by_venue,
            )
    return DiffReport(
        run=run,
        facts=len(record.facts),
        code_version=code_version(),
        written_by=dict(code_versions(record.facts)),
        parity_percent=percent(found.same, found.decisions),
        decisions=found.decisions,
        same=found.same,
        under_way=found.under_way,
        kinds={kind.value: _kind(found.counts[kind]) for kind in Kind if kind in found.counts},
        capital=found.capital,
        recorded_equity=found.recorded_equity,
        today_equity=found.today_equity,
        equity_gap=found.gap,
        equity_gap_bps=basis_points(found.gap, found.capital),
        remainder=found.remainder,
        causes=causes,
        first=next((_row(each) for each in found.differences if each.is_origin), None),
        differences=[_row(each) for each in found.differences[:limit]],
    )


def _kind(count: Count) -> KindRow:
    return KindRow(count.recorded, count.today, count.same, count.decisions)


def _row(difference: Difference) -> DifferenceRow:
    decision = difference.decision
    recorded, today = difference.recorded, difference.today
    return DifferenceRow(
        cause=difference.cause.value,
        origin=difference.is_origin,
        kind=decision.kind.value,
        event=decision.event,
        author=decision.author,
        time_ns=decision.time_ns,
        name=decision.key,
        recorded_pos=None if recorded is None else recorded.pos,
        today_pos=None if today is None else today.pos,
        fields={} if recorded is None or today is None else _fields(recorded, today),
    )


def _fields(recorded: Decision, today: Decision) -> dict[str, tuple[Any, Any]]:
    return dict(_changed("", recorded.content, today.content))


def _changed(prefix: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, tuple[Any, Any]]]:
    found: list[tuple[str, tuple[Any, Any]]] = []
    for name in dict.fromkeys([*one, *other]):
        before, after = one.get(name), other.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += _changed(f"{prefix}{name}.", before, after)
        elif before != after:
            found.append((f"{prefix}{name}", (before, after)))
    return found


# ---- for people ----------------------------------------------------------------------------------------------------


def print_report(report: DiffReport, limit: int) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    differing = sum(row.decisions for row in report.causes.values())
    console.print(f"{report.run}: {report.facts:,} facts, {report.decisions:,} decisions", markup=False)
    for pos, version in report.written_by.items():
        if version != report.code_version:
            console.print(f"from position {pos} on written by {version}; this is {report.code_version}", markup=False)
    if report.under_way:
        console.print(f"{report.under_way} answers were on their way when the session ended; they are not judged")
    console.print(_kinds(report))
    if report.causes:
        console.print(_causes(report))
    if report.first is not None:
        click.echo(f"first divergence: {_line(report.first).strip('* ')}")
    if report.differences:
        _print_differences(report, limit, differing)
    click.echo(f"parity {report.parity_percent} % of {report.decisions:,} decisions")
    click.echo(
        f"equity {_money(report.recorded_equity)} recorded, {_money(report.today_equity)} today, "
        f"{_signed(report.equity_gap)} ({_signed(report.equity_gap_bps)} bps)"
    )


def _kinds(report: DiffReport) -> Table:
    table = Table()
    for name in ("decisions", "recorded", "today", "same", "%"):
        table.add_column(name, justify="left" if name == "decisions" else "right")
    for kind, row in report.kinds.items():
        share = str(percent(row.same, row.decisions))
        table.add_row(kind.lower(), f"{row.recorded:,}", f"{row.today:,}", f"{row.same:,}", share)
    return table


def _causes(report: DiffReport) -> Table:
    table = Table()
    table.add_column("cause")
    for name in ("changed", "decisions", "origins", "first at", "equity", "bps"):
        table.add_column(name, justify="right")
    table.add_column("by")
    for cause, row in report.causes.items():
        ways = [f"{name} ({count})" for name, count in (("code", row.by_code), ("facts", row.by_facts)) if count]
        ways += [name for name, is_so in (("timetable", row.by_timetable), ("venue", row.by_venue)) if is_so]
        first = "-" if row.first is None else str(row.first)
        numbers = [f"{each:,}" for each in (row.changed, row.decisions, row.origins)]
        money = _signed(row.equity), _signed(row.equity_bps)
        table.add_row(cause, *numbers, first, *money, ", ".join(ways) or "unknown")
    table.add_section()
    origins = sum(row.origins for row in report.causes.values())
    money = _signed(report.equity_gap), _signed(report.equity_gap_bps)
    table.add_row("total", "", f"{report.decisions - report.same:,}", f"{origins:,}", "", *money)
    return table


def _print_differences(report: DiffReport, limit: int, differing: int) -> None:
    click.echo(f"differences, the first {min(limit, differing):,} of {differing:,} (* follows from no other):")
    for row in report.differences:
        click.echo(_line(row))


def _line(row: DifferenceRow) -> str:
    mark = "*" if row.origin else " "
    return f"{mark} {_place(row):<11} {time_text(row.time_ns)} {row.cause:<13} {row.event:<16} {_what(row)}"


def _place(row: DifferenceRow) -> str:
    return f"+{row.today_pos}" if row.recorded_pos is None else str(row.recorded_pos)


def _what(row: DifferenceRow) -> str:
    if row.recorded_pos is None:
        return f"only today: {row.name}"
    if row.today_pos is None:
        return f"not today: {row.name}"
    return ", ".join(f"{name} {_shown(then)} -> {_shown(now)}" for name, (then, now) in row.fields.items())


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _money(value: Decimal) -> str:
    return f"{value:,.2f}"


def _signed(value: Decimal) -> str:
    return "0" if not value else f"{value.normalize():+,f}"
