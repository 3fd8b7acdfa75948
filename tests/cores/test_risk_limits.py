"""Each limit acts beyond its bound, stays quiet at it, and is quiet when it is not set; and their order is fixed."""

from dataclasses import replace
from decimal import Decimal, InvalidOperation

import msgspec
import pytest

from tapeline_common.events import InstrumentLimits, InstrumentListed, LimitsSet, OrderTerms
from tapeline_common.values import (
    InstrumentId,
    OrderType,
    Purpose,
    Refusal,
    Side,
    StrategyId,
    TradingState,
)
from tapeline_risk import limits
from tapeline_risk.limits import Breach, Question, judge

BTC = InstrumentId("BTC")
SECOND_NS = 1_000_000_000
BUY_ONE = OrderTerms(StrategyId("pilot"), BTC, Side.BUY, Decimal(1))
LISTED = InstrumentListed(BTC, "BTC/USD", "simulated", "BTC", "USD")

FINE = Question(
    terms=BUY_ONE,
    decided_ns=10 * SECOND_NS,
    now_ns=10 * SECOND_NS,
    is_decided=False,
    trading=TradingState.RUNNING,
    is_disabled=False,
    limits=LimitsSet(),
    currency="USD",
    listing=LISTED,
    price=Decimal(100),
    price_ns=10 * SECOND_NS,
    position=Decimal(0),
    buys=Decimal(0),
    sells=Decimal(0),
    own_position=Decimal(0),
    own_reducing=Decimal(0),
    other_exposure=Decimal(0),
    other_open=0,
    daily_loss=Decimal(0),
)
LONG_FIVE = replace(FINE, position=Decimal(5), own_position=Decimal(5))


def ordering(question: Question = FINE, **changes: object) -> Question:
    """The question, asked for an order with other terms."""
    return replace(question, terms=msgspec.structs.replace(question.terms, **changes))


def limited(question: Question = FINE, **settings: object) -> Question:
    """The question, under these limits."""
    return replace(question, limits=LimitsSet(**settings))  # type: ignore[arg-type]


def listed(**changes: object) -> Question:
    return replace(FINE, listing=msgspec.structs.replace(LISTED, **changes))


def selling(quantity: str, question: Question = LONG_FIVE, **changes: object) -> Question:
    return ordering(question, side=Side.SELL, quantity=Decimal(quantity), **changes)


def own(max_order_notional: str | None = None, max_position: str | None = None) -> dict[InstrumentId, InstrumentLimits]:
    def number(text: str | None) -> Decimal | None:
        return None if text is None else Decimal(text)

    return {BTC: InstrumentLimits(number(max_order_notional), number(max_position))}


LIMIT_BUY = {"order_type": OrderType.LIMIT, "limit_price": Decimal("100.5")}
ONE_SECOND_OLD = replace(FINE, now_ns=11 * SECOND_NS)

REFUSED = {
    "decided before": (replace(FINE, is_decided=True), Refusal.ORDER_ALREADY_DECIDED, "decided", "one decision"),
    "halted": (replace(FINE, trading=TradingState.HALTED), Refusal.TRADING_HALTED, "HALTED", "RUNNING"),
    "signal while flattening": (
        replace(FINE, trading=TradingState.FLATTENING), Refusal.TRADING_HALTED, "FLATTENING", "RUNNING",
    ),
    "disabled": (replace(FINE, is_disabled=True), Refusal.STRATEGY_DISABLED, "disabled", "enabled"),
    "no limits set": (replace(FINE, limits=None), Refusal.LIMITS_MISSING, "none set", "LimitsSet"),
    "unlisted": (replace(FINE, listing=None), Refusal.INSTRUMENT_UNKNOWN, "BTC", "InstrumentListed"),
    "other currency": (listed(quote="EUR"), Refusal.CURRENCY_MISMATCH, "EUR", "USD"),
    "nothing": (ordering(quantity=Decimal(0)), Refusal.QUANTITY_INVALID, "0", "more than 0"),
    "negative": (ordering(quantity=Decimal(-1)), Refusal.QUANTITY_INVALID, "-1", "more than 0"),
    "not a number": (ordering(quantity=Decimal("NaN")), Refusal.QUANTITY_INVALID, "NaN", "more than 0"),
    "part of a lot": (listed(lot_size=Decimal("0.3")), Refusal.QUANTITY_INVALID, "1", "multiple of 0.3"),
    "limit without price": (
        ordering(order_type=OrderType.LIMIT), Refusal.PRICE_INVALID, "limit_price None", "limit_price set",
    ),
    "market with price": (
        ordering(stop_price=Decimal(1)), Refusal.PRICE_INVALID, "stop_price 1", "stop_price None",
    ),
    "price of zero": (
        ordering(order_type=OrderType.STOP, stop_price=Decimal(0)),
        Refusal.PRICE_INVALID, "stop_price 0", "more than 0",
    ),
    "off tick": (
        ordering(listed(tick_size=Decimal(1)), **LIMIT_BUY),
        Refusal.PRICE_INVALID, "limit_price 100.5", "multiple of 1",
    ),
    "reduce-only while flat": (ordering(reduce_only=True), Refusal.REDUCE_ONLY_WOULD_INCREASE, "1", "0"),
    "reduce-only beyond zero": (selling("5.1", reduce_only=True), Refusal.REDUCE_ONLY_WOULD_INCREASE, "5.1", "5"),
    "reduce-only, wrong side": (
        ordering(LONG_FIVE, reduce_only=True), Refusal.REDUCE_ONLY_WOULD_INCREASE, "1", "0",
    ),
    "reduce-only twice": (
        selling("3", replace(LONG_FIVE, own_reducing=Decimal(3)), reduce_only=True),
        Refusal.REDUCE_ONLY_WOULD_INCREASE, "3", "2",
    ),
    "old decision": (
        limited(replace(ONE_SECOND_OLD, now_ns=11 * SECOND_NS + 1), max_input_age_ms=1000),
        Refusal.INPUT_STALE, "1000.000001 ms", "1000 ms",
    ),
    "no price": (replace(FINE, price=None), Refusal.PRICE_MISSING, "none", "a last price"),
    "old price": (
        limited(replace(FINE, price_ns=10 * SECOND_NS - 500_000_001), max_price_age_ms=500),
        Refusal.PRICE_STALE, "500.000001 ms", "500 ms",
    ),
    "bid too high": (
        limited(ordering(**LIMIT_BUY), price_collar_bps=Decimal(49)), Refusal.PRICE_COLLAR, "100.5", "100.49",
    ),
    "offer too low": (
        limited(
            selling("1", LONG_FIVE, order_type=OrderType.LIMIT, limit_price=Decimal(99)), price_collar_bps=Decimal(50)
        ),
        Refusal.PRICE_COLLAR, "99", "99.5",
    ),
    "too small": (listed(min_notional=Decimal("100.01")), Refusal.BELOW_MIN_NOTIONAL, "100", "100.01"),
    "too small at its own price": (
        ordering(listed(min_notional=Decimal(100)), order_type=OrderType.LIMIT, limit_price=Decimal("99.9")),
        Refusal.BELOW_MIN_NOTIONAL, "99.9", "100",
    ),
    "a losing day": (
        limited(replace(FINE, daily_loss=Decimal(50)), max_daily_loss=Decimal(50)), Refusal.DAILY_LOSS, "50", "50",
    ),
    "a fall from the highest equity": (
        limited(replace(FINE, drawdown=Decimal(50)), max_drawdown=Decimal(50)), Refusal.DRAWDOWN, "50", "50",
    ),
    "opening too soon after an exit": (
        limited(replace(FINE, exited_ns=FINE.now_ns - 500_000), cool_down_ms=1), Refusal.COOL_DOWN, "0.5 ms", "1 ms",
    ),
    "too large": (limited(max_order_notional=Decimal("99.99")), Refusal.MAX_ORDER_NOTIONAL, "100", "99.99"),
    "too large here": (
        limited(max_order_notional=Decimal(1000), instruments=own(max_order_notional="99")),
        Refusal.MAX_ORDER_NOTIONAL, "100", "99",
    ),
    "too large at its own price": (
        limited(ordering(**LIMIT_BUY), max_order_notional=Decimal(100)), Refusal.MAX_ORDER_NOTIONAL, "100.5", "100",
    ),
    "too long": (limited(LONG_FIVE, max_position=Decimal("5.9")), Refusal.MAX_POSITION, "6", "5.9"),
    "too long here": (
        limited(LONG_FIVE, max_position=Decimal(9), instruments=own(max_position="5.5")),
        Refusal.MAX_POSITION, "6", "5.5",
    ),
    "too long once all is filled": (
        limited(replace(FINE, buys=Decimal(3)), max_position=Decimal(3)), Refusal.MAX_POSITION, "4", "3",
    ),
    "too short beyond zero": (limited(selling("9"), max_position=Decimal(3)), Refusal.MAX_POSITION, "4", "3"),
    "too exposed": (
        limited(replace(LONG_FIVE, other_exposure=Decimal(401)), max_gross_exposure=Decimal(1000)),
        Refusal.MAX_GROSS_EXPOSURE, "1001", "1000",
    ),
    "too exposed by open orders": (
        limited(replace(FINE, sells=Decimal(8), buys=Decimal(1)), max_gross_exposure=Decimal(799)),
        Refusal.MAX_GROSS_EXPOSURE, "800", "799",
    ),
    "too many": (
        limited(replace(FINE, other_open=2), max_open_positions=2), Refusal.MAX_OPEN_POSITIONS, "3", "2",
    ),
}  # fmt: skip

APPROVED = {
    "nothing limited": FINE,
    "whole lots": listed(lot_size=Decimal("0.25")),
    "on tick": ordering(listed(tick_size=Decimal("0.5")), **LIMIT_BUY),
    "reduce-only to zero": selling("5", reduce_only=True),
    "reduce-only beside an open exit": selling("5", replace(LONG_FIVE, sells=Decimal(5)), reduce_only=True),
    "decision of exactly the age": limited(ONE_SECOND_OLD, max_input_age_ms=1000),
    "price of exactly the age": limited(ONE_SECOND_OLD, max_price_age_ms=1000),
    "bid at the collar": limited(ordering(**LIMIT_BUY), price_collar_bps=Decimal(50)),
    "passive bid far away": limited(
        ordering(order_type=OrderType.LIMIT, limit_price=Decimal(1)), price_collar_bps=Decimal(1)
    ),
    "at least notional": listed(min_notional=Decimal(100)),
    "a day that lost less": limited(replace(FINE, daily_loss=Decimal("49.99")), max_daily_loss=Decimal(50)),
    "a day that lost nothing": limited(max_daily_loss=Decimal(0)),
    "a smaller fall": limited(replace(FINE, drawdown=Decimal("49.99")), max_drawdown=Decimal(50)),
    "at the highest equity": limited(max_drawdown=Decimal(0)),
    "exactly cooled down": limited(replace(FINE, exited_ns=FINE.now_ns - 1_000_000), cool_down_ms=1),
    "never in a position before": limited(cool_down_ms=1),
    "adding to a position after an exit": limited(replace(LONG_FIVE, exited_ns=LONG_FIVE.now_ns), cool_down_ms=1),
    "an exit, whatever was before": limited(replace(selling("5"), exited_ns=FINE.now_ns), cool_down_ms=1),
    "at most notional": limited(max_order_notional=Decimal(100), instruments=own(max_order_notional="100")),
    "at most position": limited(LONG_FIVE, max_position=Decimal(6), instruments=own(max_position="6")),
    "at most exposure": limited(replace(LONG_FIVE, other_exposure=Decimal(400)), max_gross_exposure=Decimal(1000)),
    "adding to what is open": limited(replace(LONG_FIVE, other_open=5), max_open_positions=1),
    "the last free place": limited(replace(FINE, other_open=1), max_open_positions=2),
    "the limit of another instrument": limited(
        instruments={InstrumentId("ETH"): InstrumentLimits(Decimal(1), Decimal("0.1"))}
    ),
}  # fmt: skip


@pytest.mark.parametrize(("question", "reason", "observed", "limit"), REFUSED.values(), ids=REFUSED)
def test_beyond_a_limit_the_order_is_refused(question: Question, reason: Refusal, observed: str, limit: str) -> None:
    """The reason is the limit's own, with what was observed and what was allowed, exact."""
    assert judge(question) == Breach(reason, observed, limit)


@pytest.mark.parametrize("question", APPROVED.values(), ids=APPROVED)
def test_at_a_limit_the_order_is_approved(question: Question) -> None:
    """Limits are inclusive, and one that is not set (or is another instrument's) says nothing."""
    assert judge(question) is None


def test_every_refusal_is_shown_to_happen() -> None:
    """The table above leaves out no reason of the vocabulary."""
    assert {reason for _, reason, _, _ in REFUSED.values()} == set(Refusal)


HOPELESS = limited(
    replace(LONG_FIVE, daily_loss=Decimal(9), other_exposure=Decimal(9999), other_open=9),
    max_order_notional=Decimal(1),
    max_position=Decimal(1),
    max_gross_exposure=Decimal(1),
    max_open_positions=1,
    max_daily_loss=Decimal(1),
)


def test_what_only_reduces_is_not_held_against_exposure() -> None:
    """With every exposure limit far exceeded, closing is approved and opening is refused."""
    assert judge(selling("5", HOPELESS)) is None
    assert judge(HOPELESS) == Breach(Refusal.DAILY_LOSS, "9", "1")


def test_reducing_stops_at_zero_counting_open_orders() -> None:
    """An order that could, with the open ones of its side, go beyond zero is held against every limit."""
    assert judge(selling("5.1", HOPELESS)) == Breach(Refusal.DAILY_LOSS, "9", "1")
    assert judge(selling("3", replace(HOPELESS, sells=Decimal(3)))) == Breach(Refusal.DAILY_LOSS, "9", "1")


def test_flattening_passes_whatever_keeps_signals_back() -> None:
    """Stale and missing prices, no limits, a disabled strategy, the odd rest of a lot: getting out goes through."""
    worst = replace(
        HOPELESS, trading=TradingState.FLATTENING, is_disabled=True, limits=None, price=None, price_ns=0, decided_ns=0,
        listing=msgspec.structs.replace(LISTED, lot_size=Decimal(2), min_notional=Decimal(10**9)),
    )  # fmt: skip

    assert judge(selling("5", worst, purpose=Purpose.FLATTEN, reduce_only=True)) is None


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (selling("6", LONG_FIVE, purpose=Purpose.FLATTEN), Refusal.REDUCE_ONLY_WOULD_INCREASE),
        (selling("0", LONG_FIVE, purpose=Purpose.FLATTEN), Refusal.QUANTITY_INVALID),
        (replace(selling("5", purpose=Purpose.FLATTEN), trading=TradingState.HALTED), Refusal.TRADING_HALTED),
        (replace(selling("5", purpose=Purpose.FLATTEN), is_decided=True), Refusal.ORDER_ALREADY_DECIDED),
    ],
)
def test_flattening_never_opens_and_obeys_a_halt(question: Question, reason: Refusal) -> None:
    """Calling an order a flatten opens no door: it must close, once, and not while halted."""
    breach = judge(question)

    assert breach is not None
    assert breach.reason is reason


def test_the_first_limit_in_the_table_gives_the_reason() -> None:
    """Removing one cause after the other shows the reasons in the documented order."""
    question = replace(
        limited(ordering(HOPELESS, reduce_only=True), max_input_age_ms=1, max_price_age_ms=1, max_position=Decimal(1)),
        is_decided=True, trading=TradingState.HALTED, is_disabled=True, decided_ns=0, price_ns=0, other_open=9,
    )  # fmt: skip
    reasons = []
    for repair in (
        {"is_decided": False},
        {"trading": TradingState.RUNNING},
        {"is_disabled": False},
        {"terms": BUY_ONE},
        {"decided_ns": FINE.now_ns},
        {"price_ns": FINE.now_ns},
    ):
        breach = judge(question)
        assert breach is not None
        reasons.append(breach.reason)
        question = replace(question, **repair)  # type: ignore[arg-type]

    assert reasons == [
        Refusal.ORDER_ALREADY_DECIDED,
        Refusal.TRADING_HALTED,
        Refusal.STRATEGY_DISABLED,
        Refusal.REDUCE_ONLY_WOULD_INCREASE,
        Refusal.INPUT_STALE,
        Refusal.PRICE_STALE,
    ]


TABLES = ("FLATTENING", "SIGNALS", "EXPOSURE")


def holds(question: Question, expected: Breach) -> bool:
    try:
        return judge(question) == expected
    except InvalidOperation:
        return False  # not-a-number reached the arithmetic


@pytest.mark.parametrize("left_out", [*limits.SIGNALS, *limits.EXPOSURE], ids=lambda limit: limit.__name__)
def test_leaving_out_a_limit_is_noticed(left_out: limits.Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every limit there is a row above that no longer holds when that limit is missing from the tables."""
    for table in TABLES:
        monkeypatch.setattr(limits, table, tuple(limit for limit in getattr(limits, table) if limit is not left_out))

    noticed = [name for name, (question, *expected) in REFUSED.items() if not holds(question, Breach(*expected))]

    assert noticed
