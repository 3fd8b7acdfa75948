"""Analyses as tables for people: what was tried, what was found, and what could not be tried."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tapeline_common.commands_shared import time_text
from tapeline_lab.bias.findings import Analysis, Finding
from tapeline_lab.bias.recursive import RecursiveAnalysis
from tapeline_lab.bias.significance import Significance

WIDTH = 140
"""Columns where the output is no terminal."""


def print_lookahead(analyses: Sequence[Analysis]) -> None:
    console = _console()
    table = Table(title="look-ahead analysis")
    for column in ("subject", "bars", "columns", "cuts", "runs", "not run", "result"):
        table.add_column(column, justify="left" if column in ("subject", "result") else "right")
    for one in analyses:
        not_run = ", ".join(f"{probe.lower()} {count}" for probe, count in one.not_run.items()) or "-"
        result = "clean" if one.is_clean else f"BIASED ({len(one.findings)})"
        table.add_row(one.subject, f"{one.bars:,}", str(one.columns), str(one.cuts), str(one.runs), not_run, result)
    console.print(table)
    print_findings(console, [finding for one in analyses for finding in one.findings])
    for one in analyses:
        for probe, error in one.errors.items():
            console.print(f"{one.subject}, {probe.lower()}: not run: {error}", soft_wrap=True, markup=False)


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    for finding in findings:
        place = f"bar {finding.bar} ({time_text(finding.time_ns)})"
        console.print(f"{finding.kind.value}  {finding.subject}, {place}", soft_wrap=True, markup=False)
        console.print(f"    {finding.sentence}", soft_wrap=True, markup=False)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDTH)


def print_recursive(analyses: Sequence[RecursiveAnalysis]) -> None:
    console = _console()
    for one in analyses:
        table = Table(title=f"{one.subject}: relative difference, started so many bars before", title_justify="left")
        heads = [*(str(startup) for startup in one.startups), f"declared {one.declared}", "settles after"]
        table.add_column("column")
        for head in heads:
            table.add_column(head, justify="right")
        for column in one.columns:
            if column.is_counter:
                continue
            declared = "-" if column.at_declared is None else _off(column.at_declared)
            settles = "never" if column.settles_after is None else str(column.settles_after)
            settles += " (carried)" if column.is_carried else ""
            table.add_row(column.column, *(_off(each) for each in column.differences), declared, settles)
        console.print(table)
        print_findings(console, one.findings)


def _off(difference: float) -> str:
    return "0" if difference == 0.0 else f"{difference:.1e}"


def print_significance(analyses: Sequence[Significance]) -> None:
    console = _console()
    for one in analyses:
        table = Table(title=f"{one.subject} on {one.bars:,} bars", title_justify="left")
        for column in ("test", "drawn", "result", "verdict"):
            table.add_column(column)
        for test in one.nulls:
            result = f"mean Sharpe {test.mean_sharpe:+.3f}, standard error {test.standard_error:.3f}"
            verdict = "fair" if test.is_fair else "BIASED"
            table.add_row(f"fair market, {test.null.value.lower()}", f"{test.series} series", result, verdict)
        shuffled = one.permutation
        result = f"Sharpe {shuffled.sharpe:+.3f}; {shuffled.as_good} orders do as well"
        table.add_row("bars in another order", f"{shuffled.series} series", result, f"p = {shuffled.p_value:.4f}")
        entry = one.random_entry
        if entry is None:
            table.add_row("random entries", "-", "no trade", "-")
        else:
            result = f"{entry.trades} stays earn {entry.earned:+,.2f} before costs; {entry.as_good} do as well"
            table.add_row("random entries", f"{entry.draws:,} draws", result, f"p = {entry.p_value:.4f}")
        console.print(table)
        print_findings(console, one.findings)
