"""What a file of market data holds, told from the names of its columns and from nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum

from tapeline_marketdata import depth_files, funding, trade_files
from tapeline_marketdata.files import NUMBER_COLUMNS, TIME_COLUMNS


class DataKind(StrEnum):
    """OTHER: a table with a time of something that no reader of ours takes, such as chains of options."""

    BARS = "bars"
    TRADES = "trades"
    FUNDING = "funding"
    BOOK = "book"
    QUOTES = "quotes"
    OTHER = "other"


TIMES: tuple[str, ...] = tuple(dict.fromkeys((*funding.TIMES, *trade_files.COLUMNS["ts"], *TIME_COLUMNS)))
"""Every name under which any reader takes a time."""

DERIVATIVE = frozenset(("strike", "expiry", "right"))
"""Rows with one of these are of many instruments."""


def kind_of(columns: Sequence[str]) -> DataKind:
    """The kind of the table that has these columns, in any case and order."""
    names = {name.strip().lower() for name in columns}
    if names & DERIVATIVE:
        return DataKind.OTHER
    if names.issuperset(NUMBER_COLUMNS):
        return DataKind.BARS
    if names & set(funding.RATES):
        return DataKind.FUNDING
    if "price" in names:
        is_book = "side" in names and bool(names & set(depth_files.COLUMNS["snapshot"]))
        return DataKind.BOOK if is_book else DataKind.TRADES
    return DataKind.QUOTES if names.issuperset(("bid", "ask")) else DataKind.OTHER


def time_column(columns: Sequence[str], accepted: Collection[str] = TIMES) -> str | None:
    """The file's name of its time column: the first of the accepted names, in their order, that it has."""
    by_lower = {name.strip().lower(): name for name in columns}
    return next((by_lower[name] for name in accepted if name in by_lower), None)
