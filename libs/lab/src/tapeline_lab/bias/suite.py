"""Every detector that fits a piece of research code, in one call.

Which ones fit follows from what it says: prices of several instruments are examined for survivors, the columns
``position`` and ``returns`` for fills in the deciding bar, and every column of numbers for knowledge of the target.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from tapeline_lab.bias.findings import Analysis, Finding
from tapeline_lab.bias.leaks import earned_in_deciding_bar, survivorship, target_leakage
from tapeline_lab.bias.lookahead import lookahead_analysis
from tapeline_lab.bias.subjects import Subject
from tapeline_lab.bias.tables import INSTRUMENT, TIME, Output, Table, output_of

POSITION, RETURNS = "position", "returns"
"""Outputs that are taken for the exposure decided at a bar's close and the simple return earned in a bar."""


def examine(subject: Subject, table: Table, **how: Any) -> Analysis:
    """``lookahead_analysis`` and whatever other detector fits; ``how`` are its arguments.

    A column is reported once: what looks ahead surely knows the target as well.
    """
    analysis = lookahead_analysis(subject, table, **how)
    seen = {finding.column for finding in analysis.findings}
    if INSTRUMENT in table:
        more = survivorship(subject, table, seed=analysis.seed)
    else:
        copied = {name: column.copy() for name, column in table.items()}
        more = _of_results(subject, table, output_of(subject.run(copied), table))
    new = tuple(finding for finding in more if finding.column not in seen)
    return msgspec.structs.replace(analysis, findings=(*analysis.findings, *new))


def _of_results(subject: Subject, table: Table, output: Output) -> list[Finding]:
    if not np.array_equal(output.time_ns, table[TIME]):
        return []  # rows of their own: no bar's return belongs to them
    numbers = {name: column for name, column in output.columns.items() if column.dtype == np.float64}
    results = {RETURNS} if POSITION in numbers else set()
    # The bars themselves and what was earned are no features.
    features = {name: column for name, column in numbers.items() if name not in {*table, *results}}
    features.update({name: column for name, column in table.items() if name not in BARS and column.dtype.kind == "f"})
    found = target_leakage(features, table, subject=subject.name)
    if POSITION in numbers and RETURNS in numbers:
        found += earned_in_deciding_bar(numbers[POSITION], numbers[RETURNS], table, subject.name)
    return found


BARS = (TIME, "open", "high", "low", "close", "volume")
