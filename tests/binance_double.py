"""A local server that speaks Binance's REST format, with candles that tests can predict, and misbehaves on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tapeline_common.events import BarClosed

MINUTE_MS = 60_000
MINUTE_NS = MINUTE_MS * 1_000_000
FIRST_MS = 1_700_000_040_000
"""2023-11-14 22:14:00 UTC, on the minute."""

Fault = Callable[[web.Request], web.StreamResponse]


def candle(number: int, **changes: str) -> list[Any]:
    """Minute ``number`` as Binance prints it: eight decimals, and a close time one ms before the next open."""
    cents = 4_200_000 + number
    texts = {
        "open": f"{cents / 100:.8f}",
        "high": f"{(cents + 50) / 100:.8f}",
        "low": f"{(cents - 50) / 100:.8f}",
        "close": f"{(cents + 10) / 100:.8f}",
        "volume": "0.00001000",
        **changes,
    }
    open_ms = FIRST_MS + number * MINUTE_MS
    return [open_ms, *texts.values(), open_ms + MINUTE_MS - 1, "0.42000000", 3, "0.00000500", "0.21000000", "0"]


def bar(number: int) -> BarClosed:
    """The bar that ``candle(number)`` is."""
    open_ms, open_price, high, low, close, volume, *_ = candle(number)
    open_ns = open_ms * 1_000_000
    return BarClosed("BTC-USDT_binance", "1m", open_ns, open_ns + MINUTE_NS, open_price, high, low, close, volume)


EXCHANGE_INFO = {
    "timezone": "UTC",
    "serverTime": FIRST_MS,
    "rateLimits": [],
    "exchangeFilters": [],
    "symbols": [
        {
            "symbol": "BTCUSDT",
            "status": "TRADING",
            "baseAsset": "BTC",
            "baseAssetPrecision": 8,
            "quoteAsset": "USDT",
            "quotePrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": "0.01000000",
                    "maxPrice": "1000000.0",
                    "tickSize": "0.01000000",
                },
                {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.0", "stepSize": "0.00001000"},
                {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True},
            ],
            "permissions": [],
            "permissionSets": [["SPOT"]],
        }
    ],
}


class BinanceDouble:
    """Serves candles from a list by Binance's rules; ``faults`` are used up first, one per klines request."""

    def __init__(self) -> None:
        self.candles: list[list[Any]] = [candle(number) for number in range(10)]
        self.now_ms = FIRST_MS + 10 * MINUTE_MS
        self.faults: list[Fault] = []
        self.info_faults: list[Fault] = []
        self.asked: list[dict[str, str]] = []
        self.url = ""

    async def klines(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        if self.faults:
            return self.faults.pop(0)(request)
        if request.query["symbol"] != "BTCUSDT":
            return web.json_response({"code": -1121, "msg": "Invalid symbol."}, status=400)
        start, limit = int(request.query.get("startTime", "0")), int(request.query.get("limit", "500"))
        return web.json_response([row for row in self.candles if row[0] >= start][:limit])

    async def time(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"serverTime": self.now_ms})

    async def info(self, request: web.Request) -> web.StreamResponse:
        if self.info_faults:
            return self.info_faults.pop(0)(request)
        return web.json_response(EXCHANGE_INFO)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/v3/klines", self.klines)
        app.router.add_get("/api/v3/time", self.time)
        app.router.add_get("/api/v3/exchangeInfo", self.info)
        return app


@asynccontextmanager
async def running_double() -> AsyncIterator[BinanceDouble]:
    """The double, served on a free port of this machine."""
    double = BinanceDouble()
    runner = web.AppRunner(double.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    double.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield double
    await runner.cleanup()


def numbered(first: int, last: int) -> list[BarClosed]:
    return [bar(number) for number in range(first, last + 1)]


BEFORE_FIRST_NS = FIRST_MS * 1_000_000 - MINUTE_NS


def answer(**named: Any) -> Fault:
    return lambda _: web.Response(**named)


def cut_line(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class HalfBody(web.Response):
    """Promises more bytes than it sends, then hangs up."""

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        assert self._req is not None
        assert self._req.transport is not None
        self._req.transport.close()


def half_body(_: web.Request) -> web.StreamResponse:
    return HalfBody(text='[[1700000040000,"42', content_type="application/json", headers={"Content-Length": "5000"})


LINE_FAULTS = {
    "server error": answer(status=500, text="oops"),
    "gateway error": answer(status=502, text="<html>bad gateway</html>", content_type="text/html"),
    "cut line": cut_line,
    "truncated JSON": answer(text='[[1700000040000,"42000.0', content_type="application/json"),
    "body shorter than promised": half_body,
    "web page with status 200": answer(text="<html><body>maintenance</body></html>", content_type="text/html"),
    "empty body": answer(text="", content_type="application/json"),
    "JSON of another form": answer(text='{"data": [1, 2]}', content_type="application/json"),
    "candle without prices": answer(text='[[1700000040000,"42000.0"]]', content_type="application/json"),
    "candle with null": answer(text='[[1700000040000,"1",null,"1","1","1"]]', content_type="application/json"),
}
