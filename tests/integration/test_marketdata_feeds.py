"""The live feeds on a tape: killed at any point they go on without gap or repetition, and trouble becomes facts.

No test waits: sleepers note what they were asked to wait, or move the exchange's clock.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace
from tests.binance_double import (
    BEFORE_FIRST_NS,
    FIRST_MS,
    LINE_FAULTS,
    MINUTE_MS,
    BinanceDouble,
    answer,
    candle,
)
from tests.binance_double import bar as binance_bar
from tests.tape_door import (
    BINANCE_BTC,
    BTC,
    ETH,
    Killed,
    Sleeper,
    TapeDoor,
    events,
    listed,
    listing,
    outside,
    run_until_killed,
)

from tapeline_backtest.feed import bars_of, source
from tapeline_common.events import (
    BarClosed,
    DataRejected,
    Event,
    FeedInterrupted,
    FeedOpened,
    FeedResumed,
)
from tapeline_common.measures import Distribution
from tapeline_common.settings import ConfigurationInvalid, FeedTable, InstrumentTable, RunTable, Settings
from tapeline_common.tape_memory import MemoryTape
from tapeline_common.values import DataFault, FeedTroubleKind, InstrumentId
from tapeline_common.wire import Answer, Draft
from tapeline_marketdata.adapters import (
    FACTS_PER_SAY,
    LISTED_POLL_S,
    ExchangeFeed,
    FilesFeed,
    Pace,
    SyntheticFeed,
    _packed,
    make_adapters,
)
from tapeline_marketdata.bar_rules import parse_rule
from tapeline_marketdata.built_bars import build_bars
from tapeline_marketdata.files import read_bars

TABLES = {BTC: InstrumentTable("BTC/USDT"), ETH: InstrumentTable("ETH/USDT")}


# ---- synthetic market --------------------------------------------------------------------------------------------


def synthetic(turns: int, **changes: Any) -> SyntheticFeed:
    """A feed that is ended at its ``turns``-th wait. The first bars need no wait."""
    values = {"tables": TABLES, "timeframe": "1m", "interval_s": 0.25, "seed": 7, **changes}
    sleeper = Sleeper(turns)
    return SyntheticFeed(**values, sleep=sleeper, clock=sleeper.clock)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def uninterrupted() -> list[tuple[str, Event]]:
    """What a feed says that is never killed: two sources, then ten turns of two bars."""
    tape = listed(BTC, ETH)
    await run_until_killed(synthetic(10), TapeDoor(tape))
    return outside(tape)


async def test_each_turn_is_one_request_with_a_bar_of_each_instrument() -> None:
    """Sources first, then every interval one bar of each instrument in the order of the settings."""
    feed = synthetic(3)
    door = await run_until_killed(feed, TapeDoor(listed(BTC, ETH)))
    start, minute = 1_704_067_200 * 10**9, 60 * 10**9

    assert door.said == [
        (f"feed:{BTC}:1", f"feed:{ETH}:1"),
        *((f"bar:{BTC}:1m:{at}", f"bar:{ETH}:1m:{at}") for at in range(start, start + 3 * minute, minute)),
    ]
    assert isinstance(feed.sleep, Sleeper)
    assert feed.sleep.waits == [0.25, 0.25, 0.25]


@pytest.mark.parametrize("lost", [True, False], ids=["before the tape", "after the tape"])
@pytest.mark.parametrize("kill_at", range(1, 10))
async def test_a_synthetic_feed_killed_anywhere_leaves_no_trace(
    kill_at: int, lost: bool, uninterrupted: list[tuple[str, Event]]
) -> None:
    """Killed in any request and started again, the tape is that of a feed that never died: no gap, no repetition."""
    tape = listed(BTC, ETH)
    await run_until_killed(synthetic(99), TapeDoor(tape, kill_at=kill_at, lost=lost))
    while len(outside(tape)) < len(uninterrupted):
        await run_until_killed(synthetic(99), TapeDoor(tape, kill_at=2))

    assert outside(tape)[: len(uninterrupted)] == uninterrupted
    assert [fact.pos for fact in tape.facts] == list(range(1, tape.head + 1))


async def test_a_restart_goes_on_behind_the_last_bar_and_says_nothing_again() -> None:
    """The second process asks for no fact that is on the tape already, its sources included."""
    tape = listed(BTC, ETH)
    before = await run_until_killed(synthetic(3), TapeDoor(tape))
    after = await run_until_killed(synthetic(3), TapeDoor(tape))
    assert not {identity for said in before.said for identity in said} & {i for said in after.said for i in said}
    assert len(after.said) == 3


async def test_a_new_instrument_joins_a_running_market() -> None:
    """Listed later, it begins beside the others' next bar; they go on as they would have."""
    alone, both = listed(BTC), listed(BTC, ETH)
    await run_until_killed(synthetic(6, tables={BTC: TABLES[BTC]}), TapeDoor(alone))
    await run_until_killed(synthetic(4, tables={BTC: TABLES[BTC]}), TapeDoor(both))
    await run_until_killed(synthetic(2), TapeDoor(both))
    await run_until_killed(synthetic(1), TapeDoor(both))

    bitcoin = [event for event in events(alone) if isinstance(event, BarClosed)]
    bars = [event for event in events(both) if isinstance(event, BarClosed)]
    assert [one for one in bars if one.instrument == BTC][:6] == bitcoin
    assert [one.open_ns for one in bars if one.instrument == ETH] == [one.open_ns for one in bars][4::2]


async def test_a_tape_of_another_source_is_refused() -> None:
    """Bars of an exchange cannot be continued by chance: the message says what to do."""
    stranger = listed(BTC)
    foreign = replace(binance_bar(0), instrument=BTC, open_ns=60 * 10**9, close_ns=120 * 10**9)
    assert stranger.record("marketdata", Answer(0, (Draft(foreign, "bar:x"),))).ok
    with pytest.raises(ConfigurationInvalid, match="start a new tape"):
        await synthetic(1, tables={BTC: TABLES[BTC]}).run(TapeDoor(stranger))


async def test_a_feed_waits_until_its_instruments_are_listed() -> None:
    """Nothing is said of an instrument that the tape does not list yet."""
    tape = listed(BTC)
    door = TapeDoor(tape)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            assert door.said == []
            tape.record("marketdata", Answer(0, (Draft(listing(ETH), f"instrument:{ETH}#1"),)))
            door.hear()
        if len(waits) == 4:
            raise Killed

    await run_until_killed(SyntheticFeed(TABLES, "1m", 0.25, 7, sleep=sleep, clock=lambda: 0.0), door)
    assert waits == [LISTED_POLL_S] * 3 + [0.25]
    assert len(door.said) == 2


async def test_a_changed_source_is_said_with_the_next_number() -> None:
    """Another seed is another source; said again only because it differs."""
    tape = listed(BTC)
    for _ in range(2):
        await run_until_killed(synthetic(1, tables={BTC: TABLES[BTC]}), TapeDoor(tape))
    await run_until_killed(synthetic(1, tables={BTC: TABLES[BTC]}, seed=8), TapeDoor(tape))
    opened = [(identity, event.detail) for identity, event in outside(tape) if isinstance(event, FeedOpened)]
    assert opened == [
        (f"feed:{BTC}:1", "seed 7; begins at 60000"),
        (f"feed:{BTC}:2", "seed 8; begins at 60000"),
    ]


async def test_what_was_missed_is_not_caught_up() -> None:
    """After a turn that took seven intervals the next begins at once, the one after it an interval later."""
    times = iter([0.0, 7.0, 7.0, 7.5])
    sleeper = Sleeper()
    pace = Pace(1.0, sleeper, lambda: next(times))
    for _ in range(4):
        await pace.wait()
    assert sleeper.waits == [1.0, 1.5]


# ---- exchange ----------------------------------------------------------------------------------------------------

POLL_S = 3.0
"""No power of two, so that it is told apart from a back-off."""


class Script:
    """The exchange feed's sleeper: each wait between polls runs the next act, or ends the feed; back-off is noted."""

    def __init__(self, *acts: Callable[[], None]) -> None:
        self.backoffs: list[float] = []
        self._acts: Iterator[Callable[[], None]] = iter(acts)

    async def __call__(self, seconds: float) -> None:
        if seconds != POLL_S:
            self.backoffs.append(seconds)
            return
        act = next(self._acts, None)
        if act is None:
            raise Killed
        act()


def exchange_feed(binance: BinanceDouble, script: Script, **symbols: str) -> ExchangeFeed:
    named = {InstrumentId(token.replace("__", "-")): symbol for token, symbol in symbols.items()}
    return ExchangeFeed(
        "binance",
        named or {BINANCE_BTC: "BTC/USDT"},
        "1m",
        POLL_S,
        base_url=binance.url,
        limit_rate=False,
        sleep=script,
    )


@pytest.fixture
def settled(binance: BinanceDouble) -> BinanceDouble:
    """The double a second later, when its tenth candle counts as final."""
    binance.now_ms += 1000
    return binance


def later(binance: BinanceDouble, minutes: int = 1) -> Callable[[], None]:
    """The act of time passing at the exchange, a candle for each minute."""

    def act() -> None:
        for _ in range(minutes):
            binance.candles.append(candle((binance.now_ms - FIRST_MS) // MINUTE_MS))
            binance.now_ms += MINUTE_MS

    return act


async def test_history_comes_first_and_then_each_bar_as_it_closes(settled: BinanceDouble) -> None:
    """Ten candles at the start, one more after each poll: bars with natural keys, none twice, no other facts."""
    tape = listed(BINANCE_BTC)
    feed = exchange_feed(settled, Script(later(settled), lambda: None, later(settled)))
    await run_until_killed(feed, TapeDoor(tape))

    stale_after_ns = (2 * 60 + 10 + 3) * 10**9  # two bars, what the way takes, and a poll of three seconds
    opened = FeedOpened(BINANCE_BTC, "binance", "1m", "REST; symbol BTC/USDT; from 127.0.0.1", stale_after_ns)
    assert outside(tape) == [
        (f"feed:{BINANCE_BTC}:1", opened),
        *((f"bar:{BINANCE_BTC}:1m:{one.open_ns}", one) for one in map(binance_bar, range(12))),
    ]


async def test_an_exchange_feed_tells_how_its_requests_went(settled: BinanceDouble) -> None:
    """By outcome and time, how late the newest bar came, and when the next one is due."""
    settled.faults += [answer(status=429), answer(status=500), answer(status=400, text='{"code": -1100, "msg": "no"}')]
    feed = exchange_feed(settled, Script(later(settled)))
    await run_until_killed(feed, TapeDoor(listed(BINANCE_BTC)))
    told = {(name, labels): number for name, labels, number in feed.samples(0)}
    requests = {labels[1]: count for (name, labels), count in told.items() if name.endswith("requests_total")}
    assert {name: requests[name] for name in ("rate_limited", "error", "refused")} == {
        "rate_limited": 1,
        "error": 1,
        "refused": 1,
    }
    assert requests["ok"] == len(settled.asked) - 3 + 1 + 5, (
        "candles; the list of instruments once, the time five times"
    )
    seconds = told["tapeline_exchange_request_seconds", ("binance",)]
    assert isinstance(seconds, Distribution)
    assert sum(seconds.counts) == sum(requests.values())
    assert told["tapeline_feed_delay_seconds", (BINANCE_BTC,)] == 1
    assert told["tapeline_feed_expected_interval_seconds", (BINANCE_BTC,)] == 60
    assert told["tapeline_rate_budget_used_ratio", ("binance",)] == 0, "no limit is kept to here"


async def test_a_restart_continues_from_the_watermark_and_downloads_nothing_again(settled: BinanceDouble) -> None:
    """The second process first asks for the candle after the last bar on the tape."""
    tape = listed(BINANCE_BTC)
    await run_until_killed(exchange_feed(settled, Script()), TapeDoor(tape))
    settled.asked.clear()
    later(settled, 3)()
    restarted = await run_until_killed(exchange_feed(settled, Script()), TapeDoor(tape))

    assert [asked["startTime"] for asked in settled.asked] == [str(FIRST_MS + 10 * MINUTE_MS)]
    assert restarted.said == [tuple(f"bar:{BINANCE_BTC}:1m:{binance_bar(number).open_ns}" for number in (10, 11, 12))]
    assert events(tape) == [binance_bar(number) for number in range(13)]


@pytest.mark.parametrize("lost", [True, False], ids=["before the tape", "after the tape"])
@pytest.mark.parametrize("kill_at", range(1, 6))
async def test_an_exchange_feed_killed_anywhere_leaves_no_trace(
    kill_at: int, lost: bool, settled: BinanceDouble
) -> None:
    """Killed in any request and restarted, the tape has every bar once and every rejection once."""
    settled.candles = [*map(candle, range(5)), candle(4, volume="9.00000000"), *map(candle, range(7, 10))]
    tape, twin = listed(BINANCE_BTC), listed(BINANCE_BTC)
    dying = TapeDoor(tape, kill_at=kill_at, lost=lost)
    await run_until_killed(exchange_feed(settled, Script(*[later(settled)] * 3)), dying)
    assert len(dying.said) == kill_at
    await run_until_killed(exchange_feed(settled, Script()), TapeDoor(tape))
    await run_until_killed(exchange_feed(settled, Script()), TapeDoor(twin))
    assert outside(tape) == outside(twin)


async def test_gaps_repeats_and_revisions_become_facts_in_order(settled: BinanceDouble) -> None:
    """A repeated, a changed and two missing candles: each is said where it was met, the gap before its bar."""
    settled.candles = [candle(0), candle(1), candle(1), candle(1, volume="7.00000000"), candle(4)]
    settled.now_ms = FIRST_MS + 5 * MINUTE_MS + 1000
    tape = listed(BINANCE_BTC)
    await run_until_killed(exchange_feed(settled, Script()), TapeDoor(tape))

    first, second, fifth = binance_bar(0), binance_bar(1), binance_bar(4)
    at, gap_at = second.open_ns, binance_bar(2).open_ns
    changed = f"bar at {at} ns came again changed: volume 0.00001000 became 7.00000000"
    assert events(tape) == [
        first,
        second,
        DataRejected(BINANCE_BTC, DataFault.DUPLICATE, at, f"bar at {at} ns came again unchanged"),
        DataRejected(BINANCE_BTC, DataFault.REVISED, at, changed),
        DataRejected(BINANCE_BTC, DataFault.GAP, gap_at, "2 bars missing"),
        fifth,
    ]
    rejected = [identity for identity, event in outside(tape) if isinstance(event, DataRejected)]
    assert [identity.rpartition(":")[0] for identity in rejected] == [
        f"rejected:{BINANCE_BTC}:DUPLICATE:{at}",
        f"rejected:{BINANCE_BTC}:REVISED:{at}",
        f"rejected:{BINANCE_BTC}:GAP:{gap_at}",
    ]


async def test_trouble_is_said_once_for_each_kind_until_it_ends(settled: BinanceDouble) -> None:
    """Three server errors and a throttling are two facts; the missed bars follow, then FeedResumed counts them."""
    tape = listed(BINANCE_BTC)

    def break_down() -> None:
        later(settled, 3)()
        throttled = answer(status=429, text="{}", headers={"Retry-After": "137"})
        broken = LINE_FAULTS["server error"]
        settled.faults = [broken, broken, throttled, broken]

    script = Script(break_down, later(settled))
    await run_until_killed(exchange_feed(settled, script), TapeDoor(tape))

    missed = outside(tape)[11:]
    assert [identity for identity, _ in missed] == [
        f"feed:{BINANCE_BTC}:2",
        f"feed:{BINANCE_BTC}:3",
        *(f"bar:{BINANCE_BTC}:1m:{binance_bar(number).open_ns}" for number in (10, 11, 12)),
        f"feed:{BINANCE_BTC}:4",
        f"bar:{BINANCE_BTC}:1m:{binance_bar(13).open_ns}",
    ]
    kinds = [event.kind for _, event in missed if isinstance(event, FeedInterrupted)]
    assert kinds == [FeedTroubleKind.INTERRUPTED, FeedTroubleKind.RATE_LIMITED]
    assert missed[5][1] == FeedResumed(BINANCE_BTC, 3)
    assert script.backoffs == [1.0, 2.0, 137.0, 8.0]


async def test_new_trouble_after_the_end_of_the_old_is_said_again(settled: BinanceDouble) -> None:
    """Once resumed, the same kind is news."""
    tape = listed(BINANCE_BTC)

    def break_down() -> None:
        later(settled)()
        settled.faults = [LINE_FAULTS["server error"]]

    await run_until_killed(exchange_feed(settled, Script(break_down, break_down)), TapeDoor(tape))
    reports = [type(event).__name__ for event in events(tape) if not isinstance(event, BarClosed)]
    assert reports == ["FeedInterrupted", "FeedResumed"] * 2


async def test_a_restart_ends_the_trouble_that_the_tape_knows(settled: BinanceDouble) -> None:
    """Killed during an outage: the next process does not say it again, and says when it is over."""
    tape = listed(BINANCE_BTC)
    settled.faults = [LINE_FAULTS["server error"]]
    await run_until_killed(exchange_feed(settled, Script()), TapeDoor(tape, kill_at=2))
    settled.faults = [LINE_FAULTS["server error"]]
    await run_until_killed(exchange_feed(settled, Script()), TapeDoor(tape))

    interrupted, *bars, resumed = events(tape)
    assert isinstance(interrupted, FeedInterrupted)
    assert bars == [binance_bar(number) for number in range(10)]
    assert resumed == FeedResumed(BINANCE_BTC, 10)


async def test_backfill_is_said_in_bounded_requests(settled: BinanceDouble) -> None:
    """1,200 missing bars go to the tape in requests of at most 500, in order, without a hole."""
    tape = listed(BINANCE_BTC)
    assert tape.record("marketdata", Answer(0, (Draft(binance_bar(-1), "bar:before"),))).ok
    settled.candles = [candle(number) for number in range(1200)]
    settled.now_ms = FIRST_MS + 1200 * MINUTE_MS + 1000
    door = await run_until_killed(exchange_feed(settled, Script()), TapeDoor(tape))

    assert binance_bar(-1).open_ns == BEFORE_FIRST_NS
    assert [len(said) for said in door.said] == [1, 500, 500, 200]
    assert events(tape)[1:] == [binance_bar(number) for number in range(1200)]


def test_a_gap_and_its_bar_are_never_divided() -> None:
    """Where a request is full, the whole piece moves to the next: else a restart could judge the gap anew."""
    single, pair = [("bar", binance_bar(0))], [("gap", binance_bar(1)), ("bar", binance_bar(2))]
    requests = list(_packed([single] * (FACTS_PER_SAY - 1) + [pair]))
    assert [len(request) for request in requests] == [FACTS_PER_SAY - 1, 2]
    assert list(_packed([])) == []


async def test_one_instruments_trouble_does_not_hold_up_another(settled: BinanceDouble) -> None:
    """An unknown symbol is REFUSED, once; the other instrument gets all its bars meanwhile."""
    nonsense = InstrumentId("NONSENSE-USDT_binance")
    tape = listed(BINANCE_BTC, nonsense)
    door = TapeDoor(tape)

    class UntilBoth(Script):
        async def __call__(self, seconds: float) -> None:
            self.backoffs.append(seconds)
            if len(self.backoffs) > 200:
                raise AssertionError("the facts did not come")
            if {type(event) for event in events(tape)} == {BarClosed, FeedInterrupted}:
                raise Killed

    feed = exchange_feed(settled, UntilBoth(), NONSENSE__USDT_binance="NONSENSE/USDT", BTC__USDT_binance="BTC/USDT")
    await run_until_killed(feed, door)
    refused = [event for event in events(tape) if isinstance(event, FeedInterrupted)]
    assert [(one.instrument, one.kind) for one in refused] == [(nonsense, FeedTroubleKind.REFUSED)]
    assert [event for event in events(tape) if isinstance(event, BarClosed)] == [binance_bar(n) for n in range(10)]


async def test_a_misspelt_exchange_is_a_configuration_error() -> None:
    """The key is named, so the fix is one edit."""
    feed = ExchangeFeed("binanace", {BINANCE_BTC: "BTC/USDT"}, "1m", POLL_S)
    with pytest.raises(ConfigurationInvalid, match=r"feed\.exchange.*binanace"):
        await feed.run(TapeDoor(listed(BINANCE_BTC)))


# ---- files -------------------------------------------------------------------------------------------------------

ROWS = {
    0: "100,102,99,101,3",
    1: "101,103,100,102,3",
    2: "nan,103,100,102,3",
    3: "102,104,101,103,3",
    5: "103,105,102,104,3",
    6: "104,106,103,105,3",
}
"""Minute → prices of a file with a bad row 2 and without row 4."""


def write(path: Path, rows: Sequence[tuple[int, str]]) -> str:
    lines = [f"{FIRST_MS + minute * MINUTE_MS},{prices}" for minute, prices in rows]
    path.write_text("\n".join(["ts,open,high,low,close,volume", *lines]) + "\n")
    return str(path)


def files_feed(files: dict[InstrumentId, str], turns: int = 10**9, timeframe: str = "1m") -> FilesFeed:
    sleeper = Sleeper(turns)
    return FilesFeed(files, timeframe, 0.1, sleep=sleeper, clock=sleeper.clock)


def described(tape: MemoryTape) -> list[str]:
    """Bars by instrument and minute, rejections by fault and minute."""
    texts = []
    for event in events(tape):
        assert isinstance(event, BarClosed | DataRejected)
        minute = (event.open_ns // 1_000_000 - FIRST_MS) // MINUTE_MS
        texts.append(f"{event.fault if isinstance(event, DataRejected) else event.instrument[:3]} {minute}")
    return texts


async def test_a_file_is_replayed_bar_by_bar_and_then_the_feed_ends(tmp_path: Path) -> None:
    """Bad rows become facts, gaps come before the bar that ends them, and each bar takes its turn."""
    path = write(tmp_path / "bars.csv", [*ROWS.items(), (6, ROWS[6]), (6, ROWS[5])])
    tape = listed(BTC)
    feed = files_feed({BTC: path})
    await feed.run(TapeDoor(tape))

    assert described(tape) == [
        *("BTC 0", "BTC 1", "NOT_FINITE 2", "GAP 2", "BTC 3", "GAP 4", "BTC 5", "BTC 6"),
        *("DUPLICATE 6", "REVISED 6"),
    ]
    assert isinstance(feed.sleep, Sleeper)
    assert len(feed.sleep.waits) == 5


async def test_bars_of_several_files_that_close_together_are_one_request(tmp_path: Path) -> None:
    """By closing time, then in the order of the settings."""
    files = {
        BTC: write(tmp_path / "btc.csv", [(minute, ROWS[minute]) for minute in (1, 3, 5, 6)]),
        ETH: write(tmp_path / "eth.csv", [(minute, ROWS[minute]) for minute in (0, 1, 5, 6)]),
    }
    tape = listed(BTC, ETH)
    door = TapeDoor(tape)
    await files_feed(files).run(door)
    assert described(tape) == [
        *("ETH 0", "BTC 1", "ETH 1", "GAP 2", "BTC 3"),
        *("GAP 4", "BTC 5", "GAP 2", "ETH 5", "BTC 6", "ETH 6"),
    ]
    assert [len(said) for said in door.said] == [2, 1, 2, 2, 4, 2]


@pytest.mark.parametrize("lost", [True, False], ids=["before the tape", "after the tape"])
@pytest.mark.parametrize("kill_at", range(1, 8))
async def test_a_files_feed_killed_anywhere_leaves_no_trace(kill_at: int, lost: bool, tmp_path: Path) -> None:
    """Killed in any request and started again, the tape is that of a feed that never died."""
    path = write(tmp_path / "bars.csv", [*ROWS.items(), (6, ROWS[5])])
    whole, tape = listed(BTC), listed(BTC)
    await files_feed({BTC: path}).run(TapeDoor(whole))
    await run_until_killed(files_feed({BTC: path}), TapeDoor(tape, kill_at=kill_at, lost=lost))
    await files_feed({BTC: path}).run(TapeDoor(tape))
    assert outside(tape) == outside(whole)


async def test_the_next_file_goes_on_where_the_tape_ends(tmp_path: Path) -> None:
    """A file without the last bar on the tape is read from the first later row; what is older is not said again."""
    tape = listed(BTC)
    await files_feed({BTC: write(tmp_path / "one.csv", [(0, ROWS[0]), (1, ROWS[1]), (3, ROWS[3])])}).run(TapeDoor(tape))
    other = write(tmp_path / "two.csv", [(0, ROWS[0]), (1, ROWS[1]), (5, ROWS[5]), (6, ROWS[6])])
    await files_feed({BTC: other}).run(TapeDoor(tape))
    assert described(tape) == ["BTC 0", "BTC 1", "GAP 2", "BTC 3", "GAP 4", "BTC 5", "BTC 6"]


async def test_live_replay_and_backtest_name_their_bars_alike(tmp_path: Path) -> None:
    """The same bars under the same ids, whether a file is replayed live or in a backtest."""
    path = write(tmp_path / "bars.csv", [(minute, ROWS[minute]) for minute in (0, 1, 3, 5, 6)])
    tape = listed(BTC)
    await files_feed({BTC: path}).run(TapeDoor(tape))
    backtest = [(one.id, one.event) for one in bars_of(source(BTC, path, read_bars(path)))]
    live = outside(tape)
    assert [said for said in live if isinstance(said[1], BarClosed)] == [
        said for said in backtest if isinstance(said[1], BarClosed)
    ]
    assert [event for _, event in live[1:]] == [event for _, event in backtest]


async def test_a_file_of_another_timeframe_is_refused(tmp_path: Path) -> None:
    """Strategies wait for bars of feed.timeframe: others would never wake them."""
    path = write(tmp_path / "bars.csv", [(0, ROWS[0]), (1, ROWS[1])])
    with pytest.raises(ConfigurationInvalid, match=r"feed\.timeframe is 1h, but .* 0 are that far apart and 1 closer"):
        await files_feed({BTC: path}, timeframe="1h").run(TapeDoor(listed(BTC)))


async def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    """The path is named, no trace of a stack."""
    with pytest.raises(ConfigurationInvalid, match=r"nowhere\.csv"):
        await files_feed({BTC: str(tmp_path / "nowhere.csv")}).run(TapeDoor(listed(BTC)))


TRADES = ["100,1", "101,1", "0,1", "102,2", "99,0.5", "98,1", "97,3", "nan,1", "96,1"]
"""Prices and sizes of a file of trades, one a second, of which the third and the eighth are bad."""


def write_trades(path: Path, trades: Sequence[str]) -> str:
    lines = [f"{FIRST_MS + 1000 * second},{trade},buy,{second}" for second, trade in enumerate(trades)]
    path.write_text("\n".join(["ts,price,size,side,trade_id", *lines]) + "\n")
    return str(path)


async def test_a_file_of_trades_is_replayed_as_the_bars_it_makes(tmp_path: Path) -> None:
    """Refused trades come before the bar during which they were refused; what is left over is no bar."""
    path = write_trades(tmp_path / "trades.csv", TRADES)
    tape = listed(BTC)
    await files_feed({BTC: path}, timeframe="tick-2").run(TapeDoor(tape))

    said = [event for _, event in outside(tape)]
    assert isinstance(said[0], FeedOpened)
    assert said[0].detail.endswith("3 bars; time unit ms; built from 7 trades by tick:2, 1 left over")
    first_ns = FIRST_MS * 1_000_000
    at = [first_ns + second * 10**9 for second in range(len(TRADES))]
    assert said[1:] == [
        BarClosed(BTC, "tick-2", at[0], at[1], "100", "101", "100", "101", "2"),
        DataRejected(BTC, DataFault.NON_POSITIVE_PRICE, at[2], "price is 0: a price is above 0"),
        BarClosed(BTC, "tick-2", at[3], at[4], "102", "102", "99", "99", "2.5"),
        DataRejected(BTC, DataFault.NOT_FINITE, at[7], "price is NaN: a number must be finite"),
        BarClosed(BTC, "tick-2", at[5], at[6], "98", "98", "97", "97", "4"),
    ]


@pytest.mark.parametrize("timeframe", ["tick-2", "1s"])
@pytest.mark.parametrize("kill_at", range(1, 5))
async def test_a_feed_of_trades_killed_anywhere_leaves_no_trace(kill_at: int, timeframe: str, tmp_path: Path) -> None:
    """Bars that trades make are built again after a restart, and the feed goes on behind the last one on the tape."""
    path = write_trades(tmp_path / "trades.csv", TRADES)
    whole, tape = listed(BTC), listed(BTC)
    await files_feed({BTC: path}, timeframe=timeframe).run(TapeDoor(whole))
    await run_until_killed(files_feed({BTC: path}, timeframe=timeframe), TapeDoor(tape, kill_at=kill_at, lost=True))
    await files_feed({BTC: path}, timeframe=timeframe).run(TapeDoor(tape))
    assert outside(tape) == outside(whole)


async def test_many_refused_trades_are_said_in_bounded_requests(tmp_path: Path) -> None:
    """A file that is mostly bad fills no request beyond the bound, and every refusal is on the tape."""
    path = write_trades(tmp_path / "trades.csv", ["100,1", *["0,1"] * 1200, "101,1", "102,1"])
    tape = listed(BTC)
    door = TapeDoor(tape)
    await files_feed({BTC: path}, timeframe="tick-2").run(door)
    assert [len(said) for said in door.said] == [1, FACTS_PER_SAY, FACTS_PER_SAY, 201]
    assert len({identity for identity, _ in outside(tape)}) == 1202


async def test_bars_built_live_and_in_a_backtest_are_alike(tmp_path: Path) -> None:
    """The same trades make the same bars under the same ids, from the same source, in both."""
    path = write_trades(tmp_path / "trades.csv", [trade for trade in TRADES if trade[0] in "19"])
    tape = listed(BTC)
    await files_feed({BTC: path}, timeframe="tick-2").run(TapeDoor(tape))
    one = source(BTC, path, build_bars(path, parse_rule("tick:2")))
    assert outside(tape)[1:] == [(said.id, said.event) for said in bars_of(one)]
    assert outside(tape)[0][1] == one.opened


async def test_bars_are_not_taken_for_trades(tmp_path: Path) -> None:
    """Bars that only trades make cannot be had from a file of minutes."""
    path = write(tmp_path / "bars.csv", [(0, ROWS[0]), (1, ROWS[1]), (3, ROWS[3])])
    with pytest.raises(ConfigurationInvalid, match=r"feed\.timeframe is tick-2, but .* has bars of 1m"):
        await files_feed({BTC: path}, timeframe="tick-2").run(TapeDoor(listed(BTC)))


# ---- settings ----------------------------------------------------------------------------------------------------


def settings(feed: FeedTable, *tables: InstrumentTable) -> Settings:
    return Settings(run=RunTable(seed=11), feed=feed, instrument=tables or (InstrumentTable("BTC/USDT"),))


def test_the_settings_choose_the_feed() -> None:
    """One adapter of the marketdata core, with the settings' instruments, rhythm and addresses."""
    table = InstrumentTable("BTC/USDT", data="bars.csv")
    exchange = FeedTable(kind="exchange", exchange="kraken", base_url="http://there", poll_ms=500, history_bars=900)
    assert make_adapters(settings(FeedTable(interval_ms=100), table)) == [
        ("marketdata", SyntheticFeed({BTC: table}, "1m", 0.1, 11))
    ]
    assert make_adapters(settings(FeedTable(break_bar=900, break_volatility=2.5), table)) == [
        ("marketdata", SyntheticFeed({BTC: table}, "1m", 0.25, 11, break_bar=900, break_volatility=2.5))
    ]
    assert make_adapters(settings(exchange, table)) == [
        ("marketdata", ExchangeFeed("kraken", {BTC: "BTC/USDT"}, "1m", 0.5, "http://there", 900))
    ]
    for timeframe in ("1m", "tick-500"):
        feed = FeedTable(kind="files", interval_ms=40, timeframe=timeframe)
        assert make_adapters(settings(feed, table)) == [
            ("marketdata", FilesFeed({BTC: "bars.csv"}, timeframe, 0.04)),
        ]


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        (FeedTable(timeframe="1M"), r"feed\.timeframe.*1M"),
        (FeedTable(timeframe="tick-x", kind="files"), r"feed\.timeframe.*'x' is not a whole number above 0"),
        (FeedTable(timeframe="tick-500"), r"feed\.timeframe is tick-500.*kind synthetic"),
        (FeedTable(interval_ms=0), r"feed\.interval_ms is 0"),
        (FeedTable(break_volatility=-1.0), r"BTC/USDT.*break_volatility is -1\.0"),
        (FeedTable(kind="exchange", poll_ms=-1), r"feed\.poll_ms is -1"),
        (FeedTable(kind="exchange", history_bars=0), r"feed\.history_bars is 0"),
    ],
)
def test_a_feed_that_cannot_run_is_refused_at_the_start(feed: FeedTable, message: str) -> None:
    """The key and its value are named before anything is opened."""
    with pytest.raises(ConfigurationInvalid, match=message):
        make_adapters(settings(feed))


def test_two_names_of_one_token_are_refused() -> None:
    """A-B/USDT and A/B-USDT would share their books."""
    with pytest.raises(ConfigurationInvalid, match=r"'A-B/USDT' and 'A/B-USDT'"):
        make_adapters(settings(FeedTable(), InstrumentTable("A-B/USDT"), InstrumentTable("A/B-USDT")))


def test_a_tick_above_the_price_is_refused() -> None:
    """The synthetic market cannot begin below one tick."""
    with pytest.raises(ConfigurationInvalid, match=r"BTC/USDT.*tick"):
        make_adapters(settings(FeedTable(), InstrumentTable("BTC/USDT", tick_size=Decimal(100_000))))


def test_importing_the_service_loads_no_feed_library() -> None:
    """ccxt and pyarrow are loaded by the feed that needs them."""
    code = (
        "import sys; import tapeline_marketdata.service;"
        "sys.exit(bool({'ccxt', 'pyarrow', 'tapeline_marketdata.files'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
