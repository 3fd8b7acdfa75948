"""The feeds of a live tape: the synthetic market, an exchange's REST interface, recorded files.

A feed goes on from the watermarks on the tape, which are all that it remembers: killed at any point and started again
it says every bar once, because ids are natural keys and each bar is said in one piece with the gap before it. Bars of
the outside world pass the checker first; what it refuses is said as DataRejected, what fails as FeedInterrupted.

Nothing is decided here about trading, and no library of a feed is loaded before that feed runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from msgspec.structs import replace

from tapeline_common.events import BarClosed, DataRejected, Event, FeedInterrupted, FeedOpened, FeedResumed
from tapeline_common.measures import NS_PER_S, Labels, Number
from tapeline_common.opening import instrument_id
from tapeline_common.settings import ConfigurationInvalid, InstrumentTable, Settings
from tapeline_common.values import DataFault, FeedTroubleKind, InstrumentId
from tapeline_common.wire import encode
from tapeline_common.wiring import Adapter, Door
from tapeline_marketdata.bar_rules import fixed_length_ns, rule_of
from tapeline_marketdata.checks import AcceptedAfterGap, Checker, CheckerState, Rejected
from tapeline_marketdata.core import CORE, State
from tapeline_marketdata.exchange_figures import ExchangeFigures
from tapeline_marketdata.measures import DELAY, EXPECTED_INTERVAL, RATE_BUDGET, REQUEST_SECONDS, REQUESTS
from tapeline_marketdata.timeframe import UnknownTimeframe

if TYPE_CHECKING:
    from tapeline_marketdata.exchange import FeedTrouble
    from tapeline_marketdata.files import BarFile
    from tapeline_marketdata.synthetic import SyntheticMarket

Said: TypeAlias = tuple[str, Event]
"""An outside fact and its id."""

Sleep: TypeAlias = Callable[[float], Awaitable[object]]
Clock: TypeAlias = Callable[[], float]

FACTS_PER_SAY = 500
"""Most facts of one request while history is fetched: a round trip is amortised, a page is far below the bus limit."""

LISTED_POLL_S = 0.25
"""How often a feed looks whether its instruments are listed; the opening of a tape takes less than a second."""

SLACK_S = 10.0
"""How late a bar of an exchange may come, beside the time between two polls, before it counts as old."""

START_PRICES = {"BTC": Decimal(60_000), "ETH": Decimal(3_000), "SOL": Decimal(150)}
"""Where the synthetic market begins, by base currency, so that demo prices look familiar."""

USUAL_START_PRICE = Decimal(100)


# ---- settings ----------------------------------------------------------------------------------------------------


def make_adapters(settings: Settings) -> list[tuple[str, Adapter]]:
    """The feed that the settings ask for, for the marketdata core. Raises ``ConfigurationInvalid``."""
    feed, tables = settings.feed, _by_token(settings.instrument)
    try:
        length_ns = fixed_length_ns(feed.timeframe)
    except UnknownTimeframe as trouble:
        raise ConfigurationInvalid(f"key feed.timeframe: {trouble}") from None
    if length_ns is None and feed.kind != "files":
        raise ConfigurationInvalid(
            f"key feed.timeframe is {feed.timeframe}: such bars are built from files of trades (feed.kind files);"
            f" a feed of kind {feed.kind} has bars such as 1m"
        )
    for key in ("interval_ms", "poll_ms", "history_bars"):
        if getattr(feed, key) <= 0:
            raise ConfigurationInvalid(f"key feed.{key} is {getattr(feed, key)}: use a number above zero")
    adapter: Adapter
    if feed.kind == "synthetic":
        adapter = SyntheticFeed(
            tables,
            feed.timeframe,
            feed.interval_ms / 1000,
            settings.run.seed,
            break_bar=feed.break_bar,
            break_volatility=feed.break_volatility,
        )
    elif feed.kind == "files":
        files = {token: table.data for token, table in tables.items()}
        adapter = FilesFeed(files, feed.timeframe, feed.interval_ms / 1000)
    else:
        symbols = {token: table.name for token, table in tables.items()}
        adapter = ExchangeFeed(
            feed.exchange,
            symbols,
            feed.timeframe,
            feed.poll_ms / 1000,
            base_url=feed.base_url,
            history_bars=feed.history_bars,
        )
    return [(CORE.name, adapter)]


def _by_token(tables: Sequence[InstrumentTable]) -> dict[InstrumentId, InstrumentTable]:
    found: dict[InstrumentId, InstrumentTable] = {}
    for table in tables:
        other = found.setdefault(instrument_id(table), table)
        if other is not table:
            raise ConfigurationInvalid(
                f"instruments {other.name!r} and {table.name!r} at {table.venue!r} are both called"
                f" {instrument_id(table)} on the tape: rename or remove one of them"
            )
    return found


# ---- what every feed says ----------------------------------------------------------------------------------------


class Judge:
    """Turns the bars of one instrument into facts by the checker's verdicts, on from the last bar on the tape."""

    def __init__(
        self, instrument: InstrumentId, timeframe: str, last: BarClosed | None, offset_ns: int | None = None
    ) -> None:
        state = None
        if last is not None:
            state = CheckerState(last.open_ns, (last.open, last.high, last.low, last.close, last.volume))
        self._checker = Checker(fixed_length_ns(timeframe), state, offset_ns)
        self._instrument = instrument

    def facts(self, bar: BarClosed) -> list[Said]:
        """To be said in one piece: a bar, or a gap and the bar that ends it, or why there is no bar."""
        verdict = self._checker.check(bar)
        if isinstance(verdict, Rejected):
            return [self.rejected(verdict.fault, bar.open_ns, verdict.detail)]
        if isinstance(verdict, AcceptedAfterGap):
            gap = self.rejected(DataFault.GAP, verdict.since_ns, f"{verdict.missing_bars} bars missing")
            return [gap, _bar_fact(bar)]
        return [_bar_fact(bar)]

    def rejected(self, fault: DataFault, open_ns: int, detail: str) -> Said:
        """Why there is no bar or trade of this time."""
        event = DataRejected(self._instrument, fault, open_ns, detail)
        digest = hashlib.sha256(encode(event)).hexdigest()[:12]
        return f"rejected:{self._instrument}:{fault}:{open_ns}:{digest}", event


def _bar_fact(bar: BarClosed) -> Said:
    return f"bar:{bar.instrument}:{bar.timeframe}:{bar.open_ns}", bar


class Reports:
    """The facts about one instrument's feed, numbered on from those on the tape.

    The core hears what is said only after it is recorded, so the numbers are counted on here.
    """

    def __init__(self, state: State, instrument: InstrumentId) -> None:
        self._instrument = instrument
        self._number = state.reports.get(instrument, 0)
        self._opened = state.opened.get(instrument)
        self.troubles: tuple[FeedTroubleKind, ...] = state.troubles.get(instrument, ())

    def opened(self, source: str, timeframe: str, detail: str, stale_after_ns: int = 0) -> list[Said]:
        """Where bars come from; nothing if the tape says so already."""
        event = FeedOpened(self._instrument, source, timeframe, detail, stale_after_ns)
        return [] if event == self._opened else [self._numbered(event)]

    def interrupted(self, trouble: FeedTrouble) -> list[Said]:
        """What is wrong; nothing if that was said since the feed last worked."""
        if trouble.kind in self.troubles:
            return []
        self.troubles = (*self.troubles, trouble.kind)
        return [self._numbered(FeedInterrupted(self._instrument, trouble.kind, trouble.detail))]

    def resumed(self, backfilled: int) -> list[Said]:
        """The end of the trouble; nothing if there was none."""
        if not self.troubles:
            return []
        self.troubles = ()
        return [self._numbered(FeedResumed(self._instrument, backfilled))]

    def _numbered(self, event: Event) -> Said:
        self._number += 1
        return f"feed:{self._instrument}:{self._number}", event


async def _say(door: Door, facts: Sequence[Said]) -> None:
    if facts:
        await door.say(facts)


async def _until_listed(door: Door, instruments: Sequence[InstrumentId], sleep: Sleep) -> None:
    """A bar means nothing before its instrument is on the tape."""
    while any(instrument not in door.state.listed for instrument in instruments):
        await sleep(LISTED_POLL_S)


def _packed(pieces: Sequence[list[Said]]) -> Iterator[list[Said]]:
    """Requests of at most FACTS_PER_SAY facts; no piece is divided."""
    request: list[Said] = []
    for piece in pieces:
        if len(request) + len(piece) > FACTS_PER_SAY:
            yield request
            request = []
        request.extend(piece)
    if request:
        yield request


class Pace:
    """A rhythm that is never quicker than its interval: what was missed is not caught up."""

    def __init__(self, interval_s: float, sleep: Sleep, clock: Clock) -> None:
        self._interval_s = interval_s
        self._sleep = sleep
        self._clock = clock
        self._due_s: float | None = None

    async def wait(self) -> None:
        """Until an interval after the last turn began; the first turn begins at once."""
        now_s = self._clock()
        if self._due_s is None or self._due_s <= now_s:
            self._due_s = now_s + self._interval_s
            return
        await self._sleep(self._due_s - now_s)
        self._due_s += self._interval_s


# ---- synthetic market --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SyntheticFeed:
    """The market of ``synthetic``: one bar of each instrument every ``interval_s``, in one request."""

    tables: Mapping[InstrumentId, InstrumentTable]
    timeframe: str
    interval_s: float
    seed: int
    sleep: Sleep = asyncio.sleep
    clock: Clock = time.monotonic
    break_bar: int = 0
    break_volatility: float = 1.0

    def __post_init__(self) -> None:
        self._market()  # what is wrong with an instrument is said before anything starts

    async def run(self, door: Door) -> None:
        await _until_listed(door, tuple(self.tables), self.sleep)
        market, state = self._market(), door.state
        last = {str(one): state.bars[one, self.timeframe] for one in self.tables if (one, self.timeframe) in state.bars}
        try:
            at = market.resume(last)
        except ValueError as trouble:
            raise ConfigurationInvalid(
                f"the synthetic feed cannot go on where this tape ends ({trouble}):"
                " put feed and instruments back, or start a new tape in another data folder"
            ) from None
        broken = self.break_volatility != 1.0
        change = f"; volatility times {self.break_volatility} from bar {self.break_bar} on" if broken else ""
        opened = [
            said
            for token, table in self.tables.items()
            for said in Reports(state, token).opened(
                "synthetic", self.timeframe, f"seed {self.seed}; begins at {_start_price(table)}{change}"
            )
        ]
        await _say(door, opened)
        pace = Pace(self.interval_s, self.sleep, self.clock)
        while True:
            await pace.wait()
            facts = []
            for _ in self.tables:
                bar, at = market.next_bar(at)
                facts.append(_bar_fact(bar))
            await door.say(facts)

    def samples(self, _now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        return [(EXPECTED_INTERVAL.name, (instrument,), self.interval_s) for instrument in self.tables]

    def _market(self) -> SyntheticMarket:
        from tapeline_marketdata.synthetic import SyntheticMarket, SyntheticSpec

        specs = []
        for token, table in self.tables.items():
            try:
                spec = SyntheticSpec(
                    instrument=token,
                    start_price=_start_price(table),
                    break_bar=self.break_bar,
                    break_volatility=self.break_volatility,
                )
                if table.tick_size is not None:
                    spec = replace(spec, tick_size=table.tick_size)
                if table.lot_size is not None:
                    spec = replace(spec, lot_size=table.lot_size)
            except ValueError as trouble:
                raise ConfigurationInvalid(f"the synthetic feed cannot make bars of {table.name}: {trouble}") from None
            specs.append(spec)
        return SyntheticMarket(self.seed, specs, timeframe=self.timeframe)


def _start_price(table: InstrumentTable) -> Decimal:
    return START_PRICES.get(table.name.partition("/")[0], USUAL_START_PRICE)


# ---- exchange ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExchangeFeed:
    """Closed bars of an exchange by REST: history from the watermark on, then each bar soon after it closes.

    Instruments share one connection and are polled side by side, so the trouble of one does not hold up another.
    """

    exchange: str
    symbols: Mapping[InstrumentId, str]
    timeframe: str
    poll_s: float
    base_url: str = ""
    history_bars: int = 500
    limit_rate: bool = True
    sleep: Sleep = asyncio.sleep
    figures: ExchangeFigures = field(default_factory=ExchangeFigures, compare=False, repr=False)
    delays_s: dict[InstrumentId, float] = field(default_factory=dict, compare=False, repr=False)

    async def run(self, door: Door) -> None:
        from tapeline_marketdata.exchange import UnknownExchange, open_exchange

        await _until_listed(door, tuple(self.symbols), self.sleep)
        try:
            exchange = open_exchange(
                self.exchange, base_url=self.base_url or None, limit_rate=self.limit_rate, figures=self.figures
            )
        except UnknownExchange as trouble:
            raise ConfigurationInvalid(f"key feed.exchange: {trouble}") from None
        lanes = [asyncio.ensure_future(self._lane(door, exchange, *each)) for each in self.symbols.items()]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            await exchange.close()

    async def _lane(self, door: Door, exchange: object, instrument: InstrumentId, symbol: str) -> None:
        from tapeline_marketdata.exchange import ExchangeBars, FeedTrouble

        last: BarClosed | None = door.state.bars.get((instrument, self.timeframe))
        reports, judge = Reports(door.state, instrument), Judge(instrument, self.timeframe, last)
        bars = ExchangeBars(
            self.exchange,
            symbol,
            self.timeframe,
            instrument=instrument,
            watermark_ns=None if last is None else last.open_ns,
            history_bars=self.history_bars,
            exchange=exchange,
            sleep=self.sleep,
        )
        await _say(door, reports.opened(self.exchange, self.timeframe, self._detail(symbol), self._stale_after_ns()))
        backfilled = 0
        while True:
            outcome = await bars.poll()
            if isinstance(outcome, FeedTrouble):
                await _say(door, reports.interrupted(outcome))
                continue
            if outcome and bars.asked_ns is not None:
                self.delays_s[instrument] = (bars.asked_ns - outcome[-1].close_ns) / NS_PER_S
            pieces = [judge.facts(bar) for bar in outcome]
            for request in _packed(pieces):
                await door.say(request)
            if reports.troubles:
                backfilled += sum(isinstance(piece[-1][1], BarClosed) for piece in pieces)
            if not outcome or not bars.behind:
                await _say(door, reports.resumed(backfilled))
                backfilled = 0
            if not bars.behind:
                await self.sleep(self.poll_s)

    def samples(self, _now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        length_ns = fixed_length_ns(self.timeframe)
        for instrument in self.symbols:
            if length_ns is not None:
                yield EXPECTED_INTERVAL.name, (instrument,), length_ns / NS_PER_S
            if instrument in self.delays_s:
                yield DELAY.name, (instrument,), self.delays_s[instrument]
        for outcome, count in self.figures.requests.items():
            yield REQUESTS.name, (self.exchange, outcome), count
        yield REQUEST_SECONDS.name, (self.exchange,), self.figures.seconds
        yield RATE_BUDGET.name, (self.exchange,), self.figures.budget_used(time.monotonic())

    def _stale_after_ns(self) -> int:
        """When a bar is two bars old another has closed since; the exchange, its lines and our polling take time."""
        length_ns = fixed_length_ns(self.timeframe)
        return 0 if length_ns is None else 2 * length_ns + round((SLACK_S + self.poll_s) * NS_PER_S)

    def _detail(self, symbol: str) -> str:
        host = urlsplit(self.base_url).hostname
        return f"REST; symbol {symbol}" + (f"; from {host}" if host else "")


# ---- files -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FilesFeed:
    """Recorded bars replayed into a live tape: every ``interval_s`` the bars that close together, in one request.

    From a file of trades the bars are built by the rule that the timeframe names ("1m", "tick-500"). Bad rows become
    facts (a backtest would refuse the file). The feed ends with the last row.
    """

    files: Mapping[InstrumentId, str]
    timeframe: str
    interval_s: float
    sleep: Sleep = asyncio.sleep
    clock: Clock = time.monotonic
    running: set[InstrumentId] = field(default_factory=set, compare=False, repr=False)

    async def run(self, door: Door) -> None:
        await _until_listed(door, tuple(self.files), self.sleep)
        from tapeline_marketdata.files import source_detail

        lanes, opened = [], []
        for instrument, path in self.files.items():
            file, digest = await asyncio.to_thread(self._read, path)
            source = PurePath(path).name
            opened += Reports(door.state, instrument).opened(source, self.timeframe, source_detail(file, digest))
            lanes.append(self._replay(instrument, file, door.state.bars.get((instrument, self.timeframe))))
        await _say(door, opened)
        pace = Pace(self.interval_s, self.sleep, self.clock)
        self.running.update(self.files)
        for _, together in groupby(heapq.merge(*lanes, key=_closing), key=_closing):
            await pace.wait()
            for request in _packed([facts for _, facts in together]):
                await door.say(request)
        self.running.clear()

    def samples(self, _now_ns: int) -> Iterable[tuple[str, Labels, Number]]:
        """No bar is due after the last row."""
        return [(EXPECTED_INTERVAL.name, (instrument,), self.interval_s) for instrument in self.running]

    def _read(self, path: str) -> tuple[BarFile, str]:
        from tapeline_marketdata.columns import BadFile, columns_in, file_digest, is_trades

        try:
            built = is_trades(columns_in(Path(path)))
            file, digest = self._built(path) if built else self._recorded(path), file_digest(path)
        except (BadFile, UnknownTimeframe) as trouble:
            raise ConfigurationInvalid(str(trouble)) from None
        return file, digest

    def _built(self, path: str) -> BarFile:
        from tapeline_marketdata.built_bars import build_bars

        return build_bars(path, rule_of(self.timeframe), strict=False)

    def _recorded(self, path: str) -> BarFile:
        from tapeline_marketdata.files import read_bars

        length_ns = fixed_length_ns(self.timeframe)
        file = read_bars(path, timeframe=None if length_ns is None else self.timeframe, strict=False)
        if file.facts.timeframe != self.timeframe:
            raise ConfigurationInvalid(
                f"key feed.timeframe is {self.timeframe}, but {path} has bars of {file.facts.timeframe}: set it to"
                " that, or give a file of trades to build such bars from"
            )
        distances = file.columns.open_ns[1:] - file.columns.open_ns[:-1]
        fitting = (distances == length_ns).sum()
        closer = ((distances > 0) & (distances < (length_ns or 0))).sum()
        if length_ns is not None and len(file) > 1 and fitting <= closer:
            raise ConfigurationInvalid(
                f"key feed.timeframe is {self.timeframe}, but of the rows of {path} {fitting} are that far apart and"
                f" {closer} closer: set it to the timeframe of the file, or give a file of {self.timeframe} bars"
            )
        return file

    def _replay(
        self, instrument: InstrumentId, file: BarFile, last: BarClosed | None
    ) -> Iterator[tuple[int, list[Said]]]:
        """The bars, each behind the trades refused since the one before it; those after the last bar come before it."""
        from tapeline_marketdata.built_bars import BuiltBars

        judge = Judge(instrument, self.timeframe, last, file.facts.grid_offset_ns)
        row, refused = _row_after(file, last), deque(file.rejected if isinstance(file, BuiltBars) else ())
        while refused and refused[0][0] < row:
            refused.popleft()
        for number, bar in enumerate(file.bars(instrument, row), row):
            while refused and (refused[0][0] <= number or number == len(file) - 1):
                trade = refused.popleft()[1]
                yield bar.close_ns, [judge.rejected(trade.rejected.fault, trade.time_ns, trade.rejected.detail)]
            yield bar.close_ns, judge.facts(bar)


def _closing(piece: tuple[int, list[Said]]) -> int:
    return piece[0]


def _row_after(file: BarFile, last: BarClosed | None) -> int:
    """The row behind the bar that is last on the tape, or, in a file without it, the first row of a later time."""
    if last is None:
        return 0
    open_ns = file.columns.open_ns
    for row in (open_ns == last.open_ns).nonzero()[0].tolist():
        if next(file.slices(last.instrument, row, 1)) == [last]:
            return int(row) + 1
    later = (open_ns > last.open_ns).nonzero()[0]
    return int(later[0]) if len(later) else len(file)
