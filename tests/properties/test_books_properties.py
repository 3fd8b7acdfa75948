"""Laws of the books over arbitrary histories of fills, and broken books that the laws must catch."""

import importlib.util
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tapeline_ledger.books
import tapeline_ledger.core
from tapeline_common.core import Stamp, step
from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    BorrowCharged,
    BorrowPosted,
    EquityMarked,
    Event,
    FundingPosted,
    FundingPublished,
    InstrumentListed,
    OrderFilled,
    PositionChanged,
    RunStarted,
    TradeClosed,
)
from tapeline_common.values import DecimalText, InstrumentId, Liquidity, OrderId, Realm, Side, StrategyId
from tapeline_ledger.books import BooksViolated, Posting, post

D = Decimal
unhurried = settings(deadline=None)  # no test may depend on the speed of the machine
CAPITAL = D("1000000.07")
HOUR_NS = 3_600_000_000_000
BITCOIN, ETHER = InstrumentId("btc-usd"), InstrumentId("eth-usd")
TREND, OTHER = StrategyId("trend"), StrategyId("other")
BASE = {BITCOIN: "BTC", ETHER: "ETH"}
PRELUDE: tuple[Event, ...] = (
    RunStarted(run="r", tape="t", realm=Realm.REPLAY, seed=1, currency="USD", code_version="v"),
    AccountFunded(account="main", currency="USD", amount=CAPITAL),
    InstrumentListed(instrument=BITCOIN, name="BTC/USD", venue="sim", base="BTC", quote="USD"),
    InstrumentListed(instrument=ETHER, name="ETH/USD", venue="sim", base="ETH", quote="USD"),
)


class Story:
    """A ledger that has heard a history, with everything it said."""

    def __init__(self, facts: Sequence[Event], core: ModuleType = tapeline_ledger.core) -> None:
        self.core = core
        self.state: Any = core.CORE.initial()
        self.said: list[Event] = []
        for pos, fact in enumerate([*PRELUDE, *facts], start=1):
            self.said += step(core.CORE, self.state, fact, Stamp(pos, pos * HOUR_NS // 10))

    def all(self, kind: type[Event]) -> list[Any]:
        return [fact for fact in self.said if type(fact) is kind]

    @property
    def positions(self) -> list[Any]:
        return [held for holders in self.state.books.positions.values() for held in holders.values()]


def fill_of(
    number: int, strategy: StrategyId, instrument: InstrumentId, signed: Decimal, price: Decimal, fee: Decimal
) -> OrderFilled:
    return OrderFilled(
        order=OrderId(f"order-{number}"),
        client_order_id=f"c{number}",
        strategy=strategy,
        instrument=instrument,
        trade_id="1",
        side=Side.BUY if signed > 0 else Side.SELL,
        quantity=abs(signed),
        price=price,
        fee=fee,
        fee_currency="USD",
        liquidity=Liquidity.TAKER,
        slippage=D(0),
    )


# Few distinct quantities, so that positions often become flat or cross zero.
signed_quantities = st.sampled_from([D(text) for text in ("-3", "-2", "-1", "-0.7", "0.7", "1", "2", "3")])
prices = st.decimals(min_value=D("0.01"), max_value=D(99999), places=2)
rates = st.sampled_from([D("-0.0001"), D(0), D("0.0005"), D("0.001")])


@st.composite
def fill_lists(draw: st.DrawFn) -> list[OrderFilled]:
    """Fills of different orders, by two strategies, of two instruments; fees and rebates by notional."""
    fills = []
    for number in range(draw(st.integers(1, 12))):
        signed, price = draw(signed_quantities), draw(prices)
        fee = abs(signed) * price * draw(rates)
        strategy, instrument = draw(st.sampled_from([TREND, OTHER])), draw(st.sampled_from([BITCOIN, ETHER]))
        fills.append(fill_of(number, strategy, instrument, signed, price, fee))
    return fills


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Fills with bars and funding between them."""
    facts: list[Event] = []
    for fill in draw(fill_lists()):
        facts.append(fill)
        if draw(st.booleans()):
            close = DecimalText(str(draw(prices)))
            facts.append(BarClosed(fill.instrument, "1m", 0, 1, close, close, close, close, DecimalText("1")))
        if draw(st.booleans()):
            facts.append(FundingPublished(fill.instrument, draw(rates), draw(prices)))
        if draw(st.booleans()):
            facts.append(BorrowCharged(fill.instrument, 1, abs(draw(rates)), draw(prices)))
    return facts


def flattening(story: Story) -> list[Event]:
    """Fills that close every open position, at prices of their own."""
    fills: list[Event] = []
    for instrument, holders in story.state.books.positions.items():
        for strategy, held in holders.items():
            if held.quantity:
                number = 1000 + len(fills)
                fills.append(fill_of(number, strategy, instrument, -held.quantity, D("77.77"), D("0.013")))
    return fills


def total(amounts: Sequence[Decimal]) -> Decimal:
    return sum(amounts, D(0))


# ---- the laws ----------------------------------------------------------------------------------------------------


def check_laws(facts: Sequence[Event], core: ModuleType = tapeline_ledger.core) -> None:
    """Everything the books promise about a history whose fees are in account currency.

    The expected sums are taken from the facts themselves, so that books which are wrong on both sides are caught.
    """
    story = Story(facts, core)
    state, balances = story.state, story.state.books.balances
    fills = list({(fact.order, fact.trade_id): fact for fact in facts if type(fact) is OrderFilled}.values())
    fees = total([fill.fee for fill in fills])
    flows = total([-fill.side.sign * fill.quantity * fill.price for fill in fills])
    funding = total([posted.amount for posted in (*story.all(FundingPosted), *story.all(BorrowPosted))])

    assert tapeline_ledger.books.imbalances(state.books) == {}
    assert core.cash(state) == CAPITAL + flows - fees + funding
    assert balances.get("fees", {}).get("USD", D(0)) == fees
    assert balances.get("capital", {}).get("USD", D(0)) == -CAPITAL
    for instrument, holders in state.books.positions.items():
        for strategy, held in holders.items():
            own = [fill for fill in fills if (fill.instrument, fill.strategy) == (instrument, strategy)]
            assert held.quantity == total([fill.side.sign * fill.quantity for fill in own])
            assert held.quantity == balances[f"position:{strategy}:{instrument}"][BASE[instrument]]
            assert held.total_fees == total([fill.fee for fill in own])
    _check_conservation(story, fees, funding)
    _check_trades(story, fees, flows, funding)
    assert len(story.all(TradeClosed)) == _times_left_zero_behind(fills)
    assert len(story.all(PositionChanged)) == len(fills)
    assert len(story.all(EquityMarked)) >= len(fills)


def _times_left_zero_behind(fills: Sequence[OrderFilled]) -> int:
    """How often a position became flat or turned: each time, exactly one trade closed."""
    held: dict[tuple[StrategyId, InstrumentId], Decimal] = {}
    count = 0
    for fill in fills:
        key = (fill.strategy, fill.instrument)
        before = held.get(key, D(0))
        held[key] = before + fill.side.sign * fill.quantity
        count += before * held[key] <= 0 and before != 0
    return count


def _check_conservation(story: Story, fees: Decimal, funding: Decimal) -> None:
    """Capital plus results minus fees is cash plus what is held, at cost and at last prices."""
    realised = total([held.realised_pnl for held in story.positions])
    at_cost = total([held.cost for held in story.positions])
    assert CAPITAL + realised - fees + funding == story.core.cash(story.state) + at_cost
    at_market = total(
        [
            held.quantity * D(story.state.prices[instrument])
            for instrument, holders in story.state.books.positions.items()
            for held in holders.values()
        ]
    )
    assert story.core.equity(story.state) == story.core.cash(story.state) + at_market


def _check_trades(story: Story, fees: Decimal, flows: Decimal, funding: Decimal) -> None:
    """Closed trades and open positions share out every cash flow, fee and funding payment exactly once."""
    trades, positions = story.all(TradeClosed), story.positions
    assert total([trade.pnl for trade in trades]) + total([held.cash for held in positions]) == flows
    assert total([trade.fees for trade in trades]) + total([held.fees for held in positions]) == fees
    assert total([trade.funding for trade in trades]) + total([held.funding for held in positions]) == funding
    assert len({trade.trade for trade in trades}) == len(trades)


@unhurried
@given(histories())
def test_the_books_keep_their_laws_over_any_history(facts: list[Event]) -> None:
    """Zero sums, conservation, and every cash flow in exactly one trade, whatever is filled in whatever order."""
    check_laws(facts)


@unhurried
@given(histories())
def test_flat_equity_is_capital_plus_trades_minus_fees_plus_funding(facts: list[Event]) -> None:
    """When everything is closed nothing is left over in any average: equality holds to the last digit."""
    story = Story([*facts, *flattening(Story(facts))])
    trades = story.all(TradeClosed)
    result = total([trade.pnl - trade.fees + trade.funding for trade in trades])
    assert story.core.equity(story.state) == CAPITAL + result
    assert not tapeline_ledger.books.is_open(story.state.books)


@unhurried
@given(fill_lists(), st.data())
def test_order_and_repetition_of_fills_do_not_matter(fills: list[OrderFilled], data: st.DataObject) -> None:
    """Confluence: any order, any repeats, the same quantities and the same balance of every account."""
    repeats = data.draw(st.lists(st.sampled_from(fills), max_size=6))
    shuffled = data.draw(st.permutations([*fills, *repeats]))
    straight, other = Story(fills), Story(shuffled)
    balances = [
        {account: dict(own) for account, own in each.state.books.balances.items()} for each in (straight, other)
    ]
    assert balances[0] == balances[1]
    quantities = [
        {
            (instrument, name): held.quantity
            for instrument, own in each.state.books.positions.items()
            for name, held in own.items()
        }
        for each in (straight, other)
    ]
    assert quantities[0] == quantities[1]
    check_laws(shuffled)


@unhurried
@given(fill_lists(), st.data())
def test_a_fill_in_two_parts_gives_the_same_books(fills: list[OrderFilled], data: st.DataObject) -> None:
    """Splitting a fill at one price, its fee with it, changes no balance, no average, no result, no trade."""
    index = data.draw(st.integers(0, len(fills) - 1))
    whole, share = fills[index], data.draw(st.sampled_from([D("0.1"), D("0.5"), D("0.9")]))
    parts = [
        msgspec.structs.replace(whole, trade_id=name, quantity=whole.quantity * part, fee=whole.fee * part)
        for name, part in (("a", share), ("b", 1 - share))
    ]
    straight, split = Story(fills), Story([*fills[:index], *parts, *fills[index + 1 :]])
    assert straight.state.books.balances == split.state.books.balances
    for one, two in zip(straight.positions, split.positions, strict=True):
        assert _without_time(one) == _without_time(two)
    keys = [[(trade.trade, trade.pnl, trade.fees) for trade in each.all(TradeClosed)] for each in (straight, split)]
    assert keys[0] == keys[1]


def _without_time(position: Any) -> tuple[Any, ...]:
    return tuple(getattr(position, name) for name in position.__slots__ if name != "opened_ns")


@unhurried
@given(st.lists(st.tuples(st.sampled_from(["USD", "BTC"]), prices), min_size=1, max_size=6), st.data())
def test_an_entry_with_a_changed_or_lost_posting_raises(legs: list[tuple[str, Decimal]], data: st.DataObject) -> None:
    """Whatever posting of a balanced entry is lost or altered, the entry is refused whole."""
    entry = []
    for currency, amount in legs:
        entry += [Posting("one", currency, amount), Posting("two", currency, -amount)]
    post(tapeline_ledger.books.Books(), entry)
    hit = data.draw(st.integers(0, len(entry) - 1))
    changed = msgspec.structs.replace(entry[hit], amount=entry[hit].amount + D("0.01"))
    for broken in ([*entry[:hit], *entry[hit + 1 :]], [*entry[:hit], changed, *entry[hit + 1 :]]):
        books = tapeline_ledger.books.Books()
        with pytest.raises(BooksViolated):
            post(books, broken)
        assert books.balances == {}


# ---- mutants: the laws can fail ----------------------------------------------------------------------------------

BOOKS_MUTANTS = {
    "fee sign": ("Posting(CASH, fill.fee_currency, -fill.fee)", "Posting(CASH, fill.fee_currency, fill.fee)"),
    "both fee signs": (
        "Posting(CASH, fill.fee_currency, -fill.fee))\n        entry.append(Posting(FEES, fill.fee_currency, fill.fee)",
        "Posting(CASH, fill.fee_currency, fill.fee))\n        entry.append(Posting(FEES, fill.fee_currency, -fill.fee)",
    ),
    "lost contra of the base leg": ("        Posting(market, base, -moved),\n", ""),
    "lost contra of the quote leg": ("        Posting(market, quote, value),\n", ""),
    "lost fee contra": ("        entry.append(Posting(FEES, fill.fee_currency, fill.fee))\n", ""),
    "lost fee": ("    if fill.fee:\n", "    if False:\n"),
    "quote leg reversed": (
        "Posting(CASH, quote, -value),\n        Posting(market, quote, value)",
        "Posting(CASH, quote, value),\n        Posting(market, quote, -value)",
    ),
    "fee not split": ("fee_in_quote - closing_fee", "fee_in_quote"),
    "crossing fill not split": ("    if not crosses:", "    if True:"),
    "fees kept across trades": (
        "    position.quantity = position.cash = position.fees",
        "    position.quantity = position.cash",
    ),
    "cash kept across trades": (
        "    position.quantity = position.cash = position.fees",
        "    position.quantity = position.fees",
    ),
    "funding sign": (
        "_EXACT.multiply(-position.quantity, notional_rate)",
        "_EXACT.multiply(position.quantity, notional_rate)",
    ),
    "funding not told to the trade": (".funding += amount", ".funding += 0"),
    "longs pay for borrowing": ("if position.quantity < 0 and value_rate", "if position.quantity and value_rate"),
    "trades not counted": ("position.trades += 1", "position.trades += 0"),
    "cash forgets the price": ("position.cash -= value", "position.cash -= moved"),
}
CORE_MUTANTS = {
    "repeated fill counted": ("    if name in state.counted:", "    if False:"),
    "short exposure dropped from equity": ("            value += worth", "            value += max(worth, ZERO)"),
    "first price kept": (
        "    state.prices[event.instrument] = event.close",
        "    state.prices.setdefault(event.instrument, event.close)",
    ),
    "funding said, not posted": (
        "    if listing is not None:\n        payments = post_funding",
        "    if listing is None:\n        payments = post_funding",
    ),
    "borrowing said, not posted": (
        "        post_borrowing(state.books, event.instrument, listing.quote, event.rate, event.price)",
        "        del listing",
    ),
    "capital posted twice": (
        "    post_capital(state.books, event.currency, event.amount)",
        "    post_capital(state.books, event.currency, 2 * event.amount)",
    ),
}


def telling_history() -> list[Event]:
    """A short history in which every rule of the books matters."""
    close = DecimalText("140")
    bought = fill_of(1, TREND, BITCOIN, D(2), D(100), D("0.2"))
    return [
        bought,
        FundingPublished(BITCOIN, D("0.001"), D(101)),
        fill_of(2, TREND, BITCOIN, D(-3), D(120), D("0.36")),
        bought,
        BarClosed(BITCOIN, "1m", 0, 1, close, close, close, close, DecimalText("1")),
        fill_of(3, TREND, BITCOIN, D(1), D(130), D("0.13")),
        fill_of(4, OTHER, BITCOIN, D(-1), D(130), D("0.13")),
        FundingPublished(BITCOIN, D("0.001"), D(101)),
        fill_of(5, TREND, ETHER, D(1), D(10), D(0)),
        BorrowCharged(BITCOIN, 1, D("0.01"), D(140)),
        BorrowCharged(ETHER, 1, D("0.01"), D(10)),
    ]


def check_telling_history(core: ModuleType) -> None:
    facts = telling_history()
    check_laws(facts, core)
    story = Story(facts, core)
    assert [posted.amount for posted in story.all(FundingPosted)] == [D("-0.202"), D("0.101")]
    assert story.core.equity(story.state) == CAPITAL + D(40) - D(10) - D(10) - D("0.82") - D("0.101") - D("1.4")


def load(name: str, source: str, directory: Path) -> ModuleType:
    path = directory / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


def mutated(module: ModuleType, change: tuple[str, str]) -> str:
    source = Path(str(module.__file__)).read_text()
    assert source.count(change[0]) == 1, f"the mutant's text must occur once: {change[0]!r}"
    return source.replace(*change)


def test_the_telling_history_passes_unbroken() -> None:
    """The mutants below fail for what was broken in them, not for the history."""
    check_telling_history(tapeline_ledger.core)


@pytest.mark.parametrize("name", BOOKS_MUTANTS)
def test_broken_books_are_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong sign, a lost posting, a forgotten split: each violates a law or raises."""
    broken = load("broken_books", mutated(tapeline_ledger.books, BOOKS_MUTANTS[name]), tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tapeline_ledger.books", broken)
        core = load("core_on_broken_books", Path(str(tapeline_ledger.core.__file__)).read_text(), tmp_path)
    with pytest.raises((AssertionError, broken.BooksViolated)):
        check_telling_history(core)


@pytest.mark.parametrize("name", CORE_MUTANTS)
def test_a_broken_core_is_caught(name: str, tmp_path: Path) -> None:
    """Counting twice, valuing wrongly, saying without posting: each violates a law."""
    core = load("broken_core", mutated(tapeline_ledger.core, CORE_MUTANTS[name]), tmp_path)
    with pytest.raises(AssertionError):
        check_telling_history(core)
