"""One group in one statement: the facts, the rows projected from them and the offset, committed in one round trip.

A statement outside a transaction block is a transaction of its own, so a group needs no BEGIN and no COMMIT: its parts
are data-modifying ``WITH`` clauses of one prepared statement. Where no table gets more than one row, as at most commits
of a live chain, the values are given; else every table's rows come as one array per column, whose unpacking costs as
much as a row. Deciding that for each table apart would save little and make some hundred statements, most of them rare:
each that is met for the first time takes 100 to 200 KiB of the server's session for good. Bulk is faster by COPY
(``store``); the answers of a live chain come one to a few at a time, where the round trips are what costs.
This module makes statements and arguments; it executes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

from tapeline_ledger.projections import Changes

Columns = tuple[tuple[str, str], ...]
"""(name, type in Postgres) of each column, in order."""

TAPE: Columns = (
    ("pos", "bigint"),
    ("stream", "text"),
    ("version", "bigint"),
    ("id", "text"),
    ("author", "text"),
    ("type", "text"),
    ("schema", "integer"),
    ("time_ns", "bigint"),
    ("cause", "bigint"),
    ("correlation", "bigint"),
    ("payload", "bytea"),
    ("prev_hash", "bytea"),
    ("hash", "bytea"),
)

ORDERS: Columns = (
    *((name, "text") for name in ("order_id", "strategy", "instrument", "side", "order_type", "time_in_force")),
    ("purpose", "text"),
    *((name, "numeric") for name in ("quantity", "limit_price", "stop_price")),
    *((name, "text") for name in ("client_order_id", "venue_order_id", "status", "reason")),
    *((name, "numeric") for name in ("filled", "notional", "fees")),
    *((name, "bigint") for name in ("proposed_ns", "updated_ns", "first_pos", "last_pos")),
)

POSITIONS: Columns = (
    *((name, "text") for name in ("strategy", "instrument")),
    *((name, "numeric") for name in ("quantity", "average_price", "realised_pnl", "fees")),
    *((name, "bigint") for name in ("time_ns", "pos")),
)

FILLS: Columns = (
    *((name, "bigint") for name in ("pos", "time_ns")),
    *((name, "text") for name in ("order_id", "trade_id", "strategy", "instrument", "side")),
    *((name, "numeric") for name in ("quantity", "price", "fee")),
    *((name, "text") for name in ("fee_currency", "liquidity")),
    ("slippage", "numeric"),
)

TRADES: Columns = (
    *((name, "bigint") for name in ("pos", "time_ns")),
    *((name, "text") for name in ("trade", "strategy", "instrument", "side")),
    *((name, "numeric") for name in ("quantity", "entry_price", "exit_price")),
    *((name, "bigint") for name in ("opened_ns", "closed_ns")),
    *((name, "numeric") for name in ("pnl", "fees", "funding")),
    ("decision", "text"),
)

EQUITY: Columns = (
    *((name, "bigint") for name in ("pos", "marked_ns")),
    *((name, "numeric") for name in ("cash", "equity", "exposure")),
)

TABLES: dict[str, tuple[Columns, tuple[str, ...]]] = {
    "tape": (TAPE, ()),
    "orders": (ORDERS, ("order_id",)),
    "positions": (POSITIONS, ("strategy", "instrument")),
    "fills": (FILLS, ()),
    "trades": (TRADES, ()),
    "equity": (EQUITY, ()),
}
"""Columns of each table, and the key by which a row replaces an older one."""


def group(tape: Sequence[Sequence[Any]], changes: Changes) -> tuple[str, list[Any]]:
    """The statement that records a group and what it projects, and its arguments.

    Args:
        tape: rows of the tape, with the columns of ``TAPE``, in the order of their positions.
    """
    rows: dict[str, Sequence[Sequence[Any]]] = {
        "tape": tape,
        "orders": [msgspec.structs.astuple(row) for row in changes.orders.values()],
        "positions": list(changes.positions.values()),
        "fills": changes.fills,
        "trades": changes.trades,
        "equity": changes.equity,
    }
    touched = tuple([name for name, its_rows in rows.items() if its_rows])
    is_one_row = all(len(rows[name]) == 1 for name in touched)
    arguments: list[Any] = []
    for name in touched:
        given = rows[name] if name == "tape" else _with_numbers_as_text(rows[name])
        arguments.extend(given[0] if is_one_row else _columns(given))
    return statement(touched, is_one_row=is_one_row), arguments


def _with_numbers_as_text(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """asyncpg would take each number apart into a tuple of its digits, and Python 3.11 never uses one of 20 again."""
    return [[str(value) if type(value) is Decimal else value for value in row] for row in rows]


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Rows turned, as lists: ``zip`` would make tuples, with the same end if there are 20 rows."""
    return [[row[index] for row in rows] for index in range(len(rows[0]))]


@cache
def statement(tables: tuple[str, ...], *, is_one_row: bool) -> str:
    """Text of the statement that adds rows to these tables.

    Its parameters are, for each table and column, a value if each gets one row, else an array; numbers are sent as
    text. Those of the tape come first, so the last position in ``$1`` is the projections' new offset.
    """
    assert tables[0] == "tape", "nothing is projected without facts"
    parts = []
    number = 1
    array, last = ("", "$1") if is_one_row else ("[]", "$1[cardinality($1)]")
    for table in tables:
        columns, keys = TABLES[table]
        given = ", ".join(f"${number + index}{_cast(kind, array)}" for index, (_, kind) in enumerate(columns))
        number += len(columns)
        names = ", ".join(name for name, _ in columns)
        source = f"VALUES ({given})" if is_one_row else f"SELECT * FROM unnest({given})"
        parts.append(f"new_{table} AS (INSERT INTO {table} ({names}) {source}{_replacing(columns, keys)})")
    return f"WITH {', '.join(parts)} UPDATE projection_offset SET pos = {last}"


def _cast(kind: str, array: str) -> str:
    sent = f"::text{array}" if kind == "numeric" else ""
    return f"{sent}::{kind}{array}"


def _replacing(columns: Columns, keys: tuple[str, ...]) -> str:
    if not keys:
        return ""
    updates = ", ".join(f"{name} = excluded.{name}" for name, _ in columns if name not in keys)
    return f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {updates}"
