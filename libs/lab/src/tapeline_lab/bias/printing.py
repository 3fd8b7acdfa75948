"""Analyses as tables for people: what was tried, what was found, and what could not be tried."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tapeline_common.commands_shared import time_text
from tapeline_lab.bias.findings import Analysis, Finding

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
