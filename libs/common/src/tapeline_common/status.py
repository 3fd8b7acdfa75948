"""What a running stack is doing, in numbers: positions, lag, orders, fills, equity. For the live table and programs."""

from __future__ import annotations

from typing import Any

import msgspec
from rich.table import Table

from tapeline_common.events import EquityMarked, Event, OrderFilled, OrderSubmitted, TradingHalted, TradingResumed
from tapeline_common.operator_client import OperatorClient
from tapeline_common.tape import ReadRequest, TapeReader
from tapeline_common.wire import decode_fact

LISTEN_S = 2.0
"""How long services' progress is listened to at most; each speaks at least every quarter second."""

_COUNTED = ("OrderSubmitted", "OrderFilled", "TradeClosed", "EquityMarked", "TradingHalted", "TradingResumed")


class Status(msgspec.Struct, frozen=True):
    """Counts are of the whole tape. ``equity`` is as last marked; ``services`` says how far each has heard."""

    facts: int
    orders: int
    fills: int
    trades: int
    equity: str
    trading: str
    services: dict[str, int]
    restarts: dict[str, int] = {}
    chain: dict[str, Any] = {}


class Counts:
    """What has been counted of one growing tape, so that who looks every second reads only what is new."""

    def __init__(self) -> None:
        self._through = 0
        self._orders = self._fills = self._trades = 0
        self._equity, self._trading = "-", "running"

    async def gather(self, client: OperatorClient) -> Status:
        """Ask the ledger and listen to the services. Raises ``TapeUnavailable``."""
        heard = await client.progress(client.running.services, LISTEN_S)
        head = await self._count(client.tape)
        services = {name: heard.get(name, 0) for name in client.running.services}
        return Status(head, self._orders, self._fills, self._trades, self._equity, self._trading, services)

    async def _count(self, tape: TapeReader) -> int:
        """Take in what was recorded since the last time. Returns the head."""
        while True:
            page = await tape.read(ReadRequest(self._through, limit=5000, types=_COUNTED))
            for payload in page.facts:
                self._take(decode_fact(payload).event)
            self._through = page.through
            if page.through >= page.head:
                return page.head

    def _take(self, event: Event) -> None:
        match event:
            case OrderSubmitted():
                self._orders += 1
            case OrderFilled():
                self._fills += 1
            case EquityMarked(equity=marked):
                self._equity = f"{marked:.2f}"
            case TradingHalted(reason=reason):
                self._trading = f"halted ({reason})"
            case TradingResumed():
                self._trading = "running"
            case _:
                self._trades += 1


async def gather_status(client: OperatorClient) -> Status:
    """One look at the whole tape. Raises ``TapeUnavailable``."""
    return await Counts().gather(client)


def status_table(status: Status) -> Table:
    """A table for people."""
    table = Table(
        title=f"tape at {status.facts} · trading {status.trading} · {status.orders} orders · {status.fills} fills · "
        f"{status.trades} trades · equity {status.equity}"
    )
    for column in ("service", "heard", "lag", "restarts"):
        table.add_column(column, justify="left" if column == "service" else "right")
    for name, pos in status.services.items():
        lag = max(0, status.facts - pos) if pos else "-"
        table.add_row(name, str(pos or "-"), str(lag), str(status.restarts.get(name, 0)))
    return table


def summary_lines(status: Status) -> list[str]:
    """A summary in plain lines; the first one stands alone as a progress line."""
    lines = [
        f"facts {status.facts}, orders {status.orders}, fills {status.fills}, trades {status.trades}, "
        f"equity {status.equity}, trading {status.trading}"
    ]
    if status.chain:
        fault = status.chain.get("fault")
        lines.append(f"chain BROKEN: {fault}" if fault else f"chain verified, head {status.chain.get('head_hash', '')}")
    restarted = {name: count for name, count in status.restarts.items() if count}
    if restarted:
        lines.append("restarts " + ", ".join(f"{name} {count}" for name, count in restarted.items()))
    return lines
