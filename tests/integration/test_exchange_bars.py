"""The exchange feed against a local server that speaks Binance's REST format, and misbehaves on demand.

Nothing here waits in real time: the feed's sleeper is a list that notes what it was asked to wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest
from tests.binance_double import (
    BEFORE_FIRST_NS,
    FIRST_MS,
    LINE_FAULTS,
    MINUTE_MS,
    MINUTE_NS,
    BinanceDouble,
    answer,
    bar,
    candle,
    numbered,
)

from tapeline_common.events import BarClosed
from tapeline_common.values import DataFault, FeedTroubleKind
from tapeline_marketdata.checks import AcceptedAfterGap, Checker, Rejected
from tapeline_marketdata.exchange import (
    EMPTY_PAGES_BEFORE_SKIP,
    ExchangeBars,
    FeedTrouble,
    InstrumentFacts,
    UnknownExchange,
    open_exchange,
)


class Feed:
    """A feed on the double, and what it waited."""

    def __init__(self, binance: BinanceDouble, **changes: Any) -> None:
        self.waits: list[float] = []
        self.bars = ExchangeBars(
            "binance",
            changes.pop("symbol", "BTC/USDT"),
            changes.pop("timeframe", "1m"),
            instrument="BTC-USDT_binance",
            base_url=binance.url,
            limit_rate=False,
            settle_s=changes.pop("settle_s", 0.0),
            sleep=self._sleep,
            **changes,
        )
        self.poll = self.bars.poll

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


OpenFeed = Callable[..., Feed]


@pytest.fixture
async def open_feed(binance: BinanceDouble) -> AsyncIterator[OpenFeed]:
    feeds: list[Feed] = []

    def make(**changes: Any) -> Feed:
        feeds.append(Feed(binance, **changes))
        return feeds[-1]

    yield make
    for feed in feeds:
        await feed.bars.close()


async def test_closed_bars_come_with_the_text_the_exchange_printed(open_feed: OpenFeed) -> None:
    """Every closed bar after the watermark comes once, "0.00001000" still eight decimals long."""
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS)

    bars = await feed.poll()

    assert bars == numbered(0, 9)
    assert isinstance(bars, list)
    assert bars[0].volume == "0.00001000"
    assert feed.bars.watermark_ns == bar(9).open_ns


async def test_the_open_candle_is_withheld_until_the_server_says_it_closed(
    binance: BinanceDouble, open_feed: OpenFeed
) -> None:
    """One ms before its close the last candle is still open; at its close it comes, in its final form."""
    binance.now_ms = FIRST_MS + 10 * MINUTE_MS - 1
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS)

    assert await feed.poll() == numbered(0, 8)
    assert await feed.poll() == []
    binance.now_ms += 1
    assert await feed.poll() == [bar(9)]


async def test_a_closed_candle_is_given_time_to_settle(binance: BinanceDouble, open_feed: OpenFeed) -> None:
    """The last trades of a minute may reach its candle late: it is final settle_s after its close, not before."""
    feed = open_feed(watermark_ns=bar(8).open_ns, settle_s=1.5)
    binance.now_ms = FIRST_MS + 10 * MINUTE_MS + 1499

    assert await feed.poll() == []
    assert binance.asked == []
    binance.now_ms += 1
    assert await feed.poll() == [bar(9)]


async def test_the_callers_clock_can_stand_in_for_the_servers(binance: BinanceDouble, open_feed: OpenFeed) -> None:
    """A passed now_ns decides what is closed; the server is not asked for its time."""
    binance.now_ms = 0
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS)

    assert await feed.poll(now_ns=FIRST_MS * 1_000_000 + 3 * MINUTE_NS) == numbered(0, 2)


async def test_nothing_due_means_no_request_for_candles(binance: BinanceDouble, open_feed: OpenFeed) -> None:
    """With the newest closed bar in hand, a poll costs one request for the time and none for candles."""
    feed = open_feed(watermark_ns=bar(9).open_ns)

    assert await feed.poll() == []
    assert binance.asked == []
    assert not feed.bars.behind


async def test_backfill_goes_page_by_page_without_overlap(binance: BinanceDouble, open_feed: OpenFeed) -> None:
    """2,500 missing bars come in pages of 1,000, each asked for from just after the last."""
    binance.candles = [candle(number) for number in range(2500)]
    binance.now_ms = FIRST_MS + 2500 * MINUTE_MS
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS)

    pages = []
    while feed.bars.behind:
        pages.append(await feed.poll())

    assert pages == [numbered(0, 999), numbered(1000, 1999), numbered(2000, 2499)]
    assert [(asked["startTime"], asked["limit"]) for asked in binance.asked] == [
        (str(FIRST_MS + first * MINUTE_MS), "1000") for first in (0, 1000, 2000)
    ]


async def test_a_restart_from_the_watermark_has_no_gap_and_downloads_nothing_twice(
    binance: BinanceDouble, open_feed: OpenFeed
) -> None:
    """A new feed given the old one's watermark asks from the next bar on, and gets exactly the rest."""
    binance.now_ms = FIRST_MS + 6 * MINUTE_MS
    before = open_feed(watermark_ns=BEFORE_FIRST_NS)
    assert await before.poll() == numbered(0, 5)

    binance.now_ms = FIRST_MS + 10 * MINUTE_MS
    after = open_feed(watermark_ns=before.bars.watermark_ns)

    assert await after.poll() == numbered(6, 9)
    assert binance.asked[-1]["startTime"] == str(FIRST_MS + 6 * MINUTE_MS)


async def test_without_a_watermark_the_feed_begins_history_bars_back(open_feed: OpenFeed) -> None:
    """history_bars counts closed bars, the newest included."""
    assert await open_feed(history_bars=3).poll() == numbered(7, 9)


@pytest.mark.parametrize("name", LINE_FAULTS)
async def test_a_failed_line_is_said_and_then_nothing_is_missing(
    name: str, binance: BinanceDouble, open_feed: OpenFeed
) -> None:
    """Each failure of the line is one INTERRUPTED with its wait; the next poll waits that long and gets every bar."""
    binance.faults = [LINE_FAULTS[name]] * (2 if name == "cut line" else 1)  # the client itself retries a cut line once
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS)

    trouble = await feed.poll()

    assert isinstance(trouble, FeedTrouble), name
    assert (trouble.kind, trouble.retry_in_s, feed.waits) == (FeedTroubleKind.INTERRUPTED, 1.0, [])
    assert trouble.detail
    assert feed.bars.watermark_ns == BEFORE_FIRST_NS
    binance.faults = []
    assert await feed.poll() == numbered(0, 9)
    assert feed.waits == [1.0]


async def test_the_wait_doubles_up_to_its_cap_and_success_resets_it(
    binance: BinanceDouble, open_feed: OpenFeed
) -> None:
    """1, 2, 4, 5, 5 seconds with a cap of 5; after a good poll the next failure starts at 1 again."""
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS, longest_backoff_s=5.0)
    binance.faults = [LINE_FAULTS["server error"]] * 5
    for _ in range(5):
        assert isinstance(await feed.poll(), FeedTrouble)
    assert await feed.poll() == numbered(0, 9)
    assert feed.waits == [1.0, 2.0, 4.0, 5.0, 5.0]

    binance.now_ms += MINUTE_MS
    binance.candles.append(candle(10))
    binance.faults = [LINE_FAULTS["server error"]]
    trouble = await feed.poll()
    assert isinstance(trouble, FeedTrouble)
    assert trouble.retry_in_s == 1.0


@pytest.mark.parametrize("status", [429, 418])
async def test_retry_after_is_honoured(status: int, binance: BinanceDouble, open_feed: OpenFeed) -> None:
    """Throttled or banned, the next request goes out only after the seconds that the exchange named."""
    body = '{"code": -1003, "msg": "Too much request weight used."}'
    binance.faults = [answer(status=status, text=body, headers={"Retry-After": "137"})]
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS)

    trouble = await feed.poll()

    assert isinstance(trouble, FeedTrouble)
    assert (trouble.kind, trouble.retry_in_s) == (FeedTroubleKind.RATE_LIMITED, 137.0)
    assert await feed.poll() == numbered(0, 9)
    assert feed.waits == [137.0]


async def test_throttling_without_retry_after_backs_off(binance: BinanceDouble, open_feed: OpenFeed) -> None:
    """No header, and none remembered from an earlier answer: the usual doubling wait."""
    binance.faults = [
        answer(status=429, text="{}", headers={"Retry-After": "9"}),
        answer(status=429, text="{}"),
    ]
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS)

    outcomes = [await feed.poll(), await feed.poll()]

    assert [outcome.retry_in_s for outcome in outcomes if isinstance(outcome, FeedTrouble)] == [9.0, 2.0]


async def test_a_wrong_request_is_refused_not_hammered(open_feed: OpenFeed) -> None:
    """An unknown symbol is REFUSED, names the symbol, and waits the longest back-off before asking again."""
    trouble = await open_feed(symbol="BTC/NONSENSE").poll()

    assert isinstance(trouble, FeedTrouble)
    assert (trouble.kind, trouble.retry_in_s) == (FeedTroubleKind.REFUSED, 60.0)
    assert "BTC/NONSENSE" in trouble.detail


async def test_a_request_error_of_the_exchange_is_refused(binance: BinanceDouble, open_feed: OpenFeed) -> None:
    """Status 400 with an exchange code is our mistake, not the line's."""
    binance.faults = [answer(status=400, text='{"code": -1121, "msg": "Invalid symbol."}')]

    trouble = await open_feed(watermark_ns=BEFORE_FIRST_NS).poll()

    assert isinstance(trouble, FeedTrouble)
    assert trouble.kind is FeedTroubleKind.REFUSED
    assert "Invalid symbol" in trouble.detail


async def test_a_timeframe_the_exchange_lacks_is_refused_with_what_it_has(
    binance: BinanceDouble, open_feed: OpenFeed
) -> None:
    """7m is a timeframe, but not one of Binance's: the answer lists those, and no candle is asked for."""
    trouble = await open_feed(timeframe="7m", history_bars=1).poll()

    assert isinstance(trouble, FeedTrouble)
    assert trouble.kind is FeedTroubleKind.REFUSED
    assert "15m" in trouble.detail
    assert binance.asked == []


async def test_an_empty_answer_is_asked_again_before_it_is_believed(
    binance: BinanceDouble, open_feed: OpenFeed
) -> None:
    """One empty list loses nothing: the same page is asked for again after a wait."""
    binance.faults = [answer(text="[]", content_type="application/json")]
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS)

    assert await feed.poll() == []
    assert feed.bars.behind
    assert await feed.poll() == numbered(0, 9)
    assert feed.waits == [1.0]


async def test_a_page_of_history_that_stays_empty_is_skipped_and_said(
    binance: BinanceDouble, open_feed: OpenFeed
) -> None:
    """Asked EMPTY_PAGES_BEFORE_SKIP times in vain, the feed says what is missing and goes on behind it."""
    binance.faults = [answer(text="[]", content_type="application/json")] * EMPTY_PAGES_BEFORE_SKIP
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS, page_bars=4)

    outcomes = [await feed.poll() for _ in range(EMPTY_PAGES_BEFORE_SKIP)]

    assert outcomes[:-1] == [[]] * (EMPTY_PAGES_BEFORE_SKIP - 1)
    assert isinstance(outcomes[-1], FeedTrouble)
    assert outcomes[-1].kind is FeedTroubleKind.HISTORY_MISSING
    assert await feed.poll() == numbered(4, 7)


async def test_gaps_duplicates_and_revisions_reach_the_checker(binance: BinanceDouble, open_feed: OpenFeed) -> None:
    """The feed hides nothing: a missing, a repeated and a changed candle come through and are judged as such."""
    binance.candles = [candle(0), candle(1), candle(1), candle(1, volume="7.00000000"), candle(4)]
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS)
    checker = Checker(MINUTE_NS)

    bars = await feed.poll()

    assert isinstance(bars, list)
    verdicts = [checker.check(one) for one in bars]
    faults = [verdict.fault for verdict in verdicts if isinstance(verdict, Rejected)]
    assert faults == [DataFault.DUPLICATE, DataFault.REVISED]
    assert verdicts[-1] == AcceptedAfterGap(missing_bars=2, since_ns=bar(2).open_ns)


async def test_numbers_that_are_not_quoted_keep_their_text(binance: BinanceDouble, open_feed: OpenFeed) -> None:
    """An exchange that prints JSON numbers loses no digit either: trailing zeros stay, an exponent is written out."""
    row = f"[[{FIRST_MS},0.10000000000000000001,0.2,1e-7,0.150,1200.00]]"
    binance.faults = [answer(text=row, content_type="application/json")]

    bars = await open_feed(watermark_ns=BEFORE_FIRST_NS).poll()

    assert bars == [
        BarClosed(
            "BTC-USDT_binance",
            "1m",
            FIRST_MS * 1_000_000,
            FIRST_MS * 1_000_000 + MINUTE_NS,
            "0.10000000000000000001",
            "0.2",
            "0.0000001",
            "0.150",
            "1200.00",
        )
    ]


async def test_instrument_facts_are_exact(open_feed: OpenFeed) -> None:
    """Tick, lot and smallest order come from the exchange's filters as exact decimals, fees from ccxt's table."""
    assert await open_feed().bars.instrument_facts() == InstrumentFacts(
        name="BTC/USDT",
        venue="binance",
        base="BTC",
        quote="USDT",
        active=True,
        tick_size=Decimal("0.01"),
        lot_size=Decimal("0.00001"),
        min_quantity=Decimal("0.00001"),
        min_notional=Decimal("5"),
        maker_fee=Decimal("0.001"),
        taker_fee=Decimal("0.001"),
    )


async def test_a_failed_market_list_is_asked_for_again(binance: BinanceDouble, open_feed: OpenFeed) -> None:
    """A broken exchangeInfo is trouble for one poll, not for ever."""
    binance.info_faults = [answer(status=500, text="oops")]
    feed = open_feed(watermark_ns=BEFORE_FIRST_NS)

    assert isinstance(await feed.poll(), FeedTrouble)
    assert await feed.poll() == numbered(0, 9)


async def test_two_feeds_share_one_exchange_and_leave_it_open(binance: BinanceDouble) -> None:
    """A shared exchange serves both feeds; closing a feed does not close it."""
    exchange = open_exchange("binance", base_url=binance.url, limit_rate=False)
    minutes, hours = (
        ExchangeBars("binance", "BTC/USDT", frame, exchange=exchange, settle_s=0.0) for frame in ("1m", "1h")
    )

    assert len(await _bars(minutes)) == 10
    await minutes.close()
    assert await _bars(hours) == []
    await exchange.close()


async def _bars(feed: ExchangeBars) -> list[BarClosed]:
    outcome = await feed.poll(now_ns=FIRST_MS * 1_000_000 + 10 * MINUTE_NS)
    assert isinstance(outcome, list)
    return [one for one in outcome if one.open_ns >= FIRST_MS * 1_000_000 and one.timeframe == "1m"]


def test_an_unknown_exchange_is_named() -> None:
    """A misspelt exchange fails at once, by name."""
    with pytest.raises(UnknownExchange, match="binanace"):
        open_exchange("binanace")


def test_importing_the_module_does_not_load_ccxt() -> None:
    """ccxt takes about a second to import; a backtest that never polls must not pay it."""
    import subprocess
    import sys

    code = "import sys, tapeline_marketdata.exchange; sys.exit('ccxt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
