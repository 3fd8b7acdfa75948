"""The marketdata core: it remembers how far the feeds are, and never says a word."""

from __future__ import annotations

from tapeline_common.events import (
    BarClosed,
    DataRejected,
    Event,
    FeedInterrupted,
    FeedOpened,
    FeedResumed,
    HaltRequested,
    InstrumentListed,
)
from tapeline_common.testing import fingerprint, given
from tapeline_common.values import DataFault, DecimalText, FeedTroubleKind, InstrumentId
from tapeline_marketdata.core import CORE, State

BTC, ETH = InstrumentId("BTC-USDT_sim"), InstrumentId("ETH-USDT_sim")
MINUTE_NS = 60 * 10**9
OPENED = FeedOpened(BTC, "binance", "1m", "REST")
LINE_CUT = FeedInterrupted(BTC, FeedTroubleKind.INTERRUPTED, "line cut")
TOO_OFTEN = FeedInterrupted(BTC, FeedTroubleKind.RATE_LIMITED, "slow down")
LISTED = InstrumentListed(BTC, "BTC/USDT", "sim", "BTC", "USDT")


def bar(minute: int, instrument: InstrumentId = BTC, timeframe: str = "1m") -> BarClosed:
    prices = [DecimalText(text) for text in ("100.50", "102", "99", "101.25", "3")]
    return BarClosed(instrument, timeframe, minute * MINUTE_NS, (minute + 1) * MINUTE_NS, *prices)


def state_after(*facts: Event) -> State:
    return given(CORE, *facts).state


def test_the_last_bar_is_the_watermark() -> None:
    """Each bar replaces the one before it, whole, so that the checker can go on from it."""
    assert state_after(bar(1), bar(2)).bars == {(BTC, "1m"): bar(2)}


def test_watermarks_do_not_mix() -> None:
    """Another instrument or timeframe has a watermark of its own."""
    facts = (bar(1), bar(7, ETH), bar(0, BTC, "5m"))
    assert state_after(*facts).bars == {(BTC, "1m"): bar(1), (ETH, "1m"): bar(7, ETH), (BTC, "5m"): bar(0, BTC, "5m")}


def test_a_rejected_bar_moves_nothing() -> None:
    """Only an accepted bar is progress: the state after a rejection is the state before it."""
    rejected = DataRejected(BTC, DataFault.REVISED, 2 * MINUTE_NS, "close changed")
    assert fingerprint(state_after(bar(1), rejected)) == fingerprint(state_after(bar(1)))


def test_a_quiet_bar_says_nothing() -> None:
    """The core has no deciders: whatever it hears, it is silent."""
    history = given(CORE, LISTED, OPENED)
    for fact in (bar(1), LINE_CUT, FeedResumed(BTC, 3), LISTED, OPENED):
        history = history.when(fact).then_nothing()


def test_listed_instruments_are_known() -> None:
    """A feed may speak of what is listed, under the latest listing."""
    renamed = InstrumentListed(BTC, "XBT/USDT", "sim", "XBT", "USDT")
    assert state_after(LISTED, renamed).listed == {BTC: renamed}


def test_the_latest_source_is_known() -> None:
    """What was said last is what a restart compares with."""
    moved = FeedOpened(BTC, "kraken", "1m", "REST")
    assert state_after(OPENED, moved).opened == {BTC: moved}


def test_each_kind_of_trouble_is_known_once() -> None:
    """Trouble stands until the feed resumes; the same kind again adds nothing."""
    state = state_after(LINE_CUT, TOO_OFTEN, LINE_CUT)
    assert state.troubles == {BTC: (FeedTroubleKind.INTERRUPTED, FeedTroubleKind.RATE_LIMITED)}


def test_a_resumed_feed_has_no_trouble() -> None:
    """FeedResumed ends all of it, of its instrument only."""
    elsewhere = FeedInterrupted(ETH, FeedTroubleKind.REFUSED, "unknown symbol")
    assert state_after(LINE_CUT, TOO_OFTEN, elsewhere, FeedResumed(BTC, 2)).troubles == {
        ETH: (FeedTroubleKind.REFUSED,)
    }


def test_a_feed_that_never_failed_may_resume() -> None:
    """A stray FeedResumed changes nothing but the count."""
    assert state_after(FeedResumed(BTC, 0)) == State(reports={BTC: 1})


def test_reports_are_counted_for_each_instrument() -> None:
    """Opened, interrupted and resumed share one number per instrument; bars and listings do not count."""
    other = FeedOpened(ETH, "binance", "1m", "REST")
    assert state_after(LISTED, OPENED, bar(1), LINE_CUT, other, FeedResumed(BTC, 1)).reports == {BTC: 3, ETH: 1}


def test_foreign_facts_are_not_heard() -> None:
    """A halt stops trading, not data: the feed goes on."""
    assert HaltRequested not in CORE.hears
