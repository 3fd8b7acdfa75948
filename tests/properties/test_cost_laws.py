"""The laws of costs: dearer never pays, sizes cost what the law says, nothing is lost on the way. Each can fail.

The laws compare runs of the same orders over the same bars. Slippage and latency are compared under flat fees: with fee
tiers a dearer price is more turnover, and more turnover can be a cheaper tier. Latency is compared for orders that are
certain to fill: a limit that came too late may well have been spared a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trading import ATLAS, BORIS, BTC, FREE, FUNDED, LISTED, MINUTE_NS, RUN, Venue, costs, trade

from tapeline_common.core import Stamp, step
from tapeline_common.events import (
    AccountFunded,
    BarClosed,
    BooksReconciled,
    BorrowCharged,
    CostsConfigured,
    Event,
    FeeTier,
    LiquidationOrdered,
    OrderAccepted,
    OrderFilled,
    OrderTerms,
    VenueConfigured,
)
from tapeline_common.values import DecimalText, IntrabarPath, OrderType, Side, TimeInForce
from tapeline_common.wire import Answer, Draft
from tapeline_execution import costs as cost_models
from tapeline_execution import latency, liquidation, matching, pricing, venue
from tapeline_execution.latency import Journey
from tapeline_ledger import core as ledger
from tapeline_ledger.hardening import fault_of

Items = Sequence[BarClosed | OrderTerms]
RUNS = settings(deadline=None, max_examples=100)
BASE = VenueConfigured("sim", Decimal("0.0002"), Decimal("0.0005"), Decimal(0))
CAPPED = msgspec.structs.replace(BASE, participation=Decimal("0.1"))
KINDS: dict[str, tuple[str, str]] = {
    "slippage_bps": ("1", "30"),
    "half_spread_bps": ("0.5", "20"),
    "volume_impact": ("0.1", "2"),
    "root_impact": ("0.3", "4"),
}
"""Each model by its setting: little of it, and much."""
LITTLE, MUCH = ({name: pair[which] for name, pair in KINDS.items()} for which in (0, 1))


@st.composite
def bars(draw: st.DrawFn, count: int, start: int = 0, length: int = 1) -> list[BarClosed]:
    made = []
    for number in range(start, start + count):
        low, one, other, high = sorted(Decimal(draw(st.integers(800, 1200))) / 10 for _ in range(4))
        open_, close = draw(st.sampled_from([(one, other), (other, one)]))
        volume = Decimal(draw(st.integers(0, 500)))
        texts = [DecimalText(str(number)) for number in (open_, high, low, close, volume)]
        opened_ns = number * length * MINUTE_NS
        made.append(BarClosed(BTC, f"{length}m", opened_ns, opened_ns + length * MINUTE_NS, *texts))
    return made


@st.composite
def orders(draw: st.DrawFn, kinds: Sequence[OrderType], *, certain: bool) -> OrderTerms:
    kind = draw(st.sampled_from(kinds))
    price = st.integers(80, 120).map(Decimal)
    return OrderTerms(
        draw(st.sampled_from([ATLAS, BORIS])),
        BTC,
        draw(st.sampled_from(Side)),
        Decimal(draw(st.integers(1, 40))),
        kind,
        draw(price) if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None,
        draw(price) if kind in (OrderType.STOP, OrderType.STOP_LIMIT) else None,
        TimeInForce.GTC if certain else draw(st.sampled_from(TimeInForce)),
        False if certain else draw(st.booleans()),
    )


@st.composite
def runs(
    draw: st.DrawFn, kinds: Sequence[OrderType] = tuple(OrderType), *, certain: bool = False, length: int = 1
) -> list[BarClosed | OrderTerms]:
    """Up to seven bars with up to three orders after each, and five bars behind them in which they can fill."""
    count = draw(st.integers(1, 7))
    items: list[BarClosed | OrderTerms] = []
    for each in draw(bars(count, length=length)):
        items += [each, *draw(st.lists(orders(kinds, certain=certain), max_size=3))]
    return items + list(draw(bars(5, count, length)))


NONE = CostsConfigured("sim")


def run(items: Items, configured: CostsConfigured, base: VenueConfigured = BASE) -> Venue:
    return trade((RUN, LISTED, base, configured, FUNDED), items)


def worth(one: Venue, items: Items) -> Decimal:
    """Cash and inventory at the last close."""
    last = next(item for item in reversed(items) if isinstance(item, BarClosed))
    return one.state.balances["USD"] + one.state.balances.get("BTC", Decimal(0)) * Decimal(last.close)


def check_dearer(items: Items, cheap: Venue, dear: Venue) -> None:
    """The same was filled, and no more is left."""
    assert cheap.state.balances.get("BTC") == dear.state.balances.get("BTC")
    assert worth(dear, items) <= worth(cheap, items)


# ---- dearer never pays -------------------------------------------------------------------------------------------


@RUNS
@given(runs(), st.sampled_from([BASE, CAPPED]))
def test_more_fee_never_raises_the_result(items: list[Any], base: VenueConfigured) -> None:
    """Flat or in tiers, rebates included: every tier a little dearer."""

    def tiers(more: str) -> CostsConfigured:
        rows = (("0", "0.001", "0.002"), ("1000", "-0.0002", "0.001"), ("5000", "-0.0005", "0.0005"))
        fees = tuple(FeeTier(Decimal(at), *(Decimal(fee) + Decimal(more) for fee in both)) for at, *both in rows)
        return CostsConfigured("sim", fees)

    check_dearer(items, run(items, tiers("0"), base), run(items, tiers("0.0003"), base))
    flat = msgspec.structs.replace(base, maker_fee=base.maker_fee * 2, taker_fee=base.taker_fee * 3)
    check_dearer(items, run(items, NONE, base), run(items, NONE, flat))


@pytest.mark.parametrize("name", KINDS)
@RUNS
@given(items=runs(), base=st.sampled_from([BASE, CAPPED]), path=st.sampled_from(IntrabarPath))
def test_more_slippage_never_raises_the_result(
    name: str, items: list[Any], base: VenueConfigured, path: IntrabarPath
) -> None:
    """Each model by itself, against none of it and against less of it."""
    none, little, much = (run(items, costs(intrabar=path, **{name: value}), base) for value in ("0", *KINDS[name]))
    check_dearer(items, none, little)
    check_dearer(items, little, much)


@RUNS
@given(runs(length=720))
def test_more_borrowing_never_raises_the_result(items: list[Any]) -> None:
    """Over several days, long and short."""
    none, little, much = (run(items, costs(borrow_rate=rate)) for rate in ("0", "0.05", "3"))
    check_dearer(items, none, little)
    check_dearer(items, little, much)


def check_latency(items: Items, fast_ms: int, slow_ms: int, base: VenueConfigured) -> None:
    fast, slow = (run(items, costs(latency_ms=each, **LITTLE), base) for each in (fast_ms, slow_ms))
    assert sum(fill.quantity for fill in fast.fills) == sum(fill.quantity for fill in slow.fills)
    check_dearer(items, fast, slow)


LATENCIES = st.lists(st.integers(0, 240_000), min_size=2, max_size=2).map(sorted)


@RUNS
@given(runs([OrderType.MARKET], certain=True), LATENCIES)
def test_more_latency_never_raises_the_result_of_market_orders(items: list[Any], both_ms: list[int]) -> None:
    """Also where it is longer than several bars. Impact by share of a bar's volume is left out: it is another bar."""
    fast, slow = (run(items, costs(latency_ms=each, slippage_bps="3"), BASE) for each in both_ms)
    check_dearer(items, fast, slow)


@RUNS
@given(runs([OrderType.MARKET, OrderType.STOP], certain=True), LATENCIES)
def test_more_latency_within_a_bar_never_raises_the_result(items: list[Any], both_ms: list[int]) -> None:
    """Stops too: whatever was touched while they were on their way goes off on arrival."""
    fast, slow = (
        run(items, costs(latency_ms=each // 4 - 1 if each else 0, slippage_bps="3"), BASE) for each in both_ms
    )
    check_dearer(items, fast, slow)


# ---- sizes -------------------------------------------------------------------------------------------------------


@RUNS
@given(st.integers(1, 10**6), bars(5))
def test_twice_the_size_costs_the_root_of_two_per_unit(size: int, before: list[BarClosed]) -> None:
    """From the order to the fill; to the tenth digit."""

    def root(quantity: int) -> Decimal:
        terms = OrderTerms(ATLAS, BTC, Side.BUY, Decimal(quantity))
        (fill,) = run([*before[:-1], terms, before[-1]], costs(root_impact="1")).fills
        assert fill.costs is not None
        assert fill.slippage == fill.costs.root + fill.costs.grid
        return fill.costs.root

    once, twice = root(size), root(2 * size)
    measured = sum(Decimal(each.volume) for each in before[:-1])
    if once and measured:
        assert abs(twice / once - Decimal(2).sqrt()) < Decimal("1e-10")


# ---- nothing is lost ---------------------------------------------------------------------------------------------

EVERYTHING = costs(
    fee_tiers=(
        FeeTier(Decimal(0), Decimal("-0.0001"), Decimal("0.001")),
        FeeTier(Decimal(2000), Decimal(0), Decimal(0)),
    ),
    latency_ms=20_000,
    borrow_rate="0.1",
    **LITTLE,
)


def check_conserved(one: Venue, funded: AccountFunded = FUNDED) -> None:
    """Orders, fills, the venue's account and the books tell one story, to the last digit."""
    ordered = {event.order for event in one.said if isinstance(event, OrderAccepted | LiquidationOrdered)}
    filled: dict[str, Decimal] = dict.fromkeys(ordered, Decimal(0))
    cash, inventory = funded.amount, Decimal(0)
    for fill in one.fills:
        filled[fill.order] += fill.quantity
        cash -= fill.side.sign * fill.quantity * fill.price + fill.fee
        inventory += fill.side.sign * fill.quantity
        if fill.costs is not None:
            assert fill.slippage == sum(msgspec.structs.astuple(fill.costs))
            assert all(part >= 0 for part in msgspec.structs.astuple(fill.costs)[:-1])
    for working in one.state.books[BTC].orders.values():
        assert working.remaining + filled[working.submitted.order] == working.submitted.terms.quantity
    cash -= borrowed(one)
    assert one.state.balances.get("USD") == cash
    assert one.state.balances.get("BTC", Decimal(0)) == inventory
    for event in one.said:
        assert fault_of(Answer(0, (Draft(event),))) is None
    check_books(one, funded)


def borrowed(one: Venue) -> Decimal:
    """What short positions paid, told from the fills and charges alone."""
    paid, held = Decimal(0), dict.fromkeys((ATLAS, BORIS), Decimal(0))
    for event in one.said:
        if isinstance(event, OrderFilled):
            held[event.strategy] += event.side.sign * event.quantity
        elif isinstance(event, BorrowCharged):
            paid -= sum(min(Decimal(0), each) for each in held.values()) * event.price * event.rate
    return paid


def check_books(one: Venue, funded: AccountFunded) -> None:
    books = ledger.CORE.initial()
    facts: list[Event] = [RUN, LISTED, funded, *one.said]
    for pos, event in enumerate(facts, start=1):
        for answer in step(ledger.CORE, books, event, Stamp(pos, pos)):
            assert not (isinstance(answer, BooksReconciled) and answer.differences)
            assert fault_of(Answer(0, (Draft(answer),))) is None
    held = {name: amount for name, amount in ledger.inventory(books).items() if amount}
    assert held == {name: amount for name, amount in one.state.balances.items() if amount}


@RUNS
@given(runs(length=720), st.sampled_from([BASE, CAPPED]), st.sampled_from(IntrabarPath))
def test_cash_and_inventory_are_conserved(items: list[Any], base: VenueConfigured, path: IntrabarPath) -> None:
    """Between orders, fills, the venue and the ledger, with everything configured, over several days."""
    check_conserved(run(items, msgspec.structs.replace(EVERYTHING, intrabar=path), base))


@RUNS
@given(runs(), st.sampled_from([BASE, CAPPED]), st.sampled_from(["5000", "20000"]))
def test_liquidations_conserve_too(items: list[Any], base: VenueConfigured, cash: str) -> None:
    """Whenever the margin runs out: the same story everywhere, flat and without orders where it did."""
    margin = costs(initial_margin="0.3", maintenance_margin="0.25", liquidation_fee="0.01", **LITTLE)
    funded = msgspec.structs.replace(FUNDED, amount=Decimal(cash))
    check_conserved(check_margin(items, base, margin, funded), funded)


def check_margin(items: Items, base: VenueConfigured, margin: CostsConfigured, funded: AccountFunded) -> Venue:
    """After every bar the account carries what it holds, at the bar's worst price; what it cannot carry is gone."""
    needed = margin.instruments[BTC].maintenance_margin
    one = Venue(RUN, LISTED, base, margin, funded)
    for item in items:
        if isinstance(item, OrderTerms):
            one.take(item)
            continue
        closed = any(isinstance(answer, LiquidationOrdered) for answer in one.hear(item))
        book, held = one.state.books[BTC], one.state.balances.get("BTC", Decimal(0))
        worst = Decimal(item.low if held > 0 else item.high)
        assert not held or one.state.balances["USD"] + held * worst >= needed * abs(held) * worst
        assert not closed or (book.positions, book.orders) == ({}, {})
    return one


@RUNS
@given(runs(), st.sampled_from([FREE, CAPPED]))
def test_no_cost_is_gross(items: list[Any], base: VenueConfigured) -> None:
    """Costs of nothing fill as no costs do; under no fee the result is that of the prices alone."""
    bare, zero = run(items, NONE, base), run(items, costs(), base)
    assert [msgspec.structs.replace(fill, costs=None) for fill in zero.fills] == bare.fills
    assert worth(bare, items) == worth(zero, items)
    if base is FREE:
        moved = [fill.side.sign * fill.quantity * fill.price for fill in zero.fills]
        assert zero.state.balances["USD"] == FUNDED.amount - sum(moved, Decimal(0))


# ---- the checks can fail -----------------------------------------------------------------------------------------


def plain_bar(minute: int, *texts: str) -> BarClosed:
    numbers = [DecimalText(text) for text in texts or ("100", "110", "90", "101", "40")]
    return BarClosed(BTC, "1m", minute * MINUTE_NS, (minute + 1) * MINUTE_NS, *numbers)


BUY_NINE = OrderTerms(ATLAS, BTC, Side.BUY, Decimal(9))
SHORT: Items = [plain_bar(0), plain_bar(1), BUY_NINE, plain_bar(2), plain_bar(3, "95", "96", "94", "95", "40")]


@pytest.mark.parametrize("name", KINDS)
def test_a_cost_in_our_favour_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: takers are charged as if they were on the other side."""
    none, much = (run(SHORT, costs(**{name: value})) for value in ("0", KINDS[name][1]))
    check_dearer(SHORT, none, much)
    assert worth(none, SHORT) > worth(much, SHORT)
    honest = cost_models.charge

    def kind(own: Any, tick: Any, recent: Any, taking: cost_models.Taking) -> cost_models.Charged:
        return honest(own, tick, recent, msgspec.structs.replace(taking, side=taking.side.opposite))

    monkeypatch.setattr(pricing, "charge", kind)
    with pytest.raises(AssertionError):
        check_dearer(SHORT, none, run(SHORT, costs(**{name: KINDS[name][1]})))


def arrive_at_close(_journey: Journey, _side: Side, _prices: matching.Prices, bar: BarClosed) -> Decimal:
    return Decimal(bar.close)


def forget_missed(journey: Journey, side: Side, prices: matching.Prices, bar: BarClosed) -> Decimal:
    return latency.arrival_price(Journey(journey.arrives_ns), side, prices, bar)


@pytest.mark.parametrize(("mutant", "both_ms"), [(arrive_at_close, (6_000, 70_000)), (forget_missed, (6_000, 60_000))])
def test_a_latency_that_pays_is_caught(
    mutant: Callable[..., Decimal], both_ms: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutants: the order arrives at a price that may be better, or the bars that it missed are forgotten."""
    check_latency(SHORT, *both_ms, BASE)
    monkeypatch.setattr(pricing, "arrival_price", mutant)
    with pytest.raises(AssertionError):
        check_latency(SHORT, *both_ms, BASE)


def test_a_breakdown_that_does_not_add_up_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the rounding is not said."""
    coarse = (RUN, msgspec.structs.replace(LISTED, tick_size=Decimal(1)), BASE, EVERYTHING, FUNDED)
    check_conserved(trade(coarse, SHORT))
    honest = cost_models.charge

    def silent(*arguments: Any) -> cost_models.Charged:
        found = honest(*arguments)
        return msgspec.structs.replace(found, costs=msgspec.structs.replace(found.costs, grid=Decimal(0)))

    monkeypatch.setattr(pricing, "charge", silent)
    with pytest.raises(AssertionError):
        check_conserved(trade(coarse, SHORT))


def test_impact_without_the_root_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: impact in proportion to size is twice as much per unit, not the root of two."""

    def ratio() -> Decimal:
        fills = []
        for size in (5, 10):
            terms = msgspec.structs.replace(BUY_NINE, quantity=Decimal(size))
            fills += run([*SHORT[:2], terms, *SHORT[3:]], costs(root_impact="1")).fills
        once, twice = (fill.costs.root for fill in fills if fill.costs is not None)
        return twice / once

    assert abs(ratio() - Decimal(2).sqrt()) < Decimal("1e-10")
    monkeypatch.setattr(cost_models, "root_up", lambda value: value)
    assert abs(ratio() - 2) < Decimal("1e-10")


def test_borrowing_that_is_said_and_not_paid_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the venue charges longs; the account no longer agrees with what it said, nor do the books."""
    short = msgspec.structs.replace(BUY_NINE, side=Side.SELL)
    items = [plain_bar(0), short, plain_bar(1), plain_bar(1_440), plain_bar(2_880)]
    check_conserved(run(items, EVERYTHING))

    def forget(state: venue.State, _event: BorrowCharged, _stamp: Stamp) -> None:
        state.unreported = True

    monkeypatch.setitem(venue._EVOLVES, BorrowCharged, forget)
    with pytest.raises(AssertionError):
        check_conserved(run(items, EVERYTHING))


def test_an_account_that_is_never_called_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the margin always suffices."""
    margin, funded = costs(maintenance_margin="0.5"), msgspec.structs.replace(FUNDED, amount=Decimal(400))
    assert check_margin(SHORT, FREE, margin, funded).state.books[BTC].positions == {}
    monkeypatch.setattr(liquidation.margin, "call", lambda *_: None)
    with pytest.raises(AssertionError):
        check_margin(SHORT, FREE, margin, funded)


def test_a_fill_of_nothing_ordered_is_caught() -> None:
    """Mutant: a fill is counted twice; the account and the books no longer agree with it."""
    one = run(SHORT, EVERYTHING)
    check_conserved(one)
    twice = next(event for event in one.said if isinstance(event, OrderFilled))
    one.said.append(msgspec.structs.replace(twice, trade_id="again"))
    with pytest.raises(AssertionError):
        check_conserved(one)
