"""The projection tables in Postgres: writes what ``projections`` folded, inside the caller's transaction.

Rows of recently touched orders are kept at hand, so that a step in an order's life costs one upsert and no query. The
table names carry no schema: whoever wants to write elsewhere (``rebuild``) puts tables of the same names first in the
search path.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from tapeline_common.wire import Fact
from tapeline_ledger.projections import PROJECTED, Changes, OrderRow, Row, fold, orders_touched

KEPT_ORDERS = 500
"""Order rows kept in memory; orders beyond that are read back when they are touched again."""

ORDER_COLUMNS = tuple(OrderRow.__struct_fields__)
POSITION_COLUMNS = ("strategy", "instrument", "quantity", "average_price", "realised_pnl", "fees", "time_ns", "pos")


def _upsert(table: str, columns: Sequence[str], keys: Sequence[str]) -> str:
    values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    updates = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in keys)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values}) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {updates}"
    )


_UPSERT_ORDER = _upsert("orders", ORDER_COLUMNS, ["order_id"])
_UPSERT_POSITION = _upsert("positions", POSITION_COLUMNS, ["strategy", "instrument"])
_SELECT_ORDERS = f"SELECT {', '.join(ORDER_COLUMNS)} FROM orders WHERE order_id = ANY($1)"


class Tables:
    """Writer of the projection tables. ``connection`` is always an asyncpg connection inside a transaction."""

    def __init__(self) -> None:
        self._orders: dict[str, OrderRow] = {}

    def forget(self) -> None:
        """Drop the rows kept in memory: the transaction they belong to did not commit."""
        self._orders.clear()

    async def write(self, connection: Any, facts: Sequence[Fact]) -> None:
        """Bring all tables up to date with the next facts."""
        changes = await self.changes(connection, facts)
        if changes.orders:
            rows = [msgspec.structs.astuple(row) for row in changes.orders.values()]
            await connection.executemany(_UPSERT_ORDER, rows)
        if changes.positions:
            await connection.executemany(_UPSERT_POSITION, list(changes.positions.values()))
        await _copy(connection, "fills", changes.fills)
        await _copy(connection, "trades", changes.trades)
        await _copy(connection, "equity", changes.equity)

    async def changes(self, connection: Any, facts: Sequence[Fact]) -> Changes:
        """The rows that the next facts change; whoever asks must write them, or ``forget``."""
        projected = [fact for fact in facts if type(fact.event) in PROJECTED]
        touched = orders_touched(projected)
        if touched:
            await self._load_orders(connection, touched)
        changes = fold(projected, self._orders)
        self._let_go()
        return changes

    async def _load_orders(self, connection: Any, touched: Sequence[str]) -> None:
        missing = [order for order in touched if order not in self._orders]
        if missing:
            for record in await connection.fetch(_SELECT_ORDERS, missing):
                row = OrderRow(*record)
                self._orders[row.order_id] = row

    def _let_go(self) -> None:
        """Forget the oldest rows, never all at once: memory would grow around the holes."""
        for order in list(islice(self._orders, max(0, len(self._orders) - KEPT_ORDERS))):
            del self._orders[order]


async def _copy(connection: Any, table: str, rows: list[Row]) -> None:
    if rows:
        await connection.copy_records_to_table(table, records=rows)
