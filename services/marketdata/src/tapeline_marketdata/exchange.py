"""Closed bars of any exchange that ccxt knows, by REST polling: paged from a watermark, no gap, no bar twice.

This is the only module that touches ccxt, and it does so when a feed is opened, not at import.

- **Closed bars only.** A bar is final ``settle_s`` after its close by the exchange's own clock, read before the bars
  were. The local clock is never asked.
- **Text as printed.** ccxt is told to keep numbers as text, so "0.00001000" stays that; only exponents are written out.
- **Nothing is repaired.** Duplicates, revisions and gaps within a page go on to ``checks``. What lies before the
  requested time is dropped, pages are put in order of time: both are what was asked of the exchange.
- **Trouble is a value.** A poll makes one attempt. It returns bars or a ``FeedTrouble``; after trouble the next poll
  waits first, doubling from ``backoff_s`` to ``longest_backoff_s``, or as long as the exchange's Retry-After says.

It does not judge bars, publish anything, or keep state on disk: the caller owns the watermark.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from tapeline_common.events import BarClosed
from tapeline_common.values import DecimalText, FeedTroubleKind, InstrumentId
from tapeline_marketdata.bars import decimal_text, plain_decimal
from tapeline_marketdata.exchange_figures import ExchangeFigures, RequestOutcome
from tapeline_marketdata.timeframe import SECOND_NS, floor_to_grid, parse_timeframe

MS_NS = 1_000_000
EMPTY_PAGES_BEFORE_SKIP = 3
"""An empty page of history is asked for this often before the feed believes it: some exchanges answer only within the
requested window, so that without skipping a long outage of theirs would stop us for ever."""

Sleep = Callable[[float], Awaitable[object]]
Outcome = TypeVar("Outcome")


class FeedTrouble(msgspec.Struct, frozen=True):
    """A poll without bars. ``retry_in_s``: how long the next poll waits before it asks again."""

    kind: FeedTroubleKind
    detail: str
    retry_in_s: float


class InstrumentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange says of an instrument. None: it sets no such rule, or does not say.

    Sizes in base units, min_notional in quote units, fees as fractions of the notional for a new account.
    """

    name: str
    venue: str
    base: str
    quote: str
    active: bool
    tick_size: Decimal | None
    lot_size: Decimal | None
    min_quantity: Decimal | None
    min_notional: Decimal | None
    maker_fee: Decimal | None
    taker_fee: Decimal | None


class UnknownExchange(ValueError):
    """ccxt has no exchange of this id; the message says what it has."""


def open_exchange(
    exchange_id: str,
    *,
    base_url: str | None = None,
    options: Mapping[str, object] | None = None,
    limit_rate: bool = True,
    timeout_s: float = 20.0,
    figures: ExchangeFigures | None = None,
) -> Any:
    """A ccxt exchange that keeps numbers as text. Share one between the feeds of a venue: it spreads their requests.

    base_url: sends every request to this server instead, keeping the paths (a test server, a mirror, a proxy).
    options: ccxt's ``options``. For Binance only spot markets are listed unless they say otherwise, such as
    {"fetchMarkets": {"types": ["linear"]}} for USDT perpetuals ("BTC/USDT:USDT").
    limit_rate: keeps to the exchange's published limits by waiting between requests.
    figures: told of every request.
    Raises UnknownExchange. Close it with ``await exchange.close()``.
    """
    ccxt = importlib.import_module("ccxt.async_support")
    if exchange_id not in ccxt.exchanges:
        raise UnknownExchange(
            f"unknown exchange {exchange_id!r}: ccxt names {len(ccxt.exchanges)}, such as binance, kraken"
        )
    exchange_class = _text_keeping(getattr(ccxt, exchange_id), ccxt, figures or ExchangeFigures())
    exchange = exchange_class(
        {"enableRateLimit": limit_rate, "timeout": round(timeout_s * 1000), "options": dict(options or {})}
    )
    exchange.number = str
    if exchange_id == "binance" and "fetchMarkets" not in (options or {}):
        # Otherwise ccxt asks three servers for the lists of three kinds of market to learn of one symbol.
        exchange.options["fetchMarkets"] = {"types": ["spot"]}
    if base_url is not None:
        exchange.urls["api"] = _moved(exchange.urls["api"], base_url.rstrip("/"))
        # The wait is for TLS connections to end; a server of our own has none.
        exchange.timeout_on_exit = 0
    return exchange


def _text_keeping(exchange_class: Any, ccxt: Any, figures: ExchangeFigures) -> Any:
    """The exchange's class with JSON numbers kept as printed, every answer that is not JSON refused, and requests
    counted."""
    bad_response: type[Exception] = ccxt.BadResponse

    class TextKeeping(exchange_class):  # type: ignore[misc]
        def on_json_response(self, body: str) -> object:
            # ccxt's other languages quote all JSON numbers, so its parsers expect text; Python's does not by itself.
            return json.loads(body, parse_float=str)

        async def throttle(self, cost: float | None = None) -> object:
            figures.spend(1.0 if cost is None else cost, self.rateLimit / 1000, time.monotonic())
            return await super().throttle(cost)

        async def fetch(self, *arguments: Any, **named: Any) -> object:
            started_s = time.perf_counter()
            try:
                answer = await super().fetch(*arguments, **named)
                if not isinstance(answer, (dict, list)):
                    shown = answer[:80] if isinstance(answer, str) else type(answer).__name__
                    raise bad_response(f"the answer is not valid JSON but {shown!r}")
            except Exception as error:
                figures.count(_outcome(ccxt, error), time.perf_counter() - started_s)
                raise
            figures.count(RequestOutcome.OK, time.perf_counter() - started_s)
            return answer

        def parse_ohlcv(self, ohlcv: object, market: object = None) -> list[object]:
            row: list[object] = super().parse_ohlcv(ohlcv, market)
            if len(row) < 6 or any(value is None for value in row[:6]):
                raise bad_response(f"a candle lacks a value: {str(ohlcv)[:120]}")
            return row

    TextKeeping.__name__ = exchange_class.__name__
    return TextKeeping


def _outcome(ccxt: Any, error: Exception) -> RequestOutcome:
    if isinstance(error, ccxt.RateLimitExceeded | ccxt.DDoSProtection):
        return RequestOutcome.RATE_LIMITED
    if isinstance(error, ccxt.RequestTimeout):
        return RequestOutcome.TIMEOUT
    is_refusal = isinstance(error, ccxt.BaseError) and not isinstance(error, ccxt.OperationFailed | ccxt.BadResponse)
    return RequestOutcome.REFUSED if is_refusal and not _broke_off(error) else RequestOutcome.ERROR


def _moved(url: Any, base_url: str) -> Any:
    if isinstance(url, dict):
        return {name: _moved(inner, base_url) for name, inner in url.items()}
    return base_url + urlsplit(url).path if isinstance(url, str) else url


class ExchangeBars:
    """The closed bars of one symbol and timeframe, oldest first, from the watermark on.

    >>> feed = ExchangeBars("binance", "BTC/USDT", "1m", instrument="BTC-USDT_binance", watermark_ns=last_open_ns)
    >>> outcome = await feed.poll()

    ``watermark_ns``: open time of the last bar that the caller has kept; the first poll asks for the one after it.
    ``feed.watermark_ns`` then follows the bars handed out; restarting from it (or from any earlier bar) has no gap.
    """

    def __init__(
        self,
        exchange_id: str,
        symbol: str,
        timeframe: str,
        *,
        instrument: InstrumentId | None = None,
        watermark_ns: int | None = None,
        history_bars: int = 500,
        base_url: str | None = None,
        exchange: Any = None,
        options: Mapping[str, object] | None = None,
        limit_rate: bool = True,
        page_bars: int = 1000,
        backoff_s: float = 1.0,
        longest_backoff_s: float = 60.0,
        settle_s: float = 1.0,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """instrument: the token that the bars carry (the symbol by default). history_bars: how far back a feed without
        watermark begins. exchange: one from ``open_exchange``, shared and closed by the caller; else the feed opens and
        closes its own with base_url, options and limit_rate. settle_s: how long after its close a bar counts as final,
        for exchanges whose last trades reach their candles late. sleep: how to wait, in seconds.
        """
        if history_bars < 1 or page_bars < 2:
            raise ValueError(f"history_bars is {history_bars} (at least 1), page_bars is {page_bars} (at least 2)")
        if not 0 < backoff_s <= longest_backoff_s:
            raise ValueError(f"backoff_s {backoff_s} must be above 0 and at most longest_backoff_s {longest_backoff_s}")
        self._timeframe_ns = parse_timeframe(timeframe)
        self._own_exchange = exchange is None
        self._exchange = exchange
        self._opening: dict[str, Any] = {"base_url": base_url, "options": options, "limit_rate": limit_rate}
        self._exchange_id = exchange_id
        self._symbol = symbol
        self._timeframe = timeframe
        self._instrument = InstrumentId(symbol) if instrument is None else instrument
        self._history_bars = history_bars
        self._page_bars = page_bars
        self._backoff_s = backoff_s
        self._longest_backoff_s = longest_backoff_s
        self._settle_ns = round(settle_s * SECOND_NS)
        self._sleep = sleep
        self._next_ns = None if watermark_ns is None else watermark_ns + self._timeframe_ns
        self._failures = 0
        self._wait_s = 0.0
        self._empty_pages = 0
        self._now_ns: int | None = None
        self.watermark_ns = watermark_ns

    @property
    def asked_ns(self) -> int | None:
        """The exchange's time when it was last asked for bars; ``None`` before."""
        return self._now_ns

    @property
    def behind(self) -> bool:
        """Whether the last poll left closed bars to fetch: poll again without waiting. True before the first poll."""
        return self._now_ns is None or self._next_ns is None or self._is_closed(self._next_ns, self._now_ns)

    async def poll(self, now_ns: int | None = None) -> list[BarClosed] | FeedTrouble:
        """The next closed bars, at most one page; [] if none is due. Makes one attempt, after the wait that is owed.

        now_ns: the exchange's time, if the caller knows it; else the exchange is asked.
        """
        if self._wait_s:
            await self._sleep(self._wait_s)
            self._wait_s = 0.0
        return await self._attempt(lambda exchange: self._page(exchange, now_ns))

    async def instrument_facts(self) -> InstrumentFacts | FeedTrouble:
        """Tick, lot, smallest order and fees of the symbol, as the exchange lists them now."""
        return await self._attempt(self._facts)

    async def close(self) -> None:
        """Closes the feed's own exchange; a shared one is its owner's to close."""
        if self._own_exchange and self._exchange is not None:
            await self._exchange.close()
            self._exchange = None

    async def _attempt(self, work: Callable[[Any], Awaitable[Outcome]]) -> Outcome | FeedTrouble:
        """One attempt, its trouble counted and its wait noted for the next poll."""
        if self._exchange is None:
            self._exchange = open_exchange(self._exchange_id, **self._opening)
        try:
            outcome = await work(self._exchange)
        except _NoAnswer as no_answer:
            self._wait_s = no_answer.trouble.retry_in_s
            self._failures += 1
            return no_answer.trouble
        self._failures = 0
        return outcome

    async def _page(self, exchange: Any, now_ns: int | None) -> list[BarClosed]:
        if now_ns is None:
            now_ns = await self._server_ns(exchange)
        self._now_ns = now_ns
        if self._next_ns is None:
            newest_ns = floor_to_grid(now_ns - self._settle_ns, self._timeframe_ns) - self._timeframe_ns
            self._next_ns = newest_ns - (self._history_bars - 1) * self._timeframe_ns
        if not self._is_closed(self._next_ns, now_ns):
            return []
        await self._market(exchange)
        if exchange.timeframes and self._timeframe not in exchange.timeframes:
            offered = ", ".join(exchange.timeframes)
            raise self._refused(f"{self._exchange_id} has no {self._timeframe} bars; it has {offered}")
        limit = self._page_limit(exchange)
        since_ms = self._next_ns // MS_NS
        rows = await self._ask(exchange, lambda: exchange.fetch_ohlcv(self._symbol, self._timeframe, since_ms, limit))
        bars = [bar for bar in map(self._bar, rows) if self._is_closed(bar.open_ns, now_ns)]
        if bars:
            self._empty_pages = 0
            self.watermark_ns = bars[-1].open_ns
            self._next_ns = self.watermark_ns + self._timeframe_ns
        else:
            self._nothing_came(limit, now_ns)
        return bars

    def _nothing_came(self, limit: int, now_ns: int) -> None:
        """An empty page is owed a wait; an empty page of history, said several times, is skipped and reported."""
        assert self._next_ns is not None, "a page was asked for without a start"
        self._empty_pages += 1
        page_end_ns = self._next_ns + limit * self._timeframe_ns
        if self._empty_pages < EMPTY_PAGES_BEFORE_SKIP or not self._is_closed(page_end_ns, now_ns):
            # At the live edge the next bar may be all that is missing, so never wait past its turn.
            self._wait_s = min(self._backoff(self._empty_pages - 1), self._timeframe_ns / SECOND_NS)
            return
        detail = (
            f"{self._exchange_id} has no {self._timeframe} bars of {self._symbol} from {self._next_ns} ns"
            f" to {page_end_ns} ns (asked {self._empty_pages} times): going on after them"
        )
        self._next_ns, self._empty_pages = page_end_ns, 0
        raise _NoAnswer(FeedTrouble(FeedTroubleKind.HISTORY_MISSING, detail, 0.0))

    async def _facts(self, exchange: Any) -> InstrumentFacts:
        market = await self._market(exchange)
        precision, limits = market.get("precision") or {}, market.get("limits") or {}
        step = _step_of(exchange)
        return InstrumentFacts(
            name=market["symbol"],
            venue=self._exchange_id,
            base=market["base"],
            quote=market["quote"],
            active=market.get("active") is not False,
            tick_size=step(precision.get("price")),
            lot_size=step(precision.get("amount")),
            min_quantity=_positive((limits.get("amount") or {}).get("min")),
            min_notional=_positive((limits.get("cost") or {}).get("min")),
            maker_fee=_decimal(market.get("maker")),
            taker_fee=_decimal(market.get("taker")),
        )

    async def _market(self, exchange: Any) -> Any:
        """The exchange's market of our symbol, from the list that ccxt fetches once; _NoAnswer if there is none."""

        async def load() -> Any:
            await exchange.load_markets()
            return exchange.market(self._symbol)

        return await self._ask(exchange, load)

    async def _server_ns(self, exchange: Any) -> int:
        if not exchange.has["fetchTime"]:
            raise self._refused(f"{self._exchange_id} does not tell its time: pass now_ns to poll()")
        milliseconds = await self._ask(exchange, exchange.fetch_time)
        if not isinstance(milliseconds, int):
            raise self._interrupted(f"{self._exchange_id} gave {milliseconds!r} as its time")
        return milliseconds * MS_NS

    async def _ask(self, exchange: Any, call: Callable[[], Awaitable[Any]]) -> Any:
        """The answer, or _NoAnswer. An answer that ccxt stumbles over is the line's fault, not a bug of ours."""
        ccxt = importlib.import_module("ccxt.async_support")
        try:
            return await call()
        except (ccxt.RateLimitExceeded, ccxt.DDoSProtection) as error:
            retry_in_s = _retry_after_s(exchange.last_response_headers)
            wait_s = self._backoff(self._failures) if retry_in_s is None else retry_in_s
            raise _NoAnswer(FeedTrouble(FeedTroubleKind.RATE_LIMITED, _described(error), wait_s)) from error
        except ccxt.OperationFailed as error:
            raise self._interrupted(_described(error)) from error
        except ccxt.BaseError as error:
            if _broke_off(error):
                raise self._interrupted(_described(error)) from error
            raise self._refused(_described(error)) from error
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise self._interrupted(f"the answer has another form than ccxt expects ({_described(error)})") from error

    def _bar(self, row: list[Any]) -> BarClosed:
        open_ns = row[0] * MS_NS
        return BarClosed(
            instrument=self._instrument,
            timeframe=self._timeframe,
            open_ns=open_ns,
            close_ns=open_ns + self._timeframe_ns,
            open=_number_text(row[1]),
            high=_number_text(row[2]),
            low=_number_text(row[3]),
            close=_number_text(row[4]),
            volume=_number_text(row[5]),
        )

    def _is_closed(self, open_ns: int, now_ns: int) -> bool:
        return open_ns + self._timeframe_ns + self._settle_ns <= now_ns

    def _page_limit(self, exchange: Any) -> int:
        largest = exchange.feature_value(self._symbol, "fetchOHLCV", "limit")
        return min(self._page_bars, largest) if isinstance(largest, int) and largest > 0 else self._page_bars

    def _backoff(self, failures: int) -> float:
        return min(self._backoff_s * 2.0 ** min(failures, 30), self._longest_backoff_s)

    def _interrupted(self, detail: str) -> _NoAnswer:
        return _NoAnswer(FeedTrouble(FeedTroubleKind.INTERRUPTED, detail, self._backoff(self._failures)))

    def _refused(self, detail: str) -> _NoAnswer:
        return _NoAnswer(FeedTrouble(FeedTroubleKind.REFUSED, detail, self._longest_backoff_s))


class _NoAnswer(Exception):
    """Carries trouble from the request that met it to the poll that reports it; never leaves this module."""

    def __init__(self, trouble: FeedTrouble) -> None:
        super().__init__(trouble.detail)
        self.trouble = trouble


def _broke_off(error: Exception) -> bool:
    """ccxt files an answer that stopped half way under ExchangeError; its cause tells that the line failed."""
    client_error: type[Exception] = importlib.import_module("aiohttp").ClientError
    return isinstance(error.__cause__, client_error)


def _described(error: Exception) -> str:
    """One line: what ccxt calls it and the start of what the exchange said."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _retry_after_s(headers: Mapping[str, str] | None) -> float | None:
    """The Retry-After header in seconds (its date form is not used by exchanges); None if there is none."""
    for name, value in (headers or {}).items():
        if name.lower() == "retry-after" and value.strip().isdecimal():
            return float(value)
    return None


def _decimal(value: object) -> Decimal | None:
    """ccxt's numbers are text, but its built-in fee tables are floats."""
    if value is None:
        return None
    return Decimal(format(Decimal(_number_text(value)).normalize(), "f"))


def _number_text(value: object) -> DecimalText:
    return DecimalText(decimal_text(value) if isinstance(value, float) else plain_decimal(str(value)))


def _positive(value: object) -> Decimal | None:
    """A minimum of zero is no rule."""
    number = _decimal(value)
    return number if number is not None and number > 0 else None


def _step_of(exchange: Any) -> Callable[[object], Decimal | None]:
    """How to read this exchange's precision: as a step, or as a count of decimal places.

    Significant digits (Bitfinex) define no fixed step, so they give None.
    """
    ccxt = importlib.import_module("ccxt.async_support")
    if exchange.precisionMode == ccxt.TICK_SIZE:
        return _positive
    if exchange.precisionMode == ccxt.DECIMAL_PLACES:
        return lambda places: None if places is None else Decimal(1).scaleb(-int(str(places)))
    return lambda _: None
