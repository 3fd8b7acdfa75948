"""An exchange of our own: Binance's REST format over HTTP, one candle each second, prices by a walk we steer.

Served from a thread, so that it lives beside a stack in other processes. It can freeze: it answers, and nothing new.
"""

from __future__ import annotations

import json
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.binance_double import EXCHANGE_INFO

HISTORY_CANDLES = 600
STRETCH = 40


class Market:
    """The prices of BTC/USDT.

    Attributes:
        drift: mean relative change of price in a candle.
        noise: its standard deviation in calm stretches; every other ``STRETCH`` candles it is 2.5 times that.
        volume: of each candle; orders fill a share of it.
        is_frozen: the exchange goes on answering what it answered before.
    """

    def __init__(self, seed: int = 11) -> None:
        self.drift = 0.0002
        self.noise = 0.0002
        self.volume = 100_000.0
        self.is_frozen = False
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._price = 10_000.0
        self._rows: list[list[Any]] = []
        self._first_s = int(time.time()) - HISTORY_CANDLES
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def jump(self, share: float) -> None:
        """The price moves at once, such as by -0.3."""
        with self._lock:
            self._price *= 1 + share

    def rows(self) -> list[list[Any]]:
        """Every candle that has begun, oldest first."""
        with self._lock:
            while not self.is_frozen and self._first_s + len(self._rows) <= time.time():
                self._rows.append(self._candle(self._first_s + len(self._rows)))
            return list(self._rows)

    def _candle(self, open_s: int) -> list[Any]:
        opened = self._price
        noise = self.noise * (2.5 if open_s // STRETCH % 2 else 1.0)
        self._price *= 1 + self._chance.gauss(self.drift, noise)
        high, low = max(opened, self._price) * 1.00002, min(opened, self._price) * 0.99998
        texts = [f"{value:.8f}" for value in (opened, high, low, self._price, self.volume)]
        return [open_s * 1000, *texts, open_s * 1000 + 999, "0.0", 1, "0.0", "0.0", "0"]

    def _now_ms(self) -> int:
        rows = self.rows()
        return int(rows[-1][0]) + 999 if self.is_frozen else int(time.time() * 1000)

    def _answer(self, path: str, query: dict[str, list[str]]) -> Any:
        if path.endswith("/time"):
            return {"serverTime": self._now_ms()}
        if path.endswith("/exchangeInfo"):
            return EXCHANGE_INFO
        start, limit = int(query.get("startTime", ["0"])[0]), int(query.get("limit", ["500"])[0])
        return [row for row in self.rows() if row[0] >= start][:limit]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        market = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                body = json.dumps(market._answer(parts.path, parse_qs(parts.query))).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        return Handler
