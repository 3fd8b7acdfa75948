"""The exchange feed on a second exchange, chosen by its name alone.

A local server speaks just enough of Kraken's REST format, whose times, names and nesting are all different.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from tapeline_common.events import BarClosed
from tapeline_marketdata.exchange import ExchangeBars, InstrumentFacts

FIRST_MS = 1_700_000_040_000
MINUTE_NS = 60 * 10**9
BEFORE_FIRST_NS = FIRST_MS * 1_000_000 - MINUTE_NS

KRAKEN_PAIR = {
    "altname": "XBTUSD",
    "wsname": "XBT/USD",
    "aclass_base": "currency",
    "base": "XXBT",
    "aclass_quote": "currency",
    "quote": "ZUSD",
    "lot": "unit",
    "cost_decimals": 5,
    "pair_decimals": 1,
    "lot_decimals": 8,
    "lot_multiplier": 1,
    "leverage_buy": [],
    "leverage_sell": [],
    "fees": [[0, 0.4]],
    "fees_maker": [[0, 0.25]],
    "ordermin": "0.00005",
    "costmin": "0.5",
    "tick_size": "0.1",
    "status": "online",
}


@pytest.fixture
async def kraken_url() -> AsyncIterator[str]:
    """A server that speaks just enough of Kraken's REST format: another exchange, other shapes."""
    first_s = FIRST_MS // 1000
    rows = [[first_s + 60 * n, "42000.0", "42000.5", "41999.9", "42000.10", "42000.0", "0.00001000", 3] for n in (0, 1)]
    assets = {
        name: {"aclass": "currency", "altname": alt, "decimals": 8, "display_decimals": 5, "status": "enabled"}
        for name, alt in (("XXBT", "XBT"), ("ZUSD", "USD"))
    }
    results: dict[str, Any] = {
        "Assets": assets,
        "AssetPairs": {"XXBTZUSD": KRAKEN_PAIR},
        "OHLC": {"XXBTZUSD": rows, "last": first_s},
        "Time": {"unixtime": first_s + 60},
    }

    async def public(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": [], "result": results[request.match_info["name"]]})

    app = web.Application()
    app.router.add_get("/0/public/{name}", public)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_another_exchange_works_by_its_name_alone(kraken_url: str) -> None:
    """Kraken's seconds, names and nesting give the same kind of bars, text kept, and the same kind of facts."""
    feed = ExchangeBars(
        "kraken", "BTC/USD", "1m", base_url=kraken_url, limit_rate=False, settle_s=0.0, watermark_ns=BEFORE_FIRST_NS
    )
    bars, facts = await feed.poll(), await feed.instrument_facts()
    await feed.close()

    open_ns = FIRST_MS * 1_000_000
    texts = ("42000.0", "42000.5", "41999.9", "42000.10", "0.00001000")
    assert bars == [BarClosed("BTC/USD", "1m", open_ns, open_ns + MINUTE_NS, *texts)]
    assert isinstance(facts, InstrumentFacts)
    assert (facts.tick_size, facts.lot_size, facts.min_quantity, facts.min_notional) == (
        Decimal("0.1"),
        Decimal("0.00000001"),
        Decimal("0.00005"),
        Decimal("0.5"),
    )
